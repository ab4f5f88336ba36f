/* fn_attention.c: attention over tensors that hold all keys, without a cache.
 *
 * Keys and values of each (batch, key head) are packed to panels straight from their strides and dtype; then, per tile of up
 * to 14 query rows: scores = q K as tiles of gemm_f32, softmax_f32 row by row in place, output = scores V.  The whole strip
 * of scores is kept, in fp32.  A row's bits are its own: each score and output is one chain, the softmax is of the row alone,
 * and the chain over V takes exactly the keys that the row sees: those that all rows of the tile see together, the ragged
 * rest, and what a mask hides from some of them, row by row. */
#include "ops/mask.h"
#include "ops/widen.h"

#include <tern/function.h>

#include <math.h>
#include <string.h>

struct attention {
    tern_dtype dtype;
    const void *q, *k, *v;
    struct tern_mask mask;
    void *out;
    size_t batch, heads, kv_heads, s, t, d, dv;
    size_t q_stride[3], k_stride[3], v_stride[3], out_stride[3]; /* batch, head, row; channels are dense */
    float scale;
    bool causal;

    float *k_panels, *v_panels; /* [batch][kv_heads][panels] of [d][32] and of [t][32] */
    float *scratch;             /* [threads][per_thread] */
    size_t per_thread, t_width; /* t rounded up to panels */
};

static size_t panels(size_t n)
{
    return (n + TERN_PANEL - 1) / TERN_PANEL;
}

static void pack_keys(const struct attention *a, const struct tern_par *par)
{
    const size_t k_panels = panels(a->t), v_panels = panels(a->dv), each = k_panels + v_panels;
    size_t item, end;

    tern_share(par, a->batch * a->kv_heads * each, 1, &item, &end);
    for (; item < end; item++) {
        const size_t which = item / each, p = item % each, b = which / a->kv_heads, g = which % a->kv_heads;
        if (p < k_panels) {
            const size_t at = b * a->k_stride[0] + g * a->k_stride[1] + p * TERN_PANEL * a->k_stride[2];
            const size_t left = a->t - p * TERN_PANEL;
            tern_wide_pack(par->kernels, a->k_panels + (which * k_panels + p) * a->d * TERN_PANEL,
                           tern_at(a->k, a->dtype, at), a->dtype, 1, a->k_stride[2], a->d,
                           left < TERN_PANEL ? left : TERN_PANEL);
        } else {
            const size_t col = (p - k_panels) * TERN_PANEL, left = a->dv - col;
            const size_t at = b * a->v_stride[0] + g * a->v_stride[1] + col;
            tern_wide_pack(par->kernels, a->v_panels + (which * v_panels + p - k_panels) * a->t * TERN_PANEL,
                           tern_at(a->v, a->dtype, at), a->dtype, a->v_stride[2], 1, a->t,
                           left < TERN_PANEL ? left : TERN_PANEL);
        }
    }
    tern_barrier(par);
}

/* Columns that row i of S sees. */
static size_t visible(const struct attention *a, size_t i)
{
    if (!a->causal)
        return a->t;
    return i + 1 + a->t > a->s ? i + 1 + a->t - a->s : 0;
}

/* Probabilities of a column that a mask hides; no other is below 0. */
#define HIDDEN (-1.0f)

/* The scores of row i of (b, head) become probabilities, in place. */
static void soften(const struct attention *a, const struct tern_kernels *kernels, size_t b, size_t head, size_t i,
                   float *scores)
{
    const size_t n = visible(a, i);
    const float *mask = tern_mask_row(&a->mask, b, head, i);
    uint16_t half[64];

    kernels->softmax_f32(scores, scores, mask, a->t, 0, n, a->scale, 0, NULL);
    for (size_t j = 0; a->dtype == TERN_BF16 && j < n; j += 64) {
        const size_t m = n - j < 64 ? n - j : 64;
        kernels->bf16_from_f32(half, scores + j, m);
        kernels->f32_from_bf16(scores + j, half, m);
    }
    for (size_t j = 0; mask && j < n; j++)
        if (mask[j] == -INFINITY)
            scores[j] = HIDDEN;
}

/* How many of m rows of probabilities see column j. */
static size_t seeing(const float *strip, size_t ld, size_t m, size_t j)
{
    size_t n = 0;

    for (size_t i = 0; i < m; i++)
        n += strip[i * ld + j] != HIDDEN;
    return n;
}

