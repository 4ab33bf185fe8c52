/* UDP sockets on loopback, and packets in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "io/alarm.h"
#include "io/udp_batch.h"

struct end {
  struct udp *u;
  unsigned packets, batches, writables, failures;
  int err;
  size_t bytes, last_n;
  size_t sizes[4096];
  uint8_t ecn, last[65536];
  struct sockaddr_storage from, to;
  bool close_next;
};

static void on_packet(void *user, const struct udp_packet *p) {
  struct end *e = user;
  if (e->packets < 4096)
    e->sizes[e->packets] = p->n;
  e->packets++;
  e->bytes += p->n;
  e->ecn = p->ecn;
  e->last_n = p->n;
  memcpy(e->last, p->p, p->n);
  e->from = *p->from;
  e->to = *p->to;
  if (e->close_next) {
    udp_close(e->u);
    e->u = NULL;
  }
}
static void on_batch_end(void *user) {
  ((struct end *)user)->batches++;
}
static void on_writable(void *user) {
  ((struct end *)user)->writables++;
}
static void on_failed(void *user, int err) {
  ((struct end *)user)->failures++;
  ((struct end *)user)->err = err;
}
static const struct udp_events events = {on_packet, on_batch_end, on_writable, on_failed};

static struct loop *l;
static struct end a, b;

static int up(void **state) {
  (void)state;
  memset(&a, 0, sizeof a);
  memset(&b, 0, sizeof b);
  return loop_new(&l);
}
static int down(void **state) {
  (void)state;
  udp_close(a.u);
  udp_close(b.u);
  loop_free(l);
  return 0;
}

#define UNTIL(condition)                                                                                     \
  do {                                                                                                       \
    for (int i_ = 0; !(condition); i_++) {                                                                   \
      assert_true(i_ < 1000);                                                                                \
      loop_turn(l, 10);                                                                                      \
    }                                                                                                        \
  } while (0)

/* a: client, connected to b: server. */
static bool open_pair(const char *host) {
  struct udp_conf server = {.host = host};
  if (udp_open(l, &server, &events, &b, &b.u))
    return false;
  struct sockaddr_storage to = *udp_address(b.u);
  if (to.ss_family == AF_INET)
    ((struct sockaddr_in *)&to)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  struct udp_conf client = {.peer = &to};
  assert_int_equal(udp_open(l, &client, &events, &a, &a.u), 0);
  return true;
}

static void a_packet_comes_with_its_addresses_and_mark(void **state) {
  (void)state;
  static const char *const hosts[] = {"127.0.0.1", "0.0.0.0", "::1"};
  for (int i = 0; i < 3; i++) {
    if (!open_pair(hosts[i])) {
      print_message("skipped: no %s here\n", hosts[i]);
      continue;
    }
    for (uint8_t ecn = 0; ecn < 4; ecn++) {
      unsigned n = b.packets;
      assert_int_equal(udp_send(a.u, udp_address(b.u), NULL, ecn, (const uint8_t *)"hello", 5, 5), 5);
      UNTIL(b.packets == n + 1);
      assert_int_equal(b.ecn, ecn);
      assert_int_equal(b.last_n, 5);
      assert_memory_equal(b.last, "hello", 5);
    }
    assert_int_equal(addr_port(&b.from), udp_port(a.u));
    assert_int_equal(addr_port(&b.to), udp_port(b.u));
    if (b.to.ss_family == AF_INET) /* the address it was sent to, also where any is bound */
      assert_int_equal(((struct sockaddr_in *)&b.to)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    assert_true(b.batches > 0);
    /* the answer comes from there: a connected socket would not hear it otherwise */
    unsigned got = a.packets;
    assert_int_equal(udp_send(b.u, &b.from, &b.to, UDP_ECT_0, (const uint8_t *)"back", 4, 4), 4);
    UNTIL(a.packets == got + 1);
    assert_int_equal(a.ecn, UDP_ECT_0);
    udp_close(a.u);
    udp_close(b.u);
    a.u = b.u = NULL;
  }
}

/* An address of ours that is not the kernel's first choice. */
static void an_answer_leaves_from_the_address_that_was_asked(void **state) {
  (void)state;
  struct udp_conf any = {.host = "0.0.0.0"}, client = {.host = "127.0.0.1"};
  assert_int_equal(udp_open(l, &any, &events, &b, &b.u), 0);
  assert_int_equal(udp_open(l, &client, &events, &a, &a.u), 0);
  struct sockaddr_storage to = *udp_address(b.u);
  ((struct sockaddr_in *)&to)->sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
  assert_int_equal(udp_send(a.u, &to, NULL, 0, (const uint8_t *)"?", 1, 1), 1);
  UNTIL(b.packets == 1);
  assert_int_equal(udp_send(b.u, &b.from, &b.to, 0, (const uint8_t *)"!", 1, 1), 1);
  UNTIL(a.packets == 1);
  assert_int_equal(((struct sockaddr_in *)&a.from)->sin_addr.s_addr, htonl(INADDR_LOOPBACK + 1));
}

static void a_batch_arrives_as_its_segments(void **state) {
  (void)state;
  static const struct {
    size_t n, segment;
  } rows[] = {{1200, 1200}, {2400, 1200},      {60000, 1200}, {2500, 1200},
              {1, 1200},    {64 * 1000, 1000}, {64 * 10, 10}, {65000, 1300}};
  static uint8_t bytes[UDP_BATCH_BYTES];
  assert_true(open_pair("127.0.0.1"));
  for (size_t i = 0; i < sizeof bytes; i++)
    bytes[i] = (uint8_t)(i * 7 / 3);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    size_t n = rows[i].n, segment = rows[i].segment, want = (n + segment - 1) / segment;
    b.packets = 0;
    b.bytes = 0;
    assert_int_equal(udp_send(a.u, udp_address(b.u), NULL, UDP_ECT_0, bytes, n, segment), n);
    UNTIL(b.bytes == n);
    assert_int_equal(b.packets, want);
    for (size_t k = 0; k + 1 < want; k++)
      assert_int_equal(b.sizes[k], segment);
    assert_int_equal(b.last_n, n - (want - 1) * segment);
    assert_memory_equal(b.last, bytes + (want - 1) * segment, b.last_n);
    assert_int_equal(b.ecn, UDP_ECT_0);
  }
}

