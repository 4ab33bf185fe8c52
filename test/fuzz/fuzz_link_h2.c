/* The other side of an HTTP/2 link says anything. Byte 0: bit 0 the link's role, bit 1 a proper beginning first, bit 2 the owner
 * reads, bit 3 it writes, bit 4 it closes streams at once; the rest is what comes, cut at the bytes that say so. */
#include "fuzz.h"
#include "io/budget.h"
#include "io/mem.h"
#include "link/h2.h"

struct owner {
  unsigned bits;
  unsigned closed;
  struct stream *streams[64];
  unsigned n;
};

static void on_readable(void *user) {
  (void)user;
}
static void on_closed(void *user, int reason) {
  (void)user;
  MUST(reason < BEAM_AGAIN);
}
static const struct stream_events stream_events = {on_readable, on_readable, on_closed};

static void on_stream(void *user, struct stream *s) {
  struct owner *o = user;
  if (o->bits & 16 || o->n == 64) {
    stream_close(s, o->bits & 4 ? 0 : BEAM_ERR_REFUSED);
    return;
  }
  stream_own(s, &stream_events, o);
  o->streams[o->n++] = s;
}

static void on_control(void *user, const beam_Control *m) {
  (void)user;
  MUST(m->which_kind <= beam_Control_offer_tag);
}

static void on_link_closed(void *user, int reason) {
  struct owner *o = user;
  MUST(!o->closed++ && reason < BEAM_AGAIN);
}

static const struct link_events events = {NULL, on_stream, on_control, on_link_closed, NULL};

static const uint8_t to_agent[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                  "\0\0\0\4\0\0\0\0\0\0\0\0\4\1\0\0\0\0"
                                  "\0\0\122\1\4\0\0\0\1"
                                  "\0\7:method\7CONNECT\0\x09:protocol\x0c"
                                  "beam-control\0\7:scheme\5https\0\x0a:authority\4beam\0\5:path\1/";
static const uint8_t to_relay[] = "\0\0\x0c\4\0\0\0\0\0\0\x08\0\0\0\1\0\3\0\0\0\x64\0\0\0\4\1\0\0\0\0"
                                  "\0\0\1\1\4\0\0\0\1\x88";

static void act(struct owner *o, struct link *k) {
  for (unsigned i = 0; i < o->n; i++) {
    struct stream *s = o->streams[i];
    if (o->bits & 4)
      stream_consume(s, stream_waiting(s));
    if (o->bits & 8)
      stream_write(s, "some bytes", 10);
    if (stream_at_end(s))
      stream_finish(s);
  }
  struct stream *s;
  if (o->bits & 8 && o->n < 64 && !link_open(k, &s)) {
    stream_own(s, &stream_events, o);
    o->streams[o->n++] = s;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  static const uint8_t exporter[32];
  struct owner o = {0};
  struct loop *l;
  struct stream *a, *b;
  struct link *k;
  if (!n)
    return 0;
  o.bits = *p++;
  n--;
  MUST(!loop_new_virtual(&l) && !mem_pair(l, &a, &b));
  MUST(!link_h2_new(a, o.bits & 1 ? LINK_RELAY : LINK_AGENT, exporter, &k));
  link_own(k, &events, &o);
  if (o.bits & 2) {
    loop_run_for(l, 0);
    if (o.bits & 1)
      stream_write(b, to_relay, sizeof to_relay - 1);
    else
      stream_write(b, to_agent, sizeof to_agent - 1);
    loop_run_for(l, 0);
    MUST(k->ready);
  }
  while (n && !o.closed) {
    size_t part = p[0] & 0x40 ? n : p[0] < n ? p[0] + 1u : n;
    stream_write(b, p, part);
    loop_run_for(l, p[0] & 1);
    stream_consume(b, stream_waiting(b));
    act(&o, k);
    p += part;
    n -= part;
  }
  loop_run_for(l, 1);
  stream_finish(b);
  loop_run_for(l, 1);
  stream_consume(b, stream_waiting(b));
  loop_run_for(l, 1);
  MUST(o.closed == 1);
  link_close(k, o.bits & 32 ? BEAM_ERR_PROTOCOL : 0);
  for (unsigned i = 0; i < o.n; i++)
    stream_close(o.streams[i], 0);
  stream_close(b, 0);
  loop_run_for(l, H2_CLOSE_MS + 1);
  MUST(!atomic_load(&budget_pool.used));
  loop_free(l);
  return 0;
}
