#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "quic/conn.h"

static void the_worker_is_in_it_and_hidden(void **state) {
  (void)state;
  struct quic_endpoint a = {.server = true}, b = {.server = true}, stranger = {.server = true};
  unsigned first[256] = {0}, strangers = 0;
  memset(a.reset_key, 1, sizeof a.reset_key);
  memset(b.reset_key, 1, sizeof b.reset_key);
  memset(stranger.reset_key, 2, sizeof stranger.reset_key);
  for (unsigned i = 0; i < 512; i++) {
    ngtcp2_cid cid;
    a.conf.worker = i & 255;
    quic_cid_make(&a, &cid);
    assert_int_equal(cid.datalen, QUIC_CID);
    assert_int_equal(quic_cid_worker(&b, cid.data), i & 255); /* any worker knows */
    strangers += quic_cid_worker(&stranger, cid.data) == (i & 255);
    a.conf.worker = 3;
    quic_cid_make(&a, &cid);
    first[cid.data[0]]++;
  }
  assert_true(strangers < 20);
  for (int i = 0; i < 256; i++)
    assert_true(first[i] < 20); /* one worker's ids begin with anything */
}

static void each_finds_its_connection(void **state) {
  (void)state;
  enum { CONNS = 300, EACH = 5 };
  struct quic_cids t = {0};
  static struct quic_conn conn[CONNS];
  static ngtcp2_cid cid[CONNS][EACH];
  assert_int_equal(quic_cids_init(&t), 0);
  memset(conn, 0, sizeof conn);
  for (int i = 0; i < CONNS; i++)
    for (int k = 0; k < EACH; k++) {
      cid[i][k].datalen = 1 + (size_t)(i + k) % NGTCP2_MAX_CIDLEN;
      if (cid[i][k].datalen < 8)
        cid[i][k].datalen = 8;
      random_bytes(cid[i][k].data, cid[i][k].datalen);
      assert_null(quic_cids_find(&t, cid[i][k].data, cid[i][k].datalen));
      assert_int_equal(quic_cids_add(&t, &conn[i], &cid[i][k]), 0);
    }
  assert_int_equal(t.count, CONNS * EACH);
  for (int i = 0; i < CONNS; i++)
    for (int k = 0; k < EACH; k++) {
      assert_ptr_equal(quic_cids_find(&t, cid[i][k].data, cid[i][k].datalen), &conn[i]);
      assert_null(quic_cids_find(&t, cid[i][k].data, cid[i][k].datalen - 1)); /* the length counts */
    }
  for (int i = 0; i < CONNS; i++) {
    quic_cids_remove(&t, &conn[i], &cid[i][2]);
    quic_cids_remove(&t, &conn[i], &cid[i][2]);               /* not there any more */
    quic_cids_remove(&t, &conn[i], &cid[(i + 1) % CONNS][1]); /* another's */
    assert_null(quic_cids_find(&t, cid[i][2].data, cid[i][2].datalen));
    assert_ptr_equal(quic_cids_find(&t, cid[i][1].data, cid[i][1].datalen), &conn[i]);
    quic_cids_remove_all(&t, &conn[i]);
    assert_null(conn[i].cids);
    assert_null(quic_cids_find(&t, cid[i][0].data, cid[i][0].datalen));
  }
  assert_int_equal(t.count, 0);
  quic_cids_fini(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_worker_is_in_it_and_hidden),
                                     cmocka_unit_test(each_finds_its_connection)};
  return base_init() ? 1 : cmocka_run_group_tests_name("quic/cids", tests, NULL, NULL);
}
