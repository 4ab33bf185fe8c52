/* embed_relay.c: a program with a relay inside:  embed_relay DOMAIN ADDR:PORT DATA_DIR
 * It prints where the relay listens and where its CA is, runs until its standard input ends, then prints the relay's counters. */
#include <beam/relay.h>

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: embed_relay DOMAIN ADDR:PORT DATA_DIR\n");
    return 2;
  }
  beam_relay *relay = NULL;
  struct beam_error error = BEAM_ERROR_INIT;
  struct beam_relay_config config = BEAM_RELAY_CONFIG_INIT;
  config.domain = argv[1];
  config.listen = argv[2];
  config.data_dir = argv[3];
  if (beam_relay_start(&config, &relay, &error) != 0) {
    fprintf(stderr, "%s\n%s\n", error.what, error.hint);
    return 1;
  }
  struct beam_relay_info info = {.size = sizeof info};
  beam_relay_info(relay, &info);
  printf("%s %s\n", info.https, info.ca_file);
  fflush(stdout);

  while (getchar() != EOF)
    ;
  char metrics[16384];
  beam_relay_metrics(relay, metrics, sizeof metrics);
  fputs(metrics, stdout);
  beam_relay_stop(relay);
  return 0;
}
