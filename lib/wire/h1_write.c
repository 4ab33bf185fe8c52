#include "wire/h1.h"

#include <beam/beam.h>
#include <event2/buffer.h>
#include <string.h>

#include "base/limits.h"

/* What goes out is measured first, then written into one piece of the buffer. */

static char *add(char *at, struct span s) {
  if (s.n)
    memcpy(at, s.p, s.n);
  return at + s.n;
}

static size_t fields_size(const struct http_head *h) {
  size_t n = 0;
  for (size_t i = 0; i < h->fields_n; i++)
    n += h->fields[i].name.n + h->fields[i].value.n + 4;
  return n;
}

static char *add_fields(char *at, const struct http_head *h) {
  for (size_t i = 0; i < h->fields_n; i++) {
    at = add(at, h->fields[i].name);
    at = add(at, SPAN(": "));
    at = add(at, h->fields[i].value);
    at = add(at, SPAN("\r\n"));
  }
  return at;
}

static char *add_first_line(char *at, const struct http_head *h) {
  if (!h->status) {
    at = add(at, h->method);
    at = add(at, SPAN(" "));
    at = add(at, h->target);
    return add(at, SPAN(" HTTP/1.1\r\n"));
  }
  char status[4] = {(char)('0' + h->status / 100 % 10), (char)('0' + h->status / 10 % 10),
                    (char)('0' + h->status % 10), ' '};
  at = add(at, SPAN("HTTP/1.1 "));
  at = add(at, (struct span){status, sizeof status});
  at = add(at, h->reason);
  return add(at, SPAN("\r\n"));
}

int h1_write_head(struct evbuffer *out, const struct http_head *h) {
  size_t n = h->method.n + h->target.n + h->reason.n + 32 + fields_size(h);
  struct evbuffer_iovec v;
  if (evbuffer_reserve_space(out, (ev_ssize_t)n, &v, 1) < 1)
    return BEAM_ERR_NOMEM;
  char *at = add_first_line(v.iov_base, h);
  at = add_fields(at, h);
  at = add(at, SPAN("\r\n"));
  v.iov_len = (size_t)(at - (char *)v.iov_base);
  return evbuffer_commit_space(out, &v, 1) ? BEAM_ERR_NOMEM : 0;
}

int h1_write_chunk_head(struct evbuffer *out, size_t n) {
  char text[2 * sizeof n + 2];
  size_t i = sizeof text - 2;
  text[i] = '\r';
  text[i + 1] = '\n';
  do
    text[--i] = "0123456789abcdef"[n & 15];
  while (n >>= 4);
  /* Not evbuffer_add(): behind a big chain it would take as much memory again for these few bytes. */
  struct evbuffer_iovec v;
  if (evbuffer_reserve_space(out, (ev_ssize_t)sizeof text, &v, 1) < 1)
    return BEAM_ERR_NOMEM;
  v.iov_len = sizeof text - i;
  memcpy(v.iov_base, text + i, v.iov_len);
  return evbuffer_commit_space(out, &v, 1) ? BEAM_ERR_NOMEM : 0;
}

int h1_write_last_chunk(struct evbuffer *out, const struct http_head *trailers) {
  if (!trailers || !trailers->fields_n)
    return evbuffer_add(out, "0\r\n\r\n", 5) ? BEAM_ERR_NOMEM : 0;
  struct evbuffer_iovec v;
  if (evbuffer_reserve_space(out, (ev_ssize_t)(fields_size(trailers) + 5), &v, 1) < 1)
    return BEAM_ERR_NOMEM;
  char *at = add(v.iov_base, SPAN("0\r\n"));
  at = add_fields(at, trailers);
  at = add(at, SPAN("\r\n"));
  v.iov_len = (size_t)(at - (char *)v.iov_base);
  return evbuffer_commit_space(out, &v, 1) ? BEAM_ERR_NOMEM : 0;
}

/* The registered status codes (RFC 9110 15 and the registry's later additions); for writing to HTTP/1 what came without a reason. */
static const struct {
  uint16_t status;
  const char *reason;
} reasons[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {102, "Processing"},
    {103, "Early Hints"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {203, "Non-Authoritative Information"},
    {204, "No Content"},
    {205, "Reset Content"},
    {206, "Partial Content"},
    {207, "Multi-Status"},
    {208, "Already Reported"},
    {226, "IM Used"},
    {300, "Multiple Choices"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {305, "Use Proxy"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {407, "Proxy Authentication Required"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {423, "Locked"},
    {424, "Failed Dependency"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {451, "Unavailable For Legal Reasons"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {506, "Variant Also Negotiates"},
    {507, "Insufficient Storage"},
    {508, "Loop Detected"},
    {511, "Network Authentication Required"},
};

const char *http_reason(uint16_t status) {
  size_t lo = 0, hi = sizeof reasons / sizeof *reasons;
  while (lo < hi) {
    size_t mid = (lo + hi) / 2;
    if (reasons[mid].status == status)
      return reasons[mid].reason;
    if (reasons[mid].status < status)
      lo = mid + 1;
    else
      hi = mid;
  }
  return "";
}
