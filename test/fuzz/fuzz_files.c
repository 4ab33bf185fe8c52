/* What a request for a file says: a path that is taken leads nowhere hidden and nowhere up; a part lies within the file; a date is written as it was read. */
#include "base/str.h"
#include "fuzz.h"
#include "http/files_parse.h"
#include "wire/date.h"

static void path(struct span target) {
  char out[FILES_PATH_MAX];
  bool dir;
  if (!files_path(target, out, &dir))
    return;
  MUST(target.n && target.p[0] == '/' && out[0] != '/');
  MUST(*out || dir);
  for (const char *p = out; *p;) {
    size_t n = strcspn(p, "/");
    MUST(n > 0);
    MUST(p[0] != '.' || (p == out && n == 11 && !memcmp(p, ".well-known", n)));
    for (size_t i = 0; i < n; i++)
      MUST((unsigned char)p[i] >= 0x20 && p[i] != 0x7f);
    p += n;
    MUST(!*p || p[1]);
    p += *p == '/';
  }
  MUST(files_type(out));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  struct span text = {(const char *)p, n};
  static const uint64_t sizes[] = {0, 1, 10, 1u << 20, UINT64_MAX / 2};
  int64_t seconds;
  char again[HTTP_DATE_SIZE];
  path(text);
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    uint64_t first = 0, len = 0;
    if (files_range(text, sizes[i], &first, &len) == FILES_PART)
      MUST(len > 0 && first < sizes[i] && len <= sizes[i] - first);
  }
  MUST(!files_tag_in(text, SPAN("\"a\""), true) || files_tag_in(text, SPAN("\"a\""), false));
  if (http_date_read(text, &seconds) && seconds % 60) { /* a leap second is the next minute's first */
    http_date_write(again, seconds);
    MUST(span_eq(span_of(again), text));
  }
  return 0;
}
