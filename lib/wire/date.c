#include "wire/date.h"

static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
static const int64_t day_s = 86400, last_s = 253402300799; /* the end of 9999 */

/* Days since 1970 of the first of a month, in the Gregorian calendar; month from 1 on. */
static int64_t days_to(int64_t year, int month) {
  static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
  int64_t y = month <= 2 ? year - 1 : year; /* the last year whose February is over */
  return (year - 1970) * 365 + before[month - 1] + y / 4 - y / 100 + y / 400 - 477;
}

static int month_days(int64_t year, int month) {
  int next = month == 12 ? 1 : month + 1;
  return (int)(days_to(month == 12 ? year + 1 : year, next) - days_to(year, month));
}

void http_date_write(char out[HTTP_DATE_SIZE], int64_t seconds) {
  seconds = seconds < 0 ? 0 : seconds > last_s ? last_s : seconds;
  int64_t day = seconds / day_s, rest = seconds % day_s, year = 1970 + day / 366;
  while (days_to(year + 1, 1) <= day)
    year++;
  int month = 1;
  while (month < 12 && days_to(year, month + 1) <= day)
    month++;
  str_fmt(out, HTTP_DATE_SIZE, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", days + 3 * ((day + 4) % 7),
          (int)(day - days_to(year, month)) + 1, months + 3 * (month - 1), (int)year, (int)(rest / 3600),
          (int)(rest / 60 % 60), (int)(rest % 60));
}

/* n digits at p. */
static bool digits(const char *p, unsigned n, uint64_t max, uint64_t *out) {
  return str_u64((struct span){p, n}, max, out);
}

bool http_date_read(struct span t, int64_t *seconds) {
  uint64_t day, year, hour, minute, second;
  int month = 0;
  if (t.n != HTTP_DATE_SIZE - 1 || !digits(t.p + 5, 2, 31, &day) || !digits(t.p + 12, 4, 9999, &year) ||
      !digits(t.p + 17, 2, 23, &hour) || !digits(t.p + 20, 2, 59, &minute) ||
      !digits(t.p + 23, 2, 60, &second))
    return false;
  for (int i = 0; i < 12 && !month; i++)
    if (span_eq((struct span){t.p + 8, 3}, (struct span){months + 3 * i, 3}))
      month = i + 1;
  if (!month || !day || year < 1970 || (int)day > month_days((int64_t)year, month))
    return false;
  int64_t value = (days_to((int64_t)year, month) + (int64_t)day - 1) * day_s +
                  (int64_t)(hour * 3600 + minute * 60 + second);
  char again[HTTP_DATE_SIZE]; /* the weekday and what stands between */
  http_date_write(again, value - (second == 60));
  if (second == 60)
    again[23] = '6', again[24] = '0';
  *seconds = value;
  return span_eq(t, span_of(again));
}
