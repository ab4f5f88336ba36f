/* layer.c: one transformer layer, in its four forms (A: attention without its bias, F: feed-forward without its bias):
 *
 *   sequential, pre-LN           s = A(N1 x) + b_o + x;       x' = F(N2 s) + b_2 + s
 *   sequential, post-LN          z = N2(A(x) + b_o + x);      x' = N1(F(z) + b_2 + z)
 *   parallel, norm of its own    x' = F(N2 x) + b_2 + (A(N1 x) + b_o) + x
 *   parallel, shared norm        x' = F(N1 x) + b_2 + (A(N1 x) + b_o) + x
 *
 * Sums are added from left to right, as transformers does; N1 is norm_w, N2 attn_nw.  In one process biases, residuals and
 * activations are epilogues of the products, so the norms are the only passes of their own.  Where several ranks share the
 * layer, A and F are partial sums: they are reduced first, and what is whole on every rank is added once, after it.
 *
 * Without biases the typed operators put together add in the same order and give the same bits; tern_residual_add() groups
 * the biases with the residual, so with them the results differ by the rounding of those additions. */
#include "modules/layer.h"

#include "ops/activation.h"
#include "ops/kv_pool.h"
#include "ops/op_table.h"

#include <string.h>

struct tern_layer {
    tern_config config;
    struct tern_config_sizes sizes;
    struct tern_attention_args attention;
    const tern_comm *comm;
    const struct tern_kernels *kernels; /* NULL: the region's */

    const tern_weight *qkv_w, *attn_ow, *output_w; /* [H, (h + 2G) E], [h E, H], [I, H] */
    const float *qkv_b, *attn_ob, *output_b;       /* or NULL */
    struct tern_norm_args norm, attn_norm;         /* N1; N2, gamma NULL where N1 is shared */
    struct tern_mlp_args mlp;

    tern_weight *owned[4]; /* packed here from raw matrices */
    float *vectors;        /* copies of all vectors */
};

tern_tensor tern_tensor_none(void)
{
    return (tern_tensor){ .rank = -1 };
}

/* ---- binding ---- */

static const char op[] = "layer";

static tern_status check_config(tern_ctx *ctx, const tern_config *config, const tern_comm *comm)
{
    /* Dtype, device, norm and kernel: a layer exists where its operators do. */
    static const enum tern_op_id parts[] = { TERN_OP_QKV_GEMM, TERN_OP_SOFTMAX_CONTEXT, TERN_OP_VECTOR_MATMUL,
                                             TERN_OP_MLP_GEMM, TERN_OP_GELU_GEMM,       TERN_OP_RESIDUAL_ADD };

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        TERN_TRY(tern_op_check(ctx, parts[i], config));
    TERN_TRY(tern_check_config(ctx, op, config, TERN_READS_SIZES));
    TERN_REQUIRE(ctx, config->pre_layer_norm || config->mlp_after_attn, TERN_ERR_CONFIG,
                 "%s: pre_layer_norm and mlp_after_attn are both false, expected one of them (there is no parallel "
                 "post-LN block)",
                 op);
    TERN_REQUIRE(ctx, comm->size == config->mp_size && comm->rank >= 0 && comm->rank < comm->size, TERN_ERR_CONFIG,
                 "%s: comm is rank %d of %d, expected mp_size = %" PRId32 " ranks", op, comm->rank, comm->size,
                 config->mp_size);
    TERN_REQUIRE(ctx, comm->size == 1 || comm->all_reduce, TERN_ERR_ARG, "%s: comm has no all_reduce", op);
    return TERN_OK;
}

/* A vector of the layer: where it comes from, how long it is, where its copy goes. */
struct vector {
    const char *name;
    const tern_tensor *from;
    int64_t n;
    bool required;
    const float **to;
};

