/* Dialling through a scripted proxy in memory: what crosses, when it is told, and every way it fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "io/proxy.h"

struct world {
  struct loop *l;
  struct net *net;
  struct listener *listener;
  struct stream *there; /* the proxy's end */
  int closed;           /* reason at the proxy's end */
  struct proxy_dial *dial;
  int done, err;
  char why[256];
  struct stream *s;
  uint64_t at; /* of the outcome */
};

static void there_readable(void *user) {
  (void)user;
}
static void there_closed(void *user, int reason) {
  ((struct world *)user)->closed = reason;
}
static const struct stream_events there_events = {there_readable, NULL, there_closed};

static void on_accept(void *user, struct stream *s, const struct sockaddr_storage *peer) {
  (void)peer;
  struct world *w = user;
  w->there = s;
  stream_own(s, &there_events, w);
}

static void on_dialled(void *user, struct stream *s, int err, const char *why) {
  struct world *w = user;
  w->done++;
  w->dial = NULL;
  w->err = err;
  w->s = s;
  w->at = loop_now(w->l);
  assert_true(str_copy(w->why, sizeof w->why, why));
}

static void begin(struct world *w, const char *proxy) {
  struct memnet_conf conf = {.seed = 1, .delay_ms = 10};
  struct proxy p = {0};
  memset(w, 0, sizeof *w);
  assert_int_equal(loop_new_virtual(&w->l), 0);
  assert_int_equal(memnet_new(w->l, &conf, &w->net), 0);
  assert_int_equal(net_listen(w->net, w->l, "proxy", 3128, NULL, on_accept, w, &w->listener), 0);
  if (proxy)
    assert_int_equal(proxy_parse(proxy, &p, NULL), 0);
  assert_int_equal(proxy_dial(w->net, w->l, &p, proxy ? "relay.test" : "proxy", proxy ? 443 : 3128, 5000,
                              on_dialled, w, &w->dial),
                   0);
  assert_int_equal(w->done, 0);
}

static void end(struct world *w) {
  proxy_dial_cancel(w->dial);
  if (w->s)
    stream_close(w->s, BEAM_ERR_CLOSED);
  if (w->there)
    stream_close(w->there, BEAM_ERR_CLOSED);
  loop_run_for(w->l, 100);
  net_listener_close(w->net, w->listener);
  memnet_free(w->net);
  loop_free(w->l);
}

static void expect(struct world *w, const char *bytes, size_t n) {
  for (int i = 0; i < 100 && (!w->there || stream_waiting(w->there) < n); i++)
    loop_run_for(w->l, 1);
  assert_non_null(w->there);
  assert_int_equal(stream_waiting(w->there), n);
  assert_memory_equal(evbuffer_pullup(stream_input(w->there), -1), bytes, n);
  stream_consume(w->there, n);
}

static void answer(struct world *w, const char *bytes, size_t n) {
  assert_int_equal(stream_write(w->there, bytes, n), n);
  loop_run_for(w->l, 11);
}
#define EXPECT(w, lit) expect(w, lit, sizeof(lit) - 1)
#define ANSWER(w, lit) answer(w, lit, sizeof(lit) - 1)

/* The stream is a plain one: what the far side sent at once is there, and both directions go. */
static void check_open(struct world *w, const char *early) {
  assert_int_equal(w->done, 1);
  assert_int_equal(w->err, 0);
  assert_string_equal(w->why, "");
  assert_int_equal(stream_waiting(w->s), strlen(early));
  assert_memory_equal(evbuffer_pullup(stream_input(w->s), -1), early, strlen(early));
  assert_int_equal(stream_write(w->s, "hello", 5), 5);
  EXPECT(w, "hello");
  end(w);
}

#define CONNECT "CONNECT relay.test:443 HTTP/1.1\r\nHost: relay.test:443\r\n"

static void test_connect(void **state) {
  (void)state;
  struct world w;
  begin(&w, "http://proxy:3128");
  EXPECT(&w, CONNECT "\r\n");
  ANSWER(&w, "HTTP/1.1 200 OK\r\n\r\nearly");
  assert_int_equal(w.at - 1000000, 40); /* there and back, twice */
  check_open(&w, "early");
}

static void test_connect_with_credentials(void **state) {
  (void)state;
  struct world w;
  begin(&w, "http://Aladdin:open%20sesame@proxy:3128");
  EXPECT(&w, CONNECT "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n");
  ANSWER(&w, "HTTP/1.1 200 ");
  assert_int_equal(w.done, 0);
  ANSWER(&w, "OK\r\n\r\n");
  check_open(&w, "");
}

static void test_socks(void **state) {
  (void)state;
  struct world w;
  begin(&w, "socks5://proxy:3128");
  EXPECT(&w, "\5\1\0");
  ANSWER(&w, "\5\0");
  EXPECT(&w, "\5\1\0\3\012relay.test\1\273");
  ANSWER(&w, "\5\0\0\1\0\0\0\0\0\0early");
  check_open(&w, "early");
}

