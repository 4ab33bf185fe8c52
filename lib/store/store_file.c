/* The file driver: the tables in memory, each change appended to a journal. For builds without SQLite; one process at a time. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "store/journal.h"

/* A journal is held in memory once at its opening; this many bytes are years of a busy relay. */
enum { JOURNAL_MAX = 1024 * 1024 * 1024, COMPACT_FROM = 1024 * 1024 };

struct file {
  struct driver d;
  struct tables tables;
  char path[PATH_ROOM];
  int fd, lock_fd;
  off_t end;        /* what is committed */
  off_t compact_at; /* from this size on it is made smaller */
  int64_t oldest;   /* time of the first audit row not forgotten; 0: not known */
  uint8_t *pending; /* records of this transaction */
  size_t pending_n, pending_room;
  bool broken; /* memory and file differ: nothing goes until it is opened again */
};

static int store_error(const char *verb, const char *path, struct beam_error *e) {
  return err_set(e, BEAM_ERR_STORE, NULL, "cannot %s the store %s: %s", verb, path, strerror(errno));
}

/* --- reading --- */

/* fn for each record, in order. Returns what stopped it: 0 or JOURNAL_TORN at *end, JOURNAL_DAMAGED, or fn's error. */
typedef int (*record_fn)(void *user, enum change what, const union journal_row *row, const uint8_t *raw,
                         size_t n);

static long each_record(const uint8_t *p, size_t n, size_t *end, record_fn fn, void *user) {
  enum change what;
  union journal_row row;
  size_t at = 0;
  long k;
  while ((k = journal_decode(p + at, n - at, &what, &row)) > 0) {
    int err = fn(user, what, &row, p + at, (size_t)k);
    if (err)
      return err;
    at += (size_t)k;
  }
  *end = at;
  return k;
}

static long each_of_file(const char *text, size_t n, size_t *end, record_fn fn, void *user) {
  *end = 0; /* a record that stops the walk leaves it alone */
  if (n < JOURNAL_MAGIC || memcmp(text, journal_magic, JOURNAL_MAGIC))
    return JOURNAL_DAMAGED;
  long k = each_record((const uint8_t *)text + JOURNAL_MAGIC, n - JOURNAL_MAGIC, end, fn, user);
  *end += JOURNAL_MAGIC;
  return k;
}

static int restore(void *user, enum change what, const union journal_row *row, const uint8_t *raw, size_t n) {
  struct file *f = user;
  struct tables *t = &f->tables;
  (void)raw;
  (void)n;
  if (what == CHANGE_ANCHOR)
    f->oldest = 0;
  if (what != CHANGE_AUDIT)
    return tables_apply(t, what, row);
  if (row->audit.seq == t->before.seq + 1)
    f->oldest = row->audit.at;
  t->seq = row->audit.seq; /* whether the chain is whole is the question of OP_AUDIT_VERIFY, not of opening */
  memcpy(t->last, row->audit.hash, HASH_BYTES);
  return 0;
}

static int note(void *user, enum change what, const void *row);

static int damaged(const struct file *f, struct beam_error *e) {
  return err_set(e, BEAM_ERR_STORE, "restore it from a backup; or move it away, and names will be given anew",
                 "the store %s is damaged; it was left as it is", f->path);
}

/* Fill the tables from the file; *torn: bytes after `end` are half a record. */
static int replay(struct file *f, const char *text, size_t n, bool *torn, struct beam_error *e) {
  size_t end = 0;
  tables_free(&f->tables);
  tables_init(&f->tables, false, note, f);
  f->oldest = 0;
  long k = each_of_file(text, n, &end, restore, f);
  if (k == BEAM_ERR_NOMEM)
    return err_set(e, BEAM_ERR_NOMEM, NULL, "no memory for the store");
  *torn = k == JOURNAL_TORN;
  if (k && !*torn)
    return damaged(f, e);
  f->end = (off_t)end;
  return 0;
}

static int read_back(struct file *f, struct beam_error *e) {
  char *text;
  size_t n;
  bool torn = false;
  int err = file_read(f->path, JOURNAL_MAX, &text, &n, e);
  if (err)
    return err_set(e, BEAM_ERR_STORE, NULL, "cannot read the store %s", f->path);
  err = replay(f, text, n, &torn, e);
  if (!err && torn && ftruncate(f->fd, f->end))
    err = store_error("repair", f->path, e);
  if (!err && torn)
    log_warn("store", "the end of %s was half written and has been cut off", f->path);
  free(text);
  return err;
}

/* --- writing --- */

static int append(struct file *f, const uint8_t *p, size_t n) {
  if (f->pending_room - f->pending_n < n) {
    size_t room = (f->pending_n + n) * 2;
    uint8_t *more = realloc(f->pending, room);
    if (!more)
      return BEAM_ERR_NOMEM;
    f->pending = more;
    f->pending_room = room;
  }
  memcpy(f->pending + f->pending_n, p, n);
  f->pending_n += n;
  return 0;
}

static int note(void *user, enum change what, const void *row) {
  uint8_t record[RECORD_MAX];
  return append(user, record, journal_encode(record, what, row));
}

