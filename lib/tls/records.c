#include "tls/records.h"

#include <beam/beam.h>
#include <sodium.h>
#include <string.h>

#include "base/limits.h"
#include "tls/keys.h"

enum { NEW_SESSION_TICKET = 4, KEY_UPDATE = 24 };
/* The largest NewSessionTicket: 4 + 4 + 1 + 255 + 2 + 65535 + 2 + 65534 bytes (RFC 8446 4.6.1). */
enum { TICKET_MESSAGE_MAX = 131337 };

static int fatal(struct records *r, uint8_t alert) {
  r->alert = alert;
  return BEAM_ERR_PROTOCOL;
}

int records_init(struct records *r, const struct records_setup *setup) {
  memset(r, 0, sizeof *r);
  size_t hash = suite_hash_size(setup->suite);
  if (!hash)
    return BEAM_ERR_UNSUPPORTED;
  r->suite = setup->suite;
  r->client = setup->client;
  r->max_out = setup->max_out < 1                  ? 1
               : setup->max_out > RECORD_PLAIN_MAX ? RECORD_PLAIN_MAX
                                                   : (uint16_t)setup->max_out;
  r->updates = LIMIT_KEY_UPDATE_BURST;
  memcpy(r->rx.secret, setup->client ? setup->server_secret : setup->client_secret, hash);
  memcpy(r->tx.secret, setup->client ? setup->client_secret : setup->server_secret, hash);
  int err = half_expand(&r->rx, r->suite);
  if (!err)
    err = half_expand(&r->tx, r->suite);
  if (err) {
    records_wipe(r);
    return err;
  }
  r->rx.seq = setup->rx_seq;
  r->tx.seq = setup->tx_seq;
  return 0;
}

void records_wipe(struct records *r) {
  half_wipe(&r->rx);
  half_wipe(&r->tx);
  sodium_memzero(r, sizeof *r);
}

/* RFC 8446 5.3 */
static void make_nonce(const struct record_half *h, uint8_t nonce[AEAD_NONCE]) {
  memcpy(nonce, h->iv, AEAD_NONCE);
  for (int i = 0; i < 8; i++)
    nonce[AEAD_NONCE - 1 - i] ^= (uint8_t)(h->seq >> (8 * i));
}

/* --- receiving --- */

int records_length(struct records *r, const uint8_t *head, size_t *whole) {
  size_t n = (size_t)head[3] << 8 | head[4];
  /* After the handshake all is protected: a late ChangeCipherSpec, a plain alert and plain data are all wrong. */
  if (head[0] != RECORD_DATA_TYPE)
    return fatal(r, ALERT_UNEXPECTED_MESSAGE);
  if (n > RECORD_CIPHER_MAX)
    return fatal(r, ALERT_RECORD_OVERFLOW);
  if (n < 1 + AEAD_TAG)
    return fatal(r, n < AEAD_TAG ? ALERT_BAD_RECORD_MAC : ALERT_UNEXPECTED_MESSAGE);
  *whole = RECORD_HEADER + n;
  return 0;
}

/* New keys are costly to make: a bucket that fills by one a second, so that jitter does not punish a peer that keeps to that pace. */
static bool update_allowed(struct records *r, uint64_t now) {
  if (!r->update_at)
    r->update_at = now;
  uint64_t more = (now - r->update_at) / LIMIT_KEY_UPDATE_MS;
  r->update_at += more * LIMIT_KEY_UPDATE_MS;
  r->updates =
      r->updates + more > LIMIT_KEY_UPDATE_BURST ? LIMIT_KEY_UPDATE_BURST : (uint8_t)(r->updates + more);
  if (!r->updates)
    return false;
  r->updates--;
  return true;
}

static int message_begins(struct records *r) {
  uint32_t len = (uint32_t)r->msg.head[1] << 16 | (uint32_t)r->msg.head[2] << 8 | r->msg.head[3];
  r->msg.left = len;
  if (r->msg.head[0] == KEY_UPDATE)
    return len != 1 ? fatal(r, ALERT_DECODE_ERROR) : 0;
  if (r->msg.head[0] != NEW_SESSION_TICKET || !r->client)
    return fatal(r, ALERT_UNEXPECTED_MESSAGE);
  return !len || len > TICKET_MESSAGE_MAX ? fatal(r, ALERT_DECODE_ERROR) : 0;
}

/* A whole message; last: nothing follows in its record. */
static int message_ends(struct records *r, uint64_t now, bool last, int *what) {
  r->msg.have = 0;
  if (r->msg.head[0] == NEW_SESSION_TICKET) {
    *what = RECORD_TICKET;
    return 0;
  }
  if (!last) /* what follows would be under the old keys, RFC 8446 5.1 */
    return fatal(r, ALERT_UNEXPECTED_MESSAGE);
  if (r->msg.value > 1)
    return fatal(r, ALERT_ILLEGAL_PARAMETER);
  if (!update_allowed(r, now))
    return fatal(r, ALERT_UNEXPECTED_MESSAGE);
  if (r->msg.value)
    r->answer = true;
  r->idle = 0; /* they are rationed by themselves */
  if (half_roll(&r->rx, r->suite))
    return fatal(r, ALERT_INTERNAL_ERROR);
  return 0;
}

