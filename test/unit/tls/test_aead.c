/* Every library of this build against Wycheproof, and against each other in place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <beam/beam.h>
#include <cmocka.h>
#include <mbedtls/hkdf.h>
#include <mbedtls/md.h>

#include "base/random.h"
#include "base/str.h"
#include "tls/aead.h"

static const struct aead_ops *const libraries[] = {
#ifndef BEAM_NO_GNUTLS
    &aead_gnutls,
#endif
    &aead_sodium, &aead_mbedtls, NULL};

#ifndef BEAM_NO_JSON
#include <jansson.h>

static json_t *vectors(const char *file) {
  const char *dir = getenv("BEAM_VECTORS");
  char path[512];
  str_fmt(path, sizeof path, "%s/%s", dir ? dir : "../shared/vectors", file);
  json_t *root = json_load_file(path, 0, NULL);
  if (!root) {
    printf("skipped: vectors absent (%s)\n", file);
    skip();
  }
  return root;
}

struct bytes {
  uint8_t p[1024];
  size_t n;
};

static void field(json_t *t, const char *name, struct bytes *out) {
  const char *hex = json_string_value(json_object_get(t, name));
  assert_non_null(hex);
  out->n = strlen(hex) / 2;
  assert_true(out->n <= sizeof out->p);
  assert_true(hex_decode(out->p, out->n, span_of(hex)));
}

static void run_one(const struct aead_ops *lib, enum aead_kind kind, json_t *t) {
  struct bytes key, iv, aad, msg, ct, tag;
  uint8_t sealed[1100], opened[1100];
  struct aead *a;
  field(t, "key", &key);
  field(t, "iv", &iv);
  field(t, "aad", &aad);
  field(t, "msg", &msg);
  field(t, "ct", &ct);
  field(t, "tag", &tag);
  bool valid = !strcmp(json_string_value(json_object_get(t, "result")), "valid");
  assert_int_equal(aead_new(kind, key.p, lib, &a), 0);
  memcpy(sealed, ct.p, ct.n);
  memcpy(sealed + ct.n, tag.p, tag.n);
  int err = aead_open(a, iv.p, aad.p, aad.n, sealed, ct.n + tag.n, opened);
  assert_int_equal(err, valid ? 0 : BEAM_ERR_PROTOCOL);
  if (valid) {
    assert_memory_equal(opened, msg.p, msg.n);
    memcpy(opened, msg.p, msg.n); /* in place */
    assert_int_equal(aead_seal(a, iv.p, aad.p, aad.n, opened, msg.n, opened), 0);
    assert_memory_equal(opened, sealed, ct.n + tag.n);
  }
  aead_free(a);
}

static void run_file(const char *file, enum aead_kind kind, size_t key_bits, size_t at_least) {
  json_t *root = vectors(file), *group, *t;
  size_t i, j;
  for (int l = 0; libraries[l]; l++) {
    uint8_t zero[AEAD_KEY_MAX] = {0};
    struct aead *probe;
    size_t ran = 0;
    if (aead_new(kind, zero, libraries[l], &probe))
      continue;
    aead_free(probe);
    json_array_foreach(json_object_get(root, "testGroups"), i, group) {
      if (json_integer_value(json_object_get(group, "ivSize")) != 8 * AEAD_NONCE ||
          json_integer_value(json_object_get(group, "tagSize")) != 8 * AEAD_TAG ||
          json_integer_value(json_object_get(group, "keySize")) != (json_int_t)key_bits)
        continue;
      json_array_foreach(json_object_get(group, "tests"), j, t) {
        run_one(libraries[l], kind, t);
        ran++;
      }
    }
    assert_true(ran >= at_least);
  }
  json_decref(root);
}

static void wycheproof_aes_128(void **state) {
  (void)state;
  run_file("wycheproof_aes_gcm.json", AEAD_AES_128_GCM, 128, 60);
}
static void wycheproof_aes_256(void **state) {
  (void)state;
  run_file("wycheproof_aes_gcm.json", AEAD_AES_256_GCM, 256, 60);
}
static void wycheproof_chacha20(void **state) {
  (void)state;
  run_file("wycheproof_chacha20_poly1305.json", AEAD_CHACHA20_POLY1305, 256, 200);
}

