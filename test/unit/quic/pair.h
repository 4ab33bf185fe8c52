/* pair.h: a QUIC client and a server that have met, over packets in memory (virtual loops) or loopback. */
#ifndef TEST_QUIC_PAIR_H
#define TEST_QUIC_PAIR_H

#include "identity/ca.h"
#include "quic/quic.h"

struct peer {
  struct quic_conn *c;
  unsigned ready, closed, rooms, datagrams;
  int reason;
  size_t datagram_n;
  uint8_t datagram[65536];
  unsigned streams;
  struct stream *stream[4200]; /* those the other side opened */
  bool bidi[4200];
  int refuse; /* close what is opened with this at once */
  bool close_on_stream;
};

struct pair {
  struct loop *l;
  struct udp_net *net;
  struct udp_memnet_conf memnet;
  struct ca *ca;
  struct cert *leaf;
  struct tls_cert *cert;
  struct quic_server_conf sc;
  struct quic_client_conf cc;
  struct quic_endpoint *server;
  struct sockaddr_storage addr;
  struct peer a, b; /* client, server */
  bool real;
  unsigned accepted;
  int verdict; /* of the client's verify() */
  unsigned verified;
  struct tls_peer seen;
  uint8_t ca_seen[32];
  char sni[256], alpn[32]; /* as choose() heard them */
  bool choose_none;
};

/* Everything but endpoints and connections; change sc, cc, memnet before the next. */
void pair_init(struct pair *p, struct loop *l);
int pair_listen(struct pair *p);
int pair_connect(struct pair *p);
void pair_meet(struct pair *p); /* all of it; until both are ready */
void pair_turn(struct pair *p, unsigned ms);
void pair_close(struct pair *p); /* in order */
void pair_fini(struct pair *p);  /* the loop stays the caller's */

#define PAIR_UNTIL(p, condition)                                                                             \
  do {                                                                                                       \
    for (int turns_ = 0; !(condition); turns_++) {                                                           \
      if (turns_ > 20000)                                                                                    \
        fail_msg("waited in vain for %s", #condition);                                                       \
      pair_turn(p, 1);                                                                                       \
    }                                                                                                        \
  } while (0)

#endif
