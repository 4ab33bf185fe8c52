/* block.h: 64 KiB blocks that bulk reads land in, recycled, and the move of bytes between buffers that keeps memory honest.
 *
 * A bulk read into fresh memory costs more in page faults than the read itself, so blocks go back to one list of the process. Bytes may end
 * in another thread than they were read in (an in-process link between workers): the list has a lock, taken once for 64 KiB.
 */
#ifndef IO_BLOCK_H
#define IO_BLOCK_H

#include <event2/buffer.h>
#include <stddef.h>

enum { BLOCK_BYTES = 64 * 1024 };

/* BLOCK_BYTES of memory, or NULL. Any thread. */
void *block_get(void);
void block_put(void *block); /* NULL is accepted */

/* Append a copy of n bytes. evbuffer_add() would take as much memory for them as the chain before them has: 128 KiB for the nine bytes of a frame's
 * head that follows a block. 0 or NOMEM (then b is unchanged). */
int buffer_put(struct evbuffer *b, const void *p, size_t n);

/* Append the first n bytes of `block` to b. Takes the block in any case: a well-filled one becomes part of b, of a sparse one the bytes are copied,
 * so that little data never holds much memory. 0 or NOMEM (then b is unchanged). */
int block_append(struct evbuffer *b, void *block, size_t n);

/* Move n bytes (n <= length of from) from the front of `from` to the end of `to`. Small amounts are copied into the space at the end of `to`: moved
 * chains of a few bytes each would make a buffer weigh a hundred times its length. Returns the count: n, or 0 when out of memory. */
size_t buffer_move(struct evbuffer *to, struct evbuffer *from, size_t n);

#endif
