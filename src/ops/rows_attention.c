/* rows_attention.c: attention over tensors, by name. */
#include "ops/op_table.h"

#include <tern/function.h>

/* A mask of integers whose zeros are visible, turned round; others as they are.  *owned is freed by tern_free. */
static tern_status visible_mask(tern_ctx *ctx, const char *op, const tern_config *config, const tern_tensor *mask,
                                tern_tensor *turned, bool **owned)
{
    size_t n = 1;

    *owned = NULL;
    *turned = tern_given(mask) ? *mask : tern_tensor_none();
    if (!tern_given(mask) || config->invert_mask || !tern_is_integer(mask->dtype))
        return TERN_OK;
    TERN_TRY(tern_check_tensor(ctx, op, "mask", mask, mask->dtype));
    for (int i = 0; i < mask->rank; i++)
        n *= (size_t)mask->dim[i];
    TERN_TRY(TERN_ALLOC(ctx, n, "a mask", owned));
    const size_t size = tern_dtype_size(mask->dtype);
    const unsigned char *bytes = mask->data;
    for (size_t i = 0; i < n; i++) {
        unsigned char any = 0;
        for (size_t b = 0; b < size; b++)
            any |= bytes[i * size + b];
        (*owned)[i] = !any;
    }
    *turned = tern_tensor_view(*owned, TERN_BOOL, mask->rank, mask->dim);
    return TERN_OK;
}

/* A config of int8 has the same bits at every instruction set: pairs of bf16 are not for its activations.  `same` gets the kernels then;
 * gives those that the context had, which it has again once the call is over. */
static const struct tern_kernels *take_kernels(tern_ctx *ctx, const tern_config *config, struct tern_kernels *same)
{
    const struct tern_kernels *before = ctx->kernels;

    if (config->dtype == TERN_INT8) {
        *same = *before;
        same->attention_bf16 = before->attention_f32_bf16;
        ctx->kernels = same;
    }
    return before;
}

static tern_status run_packed_attention(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                        const tern_op_call *call)
{
    const tern_op_params *p = call->params;
    tern_tensor mask;
    bool *owned;

    TERN_TRY(visible_mask(ctx, "packed_attention", config, io[1], &mask, &owned));
    struct tern_kernels same;
    const struct tern_kernels *before = take_kernels(ctx, config, &same);
    const tern_status status = tern_packed_attention(ctx, io[0], p->num_heads, p->scale, p->causal, &mask, io[2]);
    ctx->kernels = before;
    tern_free(owned);
    return status;
}

const struct tern_op_row tern_row_packed_attention = {
    .name = "packed_attention",
    .formula = "output = softmax(scale q.k + mask) v, qkv = [q | k | v]",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .params = "num_heads scale causal triangular_masking=causal",
    .kernels =
        "kv_store_f32 kv_move_f16 kv_move_bf16 attention_f32 attention_f32_f16 attention_f32_bf16 attention_bf16",
    .function = true,
    .run = run_packed_attention,
    .io = { TERN_IN("qkv", "[B, S, 3H]"), TERN_MASK("mask", "*"), TERN_OUT("output", "[B, S, H]") },
};

static tern_status run_unpacked_attention(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                          const tern_op_call *call)
{
    const tern_op_params *p = call->params;
    tern_tensor mask;
    bool *owned;

    TERN_TRY(visible_mask(ctx, "unpacked_attention", config, io[3], &mask, &owned));
    struct tern_kernels same;
    const struct tern_kernels *before = take_kernels(ctx, config, &same);
    const tern_status status = tern_unpacked_attention(ctx, io[0], io[1], io[2], p->scale, p->causal, &mask, io[4]);
    ctx->kernels = before;
    tern_free(owned);
    return status;
}

const struct tern_op_row tern_row_unpacked_attention = {
    .name = "unpacked_attention",
    .formula = "output = softmax(scale q.k + mask) v",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .params = "scale causal triangular_masking=causal",
    .kernels =
        "kv_store_f32 kv_move_f16 kv_move_bf16 attention_f32 attention_f32_f16 attention_f32_bf16 attention_bf16",
    .function = true,
    .run = run_unpacked_attention,
    .io = { TERN_IN("q", "[B, h, S, E]"), TERN_IN("k", "[B, G, T, E]"), TERN_IN("v", "[B, G, T, E2]"),
            TERN_MASK("mask", "*"), TERN_OUT("output", "[B, h, S, E2]") },
};
