/* Each allocation of a link's life made to fail once: nothing crashes, nothing leaks, and whoever waits is told. */
#include "contract.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "io/budget.h"
#include "link/greet.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define INSTRUMENTED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define INSTRUMENTED 1
#endif
#endif

#ifndef INSTRUMENTED

/* The process's allocator, with a counter in front; libevent's and nghttp2's calls come here too. */
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void __libc_free(void *p);

static bool counting;
static long countdown = -1, failing, live; /* the allocation that fails; what is allocated and not freed */
static bool struck;

static bool fails(void) {
  if (!counting || countdown < 0)
    return false;
  if (countdown-- != 0)
    return false;
  struck = true;
  return true;
}

void *malloc(size_t n);
void *malloc(size_t n) {
  if (fails())
    return NULL;
  live += counting;
  return __libc_malloc(n);
}
void *calloc(size_t n, size_t size);
void *calloc(size_t n, size_t size) {
  if (fails())
    return NULL;
  live += counting;
  return __libc_calloc(n, size);
}
void *realloc(void *p, size_t n);
void *realloc(void *p, size_t n) {
  if (fails())
    return NULL;
  live += counting && !p;
  return __libc_realloc(p, n);
}
void free(void *p);
void free(void *p) {
  live -= counting && p;
  __libc_free(p);
}

/* --- a life, with every call allowed to fail --- */

struct life {
  struct loop *l;
  struct link *relay, *agent;
  struct stream *streams[16];
  unsigned n;
  int greeted, err;
};

static void on_readable(void *user) {
  struct stream *s = *(struct stream **)user;
  struct evbuffer *in = stream_input(s);
  size_t room = stream_room(s), n = evbuffer_get_length(in) < room ? evbuffer_get_length(in) : room;
  stream_credit(s, stream_move(s, in, n));
  if (stream_at_end(s))
    stream_finish(s);
}
static void on_stream_closed(void *user, int reason) {
  (void)user, (void)reason;
}
static const struct stream_events echo_events = {on_readable, on_readable, on_stream_closed};
static void ignore(void *user) {
  struct stream *s = *(struct stream **)user;
  stream_consume(s, stream_waiting(s));
}
static const struct stream_events sink_events = {ignore, NULL, on_stream_closed};

static void add(struct life *w, struct stream *s, const struct stream_events *ev) {
  if (w->n == 16) {
    stream_close(s, BEAM_ERR_LIMIT);
    return;
  }
  w->streams[w->n] = s;
  stream_own(s, ev, &w->streams[w->n++]);
}

static void on_stream(void *user, struct stream *s) {
  add(user, s, &echo_events);
}
static void on_link_closed(void *user, int reason) {
  (void)user, (void)reason;
}
static const struct link_events events = {.stream = on_stream, .closed = on_link_closed};

static void on_greeted(void *user, struct link *k, int err, const struct beam_error *why,
                       const struct greet_peer *peer) {
  (void)why, (void)peer;
  struct life *w = user;
  w->greeted++;
  if (err)
    w->err = err;
  else
    link_own(k, &events, w);
}

static void given(void *user, struct link *k) {
  *(struct link **)user = k;
}
static int pair_local(struct loop *l, struct link **relay, struct link **agent) {
  int err = link_local_pair(l, l, relay, given, agent);
  loop_run_for(l, 0);
  return err;
}

static void live_once(int (*pair)(struct loop *, struct link **, struct link **), const struct key *device,
                      const struct key *relay_key) {
  static char block[100000];
  struct life w = {0};
  counting = true;
  live = 0;
  if (loop_new_virtual(&w.l)) {
    counting = false;
    assert_true(struck);
    return;
  }
  struct greet_agent_conf ac = {.device = device, .token = "x"};
  struct greet_relay_conf rc = {.key = relay_key, .domain = "t"};
  bool made = !pair(w.l, &w.relay, &w.agent) && w.relay && w.agent;
  if (made && !greet_relay(w.relay, &rc, on_greeted, &w) && !greet_agent(w.agent, &ac, on_greeted, &w)) {
    loop_run_for(w.l, 0);
    for (int i = 0; i < 4; i++) {
      struct stream *s;
      if (link_open(w.relay, &s))
        continue;
      add(&w, s, &sink_events);
      stream_write(s, block, i * 20000u);
      if (i == 3)
        stream_finish(s);
      loop_run_for(w.l, 0);
    }
    if (w.n)
      stream_close(w.streams[--w.n], BEAM_ERR_RESET);
    link_drain(w.relay);
    loop_run_for(w.l, LIMIT_PING_MS + 1);
  }
  link_close(w.relay, 0);
  loop_run_for(w.l, 1);
  link_close(w.agent, 0);
  loop_run_for(w.l, 10000);
  while (w.n)
    stream_close(w.streams[--w.n], 0);
  loop_run_for(w.l, 10000);
  loop_free(w.l);
  counting = false;
  if (!struck && made) {
    assert_int_equal(w.greeted, 2);
    assert_int_equal(w.err, 0);
  }
  if (live)
    print_error("allocation %ld: %ld left\n", failing, live);
  assert_int_equal(live, 0);
  assert_int_equal(atomic_load(&budget_pool.used), 0);
}

static void each_allocation(int (*pair)(struct loop *, struct link **, struct link **)) {
  struct key *device, *relay_key;
  assert_int_equal(key_ephemeral(&device), 0);
  assert_int_equal(key_ephemeral(&relay_key), 0);
  struck = false;
  countdown = -1;
  live_once(pair, device, relay_key); /* what is made once for the process is made now */
  long n = 0;
  do {
    struck = false;
    countdown = failing = n++;
    live_once(pair, device, relay_key);
  } while (struck);
  assert_true(n > 20);
  key_free(device);
  key_free(relay_key);
}

static void test_h2(void **state) {
  (void)state;
  each_allocation(pair_h2);
}
static void test_mem(void **state) {
  (void)state;
  each_allocation(link_mem_pair);
}
static void test_local(void **state) {
  (void)state;
  each_allocation(pair_local);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_h2),
      cmocka_unit_test(test_mem),
      cmocka_unit_test(test_local),
  };
  return cmocka_run_group_tests_name("links without memory", tests, NULL, NULL);
}

#else

static void test_skipped(void **state) {
  (void)state;
  print_message("skipped: the sanitizer owns the allocator\n");
  skip();
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_skipped)};
  return cmocka_run_group_tests_name("links without memory", tests, NULL, NULL);
}
#endif
