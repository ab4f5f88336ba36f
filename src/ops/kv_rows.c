/* kv_rows.c: keys and values of one sequence into a cache and out of it, as plain tensors. */
#include "base/fpmode.h"
#include "ops/kv_pool.h"
#include "ops/widen.h"

#include <inttypes.h>
#include <string.h>

#define HEAD_MAX 512 /* the widest head of a cache */

/* What both directions check; *n gets the positions. */
static tern_status check(tern_ctx *ctx, const char *op, const tern_kv_cache *cache, int32_t layer, int32_t sequence,
                         int64_t position, const tern_tensor *key, const tern_tensor *value, int64_t *n)
{
    const char *const names[] = { "key", "value" };
    const tern_tensor *const tensors[] = { key, value };

    TERN_REQUIRE(ctx, cache, TERN_ERR_ARG, "%s: cache is NULL", op);
    TERN_REQUIRE(ctx, layer >= 0 && layer < cache->shape.n_layers, TERN_ERR_ARG,
                 "%s: layer is %" PRId32 ", expected 0..%" PRId32, op, layer, cache->shape.n_layers - 1);
    TERN_REQUIRE(ctx, tern_kv_sequence_length(cache, sequence) >= 0, TERN_ERR_ARG,
                 "%s: sequence %" PRId32 " is not there, expected one of tern_kv_sequence_add()", op, sequence);
    for (int i = 0; i < 2; i++) {
        const tern_tensor *t = tensors[i];
        TERN_REQUIRE(ctx, tern_given(t), TERN_ERR_ARG, "%s: %s is missing, expected a tensor", op, names[i]);
        TERN_REQUIRE(ctx, key->dtype == TERN_FP32 || key->dtype == TERN_FP16 || key->dtype == TERN_BF16, TERN_ERR_DTYPE,
                     "%s: key is %s, expected fp32, fp16 or bf16", op, tern_dtype_name(key->dtype));
        TERN_TRY(tern_check_float(ctx, op, names[i], t, key->dtype, false));
        TERN_REQUIRE(ctx,
                     t->rank == 3 && t->dim[0] == cache->shape.n_kv_heads && t->dim[1] == key->dim[1] &&
                         t->dim[2] <= cache->shape.head_dim,
                     TERN_ERR_SHAPE, "%s: %s is %s, expected [%" PRId32 ", n, up to %" PRId32 "] with the key's n", op,
                     names[i], tern_dims_text(t).text, cache->shape.n_kv_heads, cache->shape.head_dim);
    }
    const int64_t room = (int64_t)cache->sequences[sequence].n_blocks * TERN_KV_BLOCK;
    TERN_REQUIRE(ctx, position >= 0 && position <= room && key->dim[1] <= room - position, TERN_ERR_STATE,
                 "%s: %" PRId64 " positions from %" PRId64 " of sequence %" PRId32
                 " are asked for, it has room for %" PRId64,
                 op, key->dim[1], position, sequence, room);
    *n = key->dim[1];
    return TERN_OK;
}

/* Channel c of position p in the blocks of kv_store (kernels.h), in numbers of the cache's dtype. */
static size_t k_channel(const tern_kv_cache *cache, size_t p, size_t c)
{
    const size_t head_dim = (size_t)cache->shape.head_dim;

    if (cache->shape.dtype == TERN_BF16)
        return ((p / 32 * ((head_dim + 1) / 2) + c / 2) * 32 + p % 32) * 2 + c % 2;
    return (p / 32 * head_dim + c) * 32 + p % 32;
}

static size_t v_channel(const tern_kv_cache *cache, size_t p, size_t c)
{
    if (cache->shape.dtype == TERN_BF16)
        return (c / 32 * (TERN_KV_BLOCK / 2) + p / 2) * 64 + c % 32 * 2 + p % 2;
    return (c / 32 * TERN_KV_BLOCK + p) * 32 + c % 32;
}

