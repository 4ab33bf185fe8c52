/* What is remembered of networks and transports. */
#include "../tmpdir.h"

#include "agent/way.h"
#include "base/file.h"
#include "base/str.h"

#define HEAD "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
#define LOCAL "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"

static void test_networks(void **state) {
  (void)state;
  static const struct {
    const char *v4, *v6, *want;
  } cases[] = {
      {HEAD LOCAL "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n", NULL, "eth0/010200c0"},
      {HEAD "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\neth0\t00000000\t010200C0\t0003\t0"
            "\t0\t100\t00000000\t0\t0\t0\n",
       NULL, "eth0/010200c0"},
      {HEAD LOCAL, NULL, "-"},
      {HEAD "ppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0", NULL, "ppp0/00000000"},
      {HEAD "tun0\t00000000\t0100000A\t0003\t0\t0\t0\t00000080\t0\t0\t0\n", NULL,
       "-"}, /* half of everything: a VPN's trick */
      {HEAD "eth0\t00000000\t010200C0\t0002\t0\t0\t0\t00000000\t0\t0\t0\n", NULL, "-"}, /* down */
      {"nonsense\n\n\nmore", "nonsense", "-"},
      {NULL, NULL, "-"},
      {HEAD LOCAL,
       "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 "
       "00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n"
       "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
       "fd000000000000000000000000000001 00000400 00000002 00000000 00000003     eth0\n"
       "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
       "00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n",
       "eth0/fd000000000000000000000000000001"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char out[WAY_NETWORK];
    way_network_of(cases[i].v4, cases[i].v6, out);
    assert_string_equal(out, cases[i].want);
  }
  char here[WAY_NETWORK] = "";
  way_network(here);
  assert_true(here[0] != 0);
}

static const char *recall(const char *relay, const char *network) {
  static char word[16];
  return way_recall(tmp, relay, network, word, sizeof word) ? "" : word;
}

static void test_remembers(void **state) {
  (void)state;
  assert_string_equal(recall("r:443", "n"), "");
  assert_int_equal(way_remember(tmp, "r:443", "n", "ws"), 0);
  assert_int_equal(way_remember(tmp, "r:443", "m", "h2"), 0);
  assert_int_equal(way_remember(tmp, "q:443", "n", "quic"), 0);
  assert_string_equal(recall("r:443", "n"), "ws");
  assert_string_equal(recall("r:443", "m"), "h2");
  assert_string_equal(recall("q:443", "n"), "quic");
  assert_string_equal(recall("r:44", "n"), "");
  assert_string_equal(recall("r:443", "nn"), "");
  assert_int_equal(way_remember(tmp, "r:443", "n", "h2"), 0);
  assert_string_equal(recall("r:443", "n"), "h2");
  char small[2];
  assert_int_equal(way_recall(tmp, "q:443", "n", small, sizeof small), BEAM_ERR_NOT_FOUND);
  assert_int_equal(way_remember(tmp, "a b", "n", "h2"), BEAM_ERR_INVALID);
  assert_int_equal(way_remember(tmp, "a", "n\nm", "h2"), BEAM_ERR_INVALID);
  assert_int_equal(way_remember(tmp, "a", "n", ""), BEAM_ERR_INVALID);
}

/* The same again is not written again: a reconnect costs no disk. */
static void test_writes_only_changes(void **state) {
  (void)state;
  char path[PATH_ROOM];
  struct stat before, after;
  assert_int_equal(path_join(path, tmp, "transports", NULL), 0);
  assert_int_equal(way_remember(tmp, "r:443", "n", "ws"), 0);
  assert_int_equal(stat(path, &before), 0);
  assert_int_equal(way_remember(tmp, "r:443", "n", "ws"), 0);
  assert_int_equal(stat(path, &after), 0);
  assert_true(before.st_ino == after.st_ino);
  assert_int_equal(after.st_mode & 0777, 0600);
  assert_int_equal(way_remember(tmp, "r:443", "n", "h2"), 0);
  assert_int_equal(stat(path, &after), 0);
  assert_true(before.st_ino != after.st_ino);
}

static void test_keeps_the_last(void **state) {
  (void)state;
  char network[16];
  for (int i = 0; i < 100; i++) {
    str_fmt(network, sizeof network, "n%d", i);
    assert_int_equal(way_remember(tmp, "r:443", network, "ws"), 0);
  }
  assert_string_equal(recall("r:443", "n99"), "ws");
  assert_string_equal(recall("r:443", "n36"), "ws");
  assert_string_equal(recall("r:443", "n35"), "");
}

static void test_damaged_files(void **state) {
  (void)state;
  char path[PATH_ROOM];
  assert_int_equal(path_join(path, tmp, "transports", NULL), 0);
  static const char *const texts[] = {"", "\n\n", "r:443 n", "r:443 n ", "\xff\xfe", "r:443 n ws and more\n"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    assert_int_equal(file_write(path, 0600, texts[i], strlen(texts[i]), NULL), 0);
    assert_string_not_equal(recall("r:443", "n"), "ws");
    assert_int_equal(way_remember(tmp, "r:443", "n", "h2"), 0);
    assert_string_equal(recall("r:443", "n"), "h2");
  }
  char *big = malloc(100000);
  memset(big, 'x', 100000);
  assert_int_equal(file_write(path, 0600, big, 100000, NULL), 0);
  free(big);
  assert_string_equal(recall("r:443", "n"), "");
  assert_int_equal(way_remember(tmp, "r:443", "n", "h2"), 0);
  assert_string_equal(recall("r:443", "n"), "h2");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_networks),
      cmocka_unit_test_setup_teardown(test_remembers, tmp_make, tmp_remove),
      cmocka_unit_test_setup_teardown(test_writes_only_changes, tmp_make, tmp_remove),
      cmocka_unit_test_setup_teardown(test_keeps_the_last, tmp_make, tmp_remove),
      cmocka_unit_test_setup_teardown(test_damaged_files, tmp_make, tmp_remove),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
