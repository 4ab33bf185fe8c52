/* Tickets: a client that comes again resumes, and what it says before the handshake is over arrives; where that cannot be, the handshake is a full one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <time.h>

#include "../quic_pair.h"
#include "quic/conn.h"

static const char hello[] = "versions and features";
static struct loop *l;
static struct pair *p;
static uint8_t session[LIMIT_QUIC_SESSION];
static size_t session_n;
static uint8_t reset_key[32];

static int up(void **state) {
  (void)state;
  if (loop_new_virtual(&l) || !(p = calloc(1, sizeof *p)))
    return 1;
  pair_init(p, l);
  memset(reset_key, 7, sizeof reset_key);
  p->sc.tickets = "beam/1";
  p->sc.reset_key = reset_key;
  p->cc.early = (const uint8_t *)hello;
  p->cc.early_n = sizeof hello;
  p->memnet.delay_ms = 10;
  return 0;
}
static int down(void **state) {
  (void)state;
  pair_fini(p);
  udp_memnet_free(p->net);
  free(p);
  loop_free(l);
  return 0;
}

/* Both sides are rid of the connection, the client's network is still there. */
static void part(void) {
  pair_close(p);
  for (unsigned i = 0; i < 4; i++) {
    stream_close(p->a.stream[i], BEAM_ERR_RESET);
    stream_close(p->b.stream[i], BEAM_ERR_RESET);
  }
  pair_turn(p, 10000);
  memset(&p->a, 0, sizeof p->a);
  memset(&p->b, 0, sizeof p->b);
  p->accepted = 0;
}

static void keep_session(void) {
  const uint8_t *at;
  PAIR_UNTIL(p, !quic_conn_session(p->a.c, &at, &session_n));
  assert_in_range(session_n, 100, sizeof session);
  memcpy(session, at, session_n);
  p->cc.session = session;
  p->cc.session_n = session_n;
}

static struct quic_conn_info info_of(struct quic_conn *c) {
  struct quic_conn_info i;
  quic_conn_info(c, &i);
  return i;
}

static void meet_again(void) {
  assert_int_equal(pair_connect(p), 0);
  PAIR_UNTIL(p, p->a.ready && p->b.ready);
}

static void restart(void) {
  quic_endpoint_close(p->server);
  pair_turn(p, 10000);
  assert_int_equal(pair_listen(p), 0);
}

static void says(struct stream *s, const char *text, size_t n) {
  PAIR_UNTIL(p, stream_waiting(s) >= n);
  assert_int_equal(stream_waiting(s), n);
  assert_memory_equal(evbuffer_pullup(stream_input(s), (ev_ssize_t)n), text, n);
  stream_consume(s, n);
}

static void resumes_with_early_data(void **state) {
  (void)state;
  struct stream *s;
  pair_meet(p);
  assert_int_equal(p->verified, 1);
  assert_false(info_of(p->a.c).resumed);
  uint8_t before[32], after[32], there[32];
  quic_conn_exporter(p->a.c, before);
  assert_int_equal(quic_conn_open(p->a.c, true, &s), 0); /* without a session: an empty one, as ever */
  PAIR_UNTIL(p, p->b.streams == 1);
  assert_int_equal(stream_waiting(p->b.stream[0]), 0);
  stream_close(s, 0);
  keep_session();
  part();

  meet_again();
  assert_int_equal(p->verified, 1); /* no certificate was shown */
  assert_true(info_of(p->a.c).resumed && info_of(p->b.c).resumed);
  assert_true(info_of(p->a.c).early && info_of(p->b.c).early);
  quic_conn_exporter(p->a.c, after);
  quic_conn_exporter(p->b.c, there);
  assert_memory_equal(after, there, 32);
  assert_memory_not_equal(before, after, 32);
  PAIR_UNTIL(p, p->b.streams == 1);
  says(p->b.stream[0], hello, sizeof hello);
  assert_int_equal(quic_conn_open(p->a.c, true, &s), 0);
  assert_int_equal(stream_write(s, "more", 4), 4);
  says(p->b.stream[0], "more", 4);
  stream_close(s, 0);
  keep_session(); /* the next one */
}

static void a_restart_keeps_tickets_and_takes_no_early_data(void **state) {
  (void)state;
  struct stream *s;
  pair_meet(p);
  keep_session();
  part();
  pair_turn(p, 1);
  struct timespec second = {
      1, 100 * 1000 *
             1000}; /* GnuTLS compares seconds: a ticket of the second in which it starts is one of after */
  nanosleep(&second, NULL);
  restart();
  meet_again();
  assert_true(info_of(p->a.c).resumed);
  assert_false(info_of(p->a.c).early);
  assert_int_equal(p->b.streams, 0);
  assert_int_equal(quic_conn_open(p->a.c, true, &s), 0);
  assert_int_equal(stream_write(s, "late", 4), 4);
  PAIR_UNTIL(p, p->b.streams == 1);
  says(p->b.stream[0], "late", 4);
  stream_close(s, 0);
}

