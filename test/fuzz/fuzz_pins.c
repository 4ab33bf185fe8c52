/* The file of known relays: whatever is in it, a relay can be remembered and forgotten again without touching the others, or the file is damaged and is left
 * as it is. */
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/random.h"
#include "fuzz.h"
#include "identity/pins.h"

static char dir[64], file[96];

static void make_dir(void) {
  static const char shm[] = "/dev/shm"; /* memory where there is some: each input is written several times */
  snprintf(dir, sizeof dir, "%s/fuzz-pins-XXXXXX", access(shm, W_OK) ? "/tmp" : shm);
  MUST(mkdtemp(dir));
  snprintf(file, sizeof file, "%s/known_relays", dir);
}

static void remove_dir(void) {
  char lock[96];
  snprintf(lock, sizeof lock, "%s/keys.lock", dir);
  unlink(file);
  unlink(lock);
  rmdir(dir);
}

static void put(const uint8_t *p, size_t n) {
  FILE *f = fopen(file, "wb");
  MUST(f && fchmod(fileno(f), 0600) == 0);
  MUST(fwrite(p, 1, n, f) == n && fclose(f) == 0);
}

static void must_hold(const uint8_t *p, size_t n) {
  static char now[1 << 16];
  FILE *f = fopen(file, "rb");
  MUST(f && fread(now, 1, sizeof now, f) == n && !memcmp(now, p, n) && fclose(f) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  static const uint8_t one[32] = {1}, two[32] = {2};
  struct beam_error e = BEAM_ERROR_INIT;
  if (!*dir) {
    MUST(base_init() == 0);
    make_dir();
    atexit(remove_dir);
  }
  if (n > 1 << 14)
    return 0;
  put(p, n);
  int mine = pins_check(dir, "a.test:1", one, &e), other = pins_check(dir, "b.test:1", two, &e);
  int done = pins_remember(dir, "a.test:1", two, &e);
  MUST(done == 0 || done == BEAM_ERR_INVALID);
  if (done) {
    must_hold(p, n);
    return 0;
  }
  MUST(mine != BEAM_ERR_INVALID && other != BEAM_ERR_INVALID);
  MUST(pins_check(dir, "A.test:1", two, &e) == PIN_KNOWN);
  MUST(pins_check(dir, "a.test:1", one, &e) == BEAM_ERR_UNTRUSTED);
  MUST(pins_check(dir, "b.test:1", two, &e) == other);
  MUST(pins_forget(dir, "a.test:1", &e) == 0);
  MUST(pins_check(dir, "a.test:1", one, &e) == PIN_NEW);
  MUST(pins_forget(dir, "a.test:1", &e) == BEAM_ERR_NOT_FOUND);
  MUST(pins_check(dir, "b.test:1", two, &e) == other);
  return 0;
}
