/* version.c: which tern this is, and what it was built with. */
#include <tern/version.h>

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define COMPILER "gcc " __VERSION__
#else
#define COMPILER "an unknown compiler"
#endif

#if defined(TERN_HAVE_AVX)
#define LEVELS "portable avx2 avxvnni avx512 avx512vnni avx512bf16"
#elif defined(TERN_HAVE_NEON)
#define LEVELS "portable neon neondot"
#else
#define LEVELS "portable"
#endif

/* TERN_LIBRARIES comes from the build: what pkg-config said when it was configured. */
#ifndef TERN_LIBRARIES
#define TERN_LIBRARIES "none"
#endif

const char *tern_version(void)
{
    return TERN_VERSION;
}

const char *tern_build_info(void)
{
    return "compiler: " COMPILER "\nlibraries: " TERN_LIBRARIES "\nlevels: " LEVELS;
}