/* Handshake messages, which may share a record and may stretch over several. */
static int open_handshake(struct records *r, uint64_t now, const uint8_t *p, size_t n) {
  int what = RECORD_NOTHING;
  if (!n)
    return fatal(r, ALERT_UNEXPECTED_MESSAGE);
  while (n) {
    if (r->msg.have < 4) {
      r->msg.head[r->msg.have++] = *p++;
      n--;
      if (r->msg.have == 4 && message_begins(r))
        return BEAM_ERR_PROTOCOL;
      continue;
    }
    size_t take = n < r->msg.left ? n : r->msg.left;
    r->msg.value = p[take - 1];
    r->msg.left -= (uint32_t)take;
    p += take;
    n -= take;
    if (!r->msg.left && message_ends(r, now, !n, &what))
      return BEAM_ERR_PROTOCOL;
  }
  return what;
}

static int open_alert(struct records *r, const uint8_t *p, size_t n) {
  if (n != 2)
    return fatal(r, ALERT_DECODE_ERROR);
  if (p[1] == ALERT_USER_CANCELED) /* close_notify follows; the level is ignored, RFC 8446 6 */
    return RECORD_NOTHING;
  r->alert = p[1];
  return p[1] == ALERT_CLOSE_NOTIFY ? RECORD_CLOSED : RECORD_ALERTED;
}

static int open_content(struct records *r, uint64_t now, uint8_t type, const uint8_t *p, size_t n) {
  if (r->msg.have && type != RECORD_HANDSHAKE) /* another type between fragments of a message, RFC 8446 5.1 */
    return fatal(r, ALERT_UNEXPECTED_MESSAGE);
  switch (type) {
  case RECORD_DATA_TYPE:
    return n ? RECORD_DATA : RECORD_NOTHING;
  case RECORD_HANDSHAKE:
    return open_handshake(r, now, p, n);
  case RECORD_ALERT:
    return open_alert(r, p, n);
  default:
    return fatal(r, ALERT_UNEXPECTED_MESSAGE);
  }
}

int records_open(struct records *r, uint64_t now, const uint8_t *record, size_t n, uint8_t *out,
                 size_t *len) {
  uint8_t nonce[AEAD_NONCE];
  make_nonce(&r->rx, nonce);
  if (n < RECORD_HEADER + AEAD_TAG + 1 || n > RECORD_MAX)
    return fatal(r, ALERT_RECORD_OVERFLOW);
  if (aead_open(r->rx.aead, nonce, record, RECORD_HEADER, record + RECORD_HEADER, n - RECORD_HEADER, out))
    return fatal(r, ALERT_BAD_RECORD_MAC);
  r->rx.seq++;
  n -= RECORD_HEADER + AEAD_TAG;
  if (n > RECORD_PLAIN_MAX + 1)
    return fatal(r, ALERT_RECORD_OVERFLOW);
  while (n && !out[n - 1]) /* padding */
    n--;
  if (!n)
    return fatal(r, ALERT_UNEXPECTED_MESSAGE);
  uint8_t type = out[--n];
  int what = open_content(r, now, type, out, n);
  if (what == RECORD_DATA) {
    r->idle = 0;
    *len = n;
  } else if (what == RECORD_NOTHING || what == RECORD_TICKET) {
    if (++r->idle > LIMIT_EMPTY_RECORDS)
      return fatal(r, ALERT_UNEXPECTED_MESSAGE);
  }
  return what;
}

/* --- sending --- */

int records_seal(struct records *r, uint8_t type, uint8_t *record, size_t n) {
  uint8_t nonce[AEAD_NONCE];
  size_t cipher = n + 1 + AEAD_TAG;
  record[0] = RECORD_DATA_TYPE;
  record[1] = 3;
  record[2] = 3;
  record[3] = (uint8_t)(cipher >> 8);
  record[4] = (uint8_t)cipher;
  record[RECORD_HEADER + n] = type;
  make_nonce(&r->tx, nonce);
  r->tx.seq++; /* also when it fails: a nonce is never used twice */
  return aead_seal(r->tx.aead, nonce, record, RECORD_HEADER, record + RECORD_HEADER, n + 1,
                   record + RECORD_HEADER);
}

bool records_update_due(const struct records *r) {
  return r->answer || r->tx.seq >= LIMIT_KEY_RECORDS;
}

int records_key_update(struct records *r, uint8_t *record) {
  static const uint8_t update[5] = {KEY_UPDATE, 0, 0, 1, 0}; /* update_not_requested */
  memcpy(record + RECORD_HEADER, update, sizeof update);
  int err = records_seal(r, RECORD_HANDSHAKE, record, sizeof update);
  r->answer = false;
  return err ? err : half_roll(&r->tx, r->suite);
}

int records_alert(struct records *r, uint8_t alert, uint8_t *record) {
  record[RECORD_HEADER] = alert == ALERT_CLOSE_NOTIFY ? 1 : 2;
  record[RECORD_HEADER + 1] = alert;
  return records_seal(r, RECORD_ALERT, record, 2);
}