static tern_status check_vector(tern_ctx *ctx, const struct vector *v)
{
    const tern_tensor *t = v->from;

    TERN_REQUIRE(ctx, tern_given(t) || !v->required, TERN_ERR_ARG, "%s: %s is not there, expected [%" PRId64 "]", op,
                 v->name, v->n);
    if (!tern_given(t))
        return TERN_OK;
    TERN_REQUIRE(ctx, t->dtype == TERN_FP32 || t->dtype == TERN_FP16 || t->dtype == TERN_BF16, TERN_ERR_DTYPE,
                 "%s: %s is %s, expected fp32, fp16 or bf16", op, v->name, tern_dtype_name(t->dtype));
    TERN_TRY(tern_check_tensor(ctx, op, v->name, t, t->dtype));
    TERN_REQUIRE(ctx, t->rank == 1 && t->dim[0] == v->n, TERN_ERR_SHAPE, "%s: %s is %s, expected [%" PRId64 "]", op,
                 v->name, tern_dims_text(t).text, v->n);
    return TERN_OK;
}

static void copy_vector(const struct tern_kernels *kernels, const struct vector *v, float *to)
{
    const size_t n = (size_t)v->n;

    if (v->from->dtype == TERN_FP16)
        kernels->f32_from_f16(to, v->from->data, n);
    else if (v->from->dtype == TERN_BF16)
        kernels->f32_from_bf16(to, v->from->data, n);
    else
        memcpy(to, v->from->data, n * sizeof *to);
    *v->to = to;
}

static tern_status bind(tern_ctx *ctx, struct tern_layer *l, const tern_layer_weights *w)
{
    const struct tern_config_sizes *s = &l->sizes;
    const bool shared = !l->config.mlp_after_attn && !tern_given(&w->attn_nw),
               rms = l->config.norm_type == TERN_RMS_NORM;
    const struct vector vectors[] = {
        { "norm_w", &w->norm_w, s->hidden, true, &l->norm.gamma },
        { "norm_b", &w->norm_b, s->hidden, false, &l->norm.beta },
        { "attn_qkvb", &w->attn_qkvb, s->qkv, false, &l->qkv_b },
        { "attn_ob", &w->attn_ob, s->hidden, false, &l->attn_ob },
        { "attn_nw", &w->attn_nw, s->hidden, !shared, &l->attn_norm.gamma },
        { "attn_nb", &w->attn_nb, s->hidden, false, &l->attn_norm.beta },
        { "inter_b", &w->inter_b, s->up, false, &l->mlp.up_bias },
        { "output_b", &w->output_b, s->hidden, false, &l->output_b },
    };
    const struct {
        const char *name;
        const tern_tensor *from;
        int64_t in, out;
        const tern_weight **to;
    } matrices[] = {
        { "attn_qkvw", &w->attn_qkvw, s->hidden, s->qkv, &l->qkv_w },
        { "attn_ow", &w->attn_ow, s->context, s->hidden, &l->attn_ow },
        { "inter_w", &w->inter_w, s->hidden, s->up, &l->mlp.up },
        { "output_w", &w->output_w, s->inner, s->hidden, &l->output_w },
    };
    const size_t n_vectors = sizeof vectors / sizeof vectors[0], n_matrices = sizeof matrices / sizeof matrices[0];
    size_t floats = 0;

    for (size_t i = 0; i < n_vectors; i++) {
        TERN_TRY(check_vector(ctx, &vectors[i]));
        floats += ((size_t)vectors[i].n + 15) / 16 * 16;
    }
    TERN_REQUIRE(ctx, !rms || (!tern_given(&w->norm_b) && !tern_given(&w->attn_nb)), TERN_ERR_ARG,
                 "%s: %s is given with RMSNorm, expected none", op, tern_given(&w->norm_b) ? "norm_b" : "attn_nb");
    TERN_REQUIRE(ctx, !shared || !tern_given(&w->attn_nb), TERN_ERR_ARG,
                 "%s: attn_nb is given without attn_nw, expected both or none", op);
    for (size_t i = 0; i < n_matrices; i++)
        TERN_TRY(tern_check_weight(ctx, op, matrices[i].name, matrices[i].from, l->config.transposed_mode,
                                   matrices[i].in, matrices[i].out, NULL));

    TERN_TRY(TERN_ALLOC(ctx, floats, "vectors of a layer", &l->vectors));
    floats = 0;
    for (size_t i = 0; i < n_vectors; i++) {
        if (tern_given(vectors[i].from))
            copy_vector(ctx->kernels, &vectors[i], l->vectors + floats);
        floats += ((size_t)vectors[i].n + 15) / 16 * 16;
    }
    for (size_t i = 0; i < n_matrices; i++)
        TERN_TRY(tern_bind_weight(ctx, matrices[i].from, l->config.transposed_mode, matrices[i].to, &l->owned[i]));
    l->mlp.down = l->output_w;
    return TERN_OK;
}

