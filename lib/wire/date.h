/* date.h: dates of HTTP (RFC 9110 5.6.7), in the one form that is written: "Sun, 06 Nov 1994 08:49:37 GMT". Pure. */
#ifndef WIRE_DATE_H
#define WIRE_DATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

enum { HTTP_DATE_SIZE = 30 };
/* seconds since 1970; years 1970 to 9999, others are written as the nearest of them. */
void http_date_write(char out[HTTP_DATE_SIZE], int64_t seconds);
/* False: not of that form, or no such day. The two old forms are nobody's any more. */
bool http_date_read(struct span text, int64_t *seconds);

#endif