static void test_socks_with_credentials(void **state) {
  (void)state;
  struct world w;
  begin(&w, "socks5://joe:secret@proxy:3128");
  EXPECT(&w, "\5\2\0\2");
  ANSWER(&w, "\5\2");
  EXPECT(&w, "\1\3joe\6secret");
  ANSWER(&w, "\1\0");
  EXPECT(&w, "\5\1\0\3\012relay.test\1\273");
  ANSWER(&w, "\5\0\0\1\0\0\0\0\0\0");
  check_open(&w, "");
}

static void test_direct(void **state) {
  (void)state;
  struct world w;
  begin(&w, NULL);
  loop_run_for(w.l, 20);
  assert_int_equal(w.at - 1000000, 20);
  check_open(&w, "");
}

static void test_refusals(void **state) {
  (void)state;
  static const struct {
    const char *answer, *why;
    int err;
  } cases[] = {
      {"HTTP/1.1 407 No\r\n\r\n", "the proxy refuses these credentials (proxy:3128)", BEAM_ERR_DENIED},
      {"HTTP/1.1 403 No\r\n\r\n", "the proxy's rules do not permit it (proxy:3128)", BEAM_ERR_DENIED},
      {"HTTP/1.1 503 No\r\n\r\n", "the proxy cannot reach the relay (proxy:3128)", BEAM_ERR_REFUSED},
      {"ICY 200 OK\r\n\r\n", "the proxy's answer is not HTTP (proxy:3128)", BEAM_ERR_PROTOCOL},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct world w;
    begin(&w, "http://joe:secret@proxy:3128");
    loop_run_for(w.l, 40);
    answer(&w, cases[i].answer, strlen(cases[i].answer));
    assert_int_equal(w.done, 1);
    assert_int_equal(w.err, cases[i].err);
    assert_string_equal(w.why, cases[i].why);
    assert_null(w.s);
    loop_run_for(w.l, 11);
    assert_int_equal(w.closed, BEAM_ERR_RESET);
    end(&w);
  }
}

static void test_failures(void **state) {
  (void)state;
  for (int what = 0; what < 5; what++) {
    struct world w;
    begin(&w, what == 0 ? "http://nobody:1" : "http://proxy:3128");
    loop_run_for(w.l, 40);
    switch (what) {
    case 0:
      assert_int_equal(w.err, BEAM_ERR_REFUSED);
      assert_string_equal(w.why, "the proxy cannot be reached (nobody:1)");
      break;
    case 1: /* it says nothing: the time is for dial and talk together */
      loop_run_for(w.l, 4959);
      assert_int_equal(w.done, 0);
      loop_run_for(w.l, 1);
      assert_int_equal(w.err, BEAM_ERR_TIMEOUT);
      assert_string_equal(w.why, "the proxy does not answer (proxy:3128)");
      break;
    case 2: /* it ends in the middle */
      ANSWER(&w, "HTTP/1.1 2");
      stream_finish(w.there);
      loop_run_for(w.l, 11);
      assert_int_equal(w.err, BEAM_ERR_TRUNCATED);
      break;
    case 3:
      stream_close(w.there, BEAM_ERR_RESET);
      w.there = NULL;
      loop_run_for(w.l, 11);
      assert_int_equal(w.err, BEAM_ERR_RESET);
      break;
    default: /* called off while it talks */
      proxy_dial_cancel(w.dial);
      w.dial = NULL;
      loop_run_for(w.l, 11);
      assert_int_equal(w.closed, BEAM_ERR_RESET);
    }
    assert_int_equal(w.done, what < 4);
    assert_null(w.s);
    end(&w);
  }
}

static void test_cancel_at_any_moment(void **state) {
  (void)state;
  for (uint64_t ms = 0; ms < 50; ms += 5) {
    struct world w;
    begin(&w, "socks5://proxy:3128");
    loop_run_for(w.l, ms);
    proxy_dial_cancel(w.dial);
    w.dial = NULL;
    loop_run_for(w.l, 100);
    assert_int_equal(w.done, 0);
    end(&w);
  }
}

static void test_bad_host(void **state) {
  (void)state;
  struct world w;
  struct proxy p;
  struct proxy_dial *d;
  begin(&w, "http://proxy:3128");
  assert_int_equal(proxy_parse("http://proxy:3128", &p, NULL), 0);
  assert_int_equal(proxy_dial(w.net, w.l, &p, "a\r\nb", 443, 5000, on_dialled, &w, &d), BEAM_ERR_INVALID);
  end(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_connect),  cmocka_unit_test(test_connect_with_credentials),
      cmocka_unit_test(test_socks),    cmocka_unit_test(test_socks_with_credentials),
      cmocka_unit_test(test_direct),   cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_failures), cmocka_unit_test(test_cancel_at_any_moment),
      cmocka_unit_test(test_bad_host),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
