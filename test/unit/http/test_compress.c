#include "rig.h"

#include "http/compress.h"
#include "http/encoder.h"
#ifndef BEAM_NO_ZLIB
#include <zlib.h>
#endif

/* --- tables --- */

static void asked(void **state) {
  (void)state;
  static const struct {
    const char *accept, *want; /* b, g: taken; G: gzip rather */
  } table[] = {
      {NULL, ""},
      {"", ""},
      {"gzip, deflate, br, zstd", "bg"},
      {"gzip", "gG"},
      {"x-gzip", "gG"},
      {"GZIP;q=1", "gG"},
      {"br", "b"},
      {"br;q=0", ""},
      {"br;q=0, gzip;q=0.5", "gG"},
      {"br;q=0.5, gzip;q=0.8", "bgG"},
      {"br;q=0.8, gzip;q=0.5", "bg"},
      {"br;q=0.001", "b"},
      {"br;q=0.000", ""},
      {"*", "bg"},
      {"*;q=0", ""},
      {"*;q=0.5, br;q=0", "gG"},
      {"identity", ""},
      {"identity;q=0.5, gzip;q=0.4", ""},
      {"identity;q=0.5, gzip;q=0.5", "gG"},
      {"identity;q=0, gzip", "gG"},
      {"gzip;foo=1;q=0", ""},
      {"gzip ; q=0.7 , br ; q=0.2", "bgG"},
      {"gzip;q=nonsense", ""},
      {"gzip;q=1.5", ""},
      {"gzip;q=", ""},
      {"gzip;q=2", ""},
      {"gzip;q=0.12345", ""},
      {"brotli, gzipp, deflate", ""},
      {",,;;,gzip,", "gG"},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct http_field f = {SPAN("Accept-Encoding"), span_of(table[i].accept)};
    struct http_head h = {.fields = &f, .fields_n = table[i].accept != NULL};
    struct compress_facts c;
    char got[4] = "";
    compress_ask(&c, &h);
    str_fmt(got, sizeof got, "%s%s%s", c.brotli ? "b" : "", c.gzip ? "g" : "",
            c.gzip && c.gzip_first ? "G" : "");
    if (strcmp(got, table[i].want))
      fail_msg("\"%s\": %s", table[i].accept, got);
  }
}

/* Who asks in somebody else's name does not learn from the length. */
static void foreign(void **state) {
  (void)state;
  static const struct {
    const char *name, *site;
    bool forbidden;
  } table[] = {
      {"cookie", NULL, false},        {"cookie", "same-origin", false},      {"cookie", "none", false},
      {"cookie", "cross-site", true}, {"authorization", "cross-site", true}, {"cookie", "same-site", true},
      {"x", "cross-site", false},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct http_field f[] = {{span_of(table[i].name), SPAN("a=b")},
                             {SPAN("Accept-Encoding"), SPAN("br")},
                             {SPAN("Sec-Fetch-Site"), span_of(table[i].site)}};
    struct http_head h = {.fields = f, .fields_n = table[i].site ? 3 : 2};
    struct compress_facts c;
    compress_ask(&c, &h);
    assert_int_equal(c.forbidden, table[i].forbidden);
  }
}

/* "200 Name: value|Name: value" */
static void parse(const char *text, struct http_head *h, struct http_field *fields) {
  memset(h, 0, sizeof *h);
  h->status = (uint16_t)atoi(text);
  h->fields = fields;
  for (const char *p = text + 3; *p;) {
    p++;
    size_t n = strcspn(p, "|"), name = strcspn(p, ":");
    fields[h->fields_n++] = (struct http_field){{p, name}, {p + name + 2, n - name - 2}};
    p += n;
  }
}

