/* weight.c: matrices in the layout that the kernels stream, and vectors as fp32.  quantize_weight.c has those in groups. */
#include "base/fpmode.h"
#include "ops/quantize_spans.h"
#include "ops/quantize_weight.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

struct pack {
    const tern_tensor *w;
    size_t ldk, ldn; /* strides along in and out, in elements */
    struct tern_weight *weight;
    atomic_bool too_large; /* a finite value became an infinite half */
};

struct tern_weight_layout tern_weight_layout(enum tern_weight_format format, size_t in)
{
    const size_t per = format == TERN_WEIGHT_BF16 ? 2 : format == TERN_WEIGHT_Q8 ? 4 : 1;
    const struct tern_weight_layout layout = { per, format == TERN_WEIGHT_F16 ? 64 : 128, (in + per - 1) / per };

    return layout;
}

/* Steps k0 .. k0 + k of the n columns from `col` on, as a panel of f32. */
static void pack_f32(const struct tern_kernels *kernels, float *to, const struct pack *p, size_t col, size_t k0,
                     size_t k, size_t n)
{
    const size_t at = col * p->ldn + k0 * p->ldk;

    if (p->w->dtype == TERN_FP32)
        kernels->pack_f32(to, (const float *)p->w->data + at, p->ldk, p->ldn, k, n);
    else if (p->w->dtype == TERN_FP16)
        kernels->pack_f16(to, (const uint16_t *)p->w->data + at, p->ldk, p->ldn, k, n);
    else
        kernels->pack_bf16(to, (const uint16_t *)p->w->data + at, p->ldk, p->ldn, k, n);
}

/* Narrow panels are made of pieces of an f32 one: 8 KiB of stack. */
#define PIECE 64

/* Largest magnitude of each column, and whether any of its numbers is not finite. */
static void column_sizes(const struct tern_kernels *kernels, const struct pack *p, size_t col, size_t n, float *max,
                         bool *finite)
{
    const size_t in = (size_t)p->weight->in;
    _Alignas(64) float piece[PIECE * TERN_PANEL];

    for (size_t j = 0; j < TERN_PANEL; j++) {
        max[j] = 0;
        finite[j] = true;
    }
    for (size_t k0 = 0; k0 < in; k0 += PIECE) {
        const size_t k = in - k0 < PIECE ? in - k0 : PIECE;
        pack_f32(kernels, piece, p, col, k0, k, n);
        for (size_t i = 0; i < k * TERN_PANEL; i++) {
            const float size = fabsf(piece[i]);
            max[i % TERN_PANEL] = size > max[i % TERN_PANEL] ? size : max[i % TERN_PANEL];
            finite[i % TERN_PANEL] = finite[i % TERN_PANEL] && isfinite(size);
        }
    }
}

/* Columns as s8 with a scale each: the rule of quantize_row_q8. */
static void quantize_panel(const struct tern_kernels *kernels, const struct pack *p, int8_t *to, size_t panel, size_t n)
{
    const size_t in = (size_t)p->weight->in, col = panel * TERN_PANEL;
    float *scale = p->weight->scale + col, max[TERN_PANEL], inverse[TERN_PANEL];
    int32_t *start = p->weight->start + col, more[TERN_PANEL];
    bool finite[TERN_PANEL];
    _Alignas(64) float piece[PIECE * TERN_PANEL];
    int8_t codes[PIECE * TERN_PANEL];

    column_sizes(kernels, p, col, n, max, finite);
    for (size_t j = 0; j < TERN_PANEL; j++) {
        const bool plain = finite[j] && max[j] >= 0x1p-100f;
        scale[j] = !finite[j] ? NAN : plain ? max[j] / 127 : 1;
        inverse[j] = plain ? 127 / max[j] : 0;
        start[j] = 0;
    }
    for (size_t k0 = 0; k0 < in; k0 += PIECE, to += PIECE * TERN_PANEL) {
        const size_t k = in - k0 < PIECE ? in - k0 : PIECE;
        pack_f32(kernels, piece, p, col, k0, k, n);
        for (size_t i = 0; i < k * TERN_PANEL; i++)
            codes[i] = (int8_t)(finite[i % TERN_PANEL] ? rintf(piece[i] * inverse[i % TERN_PANEL]) : 0);
        kernels->pack_q8(to, more, codes, TERN_PANEL, 1, k, TERN_PANEL);
        for (size_t j = 0; j < TERN_PANEL; j++)
            start[j] = (int32_t)((uint32_t)start[j] + (uint32_t)more[j]);
    }
}

