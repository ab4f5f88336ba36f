/* machine.h: what this machine can do at best, for figures to be compared with. */
#ifndef TERN_MACHINE_H
#define TERN_MACHINE_H

#include <tern/context.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A rate of one thread alone, and of all threads of a context at once. */
typedef struct tern_rate {
    double one, team;
} tern_rate;

/** Ceilings of a machine at the instruction set level of a context.
 *
 *  Arithmetic in operations/s, a multiplication and an addition being two, on numbers that stay in registers: fused multiply-adds of
 *  fp32; products of bf16 with sums in fp32 (vdpbf16ps; without it bf16 is widened and has fp32's rate); products of int8
 *  with sums in int32 (vpdpbusd; without it what the level's own product reaches on numbers in the first-level cache, as for
 *  every type at a level whose loops are compiled and not written out).
 *  Memory in bytes/s, on a buffer that no cache holds: reading; copying with plain stores, and with stores that pass by the
 *  caches (of the C library where there are none), where bytes read and bytes written both count. */
typedef struct tern_ceilings {
    tern_rate fp32, bf16, int8;
    tern_rate read, copy, copy_streaming;
    uint64_t
        memory_bytes; /**< size of the buffer; 0: memory was short, and the three rates above are 0, which is unknown */
    double seconds;   /**< that measuring took */
} tern_ceilings;

/** Measures them, the best of several samples each, in less than 1.5 s on an idle machine.
 *
 * @param ctx  its level and its threads; works on nothing else meanwhile.
 * @param out  unchanged on error.
 * @return TERN_OK, TERN_ERR_ARG (NULL), TERN_ERR_THREAD.
 *
 * Memory: eight times the last-level cache, within 256 MiB and 1 GiB, at most a quarter of what is free; given back at the end. */
TERN_API tern_status tern_ceilings_measure(tern_ctx *ctx, tern_ceilings *out);

/** Bytes that this process can still take: what the system calls available, and what is left of the memory limits of its cgroups
 *  (v1 and v2), whichever is less.  UINT64_MAX where the system does not tell. */
TERN_API uint64_t tern_memory_available(void);

#ifdef __cplusplus
}
#endif
#endif