static void fitting(void **state) {
  (void)state;
  static const struct {
    const char *head;
    bool fits;
  } table[] = {
      {"200 Content-Type: text/html", true},
      {"200 content-type: Text/HTML; charset=utf-8", true},
      {"404 Content-Type: text/html", true},
      {"500 Content-Type: application/json", true},
      {"200 Content-Type: application/problem+json", true},
      {"200 Content-Type: image/svg+xml", true},
      {"200 Content-Type: application/wasm", true},
      {"200 Content-Type: text/css|Content-Length: 1024", true},
      {"200 Content-Type: text/css|Content-Length: 1023", false},
      {"200 Content-Type: text/css|Content-Length: x", false},
      {"200 Content-Type: text/css|Content-Length: 2048|Content-Length: 2048", false},
      {"200 X: y", false},
      {"200 Content-Type: text/event-stream", false},
      {"200 Content-Type: text/event-stream; charset=utf-8", false},
      {"200 Content-Type: application/grpc", false},
      {"200 Content-Type: application/grpc+json", false},
      {"200 Content-Type: application/grpc-web-text", false},
      {"200 Content-Type: image/png", false},
      {"200 Content-Type: application/octet-stream", false},
      {"200 Content-Type: font/woff2", false},
      {"101 Content-Type: text/html", false},
      {"204 Content-Type: text/html", false},
      {"206 Content-Type: text/html", false},
      {"304 Content-Type: text/html", false},
      {"416 Content-Type: text/html|Content-Range: bytes */9", false},
      {"200 Content-Type: text/html|Content-Encoding: gzip", false},
      {"200 Content-Type: text/html|Content-Encoding: identity", false},
      {"200 Content-Type: text/html|Cache-Control: public, no-transform", false},
      {"200 Content-Type: text/html|Content-MD5: abc", false},
      {"200 Content-Type: text/html|Repr-Digest: abc", false},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct http_head h;
    struct http_field f[8];
    parse(table[i].head, &h, f);
    if (compress_fits(&h) != table[i].fits)
      fail_msg("%s", table[i].head);
  }
}

static void heads(void **state) {
  (void)state;
  static const struct {
    enum coding coding;
    const char *in, *out; /* NULL: as it is */
  } table[] = {
      {CODING_BROTLI, "200 A: b|Content-Length: 9999|ETag: \"x\"|Accept-Ranges: bytes",
       "A: b|ETag: W/\"x\"|Content-Encoding: br|Vary: Accept-Encoding"},
      {CODING_GZIP, "200 ETag: W/\"x\"|Vary: Cookie",
       "ETag: W/\"x\"|Vary: Cookie|Content-Encoding: gzip|Vary: Accept-Encoding"},
      {CODING_GZIP, "200 Vary: Cookie, accept-encoding",
       "Vary: Cookie, accept-encoding|Content-Encoding: gzip"},
      {CODING_GZIP, "200 Vary: *", "Vary: *|Content-Encoding: gzip"},
      {CODING_NONE, "200 Content-Length: 9999|ETag: \"x\"|Accept-Ranges: bytes",
       "Content-Length: 9999|ETag: \"x\"|Accept-Ranges: bytes|Vary: Accept-Encoding"},
      {CODING_NONE, "200 Vary: Accept-Encoding", NULL},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct http_head in, out = {0};
    struct http_field f[8];
    char got[400] = "";
    parse(table[i].in, &in, f);
    assert_int_equal(compress_head(table[i].coding, &in, &out), table[i].out != NULL);
    for (size_t k = 0; k < out.fields_n; k++) {
      size_t n = strlen(got);
      str_fmt(got + n, sizeof got - n, "%s%.*s: %.*s", k ? "|" : "", SPAN_FMT(out.fields[k].name),
              SPAN_FMT(out.fields[k].value));
    }
    if (table[i].out)
      assert_string_equal(got, table[i].out);
    http_head_free(&out);
  }
}

/* --- what encoders keep --- */

static size_t kept, peak;
static void *counted(size_t n) {
  size_t *p = malloc(n + 16);
  assert_non_null(p);
  *p = n;
  kept += n;
  peak = kept > peak ? kept : peak;
  return (char *)p + 16;
}
static void uncounted(void *p) {
  if (!p)
    return;
  size_t *at = (size_t *)(void *)((char *)p - 16);
  kept -= *at;
  free(at);
}

/* Text that is as hard as text gets: words of a small language, in no order. */
static void fill(char *p, size_t n) {
  static const char *const words[] = {"function ", "return ", "const ", "(", ") => ", "{\n",
                                      "}\n",       "value",   "; ",     "=", "index", "\"text\""};
  uint32_t x = 1;
  for (size_t i = 0; i < n;) {
    x = x * 1664525 + 1013904223;
    const char *w = words[(x >> 16) % ROWS(words)];
    for (; *w && i < n; w++)
      p[i++] = *w;
    if ((x >> 8) % 5 == 0 && i < n)
      p[i++] = (char)('a' + (x >> 24) % 26);
  }
}

