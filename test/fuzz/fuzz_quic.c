/* A link over QUIC whose other side says anything: packets are changed on the wire, or, where that would only be dropped, their frames before they
 * are encrypted. Byte 0: bit 0 who lies (relay, agent), bit 1 on the wire, bit 2 from the first packet on (else after the greeting), bit 3 Retry,
 * bit 4 streams are aborted, bit 5 the link moves, bit 6 it resumes a session, with early data; byte 1: how many packets pass between two lies; the rest: offset, count, bytes of each lie. */
#include "fuzz.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "identity/ca.h"
#include "io/budget.h"
#include "link/greet.h"
#include "link/link.h"
#include "quic/conn.h"

static struct {
  const uint8_t *p;
  size_t n, at;
  unsigned bits, pause, count;
  bool lying;
} input;

static uint8_t next(void) {
  return input.at < input.n ? input.p[input.at++] : 0;
}

static void lie(uint8_t *p, size_t n) {
  if (!n || input.at >= input.n || input.count++ % (input.pause + 1))
    return;
  size_t offset = ((size_t)next() << 8 | next()) % n, count = next() % 24u;
  for (size_t i = 0; i < count && offset + i < n; i++)
    p[offset + i] = next();
}

static void on_wire(void *user, uint8_t *p, size_t *n) {
  (void)user;
  if (!input.lying || !(input.bits & 2))
    return;
  if (input.at < input.n && input.p[input.at] == 0xff && *n > 1)
    *n -= 1 + *n / 2;
  lie(p, *n);
}

/* The first argument that names the connection is the cipher's; who lies is told by the key's direction alone, so both ends take turns. */
static int encrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *ctx,
                   const uint8_t *plain, size_t n, const uint8_t *nonce, size_t nonce_n, const uint8_t *aad,
                   size_t aad_n) {
  static unsigned turn;
  uint8_t changed[QUIC_PAYLOAD_MAX];
  if (!input.lying || (input.bits & 2) || n > sizeof changed || (turn++ & 1) != (input.bits & 1))
    return ngtcp2_crypto_encrypt_cb(dest, aead, ctx, plain, n, nonce, nonce_n, aad, aad_n);
  memcpy(changed, plain, n);
  lie(changed, n);
  return ngtcp2_crypto_encrypt_cb(dest, aead, ctx, changed, n, nonce, nonce_n, aad, aad_n);
}

/* --- the two ends --- */

static const char *const alpn[] = {"beam/1", NULL};
static struct tls_cert *cert;
static struct link *relay, *agent;
static bool over;                    /* who comes late is not let in */
static struct quic_conn *earlier[2]; /* the connection whose session is resumed: its client, its server */
static unsigned closed[2];

static struct tls_cert *choose(void *user, const char *sni, const char *which) {
  (void)user, (void)sni, (void)which;
  return tls_cert_ref(cert);
}

static void on_control(void *user, const beam_Control *m) {
  (void)user;
  MUST(m->which_kind <= beam_Control_offer_tag);
}
static void on_link_closed(void *user, int reason) {
  MUST(!(*(unsigned *)user)++ && reason < BEAM_AGAIN);
}

struct held {
  struct stream *s;
  unsigned closed;
};
static struct held held[64];
static unsigned held_n;

static void on_readable(void *user) {
  struct held *h = user;
  stream_consume(h->s, stream_waiting(h->s));
}
static void on_stream_closed(void *user, int reason) {
  MUST(!((struct held *)user)->closed++ && reason < BEAM_AGAIN);
}
static const struct stream_events stream_events = {on_readable, on_readable, on_stream_closed};

static void hold(struct stream *s) {
  if (held_n == 64) {
    stream_close(s, BEAM_ERR_LIMIT);
    return;
  }
  held[held_n] = (struct held){.s = s};
  stream_own(s, &stream_events, &held[held_n++]);
}
static void on_stream(void *user, struct stream *s) {
  (void)user;
  hold(s);
}
static const struct link_events events = {NULL, on_stream, on_control, on_link_closed, NULL};

/* --- a session of before --- */

static void on_earlier(void *user) {
  (void)user;
}
static void on_earlier_closed(void *user, int reason) {
  (void)reason;
  quic_conn_close(*(struct quic_conn **)user, BEAM_ERR_CLOSED);
  *(struct quic_conn **)user = NULL;
}
static const struct quic_conn_events earlier_events = {.ready = on_earlier, .closed = on_earlier_closed};

static uint8_t session[LIMIT_QUIC_SESSION], early[64];

static void make_session(struct loop *l, const struct sockaddr_storage *to, struct quic_client_conf *cc) {
  const uint8_t *at;
  MUST(!quic_connect(l, to, cc, &earlier[0]));
  quic_conn_own(earlier[0], &earlier_events, &earlier[0]);
  loop_run_for(l, 30);
  if (!earlier[0] || quic_conn_session(earlier[0], &at, &cc->session_n))
    return;
  memcpy(session, at, cc->session_n);
  cc->session = session;
  cc->early = early;
  cc->early_n = (size_t)greet_offer(early, sizeof early);
}

