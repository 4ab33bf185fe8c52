/* embed_tunnel.c: a program that shares its own port:  embed_tunnel RELAY CA PORT [DATA_DIR]
 * It prints the URL, answers until the tunnel is closed or the program is ended, and prints a line for each request. */
#include <beam/tunnel.h>

#include <stdio.h>
#include <stdlib.h>

static void on_state(void *user, beam_tunnel *t, const struct beam_tunnel_info *info,
                     const struct beam_error *error) {
  (void)t;
  if (info->state == BEAM_TUNNEL_ACTIVE)
    printf("%s\n", info->url);
  else if (error)
    fprintf(stderr, "%s (%s)\n", error->what, beam_err_code(error->code));
  fflush(stdout);
  if (info->state == BEAM_TUNNEL_CLOSED)
    beam_loop_stop(user);
}

static void on_request(void *user, beam_tunnel *t, const struct beam_request *r) {
  (void)user;
  (void)t;
  printf("%s %s %u\n", r->method, r->path, r->status);
  fflush(stdout);
}

int main(int argc, char **argv) {
  if (argc < 4) {
    fprintf(stderr, "usage: embed_tunnel RELAY CA PORT [DATA_DIR]\n");
    return 2;
  }
  beam_loop *loop = NULL;
  beam_tunnel *tunnel = NULL;
  struct beam_error error = BEAM_ERROR_INIT;
  if (beam_loop_new(&loop) != 0)
    return 1;

  struct beam_tunnel_config config = BEAM_TUNNEL_CONFIG_INIT;
  config.relay = argv[1];
  config.relay_ca = argv[2];
  config.local_port = (uint16_t)strtoul(argv[3], NULL, 10);
  config.data_dir = argc > 4 ? argv[4] : NULL;
  config.on_state = on_state;
  config.on_request = on_request;
  config.user = loop;
  int r = beam_tunnel_open(loop, &config, &tunnel, &error);
  if (r == 0)
    r = beam_loop_run(loop);
  else
    fprintf(stderr, "%s\n%s\n", error.what, error.hint);

  beam_tunnel_close(tunnel);
  beam_loop_free(loop);
  return r == 0 ? 0 : 1;
}
