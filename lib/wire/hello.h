/* hello.h: enough of a TLS ClientHello to route it: SNI and ALPN (RFC 8446 4.1.2, RFC 6066 3, RFC 7301). Pure; nothing is decrypted or kept. */
#ifndef WIRE_HELLO_H
#define WIRE_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sniff_what {
  SNIFF_MORE,    /* looks like the beginning of something: feed more */
  SNIFF_TLS,     /* a whole ClientHello: fields are filled */
  SNIFF_HTTP1,   /* begins with an HTTP/1 method */
  SNIFF_HTTP2,   /* begins with the HTTP/2 preface: prior knowledge h2c */
  SNIFF_GARBAGE, /* nothing we speak, or over LIMIT_CLIENT_HELLO */
};

enum {
  SNIFF_ALPN_H1 = 1,
  SNIFF_ALPN_H2 = 2,
  SNIFF_ALPN_BEAM = 4,
  SNIFF_ALPN_ACME = 8 /* acme-tls/1 */,
  SNIFF_ALPN_OTHER = 16
};

struct sniff {
  char sni[256]; /* lower case, "" when absent; validated as a host name */
  unsigned alpn; /* SNIFF_ALPN_* offered */
  bool tls13;    /* supported_versions has 1.3 */
};

/* Look at the first bytes of a connection, which may be split over records and segments in any way. */
enum sniff_what sniff(const uint8_t *p, size_t n, struct sniff *out);

#endif
