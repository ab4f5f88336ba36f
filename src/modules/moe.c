/* moe.c: the weights of a mixture of experts, checked and packed once. */
#include "modules/moe.h"

#include "ops/widen.h"

#include <math.h>
#include <stdio.h>

static const char op[] = "moe";

tern_moe_weights tern_moe_weights_none(void)
{
    const tern_tensor none = tern_tensor_none();

    return (tern_moe_weights){
        .gate_w = none,
        .inter_w = none,
        .inter_scale = none,
        .inter_b = none,
        .output_w = none,
        .output_scale = none,
        .output_b = none,
        .res_inter_w = none,
        .res_inter_scale = none,
        .res_inter_b = none,
        .res_output_w = none,
        .res_output_scale = none,
        .res_output_b = none,
        .res_coef_w = none,
        .res_coef_b = none,
    };
}

/* ---- checking ---- */

static tern_status check_op_config(tern_ctx *ctx, const tern_config *c)
{
    TERN_REQUIRE(ctx, c->dtype == TERN_FP32 || c->dtype == TERN_FP16 || c->dtype == TERN_BF16 || c->dtype == TERN_INT8,
                 TERN_ERR_UNSUPPORTED, "%s: dtype is %s, there is: fp32, fp16, bf16, int8", op,
                 tern_dtype_name(c->dtype));
    TERN_REQUIRE(ctx, c->device == TERN_CPU, TERN_ERR_UNSUPPORTED, "%s: device is %d, there is: cpu", op,
                 (int)c->device);
    TERN_REQUIRE(ctx, (int)c->kernel == TERN_KERNEL_AUTO || (int)c->kernel == TERN_KERNEL_REFERENCE, TERN_ERR_CONFIG,
                 "%s: kernel is %d, expected auto 0 or reference 1", op, (int)c->kernel);
    if (c->dtype == TERN_INT8) {
        TERN_REQUIRE(ctx,
                     c->activation_dtype == TERN_FP32 || c->activation_dtype == TERN_FP16 ||
                         c->activation_dtype == TERN_BF16,
                     TERN_ERR_CONFIG, "%s: activation_dtype is %s, expected fp32, fp16 or bf16", op,
                     tern_dtype_name(c->activation_dtype));
        TERN_REQUIRE(ctx, (int)c->activation_quant == TERN_QUANT_NONE || (int)c->activation_quant == TERN_QUANT_ROW,
                     TERN_ERR_CONFIG, "%s: activation_quant is %d, expected none 0 or row 1", op,
                     (int)c->activation_quant);
    }
    TERN_TRY(tern_check_config(ctx, op, c, TERN_READS_SIZES | TERN_READS_ACTIVATION));
    TERN_REQUIRE(ctx, c->mp_size == 1, TERN_ERR_CONFIG,
                 "%s: mp_size is %" PRId32 ", expected 1: ranks divide the experts and cut none of them", op,
                 c->mp_size);
    return TERN_OK;
}

/* X from the two numbers of experts and the number of ranks. */
static tern_status count_experts(tern_ctx *ctx, const tern_moe_config *m, int ranks, size_t *n_experts)
{
    int64_t all = m->global_experts, here = m->moe_experts;

    TERN_REQUIRE(ctx, all >= 1, TERN_ERR_CONFIG, "%s: global_experts is %" PRId64 ", expected 1 or more", op, all);
    TERN_REQUIRE(ctx, here >= 1, TERN_ERR_CONFIG, "%s: moe_experts is %" PRId64 ", expected 1 or more", op, here);
    if (all == 1)
        all = here * ranks;
    TERN_REQUIRE(ctx, all % ranks == 0, TERN_ERR_CONFIG,
                 "%s: global_experts is %" PRId64 ", expected a multiple of the %d ranks of comm", op, all, ranks);
    if (here == 1)
        here = all / ranks;
    TERN_REQUIRE(ctx, here * ranks == all, TERN_ERR_CONFIG,
                 "%s: moe_experts is %" PRId64 ", expected %" PRId64 ", global_experts %" PRId64
                 " divided among %d ranks",
                 op, here, all / ranks, all, ranks);
    TERN_REQUIRE(ctx, all <= INT32_MAX, TERN_ERR_CONFIG, "%s: %" PRId64 " experts in all, expected %d at most", op, all,
                 INT32_MAX);
    *n_experts = (size_t)all;
    return TERN_OK;
}

