/* entry.h: the near end of a private tunnel: a local port whose connections go through the relay to the tunnel's agent.
 *
 *   accepted ─► WAITING (no link) ─► ASKED (Connect sent, together with others of the same moment) ─► PIPED to the stream that the relay opens
 *                   ▲      │               │ refused, or too late: reset
 *                   └──────┴── link lost ──┘
 */
#ifndef AGENT_ENTRY_H
#define AGENT_ENTRY_H

#include "http/exchange.h"
#include "io/net.h"
#include "wire/control.h"

struct entry;

struct entry_conf {
  struct loop *loop;
  struct net *net;
  const char *host; /* "localhost": both loopback addresses; else an address. Borrowed for entry_open() */
  uint16_t port;
  /* Send Connect for `count` streams numbered from id on. Not 0: there is no link just now. */
  int (*ask)(void *user, uint32_t id, uint32_t count);
  void (*finished)(void *user, const struct http_record *r); /* a connection is over */
  void *user;
};

/* IN_USE, PERMISSION, INVALID, NOMEM. */
int entry_open(const struct entry_conf *conf, struct entry **out);
void entry_close(struct entry *e); /* NULL is accepted; no callback any more */
/* A link is there (again): ask for those who wait, and again for those that were asked for on the one before. */
void entry_link(struct entry *e);
/* A stream of the relay's for connection open->connect. Takes s. */
void entry_serve(struct entry *e, struct stream *s, const beam_StreamOpen *open);
/* The relay refused the Connect that began with this number. */
void entry_refused(struct entry *e, uint32_t id, int reason);

#endif
