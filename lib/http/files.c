/* files.c: one request for a file: what it asks for, whether it has it already, and then the bytes as the front takes them. */
#include "http/files.h"

#include <beam/beam.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/log.h"
#include "http/files_parse.h"
#include "io/block.h"
#include "wire/date.h"
#include "wire/h1.h"

enum {
  TURN_BYTES = 256 * 1024, /* of one file before others have their turn */
  FRESH_S = 2, /* a file changed so shortly ago may change again within the same tick of its clock */
};

struct files {
  struct loop *loop;
  char *root, *fallback;
};

struct file {
  struct http_end end;
  struct files *f; /* for the head alone */
  struct loop *loop;
  struct loop_task step;
  struct http_head head; /* of the answer */
  struct evbuffer *body; /* read and not taken */
  int fd;                /* -1: all of the answer is in `body` */
  off_t at;
  uint64_t left; /* to be read */
  unsigned depth;
  bool dead, begun, asked_more;
};

/* What a path leads to. */
struct found {
  int fd;
  struct stat st;
  char name[FILES_PATH_MAX]; /* of the file that answers */
  unsigned status;           /* 200; 404: the folder's own page for that */
  bool redirect;             /* it is a directory, and the path does not end in a slash */
};

/* --- life --- */

static void die(struct file *e) {
  e->dead = true;
  task_cancel(&e->step);
  if (e->fd >= 0)
    close(e->fd);
  e->fd = -1;
}

static void leave(struct file *e) {
  if (--e->depth || !e->dead)
    return;
  http_head_free(&e->head);
  if (e->body)
    evbuffer_free(e->body);
  free(e);
}

static void fail(struct file *e, enum page page) {
  http_send_abort(&e->end, page);
  die(e);
}

/* --- sending --- */

/* One piece off the file. Cut short meanwhile: what was promised cannot be kept, and the visitor shall see that. */
static bool read_piece(struct file *e, size_t room) {
  void *block = block_get();
  size_t want = room < BLOCK_BYTES ? room : BLOCK_BYTES;
  ssize_t n = -1;
  if (want > e->left)
    want = (size_t)e->left;
  if (block)
    do
      n = pread(e->fd, block, want, e->at);
    while (n < 0 && errno == EINTR);
  if (n <= 0) {
    block_put(block);
    return false;
  }
  e->at += n;
  e->left -= (uint64_t)n;
  return !block_append(e->body, block, (size_t)n);
}

/* True: all of it is with the front. */
static bool send_body(struct file *e) {
  for (size_t sent = 0; sent < TURN_BYTES;) {
    size_t held = evbuffer_get_length(e->body), room;
    if (!held && !e->left)
      return true;
    if (!e->end.peer || !(room = http_room(&e->end)))
      return false;
    if (!held && !read_piece(e, room)) {
      log_limited(BEAM_LOG_WARN, "http", "a file became shorter, or unreadable, while it was sent");
      fail(e, PAGE_TRUNCATED);
      return false;
    }
    held = evbuffer_get_length(e->body);
    size_t n = http_send_body(&e->end, e->body, held < room ? held : room);
    if (!n)
      return false;
    sent += n;
  }
  loop_soon(e->loop, &e->step);
  return false;
}

static void work(struct file *e) {
  bool body = evbuffer_get_length(e->body) || e->left;
  if (!e->head.status) {
    fail(e, PAGE_OVERLOADED);
    return;
  }
  if (!e->begun) {
    e->begun = true;
    if (e->asked_more)
      http_send_stop(&e->end); /* nothing of a body is wanted here */
    http_send_head(&e->end, &e->head, body);
  } else {
    body = true;
  }
  if (!e->dead && (!body || send_body(e))) {
    if (body)
      http_send_end(&e->end);
    http_done(&e->end);
    die(e);
  }
}

static void on_step(void *arg) {
  struct file *e = arg;
  e->depth++;
  if (!e->dead)
    work(e);
  if (!e->end.peer)
    die(e);
  leave(e);
}

/* --- finding --- */

