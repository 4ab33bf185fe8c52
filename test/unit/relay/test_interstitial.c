#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "http/pages.h"
#include "relay/interstitial.h"

#define NAVIGATION "Sec-Fetch-Dest: document\nSec-Fetch-Mode: navigate\n"

/* "Name: value\n" ... */
static struct http_head head_of(const char *method, const char *text) {
  static struct http_field fields[16];
  struct http_head h = {.method = span_of(method),
                        .scheme = SPAN("https"),
                        .authority = SPAN("shop.t.test:8443"),
                        .target = SPAN("/"),
                        .minor = 1,
                        .fields = fields};
  for (const char *end; *text; text = end + 1) {
    const char *colon = strchr(text, ':');
    end = strchr(text, '\n');
    fields[h.fields_n++] =
        (struct http_field){{text, (size_t)(colon - text)}, {colon + 2, (size_t)(end - colon - 2)}};
  }
  return h;
}

static void who_sees_it(void **state) {
  (void)state;
  static const struct {
    const char *what, *method, *fields;
    bool shows;
  } table[] = {
      {"a browser goes there", "GET", NAVIGATION "Sec-Fetch-Site: none\nSec-Fetch-User: ?1\n", true},
      {"from another site", "GET", NAVIGATION "Sec-Fetch-Site: cross-site\n", true},
      {"with other cookies", "GET", NAVIGATION "Cookie: a=b; beam-visited=1; __Host-beam-visited=0\n", true},
      {"it was there", "GET", NAVIGATION "Cookie: __Host-beam-visited=1\n", false},
      {"... among others", "GET", NAVIGATION "Cookie: a=b; __Host-beam-visited=1; c=d\n", false},
      {"... in a field of its own", "GET", NAVIGATION "Cookie: a=b\nCookie: __Host-beam-visited=1\n", false},
      {"it asks to skip", "GET", NAVIGATION "Beam-Skip-Warning: 1\n", false},
      {"... with anything", "GET", NAVIGATION "beam-skip-warning: \n", false},
      {"a frame", "GET", "Sec-Fetch-Dest: iframe\nSec-Fetch-Mode: navigate\n", false},
      {"fetch", "GET", "Sec-Fetch-Dest: empty\nSec-Fetch-Mode: cors\n", false},
      {"fetch, same origin", "GET", "Sec-Fetch-Dest: empty\nSec-Fetch-Mode: same-origin\n", false},
      {"an image", "GET", "Sec-Fetch-Dest: image\nSec-Fetch-Mode: no-cors\n", false},
      {"a script", "GET", "Sec-Fetch-Dest: script\nSec-Fetch-Mode: no-cors\n", false},
      {"a worker", "GET", "Sec-Fetch-Dest: worker\nSec-Fetch-Mode: same-origin\n", false},
      {"a service worker's own fetch", "GET", "Sec-Fetch-Dest: document\nSec-Fetch-Mode: same-origin\n",
       false},
      {"CORS preflight", "OPTIONS",
       "Origin: https://a.test\nAccess-Control-Request-Method: GET\nSec-Fetch-Mode: cors\nSec-Fetch-Dest: "
       "empty\n",
       false},
      {"a preflight that pretends", "OPTIONS", NAVIGATION, false},
      {"a form", "POST", NAVIGATION, false},
      {"HEAD", "HEAD", NAVIGATION, false},
      {"WebSocket", "GET",
       "Sec-Fetch-Dest: websocket\nSec-Fetch-Mode: websocket\nConnection: Upgrade\nUpgrade: websocket\n",
       false},
      {"WebSocket that pretends", "GET", NAVIGATION "Connection: Upgrade\nUpgrade: websocket\n", false},
      {"EventSource", "GET", "Sec-Fetch-Dest: empty\nSec-Fetch-Mode: cors\nAccept: text/event-stream\n",
       false},
      {"curl", "GET", "User-Agent: curl/8\nAccept: */*\n", false},
      {"a program that wants HTML", "GET", "Accept: text/html\nUser-Agent: Mozilla/5.0\n", false},
      {"half of it", "GET", "Sec-Fetch-Dest: document\n", false},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    struct http_head h = head_of(table[i].method, table[i].fields);
    if (interstitial_shows(&h) != table[i].shows)
      fail_msg("%s: %s", table[i].what, table[i].shows ? "should see it" : "should not");
  }
}

static void where_it_leads(void **state) {
  (void)state;
  static const struct {
    const char *site, *referer, *back;
  } table[] = {
      {"same-origin", "https://shop.t.test:8443/a/b?c=d", "/a/b?c=d"},
      {"same-origin", "https://SHOP.t.test:8443/", "/"},
      {"same-origin", "https://shop.t.test:8443", "/"},
      {"same-origin", "https://shop.t.test:8443//evil.test/", "/"},
      {"same-origin", "https://shop.t.test:8443/\\evil.test/", "/"},
      {"same-origin", "https://shop.t.test:8443@evil.test/", "/"},
      {"same-origin", "https://shop.t.test:84430/x", "/"},
      {"same-origin", "https://shop.t.test/x", "/"},
      {"same-origin", "http://shop.t.test:8443/x", "/"},
      {"same-origin", "https://evil.test/x", "/"},
      {"same-origin", "javascript:alert(1)", "/"},
      {"same-origin", "", "/"},
      {"cross-site", "https://shop.t.test:8443/x", "/"},
      {"none", "https://shop.t.test:8443/x", "/"},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    char text[512], back[256];
    snprintf(text, sizeof text, "Sec-Fetch-Site: %s\nReferer: %s\n", table[i].site, table[i].referer);
    struct http_head h = head_of("GET", text);
    interstitial_back(&h, back, sizeof back);
    assert_string_equal(back, table[i].back);
  }
}

static void the_page(void **state) {
  (void)state;
  char out[PAGE_BYTES];
  size_t n = page_render_warning("<b>\"&", "/_beam/continue", out, sizeof out);
  assert_int_equal(n, strlen(out));
  assert_true(n < sizeof out - 1);
  assert_non_null(strstr(out, "<b>&#60;b&#62;&#34;&#38;</b>"));
  assert_non_null(strstr(out, "<a href=\"/_beam/continue\">"));
  assert_non_null(strstr(out, "</html>\n"));
  assert_null(strstr(out, "http"));
  assert_null(strstr(out, "<script"));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(who_sees_it), cmocka_unit_test(where_it_leads),
                                     cmocka_unit_test(the_page)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
