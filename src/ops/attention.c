/* attention.c: rotary, the cache, and attention over it, inside a parallel region.
 *
 * Work is cut into tiles of up to 8 query rows that share one KV head: 8 tokens of one query head in a prompt; in a decode
 * step the query heads of one group, so that their keys and values are read once.  How it is cut shows nowhere in the
 * results: each row's sums run over absolute positions alone. */
#include "base/fpmode.h"
#include "ops/checks.h"
#include "ops/kv_pool.h"
#include "ops/rotary.h"

#include <math.h>

struct tern_attention_args tern_attention_args_from(const tern_config *config)
{
    const tern_fpmode caller = tern_fpmode_enter();
    const struct tern_config_sizes sizes = tern_config_sizes(config);
    double scale = 1;

    if (config->scale_attention) {
        scale = config->use_mup ? 1.0 / (double)sizes.head_dim : 1.0 / sqrt((double)sizes.head_dim);
        if (config->scale_attn_by_inverse_layer_idx)
            scale /= config->layer_id + 1.0;
    }
    const struct tern_attention_args args = {
        .heads = sizes.heads,
        .kv_heads = sizes.kv_heads,
        .head_dim = (int32_t)sizes.head_dim,
        .causal = config->triangular_masking,
        .window = config->local_attention ? config->window_size : 0,
        .scale = (float)scale,
        .rotary_dim = config->rotary_dim > 0 ? config->rotary_dim : 0,
        .rotate_neighbours = !config->rotate_half,
        .rope_theta = config->rope_theta,
    };
    tern_fpmode_leave(caller);
    return args;
}

/* q and k heads of all rows, a share of (row, head) for each thread. */
static void rotate(const struct tern_par *par, const struct tern_attention_args *args, float *qkv, size_t ld,
                   const struct tern_kv_batch *batch)
{
    const size_t head_dim = (size_t)args->head_dim, n_heads = (size_t)args->heads + (size_t)args->kv_heads;
    double frequency[TERN_ROTARY_MAX];
    float cosine[TERN_ROTARY_MAX], sine[TERN_ROTARY_MAX];
    size_t i, end, span = 0;

    tern_share(par, batch->n_rows * n_heads, 1, &i, &end);
    if (i >= end)
        return;
    tern_rotary_frequencies(frequency, args->rotary_dim, args->rope_theta);
    while (i < end) {
        const size_t row = i / n_heads;
        while (row >= (size_t)batch->spans[span].row + (size_t)batch->spans[span].n_rows)
            span++;
        tern_rotary_angles(cosine, sine, frequency, args->rotary_dim / 2,
                           batch->spans[span].position + ((int64_t)row - batch->spans[span].row));
        for (; i < end && i / n_heads == row; i++)
            par->kernels->rotary_f32(qkv + row * ld + i % n_heads * head_dim, cosine, sine, (size_t)args->rotary_dim,
                                     args->rotate_neighbours);
    }
}

/* Keys and values of the batch into their blocks, by (span, block, kv head) in turn; and the addresses of all blocks of
 * each (span, kv head) for the attention kernel. */
static void store(const struct tern_par *par, const struct tern_attention_args *args, const float *qkv, size_t ld,
                  const struct tern_kv_batch *batch, int32_t layer, bool addresses)
{
    const struct tern_kv_cache *cache = batch->cache;
    const size_t head_dim = (size_t)args->head_dim, k_col = (size_t)args->heads * head_dim;
    const size_t v_col = k_col + (size_t)args->kv_heads * head_dim;
    const size_t count = (size_t)par->count, mine = (size_t)par->thread;
    size_t item = 0;

    for (size_t s = 0; s < batch->n_spans; s++) {
        const tern_kv_span *span = &batch->spans[s];
        const int32_t *table = kv_table(cache, span->sequence);
        const int64_t end = span->position + span->n_rows;

        for (int64_t p = span->position; p < end;) {
            const int64_t block = p / TERN_KV_BLOCK;
            const int64_t stop = end < (block + 1) * TERN_KV_BLOCK ? end : (block + 1) * TERN_KV_BLOCK;
            const float *row = qkv + ((size_t)span->row + (size_t)(p - span->position)) * ld;
            for (int32_t g = 0; g < args->kv_heads; g++)
                if (item++ % count == mine) {
                    float *k = kv_block(cache, table[block], layer, g);
                    par->kernels->kv_store_f32(k, k + cache->k_floats, row + k_col + (size_t)g * head_dim,
                                               row + v_col + (size_t)g * head_dim, ld, head_dim,
                                               (size_t)(p % TERN_KV_BLOCK), (size_t)(stop - p));
                }
            p = stop;
        }

        const int64_t n_blocks = (end + TERN_KV_BLOCK - 1) / TERN_KV_BLOCK;
        for (int32_t g = 0; addresses && g < args->kv_heads; g++)
            if (item++ % count == mine) {
                const size_t at = kv_addresses(cache, span->sequence, g);
                for (int64_t b = 0; b < n_blocks; b++) {
                    cache->k_blocks[at + (size_t)b] = kv_block(cache, table[b], layer, g);
                    cache->v_blocks[at + (size_t)b] = cache->k_blocks[at + (size_t)b] + cache->k_floats;
                }
            }
    }
}

