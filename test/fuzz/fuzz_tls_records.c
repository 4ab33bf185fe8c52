/* TLS 1.3 records as a peer that holds the keys may send them: an input is a list of steps, each a record that is sealed properly around
 * anything, or raw bytes in a record's place. What is opened is what was sealed; after an error there is an alert to send. */
#include "fuzz.h"

#include <beam/beam.h>

#include "base/limits.h"
#include "base/random.h"
#include "tls/keys.h"
#include "tls/records.h"

struct input {
  const uint8_t *p;
  size_t n;
};

static uint8_t next(struct input *in) {
  if (!in->n)
    return 0;
  in->n--;
  return *in->p++;
}

static const uint8_t *take(struct input *in, size_t *n) {
  const uint8_t *p = in->p;
  if (*n > in->n)
    *n = in->n;
  in->p += *n;
  in->n -= *n;
  return p;
}

static uint8_t record[RECORD_MAX + 600], plain[RECORD_MAX + 600];

/* Seal what the input says; the count of bytes in `record`. */
static size_t make_record(struct input *in, struct records *from, const uint8_t **data, size_t *data_n,
                          uint8_t *type) {
  static const uint8_t types[] = {
      RECORD_DATA_TYPE, RECORD_HANDSHAKE, RECORD_HANDSHAKE, RECORD_ALERT, 20, 24, 0, 255};
  uint8_t op = next(in);
  *type = types[op & 7];
  *data_n = next(in) | (op & 8 ? (size_t)next(in) << 8 : 0);
  *data = take(in, data_n);
  size_t pad = op & 16 ? next(in) : 0;
  if (*data_n > RECORD_PLAIN_MAX + 40)
    *data_n = RECORD_PLAIN_MAX + 40;
  memcpy(record + RECORD_HEADER, *data, *data_n);
  memset(record + RECORD_HEADER + *data_n, 0, pad + 1);
  if (pad)
    record[RECORD_HEADER + *data_n] = *type;
  size_t sealed = *data_n + pad;
  MUST(!records_seal(from, pad ? 0 : *type, record, sealed));
  while (!*type && *data_n) /* given none, the last byte that is not zero is the type */
    *type = (*data)[--*data_n];
  return sealed + RECORD_OVERHEAD;
}

static bool open_one(struct records *to, uint64_t now, size_t n, const uint8_t *data, size_t data_n,
                     uint8_t type) {
  size_t whole, len = 0;
  to->alert = 0;
  if (records_length(to, record, &whole)) {
    MUST(to->alert);
    return false;
  }
  MUST(whole == n && n <= RECORD_MAX);
  int what = records_open(to, now, record, n, plain, &len);
  MUST(what >= 0 || (what == BEAM_ERR_PROTOCOL && to->alert));
  MUST(to->idle <= LIMIT_EMPTY_RECORDS + 1);
  if (what == RECORD_DATA)
    MUST(type == RECORD_DATA_TYPE && len == data_n && len && !memcmp(plain, data, len));
  MUST(what != RECORD_TICKET || (type == RECORD_HANDSHAKE && to->client));
  MUST((what != RECORD_CLOSED && what != RECORD_ALERTED) || type == RECORD_ALERT);
  return what >= 0 && what != RECORD_CLOSED && what != RECORD_ALERTED;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  static const uint16_t suites[] = {TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384,
                                    TLS_CHACHA20_POLY1305_SHA256};
  static const uint8_t a[SECRET_MAX] = {1}, b[SECRET_MAX] = {2};
  struct input in = {p, n};
  struct records from, to;
  if (base_init())
    return 0;
  uint8_t first = next(&in);
  struct records_setup setup = {.suite = suites[(first >> 1) % 3],
                                .client = first & 1,
                                .client_secret = a,
                                .server_secret = b,
                                .max_out = RECORD_PLAIN_MAX};
  MUST(!records_init(&to, &setup));
  setup.client = !setup.client;
  MUST(!records_init(&from, &setup));
  bool on = true;
  for (uint64_t now = 1; on && in.n; now += 300) {
    if (in.p[0] == 0xfe) { /* raw: anything the length allows */
      size_t len = 1000, whole;
      next(&in);
      const uint8_t *raw = take(&in, &len);
      memcpy(record, raw, len);
      on = len >= RECORD_HEADER && !records_length(&to, record, &whole) && whole == len &&
           open_one(&to, now, len, raw, len, 0);
      continue;
    }
    const uint8_t *data;
    size_t data_n;
    uint8_t type;
    uint64_t seq = to.rx.seq;
    size_t made = make_record(&in, &from, &data, &data_n, &type);
    on = open_one(&to, now, made, data, data_n, type);
    if (on && to.rx.seq <= seq) { /* it took a KeyUpdate */
      MUST(type == RECORD_HANDSHAKE && !to.rx.seq);
      MUST(!half_roll(&from.tx, from.suite));
    }
    if (records_update_due(&to)) {
      MUST(!records_key_update(&to, record));
      MUST(!records_update_due(&to));
    }
  }
  records_wipe(&from);
  records_wipe(&to);
  return 0;
}