static void too_large_is_said(void **state) {
  (void)state;
  static uint8_t bytes[UDP_BATCH_BYTES + 1000];
  assert_true(open_pair("127.0.0.1"));
  long taken = udp_send(a.u, udp_address(b.u), NULL, 0, bytes, sizeof bytes, sizeof bytes);
  assert_int_equal(taken, BEAM_ERR_TOO_LARGE);
  assert_int_equal(udp_send(a.u, udp_address(b.u), NULL, 0, bytes, 9, 9), 9);
  UNTIL(b.packets == 1);
}

/* Nobody reads: the socket fills, or drops; either way nothing is queued without bound and nothing fails. */
static void a_flood_is_taken_or_refused(void **state) {
  (void)state;
  static uint8_t bytes[60000];
  assert_true(open_pair("127.0.0.1"));
  for (int i = 0; i < 1000; i++) {
    long taken = udp_send(a.u, udp_address(b.u), NULL, 0, bytes, sizeof bytes, 1200);
    assert_true(taken >= 0 && taken % 1200 == 0);
    if (taken < (long)sizeof bytes) {
      UNTIL(a.writables > 0);
      break;
    }
  }
  UNTIL(b.packets > 0);
}

static void nobody_there_is_told_to_who_is_connected(void **state) {
  (void)state;
  assert_true(open_pair("127.0.0.1"));
  struct sockaddr_storage to = *udp_address(b.u);
  udp_close(b.u);
  b.u = NULL;
  udp_send(a.u, &to, NULL, 0, (const uint8_t *)"?", 1, 1);
  UNTIL(a.failures > 0);
  assert_int_equal(a.err, BEAM_ERR_REFUSED);
}

static void closing_inside_a_packet(void **state) {
  (void)state;
  assert_true(open_pair("127.0.0.1"));
  b.close_next = true;
  for (int i = 0; i < 5; i++)
    udp_send(a.u, udp_address(b.u), NULL, 0, (const uint8_t *)"12345678", 8, 2);
  UNTIL(!b.u);
  loop_turn(l, 10);
  assert_int_equal(b.packets, 1);
}

static void ports(void **state) {
  (void)state;
  struct udp_conf first = {.host = "127.0.0.1", .reuse_port = true};
  struct udp *other = NULL;
  assert_int_equal(udp_open(l, &first, &events, &b, &b.u), 0);
  assert_true(udp_port(b.u) > 0);
  struct udp_conf again = {.host = "127.0.0.1", .port = udp_port(b.u)};
  assert_int_equal(udp_open(l, &again, &events, &a, &other), BEAM_ERR_IN_USE);
  again.reuse_port = true;
  assert_int_equal(udp_open(l, &again, &events, &a, &other), 0);
  udp_close(other);
  struct udp_conf bad = {.host = "nowhere"};
  assert_int_equal(udp_open(l, &bad, &events, &a, &other), BEAM_ERR_INVALID);
  struct udp_conf absent = {.host = "192.0.2.1"};
  assert_true(udp_open(l, &absent, &events, &a, &other) < BEAM_AGAIN);
  udp_close(NULL);
}

