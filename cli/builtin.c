/* builtin.c: where the built-in model lies: installed, or in the source tree beside the build folder. */
#include "cli.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME "tiny-shakespeare"

/* Folder of the running program, without the last slash; "" if the system does not tell. */
static void program_folder(char *out, size_t size)
{
    const ssize_t n = readlink("/proc/self/exe", out, size - 1);
    char *slash;

    out[n > 0 ? n : 0] = 0;
    slash = strrchr(out, '/');
    if (slash)
        *slash = 0;
}

int cli_builtin_find(char **path)
{
    const char *models = getenv("TERN_MODELS");
    char folder[PATH_MAX], found[PATH_MAX + 64];

    program_folder(folder, sizeof(folder));
    const struct {
        const char *base, *below;
    } places[] = {
        { models && *models ? models : NULL, "" },
        { folder[0] ? folder : NULL, "/../share/tern/models" },
        { folder[0] ? folder : NULL, "/../models" },
        { folder[0] ? folder : NULL, "/../../models" },
#ifdef TERN_MODELS_INSTALLED
        { TERN_MODELS_INSTALLED, "" },
#endif
#ifdef TERN_MODELS_SOURCE
        { TERN_MODELS_SOURCE, "" },
#endif
    };

    *path = NULL;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (!places[i].base)
            continue;
        const int n = snprintf(found, sizeof(found), "%s%s/" NAME "/config.json", places[i].base, places[i].below);
        if (n > 0 && (size_t)n < sizeof(found) && access(found, R_OK) == 0) {
            *strrchr(found, '/') = 0;
            *path = realpath(found, NULL);
            if (*path)
                return 0;
        }
        if (i == 0)
            return cli_error(CLI_FAIL, "TERN_MODELS is '%s', and there is no " NAME " in it", models);
    }
    return cli_error(CLI_FAIL,
                     "the built-in model " NAME " is neither in %s/../share/tern/models nor in %s/../models; "
                     "set TERN_MODELS to the folder that holds it, or name a MODEL",
                     folder, folder);
}
