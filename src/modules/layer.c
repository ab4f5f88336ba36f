/* layer.c: one transformer layer, in its four forms (A: attention without its bias, F: feed-forward without its bias):
 *
 *   sequential, pre-LN           s = A(N1 x) + b_o + x;       x' = F(N2 s) + b_2 + s
 *   sequential, post-LN          z = N2(A(x) + b_o + x);      x' = N1(F(z) + b_2 + z)
 *   parallel, norm of its own    x' = F(N2 x) + b_2 + (A(N1 x) + b_o) + x
 *   parallel, shared norm        x' = F(N1 x) + b_2 + (A(N1 x) + b_o) + x
 *
 * Sums are added from left to right, as transformers does; N1 is norm_w, N2 attn_nw.  block.c runs it.
 *
 * Without biases the typed operators put together add in the same order and give the same bits; tern_residual_add() groups
 * the biases with the residual, so with them the results differ by the rounding of those additions. */
#include "modules/layer.h"

#include "modules/weights.h"
#include "ops/kv_pool.h"
#include "ops/mask.h"
#include "ops/op_table.h"
#include "ops/stage.h"
#include "ops/widen.h"

struct tern_layer {
    tern_config config;
    struct tern_config_sizes sizes;
    struct tern_block block;     /* N1 closes a post-LN one; N2 is not there where N1 is shared */
    struct tern_binding binding; /* of the closing norm */
    struct tern_own_weights own; /* matrices that were put together, or packed from int8 */
};

/* ---- binding ---- */

static const char op[] = "layer";

static tern_status check_config(tern_ctx *ctx, const tern_config *config, const tern_comm *comm)
{
    /* Dtype, device, norm and kernel: a layer exists where its operators do. */
    static const struct tern_op_row *const parts[] = { &tern_row_qkv_gemm,      &tern_row_softmax_context,
                                                       &tern_row_vector_matmul, &tern_row_mlp_gemm,
                                                       &tern_row_gelu_gemm,     &tern_row_residual_add };

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        TERN_TRY(tern_op_check(ctx, parts[i], config));
    TERN_TRY(tern_check_config(ctx, op, config, TERN_READS_SIZES));
    TERN_TRY(tern_check_block(ctx, op, config));
    return tern_check_comm(ctx, op, config, comm);
}

/* What config and weights say of each other; each weight alone is checked where it is bound. */
static tern_status check_norms(tern_ctx *ctx, const tern_config *config, const tern_layer_weights *w)
{
    const bool rms = config->norm_type == TERN_RMS_NORM;

    TERN_REQUIRE(ctx, !rms || (!tern_given(&w->norm_b) && !tern_given(&w->attn_nb)), TERN_ERR_ARG,
                 "%s: %s is given with RMSNorm, expected none", op, tern_given(&w->norm_b) ? "norm_b" : "attn_nb");
    TERN_REQUIRE(ctx, !config->mlp_after_attn || tern_given(&w->attn_nw), TERN_ERR_ARG,
                 "%s: attn_nw is not there, expected [%" PRId64 "]", op, config->hidden_size);
    TERN_REQUIRE(ctx, tern_given(&w->attn_nw) || !tern_given(&w->attn_nb), TERN_ERR_ARG,
                 "%s: attn_nb is given without attn_nw, expected both or none", op);
    return TERN_OK;
}

static tern_status bind_closing(tern_ctx *ctx, struct tern_layer *l, const tern_layer_weights *w)
{
    const struct tern_bind_vector vectors[] = {
        { "norm_w", &w->norm_w, l->sizes.hidden, true, &l->block.closing.gamma },
        { "norm_b", &w->norm_b, l->sizes.hidden, false, &l->block.closing.beta },
    };

    l->block.closing.type = l->config.norm_type;
    l->block.closing.eps = l->config.layer_norm_eps;
    return tern_bind(ctx, op, &l->config, vectors, sizeof vectors / sizeof vectors[0], NULL, 0, &l->binding);
}

tern_status tern_layer_create(tern_ctx *ctx, const tern_config *config, const tern_comm *comm,
                              const tern_module_quant *quant, const tern_layer_weights *weights, tern_layer **out)
{
    struct tern_layer *l = NULL;
    tern_status status;

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
    TERN_TRY_OR_FAIL(tern_own_weights(ctx, op, config, quant, TERN_PART_ATTENTION | TERN_PART_MLP, weights, &l->own));
    weights = &l->own.all;
    TERN_TRY_OR_FAIL(check_norms(ctx, config, weights));
    l->config = *config;
    l->block.form = !config->mlp_after_attn  ? TERN_BLOCK_PARALLEL
                    : config->pre_layer_norm ? TERN_BLOCK_PRE
                                             : TERN_BLOCK_POST;
    l->block.comm = comm;
    l->block.narrow = tern_config_narrow(config);
    l->sizes = tern_config_sizes(config);
    l->block.hidden = (size_t)l->sizes.hidden;
    l->block.kernels = config->kernel == TERN_KERNEL_REFERENCE ? tern_kernels_reference() : NULL;
    TERN_TRY_OR_FAIL(tern_attention_bind(ctx, op, config, weights, l->own.v_dim, &l->block.attention));
    TERN_TRY_OR_FAIL(tern_mlp_bind(ctx, op, config, weights, &l->block.mlp));
    if (!config->pre_layer_norm)
        TERN_TRY_OR_FAIL(bind_closing(ctx, l, weights));
    tern_own_weights_bound(&l->own);
    *out = l;
    return TERN_OK;

fail:
    tern_layer_destroy(&l);
    return status;
}

