/* A folder as an upstream, with a front end that takes as much as it says and no more. (What it answers to whom is in test/e2e/upstream.test.mjs.) */
#include "../tmpdir.h"

#include <dirent.h>

#include "base/str.h"
#include "http/files.h"
#include "io/loop.h"

struct front {
  struct http_end end;
  struct loop *loop;
  struct evbuffer *got;
  size_t room; /* what it takes now */
  unsigned status;
  char fields[2048];
  bool ended, stopped, more;
  enum page failed;
};

static struct front *of(struct http_end *e) {
  return (struct front *)e;
}
static void on_head(struct http_end *e, const struct http_head *h, bool more) {
  struct front *f = of(e);
  assert_int_equal(f->status, 0);
  f->status = h->status;
  f->more = more;
  for (size_t i = 0; i < h->fields_n; i++) {
    size_t n = strlen(f->fields);
    str_fmt(f->fields + n, sizeof f->fields - n, "%.*s: %.*s\n", SPAN_FMT(h->fields[i].name),
            SPAN_FMT(h->fields[i].value));
  }
}
static size_t on_room(struct http_end *e) {
  return of(e)->room;
}
static size_t on_body(struct http_end *e, struct evbuffer *from, size_t n) {
  struct front *f = of(e);
  assert_true(f->more && n <= f->room);
  f->room -= n;
  return (size_t)evbuffer_remove_buffer(from, f->got, n);
}
static void on_end(struct http_end *e) {
  assert_false(of(e)->ended);
  of(e)->ended = true;
}
static void on_stop(struct http_end *e) {
  of(e)->stopped = true;
}
static void on_abort(struct http_end *e, enum page page) {
  of(e)->failed = page;
}
static void on_other(struct http_end *e) {
  (void)e;
}
static void on_fields(struct http_end *e, const struct http_head *h) {
  (void)e, (void)h;
}
static const struct http_end_ops ops = {"front",   on_head, on_fields, on_room,  on_body,
                                        on_fields, on_end,  on_stop,   on_abort, on_other};

static struct loop *loop;
static struct files *files;

static void begin(const char *fallback) {
  struct files_conf conf = {NULL, tmp, fallback};
  assert_int_equal(loop_new_virtual(&loop), 0);
  conf.loop = loop;
  assert_int_equal(files_new(&conf, &files, NULL), 0);
}

static void end(void) {
  files_free(files);
  loop_run_for(loop, 0);
  loop_free(loop);
}

static void ask(struct front *f, const char *method, const char *target, size_t room, bool more) {
  struct http_end *up;
  struct http_head h = {.minor = 1, .method = span_of(method), .target = span_of(target)};
  *f = (struct front){.end.ops = &ops, .got = evbuffer_new(), .room = room};
  assert_int_equal(files_request(files, &up), 0);
  http_join(&f->end, up);
  http_send_head(&f->end, &h, more);
  loop_run_for(loop, 0);
}

static void take(struct front *f, size_t room) {
  f->room += room;
  http_send_want(&f->end);
  loop_run_for(loop, 0);
}

static unsigned descriptors(void) {
  unsigned n = 0;
  DIR *d = opendir("/proc/self/fd");
  while (readdir(d))
    n++;
  closedir(d);
  return n;
}

static void put_big(size_t n) {
  char *big = malloc(n);
  memset(big, 'x', n);
  tmp_put("big", big, n, 0644);
  free(big);
}

/* A visitor that takes nothing: nothing is read. One that takes a little gets that, and the file's end is the answer's. */
static void test_pace(void **state) {
  (void)state;
  struct front f;
  unsigned before;
  put_big(1000000);
  begin(NULL);
  before = descriptors();
  ask(&f, "GET", "/big", 0, false);
  assert_int_equal(f.status, 200);
  assert_non_null(strstr(f.fields, "Content-Length: 1000000\n"));
  assert_int_equal(descriptors(), before + 1);
  for (size_t n = 0; n < 1000000; n += 30000) {
    assert_false(f.ended);
    assert_int_equal(evbuffer_get_length(f.got), n);
    take(&f, 30000);
  }
  assert_true(f.ended && !f.failed && !f.end.peer);
  assert_int_equal(evbuffer_get_length(f.got), 1000000);
  assert_int_equal(descriptors(), before);
  evbuffer_free(f.got);
  end();
}

