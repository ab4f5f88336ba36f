/* version.h: which tern this is. */
#ifndef TERN_VERSION_H
#define TERN_VERSION_H

#include <tern/export.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TERN_VERSION_MAJOR 0
#define TERN_VERSION_MINOR 1
#define TERN_VERSION_PATCH 0
#define TERN_VERSION       "0.1.0"

/** Version of the library in use, "0.1.0".  Static storage. */
TERN_API const char *tern_version(void);

/** Compiler, libraries and their versions, and the instruction set levels that were built, in one line each.  Static storage. */
TERN_API const char *tern_build_info(void);

#ifdef __cplusplus
}
#endif
#endif
