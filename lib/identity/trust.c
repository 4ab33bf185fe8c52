#include "identity/trust.h"

#include "base/limits.h"

static const struct trust yes = {0, "allowed", ""};
static const struct trust going = {BEAM_ERR_DRAINING, "the relay is about to end or restart",
                                   "beam tries again by itself"};

static struct trust no(int err, const char *reason, const char *hint) {
  return (struct trust){err, reason, hint};
}

static struct trust allows_listen(const struct trust_facts *f) {
  if (f->relay_public && !f->open && !f->tokens_set)
    return no(BEAM_ERR_DENIED, "a relay that others can reach must say who may use it",
              "give --agent-token-file FILE, or --open to let everybody in");
  return yes;
}

static struct trust allows_hello(const struct trust_facts *f) {
  if (!f->version_ok)
    return no(BEAM_ERR_UNSUPPORTED, "agent and relay have no protocol version in common",
              "update the older of the two");
  if (!f->proof_ok)
    return no(BEAM_ERR_UNTRUSTED, "the device key does not fit this connection",
              "connect to the relay directly: somebody in between ends the TLS connection");
  if (f->tokens_set && !f->token_given)
    return no(BEAM_ERR_DENIED, "this relay asks for a token",
              "get one from its owner and give it with --token");
  if (f->tokens_set && !f->token_ok)
    return no(BEAM_ERR_DENIED, "the token is not one of this relay's",
              "check it, or ask the relay's owner for a new one");
  if (!f->tokens_set && f->relay_public && !f->open)
    return no(BEAM_ERR_DENIED, "this relay lets nobody in",
              "its owner has to start it with --agent-token-file or --open");
  if (f->draining)
    return going;
  if (f->sessions >= LIMIT_SESSIONS)
    return no(BEAM_ERR_LIMIT, "the relay is full", "try again later, or use another relay");
  return yes;
}

static struct trust allows_bind(const struct trust_facts *f) {
  if (f->draining)
    return going;
  if (f->port_wanted && !f->ports_offered)
    return no(BEAM_ERR_UNSUPPORTED, "this relay gives no public ports", "use an HTTP tunnel");
  if (f->name_given && !f->label_ok)
    return no(BEAM_ERR_NAME, "the name is not a valid one",
              "use 1 to 63 letters, digits and hyphens, not starting or ending with a hyphen");
  if (f->name_given && f->reserved)
    return no(BEAM_ERR_NAME, "the relay keeps this name for itself", "choose another name");
  if (f->owned_by_other) /* --takeover is for one's own other devices only */
    return no(BEAM_ERR_TAKEN, "the name belongs to someone else", "choose another name");
  if (f->live_elsewhere && !f->takeover)
    return no(BEAM_ERR_TAKEN, "another of your devices serves this name now",
              "stop it there, or take it over with --takeover");
  if (f->tunnels >= LIMIT_TUNNELS_PER_SESSION)
    return no(BEAM_ERR_LIMIT, "this session has as many tunnels as the relay allows",
              "close one, or start another beam");
  return yes;
}

static struct trust allows_connect(const struct trust_facts *f) {
  if (f->draining)
    return going;
  if (!f->running)
    return no(BEAM_ERR_NOT_FOUND, "no tunnel of that name is running",
              "start it with beam tcp PORT --private --name NAME");
  if (f->owned_by_other)
    return no(BEAM_ERR_DENIED, "that tunnel belongs to another device",
              "use the data directory (--data) with the key of the device that has it");
  if (!f->is_private)
    return no(BEAM_ERR_DENIED, "that tunnel is a public one", "visit it by its address");
  return yes;
}

struct trust trust_allows(const struct trust_facts *f) {
  switch (f->action) {
  case TRUST_LISTEN:
    return allows_listen(f);
  case TRUST_HELLO:
    return allows_hello(f);
  case TRUST_BIND:
    return allows_bind(f);
  case TRUST_CONNECT:
    return allows_connect(f);
  }
  return no(BEAM_ERR_INTERNAL, "unknown action", "please report it");
}
