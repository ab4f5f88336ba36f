/* export.h: what the linker shows of libtern. */
#ifndef TERN_EXPORT_H
#define TERN_EXPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef TERN_API
#if defined(__GNUC__)
#define TERN_API __attribute__((visibility("default")))
#else
#define TERN_API
#endif
#endif

#if defined(__GNUC__)
#define TERN_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define TERN_PRINTF(fmt, args)
#endif

#endif
