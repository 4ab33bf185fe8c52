#include "relay/tickets.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/err.h"
#include "base/log.h"

static const char file_name[] = "tickets.key";

int tickets_load(struct relay *r, struct beam_error *err) {
  int e = tls_tickets_new(&r->tickets);
  if (e)
    return err_set(err, e, NULL, "cannot make session ticket keys: %s", beam_strerror(e));
  char path[PATH_ROOM], *blob;
  size_t n;
  if (path_join(path, r->conf.data_dir, file_name, NULL) || file_read_secret(path, 4096, &blob, &n, NULL))
    return 0;
  if (tls_tickets_import(r->tickets, (const uint8_t *)blob, n))
    log_warn("relay", "session ticket keys in %s are damaged or old: made new ones", path);
  explicit_bzero(blob, n);
  free(blob);
  return 0;
}

void tickets_save(struct relay *r) {
  uint64_t epoch = tls_tickets_epoch(r->tickets);
  char path[PATH_ROOM];
  uint8_t blob[TLS_TICKETS_BLOB];
  struct beam_error e = BEAM_ERROR_INIT;
  if (epoch == r->tickets_saved)
    return;
  tls_tickets_export(r->tickets, blob);
  if (path_join(path, r->conf.data_dir, file_name, &e) || file_write(path, 0600, blob, sizeof blob, &e))
    log_limited(BEAM_LOG_WARN, "relay", "session ticket keys not saved: %s", e.what);
  else
    r->tickets_saved = epoch;
  explicit_bzero(blob, sizeof blob);
}
