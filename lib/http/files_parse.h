/* files_parse.h: what a request for a file says, pure: its path, the part it wants, what it has already. Inside http/ only. */
#ifndef HTTP_FILES_PARSE_H
#define HTTP_FILES_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

enum { FILES_PATH_MAX = 4096 };

/* "/a%20b/c?d" -> "a b/c", *dir: it ends in a slash (or is empty). False: nothing that could be asked for: ".", "..", empty or hidden segments (but /.well-known/),
 * an encoded slash, NUL or control byte, a broken escape, too long. */
bool files_path(struct span target, char out[FILES_PATH_MAX], bool *dir);

enum files_range { FILES_WHOLE, FILES_PART, FILES_NO_PART };
/* A Range field (RFC 9110 14.2) of a file of `size` bytes. One range of bytes is a part; several, other units and what is malformed are the whole; beyond the end: NO_PART. */
enum files_range files_range(struct span value, uint64_t size, uint64_t *first, uint64_t *n);

/* Is `tag` (with its quotes and W/) in a list of entity tags, or is that "*"? strong: weak ones equal nothing (RFC 9110 8.8.3.2). */
bool files_tag_in(struct span list, struct span tag, bool strong);

/* By the name's ending; text is UTF-8. */
const char *files_type(const char *name);

#endif
