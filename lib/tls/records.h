/* records.h: the record layer of TLS 1.3 after the handshake (RFC 8446 5, 4.6, 7.2, 7.3). Pure: bytes in, bytes and events out; no I/O, no clock.
 *
 *   receiving:  record ─ open ─► DATA | NOTHING | TICKET | CLOSED | ALERTED        error: `alert` says which alert to send, then it is over
 *   KeyUpdate:  peer's ─► our receiving keys roll; `answer` is set when it asked for ours: records_key_update() before the next data
 *
 * Both directions have a secret, an expanded key and a sequence number; nothing else is kept of the connection.
 */
#ifndef TLS_RECORDS_H
#define TLS_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tls/aead.h"

enum {
  TLS_AES_128_GCM_SHA256 = 0x1301,
  TLS_AES_256_GCM_SHA384 = 0x1302,
  TLS_CHACHA20_POLY1305_SHA256 = 0x1303
};
enum {
  RECORD_HEADER = 5,
  RECORD_PLAIN_MAX = 16384,
  RECORD_CIPHER_MAX = RECORD_PLAIN_MAX + 256, /* after the header, RFC 8446 5.2 */
  RECORD_MAX = RECORD_HEADER + RECORD_CIPHER_MAX,
  RECORD_OVERHEAD = RECORD_HEADER + 1 + AEAD_TAG, /* what seal adds */
  RECORD_UPDATE_BYTES = RECORD_OVERHEAD + 5,      /* a KeyUpdate */
  RECORD_ALERT_BYTES = RECORD_OVERHEAD + 2,
  SECRET_MAX = 48,
};
enum { RECORD_CHANGE_CIPHER_SPEC = 20, RECORD_ALERT = 21, RECORD_HANDSHAKE = 22, RECORD_DATA_TYPE = 23 };
enum {
  ALERT_CLOSE_NOTIFY = 0,
  ALERT_UNEXPECTED_MESSAGE = 10,
  ALERT_BAD_RECORD_MAC = 20,
  ALERT_RECORD_OVERFLOW = 22,
  ALERT_ILLEGAL_PARAMETER = 47,
  ALERT_DECODE_ERROR = 50,
  ALERT_INTERNAL_ERROR = 80,
  ALERT_USER_CANCELED = 90,
};

struct record_half {
  struct aead *aead;
  uint64_t seq;
  uint8_t iv[AEAD_NONCE];
  uint8_t secret[SECRET_MAX];
};

struct records {
  struct record_half rx, tx;
  uint16_t suite;
  uint16_t max_out; /* plaintext of a record towards the peer, its record_size_limit respected */
  bool client;
  bool answer;        /* the peer asked for new keys of ours */
  uint8_t alert;      /* after an error of records_open(): what to send. After RECORD_ALERTED: what came */
  uint8_t idle;       /* records in a row that brought no data */
  uint8_t updates;    /* KeyUpdates the peer may send now */
  uint64_t update_at; /* ms; when `updates` was last reckoned */
  struct {            /* the post-handshake message being received, over records if need be */
    uint8_t head[4], have, value;
    uint32_t left;
  } msg;
};

struct records_setup {
  uint16_t suite;
  bool client; /* we are the client */
  const uint8_t *client_secret,
      *server_secret;      /* application traffic secrets 0; as long as the suite's hash */
  uint64_t rx_seq, tx_seq; /* records of the application epoch that were received and sent already */
  size_t max_out;
};

/* The size of the suite's hash: 32, 48, or 0 when it is none of ours. */
size_t suite_hash_size(uint16_t suite);

/* NOMEM, UNSUPPORTED. After an error the struct holds nothing. */
int records_init(struct records *r, const struct records_setup *setup);
void records_wipe(struct records *r); /* frees the keys and wipes; a zeroed struct is accepted */

/* The first RECORD_HEADER bytes: how long the whole record is, or PROTOCOL with r->alert (not a protected record, or over-long). */
int records_length(struct records *r, const uint8_t *head, size_t *whole);

enum { RECORD_NOTHING, RECORD_DATA, RECORD_TICKET, RECORD_CLOSED, RECORD_ALERTED };
/* Open one whole record of n bytes. `out` has room for n - RECORD_HEADER - AEAD_TAG bytes and is no part of the record; with RECORD_DATA *len
 * (> 0) bytes of it are the plaintext. now: ms. Errors: PROTOCOL with r->alert; after one, and after CLOSED or ALERTED, do not call it again. */
int records_open(struct records *r, uint64_t now, const uint8_t *record, size_t n, uint8_t *out, size_t *len);

/* Seal n (<= max_out) bytes in place: the plaintext is at record + RECORD_HEADER, with 1 + AEAD_TAG bytes of room behind it. The record is then
 * n + RECORD_OVERHEAD bytes. 0 or INTERNAL. */
int records_seal(struct records *r, uint8_t type, uint8_t *record, size_t n);
/* New sending keys are due before the next data: the peer asked for them, or the old ones are worn. */
bool records_update_due(const struct records *r);
/* Write a KeyUpdate (RECORD_UPDATE_BYTES), asking the peer for nothing, and roll our sending keys. 0, NOMEM, INTERNAL. */
int records_key_update(struct records *r, uint8_t *record);
int records_alert(struct records *r, uint8_t alert, uint8_t *record); /* RECORD_ALERT_BYTES */

/* HKDF-Expand-Label (RFC 8446 7.1) with an empty context, of the suite's hash. 0 or INTERNAL. */
int expand_label(uint16_t suite, const uint8_t *secret, const char *label, uint8_t *out, size_t n);

#endif
