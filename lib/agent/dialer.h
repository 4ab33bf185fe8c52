/* dialer.h: connections to the local service as its owner described it: plain, or through TLS that is verified unless the owner said otherwise. */
#ifndef AGENT_DIALER_H
#define AGENT_DIALER_H

#include <beam/beam.h>

#include "http/dialer.h"

struct dialer;

struct dialer_conf {
  struct net *net;
  struct loop *loop;
  const char *host; /* borrowed for the dialer's life */
  uint16_t port;
  bool tls;
  bool insecure;  /* any certificate will do */
  const char *ca; /* borrowed for dialer_new(): a PEM file; NULL: the system's, or $SSL_CERT_FILE */
};
/* Errors with text: NOT_FOUND, PERMISSION, INVALID (the CA), NOMEM. */
int dialer_new(const struct dialer_conf *conf, struct dialer **out, struct beam_error *err);
struct http_dialer *dialer_http(struct dialer *d);
void dialer_free(struct dialer *d); /* after all its dials have ended or were cancelled. NULL is accepted */

#endif