/* Whether a finite value rounds to no finite half: halfway between the largest, 65504, and 65536 goes up. */
static bool overflows_f16(float x)
{
    return fabsf(x) >= 65520 && fabsf(x) <= FLT_MAX;
}

static void pack_panel(const struct tern_kernels *kernels, struct pack *p, size_t panel)
{
    const struct tern_weight *weight = p->weight;
    const size_t in = (size_t)weight->in, out = (size_t)weight->out;
    const size_t col = panel * TERN_PANEL, n = out - col < TERN_PANEL ? out - col : TERN_PANEL;
    const struct tern_weight_layout layout = tern_weight_layout(weight->format, in);
    char *to = (char *)weight->words + panel * layout.steps * layout.step_bytes;
    _Alignas(64) float piece[PIECE * TERN_PANEL];
    bool large = false;

    if (weight->format == TERN_WEIGHT_F32) {
        pack_f32(kernels, (float *)(void *)to, p, col, 0, in, n);
    } else if (p->w->dtype == TERN_INT8) {
        kernels->pack_q8((int8_t *)to, weight->start + col, (const int8_t *)p->w->data + col * p->ldn, p->ldk, p->ldn,
                         in, n);
    } else if (weight->format == TERN_WEIGHT_Q8) {
        quantize_panel(kernels, p, (int8_t *)to, panel, n);
    } else {
        for (size_t k0 = 0; k0 < in; k0 += PIECE, to += PIECE / layout.per * layout.step_bytes) {
            const size_t k = in - k0 < PIECE ? in - k0 : PIECE;
            pack_f32(kernels, piece, p, col, k0, k, n);
            if (weight->format == TERN_WEIGHT_F16) {
                kernels->f16_from_f32((uint16_t *)(void *)to, piece, k * TERN_PANEL);
                for (size_t i = 0; i < k * TERN_PANEL; i++)
                    large |= overflows_f16(piece[i]);
            } else {
                kernels->pair_bf16((uint16_t *)(void *)to, piece, k);
            }
        }
        if (large)
            atomic_store(&p->too_large, true);
    }
}

/* Panels are cut over threads: each is written, and so placed in memory, by one of them. */
static void pack_region(void *arg, const struct tern_par *par)
{
    static const struct tern_trace_kind kind = { "pack", { "in", "out" } };
    const double begin = tern_trace_begin(par);
    struct pack *p = arg;
    size_t panel, end;

    tern_share(par, ((size_t)p->weight->out + TERN_PANEL - 1) / TERN_PANEL, 1, &panel, &end);
    for (; panel < end; panel++)
        pack_panel(par->kernels, p, panel);
    tern_trace_end(par, &kind, begin, (size_t)p->weight->in, (size_t)p->weight->out, 0);
}

/* Bytes of the panels, and of these with scales and starts behind them. */
static bool count_bytes(const struct tern_weight *w, size_t *panel_bytes, size_t *bytes)
{
    const struct tern_weight_layout layout = tern_weight_layout(w->format, (size_t)w->in);
    const size_t n_panels = ((size_t)w->out + TERN_PANEL - 1) / TERN_PANEL;

    return tern_size_mul(n_panels, layout.steps, panel_bytes) &&
           tern_size_mul(*panel_bytes, layout.step_bytes, panel_bytes) &&
           tern_size_add(*panel_bytes, w->format == TERN_WEIGHT_Q8 ? n_panels * TERN_PANEL * 8 : 0, bytes);
}

