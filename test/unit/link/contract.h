/* contract.h: what every link must do, whatever its transport. Each test program brings a way to make a pair. */
#ifndef TEST_LINK_CONTRACT_H
#define TEST_LINK_CONTRACT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/loop.h"
#include "link/link.h"

struct pair_kind {
  const char *name;
  int (*make)(struct loop *l, struct link **relay, struct link **agent);
  void (*unmake)(void); /* after both were closed and the loop has settled; may be NULL */
  uint64_t settle_ms;   /* packets take their time: until nothing is left to do */
};

int pair_h2(struct loop *l, struct link **relay,
            struct link **agent); /* HTTP/2 over two joined memory streams */

/* One end of a link and what it was told. */
struct side {
  struct link *k;
  unsigned ready, draining, controls, streams, closed;
  int reason;
  uint64_t nonces[64]; /* of the PINGs that came */
  struct tap *accepted[2048];
  int refuse; /* close accepted streams with this at once */
};

/* One end of a stream that counts. auto_read: takes bytes as they come. */
struct tap {
  struct stream *s;
  struct evbuffer *got;
  unsigned readable, writable, closed;
  int reason;
  bool auto_read, ended, echo;
};

struct world {
  struct loop *l;
  const struct pair_kind *kind;
  struct side relay, agent;
};

void world_make(struct world *w, const struct pair_kind *kind);
void world_free(struct world *w);
void world_run(struct world *w); /* until nothing is left to do */

struct tap *tap_new(struct stream *s, bool auto_read);
void tap_free(struct tap *t, int reason); /* closes what is not closed */
/* Open from the relay's side and wait for the agent's: both ends. */
void world_open(struct world *w, struct tap **relay, struct tap **agent);
int say_ping(struct link *k, uint64_t nonce);

/* All of them; returns the number of failures, as main() does. */
int link_contract_run(const struct pair_kind *kind);

#endif
