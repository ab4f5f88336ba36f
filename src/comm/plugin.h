/* plugin.h: what libtern and a plugin that joins processes know of each other.
 *
 * A plugin is a shared object with one symbol, TERN_COMM_PLUGIN_SYMBOL, a `struct tern_comm_plugin`.  It calls nothing of libtern: a
 * program may have that linked into itself. */
#ifndef TERN_COMM_PLUGIN_H
#define TERN_COMM_PLUGIN_H

#include <tern/comm.h>

#define TERN_COMM_PLUGIN_SYMBOL "tern_comm_plugin"
#define TERN_COMM_PLUGIN_ABI    1u /* one more whenever this struct or tern_comm changes */

struct tern_comm_plugin {
    uint32_t abi;        /* stays first: read before anything else is believed */
    const char *version; /* TERN_VERSION that it was built with */
    /* Fills in *out.  `version` is libtern's, and every rank has to come with the same.  On error `message` [size] has the text. */
    tern_status (*open)(const char *version, tern_comm *out, char *message, size_t size);
    void (*close)(tern_comm *comm);
};

#endif