/* --- compaction: at opening, and whenever it has doubled --- */

static int keep_audit(void *user, enum change what, const union journal_row *row, const uint8_t *raw,
                      size_t n) {
  struct file *f = user;
  return what == CHANGE_AUDIT && row->audit.seq > f->tables.before.seq ? append(f, raw, n) : 0;
}

/* The same state with one record for each row; of the audit rows all that are not forgotten. */
static int compact(struct file *f, const char *text, size_t n) {
  size_t end;
  struct tables *t = &f->tables;
  f->pending_n = 0;
  int err = append(f, (const uint8_t *)journal_magic, JOURNAL_MAGIC);
  if (!err && t->before.seq)
    err = note(f, CHANGE_ANCHOR, &t->before);
  if (!err && t->clock.last)
    err = note(f, CHANGE_CLOCK, &t->clock);
  for (struct name_row *r = t->names; r && !err; r = r->hh.next)
    err = note(f, CHANGE_NAME, &r->row);
  for (struct tunnel_row *r = t->tunnels; r && !err; r = r->hh.next)
    err = note(f, CHANGE_TUNNEL, &r->row);
  if (!err)
    err = (int)each_of_file(text, n, &end, keep_audit, f);
  if (!err)
    err = f->pending_n < n - n / 4 ? file_write(f->path, 0600, f->pending, f->pending_n, NULL) : BEAM_AGAIN;
  f->pending_n = 0;
  return err;
}

/* What cannot be made smaller goes on growing, that is all; but then what is open must be the file that has the name. */
static void compact_if_large(struct file *f) {
  struct beam_error e = BEAM_ERROR_INIT;
  char *text;
  size_t n;
  if (f->end < f->compact_at)
    return;
  f->compact_at = f->end * 2;
  if (file_read(f->path, JOURNAL_MAX, &text, &n, NULL))
    return;
  int err = compact(f, text, n);
  free(text);
  free(f->pending); /* as large as the file */
  f->pending = NULL;
  f->pending_room = 0;
  if (err)
    return;
  close(f->fd);
  f->fd = open(f->path, O_RDWR | O_CLOEXEC);
  f->broken = f->fd < 0 || read_back(f, &e);
  f->compact_at = f->end * 2 + COMPACT_FROM;
  log_info("store", "%s was made smaller", f->path);
}

/* --- transactions --- */

static int begin(struct driver *d, bool write, struct beam_error *e) {
  struct file *f = (struct file *)d;
  f->pending_n = 0;
  if (f->broken && write)
    return err_set(e, BEAM_ERR_STORE, "start the relay again when the disk is in order",
                   "the store %s could not be repaired", f->path);
  return 0;
}

/* Memory is ahead of the file: bring it back to what is committed. */
static void undo(struct file *f) {
  struct beam_error e = BEAM_ERROR_INIT;
  f->pending_n = 0;
  f->broken = ftruncate(f->fd, f->end) != 0 || read_back(f, &e) != 0;
  if (f->broken)
    log_error("store", "%s could not be brought back to its last whole state", f->path);
}

static void rollback(struct driver *d) {
  struct file *f = (struct file *)d;
  if (f->pending_n)
    undo(f);
}

static int write_at(int fd, const uint8_t *p, size_t n, off_t at) {
  while (n) {
    ssize_t k = pwrite(fd, p, n, at);
    if (k < 0 && errno == EINTR)
      continue;
    if (k <= 0)
      return -1;
    p += k;
    n -= (size_t)k;
    at += k;
  }
  return 0;
}

static int commit(struct driver *d, struct beam_error *e) {
  struct file *f = (struct file *)d;
  if (!f->pending_n)
    return 0;
  if (f->end + (off_t)f->pending_n > JOURNAL_MAX) { /* it could not be opened again */
    undo(f);
    return err_set(e, BEAM_ERR_STORE, "use a build with SQLite", "the store %s is full", f->path);
  }
  if (write_at(f->fd, f->pending, f->pending_n, f->end) || fdatasync(f->fd)) {
    int err = store_error("write", f->path, e);
    undo(f);
    return err;
  }
  f->end += (off_t)f->pending_n;
  f->pending_n = 0;
  compact_if_large(f);
  return 0;
}

/* --- operations --- */

/* fn for each record, and those of this very transaction. */
static int look_through(struct file *f, struct store_op *op, record_fn fn, void *user) {
  char *text;
  size_t n, end;
  int err = file_read(f->path, JOURNAL_MAX, &text, &n, &op->error);
  if (err)
    return op->err = err;
  if (n > (size_t)f->end)
    n = (size_t)f->end;
  long bad = each_of_file(text, n, &end, fn, user);
  if (!bad)
    bad = each_record(f->pending, f->pending_n, &end, fn, user);
  free(text);
  return bad ? op->err = damaged(f, &op->error) : 0;
}

struct chain {
  struct store_op *op;
  const struct tables *tables;
  struct anchor last;
};