tern_status tern_kv_write(tern_ctx *ctx, tern_kv_cache *cache, int32_t layer, const tern_kv_span *span,
                          const tern_tensor *key, const tern_tensor *value)
{
    static const char op[] = "kv_write";
    float k[HEAD_MAX] = { 0 }, v[HEAD_MAX] = { 0 };
    int64_t n;

    TERN_REQUIRE(ctx, ctx && span, TERN_ERR_ARG, "%s: %s is NULL", op, ctx ? "span" : "ctx");
    TERN_TRY(check(ctx, op, cache, layer, span->sequence, span->position, key, value, &n));
    TERN_REQUIRE(ctx, span->n_rows == n, TERN_ERR_SHAPE, "%s: key has %" PRId64 " positions, the span has %" PRId32, op,
                 n, span->n_rows);
    const tern_kv_span alone = { .sequence = span->sequence, .n_rows = span->n_rows, .position = span->position };
    TERN_TRY(tern_kv_check_spans(ctx, op, cache, &alone, 1, (size_t)n));

    const size_t k_dim = (size_t)key->dim[2], v_dim = (size_t)value->dim[2], head_dim = (size_t)cache->shape.head_dim;
    const int32_t *table = kv_table(cache, span->sequence);
    const tern_fpmode caller = tern_fpmode_enter();
    for (int32_t g = 0; g < cache->shape.n_kv_heads; g++)
        for (int64_t i = 0; i < n; i++) {
            const size_t row = (size_t)g * (size_t)n + (size_t)i, p = (size_t)(span->position + i);
            tern_wide_load(ctx->kernels, k, key->data, key->dtype, row * k_dim, k_dim);
            tern_wide_load(ctx->kernels, v, value->data, value->dtype, row * v_dim, v_dim);
            tern_kv_store(ctx->kernels, cache, kv_place(cache, table[p / TERN_KV_BLOCK], layer, g), k, v, 0, head_dim,
                          head_dim, p % TERN_KV_BLOCK, 1);
        }
    tern_fpmode_leave(caller);
    return TERN_OK;
}

tern_status tern_kv_read(tern_ctx *ctx, const tern_kv_cache *cache, int32_t layer, int32_t sequence, int64_t position,
                         tern_tensor *key, tern_tensor *value)
{
    static const char op[] = "kv_read";
    float row[HEAD_MAX];
    int64_t n;

    TERN_REQUIRE(ctx, ctx, TERN_ERR_ARG, "%s: ctx is NULL", op);
    TERN_TRY(check(ctx, op, cache, layer, sequence, position, key, value, &n));
    TERN_REQUIRE(ctx, position + n <= cache->sequences[sequence].length, TERN_ERR_STATE,
                 "%s: sequence %" PRId32 " holds %" PRId64 " positions, %" PRId64 " are asked for", op, sequence,
                 cache->sequences[sequence].length, position + n);
    const struct tern_operand operands[] = { { "key", key, true, false }, { "value", value, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, 2));

    const size_t k_dim = (size_t)key->dim[2], v_dim = (size_t)value->dim[2];
    const tern_dtype dtype = cache->shape.dtype;
    const int32_t *table = kv_table(cache, sequence);
    const tern_fpmode caller = tern_fpmode_enter();
    for (int32_t g = 0; g < cache->shape.n_kv_heads; g++)
        for (int64_t i = 0; i < n; i++) {
            const size_t at = (size_t)g * (size_t)n + (size_t)i, p = (size_t)(position + i);
            const struct kv_place at_block = kv_place(cache, table[p / TERN_KV_BLOCK], layer, g);
            for (size_t c = 0; c < k_dim; c++)
                tern_wide_load(ctx->kernels, row + c, at_block.k, dtype, k_channel(cache, p % TERN_KV_BLOCK, c), 1);
            tern_wide_store(ctx->kernels, key->data, key->dtype, at * k_dim, row, k_dim);
            for (size_t c = 0; c < v_dim; c++)
                tern_wide_load(ctx->kernels, row + c, at_block.v, dtype, v_channel(cache, p % TERN_KV_BLOCK, c), 1);
            tern_wide_store(ctx->kernels, value->data, value->dtype, at * v_dim, row, v_dim);
        }
    tern_fpmode_leave(caller);
    return TERN_OK;
}
