/* test_malformed.c: the tables of test/tables against the real fronts and the real parser of responses: whole, split at every byte, and byte by byte. */
#include "h2_client.h"

enum { ROWS_MAX = 400, TEXT_MAX = 512 };

struct row {
  unsigned line; /* of the file */
  char want[32];
  bool end;
  char text[TEXT_MAX];
  size_t n;
};

static struct row *rows;
static size_t rows_n;

/* One run names every row that fails, each once. */
static unsigned complaints, complained_at;

__attribute__((format(printf, 1, 3))) static void complain(const char *form, unsigned line, ...) {
  va_list args;
  char text[1024];
  complaints++;
  if (line == complained_at)
    return;
  complained_at = line;
  va_start(args, line);
  vsnprintf(text, sizeof text, form, args);
  va_end(args);
  print_error("line %u: %s\n", line, text);
}

static void none_failed(void) {
  unsigned n = complaints;
  complaints = complained_at = 0;
  if (n)
    fail_msg("%u failures", n);
}

/* --- reading a table --- */

static const char *macro(char c) {
  switch (c) {
  case 'r':
    return "\r";
  case 'n':
    return "\n";
  case 't':
    return "\t";
  case '\\':
    return "\\";
  case '"':
    return "\"";
  case 'H':
    return "Host: t.test\r\n";
  case 'G':
    return "GET / HTTP/1.1\r\n";
  case 'P':
    return "POST / HTTP/1.1\r\n";
  case 'O':
    return "HTTP/1.1 200 OK\r\n";
  case 'C':
    return "Transfer-Encoding: chunked\r\n\r\n";
  case 'E':
    return "\r\n";
  }
  fail_msg("\\%c stands for nothing", c);
  return "";
}

/* One character, or what an escape stands for; returns what is left of `from`. */
static const char *put_one(const char *from, char *out, size_t *n) {
  if (*from != '\\') {
    out[(*n)++] = *from;
    return from + 1;
  }
  if (from[1] == 'x') {
    char hex[3] = {from[2], from[3], 0};
    out[(*n)++] = (char)strtoul(hex, NULL, 16);
    return from + 4;
  }
  const char *text = macro(from[1]);
  assert_true(*n + strlen(text) < TEXT_MAX);
  memcpy(out + *n, text, strlen(text));
  *n += strlen(text);
  return from + 2;
}

/* `plain`: the text is kept as it is written. */
static void read_table(const char *name, bool plain) {
  char path[256], line[1024];
  unsigned at = 0;
  str_fmt(path, sizeof path, "test/tables/%s", name);
  FILE *f = fopen(path, "r");
  if (!f)
    fail_msg("%s: not found; run this from the root of the sources", path);
  rows_n = 0;
  while (fgets(line, sizeof line, f)) {
    struct row *r = &rows[rows_n];
    at++;
    line[strcspn(line, "\n")] = 0;
    if (!*line || *line == '#')
      continue;
    assert_true(rows_n < ROWS_MAX);
    memset(r, 0, sizeof *r);
    r->line = at;
    const char *p = strchr(line, plain ? '|' : ' ');
    if (!plain && !p)
      p = line + strlen(line);
    assert_non_null(p);
    str_fmt(r->want, sizeof r->want, "%.*s", (int)(p - line), line);
    p += *p != 0;
    if (!plain && !strncmp(p, "end", 3) && (!p[3] || p[3] == ' ')) {
      r->end = true;
      p += p[3] ? 4 : 3;
    }
    if (plain)
      r->n = (size_t)snprintf(r->text, sizeof r->text, "%s", p);
    while (!plain && *p)
      p = put_one(p, r->text, &r->n);
    assert_true(r->n < TEXT_MAX);
    rows_n++;
  }
  fclose(f);
}

/* --- feeding: whole, in two pieces, byte by byte --- */

/* PIECES are of 5 bytes: nghttp2 counts what it reads of a CONTINUATION's head and ends a connection at the ninth time. Any other number: where it is cut. */
enum { WHOLE = 0, BYTES = -1, PIECES = -5 };

static bool listens(struct rig *r, struct peer *p) {
  return p->s && !p->dead && (p != &r->visitor || r->front);
}

static void say(struct rig *r, struct peer *p, const char *text, size_t n) {
  if (n && listens(r, p))
    peer_put(p, text, n);
  rig_run(r);
}