static tern_status check_moe_config(tern_ctx *ctx, const tern_moe_config *m, int ranks, size_t *n_experts)
{
    static const char *const noises[] = { "None", "Jitter", "RSample" };
    const int noise = (int)m->noisy_gate_policy, form = (int)m->mlp_type, drop = (int)m->drop_policy;

    TERN_TRY(TERN_CHECK_RESERVED(ctx, op, m));
    TERN_TRY(count_experts(ctx, m, ranks, n_experts));
    TERN_REQUIRE(ctx, m->k >= 1 && (size_t)m->k <= *n_experts, TERN_ERR_CONFIG,
                 "%s: k is %" PRId32 ", expected 1..%zu experts", op, m->k, *n_experts);
    TERN_REQUIRE(ctx, isfinite(m->capacity_factor) && m->capacity_factor >= 0, TERN_ERR_CONFIG,
                 "%s: capacity_factor is %g, expected a finite number, 0 or more", op, m->capacity_factor);
    TERN_REQUIRE(ctx, isfinite(m->eval_capacity_factor) && m->eval_capacity_factor >= 0, TERN_ERR_CONFIG,
                 "%s: eval_capacity_factor is %g, expected a finite number, 0 or more", op, m->eval_capacity_factor);
    TERN_REQUIRE(ctx, m->min_capacity >= 0, TERN_ERR_CONFIG, "%s: min_capacity is %" PRId32 ", expected 0 or more", op,
                 m->min_capacity);
    TERN_REQUIRE(ctx, noise >= TERN_MOE_NO_NOISE && noise <= TERN_MOE_RSAMPLE, TERN_ERR_CONFIG,
                 "%s: noisy_gate_policy is %d, expected None 0, Jitter 1 or RSample 2", op, noise);
    TERN_REQUIRE(ctx, noise == TERN_MOE_NO_NOISE, TERN_ERR_UNSUPPORTED,
                 "%s: noisy_gate_policy is %s, there is: None (the gate depends on its input alone)", op,
                 noises[noise]);
    TERN_REQUIRE(ctx, !m->use_rts, TERN_ERR_UNSUPPORTED,
                 "%s: use_rts is true, there is: false (dropped tokens are not drawn)", op);
    TERN_REQUIRE(ctx, form == TERN_MOE_STANDARD || form == TERN_MOE_RESIDUAL, TERN_ERR_CONFIG,
                 "%s: mlp_type is %d, expected standard 0 or residual 1", op, form);
    TERN_REQUIRE(ctx, m->normalize >= -1 && m->normalize <= 1, TERN_ERR_CONFIG,
                 "%s: normalize is %" PRId32 ", expected 1, 0 or -1 (unset)", op, m->normalize);
    TERN_REQUIRE(ctx, drop == TERN_MOE_DROP_ORDER || drop == TERN_MOE_DROP_PROBS, TERN_ERR_CONFIG,
                 "%s: drop_policy is %d, expected order 0 or probs 1", op, drop);
    return TERN_OK;
}

static tern_status check_comm(tern_ctx *ctx, const tern_comm *comm)
{
    TERN_REQUIRE(ctx, comm->size >= 1 && comm->rank >= 0 && comm->rank < comm->size, TERN_ERR_CONFIG,
                 "%s: comm is rank %d of %d, expected a rank from 0 to its size less 1", op, comm->rank, comm->size);
    TERN_REQUIRE(ctx, comm->size == 1 || comm->all_reduce, TERN_ERR_ARG,
                 "%s: comm has no all_reduce, expected one for %d ranks", op, comm->size);
    return TERN_OK;
}

/* A matrix, or one for each expert. */
struct matrix {
    const char *name, *scale_name;
    const tern_tensor *raw, *scale;
    const tern_weight *const *packed; /* or NULL */
    size_t n;                         /* 0: the dense one, without an axis of experts */
    int64_t in, out;
};

