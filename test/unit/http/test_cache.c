#include "rig.h"

#include "http/cache.h"
#include "http/cache_rules.h"

/* "GET Name: value|Name: value", or a status instead of the method. */
static void parse(const char *text, struct http_head *h, struct http_field *fields) {
  memset(h, 0, sizeof *h);
  size_t n = strcspn(text, " ");
  h->status = (uint16_t)atoi(text);
  h->scheme = SPAN("https");
  h->authority = SPAN("shop.t.test");
  h->target = SPAN("/a/b?c");
  if (!h->status)
    h->method = (struct span){text, n};
  h->fields = fields;
  for (const char *p = text + n; *p;) {
    p++;
    size_t all = strcspn(p, "|"), name = strcspn(p, ":");
    if (all > name)
      fields[h->fields_n++] = (struct http_field){{p, name}, {p + name + 2, all - name - 2}};
    p += all;
  }
}

static void wishes(void **state) {
  (void)state;
  static const struct {
    const char *request;
    enum cache_wish want;
  } table[] = {
      {"GET", CACHE_USE},
      {"HEAD", CACHE_USE},
      {"POST", CACHE_BYPASS},
      {"OPTIONS", CACHE_BYPASS},
      {"get", CACHE_BYPASS},
      {"GET Cache-Control: no-cache", CACHE_REFRESH},
      {"GET Cache-Control: max-age=0", CACHE_REFRESH},
      {"GET Cache-Control: max-age=60", CACHE_USE},
      {"GET Cache-Control: foo, No-Cache", CACHE_REFRESH},
      {"GET Cache-Control: no-cached", CACHE_USE},
      {"GET Pragma: no-cache", CACHE_REFRESH},
      {"GET Pragma: no-cache|Cache-Control: max-age=60", CACHE_USE},
      {"GET Cache-Control: no-store", CACHE_BYPASS},
      {"GET Range: bytes=0-1", CACHE_BYPASS},
      {"GET Upgrade: websocket", CACHE_BYPASS},
      {"GET If-Match: \"x\"", CACHE_BYPASS},
      {"GET If-None-Match: \"x\"", CACHE_USE},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct http_head h;
    struct http_field f[4];
    parse(table[i].request, &h, f);
    if (cache_wish_of(&h, false) != table[i].want)
      fail_msg("%s", table[i].request);
    assert_int_equal(cache_wish_of(&h, true), CACHE_BYPASS);
  }
  assert_true(cache_is_unsafe(SPAN("POST")) && cache_is_unsafe(SPAN("PURGE")));
  assert_false(cache_is_unsafe(SPAN("GET")) || cache_is_unsafe(SPAN("OPTIONS")));
}