static void feed(struct rig *r, struct peer *p, const char *text, size_t n, int cut) {
  if (cut < 0) {
    size_t step = (size_t)-cut;
    for (size_t i = 0; i < n; i += step)
      say(r, p, text + i, n - i < step ? n - i : step);
  } else if (cut) {
    say(r, p, text, (size_t)cut);
    say(r, p, text + cut, n - (size_t)cut);
  } else {
    say(r, p, text, n);
  }
}

/* --- requests in HTTP/1 --- */

#define SMUGGLED "GET /smuggled HTTP/1.1\r\nHost: t.test\r\n\r\n"

static void no_trace(const struct row *row, const char *got) {
  static const char *const never[] = {"evil", "t.test", "smuggled"};
  for (size_t i = 0; i < ROWS(never); i++)
    if (strstr(got, never[i]))
      complain("\"%s\" came back:\n%s", row->line, never[i], got);
}

static void refused(const struct row *row, struct rig *r) {
  char status[32], code[48];
  const char *got = peer_text(&r->visitor);
  str_fmt(status, sizeof status, "HTTP/1.1 %.3s ", row->want);
  str_fmt(code, sizeof code, "\r\nBeam-Error: BEAM-%s\r\n", row->want);
  if (strncmp(got, status, strlen(status)) != 0 || !strstr(got, code))
    complain("not %s but:\n%.300s", row->line, row->want, got);
  if (!strstr(got, "\r\nConnection: close\r\n") || strstr(got, "\nHTTP/1.1 "))
    complain("more than one answer, or not the last:\n%.300s", row->line, got);
  no_trace(row, got);
  if (!r->visitor.ended || r->front)
    complain("the connection goes on", row->line);
  for (unsigned i = 0; i < r->dials; i++)
    if (strstr(peer_text(&r->service[i]), "smuggled") || !r->service[i].dead)
      complain("it reached the service:\n%s", row->line, peer_text(&r->service[i]));
  if (strcmp(row->want, "4003") != 0)
    if (r->dials)
      complain("it reached the service", row->line);
}

static void came_through(const struct row *row, struct rig *r) {
  peer_say(&r->service[0], "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine");
  rig_run(r);
  const char *got = peer_text(&r->visitor);
  if (strncmp(got, "HTTP/1.1 200 ", 13) != 0 || !strstr(got, "\r\n\r\nfine"))
    complain("should come through:\n%.300s", row->line, got);
}

static void try_request(const struct row *row, enum rig_way way, int cut) {
  struct rig *r = rig_new(way);
  bool ok = !strcmp(row->want, "ok");
  feed(r, &r->visitor, row->text, row->n, cut);
  if (row->end && r->front)
    peer_finish(&r->visitor);
  else if (!ok)
    say(r, &r->visitor, SMUGGLED, strlen(SMUGGLED));
  rig_run(r);
  if (ok)
    came_through(row, r);
  else
    refused(row, r);
  rig_free(r);
}

static void requests(void **state) {
  (void)state;
  read_table("malformed_h1.txt", false);
  assert_true(rows_n > 200);
  for (size_t i = 0; i < rows_n; i++) {
    for (enum rig_way way = DIRECT; way <= FRAMES; way++)
      try_request(&rows[i], way, WHOLE);
    try_request(&rows[i], FRAMES, BYTES);
    for (size_t cut = 1; cut < rows[i].n; cut++)
      try_request(&rows[i], DIRECT, (int)cut);
  }
  none_failed();
}

/* --- responses --- */

#define NEXT "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"

static void bad_response(const struct row *row, struct rig *r) {
  const char *got = peer_text(&r->visitor);
  char code[48];
  str_fmt(code, sizeof code, "\r\nBeam-Error: BEAM-%s\r\n", row->want);
  if (strcmp(row->want, "cut") != 0) {
    const char *last = strstr(got, "HTTP/1.1 502 ");
    if (!last || !strstr(got, code) || strstr(got, "200 OK"))
      complain("not %s but:\n%.300s", row->line, row->want, got);
    if (strstr(got, "evil"))
      complain("it came back:\n%s", row->line, got);
  } else if (!r->visitor.dead || strstr(got, "0\r\n\r\n") || strstr(got, "evil")) {
    complain("not seen to be cut:\n%s", row->line, got);
  }
  if (strstr(got, "smuggled"))
    complain("smuggled:\n%s", row->line, got);
  if (!r->service[0].dead)
    complain("the service's connection lives", row->line);
}