/* Matrix `expert` of those that are packed; the dense one has no number. */
static tern_status check_packed(tern_ctx *ctx, const tern_config *c, const struct matrix *m, size_t expert,
                                const tern_weight *w)
{
    const tern_tensor view = tern_weight_view(w);
    char name[40];

    snprintf(name, sizeof name, m->n ? "%s[%zu]" : "%s", m->name, expert);
    TERN_REQUIRE(ctx, w, TERN_ERR_ARG, "%s: %s packed is NULL, expected a matrix [%" PRId64 ", %" PRId64 "]", op, name,
                 m->in, m->out);
    return tern_check_matrix(ctx, op, name, &view, c, m->in, m->out, NULL);
}

static tern_status check_scale(tern_ctx *ctx, const struct matrix *m)
{
    const bool one = m->n == 0;
    const int64_t any[] = { one ? -1 : (int64_t)m->n, -1 };

    TERN_REQUIRE(ctx, tern_given(m->scale), TERN_ERR_ARG,
                 "%s: %s is not there, expected the scales of %s, which is int8", op, m->scale_name, m->name);
    TERN_TRY(tern_check_tensor(ctx, op, m->scale_name, m->scale, TERN_FP32));
    TERN_TRY(tern_check_dims(ctx, op, m->scale_name, m->scale, one ? 1 : 2, any));
    const int64_t groups = m->scale->dim[!one];
    TERN_REQUIRE(ctx, groups >= 1 && m->out % groups == 0, TERN_ERR_SHAPE,
                 "%s: %s has %" PRId64 " scales, expected a divisor of the %" PRId64 " output channels of %s", op,
                 m->scale_name, groups, m->out, m->name);
    for (size_t i = 0; i < tern_elements(m->scale); i++)
        TERN_REQUIRE(ctx, isfinite(((const float *)m->scale->data)[i]), TERN_ERR_ARG,
                     "%s: %s has %g at %zu, expected finite numbers", op, m->scale_name,
                     (double)((const float *)m->scale->data)[i], i);
    return TERN_OK;
}

static tern_status check_matrix(tern_ctx *ctx, const tern_config *c, const struct matrix *m)
{
    const tern_tensor *t = m->raw;
    const bool one = m->n == 0, flip = c->transposed_mode;
    const int64_t dims[] = { (int64_t)m->n, flip ? m->out : m->in, flip ? m->in : m->out };
    const bool packed = m->packed || (tern_given(t) && t->packed);

    TERN_REQUIRE(ctx, m->packed || tern_given(t), TERN_ERR_ARG,
                 "%s: %s is not there, expected matrices %" PRId64 " in, %" PRId64 " out", op, m->name, m->in, m->out);
    TERN_REQUIRE(ctx, !m->packed || !tern_given(t), TERN_ERR_ARG,
                 "%s: %s is given both raw and packed, expected one of them", op, m->name);
    TERN_REQUIRE(ctx, !tern_given(m->scale) || (!packed && c->dtype == TERN_INT8), TERN_ERR_ARG,
                 "%s: %s is given for a %s, expected none", op, m->scale_name,
                 packed ? "packed matrix" : tern_dtype_name(c->dtype));
    if (m->packed) {
        for (size_t e = 0; e < m->n; e++)
            TERN_TRY(check_packed(ctx, c, m, e, m->packed[e]));
        return TERN_OK;
    }
    if (packed) {
        TERN_REQUIRE(ctx, one, TERN_ERR_SHAPE, "%s: %s is one packed matrix, expected one for each of %zu experts", op,
                     m->name, m->n);
        TERN_TRY(tern_check_weight(ctx, op, m->name, t, false, m->in, m->out, NULL));
        return check_packed(ctx, c, m, 0, t->packed);
    }
    if (c->dtype == TERN_FP32)
        TERN_TRY(tern_check_float(ctx, op, m->name, t, TERN_ANY_FLOAT, false));
    else
        TERN_TRY(tern_check_tensor(ctx, op, m->name, t, c->dtype));
    TERN_TRY(tern_check_dims(ctx, op, m->name, t, one ? 2 : 3, dims + one));
    return c->dtype == TERN_INT8 ? check_scale(ctx, m) : TERN_OK;
}