static void terms(void **state) {
  (void)state;
  static const struct {
    const char *response;
    bool keep;
    uint32_t fresh, stale, age;
    bool strict;
  } table[] = {
      {"200 Cache-Control: public, max-age=60", true, 60, 0, 0, false},
      {"200 Cache-Control: public|Cache-Control: max-age=60", true, 60, 0, 0, false},
      {"200 Cache-Control: PUBLIC,MAX-AGE=\"60\"", true, 60, 0, 0, false},
      {"200 Cache-Control: public, max-age=60, s-maxage=5", true, 5, 0, 0, true},
      {"200 Cache-Control: s-maxage=5", true, 5, 0, 0, true},
      {"200 Cache-Control: public, max-age=60, stale-while-revalidate=30", true, 60, 30, 0, false},
      {"200 Cache-Control: public, max-age=0, stale-while-revalidate=30", true, 0, 30, 0, false},
      {"200 Cache-Control: public, max-age=60, must-revalidate", true, 60, 0, 0, true},
      {"200 Cache-Control: public, max-age=99999999999999999999", false, 0, 0, 0, false},
      {"200 Cache-Control: public, max-age=4294967296", true, LIMIT_CACHE_SECONDS, 0, 0, false},
      {"200 Cache-Control: public, max-age=60|Age: 59", true, 60, 0, 59, false},
      {"200 Cache-Control: public, max-age=60|Age: 60", false, 60, 0, 60, false},
      {"200 Cache-Control: public, max-age=60|Age: x", true, 60, 0, 0, false},
      {"200 Cache-Control: public, max-age=-1", false, 0, 0, 0, false},
      {"200 Cache-Control: public, max-age=", false, 0, 0, 0, false},
      {"200 Cache-Control: public, max-age", false, 0, 0, 0, false},
      {"200 Cache-Control: max-age=60", false, 60, 0, 0, false},
      {"200 Cache-Control: public", false, 0, 0, 0, false},
      {"200 Cache-Control: public, max-age=60, private=\"a, b\"", false, 60, 0, 0, false},
      {"200 Cache-Control: public, max-age=60, no-cache=\"x\"", false, 60, 0, 0, false},
      {"200 Cache-Control: public, max-age=60|Set-Cookie: a=b", false, 60, 0, 0, false},
      {"200 Cache-Control: public, max-age=60|Vary: accept, *", false, 60, 0, 0, false},
      {"206 Cache-Control: public, max-age=60", false, 60, 0, 0, false},
      {"302 Cache-Control: public, max-age=60", false, 60, 0, 0, false},
      {"500 Cache-Control: public, max-age=60", false, 60, 0, 0, false},
      {"301 Cache-Control: public, max-age=60", true, 60, 0, 0, false},
      {"200 Content-Range: bytes 0-1/2|Cache-Control: public, max-age=60", false, 60, 0, 0, false},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct http_head h;
    struct http_field f[4];
    struct cache_terms t;
    parse(table[i].response, &h, f);
    cache_terms_of(true, &h, &t);
    if (t.keep != table[i].keep || t.fresh_s != table[i].fresh || t.stale_s != table[i].stale ||
        t.age_s != table[i].age || t.strict != table[i].strict)
      fail_msg("%s: %d %u %u %u %d", table[i].response, t.keep, t.fresh_s, t.stale_s, t.age_s, t.strict);
    cache_terms_of(false, &h, &t);
    assert_false(t.keep);
  }
}

static void conditions(void **state) {
  (void)state;
  static const struct {
    const char *request, *kept;
    bool same;
  } table[] = {
      {"GET If-None-Match: \"a\"", "200 ETag: \"a\"", true},
      {"GET If-None-Match: \"b\", W/\"a\"", "200 ETag: \"a\"", true},
      {"GET If-None-Match: \"a\"", "200 ETag: W/\"a\"", true},
      {"GET If-None-Match: *", "200 ETag: \"a\"", true},
      {"GET If-None-Match: \"b\"", "200 ETag: \"a\"", false},
      {"GET If-None-Match: \"a", "200 ETag: \"a\"", false},
      {"GET If-None-Match: \"a\"", "200 X: y", false},
      {"GET If-None-Match: \"b\"|If-Modified-Since: D", "200 ETag: \"a\"|Last-Modified: D", false},
      {"GET If-Modified-Since: D", "200 Last-Modified: D", true},
      {"GET If-Modified-Since: D", "200 Last-Modified: E", false},
      {"GET If-None-Match: \"a\"", "404 ETag: \"a\"", false},
      {"GET", "200 ETag: \"a\"", false},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct http_head request, kept;
    struct http_field f[4], g[4];
    parse(table[i].request, &request, f);
    parse(table[i].kept, &kept, g);
    if (cache_not_modified(&request, &kept) != table[i].same)
      fail_msg("%s, %s", table[i].request, table[i].kept);
  }
}

/* --- the filter between two ends of our own --- */

struct fake {
  struct http_end end;
  struct evbuffer *got;
  char status[80]; /* Cache-Status, or the method of a request */
  bool head, ended, aborted;
};

