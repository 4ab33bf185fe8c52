/* pins.h: which CA each relay had when this device first met it (trust on first use), in dir/known_relays: lines of "host:port sha256:HEX". */
#ifndef IDENTITY_PINS_H
#define IDENTITY_PINS_H

#include <beam/beam.h>

enum pin { PIN_KNOWN = 0, PIN_NEW = 1 };

/* PIN_KNOWN: the same as before. PIN_NEW: never met; pins_remember it once the relay has proved itself. UNTRUSTED (with text): another CA than before.
 * INVALID: the file is damaged. */
int pins_check(const char *dir, const char *host_port, const uint8_t fp[32], struct beam_error *e);
/* Add or replace. Safe between processes. */
int pins_remember(const char *dir, const char *host_port, const uint8_t fp[32], struct beam_error *e);
/* Forget. NOT_FOUND when it was not there. */
int pins_forget(const char *dir, const char *host_port, struct beam_error *e);

#endif