enum { INTER, OUTPUT, RES_INTER, RES_OUTPUT, N_MATRICES };
enum { INTER_B, OUTPUT_B, RES_INTER_B, RES_OUTPUT_B, RES_COEF_B, N_VECTORS };

/* A bias, or one for each expert. */
struct vector {
    const char *name;
    const tern_tensor *from;
    size_t n; /* 0: without an axis of experts */
    int64_t size;
};

static tern_status check_vector(tern_ctx *ctx, const struct vector *v)
{
    const int64_t dims[] = { (int64_t)v->n, v->size };

    if (!tern_given(v->from))
        return TERN_OK;
    TERN_TRY(tern_check_float(ctx, op, v->name, v->from, TERN_ANY_FLOAT, false));
    return tern_check_dims(ctx, op, v->name, v->from, v->n ? 2 : 1, dims + !v->n);
}

/* Gate and coefficients: raw, in any float. */
static tern_status check_fp32_matrix(tern_ctx *ctx, const struct tern_moe *m, const char *name, const tern_tensor *t,
                                     size_t out)
{
    const int64_t in = (int64_t)m->hidden;

    TERN_REQUIRE(ctx, tern_given(t), TERN_ERR_ARG, "%s: %s is not there, expected a matrix %" PRId64 " in, %zu out", op,
                 name, in, out);
    TERN_REQUIRE(ctx, !t->packed, TERN_ERR_ARG, "%s: %s is a packed weight, expected plain numbers", op, name);
    return tern_check_weight(ctx, op, name, t, m->config.transposed_mode, in, (int64_t)out, NULL);
}

/* ---- binding ---- */

/* In its own size: exact for every dtype that a matrix may have. */
static tern_status pack(tern_ctx *ctx, const tern_config *c, const struct matrix *m, size_t expert, tern_weight **out)
{
    const bool flip = c->transposed_mode, codes = m->raw->dtype == TERN_INT8;
    const int64_t dims[] = { flip ? m->out : m->in, flip ? m->in : m->out };
    const int64_t groups = codes ? m->scale->dim[m->n != 0] : 0;
    const size_t bytes = (size_t)m->in * (size_t)m->out * tern_dtype_size(m->raw->dtype);
    const tern_tensor raw = tern_tensor_view((char *)m->raw->data + expert * bytes, m->raw->dtype, 2, dims);
    const tern_tensor scale =
        codes ? tern_tensor_view((float *)m->scale->data + expert * (size_t)groups, TERN_FP32, 1, &groups)
              : tern_tensor_none();

    return tern_weight_pack_as(ctx, &raw, flip, raw.dtype, &scale, out);
}

/* Matrix `expert` of m: the packed one, or one packed now. */
static tern_status take(tern_ctx *ctx, const tern_config *c, const struct matrix *m, size_t expert,
                        const tern_weight **weight, tern_weight **owned)
{
    if (!m->packed && !m->raw->packed)
        TERN_TRY(pack(ctx, c, m, expert, owned));
    *weight = m->packed ? m->packed[expert] : m->raw->packed ? m->raw->packed : *owned;
    /* Packed ones are checked; codes packed here lack integer products where they are too many to add. */
    TERN_REQUIRE(ctx, c->dtype != TERN_INT8 || !tern_config_narrow(c) || tern_weight_has_rows_q8(*weight),
                 TERN_ERR_UNSUPPORTED,
                 "%s: %s has %" PRId64 " inputs, which activation_quant row cannot add up, expected 131072 at most", op,
                 m->name, m->in);
    return TERN_OK;
}

static tern_status take_experts(tern_ctx *ctx, struct tern_moe *m, const struct matrix *matrices)
{
    for (size_t e = 0; e < m->n_here + m->residual; e++) {
        const bool dense = e == m->n_here;
        struct tern_expert *x = &m->experts[e];
        const struct matrix *inter = &matrices[dense ? RES_INTER : INTER], *output = inter + 1;
        x->feed_forward.activation = m->config.mlp_act_func_type;
        x->feed_forward.gelu = m->config.gelu;
        TERN_TRY(take(ctx, &m->config, inter, dense ? 0 : e, &x->feed_forward.up, &x->owned_up));
        TERN_TRY(take(ctx, &m->config, output, dense ? 0 : e, &x->feed_forward.down, &x->owned_down));
    }
    return TERN_OK;
}