/* The first value that fp16 cannot hold, by its index. */
static tern_status name_too_large(tern_ctx *ctx, const tern_tensor *w)
{
    const size_t rows = (size_t)w->dim[0], cols = (size_t)w->dim[1];
    float block[PIECE];

    for (size_t row = 0; row < rows; row++)
        for (size_t col = 0; col < cols; col += PIECE) {
            const size_t n = cols - col < PIECE ? cols - col : PIECE, e = row * cols + col;
            tern_widen(ctx->kernels, block, (const char *)w->data + e * tern_dtype_size(w->dtype), w->dtype, n);
            for (size_t i = 0; i < n; i++)
                if (overflows_f16(block[i]))
                    return tern_fail(ctx, TERN_ERR_ARG,
                                     "weight_pack: w[%zu, %zu] is %g, expected at most 65504 for panels of fp16", row,
                                     col + i, (double)block[i]);
        }
    return TERN_OK; /* not reached: one of them was seen */
}

/* The scales of an int8 matrix: one finite number for every so many output channels. */
static tern_status check_scale(tern_ctx *ctx, const tern_tensor *scale, int64_t out)
{
    int64_t groups = 1;

    TERN_TRY(tern_check_tensor(ctx, "weight_pack", "scale", scale, TERN_FP32));
    for (int i = 0; i < scale->rank; i++)
        groups *= scale->dim[i];
    TERN_REQUIRE(ctx, groups >= 1 && out % groups == 0, TERN_ERR_SHAPE,
                 "weight_pack: scale is %s, %" PRId64 " values for %" PRId64
                 " output channels, expected a number that divides them",
                 tern_dims_text(scale).text, groups, out);
    for (int64_t g = 0; g < groups; g++) {
        const float value = ((const float *)scale->data)[g];
        TERN_REQUIRE(ctx, isfinite(value), TERN_ERR_ARG,
                     "weight_pack: scale[%" PRId64 "] is %g, expected a finite number", g, (double)value);
    }
    return TERN_OK;
}

/* A matrix of plain numbers, or of codes with their scales. */
static tern_status check_matrix(tern_ctx *ctx, const tern_tensor *w, bool transposed, tern_dtype dtype,
                                const tern_tensor *scale)
{
    TERN_REQUIRE(ctx, w, TERN_ERR_ARG, "weight_pack: w is NULL, expected a matrix");
    TERN_REQUIRE(ctx, !w->packed, TERN_ERR_ARG, "weight_pack: w is packed already, expected plain numbers");
    const bool codes = w->dtype == TERN_INT8 && dtype == TERN_INT8;
    if (codes) {
        TERN_TRY(tern_check_tensor(ctx, "weight_pack", "w", w, TERN_INT8));
        TERN_REQUIRE(ctx, w->rank == 2, TERN_ERR_SHAPE, "weight_pack: w is %s, expected a matrix",
                     tern_dims_text(w).text);
    } else {
        TERN_REQUIRE(ctx, w->dtype != TERN_INT8, TERN_ERR_DTYPE, "weight_pack: w is int8, expected %s",
                     dtype == TERN_FP32 ? "fp32, fp16 or bf16"
                                        : "fp32, fp16 or bf16 (codes pack as int8, with their scale)");
        TERN_TRY(tern_check_weight(ctx, "weight_pack", "w", w, transposed, -1, -1, NULL));
    }
    TERN_REQUIRE(ctx, codes == tern_given(scale), TERN_ERR_ARG,
                 "weight_pack: scale is %s for a matrix of %s, expected %s", tern_given(scale) ? "given" : "NULL",
                 tern_dtype_name(w->dtype), codes ? "a number for each group of output channels" : "NULL");
    return codes ? check_scale(ctx, scale, w->dim[!transposed]) : TERN_OK;
}

/* A weight with its sizes, and nothing in it. */
static tern_status plan_weight(tern_ctx *ctx, int64_t in, int64_t out, tern_dtype dtype, size_t *panel_bytes,
                               struct tern_weight **weight)
{
    struct tern_weight plan = { .in = in, .out = out };