static void f_head(struct http_end *e, const struct http_head *h, bool more) {
  struct fake *f = (struct fake *)e;
  const struct http_field *s = http_field_find(h, "cache-status");
  f->head = true;
  f->ended = !more;
  str_fmt(f->status, sizeof f->status, "%.*s", SPAN_FMT(s ? s->value : h->method));
}
static size_t f_room(struct http_end *e) {
  (void)e;
  return 1000;
}
static size_t f_body(struct http_end *e, struct evbuffer *from, size_t n) {
  return (size_t)evbuffer_remove_buffer(from, ((struct fake *)e)->got, n);
}
static void f_none(struct http_end *e) {
  (void)e;
}
static void f_fields(struct http_end *e, const struct http_head *h) {
  (void)e, (void)h;
}
static void f_end(struct http_end *e) {
  ((struct fake *)e)->ended = true;
}
static void f_abort(struct http_end *e, enum page page) {
  (void)page;
  ((struct fake *)e)->aborted = true;
}
static const struct http_end_ops fake_ops = {"fake",   f_head, f_fields, f_room,  f_body,
                                             f_fields, f_end,  f_none,   f_abort, f_none};

struct scene {
  struct loop *loop;
  struct cache *cache;
  struct fake front, up;
};

/* One exchange begins: its request is with the cache. */
static void ask(struct scene *s, const char *request) {
  struct http_head h;
  struct http_field f[4];
  struct fake *both[] = {&s->front, &s->up};
  for (int i = 0; i < 2; i++) {
    if (both[i]->got)
      evbuffer_free(both[i]->got);
    memset(both[i], 0, sizeof *both[i]);
    both[i]->end.ops = &fake_ops;
    both[i]->got = evbuffer_new();
  }
  parse(request, &h, f);
  http_join(&s->front.end, &s->up.end);
  assert_int_equal(cache_join(s->cache, s->loop, &s->front.end, &h), 0);
  http_send_head(&s->front.end, &h, false);
  loop_run_for(s->loop, 0);
}

static void say(struct scene *s, const char *head, const char *body, bool end) {
  struct http_head h;
  struct http_field f[4];
  parse(head, &h, f);
  http_send_head(&s->up.end, &h, body != NULL);
  struct evbuffer *b = evbuffer_new();
  if (body)
    evbuffer_add(b, body, strlen(body));
  while (evbuffer_get_length(b) && http_send_body(&s->up.end, b, evbuffer_get_length(b)))
    ;
  evbuffer_free(b);
  if (body && end)
    http_send_end(&s->up.end);
  loop_run_for(s->loop, 0);
}

static const char *text(struct scene *s) {
  evbuffer_add(s->front.got, "", 1);
  return (const char *)evbuffer_pullup(s->front.got, -1);
}

static void scene_new(struct scene *s) {
  memset(s, 0, sizeof *s);
  assert_int_equal(loop_new_virtual(&s->loop), 0);
  assert_int_equal(cache_new(4 << 20, &s->cache), 0);
}

static void scene_free(struct scene *s) {
  loop_run_for(s->loop, 0);
  evbuffer_free(s->front.got);
  evbuffer_free(s->up.got);
  cache_unref(s->cache);
  loop_free(s->loop);
}

#define LIVES "200 Cache-Control: public, max-age=60"

static void life(void **state) {
  (void)state;
  struct scene s;
  scene_new(&s);
  ask(&s, "GET");
  assert_true(s.up.head);
  say(&s, LIVES, "hello", true);
  assert_string_equal(s.front.status, "Beam; fwd=miss");
  assert_string_equal(text(&s), "hello");
  loop_run_for(s.loop, 59999);
  ask(&s, "GET");
  assert_true(s.up.aborted && !s.up.head); /* it never heard of it */
  assert_string_equal(s.front.status, "Beam; hit");
  assert_string_equal(text(&s), "hello");
  loop_run_for(s.loop, 1);
  ask(&s, "GET");
  assert_true(s.up.head && !s.front.head); /* a minute is over */
  say(&s, LIVES, "other", true);
  ask(&s, "GET");
  assert_string_equal(text(&s), "other");
  struct cache_counts n;
  cache_count(s.cache, &n);
  assert_int_equal(n.responses, 1);
  assert_int_equal(n.hits, 2);
  assert_int_equal(n.misses, 2);
  assert_int_equal(cache_purge(s.cache, "/b"), 0);
  assert_int_equal(cache_purge(s.cache, "/a/bb"), 0);
  assert_int_equal(cache_purge(s.cache, "/a"), 1);
  cache_count(s.cache, &n);
  assert_int_equal(n.bytes + n.responses, 0);
  scene_free(&s);
}

