/* weights.c: see weights.h. */
#include "modules/weights.h"

#include "ops/widen.h"

#include <tern/quantize.h>

#include <string.h>

tern_module_quant tern_module_quant_default(void)
{
    return (tern_module_quant){ .q_groups = 1, .merge_count = 1 };
}

/* Every member of the struct is a tensor. */
#define N_TENSORS (sizeof(tern_layer_weights) / sizeof(tern_tensor))
_Static_assert(sizeof(tern_layer_weights) == N_TENSORS * sizeof(tern_tensor) &&
                   _Alignof(tern_layer_weights) == _Alignof(tern_tensor),
               "tern_layer_weights is an array of tensors, but for the names");

tern_layer_weights tern_layer_weights_none(void)
{
    union {
        tern_layer_weights weights;
        tern_tensor tensors[N_TENSORS];
    } all;

    for (size_t i = 0; i < N_TENSORS; i++)
        all.tensors[i] = tern_tensor_none();
    return all.weights;
}

/* A copy in which a tensor that was left zero is absent too. */
static tern_layer_weights plain(const tern_layer_weights *weights)
{
    union {
        tern_layer_weights weights;
        tern_tensor tensors[N_TENSORS];
    } all = { .weights = *weights };

    for (size_t i = 0; i < N_TENSORS; i++)
        if (all.tensors[i].rank == 0 && !all.tensors[i].data && !all.tensors[i].packed)
            all.tensors[i] = tern_tensor_none();
    return all.weights;
}

/* ---- what comes apart ---- */

/* One of the matrices that make a whole, with what belongs to it. */
struct piece {
    const char *name, *bias_name, *scale_name;
    tern_tensor *w, *b, *scale;
    int64_t out;
};

struct whole {
    const char *name, *bias_name, *scale_name;
    tern_tensor *w, *b, *scale;
    int64_t in;
    struct piece piece[3];
    size_t n;
    int64_t blocks; /* each piece is cut into so many, and the pieces take turns: 1, or the heads of BLOOM's order */
};

static tern_status check_piece(tern_ctx *ctx, const char *owner, const tern_config *config, const struct whole *m,
                               const struct piece *p)
{
    const bool flip = config->transposed_mode;
    const int64_t dim[2] = { flip ? p->out : m->in, flip ? m->in : p->out };

    TERN_REQUIRE(ctx, tern_given(p->w), TERN_ERR_ARG, "%s: %s is not there beside the other parts of %s, expected all",
                 owner, p->name, m->name);
    TERN_REQUIRE(ctx, !p->w->packed, TERN_ERR_UNSUPPORTED,
                 "%s: %s is a packed weight, expected a raw one (it becomes a part of %s)", owner, p->name, m->name);
    if (config->dtype == TERN_INT8) {
        TERN_TRY(tern_check_tensor(ctx, owner, p->name, p->w, TERN_INT8));
        TERN_TRY(tern_check_dims(ctx, owner, p->name, p->w, 2, dim));
    } else {
        TERN_TRY(tern_check_matrix(ctx, owner, p->name, p->w, config, m->in, p->out, NULL));
    }
    TERN_REQUIRE(ctx, p->w->dtype == m->piece[0].w->dtype, TERN_ERR_DTYPE, "%s: %s is %s, expected %s as %s is", owner,
                 p->name, tern_dtype_name(p->w->dtype), tern_dtype_name(m->piece[0].w->dtype), m->piece[0].name);
    return tern_check_float_vector(ctx, owner, p->bias_name, p->b, TERN_ANY_FLOAT, p->out, true);
}

static tern_status check_scales(tern_ctx *ctx, const char *owner, const struct piece *p)
{
    const int64_t any = -1;

    TERN_TRY(tern_check_tensor(ctx, owner, p->scale_name, p->scale, TERN_FP32));
    TERN_TRY(tern_check_dims(ctx, owner, p->scale_name, p->scale, 1, &any));
    const int64_t groups = p->scale->dim[0];
    TERN_REQUIRE(ctx, groups >= 1 && p->out % groups == 0, TERN_ERR_SHAPE,
                 "%s: %s has %" PRId64 " scales, expected a divisor of the %" PRId64 " output channels of %s", owner,
                 p->scale_name, groups, p->out, p->name);
    return TERN_OK;
}

