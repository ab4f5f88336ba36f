/* reference.c: the definitions as a table of kernels, for config->kernel = reference. */
#include "kernels/ref/ref.h"
#include "ops/checks.h"

const struct tern_kernels *tern_kernels_reference(void)
{
    static const struct tern_kernels reference = {
        .isa = TERN_ISA_PORTABLE,
        .k_block = 1024,
        .cache_bytes = SIZE_MAX,
#define TERN_KERNEL(name, bound) .name = tern_##name##_ref,
#include "kernels/kernel_list.h"
#undef TERN_KERNEL
    };

    return &reference;
}

const struct tern_kernels *tern_kernels_for(const tern_ctx *ctx, const tern_config *config)
{
    return config->kernel == TERN_KERNEL_REFERENCE ? tern_kernels_reference() : ctx->kernels;
}