/* Whoever leaves, whenever: nothing half is kept, and no byte stays charged. */
static void aborted(void **state) {
  (void)state;
  struct cache_counts n;
  for (int who = 0; who < 4; who++) {
    struct scene s;
    scene_new(&s);
    ask(&s, "GET");
    if (who)
      say(&s, LIVES, "half", false);
    http_send_abort(who & 1 ? &s.up.end : &s.front.end, PAGE_VISITOR_GONE);
    loop_run_for(s.loop, 0);
    assert_true(who & 1 ? s.front.aborted : s.up.aborted);
    cache_count(s.cache, &n);
    assert_int_equal(n.bytes + n.responses, 0);
    scene_free(&s);
  }
}

/* Stale, and asked behind the visitor's back: by one alone, and again if that failed. */
static void behind(void **state) {
  (void)state;
  struct scene s;
  struct cache_counts n;
  scene_new(&s);
  ask(&s, "GET");
  say(&s, "200 ETag: \"x\"|Cache-Control: public, max-age=1, stale-while-revalidate=60", "one", true);
  loop_run_for(s.loop, 2000);
  ask(&s, "HEAD");
  assert_string_equal(s.front.status, "Beam; hit");
  assert_true(s.front.ended && s.up.head && !s.up.aborted);
  assert_string_equal(s.up.status, "GET");
  http_send_abort(&s.up.end, PAGE_LOCAL_CLOSED); /* it failed: that is nobody's concern */
  loop_run_for(s.loop, 0);
  ask(&s, "GET");
  assert_string_equal(text(&s), "one");
  assert_true(s.up.head);
  say(&s, "304", NULL, true);
  cache_count(s.cache, &n);
  assert_int_equal(n.revalidated, 1);
  ask(&s, "GET"); /* fresh again, on the old terms */
  assert_false(s.up.head);
  loop_run_for(s.loop, 2000);
  ask(&s, "GET");
  say(&s, "200 Cache-Control: no-store", "two", true); /* it is no longer for everybody */
  ask(&s, "GET");
  assert_true(s.up.head && !s.front.head);
  http_send_abort(&s.front.end, PAGE_VISITOR_GONE);
  cache_count(s.cache, &n);
  assert_int_equal(n.bytes + n.responses, 0);
  scene_free(&s);
}

/* The cache's owner goes while an answer is on its way. */
static void outlived(void **state) {
  (void)state;
  struct scene s;
  scene_new(&s);
  ask(&s, "GET");
  say(&s, LIVES, "hello", true);
  ask(&s, "GET");
  cache_unref(s.cache);
  assert_string_equal(text(&s), "hello");
  assert_int_equal(cache_new(1 << 20, &s.cache), 0);
  scene_free(&s);
}

static void variants(void **state) {
  (void)state;
  struct scene s;
  struct cache_counts n;
  scene_new(&s);
  for (int i = 0; i < 20; i++) {
    char request[40];
    str_fmt(request, sizeof request, "GET X: %d", i);
    ask(&s, request);
    say(&s, LIVES "|Vary: X", "body", true);
  }
  cache_count(s.cache, &n);
  assert_int_equal(n.responses, LIMIT_CACHE_VARIANTS);
  ask(&s, "GET X: 19");
  assert_string_equal(s.front.status, "Beam; hit");
  ask(&s, "GET X: 0");
  assert_false(s.front.head);
  http_send_abort(&s.front.end, PAGE_VISITOR_GONE);
  scene_free(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(wishes),     cmocka_unit_test(terms),
                                     cmocka_unit_test(conditions), cmocka_unit_test(life),
                                     cmocka_unit_test(aborted),    cmocka_unit_test(behind),
                                     cmocka_unit_test(outlived),   cmocka_unit_test(variants)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