/* --- alarms --- */

static struct alarm *ringing;
static unsigned rings;
static uint64_t rang_at;
static void on_ring(void *arg) {
  rings++;
  rang_at = alarm_now(arg);
}

static void an_alarm_rings_once_and_not_early(void **state) {
  (void)state;
  rings = 0;
  assert_int_equal(alarm_new(l, on_ring, l, &ringing), 0);
  uint64_t at = alarm_now(l) + 300000;
  alarm_set(ringing, at);
  UNTIL(rings == 1);
  assert_true(rang_at >= at);
  alarm_set(ringing, 1); /* long past */
  UNTIL(rings == 2);
  alarm_set(ringing, alarm_now(l) + 2000000);
  alarm_stop(ringing);
  alarm_set(ringing, alarm_now(l) + 3600000000000u);
  for (int i = 0; i < 5; i++)
    loop_turn(l, 1);
  assert_int_equal(rings, 2);
  alarm_free(ringing);
  alarm_free(NULL);
}

static void an_alarm_on_a_virtual_clock(void **state) {
  (void)state;
  struct loop *v;
  rings = 0;
  assert_int_equal(loop_new_virtual(&v), 0);
  assert_int_equal(alarm_new(v, on_ring, v, &ringing), 0);
  uint64_t now = alarm_now(v);
  assert_int_equal(now / 1000000, loop_now(v));
  assert_true(alarm_now(v) > now);
  alarm_set(ringing, now + 1500000);
  loop_run_for(v, 1);
  assert_int_equal(rings, 0);
  loop_run_for(v, 1);
  assert_int_equal(rings, 1);
  alarm_free(ringing);
  loop_free(v);
}

/* --- in memory --- */

static void mangle(void *user, uint8_t *p, size_t *n) {
  (void)user;
  p[0] ^= 0xff;
  if (*n > 3)
    *n = 3;
}

static void memory_delays_loses_and_cuts(void **state) {
  (void)state;
  struct loop *v;
  struct udp_net *net;
  struct udp_memnet_conf conf = {.seed = 7, .delay_ms = 10};
  assert_int_equal(loop_new_virtual(&v), 0);
  assert_int_equal(udp_memnet_new(v, &conf, &net), 0);
  struct udp_conf server = {.net = net, .port = 443}, client = {.net = net};
  assert_int_equal(udp_open(v, &server, &events, &b, &b.u), 0);
  assert_int_equal(udp_open(v, &server, &events, &b, &b.u), BEAM_ERR_IN_USE);
  assert_int_equal(udp_open(v, &client, &events, &a, &a.u), 0);
  assert_int_equal(udp_send(a.u, udp_address(b.u), NULL, 2, (const uint8_t *)"abcde", 5, 2), 5);
  loop_run_for(v, 9);
  assert_int_equal(b.packets, 0);
  loop_run_for(v, 1);
  assert_int_equal(b.packets, 3);
  assert_int_equal(b.ecn, 2);
  assert_int_equal(addr_port(&b.from), udp_port(a.u));
  udp_memnet_blackhole(net, UDP_MEMNET_TO);
  udp_send(a.u, udp_address(b.u), NULL, 0, (const uint8_t *)"x", 1, 1);
  udp_send(b.u, udp_address(a.u), NULL, 0, (const uint8_t *)"y", 1, 1);
  loop_run_for(v, 100);
  assert_int_equal(b.packets, 3);
  assert_int_equal(a.packets, 1);
  udp_memnet_blackhole(net, 0);
  conf.loss = 300;
  udp_memnet_set(net, &conf);
  for (int i = 0; i < 1000; i++)
    udp_send(b.u, udp_address(a.u), NULL, 0, (const uint8_t *)"y", 1, 1);
  loop_run_for(v, 100);
  assert_in_range(a.packets, 600, 800);
  conf = (struct udp_memnet_conf){.mtu = 100, .mangle = mangle};
  udp_memnet_set(net, &conf);
  a.packets = 0;
  static uint8_t large[101];
  udp_send(b.u, udp_address(a.u), NULL, 0, large, 101, 101);
  udp_send(b.u, udp_address(a.u), NULL, 0, large, 100, 100);
  loop_run_for(v, 1);
  assert_int_equal(a.packets, 1);
  assert_int_equal(a.last_n, 3);
  assert_int_equal(a.last[0], 0xff);
  udp_send(b.u, udp_address(a.u), NULL, 0, large, 50, 50); /* still under way at the end */
  udp_close(a.u);
  udp_close(b.u);
  a.u = b.u = NULL;
  udp_memnet_free(net);
  udp_memnet_free(NULL);
  loop_free(v);
}

