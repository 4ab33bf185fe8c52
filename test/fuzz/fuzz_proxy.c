/* What a proxy answers, what NO_PROXY and a proxy's address say. The first byte chooses: a kind of proxy, or one of the texts. */
#include "fuzz.h"
#include "wire/proxy.h"

/* In whatever pieces the answer comes, the talk goes the same way. */
static int talk(const struct proxy *p, const uint8_t *in, size_t n, size_t step, size_t *eaten) {
  struct proxy_talk t;
  char said[PROXY_SAY_MAX];
  MUST(!proxy_talk_init(&t, p, "relay.test", 443));
  MUST(proxy_talk_say(&t, said) > 0);
  *eaten = 0;
  for (size_t given = 0; given < n;) {
    given = step < n - given ? given + step : n;
    enum proxy_what what;
    do {
      size_t used;
      what = proxy_talk_hear(&t, (const char *)in + *eaten, given - *eaten, &used);
      MUST(used <= given - *eaten);
      *eaten += used;
      size_t len = proxy_talk_say(&t, said);
      MUST(len <= sizeof said && (len > 0) == (what == PROXY_MORE || what == PROXY_SAY));
    } while (what == PROXY_SAY);
    if (what == PROXY_OPEN)
      return 1;
    if (what == PROXY_BAD) {
      MUST(t.err < 0 && t.why[0] && !strstr(t.why, "s3cr3t"));
      return t.err;
    }
  }
  return 0;
}

static void texts(const uint8_t *in, size_t n) {
  char text[512];
  struct proxy p;
  struct beam_error e = BEAM_ERROR_INIT;
  n = n < sizeof text ? n : sizeof text - 1;
  memcpy(text, in, n);
  text[n] = 0;
  int err = proxy_parse(text, &p, &e);
  MUST(err == e.code && (err == 0) == (p.kind != PROXY_NONE));
  if (!err) {
    struct proxy_talk t;
    char said[PROXY_SAY_MAX];
    MUST(p.port && p.host[0] && !proxy_talk_init(&t, &p, "relay.test", 443));
    size_t len = proxy_talk_say(&t, said);
    MUST(len && len <= sizeof said);
    MUST(p.kind != PROXY_HTTP || !memcmp(said + len - 4, "\r\n\r\n", 4));
  }
  proxy_exempt(text, "10.1.2.3", 443);
  proxy_exempt(text, "fd00::1", 443);
  proxy_exempt(text, "relay.test", 443);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  static const char *const proxies[] = {"http://p", "http://joe:s3cr3t@p", "socks5://p",
                                        "socks5://joe:s3cr3t@p"};
  if (!n)
    return 0;
  if (p[0] > 3) {
    texts(p + 1, n - 1);
    return 0;
  }
  struct proxy proxy;
  MUST(!proxy_parse(proxies[p[0]], &proxy, NULL));
  size_t eaten, part_eaten;
  int whole = talk(&proxy, p + 1, n - 1, n, &eaten);
  for (size_t step = 1; step < n; step = step * 3 + 1)
    MUST(talk(&proxy, p + 1, n - 1, step, &part_eaten) == whole && part_eaten == eaten);
  return 0;
}