/* Copies a vector as fp32 and steps over the copy; NULL for one that is absent. */
static const float *copy_vector(tern_ctx *ctx, const struct vector *v, float **to)
{
    const float *copy = *to;

    if (!tern_given(v->from))
        return NULL;
    const size_t n = tern_elements(v->from);
    tern_widen(ctx->kernels, *to, v->from->data, v->from->dtype, n);
    *to += n;
    return copy;
}

static tern_status take_vectors(tern_ctx *ctx, struct tern_moe *m, const struct vector *vectors, size_t n_vectors)
{
    const float *copies[N_VECTORS] = { NULL };
    size_t n = 0;

    for (size_t i = 0; i < n_vectors; i++)
        n += tern_given(vectors[i].from) ? tern_elements(vectors[i].from) : 0;
    TERN_TRY(TERN_ALLOC(ctx, n, "biases of a mixture of experts", &m->vectors));
    float *to = m->vectors;
    for (size_t i = 0; i < n_vectors; i++)
        copies[i] = copy_vector(ctx, &vectors[i], &to);
    for (size_t e = 0; e < m->n_here; e++) {
        m->experts[e].feed_forward.up_bias = copies[INTER_B] ? copies[INTER_B] + e * m->up : NULL;
        m->experts[e].down_b = copies[OUTPUT_B] ? copies[OUTPUT_B] + e * m->hidden : NULL;
    }
    if (m->residual) {
        m->experts[m->n_here].feed_forward.up_bias = copies[RES_INTER_B];
        m->experts[m->n_here].down_b = copies[RES_OUTPUT_B];
        m->coef_b = copies[RES_COEF_B];
    }
    return TERN_OK;
}

/* Without the residual form none of its weights may be there: a mixture that leaves them out would go unnoticed. */
static tern_status check_no_residual(tern_ctx *ctx, const tern_moe_weights *w)
{
    const struct {
        const char *name;
        const tern_tensor *tensor;
    } all[] = {
        { "res_inter_w", &w->res_inter_w },
        { "res_inter_w_scale", &w->res_inter_scale },
        { "res_inter_b", &w->res_inter_b },
        { "res_output_w", &w->res_output_w },
        { "res_output_w_scale", &w->res_output_scale },
        { "res_output_b", &w->res_output_b },
        { "res_coef_w", &w->res_coef_w },
        { "res_coef_b", &w->res_coef_b },
    };

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        TERN_REQUIRE(ctx, !tern_given(all[i].tensor), TERN_ERR_ARG,
                     "%s: %s is given with mlp_type standard, expected none (or residual)", op, all[i].name);
    return TERN_OK;
}