tern_status tern_layer_create(tern_ctx *ctx, const tern_config *config, const tern_comm *comm,
                              const tern_layer_weights *weights, tern_layer **out)
{
    struct tern_layer *l = NULL;

    TERN_REQUIRE(ctx, out, TERN_ERR_ARG, "%s: out is NULL", op);
    *out = NULL;
    TERN_REQUIRE(ctx, ctx && config && weights, TERN_ERR_ARG, "%s: %s is NULL", op,
                 !ctx      ? "ctx"
                 : !config ? "config"
                           : "weights");
    if (!comm)
        comm = tern_comm_self();
    TERN_TRY(check_config(ctx, config, comm));

    TERN_TRY(TERN_ALLOC(ctx, 1, "a layer", &l));
    l->config = *config;
    l->comm = comm;
    l->sizes = tern_config_sizes(config);
    l->attention = tern_attention_args_from(config);
    l->kernels = config->kernel == TERN_KERNEL_REFERENCE ? tern_kernels_reference() : NULL;
    l->norm = l->attn_norm = (struct tern_norm_args){ .type = config->norm_type, .eps = config->layer_norm_eps };
    l->mlp.activation = config->mlp_act_func_type;
    l->mlp.gelu = config->gelu;
    const tern_status status = bind(ctx, l, weights);
    if (status != TERN_OK) {
        tern_layer_destroy(&l);
        return status;
    }
    *out = l;
    return TERN_OK;
}

void tern_layer_destroy(tern_layer **layer)
{
    struct tern_layer *l = layer ? *layer : NULL;

    if (!l)
        return;
    for (size_t i = 0; i < sizeof l->owned / sizeof l->owned[0]; i++)
        tern_weight_destroy(&l->owned[i]);
    tern_free(l->vectors);
    tern_free(l);
    *layer = NULL;
}

/* ---- running ---- */

void tern_layer_work_take(struct tern_arena *arena, const tern_config *config, size_t max_rows, int n_threads,
                          struct tern_layer_work *work)
{
    const struct tern_config_sizes s = tern_config_sizes(config);

    work->max_rows = max_rows;
    work->normed = TERN_TAKE(arena, float, max_rows *(size_t)s.hidden);
    work->qkv = TERN_TAKE(arena, float, max_rows *(size_t)s.qkv);
    work->context = TERN_TAKE(arena, float, max_rows *(size_t)s.context);
    work->attn = TERN_TAKE(arena, float, max_rows *(size_t)s.hidden);
    work->inner = TERN_TAKE(arena, float, max_rows *(size_t)s.up);
    work->hidden = TERN_TAKE(arena, float, max_rows *(size_t)s.hidden);
    work->scratch = TERN_TAKE(arena, float, tern_attention_run_scratch((int32_t)s.head_dim, n_threads));
    work->status = TERN_TAKE(arena, tern_status, 1);
}

/* data[T, H] becomes the sum over the ranks: thread 0 speaks for the process. */
static tern_status all_reduce(const struct tern_par *par, const struct tern_layer *l, float *data, size_t n,
                              const struct tern_layer_work *work)
{
    if (par->thread == 0)
        *work->status = l->comm->all_reduce(l->comm->user, data, n);
    tern_barrier(par);
    return *work->status;
}

/* x = hidden + ((residual + final_bias) + attention_bias), rows split; residual may be x. */
static void add_residual(const struct tern_par *par, float *x, const float *hidden, const float *residual,
                         const float *final_bias, const float *attention_bias, size_t n_rows, size_t n)
{
    const struct tern_residual_terms terms = {
        .attention_bias = attention_bias, .final_bias = final_bias, .inv_mp = 1, .attention_inside = true
    };
    size_t row, end;

    tern_share(par, n_rows, 1, &row, &end);
    for (; row < end; row++)
        par->kernels->residual_add_f32(x + row * n, hidden + row * n, residual + row * n, &terms, n);
    tern_barrier(par);
}

