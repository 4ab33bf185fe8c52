/* serve.c: the example site, `site --port 3000`: one page, the request's headers on it, and a clock of server-sent events.
 *
 * It stands for the program you would share: a web server of its own on this machine only, and knows nothing of Beam. One thread, one
 * poll(), a fixed number of connections with fixed buffers; each connection carries one request.
 */
#include "page.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
  CONNECTIONS = 128, /* a demonstration's worth */
  HEAD_BYTES = 16384,
  OUT_BYTES = 131072, /* every byte of a head may become six when escaped */
  HEAD_SECONDS = 10   /* for the head to arrive, and for the answer to be taken */
};

struct connection {
  int fd; /* -1: free */
  bool answered, events;
  size_t n_in, n_out, sent;
  time_t since, last_tick;
  char in[HEAD_BYTES + 1];
  char *out;
};

static struct connection connections[CONNECTIONS];
static volatile sig_atomic_t ending;

static void on_signal(int sig) {
  (void)sig;
  ending = 1;
}

/* Seconds that no clock change disturbs. */
static time_t now(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec;
}

static void drop(struct connection *c) {
  close(c->fd);
  free(c->out);
  c->fd = -1;
  c->out = NULL;
}

/* ---- writing ------------------------------------------------------------------------------------------------------ */

static void put(struct connection *c, const char *p, size_t n) {
  if (n > OUT_BYTES - c->n_out)
    n = OUT_BYTES - c->n_out;
  memcpy(c->out + c->n_out, p, n);
  c->n_out += n;
}

static void put_text(struct connection *c, const char *z) {
  put(c, z, strlen(z));
}

static void put_escaped(struct connection *c, const char *p, size_t n) {
  for (size_t i = 0; i < n; i++) {
    if (p[i] == '<')
      put_text(c, "&lt;");
    else if (p[i] == '>')
      put_text(c, "&gt;");
    else if (p[i] == '&')
      put_text(c, "&amp;");
    else if (p[i] == '"')
      put_text(c, "&quot;");
    else
      put(c, &p[i], 1);
  }
}

static void put_head(struct connection *c, const char *status, const char *type, const char *more) {
  char head[512];
  int n = snprintf(head, sizeof head,
                   "HTTP/1.1 %s\r\nContent-Type: %s; charset=utf-8\r\nCache-Control: no-store\r\n"
                   "X-Content-Type-Options: nosniff\r\nConnection: close\r\n%s\r\n",
                   status, type, more);
  put(c, head, (size_t)n);
}

static void put_row(struct connection *c, const char *key, size_t n_key, const char *value, size_t n_value) {
  put_text(c, "<tr><td>");
  put_escaped(c, key, n_key);
  put_text(c, "</td><td>");
  put_escaped(c, value, n_value);
  put_text(c, "</td></tr>");
}

static void put_page(struct connection *c) {
  char *line = c->in, *end = strstr(line, "\r\n");
  put_text(c, page_top);
  put_row(c, "request", 7, line, (size_t)(end - line));
  for (line = end + 2; (end = strstr(line, "\r\n")) && end != line; line = end + 2) {
    char *colon = memchr(line, ':', (size_t)(end - line));
    if (!colon)
      continue;
    char *value = colon + 1;
    while (*value == ' ' || *value == '\t')
      value++;
    if (value > end)
      value = end;
    put_row(c, line, (size_t)(colon - line), value, (size_t)(end - value));
  }
  put_text(c, page_end);
}

static void put_tick(struct connection *c) {
  char text[64], when[32];
  time_t t = time(NULL);
  struct tm tm;
  localtime_r(&t, &tm);
  strftime(when, sizeof when, "%H:%M:%S", &tm);
  snprintf(text, sizeof text, "data: %s\n\n", when);
  put_text(c, text);
}

/* This file, when the program still runs beside it. */
static void put_source(struct connection *c) {
  static const char path[] = __FILE__;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    put_head(c, "404 Not Found", "text/plain", "");
    put_text(c, "The source is examples/site/serve.c of the project.\n");
    return;
  }
  put_head(c, "200 OK", "text/plain", "");
  ssize_t n;
  while (c->n_out < OUT_BYTES && (n = read(fd, c->out + c->n_out, OUT_BYTES - c->n_out)) > 0)
    c->n_out += (size_t)n;
  close(fd);
}

/* ---- one request -------------------------------------------------------------------------------------------------- */

static bool asks(const struct connection *c, const char *method, const char *path) {
  size_t m = strlen(method), p = strlen(path);
  return strncmp(c->in, method, m) == 0 && c->in[m] == ' ' && strncmp(c->in + m + 1, path, p) == 0 &&
         strchr(" ?", c->in[m + 1 + p]) != NULL;
}

static void answer(struct connection *c) {
  c->answered = true;
  c->out = malloc(OUT_BYTES);
  if (!c->out) {
    drop(c);
    return;
  }
  bool head = strncmp(c->in, "HEAD ", 5) == 0;
  if (!head && strncmp(c->in, "GET ", 4) != 0) {
    put_head(c, "405 Method Not Allowed", "text/plain", "Allow: GET, HEAD\r\n");
    put_text(c, "This page can only be read.\n");
  } else if (asks(c, "GET", "/events")) {
    c->events = true;
    put_head(c, "200 OK", "text/event-stream", "");
    put_tick(c);
    c->last_tick = now();
  } else if (asks(c, "GET", "/source")) {
    put_source(c);
  } else if (asks(c, head ? "HEAD" : "GET", "/")) {
    put_head(c, "200 OK", "text/html", "");
    if (!head)
      put_page(c);
  } else {
    put_head(c, "404 Not Found", "text/plain", "");
    if (!head)
      put_text(c, "There is only one page here: /\n");
  }
}

