/* policy.h: who may visit a tunnel, and what becomes of their requests on the way.
 *
 *   struct beam_http_policy p = BEAM_HTTP_POLICY_INIT;
 *   p.auth = "ada:correct horse";
 *   p.allow = "203.0.113.0/24,2001:db8::/32";
 *   tunnel_config.policy = &p;
 *
 * The rules are kept beside the local service, by the agent: a relay that forgets them changes nothing. In this order: `deny` and `allow`, `rate_limit`,
 * preflights of `cors`, `auth`, `max_body`, `rate_limit_total`. What is refused gets a page (JSON by Accept, a status for gRPC) with its BEAM-xxxx code, is counted as a page of that code,
 * and comes as a request with that error to on_request.
 */
#ifndef BEAM_POLICY_H
#define BEAM_POLICY_H

#include <beam/beam.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Strings are copied by beam_tunnel_open(). NULL or 0: that rule is not there. */
struct beam_http_policy {
  size_t size; /* set by BEAM_HTTP_POLICY_INIT */
  /* HTTP tunnels. "USER:PASSWORD", one a line, 64 at most: HTTP Basic (RFC 7617, UTF-8). Others get 401, BEAM-4011. The local service does not see an
   * Authorization field that was for us. Whoever upgrades (WebSocket) or speaks gRPC passes by the same check. A visitor's
   * address (IPv6: its /64) may bring ten wrong ones at once, then one each six seconds; while it has used that up, whatever password it brings, also the right one, gets
   * 429 with Retry-After, BEAM-4294. */
  const char *auth;
  /* Tunnels of every kind but PRIVATE. Addresses and ranges ("203.0.113.9", "10.0.0.0/8", "2001:db8::/32") with commas between, 256 at most. With `allow` nobody else is
   * let in; `deny` beats `allow`. HTTP: 403, BEAM-4031; else the connection is closed, the datagram dropped. The visitor's address is what the relay says. */
  const char *allow;
  const char *deny;
  /* HTTP tunnels, all that follows. "10/s", "100/m" or "1000/h": requests of one visitor's address (IPv6: its /64), all of them at once if it likes. More get 429 with
   * Retry-After, BEAM-4291. 16,384 addresses are known; of more the longest silent is forgotten. */
  const char *rate_limit;
  /* Bytes of a request's body at most. More get 413, BEAM-4131: before anything reaches the local service when Content-Length says so, else as soon as it is too
   * much. What is sent on an upgraded connection (WebSocket) does not count. */
  uint64_t max_body;
  /* "Name: value" sets a header field, "Name:" takes it out; one a line, 16 and 4 KiB at most each way. Of requests to the local service, and of its responses (not of Beam's
   * own pages). What frames messages (Content-Length, Transfer-Encoding, Connection, Upgrade, ...) and Host are INVALID. */
  const char *request_headers;
  const char *response_headers;
  /* Origins whose pages may read this tunnel ("https://app.example.com"), with commas between, 32 at most; or "*". Preflights are answered here, without asking for `auth`,
   * and allow what they ask for; the service's own Access-Control-Allow-Origin and -Credentials are replaced. Credentials are allowed to the origins of a list, never to "*". */
  const char *cors;
  /* 1: responses go as the local service sent them. 0, also without a policy: text of 1 KiB and more goes in Brotli or gzip if the visitor takes it and the service did not encode;
   * each piece it sends arrives at once. Never: server-sent events, gRPC, ranges, Cache-Control: no-transform; nor what another site asks for with the visitor's cookies. */
  int no_compression;
  /* Bytes of memory for a shared cache (RFC 9111), 1 MiB to 4 GiB; 0: none. It keeps responses that say Cache-Control: public with max-age, or s-maxage, and no Set-Cookie; honours
   * Vary, validators, stale-while-revalidate, and no-cache of visitors; Cache-Status says what it did. beam_tunnel_purge() empties it. */
  uint64_t cache;
  /* As rate_limit, of all visitors together. More get 429 with Retry-After, BEAM-4293. What another rule refuses or answers takes nothing from it, so strangers whom `auth`
   * or `rate_limit` keep out do not use it up. */
  const char *rate_limit_total;
};
#define BEAM_HTTP_POLICY_INIT                                                                                \
  { .size = sizeof(struct beam_http_policy) }

#ifdef __cplusplus
}
#endif
#endif
