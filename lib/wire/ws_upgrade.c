/* ws_upgrade.c: the opening handshake of WebSocket. SHA-1 only shows that the other end speaks WebSocket; nobody relies on it for secrecy. */
#include <beam/beam.h>
#include <string.h>

#include "wire/base64.h"
#include "wire/ws.h"

/* --- SHA-1 (RFC 3174) --- */

static uint32_t turn(uint32_t x, unsigned n) {
  return x << n | x >> (32 - n);
}

static void sha1_block(uint32_t h[5], const uint8_t *p) {
  uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
  for (int i = 0; i < 16; i++, p += 4)
    w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
  for (int i = 16; i < 80; i++)
    w[i] = turn(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
  for (int i = 0; i < 80; i++) {
    uint32_t f = i < 20 ? (b & c) | (~b & d) : i >= 40 && i < 60 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
    uint32_t k = i < 20 ? 0x5a827999 : i < 40 ? 0x6ed9eba1 : i < 60 ? 0x8f1bbcdc : 0xca62c1d6;
    uint32_t t = turn(a, 5) + f + e + k + w[i];
    e = d;
    d = c;
    c = turn(b, 30);
    b = a;
    a = t;
  }
  h[0] += a;
  h[1] += b;
  h[2] += c;
  h[3] += d;
  h[4] += e;
}

/* Of the only length there is here: 60 bytes, and with their padding two blocks. */
static void sha1_60(uint8_t out[20], const uint8_t p[60]) {
  uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  uint8_t padded[128] = {0};
  memcpy(padded, p, 60);
  padded[60] = 0x80;
  padded[126] = 60 * 8 >> 8;
  padded[127] = 60 * 8 & 255;
  sha1_block(h, padded);
  sha1_block(h, padded + 64);
  for (size_t i = 0; i < 20; i++)
    out[i] = (uint8_t)(h[i / 4] >> (24 - i % 4 * 8));
}

/* --- keys --- */

void ws_key_make(char key[WS_KEY_SIZE], const uint8_t random[16]) {
  base64_encode(key, random, 16);
}

void ws_accept_make(char accept[WS_ACCEPT_SIZE], const char *key) {
  static const char salt[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455 4.2.2 */
  uint8_t text[60], digest[20];
  memcpy(text, key, 24);
  memcpy(text + 24, salt, 36);
  sha1_60(digest, text);
  base64_encode(accept, digest, sizeof digest);
}

/* Base64 of 16 bytes: 22 digits, of which the last has four zero bits, and two signs of padding. */
static bool key_ok(struct span k) {
  if (k.n != WS_KEY_SIZE - 1 || k.p[22] != '=' || k.p[23] != '=')
    return false;
  for (size_t i = 0; i < 22; i++) {
    char c = k.p[i];
    bool digit =
        (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
    if (!digit)
      return false;
  }
  return strchr("AQgw", k.p[21]) != NULL;
}

/* --- the two heads --- */

/* The one field of that name, empty when there is none or more than one. */
static struct span only(const struct http_head *h, const char *name) {
  static const struct span none = {0};
  struct span found = none;
  for (size_t i = 0, seen = 0; i < h->fields_n; i++)
    if (span_ieq(h->fields[i].name, span_of(name)))
      found = seen++ ? none : h->fields[i].value;
  return found;
}

int ws_request_check(const struct http_head *h, const char *protocol, struct span *key) {
  if (!span_eq(h->method, SPAN("GET")) || h->minor < 1 || !http_field_has_token(h, "upgrade", "websocket") ||
      !span_eq(only(h, "sec-websocket-version"), SPAN("13")))
    return BEAM_ERR_UNSUPPORTED;
  *key = only(h, "sec-websocket-key");
  return key_ok(*key) && http_field_has_token(h, "sec-websocket-protocol", protocol) ? 0 : BEAM_ERR_INVALID;
}

int ws_response_check(const struct http_head *h, const char *key, const char *protocol) {
  if (h->status != 101)
    return BEAM_ERR_REFUSED;
  char accept[WS_ACCEPT_SIZE];
  ws_accept_make(accept, key);
  bool good = http_field_has_token(h, "upgrade", "websocket") &&
              http_field_has_token(h, "connection", "upgrade") &&
              span_eq(only(h, "sec-websocket-accept"), span_of(accept)) &&
              span_eq(only(h, "sec-websocket-protocol"), span_of(protocol)) &&
              !http_field_find(h, "sec-websocket-extensions");
  return good ? 0 : BEAM_ERR_PROTOCOL;
}
