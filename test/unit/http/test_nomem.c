/* Every allocation of a dialogue fails once: nothing crashes, nothing leaks, and whoever waits is told. */
#include "rig.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define INTERPOSE 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define INTERPOSE 0
#endif
#endif
#ifndef INTERPOSE
#define INTERPOSE 1
#endif

#define HOST "Host: t.test\r\n"
#define OK "HTTP/1.1 200 OK\r\n"

static long fail_at; /* 0: never; else the allocation that fails */
static long count, live;

#if INTERPOSE
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t m);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);
void *malloc(size_t n);
void *calloc(size_t n, size_t m);
void *realloc(void *p, size_t n);
void free(void *p);

static bool fails(void) {
  return fail_at && !rig_calm && ++count == fail_at;
}

void *malloc(size_t n) {
  void *p = fails() ? NULL : __libc_malloc(n);
  live += p != NULL;
  return p;
}
void *calloc(size_t n, size_t m) {
  void *p = fails() ? NULL : __libc_calloc(n, m);
  live += p != NULL;
  return p;
}
void *realloc(void *old, size_t n) {
  if (fails())
    return NULL;
  void *p = __libc_realloc(old, n);
  live += !old && p;
  return p;
}
void free(void *p) {
  live -= p != NULL;
  __libc_free(p);
}
#endif

static const struct {
  const char *request, *response;
} rows[] = {
    {"GET / HTTP/1.1\r\n" HOST "\r\n", OK "Content-Length: 2\r\n\r\nhi"},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nT: 1\r\n\r\n",
     "HTTP/1.1 103 Early Hints\r\n\r\n" OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n"},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\nabc",
     "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"},
    {"GET / HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: x\r\n\r\nearly",
     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nhello"},
    {"GET / HTTP/1.1\r\n" HOST "\r\n", "no http\r\n\r\n"},
    {"garbage\r\n\r\n", ""},
};

/* False: fewer allocations than that. */
static bool dialogue(size_t i, enum rig_way way, long n, bool page) {
  struct rig *r = rig_new(way);
  count = 0;
  r->answer_with = page ? PAGE_NO_TUNNEL : PAGE_NONE;
  for (int turn = 0; turn < 2 && r->front; turn++) { /* the second over the kept connection */
    peer_say(&r->visitor, rows[i].request);
    fail_at = turn ? 0 : n;
    rig_run(r);
    fail_at = 0;
    if (r->dials && !r->service[r->dials - 1].dead) {
      rig_calm++;
      peer_say(&r->service[r->dials - 1], rows[i].response);
      rig_calm--;
      fail_at = turn ? 0 : n;
      rig_run(r);
      fail_at = 0;
    }
    if (turn == 0 && r->front && rows[i].request[0] != 'P' && !strstr(rows[i].response, "101"))
      assert_true(r->records >= 1); /* answered, one way or the other */
  }
  bool more = count >= n;
  rig_free(r);
  return more;
}

static void every_allocation(void **state) {
  (void)state;
#if !INTERPOSE
  print_message("skipped: a sanitizer owns malloc\n");
#endif
  for (size_t i = 0; INTERPOSE && i < ROWS(rows); i++)
    for (enum rig_way way = DIRECT; way <= FRAMES; way++)
      for (int page = 0; page < 2; page++) {
        dialogue(i, way, 1000000, page); /* what is made once stays */
        long before = live;
        long n = 1;
        for (; n < 1000; n++) {
          bool more = dialogue(i, way, n, page);
          assert_int_equal(live, before);
          if (!more)
            break;
        }
        assert_true(n > 3 && n < 1000);
      }
}

/* --- with everything an owner can ask for: rules, compression, a cache --- */

#define TEXT                                                                                                 \
  "Content-Type: text/plain\r\nCache-Control: public, max-age=9, stale-while-revalidate=9\r\nETag: "         \
  "\"a\"\r\n"
static const struct {
  const char *request, *response;
} ruled[] = {
    {"GET / HTTP/1.1\r\n" HOST "Accept-Encoding: gzip\r\n\r\n",
     OK TEXT "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nT: 1\r\n\r\n"},
    {"GET / HTTP/1.1\r\n" HOST "Accept-Encoding: br\r\nX: 1\r\n\r\n",
     OK TEXT "Vary: X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
    {"GET / HTTP/1.1\r\n" HOST "Origin: https://a.test\r\n\r\n", OK TEXT "Content-Length: 5\r\n\r\nhello"},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\n123456789",
     OK TEXT "Content-Length: 5\r\n\r\nhello"},
};

