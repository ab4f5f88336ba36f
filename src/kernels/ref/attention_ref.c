/* attention_ref.c: the cache layouts, and attention by its formula: all scores of a row, then softmax, then values. */
#include "kernels/ref/ref.h"

#include <math.h>

/* What the numbers of a block are. */
enum kv_form { KV_F32, KV_F16, KV_BF16 };

/* Where element (position p, channel c) stands in a K and in a V block. */
static size_t k_at(enum kv_form form, size_t k_width, size_t p, size_t c)
{
    const size_t panel = p / TERN_PANEL, column = p % TERN_PANEL;

    if (form == KV_BF16)
        return ((panel * ((k_width + 1) / 2) + c / 2) * TERN_PANEL + column) * 2 + c % 2;
    return (panel * k_width + c) * TERN_PANEL + column;
}

static size_t v_at(enum kv_form form, size_t p, size_t c)
{
    const size_t panel = c / TERN_PANEL * TERN_KV_BLOCK, column = c % TERN_PANEL;

    if (form == KV_BF16)
        return panel * TERN_PANEL + (p / 2 * TERN_PANEL + column) * 2 + p % 2;
    return (panel + p) * TERN_PANEL + column;
}

static void set(enum kv_form form, void *block, size_t at, float x)
{
    if (form == KV_F32)
        ((float *)block)[at] = x;
    else if (form == KV_F16)
        tern_f16_from_f32_ref((uint16_t *)block + at, &x, 1);
    else
        tern_bf16_from_f32_ref((uint16_t *)block + at, &x, 1);
}

static double get(enum kv_form form, const void *block, size_t at)
{
    float x;

    if (form == KV_F32)
        return ((const float *)block)[at];
    if (form == KV_F16)
        tern_f32_from_f16_ref(&x, (const uint16_t *)block + at, 1);
    else
        tern_f32_from_bf16_ref(&x, (const uint16_t *)block + at, 1);
    return x;
}

static void kv_store(enum kv_form form, void *k_block, void *v_block, const float *k, const float *v, size_t stride,
                     size_t head_dim, size_t v_dim, size_t k_width, size_t p, size_t n)
{
    const size_t width = (v_dim + TERN_PANEL - 1) / TERN_PANEL * TERN_PANEL;
    const size_t e = form == KV_BF16 ? (head_dim + 1) / 2 * 2 : head_dim;

    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < e; c++)
            set(form, k_block, k_at(form, k_width, p + i, c), c < head_dim ? k[i * stride + c] : 0);
        for (size_t c = 0; c < width; c++)
            set(form, v_block, v_at(form, p + i, c), c < v_dim ? v[i * stride + c] : 0);
    }
}

void tern_kv_store_f32_ref(float *k_block, float *v_block, const float *k, const float *v, size_t stride,
                           size_t head_dim, size_t v_dim, size_t k_width, size_t p, size_t n)
{
    kv_store(KV_F32, k_block, v_block, k, v, stride, head_dim, v_dim, k_width, p, n);
}

void tern_kv_store_f16_ref(uint16_t *k_block, uint16_t *v_block, const float *k, const float *v, size_t stride,
                           size_t head_dim, size_t v_dim, size_t k_width, size_t p, size_t n)
{
    kv_store(KV_F16, k_block, v_block, k, v, stride, head_dim, v_dim, k_width, p, n);
}

void tern_kv_store_bf16_ref(uint16_t *k_block, uint16_t *v_block, const float *k, const float *v, size_t stride,
                            size_t head_dim, size_t v_dim, size_t k_width, size_t p, size_t n)
{
    kv_store(KV_BF16, k_block, v_block, k, v, stride, head_dim, v_dim, k_width, p, n);
}

static void kv_move(enum kv_form form, uint16_t *k_block, uint16_t *v_block, const uint16_t *k, const uint16_t *v,
                    size_t stride, size_t head_dim, size_t v_dim, size_t k_width, size_t p, size_t n)
{
    const size_t width = (v_dim + TERN_PANEL - 1) / TERN_PANEL * TERN_PANEL;
    const size_t e = form == KV_BF16 ? (head_dim + 1) / 2 * 2 : head_dim;

    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < e; c++)
            k_block[k_at(form, k_width, p + i, c)] = c < head_dim ? k[i * stride + c] : 0;
        for (size_t c = 0; c < width; c++)
            v_block[v_at(form, p + i, c)] = c < v_dim ? v[i * stride + c] : 0;
    }
}