/* tile[m][32] += probabilities [m][ld] times rows [begin, end) of a panel of V, without what is hidden: runs of columns that all
 * rows see, that none sees, and others, those row by row. */
static void add_values(const struct tern_kernels *kernels, float *tile, const float *strip, size_t ld, size_t m,
                       const float *panel, size_t begin, size_t end, bool masked)
{
    while (begin < end) {
        const size_t n = masked ? seeing(strip, ld, m, begin) : m;
        size_t stop = masked ? begin + 1 : end;

        while (stop < end && seeing(strip, ld, m, stop) == n)
            stop++;
        if (n == m)
            kernels->gemm_f32(tile, TERN_PANEL, strip + begin, ld, panel + begin * TERN_PANEL, stop - begin, m, true,
                              NULL, 0);
        for (size_t i = 0; n > 0 && n < m && i < m; i++)
            add_values(kernels, tile + i * TERN_PANEL, strip + i * ld, ld, 1, panel, begin, stop, true);
        begin = stop;
    }
}

/* Rows [row, row + m) of (b, head). */
static void attend(const struct attention *a, const struct tern_kernels *kernels, size_t b, size_t head, size_t row,
                   size_t m, float *scratch)
{
    const size_t kv = b * a->kv_heads + head / (a->heads / a->kv_heads);
    const float *k_panels = a->k_panels + kv * panels(a->t) * a->d * TERN_PANEL;
    const float *v_panels = a->v_panels + kv * panels(a->dv) * a->t * TERN_PANEL;
    float *strip = scratch, *wide_q = strip + TERN_TILE_ROWS * a->t_width;
    const size_t q_at = b * a->q_stride[0] + head * a->q_stride[1] + row * a->q_stride[2];
    const size_t common = visible(a, row), most = visible(a, row + m - 1);
    const float *q = wide_q;
    size_t ldq = a->d;
    _Alignas(64) float tile[TERN_TILE_ROWS * TERN_PANEL];

    if (a->dtype == TERN_FP32) {
        q = (const float *)a->q + q_at;
        ldq = a->q_stride[2];
    } else {
        for (size_t i = 0; i < m; i++)
            tern_wide_load(kernels, wide_q + i * a->d, a->q, a->dtype, q_at + i * a->q_stride[2], a->d);
    }
    for (size_t p = 0; p * TERN_PANEL < most; p++)
        kernels->gemm_f32(strip + p * TERN_PANEL, a->t_width, q, ldq, k_panels + p * a->d * TERN_PANEL, a->d, m, false,
                          NULL, 0);
    for (size_t i = 0; i < m; i++)
        soften(a, kernels, b, head, row + i, strip + i * a->t_width);
    for (size_t p = 0; p * TERN_PANEL < a->dv; p++) {
        const float *panel = v_panels + p * a->t * TERN_PANEL;
        const size_t col = p * TERN_PANEL, n = a->dv - col < TERN_PANEL ? a->dv - col : TERN_PANEL;
        memset(tile, 0, m * TERN_PANEL * sizeof *tile);
        add_values(kernels, tile, strip, a->t_width, m, panel, 0, common, a->mask.rows != NULL);
        for (size_t i = 0; i < m; i++) {
            add_values(kernels, tile + i * TERN_PANEL, strip + i * a->t_width, a->t_width, 1, panel, common,
                       visible(a, row + i), a->mask.rows != NULL);
            tern_wide_store(kernels, a->out, a->dtype,
                            b * a->out_stride[0] + head * a->out_stride[1] + (row + i) * a->out_stride[2] + col,
                            tile + i * TERN_PANEL, n);
        }
    }
}

/* Tiles in turn over the threads: causal ones grow along a sequence. */
static void attention_region(void *arg, const struct tern_par *par)
{
    const struct attention *a = arg;
    const size_t n_tiles = (a->s + TERN_TILE_ROWS - 1) / TERN_TILE_ROWS, count = (size_t)par->count;
    float *scratch = a->scratch + a->per_thread * (size_t)par->thread;

    tern_mask_load(par, &a->mask);
    pack_keys(a, par);
    for (size_t item = (size_t)par->thread; item < a->batch * a->heads * n_tiles; item += count) {
        const size_t row = item % n_tiles * TERN_TILE_ROWS, which = item / n_tiles;
        attend(a, par->kernels, which / a->heads, which % a->heads, row,
               a->s - row < TERN_TILE_ROWS ? a->s - row : TERN_TILE_ROWS, scratch);
    }
}

