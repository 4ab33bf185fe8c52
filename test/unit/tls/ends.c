#include "ends.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "io/mem.h"

/* --- the wire --- */

static void pump(void *arg) {
  struct wire *w = arg;
  for (int d = 0; d < 2; d++) {
    struct stream *from = w->far[d], *to = w->far[!d];
    if (!from || !to)
      continue;
    size_t room = stream_room(to), n = stream_waiting(from);
    n = n < room ? n : room;
    n = n < w->step ? n : w->step;
    if (d == 1 && w->cut_after && w->carried[1] + n > w->cut_after)
      n = w->cut_after - w->carried[1];
    n = stream_move(to, stream_input(from), n);
    stream_credit(from, n);
    w->carried[d] += n;
    if (stream_at_end(from) || (d == 1 && w->cut_after && w->carried[1] == w->cut_after))
      stream_finish(to);
    else if (n)
      loop_soon(from->loop, &w->task);
  }
}

static void on_move(void *user) {
  struct wire *w = user;
  for (int d = 0; d < 2; d++)
    if (w->far[d])
      loop_soon(w->far[d]->loop, &w->task);
}

static void on_cut(void *user, int reason) {
  struct wire *w = user;
  struct stream *a = w->far[0], *b = w->far[1];
  w->far[0] = w->far[1] = NULL;
  stream_close(a, reason);
  stream_close(b, reason);
}

static const struct stream_events wire_events = {on_move, on_move, on_cut};

static void wire_open(struct wire *w, struct loop *l, size_t step) {
  w->step = step;
  task_init(&w->task, pump, w);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(mem_pair(l, &w->near[i], &w->far[i]), 0);
    stream_own(w->far[i], &wire_events, w);
  }
}

/* --- an end --- */

uint64_t end_hash(uint64_t hash, const void *p, size_t n) {
  const unsigned char *b = p;
  for (size_t i = 0; i < n; i++)
    hash = (hash ^ b[i]) * 0x100000001b3u;
  return hash;
}

static void on_readable(void *user) {
  struct end *e = user;
  unsigned char buf[10000];
  int n;
  while (!e->hold && (n = evbuffer_remove(stream_input(e->s), buf, sizeof buf)) > 0) {
    stream_credit(e->s, (size_t)n);
    e->got += (size_t)n;
    e->hash = end_hash(e->hash, buf, (size_t)n);
    memset(e->last, 0, sizeof e->last);
    memcpy(e->last, buf, (size_t)n < sizeof e->last ? (size_t)n : sizeof e->last - 1);
  }
  if (stream_at_end(e->s))
    e->at_end = true;
}

static void on_writable(void *user) {
  struct end *e = user;
  e->writable = true;
}

static void on_closed(void *user, int reason) {
  struct end *e = user;
  e->closed = reason;
}

const struct stream_events end_events = {on_readable, on_writable, on_closed};

static void on_done(void *user, int err, struct stream *s, const struct tls_info *info) {
  struct end *e = user;
  assert_int_equal(e->err, 1); /* once */
  e->shaking = NULL;
  e->err = err;
  e->s = s;
  if (err) {
    assert_null(s);
    return;
  }
  e->info = *info;
  stream_own(s, &end_events, e);
}

void world_open(struct world *w, struct tls_context *client, struct tls_context *server, size_t step) {
  memset(w, 0, sizeof *w);
  assert_int_equal(loop_new_virtual(&w->l), 0);
  wire_open(&w->w, w->l, step);
  w->client.err = w->server.err = 1;
  assert_int_equal(tls_accept(w->w.near[1], server, on_done, &w->server, &w->server.shaking), 0);
  assert_int_equal(tls_connect(w->w.near[0], client, on_done, &w->client, &w->client.shaking), 0);
}

void world_run(struct world *w) {
  loop_run_for(w->l, 0);
}

static void end_close(struct end *e) {
  if (e->shaking)
    tls_cancel(e->shaking);
  stream_close(e->s, BEAM_ERR_CLOSED);
}

void world_close(struct world *w) {
  end_close(&w->client);
  end_close(&w->server);
  task_cancel(&w->w.task);
  stream_close(w->w.far[0], BEAM_ERR_CLOSED);
  stream_close(w->w.far[1], BEAM_ERR_CLOSED);
  loop_free(w->l);
}
