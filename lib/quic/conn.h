/* conn.h: the parts of a QUIC connection that the files of this folder share.
 *
 *   HANDSHAKE ─► UP ─┬─ the peer closes, silence, broken protocol ─► DEAD: closed() was told, waits for quic_conn_close ─┐
 *                    └─ quic_conn_close ─► CLOSING: streams closed in order drain (no owner any more) ───────────────────┤
 *                                                                        freed ◄─ LINGER: late packets hear the close again (3 PTO)
 *
 * endpoint.c: the socket, packets to connections, newcomers.  cids.c: connection ids.  conn.c: life, what the owner is told.
 * session.c: the engine's callbacks.  send.c: packets out, timers.  stream.c: a stream.  window.c: how large its window is.
 * tls.c: GnuTLS.  verify.c: the peer's chain.  datagram.c.  sendbuf.c: bytes until they are acknowledged.
 *
 * The engine's callbacks never call an owner: they note what happened, and `tell` delivers it from the task queue.
 */
#ifndef QUIC_CONN_H
#define QUIC_CONN_H

#define HASH_NONFATAL_OOM 1 /* an add that failed leaves hh.tbl NULL */

#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <uthash.h>

#include "base/limits.h"
#include "io/alarm.h"
#include "quic/quic.h"
#include "quic/sendbuf.h"

enum {
  QUIC_CID = 12,           /* bytes of a connection id of ours: the first one hides the worker's number */
  QUIC_PAYLOAD_MAX = 8952, /* largest packet that is probed for: jumbo frames */
  QUIC_TX_BYTES = 64 * 1024,
  QUIC_TX_RUNS = 16,
  QUIC_FLUSH_BYTES = 256 * 1024, /* then other events get their turn */
  QUIC_ADDR_BUCKETS = 256,
  QUIC_DATAGRAM_FRAME = 65535, /* largest that we take */
  QUIC_EARLY_ID = 16,
  QUIC_EARLY_SEEN =
      256, /* early data that is known when it comes again, within the ten seconds GnuTLS takes it at all */
};
#define QUIC_NS_PER_MS 1000000u

/* --- streams --- */

struct quic_stream {
  struct stream s;
  struct quic_conn *c; /* NULL once the connection is gone */
  struct quic_stream *prev, *next;
  struct quic_stream *fresh;                 /* next one that the owner has not been told of */
  struct quic_stream *want_prev, *want_next; /* in a ring of those with something to send */
  int64_t id;                                /* -1: QUIC is done with it */
  uint64_t quarter;                          /* of its number: how datagrams name it */
  UT_hash_handle hh;                         /* by it, among those that want datagrams */
  struct sendbuf out;
  size_t charged; /* of out, to the pool */

  /* window.c */
  uint32_t window; /* what the peer may send ahead */
  uint32_t owed;   /* shrunk by so much, but the peer still has that credit */
  size_t held;     /* of s.in, charged to the pool */
  size_t drained;  /* taken by the owner since `since` */
  uint64_t since;  /* ms */

  unsigned bidi : 1, local : 1;
  unsigned bulk : 1;    /* the ring it is in, while it is in one */
  unsigned listens : 1; /* it is in the connection's table */
  unsigned is_fresh : 1;
  unsigned announced : 1; /* a frame of it was sent: the peer knows of it */
  unsigned fin_sent : 1;
  unsigned uncounted : 1; /* not among the streams somebody watches */
  unsigned orphan : 1;    /* closed in order by its owner: drains, then is freed */
  unsigned mute : 1;      /* the peer reads no more: what is written goes nowhere */
  unsigned starved : 1;   /* nothing is sent: the pool is low, acknowledgements make room */
};

/* --- connections --- */

