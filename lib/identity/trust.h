/* trust.h: may they? One pure decision for everything; the caller brings the facts. */
#ifndef IDENTITY_TRUST_H
#define IDENTITY_TRUST_H

#include <beam/beam.h>
#include <stdbool.h>

enum trust_action {
  TRUST_LISTEN,  /* the relay's own start */
  TRUST_HELLO,   /* an agent wants a session */
  TRUST_BIND,    /* a session wants a name or a port */
  TRUST_CONNECT, /* a session wants to reach a private tunnel */
};

struct trust_facts {
  enum trust_action action;
  /* the relay */
  bool relay_public; /* listens beyond loopback */
  bool open;         /* --open */
  bool tokens_set;   /* --agent-token-file */
  bool draining;     /* it goes away: nothing new */
  /* HELLO */
  bool proof_ok; /* channel-bound signature of the device key */
  bool version_ok;
  bool token_given, token_ok;
  unsigned sessions; /* of this relay, now */
  /* BIND */
  bool name_given, label_ok, reserved;
  bool owned_by_other; /* the store knows another principal for it */
  bool live_elsewhere; /* another device of the same principal serves it now */
  bool takeover;       /* --takeover */
  bool port_wanted;    /* tcp or udp: a public port of the relay */
  bool ports_offered;  /* the relay gives such ports */
  unsigned tunnels;    /* of this session, now */
  /* CONNECT; and owned_by_other */
  bool running; /* a session has that name */
  bool is_private;
};

struct trust {
  int err;            /* 0: allowed */
  const char *reason; /* static: for the log, the audit chain and the person */
  const char *hint;   /* static: what to do */
};
struct trust trust_allows(const struct trust_facts *f);

#endif
