/* comm_open.c: groups by name.  What joins processes is a plugin, so that libtern itself needs none of its libraries.
 *
 * A plugin is never unloaded: MPI cannot be initialised twice in a process. */
#include "base/ctx.h"
#include "base/memory.h"
#include "comm/plugin.h"

#include <tern/version.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PLUGIN "libtern_mpi.so"

struct opened {
    tern_comm comm;                        /* what the caller has */
    const struct tern_comm_plugin *plugin; /* NULL: none was needed */
};

/* Folders in which a plugin was looked for, for the text of an error. */
struct searched {
    char text[512];
    size_t n;
};

/* Whether `folder`/`below` holds the plugin; its path then. */
static bool look(struct searched *searched, const char *folder, const char *below, char path[static PATH_MAX])
{
    const int n = snprintf(path, PATH_MAX, "%s%s/" PLUGIN, folder, below);

    if (n < 0 || n >= PATH_MAX)
        return false;
    if (access(path, F_OK) == 0)
        return true;
    const int room = (int)(sizeof searched->text - searched->n);
    const int more =
        snprintf(searched->text + searched->n, (size_t)room, "%s'%s%s'", searched->n ? ", " : "", folder, below);
    if (more > 0)
        searched->n = more < room ? searched->n + (size_t)more : sizeof searched->text - 1;
    return false;
}

/* Beside a file, and in the library folder of the tree that it is installed in. */
static bool look_beside(struct searched *searched, char *file, char path[static PATH_MAX])
{
    char *slash = strrchr(file, '/');

    if (!slash)
        return false;
    *slash = '\0';
    return look(searched, file, "", path) || look(searched, file, "/../" TERN_LIBDIR, path);
}

static bool find(struct searched *searched, char path[static PATH_MAX])
{
    char file[PATH_MAX], first[PATH_MAX] = "";
    Dl_info info;

    /* ISO C has no conversion of functions to objects; the object that holds a constant of ours is as good. */
    static const char here = 0;
    if (dladdr(&here, &info) && info.dli_fname && strlen(info.dli_fname) < sizeof file) {
        if (!realpath(info.dli_fname, first))
            first[0] = '\0';
        memcpy(file, info.dli_fname, strlen(info.dli_fname) + 1);
        if (look_beside(searched, file, path))
            return true;
    }
    /* A program that holds libtern is known by the name that it was called by, which may be found in PATH alone. */
    const ssize_t n = readlink("/proc/self/exe", file, sizeof file - 1);
    file[n < 0 ? 0 : n] = '\0';
    return strcmp(file, first) != 0 && look_beside(searched, file, path);
}

/* The loader maps a library without asking how long it is, and would be ended by a signal where one is cut off.  Its table of sections is
 * the last that a linker writes.  What is no library the loader says itself. */
static tern_status check_whole(tern_ctx *ctx, const char *path)
{
    ElfW(Ehdr) header = { .e_shoff = 0 };
    struct stat st = { .st_size = 0 };
    const int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return TERN_OK;
    const bool known = fstat(fd, &st) == 0 && pread(fd, &header, sizeof header, 0) == sizeof header &&
                       memcmp(header.e_ident, ELFMAG, SELFMAG) == 0;
    close(fd);
    const uint64_t end = (uint64_t)header.e_shoff + (uint64_t)header.e_shnum * header.e_shentsize;
    TERN_REQUIRE(ctx, !known || end <= (uint64_t)st.st_size, TERN_ERR_FORMAT,
                 "comm 'mpi': '%s' is cut off: it has %" PRIu64 " bytes, its header says at least %" PRIu64, path,
                 (uint64_t)st.st_size, end);
    return TERN_OK;
}

static tern_status load(tern_ctx *ctx, const struct tern_comm_plugin **out)
{
    const char *folder = getenv("TERN_PLUGINS");
    struct searched searched = { .n = 0 };
    char path[PATH_MAX];
    const bool given = folder && *folder;
    const bool found = given ? look(&searched, folder, "", path) : find(&searched, path);

    TERN_REQUIRE(ctx, found || !given, TERN_ERR_NOT_FOUND, "comm 'mpi': there is no " PLUGIN " in '%s' (TERN_PLUGINS)",
                 folder);
    if (found)
        TERN_TRY(check_whole(ctx, path));
    /* Open MPI's own plugins look for its symbols among those of the whole program. */
    void *object = dlopen(found ? path : PLUGIN, RTLD_NOW | RTLD_GLOBAL);
    const char *reason = object ? NULL : dlerror();
    TERN_REQUIRE(ctx, object || !found, TERN_ERR_NOT_FOUND, "comm 'mpi': '%s' cannot be loaded: %s", path, reason);
    TERN_REQUIRE(ctx, object, TERN_ERR_NOT_FOUND,
                 "comm 'mpi': there is no " PLUGIN
                 " in %s, nor for the loader (%s): tern was built without Open MPI, or its "
                 "plugin was left behind; TERN_PLUGINS names another folder",
                 searched.text, reason);
    if (!found)
        memcpy(path, PLUGIN, sizeof PLUGIN);

    const struct tern_comm_plugin *plugin = dlsym(object, TERN_COMM_PLUGIN_SYMBOL);
    TERN_REQUIRE(ctx, plugin, TERN_ERR_UNSUPPORTED,
                 "comm 'mpi': '%s' is no plugin of tern: it has no " TERN_COMM_PLUGIN_SYMBOL, path);
    TERN_REQUIRE(ctx, plugin->abi == TERN_COMM_PLUGIN_ABI, TERN_ERR_UNSUPPORTED,
                 "comm 'mpi': '%s' has interface %u, expected %u", path, plugin->abi, TERN_COMM_PLUGIN_ABI);
    TERN_REQUIRE(ctx, strcmp(plugin->version, TERN_VERSION) == 0, TERN_ERR_UNSUPPORTED,
                 "comm 'mpi': '%s' is of tern %s, expected %s", path, plugin->version, TERN_VERSION);
    *out = plugin;
    return TERN_OK;
}

tern_status tern_comm_open(tern_ctx *ctx, const char *name, tern_comm **out)
{
    const struct tern_comm_plugin *plugin = NULL;
    struct opened *opened;
    char message[512] = "";

    TERN_REQUIRE(ctx, out, TERN_ERR_ARG, "comm: out is NULL");
    *out = NULL;
    TERN_REQUIRE(ctx, name, TERN_ERR_ARG, "comm: name is NULL, expected one of: self, mpi");
    const bool self = strcmp(name, "self") == 0;
    TERN_REQUIRE(ctx, self || strcmp(name, "mpi") == 0, TERN_ERR_NOT_FOUND,
                 "comm: there is no '%s', expected one of: self, mpi", name);
    if (!self)
        TERN_TRY(load(ctx, &plugin));
    TERN_TRY(TERN_ALLOC(ctx, 1, "a group of processes", &opened));
    opened->plugin = plugin;
    if (self)
        opened->comm = *tern_comm_self();
    const tern_status status = self ? TERN_OK : plugin->open(TERN_VERSION, &opened->comm, message, sizeof message);
    if (status != TERN_OK) {
        tern_free(opened);
        return tern_fail(ctx, status, "comm 'mpi': %s", message);
    }
    *out = &opened->comm;
    return TERN_OK;
}

void tern_comm_close(tern_comm **comm)
{
    if (!comm || !*comm)
        return;
    struct opened *opened = (struct opened *)(void *)*comm; /* comm is its first member */

    if (opened->plugin)
        opened->plugin->close(&opened->comm);
    tern_free(opened);
    *comm = NULL;
}