static void memory(void **state) {
  (void)state;
  enum { ALL = 4 << 20 };
  char *text = malloc(ALL);
  fill(text, ALL);
  encoder_alloc = counted;
  encoder_release = uncounted;
  for (int which = 0; which < 4; which++) {
    struct encoder *e = NULL;
    int err = BEAM_ERR_UNSUPPORTED;
    struct evbuffer *out = evbuffer_new();
    kept = peak = 0;
#ifndef BEAM_NO_BROTLI
    if (which < 3)
      err = encoder_brotli(which == 1 ? ALL : which == 2 ? 2000 : 0, &e);
#endif
#ifndef BEAM_NO_ZLIB
    if (which == 3)
      err = encoder_gzip(&e);
#endif
    size_t all = which == 2 ? 2000 : ALL;
    for (size_t i = 0; !err && i < all; i += LIMIT_ENCODE_STEP) {
      size_t n = all - i < LIMIT_ENCODE_STEP ? all - i : LIMIT_ENCODE_STEP;
      assert_int_equal(e->ops->run(e, text + i, n, ENCODE_MORE, out), 0);
      if (i % 3 == 0)
        assert_int_equal(e->ops->run(e, NULL, 0, ENCODE_FLUSH, out), 0);
    }
    if (!err) {
      assert_int_equal(e->ops->run(e, NULL, 0, ENCODE_END, out), 0);
      assert_true(evbuffer_get_length(out) < all / 2);
      e->ops->free(e);
      assert_true(peak <= (which == 3 ? ENCODER_GZIP_BYTES : ENCODER_BROTLI_BYTES));
      assert_true(which != 2 || peak < 640 * 1024); /* small responses cost less */
    }
    assert_int_equal(kept, 0);
    evbuffer_free(out);
  }
  encoder_alloc = malloc;
  encoder_release = free;
  free(text);
}

#ifndef BEAM_NO_ZLIB
/* --- the filter between two ends of our own --- */

struct fake {
  struct http_end end;
  struct evbuffer *got;
  size_t room;
  unsigned wants, trailers;
  bool head, ended, aborted, coded;
};

static void f_head(struct http_end *e, const struct http_head *h, bool more) {
  struct fake *f = (struct fake *)e;
  (void)more;
  f->head = true;
  f->coded = http_field_find(h, "content-encoding") != NULL;
}
static size_t f_room(struct http_end *e) {
  return ((struct fake *)e)->room;
}
static size_t f_body(struct http_end *e, struct evbuffer *from, size_t n) {
  struct fake *f = (struct fake *)e;
  assert_true(n <= f->room);
  f->room -= n;
  return (size_t)evbuffer_remove_buffer(from, f->got, n);
}
static void f_trailers(struct http_end *e, const struct http_head *h) {
  ((struct fake *)e)->trailers += (unsigned)h->fields_n;
}
static void f_end(struct http_end *e) {
  ((struct fake *)e)->ended = true;
}
static void f_abort(struct http_end *e, enum page page) {
  (void)page;
  ((struct fake *)e)->aborted = true;
}
static void f_want(struct http_end *e) {
  ((struct fake *)e)->wants++;
}
static const struct http_end_ops fake_ops = {.kind = "fake",
                                             .head = f_head,
                                             .room = f_room,
                                             .body = f_body,
                                             .trailers = f_trailers,
                                             .end = f_end,
                                             .abort = f_abort,
                                             .want = f_want};

struct scene {
  struct loop *loop;
  struct encode_share share;
  struct fake front, up;
  unsigned gone;
  struct evbuffer *text; /* what the service still has to say */
  z_stream z;
  size_t decoded;
};

static void on_gone(void *owner) {
  ((struct scene *)owner)->gone++;
}

