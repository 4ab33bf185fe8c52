/* The queue, the thread, and the post office that brings answers back to the loops. */
#include "store/store.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "io/loop.h"
#include "store/op.h"

/* Operations of one transaction: enough to share one fsync among all that wait, few enough that the first of them does not wait long. */
enum { GROUP = 256, LATE_MS = 20 };

struct store {
  struct driver *driver;
  bool threaded;
  pthread_t thread;
  pthread_mutex_t lock; /* guards what follows; without a thread, the driver too */
  pthread_cond_t work;
  struct store_op *first, **last;
  size_t waiting;
  unsigned audits_left_out; /* while the queue was full */
  bool closing;
  struct store_op *late; /* answers that their loop would not take; the store thread's own */
};

/* --- the post office ---
 * An answer goes to its loop as a number, not as a pointer: a loop may be freed with the post still in it, and a store may be closed before
 * the loop's next turn. Whoever holds the number asks here whether the answer is still wanted. */

static struct {
  pthread_mutex_t lock;
  struct store_op *answered; /* by id */
  uintptr_t last_id;
} office = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void deliver(void *arg) {
  uintptr_t id = (uintptr_t)arg;
  struct store_op *op;
  pthread_mutex_lock(&office.lock);
  HASH_FIND(hh, office.answered, &id, sizeof id, op);
  if (op)
    HASH_DEL(office.answered, op);
  pthread_mutex_unlock(&office.lock);
  if (!op)
    return;
  op->reply.error = &op->error;
  op->cb(op->user, op->err, &op->reply);
  op_free(op);
}

/* False: the loop takes no post now (no memory, too many): try again. */
static bool answer(struct store_op *op) {
  int err = 0;
  pthread_mutex_lock(&office.lock); /* held over the post: after store_cancel() nobody touches the loop */
  bool wanted = op->cb && !op->cancelled;
  if (wanted) {
    while (!(op->id = ++office.last_id))
      ;
    HASH_ADD(hh, office.answered, id, sizeof op->id, op);
    err = op->hh.tbl ? loop_post(op->loop, deliver, (void *)op->id) : BEAM_ERR_NOMEM;
    if (err) {
      if (op->hh.tbl)
        HASH_DEL(office.answered, op);
      op->id = 0;
    }
  }
  pthread_mutex_unlock(&office.lock);
  if (err == BEAM_ERR_NOMEM || err == BEAM_ERR_LIMIT)
    return false;
  if (!wanted || err)
    op_free(op);
  return true;
}

void store_cancel(struct store_op *op) {
  if (!op)
    return;
  pthread_mutex_lock(&office.lock);
  bool answered = op->id != 0;
  op->cancelled = true;
  if (answered)
    HASH_DEL(office.answered, op);
  pthread_mutex_unlock(&office.lock);
  if (answered)
    op_free(op);
}

static void forget_answers(struct store *s) {
  struct store_op *op, *next;
  pthread_mutex_lock(&office.lock);
  HASH_ITER(hh, office.answered, op, next) {
    if (op->store != s)
      continue;
    HASH_DEL(office.answered, op);
    op_free(op);
  }
  pthread_mutex_unlock(&office.lock);
}

/* --- carrying out --- */

/* One transaction for all of the list. On failure nothing has happened; e says why. */
static int run_together(struct driver *d, struct store_op *list, struct beam_error *e) {
  bool write = false;
  for (struct store_op *op = list; op; op = op->next)
    write |= op_writes(op);
  int err = d->ops->begin(d, write, e);
  if (err)
    return err;
  for (struct store_op *op = list; op && !err; op = op->next) {
    op_forget(op);
    err = d->ops->run(d, op);
    if (err)
      *e = op->error;
  }
  if (!err)
    return d->ops->commit(d, e);
  d->ops->rollback(d);
  return err;
}

/* Alone, so that one that cannot be done takes no others with it. */
static void run_alone(struct driver *d, struct store_op *op) {
  struct beam_error e = BEAM_ERROR_INIT;
  struct store_op *next = op->next;
  op->next = NULL;
  int err = run_together(d, op, &e);
  op->next = next;
  if (err) {
    op_forget(op);
    op->error = e;
    op->err = err;
    log_limited(BEAM_LOG_ERROR, "store", "%s", e.what);
  }
}

static void run_list(struct driver *d, struct store_op *list) {
  struct beam_error e = BEAM_ERROR_INIT;
  if (!list->next || run_together(d, list, &e))
    for (struct store_op *op = list; op; op = op->next)
      run_alone(d, op);
}

/* What cannot be answered now goes to the end of s->late. */
static void answer_list(struct store *s, struct store_op *list) {
  struct store_op **late = &s->late;
  while (*late)
    late = &(*late)->next;
  for (struct store_op *op = list, *next; op; op = next) {
    next = op->next;
    op->next = NULL;
    if (!answer(op)) {
      *late = op;
      late = &op->next;
    }
  }
}

static void answer_late(struct store *s) {
  struct store_op *list = s->late;
  s->late = NULL;
  answer_list(s, list);
}

