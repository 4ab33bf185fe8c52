/* proof.h: HELLO and WELCOME signatures. Both are bound to the TLS channel by its exporter, so that nobody in the middle can replay or forward them. */
#ifndef IDENTITY_PROOF_H
#define IDENTITY_PROOF_H

#include "identity/key.h"

/* The TLS exporter (RFC 8446 7.5): label PROOF_EXPORTER, empty context, 32 bytes. */
#define PROOF_EXPORTER "EXPORTER-beam-1"
enum { PROOF_EXPORT = 32 };

struct proof {
  uint8_t exporter[PROOF_EXPORT];
  uint8_t relay
      [32]; /* fingerprint of the relay's CA: the agent takes it from the chain it saw, the relay its own */
  uint8_t device[KEY_PUBLIC];        /* the agent's public key */
  uint32_t version_min, version_max; /* offered by the agent */
  uint8_t session[16]; /* in HELLO: the session to resume, or zeros; in WELCOME: the session given */
  /* WELCOME only: */
  uint8_t relay_key[KEY_PUBLIC];
  uint32_t version; /* chosen */
};

/* Transcript: "beam/1 agent hello" or "beam/1 relay welcome", role, then the fields, each with its length before it. */
void proof_agent_sign(const struct proof *p, const struct key *device, uint8_t sig[KEY_SIGNATURE]);
int proof_agent_verify(const struct proof *p, const uint8_t sig[KEY_SIGNATURE]); /* 0 or UNTRUSTED */
void proof_relay_sign(const struct proof *p, const struct key *relay, uint8_t sig[KEY_SIGNATURE]);
int proof_relay_verify(const struct proof *p, const uint8_t sig[KEY_SIGNATURE]);

#endif
