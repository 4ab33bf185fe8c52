#include "relay/forget.h"

#include "base/log.h"
#include "relay/fresh.h"

static void ask(struct worker *w);

static void on_forgotten(void *user, int err, const struct store_reply *reply) {
  struct worker *w = user;
  w->forgetting = NULL;
  if (err || !reply->n)
    return;
  log_info("relay", "forgot %zu old rows", reply->n);
  if (!w->closing)
    ask(w);
}

static void ask(struct worker *w) {
  store_forget(w->relay->store, w->loop, on_forgotten, w, &w->forgetting);
}

void forget_start(struct worker *w) {
  w->forgot_at = loop_now(w->loop);
  if (!w->forgetting)
    ask(w);
}

void forget_sweep(struct worker *w) {
  fresh_sweep(w->relay->fresh, loop_now(w->loop));
  if (loop_now(w->loop) - w->forgot_at >= LIMIT_FORGET_MS)
    forget_start(w);
}