/* flight.c. Times are ns, as the engine's. */
enum { QUIC_FLIGHT_ROUNDS = 8 };
enum quic_flight_state {
  QUIC_FLIGHT_FREE,
  QUIC_FLIGHT_EARLY, /* bulk waits: enough left just now */
  QUIC_FLIGHT_SPARE, /* bulk waits: what is left of the congestion window is for small streams */
  QUIC_FLIGHT_FULL,  /* bulk waits: enough is on its way */
  QUIC_FLIGHT_OVER   /* so do small streams */
};
struct quic_flight {
  uint64_t limit;             /* so many bytes on their way: bulk waits. UINT64_MAX: none */
  uint64_t sent, arrived;     /* bytes of packets; what of them is not on its way any more */
  uint64_t base, base_next;   /* the shortest round trip, and that of the younger samples */
  uint64_t base_at, round_at; /* when they began */
  uint64_t fine;              /* so long a queue is */
  uint64_t round_arrived;
  uint64_t sum, samples;             /* round trips of this round */
  uint64_t most;                     /* on its way in this round */
  uint64_t rate[QUIC_FLIGHT_ROUNDS]; /* bytes a ms */
  uint64_t was;                      /* the best of them since bulk is held */
  uint64_t lifted_at;
  uint64_t pace, next; /* bytes a ms, 0: none; when the next packet of bulk may leave */
  unsigned round, strikes, calm, plateau;
  unsigned packets,
      again; /* large ones of this round; those that had little new in them: they repeat what was lost */
  bool paced, grows;
  bool waiting;             /* bulk did not all go in the last turn */
  bool waited, full_flight; /* bulk did, in this round; because enough was on its way */
  bool busy;                /* there was more to send than went, in this round */
  bool blocked;             /* or than the peer's windows let go */
};

/* Packets for one path, segment size and mark: one system call. */
struct quic_run {
  size_t at, n, segment;
  unsigned segments;
  uint8_t ecn;
  struct sockaddr_storage to, from;
};

struct quic_cid {
  struct quic_cid *next; /* same bucket */
  struct quic_cid *more; /* same connection */
  struct quic_conn *conn;
  ngtcp2_cid cid;
};

struct quic_cids {
  struct quic_cid **bucket;
  size_t buckets, count;
  uint64_t secret[2];
};

struct quic_credential;

struct quic_endpoint {
  struct loop *loop;
  struct udp *udp;
  bool server, refusing, closing;
  struct quic_server_conf conf;
  uint8_t reset_key[32];
  struct quic_cids cids;
  struct quic_conn *conns;
  unsigned half_open, half_open_at[QUIC_ADDR_BUCKETS];
  uint64_t reply_second;
  unsigned replies;
  struct quic_credential *credentials; /* newest first */
  uint8_t *ticket_key;                 /* NULL: no tickets */
  gnutls_anti_replay_t anti_replay;
  uint8_t early[QUIC_EARLY_SEEN][QUIC_EARLY_ID];
  unsigned early_next;

  /* received bytes of one stream, on their way into its buffer */
  void *rx;
  size_t rx_n;
  struct quic_stream *rx_stream;

  uint8_t *tx; /* QUIC_TX_BYTES of packets, in runs */
  size_t tx_n;
  struct quic_run run[QUIC_TX_RUNS];
  unsigned runs;
  bool blocked; /* the socket takes no more: what is in tx waits for writable() */

  struct alarm *alarm; /* the next packet of `paced` */
  uint64_t alarm_at;
  struct quic_conn *paced;
};

struct quic_conn {
  struct quic_endpoint *ep;
  struct quic_conn *prev, *next;
  struct loop *loop;
  ngtcp2_conn *ng; /* NULL when lingering */
  ngtcp2_crypto_conn_ref ref;
  gnutls_session_t tls;
  gnutls_certificate_credentials_t cred; /* a client's */
  struct quic_credential *credential;    /* a server's */
  struct tls_client_config trust;        /* client */
  int tls_err;                           /* why our side refused the handshake */
  struct quic_cid *cids;
  struct sockaddr_storage peer, local;
  unsigned addr_bucket;
  char alpn[32], sni[256];
  struct quic_client *client; /* what it showed */

  const struct quic_conn_events *ev;
  void *user;
  const struct quic_codes *codes;
  unsigned *watch_streams, streams_owned;
  uint64_t *watch_heard, heard;
  uint64_t *watch_moved;
  bool *gone; /* set when the owner closes the connection while `tell` runs */

  struct quic_stream *streams;
  struct quic_stream *fresh, **fresh_tail;
  struct quic_stream
      *want[2]; /* rings of small streams, which go first, and of bulk; the one whose turn it is */
  struct quic_stream *early; /* client: written to before the handshake; the first that is opened */
  unsigned orphans;
  struct quic_stream
      *listeners;   /* uthash by quarter: of one initiator and kind, as all data streams of a link are */
  size_t early_n;   /* server: bytes that came so */
  uint8_t *session; /* client: to resume by */
  size_t session_n;

  struct evbuffer *datagrams_in, *datagrams_out; /* 2-byte length before each */

