/* checks.c: tensors and configs against what an operator expects. */
#include "ops/checks.h"

#include "base/fpmode.h"

#include <math.h>
#include <stdio.h>

struct tern_dims_text tern_dims_text(const tern_tensor *t)
{
    struct tern_dims_text s;
    size_t used = 0;

    if (t->rank < 0 || t->rank > TERN_MAX_RANK) {
        snprintf(s.text, sizeof s.text, "rank %d", t->rank);
        return s;
    }
    s.text[used++] = '[';
    for (int i = 0; i < t->rank; i++)
        used += (size_t)snprintf(s.text + used, sizeof s.text - used, i ? ", %" PRId64 : "%" PRId64, t->dim[i]);
    s.text[used++] = ']';
    s.text[used] = '\0';
    return s;
}

/* Shape and strides, and the number of elements; what data points to is the caller's question. */
static tern_status check_layout(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t, size_t *elements)
{
    size_t n = 1;

    TERN_REQUIRE(ctx, t, TERN_ERR_ARG, "%s: %s is NULL, expected a tensor", op, name);
    TERN_REQUIRE(ctx, t->rank >= 0 && t->rank <= TERN_MAX_RANK, TERN_ERR_SHAPE, "%s: %s has rank %d, expected 0..%d",
                 op, name, t->rank, TERN_MAX_RANK);
    for (int i = t->rank - 1; i >= 0; i--) {
        TERN_REQUIRE(ctx, t->dim[i] >= 0, TERN_ERR_SHAPE,
                     "%s: %s has %" PRId64 " elements along axis %d, expected 0 or more", op, name, t->dim[i], i);
        /* An axis of one element is never stepped along, one without elements counts as one. */
        TERN_REQUIRE(ctx, t->dim[i] <= 1 || t->stride[i] == (int64_t)n, TERN_ERR_SHAPE,
                     "%s: %s has stride %" PRId64 " along axis %d, expected %zu (dense)", op, name, t->stride[i], i, n);
        if (t->dim[i] > 1)
            TERN_REQUIRE(ctx, tern_size_mul(n, (size_t)t->dim[i], &n) && n <= PTRDIFF_MAX / 8, TERN_ERR_SHAPE,
                         "%s: %s is %s, more elements than there can be", op, name, tern_dims_text(t).text);
    }
    for (int i = 0; i < t->rank; i++)
        if (t->dim[i] == 0)
            n = 0;
    *elements = n;
    return TERN_OK;
}

static tern_status check_data(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t, size_t elements)
{
    const size_t size = tern_dtype_size(t->dtype);

    TERN_REQUIRE(ctx, t->data || elements == 0, TERN_ERR_ARG, "%s: %s has NULL data, expected %zu elements", op, name,
                 elements);
    TERN_REQUIRE(ctx, (uintptr_t)t->data % size == 0, TERN_ERR_ARG,
                 "%s: %s starts at an address that is %zu past a multiple of %zu, expected alignment to its elements",
                 op, name, (size_t)((uintptr_t)t->data % size), size);
    return TERN_OK;
}

tern_status tern_check_tensor(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t, tern_dtype dtype)
{
    size_t elements;

    TERN_TRY(check_layout(ctx, op, name, t, &elements));
    TERN_REQUIRE(ctx, !t->packed, TERN_ERR_ARG, "%s: %s is a packed weight, expected plain numbers", op, name);
    TERN_REQUIRE(ctx, t->dtype == dtype, TERN_ERR_DTYPE, "%s: %s is %s, expected %s", op, name,
                 tern_dtype_name(t->dtype), tern_dtype_name(dtype));
    return check_data(ctx, op, name, t, elements);
}

