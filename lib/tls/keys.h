/* keys.h: one direction's keys, between keys.c and records.c. */
#ifndef TLS_KEYS_H
#define TLS_KEYS_H

#include "tls/records.h"

int half_expand(struct record_half *h,
                uint16_t suite); /* secret -> key, iv; sequence number 0. NOMEM, UNSUPPORTED, INTERNAL */
int half_roll(struct record_half *h, uint16_t suite); /* the next generation, RFC 8446 7.2 */
void half_wipe(struct record_half *h);

#endif