static tern_status run_sequential(const struct tern_par *par, const struct tern_layer *l, float *x, size_t rows,
                                  const struct tern_kv_batch *batch, int32_t cache_layer,
                                  const struct tern_layer_work *work)
{
    const struct tern_config_sizes *s = &l->sizes;
    const size_t n = (size_t)s->hidden;
    const bool pre = l->config.pre_layer_norm, alone = l->comm->size == 1;
    float *normed = work->normed;

    if (pre)
        tern_norm_run(par, normed, NULL, x, NULL, NULL, rows, n, &l->norm);
    tern_gemm_run(par, work->qkv, (size_t)s->qkv, pre ? normed : x, n, rows, l->qkv_w,
                  &(struct tern_epilogue){ .bias = l->qkv_b });
    tern_attention_run(par, &l->attention, work->qkv, (size_t)s->qkv, batch, cache_layer, work->context,
                       (size_t)s->context, work->scratch);

    /* Up to the norm before the feed-forward: normed = N2(s); x = s where it is needed again. */
    if (alone) {
        float *sum = pre ? x : work->attn;
        const struct tern_epilogue e = { .bias = l->attn_ob, .residual = x, .ld_residual = n };
        tern_gemm_run(par, sum, n, work->context, (size_t)s->context, rows, l->attn_ow, &e);
        tern_norm_run(par, normed, NULL, sum, NULL, NULL, rows, n, &l->attn_norm);
    } else {
        const struct tern_epilogue e = { .act = TERN_ACT_NONE };
        tern_gemm_run(par, work->attn, n, work->context, (size_t)s->context, rows, l->attn_ow, &e);
        TERN_TRY(all_reduce(par, l, work->attn, rows * n, work));
        tern_norm_run(par, normed, pre ? x : NULL, work->attn, l->attn_ob, x, rows, n, &l->attn_norm);
    }

    if (alone && pre) {
        const struct tern_epilogue e = { .bias = l->output_b, .residual = x, .ld_residual = n };
        tern_mlp_run(par, &l->mlp, x, n, normed, n, rows, work->inner, &e);
    } else if (alone) {
        const struct tern_epilogue e = { .bias = l->output_b, .residual = normed, .ld_residual = n };
        tern_mlp_run(par, &l->mlp, work->hidden, n, normed, n, rows, work->inner, &e);
        tern_norm_run(par, x, NULL, work->hidden, NULL, NULL, rows, n, &l->norm);
    } else {
        const struct tern_epilogue e = { .act = TERN_ACT_NONE };
        tern_mlp_run(par, &l->mlp, work->hidden, n, normed, n, rows, work->inner, &e);
        TERN_TRY(all_reduce(par, l, work->hidden, rows * n, work));
        if (pre)
            add_residual(par, x, work->hidden, x, l->output_b, NULL, rows, n);
        else
            tern_norm_run(par, x, NULL, work->hidden, l->output_b, normed, rows, n, &l->norm);
    }
    return TERN_OK;
}

static tern_status run_parallel(const struct tern_par *par, const struct tern_layer *l, float *x, size_t rows,
                                const struct tern_kv_batch *batch, int32_t cache_layer,
                                const struct tern_layer_work *work)
{
    const struct tern_config_sizes *s = &l->sizes;
    const size_t n = (size_t)s->hidden;
    const bool alone = l->comm->size == 1;
    float *normed = work->normed;

    tern_norm_run(par, normed, NULL, x, NULL, NULL, rows, n, &l->norm);
    tern_gemm_run(par, work->qkv, (size_t)s->qkv, normed, n, rows, l->qkv_w,
                  &(struct tern_epilogue){ .bias = l->qkv_b });
    tern_attention_run(par, &l->attention, work->qkv, (size_t)s->qkv, batch, cache_layer, work->context,
                       (size_t)s->context, work->scratch);
    tern_gemm_run(par, work->attn, n, work->context, (size_t)s->context, rows, l->attn_ow,
                  &(struct tern_epilogue){ .bias = alone ? l->attn_ob : NULL });
    if (l->attn_norm.gamma)
        tern_norm_run(par, normed, NULL, x, NULL, NULL, rows, n, &l->attn_norm);

    if (alone) {
        const struct tern_epilogue e = {
            .bias = l->output_b, .residual = work->attn, .ld_residual = n, .residual2 = x, .ld_residual2 = n
        };
        tern_mlp_run(par, &l->mlp, x, n, normed, n, rows, work->inner, &e);
    } else {
        const struct tern_epilogue e = { .residual = work->attn, .ld_residual = n };
        tern_mlp_run(par, &l->mlp, work->hidden, n, normed, n, rows, work->inner, &e);
        TERN_TRY(all_reduce(par, l, work->hidden, rows * n, work));
        add_residual(par, x, work->hidden, x, l->output_b, l->attn_ob, rows, n);
    }
    return TERN_OK;
}

