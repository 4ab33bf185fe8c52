#include "io/udp_batch.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

enum { BYTES = LIMIT_UDP_PAYLOAD > UDP_BATCH_BYTES ? LIMIT_UDP_PAYLOAD : UDP_BATCH_BYTES };

static void flush(void *arg) {
  udp_batch_flush(arg);
}

void udp_batch_init(struct udp_batch *b, struct loop *l) {
  *b = (struct udp_batch){.loop = l};
  task_init(&b->flush, flush, b);
}

void udp_batch_flush(struct udp_batch *b) {
  if (!b->count)
    return;
  long took = udp_send(b->u, &b->to, b->from_any ? NULL : &b->from, UDP_NOT_ECT, b->bytes, b->n, b->segment);
  size_t whole = took < 0 ? 0 : !b->n || (size_t)took == b->n ? b->count : (size_t)took / b->segment;
  b->sent += whole;
  b->lost += b->count - whole;
  b->count = 0;
  b->n = 0;
  task_cancel(&b->flush);
}

/* The bytes of an address that say something: padding does not. */
static bool same(const struct sockaddr_storage *a, const struct sockaddr_storage *b) {
  return !memcmp(a, b, sizeof *a);
}

static bool fits(const struct udp_batch *b, const struct udp *u, const struct sockaddr_storage *to,
                 const struct sockaddr_storage *from, size_t n) {
  bool whole = b->n == b->count * b->segment; /* no shorter one yet, which must be the last */
  return b->u == u && whole && n && n <= b->segment && b->count < UDP_BATCH_SEGMENTS &&
         b->n + n <= UDP_BATCH_BYTES && (!to || same(&b->to, to)) && !from == b->from_any &&
         (!from || same(&b->from, from));
}

void udp_batch_add(struct udp_batch *b, struct udp *u, const struct sockaddr_storage *to,
                   const struct sockaddr_storage *from, const uint8_t *p, size_t n) {
  if (b->count && !fits(b, u, to, from, n))
    udp_batch_flush(b);
  if ((!b->bytes && !(b->bytes = malloc(BYTES))) || n > BYTES) {
    b->lost++;
    return;
  }
  if (!b->count) {
    b->u = u;
    b->segment = n;
    b->from_any = !from;
    memset(&b->to, 0, sizeof b->to);
    if (to)
      b->to = *to;
    if (from)
      b->from = *from;
    loop_turn_end(b->loop, &b->flush);
  }
  memcpy(b->bytes + b->n, p, n);
  b->n += n;
  b->count++;
}

void udp_batch_fini(struct udp_batch *b) {
  udp_batch_flush(b);
  free(b->bytes);
  b->bytes = NULL;
}