static tern_status run(tern_ctx *ctx, struct attention *a)
{
    const size_t groups = a->batch * a->kv_heads;
    size_t floats;
    tern_status status;

    if (a->batch * a->heads * a->s * a->dv == 0)
        return TERN_OK;
    a->t_width = panels(a->t) * TERN_PANEL;
    TERN_TRY_OR_FAIL(
        TERN_ALLOC(ctx, tern_mul_or_max(tern_mul_or_max(groups, a->t_width), a->d), "packed keys", &a->k_panels));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, tern_mul_or_max(tern_mul_or_max(groups, panels(a->dv) * TERN_PANEL), a->t),
                                "packed values", &a->v_panels));
    floats = tern_mul_or_max(a->t_width, TERN_TILE_ROWS);
    a->per_thread = tern_mul_or_max(a->d, TERN_TILE_ROWS);
    if (!tern_size_add(a->per_thread, 15, &a->per_thread) || !tern_size_add(a->per_thread, floats, &a->per_thread))
        a->per_thread = SIZE_MAX;
    else
        a->per_thread = a->per_thread / 16 * 16;
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, tern_mul_or_max(a->per_thread, (size_t)tern_ctx_threads(ctx)),
                                "scratch of attention", &a->scratch));
    TERN_TRY_OR_FAIL(tern_mask_open(ctx, &a->mask));
    status = tern_region(ctx, attention_region, a);
fail:
    tern_mask_close(ctx, &a->mask);
    tern_free(a->scratch);
    tern_free(a->v_panels);
    tern_free(a->k_panels);
    return status;
}

static tern_status check_scale(tern_ctx *ctx, const char *op, float scale)
{
    TERN_REQUIRE(ctx, isfinite(scale) || isnan(scale), TERN_ERR_ARG,
                 "%s: scale is %g, expected a finite number, or NaN for 1 / sqrt(E)", op, (double)scale);
    return TERN_OK;
}

static float scale_or_standard(float scale, size_t head_dim)
{
    return isnan(scale) ? tern_standard_scale((int64_t)head_dim) : scale;
}

/* The mask's axes from the right against [batch, heads, s, t]. */
static tern_status bind_mask(tern_ctx *ctx, const char *op, const tern_tensor *mask, struct attention *a)
{
    const int64_t full[] = { (int64_t)a->batch, (int64_t)a->heads, (int64_t)a->s, (int64_t)a->t };

    TERN_TRY(tern_mask_check(ctx, op, mask, a->dtype));
    TERN_REQUIRE(ctx, tern_mask_fit(mask, true, full, false, &a->mask), TERN_ERR_SHAPE,
                 "%s: mask is %s, expected axes of 1 or the whole of [%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64
                 "] from the right, or [batch, columns]",
                 op, tern_dims_text(mask).text, full[0], full[1], full[2], full[3]);
    return TERN_OK;
}

static void set_strides(size_t *stride, size_t batch, size_t head, size_t row)
{
    stride[0] = batch;
    stride[1] = head;
    stride[2] = row;
}