static void empty_ones_are_datagrams_too(void **state) {
  (void)state;
  assert_true(open_pair("127.0.0.1"));
  assert_int_equal(udp_send(a.u, NULL, NULL, 0, (const uint8_t *)"", 0, 0), 0);
  assert_int_equal(udp_send(a.u, NULL, NULL, 0, (const uint8_t *)"x", 1, 1), 1);
  UNTIL(b.packets == 2);
  assert_int_equal(b.sizes[0], 0);
  assert_int_equal(b.sizes[1], 1);
}

/* The word that nobody is there comes with the send after it: it is told all the same, and that packet still goes. */
static void nobody_there_is_told_after_a_second_send(void **state) {
  (void)state;
  assert_true(open_pair("127.0.0.1"));
  struct sockaddr_storage at = *udp_address(b.u);
  udp_close(b.u);
  b.u = NULL;
  for (int i = 0; i < 3; i++)
    assert_int_equal(udp_send(a.u, NULL, NULL, 0, (const uint8_t *)"abcdef", 6, 2), 6);
  UNTIL(a.failures > 0);
  assert_int_equal(a.err, BEAM_ERR_REFUSED);
  struct udp_conf server = {.host = "127.0.0.1", .port = addr_port(&at)};
  assert_int_equal(udp_open(l, &server, &events, &b, &b.u), 0);
  assert_int_equal(udp_send(a.u, NULL, NULL, 0, (const uint8_t *)"x", 1, 1), 1);
  UNTIL(b.packets == 1);
}

static void a_batch_joins_what_fits(void **state) {
  (void)state;
  struct udp_batch batch;
  uint8_t p[1000] = {0};
  assert_true(open_pair("127.0.0.1"));
  udp_batch_init(&batch, l);
  static const size_t sizes[] = {100, 100, 100, 60, 100, 100, 200, 0, 0, 100, 1000};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    udp_batch_add(&batch, a.u, NULL, NULL, p, sizes[i]);
  UNTIL(b.packets == sizeof sizes / sizeof *sizes);
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    assert_int_equal(b.sizes[i], sizes[i]);
  assert_int_equal(batch.sent, sizeof sizes / sizeof *sizes);
  assert_int_equal(batch.lost, 0);
  for (int i = 0; i < 500; i++)
    udp_batch_add(&batch, a.u, NULL, NULL, p, sizeof p);
  udp_batch_fini(&batch);
  assert_int_equal(batch.sent + batch.lost, 500 + sizeof sizes / sizeof *sizes);
  UNTIL(b.packets == batch.sent);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(a_packet_comes_with_its_addresses_and_mark, up, down),
      cmocka_unit_test_setup_teardown(an_answer_leaves_from_the_address_that_was_asked, up, down),
      cmocka_unit_test_setup_teardown(a_batch_arrives_as_its_segments, up, down),
      cmocka_unit_test_setup_teardown(too_large_is_said, up, down),
      cmocka_unit_test_setup_teardown(a_flood_is_taken_or_refused, up, down),
      cmocka_unit_test_setup_teardown(nobody_there_is_told_to_who_is_connected, up, down),
      cmocka_unit_test_setup_teardown(closing_inside_a_packet, up, down),
      cmocka_unit_test_setup_teardown(empty_ones_are_datagrams_too, up, down),
      cmocka_unit_test_setup_teardown(nobody_there_is_told_after_a_second_send, up, down),
      cmocka_unit_test_setup_teardown(a_batch_joins_what_fits, up, down),
      cmocka_unit_test_setup_teardown(ports, up, down),
      cmocka_unit_test_setup_teardown(an_alarm_rings_once_and_not_early, up, down),
      cmocka_unit_test_setup_teardown(an_alarm_on_a_virtual_clock, up, down),
      cmocka_unit_test_setup_teardown(memory_delays_loses_and_cuts, up, down),
  };
  return cmocka_run_group_tests_name("io/udp", tests, NULL, NULL);
}
