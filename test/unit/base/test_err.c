/* The catalogue: a row for each error, stable codes, sentences a person can use. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"

static void has_a_row_for_each_error(void **state) {
  (void)state;
  for (int err = BEAM_OK; err >= BEAM_ERR_INTERNAL; err--) {
    const struct err_entry *e = err_find(err);
    char code[16];
    assert_int_equal(e->err, err);
    snprintf(code, sizeof code, "BEAM-%d", 1000 - err); /* codes never change their meaning */
    assert_string_equal(e->code, code);
    assert_true(strlen(e->what) > 3);
    assert_int_not_equal(e->what[strlen(e->what) - 1], '.');
    assert_true(err == BEAM_OK || strlen(e->hint) > 3);
  }
  assert_int_equal(err_find(1)->err, BEAM_ERR_INTERNAL);
  assert_int_equal(err_find(-1000)->err, BEAM_ERR_INTERNAL);
}

static void fills_errors(void **state) {
  (void)state;
  struct beam_error e = BEAM_ERROR_INIT;
  assert_int_equal(err_set(&e, BEAM_ERR_TAKEN, NULL, "%s is taken", "shop"), BEAM_ERR_TAKEN);
  assert_int_equal(e.code, BEAM_ERR_TAKEN);
  assert_string_equal(e.what, "shop is taken");
  assert_string_equal(e.hint, err_find(BEAM_ERR_TAKEN)->hint);
  assert_int_equal(err_set(&e, BEAM_ERR_NAME, "try another", "no"), BEAM_ERR_NAME);
  assert_string_equal(e.hint, "try another");
  assert_int_equal(err_set(NULL, BEAM_ERR_NAME, NULL, "no"), BEAM_ERR_NAME);

  char big[1000];
  memset(big, 'x', sizeof big - 1);
  big[sizeof big - 1] = 0;
  err_set(&e, BEAM_ERR_NAME, big, "%s", big);
  assert_int_equal(strlen(e.what), sizeof e.what - 1);
  assert_int_equal(strlen(e.hint), sizeof e.hint - 1);

  struct beam_error older = {.size = sizeof older - 1,
                             .code = 7}; /* a caller that knows less is not written past */
  assert_int_equal(err_set(&older, BEAM_ERR_NAME, NULL, "no"), BEAM_ERR_NAME);
  assert_int_equal(older.code, 7);
}

static void translates_errno(void **state) {
  (void)state;
  static const struct {
    int from, to;
  } table[] = {
      {0, 0},
      {EAGAIN, BEAM_AGAIN},
      {EINTR, BEAM_AGAIN},
      {EINPROGRESS, BEAM_AGAIN},
      {ENOMEM, BEAM_ERR_NOMEM},
      {ECONNREFUSED, BEAM_ERR_REFUSED},
      {ECONNRESET, BEAM_ERR_RESET},
      {EPIPE, BEAM_ERR_RESET},
      {ETIMEDOUT, BEAM_ERR_TIMEOUT},
      {EHOSTUNREACH, BEAM_ERR_UNREACHABLE},
      {ENETUNREACH, BEAM_ERR_UNREACHABLE},
      {EADDRINUSE, BEAM_ERR_IN_USE},
      {EACCES, BEAM_ERR_PERMISSION},
      {EPERM, BEAM_ERR_PERMISSION},
      {ENOENT, BEAM_ERR_NOT_FOUND},
      {EMFILE, BEAM_ERR_LIMIT},
      {ENOSPC, BEAM_ERR_STORE},
      {EINVAL, BEAM_ERR_INVALID},
      {EIO, BEAM_ERR_SYSTEM},
      {99999, BEAM_ERR_SYSTEM},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    assert_int_equal(err_from_errno(table[i].from), table[i].to);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(has_a_row_for_each_error),
      cmocka_unit_test(fills_errors),
      cmocka_unit_test(translates_errno),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
