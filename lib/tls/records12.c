/* records12.c: the TLS 1.2 engine of a stream: mbedTLS's own records. Rare enough not to deserve more. */
#include <beam/beam.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "tls/stream.h"

/* Header, explicit nonce and tag are 29 bytes; some room for what we have not thought of. */
enum { OVERHEAD = 48 };

static _Thread_local unsigned char chunk[RECORD_PLAIN_MAX];

static int fail(int err, const char *what) {
  log_limited(BEAM_LOG_INFO, "tls", "%s failed in TLS 1.2 code=-0x%04x", what, (unsigned)-err);
  return err == MBEDTLS_ERR_SSL_ALLOC_FAILED          ? BEAM_ERR_NOMEM
         : err == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE ? BEAM_ERR_RESET
                                                      : BEAM_ERR_PROTOCOL;
}

/* Reading can make mbedTLS write: it refuses each wish to renegotiate with an alert. Who goes on wishing without reading must not fill our memory. */
static int heard_back(struct tls_stream *t) {
  if (++t->refusals > LIMIT_EMPTY_RECORDS)
    return BEAM_ERR_PROTOCOL;
  loop_turn_end(t->s.loop, &t->flush);
  return 0;
}

static int read_one(struct tls_stream *t, int *n) {
  size_t before = evbuffer_get_length(t->out);
  *n = mbedtls_ssl_read(t->ssl, chunk, sizeof chunk);
  return evbuffer_get_length(t->out) > before ? heard_back(t) : 0;
}

static int fill(struct tls_stream *t, size_t ceiling) {
  while (evbuffer_get_length(t->s.in) < ceiling || mbedtls_ssl_get_bytes_avail(t->ssl)) {
    int n, err = read_one(t, &n);
    if (err)
      return err;
    if (n > 0) {
      if (evbuffer_add(t->s.in, chunk, (size_t)n))
        return BEAM_ERR_NOMEM;
      continue;
    }
    if (n == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY)
      t->peer_closed = 1;
    /* The end of the lower stream without one is judged by stream.c. */
    return !n || n == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY || n == MBEDTLS_ERR_SSL_WANT_READ ||
                   n == MBEDTLS_ERR_SSL_CONN_EOF
               ? 0
               : fail(n, "reading");
  }
  return 0;
}

static int seal(struct tls_stream *t, bool all) {
  int max = mbedtls_ssl_get_max_out_record_payload(t->ssl);
  size_t left;
  if (max <= 0)
    return fail(max, "record size");
  while ((left = evbuffer_get_length(t->pending)) && (all || left >= (size_t)max)) {
    size_t n = left < (size_t)max ? left : (size_t)max;
    if (n > sizeof chunk)
      n = sizeof chunk;
    if (evbuffer_copyout(t->pending, chunk, n) != (ev_ssize_t)n)
      return BEAM_ERR_INTERNAL;
    int wrote = mbedtls_ssl_write(t->ssl, chunk, n);
    if (wrote <= 0)
      return fail(wrote, "writing");
    evbuffer_drain(t->pending, (size_t)wrote);
  }
  return 0;
}

static int say_bye(struct tls_stream *t) {
  int err = mbedtls_ssl_close_notify(t->ssl);
  return err ? fail(err, "closing") : 0;
}

static size_t overhead(struct tls_stream *t, size_t n) {
  int max = mbedtls_ssl_get_max_out_record_payload(t->ssl);
  return (n / (max > 0 ? (size_t)max : 1) + 1) * OVERHEAD;
}

static void release(struct tls_stream *t) {
  if (t->ssl)
    mbedtls_ssl_free(t->ssl);
  free(t->ssl);
}

const struct tls_engine tls_engine_12 = {fill, seal, say_bye, overhead, release};