struct tile {
    const tern_kv_span *span;
    int32_t token, n_tokens; /* of the span */
    int32_t head, n_heads;   /* n_tokens or n_heads is 1 */
    int32_t kv_head;
};

static void attend(const struct tern_par *par, const struct tern_attention_args *args, const float *qkv, size_t ld,
                   const struct tern_kv_batch *batch, float *out, size_t ld_out, const struct tile *tile,
                   float *scratch)
{
    const tern_kv_span *span = tile->span;
    const size_t head_dim = (size_t)args->head_dim, row0 = (size_t)span->row + (size_t)tile->token;
    const size_t at = kv_addresses(batch->cache, span->sequence, tile->kv_head);
    int64_t first[TERN_ATTN_ROWS], last[TERN_ATTN_ROWS];
    const float *mask[TERN_ATTN_ROWS];
    float slope[TERN_ATTN_ROWS];

    const int32_t n = tile->n_tokens * tile->n_heads;
    for (int32_t r = 0; r < n; r++) {
        const int32_t token = tile->n_tokens > 1 ? r : 0, head = tile->head + (tile->n_heads > 1 ? r : 0);
        const int64_t position = span->position + tile->token + token;
        last[r] = args->causal ? position + 1 : span->position + span->n_rows;
        first[r] = args->window > 0 && position + 1 > args->window ? position + 1 - args->window : 0;
        slope[r] = args->alibi ? args->alibi[head] : 0;
        mask[r] =
            args->mask ? args->mask + (args->mask_rows == 1 ? 0 : row0 + (size_t)token) * args->mask_stride : NULL;
    }
    const struct tern_attention_f32 a = {
        .q = qkv + row0 * ld + (size_t)tile->head * head_dim,
        .out = out + row0 * ld_out + (size_t)tile->head * head_dim,
        .q_stride = tile->n_tokens > 1 ? ld : head_dim,
        .out_stride = tile->n_tokens > 1 ? ld_out : head_dim,
        .n_rows = (size_t)n,
        .head_dim = head_dim,
        .k_blocks = batch->cache->k_blocks + at,
        .v_blocks = batch->cache->v_blocks + at,
        .first = first,
        .last = last,
        .slope = args->alibi ? slope : NULL,
        .mask = args->mask ? mask : NULL,
        .scale = args->scale,
        .softcap = args->softcap,
        .scratch = scratch,
    };
    par->kernels->attention_f32(&a);
}

static int32_t ceil_div(int32_t a, int32_t b)
{
    return (a + b - 1) / b;
}

/* All tiles of the batch in one order; each thread takes every count-th, turning round after each round, because causal
 * tiles grow along a span. */
static void attend_all(const struct tern_par *par, const struct tern_attention_args *args, const float *qkv, size_t ld,
                       const struct tern_kv_batch *batch, float *out, size_t ld_out, float *scratch)
{
    const int32_t group = args->heads / args->kv_heads;
    const size_t count = (size_t)par->count, mine = (size_t)par->thread;
    size_t item = 0;

    for (size_t s = 0; s < batch->n_spans; s++) {
        const tern_kv_span *span = &batch->spans[s];
        /* Tiles of tokens or tiles of heads, whichever are fewer. */
        const bool by_token = (int64_t)group * ceil_div(span->n_rows, TERN_ATTN_ROWS) <=
                              (int64_t)span->n_rows * ceil_div(group, TERN_ATTN_ROWS);
        const int32_t token_step = by_token ? TERN_ATTN_ROWS : 1, head_step = by_token ? 1 : TERN_ATTN_ROWS;
        for (int32_t token = 0; token < span->n_rows; token += token_step)
            for (int32_t g = 0; g < args->kv_heads; g++)
                for (int32_t h = 0; h < group; h += head_step, item++) {
                    const size_t turn = item % count;
                    if ((item / count % 2 ? count - 1 - turn : turn) != mine)
                        continue;
                    const struct tile tile = {
                        .span = span,
                        .token = token,
                        .n_tokens = token + token_step <= span->n_rows ? token_step : span->n_rows - token,
                        .head = g * group + h,
                        .n_heads = h + head_step <= group ? head_step : group - h,
                        .kv_head = g,
                    };
                    attend(par, args, qkv, ld, batch, out, ld_out, &tile, scratch);
                }
    }
}

/* One thread's part, a multiple of a cache line. */
static size_t scratch_floats(int32_t head_dim)
{
    return (tern_attention_scratch((size_t)head_dim) + 15) / 16 * 16;
}

size_t tern_attention_run_scratch(int32_t head_dim, int n_threads)
{
    return scratch_floats(head_dim) * (size_t)n_threads;
}

void tern_attention_run(const struct tern_par *par, const struct tern_attention_args *args, float *qkv, size_t ld,
                        const struct tern_kv_batch *batch, int32_t layer, float *out, size_t ld_out, float *scratch)
{
    if (args->rotary_dim > 0) {
        rotate(par, args, qkv, ld, batch);
        tern_barrier(par);
    }
    store(par, args, qkv, ld, batch, layer, out != NULL);
    tern_barrier(par);
    if (out) {
        attend_all(par, args, qkv, ld, batch, out, ld_out,
                   scratch + scratch_floats(args->head_dim) * (size_t)par->thread);
        tern_barrier(par);
    }
}