static void receive(struct connection *c) {
  char scrap[4096];
  if (c->answered) { /* a body nobody asked for, or the end */
    ssize_t n = recv(c->fd, scrap, sizeof scrap, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
      drop(c);
    return;
  }
  ssize_t n = recv(c->fd, c->in + c->n_in, HEAD_BYTES - c->n_in, 0);
  if (n <= 0) {
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
      drop(c);
    return;
  }
  c->n_in += (size_t)n;
  c->in[c->n_in] = 0;
  if (strlen(c->in) != c->n_in || (c->n_in == HEAD_BYTES && !strstr(c->in, "\r\n\r\n")))
    drop(c);
  else if (strstr(c->in, "\r\n\r\n"))
    answer(c);
}

static void send_more(struct connection *c) {
  ssize_t n = send(c->fd, c->out + c->sent, c->n_out - c->sent, MSG_NOSIGNAL);
  if (n < 0 && errno != EAGAIN && errno != EINTR) {
    drop(c);
    return;
  }
  if (n <= 0)
    return;
  c->sent += (size_t)n;
  c->since = now();
  if (c->sent < c->n_out)
    return;
  c->sent = c->n_out = 0;
  if (!c->events)
    shutdown(c->fd, SHUT_WR); /* the visitor closes when it has all of it */
}

static void take(int listener) {
  int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0)
    return;
  for (size_t i = 0; i < CONNECTIONS; i++) {
    struct connection *c = &connections[i];
    if (c->fd >= 0)
      continue;
    c->fd = fd;
    c->answered = c->events = false;
    c->n_in = c->n_out = c->sent = 0;
    c->since = now();
    return;
  }
  close(fd);
}

static void tick(struct connection *c) {
  time_t t = now();
  if (c->events && t != c->last_tick) {
    c->last_tick = t;
    if (c->n_out == 0)
      put_tick(c);
  }
  if ((!c->events || c->n_out) && t - c->since > HEAD_SECONDS)
    drop(c);
}

/* ---- the loop ----------------------------------------------------------------------------------------------------- */

static int listen_on(int family, uint16_t port) {
  struct sockaddr_in v4 = {
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct sockaddr_in6 v6 = {
      .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  int one = 1, fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return -1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  const struct sockaddr *sa = family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
  socklen_t n = family == AF_INET ? sizeof v4 : sizeof v6;
  if (bind(fd, sa, n) == 0 && listen(fd, 128) == 0)
    return fd;
  close(fd);
  return -1;
}

static uint16_t port_of(int fd) {
  struct sockaddr_in sa = {0};
  socklen_t n = sizeof sa;
  return getsockname(fd, (struct sockaddr *)&sa, &n) == 0 ? ntohs(sa.sin_port) : 0;
}

static void turn(const int listeners[2]) {
  struct pollfd fds[CONNECTIONS + 2];
  for (size_t i = 0; i < CONNECTIONS; i++) {
    struct connection *c = &connections[i];
    fds[i] = (struct pollfd){.fd = c->fd, .events = (short)(POLLIN | (c->fd >= 0 && c->n_out ? POLLOUT : 0))};
  }
  for (size_t i = 0; i < 2; i++)
    fds[CONNECTIONS + i] = (struct pollfd){.fd = listeners[i], .events = POLLIN};
  if (poll(fds, CONNECTIONS + 2, 250) < 0)
    return;
  for (size_t i = 0; i < CONNECTIONS; i++) {
    struct connection *c = &connections[i];
    if (c->fd >= 0 && (fds[i].revents & POLLOUT))
      send_more(c);
    if (c->fd >= 0 && (fds[i].revents & (POLLIN | POLLHUP | POLLERR)))
      receive(c);
    if (c->fd >= 0)
      tick(c);
  }
  for (size_t i = 0; i < 2; i++)
    if (fds[CONNECTIONS + i].revents & POLLIN)
      take(listeners[i]);
}

int main(int argc, char **argv) {
  long port = argc == 3 && strcmp(argv[1], "--port") == 0 ? strtol(argv[2], NULL, 10) : argc == 1 ? 3000 : -1;
  if (port < 0 || port > 65535) {
    fprintf(stderr, "usage: site [--port PORT]\n");
    return 2;
  }
  struct sigaction act = {.sa_handler = on_signal};
  sigaction(SIGINT, &act, NULL);
  sigaction(SIGTERM, &act, NULL);
  for (size_t i = 0; i < CONNECTIONS; i++)
    connections[i].fd = -1;
  int listeners[2] = {listen_on(AF_INET, (uint16_t)port), -1};
  if (listeners[0] < 0) {
    fprintf(stderr, "site: cannot listen on 127.0.0.1:%ld: %s\n", port, strerror(errno));
    return 1;
  }
  uint16_t real = port_of(listeners[0]);
  listeners[1] = listen_on(AF_INET6, real); /* not everywhere is there an ::1 */
  printf("http://localhost:%u\n", real);
  fflush(stdout);
  while (!ending)
    turn(listeners);
  for (size_t i = 0; i < CONNECTIONS; i++)
    if (connections[i].fd >= 0)
      drop(&connections[i]);
  return 0;
}
