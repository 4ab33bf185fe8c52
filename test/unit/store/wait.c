#include "wait.h"

#include <time.h>

static int64_t pretended;
static int64_t pretend(void) {
  return pretended;
}

void set_days(double days) {
  pretended = (int64_t)(1800000000 + days * 86400);
  store_now = pretend;
}

/* As a relay that runs all the time does. The last question's answer. */
size_t live_until(double from, double to) {
  size_t n = 0;
  for (double day = from; day < to; day += 1.5) {
    set_days(day);
    n += ask_forget()->n;
  }
  set_days(to);
  return n + ask_forget()->n;
}

struct loop *loop;
struct store *store;

void on_got(void *user, int err, const struct store_reply *r) {
  struct got *g = user;
  assert_false(g->done);
  g->done = true;
  g->err = err;
  g->error = *r->error;
  assert_int_equal(r->error->code, err);
  str_copy(g->name, sizeof g->name, r->name);
  str_copy(g->holder, sizeof g->holder, r->holder);
  g->fresh = r->fresh;
  g->n = r->n;
  g->seq = r->seq;
  for (size_t i = 0; i < r->n && r->tunnels && i < 8; i++)
    g->tunnels[i] = r->tunnels[i];
  for (size_t i = 0; i < r->n && r->names && i < 80; i++)
    g->names[i] = r->names[i];
}

void wait_for(struct got *g) {
  time_t end = time(NULL) + 20;
  while (!g->done && time(NULL) < end)
    loop_turn(loop, 100);
  assert_true(g->done);
}

static struct got answers[4];
static struct got *fresh(void) {
  static unsigned next;
  struct got *g = &answers[next++ % 4];
  memset(g, 0, sizeof *g);
  return g;
}

static struct got *waited(struct got *g, int err) {
  assert_int_equal(err, 0);
  assert_false(g->done); /* never from inside the call */
  wait_for(g);
  return g;
}

struct got *ask_name(const char *principal, const char *wanted, const char *const *list, uint16_t port) {
  size_t n = 0;
  while (list && list[n])
    n++;
  struct store_claim c = {.principal = principal,
                          .wanted = wanted,
                          .candidates = list,
                          .n = n,
                          .base = "tunnel.test",
                          .port = port};
  struct got *g = fresh();
  return waited(g, store_allocate(store, loop, &c, on_got, g, NULL));
}

struct got *ask_release(const char *principal, const char *name) {
  struct got *g = fresh();
  return waited(g, store_release(store, loop, principal, name, on_got, g, NULL));
}

struct got *ask_names(const char *principal) {
  struct got *g = fresh();
  return waited(g, store_names(store, loop, principal, on_got, g, NULL));
}

struct got *ask_put(const struct store_tunnel *t) {
  struct got *g = fresh();
  return waited(g, store_tunnel_put(store, loop, t, on_got, g, NULL));
}

struct got *ask_status(const char *id, enum store_status st) {
  struct got *g = fresh();
  return waited(g, store_tunnel_status(store, loop, id, st, on_got, g, NULL));
}

struct got *ask_tunnels(const char *owner, bool live) {
  struct got *g = fresh();
  return waited(g, store_tunnels(store, loop, owner, live, on_got, g, NULL));
}

struct got *ask_reset(const char *base) {
  struct got *g = fresh();
  return waited(g, store_tunnels_reset(store, loop, base, on_got, g, NULL));
}

struct got *ask_forget(void) {
  struct got *g = fresh();
  return waited(g, store_forget(store, loop, on_got, g, NULL));
}

struct got *ask_audit(const char *action, const char *detail) {
  struct store_audit a = {
      .actor = "alice", .action = action, .subject = "shop.tunnel.test", .detail = detail};
  struct got *g = fresh();
  return waited(g, store_audit(store, loop, &a, on_got, g, NULL));
}

struct got *ask_verify(void) {
  struct got *g = fresh();
  return waited(g, store_audit_verify(store, loop, on_got, g, NULL));
}

struct store_tunnel a_tunnel(const char *owner, const char *name) {
  struct store_tunnel t = {.port = 3000, .created_at = store_now(), .status = STORE_PROVISIONING};
  store_new_id(t.id);
  str_copy(t.owner, sizeof t.owner, owner);
  str_copy(t.name, sizeof t.name, name);
  str_copy(t.framework, sizeof t.framework, "vite");
  return t;
}
