/* attention.c: see attention.h. */
#include "modules/attention.h"

#include "ops/checks.h"

tern_status tern_attention_bind(tern_ctx *ctx, const char *owner, const tern_config *config,
                                const tern_layer_weights *weights, struct tern_attention_bound *out)
{
    const struct tern_config_sizes s = tern_config_sizes(config);
    const tern_tensor none = tern_tensor_none();
    const bool pre = config->pre_layer_norm;
    const struct tern_bind_vector vectors[] = {
        { "norm_w", pre ? &weights->norm_w : &none, s.hidden, pre, &out->norm.gamma },
        { "norm_b", pre ? &weights->norm_b : &none, s.hidden, false, &out->norm.beta },
        { "attn_qkvb", &weights->attn_qkvb, s.qkv, false, &out->qkv_b },
        { "attn_ob", &weights->attn_ob, s.hidden, false, &out->out_b },
    };
    const struct tern_bind_matrix matrices[] = {
        { "attn_qkvw", &weights->attn_qkvw, s.hidden, s.qkv, &out->qkv_w },
        { "attn_ow", &weights->attn_ow, s.context, s.hidden, &out->out_w },
    };

    out->norm.type = config->norm_type;
    out->norm.eps = config->layer_norm_eps;
    out->context = tern_softmax_context_args_from(config);
    return tern_bind(ctx, owner, config, vectors, sizeof vectors / sizeof vectors[0], matrices,
                     sizeof matrices / sizeof matrices[0], &out->binding);
}

void tern_attention_free(struct tern_attention_bound *attention)
{
    tern_binding_free(&attention->binding);
}

void tern_attention_work_take(struct tern_arena *arena, const tern_config *config, size_t max_rows, int n_threads,
                              struct tern_attention_work *work)
{
    const struct tern_config_sizes s = tern_config_sizes(config);

    work->qkv = tern_arena_take(arena, max_rows, (size_t)s.qkv * sizeof(float));
    work->context = tern_arena_take(arena, max_rows, (size_t)s.context * sizeof(float));
    work->scratch = TERN_TAKE(arena, float, tern_softmax_context_scratch((int32_t)s.head_dim, n_threads));
    work->narrow = NULL;
}

size_t tern_attention_narrow(const struct tern_attention_bound *attention, size_t n_rows)
{
    const size_t qkv = tern_gemm_scratch(attention->qkv_w, n_rows), out = tern_gemm_scratch(attention->out_w, n_rows);

    return qkv > out ? qkv : out;
}

void tern_attention_run(const struct tern_par *par, const struct tern_attention_bound *attention, float *c,
                        const float *x, float *normed, const struct tern_kv_batch *batch, int32_t cache_layer,
                        const struct tern_attention_work *work, const struct tern_epilogue *e)
{
    const size_t hidden = (size_t)attention->qkv_w->in, qkv = (size_t)attention->qkv_w->out;
    const size_t context = (size_t)attention->out_w->in, n_rows = batch->n_rows;
    const struct tern_epilogue bias = { .bias = attention->qkv_b };

    if (attention->norm.gamma) {
        tern_norm_run(par, normed, NULL, x, NULL, NULL, n_rows, hidden, &attention->norm);
        x = normed;
    }
    tern_gemm_run_either(par, work->qkv, qkv, x, hidden, n_rows, attention->qkv_w, &bias, work->narrow);
    tern_softmax_context_run(par, &attention->context, work->qkv, qkv, batch, cache_layer, work->context, context,
                             work->scratch);
    tern_gemm_run_either(par, c, hidden, work->context, context, n_rows, attention->out_w, e, work->narrow);
}