/* First what it is, then open: opening a device can have effects, and a pipe would wait for its other end. */
static int open_regular(int root, const char *name, struct found *o) {
  int fd = beneath_open(root, name, O_PATH);
  if (fd < 0)
    return fd;
  int err = fstat(fd, &o->st) ? BEAM_ERR_SYSTEM : 0;
  close(fd);
  if (err || !S_ISREG(o->st.st_mode))
    return err ? err : S_ISDIR(o->st.st_mode) ? BEAM_AGAIN : BEAM_ERR_NOT_FOUND;
  fd = beneath_open(root, name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  if (fd < 0)
    return fd;
  if (fstat(fd, &o->st) || !S_ISREG(o->st.st_mode)) {
    close(fd);
    return BEAM_ERR_NOT_FOUND;
  }
  o->fd = fd;
  str_copy(o->name, sizeof o->name, name);
  return 0;
}

static bool has_ending(const char *path) {
  const char *slash = strrchr(path, '/');
  return strchr(slash ? slash : path, '.') != NULL;
}

static int find_in(struct files *f, int root, const char *path, bool dir, struct found *o) {
  char index[FILES_PATH_MAX];
  int err = *path ? open_regular(root, path, o) : BEAM_AGAIN;
  if (!err && dir) { /* "/file.txt/" */
    close(o->fd);
    o->fd = -1;
    err = BEAM_ERR_NOT_FOUND;
  }
  if (err == BEAM_AGAIN && !dir) {
    o->redirect = true;
    return 0;
  }
  if (err == BEAM_AGAIN)
    err = str_fmt(index, sizeof index, *path ? "%s/index.html" : "%sindex.html", path)
              ? open_regular(root, index, o)
              : BEAM_ERR_NOT_FOUND;
  if (err == BEAM_AGAIN || err == BEAM_ERR_PERMISSION)
    err = BEAM_ERR_NOT_FOUND;
  if (err == BEAM_ERR_NOT_FOUND && f->fallback && !has_ending(path))
    err = open_regular(root, f->fallback, o);
  if (err == BEAM_ERR_NOT_FOUND && !(err = open_regular(root, "404.html", o)))
    o->status = 404;
  return err;
}

static int find(struct files *f, const struct http_head *h, struct found *o) {
  char path[FILES_PATH_MAX];
  bool dir;
  *o = (struct found){.fd = -1, .status = 200};
  if (!files_path(h->target, path, &dir))
    return BEAM_ERR_NOT_FOUND;
  int root = open(f->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0)
    return errno == ENOENT || errno == ENOTDIR ? BEAM_ERR_NOT_FOUND : err_from_errno(errno);
  int err = find_in(f, root, path, dir, o);
  close(root);
  return err;
}

/* --- answers --- */

static void field(struct http_build *b, const char *name, const char *value) {
  http_build_field(b, span_of(name), span_of(value));
}

static struct http_build *answer(unsigned status) {
  struct http_build *b;
  if (http_build_new(&b))
    return NULL;
  http_build_status(b, (uint16_t)status, span_of(http_reason((uint16_t)status)));
  return b;
}

/* Out of memory leaves a head without a status: the step says so. */
static void done(struct file *e, struct http_build *b) {
  if (http_build_done(b, &e->head))
    memset(&e->head, 0, sizeof e->head);
}

static void answer_page(struct file *e, const struct http_head *h, enum page page, bool allow) {
  char text[PAGE_BYTES];
  struct page_head head;
  bool json = page_wants_json(h);
  size_t n = page_render(page, json, NULL, text, sizeof text);
  page_head_make(&head, page, json, n);
  if (allow)
    head.fields[head.head.fields_n++] = (struct http_field){SPAN("Allow"), SPAN("GET, HEAD, OPTIONS")};
  if (!span_eq(h->method, SPAN("HEAD")) && evbuffer_add(e->body, text, n))
    return;
  if (http_head_copy(&e->head, &head.head))
    memset(&e->head, 0, sizeof e->head);
}

static void answer_short(struct file *e, unsigned status, const char *name, const char *value) {
  struct http_build *b = answer(status);
  if (!b)
    return;
  if (name)
    field(b, name, value);
  if (status != 204)
    field(b, "Content-Length", "0");
  done(e, b);
}

/* To the directory's own address, else relative links in its index lead elsewhere. */
static void answer_redirect(struct file *e, const struct http_head *h) {
  size_t n = 0;
  while (n < h->target.n && h->target.p[n] != '?')
    n++;
  char *to = malloc(h->target.n + 2);
  if (!to)
    return;
  str_fmt(to, h->target.n + 2, "%.*s/%.*s", (int)n, h->target.p, (int)(h->target.n - n), h->target.p + n);
  answer_short(e, 301, "Location", to);
  free(to);
}

struct validators {
  char tag[64], date[HTTP_DATE_SIZE];
  int64_t mtime;
  bool strong;
};

static void validators_of(const struct stat *st, struct validators *v) {
  v->mtime = st->st_mtim.tv_sec;
  v->strong = time(NULL) - v->mtime >= FRESH_S;
  str_fmt(v->tag, sizeof v->tag, "%s\"%llx.%lx-%llx\"", v->strong ? "" : "W/",
          (unsigned long long)st->st_mtim.tv_sec, (unsigned long)st->st_mtim.tv_nsec,
          (unsigned long long)st->st_size);
  http_date_write(v->date, v->mtime);
}

/* Is our tag in any of these fields? *there: there are such fields. */
static bool tag_in(const struct http_head *h, struct span name, const struct validators *v, bool strong,
                   bool *there) {
  bool in = false;
  *there = false;
  for (size_t i = 0; i < h->fields_n; i++) {
    if (!span_ieq(h->fields[i].name, name))
      continue;
    *there = true;
    in = in || files_tag_in(h->fields[i].value, span_of(v->tag), strong);
  }
  return in;
}

/* Was it changed after the date in this field? No field, or no date: 0 and *there false. */
static bool changed_since(const struct http_head *h, const char *name, const struct validators *v,
                          bool *there) {
  int64_t then = 0;
  const struct http_field *f = http_field_find(h, name);
  *there = f && http_date_read(f->value, &then);
  return *there && v->mtime > then;
}

/* RFC 9110 13.2.2: 0, 304 or 412. */
static unsigned precondition(const struct http_head *h, const struct validators *v) {
  bool there, in = tag_in(h, SPAN("if-match"), v, true, &there);
  if (there && !in)
    return 412;
  if (!there && changed_since(h, "if-unmodified-since", v, &there))
    return 412;
  in = tag_in(h, SPAN("if-none-match"), v, false, &there);
  if (there)
    return in ? 304 : 0;
  return !changed_since(h, "if-modified-since", v, &there) && there ? 304 : 0;
}

/* A part of another version than the visitor has would not fit the rest. */
static bool range_counts(const struct http_head *h, const struct validators *v) {
  const struct http_field *f = http_field_find(h, "if-range");
  int64_t then;
  if (!f)
    return true;
  if (f->value.n && (f->value.p[0] == '"' || f->value.p[0] == 'W'))
    return files_tag_in(f->value, span_of(v->tag), true);
  return v->strong && http_date_read(f->value, &then) && then == v->mtime;
}

static enum files_range part_of(const struct http_head *h, const struct validators *v, uint64_t size,
                                uint64_t *first, uint64_t *n) {
  const struct http_field *f = http_field_find(h, "range");
  *first = 0;
  *n = size;
  if (!f || !span_eq(h->method, SPAN("GET")) || !range_counts(h, v))
    return FILES_WHOLE;
  enum files_range what = files_range(f->value, size, first, n);
  if (what == FILES_WHOLE) {
    *first = 0;
    *n = size;
  }
  return what;
}

static void answer_file(struct file *e, const struct http_head *h, struct found *o) {
  struct validators v;
  char text[80];
  uint64_t size = (uint64_t)o->st.st_size, first = 0, n = size;
  bool good = o->status == 200;
  validators_of(&o->st, &v);
  unsigned status = good ? precondition(h, &v) : 0;
  enum files_range part = !status && good ? part_of(h, &v, size, &first, &n) : FILES_WHOLE;
  if (!status)
    status = part == FILES_PART ? 206 : part == FILES_NO_PART ? 416 : o->status;
  struct http_build *b = answer(status);
  if (!b)
    return;
  bool body = status == 200 || status == 206 || status == 404;
  if (body) {
    field(b, "Content-Type", files_type(o->name));
    field(b, "X-Content-Type-Options", "nosniff");
  }
  if (good) {
    field(b, "Last-Modified", v.date);
    field(b, "ETag", v.tag);
    field(b, "Accept-Ranges", "bytes");
  }
  field(b, "Cache-Control",
        "no-cache"); /* kept, and asked for again: the folder may be built anew at any time */
  if (part == FILES_PART)
    str_fmt(text, sizeof text, "bytes %llu-%llu/%llu", (unsigned long long)first,
            (unsigned long long)(first + n - 1), (unsigned long long)size);
  else
    str_fmt(text, sizeof text, "bytes */%llu", (unsigned long long)size);
  if (part != FILES_WHOLE)
    field(b, "Content-Range", text);
  str_fmt(text, sizeof text, "%llu", (unsigned long long)(body ? n : 0));
  if (status != 304)
    field(b, "Content-Length", text);
  done(e, b);
  if (!body || span_eq(h->method, SPAN("HEAD")) || !e->head.status)
    return;
  e->fd = o->fd;
  o->fd = -1;
  e->at = (off_t)first;
  e->left = n;
}

static void decide(struct file *e, const struct http_head *h) {
  struct found o;
  if (span_eq(h->method, SPAN("OPTIONS"))) {
    answer_short(e, 204, "Allow", "GET, HEAD, OPTIONS");
    return;
  }
  if (!span_eq(h->method, SPAN("GET")) && !span_eq(h->method, SPAN("HEAD"))) {
    answer_page(e, h, PAGE_METHOD, true);
    return;
  }
  int err = find(e->f, h, &o);
  if (err)
    answer_page(e, h, err == BEAM_ERR_NOT_FOUND ? PAGE_NO_FILE : PAGE_OVERLOADED, false);
  else if (o.redirect)
    answer_redirect(e, h);
  else
    answer_file(e, h, &o);
  if (o.fd >= 0)
    close(o.fd);
}

/* --- the end --- */

static void on_head(struct http_end *end, const struct http_head *h, bool more) {
  struct file *e = (struct file *)end;
  e->asked_more = more;
  if (!e->head.status)
    decide(e, h);
  loop_soon(e->loop, &e->step);
}
static void on_fields(struct http_end *e, const struct http_head *h) {
  (void)e, (void)h;
}
static size_t on_room(struct http_end *e) {
  (void)e;
  return BLOCK_BYTES; /* read and dropped, until "stop" is heard */
}
static size_t on_body(struct http_end *e, struct evbuffer *from, size_t n) {
  (void)e;
  evbuffer_drain(from, n);
  return n;
}
static void on_none(struct http_end *e) {
  (void)e;
}
static void on_want(struct http_end *end) {
  struct file *e = (struct file *)end;
  loop_soon(e->loop, &e->step);
}
static void on_abort(struct http_end *end, enum page page) {
  struct file *e = (struct file *)end;
  (void)page;
  e->depth++;
  die(e);
  leave(e);
}

static const struct http_end_ops ops = {"files",   on_head, NULL, on_room,  on_body,
                                        on_fields, on_none, NULL, on_abort, on_want};

int files_request(struct files *f, struct http_end **out) {
  struct file *e = calloc(1, sizeof *e);
  if (!e || !(e->body = evbuffer_new())) {
    free(e);
    return BEAM_ERR_NOMEM;
  }
  e->end.ops = &ops;
  e->f = f;
  e->loop = f->loop;
  e->fd = -1;
  task_init(&e->step, on_step, e);
  *out = &e->end;
  return 0;
}

/* --- the folder --- */

static int set_up(struct files *f, const struct files_conf *conf, struct beam_error *err) {
  char path[FILES_PATH_MAX], target[FILES_PATH_MAX + 1];
  bool dir;
  struct stat st;
  if (!(f->root = realpath(conf->root, NULL)) || stat(f->root, &st))
    return err_set(err, err_from_errno(errno), NULL, "the folder %.200s: %s", conf->root, strerror(errno));
  if (!S_ISDIR(st.st_mode))
    return err_set(err, BEAM_ERR_INVALID, "give the folder it is in", "%.200s is not a folder", conf->root);
  if (access(f->root, R_OK | X_OK))
    return err_set(err, BEAM_ERR_PERMISSION, NULL, "the folder %.200s cannot be read", conf->root);
  if (!conf->fallback)
    return 0;
  str_fmt(target, sizeof target, "/%s", conf->fallback);
  if (strpbrk(conf->fallback, "%?#") || !files_path(span_of(target), path, &dir) || dir)
    return err_set(err, BEAM_ERR_INVALID, "a path within the folder, such as index.html",
                   "\"%.100s\" is no file that could be shown for others", conf->fallback);
  return (f->fallback = str_dup(conf->fallback)) ? 0 : err_set(err, BEAM_ERR_NOMEM, NULL, "out of memory");
}

int files_new(const struct files_conf *conf, struct files **out, struct beam_error *err) {
  struct files *f = calloc(1, sizeof *f);
  if (!f)
    return err_set(err, BEAM_ERR_NOMEM, NULL, "out of memory");
  f->loop = conf->loop;
  int e = set_up(f, conf, err);
  if (e) {
    files_free(f);
    return e;
  }
  *out = f;
  return 0;
}

const char *files_root(const struct files *f) {
  return f->root;
}

void files_free(struct files *f) {
  if (!f)
    return;
  free(f->root);
  free(f->fallback);
  free(f);
}
