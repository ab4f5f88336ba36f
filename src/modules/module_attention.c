/* module_attention.c: attention as a module of its own, put together from the operators. */
#include "modules/attention.h"
#include "modules/weights.h"
#include "ops/op_table.h"
#include "ops/stage.h"
#include "ops/widen.h"

#include <string.h>

static const char op[] = "attention";

struct tern_attention {
    tern_config config;
    struct tern_config_sizes sizes;
    const tern_comm *comm;
    bool reduces; /* ranks are added up behind the output product */
    struct tern_attention_bound bound;
    struct tern_own_weights own;
};

/* ---- binding ---- */

static tern_status check_config(tern_ctx *ctx, const tern_config *config, const tern_comm *comm)
{
    TERN_TRY(tern_op_check(ctx, config->pre_layer_norm ? &tern_row_qkv_gemm : &tern_row_linear, config));
    TERN_TRY(tern_op_check(ctx, &tern_row_softmax_context, config));
    TERN_TRY(tern_op_check(ctx, &tern_row_vector_matmul, config));
    TERN_TRY(tern_check_config(ctx, op, config, TERN_READS_SIZES));
    TERN_TRY(tern_check_block(ctx, op, config));
    return tern_check_comm(ctx, op, config, comm);
}

tern_status tern_attention_create(tern_ctx *ctx, const tern_config *config, const tern_comm *comm,
                                  const tern_module_quant *quant, const tern_layer_weights *weights,
                                  tern_attention **out)
{
    struct tern_attention *a = NULL;
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

    TERN_TRY(TERN_ALLOC(ctx, 1, "an attention", &a));
    a->config = *config;
    a->sizes = tern_config_sizes(config);
    a->comm = comm;
    a->reduces = config->mlp_after_attn && comm->size > 1;
    TERN_TRY_OR_FAIL(tern_own_weights(ctx, op, config, quant, TERN_PART_ATTENTION, weights, &a->own));
    a->own.all.attn_ob = tern_tensor_none(); /* added elsewhere */
    TERN_REQUIRE_OR_FAIL(ctx, config->norm_type != TERN_RMS_NORM || !tern_given(&a->own.all.norm_b), TERN_ERR_ARG,
                         "%s: norm_b is given with RMSNorm, expected none", op);
    TERN_TRY_OR_FAIL(tern_attention_bind(ctx, op, config, &a->own.all, a->own.v_dim, &a->bound));
    tern_own_weights_bound(&a->own);
    *out = a;
    return TERN_OK;

fail:
    tern_attention_destroy(&a);
    return status;
}

void tern_attention_destroy(tern_attention **attention)
{
    struct tern_attention *a = attention ? *attention : NULL;

    if (!a)
        return;
    tern_attention_free(&a->bound);
    tern_own_weights_free(&a->own);
    tern_free(a);
    *attention = NULL;
}

/* ---- running ---- */

/* context attn_ow, added up over the ranks in fp32. */
struct product {
    const struct tern_kernels *kernels;
    struct tern_stage stage;
    const tern_weight *weight;
    const float *context;
    float *sums;
    void *narrow;
    size_t rows;
    tern_tensor *output;
};

static void product_region(void *arg, const struct tern_par *par)
{
    const struct product *p = arg;
    const struct tern_par with = tern_par_with(par, p->kernels);
    const size_t in = (size_t)p->weight->in, out = (size_t)p->weight->out;
    const struct tern_epilogue plain = { .act = TERN_ACT_NONE };

    tern_stage_load(&with, &p->stage);
    tern_gemm_run_either(&with, p->sums, out, p->context, in, p->rows, p->weight, &plain, p->narrow);
}

static void store_region(void *arg, const struct tern_par *par)
{
    const struct product *p = arg;
    size_t begin, end;

    tern_share(par, p->rows * (size_t)p->weight->out, 64, &begin, &end);
    if (begin < end)
        tern_wide_store(p->kernels, p->output->data, p->output->dtype, begin, p->sums + begin, end - begin);
}

static tern_status reduced_product(tern_ctx *ctx, const tern_attention *a, const tern_tensor *context, size_t rows,
                                   tern_tensor *output)
{
    struct product p = {
        .kernels = tern_kernels_for(ctx, &a->config), .weight = a->bound.out_w, .rows = rows, .output = output
    };
    const size_t n = rows * (size_t)a->sizes.hidden;
    size_t narrow_bytes = 0;
    void *sums = NULL;
    tern_status status;

    tern_stage_in(&p.stage, context, &p.context);
    TERN_TRY_OR_FAIL(tern_stage_open(ctx, &p.stage));
    TERN_TRY_OR_FAIL(tern_scratch_take(ctx, n * sizeof(float), "sums of a rank", &sums));
    p.sums = sums;
    if (tern_config_narrow(&a->config)) {
        narrow_bytes = tern_gemm_scratch(p.weight, rows);
        TERN_TRY_OR_FAIL(tern_scratch_take(ctx, narrow_bytes, "rows of a product", &p.narrow));
    }
    TERN_TRY_OR_FAIL(tern_region(ctx, product_region, &p));
    status = a->comm->all_reduce(a->comm->user, p.sums, n);
    if (status)
        status = tern_fail(ctx, status, "%s: all_reduce failed: %s", op, tern_status_name(status));
    else
        status = tern_region(ctx, store_region, &p);

fail:
    tern_scratch_give(ctx, p.narrow, narrow_bytes);
    tern_scratch_give(ctx, sums, n * sizeof(float));
    tern_stage_close(ctx, &p.stage);
    return status;
}

