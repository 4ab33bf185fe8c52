/* Host names and authorities: what is taken has one folded form, which is taken again as itself. */
#include "base/str.h"
#include "fuzz.h"
#include "wire/host.h"

static void authority(struct span text) {
  char host[HOST_MAX], again[HOST_MAX], composed[HOST_MAX + 16];
  uint16_t port, port_again;
  if (!host_parse(text, host, &port))
    return;
  size_t n = strlen(host);
  MUST(n > 0 && n < HOST_MAX && host[n - 1] != '.');
  for (size_t i = 0; i < n; i++)
    MUST(!(host[i] >= 'A' && host[i] <= 'Z'));
  bool six = strchr(host, ':') != NULL;
  MUST(!six || host_is_ip(host));
  if (port)
    MUST(str_fmt(composed, sizeof composed, six ? "[%s]:%u" : "%s:%u", host, (unsigned)port));
  else
    MUST(str_fmt(composed, sizeof composed, six ? "[%s]" : "%s", host));
  MUST(host_parse(span_of(composed), again, &port_again) && port_again == port && !strcmp(again, host));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  struct span text = {(const char *)p, n}, label;
  char host[HOST_MAX];
  authority(text);
  if (host_label_ok(text))
    MUST(host_name_ok(text) && n <= 63);
  bool folded = host_fold(text, host);
  if (host_name_ok(text) && folded)
    MUST(strlen(host) == n && !memcmp(host, p, n));
  if (folded && host_label_under(host, "test", &label))
    MUST(label.n > 0 && label.n <= 63);
  return 0;
}