void tern_kv_move_f16_ref(uint16_t *k_block, uint16_t *v_block, const uint16_t *k, const uint16_t *v, size_t stride,
                          size_t head_dim, size_t v_dim, size_t k_width, size_t p, size_t n)
{
    kv_move(KV_F16, k_block, v_block, k, v, stride, head_dim, v_dim, k_width, p, n);
}

void tern_kv_move_bf16_ref(uint16_t *k_block, uint16_t *v_block, const uint16_t *k, const uint16_t *v, size_t stride,
                           size_t head_dim, size_t v_dim, size_t k_width, size_t p, size_t n)
{
    kv_move(KV_BF16, k_block, v_block, k, v, stride, head_dim, v_dim, k_width, p, n);
}

static double bf16(float f)
{
    uint16_t half;

    tern_bf16_from_f32_ref(&half, &f, 1);
    tern_f32_from_bf16_ref(&f, &half, 1);
    return f;
}

/* Element i of q. */
static float query(enum kv_form form, const struct tern_attention_rows *a, size_t i)
{
    return a->half ? (float)get(form, a->q, i) : ((const float *)a->q)[i];
}

static double score(enum kv_form form, const struct tern_attention_rows *a, size_t r, int64_t j)
{
    const void *block = a->k_blocks[(j - a->origin) / TERN_KV_BLOCK];
    double s = 0;

    for (size_t c = 0; c < a->head_dim; c++) {
        const float q = query(form, a, r * a->q_stride + c);
        s += (form == KV_BF16 ? bf16(q) : q) * get(form, block, k_at(form, a->k_width, (size_t)(j % TERN_KV_BLOCK), c));
    }
    s *= a->scale;
    if (a->softcap > 0)
        s = a->softcap * tanh(s / a->softcap);
    if (a->slope)
        s += (double)a->slope[r] * (double)j;
    if (a->mask && a->mask[r])
        s += a->mask[r][j];
    return s;
}

static bool hidden(const struct tern_attention_rows *a, size_t r, int64_t j)
{
    return a->mask && a->mask[r] && a->mask[r][j] == -INFINITY;
}

/* e as V is multiplied by it. */
static double weight(enum kv_form form, const struct tern_attention_rows *a, double e)
{
    return form == KV_BF16 || a->round_bf16 ? bf16((float)e) : e;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Block after block: its maximum, then everything in sums that are rescaled where the maximum grew. */
static void attention(enum kv_form form, const struct tern_attention_rows *a)
{
    for (size_t r = 0; r < a->n_rows; r++) {
        double top = -INFINITY, sum = 0, out[TERN_ATTN_WIDEST] = { 0 };

        for (int64_t begin = a->first[r], end; begin < a->last[r]; begin = end) {
            const double before = top;
            end = least((begin / TERN_ATTN_BLOCK + 1) * TERN_ATTN_BLOCK, a->last[r]);
            for (int64_t j = begin; j < end; j++) {
                const double s = hidden(a, r, j) ? -INFINITY : score(form, a, r, j);
                top = s > top ? s : top;
            }
            const double base = top == -INFINITY ? 0 : top, factor = exp(before - base);
            sum *= factor;
            for (size_t c = 0; c < a->v_dim; c++)
                out[c] *= factor;
            for (int64_t j = begin; j < end; j++) {
                const void *block = a->v_blocks[(j - a->origin) / TERN_KV_BLOCK];
                if (hidden(a, r, j))
                    continue;
                const double e = exp(score(form, a, r, j) - base), w = weight(form, a, e);
                sum += e;
                for (size_t c = 0; c < a->v_dim; c++)
                    out[c] += w * get(form, block, v_at(form, (size_t)(j % TERN_KV_BLOCK), c));
            }
        }
        for (size_t c = 0; c < a->v_dim; c++)
            set(a->half ? form : KV_F32, a->out, r * a->out_stride + c, sum == 0 ? 0 : (float)(out[c] / sum));
    }
}

void tern_attention_f32_ref(const struct tern_attention_rows *a)
{
    attention(KV_F32, a);
}

void tern_attention_f32_f16_ref(const struct tern_attention_rows *a)
{
    attention(KV_F16, a);
}

void tern_attention_f32_bf16_ref(const struct tern_attention_rows *a)
{
    attention(KV_BF16, a);
}

void tern_attention_bf16_ref(const struct tern_attention_rows *a)
{
    attention(KV_BF16, a);
}
