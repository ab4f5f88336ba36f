/* quantize.c: weights into codes.
 *
 * One region, split over groups.  A thread finds the extremes of its groups, then codes them, each in the arithmetic that
 * quantize.h states; 4-bit codes are bytes first and packed when all are there, as a byte may belong to two groups.  A value
 * that is not finite makes its group's scale NaN, a span that overflows makes it infinite: no codes are made then, and the
 * place is looked up afterwards, in order, so that the text does not depend on the threads. */
#include "ops/quantize_spans.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define BLOCK 256 /* elements on the stack at a time */

/* ---- schemes and options ---- */

static const char *const scheme_names[] = {
    [TERN_QUANT_CHECKPOINT] = "checkpoint", [TERN_QUANT_INJECTION] = "injection", [TERN_QUANT_GROUPWISE] = "groupwise"
};

static bool scheme_known(tern_quant_scheme scheme)
{
    return (int)scheme >= TERN_QUANT_CHECKPOINT && (int)scheme <= TERN_QUANT_GROUPWISE;
}

const char *tern_quant_scheme_name(tern_quant_scheme scheme)
{
    return scheme_known(scheme) ? scheme_names[scheme] : NULL;
}

tern_status tern_quant_scheme_find(tern_ctx *ctx, const char *name, tern_quant_scheme *out)
{
    TERN_REQUIRE(ctx, name && out, TERN_ERR_ARG, "quant_scheme_find: %s is NULL", name ? "out" : "name");
    for (int s = TERN_QUANT_CHECKPOINT; s <= TERN_QUANT_GROUPWISE; s++)
        if (strcmp(name, scheme_names[s]) == 0) {
            *out = (tern_quant_scheme)s;
            return TERN_OK;
        }
    return tern_fail(ctx, TERN_ERR_UNSUPPORTED,
                     "unsupported quantisation scheme: %s, expected checkpoint, injection or groupwise", name);
}

tern_quant_options tern_quant_options_default(tern_quant_scheme scheme)
{
    tern_quant_options options = { .scheme = scheme, .bits = 8 };

    if (scheme == TERN_QUANT_CHECKPOINT) {
        options.groups = 1;
        options.mlp_extra_grouping = true;
        options.mp_size = 1;
    } else if (scheme == TERN_QUANT_GROUPWISE) {
        options.group_size = 64;
        options.group_dim = 1;
    } else if (scheme != TERN_QUANT_INJECTION) {
        options = (tern_quant_options){ 0 };
    }
    return options;
}

static tern_status check_unread(tern_ctx *ctx, const char *op, const tern_quant_options *o, const char *field,
                                int64_t value)
{
    TERN_REQUIRE(ctx, value == 0, TERN_ERR_CONFIG, "%s: %s is %" PRId64 ", expected 0: the scheme %s does not read it",
                 op, field, value, scheme_names[o->scheme]);
    return TERN_OK;
}

static tern_status check_options(tern_ctx *ctx, const char *op, const tern_quant_options *o)
{
    TERN_REQUIRE(ctx, scheme_known(o->scheme), TERN_ERR_CONFIG,
                 "%s: scheme is %d, expected checkpoint 1, injection 2 or groupwise 3", op, (int)o->scheme);
    TERN_TRY(TERN_CHECK_RESERVED(ctx, op, o));
    TERN_REQUIRE(ctx, o->bits == 8 || o->bits == 4, TERN_ERR_CONFIG, "%s: bits is %d, expected 8 or 4", op, o->bits);
    if (o->scheme == TERN_QUANT_GROUPWISE) {
        TERN_TRY(check_unread(ctx, op, o, "groups", o->groups));
        TERN_REQUIRE(ctx, o->group_size >= 1, TERN_ERR_CONFIG, "%s: group_size is %" PRId64 ", expected 1 or more", op,
                     o->group_size);
    } else {
        const int64_t least = o->scheme == TERN_QUANT_INJECTION ? 0 : 1;
        TERN_TRY(check_unread(ctx, op, o, "group_size", o->group_size));
        TERN_TRY(check_unread(ctx, op, o, "group_dim", o->group_dim));
        TERN_REQUIRE(ctx, o->groups >= least, TERN_ERR_CONFIG,
                     "%s: groups is %" PRId64 ", expected %" PRId64 " or more", op, o->groups, least);
    }
    if (o->scheme == TERN_QUANT_CHECKPOINT) {
        TERN_REQUIRE(ctx, o->mp_size >= 1, TERN_ERR_CONFIG, "%s: mp_size is %d, expected 1 or more", op, o->mp_size);
        TERN_REQUIRE(ctx, o->merge_axis == 0 || o->merge_axis == 1, TERN_ERR_CONFIG,
                     "%s: merge_axis is %d, expected 0 or 1", op, o->merge_axis);
    } else {
        TERN_TRY(check_unread(ctx, op, o, "mlp_extra_grouping", o->mlp_extra_grouping));
        TERN_TRY(check_unread(ctx, op, o, "mp_size", o->mp_size));
        TERN_TRY(check_unread(ctx, op, o, "merge_axis", o->merge_axis));
    }
    return TERN_OK;
}

