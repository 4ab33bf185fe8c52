/* interstitial.h: a word of warning before a stranger's site, for relays that let anybody in (off unless asked for).
 *
 *   GET, a browser's own navigation, no cookie ─► the page ─ its link ─► /_beam/continue ─► cookie, and back to where the visitor was going
 *
 * Everything else passes: fetch, CORS preflight, WebSocket, frames, programs, and whoever sends Beam-Skip-Warning.
 */
#ifndef RELAY_INTERSTITIAL_H
#define RELAY_INTERSTITIAL_H

#include "relay/dispatch.h"

/* Is this request one that a person in front of a browser makes by going there, for the first time? Pure. */
bool interstitial_shows(const struct http_head *h);
/* True: answered. `host`: the name that is asked for, as host_parse gives it. */
bool interstitial_request(const struct visit *v, struct http_end *front, const struct http_head *h,
                          const char *host);
/* Where the visitor goes from /_beam/continue: a path of this origin, out of the Referer; "/" when there is none to trust. Pure. */
void interstitial_back(const struct http_head *h, char *out, size_t cap);

#endif
