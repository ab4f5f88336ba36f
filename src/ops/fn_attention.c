/* fn_attention.c: attention over tensors that hold all keys, without a cache, by the kernel of the cache (attention.tmpl.c).
 *
 * A thread takes some hundred query rows of one (batch, key head) at a time, in tiles of up to 64, and goes over softmax blocks of
 * 512 keys: it turns the block's keys and values, in their own dtype, into the layout of a cache, and runs all its tiles over them, whose sums
 * wait meanwhile.  So scratch does not grow with the sequences; keys and values are turned once for so many rows. */
#include "ops/mask.h"
#include "ops/widen.h"

#include <tern/function.h>

#include <math.h>

#define MOST_TILES 8 /* of a thread at a time */
#define BLOCKS     (TERN_ATTN_BLOCK / TERN_KV_BLOCK)

struct attention {
    tern_dtype dtype;
    const void *q, *k, *v;
    struct tern_mask mask;
    void *out;
    size_t batch, heads, kv_heads, s, t, d, dv;
    size_t q_stride[3], k_stride[3], v_stride[3], out_stride[3]; /* batch, head, row; channels are dense */
    float scale;
    bool causal;

    bool by_head;      /* tiles are heads of one row, not rows of one head */
    size_t head_tiles; /* of all heads that share keys */
    size_t most_tiles;
    size_t k_bytes, v_bytes; /* of a storage block */
    size_t work, state;      /* floats of the kernel, and of a tile's sums */
    char *scratch;           /* [threads][per_thread]: work, states, blocks */
    size_t per_thread;
};

static size_t ceil_div(size_t n, size_t by)
{
    return (n + by - 1) / by;
}

/* Columns that row i of S sees. */
static size_t visible(const struct attention *a, size_t i)
{
    if (!a->causal)
        return a->t;
    return i + 1 + a->t > a->s ? i + 1 + a->t - a->s : 0;
}

/* n keys, or values, that stand `stride` elements apart, into a storage block.  One of head_dim and v_dim is 0. */
static void store(const struct attention *a, const struct tern_kernels *kernels, void *k_block, void *v_block,
                  const void *rows, size_t stride, size_t head_dim, size_t v_dim, size_t n)
{
    if (a->dtype == TERN_FP16)
        kernels->kv_move_f16(k_block, v_block, rows, rows, stride, head_dim, v_dim, a->d, 0, n);
    else if (a->dtype == TERN_BF16)
        kernels->kv_move_bf16(k_block, v_block, rows, rows, stride, head_dim, v_dim, a->d, 0, n);
    else
        kernels->kv_store_f32(k_block, v_block, rows, rows, stride, head_dim, v_dim, a->d, 0, n);
}

/* Keys [begin, end), of one softmax block, of (b, g), and their values. */
static void store_block(const struct attention *a, const struct tern_kernels *kernels, size_t b, size_t g, size_t begin,
                        size_t end, void *const *k_blocks, void *const *v_blocks)
{
    for (size_t i = 0; begin < end; i++, begin += TERN_KV_BLOCK) {
        const size_t n = end - begin < TERN_KV_BLOCK ? end - begin : TERN_KV_BLOCK;
        const size_t k = b * a->k_stride[0] + g * a->k_stride[1] + begin * a->k_stride[2];
        const size_t v = b * a->v_stride[0] + g * a->v_stride[1] + begin * a->v_stride[2];

        store(a, kernels, k_blocks[i], v_blocks[i], tern_at(a->k, a->dtype, k), a->k_stride[2], a->d, 0, n);
        store(a, kernels, k_blocks[i], v_blocks[i], tern_at(a->v, a->dtype, v), a->v_stride[2], 0, a->dv, n);
    }
}

/* Rows of one head, or heads of one row. */
struct tile {
    size_t head, row, n;
};

/* Tile i of those of the heads that share key head g. */
static struct tile tile_at(const struct attention *a, size_t g, size_t i)
{
    const size_t group = a->heads / a->kv_heads, count = a->by_head ? group : a->s,
                 each = ceil_div(count, TERN_ATTN_ROWS);
    const size_t from = i % each * TERN_ATTN_ROWS, n = count - from < TERN_ATTN_ROWS ? count - from : TERN_ATTN_ROWS;

    if (a->by_head)
        return (struct tile){ g * group + from, 0, n };
    return (struct tile){ g * group + i / each, from, n };
}

/* A tile over the keys [begin, end) of one softmax block; the last of `last` keys in all that it, or a tile beside it, sees. */
static void attend(const struct attention *a, const struct tern_kernels *kernels, size_t b, const struct tile *tile,
                   size_t begin, size_t end, size_t last, void *const *k_blocks, void *const *v_blocks, float *work,
                   float *state)
{
    int64_t from[TERN_ATTN_ROWS], to[TERN_ATTN_ROWS];
    const float *mask[TERN_ATTN_ROWS];
    const size_t axis = a->by_head ? 1 : 2;

    for (size_t r = 0; r < tile->n; r++) {
        const size_t row = tile->row + (a->by_head ? 0 : r), head = tile->head + (a->by_head ? r : 0);
        const size_t sees = visible(a, row);
        from[r] = (int64_t)begin;
        to[r] = (int64_t)(sees < end ? sees : end);
        mask[r] = tern_mask_row(&a->mask, b, head, row);
    }
    const size_t q = b * a->q_stride[0] + tile->head * a->q_stride[1] + tile->row * a->q_stride[2];
    const size_t out = b * a->out_stride[0] + tile->head * a->out_stride[1] + tile->row * a->out_stride[2];
    const struct tern_attention_rows rows = {
        .q = tern_at(a->q, a->dtype, q),
        .out = (char *)a->out + out * tern_dtype_size(a->dtype),
        .q_stride = a->q_stride[axis],
        .out_stride = a->out_stride[axis],
        .n_rows = tile->n,
        .head_dim = a->d,
        .v_dim = a->dv,
        .k_width = a->d,
        .origin = (int64_t)begin,
        .k_blocks = (const void *const *)k_blocks,
        .v_blocks = (const void *const *)v_blocks,
        .first = from,
        .last = to,
        .mask = a->mask.rows ? mask : NULL,
        .scale = a->scale,
        .half = a->dtype != TERN_FP32,
        .prefetch = kernels->prefetch,
        .resume = begin > 0,
        .more = end < last,
        .scratch = work,
        .state = state,
    };
    if (a->dtype == TERN_FP16)
        kernels->attention_f32_f16(&rows);
    else if (a->dtype == TERN_BF16)
        kernels->attention_bf16(&rows);
    else
        kernels->attention_f32(&rows);
}

