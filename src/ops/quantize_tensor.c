/* quantize_tensor.c: the container of codes and scales, and how it turns back into numbers. */
#include "ops/quantize_spans.h"

#include <math.h>
#include <string.h>

tern_status tern_quant_check_layout(tern_ctx *ctx, const char *op, const tern_quant_layout *l, size_t *n)
{
    int64_t elements = 1;

    TERN_REQUIRE(ctx, l->bits == 8 || l->bits == 4, TERN_ERR_ARG, "%s: bits is %d, expected 8 or 4", op, l->bits);
    TERN_REQUIRE(ctx, l->rank >= 1 && l->rank <= TERN_MAX_RANK, TERN_ERR_SHAPE, "%s: rank is %d, expected 1..%d", op,
                 l->rank, TERN_MAX_RANK);
    for (int i = 0; i < l->rank; i++) {
        TERN_REQUIRE(ctx, l->dim[i] >= 1, TERN_ERR_SHAPE, "%s: %" PRId64 " elements along axis %d, expected at least 1",
                     op, l->dim[i], i);
        TERN_REQUIRE(ctx, !__builtin_mul_overflow(elements, l->dim[i], &elements) && elements <= PTRDIFF_MAX / 8,
                     TERN_ERR_SHAPE, "%s: more elements than there can be, at axis %d of %" PRId64, op, i, l->dim[i]);
    }
    TERN_REQUIRE(ctx, l->bits == 8 || l->dim[l->rank - 1] % 2 == 0, TERN_ERR_SHAPE,
                 "%s: %" PRId64 " elements along the last axis, expected an even number for codes of 4 bits", op,
                 l->dim[l->rank - 1]);
    TERN_REQUIRE(ctx, l->grouping == TERN_QUANT_FLAT || l->grouping == TERN_QUANT_AXIS, TERN_ERR_ARG,
                 "%s: grouping is %d, expected flat 0 or axis 1", op, (int)l->grouping);
    TERN_REQUIRE(ctx, l->axis >= 0 && l->axis < l->rank, TERN_ERR_SHAPE, "%s: axis is %d, expected 0..%d", op, l->axis,
                 l->rank - 1);
    TERN_REQUIRE(ctx, l->group_size >= 1, TERN_ERR_SHAPE, "%s: group_size is %" PRId64 ", expected 1 or more", op,
                 l->group_size);
    TERN_REQUIRE(ctx, l->n_shards >= 1, TERN_ERR_SHAPE, "%s: n_shards is %" PRId64 ", expected 1 or more", op,
                 l->n_shards);

    const int64_t along = l->dim[l->axis];
    if (l->grouping == TERN_QUANT_AXIS) {
        TERN_REQUIRE(ctx, l->n_shards == 1, TERN_ERR_SHAPE,
                     "%s: %" PRId64 " shards of groups along an axis, expected 1", op, l->n_shards);
        TERN_REQUIRE(ctx, along % l->group_size == 0, TERN_ERR_SHAPE,
                     "%s: %" PRId64 " elements along axis %d, expected a multiple of group_size %" PRId64, op, along,
                     l->axis, l->group_size);
    } else if (l->n_shards > 1 || l->axis != l->rank - 1) {
        TERN_REQUIRE(ctx, l->rank == 2, TERN_ERR_SHAPE, "%s: rank %d of merged shards, expected a matrix", op, l->rank);
        TERN_REQUIRE(ctx, along % l->n_shards == 0, TERN_ERR_SHAPE,
                     "%s: %" PRId64 " elements along axis %d, expected a multiple of n_shards %" PRId64, op, along,
                     l->axis, l->n_shards);
    }
    TERN_REQUIRE(ctx, elements / l->n_shards % l->group_size == 0, TERN_ERR_SHAPE,
                 "%s: %" PRId64 " elements in each of %" PRId64 " shards, expected a multiple of group_size %" PRId64,
                 op, elements / l->n_shards, l->n_shards, l->group_size);
    TERN_REQUIRE(ctx, l->n_groups == elements / l->group_size, TERN_ERR_SHAPE,
                 "%s: n_groups is %" PRId64 ", expected %" PRId64 " for %" PRId64 " elements in groups of %" PRId64, op,
                 l->n_groups, elements / l->group_size, elements, l->group_size);
    *n = (size_t)elements;
    return TERN_OK;
}

