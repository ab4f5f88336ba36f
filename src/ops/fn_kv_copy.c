/* fn_kv_copy.c: new keys and values to their positions among those of the past, in dense tensors.
 *
 * Every row of the outputs is written once, by one thread: the new row of its position, or the past's, or zeros. */
#include "ops/op_table.h"
#include "ops/rotary.h"
#include "ops/widen.h"

#include <tern/function.h>

#include <math.h>
#include <string.h>

struct kv_copy {
    const char *input, *past[2]; /* past: NULL where there is none, or where it is the output */
    char *to[2];                 /* key, value */
    const int64_t *source;       /* [B][T]: the token that a position gets, -1: none */
    tern_dtype dtype;
    size_t batch, tokens, heads, head_dim, n_past, n_total;
    int32_t rotary_dim;
    bool neighbours, in_place;
    double frequency[TERN_ROTARY_MAX];
};

/* The new row `from` of head_dim numbers to `to`, with its leading channels turned. */
static void copy_turned(const struct kv_copy *c, const struct tern_kernels *kernels, char *to, const char *from,
                        const float *cosine, const float *sine)
{
    const size_t size = tern_dtype_size(c->dtype), turned = (size_t)c->rotary_dim;
    float x[2 * TERN_ROTARY_MAX];

    tern_wide_load(kernels, x, from, c->dtype, 0, turned);
    kernels->rotary_f32(x, x, cosine, sine, turned, c->neighbours, 1, 0, NULL);
    tern_wide_store(kernels, to, c->dtype, 0, x, turned);
    memcpy(to + turned * size, from + turned * size, (c->head_dim - turned) * size);
}

static void kv_copy_region(void *arg, const struct tern_par *par)
{
    const struct kv_copy *c = arg;
    const size_t bytes = c->head_dim * tern_dtype_size(c->dtype);
    float cosine[TERN_ROTARY_MAX], sine[TERN_ROTARY_MAX];
    size_t item, end;

    tern_share(par, c->batch * c->n_total, 1, &item, &end);
    for (; item < end; item++) {
        const size_t b = item / c->n_total, t = item % c->n_total;
        const int64_t token = c->source[item];
        if (token >= 0 && c->rotary_dim > 0)
            par->kernels->rotary_angles(cosine, sine, c->frequency, (size_t)c->rotary_dim / 2, (double)t);
        for (size_t which = 0; which < 2; which++)
            for (size_t g = 0; g < c->heads; g++) {
                char *to = c->to[which] + ((b * c->heads + g) * c->n_total + t) * bytes;
                const size_t row = token < 0 ? 0 : ((b * c->tokens + (size_t)token) * 2 + which) * c->heads + g;
                const char *from = c->input + row * bytes; /* where there is a token */
                if (token >= 0 && which == 0 && c->rotary_dim > 0)
                    copy_turned(c, par->kernels, to, from, cosine, sine);
                else if (token >= 0)
                    memcpy(to, from, bytes);
                else if (t >= c->n_past)
                    memset(to, 0, bytes);
                else if (!c->in_place)
                    memcpy(to, c->past[which] + ((b * c->heads + g) * c->n_past + t) * bytes, bytes);
            }
    }
}

/* source[b][t] from the positions; each is named once. */
static tern_status place(tern_ctx *ctx, const char *op, const tern_tensor *position_ids, const struct kv_copy *c,
                         int64_t *source)
{
    const bool given = tern_given(position_ids);
    const size_t each = given && tern_elements(position_ids) == c->tokens && c->batch != 1 ? 0 : c->tokens;

    for (size_t i = 0; i < c->batch * c->n_total; i++)
        source[i] = -1;
    for (size_t b = 0; b < c->batch; b++)
        for (size_t s = 0; s < c->tokens; s++) {
            const int64_t at = given ? tern_int_at(position_ids, b * each + s) : (int64_t)(c->n_past + s);
            TERN_REQUIRE(ctx, at >= 0 && (uint64_t)at < c->n_total, TERN_ERR_ARG,
                         "%s: position_ids has %" PRId64 " for token %zu of sequence %zu, expected 0..%" PRId64
                         " as key has %zu positions",
                         op, at, s, b, (int64_t)c->n_total - 1, c->n_total);
            int64_t *slot = &source[b * c->n_total + (size_t)at];
            TERN_REQUIRE(ctx, *slot < 0, TERN_ERR_ARG,
                         "%s: position_ids has %" PRId64 " for tokens %" PRId64
                         " and %zu of sequence %zu, expected it once",
                         op, at, *slot, s, b);
            *slot = (int64_t)s;
        }
    return TERN_OK;
}