static void end_session(struct loop *l) {
  for (int i = 0; i < 2; i++) {
    quic_conn_close(earlier[i], BEAM_ERR_CLOSED);
    earlier[i] = NULL;
  }
  loop_run_for(l, 10);
}

static void accepted(void *user, struct quic_conn *c) {
  (void)user;
  if (earlier[0] && !earlier[1]) {
    earlier[1] = c;
    quic_conn_own(c, &earlier_events, &earlier[1]);
    return;
  }
  if (relay || over) {
    quic_conn_close(c, BEAM_ERR_REFUSED);
    return;
  }
  MUST(!link_quic_new(c, LINK_RELAY, &relay));
  link_own(relay, &events, &closed[0]);
}

static void act(void) {
  static const char bytes[3000];
  struct stream *s;
  beam_Control m = beam_Control_init_zero;
  m.which_kind = beam_Control_ping_tag;
  if (relay && !link_open(relay, &s))
    hold(s);
  if (relay)
    link_send(relay, &m);
  link_send(agent, &m);
  for (unsigned i = 0; i < held_n; i++)
    stream_write(held[i].s, bytes, sizeof bytes);
  if (held_n > 3 && input.bits & 16) {
    held_n--;
    stream_close(held[held_n].s, held_n & 1 ? BEAM_ERR_LOCAL : 0);
    held[held_n].s = NULL;
  }
}

static void prepare(void) {
  static const char *const names[] = {"relay.test"};
  struct beam_error e = BEAM_ERROR_INIT;
  struct ca *ca;
  struct cert *leaf;
  MUST(!ca_ephemeral(&ca, &e) && !ca_issue(ca, names, 1, CA_LINK, 24, &leaf, &e));
  MUST(!tls_cert_new(leaf->chain, strlen(leaf->chain), leaf->key.p, leaf->key.n, &cert));
  cert_unref(leaf);
  ca_free(ca);
  quic_callbacks_lie(encrypt);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  struct loop *l;
  struct udp_net *net;
  struct quic_endpoint *e;
  struct quic_conn *c;
  if (n < 2)
    return 0;
  if (!cert)
    prepare();
  memset(&input, 0, sizeof input);
  input.p = p;
  input.n = n;
  input.at = 2;
  input.bits = p[0];
  input.pause = p[1] % 16u;
  input.lying = p[0] & 4;
  relay = NULL;
  over = false;
  closed[0] = closed[1] = held_n = 0;
  struct udp_memnet_conf memnet = {.seed = 1, .delay_ms = 1, .mangle = on_wire};
  MUST(!loop_new_virtual(&l) && !udp_memnet_new(l, &memnet, &net));
  struct quic_server_conf sc = {.net = net,
                                .alpn = alpn,
                                .choose = choose,
                                .accept = accepted,
                                .peer_bidi = 1,
                                .always_retry = p[0] & 8,
                                .tickets = "beam/1"};
  struct quic_client_conf cc = {.net = net,
                                .tls = {.alpn = alpn, .trust = TLS_TRUST_ANY, .link = true},
                                .peer_bidi = LIMIT_LINK_STREAMS};
  struct sockaddr_in addr = {
      .sin_family = AF_INET, .sin_port = htons(443), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct sockaddr_storage to = {0};
  memcpy(&to, &addr, sizeof addr);
  MUST(!quic_endpoint_server(l, "127.0.0.1", 443, false, &sc, &e));
  if (p[0] & 64) {
    input.lying = false;
    make_session(l, &to, &cc);
    end_session(l);
    input.lying = p[0] & 4;
  }
  MUST(!quic_connect(l, &to, &cc, &c) && !link_quic_new(c, LINK_AGENT, &agent));
  link_own(agent, &events, &closed[1]);
  loop_run_for(l, 30);
  input.lying = true;
  for (int i = 0; i < 12; i++) {
    act();
    if (i == 4 && input.bits & 32 && !closed[1])
      quic_conn_rebind(c);
    loop_run_for(l, 20);
  }
  loop_run_for(l, 2000);
  for (unsigned i = 0; i < held_n; i++)
    stream_close(held[i].s, i & 1 ? BEAM_ERR_RESET : 0);
  over = true;
  link_close(relay, n & 1 ? 0 : BEAM_ERR_LIMIT);
  link_close(agent, n & 2 ? 0 : BEAM_ERR_TIMEOUT);
  loop_run_for(l, 10000);
  quic_endpoint_close(e);
  loop_run_for(l, 10000);
  loop_free(l);
  udp_memnet_free(net);
  MUST(budget_left(&budget_pool) == LIMIT_POOL_BYTES);
  return 0;
}
