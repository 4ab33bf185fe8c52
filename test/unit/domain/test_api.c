/* <beam/domain.h> as a program sees it. */
#include "../tmpdir.h"

#include <beam/domain.h>

static struct beam_error e;
static beam_domain *domain;

static int open_it(void) {
  struct beam_domain_config c = BEAM_DOMAIN_CONFIG_INIT;
  c.base = "tunnel.test";
  c.data_dir = tmp;
  return beam_domain_open(&c, &domain, &e);
}

static int set_up(void **state) {
  e = (struct beam_error)BEAM_ERROR_INIT;
  return tmp_make(state) || open_it();
}

static int tear_down(void **state) {
  beam_domain_close(domain);
  return tmp_remove(state);
}

static char listed[1024];
static void add_row(void *user, const struct beam_domain_row *row) {
  assert_ptr_equal(user, &domain);
  assert_int_equal(row->size, sizeof *row);
  assert_true(row->created_at > 1500000000 && row->used_at >= row->created_at);
  size_t n = strlen(listed);
  snprintf(listed + n, sizeof listed - n, "%s=%s/%d/%u ", row->name, row->owner, row->drawn, row->port);
}

static const char *list(const char *principal) {
  listed[0] = 0;
  assert_int_equal(beam_domain_list(domain, principal, add_row, &domain, &e), 0);
  return listed;
}

static void names(void **state) {
  (void)state;
  char name[BEAM_NAME_SIZE], again[BEAM_NAME_SIZE];
  assert_string_equal(list(NULL), "");
  assert_int_equal(beam_domain_allocate(domain, "alice", "shop", 3000, name, &e), 0);
  assert_string_equal(name, "shop.tunnel.test");
  assert_string_equal(list("alice"), "shop.tunnel.test=alice/0/3000 ");
  assert_string_equal(list("bob"), "");
  assert_int_equal(beam_domain_allocate(domain, "bob", "shop", 3000, name, &e), BEAM_ERR_TAKEN);
  assert_int_equal(e.code, BEAM_ERR_TAKEN);
  assert_non_null(strstr(e.what, "shop.tunnel.test"));
  assert_int_equal(beam_domain_allocate(domain, "bob", "www", 3000, name, &e), BEAM_ERR_NAME);
  assert_non_null(strstr(e.what, "www"));
  assert_int_equal(beam_domain_allocate(domain, "bob", NULL, 3000, name, &e), 0);
  beam_domain_close(domain);
  assert_int_equal(open_it(), 0);
  assert_int_equal(beam_domain_allocate(domain, "bob", NULL, 3000, again, &e), 0);
  assert_string_equal(again, name);
  assert_int_equal(beam_domain_release(domain, "bob", "shop.tunnel.test", &e), BEAM_ERR_DENIED);
  assert_int_equal(beam_domain_release(domain, "alice", "shop.tunnel.test", &e), 0);
  assert_int_equal(beam_domain_release(domain, "alice", "shop.tunnel.test", &e), BEAM_ERR_NOT_FOUND);
  assert_int_equal(beam_domain_allocate(domain, "bob", "shop", 3000, name, NULL), 0);
  assert_int_equal(beam_domain_allocate(domain, "", "shop2", 3000, name, &e), BEAM_ERR_INVALID);
  uint64_t rows = 99;
  assert_int_equal(beam_domain_verify(domain, &rows, &e), 0);
  assert_int_equal(rows, 0);
}

static void labels(void **state) {
  (void)state;
  char a[BEAM_LABEL_SIZE], b[BEAM_LABEL_SIZE];
  assert_int_equal(beam_domain_generate(a), 0);
  assert_int_equal(beam_domain_generate(b), 0);
  assert_string_not_equal(a, b);
  assert_int_equal(beam_domain_check(a, &e), 0);
  assert_int_equal(beam_domain_check("admin", &e), BEAM_ERR_NAME);
  assert_true(*e.what && *e.hint);
  assert_int_equal(beam_domain_check(NULL, NULL), BEAM_ERR_NAME);
  assert_int_equal(beam_domain_generate(NULL), BEAM_ERR_INVALID);
}

static void configurations(void **state) {
  (void)state;
  beam_domain *d = NULL;
  struct beam_domain_config c = BEAM_DOMAIN_CONFIG_INIT;
  assert_int_equal(beam_domain_open(NULL, &d, &e), BEAM_ERR_INVALID);
  assert_int_equal(beam_domain_open(&c, &d, &e), BEAM_ERR_INVALID);
  c.base = "-";
  c.data_dir = tmp_path("other");
  assert_int_equal(beam_domain_open(&c, &d, &e), BEAM_ERR_INVALID);
  c.base = "tunnel.test";
  tmp_put("file", "", 0, 0600);
  c.data_dir = tmp_path("file");
  assert_int_equal(beam_domain_open(&c, &d, &e), BEAM_ERR_INVALID);
  assert_null(d);
  c.size = sizeof c.size; /* of a header that knew no other field */
  assert_int_equal(beam_domain_open(&c, &d, &e), BEAM_ERR_INVALID);
  beam_domain_close(NULL);
}

#define api_test(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {api_test(names), api_test(labels), api_test(configurations)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
