/* stop.h: the inner side of struct cli_stop: which loop is to end when somebody asks. */
#ifndef CLI_STOP_H
#define CLI_STOP_H

#include "cli.h"
#include <stdbool.h>

/* From now on a request stops this loop; one that came earlier does so at once. NULL lets go of the loop. */
void stop_bind(struct cli_stop *stop, beam_loop *loop);
bool stop_requested(struct cli_stop *stop);

#endif