/* ---- the work ---- */

struct quantize {
    const tern_tensor *shards;
    size_t n_shards;
    tern_quant_options o;
    /* Groups of a shard.  Group g is the elements (g / inner * size + j) * inner + g % inner, j < size. */
    size_t groups, size, inner;
    /* Where codes and scales go: shard after shard, or side by side in rows of n_shards * cols. */
    bool side_by_side;
    size_t cols;
    struct tern_qtensor *q;
    uint8_t *bytes; /* one for each code: q's own with 8 bits */
    atomic_bool refused;
};

/* Groups [g, g + n) of a shard: neighbours in one slab, so that each of `rows` rows of `length` elements, `stride` apart,
 * is contiguous.  step 0: all elements are of one group;  1: element i of each row is of group g + i. */
struct patch {
    size_t shard, g, n;
    size_t first, rows, length, stride, step;
};

static struct patch patch_at(const struct quantize *z, size_t unit, size_t end)
{
    struct patch p = { .shard = unit / z->groups, .g = unit % z->groups, .n = 1 };

    if (z->inner == 1) {
        p.first = p.g * z->size;
        p.rows = 1;
        p.length = z->size;
        return p;
    }
    const size_t slab = p.g / z->inner, i = p.g % z->inner;
    p.n = z->inner - i < end - unit ? z->inner - i : end - unit;
    p.first = slab * z->size * z->inner + i;
    p.rows = z->size;
    p.length = p.n;
    p.stride = z->inner;
    p.step = 1;
    return p;
}

/* Scale of a group of a shard. */
static size_t scale_index(const struct quantize *z, size_t shard, size_t g)
{
    return z->side_by_side ? g * z->n_shards + shard : shard * z->groups + g;
}

/* n <= BLOCK values of a shard from element e on, in fp32. */
static const float *load(const struct tern_kernels *kernels, const tern_tensor *w, size_t e, size_t n, float *block)
{
    if (w->dtype == TERN_FP32)
        return (const float *)w->data + e;
    if (w->dtype == TERN_FP16)
        kernels->f32_from_f16(block, (const uint16_t *)w->data + e, n);
    else
        kernels->f32_from_bf16(block, (const uint16_t *)w->data + e, n);
    return block;
}

/* x[i] rounded to the type and widened again. */
static void round_to(const struct tern_kernels *kernels, tern_dtype dtype, float *x, size_t n)
{
    uint16_t half[BLOCK];

    if (dtype == TERN_FP16) {
        kernels->f16_from_f32(half, x, n);
        kernels->f32_from_f16(x, half, n);
    } else if (dtype == TERN_BF16) {
        kernels->bf16_from_f32(half, x, n);
        kernels->f32_from_bf16(x, half, n);
    }
}

static float largest_of(tern_dtype dtype)
{
    return dtype == TERN_FP16 ? 65504.0f : dtype == TERN_BF16 ? 0x1.fep127f : FLT_MAX;
}

/* hi[g] gets the largest value of each group, lo[g] the smallest; with lo NULL, hi the largest magnitude.  A group with a value
 * that is not finite gets NaN in hi. */