static void another_key_or_other_parameters_mean_a_full_handshake(void **state) {
  (void)state;
  pair_meet(p);
  keep_session();
  for (int i = 0; i < 2; i++) {
    part();
    if (i)
      p->sc.peer_bidi--;
    else
      reset_key[0]++;
    restart();
    meet_again();
    assert_false(info_of(p->a.c).resumed);
    assert_false(info_of(p->a.c).early);
    assert_int_equal(p->verified, 2 + i);
    keep_session();
  }
}

static void a_damaged_session_is_none(void **state) {
  (void)state;
  pair_meet(p);
  keep_session();
  for (size_t n = 0; n < session_n; n += n < 64 ? 1 : 97) {
    part();
    p->cc.session_n = n;
    meet_again();
    assert_false(info_of(p->a.c).resumed);
  }
  for (size_t at = 0; at < session_n; at += 61) {
    part();
    p->cc.session_n = session_n;
    session[at] ^= 0x55;
    meet_again();
    assert_false(info_of(p->a.c).resumed);
    session[at] ^= 0x55;
  }
}

/* Somebody recorded the first flight and sends it again. */
static struct {
  uint8_t p[4][2048];
  size_t n[4];
  unsigned count;
  bool on;
} tape;
static void record(void *user, uint8_t *at, size_t *n) {
  (void)user;
  if (tape.on && tape.count < 4 && *n < sizeof tape.p[0]) {
    memcpy(tape.p[tape.count], at, *n);
    tape.n[tape.count++] = *n;
  }
}

static void early_data_is_taken_once(void **state) {
  (void)state;
  p->memnet.mangle = record;
  pair_meet(p);
  keep_session();
  part();
  memset(&tape, 0, sizeof tape);
  tape.on = true;
  assert_int_equal(pair_connect(p), 0);
  PAIR_UNTIL(p, tape.count == 2); /* Initial, and early data */
  tape.on = false;
  PAIR_UNTIL(p, p->a.ready && p->b.ready && p->b.streams == 1);
  unsigned accepted = p->accepted;
  struct sockaddr_storage from = p->addr;
  ((struct sockaddr_in *)&from)->sin_port = htons(9);
  part();
  for (unsigned i = 0; i < tape.count; i++)
    quic_endpoint_inject(p->server, tape.p[i], tape.n[i], 0, &from, &p->addr);
  pair_turn(p, 5);
  struct quic_conn *c = p->server->conns;
  assert_non_null(c); /* a handshake is under way, as anybody can begin one */
  assert_int_equal(c->early_n, 0);
  assert_null(c->streams);
  pair_turn(p, LIMIT_HANDSHAKE_MS + 5000);
  assert_null(p->server->conns);
  assert_int_equal(accepted, 1);
  assert_int_equal(p->accepted, 0);
}

static void much_early_data_ends_the_connection(void **state) {
  (void)state;
  static const uint8_t much[LIMIT_QUIC_EARLY + 1];
  pair_meet(p);
  keep_session();
  part();
  p->cc.early = much;
  p->cc.early_n = sizeof much;
  assert_int_equal(pair_connect(p), 0);
  PAIR_UNTIL(p, p->a.closed);
  assert_int_equal(p->accepted, 0);
}

static void lost_packets_lose_nothing(void **state) {
  (void)state;
  pair_meet(p);
  keep_session();
  for (unsigned seed = 1; seed < 12; seed++) {
    struct stream *s;
    part();
    p->memnet.seed = seed;
    p->memnet.loss = 200;
    udp_memnet_set(p->net, &p->memnet);
    meet_again();
    assert_int_equal(quic_conn_open(p->a.c, true, &s), 0);
    assert_int_equal(stream_write(s, "end", 3), 3);
    PAIR_UNTIL(p, p->b.streams == 1);
    bool early = info_of(p->a.c).early;
    says(p->b.stream[0], early ? "versions and features\0end" : "end", early ? sizeof hello + 3 : 3);
    stream_close(s, 0);
    p->memnet.loss = 0;
    udp_memnet_set(p->net, &p->memnet);
    keep_session();
  }
}

/* A ticket is early data, which may be a replay: only the protocol that is made for it gets one. */
static void no_ticket_for_another_protocol(void **state) {
  (void)state;
  const uint8_t *at;
  size_t n;
  p->sc.tickets = "other/1";
  p->cc.early_n = 0;
  pair_meet(p);
  pair_turn(p, 1000);
  assert_int_not_equal(quic_conn_session(p->a.c, &at, &n), 0);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, up, down)
  const struct CMUnitTest tests[] = {TEST(resumes_with_early_data),
                                     TEST(a_restart_keeps_tickets_and_takes_no_early_data),
                                     TEST(another_key_or_other_parameters_mean_a_full_handshake),
                                     TEST(a_damaged_session_is_none),
                                     TEST(early_data_is_taken_once),
                                     TEST(much_early_data_ends_the_connection),
                                     TEST(lost_packets_lose_nothing),
                                     TEST(no_ticket_for_another_protocol)};
  return cmocka_run_group_tests_name("quic/ticket", tests, NULL, NULL);
}