static tern_status bind(tern_ctx *ctx, struct tern_moe *m, const tern_moe_weights *w)
{
    const int64_t hidden = (int64_t)m->hidden, inner = (int64_t)m->inner, up = (int64_t)m->up;
    const struct matrix matrices[N_MATRICES] = {
        [INTER] = { "inter_w", "inter_w_scale", &w->inter_w, &w->inter_scale, w->inter_packed, m->n_here, hidden, up },
        [OUTPUT] = { "output_w", "output_w_scale", &w->output_w, &w->output_scale, w->output_packed, m->n_here, inner,
                     hidden },
        [RES_INTER] = { "res_inter_w", "res_inter_w_scale", &w->res_inter_w, &w->res_inter_scale, NULL, 0, hidden, up },
        [RES_OUTPUT] = { "res_output_w", "res_output_w_scale", &w->res_output_w, &w->res_output_scale, NULL, 0, inner,
                         hidden },
    };
    const struct vector vectors[N_VECTORS] = {
        [INTER_B] = { "inter_b", &w->inter_b, m->n_here, up },
        [OUTPUT_B] = { "output_b", &w->output_b, m->n_here, hidden },
        [RES_INTER_B] = { "res_inter_b", &w->res_inter_b, 0, up },
        [RES_OUTPUT_B] = { "res_output_b", &w->res_output_b, 0, hidden },
        [RES_COEF_B] = { "res_coef_b", &w->res_coef_b, 0, 2 },
    };
    const size_t n_matrices = m->residual ? N_MATRICES : RES_INTER, n_vectors = m->residual ? N_VECTORS : RES_INTER_B;

    TERN_TRY(check_fp32_matrix(ctx, m, "gate_w", &w->gate_w, m->n_experts));
    for (size_t i = 0; i < n_matrices; i++)
        TERN_TRY(check_matrix(ctx, &m->config, &matrices[i]));
    for (size_t i = 0; i < n_vectors; i++)
        TERN_TRY(check_vector(ctx, &vectors[i]));
    if (m->residual)
        TERN_TRY(check_fp32_matrix(ctx, m, "res_coef_w", &w->res_coef_w, 2));
    else
        TERN_TRY(check_no_residual(ctx, w));

    TERN_TRY(TERN_ALLOC(ctx, m->n_here + m->residual, "experts", &m->experts));
    TERN_TRY(take_experts(ctx, m, matrices));
    TERN_TRY(take_vectors(ctx, m, vectors, n_vectors));
    TERN_TRY(tern_weight_pack(ctx, &w->gate_w, m->config.transposed_mode, &m->gate));
    if (m->residual)
        TERN_TRY(tern_weight_pack(ctx, &w->res_coef_w, m->config.transposed_mode, &m->coef));
    return TERN_OK;
}

tern_status tern_moe_create(tern_ctx *ctx, const tern_config *config, const tern_moe_config *moe, const tern_comm *comm,
                            const tern_moe_weights *weights, tern_moe **out)
{
    struct tern_moe *m = NULL;
    size_t n_experts = 0;
    tern_status status;

    TERN_REQUIRE(ctx, out, TERN_ERR_ARG, "%s: out is NULL", op);
    *out = NULL;
    TERN_REQUIRE(ctx, ctx && config && moe && weights, TERN_ERR_ARG, "%s: %s is NULL", op,
                 !ctx      ? "ctx"
                 : !config ? "config"
                 : !moe    ? "moe"
                           : "weights");
    if (!comm)
        comm = tern_comm_self();
    TERN_TRY(check_comm(ctx, comm));
    TERN_TRY(check_op_config(ctx, config));
    TERN_TRY(check_moe_config(ctx, moe, comm->size, &n_experts));

    TERN_TRY(TERN_ALLOC(ctx, 1, "a mixture of experts", &m));
    m->config = *config;
    m->moe = *moe;
    m->comm = comm;
    m->hidden = (size_t)config->hidden_size;
    m->inner = config->intermediate_size > 0 ? (size_t)config->intermediate_size : 4 * m->hidden;
    m->up = tern_is_gated(config->mlp_act_func_type) ? 2 * m->inner : m->inner;
    m->n_experts = n_experts;
    m->n_here = n_experts / (size_t)comm->size;
    m->first = m->n_here * (size_t)comm->rank;
    m->residual = moe->mlp_type == TERN_MOE_RESIDUAL;
    m->normalize = moe->normalize < 0 ? moe->k > 1 : moe->normalize;
    TERN_TRY_OR_FAIL(bind(ctx, m, weights));
    *out = m;
    return TERN_OK;

fail:
    tern_moe_destroy(&m);
    return status;
}

void tern_moe_destroy(tern_moe **moe)
{
    struct tern_moe *m = moe ? *moe : NULL;

    if (!m)
        return;
    for (size_t e = 0; m->experts && e < m->n_here + m->residual; e++) {
        tern_weight_destroy(&m->experts[e].owned_up);
        tern_weight_destroy(&m->experts[e].owned_down);
    }
    tern_weight_destroy(&m->gate);
    tern_weight_destroy(&m->coef);
    tern_free(m->experts);
    tern_free(m->vectors);
    tern_free(m);
    *moe = NULL;
}
