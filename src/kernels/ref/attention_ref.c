/* attention_ref.c: the cache layout, and attention by its formula: all scores of a row, then softmax, then values. */
#include "kernels/ref/ref.h"

#include <math.h>

static float *k_at(float *k_block, size_t k_width, size_t p, size_t c)
{
    return k_block + (p / TERN_PANEL * k_width + c) * TERN_PANEL + p % TERN_PANEL;
}

static float *v_at(float *v_block, size_t p, size_t c)
{
    return v_block + (c / TERN_PANEL * TERN_KV_BLOCK + p) * TERN_PANEL + c % TERN_PANEL;
}

void tern_kv_store_f32_ref(float *k_block, float *v_block, const float *k, const float *v, size_t stride,
                           size_t head_dim, size_t v_dim, size_t k_width, size_t p, size_t n)
{
    const size_t width = (v_dim + TERN_PANEL - 1) / TERN_PANEL * TERN_PANEL;

    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < head_dim; c++)
            *k_at(k_block, k_width, p + i, c) = k[i * stride + c];
        for (size_t c = 0; c < width; c++)
            *v_at(v_block, p + i, c) = c < v_dim ? v[i * stride + c] : 0;
    }
}

static double score(const struct tern_attention_f32 *a, size_t r, int64_t j)
{
    float *block = (float *)a->k_blocks[j / TERN_KV_BLOCK];
    double s = 0;

    for (size_t c = 0; c < a->head_dim; c++)
        s += (double)a->q[r * a->q_stride + c] * *k_at(block, a->k_width, (size_t)(j % TERN_KV_BLOCK), c);
    s *= a->scale;
    if (a->softcap > 0)
        s = a->softcap * tanh(s / a->softcap);
    if (a->slope)
        s += (double)a->slope[r] * (double)j;
    if (a->mask && a->mask[r])
        s += a->mask[r][j];
    return s;
}

static bool hidden(const struct tern_attention_f32 *a, size_t r, int64_t j)
{
    return a->mask && a->mask[r] && a->mask[r][j] == -INFINITY;
}

/* e as V is multiplied by it. */
static double weight(const struct tern_attention_f32 *a, double e)
{
    float f = (float)e;
    uint16_t half;

    if (!a->round_bf16)
        return e;
    tern_bf16_from_f32_ref(&half, &f, 1);
    tern_f32_from_bf16_ref(&f, &half, 1);
    return f;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Block after block: its maximum, then everything in sums that are rescaled where the maximum grew. */
void tern_attention_f32_ref(const struct tern_attention_f32 *a)
{
    for (size_t r = 0; r < a->n_rows; r++) {
        double top = -INFINITY, sum = 0, out[512] = { 0 };

        for (int64_t begin = a->first[r], end; begin < a->last[r]; begin = end) {
            const double before = top;
            end = least((begin / TERN_ATTN_BLOCK + 1) * TERN_ATTN_BLOCK, a->last[r]);
            for (int64_t j = begin; j < end; j++) {
                const double s = hidden(a, r, j) ? -INFINITY : score(a, r, j);
                top = s > top ? s : top;
            }
            const double base = top == -INFINITY ? 0 : top, factor = exp(before - base);
            sum *= factor;
            for (size_t c = 0; c < a->v_dim; c++)
                out[c] *= factor;
            for (int64_t j = begin; j < end; j++) {
                float *block = (float *)a->v_blocks[j / TERN_KV_BLOCK];
                if (hidden(a, r, j))
                    continue;
                const double e = exp(score(a, r, j) - base), w = weight(a, e);
                sum += e;
                for (size_t c = 0; c < a->v_dim; c++)
                    out[c] += w * *v_at(block, (size_t)(j % TERN_KV_BLOCK), c);
            }
        }
        for (size_t c = 0; c < a->v_dim; c++)
            a->out[r * a->out_stride + c] = sum == 0 ? 0 : (float)(out[c] / sum);
    }
}