/* Tiles [first, end) of (b, g). */
static void attend_tiles(const struct attention *a, const struct tern_par *par, size_t b, size_t g, size_t first,
                         size_t end)
{
    char *const scratch = a->scratch + a->per_thread * (size_t)par->thread;
    float *const work = (float *)(void *)scratch, *const states = work + a->work;
    void *k_blocks[BLOCKS], *v_blocks[BLOCKS];
    size_t last = 0;

    for (size_t i = 0; i < BLOCKS; i++) {
        k_blocks[i] = (char *)(states + a->most_tiles * a->state) + i * (a->k_bytes + a->v_bytes);
        v_blocks[i] = (char *)k_blocks[i] + a->k_bytes;
    }
    for (size_t i = first; i < end; i++) {
        const struct tile tile = tile_at(a, g, i);
        const size_t sees = visible(a, tile.row + (a->by_head ? 0 : tile.n - 1));
        last = sees > last ? sees : last;
    }
    for (size_t begin = 0; begin < last || begin == 0; begin += TERN_ATTN_BLOCK) {
        const size_t stop = begin + TERN_ATTN_BLOCK < last ? begin + TERN_ATTN_BLOCK : last;

        store_block(a, par->kernels, b, g, begin, stop, k_blocks, v_blocks);
        for (size_t i = first; i < end; i++) {
            const struct tile tile = tile_at(a, g, i);
            attend(a, par->kernels, b, &tile, begin, stop, last, k_blocks, v_blocks, work,
                   states + (i - first) * a->state);
        }
    }
}

/* Tiles side by side in turn over the threads: causal ones grow along a sequence. */
static void attention_region(void *arg, const struct tern_par *par)
{
    const struct attention *a = arg;
    const size_t count = (size_t)par->count, parts = ceil_div(a->head_tiles, a->most_tiles);

    tern_mask_load(par, &a->mask);
    for (size_t item = (size_t)par->thread; item < a->batch * a->kv_heads * parts; item += count) {
        const size_t which = item / parts, first = item % parts * a->most_tiles, left = a->head_tiles - first;
        attend_tiles(a, par, which / a->kv_heads, which % a->kv_heads, first,
                     first + (left < a->most_tiles ? left : a->most_tiles));
    }
}

/* How the work is cut, and what it needs: one thread's scratch, SIZE_MAX where that is more than there can be. */
static void cut(struct attention *a, size_t threads)
{
    const size_t group = a->heads / a->kv_heads, size = tern_dtype_size(a->dtype);
    const size_t widest = (size_t)1 << 48; /* of a head, whose bytes can still be counted */

    a->by_head = a->s < group && a->s == 1;
    a->head_tiles = a->by_head ? ceil_div(group, TERN_ATTN_ROWS) : group * ceil_div(a->s, TERN_ATTN_ROWS);
    a->most_tiles = a->head_tiles < MOST_TILES ? a->head_tiles : MOST_TILES;
    while (a->most_tiles > 1 && threads > 1 &&
           a->batch * a->kv_heads * ceil_div(a->head_tiles, a->most_tiles) < 4 * threads)
        a->most_tiles /= 2;
    a->per_thread = SIZE_MAX;
    if (a->d > widest || a->dv > widest)
        return;
    a->k_bytes = TERN_KV_BLOCK * size * ((a->d + 1) / 2 * 2);
    a->v_bytes = TERN_KV_BLOCK * size * ceil_div(a->dv, TERN_PANEL) * TERN_PANEL;
    a->work = tern_attention_scratch(a->d);
    a->state = tern_attention_state(a->dv, TERN_ATTN_ROWS);
    a->per_thread = (a->work + a->most_tiles * a->state) * sizeof(float) + BLOCKS * (a->k_bytes + a->v_bytes);
}

static tern_status run(tern_ctx *ctx, struct attention *a)
{
    const size_t threads = (size_t)tern_ctx_threads(ctx);
    void *scratch = NULL;
    tern_status status;

    if (a->batch * a->heads * a->s * a->dv == 0)
        return TERN_OK;
    cut(a, threads);
    const size_t bytes = tern_mul_or_max(a->per_thread, threads);
    TERN_TRY_OR_FAIL(tern_scratch_take(ctx, bytes, "scratch of attention", &scratch));
    TERN_TRY_OR_FAIL(tern_mask_open(ctx, &a->mask));
    a->scratch = scratch;
    status = tern_region(ctx, attention_region, a);
fail:
    tern_mask_close(ctx, &a->mask);
    tern_scratch_give(ctx, scratch, bytes);
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
