/* table.c: which kernel runs at a level, and the block sizes that go with the machine. */
#include "kernels/kernels.h"
#include "kernels/level.h"

#include <assert.h>
#include <unistd.h>

const uint32_t tern_bf16_constants[5] = { 0xaaaaaaaa, 0x10000, 0x7fff, 1, 0x400000 };

static size_t second_level_cache(void)
{
    long bytes = 0;

#ifdef _SC_LEVEL2_CACHE_SIZE
    bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return bytes > 0 ? (size_t)bytes : (size_t)512 * 1024;
}

/* A block of a panel is used by every row tile of M while the next one is being prefetched, so two of them, and as much again
 * for activations and output, should fit the second-level cache: L2 / 4 bytes, 128 bytes a step.  More than 1024 steps gain
 * nothing (K = 3072 in one block: 74 % of the peak, in three: 91 %); under 384 the tiles are too short for their stores. */
static size_t k_block(size_t l2)
{
    const size_t steps = l2 / 4 / (TERN_PANEL * sizeof(float));

    return steps < 384 ? 384 : steps > 1024 ? 1024 : steps;
}

/* 24 sums beside four vectors of the panels need 32 registers of 512 bits.  Below 64 rows, tiles of 8 rows and one panel read less from
 * the second-level cache: bench/LOG.md. */
static size_t pair_rows(enum tern_isa isa)
{
    return isa >= TERN_ISA_AVX512 && isa <= TERN_ISA_AVX512BF16 ? 64 : SIZE_MAX;
}

/* Lines sent for to the first-level cache take a place there while they are on their way.  A Zen 4 has too few of them: up to a third faster
 * with the second level, and with few rows up to a quarter faster where the hardware prefetcher is left alone.  (What older ones of AMD lack for
 * the kernels that do so is AVX-512.)  A Zen 5 is up to 17 % slower with the second level.  An Intel Xeon was 3 to 8 % faster with it, so what
 * is not known has it too: bench/LOG.md. */
static enum tern_prefetch wanted_prefetch(void)
{
    const unsigned family = tern_machine_amd_family();

    return family >= 26 ? TERN_PREFETCH_L1 : family > 0 ? TERN_PREFETCH_FEW : TERN_PREFETCH_L2;
}

void tern_kernels_init(struct tern_kernels *k, enum tern_isa isa)
{
    k->isa = isa;
    k->cache_bytes = second_level_cache();
    k->k_block = k_block(k->cache_bytes);
    k->pair_rows = pair_rows(isa);
    k->prefetch = wanted_prefetch();
    k->plans = NULL;

    tern_kernels_init_portable(k); /* fills every slot */
#ifdef TERN_HAVE_NEON
    if (isa >= TERN_ISA_NEON)
        tern_kernels_init_neon(k);
    if (isa >= TERN_ISA_NEONDOT)
        tern_kernels_init_neondot(k);
#endif
#ifdef TERN_HAVE_AVX
    if (isa >= TERN_ISA_AVX2)
        tern_kernels_init_avx2(k);
    if (isa == TERN_ISA_AVXVNNI)
        tern_kernels_init_avxvnni(k);
    if (isa >= TERN_ISA_AVX512)
        tern_kernels_init_avx512(k);
    if (isa >= TERN_ISA_AVX512VNNI)
        tern_kernels_init_avx512vnni(k);
    if (isa >= TERN_ISA_AVX512BF16)
        tern_kernels_init_avx512bf16(k);
#endif

#define TERN_KERNEL(name, bound) assert(k->name);
#include "kernels/kernel_list.h"
#undef TERN_KERNEL
}

/* A strip of scores, and queries. */
size_t tern_attention_scratch(size_t head_dim)
{
    return 8 * TERN_ATTN_BLOCK + TERN_ATTN_ROWS * ((head_dim + 15) / 16 * 16);
}

/* Sums of exponentials, maxima, outputs. */
size_t tern_attention_state(size_t v_dim, size_t n_rows)
{
    const size_t width = (v_dim + TERN_PANEL - 1) / TERN_PANEL * TERN_PANEL;

    return n_rows * (32 + width) + (n_rows + 15) / 16 * 16;
}
