/* HELLO and WELCOME: every field is signed, neither can stand for the other, and none fits another connection. */
#include "../tmpdir.h"

#include "identity/proof.h"

static struct key *device, *relay;

static struct proof sample(void) {
  struct proof p = {.version_min = 1, .version_max = 3, .version = 2};
  memset(p.exporter, 0x11, sizeof p.exporter);
  memset(p.relay, 0x22, sizeof p.relay);
  memset(p.session, 0x33, sizeof p.session);
  memcpy(p.device, key_public(device), KEY_PUBLIC);
  memcpy(p.relay_key, key_public(relay), KEY_PUBLIC);
  return p;
}

static int keys(void **state) {
  (void)state;
  return base_init() || key_ephemeral(&device) || key_ephemeral(&relay);
}

static int no_keys(void **state) {
  (void)state;
  key_free(device);
  key_free(relay);
  return 0;
}

static void both_directions(void **state) {
  (void)state;
  struct proof p = sample();
  uint8_t hello[KEY_SIGNATURE], welcome[KEY_SIGNATURE];
  proof_agent_sign(&p, device, hello);
  proof_relay_sign(&p, relay, welcome);
  assert_int_equal(proof_agent_verify(&p, hello), 0);
  assert_int_equal(proof_relay_verify(&p, welcome), 0);
  assert_int_equal(proof_agent_verify(&p, welcome), BEAM_ERR_UNTRUSTED);
  assert_int_equal(proof_relay_verify(&p, hello), BEAM_ERR_UNTRUSTED);
}

/* One key in both roles: what it signed as agent is no welcome, and the other way round. */
static void roles_do_not_mix(void **state) {
  (void)state;
  struct proof p = sample();
  uint8_t sig[KEY_SIGNATURE];
  memcpy(p.relay_key, p.device, KEY_PUBLIC);
  proof_agent_sign(&p, device, sig);
  assert_int_equal(proof_relay_verify(&p, sig), BEAM_ERR_UNTRUSTED);
  proof_relay_sign(&p, device, sig);
  assert_int_equal(proof_agent_verify(&p, sig), BEAM_ERR_UNTRUSTED);
}

/* A flip of any byte that the two sides must agree on. Fields of WELCOME alone do not matter to HELLO. */
static void every_field_is_signed(void **state) {
  (void)state;
  struct proof p = sample();
  uint8_t hello[KEY_SIGNATURE], welcome[KEY_SIGNATURE];
  proof_agent_sign(&p, device, hello);
  proof_relay_sign(&p, relay, welcome);
  for (size_t i = 0; i < sizeof p; i++) {
    struct proof q = p;
    ((uint8_t *)&q)[i] ^= 0x80;
    bool welcome_only = i >= offsetof(struct proof, relay_key);
    assert_int_equal(proof_agent_verify(&q, hello) == 0, welcome_only);
    assert_int_equal(proof_relay_verify(&q, welcome), BEAM_ERR_UNTRUSTED);
  }
  for (size_t i = 0; i < KEY_SIGNATURE; i++) {
    hello[i] ^= 1;
    assert_int_equal(proof_agent_verify(&p, hello), BEAM_ERR_UNTRUSTED);
    hello[i] ^= 1;
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(both_directions), cmocka_unit_test(roles_do_not_mix),
                                     cmocka_unit_test(every_field_is_signed)};
  return cmocka_run_group_tests(tests, keys, no_keys);
}