    plan.format = dtype == TERN_FP32   ? TERN_WEIGHT_F32
                  : dtype == TERN_FP16 ? TERN_WEIGHT_F16
                  : dtype == TERN_BF16 ? TERN_WEIGHT_BF16
                                       : TERN_WEIGHT_Q8;
    TERN_REQUIRE(ctx, count_bytes(&plan, panel_bytes, &plan.bytes), TERN_ERR_MEMORY,
                 "out of memory: panels of a weight [%" PRId64 ", %" PRId64 "]", in, out);
    TERN_TRY(TERN_ALLOC(ctx, 1, "a packed weight", weight));
    **weight = plan;
    return TERN_OK;
}

tern_status tern_weight_hollow(tern_ctx *ctx, int64_t in, int64_t out, tern_dtype dtype, tern_weight **weight)
{
    size_t panel_bytes;

    return plan_weight(ctx, in, out, dtype, &panel_bytes, weight);
}

tern_status tern_weight_pack_as(tern_ctx *ctx, const tern_tensor *w, bool transposed, tern_dtype dtype,
                                const tern_tensor *scale, tern_weight **out)
{
    struct tern_weight *weight = NULL;
    size_t panel_bytes = 0, bytes = 0;
    void *pages = NULL;
    tern_status status;

    TERN_REQUIRE(ctx, ctx && out, TERN_ERR_ARG, "weight_pack: %s is NULL", ctx ? "out" : "ctx");
    *out = NULL;
    TERN_REQUIRE(ctx, dtype == TERN_FP32 || dtype == TERN_FP16 || dtype == TERN_BF16 || dtype == TERN_INT8,
                 TERN_ERR_DTYPE, "weight_pack: dtype is %s, expected fp32, fp16, bf16 or int8", tern_dtype_name(dtype));
    TERN_TRY(check_matrix(ctx, w, transposed, dtype, scale));

    TERN_TRY(plan_weight(ctx, w->dim[transposed], w->dim[!transposed], dtype, &panel_bytes, &weight));
    bytes = weight->bytes;
    TERN_TRY_OR_FAIL(tern_pages_carve(ctx, bytes, "a packed weight", &pages));
    weight->words = pages;
    if (weight->format == TERN_WEIGHT_F32)
        weight->panels = pages;
    if (weight->format == TERN_WEIGHT_Q8) {
        weight->scale = (float *)(void *)((char *)pages + panel_bytes);
        weight->start = (int32_t *)(void *)((char *)pages + panel_bytes + (bytes - panel_bytes) / 2);
    }
    if (tern_given(scale)) {
        size_t groups = 1;
        for (int i = 0; i < scale->rank; i++)
            groups *= (size_t)scale->dim[i];
        tern_quant_expand(weight->scale, (size_t)weight->out, scale->data, groups);
    }

    struct pack p = {
        .w = w, .ldk = transposed ? 1 : (size_t)w->dim[1], .ldn = transposed ? (size_t)w->dim[1] : 1, .weight = weight
    };
    atomic_init(&p.too_large, false);
    TERN_TRY_OR_FAIL(tern_region(ctx, pack_region, &p));
    if (atomic_load(&p.too_large))
        TERN_TRY_OR_FAIL(name_too_large(ctx, w));
    *out = weight;
    return TERN_OK;

fail:
    tern_weight_destroy(&weight);
    return status;
}

tern_status tern_weight_pack(tern_ctx *ctx, const tern_tensor *w, bool transposed, tern_weight **out)
{
    return tern_weight_pack_as(ctx, w, transposed, TERN_FP32, NULL, out);
}

tern_dtype tern_weight_dtype(const tern_weight *w)
{
    if (!w)
        return TERN_DTYPE_COUNT;
    switch (w->format) {
    case TERN_WEIGHT_F32:
        return TERN_FP32;
    case TERN_WEIGHT_F16:
        return TERN_FP16;
    case TERN_WEIGHT_BF16:
        return TERN_BF16;
    case TERN_WEIGHT_Q8:
    case TERN_WEIGHT_GROUPS:
        break;
    }
    return TERN_INT8;
}