static void find_extremes(const struct quantize *z, const struct tern_kernels *kernels, const struct patch *p,
                          float *lo, float *hi)
{
    float block[BLOCK];

    for (size_t i = 0; i < p->n; i++) {
        hi[i] = lo ? -INFINITY : 0;
        if (lo)
            lo[i] = INFINITY;
    }
    for (size_t row = 0; row < p->rows; row++)
        for (size_t done = 0; done < p->length; done += BLOCK) {
            const size_t n = p->length - done < BLOCK ? p->length - done : BLOCK;
            const float *w = load(kernels, &z->shards[p->shard], p->first + row * p->stride + done, n, block);
            for (size_t i = 0; i < n; i++) {
                const size_t g = (done + i) * p->step;
                const float v = lo ? w[i] : fabsf(w[i]);
                if (!(fabsf(v) <= FLT_MAX))
                    hi[g] = NAN; /* and stays it: nothing is larger */
                else if (v > hi[g])
                    hi[g] = v;
                if (lo && v < lo[g])
                    lo[g] = v;
            }
        }
}

/* What a group's values are multiplied with or divided by, from its extremes; infinite where a step before the last overflows. */
static float scale_of(const struct quantize *z, const struct tern_kernels *kernels, float lo, float hi)
{
    const tern_dtype dtype = z->shards[0].dtype;
    const float levels = (float)(1 << z->o.bits);
    float x;

    if (isnan(hi))
        return NAN;
    if (z->o.scheme == TERN_QUANT_CHECKPOINT) {
        x = 2 * hi + 1e-5f;
        return isinf(x) ? x : 1 / x * levels;
    }
    if (z->o.scheme == TERN_QUANT_INJECTION) {
        x = hi * 2 / levels;
        return x == 0 ? 1 : x;
    }
    if (hi == lo)
        return 1;
    x = hi - lo;
    round_to(kernels, dtype, &x, 1);
    if (isinf(x))
        return x;
    x = 1 / x;
    round_to(kernels, dtype, &x, 1);
    x *= levels - 1;
    round_to(kernels, dtype, &x, 1);
    return x > largest_of(dtype) ? largest_of(dtype) : x;
}

/* Nearest integer, ties to even, of |x| <= 2^22: above 2^23 fp32 has no fractions. */
static float nearest(float x)
{
    return (x + 0x1.8p23f) - 0x1.8p23f;
}

/* Codes of n values, all of one group (step 0) or each of the next.  Clamped before they are rounded: with integer limits the
 * order does not matter. */
static void encode(const struct quantize *z, const struct tern_kernels *kernels, uint8_t *codes, const float *w,
                   size_t n, const float *scale, const float *minimum, size_t step)
{
    const tern_dtype dtype = z->shards[0].dtype;
    const bool symmetric = z->o.scheme != TERN_QUANT_GROUPWISE;
    const float least = symmetric ? -(float)(1 << (z->o.bits - 1)) : 0;
    const float most = least + (float)((1 << z->o.bits) - 1);
    float x[BLOCK];

    if (z->o.scheme == TERN_QUANT_CHECKPOINT) {
        for (size_t i = 0; i < n; i++)
            x[i] = w[i] * scale[i * step];
    } else if (z->o.scheme == TERN_QUANT_INJECTION) {
        for (size_t i = 0; i < n; i++)
            x[i] = w[i] / scale[i * step];
    } else {
        for (size_t i = 0; i < n; i++)
            x[i] = w[i] - minimum[i * step];
        round_to(kernels, dtype, x, n);
        for (size_t i = 0; i < n; i++)
            x[i] *= scale[i * step];
        round_to(kernels, dtype, x, n);
    }
    for (size_t i = 0; i < n; i++) {
        const float inside = x[i] < least ? least : x[i] > most ? most : x[i];
        codes[i] = (uint8_t)(int)nearest(inside);
    }
}

/* n codes of a shard from element e on, to their places. */
static void place(const struct quantize *z, size_t shard, size_t e, const uint8_t *codes, size_t n)
{
    if (!z->side_by_side) {
        memcpy(z->bytes + shard * z->groups * z->size + e, codes, n);
        return;
    }
    while (n) {
        const size_t left = z->cols - e % z->cols, here = n < left ? n : left;
        memcpy(z->bytes + (e / z->cols * z->n_shards + shard) * z->cols + e % z->cols, codes, here);
        codes += here;
        e += here;
        n -= here;
    }
}

