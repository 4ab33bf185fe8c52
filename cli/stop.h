/* stop.h: the inner side of struct cli_stop: which loop is to end when somebody asks. */
#ifndef CLI_STOP_H
#define CLI_STOP_H

#include "cli.h"
#include <stdbool.h>

/* From now on a request stops this loop; one that came earlier does so at once. NULL lets go of the loop. */
void stop_bind(struct cli_stop *stop, beam_loop *loop);
/* What to do on this loop when a drain or a reload is asked for; NULL: nothing. Before stop_bind(). */
void stop_also(struct cli_stop *stop, void (*drain)(void *user), void (*reload)(void *user), void *user);
bool stop_requested(struct cli_stop *stop);

#endif