/* The same visitor asks again, and gets what a fresh connection says. */
static void asks_again(const struct row *row, struct rig *r) {
  peer_since(&r->visitor);
  if (!r->front)
    return; /* cut */
  peer_say(&r->visitor, "GET /again HTTP/1.1\r\nHost: t.test\r\n\r\n");
  rig_run(r);
  if (r->dials != 2)
    complain("%u connections", row->line, r->dials);
  peer_say(&r->service[1], "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain");
  rig_run(r);
  assert_non_null(strstr(peer_text(&r->visitor), "\r\n\r\nagain"));
}

static void try_response(const struct row *row, enum rig_way way, int cut) {
  struct rig *r = rig_new(way);
  bool ok = !strcmp(row->want, "ok");
  peer_say(&r->visitor, "GET / HTTP/1.1\r\nHost: t.test\r\n\r\n");
  rig_run(r);
  feed(r, &r->service[0], row->text, row->n, cut);
  if (row->end)
    peer_finish(&r->service[0]);
  else if (!ok)
    say(r, &r->service[0], NEXT, strlen(NEXT));
  rig_run(r);
  if (ok) {
    const char *got = peer_text(&r->visitor);
    if (!strstr(got, "f") || !strstr(got, "e") || strstr(got, "502") || !r->records)
      complain("should come through:\n%.300s", row->line, got);
  } else {
    bad_response(row, r);
    asks_again(row, r);
  }
  rig_free(r);
}

static void responses(void **state) {
  (void)state;
  read_table("malformed_responses.txt", false);
  assert_true(rows_n > 60);
  for (size_t i = 0; i < rows_n; i++) {
    for (enum rig_way way = DIRECT; way <= FRAMES; way++)
      try_response(&rows[i], way, WHOLE);
    try_response(&rows[i], FRAMES, BYTES);
    for (size_t cut = 1; cut < rows[i].n; cut++)
      try_response(&rows[i], DIRECT, (int)cut);
  }
  none_failed();
}

/* --- frames of HTTP/2 --- */

static const char *blanks(const char *p) {
  while (*p == ' ')
    p++;
  return p;
}

static size_t put_field(uint8_t *out, const char *name, size_t name_n, const char *value, size_t value_n) {
  out[0] = 0;
  out[1] = (uint8_t)name_n;
  memcpy(out + 2, name, name_n);
  out[2 + name_n] = (uint8_t)value_n;
  memcpy(out + 3 + name_n, value, value_n);
  return 3 + name_n + value_n;
}

/* "[name=value]"; p behind the bracket. */
static const char *bracket(const char *p, uint8_t *out, size_t *n) {
  char text[TEXT_MAX] = "";
  size_t len = 0;
  while (*p && *p != ']')
    p = put_one(p, text, &len);
  assert_true(*p == ']' && len && len < 120);
  size_t at = text[0] == '=' ? 0 : 1;
  while (at < len && text[at] != '=')
    at++;
  assert_true(at < len);
  *n += put_field(out + *n, text, at, text + at + 1, len - at - 1);
  return p + 1;
}

static const char *payload(const char *p, uint8_t *out, size_t *n) {
  for (p = blanks(p); *p && *p != ';'; p = blanks(p)) {
    switch (*p++) {
    case '"':
      while (*p && *p != '"')
        p = put_one(p, (char *)out, n);
      assert_int_equal(*p++, '"');
      break;
    case 'M':
      *n += put_field(out + *n, ":method", 7, "GET", 3);
      break;
    case 'S':
      *n += put_field(out + *n, ":scheme", 7, "https", 5);
      break;
    case 'A':
      *n += put_field(out + *n, ":authority", 10, "t.test", 6);
      break;
    case 'P':
      *n += put_field(out + *n, ":path", 5, "/", 1);
      break;
    case '[':
      p = bracket(p, out, n);
      break;
    default:
      fail_msg("what is \"%s\"?", p - 1);
    }
  }
  return p;
}

