/* Who listens on a TCP port, as /proc tells. Blocks: for workers. Any thread. */
#ifndef SERVICES_PROCESS_SVC_PORTS_H_
#define SERVICES_PROCESS_SVC_PORTS_H_

#include <stdbool.h>
#include <stdint.h>

/* Does the process `root`, or something that descends from it, listen on this port, whatever the address? In
 * the network namespace of root. */
bool ports_tree_listens(int root, uint32_t port);

#endif
