/* policy.h: the owner's rules for visitors (include/beam/policy.h), parsed once, asked for each request.
 *
 *   agent's front ── policy_answer: refused? ─► a page
 *                 └─ policy_join ─► front ══ [compressor] ══ [guard] ══ [cache] ══ whatever it was joined to
 */
#ifndef HTTP_POLICY_H
#define HTTP_POLICY_H

#include <beam/policy.h>

#include "http/exchange.h"
#include "io/loop.h"

struct policy;

/* conf NULL: no rules. INVALID, LIMIT, NOMEM; err says which value. Counted by reference: exchanges under way keep it. */
int policy_new(const struct beam_http_policy *conf, struct policy **out, struct beam_error *err);
struct policy *policy_ref(struct policy *p);
void policy_unref(struct policy *p); /* NULL is accepted */

/* May this visitor ("203.0.113.9:51234") come in, going by its address? */
bool policy_lets_in(const struct policy *p, const char *visitor);
/* Does this request get an answer of ours? Then front has it, and *refused is its page (PAGE_NONE: a preflight). */
bool policy_answer(struct policy *p, struct loop *l, const char *visitor, struct http_end *front,
                   const struct http_head *h, enum page *refused);
/* front is joined, its head h not sent: put between it and its peer what this policy needs there. NOMEM: abort the exchange. */
int policy_join(struct policy *p, struct loop *l, struct http_end *front, const struct http_head *h);

struct cache;
struct cache *policy_cache(const struct policy *p); /* NULL: none */

#endif