/* The bias of the whole and, behind it, its scales, both fp32: joined[1] is their memory. */
static tern_status join_vectors(tern_ctx *ctx, const char *owner, const struct whole *m, int64_t out, void **joined)
{
    bool biases = false, scales = false, all_scales = true;
    float *to, *scale;

    for (size_t i = 0; i < m->n; i++) {
        biases |= tern_given(m->piece[i].b);
        scales |= tern_given(m->piece[i].scale);
        all_scales &= tern_given(m->piece[i].scale);
    }
    if (!biases && !scales)
        return TERN_OK;
    TERN_REQUIRE(ctx, !scales || all_scales, TERN_ERR_ARG, "%s: %s is given for a part of %s, expected all or none",
                 owner, m->scale_name, m->name);
    TERN_TRY(TERN_ALLOC(ctx, 2 * (size_t)out, "biases put together", &to));
    *joined = to;
    scale = to + out;
    *m->b = biases ? tern_tensor_view(to, TERN_FP32, 1, &out) : tern_tensor_none();
    *m->scale = scales ? tern_tensor_view(scale, TERN_FP32, 1, &out) : tern_tensor_none();
    for (size_t i = 0; i < m->n && scales; i++)
        TERN_TRY(check_scales(ctx, owner, &m->piece[i]));
    for (int64_t block = 0; block < m->blocks; block++)
        for (size_t i = 0; i < m->n; i++) {
            const struct piece *p = &m->piece[i];
            const int64_t n = p->out / m->blocks, from = block * n;
            if (tern_given(p->b)) /* one that is not there is 0 */
                tern_widen(ctx->kernels, to, tern_at(p->b->data, p->b->dtype, (size_t)from), p->b->dtype, (size_t)n);
            for (int64_t j = 0; scales && j < n; j++) /* one for each channel */
                scale[j] = ((const float *)p->scale->data)[(from + j) / (p->out / p->scale->dim[0])];
            to += n;
            scale += n;
        }
    return TERN_OK;
}

static tern_status join_matrix(tern_ctx *ctx, const struct whole *m, bool transposed, int64_t out, void **joined)
{
    const tern_dtype dtype = m->piece[0].w->dtype;
    const int64_t dim[2] = { transposed ? out : m->in, transposed ? m->in : out };
    const size_t in = (size_t)m->in, lines = transposed ? 1 : in, size = tern_dtype_size(dtype);
    const size_t per_channel = transposed ? in * size : size; /* bytes of a channel in one line */
    char *to;

    TERN_TRY(tern_alloc(ctx, tern_mul_or_max(in, (size_t)out), size, "matrices put together", joined));
    to = *joined;
    for (size_t line = 0; line < lines; line++)
        for (size_t block = 0; block < (size_t)m->blocks; block++)
            for (size_t i = 0; i < m->n; i++) {
                const size_t bytes = (size_t)(m->piece[i].out / m->blocks) * per_channel;
                memcpy(to, (const char *)m->piece[i].w->data + (line * (size_t)m->blocks + block) * bytes, bytes);
                to += bytes;
            }
    *m->w = tern_tensor_view(*joined, dtype, 2, dim);
    return TERN_OK;
}