static void encode_patch(const struct quantize *z, const struct tern_kernels *kernels, const struct patch *p)
{
    const size_t index = scale_index(z, p->shard, p->g);
    float *scale = z->q->scales + index;
    const float *minimum = z->q->minima ? z->q->minima + index : NULL;
    float block[BLOCK];
    uint8_t codes[BLOCK];

    for (size_t row = 0; row < p->rows; row++)
        for (size_t done = 0; done < p->length; done += BLOCK) {
            const size_t n = p->length - done < BLOCK ? p->length - done : BLOCK;
            const size_t e = p->first + row * p->stride + done, skip = done * p->step;
            const float *w = load(kernels, &z->shards[p->shard], e, n, block);
            encode(z, kernels, codes, w, n, scale + skip, minimum ? minimum + skip : NULL, p->step);
            place(z, p->shard, e, codes, n);
        }
    if (z->o.scheme == TERN_QUANT_CHECKPOINT)
        *scale = 1 / *scale;
}

static void quantize_region(void *arg, const struct tern_par *par)
{
    struct quantize *z = arg;
    struct tern_qtensor *q = z->q;
    size_t first, end;
    struct patch p;

    tern_share(par, z->n_shards * z->groups, 1, &first, &end);
    for (size_t unit = first; unit < end; unit += p.n) {
        p = patch_at(z, unit, end);
        const size_t index = scale_index(z, p.shard, p.g);
        float *lo = q->minima ? q->minima + index : NULL, *scale = q->scales + index;
        find_extremes(z, par->kernels, &p, lo, scale);
        for (size_t i = 0; i < p.n; i++) {
            scale[i] = scale_of(z, par->kernels, lo ? lo[i] : 0, scale[i]);
            if (!isfinite(scale[i]))
                atomic_store(&z->refused, true);
        }
    }
    tern_barrier(par);
    if (atomic_load(&z->refused))
        return;

    for (size_t unit = first; unit < end; unit += p.n) {
        p = patch_at(z, unit, end);
        encode_patch(z, par->kernels, &p);
    }
    if (z->o.bits == 8)
        return;
    tern_barrier(par);
    tern_share(par, q->code_bytes, 64, &first, &end);
    for (size_t i = first; i < end; i++)
        q->codes[i] = (uint8_t)(z->bytes[2 * i] << 4 | (z->bytes[2 * i + 1] & 15));
}

/* ---- what was refused ---- */

/* "[3, 7]" for an element. */
static struct tern_dims_text index_text(const tern_tensor *w, size_t e)
{
    tern_tensor index = { .rank = w->rank };

    for (int i = w->rank - 1; i >= 0; i--) {
        index.dim[i] = (int64_t)(e % (size_t)w->dim[i]);
        e /= (size_t)w->dim[i];
    }
    return tern_dims_text(&index);
}

static tern_status name_refused(tern_ctx *ctx, const char *op, const struct quantize *z)
{
    const size_t n = z->groups * z->size;
    float block[BLOCK];

    for (size_t s = 0; s < z->n_shards; s++)
        for (size_t e = 0; e < n; e += BLOCK) {
            const size_t here = n - e < BLOCK ? n - e : BLOCK;
            const float *w = load(ctx->kernels, &z->shards[s], e, here, block);
            for (size_t i = 0; i < here; i++) {
                if (isfinite(w[i]))
                    continue;
                if (z->n_shards > 1)
                    return tern_fail(ctx, TERN_ERR_ARG, "%s: shards[%zu]%s is %g, expected a finite number", op, s,
                                     index_text(&z->shards[s], e + i).text, (double)w[i]);
                return tern_fail(ctx, TERN_ERR_ARG, "%s: w%s is %g, expected a finite number", op,
                                 index_text(z->shards, e + i).text, (double)w[i]);
            }
        }

    size_t unit = 0;
    while (isfinite(z->q->scales[scale_index(z, unit / z->groups, unit % z->groups)]))
        unit++;
    struct patch p = patch_at(z, unit, unit + 1);
    float lo = 0, hi;
    find_extremes(z, ctx->kernels, &p, z->q->minima ? &lo : NULL, &hi);
    if (!z->q->minima)
        lo = -hi;
    return tern_fail(
        ctx, TERN_ERR_ARG, "%s: group %zu of shard %zu reaches from %g to %g, expected a span of at most %g", op, p.g,
        p.shard, (double)lo, (double)hi, (double)largest_of(z->q->minima ? z->shards[0].dtype : TERN_FP32));
}