  struct loop_task tell, flush, reap;
  struct loop_timer timer;    /* the engine's; lingering, closing: the end */
  struct loop_timer trim;     /* windows */
  struct loop_timer deadline; /* of closing */
  struct loop_timer doubt;    /* the network says that the peer is gone: until when it may answer */
  uint64_t doubt_heard;       /* `heard` as it was then */
  int doubt_reason;
  struct quic_conn *paced; /* next in the endpoint's list */
  uint64_t paced_at;

  int closed; /* reason to tell */
  int bye;    /* reason to give the peer */
  uint8_t *last_words;
  size_t last_words_n;
  unsigned late; /* packets that came while lingering */
  uint64_t reset_second;
  unsigned resets;
  uint64_t sent_packets, ect_packets, ce_packets;
  struct quic_flight flight;

  unsigned server : 1;
  unsigned half_open : 1;
  unsigned up : 1;        /* handshake complete */
  unsigned confirmed : 1; /* and the server has said that it knows */
  unsigned accepted : 1;
  unsigned tell_ready : 1, tell_closed : 1, tell_room : 1;
  unsigned told_ready : 1;
  unsigned dead : 1;
  unsigned closing : 1;
  unsigned settling : 1; /* closing, all is delivered */
  unsigned lingering : 1;
  unsigned was_reset : 1; /* statelessly */
  unsigned is_paced : 1;
  unsigned no_datagram_room : 1;
  unsigned handling : 1; /* the engine runs: nobody may free the connection */
};

/* endpoint.c */
int quic_endpoint_new(struct loop *l, const struct udp_conf *udp, struct quic_endpoint **out);
void quic_endpoint_free(struct quic_endpoint *e);
bool quic_endpoint_push(struct quic_endpoint *e); /* send what is in tx; false: blocked */
void quic_endpoint_gather(struct quic_endpoint *e, struct quic_stream *st, const uint8_t *p, size_t n);
void quic_endpoint_gathered(struct quic_endpoint *e);
void quic_endpoint_forget(struct quic_endpoint *e, struct quic_stream *st);
void quic_endpoint_pace(struct quic_endpoint *e, struct quic_conn *c, uint64_t at);
void quic_endpoint_unpace(struct quic_endpoint *e, struct quic_conn *c);
void quic_endpoint_half_open(struct quic_conn *c, bool begins);
extern const struct udp_events quic_endpoint_events;

/* cids.c */
int quic_cids_init(struct quic_cids *t);
void quic_cids_fini(struct quic_cids *t);
struct quic_conn *quic_cids_find(const struct quic_cids *t, const uint8_t *p, size_t n);
int quic_cids_add(struct quic_cids *t, struct quic_conn *c, const ngtcp2_cid *cid);
void quic_cids_remove(struct quic_cids *t, struct quic_conn *c, const ngtcp2_cid *cid);
void quic_cids_remove_all(struct quic_cids *t, struct quic_conn *c);
void quic_cid_make(const struct quic_endpoint *e, ngtcp2_cid *out);
unsigned quic_cid_worker(const struct quic_endpoint *e, const uint8_t *cid); /* QUIC_CID bytes of it */

/* conn.c */
int quic_conn_new(struct quic_endpoint *e,
                  struct quic_conn **out); /* in the endpoint's list, without an engine */
void quic_conn_free(struct quic_conn *c);
void quic_conn_input(struct quic_conn *c, const struct udp_packet *p);
void quic_conn_tell_soon(struct quic_conn *c);
void quic_conn_flush_soon(struct quic_conn *c);
/* Whoever owns it is told `reason`; the peer hears `error` (NULL: nothing). Not from the engine's callbacks. */
void quic_conn_die(struct quic_conn *c, int reason, const ngtcp2_ccerr *error);
void quic_conn_failed(struct quic_conn *c, int liberr); /* what a call of the engine returned */
void quic_conn_settle(struct quic_conn *c);             /* after a flush: closing, and all is delivered? */
void quic_conn_doubt(struct quic_conn *c,
                     int reason); /* an established one: the network says that nobody is there */
ngtcp2_path quic_conn_path(struct quic_conn *c);

/* session.c */
struct quic_hello { /* a newcomer's first packet */
  const ngtcp2_pkt_hd *hd;
  const ngtcp2_cid *original; /* before Retry; NULL: there was none */
};
int quic_session_server(struct quic_conn *c, const struct quic_hello *hello);
int quic_session_client(struct quic_conn *c, const struct quic_client_conf *conf);

