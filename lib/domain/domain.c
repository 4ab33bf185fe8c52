#include "domain/domain.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/random.h"
#include "wire/host.h"

struct domain {
  struct store *store;
  char base[HOST_MAX];
};

int domain_new(struct store *s, const char *base, struct domain **out, struct beam_error *e) {
  *out = NULL;
  if (!base || !host_name_ok(span_of(base)) || strlen(base) + 1 + LABEL_MAX > HOST_MAX)
    return err_set(e, BEAM_ERR_INVALID, "give a domain such as tunnel.example.com",
                   "'%s' cannot be the domain of tunnels", base ? base : "");
  struct domain *d = calloc(1, sizeof *d);
  if (!d)
    return err_set(e, BEAM_ERR_NOMEM, NULL, "out of memory");
  d->store = s;
  str_copy(d->base, sizeof d->base, base);
  *out = d;
  return 0;
}

void domain_free(struct domain *d) {
  free(d);
}

const char *domain_base(const struct domain *d) {
  return d->base;
}

static void full_name(const struct domain *d, struct span label, char out[HOST_MAX]) {
  str_fmt(out, HOST_MAX, "%.*s.%s", SPAN_FMT(label), d->base);
}

/* "shop", "Shop" or "shop.tunnel.test" -> "shop.tunnel.test". */
static int wanted_name(const struct domain *d, const char *wanted, char out[HOST_MAX], struct beam_error *e) {
  char folded[HOST_MAX];
  struct span label;
  if (!host_fold(span_of(wanted), folded))
    return err_set(e, BEAM_ERR_NAME, NULL, "'%.64s' cannot be a name", wanted);
  label = span_of(folded);
  if (strchr(folded, '.') && !host_label_under(folded, d->base, &label))
    return err_set(e, BEAM_ERR_NAME, "give one word, such as --name shop", "'%.64s' is not a name under %s",
                   folded, d->base);
  int err = name_check(label, e);
  if (!err)
    full_name(d, label, out);
  return err;
}

static int handed_in(int err, struct beam_error *e) {
  return err ? err_set(e, err, "try again in a moment", "the relay's store takes no more work: %s",
                       err_find(err)->what)
             : 0;
}

/* Ten friendly names, then eight hex digits, all tried in the store's one transaction. */
enum { CANDIDATES = LIMIT_NAME_DRAWS + 1 };

int domain_allocate(struct domain *d, struct loop *l, const struct domain_claim *a, store_cb cb, void *user,
                    struct store_op **op, struct beam_error *e) {
  char names[CANDIDATES][HOST_MAX], label[LABEL_MAX];
  const char *list[CANDIDATES];
  struct store_claim c = {
      .principal = a->principal, .base = d->base, .port = a->local_port, .no_fresh = a->no_fresh};
  if (a->wanted && *a->wanted) {
    int err = wanted_name(d, a->wanted, names[0], e);
    if (err)
      return err;
    c.wanted = names[0];
  } else {
    for (unsigned i = 0; i < CANDIDATES; i++) {
      i < LIMIT_NAME_DRAWS ? name_draw(label) : name_draw_hex(label);
      full_name(d, span_of(label), names[i]);
      list[i] = names[i];
    }
    c.candidates = list;
    c.n = CANDIDATES;
  }
  return handed_in(store_allocate(d->store, l, &c, cb, user, op), e);
}

uint16_t domain_port(const char *name) {
  uint64_t port;
  size_t n = strcspn(name, ".");
  bool port_name = !strncmp(name + n, ".tcp.", 5) || !strncmp(name + n, ".udp.", 5);
  return port_name && str_u64((struct span){name, n}, 65535, &port) ? (uint16_t)port : 0;
}

/* Ports that are tried for one claim, one after the other from a random one on: all of a small range, and enough of a large one. */
enum { PORTS_TRIED = 128 };

int domain_allocate_port(struct domain *d, struct loop *l, const struct domain_claim *a, store_cb cb,
                         void *user, struct store_op **op, struct beam_error *e) {
  uint16_t wanted = a->port, lo = a->lo, hi = a->hi;
  char names[PORTS_TRIED][HOST_MAX], base[HOST_MAX];
  const char *list[PORTS_TRIED];
  if (!lo || lo > hi)
    return err_set(e, BEAM_ERR_UNSUPPORTED, "use an HTTP tunnel", "the relay gives no ports");
  if (wanted && (wanted < lo || wanted > hi))
    return err_set(e, BEAM_ERR_NAME, "ask for a port of that range, or for none",
                   "the relay gives ports from %u to %u", lo, hi);
  uint32_t range = (uint32_t)hi - lo + 1, start = random_below(range);
  uint32_t n = range < PORTS_TRIED ? range : PORTS_TRIED;
  str_fmt(base, sizeof base, "%s.%s", a->udp ? "udp" : "tcp", d->base);
  for (uint32_t i = 0; i < n; i++) {
    str_fmt(names[i], sizeof names[i], "%u.%s", wanted ? wanted : lo + (start + i) % range, base);
    list[i] = names[i];
  }
  struct store_claim c = {.principal = a->principal,
                          .wanted = wanted ? names[0] : NULL,
                          .base = base,
                          .port = a->local_port,
                          .no_fresh = a->no_fresh};
  if (!wanted) {
    c.candidates = list;
    c.n = n;
  }
  return handed_in(store_allocate(d->store, l, &c, cb, user, op), e);
}
