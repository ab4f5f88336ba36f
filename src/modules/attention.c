/* attention.c: see attention.h. */
#include "modules/attention.h"

#include "ops/checks.h"
#include "ops/kv_pool.h"

tern_status tern_attention_bind(tern_ctx *ctx, const char *owner, const tern_config *config,
                                const tern_layer_weights *weights, int64_t v_dim, struct tern_attention_bound *out)
{
    const struct tern_config_sizes s = tern_config_sizes(config);
    const int64_t qkv = ((int64_t)s.heads + s.kv_heads) * s.head_dim + s.kv_heads * v_dim;
    const tern_tensor none = tern_tensor_none();
    const bool pre = config->pre_layer_norm;
    const struct tern_bind_vector vectors[] = {
        { "norm_w", pre ? &weights->norm_w : &none, s.hidden, pre, &out->norm.gamma },
        { "norm_b", pre ? &weights->norm_b : &none, s.hidden, false, &out->norm.beta },
        { "attn_qkvb", &weights->attn_qkvb, qkv, false, &out->qkv_b },
        { "attn_ob", &weights->attn_ob, s.hidden, false, &out->out_b },
    };
    const struct tern_bind_matrix matrices[] = {
        { "attn_qkvw", &weights->attn_qkvw, s.hidden, qkv, &out->qkv_w },
        { "attn_ow", &weights->attn_ow, s.heads * v_dim, s.hidden, &out->out_w },
    };

    out->norm.type = config->norm_type;
    out->norm.eps = config->layer_norm_eps;
    out->context = tern_softmax_context_args_from(config);
    out->context.v_dim = (int32_t)v_dim;
    return tern_bind(ctx, owner, config, vectors, sizeof vectors / sizeof vectors[0], matrices,
                     sizeof matrices / sizeof matrices[0], &out->binding);
}

void tern_attention_free(struct tern_attention_bound *attention)
{
    tern_binding_free(&attention->binding);
}

tern_status tern_attention_check_width(tern_ctx *ctx, const char *owner, const struct tern_attention_bound *attention,
                                       tern_attention_options *options)
{
    const int32_t bound = attention->context.v_dim;

    TERN_REQUIRE(ctx, options->v_head_dim == 0 || options->v_head_dim == bound, TERN_ERR_CONFIG,
                 "%s: v_head_dim is %" PRId32 ", expected 0 or %" PRId32 ", the width that the weights are bound to",
                 owner, options->v_head_dim, bound);
    options->v_head_dim = bound;
    return TERN_OK;
}

void tern_attention_work_take(struct tern_arena *arena, const struct tern_attention_bound *attention, size_t max_rows,
                              int n_threads, struct tern_attention_work *work)
{
    const size_t qkv = attention->qkv_w ? (size_t)attention->qkv_w->out : 0;
    const size_t context = attention->out_w ? (size_t)attention->out_w->in : 0;

    work->qkv = tern_arena_take(arena, max_rows, qkv * sizeof(float));
    work->context = tern_arena_take(arena, max_rows, context * sizeof(float));
    work->scratch = TERN_TAKE(
        arena, float, tern_softmax_context_scratch(attention->context.head_dim, attention->context.v_dim, n_threads));
    work->narrow = NULL;
}

size_t tern_attention_narrow(const struct tern_attention_bound *attention, size_t n_rows)
{
    if (!attention->qkv_w)
        return 0;
    const size_t qkv = tern_gemm_scratch(attention->qkv_w, n_rows), out = tern_gemm_scratch(attention->out_w, n_rows);
    return qkv > out ? qkv : out;
}

void tern_attention_run(const struct tern_par *par, const struct tern_attention_bound *attention, float *c,
                        const float *x, float *normed, bool keep, const struct tern_kv_batch *batch,
                        int32_t cache_layer, const struct tern_attention_work *work, const struct tern_epilogue *e)
{
    const size_t hidden = (size_t)attention->qkv_w->in, qkv = (size_t)attention->qkv_w->out;
    const size_t width = (size_t)attention->out_w->in, n_rows = batch->n_rows;
    struct tern_softmax_context_args args = attention->context;
    struct tern_epilogue end = { .bias = attention->qkv_b };
    struct tern_rows rows, context = tern_rows_narrow(attention->out_w, work->narrow, n_rows);

    if (attention->norm.gamma) {
        rows = tern_rows_narrow(attention->qkv_w, work->narrow, n_rows);
        tern_norm_run_rows(par, &rows, attention->qkv_w, normed, keep, NULL, x, NULL, NULL, n_rows, &attention->norm);
    } else {
        rows = tern_rows_from(par, attention->qkv_w, work->narrow, x, hidden, n_rows);
    }
    /* q, k and v are rounded to bf16 before they meet, and so is what comes out: where nothing turns them in between, at once. */
    args.half = args.rotary_dim == 0 && !args.q_norm.gamma && !args.k_norm.gamma && args.store == TERN_BF16 &&
                batch->cache->shape.dtype == TERN_BF16 && context.narrow && !context.scale && width % 2 == 0;
    if (args.half) {
        end.half = (uint16_t *)(void *)work->qkv;
        end.ld_half = qkv;
    }
    tern_gemm_run_rows(par, args.half ? NULL : work->qkv, qkv, &rows, n_rows, attention->qkv_w, &end);
    tern_softmax_context_run(par, &args, work->qkv, qkv, batch, cache_layer,
                             args.half ? context.narrow : (void *)work->context, args.half ? context.ld : width,
                             work->scratch);
    if (!args.half)
        context = tern_rows_from(par, attention->out_w, work->narrow, work->context, width, n_rows);
    tern_gemm_run_rows(par, c, hidden, &context, n_rows, attention->out_w, e);
}