/* [S] or [B, S] of an input [B, S, ..], or none. */
static tern_status check_positions(tern_ctx *ctx, const char *op, const tern_tensor *position_ids, const int64_t *dim)
{
    const int64_t batch = dim[0], tokens = dim[1];

    if (!tern_given(position_ids))
        return TERN_OK;
    TERN_TRY(tern_check_ints(ctx, op, "position_ids", position_ids, -1, NULL));
    const int64_t *d = position_ids->dim;
    TERN_REQUIRE(
        ctx,
        (position_ids->rank == 1 && d[0] == tokens) || (position_ids->rank == 2 && d[0] == batch && d[1] == tokens),
        TERN_ERR_SHAPE, "%s: position_ids is %s, %zu numbers, expected [%" PRId64 "] or [%" PRId64 ", %" PRId64 "]", op,
        tern_dims_text(position_ids).text, tern_elements(position_ids), tokens, batch, tokens);
    return TERN_OK;
}

/* Whether both outputs are their own past; one of them alone, or a longer one, is an error. */
static tern_status check_in_place(tern_ctx *ctx, const char *op, const tern_tensor *past_key,
                                  const tern_tensor *past_value, const tern_tensor *key, const tern_tensor *value,
                                  bool *in_place)
{
    const bool key_is = tern_elements(key) && past_key->data == key->data;
    const bool value_is = tern_elements(value) && past_value->data == value->data;

    TERN_REQUIRE(ctx, key_is == value_is, TERN_ERR_ARG,
                 "%s: %s overlaps %s alone, expected key and value both or neither in place", op,
                 key_is ? "key" : "value", key_is ? "past_key" : "past_value");
    TERN_REQUIRE(ctx, !key_is || key->dim[2] == past_key->dim[2], TERN_ERR_ARG,
                 "%s: key overlaps past_key, expected the same memory or none in common", op);
    *in_place = key_is;
    return TERN_OK;
}

