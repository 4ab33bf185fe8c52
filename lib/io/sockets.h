/* sockets.h: the parts of net_sockets, for lib/io alone. A host "unix:/path" is a unix socket; the port does not matter then. */
#ifndef IO_SOCKETS_H
#define IO_SOCKETS_H

#include <sys/un.h>

#include "io/net.h"
#include "io/resolve.h"

/* Length of an address for bind and connect. */
socklen_t addr_len(const struct sockaddr_storage *a);
/* Address literal or "unix:/path" to address. false: it is neither. */
bool addr_literal(const char *host, uint16_t port, struct sockaddr_storage *out);
/* Notice a peer that vanished without a word: probes after a minute of silence. Inherited from a listener by what it accepts. */
void sock_keepalive(int fd);

/* LIMIT_TCP_UNHEARD_MS; a test puts its own here. */
extern uint32_t sock_unheard_ms;

int sockets_dial(struct net *n, struct loop *l, const char *host, uint16_t port, uint64_t timeout_ms,
                 dial_cb cb, void *user, struct dial **out);
void sockets_dial_cancel(struct dial *d);
int sockets_listen(struct net *n, struct loop *l, const char *host, uint16_t port, const void *siblings,
                   accept_cb cb, void *user, struct listener **out);
uint16_t sockets_port(struct listener *ls);
void sockets_unlisten(struct listener *ls);
int sockets_watch(struct net *n, struct loop *l, net_changed_cb cb, void *user, struct net_watch **out);
void sockets_unwatch(struct net_watch *w);
/* ms that this machine was suspended since it started; a test puts its own here. */
extern uint64_t (*netwatch_asleep)(void);

#endif
