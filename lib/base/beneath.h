/* beneath.h: files of a directory, opened by paths that strangers choose: nothing outside of it is ever reached. */
#ifndef BASE_BENEATH_H
#define BASE_BENEATH_H

#include <beam/beam.h>

/* Open `path` ("a/b.html", "" for the directory itself) beneath the directory `root`. Symbolic links count as long as they stay beneath it (where the kernel has
 * openat2(); else none do). flags as of open(2), reading only. Returns a descriptor, or NOT_FOUND: no such thing, or it leads outside; PERMISSION; SYSTEM. */
int beneath_open(int root, const char *path, int flags);
/* The same without openat2(): component by component, no symbolic links. Tests call it; else beneath_open() does where it must. */
int beneath_open_steps(int root, const char *path, int flags);

#endif