/* A tensor of one of the module's vectors. */
static tern_tensor vector(const float *data, int64_t n)
{
    return data ? tern_tensor_view((float *)(uintptr_t)data, TERN_FP32, 1, &n) : tern_tensor_none();
}

static tern_status check_tensors(tern_ctx *ctx, const tern_attention *a, const tern_tensor *input,
                                 const tern_tensor *output, const tern_tensor *norm, size_t *rows)
{
    const tern_dtype dtype = tern_config_activation(&a->config);
    const int64_t hidden = a->sizes.hidden;

    TERN_TRY(tern_check_float_rows(ctx, op, "input", input, dtype, -1, hidden, rows, NULL));
    TERN_TRY(tern_check_float_rows(ctx, op, "output", output, dtype, (int64_t)*rows, hidden, NULL, NULL));
    if (tern_given(norm)) {
        TERN_REQUIRE(ctx, a->config.pre_layer_norm, TERN_ERR_ARG,
                     "%s: norm is given in a post-LN block, expected none: its input is not normed", op);
        TERN_TRY(tern_check_float_rows(ctx, op, "norm", norm, dtype, (int64_t)*rows, hidden, NULL, NULL));
    }
    const struct tern_operand operands[] = { { "input", input, false, true },
                                             { "output", output, true, false },
                                             { "norm", norm, true, false } };
    return tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]);
}

tern_status tern_attention_forward(tern_ctx *ctx, const tern_attention *attention,
                                   const tern_attention_options *options, const tern_tensor *input,
                                   const tern_tensor *mask, const tern_tensor *alibi, tern_kv_cache *cache,
                                   int32_t cache_layer, const tern_kv_span *spans, size_t n_spans, tern_tensor *output,
                                   tern_tensor *norm)
{
    tern_attention_options with = options ? *options : tern_attention_options_default();
    const tern_attention *a = attention;
    size_t rows, bytes[3] = { 0 };
    void *memory[3] = { NULL };
    tern_status status;

    TERN_REQUIRE(ctx, ctx && a, TERN_ERR_ARG, "%s: %s is NULL", op, ctx ? "attention" : "ctx");
    TERN_TRY(check_tensors(ctx, a, input, output, norm, &rows));
    TERN_TRY(tern_attention_check_width(ctx, op, &a->bound, &with));

    const tern_config *config = &a->config;
    const tern_dtype dtype = tern_config_activation(config);
    const int64_t n = (int64_t)rows, width[3] = { a->bound.qkv_w->out, a->bound.out_w->in, a->sizes.hidden };
    const tern_tensor x = tern_tensor_view(input->data, dtype, 2, (int64_t[]){ n, a->sizes.hidden });
    const tern_tensor qkv_w = tern_weight_view(a->bound.qkv_w), out_w = tern_weight_view(a->bound.out_w);
    const tern_tensor qkv_b = vector(a->bound.qkv_b, width[0]), gamma = vector(a->bound.norm.gamma, width[2]),
                      beta = vector(a->bound.norm.beta, width[2]);
    tern_tensor made[3], out = tern_tensor_view(output->data, dtype, 2, (int64_t[]){ n, a->sizes.hidden });
    for (int i = 0; i < 3; i++) { /* qkv, context, and the normed rows, which are the caller's once nothing can fail */
        made[i] = tern_tensor_none();
        if (i == 2 && !tern_given(norm))
            continue;
        bytes[i] = tern_mul_or_max(rows, (size_t)width[i] * tern_dtype_size(dtype));
        TERN_TRY_OR_FAIL(tern_scratch_take(ctx, bytes[i], "rows of an attention", &memory[i]));
        made[i] = tern_tensor_view(memory[i], dtype, 2, (int64_t[]){ n, width[i] });
    }
    if (config->pre_layer_norm)
        TERN_TRY_OR_FAIL(tern_qkv_gemm(ctx, config, &x, &qkv_w, &qkv_b, &gamma, &beta, &made[0], &made[2]));
    else
        TERN_TRY_OR_FAIL(tern_linear(ctx, config, &x, &qkv_w, &qkv_b, &made[0]));
    TERN_TRY_OR_FAIL(
        tern_softmax_context(ctx, config, &with, &made[0], mask, alibi, cache, cache_layer, spans, n_spans, &made[1]));
    if (a->reduces && rows)
        TERN_TRY_OR_FAIL(reduced_product(ctx, a, &made[1], rows, &out));
    else
        TERN_TRY_OR_FAIL(tern_vector_matmul(ctx, config, &made[1], &out_w, &out));
    if (tern_given(norm) && rows)
        memcpy(norm->data, memory[2], bytes[2]);

fail:
    for (int i = 0; i < 3; i++)
        tern_scratch_give(ctx, memory[i], bytes[i]);
    return status;
}