tern_status tern_kv_copy(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *position_ids, int32_t rotary_dim,
                         float theta, bool rotate_every_two, const tern_tensor *past_key, const tern_tensor *past_value,
                         tern_tensor *key, tern_tensor *value)
{
    static const char op[] = "kv_copy";
    struct kv_copy c = { .rotary_dim = rotary_dim > 0 ? rotary_dim : 0, .neighbours = rotate_every_two };
    const bool past = tern_given(past_key) || tern_given(past_value);
    int64_t *source = NULL;
    tern_status status;

    TERN_TRY(tern_check_float(ctx, op, "input", input, TERN_ANY_FLOAT, false));
    TERN_TRY(tern_check_dims(ctx, op, "input", input, 5, (int64_t[]){ -1, -1, 2, -1, -1 }));
    const int64_t *d = input->dim, most = d[4] < 2 * TERN_ROTARY_MAX ? d[4] : 2 * TERN_ROTARY_MAX;
    TERN_REQUIRE(ctx, c.rotary_dim % 2 == 0 && c.rotary_dim <= most, TERN_ERR_ARG,
                 "%s: rotary_dim is %" PRId32 ", expected an even number up to %" PRId64 ", or 0 for none", op,
                 rotary_dim, most);
    TERN_REQUIRE(ctx, c.rotary_dim == 0 || (isfinite(theta) && theta > 1), TERN_ERR_ARG,
                 "%s: theta is %g, expected a finite number above 1", op, (double)theta);
    TERN_TRY(check_positions(ctx, op, position_ids, d));
    if (past) {
        TERN_TRY(tern_check_float(ctx, op, "past_key", past_key, input->dtype, false));
        TERN_TRY(tern_check_dims(ctx, op, "past_key", past_key, 4, (int64_t[]){ d[0], d[3], -1, d[4] }));
        TERN_TRY(tern_check_float(ctx, op, "past_value", past_value, input->dtype, false));
        TERN_TRY(tern_check_dims(ctx, op, "past_value", past_value, 4, past_key->dim));
    }
    TERN_TRY(tern_check_float(ctx, op, "key", key, input->dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "key", key, 4, (int64_t[]){ d[0], d[3], -1, d[4] }));
    TERN_REQUIRE(ctx, !past || key->dim[2] >= past_key->dim[2], TERN_ERR_SHAPE,
                 "%s: key is %s, expected at least the %" PRId64 " positions of past_key", op, tern_dims_text(key).text,
                 past ? past_key->dim[2] : 0);
    TERN_TRY(tern_check_float(ctx, op, "value", value, input->dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "value", value, 4, key->dim));
    if (past)
        TERN_TRY(check_in_place(ctx, op, past_key, past_value, key, value, &c.in_place));
    /* Each in place of its own past only. */
    const struct tern_operand operands[] = { { "input", input, false, false },
                                             { "position_ids", position_ids, false, false },
                                             { "past_key", c.in_place ? NULL : past_key, false, false },
                                             { "past_value", c.in_place ? NULL : past_value, false, false },
                                             { "key", key, true, false },
                                             { "value", value, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));

    c.batch = (size_t)d[0];
    c.tokens = (size_t)d[1];
    c.heads = (size_t)d[3];
    c.head_dim = (size_t)d[4];
    c.n_past = past ? (size_t)past_key->dim[2] : 0;
    c.n_total = (size_t)key->dim[2];
    TERN_TRY(TERN_ALLOC(ctx, tern_mul_or_max(c.batch, c.n_total), "positions of tokens", &source));
    TERN_TRY_OR_FAIL(place(ctx, op, position_ids, &c, source));
    c.input = input->data;
    c.past[0] = past ? past_key->data : NULL;
    c.past[1] = past ? past_value->data : NULL;
    c.to[0] = key->data;
    c.to[1] = value->data;
    c.source = source;
    c.dtype = input->dtype;
    if (c.rotary_dim > 0)
        tern_rotary_frequencies(c.frequency, c.rotary_dim, theta);
    status = c.heads && c.head_dim ? tern_region(ctx, kv_copy_region, &c) : TERN_OK;
fail:
    tern_free(source);
    return status;
}

/* ---- by name ---- */

static tern_status run_kv_copy(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                               const tern_op_call *call)
{
    (void)call;
    return tern_kv_copy(ctx, io[0], io[1], config->rotary_dim, config->rope_theta, tern_config_neighbours(config),
                        io[2], io[3], io[4], io[5]);
}

/* As many positions as the past, with position_ids; without, the new ones behind it. */
static tern_status infer_kv_copy(tern_ctx *ctx, const tern_config *config, const tern_op_params *params,
                                 tern_tensor *const *io, tern_tensor *found)
{
    const bool past = tern_given(io[2]);
    int64_t total = past ? io[2]->dim[2] : 0;

    (void)config;
    (void)params;
    if (!past || !tern_given(io[1]))
        TERN_REQUIRE(ctx, !__builtin_add_overflow(total, io[0]->dim[1], &total), TERN_ERR_SHAPE,
                     "kv_copy: past_key is %s, more positions than there can be", tern_dims_text(io[2]).text);
    for (int i = 4; i < 6; i++)
        found[i] = tern_tensor_view(NULL, found[i].dtype, 4,
                                    (int64_t[]){ io[0]->dim[0], io[0]->dim[3], total, io[0]->dim[4] });
    return TERN_OK;
}

const struct tern_op_row tern_row_kv_copy = {
    .name = "kv_copy",
    .formula = "key, value = past_key, past_value with the input's at position_ids, keys turned where rotary_dim > 0",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_ROTARY,
    .kernels = "rotary_f32",
    .function = true,
    .run = run_kv_copy,
    .infer = infer_kv_copy,
    .io = { TERN_IN("input", "[B, S, 2, G, E]"), TERN_INTS_OPTIONAL("position_ids", "*"),
            TERN_IN_OPTIONAL("past_key", "[B, G, P, E]"), TERN_IN_OPTIONAL("past_value", "[B, G, P, E]"),
            TERN_OUT("key", "[B, G, T, E]"), TERN_OUT("value", "[B, G, T, E]") },
};