tern_status tern_qtensor_alloc(tern_ctx *ctx, const tern_quant_layout *layout, size_t n, tern_qtensor **out)
{
    const size_t groups = (size_t)layout->n_groups;
    struct tern_qtensor *q = NULL;
    tern_status status;

    TERN_TRY(TERN_ALLOC(ctx, 1, "a quantised tensor", &q));
    q->layout = *layout;
    for (int i = layout->rank; i < TERN_MAX_RANK; i++)
        q->layout.dim[i] = 0;
    q->n = n;
    q->code_bytes = layout->bits == 8 ? n : n / 2;
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, q->code_bytes, "codes of a quantised tensor", &q->codes));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, groups, "scales of a quantised tensor", &q->scales));
    if (!layout->symmetric)
        TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, groups, "minima of a quantised tensor", &q->minima));
    *out = q;
    return TERN_OK;

fail:
    tern_qtensor_destroy(&q);
    return status;
}

/* Elements of a tensor whose layout was checked. */
static int64_t elements(const tern_tensor *t)
{
    int64_t n = 1;

    for (int i = 0; i < t->rank; i++)
        n *= t->dim[i];
    return n;
}

static tern_status check_codes(tern_ctx *ctx, const tern_quant_layout *l, const tern_tensor *codes)
{
    const int last = l->rank - 1;
    bool same;

    TERN_TRY(tern_check_tensor(ctx, "qtensor_create", "codes", codes,
                               l->bits == 8 && l->symmetric ? TERN_INT8 : TERN_UINT8));
    same = codes->rank == l->rank;
    for (int i = 0; same && i < l->rank; i++)
        same = codes->dim[i] == (i == last && l->bits == 4 ? l->dim[i] / 2 : l->dim[i]);
    TERN_REQUIRE(ctx, same, TERN_ERR_SHAPE, "qtensor_create: codes is %s, expected %s%s", tern_dims_text(codes).text,
                 tern_dims_text(&(tern_tensor){ .rank = l->rank,
                                                .dim = { l->dim[0], l->dim[1], l->dim[2], l->dim[3], l->dim[4],
                                                         l->dim[5], l->dim[6], l->dim[7] } })
                     .text,
                 l->bits == 4 ? " with half of the last axis" : "");
    return TERN_OK;
}

/* One finite value for each group; above 0 where it divides. */
static tern_status check_groups(tern_ctx *ctx, const char *name, const tern_tensor *t, int64_t groups, bool divides)
{
    TERN_TRY(tern_check_tensor(ctx, "qtensor_create", name, t, TERN_FP32));
    TERN_REQUIRE(ctx, elements(t) == groups, TERN_ERR_SHAPE,
                 "qtensor_create: %s is %s, %" PRId64 " values, expected %" PRId64 ", one for each group", name,
                 tern_dims_text(t).text, elements(t), groups);
    for (int64_t g = 0; g < groups; g++) {
        const float value = ((const float *)t->data)[g];
        TERN_REQUIRE(ctx, isfinite(value) && (!divides || value > 0), TERN_ERR_ARG,
                     "qtensor_create: %s[%" PRId64 "] is %g, expected a finite number%s", name, g, (double)value,
                     divides ? " above 0" : "");
    }
    return TERN_OK;
}

tern_status tern_qtensor_create(tern_ctx *ctx, const tern_quant_layout *layout, const tern_tensor *codes,
                                const tern_tensor *scales, const tern_tensor *minima, tern_qtensor **out)
{
    tern_qtensor *q;
    size_t n;

    TERN_REQUIRE(ctx, ctx && out, TERN_ERR_ARG, "qtensor_create: %s is NULL", ctx ? "out" : "ctx");
    *out = NULL;
    TERN_REQUIRE(ctx, layout, TERN_ERR_ARG, "qtensor_create: layout is NULL, expected one");
    TERN_TRY(tern_quant_check_layout(ctx, "qtensor_create", layout, &n));
    TERN_TRY(check_codes(ctx, layout, codes));
    TERN_TRY(check_groups(ctx, "scales", scales, layout->n_groups, !layout->symmetric));
    if (layout->symmetric)
        TERN_REQUIRE(ctx, !tern_given(minima), TERN_ERR_ARG,
                     "qtensor_create: minima of symmetric codes are %s, expected none", tern_dims_text(minima).text);
    else
        TERN_TRY(check_groups(ctx, "minima", minima, layout->n_groups, false));

    TERN_TRY(tern_qtensor_alloc(ctx, layout, n, &q));
    memcpy(q->codes, codes->data, q->code_bytes);
    memcpy(q->scales, scales->data, (size_t)layout->n_groups * sizeof *q->scales);
    if (q->minima)
        memcpy(q->minima, minima->data, (size_t)layout->n_groups * sizeof *q->minima);
    *out = q;
    return TERN_OK;
}

