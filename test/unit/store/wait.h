/* wait.h: ask the store and turn the loop until the answer is there. */
#ifndef TEST_STORE_WAIT_H
#define TEST_STORE_WAIT_H

#include "../tmpdir.h"

#include "base/str.h"
#include "io/loop.h"
#include "store/op.h"

/* What an answer said, kept after the callback. */
struct got {
  bool done;
  int err;
  struct beam_error error;
  char name[STORE_NAME], holder[STORE_PRINCIPAL];
  bool fresh;
  size_t n;
  uint64_t seq;
  struct store_tunnel tunnels[8];
  struct store_name names[80];
};

extern struct loop *loop;
extern struct store *store;

void on_got(void *user, int err, const struct store_reply *r);
void wait_for(struct got *g); /* fails the test after 20 s */

/* One name for the principal: wanted, or the first free of the list that ends with NULL. */
struct got *ask_name(const char *principal, const char *wanted, const char *const *list, uint16_t port);
struct got *ask_release(const char *principal, const char *name);
struct got *ask_names(const char *principal);
struct got *ask_put(const struct store_tunnel *t);
struct got *ask_status(const char *id, enum store_status st);
struct got *ask_tunnels(const char *owner, bool live);
struct got *ask_reset(const char *base);
struct got *ask_forget(void);
struct got *ask_audit(const char *action, const char *detail);
struct got *ask_verify(void);

/* The store's clock from now on: days after some day. */
void set_days(double days);
/* Ask to forget every day and a half; rows forgotten in all. */
size_t live_until(double from, double to);

struct store_tunnel a_tunnel(const char *owner, const char *name);

#endif