tern_status tern_layer_run(const struct tern_par *par, const tern_layer *layer, float *x,
                           const struct tern_kv_batch *batch, int32_t cache_layer, const struct tern_layer_work *work)
{
    const struct tern_par with = tern_par_with(par, layer->kernels ? layer->kernels : par->kernels);

    if (layer->config.mlp_after_attn)
        return run_sequential(&with, layer, x, batch->n_rows, batch, cache_layer, work);
    return run_parallel(&with, layer, x, batch->n_rows, batch, cache_layer, work);
}

/* ---- alone ---- */

struct forward {
    const tern_layer *layer;
    float *x;
    struct tern_kv_batch batch;
    int32_t cache_layer;
    struct tern_layer_work work;
    tern_status status; /* thread 0's, as good as any */
};

static void forward_region(void *arg, const struct tern_par *par)
{
    struct forward *f = arg;
    const tern_status status = tern_layer_run(par, f->layer, f->x, &f->batch, f->cache_layer, &f->work);

    if (par->thread == 0)
        f->status = status;
}

tern_status tern_layer_forward(tern_ctx *ctx, const tern_layer *layer, tern_tensor *x, tern_kv_cache *cache,
                               int32_t cache_layer, const tern_kv_span *spans, size_t n_spans)
{
    struct tern_arena arena = tern_arena_counter();
    struct forward f = { .layer = layer };
    tern_status status;
    size_t rows;

    TERN_REQUIRE(ctx, ctx && layer && cache, TERN_ERR_ARG, "%s: %s is NULL", op,
                 !ctx     ? "ctx"
                 : !layer ? "layer"
                          : "cache");
    TERN_TRY(tern_check_rows(ctx, op, "x", x, -1, layer->sizes.hidden, &rows));
    TERN_REQUIRE(ctx,
                 cache->shape.n_kv_heads == layer->sizes.kv_heads && cache->shape.head_dim == layer->sizes.head_dim,
                 TERN_ERR_SHAPE, "%s: the cache has %" PRId32 " heads of %" PRId32 ", expected %" PRId32 " of %" PRId64,
                 op, cache->shape.n_kv_heads, cache->shape.head_dim, layer->sizes.kv_heads, layer->sizes.head_dim);
    TERN_REQUIRE(ctx, cache_layer >= 0 && cache_layer < cache->shape.n_layers, TERN_ERR_ARG,
                 "%s: cache_layer is %" PRId32 ", expected 0..%" PRId32, op, cache_layer, cache->shape.n_layers - 1);
    TERN_TRY(tern_kv_check_spans(ctx, op, cache, spans, n_spans, rows));
    if (rows == 0)
        return TERN_OK;

    f.x = x->data;
    f.batch = (struct tern_kv_batch){ .cache = cache, .spans = spans, .n_spans = n_spans, .n_rows = rows };
    f.cache_layer = cache_layer;
    tern_layer_work_take(&arena, &layer->config, rows, tern_ctx_threads(ctx), &f.work);
    TERN_TRY(tern_arena_create(ctx, arena.peak, "scratch of a layer", &arena));
    tern_layer_work_take(&arena, &layer->config, rows, tern_ctx_threads(ctx), &f.work);
    status = tern_region(ctx, forward_region, &f);
    if (status == TERN_OK && f.status != TERN_OK)
        status = tern_fail(ctx, f.status, "%s: all_reduce failed: %s", op, tern_status_name(f.status));
    tern_arena_destroy(&arena);
    return status;
}
