/* pages.h: the catalogue of answers Beam itself gives to a visitor: status, stable code, cause, remedy. */
#ifndef HTTP_PAGES_H
#define HTTP_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/http.h"

/* A page's number is its code: 5021 is shown as BEAM-5021; the first three digits are the HTTP status. Numbers never change their meaning; they also cross the link in ERROR frames. */
enum page {
  PAGE_NONE = 0,
  PAGE_BAD_REQUEST = 4001,    /* malformed request line, or anything that has no code of its own */
  PAGE_BAD_HOST = 4002,       /* Host missing or not a name */
  PAGE_BAD_BODY = 4003,       /* chunked coding broken, body shorter than promised */
  PAGE_BAD_NEWLINE = 4004,    /* bare CR or LF in a head */
  PAGE_BAD_FIELD = 4005,      /* field name malformed, obs-fold, space before the colon */
  PAGE_BAD_VALUE = 4006,      /* control byte in a field's value */
  PAGE_BAD_LENGTH = 4007,     /* Content-Length repeated, signed, a list, or with Transfer-Encoding */
  PAGE_BAD_CODING = 4008,     /* Transfer-Encoding is not exactly chunked, or in HTTP/1.0 */
  PAGE_BAD_UPGRADE = 4009,    /* Upgrade with a body */
  PAGE_AUTH = 4011,           /* the owner's user and password are asked for */
  PAGE_ADDRESS = 4031,        /* the owner lets nobody in from this address */
  PAGE_NO_TUNNEL = 4041,      /* nobody has this name */
  PAGE_GONE_TUNNEL = 4042,    /* the name exists, its tunnel is not running */
  PAGE_NO_FILE = 4043,        /* the folder has no such file, or it may not be shown */
  PAGE_METHOD = 4051,         /* a folder takes GET and HEAD */
  PAGE_SLOW_HEAD = 4081,      /* the head did not arrive in time */
  PAGE_SLOW_BODY = 4082,      /* the body came too slowly, before the answer began */
  PAGE_BODY_TOO_LARGE = 4131, /* more than the owner takes */
  PAGE_MISDIRECTED = 4211,    /* authority is not covered by the served certificate */
  PAGE_RATE = 4291,           /* more requests than the owner takes from one address: Retry-After */
  PAGE_TOO_MANY = 4292,       /* more requests at once than one address may have: Retry-After */
  PAGE_RATE_TOTAL = 4293,     /* more requests than the owner takes from all visitors together: Retry-After */
  PAGE_PASSWORD_TRIES = 4294, /* too many failed passwords from one address: Retry-After */
  PAGE_HEAD_TOO_LARGE = 4311, /* 64 KiB or 128 fields exceeded */
  PAGE_INTERNAL = 5001,
  PAGE_UNSUPPORTED = 5011,     /* method or coding that we do not implement */
  PAGE_LOCAL_REFUSED = 5021,   /* nothing listens on the local port */
  PAGE_LOCAL_CLOSED = 5022,    /* the local service closed before a response */
  PAGE_LOCAL_BAD = 5023,       /* the local service answered something that is not HTTP */
  PAGE_LINK_LOST = 5024,       /* the agent went away before the response began */
  PAGE_LOCAL_UNTRUSTED = 5025, /* the local service's certificate is not trusted by the agent */
  PAGE_LOCAL_TLS = 5026,       /* no TLS connection to the local service came about */
  PAGE_LOCAL_H2 = 5027,        /* the local service does not speak HTTP/2, which gRPC needs */
  PAGE_NO_LINK = 5031,         /* the agent is reconnecting: Retry-After */
  PAGE_OVERLOADED = 5032,      /* a limit of the relay was reached: Retry-After */
  PAGE_TUNNEL_BUSY = 5033,     /* more requests at once than one tunnel may have: Retry-After */
  PAGE_LOCAL_TIMEOUT = 5041,   /* the local service did not answer in time */
  PAGE_VERSION = 5051,         /* HTTP version not supported */
  PAGE_TRUNCATED =
      5029, /* never shown: the body was cut after the head went out; fronts abort the connection */
  PAGE_VISITOR_GONE = 4991, /* never shown: the visitor left */
};

struct page_entry {
  enum page page;
  uint16_t status;
  const char *title, *cause, *remedy;
};
const struct page_entry *
page_find(unsigned code); /* NULL: unknown (an ERROR frame from a newer agent: use PAGE_INTERNAL) */

struct http_end;
struct loop;
/* Answer `front` with a page: HTML or JSON by the request's Accept, a status for gRPC; nothing of the request is reflected. `detail` (may be NULL) is our own text, such as the local port. */
void page_answer(struct loop *l, struct http_end *front, const struct http_head *request, enum page page,
                 const char *detail);
/* The same with fields of the caller's (PAGE_MORE_FIELDS at most), such as WWW-Authenticate. */
void page_answer_with(struct loop *l, struct http_end *front, const struct http_head *request, enum page page,
                      const char *detail, const struct http_field *more, size_t more_n);
enum { PAGE_MORE_FIELDS = 6 };
bool page_is_grpc(
    const struct http_head *request); /* Content-Type is application/grpc or of its kind; gRPC-Web is not */
bool page_wants_json(const struct http_head *request); /* Accept asks for JSON and not for HTML */

/* The head of a page's response, which is counted as shown. Points into itself: do not copy. */
struct page_head {
  struct http_head head;
  struct http_field fields[9 + PAGE_MORE_FIELDS]; /* the last ones are for who made it */
  char code[16], length[24], retry[8], status[4], message[80];
};
void page_head_make(struct page_head *out, enum page page, bool json, size_t body_length);
/* The same for a gRPC client, which does not look at other statuses: 200 without a body, the status and the reason as trailers, which stand in the head then. */
void page_head_make_grpc(struct page_head *out, enum page page);
/* The page's body for a front that must write it itself. Returns its length (always < cap for cap >= 4096). */
size_t page_render(enum page page, bool json, const char *detail, char *out, size_t cap);
enum { PAGE_BYTES = 4096 };
/* The page before a stranger's site (relay/interstitial.h), in the same dress: `host` is shown, `path` is where its link leads. */
size_t page_render_warning(const char *host, const char *path, char *out, size_t cap);

#endif
