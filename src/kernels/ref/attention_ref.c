/* attention_ref.c: the cache layout, and attention by its formula: all scores of a row, then softmax, then values. */
#include "kernels/ref/ref.h"

#include <math.h>

static float *k_at(float *k_block, size_t head_dim, size_t p, size_t c)
{
    return k_block + (p / TERN_PANEL * head_dim + c) * TERN_PANEL + p % TERN_PANEL;
}

static float *v_at(float *v_block, size_t p, size_t c)
{
    return v_block + (c / TERN_PANEL * TERN_KV_BLOCK + p) * TERN_PANEL + c % TERN_PANEL;
}

void tern_kv_store_f32_ref(float *k_block, float *v_block, const float *k, const float *v, size_t stride,
                           size_t head_dim, size_t p, size_t n)
{
    const size_t width = (head_dim + TERN_PANEL - 1) / TERN_PANEL * TERN_PANEL;

    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < head_dim; c++)
            *k_at(k_block, head_dim, p + i, c) = k[i * stride + c];
        for (size_t c = 0; c < width; c++)
            *v_at(v_block, p + i, c) = c < head_dim ? v[i * stride + c] : 0;
    }
}

static double score(const struct tern_attention_f32 *a, size_t r, int64_t j)
{
    float *block = (float *)a->k_blocks[j / TERN_KV_BLOCK];
    double s = 0;

    for (size_t c = 0; c < a->head_dim; c++)
        s += (double)a->q[r * a->q_stride + c] * *k_at(block, a->head_dim, (size_t)(j % TERN_KV_BLOCK), c);
    s *= a->scale;
    if (a->softcap > 0)
        s = a->softcap * tanh(s / a->softcap);
    if (a->slope)
        s += (double)a->slope[r] * (double)j;
    if (a->mask && a->mask[r])
        s += a->mask[r][j];
    return s;
}

/* Two passes over the keys, so that nothing has to be stored: the maximum, then everything in sums. */
void tern_attention_f32_ref(const struct tern_attention_f32 *a)
{
    for (size_t r = 0; r < a->n_rows; r++) {
        double top = -INFINITY, sum = 0, out[512] = { 0 };

        for (int64_t j = a->first[r]; j < a->last[r]; j++) {
            const double s = score(a, r, j);
            top = s > top ? s : top;
        }
        if (top == -INFINITY)
            top = 0;
        for (int64_t j = a->first[r]; j < a->last[r]; j++) {
            float *block = (float *)a->v_blocks[j / TERN_KV_BLOCK];
            const double e = exp(score(a, r, j) - top);
            sum += e;
            for (size_t c = 0; c < a->head_dim; c++)
                out[c] += e * *v_at(block, (size_t)(j % TERN_KV_BLOCK), c);
        }
        for (size_t c = 0; c < a->head_dim; c++)
            a->out[r * a->out_stride + c] = sum == 0 ? 0 : (float)(out[c] / sum);
    }
}