/* dtypes: one bit for each that a raw matrix may have. */
static tern_status check_weight(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t, bool transposed,
                                unsigned dtypes, const char *expected, int64_t in, int64_t out, int64_t *found_out)
{
    size_t elements;

    TERN_TRY(check_layout(ctx, op, name, t, &elements));
    TERN_REQUIRE(ctx, t->rank == 2, TERN_ERR_SHAPE, "%s: %s is %s, expected a matrix", op, name,
                 tern_dims_text(t).text);
    if (t->packed) {
        TERN_REQUIRE(ctx, t->dim[0] == t->packed->in && t->dim[1] == t->packed->out, TERN_ERR_SHAPE,
                     "%s: %s is a view %s of a packed weight [%" PRId64 ", %" PRId64 "], expected the same shape", op,
                     name, tern_dims_text(t).text, t->packed->in, t->packed->out);
        transposed = false;
    } else {
        TERN_REQUIRE(ctx, (unsigned)t->dtype < 32 && dtypes >> t->dtype & 1, TERN_ERR_DTYPE,
                     "%s: %s is %s, expected %s", op, name, tern_dtype_name(t->dtype), expected);
        TERN_TRY(check_data(ctx, op, name, t, elements));
    }
    const int64_t found_in = t->dim[transposed], found = t->dim[!transposed];
    TERN_REQUIRE(ctx, (in < 0 || found_in == in) && (out < 0 || found == out), TERN_ERR_SHAPE,
                 "%s: %s is %s ([%s]): %" PRId64 " in, %" PRId64 " out, expected %" PRId64 " in, %" PRId64 " out", op,
                 name, tern_dims_text(t).text, transposed ? "out, in" : "in, out", found_in, found,
                 in < 0 ? found_in : in, out < 0 ? found : out);
    if (found_out)
        *found_out = found;
    return TERN_OK;
}

#define ANY_FLOAT (1u << TERN_FP32 | 1u << TERN_FP16 | 1u << TERN_BF16)

tern_status tern_check_weight(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t, bool transposed,
                              int64_t in, int64_t out, int64_t *found_out)
{
    return check_weight(ctx, op, name, t, transposed, ANY_FLOAT, "fp32, fp16 or bf16", in, out, found_out);
}

tern_status tern_check_matrix(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t,
                              const tern_config *config, int64_t in, int64_t out, int64_t *found_out)
{
    static const struct {
        unsigned raw, packed; /* one bit for each dtype, each format */
        const char *raw_text, *packed_text;
    } known[] = {
        [TERN_FP32] = { ANY_FLOAT, 1u << TERN_WEIGHT_F32 | 1u << TERN_WEIGHT_F16 | 1u << TERN_WEIGHT_BF16,
                        "fp32, fp16 or bf16", "one of fp32, fp16 or bf16" },
        [TERN_FP16] = { 1u << TERN_FP16, 1u << TERN_WEIGHT_F32 | 1u << TERN_WEIGHT_F16, "fp16", "one of fp16 or fp32" },
        [TERN_BF16] = { 1u << TERN_BF16, 1u << TERN_WEIGHT_BF16, "bf16", "one of bf16" },
        [TERN_INT8] = { 0, ~(1u << TERN_WEIGHT_F32 | 1u << TERN_WEIGHT_F16 | 1u << TERN_WEIGHT_BF16),
                        "a packed int8 weight (by name: raw int8 with its scales)", "a quantised one" },
    };
    const int dtype = (int)config->dtype;

    TERN_TRY(check_weight(ctx, op, name, t, config->transposed_mode, known[dtype].raw, known[dtype].raw_text, in, out,
                          found_out));
    TERN_REQUIRE(ctx, !t->packed || known[dtype].packed >> t->packed->format & 1, TERN_ERR_DTYPE,
                 "%s: %s is a packed weight that does not fit dtype %s, expected %s", op, name,
                 tern_dtype_name(config->dtype), known[dtype].packed_text);
    const bool rows_q8 = config->dtype == TERN_INT8 && tern_config_narrow(config);
    TERN_REQUIRE(ctx, !t->packed || !rows_q8 || tern_weight_has_rows_q8(t->packed), TERN_ERR_UNSUPPORTED,
                 "%s: %s is a quantised weight that has no product with rows of int8 (activation_quant row), expected "
                 "symmetric codes of 8 bits with scales that hold for equal parts of each output channel, 4 to 131072 "
                 "inputs long",
                 op, name);
    return TERN_OK;
}

tern_status tern_bind_matrix(tern_ctx *ctx, const tern_tensor *t, const tern_config *config, const tern_weight **weight,
                             tern_weight **owned)
{
    *owned = NULL;
    if (!t->packed)
        TERN_TRY(tern_weight_pack_as(ctx, t, config->transposed_mode, t->dtype, NULL, owned));
    *weight = t->packed ? t->packed : *owned;
    return TERN_OK;
}