/* Rows up to the anchor may still be there or not. */
static int follow(void *user, enum change what, const union journal_row *row, const uint8_t *raw, size_t n) {
  struct chain *c = user;
  (void)raw;
  (void)n;
  if (what != CHANGE_AUDIT || c->op->err || row->audit.seq <= c->tables->before.seq)
    return 0;
  if (row->audit.seq != c->last.seq + 1 || !audit_hash_ok(&row->audit, c->last.hash)) {
    op_bad_audit(c->op, row->audit.seq);
    return 0;
  }
  c->last.seq++;
  c->op->reply.n++;
  memcpy(c->last.hash, row->audit.hash, HASH_BYTES);
  return 0;
}

static int verify(struct file *f, struct store_op *op) {
  struct chain c = {op, &f->tables, f->tables.before};
  if (!look_through(f, op, follow, &c) && !op->err && c.last.seq != f->tables.seq)
    op_bad_audit(op, c.last.seq + 1); /* cut off while we ran */
  return 0;
}

struct front {
  struct file *f;
  struct store_op *op;
  struct anchor last; /* that may go */
  int64_t oldest;     /* of what stays */
  bool done;
};

static int find_front(void *user, enum change what, const union journal_row *row, const uint8_t *raw,
                      size_t n) {
  struct front *w = user;
  (void)raw;
  (void)n;
  if (what != CHANGE_AUDIT || w->done || row->audit.seq <= w->f->tables.before.seq)
    return 0;
  if (!tables_audit_old(&w->f->tables, w->op, row->audit.seq, row->audit.at)) {
    w->done = true;
    w->oldest = row->audit.at;
    return 0;
  }
  w->last.seq = row->audit.seq;
  memcpy(w->last.hash, row->audit.hash, HASH_BYTES);
  return 0;
}

/* Audit rows are in the file only: it is read when the first of them may go. */
static int forget(struct file *f, struct store_op *op) {
  struct tables *t = &f->tables;
  struct front w = {.f = f, .op = op};
  int err = tables_run(t, op);
  uint64_t first = t->before.seq + 1;
  if (err || !clock_steady(&t->clock) || t->seq < first ||
      (f->oldest && !tables_audit_old(t, op, first, f->oldest)))
    return err;
  if ((err = look_through(f, op, find_front, &w)))
    return err;
  f->oldest = w.oldest;
  return tables_forget_audits(t, op, &w.last);
}

static int run(struct driver *d, struct store_op *op) {
  struct file *f = (struct file *)d;
  return op->kind == OP_AUDIT_VERIFY ? verify(f, op)
         : op->kind == OP_FORGET     ? forget(f, op)
                                     : tables_run(&f->tables, op);
}

/* --- life --- */

static void finish(struct driver *d) {
  struct file *f = (struct file *)d;
  tables_free(&f->tables);
  if (f->fd >= 0)
    close(f->fd);
  if (f->lock_fd >= 0)
    close(f->lock_fd);
  free(f->pending);
  free(f);
}

static const struct driver_ops ops = {begin, commit, rollback, run, finish};

static int take_lock(struct file *f, struct beam_error *e) {
  char path[PATH_ROOM];
  if (!str_fmt(path, sizeof path, "%s.lock", f->path))
    return err_set(e, BEAM_ERR_INVALID, NULL, "the store's path is too long");
  f->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (f->lock_fd < 0)
    return store_error("open the lock of", f->path, e);
  if (flock(f->lock_fd, LOCK_EX | LOCK_NB) == 0)
    return 0;
  if (errno != EWOULDBLOCK)
    return store_error("lock", f->path, e);
  return err_set(e, BEAM_ERR_STORE, "stop it, or give this one another data directory",
                 "another process uses the store %s", f->path);
}

static int open_journal(struct file *f, struct beam_error *e) {
  int err = take_lock(f, e);
  if (err)
    return err;
  struct stat st;
  bool absent = stat(f->path, &st) != 0;
  if (absent && errno != ENOENT)
    return store_error("open", f->path, e);
  if (absent || st.st_size == 0) {
    if ((err = file_write(f->path, 0600, journal_magic, JOURNAL_MAGIC, e)))
      return err;
  }
  f->fd = open(f->path, O_RDWR | O_CLOEXEC);
  if (f->fd < 0)
    return store_error("open", f->path, e);
  if ((err = read_back(f, e)))
    return err;
  f->compact_at = COMPACT_FROM;
  compact_if_large(f);
  return 0;
}

int store_open_file(const char *path, struct store **out, struct beam_error *e) {
  *out = NULL;
  struct file *f = calloc(1, sizeof *f);
  if (!f)
    return err_set(e, BEAM_ERR_NOMEM, NULL, "no memory for the store");
  f->d.ops = &ops;
  f->fd = f->lock_fd = -1;
  tables_init(&f->tables, false, note, f);
  int err = str_copy(f->path, sizeof f->path, path)
                ? open_journal(f, e)
                : err_set(e, BEAM_ERR_INVALID, NULL, "the store's path is too long");
  if (err) {
    finish(&f->d);
    return err;
  }
  return store_start(&f->d, true, out, e);
}