void tern_qtensor_destroy(tern_qtensor **q)
{
    if (!q || !*q)
        return;
    tern_free((*q)->codes);
    tern_free((*q)->scales);
    tern_free((*q)->minima);
    tern_free(*q);
    *q = NULL;
}

tern_quant_layout tern_qtensor_layout(const tern_qtensor *q)
{
    return q ? q->layout : (tern_quant_layout){ 0 };
}

const uint8_t *tern_qtensor_codes(const tern_qtensor *q)
{
    return q ? q->codes : NULL;
}

size_t tern_qtensor_code_bytes(const tern_qtensor *q)
{
    return q ? q->code_bytes : 0;
}

const float *tern_qtensor_scales(const tern_qtensor *q)
{
    return q ? q->scales : NULL;
}

const float *tern_qtensor_minima(const tern_qtensor *q)
{
    return q ? q->minima : NULL;
}

size_t tern_qtensor_bytes(const tern_qtensor *q)
{
    if (!q)
        return 0;
    return sizeof *q + q->code_bytes + (size_t)q->layout.n_groups * sizeof(float) * (q->minima ? 2 : 1);
}

/* ---- back to numbers ---- */

/* Elements from e on that walk through the scales in one step: all with the same one, or each with the next. */
struct run {
    size_t n;
    size_t group; /* of the first */
    size_t step;  /* 0 or 1 */
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static struct run run_at(const tern_quant_layout *l, size_t e)
{
    const size_t size = (size_t)l->group_size;

    if (l->grouping == TERN_QUANT_AXIS && l->axis != l->rank - 1) {
        size_t inner = 1;
        for (int i = l->axis + 1; i < l->rank; i++)
            inner *= (size_t)l->dim[i];
        return (struct run){ inner - e % inner, e / inner / size * inner + e % inner, 1 };
    }
    if (l->n_shards == 1 && l->axis == l->rank - 1)
        return (struct run){ size - e % size, e / size, 0 };

    /* Merged shards: local is the place in the shard i / in, flattened as [out, in]. */
    const size_t shards = (size_t)l->n_shards, in = (size_t)l->dim[l->axis] / shards, cols = (size_t)l->dim[1];
    const size_t row = e / cols, col = e % cols;
    const size_t i = l->axis == 1 ? col : row, o = l->axis == 1 ? row : col;
    const size_t local = o * in + i % in, group = local / size, left = (group + 1) * size - local;
    if (l->axis == 1)
        return (struct run){ smaller(left, in - i % in), group * shards + i / in, 0 };
    return (struct run){ smaller((left + in - 1) / in, cols - col), group * shards + i / in, 0 };
}

struct tern_quant_place tern_quant_place_at(const tern_quant_layout *l, size_t row, size_t col)
{
    const size_t size = (size_t)l->group_size, cols = (size_t)l->dim[1];

    if (l->grouping == TERN_QUANT_AXIS && l->axis == 0)
        return (struct tern_quant_place){ row / size * cols + col, size - row % size, 1 };
    if (l->n_shards == 1 && l->axis == 1) {
        const size_t e = row * cols + col, left = size - e % size;
        const size_t rows = left <= cols - col ? 1 : (left + cols - 1) / cols;
        return (struct tern_quant_place){ e / size, rows, smaller(left, cols - col) };
    }