/* The first of the queue; with a row for the audits that found it full. Under the lock. */
static struct store_op *take_group(struct store *s) {
  struct store_op *list = s->first, **end = &list;
  for (unsigned n = 0; n < GROUP && *end; n++) {
    end = &(*end)->next;
    s->waiting--;
  }
  s->first = *end;
  *end = NULL;
  if (!s->first)
    s->last = &s->first;
  struct store_op *note = s->audits_left_out ? calloc(1, sizeof *note) : NULL;
  if (note) {
    note->kind = OP_AUDIT;
    note->store = s;
    note->now = note->in.audit.at = store_now();
    str_copy(note->in.audit.actor, sizeof note->in.audit.actor, "store");
    str_copy(note->in.audit.action, sizeof note->in.audit.action, "left-out");
    str_fmt(note->in.audit.detail, sizeof note->in.audit.detail,
            "%u rows were left out while the queue was full", s->audits_left_out);
    s->audits_left_out = 0;
    *end = note;
  }
  return list;
}

/* Until there is something to do. Under the lock. */
static void wait_for_work(struct store *s) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  at.tv_nsec += LATE_MS * 1000000L;
  at.tv_sec += at.tv_nsec / 1000000000;
  at.tv_nsec %= 1000000000;
  if (s->late)
    pthread_cond_timedwait(&s->work, &s->lock, &at);
  else
    pthread_cond_wait(&s->work, &s->lock);
}

static void *work(void *arg) {
  struct store *s = arg;
  pthread_mutex_lock(&s->lock);
  for (;;) {
    if (!s->first && !s->closing)
      wait_for_work(s);
    if (!s->first && s->closing)
      break;
    struct store_op *list = s->first ? take_group(s) : NULL;
    pthread_mutex_unlock(&s->lock);
    answer_late(s);
    if (list)
      run_list(s->driver, list);
    answer_list(s, list);
    pthread_mutex_lock(&s->lock);
  }
  pthread_mutex_unlock(&s->lock);
  return NULL;
}

static int enqueue(struct store *s, struct store_op *op) {
  int err = s->closing ? BEAM_ERR_CLOSED : s->waiting >= LIMIT_STORE_QUEUE ? BEAM_ERR_LIMIT : 0;
  if (err == BEAM_ERR_LIMIT && op->kind == OP_AUDIT)
    s->audits_left_out++;
  if (err)
    return err;
  op->next = NULL;
  *s->last = op;
  s->last = &op->next;
  s->waiting++;
  pthread_cond_signal(&s->work);
  return 0;
}

int store_submit(struct store *s, struct store_op *op, struct store_op **out) {
  op->store = s;
  if (out)
    *out = op->cb ? op : NULL; /* before the thread can see op: it may be gone afterwards */
  pthread_mutex_lock(&s->lock);
  int err = 0;
  if (s->threaded) {
    err = enqueue(s, op);
  } else {
    op->next = NULL;
    run_list(s->driver, op);
  }
  pthread_mutex_unlock(&s->lock);
  if (err) {
    if (out)
      *out = NULL;
    log_limited(BEAM_LOG_WARN, "store", "refused: %s",
                err == BEAM_ERR_LIMIT ? "LIMIT_STORE_QUEUE" : "closed");
    op_free(op);
  } else if (!s->threaded && !answer(op)) {
    log_error("store", "an answer could not be delivered");
    op_free(op);
  }
  return err;
}

/* --- life --- */

int store_start(struct driver *d, bool threaded, struct store **out, struct beam_error *e) {
  *out = NULL;
  struct store *s = calloc(1, sizeof *s);
  if (!s) {
    d->ops->close(d);
    return err_set(e, BEAM_ERR_NOMEM, NULL, "no memory for the store");
  }
  s->driver = d;
  s->threaded = threaded;
  s->last = &s->first;
  pthread_mutex_init(&s->lock, NULL);
  pthread_cond_init(&s->work, NULL);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before); /* the program's signals are for its own threads */
  int code = threaded ? pthread_create(&s->thread, NULL, work, s) : 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (code) {
    s->threaded = false;
    store_close(s);
    return err_set(e, BEAM_ERR_SYSTEM, "raise the limit of threads", "no thread for the store: %s",
                   strerror(code));
  }
  if (threaded)
    pthread_setname_np(s->thread, "beam-store");
  *out = s;
  return 0;
}

void store_close(struct store *s) {
  if (!s)
    return;
  pthread_mutex_lock(&s->lock);
  s->closing = true;
  pthread_cond_signal(&s->work);
  pthread_mutex_unlock(&s->lock);
  if (s->threaded)
    pthread_join(s->thread, NULL);
  forget_answers(s);
  for (struct store_op *op = s->late, *next; op; op = next) {
    next = op->next;
    op_free(op);
  }
  s->driver->ops->close(s->driver);
  pthread_cond_destroy(&s->work);
  pthread_mutex_destroy(&s->lock);
  free(s);
}

int store_open(const char *dir, struct store **out, struct beam_error *e) {
  *out = NULL;
  char path[PATH_ROOM];
  int err = dir_make_private(dir, e);
  if (err)
    return err;
#ifdef BEAM_NO_SQLITE
  err = path_join(path, dir, "beam.journal", e);
  return err ? err : store_open_file(path, out, e);
#else
  err = path_join(path, dir, "beam.db", e);
  return err ? err : store_open_sqlite(path, out, e);
#endif
}

#ifdef BEAM_NO_SQLITE
int store_open_sqlite(const char *path, struct store **out, struct beam_error *e) {
  *out = NULL;
  return err_set(e, BEAM_ERR_UNSUPPORTED, NULL, "%s is an SQLite store, and this build has no SQLite", path);
}
#endif
