/* short.c: a fuzz target without libFuzzer, for every run of the tests: its seeds, what is left of each when it is cut, and for a moment what comes of them by
 * chance, always in the same order.
 *
 *   short/NAME SEEDS [MILLISECONDS]
 *
 * It does not learn from what the code does with them: finding new ways in is `make fuzz`'s, losing none that was found is this one's.
 */
#include <dirent.h>
#include <time.h>

#include "fuzz.h"

enum { SEEDS = 512, BYTES = 1 << 16, CUTS = 256 };

static struct seed {
  uint8_t *p;
  size_t n;
} seeds[SEEDS];
static size_t seeds_n;
static unsigned long runs;
static uint64_t chance = 1;

static uint64_t draw(uint64_t below) { /* xorshift64* */
  chance ^= chance >> 12;
  chance ^= chance << 25;
  chance ^= chance >> 27;
  return below ? (chance * 2685821657736338717u >> 16) % below : 0;
}

/* In a block of just that size: AddressSanitizer sees the first byte behind it. */
static void run(const uint8_t *p, size_t n) {
  uint8_t *exact = malloc(n ? n : 1);
  MUST(exact);
  memcpy(exact, p, n);
  LLVMFuzzerTestOneInput(exact, n);
  free(exact);
  runs++;
}

static void read_seed(const char *dir, const char *name) {
  char path[1024];
  struct seed *s = &seeds[seeds_n];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  FILE *f = fopen(path, "rb");
  MUST(f && seeds_n < SEEDS);
  s->p = malloc(BYTES);
  MUST(s->p);
  s->n = fread(s->p, 1, BYTES, f);
  fclose(f);
  seeds_n++;
}

static int by_name(const struct dirent **a, const struct dirent **b) {
  return strcmp((*a)->d_name, (*b)->d_name);
}

static void read_seeds(const char *dir) {
  struct dirent **found;
  int n = scandir(dir, &found, NULL, by_name);
  MUST(n > 2);
  for (int i = 0; i < n; i++) {
    if (found[i]->d_name[0] != '.')
      read_seed(dir, found[i]->d_name);
    free(found[i]);
  }
  free(found);
}

static void cut(const struct seed *s) {
  size_t step = s->n / CUTS + 1;
  for (size_t n = 0; n < s->n; n += step)
    run(s->p, n);
  run(s->p, s->n);
}

static size_t change(uint8_t *p, size_t n) {
  static const uint8_t telling[] = {0, 1, 0x7f, 0x80, 0xff, '\r', '\n', ' ', ':', ','};
  size_t at = draw(n), len = 1 + draw(n - at < 16 ? n - at : 16);
  switch (draw(5)) {
  case 0: /* one bit */
    p[at] ^= (uint8_t)(1 << draw(8));
    break;
  case 1:
    p[at] = telling[draw(sizeof telling)];
    break;
  case 2: /* without a piece */
    len = len < n - at ? len : n - at;
    memmove(p + at, p + at + len, n - at - len);
    n -= len;
    break;
  case 3: /* a piece twice */
    len = len < n - at ? len : n - at;
    if (n + len <= BYTES) {
      memmove(p + at + len, p + at, n - at);
      n += len;
    }
    break;
  default: { /* goes on as another seed does */
    const struct seed *s = &seeds[draw(seeds_n)];
    size_t from = draw(s->n), tail = s->n - from;
    if (at + tail <= BYTES) {
      memcpy(p + at, s->p + from, tail);
      n = at + tail;
    }
  }
  }
  return n;
}

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

int main(int argc, char **argv) {
  static uint8_t bytes[BYTES];
  MUST(argc >= 2);
  read_seeds(argv[1]);
  for (size_t i = 0; i < seeds_n; i++)
    cut(&seeds[i]);
  double end = now_ms() + (argc > 2 ? atof(argv[2]) : 400);
  while (now_ms() < end) {
    const struct seed *s = &seeds[draw(seeds_n)];
    size_t n = s->n;
    memcpy(bytes, s->p, n);
    for (uint64_t changes = 1 + draw(6); changes && n; changes--)
      n = change(bytes, n);
    run(bytes, n);
  }
  printf("%zu seeds, %lu runs\n", seeds_n, runs);
  for (size_t i = 0; i < seeds_n; i++)
    free(seeds[i].p);
  return 0;
}