/* A channel's elements stand side by side in each step, `per` of them, at one place of every step: a cache line of its own for each, of
 * which few come in time by themselves.   next: the same place of the channel that is read after it. */
static void channel_f32(float *to, const float *at, const float *next, size_t in)
{
    for (size_t k = 0; k < in; k++, at += TERN_PANEL, next += TERN_PANEL) {
        __builtin_prefetch(next);
        to[k] = *at;
    }
}

static void channel_q8(float *to, const int8_t *at, const int8_t *next, size_t in, float scale)
{
    int8_t codes[PIECE];

    for (size_t k = 0, n; k < in; k += n, to += n) {
        n = in - k < PIECE ? in - k : PIECE;
        for (size_t j = 0; j < n; j += 4, at += 4 * TERN_PANEL, next += 4 * TERN_PANEL) {
            __builtin_prefetch(next);
            memcpy(codes + j, at, 4);
        }
        for (size_t j = 0; j < n; j++)
            to[j] = (float)codes[j] * scale;
    }
}

static void channel_halves(float *to, const uint16_t *at, const uint16_t *next, size_t in, const size_t per,
                           void widen(float *, const uint16_t *, size_t))
{
    uint16_t halves[PIECE];

    for (size_t k = 0, n; k < in; k += n) {
        n = in - k < PIECE ? in - k : PIECE;
        for (size_t j = 0; j < n; j += per, at += per * TERN_PANEL, next += per * TERN_PANEL) {
            __builtin_prefetch(next);
            for (size_t i = 0; i < per && j + i < n; i++)
                halves[j + i] = at[i];
        }
        widen(to + k, halves, n);
    }
}

/* Where a channel begins. */
static const void *channel_at(const struct tern_weight *w, const struct tern_weight_layout *layout, size_t channel)
{
    const size_t panel = channel / TERN_PANEL * layout->steps * layout->step_bytes;

    return (const char *)w->words + panel + channel % TERN_PANEL * (layout->step_bytes / TERN_PANEL);
}

void tern_weight_channel(const struct tern_kernels *kernels, const struct tern_weight *w, size_t channel,
                         size_t following, float *to)
{
    if (w->groups) {
        tern_groups_channel(w, channel, to);
        return;
    }
    const struct tern_weight_layout layout = tern_weight_layout(w->format, (size_t)w->in);
    const void *at = channel_at(w, &layout, channel), *next = channel_at(w, &layout, following);
    const size_t in = (size_t)w->in;

    if (w->format == TERN_WEIGHT_F32)
        channel_f32(to, at, next, in);
    else if (w->format == TERN_WEIGHT_Q8)
        channel_q8(to, at, next, in, w->scale[channel]);
    else if (w->format == TERN_WEIGHT_F16)
        channel_halves(to, at, next, in, 1, kernels->f32_from_f16);
    else
        channel_halves(to, at, next, in, 2, kernels->f32_from_bf16);
}

void tern_weight_destroy(tern_weight **w)
{
    if (!w || !*w)
        return;
    tern_pages_free((*w)->words, (*w)->bytes);
    tern_free((*w)->groups);
    tern_free(*w);
    *w = NULL;
}

tern_tensor tern_weight_view(const tern_weight *w)
{
    if (!w)
        return tern_tensor_none();
    return (
        tern_tensor){ .packed = w, .dtype = TERN_FP32, .rank = 2, .dim = { w->in, w->out }, .stride = { w->out, 1 } };
}

size_t tern_weight_bytes(const tern_weight *w)
{
    return w ? sizeof *w + (w->groups ? sizeof *w->groups : 0) + w->bytes : 0;
}

void tern_widen(const struct tern_kernels *kernels, float *to, const void *data, tern_dtype dtype, size_t n)
{
    const tern_fpmode caller = tern_fpmode_enter();

    if (dtype == TERN_FP16)
        kernels->f32_from_f16(to, data, n);
    else if (dtype == TERN_BF16)
        kernels->f32_from_bf16(to, data, n);
    else
        memcpy(to, data, n * sizeof *to);
    tern_fpmode_leave(caller);
}