tern_status tern_check_scales(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t, int64_t matrices,
                              int64_t out)
{
    char scale[64];
    int64_t groups = 1;

    snprintf(scale, sizeof scale, "%.48s_scale", name);
    TERN_TRY(tern_check_tensor(ctx, op, scale, t, TERN_FP32));
    for (int i = 0; i < t->rank; i++)
        groups *= t->dim[i];
    TERN_REQUIRE(
        ctx, t->rank >= 1 && matrices >= 0 && (t->rank == 1 ? matrices == 1 : t->dim[0] == matrices || matrices == 1),
        TERN_ERR_SHAPE, "%s: %s is %s, expected a row of scales for each of %" PRId64 " matrices", op, scale,
        tern_dims_text(t).text, matrices);
    const int64_t each = matrices ? groups / matrices : 1;
    TERN_REQUIRE(ctx, each >= 1 && out % each == 0, TERN_ERR_SHAPE,
                 "%s: %s is %s, %" PRId64 " values for %" PRId64
                 " output channels, expected a number that divides them",
                 op, scale, tern_dims_text(t).text, each, out);
    for (int64_t g = 0; g < groups; g++)
        TERN_REQUIRE(ctx, isfinite(((const float *)t->data)[g]), TERN_ERR_ARG,
                     "%s: %s has %g at %" PRId64 ", expected a finite number", op, scale,
                     (double)((const float *)t->data)[g], g);
    return TERN_OK;
}

tern_status tern_pack_int8(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t, bool transposed,
                           const tern_tensor *scales, tern_weight **out)
{
    TERN_TRY(check_weight(ctx, op, name, t, transposed, 1u << TERN_INT8, "int8", -1, -1, NULL));
    TERN_TRY(tern_check_scales(ctx, op, name, scales, 1, t->dim[!transposed]));
    return tern_weight_pack_as(ctx, t, transposed, TERN_INT8, scales, out);
}

/* First byte and size of a checked tensor's numbers; 0 bytes for what is packed. */
static size_t extent(const tern_tensor *t, uintptr_t *begin)
{
    size_t bytes = t->packed ? 0 : tern_dtype_size(t->dtype);

    for (int i = 0; i < t->rank; i++)
        bytes *= (size_t)t->dim[i];
    *begin = (uintptr_t)t->data;
    return bytes;
}

tern_status tern_check_overlaps(tern_ctx *ctx, const char *op, const struct tern_operand *operands, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct tern_operand *out = &operands[i];
        if (!out->output || !tern_given(out->tensor))
            continue;
        for (size_t j = 0; j < n; j++) {
            const struct tern_operand *other = &operands[j];
            uintptr_t a, b;
            if (j == i || !tern_given(other->tensor) || (other->output && j < i))
                continue;
            const size_t a_bytes = extent(out->tensor, &a), b_bytes = extent(other->tensor, &b);
            if (!a_bytes || !b_bytes || a + a_bytes <= b || b + b_bytes <= a)
                continue;
            if (other->may_be_output && a == b && a_bytes == b_bytes)
                continue;
            return tern_fail(ctx, TERN_ERR_ARG, "%s: %s overlaps %s, expected %s", op, out->name, other->name,
                             other->may_be_output ? "the same memory or none in common" : "no memory in common");
        }
    }
    return TERN_OK;
}

/* ---- configs ---- */

static tern_status check_mp(tern_ctx *ctx, const char *op, const tern_config *c)
{
    TERN_REQUIRE(ctx, c->mp_size >= 1, TERN_ERR_CONFIG, "%s: mp_size is %" PRId32 ", expected 1 or more", op,
                 c->mp_size);
    return TERN_OK;
}

static tern_status check_norm(tern_ctx *ctx, const char *op, const tern_config *c)
{
    TERN_REQUIRE(ctx, isfinite(c->layer_norm_eps) && c->layer_norm_eps >= 0, TERN_ERR_CONFIG,
                 "%s: layer_norm_eps is %g, expected a finite number, 0 or more", op, (double)c->layer_norm_eps);
    TERN_REQUIRE(ctx, c->pre_layer_norm || c->norm_type != TERN_RMS_NORM, TERN_ERR_UNSUPPORTED,
                 "%s: norm_type is RMSNorm and pre_layer_norm is false, there is: LayerNorm in a post-LN block", op);
    return TERN_OK;
}

