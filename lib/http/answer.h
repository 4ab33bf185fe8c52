/* answer.h: a whole response of our own, as an upstream: error pages, redirects, small JSON. */
#ifndef HTTP_ANSWER_H
#define HTTP_ANSWER_H

#include "http/exchange.h"
#include "io/loop.h"

/* Answer `front` with head and body (both copied; left out of the answer to HEAD). What the request still brings is dropped. Out of memory: the exchange is aborted. */
void http_answer(struct loop *l, struct http_end *front, const struct http_head *request,
                 const struct http_head *head, const void *body, size_t n);

/* The same with a body that is borrowed until release(arg) is called: once, whatever happens. */
void http_answer_with(struct loop *l, struct http_end *front, const struct http_head *request,
                      const struct http_head *head, const void *body, size_t n, void (*release)(void *arg),
                      void *arg);

#endif