/* The key derivation that keys.c stands on. */
static void wycheproof_hkdf(void **state) {
  (void)state;
  json_t *root = vectors("wycheproof_hkdf_sha256.json"), *group, *t;
  size_t i, j, ran = 0;
  json_array_foreach(json_object_get(root, "testGroups"), i, group) {
    json_array_foreach(json_object_get(group, "tests"), j, t) {
      static uint8_t out[8192];
      struct bytes ikm, salt, info;
      json_int_t size = json_integer_value(json_object_get(t, "size"));
      const char *okm = json_string_value(json_object_get(t, "okm"));
      bool valid = !strcmp(json_string_value(json_object_get(t, "result")), "valid");
      field(t, "ikm", &ikm);
      field(t, "salt", &salt);
      field(t, "info", &info);
      if (size > (json_int_t)sizeof out || (valid && strlen(okm) != (size_t)size * 2))
        continue;
      int err = mbedtls_hkdf(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), salt.p, salt.n, ikm.p, ikm.n,
                             info.p, info.n, out, (size_t)size);
      assert_int_equal(!err, valid);
      if (valid) {
        static uint8_t want[8192];
        assert_true(hex_decode(want, (size_t)size, span_of(okm)));
        assert_memory_equal(out, want, (size_t)size);
      }
      ran++;
    }
  }
  assert_true(ran > 50);
  json_decref(root);
}
#endif

/* What one library seals another opens, at sizes around the assembler's strides, in place and not. */
static void libraries_agree(void **state) {
  (void)state;
  static const size_t sizes[] = {0,   1,   15,  16,  17,  95,   96,    97,    127,
                                 128, 129, 287, 288, 289, 1024, 16383, 16384, 16385};
  static uint8_t plain[16500], a_out[16500], b_out[16500];
  uint8_t key[AEAD_KEY_MAX], nonce[AEAD_NONCE], ad[5];
  random_bytes(plain, sizeof plain);
  random_bytes(key, sizeof key);
  random_bytes(nonce, sizeof nonce);
  random_bytes(ad, sizeof ad);
  int pairs = 0;
  for (enum aead_kind kind = AEAD_AES_128_GCM; kind <= AEAD_CHACHA20_POLY1305; kind++)
    for (int l = 0; libraries[l]; l++) {
      struct aead *a, *b;
      assert_int_equal(aead_new(kind, key, NULL, &a), 0);
      if (aead_new(kind, key, libraries[l], &b)) {
        aead_free(a);
        continue;
      }
      pairs++;
      for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i];
        assert_int_equal(aead_seal(a, nonce, ad, sizeof ad, plain, n, a_out), 0);
        memcpy(b_out, plain, n);
        assert_int_equal(aead_seal(b, nonce, ad, sizeof ad, b_out, n, b_out), 0);
        assert_memory_equal(a_out, b_out, n + AEAD_TAG);
        assert_int_equal(aead_open(b, nonce, ad, sizeof ad, a_out, n + AEAD_TAG, a_out), 0);
        assert_memory_equal(a_out, plain, n);
        b_out[n / 2] ^= 1;
        assert_int_equal(aead_open(a, nonce, ad, sizeof ad, b_out, n + AEAD_TAG, a_out), BEAM_ERR_PROTOCOL);
      }
      assert_int_equal(aead_open(a, nonce, ad, sizeof ad, b_out, AEAD_TAG - 1, a_out), BEAM_ERR_PROTOCOL);
      assert_int_equal(aead_open(b, nonce, ad, sizeof ad, b_out, AEAD_TAG - 1, a_out), BEAM_ERR_PROTOCOL);
      aead_free(a);
      aead_free(b);
    }
  assert_true(pairs >= 3);
}

int main(void) {
  const struct CMUnitTest tests[] = {
#ifndef BEAM_NO_JSON
      cmocka_unit_test(wycheproof_aes_128),  cmocka_unit_test(wycheproof_aes_256),
      cmocka_unit_test(wycheproof_chacha20), cmocka_unit_test(wycheproof_hkdf),
#endif
      cmocka_unit_test(libraries_agree),
  };
  if (base_init())
    return 1;
  return cmocka_run_group_tests(tests, NULL, NULL);
}
