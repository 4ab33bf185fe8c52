/* tokens.h: --agent-token-file: one token a line, # comments and empty lines left out. Only hashes are kept.
 * What was loaded never changes: any thread may ask. */
#ifndef IDENTITY_TOKENS_H
#define IDENTITY_TOKENS_H

#include <beam/beam.h>
#include <stdbool.h>

struct tokens;

/* INVALID (no token in it, a token shorter than 16 or longer than 1024 characters: the text names the line), NOT_FOUND, PERMISSION (others may read it). */
int tokens_load(const char *file, struct tokens **out, struct beam_error *e);
bool tokens_match(const struct tokens *t,
                  const char *token); /* in a time that tells nothing about the tokens */
size_t tokens_count(const struct tokens *t);
void tokens_free(struct tokens *t);

#endif