/* Shorter than promised: cut, never padded or ended in order. Longer: what was promised. */
static void test_changes(void **state) {
  (void)state;
  struct front f;
  begin(NULL);
  put_big(200000);
  ask(&f, "GET", "/big", 100000, false);
  assert_int_equal(truncate(tmp_path("big"), 120000), 0);
  take(&f, 1000000);
  assert_int_equal(f.failed, PAGE_TRUNCATED);
  assert_false(f.ended);
  assert_int_equal(evbuffer_get_length(f.got), 120000);
  evbuffer_free(f.got);
  put_big(200000);
  ask(&f, "GET", "/big", 100000, false);
  assert_int_equal(truncate(tmp_path("big"), 300000), 0);
  take(&f, 1000000);
  assert_true(f.ended && !f.failed);
  assert_int_equal(evbuffer_get_length(f.got), 200000);
  evbuffer_free(f.got);
  end();
}

/* The visitor leaves: before the head, and in the middle. The folder itself may be gone by then. */
static void test_leaves(void **state) {
  (void)state;
  struct front f;
  put_big(200000);
  for (int when = 0; when < 2; when++) {
    begin(NULL);
    unsigned before = descriptors();
    struct http_end *up;
    struct http_head h = {.minor = 1, .method = SPAN("GET"), .target = SPAN("/big")};
    f = (struct front){.end.ops = &ops, .got = evbuffer_new(), .room = 1000};
    assert_int_equal(files_request(files, &up), 0);
    http_join(&f.end, up);
    http_send_head(&f.end, &h, false);
    if (when)
      loop_run_for(loop, 0);
    assert_int_equal(descriptors(), before + 1);
    files_free(files);
    files = NULL;
    http_send_abort(&f.end, PAGE_VISITOR_GONE);
    loop_run_for(loop, 0);
    assert_int_equal(descriptors(), before);
    assert_false(f.ended);
    evbuffer_free(f.got);
    end();
  }
}

static void test_bodies(void **state) {
  (void)state;
  struct front f;
  tmp_put("a", "hello", 5, 0644);
  begin(NULL);
  ask(&f, "POST", "/a", 10000, true); /* refused, and no more of it is wanted */
  assert_int_equal(f.status, 405);
  assert_true(f.stopped && f.ended && strstr(f.fields, "Allow: GET, HEAD, OPTIONS\n"));
  evbuffer_free(f.got);
  ask(&f, "HEAD", "/none", 10000, false);
  assert_int_equal(f.status, 404);
  assert_int_equal(evbuffer_get_length(f.got), 0);
  evbuffer_free(f.got);
  ask(&f, "GET", "/a", 2, true);
  assert_true(f.stopped);
  assert_memory_equal(evbuffer_pullup(f.got, -1), "he", 2);
  take(&f, 2);
  take(&f, 2);
  assert_true(f.ended);
  evbuffer_free(f.got);
  end();
}

/* Just written, a file may be written again within the same tick: its tag is weak until then. */
static void test_fresh(void **state) {
  (void)state;
  struct front f;
  struct timespec old[2] = {{1000000000, 5}, {1000000000, 5}};
  tmp_put("a", "hello", 5, 0644);
  begin(NULL);
  ask(&f, "GET", "/a", 100, false);
  assert_non_null(strstr(f.fields, "ETag: W/\""));
  evbuffer_free(f.got);
  assert_int_equal(utimensat(AT_FDCWD, tmp_path("a"), old, 0), 0);
  ask(&f, "GET", "/a", 100, false);
  assert_non_null(strstr(f.fields, "ETag: \"3b9aca00.5-5\"\n"));
  assert_non_null(strstr(f.fields, "Last-Modified: Sun, 09 Sep 2001 01:46:40 GMT\n"));
  evbuffer_free(f.got);
  end();
}

static void test_folders(void **state) {
  (void)state;
  static const char *const fallbacks[] = {"../x", ".env", "", "a%20b", "x/", "/x", "a?b"};
  struct files *f;
  struct beam_error e = BEAM_ERROR_INIT;
  struct files_conf conf = {NULL, tmp_path("none"), NULL};
  assert_int_equal(loop_new_virtual(&loop), 0);
  conf.loop = loop;
  assert_int_equal(files_new(&conf, &f, &e), BEAM_ERR_NOT_FOUND);
  tmp_put("file", "", 0, 0644);
  conf.root = tmp_path("file");
  assert_int_equal(files_new(&conf, &f, &e), BEAM_ERR_INVALID);
  conf.root = tmp;
  for (size_t i = 0; i < sizeof fallbacks / sizeof *fallbacks; i++) {
    conf.fallback = fallbacks[i];
    if (files_new(&conf, &f, &e) != BEAM_ERR_INVALID)
      fail_msg("taken: %s", fallbacks[i]);
  }
  loop_free(loop);
}

int main(void) {
  const struct CMUnitTest tests[] = {tmp_test(test_pace),   tmp_test(test_changes), tmp_test(test_leaves),
                                     tmp_test(test_bodies), tmp_test(test_fresh),   tmp_test(test_folders)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
