/* control.h: beam/1 messages to bytes and back: varint length, then a protocol buffer (nanopb, static allocation). Pure. */
#ifndef WIRE_CONTROL_H
#define WIRE_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "wire/beam.pb.h" /* generated from lib/link/beam.proto */

/* Whole message at p? Returns bytes used and fills out; 0: need more; PROTOCOL: malformed; TOO_LARGE: over LIMIT_CONTROL_BYTES;
 * UNSUPPORTED: a critical message of a kind unknown to us. An unknown kind that is not critical gives which_kind == 0. */
long control_decode(const uint8_t *p, size_t n, beam_Control *out);
/* Returns bytes written; TOO_LARGE when it does not fit cap or the limit; INVALID: a string in it has no end. */
long control_encode(const beam_Control *m, uint8_t *p, size_t cap);

long stream_open_decode(const uint8_t *p, size_t n, beam_StreamOpen *out); /* limit LIMIT_STREAM_OPEN */
long stream_open_encode(const beam_StreamOpen *m, uint8_t *p, size_t cap);

#endif
