#include "http/files_parse.h"

#include <string.h>
#include <strings.h>

/* --- paths --- */

static int hex(char c) {
  return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

/* One byte off the target; -1: none that may stand in a name. */
static int next_byte(const char **p, const char *end) {
  int c = (unsigned char)*(*p)++;
  if (c == '%') {
    int a = end - *p >= 2 ? hex((*p)[0]) : -1, b = a >= 0 ? hex((*p)[1]) : -1;
    c = b >= 0 ? a * 16 + b : 0;
    *p += b >= 0 ? 2 : 0;
    if (c == '/')
      return -1;
  }
  return c < 0x20 || c == 0x7f ? -1 : c;
}

static bool segment_ok(const char *s, size_t n, bool first) {
  if (!n)
    return false;
  return s[0] != '.' || (first && n == 11 && !memcmp(s, ".well-known", n));
}

bool files_path(struct span target, char out[FILES_PATH_MAX], bool *dir) {
  const char *p = target.p, *end = target.p + target.n;
  size_t n = 0, segment = 0;
  for (const char *q = p; q < end; q++)
    if (*q == '?' || *q == '#') {
      end = q;
      break;
    }
  if (p == end || *p++ != '/')
    return false;
  while (p < end) {
    bool slash = *p == '/';
    int c = next_byte(&p, end);
    if (c < 0 || n + 1 >= FILES_PATH_MAX || (slash && !segment_ok(out + segment, n - segment, !segment)))
      return false;
    out[n++] = (char)c;
    if (slash)
      segment = n;
  }
  *dir = segment == n;
  if (!*dir && !segment_ok(out + segment, n - segment, !segment))
    return false;
  n -= *dir && n; /* without the last slash */
  out[n] = 0;
  return true;
}

/* --- ranges --- */

static bool is_number(struct span s) {
  for (size_t i = 0; i < s.n; i++)
    if (s.p[i] < '0' || s.p[i] > '9')
      return false;
  return s.n > 0;
}

/* Longer than any file: the largest there is. */
static uint64_t number(struct span s) {
  uint64_t v;
  return str_u64(s, UINT64_MAX - 1, &v) ? v : UINT64_MAX - 1;
}

static struct span trim(struct span s) {
  while (s.n && (*s.p == ' ' || *s.p == '\t'))
    s.p++, s.n--;
  while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
    s.n--;
  return s;
}

enum files_range files_range(struct span v, uint64_t size, uint64_t *first, uint64_t *n) {
  struct span unit = SPAN("bytes=");
  v = trim(v);
  if (v.n <= unit.n || !span_ieq((struct span){v.p, unit.n}, unit))
    return FILES_WHOLE;
  v = trim((struct span){v.p + unit.n, v.n - unit.n});
  const char *dash = memchr(v.p, '-', v.n);
  if (!dash)
    return FILES_WHOLE;
  struct span a = {v.p, (size_t)(dash - v.p)}, b = {dash + 1, v.n - a.n - 1};
  if ((a.n && !is_number(a)) || (b.n && !is_number(b)) || (!a.n && !b.n))
    return FILES_WHOLE;
  uint64_t last = b.n ? number(b) : UINT64_MAX - 1;
  if (!a.n) { /* the last ones */
    *n = last < size ? last : size;
    *first = size - *n;
    return *n ? FILES_PART : FILES_NO_PART;
  }
  *first = number(a);
  if (last < *first)
    return FILES_WHOLE;
  if (*first >= size)
    return FILES_NO_PART;
  *n = (last < size ? last + 1 : size) - *first;
  return FILES_PART;
}

/* --- entity tags --- */

static struct span opaque(struct span tag, bool *weak) {
  *weak = tag.n > 2 && tag.p[0] == 'W' && tag.p[1] == '/';
  return *weak ? (struct span){tag.p + 2, tag.n - 2} : tag;
}

bool files_tag_in(struct span list, struct span tag, bool strong) {
  bool ours, theirs;
  struct span mine = opaque(tag, &ours);
  list = trim(list);
  if (span_eq(list, SPAN("*")))
    return true;
  for (const char *p = list.p, *end = list.p + list.n; p < end;) {
    if (*p == ' ' || *p == '\t' || *p == ',') {
      p++;
      continue;
    }
    const char *open = p + (*p == 'W' && end - p > 1 && p[1] == '/' ? 2 : 0);
    const char *close = open < end && *open == '"' ? memchr(open + 1, '"', (size_t)(end - open - 1)) : NULL;
    if (!close)
      return false;
    struct span one = opaque((struct span){p, (size_t)(close + 1 - p)}, &theirs);
    if (span_eq(one, mine) && !(strong && (ours || theirs)))
      return true;
    p = close + 1;
  }
  return false;
}

/* --- types --- */

static const char *const types[][2] = {
    {"html", "text/html; charset=utf-8"},
    {"htm", "text/html; charset=utf-8"},
    {"css", "text/css; charset=utf-8"},
    {"js", "text/javascript; charset=utf-8"},
    {"mjs", "text/javascript; charset=utf-8"},
    {"cjs", "text/javascript; charset=utf-8"},
    {"json", "application/json"},
    {"map", "application/json"},
    {"jsonld", "application/ld+json"},
    {"webmanifest", "application/manifest+json"},
    {"geojson", "application/geo+json"},
    {"xml", "application/xml"},
    {"xhtml", "application/xhtml+xml"},
    {"rss", "application/rss+xml"},
    {"atom", "application/atom+xml"},
    {"txt", "text/plain; charset=utf-8"},
    {"text", "text/plain; charset=utf-8"},
    {"log", "text/plain; charset=utf-8"},
    {"md", "text/markdown; charset=utf-8"},
    {"csv", "text/csv; charset=utf-8"},
    {"ics", "text/calendar; charset=utf-8"},
    {"vtt", "text/vtt; charset=utf-8"},
    {"yaml", "application/yaml"},
    {"yml", "application/yaml"},
    {"svg", "image/svg+xml"},
    {"png", "image/png"},
    {"apng", "image/apng"},
    {"jpg", "image/jpeg"},
    {"jpeg", "image/jpeg"},
    {"gif", "image/gif"},
    {"webp", "image/webp"},
    {"avif", "image/avif"},
    {"ico", "image/x-icon"},
    {"bmp", "image/bmp"},
    {"tif", "image/tiff"},
    {"tiff", "image/tiff"},
    {"jxl", "image/jxl"},
    {"woff", "font/woff"},
    {"woff2", "font/woff2"},
    {"ttf", "font/ttf"},
    {"otf", "font/otf"},
    {"ttc", "font/collection"},
    {"mp4", "video/mp4"},
    {"m4v", "video/mp4"},
    {"webm", "video/webm"},
    {"mov", "video/quicktime"},
    {"ogv", "video/ogg"},
    {"mpeg", "video/mpeg"},
    {"ts", "video/mp2t"},
    {"m3u8", "application/vnd.apple.mpegurl"},
    {"mpd", "application/dash+xml"},
    {"mp3", "audio/mpeg"},
    {"m4a", "audio/mp4"},
    {"aac", "audio/aac"},
    {"oga", "audio/ogg"},
    {"ogg", "audio/ogg"},
    {"opus", "audio/ogg"},
    {"flac", "audio/flac"},
    {"wav", "audio/wav"},
    {"weba", "audio/webm"},
    {"pdf", "application/pdf"},
    {"wasm", "application/wasm"},
    {"zip", "application/zip"},
    {"gz", "application/gzip"},
    {"tgz", "application/gzip"},
    {"br", "application/octet-stream"},
    {"zst", "application/zstd"},
    {"tar", "application/x-tar"},
    {"7z", "application/x-7z-compressed"},
    {"rtf", "application/rtf"},
    {"epub", "application/epub+zip"},
    {"docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
    {"xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
    {"pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
    {"glb", "model/gltf-binary"},
    {"gltf", "model/gltf+json"},
};

const char *files_type(const char *name) {
  const char *slash = strrchr(name, '/'), *dot = strrchr(slash ? slash : name, '.');
  for (size_t i = 0; dot && i < sizeof types / sizeof *types; i++)
    if (!strcasecmp(dot + 1, types[i][0]))
      return types[i][1];
  return "application/octet-stream";
}