tern_status tern_packed_attention(tern_ctx *ctx, const tern_tensor *qkv, int32_t heads, float scale, bool causal,
                                  const tern_tensor *mask, tern_tensor *output)
{
    static const char op[] = "packed_attention";
    static const int64_t any[] = { -1, -1, -1 };
    struct attention a = { .causal = causal };

    TERN_TRY(tern_check_float(ctx, op, "qkv", qkv, TERN_ANY_FLOAT, false));
    TERN_TRY(tern_check_dims(ctx, op, "qkv", qkv, 3, any));
    TERN_REQUIRE(ctx, heads >= 1, TERN_ERR_ARG, "%s: num_heads is %" PRId32 ", expected 1 or more", op, heads);
    TERN_REQUIRE(ctx, qkv->dim[2] % 3 == 0 && qkv->dim[2] / 3 % heads == 0, TERN_ERR_SHAPE,
                 "%s: qkv is %s, expected rows of 3 times %" PRId32 " heads", op, tern_dims_text(qkv).text, heads);
    TERN_TRY(check_scale(ctx, op, scale));
    a.dtype = qkv->dtype;
    a.batch = (size_t)qkv->dim[0];
    a.heads = a.kv_heads = (size_t)heads;
    a.s = a.t = (size_t)qkv->dim[1];
    const size_t ld = (size_t)qkv->dim[2], hidden = ld / 3;
    a.d = a.dv = hidden / a.heads;
    a.scale = scale_or_standard(scale, a.d);
    TERN_TRY(bind_mask(ctx, op, mask, &a));
    TERN_TRY(tern_check_float(ctx, op, "output", output, a.dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "output", output, 3, (int64_t[]){ qkv->dim[0], qkv->dim[1], (int64_t)hidden }));
    const struct tern_operand operands[] = { { "qkv", qkv, false, false },
                                             { "mask", mask, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));

    a.q = qkv->data;
    a.k = tern_at(qkv->data, a.dtype, hidden);
    a.v = tern_at(qkv->data, a.dtype, 2 * hidden);
    a.out = output->data;
    set_strides(a.q_stride, a.s * ld, a.d, ld);
    set_strides(a.k_stride, a.s * ld, a.d, ld);
    set_strides(a.v_stride, a.s * ld, a.d, ld);
    set_strides(a.out_stride, a.s * hidden, a.d, hidden);
    return run(ctx, &a);
}

tern_status tern_unpacked_attention(tern_ctx *ctx, const tern_tensor *q, const tern_tensor *k, const tern_tensor *v,
                                    float scale, bool causal, const tern_tensor *mask, tern_tensor *output)
{
    static const char op[] = "unpacked_attention";
    static const int64_t any[] = { -1, -1, -1, -1 };
    struct attention a = { .causal = causal };

    TERN_TRY(tern_check_float(ctx, op, "q", q, TERN_ANY_FLOAT, false));
    TERN_TRY(tern_check_dims(ctx, op, "q", q, 4, any));
    TERN_TRY(tern_check_float(ctx, op, "k", k, q->dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "k", k, 4, (int64_t[]){ q->dim[0], -1, -1, q->dim[3] }));
    TERN_REQUIRE(ctx, k->dim[1] == q->dim[1] || (k->dim[1] > 0 && q->dim[1] % k->dim[1] == 0), TERN_ERR_SHAPE,
                 "%s: k is %s, %" PRId64 " heads, expected a number that divides the %" PRId64 " of q", op,
                 tern_dims_text(k).text, k->dim[1], q->dim[1]);
    TERN_TRY(tern_check_float(ctx, op, "v", v, q->dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "v", v, 4, (int64_t[]){ q->dim[0], k->dim[1], k->dim[2], -1 }));
    TERN_TRY(check_scale(ctx, op, scale));
    a.dtype = q->dtype;
    a.batch = (size_t)q->dim[0];
    a.heads = (size_t)q->dim[1];
    a.kv_heads = (size_t)k->dim[1];
    a.s = (size_t)q->dim[2];
    a.t = (size_t)k->dim[2];
    a.d = (size_t)q->dim[3];
    a.dv = (size_t)v->dim[3];
    TERN_REQUIRE(ctx, a.d > 0 || a.dv == 0 || !isnan(scale), TERN_ERR_ARG,
                 "%s: scale is unset and q is %s, heads of no value, expected a number (1 / sqrt(0) is none)", op,
                 tern_dims_text(q).text);
    a.scale = scale_or_standard(scale, a.d);
    TERN_TRY(bind_mask(ctx, op, mask, &a));
    TERN_TRY(tern_check_float(ctx, op, "output", output, a.dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "output", output, 4, (int64_t[]){ q->dim[0], q->dim[1], q->dim[2], v->dim[3] }));
    const struct tern_operand operands[] = { { "q", q, false, false },
                                             { "k", k, false, false },
                                             { "v", v, false, false },
                                             { "mask", mask, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));

    a.q = q->data;
    a.k = k->data;
    a.v = v->data;
    a.out = output->data;
    set_strides(a.q_stride, a.heads * a.s * a.d, a.s * a.d, a.d);
    set_strides(a.k_stride, a.kv_heads * a.t * a.d, a.t * a.d, a.d);
    set_strides(a.v_stride, a.kv_heads * a.t * a.dv, a.t * a.dv, a.dv);
    set_strides(a.out_stride, a.heads * a.s * a.dv, a.s * a.dv, a.dv);
    return run(ctx, &a);
}