/* Puts the pieces together where they are given. */
static tern_status join(tern_ctx *ctx, const char *owner, const tern_config *config, const struct whole *m,
                        void **joined)
{
    const char *found = NULL;
    int64_t out = 0;

    for (size_t i = 0; i < m->n && !found; i++) {
        const struct piece *p = &m->piece[i];
        found = tern_given(p->w)       ? p->name
                : tern_given(p->b)     ? p->bias_name
                : tern_given(p->scale) ? p->scale_name
                                       : NULL;
    }
    if (!found)
        return TERN_OK;
    TERN_REQUIRE(ctx, config->set_empty_params, TERN_ERR_ARG,
                 "%s: %s is given, expected %s (set_empty_params is false)", owner, found, m->name);
    const char *twice = tern_given(m->w) ? m->name : tern_given(m->b) ? m->bias_name : m->scale_name;
    TERN_REQUIRE(ctx, !tern_given(m->w) && !tern_given(m->b) && !tern_given(m->scale), TERN_ERR_ARG,
                 "%s: %s and %s are given, expected the whole or its parts", owner, twice, found);
    for (size_t i = 0; i < m->n; i++) {
        TERN_TRY(check_piece(ctx, owner, config, m, &m->piece[i]));
        out += m->piece[i].out;
    }
    TERN_TRY(join_matrix(ctx, m, config->transposed_mode, out, &joined[0]));
    TERN_TRY(join_vectors(ctx, owner, m, out, &joined[1]));
    for (size_t i = 0; i < m->n; i++)
        *m->piece[i].w = *m->piece[i].b = *m->piece[i].scale = tern_tensor_none();
    return TERN_OK;
}

/* ---- the width of value heads ---- */

/* Output channels of a matrix, -1 where it is none. */
static int64_t channels_of(const tern_config *config, const tern_tensor *w)
{
    if (!tern_given(w) || w->rank != 2)
        return -1;
    return w->packed ? w->dim[1] : w->dim[!config->transposed_mode];
}

/* E', which the inputs of attn_ow and the channels of v say together.  Where they do not fit each other it is E, and the checks
 * of each matrix say what is wrong. */
static int64_t value_width(const tern_config *config, const struct tern_config_sizes *s, const tern_layer_weights *w)
{
    const tern_tensor *out = &w->attn_ow, *v = &w->attn_vw;
    const int64_t whole = channels_of(config, &w->attn_qkvw);
    const int64_t values =
        tern_given(v) ? channels_of(config, v) : whole - ((int64_t)s->heads + s->kv_heads) * s->head_dim;
    int64_t width = s->head_dim;

    if (tern_given(out) && out->rank == 2) {
        const int64_t in = out->packed ? out->dim[0] : out->dim[config->transposed_mode];
        if (in % s->heads == 0 && in / s->heads >= 1 && in / s->heads <= 512 && values == s->kv_heads * (in / s->heads))
            width = in / s->heads;
    }
    return width;
}

/* ---- int8 ---- */

static tern_status check_quant(tern_ctx *ctx, const char *owner, const tern_config *config, const tern_module_quant *q)
{
    TERN_TRY(TERN_CHECK_RESERVED(ctx, owner, q));
    TERN_REQUIRE(ctx, q->q_groups >= 1, TERN_ERR_CONFIG, "%s: q_groups is %" PRId32 ", expected 1 or more", owner,
                 q->q_groups);
    TERN_REQUIRE(ctx, q->merge_count >= 1 && (q->merge_count & (q->merge_count - 1)) == 0, TERN_ERR_CONFIG,
                 "%s: merge_count is %" PRId32 ", expected a power of two", owner, q->merge_count);
    TERN_REQUIRE(ctx, !tern_given(q->q_scales) || config->dtype == TERN_INT8, TERN_ERR_ARG,
                 "%s: q_scales is given with dtype %s, expected int8", owner, tern_dtype_name(config->dtype));
    return TERN_OK;
}

/* The matrices whose scales a record of q_scales has, in its order. */
enum row { ROW_QKV, ROW_ATTN_OUT, ROW_INTER, ROW_OUTPUT };

/* The first n scales of a row of q_scales: [4, L], the same below an axis of 1, or [2, L] of this module alone. */
static tern_status record_row(tern_ctx *ctx, const char *owner, const tern_tensor *q_scales, unsigned parts,
                              enum row row, int64_t n, tern_tensor *out)
{
    TERN_TRY(tern_check_tensor(ctx, owner, "q_scales", q_scales, TERN_FP32));
    const int rank = q_scales->rank;
    const bool shaped = rank == 2 || (rank == 3 && q_scales->dim[0] == 1);
    const int64_t rows = shaped ? q_scales->dim[rank - 2] : 0, length = shaped ? q_scales->dim[rank - 1] : 0;
    const bool alone = parts == TERN_PART_ATTENTION || parts == TERN_PART_MLP;

