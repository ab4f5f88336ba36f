/* softmax_context.c: attention of a batch of rows over a cache. */
#include "ops/kv_pool.h"
#include "ops/op_table.h"

struct context {
    const struct tern_kernels *kernels;
    struct tern_attention_args args;
    struct tern_kv_batch batch;
    float *qkv, *out, *scratch;
    size_t ld, ld_out;
    int32_t layer;
};

static void context_region(void *arg, const struct tern_par *par)
{
    const struct context *c = arg;
    const struct tern_par with = tern_par_with(par, c->kernels);

    tern_attention_run(&with, &c->args, c->qkv, c->ld, &c->batch, c->layer, c->out, c->ld_out, c->scratch);
}

tern_status tern_softmax_context(tern_ctx *ctx, const tern_config *config, tern_tensor *qkv, const tern_tensor *mask,
                                 const tern_tensor *alibi, tern_kv_cache *cache, int32_t layer,
                                 const tern_kv_span *spans, size_t n_spans, tern_tensor *output)
{
    static const char op[] = "softmax_context";
    size_t rows, scratch_bytes = 0;
    struct context c = { 0 };
    void *scratch = NULL;
    int64_t longest = 0;

    TERN_TRY(tern_op_check(ctx, TERN_OP_SOFTMAX_CONTEXT, config));
    const struct tern_config_sizes sizes = tern_config_sizes(config);
    TERN_TRY(tern_check_rows(ctx, op, "qkv", qkv, -1, sizes.qkv, &rows));
    TERN_REQUIRE(ctx, cache, TERN_ERR_ARG, "%s: cache is NULL", op);
    TERN_REQUIRE(ctx, cache->shape.n_kv_heads == sizes.kv_heads && cache->shape.head_dim == sizes.head_dim,
                 TERN_ERR_SHAPE, "%s: the cache has %" PRId32 " heads of %" PRId32 ", expected %" PRId32 " of %" PRId64,
                 op, cache->shape.n_kv_heads, cache->shape.head_dim, sizes.kv_heads, sizes.head_dim);
    TERN_REQUIRE(ctx, layer >= 0 && layer < cache->shape.n_layers, TERN_ERR_ARG,
                 "%s: layer is %" PRId32 ", expected 0..%" PRId32, op, layer, cache->shape.n_layers - 1);
    TERN_TRY(tern_kv_check_spans(ctx, op, cache, spans, n_spans, rows));
    for (size_t i = 0; i < n_spans; i++)
        if (spans[i].position + spans[i].n_rows > longest)
            longest = spans[i].position + spans[i].n_rows;
    if (tern_given(mask)) {
        TERN_TRY(tern_check_tensor(ctx, op, "mask", mask, TERN_FP32));
        TERN_REQUIRE(ctx,
                     mask->rank == 2 && (mask->dim[0] == 1 || mask->dim[0] == (int64_t)rows) && mask->dim[1] >= longest,
                     TERN_ERR_SHAPE, "%s: mask is %s, expected 1 or %zu rows of at least %" PRId64 " positions", op,
                     tern_dims_text(mask).text, rows, longest);
    }
    TERN_TRY(tern_check_optional_vector(ctx, op, "alibi", alibi, sizes.heads));
    if (tern_given(output))
        TERN_TRY(tern_check_rows(ctx, op, "output", output, (int64_t)rows, sizes.context, NULL));
    const struct tern_operand operands[] = { { "qkv", qkv, true, false },
                                             { "mask", mask, false, false },
                                             { "alibi", alibi, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));
    if (rows == 0)
        return TERN_OK;

    scratch_bytes = tern_attention_run_scratch((int32_t)sizes.head_dim, tern_ctx_threads(ctx)) * sizeof(float);
    TERN_TRY(tern_pages_alloc(ctx, scratch_bytes, "scratch of attention", &scratch));
    c.kernels = tern_kernels_for(ctx, config);
    c.args = tern_attention_args_from(config);
    if (tern_given(mask)) {
        c.args.mask = mask->data;
        c.args.mask_rows = (size_t)mask->dim[0];
        c.args.mask_stride = (size_t)mask->dim[1];
    }
    c.args.alibi = tern_floats(alibi);
    c.batch = (struct tern_kv_batch){ .cache = cache, .spans = spans, .n_spans = n_spans, .n_rows = rows };
    c.qkv = qkv->data;
    c.out = tern_floats(output);
    c.scratch = scratch;
    c.ld = (size_t)sizes.qkv;
    c.ld_out = (size_t)sizes.context;
    c.layer = layer;
    const tern_status status = tern_region(ctx, context_region, &c);
    tern_pages_free(scratch, scratch_bytes);
    return status;
}
