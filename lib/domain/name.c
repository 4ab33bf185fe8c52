#include "domain/name.h"

#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/random.h"
#include "wire/host.h"

/* Friendly in every pairing: nothing here describes a person. */
static const char *const adjectives[] = {
    "amber",  "ample",  "azure", "brave",  "breezy", "bright", "brisk",  "calm",   "candid", "cheery",
    "clear",  "clever", "coral", "cosmic", "cozy",   "crisp",  "dapper", "deft",   "eager",  "early",
    "fair",   "fancy",  "fast",  "fleet",  "fresh",  "gentle", "glad",   "golden", "grand",  "happy",
    "honest", "jolly",  "keen",  "kind",   "lively", "lucid",  "lucky",  "lunar",  "mellow", "merry",
    "mighty", "misty",  "neat",  "nimble", "noble",  "polar",  "prime",  "proud",  "quick",  "quiet",
    "rapid",  "rosy",   "sharp", "shiny",  "silver", "smooth", "snug",   "solar",  "steady", "sunny",
    "swift",  "tidy",   "vivid", "warm",   "witty",
};
static const char *const nouns[] = {
    "acorn",   "anchor",  "arch",   "aspen",  "badge",  "basil",  "beacon", "beam",    "birch",   "bridge",
    "brook",   "canyon",  "cedar",  "cliff",  "cloud",  "clover", "comet",  "compass", "cove",    "creek",
    "crystal", "delta",   "dune",   "ember",  "falcon", "fern",   "field",  "finch",   "fjord",   "garden",
    "glade",   "harbor",  "heron",  "hill",   "island", "ivy",    "kite",   "lake",    "lantern", "leaf",
    "link",    "maple",   "meadow", "meteor", "moon",   "oasis",  "orbit",  "orchid",  "otter",   "pebble",
    "pine",    "prairie", "quartz", "reef",   "ridge",  "river",  "robin",  "sail",    "shore",   "spark",
    "spruce",  "star",    "summit", "tunnel", "willow",
};
enum { NUMBERS = 1000 };

#define COUNT(a) (uint32_t)(sizeof(a) / sizeof *(a))

void name_draw(char out[LABEL_MAX]) {
  const char *a = adjectives[random_below(COUNT(adjectives))], *n = nouns[random_below(COUNT(nouns))];
  str_fmt(out, LABEL_MAX, "%s-%s-%u", a, n, random_below(NUMBERS));
}

void name_draw_hex(char out[LABEL_MAX]) {
  uint8_t b[4];
  random_bytes(b, sizeof b);
  hex_encode(out, b, sizeof b);
}

/* What the relay, its owner or mail needs, and what visitors would take for the relay itself. */
static const char *const reserved[] = {
    "abuse",    "account", "autoconfig", "autodiscover", "isatap",     "admin",     "api",  "app",
    "auth",     "beam",    "billing",    "blog",         "control",    "dashboard", "dns",  "docs",
    "ftp",      "help",    "hostmaster", "imap",         "localhost",  "login",     "mail", "metrics",
    "mta-sts",  "ns1",     "ns2",        "pop",          "postmaster", "relay",     "root", "secure",
    "security", "smtp",    "ssl",        "static",       "status",     "support",   "sys",  "webmaster",
    "webmail",  "wpad",    "www"};

bool name_reserved(struct span label) {
  for (size_t i = 0; i < COUNT(reserved); i++)
    if (span_ieq(label, span_of(reserved[i])))
      return true;
  return false;
}

int name_check(struct span label, struct beam_error *e) {
  if (!host_label_ok(label))
    return err_set(e, BEAM_ERR_NAME, NULL, "'%.*s' cannot be a name",
                   (int)(label.n < LABEL_MAX ? label.n : LABEL_MAX), label.p);
  if (name_reserved(label))
    return err_set(e, BEAM_ERR_NAME, "choose another name", "the name '%.*s' is kept for the relay itself",
                   SPAN_FMT(label));
  return 0;
}
