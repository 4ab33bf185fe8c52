#include "relay/audit.h"

#include "base/str.h"

static void append(struct worker *w, const char *actor, const char *action, const char *subject,
                   const char *detail) {
  struct store_audit a = {actor, action, subject, detail};
  store_audit(w->relay->store, w->loop, &a, NULL, NULL, NULL);
}

/* A bucket that holds LIMIT_AUDIT_BURST and fills at LIMIT_AUDIT_RATE a second. */
static bool take(struct audit_gate *g, uint64_t now) {
  uint64_t gained = (now - g->since) * LIMIT_AUDIT_RATE / 1000;
  if (gained) {
    g->since = now;
    g->spent = gained < g->spent ? g->spent - gained : 0;
  }
  if (g->spent >= LIMIT_AUDIT_BURST)
    return false;
  g->spent++;
  return true;
}

void audit(struct worker *w, const char *actor, const char *action, const char *subject, const char *detail) {
  struct audit_gate *g = &w->audit;
  if (!take(g, loop_now(w->loop))) {
    g->left_out++;
    return;
  }
  if (g->left_out) {
    char text[64];
    str_fmt(text, sizeof text, "%u rows over the rate were left out", g->left_out);
    g->left_out = 0;
    append(w, "relay", "left-out", "", text);
  }
  append(w, actor, action, subject, detail);
}