    TERN_REQUIRE(ctx, rows == 4 || (rows == 2 && alone), TERN_ERR_SHAPE, "%s: q_scales is %s, expected %s", owner,
                 tern_dims_text(q_scales).text, alone ? "[4, L] or [2, L]" : "[4, L]");
    TERN_REQUIRE(ctx, length >= n, TERN_ERR_SHAPE,
                 "%s: q_scales has rows of %" PRId64 " scales, expected q_groups * merge_count = %" PRId64
                 " or more (q_groups twice with mlp_extra_grouping)",
                 owner, length, n);
    const int64_t at = rows == 4 ? row : row % 2;
    *out = tern_tensor_view((float *)q_scales->data + at * length, TERN_FP32, 1, &n);
    return TERN_OK;
}

/* A matrix whose shards were quantised apart and put together along their inputs: its scales change along them too. */
static tern_status pack_merged(tern_ctx *ctx, const char *owner, const char *name, const tern_tensor *w,
                               bool transposed, const tern_tensor *scales, int64_t groups, int64_t shards,
                               tern_weight **out)
{
    const int64_t in = w->dim[transposed], channels = w->dim[!transposed];
    tern_qtensor *q = NULL;
    tern_status status;

    TERN_REQUIRE(ctx, in % shards == 0, TERN_ERR_SHAPE,
                 "%s: %s has %" PRId64 " inputs, expected a multiple of merge_count %" PRId64, owner, name, in, shards);
    TERN_REQUIRE(ctx, channels % groups == 0, TERN_ERR_SHAPE,
                 "%s: %s has %" PRId64 " outputs, expected a multiple of the %" PRId64 " groups of a shard", owner,
                 name, channels, groups);
    const tern_quant_layout layout = {
        .bits = 8,
        .symmetric = true,
        .grouping = TERN_QUANT_FLAT,
        .axis = transposed,
        .group_size = in / shards * (channels / groups),
        .n_groups = groups * shards,
        .n_shards = shards,
        .rank = 2,
        .dim = { w->dim[0], w->dim[1] },
    };
    TERN_TRY_OR_FAIL(tern_qtensor_create(ctx, &layout, w, scales, NULL, &q));
    TERN_TRY_OR_FAIL(tern_weight_pack_quantized(ctx, q, transposed, out));
    status = TERN_OK;

fail:
    tern_qtensor_destroy(&q);
    return status;
}

/* A raw int8 matrix becomes a packed one. */
static tern_status pack(tern_ctx *ctx, const char *owner, const tern_config *config, const tern_module_quant *quant,
                        unsigned parts, enum row row, const char *name, const char *scale_name, tern_tensor *w,
                        tern_tensor *scale, tern_weight **packed)
{
    const bool record = tern_given(quant->q_scales);
    const bool raw = config->dtype == TERN_INT8 && tern_given(w) && !w->packed && w->dtype == TERN_INT8;
    const bool extra = row >= ROW_INTER && quant->mlp_extra_grouping;
    int64_t groups = quant->q_groups, shards = 1;

    TERN_REQUIRE(ctx, raw || !tern_given(scale), TERN_ERR_ARG,
                 "%s: %s is given, expected none where %s is not raw int8", owner, scale_name, name);
    if (!raw)
        return TERN_OK;
    TERN_REQUIRE(ctx, record != tern_given(scale), TERN_ERR_ARG, "%s: %s is raw int8 with %s, expected %s or q_scales",
                 owner, name, record ? "both" : "no scales", scale_name);
    TERN_REQUIRE(ctx, w->rank == 2, TERN_ERR_SHAPE, "%s: %s is %s, expected a matrix", owner, name,
                 tern_dims_text(w).text);
    tern_tensor scales = *scale;
    if (record) {
        groups = extra ? 2 * groups : groups;
        TERN_TRY(record_row(ctx, owner, quant->q_scales, parts, row, groups * quant->merge_count, &scales));
        shards = row == ROW_ATTN_OUT || row == ROW_OUTPUT ? quant->merge_count : 1;
    }
    if (shards > 1)
        TERN_TRY(pack_merged(ctx, owner, name, w, config->transposed_mode, &scales, groups, shards, packed));
    else
        TERN_TRY(tern_pack_int8(ctx, owner, name, w, config->transposed_mode, &scales, packed));
    *w = tern_weight_view(*packed);
    *scale = tern_tensor_none();
    return TERN_OK;
}