/* The first request fills the cache, the second is answered by it, the third finds it stale. */
static bool dialogue_ruled(size_t i, enum rig_way way, long n) {
  struct beam_http_policy c = BEAM_HTTP_POLICY_INIT;
  struct beam_error e = BEAM_ERROR_INIT;
  struct rig *r = rig_new(way);
  c.cache = 1 << 20;
  c.cors = "https://a.test";
  c.request_headers = "X-A: b";
  c.response_headers = "X-B: c\nServer:";
  c.max_body = 8;
  assert_int_equal(policy_new(&c, &r->policy, &e), 0);
  count = 0;
  for (int turn = 0; turn < 3 && r->front; turn++) {
    peer_say(&r->visitor, ruled[i].request);
    fail_at = n;
    rig_run(r);
    fail_at = 0;
    if (r->dials && !r->service[r->dials - 1].dead) {
      rig_calm++;
      peer_say(&r->service[r->dials - 1], ruled[i].response);
      rig_calm--;
      fail_at = n;
      rig_run(r);
      fail_at = 0;
    }
    rig_wait(r, turn ? 0 : 9000);
  }
  bool more = count >= n;
  struct policy *p = r->policy;
  rig_free(r);
  policy_unref(p);
  return more;
}

static void every_allocation_ruled(void **state) {
  (void)state;
#if !INTERPOSE
  print_message("skipped: a sanitizer owns malloc\n");
#endif
  for (size_t i = 0; INTERPOSE && i < ROWS(ruled); i++)
    for (enum rig_way way = DIRECT; way <= FRAMES; way++) {
      dialogue_ruled(i, way, 1000000);
      long before = live, n = 1;
      for (; n < 2000; n++) {
        bool more = dialogue_ruled(i, way, n);
        if (live != before)
          fail_msg("row %zu, way %d, allocation %ld: %ld left", i, (int)way, n, live - before);
        if (!more)
          break;
      }
      assert_true(n > 3 && n < 2000);
    }
}

/* --- the same towards a service over HTTP/2, whose every frame is written down here --- */

#define FRAME(n, type, flags, id) 0, 0, n, type, flags, 0, 0, 0, id
static const uint8_t settings[] = {FRAME(0, 4, 0, 0)};
static const uint8_t answer[] = {FRAME(4, 1, 0, 1), 0x08, 3,   '1', '0',       /* in two pieces: 103 */
                                 FRAME(1, 9, 4, 1), '3',                       /* CONTINUATION */
                                 FRAME(1, 1, 4, 1), 0x88,                      /* 200 */
                                 FRAME(5, 0, 0, 1), 'h',  'e', 'l', 'l', 'o',  /* DATA */
                                 FRAME(5, 1, 5, 1), 0,    1,   't', 1,   '1'}; /* trailers */
static const uint8_t refused[] = {FRAME(4, 3, 0, 1), 0, 0, 0, 7, FRAME(8, 7, 0, 0), 0, 0, 0, 0, 0, 0, 0, 0};

static bool dialogue2(size_t i, enum rig_way way, long n, bool refuses) {
  struct rig *r = rig_new(way);
  rig_over2(r, true);
  count = 0;
  peer_say(&r->visitor, rows[i].request);
  fail_at = n;
  rig_run(r);
  fail_at = 0;
  for (unsigned k = 0; k < 2; k++) { /* the second over the connection that a refused one gets */
    struct peer *p = &r->service[k];
    if (k >= r->dials || p->dead || p->ended)
      continue;
    rig_calm++;
    peer_put(p, settings, sizeof settings);
    if (refuses && !k)
      peer_put(p, refused, sizeof refused);
    else
      peer_put(p, answer, sizeof answer);
    rig_calm--;
    fail_at = n;
    rig_run(r);
    fail_at = 0;
  }
  bool more = count >= n;
  if (!more && (i == 0 || (i == 1 && !refuses))) /* nothing failed: that is how it should be */
    assert_non_null(strstr(peer_text(&r->visitor), "hello"));
  rig_free(r);
  return more;
}

static void every_allocation_2(void **state) {
  (void)state;
#if !INTERPOSE
  print_message("skipped: a sanitizer owns malloc\n");
#endif
  for (size_t i = 0; INTERPOSE && i < 4;
       i++) /* the last of these asks for an upgrade, which goes over HTTP/1.1 */
    for (enum rig_way way = DIRECT; way <= FRAMES; way++)
      for (int refuses = 0; refuses < 2; refuses++) {
        dialogue2(i, way, 1000000, refuses);
        long before = live;
        long n = 1;
        for (; n < 1000; n++) {
          bool more = dialogue2(i, way, n, refuses);
          assert_int_equal(live, before);
          if (!more)
            break;
        }
        assert_true(n > 3 && n < 1000);
      }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation),
                                     cmocka_unit_test(every_allocation_ruled),
                                     cmocka_unit_test(every_allocation_2)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
