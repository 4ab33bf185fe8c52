/* dial.h: a QUIC connection to a host by name: its first address of each family at once, the first that completes its handshake wins.
 *
 *   RESOLVE ──► SHAKE (one or two connections) ──► done(c)          all failed, or DIAL time over: done(err)
 */
#ifndef QUIC_DIAL_H
#define QUIC_DIAL_H

#include "quic/quic.h"

struct quic_dial;
/* c is ready and the callee's; NULL with an error. Once, from the task queue. */
typedef void (*quic_dial_cb)(void *user, struct quic_conn *c, int err);

/* conf's pointers must live until the outcome, its ALPN as long as the connection. NOMEM, LIMIT. */
int quic_dial(struct loop *l, const char *host, uint16_t port, const struct quic_client_conf *conf,
              uint64_t timeout_ms, quic_dial_cb cb, void *user, struct quic_dial **out);
void quic_dial_cancel(struct quic_dial *d); /* before the outcome; NULL is accepted */

#endif