/* ---- all of it ---- */

/* clang-format off */
#define PIECE(m, v, n)  { #m, #v, #m "_scale", &a->m, &a->v, &a->m##_scale, n }
#define WHOLE(m, v)     .name = #m, .bias_name = #v, .scale_name = #m "_scale", .w = &a->m, .b = &a->v, .scale = &a->m##_scale
#define PACK(row, m, i) pack(ctx, owner, config, quant, parts, row, #m, #m "_scale", &a->m, &a->m##_scale, &out->packed[i])
/* clang-format on */

tern_status tern_own_weights(tern_ctx *ctx, const char *owner, const tern_config *config,
                             const tern_module_quant *quant, unsigned parts, const tern_layer_weights *weights,
                             struct tern_own_weights *out)
{
    const struct tern_config_sizes s = tern_config_sizes(config);
    const tern_module_quant standard = tern_module_quant_default();
    tern_layer_weights *a = &out->all;

    if (!quant)
        quant = &standard;
    *a = plain(weights);
    TERN_TRY(check_quant(ctx, owner, config, quant));
    if (parts & TERN_PART_ATTENTION) {
        out->v_dim = value_width(config, &s, a);
        const struct whole qkv = { WHOLE(attn_qkvw, attn_qkvb), .in = s.hidden,
                                   .piece = { PIECE(attn_qw, attn_qb, s.heads * s.head_dim),
                                              PIECE(attn_kw, attn_kb, s.kv_heads * s.head_dim),
                                              PIECE(attn_vw, attn_vb, s.kv_heads * out->v_dim) },
                                   .n = 3, .blocks = config->bigscience_bloom ? s.heads : 1 };
        TERN_TRY(join(ctx, owner, config, &qkv, &out->joined[0]));
        TERN_TRY(PACK(ROW_QKV, attn_qkvw, 0));
        TERN_TRY(PACK(ROW_ATTN_OUT, attn_ow, 1));
    }
    if (parts & TERN_PART_MLP) {
        const struct whole inter = { WHOLE(inter_w, inter_b), .in = s.hidden,
                                     .piece = { PIECE(inter_up_w, inter_up_b, s.inner),
                                                PIECE(inter_gate_w, inter_gate_b, s.inner) },
                                     .n = tern_is_gated(config->mlp_act_func_type) ? 2 : 1, .blocks = 1 };
        TERN_REQUIRE(ctx,
                     inter.n == 2 || (!tern_given(&a->inter_gate_w) && !tern_given(&a->inter_gate_b) &&
                                      !tern_given(&a->inter_gate_w_scale)),
                     TERN_ERR_ARG, "%s: inter_gate_w is given with an activation that does not gate, expected none",
                     owner);
        TERN_TRY(join(ctx, owner, config, &inter, &out->joined[2]));
        TERN_TRY(PACK(ROW_INTER, inter_w, 2));
        TERN_TRY(PACK(ROW_OUTPUT, output_w, 3));
    }
    return TERN_OK;
}

void tern_own_weights_bound(struct tern_own_weights *own)
{
    for (size_t i = 0; i < sizeof own->joined / sizeof own->joined[0]; i++) {
        tern_free(own->joined[i]);
        own->joined[i] = NULL;
    }
    own->all = tern_layer_weights_none();
}

void tern_own_weights_free(struct tern_own_weights *own)
{
    tern_own_weights_bound(own);
    for (size_t i = 0; i < sizeof own->packed / sizeof own->packed[0]; i++)
        tern_weight_destroy(&own->packed[i]);
}
