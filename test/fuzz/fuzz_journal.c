/* The store's journal. Raw: every stretch of it is decoded without reading outside, and what is understood can be written and is then understood the same. And
 * with the checksums put right, which random bytes never are: rows of any content are taken into the tables, and the tables stay whole. */
#include "base/limits.h"
#include "fuzz.h"
#include "store/journal.h"

static void same_again(enum change what, const union journal_row *row) {
  static uint8_t once[RECORD_MAX], twice[RECORD_MAX];
  union journal_row back;
  enum change kind;
  size_t n = journal_encode(once, what, row);
  MUST(n <= RECORD_MAX && journal_decode(once, n, &kind, &back) == (long)n && kind == what);
  MUST(journal_encode(twice, kind, &back) == n && !memcmp(once, twice, n));
  for (size_t cut = 1; cut < n; cut++)
    MUST(journal_decode(once, cut, &kind, &back) == JOURNAL_TORN);
}

static void raw(const uint8_t *p, size_t n) {
  union journal_row row;
  enum change what;
  long k;
  while ((k = journal_decode(p, n, &what, &row)) > 0) {
    MUST((size_t)k <= n);
    same_again(what, &row);
    p += k;
    n -= (size_t)k;
  }
  MUST(k == 0 || k == JOURNAL_TORN || k == JOURNAL_DAMAGED);
}

/* As a journal has it: length, its complement, body, checksum. */
static size_t record_of(uint8_t *out, const uint8_t *body, size_t n) {
  uint8_t sum[HASH_BYTES];
  for (int i = 0; i < 4; i++) {
    out[i] = (uint8_t)(n >> (8 * i));
    out[4 + i] = (uint8_t)~out[i];
  }
  memcpy(out + 8, body, n);
  hash_sha256(sum, body, n);
  memcpy(out + 8 + n, sum, 8);
  return n + 16;
}

static void must_be_whole(struct tables *t) {
  size_t names = 0;
  for (struct owner_row *o = t->owners; o; o = o->hh.next) {
    unsigned n = 0;
    for (struct name_row *r = o->names; r; r = r->next, n++)
      MUST(r->owner == o && !strcmp(r->row.owner, o->owner));
    MUST(n == o->n && n > 0);
    names += n;
  }
  MUST(names == HASH_COUNT(t->names));
  size_t tunnels = 0;
  for (struct served_row *v = t->served; v; v = v->hh.next) {
    MUST(v->tunnels);
    for (struct tunnel_row *u = v->tunnels; u; u = u->next, tunnels++)
      MUST(u->served == v && !strcmp(u->row.name, v->name));
  }
  MUST(tunnels == HASH_COUNT(t->tunnels));
  unsigned audits = 0;
  for (struct audit_node *a = t->audits; a; a = a->next)
    audits++;
  MUST(audits == t->audits_n);
}

/* The input: bodies, each after two bytes of its length. */
static void bodies(const uint8_t *p, size_t n) {
  static uint8_t record[RECORD_MAX];
  struct tables t;
  union journal_row row;
  enum change what;
  tables_init(&t, true, NULL, NULL);
  while (n >= 2) {
    size_t len = p[0] | (size_t)p[1] << 8;
    p += 2;
    n -= 2;
    if (len > n || len == 0 || len > RECORD_MAX - 16)
      break;
    size_t whole = record_of(record, p, len);
    if (journal_decode(record, whole, &what, &row) > 0) {
      same_again(what, &row);
      tables_apply(&t, what, &row);
    }
    p += len;
    n -= len;
  }
  must_be_whole(&t);
  tables_free(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  raw(p, n);
  bodies(p, n);
  return 0;
}