/* All frames of a row, preface and SETTINGS in front, as bytes. */
static size_t frames_of(const struct row *row, char *out) {
  static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
  size_t n = sizeof preface - 1;
  memcpy(out, preface, n);
  for (const char *p = blanks(row->text); *p; p = blanks(p + (*p == ';'))) {
    char *next;
    uint8_t body[1024];
    size_t len = 0;
    unsigned long type = strtoul(p, &next, 10), flags = strtoul(next, &next, 10),
                  id = strtoul(next, &next, 10);
    p = payload(next, body, &len);
    uint8_t head[9] = {0, (uint8_t)(len >> 8), (uint8_t)len, (uint8_t)type, (uint8_t)flags, 0, 0,
                       0, (uint8_t)(id & 255)};
    memcpy(out + n, head, 9);
    memcpy(out + n + 9, body, len);
    n += 9 + len;
  }
  return n;
}

struct said {
  long reset, goaway; /* codes, or -1 */
  bool answer;        /* HEADERS on stream 1 */
};

/* Block and text of an answer are looked into by who asks; here only what kind of frames came. */
static struct said what_was_said(struct rig *r) {
  struct said s = {-1, -1, false};
  size_t n = evbuffer_get_length(r->visitor.got);
  const uint8_t *p = evbuffer_pullup(r->visitor.got, -1);
  while (n >= 9) {
    size_t len = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
    assert_true(n >= 9 + len);
    if (p[3] == NGHTTP2_RST_STREAM && p[8] == 1 && s.reset < 0)
      s.reset = p[12];
    if (p[3] == NGHTTP2_GOAWAY)
      s.goaway = p[9 + 7];
    s.answer = s.answer || (p[3] == NGHTTP2_HEADERS && p[8] == 1);
    p += 9 + len;
    n -= 9 + len;
  }
  return s;
}

static bool has_bytes(struct rig *r, const char *text) {
  struct evbuffer_ptr at = evbuffer_search(r->visitor.got, text, strlen(text), NULL);
  return at.pos >= 0;
}

static void check_frames(const struct row *row, struct rig *r) {
  char kind[16];
  int code = 0;
  assert_true(sscanf(row->want, "%15s %d", kind, &code) >= 1);
  if (!strcmp(kind, "ok")) {
    for (unsigned i = 0; i < r->dials; i++)
      peer_say(&r->service[i], "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine");
    rig_run(r);
  }
  struct said s = what_was_said(r);
  bool ok = false;
  char text[32];
  str_fmt(text, sizeof text, "BEAM-%d", code);
  if (!strcmp(kind, "reset"))
    ok = s.reset == code && !s.answer && s.goaway < 0 && r->front && !r->dials;
  else if (!strcmp(kind, "late")) /* the head had come through: the service sees the request cut */
    ok = s.reset == code && s.goaway < 0 && r->front && (!r->dials || r->service[0].dead);
  else if (!strcmp(kind, "goaway"))
    ok = s.goaway == code && !r->front;
  else if (!strcmp(kind, "page"))
    ok = s.answer && s.goaway < 0 && r->front && !r->dials && has_bytes(r, text);
  else if (!strcmp(kind, "ok"))
    ok = s.answer && s.reset < 0 && s.goaway < 0 && r->front && has_bytes(r, "fine");
  else if (!strcmp(kind, "quiet"))
    ok = s.reset < 0 && s.goaway < 0 && !s.answer && r->front;
  if (!ok || has_bytes(r, "evil"))
    complain("wanted %s, got reset %ld, goaway %ld, answer %d, front %d, dials %u", row->line, row->want,
             s.reset, s.goaway, s.answer, r->front != NULL, r->dials);
}

static void try_frames(const struct row *row, enum rig_way way, int cut) {
  struct rig *r = rig_new_with(way, h2_front_new);
  char bytes[4096];
  size_t n = frames_of(row, bytes);
  feed(r, &r->visitor, bytes, n, cut);
  rig_wait(r, 1);
  check_frames(row, r);
  rig_free(r);
}

static void frames(void **state) {
  (void)state;
  read_table("malformed_h2.txt", true);
  assert_true(rows_n > 100);
  for (size_t i = 0; i < rows_n; i++) {
    char bytes[4096];
    size_t n = frames_of(&rows[i], bytes);
    for (enum rig_way way = DIRECT; way <= FRAMES; way++)
      try_frames(&rows[i], way, WHOLE);
    try_frames(&rows[i], FRAMES, PIECES);
    for (size_t cut = 1; cut < n; cut++)
      try_frames(&rows[i], DIRECT, (int)cut);
  }
  none_failed();
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(requests),
      cmocka_unit_test(responses),
      cmocka_unit_test(frames),
  };
  rows = calloc(ROWS_MAX, sizeof *rows);
  int failed = rows ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
  free(rows);
  return failed;
}