    /* Merged shards, as in run_at: i along the axis, o along the other one. */
    const size_t shards = (size_t)l->n_shards, in = (size_t)l->dim[l->axis] / shards;
    const size_t i = l->axis == 1 ? col : row, o = l->axis == 1 ? row : col;
    const size_t local = o * in + i % in, group = local / size, left = (group + 1) * size - local;
    const size_t along_i = smaller(left, in - i % in), along_o = (left + in - 1) / in;
    return (struct tern_quant_place){ group * shards + i / in, l->axis == 1 ? along_o : along_i,
                                      l->axis == 1 ? along_i : along_o };
}

/* Codes first .. first + n as numbers. */
static void decode(const struct tern_qtensor *q, float *to, size_t first, size_t n)
{
    const bool symmetric = q->layout.symmetric;
    const uint8_t *codes = q->codes;

    if (q->layout.bits == 4) {
        const int sign = symmetric ? 8 : 0; /* (x ^ 8) - 8 gives a nibble its sign */
        for (size_t e = first; e < first + n; e++) {
            const int nibble = e % 2 ? codes[e / 2] & 15 : codes[e / 2] >> 4;
            *to++ = (float)((nibble ^ sign) - sign);
        }
    } else if (symmetric) {
        for (size_t i = 0; i < n; i++)
            to[i] = (float)(int8_t)codes[first + i];
    } else {
        for (size_t i = 0; i < n; i++)
            to[i] = (float)codes[first + i];
    }
}

void tern_dequant_span(const struct tern_qtensor *q, float *to, size_t first, size_t n)
{
    for (size_t done = 0; done < n;) {
        const struct run run = run_at(&q->layout, first + done);
        const size_t here = smaller(run.n, n - done);
        const float *scale = q->scales + run.group;
        float *part = to + done;
        decode(q, part, first + done, here);
        if (q->layout.symmetric) {
            for (size_t i = 0; i < here; i++)
                part[i] = scale[i * run.step] * part[i];
        } else {
            const float *minimum = q->minima + run.group;
            for (size_t i = 0; i < here; i++)
                part[i] = part[i] / scale[i * run.step] + minimum[i * run.step];
        }
        done += here;
    }
}

#define BLOCK 256 /* elements on the stack between the formula and the rounding */

struct dequantize {
    const struct tern_qtensor *q;
    const tern_tensor *out;
};

static void dequantize_region(void *arg, const struct tern_par *par)
{
    const struct dequantize *d = arg;
    float block[BLOCK];
    size_t e, end;

    tern_share(par, d->q->n, 64, &e, &end);
    if (d->out->dtype == TERN_FP32) {
        tern_dequant_span(d->q, (float *)d->out->data + e, e, end - e);
        return;
    }
    for (; e < end; e += BLOCK) {
        const size_t n = smaller(BLOCK, end - e);
        tern_dequant_span(d->q, block, e, n);
        if (d->out->dtype == TERN_FP16)
            par->kernels->f16_from_f32((uint16_t *)d->out->data + e, block, n);
        else
            par->kernels->bf16_from_f32((uint16_t *)d->out->data + e, block, n);
    }
}

tern_status tern_weight_dequantize(tern_ctx *ctx, const tern_qtensor *q, tern_tensor *out)
{
    TERN_REQUIRE(ctx, ctx && q && out, TERN_ERR_ARG, "weight_dequantize: %s is NULL", !ctx ? "ctx" : !q ? "q" : "out");
    TERN_REQUIRE(ctx, out->dtype == TERN_FP32 || out->dtype == TERN_FP16 || out->dtype == TERN_BF16, TERN_ERR_DTYPE,
                 "weight_dequantize: out is %s, expected fp32, fp16 or bf16", tern_dtype_name(out->dtype));
    TERN_TRY(tern_check_tensor(ctx, "weight_dequantize", "out", out, out->dtype));

    tern_tensor shape = { .rank = q->layout.rank };
    memcpy(shape.dim, q->layout.dim, sizeof shape.dim);
    bool same = out->rank == shape.rank;
    for (int i = 0; same && i < shape.rank; i++)
        same = out->dim[i] == shape.dim[i];
    TERN_REQUIRE(ctx, same, TERN_ERR_SHAPE, "weight_dequantize: out is %s, expected %s", tern_dims_text(out).text,
                 tern_dims_text(&shape).text);
    return tern_region(ctx, dequantize_region, &(struct dequantize){ q, out });
}

/* ---- scales of output channels ---- */

void tern_quant_expand(float *out, size_t n, const float *scales, size_t groups)
{
    const size_t each = n / groups;

    for (size_t o = 0; o < n; o++)
        out[o] = scales[o / each];
}

tern_status tern_quant_expand_scales(tern_ctx *ctx, const tern_tensor *scales, tern_tensor *out)
{
    static const char op[] = "quant_expand_scales";

    TERN_TRY(tern_check_tensor(ctx, op, "scales", scales, TERN_FP32));
    TERN_TRY(tern_check_tensor(ctx, op, "out", out, TERN_FP32));
    TERN_REQUIRE(ctx, out->rank == 1, TERN_ERR_SHAPE, "%s: out is %s, expected a vector", op, tern_dims_text(out).text);
    const int64_t groups = elements(scales), n = out->dim[0];
    TERN_REQUIRE(ctx, groups >= 1 && n % groups == 0, TERN_ERR_SHAPE,
                 "%s: %" PRId64 " scales for %" PRId64 " output channels, expected a number that divides them", op,
                 groups, n);
    const struct tern_operand operands[] = { { "out", out, true, false }, { "scales", scales, false, true } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, 2));
    tern_quant_expand(out->data, (size_t)n, scales->data, (size_t)groups);
    return TERN_OK;
}