#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
void quic_callbacks_lie(ngtcp2_encrypt encrypt); /* connections made from now on encrypt by it */
#endif

/* send.c */
void quic_send_flush(void *arg); /* the flush task; may free c */
void quic_send_timer(void *arg);
long quic_send_last_words(struct quic_conn *c, const ngtcp2_ccerr *error);
void quic_send_raw(struct quic_endpoint *e, const struct sockaddr_storage *to,
                   const struct sockaddr_storage *from, const uint8_t *p, size_t n);

/* stream.c */
int quic_stream_make(struct quic_conn *c, int64_t id, bool bidi, bool local, struct quic_stream **out);
void quic_stream_free(struct quic_stream *st);
void quic_stream_want(struct quic_stream *st);
void quic_stream_unwant(struct quic_stream *st);
bool quic_stream_may_send(struct quic_stream *st);
void quic_stream_sent(struct quic_stream *st, size_t n, bool fin);
void quic_stream_acked(struct quic_stream *st, size_t n);
void quic_stream_credited(struct quic_stream *st); /* the peer lets us send more */
void quic_stream_ended(struct quic_stream *st);    /* the peer's end */
void quic_stream_reset(struct quic_stream *st, uint64_t code);
void quic_stream_stopped(struct quic_stream *st);
void quic_stream_over(struct quic_stream *st, uint64_t code); /* QUIC is done with it */
void quic_stream_abandon(struct quic_stream *st, int reason);
void quic_stream_stale(struct quic_stream *st);

/* flight.c */
void quic_flight_init(struct quic_flight *f);
void quic_flight_moved(struct quic_flight *f);            /* another path: what was known is not true of it */
void quic_flight_look(struct quic_conn *c, uint64_t now); /* once a turn, before packets are written */
void quic_flight_sent(struct quic_flight *f, size_t n,
                      size_t fresh);          /* a packet of n bytes, so many for the first time */
void quic_flight_turned(struct quic_conn *c); /* once a turn, after packets were written */
enum quic_flight_state quic_flight_state(struct quic_conn *c, uint64_t now);
bool quic_flight_is_small(const struct quic_stream *st);
uint64_t quic_flight_early(const struct quic_conn *c); /* until when bulk waits to be paced */
size_t quic_flight_burst(struct quic_conn *c); /* so many bytes at once, then what is small gets its turn */

/* window.c */
bool quic_window_fits(void);
void quic_window_init(struct quic_stream *st);
void quic_window_received(struct quic_stream *st);
void quic_window_drained(struct quic_stream *st, size_t n);
void quic_window_over(struct quic_stream *st);
void quic_window_fini(struct quic_stream *st);
void quic_window_trim(void *arg); /* the trim timer */

/* datagram.c */
void quic_datagram_received(struct quic_conn *c, const uint8_t *p, size_t n);
bool quic_datagram_next(struct quic_conn *c, const uint8_t **p, size_t *n);
void quic_datagram_done(struct quic_conn *c); /* the first of those that wait has left, or never will */
void quic_datagrams_free(struct quic_conn *c);
void quic_datagrams_tell(struct quic_conn *c, const bool *gone);
void quic_datagram_deafen(struct quic_stream *st); /* it leaves its connection */

/* tls.c */
int quic_tls_server_begin(struct quic_conn *c);
int quic_tls_client_begin(struct quic_conn *c, const struct quic_client_conf *conf);
void quic_tls_agreed(struct quic_conn *c); /* note ALPN and server name */
void quic_tls_end(struct quic_conn *c);
void quic_tls_credentials_free(struct quic_credential *all);

/* ticket.c */
int quic_tickets_begin(struct quic_endpoint *e);
void quic_tickets_end(struct quic_endpoint *e);
int quic_ticket_server(struct quic_conn *c); /* GnuTLS's error */
void quic_ticket_send(struct quic_conn *c);
void quic_ticket_client(struct quic_conn *c);
int quic_ticket_resume(struct quic_conn *c, const struct quic_client_conf *conf);
void quic_ticket_rejected(struct quic_conn *c);
void quic_ticket_forget(struct quic_conn *c);

/* verify.c */
int quic_verify_peer(gnutls_session_t tls);                /* GnuTLS's callback */
bool quic_verify_can(const struct quic_server_conf *conf); /* is what it trusts something? */

#endif
