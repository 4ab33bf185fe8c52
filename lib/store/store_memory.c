/* The memory driver: for tests and the sim. No thread, no transactions to undo: an operation that fails has changed nothing. */
#include <stdlib.h>

#include "base/err.h"
#include "store/tables.h"

struct memory {
  struct driver d;
  struct tables tables;
};

static int begin(struct driver *d, bool write, struct beam_error *e) {
  (void)d;
  (void)write;
  (void)e;
  return 0;
}

static int commit(struct driver *d, struct beam_error *e) {
  (void)d;
  (void)e;
  return 0;
}

static void rollback(struct driver *d) {
  (void)d;
}

static int run(struct driver *d, struct store_op *op) {
  return tables_run(&((struct memory *)d)->tables, op);
}

static void finish(struct driver *d) {
  tables_free(&((struct memory *)d)->tables);
  free(d);
}

static const struct driver_ops ops = {begin, commit, rollback, run, finish};

int store_open_memory(struct store **out, struct beam_error *e) {
  struct memory *m = calloc(1, sizeof *m);
  *out = NULL;
  if (!m)
    return err_set(e, BEAM_ERR_NOMEM, NULL, "no memory for the store");
  m->d.ops = &ops;
  tables_init(&m->tables, true, NULL, NULL);
  return store_start(&m->d, false, out, e);
}
