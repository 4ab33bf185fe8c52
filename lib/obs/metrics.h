/* metrics.h: what the process counts, and its text for a scraper (Prometheus exposition format 0.0.4).
 *
 * Counting is one relaxed atomic addition on a shard that is practically the thread's own; reading sums the shards. Any thread, no set-up.
 * What belongs to one relay of several in a process is counted there and written with metrics_row().
 */
#ifndef OBS_METRICS_H
#define OBS_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum metric {
  METRIC_SOCKETS,         /* gauge: open stream sockets */
  METRIC_ACCEPTED,        /* connections accepted */
  METRIC_ACCEPT_PAUSES,   /* times a listener waited for descriptors or memory */
  METRIC_DIALS,           /* dials begun */
  METRIC_SOCKET_IN,       /* bytes read */
  METRIC_SOCKET_OUT,      /* bytes written */
  METRIC_DATAGRAMS_STRAY, /* datagrams of links that named no stream which takes any */
  METRIC_STALLED,         /* responses given up because the visitor took nothing of them */
  METRIC_FLOODS,          /* visitors told to calm down: frames that move nothing */
  METRIC_COMPRESS_IN,     /* bytes of responses before they were compressed */
  METRIC_COMPRESS_OUT,    /* ... and after */
  METRIC_COUNT
};

void metric_add(enum metric m, int64_t n);
int64_t metric_read(enum metric m);

/* Something of this kind ended because of reason, a beam_err; 0: in order, of a dial: it connected. */
enum metric_ends {
  METRIC_ENDS_DIAL,
  METRIC_ENDS_SOCKET,
  METRIC_ENDS_TLS_VISITOR, /* handshakes, by what came of them */
  METRIC_ENDS_TLS_AGENT,
  METRIC_ENDS_LINK, /* agents' links at a relay, let in or not */
  METRIC_ENDS_COUNT
};
void metric_end(enum metric_ends kind, int reason);
int64_t metric_ends_read(enum metric_ends kind, int reason);

/* An agent's link over this transport came up (1) or went away (-1). */
void metric_link(const char *transport, int64_t n);
int64_t metric_links_read(const char *transport);

/* A page of ours was shown: its number, such as 5021. Numbers come from the catalogue of pages, 64 different ones find place, further ones are counted as one. */
void metric_page(unsigned code);
int64_t metric_pages_read(unsigned code);

/* Text that is cut where it does not fit, and knows how long it would be. */
struct metrics_text {
  char *out;
  size_t cap, len; /* len: what was needed so far */
};
/* One metric with its HELP and TYPE. type is "counter" or "gauge". */
void metrics_row(struct metrics_text *t, const char *name, const char *type, const char *help, int64_t value);
/* One row of a counter that has a row for each value of a label; `first` writes HELP and TYPE before it. */
void metrics_labelled(struct metrics_text *t, const char *name, const char *help, const char *label,
                      const char *text, bool first, int64_t value);
/* Everything above. */
void metrics_write(struct metrics_text *t);

#endif