static tern_status check_gelu(tern_ctx *ctx, const char *op, const tern_config *c)
{
    const int gelu = (int)c->gelu;

    TERN_REQUIRE(ctx, gelu >= TERN_GELU_UNSET && gelu <= TERN_GELU_SIGMOID, TERN_ERR_CONFIG,
                 "%s: gelu is %d, expected unset 0, tanh 1, erf 2 or sigmoid 3", op, gelu);
    return TERN_OK;
}

static tern_status check_activation(tern_ctx *ctx, const char *op, const tern_config *c)
{
    const int act = (int)c->mlp_act_func_type;

    TERN_REQUIRE(ctx, act >= TERN_GELU && act <= TERN_GATED_SILU, TERN_ERR_CONFIG,
                 "%s: mlp_act_func_type is %d, expected GELU 1, ReLU 2, GATED_GELU 3 or GATED_SILU 4", op, act);
    return check_gelu(ctx, op, c);
}

static tern_status check_heads(tern_ctx *ctx, const char *op, const tern_config *c)
{
    TERN_TRY(check_mp(ctx, op, c));
    TERN_REQUIRE(ctx, c->hidden_size >= 1, TERN_ERR_CONFIG, "%s: hidden_size is %" PRId64 ", expected 1 or more", op,
                 c->hidden_size);
    TERN_REQUIRE(ctx, c->heads >= 1 && c->hidden_size % c->heads == 0, TERN_ERR_CONFIG,
                 "%s: heads is %" PRId32 ", expected a divisor of hidden_size %" PRId64, op, c->heads, c->hidden_size);
    TERN_REQUIRE(ctx, c->hidden_size / c->heads <= 512, TERN_ERR_CONFIG,
                 "%s: hidden_size %" PRId64 " and heads %" PRId32 " make heads of %" PRId64
                 " values, expected 512 at most",
                 op, c->hidden_size, c->heads, c->hidden_size / c->heads);
    TERN_REQUIRE(ctx, c->num_kv != 0 && (c->num_kv < 0 || c->heads % c->num_kv == 0), TERN_ERR_CONFIG,
                 "%s: num_kv is %" PRId32 ", expected a divisor of heads %" PRId32 ", or -1 for as many", op, c->num_kv,
                 c->heads);
    const int32_t kv = c->num_kv < 0 ? c->heads : c->num_kv;
    TERN_REQUIRE(ctx, c->heads % c->mp_size == 0 && kv % c->mp_size == 0, TERN_ERR_CONFIG,
                 "%s: mp_size is %" PRId32 ", expected a divisor of heads %" PRId32 " and of num_kv %" PRId32, op,
                 c->mp_size, c->heads, kv);
    return TERN_OK;
}

/* Which channels turn together, and how fast. */
static tern_status check_pairs(tern_ctx *ctx, const char *op, const tern_config *c)
{
    TERN_REQUIRE(ctx, c->rotate_every_two >= -1 && c->rotate_every_two <= 1, TERN_ERR_CONFIG,
                 "%s: rotate_every_two is %" PRId32 ", expected 1, 0 or -1 (unset)", op, c->rotate_every_two);
    TERN_REQUIRE(ctx, !(c->rotate_half && c->rotate_every_two == 1), TERN_ERR_CONFIG,
                 "%s: rotate_half and rotate_every_two are both set, expected one of them", op);
    TERN_REQUIRE(ctx, c->rotate_half || c->rotate_every_two != 0, TERN_ERR_CONFIG,
                 "%s: rotary_dim is %" PRId32
                 " and neither rotate_half nor rotate_every_two is set, expected one of them",
                 op, c->rotary_dim);
    TERN_REQUIRE(ctx, isfinite(c->rope_theta) && c->rope_theta > 1, TERN_ERR_CONFIG,
                 "%s: rope_theta is %g, expected more than 1", op, (double)c->rope_theta);
    return TERN_OK;
}

