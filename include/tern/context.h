/* context.h: threads, instruction set and error text of one caller. */
#ifndef TERN_CONTEXT_H
#define TERN_CONTEXT_H

#include <tern/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/** One caller of tern: a team of threads, a table of kernels and the text of the last error.
 *  A context serves one thread at a time; every thread that computes concurrently makes its own.  A call that meets its
 *  context at work for another one answers TERN_ERR_STATE and has computed nothing.
 *  It keeps up to 64 MiB of operators' working memory from call to call, and gives it up where memory runs out.
 *  There is no global state: contexts with different settings live side by side. */
typedef struct tern_ctx tern_ctx;

typedef struct tern_ctx_options {
    int n_threads; /**< size of the team, the caller included, 1..1024; 0: the environment's TERN_THREADS, and if that is unset
                        or 0 min(affinity mask, cgroup quota (rounded up), physical cores) */
    const char *cpu;      /**< highest instruction set to use: "portable", "avx2", "avxvnni", "avx512", "avx512vnni",
                                 "avx512bf16", "neon", "neondot";
                                 NULL: the environment's TERN_CPU, and if that is unset the best that the machine has */
    uint64_t reserved[6]; /**< zero */
} tern_ctx_options;

/** Options with every field at its default. */
TERN_API tern_ctx_options tern_ctx_options_default(void);

/** Makes a context and starts its threads.
 *
 * @param out      the new context; NULL on error.
 * @param options  NULL: the defaults.  Copied.
 * @return TERN_OK, TERN_ERR_ARG (n_threads or TERN_THREADS outside of 0..1024, TERN_TUNE other than off, an unknown cpu, or one that this machine does
 *         not have), TERN_ERR_MEMORY, TERN_ERR_THREAD (a thread could not be started: then there is none, and no smaller
 *         team either).  As there is no context to ask, `message` gets the text.
 * @param message  buffer for the text of an error, may be NULL.
 * @param message_size  its size in bytes.
 *
 * A team of one starts no thread.  Threads have all signals blocked; the host's are for the host's threads.
 * After fork() a context goes on working in the child, which starts a fresh team at its first parallel call. */
TERN_API tern_status tern_ctx_create(tern_ctx **out, const tern_ctx_options *options, char *message,
                                     size_t message_size);

/** Ends the threads and frees the context; sets *ctx to NULL.  NULL and a pointer to NULL are fine.
 *  Objects made with the context are destroyed first. */
TERN_API void tern_ctx_destroy(tern_ctx **ctx);

/** Text of the context's last error, "" if there was none.  Valid until the next call with this context. */
TERN_API const char *tern_error(const tern_ctx *ctx);

/** Number of threads of the team, the caller included. */
TERN_API int tern_ctx_threads(const tern_ctx *ctx);

/** What decided that number: "option", "TERN_THREADS", "affinity mask", "cgroup quota" or "physical cores".  Static storage. */
TERN_API const char *tern_ctx_threads_reason(const tern_ctx *ctx);

/** What the system grants this process now, as one line: "8 processors on 4 of 8 cores; cgroup quota of 1.5 CPUs
 *  (/sys/fs/cgroup/a/cpu.max)".
 *
 * @param out   gets the text, cut at a character's border where it is longer; may be NULL.
 * @param size  its size in bytes. */
TERN_API void tern_cpus_describe(char *out, size_t size);

/** Instruction set level in use: a name as in tern_ctx_options.cpu.  Static storage. */
TERN_API const char *tern_ctx_isa(const tern_ctx *ctx);

#ifdef __cplusplus
}
#endif
#endif
