#include "obs/metrics.h"

#include <beam/beam.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "base/err.h"
#include "base/str.h"

/* More threads than shards share one: still right, only slower. Reasons are the errors of beam.h, the last one catches what is unknown. */
enum { SHARDS = 16, REASONS = 1 - BEAM_ERR_INTERNAL, PAGES = 64 };

static const char *const transports[] = {"h2", "ws", "quic", "other"};
enum { TRANSPORTS = sizeof transports / sizeof *transports };

struct shard {
  _Alignas(64) _Atomic int64_t value[METRIC_COUNT];
  _Atomic int64_t ends[METRIC_ENDS_COUNT][REASONS];
  _Atomic int64_t links[TRANSPORTS];
  _Atomic int64_t pages[PAGES + 1];
};
static struct shard shards[SHARDS];

static struct shard *mine(void) {
  static _Atomic unsigned next;
  static _Thread_local struct shard *shard;
  if (!shard)
    shard = &shards[atomic_fetch_add_explicit(&next, 1, memory_order_relaxed) % SHARDS];
  return shard;
}

void metric_add(enum metric m, int64_t n) {
  atomic_fetch_add_explicit(&mine()->value[m], n, memory_order_relaxed);
}

int64_t metric_read(enum metric m) {
  int64_t sum = 0;
  for (int i = 0; i < SHARDS; i++)
    sum += atomic_load_explicit(&shards[i].value[m], memory_order_relaxed);
  return sum;
}

static int reason_row(int reason) {
  return reason <= 0 && reason > -REASONS ? -reason : REASONS - 1;
}

void metric_end(enum metric_ends kind, int reason) {
  atomic_fetch_add_explicit(&mine()->ends[kind][reason_row(reason)], 1, memory_order_relaxed);
}

int64_t metric_ends_read(enum metric_ends kind, int reason) {
  int64_t sum = 0;
  for (int i = 0; i < SHARDS; i++)
    sum += atomic_load_explicit(&shards[i].ends[kind][reason_row(reason)], memory_order_relaxed);
  return sum;
}

static int transport_row(const char *transport) {
  int i = 0;
  while (i < TRANSPORTS - 1 && strcmp(transports[i], transport))
    i++;
  return i;
}

void metric_link(const char *transport, int64_t n) {
  atomic_fetch_add_explicit(&mine()->links[transport_row(transport)], n, memory_order_relaxed);
}

static int64_t links_in(int row) {
  int64_t sum = 0;
  for (int i = 0; i < SHARDS; i++)
    sum += atomic_load_explicit(&shards[i].links[row], memory_order_relaxed);
  return sum;
}

int64_t metric_links_read(const char *transport) {
  return links_in(transport_row(transport));
}

/* Which number has which row; one that is taken never changes. The last row is for all that find no place. */
static _Atomic unsigned page_codes[PAGES];

static int page_row(unsigned code, bool take) {
  for (int i = 0; i < PAGES; i++) {
    unsigned has = atomic_load_explicit(&page_codes[i], memory_order_relaxed);
    if (!has && take)
      has = atomic_compare_exchange_strong(&page_codes[i], &has, code) ? code : has;
    if (has == code)
      return i;
  }
  return PAGES;
}

void metric_page(unsigned code) {
  atomic_fetch_add_explicit(&mine()->pages[page_row(code, true)], 1, memory_order_relaxed);
}

static int64_t pages_in(int row) {
  int64_t sum = 0;
  for (int i = 0; i < SHARDS; i++)
    sum += atomic_load_explicit(&shards[i].pages[row], memory_order_relaxed);
  return sum;
}

int64_t metric_pages_read(unsigned code) {
  return pages_in(page_row(code, false));
}

/* --- text --- */