static tern_status check_attention(tern_ctx *ctx, const char *op, const tern_config *c)
{
    const int64_t head_dim = c->hidden_size / c->heads;

    if (c->rotary_dim > 0) {
        TERN_REQUIRE(ctx, c->rotary_dim % 2 == 0 && c->rotary_dim <= head_dim, TERN_ERR_CONFIG,
                     "%s: rotary_dim is %" PRId32 ", expected an even number up to %" PRId64 ", the width of a head",
                     op, c->rotary_dim, head_dim);
        TERN_TRY(check_pairs(ctx, op, c));
    }
    TERN_REQUIRE(ctx, !c->local_attention || c->window_size >= 1, TERN_ERR_CONFIG,
                 "%s: window_size is %" PRId32 " with local_attention, expected 1 or more", op, c->window_size);
    TERN_REQUIRE(ctx, !c->scale_attn_by_inverse_layer_idx || c->layer_id >= 0, TERN_ERR_CONFIG,
                 "%s: layer_id is %" PRId32 " with scale_attn_by_inverse_layer_idx, expected 0 or more", op,
                 c->layer_id);
    TERN_REQUIRE(ctx, !c->bigscience_bloom || c->num_kv < 0 || c->num_kv == c->heads, TERN_ERR_CONFIG,
                 "%s: num_kv is %" PRId32 " with bigscience_bloom, expected heads %" PRId32 ", or -1 for as many", op,
                 c->num_kv, c->heads);
    return TERN_OK;
}

static tern_status check_sizes(tern_ctx *ctx, const char *op, const tern_config *c)
{
    TERN_TRY(check_mp(ctx, op, c));
    TERN_REQUIRE(ctx, c->hidden_size >= 1 && c->hidden_size <= INT32_MAX, TERN_ERR_CONFIG,
                 "%s: hidden_size is %" PRId64 ", expected 1..%d", op, c->hidden_size, INT32_MAX);
    TERN_REQUIRE(ctx, c->intermediate_size <= INT32_MAX, TERN_ERR_CONFIG,
                 "%s: intermediate_size is %" PRId64 ", expected %d at most", op, c->intermediate_size, INT32_MAX);
    const int64_t inner = c->intermediate_size > 0 ? c->intermediate_size : 4 * c->hidden_size;
    TERN_REQUIRE(ctx, inner % c->mp_size == 0, TERN_ERR_CONFIG,
                 "%s: mp_size is %" PRId32 ", expected a divisor of intermediate_size %" PRId64, op, c->mp_size, inner);
    return TERN_OK;
}

tern_status tern_check_config(tern_ctx *ctx, const char *op, const tern_config *config, unsigned reads)
{
    if (reads & TERN_READS_SIZES)
        TERN_TRY(check_sizes(ctx, op, config));
    if (reads & TERN_READS_HEADS)
        TERN_TRY(check_heads(ctx, op, config));
    if (reads & TERN_READS_ATTENTION)
        TERN_TRY(check_attention(ctx, op, config));
    if ((reads & TERN_READS_ROTARY) && config->rotary_dim > 0)
        TERN_TRY(check_pairs(ctx, op, config));
    if (reads & TERN_READS_NORM)
        TERN_TRY(check_norm(ctx, op, config));
    if (reads & TERN_READS_ACTIVATION)
        TERN_TRY(check_activation(ctx, op, config));
    if (reads & TERN_READS_GELU)
        TERN_TRY(check_gelu(ctx, op, config));
    if (reads & TERN_READS_MP)
        TERN_TRY(check_mp(ctx, op, config));
    return TERN_OK;
}

struct tern_config_sizes tern_config_sizes(const tern_config *config)
{
    const int64_t inner = config->intermediate_size > 0 ? config->intermediate_size : 4 * config->hidden_size;
    const int32_t kv_heads = config->num_kv < 0 ? config->heads : config->num_kv;
    struct tern_config_sizes s = {
        .hidden = config->hidden_size,
        .inner = inner / config->mp_size,
        .head_dim = config->hidden_size / config->heads,
        .heads = config->heads / config->mp_size,
        .kv_heads = kv_heads / config->mp_size,
    };

    s.up = tern_is_gated(config->mlp_act_func_type) ? 2 * s.inner : s.inner;
    s.qkv = ((int64_t)s.heads + 2 * (int64_t)s.kv_heads) * s.head_dim;
    s.context = s.heads * s.head_dim;
    return s;
}

/* volatile holds the arithmetic between the two calls: a compiler moves a plain quotient past them. */
float tern_standard_scale(int64_t head_dim)
{
    const tern_fpmode caller = tern_fpmode_enter();
    volatile double width = (double)head_dim;
    volatile float scale = (float)(1.0 / sqrt(width));

    tern_fpmode_leave(caller);
    return scale;
}
