/* The whole path of exchanges: visitor, front, upstream, local service; directly, and with frames between relay and agent. */
#include "rig.h"

#define HOST "Host: t.test\r\n"
#define OK "HTTP/1.1 200 OK\r\n"

/* --- one exchange: request in, what the service sees, what it says, what the visitor sees --- */

static const struct {
  const char *name, *request, *seen, *response, *got;
  bool close_service; /* after the response */
  bool open;          /* the visitor's connection stays */
  bool reset;         /* the visitor's connection is reset */
  unsigned idle;      /* the service's connection is kept */
} rows[] = {
    {"get", "GET /x?y HTTP/1.1\r\n" HOST "Accept: a/b\r\n\r\n",
     "GET /x?y HTTP/1.1\r\n" HOST "Accept: a/b\r\n\r\n", OK "Content-Length: 2\r\nX: 1\r\n\r\nhi",
     OK "Content-Length: 2\r\nX: 1\r\n\r\nhi", .open = true, .idle = 1},
    {"empty response", "GET / HTTP/1.1\r\n" HOST "\r\n", "GET / HTTP/1.1\r\n" HOST "\r\n",
     OK "Content-Length: 0\r\n\r\n", OK "Content-Length: 0\r\n\r\n", .open = true, .idle = 1},
    {"head", "HEAD / HTTP/1.1\r\n" HOST "\r\n", "HEAD / HTTP/1.1\r\n" HOST "\r\n",
     OK "Content-Length: 9\r\n\r\n", OK "Content-Length: 9\r\n\r\n", .open = true, .idle = 1},
    {"204", "GET / HTTP/1.1\r\n" HOST "\r\n", "GET / HTTP/1.1\r\n" HOST "\r\n",
     "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n", .open = true, .idle = 1},
    {"304 keeps its length", "GET / HTTP/1.1\r\n" HOST "\r\n", "GET / HTTP/1.1\r\n" HOST "\r\n",
     "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
     "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", .open = true, .idle = 1},
    {"chunked response", "GET / HTTP/1.1\r\n" HOST "\r\n", "GET / HTTP/1.1\r\n" HOST "\r\n",
     OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
     OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", .open = true, .idle = 1},
    {"trailers", "GET / HTTP/1.1\r\n" HOST "\r\n", "GET / HTTP/1.1\r\n" HOST "\r\n",
     OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n",
     OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n", .open = true, .idle = 1},
    {"until close becomes chunked", "GET / HTTP/1.1\r\n" HOST "\r\n", "GET / HTTP/1.1\r\n" HOST "\r\n",
     "HTTP/1.0 200 OK\r\n\r\nabc", OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
     .close_service = true, .open = true},
    {"http/1.0 visitor, chunked service", "GET / HTTP/1.0\r\n" HOST "\r\n", "GET / HTTP/1.1\r\n" HOST "\r\n",
     OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", OK "Connection: close\r\n\r\nabc",
     .idle = 1},
    {"http/1.0 visitor keeps alive", "GET / HTTP/1.0\r\n" HOST "Connection: keep-alive\r\n\r\n",
     "GET / HTTP/1.1\r\n" HOST "\r\n", OK "Content-Length: 1\r\n\r\na",
     OK "Content-Length: 1\r\nConnection: keep-alive\r\n\r\na", .open = true, .idle = 1},
    {"http/1.0 without keep-alive", "GET / HTTP/1.0\r\n" HOST "\r\n", "GET / HTTP/1.1\r\n" HOST "\r\n",
     OK "Content-Length: 1\r\n\r\na", OK "Content-Length: 1\r\nConnection: close\r\n\r\na", .idle = 1},
    {"visitor closes", "GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n",
     "GET / HTTP/1.1\r\n" HOST "\r\n", OK "Content-Length: 1\r\n\r\na",
     OK "Content-Length: 1\r\nConnection: close\r\n\r\na", .idle = 1},
    {"service closes", "GET / HTTP/1.1\r\n" HOST "\r\n", "GET / HTTP/1.1\r\n" HOST "\r\n",
     OK "Content-Length: 1\r\nConnection: close\r\n\r\na", OK "Content-Length: 1\r\n\r\na", .open = true},
    {"post with length", "POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc",
     "POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", OK "Content-Length: 0\r\n\r\n",
     OK "Content-Length: 0\r\n\r\n", .open = true, .idle = 1},
    {"post without a body", "POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n",
     "POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", OK "Content-Length: 0\r\n\r\n",
     OK "Content-Length: 0\r\n\r\n", .open = true, .idle = 1},
    {"post chunked",
     "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nT: 1\r\n\r\n",
     "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nT: 1\r\n\r\n",
     OK "Content-Length: 0\r\n\r\n", OK "Content-Length: 0\r\n\r\n", .open = true, .idle = 1},
    {"hop-by-hop fields stay",
     "GET / HTTP/1.1\r\n" HOST "Connection: keep-alive, X-Hop, Host\r\nX-Hop: 1\r\nTE: "
     "trailers\r\nKeep-Alive: 1\r\nProxy-Connection: a\r\nA: 1\r\n\r\n",
     "GET / HTTP/1.1\r\n" HOST "A: 1\r\n\r\n",
     OK "Connection: keep-alive, Y-Hop\r\nY-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\nB: "
        "1\r\n\r\n",
     OK "Content-Length: 0\r\nB: 1\r\n\r\n", .open = true, .idle = 1},
    {"absolute target", "GET http://t.test/p HTTP/1.1\r\n" HOST "\r\n", "GET /p HTTP/1.1\r\n" HOST "\r\n",
     OK "Content-Length: 0\r\n\r\n", OK "Content-Length: 0\r\n\r\n", .open = true, .idle = 1},
    {"informational", "GET / HTTP/1.1\r\n" HOST "\r\n", "GET / HTTP/1.1\r\n" HOST "\r\n",
     "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" OK "Content-Length: 1\r\n\r\na",
     "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" OK "Content-Length: 1\r\n\r\na", .open = true,
     .idle = 1},
    {"informational is not for http/1.0", "GET / HTTP/1.0\r\n" HOST "\r\n", "GET / HTTP/1.1\r\n" HOST "\r\n",
     "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" OK "Content-Length: 1\r\n\r\na",
     OK "Content-Length: 1\r\nConnection: close\r\n\r\na", .idle = 1},
    {"short body", "GET / HTTP/1.1\r\n" HOST "\r\n", "GET / HTTP/1.1\r\n" HOST "\r\n",
     OK "Content-Length: 9\r\n\r\nabc", OK "Content-Length: 9\r\n\r\nabc", .close_service = true,
     .reset = true},
    {"chunked body cut", "GET / HTTP/1.1\r\n" HOST "\r\n", "GET / HTTP/1.1\r\n" HOST "\r\n",
     OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
     .close_service = true, .reset = true},
    {"chunked body broken", "GET / HTTP/1.1\r\n" HOST "\r\n", "GET / HTTP/1.1\r\n" HOST "\r\n",
     OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabcX", OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
     .reset = true},
    {"upgrade refused", "GET / HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
     "GET / HTTP/1.1\r\n" HOST "Upgrade: websocket\r\nConnection: upgrade\r\n\r\n",
     OK "Content-Length: 1\r\n\r\na", OK "Content-Length: 1\r\n\r\na", .open = true, .idle = 1},
    {"upgrade to h2c is not passed on",
     "GET / HTTP/1.1\r\n" HOST
     "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
     "GET / HTTP/1.1\r\n" HOST "\r\n", OK "Content-Length: 1\r\n\r\na", OK "Content-Length: 1\r\n\r\na",
     .open = true, .idle = 1},
    {"early answer to an upload", "POST / HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\nabc",
     "POST / HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\nabc",
     "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n",
     "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", .open = false},
    {"early answer with a body", "POST / HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\nabc",
     "POST / HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\nabc",
     "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
     "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", .open = false},
    {"expected body refused", "POST / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n",
     "POST / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n",
     "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno",
     "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno", .open = false},
};

static unsigned idle_services(struct rig *r) {
  unsigned n = 0;
  for (unsigned i = 0; i < r->dials; i++)
    n += !r->service[i].ended && !r->service[i].dead;
  return n;
}

static void check_row(size_t i, enum rig_way way) {
  struct rig *r = rig_new(way);
  peer_say(&r->visitor, rows[i].request);
  rig_run(r);
  assert_int_equal(r->dials, 1);
  assert_string_equal(peer_text(&r->service[0]), rows[i].seen);
  peer_say(&r->service[0], rows[i].response);
  if (rows[i].close_service)
    peer_finish(&r->service[0]);
  rig_run(r);
  assert_string_equal(peer_text(&r->visitor), rows[i].got);
  assert_int_equal(r->front != NULL, rows[i].open);
  assert_int_equal(r->visitor.dead, rows[i].reset);
  assert_int_equal(r->visitor.ended, !rows[i].open && !rows[i].reset);
  if (!rows[i].close_service)
    assert_int_equal(idle_services(r), rows[i].idle);
  assert_int_equal(r->records, 1);
  assert_int_equal(r->last.failed, rows[i].reset ? PAGE_TRUNCATED : 0);
  assert_int_equal(r->gone, way == FRAMES);
  rig_free(r);
}

static void exchanges(void **state) {
  (void)state;
  for (size_t i = 0; i < ROWS(rows); i++)
    for (enum rig_way way = DIRECT; way <= FRAMES; way++) {
      print_message("[         ] %s, %s\n", rows[i].name, way ? "frames" : "direct");
      check_row(i, way);
    }
}

/* --- every split of the bytes gives the same --- */

/* Chunk boundaries are not kept: compare what a client would decode. */
static void decode_chunks(char *text) {
  char *body = strstr(text, "\r\n\r\n");
  if (!body || !strstr(text, "chunked"))
    return;
  char *out = body += 4, *p = body;
  for (unsigned long n; (n = strtoul(p, &p, 16)); p += n + 4) {
    memmove(out, p + 2, n);
    out += n;
  }
  *out++ = '|';
  memmove(out, p, strlen(p) + 1);
}

static void split_row(size_t i, enum rig_way way) {
  static char got[4096], want[4096];
  const char *q = rows[i].request, *a = rows[i].response;
  struct rig *r = rig_new(way);
  for (; *q; q++) {
    peer_put(&r->visitor, q, 1);
    rig_run(r);
  }
  str_copy(got, sizeof got, peer_text(&r->service[0]));
  str_copy(want, sizeof want, rows[i].seen);
  decode_chunks(got);
  decode_chunks(want);
  assert_string_equal(got, want);
  for (; *a; a++) {
    peer_put(&r->service[0], a, 1);
    rig_run(r);
  }
  if (rows[i].close_service)
    peer_finish(&r->service[0]);
  rig_run(r);
  str_copy(got, sizeof got, peer_text(&r->visitor));
  str_copy(want, sizeof want, rows[i].got);
  if (!rows[i].reset) {
    decode_chunks(got);
    decode_chunks(want);
    assert_string_equal(got, want);
  }
  assert_int_equal(r->front != NULL, rows[i].open);
  assert_int_equal(r->visitor.dead, rows[i].reset);
  rig_free(r);
}

static void byte_by_byte(void **state) {
  (void)state;
  for (size_t i = 0; i < ROWS(rows); i++)
    for (enum rig_way way = DIRECT; way <= FRAMES; way++)
      split_row(i, way);
}

/* --- either side goes away after any byte: nothing leaks, nothing hangs --- */

enum loss { VISITOR_RESETS, VISITOR_ENDS, SERVICE_RESETS, SERVICE_ENDS, FRONT_ABORTS, POOL_FREED, LOSSES };

static void lose(struct rig *r, enum loss loss) {
  struct peer *service = &r->service[0];
  switch (loss) {
  case VISITOR_RESETS:
    peer_reset(&r->visitor);
    break;
  case VISITOR_ENDS:
    peer_finish(&r->visitor);
    break;
  case SERVICE_RESETS:
    if (service->s)
      peer_reset(service);
    break;
  case SERVICE_ENDS:
    if (service->s)
      peer_finish(service);
    break;
  case FRONT_ABORTS:
    if (r->front)
      front_abort(r->front, BEAM_ERR_CLOSED);
    r->front = NULL;
    break;
  default:
    h1_pool_free(r->pool);
    r->pool = NULL;
  }
}

/* The dialogue of a row, cut after `cut` bytes; false: it was over before. */
static bool cut_row(size_t i, enum rig_way way, enum loss loss, size_t cut) {
  const char *text[2] = {rows[i].request, rows[i].response};
  struct rig *r = rig_new(way);
  size_t said = 0;
  for (int side = 0; side < 2; side++)
    for (const char *p = text[side]; *p && said < cut; p++, said++) {
      struct peer *who = side ? &r->service[0] : &r->visitor;
      if (who->s && !who->dead)
        peer_put(who, p, 1);
      rig_run(r);
    }
  lose(r, loss);
  rig_run(r);
  if (loss == VISITOR_RESETS || loss == FRONT_ABORTS) {
    assert_null(r->front);
    assert_int_equal(r->gone, way == FRAMES && r->heads);
    if (r->records && r->last.failed == PAGE_VISITOR_GONE && r->dials)
      assert_true(r->service[0].dead); /* it need not go on for nobody */
  }
  if (loss == POOL_FREED)
    for (unsigned k = 0; k < r->dials; k++)
      assert_true(r->service[k].ended || r->service[k].dead);
  if (loss == POOL_FREED) { /* rig_free frees another */
    struct h1_pool_conf pool = {&r->net, r->loop, "localhost", 3000, NULL};
    if (r->front)
      front_abort(r->front, BEAM_ERR_CLOSED);
    r->front = NULL;
    rig_run(r);
    assert_int_equal(h1_pool_new(&pool, &r->pool), 0);
  }
  rig_free(r);
  return said == cut;
}

static void lost_after_any_byte(void **state) {
  (void)state;
  for (size_t i = 0; i < ROWS(rows); i++)
    for (enum rig_way way = DIRECT; way <= FRAMES; way++)
      for (enum loss loss = 0; loss < LOSSES; loss++)
        for (size_t cut = 0; cut_row(i, way, loss, cut); cut++)
          ;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(exchanges),
      cmocka_unit_test(byte_by_byte),
      cmocka_unit_test(lost_after_any_byte),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
