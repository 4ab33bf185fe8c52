/* resume.c: a TLS 1.3 client's ticket comes after the handshake, and only mbedTLS can turn it into a session. So its context stays until the
 * first ticket, the first data, or LIMIT_TICKET_WAIT_MS, and is shown the records that came before: ours reads the connection all the same.
 */
#include <beam/beam.h>
#include <stdlib.h>

#include "base/limits.h"
#include "tls/stream.h"

struct resume {
  struct tls_stream *t;
  mbedtls_ssl_context *ssl;
  struct tls_context *ctx;
  struct evbuffer *records;
  struct loop_timer timer;
};

void resume_keep(struct tls_context *ctx, mbedtls_ssl_context *ssl) {
  mbedtls_ssl_session fresh;
  mbedtls_ssl_session_init(&fresh);
  if (mbedtls_ssl_get_session(ssl, &fresh)) {
    mbedtls_ssl_session_free(&fresh);
    return;
  }
  pthread_mutex_lock(&ctx->lock);
  mbedtls_ssl_session_free(&ctx->session);
  ctx->session = fresh;
  ctx->has_session = true;
  pthread_mutex_unlock(&ctx->lock);
}

static int recv_shown(void *arg, unsigned char *p, size_t n) {
  struct resume *r = arg;
  int got = evbuffer_remove(r->records, p, n);
  return got > 0 ? got : MBEDTLS_ERR_SSL_WANT_READ;
}

static int send_nothing(void *arg, const unsigned char *p, size_t n) {
  (void)arg;
  (void)p;
  return (int)n; /* alerts about what it does not understand: not its business any more */
}

static void waited(void *arg) {
  struct resume *r = arg;
  resume_end(r->t);
}

void resume_wait(struct tls_stream *t, mbedtls_ssl_context *ssl, struct tls_context *ctx) {
  struct resume *r = calloc(1, sizeof *r);
  struct evbuffer *records = r ? evbuffer_new() : NULL;
  if (r)
    *r = (struct resume){.t = t, .ssl = ssl, .records = records};
  if (records)
    timer_init(&r->timer, t->s.loop, waited, r);
  if (!records || timer_start(&r->timer, LIMIT_TICKET_WAIT_MS)) { /* no resumption then: that is all */
    if (records)
      evbuffer_free(records);
    free(r);
    mbedtls_ssl_free(ssl);
    free(ssl);
    return;
  }
  r->ctx = tls_context_ref(ctx);
  mbedtls_ssl_set_bio(ssl, r, send_nothing, recv_shown, NULL);
  t->resume = r;
}

void resume_end(struct tls_stream *t) {
  struct resume *r = t->resume;
  if (!r)
    return;
  t->resume = NULL;
  timer_stop(&r->timer);
  mbedtls_ssl_free(r->ssl);
  free(r->ssl);
  evbuffer_free(r->records);
  tls_context_unref(r->ctx);
  free(r);
}

void resume_record(struct tls_stream *t, int what, const uint8_t *record, size_t n) {
  struct resume *r = t->resume;
  unsigned char none[1];
  if ((what != RECORD_NOTHING && what != RECORD_TICKET) || evbuffer_add(r->records, record, n)) {
    resume_end(t);
    return;
  }
  /* "Want read" is also what it says between finding the ticket and taking it. */
  int err = MBEDTLS_ERR_SSL_WANT_READ;
  for (int i = 0; i < 3 && err == MBEDTLS_ERR_SSL_WANT_READ; i++)
    err = mbedtls_ssl_read(r->ssl, none, sizeof none);
  if (err == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET)
    resume_keep(r->ctx, r->ssl);
  if (err != MBEDTLS_ERR_SSL_WANT_READ)
    resume_end(t);
}