static const struct {
  const char *name, *help;
  bool gauge;
} rows[METRIC_COUNT] = {
    [METRIC_SOCKETS] = {"beam_sockets", "open stream sockets", true},
    [METRIC_ACCEPTED] = {"beam_accepted_total", "connections accepted", false},
    [METRIC_ACCEPT_PAUSES] = {"beam_accept_pauses_total", "waits for descriptors or memory", false},
    [METRIC_DIALS] = {"beam_dials_total", "dials begun", false},
    [METRIC_SOCKET_IN] = {"beam_socket_read_bytes_total", "bytes read from sockets", false},
    [METRIC_SOCKET_OUT] = {"beam_socket_written_bytes_total", "bytes written to sockets", false},
    [METRIC_DATAGRAMS_STRAY] = {"beam_datagrams_stray_total", "datagrams of links that no stream wanted",
                                false},
    [METRIC_STALLED] = {"beam_visitors_stalled_total", "responses given up: the visitor took nothing", false},
    [METRIC_FLOODS] = {"beam_visitors_flooding_total", "visitors sent away: floods of empty frames", false},
    [METRIC_COMPRESS_IN] = {"beam_compress_in_bytes_total", "bytes of responses before compression", false},
    [METRIC_COMPRESS_OUT] = {"beam_compress_out_bytes_total", "bytes of responses after compression", false},
};
static const char *const ends[METRIC_ENDS_COUNT] = {
    [METRIC_ENDS_DIAL] = "dial",
    [METRIC_ENDS_SOCKET] = "socket",
    [METRIC_ENDS_TLS_VISITOR] = "tls_visitor",
    [METRIC_ENDS_TLS_AGENT] = "tls_agent",
    [METRIC_ENDS_LINK] = "link",
};

static void put(struct metrics_text *t, const char *line) {
  size_t n = strlen(line);
  if (t->len + n < t->cap)
    memcpy(t->out + t->len, line, n + 1);
  t->len += n;
}

void metrics_row(struct metrics_text *t, const char *name, const char *type, const char *help,
                 int64_t value) {
  char line[256];
  if (str_fmt(line, sizeof line, "# HELP %s %s\n# TYPE %s %s\n%s %lld\n", name, help, name, type, name,
              (long long)value))
    put(t, line);
}

void metrics_labelled(struct metrics_text *t, const char *name, const char *help, const char *label,
                      const char *text, bool first, int64_t value) {
  char line[256];
  if (first && str_fmt(line, sizeof line, "# HELP %s %s\n# TYPE %s counter\n", name, help, name))
    put(t, line);
  if (str_fmt(line, sizeof line, "%s{%s=\"%s\"} %lld\n", name, label, text, (long long)value))
    put(t, line);
}

static void write_links(struct metrics_text *t) {
  char line[128];
  put(t, "# HELP beam_links links of agents that are up\n# TYPE beam_links gauge\n");
  for (int i = 0; i < TRANSPORTS; i++)
    if (str_fmt(line, sizeof line, "beam_links{transport=\"%s\"} %lld\n", transports[i],
                (long long)links_in(i)))
      put(t, line);
}

static void write_pages(struct metrics_text *t) {
  char line[128];
  put(t, "# HELP beam_pages_total pages of Beam itself that were shown\n# TYPE beam_pages_total counter\n");
  for (int i = 0; i <= PAGES; i++) {
    char code[24] = "other";
    int64_t n = pages_in(i);
    if (i < PAGES)
      str_fmt(code, sizeof code, "BEAM-%u", atomic_load_explicit(&page_codes[i], memory_order_relaxed));
    if (n && str_fmt(line, sizeof line, "beam_pages_total{code=\"%s\"} %lld\n", code, (long long)n))
      put(t, line);
  }
}

void metrics_write(struct metrics_text *t) {
  for (int m = 0; m < METRIC_COUNT; m++)
    metrics_row(t, rows[m].name, rows[m].gauge ? "gauge" : "counter", rows[m].help, metric_read(m));
  put(t, "# HELP beam_ends_total what ended, and why\n# TYPE beam_ends_total counter\n");
  for (int k = 0; k < METRIC_ENDS_COUNT; k++)
    for (int r = 0; r < REASONS; r++) {
      char line[128];
      int64_t n = metric_ends_read(k, -r);
      const char *code = r ? err_find(-r)->code : "ok";
      if (n && str_fmt(line, sizeof line, "beam_ends_total{kind=\"%s\",reason=\"%s\"} %lld\n", ends[k], code,
                       (long long)n))
        put(t, line);
    }
  write_links(t);
  write_pages(t);
}
