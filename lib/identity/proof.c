#include "identity/proof.h"

#include <string.h>

/* All fields have fixed sizes but the label; each still carries its length, so that a later version may add some without two transcripts
 * ever reading alike. */
enum { TRANSCRIPT = 512 };

struct transcript {
  uint8_t p[TRANSCRIPT];
  size_t n;
};

static void put_u32(uint8_t *d, uint32_t v) {
  d[0] = (uint8_t)(v >> 24);
  d[1] = (uint8_t)(v >> 16);
  d[2] = (uint8_t)(v >> 8);
  d[3] = (uint8_t)v;
}

static void field(struct transcript *t, const void *p, size_t n) {
  put_u32(t->p + t->n, (uint32_t)n);
  memcpy(t->p + t->n + 4, p, n);
  t->n += 4 + n;
}

static void text(struct transcript *t, const char *s) {
  field(t, s, strlen(s));
}

static void number(struct transcript *t, uint32_t v) {
  uint8_t b[4];
  put_u32(b, v);
  field(t, b, sizeof b);
}

static void common(struct transcript *t, const struct proof *p, const char *label, const char *role) {
  t->n = 0;
  text(t, label);
  text(t, role);
  field(t, p->exporter, sizeof p->exporter);
  field(t, p->relay, sizeof p->relay);
  field(t, p->device, sizeof p->device);
  number(t, p->version_min);
  number(t, p->version_max);
  field(t, p->session, sizeof p->session);
}

static void hello(struct transcript *t, const struct proof *p) {
  common(t, p, "beam/1 agent hello", "agent");
}

static void welcome(struct transcript *t, const struct proof *p) {
  common(t, p, "beam/1 relay welcome", "relay");
  field(t, p->relay_key, sizeof p->relay_key);
  number(t, p->version);
}

void proof_agent_sign(const struct proof *p, const struct key *device, uint8_t sig[KEY_SIGNATURE]) {
  struct transcript t;
  hello(&t, p);
  key_sign(device, t.p, t.n, sig);
}

int proof_agent_verify(const struct proof *p, const uint8_t sig[KEY_SIGNATURE]) {
  struct transcript t;
  hello(&t, p);
  return key_verify(p->device, t.p, t.n, sig);
}

void proof_relay_sign(const struct proof *p, const struct key *relay, uint8_t sig[KEY_SIGNATURE]) {
  struct transcript t;
  welcome(&t, p);
  key_sign(relay, t.p, t.n, sig);
}

int proof_relay_verify(const struct proof *p, const uint8_t sig[KEY_SIGNATURE]) {
  struct transcript t;
  welcome(&t, p);
  return key_verify(p->relay_key, t.p, t.n, sig);
}