static void scene_new(struct scene *c, const char *accept) {
  memset(c, 0, sizeof *c);
  assert_int_equal(loop_new_virtual(&c->loop), 0);
  struct fake *both[] = {&c->front, &c->up};
  for (int i = 0; i < 2; i++) {
    both[i]->end.ops = &fake_ops;
    both[i]->got = evbuffer_new();
    both[i]->room = SIZE_MAX / 2;
  }
  c->text = evbuffer_new();
  assert_int_equal(inflateInit2(&c->z, 31), Z_OK);
  struct http_field f = {SPAN("Accept-Encoding"), span_of(accept)};
  struct http_head h = {.method = SPAN("GET"), .fields = &f, .fields_n = 1};
  http_join(&c->front.end, &c->up.end);
  assert_int_equal(compress_join(c->loop, &c->share, &c->front.end, &h, on_gone, c), 0);
  http_send_head(&c->front.end, &h, false);
}

static void answer(struct scene *c) {
  struct http_field f = {SPAN("Content-Type"), SPAN("text/plain")};
  struct http_head h = {.status = 200, .fields = &f, .fields_n = 1};
  http_send_head(&c->up.end, &h, true);
}

/* As an upstream does: while there is room, and again when it is wanted. */
static void pump(struct scene *c) {
  size_t n, room;
  while ((n = evbuffer_get_length(c->text)) && (room = http_room(&c->up.end)))
    http_send_body(&c->up.end, c->text, n < room ? n : room);
}

static void say(struct scene *c, size_t n) {
  char *p = malloc(n);
  fill(p, n);
  evbuffer_add(c->text, p, n);
  free(p);
  pump(c);
}

/* How much plain text the visitor has by now; *end: the coding is complete. */
static size_t decode(struct scene *c, bool *end) {
  size_t n = evbuffer_get_length(c->front.got);
  unsigned char plain[65536];
  c->z.next_in = evbuffer_pullup(c->front.got, -1);
  c->z.avail_in = (uInt)n;
  int r;
  do {
    c->z.next_out = plain;
    c->z.avail_out = sizeof plain;
    r = inflate(&c->z, Z_SYNC_FLUSH);
    c->decoded += sizeof plain - c->z.avail_out;
  } while (r == Z_OK && !c->z.avail_out);
  assert_true(r == Z_OK || r == Z_STREAM_END || r == Z_BUF_ERROR);
  evbuffer_drain(c->front.got, n - c->z.avail_in);
  *end = r == Z_STREAM_END;
  return c->decoded;
}

/* The virtual clock stands still: what is due in this turn and those right after it. */
static void run(struct scene *c) {
  for (unsigned i = 0; i < 1000; i++) {
    unsigned wants = c->up.wants;
    loop_run_for(c->loop, 0);
    loop_run_for(c->loop, 1);
    if (c->up.wants == wants)
      return;
    pump(c);
  }
}

static void scene_free(struct scene *c) {
  run(c);
  assert_int_equal(c->gone, 1);
  encode_share_fini(&c->share);
  inflateEnd(&c->z);
  evbuffer_free(c->text);
  evbuffer_free(c->front.got);
  evbuffer_free(c->up.got);
  loop_free(c->loop);
  assert_int_equal(compress_memory(), 0);
}

/* Each piece of the service is with the visitor, and can be read, before the next one. */
static void flushed(void **state) {
  (void)state;
  struct scene c;
  bool end;
  scene_new(&c, "gzip");
  answer(&c);
  assert_true(c.front.coded);
  for (size_t i = 1; i <= 5; i++) {
    say(&c, 100);
    run(&c);
    assert_int_equal(decode(&c, &end), 100 * i);
    assert_false(end || c.front.ended);
  }
  http_send_end(&c.up.end);
  assert_true(c.front.ended);
  decode(&c, &end);
  assert_true(end);
  scene_free(&c);
}