void tern_layer_destroy(tern_layer **layer)
{
    struct tern_layer *l = layer ? *layer : NULL;

    if (!l)
        return;
    tern_attention_free(&l->block.attention);
    tern_mlp_free(&l->block.mlp);
    tern_binding_free(&l->binding);
    tern_own_weights_free(&l->own);
    tern_free(l);
    *layer = NULL;
}

/* ---- running ---- */

const struct tern_block *tern_layer_block(const tern_layer *layer)
{
    return &layer->block;
}

/* ---- alone ---- */

struct forward {
    struct tern_layer layer; /* the caller's, with what the call adds to its attention */
    struct tern_stage stage;
    struct tern_mask mask;
    float *x;
    struct tern_kv_batch batch;
    int32_t cache_layer;
    struct tern_block_work work;
    tern_status status; /* thread 0's, as good as any */
};

static void forward_region(void *arg, const struct tern_par *par)
{
    struct forward *f = arg;

    tern_stage_load(par, &f->stage);
    tern_mask_load(par, &f->mask);
    const tern_status status = tern_block_run(par, &f->layer.block, f->x, &f->batch, f->cache_layer, &f->work);
    tern_stage_store(par, &f->stage);
    if (par->thread == 0)
        f->status = status;
}

tern_status tern_layer_forward(tern_ctx *ctx, const tern_layer *layer, tern_tensor *x, tern_kv_cache *cache,
                               int32_t cache_layer, const tern_kv_span *spans, size_t n_spans)
{
    return tern_layer_forward_masked(ctx, layer, NULL, x, NULL, NULL, cache, cache_layer, spans, n_spans);
}

tern_status tern_layer_forward_masked(tern_ctx *ctx, const tern_layer *layer, const tern_attention_options *options,
                                      tern_tensor *x, const tern_tensor *mask, const tern_tensor *alibi,
                                      tern_kv_cache *cache, int32_t cache_layer, const tern_kv_span *spans,
                                      size_t n_spans)
{
    tern_attention_options with = options ? *options : tern_attention_options_default();
    const struct tern_block *const blocks[] = { layer ? &layer->block : NULL };
    struct tern_arena arena = tern_arena_counter();
    struct forward f = { .cache_layer = cache_layer };
    tern_status status;
    size_t rows;

    TERN_REQUIRE(ctx, ctx && layer && cache, TERN_ERR_ARG, "%s: %s is NULL", op,
                 !ctx     ? "ctx"
                 : !layer ? "layer"
                          : "cache");
    TERN_TRY(tern_check_float_rows(ctx, op, "x", x, tern_config_activation(&layer->config), -1, layer->sizes.hidden,
                                   &rows, NULL));
    const int32_t e = layer->block.attention.context.head_dim, v_dim = layer->block.attention.context.v_dim;
    const int32_t widest = e > v_dim ? e : v_dim;
    TERN_REQUIRE(ctx, cache->shape.n_kv_heads == layer->sizes.kv_heads && cache->shape.head_dim == widest,
                 TERN_ERR_SHAPE, "%s: the cache has %" PRId32 " heads of %" PRId32 ", expected %" PRId32 " of %" PRId32,
                 op, cache->shape.n_kv_heads, cache->shape.head_dim, layer->sizes.kv_heads, widest);
    TERN_TRY(tern_kv_check_dtype(ctx, op, cache, tern_config_activation(&layer->config)));
    TERN_REQUIRE(ctx, cache_layer >= 0 && cache_layer < cache->shape.n_layers, TERN_ERR_ARG,
                 "%s: cache_layer is %" PRId32 ", expected 0..%" PRId32, op, cache_layer, cache->shape.n_layers - 1);
    TERN_TRY(tern_kv_check_spans(ctx, op, cache, spans, n_spans, rows));
    f.layer = *layer;
    f.batch = (struct tern_kv_batch){ .cache = cache, .spans = spans, .n_spans = n_spans, .n_rows = rows };
    struct tern_softmax_context_args *args = &f.layer.block.attention.context;
    TERN_TRY(tern_attention_check_width(ctx, op, &layer->block.attention, &with));
    TERN_TRY(tern_context_options(ctx, op, &with, args));
    TERN_TRY(tern_context_mask(ctx, op, mask, &layer->config, &f.batch, args, &f.mask));
    TERN_TRY(
        tern_check_float_vector(ctx, op, "alibi", alibi, tern_config_activation(&layer->config), args->heads, true));
    TERN_TRY(tern_context_positions(ctx, op, with.position_ids, rows, args));
    const struct tern_operand operands[] = { { "x", x, true, false },
                                             { "mask", mask, false, false },
                                             { "alibi", alibi, false, false },
                                             { "position_ids", with.position_ids, false, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));
    if (rows == 0)
        return TERN_OK;

    tern_stage_in_out(&f.stage, x, &f.x);
    tern_stage_in(&f.stage, alibi, &args->alibi);
    TERN_TRY_OR_FAIL(tern_stage_open(ctx, &f.stage));
    TERN_TRY_OR_FAIL(tern_mask_open(ctx, &f.mask));
    args->mask = f.mask.rows;
    tern_block_work_take(&arena, blocks, 1, rows, tern_ctx_threads(ctx), &f.work);
    TERN_TRY_OR_FAIL(tern_arena_borrow(ctx, arena.used, "scratch of a layer", &arena));
    tern_block_work_take(&arena, blocks, 1, rows, tern_ctx_threads(ctx), &f.work);
    status = tern_region(ctx, forward_region, &f);
    if (status == TERN_OK && f.status != TERN_OK)
        status = tern_fail(ctx, f.status, "%s: all_reduce failed: %s", op, tern_status_name(f.status));

fail:
    tern_arena_return(ctx, &arena);
    tern_mask_close(ctx, &f.mask);
    tern_stage_close(ctx, &f.stage);
    return status;
}
