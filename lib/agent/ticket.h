/* ticket.h: sessions with relays to resume (QUIC), each good for one connection. One file of mode 0600 in the data directory; losing it costs a full handshake.
 *
 * On a resumed connection the relay shows no certificate, so a session is kept together with the CA that the relay had proved, and whoever takes it checks that
 * CA as if it had been shown.
 */
#ifndef AGENT_TICKET_H
#define AGENT_TICKET_H

#include <stddef.h>
#include <stdint.h>

/* The newest session with relay ("host:port") into *out (the caller wipes and frees it) and its CA's fingerprint; it is gone from the file then, whatever becomes
 * of it. 0; NOT_FOUND; as file_read_secret and file_write. */
int ticket_take(const char *dir, const char *relay, uint8_t ca[32], uint8_t **out, size_t *n);
/* Keep it; of the same relay it takes the place of an older one. The 16 last are kept. INVALID; NOMEM; as file_write. */
int ticket_keep(const char *dir, const char *relay, const uint8_t ca[32], const uint8_t *p, size_t n);

#endif
