/* pass.h: listening sockets that another process of ours goes on with. A socket that two processes have stays open when one lets go of it: what
 * waits in its backlog, or is only just arriving, is not lost. Real sockets only.
 */
#ifndef IO_PASS_H
#define IO_PASS_H

#include "io/net.h"

/* A descriptor of its own for what the listener listens on; -1: the system refused. */
int listener_dup(struct listener *ls);
/* Accept on a socket that listens already. Takes fd, also when it fails. NOMEM, INVALID (it is none). */
int listener_adopt(struct loop *l, int fd, const void *siblings, accept_cb cb, void *user,
                   struct listener **out);

enum { PASS_MAX = 200 }; /* descriptors in one message; the kernel takes 253 */
/* Over a connected unix socket, in one message. CLOSED, LIMIT (the other side does not read), SYSTEM. */
int pass_send(int socket, const int *fds, unsigned n);
/* Waits as long as the socket's own time limit says. TIMEOUT, CLOSED, SYSTEM. */
int pass_receive(int socket, int *fds, unsigned cap, unsigned *n);
/* Does a process of this user, or of root, sit at the other end? */
bool pass_trusted(int socket);

#endif