/* A visitor who takes little: nothing more is made, and nothing is lost. */
static void pressed(void **state) {
  (void)state;
  enum { ALL = 1 << 20 };
  struct scene c;
  bool end = false;
  scene_new(&c, "gzip");
  c.front.room = 0;
  answer(&c);
  say(&c, ALL);
  run(&c);
  assert_int_equal(evbuffer_get_length(c.text), ALL - LIMIT_ENCODE_STEP); /* one step, and it waits */
  assert_int_equal(http_room(&c.up.end), 0);
  for (unsigned i = 0; i < 5000 && evbuffer_get_length(c.text); i++) {
    c.front.room = 1000;
    http_send_want(&c.front.end);
    run(&c);
  }
  struct http_field f = {SPAN("X-After"), SPAN("1")};
  struct http_head trailers = {.fields = &f, .fields_n = 1};
  c.front.room = 0;
  http_send_trailers(&c.up.end, &trailers);
  http_send_end(&c.up.end);
  run(&c);
  assert_false(c.front.ended || c.front.trailers); /* behind the body that it has not taken */
  c.front.room = ALL;
  http_send_want(&c.front.end);
  run(&c);
  assert_true(c.front.ended);
  assert_int_equal(c.front.trailers, 1);
  assert_int_equal(decode(&c, &end), ALL);
  assert_true(end);
  scene_free(&c);
}

/* However fast it comes, a turn of the loop compresses no more than its share. */
static void shared(void **state) {
  (void)state;
  enum { ALL = 1 << 20 };
  struct scene c;
  bool end;
  scene_new(&c, "gzip");
  answer(&c);
  say(&c, ALL);
  assert_int_equal(evbuffer_get_length(c.text), ALL - LIMIT_ENCODE_TURN);
  unsigned turns = 1;
  while (evbuffer_get_length(c.text) && turns < 100) {
    size_t before = evbuffer_get_length(c.text);
    loop_run_for(c.loop, 0);
    loop_run_for(c.loop, 1);
    pump(&c);
    assert_true(before - evbuffer_get_length(c.text) <= 2 * LIMIT_ENCODE_TURN);
    turns++;
  }
  assert_true(turns >= ALL / LIMIT_ENCODE_TURN / 2);
  http_send_end(&c.up.end);
  run(&c);
  assert_int_equal(decode(&c, &end), ALL);
  assert_true(end && c.front.ended);
  scene_free(&c);
}

static void aborted(void **state) {
  (void)state;
  for (int who = 0; who < 2; who++) {
    struct scene c;
    scene_new(&c, "gzip");
    c.front.room = 10;
    answer(&c);
    say(&c, 50000);
    http_send_abort(who ? &c.up.end : &c.front.end, PAGE_TRUNCATED);
    run(&c);
    assert_true(who ? c.front.aborted : c.up.aborted);
    assert_false(c.front.ended);
    scene_free(&c);
  }
}

/* Memory for Brotli is used up first; then gzip is better than nothing, and then nothing. */
static void crowded(void **state) {
  (void)state;
  enum { MANY = 300 };
  static struct scene c[MANY];
  unsigned coded = 0;
  for (unsigned i = 0; i < MANY; i++) {
    scene_new(&c[i], "br, gzip");
    answer(&c[i]);
    coded += c[i].front.coded;
    assert_true(compress_memory() <= LIMIT_COMPRESS_BYTES);
  }
  assert_true(coded > 16 && coded < MANY);
  assert_false(c[MANY - 1].front.coded);
  for (unsigned i = 0; i < MANY; i++) {
    say(&c[i], 10);
    http_send_end(&c[i].up.end);
    run(&c[i]);
    assert_true(c[i].front.ended);
    if (!c[i].front.coded)
      assert_int_equal(evbuffer_get_length(c[i].front.got), 10);
  }
  for (unsigned i = 0; i < MANY; i++) {
    assert_int_equal(c[i].gone, 1);
    inflateEnd(&c[i].z);
    encode_share_fini(&c[i].share);
    evbuffer_free(c[i].text);
    evbuffer_free(c[i].front.got);
    evbuffer_free(c[i].up.got);
    loop_free(c[i].loop);
  }
  assert_int_equal(compress_memory(), 0);
}
#define FILTER                                                                                               \
  cmocka_unit_test(flushed), cmocka_unit_test(pressed), cmocka_unit_test(shared), cmocka_unit_test(aborted), \
      cmocka_unit_test(crowded),
#else
#define FILTER
#endif

int main(void) {
  const struct CMUnitTest tests[] = {FILTER cmocka_unit_test(asked), cmocka_unit_test(foreign),
                                     cmocka_unit_test(fitting), cmocka_unit_test(heads),
                                     cmocka_unit_test(memory)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
