/* link_bench.c: what an h2 link carries over an in-memory pair, one thread: bulk on 1 and 8 streams, and tiny streams a second.
 *
 *   cc -O2 -D_GNU_SOURCE -Iinclude -Ilib -Ibuild/gen test/bench/link_bench.c build/libbeam.a -levent_core -lnghttp2 -lsodium ... && ./a.out
 */
#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/limits.h"
#include "io/mem.h"
#include "link/link.h"

static double seconds(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static struct loop *loop;
static struct link *relay, *agent;
static uint64_t received, finished;

/* --- the receiving side: takes everything; a request of one byte is answered --- */

struct sink {
  struct stream *s;
  bool answer;
};

static void sink_readable(void *user) {
  struct sink *k = user;
  size_t n = stream_waiting(k->s);
  received += n;
  stream_consume(k->s, n);
  if (!stream_at_end(k->s))
    return;
  if (k->answer)
    stream_write(k->s, "pong", 4);
  else
    finished++;
  stream_close(k->s, 0);
  free(k);
}

static void sink_closed(void *user, int reason) {
  struct sink *k = user;
  stream_close(k->s, reason);
  free(k);
}

static const struct stream_events sink_events = {sink_readable, NULL, sink_closed};

static void sink_new(struct stream *s, bool answer) {
  struct sink *k = calloc(1, sizeof *k);
  if (!k)
    abort();
  k->s = s;
  k->answer = answer;
  stream_own(s, &sink_events, k);
}

static bool answering;

static void on_stream(void *user, struct stream *s) {
  (void)user;
  sink_new(s, answering);
}

static const struct link_events agent_events = {.stream = on_stream};
static const struct link_events relay_events = {0};

/* --- bulk --- */

struct source {
  struct stream *s;
  uint64_t left;
  struct evbuffer *block;
};

static char bulk[256 * 1024];

static void source_write(void *user) {
  struct source *k = user;
  for (size_t room; k->left && (room = stream_room(k->s)) > 0;) {
    size_t n = room < sizeof bulk ? room : sizeof bulk;
    if (n > k->left)
      n = k->left;
    evbuffer_add_reference(k->block, bulk, n, NULL, NULL);
    k->left -= stream_move(k->s, k->block, n);
  }
  if (!k->left)
    stream_finish(k->s);
}

static void ignore(void *user) {
  (void)user;
}
static void die(void *user, int reason) {
  (void)user;
  fprintf(stderr, "stream died: %d\n", reason);
  exit(1);
}
static const struct stream_events source_events = {ignore, source_write, die};

static void run_bulk(unsigned streams, uint64_t total) {
  struct source *k = calloc(streams, sizeof *k);
  if (!k)
    abort();
  answering = false;
  received = finished = 0;
  double from = seconds();
  for (unsigned i = 0; i < streams; i++) {
    k[i].left = total / streams;
    k[i].block = evbuffer_new();
    if (link_open(relay, &k[i].s))
      abort();
    stream_own(k[i].s, &source_events, &k[i]);
    source_write(&k[i]);
  }
  while (finished < streams)
    loop_turn(loop, 0);
  double t = seconds() - from;
  printf("bulk %u streams: %.0f MB in %.3f s, %.0f MB/s\n", streams, (double)received / 1e6, t,
         (double)received / 1e6 / t);
  for (unsigned i = 0; i < streams; i++) {
    stream_close(k[i].s, 0);
    evbuffer_free(k[i].block);
  }
  free(k);
}

/* --- tiny: open, one byte, half-close, four bytes back, end --- */

static unsigned tiny_open, tiny_left, tiny_done;

struct tiny {
  struct stream *s;
};
static void tiny_new(void);

static void tiny_readable(void *user) {
  struct tiny *k = user;
  stream_consume(k->s, stream_waiting(k->s));
  if (!stream_at_end(k->s))
    return;
  stream_close(k->s, 0);
  free(k);
  tiny_open--;
  tiny_done++;
  tiny_new();
}
static const struct stream_events tiny_events = {tiny_readable, NULL, die};

static void tiny_new(void) {
  if (!tiny_left)
    return;
  tiny_left--;
  struct tiny *k = calloc(1, sizeof *k);
  if (!k || link_open(relay, &k->s))
    abort();
  tiny_open++;
  stream_own(k->s, &tiny_events, k);
  stream_write(k->s, "?", 1);
  stream_finish(k->s);
}

static void run_tiny(unsigned at_once, unsigned total) {
  answering = true;
  tiny_left = total;
  tiny_done = 0;
  double from = seconds();
  for (unsigned i = 0; i < at_once; i++)
    tiny_new();
  while (tiny_done < total)
    loop_turn(loop, 0);
  printf("tiny %u at once: %.0f streams/s\n", at_once, total / (seconds() - from));
}

int main(void) {
  static const uint8_t exporter[32];
  struct stream *a, *b;
  if (loop_new(&loop) || mem_pair(loop, &a, &b) || link_h2_new(a, LINK_RELAY, exporter, &relay) ||
      link_h2_new(b, LINK_AGENT, exporter, &agent))
    return 1;
  link_own(relay, &relay_events, NULL);
  link_own(agent, &agent_events, NULL);
  while (!relay->ready || !agent->ready)
    loop_turn(loop, 1);
  run_bulk(1, 2000000000);
  run_bulk(8, 2000000000);
  run_tiny(1, 50000);
  run_tiny(64, 200000);
  run_tiny(1000, 200000);
  link_close(relay, 0);
  link_close(agent, 0);
  for (int i = 0; i < 10; i++)
    loop_turn(loop, 1);
  loop_free(loop);
  return 0;
}
