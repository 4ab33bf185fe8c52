/* file.h: small files that survive power loss: private directories, atomic writes, whole reads, locks between processes. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <beam/beam.h>
#include <stdbool.h>
#include <sys/types.h>

/* Make dir and its missing parents, the last one 0700. Errors with text: PERMISSION, INVALID (a file is in the way), SYSTEM. */
int dir_make_private(const char *dir, struct beam_error *e);

/* dir + "/" + name into a buffer; false when it does not fit. */
enum { PATH_ROOM = 4096 };
int path_join(char out[PATH_ROOM], const char *dir, const char *name, struct beam_error *e);

/* Where keys and names are kept when nobody says: $BEAM_DATA_DIR, else $XDG_DATA_HOME/beam, else ~/.local/share/beam. False: there is no home. */
bool dir_default(char *out, size_t cap);

/* Write a new file beside path, fsync it, rename it over path, fsync the directory: after a crash either the old or the new content is there.
 * Errors with text: STORE (disk full), PERMISSION, SYSTEM. */
int file_write(const char *path, mode_t mode, const void *p, size_t n, struct beam_error *e);

/* The whole file, a NUL after it; the caller frees it. Errors with text: NOT_FOUND, PERMISSION, TOO_LARGE (over max), NOMEM, SYSTEM. */
int file_read(const char *path, size_t max, char **out, size_t *n, struct beam_error *e);
/* The same for secrets: also refuses (PERMISSION) a file that others may read or write, or that belongs to another user than us (or root). */
int file_read_secret(const char *path, size_t max, char **out, size_t *n, struct beam_error *e);

/* Wait for and take the exclusive lock `name` in dir, between processes and between threads. Returns a descriptor to close, or an error with text. */
int file_lock(const char *dir, const char *name, struct beam_error *e);

#endif
