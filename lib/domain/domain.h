/* domain.h: whose name is it? Names under one base domain, kept in the store. */
#ifndef DOMAIN_DOMAIN_H
#define DOMAIN_DOMAIN_H

#include "domain/name.h"
#include "store/store.h"

struct domain;

/* Names under base ("tunnel.test", "localhost"). Borrows the store. INVALID: base is no host name. */
int domain_new(struct store *s, const char *base, struct domain **out, struct beam_error *e);
void domain_free(struct domain *d);
const char *domain_base(const struct domain *d);

struct domain_claim {
  const char *principal;
  const char *
      wanted; /* a label, or a full name under base; NULL or "": one it had for this local port, else a fresh one */
  uint16_t local_port;
  uint16_t port, lo, hi; /* for domain_allocate_port() instead of wanted: 0 for any; between lo and hi */
  bool
      udp; /* for domain_allocate_port(): a UDP port, which is another name than the TCP port of that number */
  bool no_fresh; /* only what the principal has already, else LIMIT */
};
/* 0: cb comes with reply->name, the full name (cancel by store_cancel). At once, without cb: NAME (with text in e), LIMIT, NOMEM, CLOSED.
 * To cb: TAKEN (reply->holder says who), LIMIT, STORE. */
int domain_allocate(struct domain *d, struct loop *l, const struct domain_claim *c, store_cb cb, void *user,
                    struct store_op **op, struct beam_error *e);

/* A public port, kept in the store as the name "PORT.tcp.BASE" or "PORT.udp.BASE", so that it sticks to its principal as names do: the wanted one, the one the principal had for
 * this local port, or a fresh one. As domain_allocate(); domain_port() reads the reply's name. */
int domain_allocate_port(struct domain *d, struct loop *l, const struct domain_claim *c, store_cb cb,
                         void *user, struct store_op **op, struct beam_error *e);
uint16_t domain_port(const char *name); /* 0: not such a name */

#endif
