/* journal.h: the store's changes as records of bytes. Pure.
 *
 *   record = length of body (4, LE) | its complement (4) | kind (1) + row = body | first 8 bytes of SHA-256(body)
 *
 * The complement tells a damaged length from a record that the power took half of: only the latter may be cut off.
 */
#ifndef STORE_JOURNAL_H
#define STORE_JOURNAL_H

#include "store/tables.h"

enum { JOURNAL_MAGIC = 16, RECORD_MAX = 2048 };
extern const char journal_magic[JOURNAL_MAGIC]; /* at the file's beginning */

union journal_row {
  struct store_name name;
  struct store_tunnel tunnel;
  struct audit_row audit;
  struct anchor anchor;
  struct clock_seen clock;
};

/* Returns the bytes written. */
size_t journal_encode(uint8_t out[RECORD_MAX], enum change what, const void *row);

enum { JOURNAL_TORN = -1001, JOURNAL_DAMAGED = -1002 }; /* none of beam_err */
/* Bytes of the record at p (> 0), 0 at the end of n, JOURNAL_TORN: the last record is not whole; JOURNAL_DAMAGED: something else is wrong. */
long journal_decode(const uint8_t *p, size_t n, enum change *what, union journal_row *row);

#endif