/* ---- checks and layout ---- */

static tern_status check_shards(tern_ctx *ctx, const char *op, const tern_tensor *shards, int64_t n, size_t *elements)
{
    for (int64_t s = 0; s < n; s++) {
        const tern_tensor *w = &shards[s];
        char name[40] = "w";
        if (n > 1)
            snprintf(name, sizeof name, "shards[%" PRId64 "]", s);
        TERN_REQUIRE(ctx, w->dtype == TERN_FP32 || w->dtype == TERN_FP16 || w->dtype == TERN_BF16, TERN_ERR_DTYPE,
                     "%s: %s is %s, expected fp32, fp16 or bf16", op, name, tern_dtype_name(w->dtype));
        TERN_TRY(tern_check_tensor(ctx, op, name, w, w->dtype));
        TERN_REQUIRE(ctx, n == 1 || w->rank == 2, TERN_ERR_SHAPE, "%s: %s is %s, expected a matrix", op, name,
                     tern_dims_text(w).text);
        TERN_REQUIRE(ctx, w->rank >= 1, TERN_ERR_SHAPE, "%s: %s has rank 0, expected at least one axis", op, name);
        TERN_REQUIRE(ctx, w->dtype == shards->dtype, TERN_ERR_DTYPE, "%s: %s is %s, expected %s like the first shard",
                     op, name, tern_dtype_name(w->dtype), tern_dtype_name(shards->dtype));
        *elements = 1;
        for (int i = 0; i < w->rank; i++) {
            TERN_REQUIRE(ctx, w->dim[i] >= 1, TERN_ERR_SHAPE, "%s: %s is %s, expected at least one element", op, name,
                         tern_dims_text(w).text);
            TERN_REQUIRE(ctx, w->dim[i] == shards->dim[i], TERN_ERR_SHAPE,
                         "%s: %s is %s, expected %s like the first shard", op, name, tern_dims_text(w).text,
                         tern_dims_text(shards).text);
            *elements *= (size_t)w->dim[i];
        }
    }
    return TERN_OK;
}

int64_t tern_quant_groups(const tern_quant_options *o, const tern_tensor *w, int64_t n)
{
    const int64_t groups = o->groups ? o->groups : w->dim[0];

    if (o->mlp_extra_grouping && w->rank == 2 && groups <= INT64_MAX / 2) {
        const double rows = (double)w->dim[0], cols = (double)w->dim[1], parts = (double)o->mp_size * (double)n;
        if (parts * rows / cols == 4 || parts * cols / rows == 4)
            return 2 * groups;
    }
    return groups;
}

/* The groups of each shard, and the layout of the whole.  `elements`: of one shard. */
static tern_status plan(tern_ctx *ctx, const char *op, struct quantize *z, size_t elements, tern_quant_layout *layout)
{
    const tern_tensor *w = z->shards;
    const tern_quant_options *o = &z->o;
    const int64_t n = (int64_t)z->n_shards;

    *layout = (tern_quant_layout){ .bits = o->bits,
                                   .symmetric = o->scheme != TERN_QUANT_GROUPWISE,
                                   .axis = w->rank - 1,
                                   .n_shards = 1,
                                   .rank = w->rank };
    memcpy(layout->dim, w->dim, sizeof layout->dim);
    z->inner = 1;
    if (o->scheme == TERN_QUANT_GROUPWISE) {
        TERN_REQUIRE(ctx, o->group_dim >= 0 && o->group_dim < w->rank, TERN_ERR_SHAPE,
                     "%s: group_dim is %d, expected 0..%d for w %s", op, o->group_dim, w->rank - 1,
                     tern_dims_text(w).text);
        TERN_REQUIRE(ctx, w->dim[o->group_dim] % o->group_size == 0, TERN_ERR_SHAPE,
                     "%s: w is %s, %" PRId64 " elements along axis %d, expected a multiple of group_size %" PRId64, op,
                     tern_dims_text(w).text, w->dim[o->group_dim], o->group_dim, o->group_size);
        layout->grouping = TERN_QUANT_AXIS;
        layout->axis = o->group_dim;
        z->size = (size_t)o->group_size;
        for (int i = o->group_dim + 1; i < w->rank; i++)
            z->inner *= (size_t)w->dim[i];
    } else {
        const int64_t groups = tern_quant_groups(o, w, n);
        TERN_REQUIRE(ctx, elements % (size_t)groups == 0, TERN_ERR_SHAPE,
                     "%s: w is %s, %zu elements, expected a multiple of %" PRId64 " groups", op, tern_dims_text(w).text,
                     elements, groups);
        z->size = elements / (size_t)groups;
        if (n > 1) {
            TERN_REQUIRE(ctx, !__builtin_mul_overflow(w->dim[o->merge_axis], n, &layout->dim[o->merge_axis]),
                         TERN_ERR_SHAPE, "%s: %" PRId64 " shards %s, more elements than there can be", op, n,
                         tern_dims_text(w).text);
            z->side_by_side = o->merge_axis == 1;
            z->cols = (size_t)w->dim[1];
            layout->n_shards = z->side_by_side ? n : 1;
        }
    }
    z->groups = elements / z->size;
    layout->group_size = (int64_t)z->size;
    layout->n_groups = (int64_t)z->groups * n;
    return TERN_OK;
}

