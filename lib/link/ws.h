/* ws.h: a byte stream through WebSocket (RFC 6455), for networks and web servers that let nothing else through. What crosses are the bytes of beam/1's own
 * TLS: whatever carries the WebSocket proves nothing.
 *
 *   agent:  lower stream ── ws_connect: GET, 101 ──► ws stream          relay:  lower stream (its 101 was sent) ── ws_stream ──► ws stream
 *
 * The stream ("ws"): bytes become binary messages of one frame, message borders mean nothing. stream_finish() sends a close frame, the peer's close frame
 * is stream_at_end(): each side still says what it has to say after the other's. Once both are said the lower stream is finished. A lower stream that ends
 * without a close frame is closed(BEAM_ERR_TRUNCATED). An abort aborts the lower stream. Pings are answered, one pong at a time.
 */
#ifndef LINK_WS_H
#define LINK_WS_H

#include "io/stream.h"

#define WS_PATH "/_beam/link"
#define WS_PROTOCOL "beam.1"

enum ws_role { WS_CLIENT, WS_SERVER };

/* After the upgrade. Takes lower, also when it fails; bytes that wait in its input are read first. NOMEM. */
int ws_stream(struct stream *lower, enum ws_role role, struct stream **out);

struct ws_upgrade;
/* The outcome, once, from the task queue: a stream to own (err 0), or why not: REFUSED (status: what the server answered), PROTOCOL, TIMEOUT
 * (LIMIT_HANDSHAKE_MS), TRUNCATED, TOO_LARGE, NOMEM, the lower stream's reason. With an error s is NULL and the lower stream has been closed. */
typedef void (*ws_done)(void *user, int err, struct stream *s, unsigned status);
/* Ask for the upgrade. `authority` is the Host field. Takes lower, also when it fails. NOMEM, INVALID (authority). */
int ws_connect(struct stream *lower, const char *authority, ws_done done, void *user,
               struct ws_upgrade **out);
void ws_cancel(struct ws_upgrade *u); /* before done, which does not come then; closes the lower stream */

#endif
