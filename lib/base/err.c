#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/str.h"

static const struct err_entry table[] = {
    {BEAM_OK, "BEAM-1000", "no error", ""},
    {BEAM_AGAIN, "BEAM-1001", "not ready yet", "try again later"},
    {BEAM_ERR_NOMEM, "BEAM-1002", "out of memory", "free memory or raise the limit of this service"},
    {BEAM_ERR_INVALID, "BEAM-1003", "a value is not valid", "correct the option that is named"},
    {BEAM_ERR_SYSTEM, "BEAM-1004", "the operating system refused", "look at the log line for the cause"},
    {BEAM_ERR_CLOSED, "BEAM-1005", "closed", "open it again"},
    {BEAM_ERR_RESET, "BEAM-1006", "the other side aborted the connection", "try again"},
    {BEAM_ERR_REFUSED, "BEAM-1007", "connection refused", "check that the program is running on that port"},
    {BEAM_ERR_UNREACHABLE, "BEAM-1008", "the host cannot be reached", "check the name and the network"},
    {BEAM_ERR_TIMEOUT, "BEAM-1009", "no answer in time", "check the network, then try again"},
    {BEAM_ERR_PROTOCOL, "BEAM-1010", "the other side broke the protocol",
     "check that both sides run Beam, of versions that fit"},
    {BEAM_ERR_TLS, "BEAM-1011", "the TLS connection failed", "look at the log line for the cause"},
    {BEAM_ERR_UNTRUSTED, "BEAM-1012", "the relay is not the one that was trusted before",
     "if the relay was set up anew, give its CA with --relay-ca FILE; else somebody may be in the middle"},
    {BEAM_ERR_DENIED, "BEAM-1013", "the relay refused access",
     "ask the relay's owner for a token and give it with --token"},
    {BEAM_ERR_TAKEN, "BEAM-1014", "the name belongs to someone else", "choose another name"},
    {BEAM_ERR_NAME, "BEAM-1015", "the name is not permitted",
     "use 1 to 63 letters, digits and hyphens, not starting or ending with a hyphen"},
    {BEAM_ERR_NOT_FOUND, "BEAM-1016", "not found", "check the spelling"},
    {BEAM_ERR_LIMIT, "BEAM-1017", "a limit was reached",
     "close what is not needed, or raise the limit at the relay"},
    {BEAM_ERR_IN_USE, "BEAM-1018", "the address is in use", "stop the other program or choose another port"},
    {BEAM_ERR_PERMISSION, "BEAM-1019", "permission denied",
     "check the owner and mode of the file, or use a port above 1023"},
    {BEAM_ERR_STORE, "BEAM-1020", "the store failed",
     "check that the disk is not full and the data directory is writable"},
    {BEAM_ERR_TRUNCATED, "BEAM-1021", "the other side ended too early",
     "try again; if it stays, look at the local service's log"},
    {BEAM_ERR_TOO_LARGE, "BEAM-1022", "too large", "send less"},
    {BEAM_ERR_UNSUPPORTED, "BEAM-1023", "not supported by this build",
     "see the features with beam --version"},
    {BEAM_ERR_DRAINING, "BEAM-1024", "going away", "connect again"},
    {BEAM_ERR_SUPERSEDED, "BEAM-1025", "a newer session of this device took the name over",
     "close the other beam, or use another --name"},
    {BEAM_ERR_LOCAL, "BEAM-1026", "the local service failed", "start the program you want to share"},
    {BEAM_ERR_INTERNAL, "BEAM-1027", "a defect in Beam", "please report it with the log line"},
};

const struct err_entry *err_find(int err) {
  size_t n = sizeof table / sizeof *table;
  for (size_t i = 0; i < n; i++)
    if (table[i].err == err)
      return &table[i];
  return &table[n - 1];
}

int err_set(struct beam_error *e, int err, const char *hint, const char *fmt, ...) {
  if (!e || e->size < sizeof *e)
    return err;
  e->code = err;
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(e->what, sizeof e->what, fmt, ap);
  va_end(ap);
  str_copy(e->hint, sizeof e->hint, hint ? hint : err_find(err)->hint);
  return err;
}

int err_from_errno(int e) {
  switch (e) {
  case 0:
    return 0;
  case EAGAIN:
  case EINTR:
  case EINPROGRESS:
    return BEAM_AGAIN;
  case ENOMEM:
  case ENOBUFS:
    return BEAM_ERR_NOMEM;
  case ECONNREFUSED:
    return BEAM_ERR_REFUSED;
  case ECONNRESET:
  case EPIPE:
  case ECONNABORTED:
    return BEAM_ERR_RESET;
  case ETIMEDOUT:
    return BEAM_ERR_TIMEOUT;
  case ENETUNREACH:
  case EHOSTUNREACH:
  case ENETDOWN:
  case EADDRNOTAVAIL:
  case EAFNOSUPPORT:
    return BEAM_ERR_UNREACHABLE;
  case EADDRINUSE:
    return BEAM_ERR_IN_USE;
  case EACCES:
  case EPERM:
  case EROFS:
    return BEAM_ERR_PERMISSION;
  case ENOENT:
    return BEAM_ERR_NOT_FOUND;
  case EMFILE:
  case ENFILE:
    return BEAM_ERR_LIMIT;
  case ENOSPC:
  case EDQUOT:
    return BEAM_ERR_STORE;
  case EINVAL:
    return BEAM_ERR_INVALID;
  default:
    return BEAM_ERR_SYSTEM;
  }
}