static tern_status quantize(tern_ctx *ctx, const char *op, const tern_tensor *shards, int64_t n,
                            const tern_quant_options *options, tern_qtensor **out)
{
    struct quantize z = { .shards = shards,
                          .n_shards = (size_t)n,
                          .o = options ? *options : tern_quant_options_default(TERN_QUANT_CHECKPOINT) };
    tern_quant_layout layout;
    uint8_t *unpacked = NULL;
    size_t elements;
    tern_status status;

    TERN_TRY(check_options(ctx, op, &z.o));
    TERN_TRY(check_shards(ctx, op, shards, n, &elements));
    TERN_REQUIRE(ctx, n == 1 || z.o.scheme == TERN_QUANT_CHECKPOINT, TERN_ERR_CONFIG,
                 "%s: %" PRId64 " shards with the scheme %s, expected checkpoint", op, n, scheme_names[z.o.scheme]);
    TERN_TRY(plan(ctx, op, &z, elements, &layout));
    TERN_TRY(tern_quant_check_layout(ctx, op, &layout, &elements));

    TERN_TRY(tern_qtensor_alloc(ctx, &layout, elements, &z.q));
    if (layout.bits == 4)
        TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, elements, "codes before they are packed", &unpacked));
    z.bytes = unpacked ? unpacked : z.q->codes;
    TERN_TRY_OR_FAIL(tern_region(ctx, quantize_region, &z));
    if (atomic_load(&z.refused))
        TERN_TRY_OR_FAIL(name_refused(ctx, op, &z));
    tern_free(unpacked);
    *out = z.q;
    return TERN_OK;

fail:
    tern_free(unpacked);
    tern_qtensor_destroy(&z.q);
    return status;
}

tern_status tern_weight_quantize(tern_ctx *ctx, const tern_tensor *w, const tern_quant_options *options,
                                 tern_qtensor **out)
{
    TERN_REQUIRE(ctx, ctx && out, TERN_ERR_ARG, "weight_quantize: %s is NULL", ctx ? "out" : "ctx");
    *out = NULL;
    TERN_REQUIRE(ctx, w, TERN_ERR_ARG, "weight_quantize: w is NULL, expected a tensor");
    return quantize(ctx, "weight_quantize", w, 1, options, out);
}

tern_status tern_weight_quantize_shards(tern_ctx *ctx, const tern_tensor *shards, int64_t n,
                                        const tern_quant_options *options, tern_qtensor **out)
{
    TERN_REQUIRE(ctx, ctx && out, TERN_ERR_ARG, "weight_quantize_shards: %s is NULL", ctx ? "out" : "ctx");
    *out = NULL;
    TERN_REQUIRE(ctx, shards, TERN_ERR_ARG, "weight_quantize_shards: shards is NULL, expected tensors");
    TERN_REQUIRE(ctx, n >= 1, TERN_ERR_ARG, "weight_quantize_shards: n is %" PRId64 ", expected 1 or more", n);
    return quantize(ctx, "weight_quantize_shards", shards, n, options, out);
}
