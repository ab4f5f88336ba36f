/* softmax_context.c: attention of a batch of rows over a cache: rotary, the cache, scores, softmax, context.
 *
 * Work is cut into tiles of up to 8 query rows that share one KV head: 8 tokens of one query head in a prompt; in a decode
 * step the query heads of one group, so that their keys and values are read once.  How it is cut shows nowhere in the
 * results: each row's sums run over absolute positions alone. */
#include "base/fpmode.h"
#include "ops/kv_pool.h"
#include "ops/op_table.h"
#include "ops/rotary.h"

#include <math.h>

/* ---- inside a region ---- */

struct tern_softmax_context_args tern_softmax_context_args_from(const tern_config *config)
{
    const tern_fpmode caller = tern_fpmode_enter();
    const struct tern_config_sizes sizes = tern_config_sizes(config);
    double scale = 1;

    if (config->scale_attention) {
        scale = config->use_mup ? 1.0 / (double)sizes.head_dim : 1.0 / sqrt((double)sizes.head_dim);
        if (config->scale_attn_by_inverse_layer_idx)
            scale /= config->layer_id + 1.0;
    }
    const struct tern_softmax_context_args args = {
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
static void rotate(const struct tern_par *par, const struct tern_softmax_context_args *args, float *qkv, size_t ld,
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
static void store(const struct tern_par *par, const struct tern_softmax_context_args *args, const float *qkv, size_t ld,
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

static void attend(const struct tern_par *par, const struct tern_softmax_context_args *args, const float *qkv,
                   size_t ld, const struct tern_kv_batch *batch, float *out, size_t ld_out, const struct tile *tile,
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
static void attend_all(const struct tern_par *par, const struct tern_softmax_context_args *args, const float *qkv,
                       size_t ld, const struct tern_kv_batch *batch, float *out, size_t ld_out, float *scratch)
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

size_t tern_softmax_context_scratch(int32_t head_dim, int n_threads)
{
    return scratch_floats(head_dim) * (size_t)n_threads;
}

void tern_softmax_context_run(const struct tern_par *par, const struct tern_softmax_context_args *args, float *qkv,
                              size_t ld, const struct tern_kv_batch *batch, int32_t layer, float *out, size_t ld_out,
                              float *scratch)
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

/* ---- the operator ---- */

struct context {
    const struct tern_kernels *kernels;
    struct tern_softmax_context_args args;
    struct tern_kv_batch batch;
    float *qkv, *out, *scratch;
    size_t ld, ld_out;
    int32_t layer;
};

static void context_region(void *arg, const struct tern_par *par)
{
    const struct context *c = arg;
    const struct tern_par with = tern_par_with(par, c->kernels);

    tern_softmax_context_run(&with, &c->args, c->qkv, c->ld, &c->batch, c->layer, c->out, c->ld_out, c->scratch);
}

tern_status tern_softmax_context(tern_ctx *ctx, const tern_config *config, tern_tensor *qkv, const tern_tensor *mask,
                                 const tern_tensor *alibi, tern_kv_cache *cache, int32_t layer,
                                 const tern_kv_span *spans, size_t n_spans, tern_tensor *output)
{
    static const char op[] = "softmax_context";
    size_t rows, scratch_bytes = 0;
    struct context c = { 0 };
    void *scratch = NULL;
    int64_t longest = 0;

    TERN_TRY(tern_op_check(ctx, &tern_row_softmax_context, config));
    const struct tern_config_sizes sizes = tern_config_sizes(config);
    TERN_TRY(tern_check_rows(ctx, op, "qkv", qkv, -1, sizes.qkv, &rows));
    TERN_REQUIRE(ctx, cache, TERN_ERR_ARG, "%s: cache is NULL", op);
    TERN_REQUIRE(ctx, cache->shape.n_kv_heads == sizes.kv_heads && cache->shape.head_dim == sizes.head_dim,
                 TERN_ERR_SHAPE, "%s: the cache has %" PRId32 " heads of %" PRId32 ", expected %" PRId32 " of %" PRId64,
                 op, cache->shape.n_kv_heads, cache->shape.head_dim, sizes.kv_heads, sizes.head_dim);
    TERN_REQUIRE(ctx, layer >= 0 && layer < cache->shape.n_layers, TERN_ERR_ARG,
                 "%s: layer is %" PRId32 ", expected 0..%" PRId32, op, layer, cache->shape.n_layers - 1);
    TERN_TRY(tern_kv_check_spans(ctx, op, cache, spans, n_spans, rows));
    for (size_t i = 0; i < n_spans; i++)
        if (spans[i].position + spans[i].n_rows > longest)
            longest = spans[i].position + spans[i].n_rows;
    if (tern_given(mask)) {
        TERN_TRY(tern_check_tensor(ctx, op, "mask", mask, TERN_FP32));
        TERN_REQUIRE(ctx,
                     mask->rank == 2 && (mask->dim[0] == 1 || mask->dim[0] == (int64_t)rows) && mask->dim[1] >= longest,
                     TERN_ERR_SHAPE, "%s: mask is %s, expected 1 or %zu rows of at least %" PRId64 " positions", op,
                     tern_dims_text(mask).text, rows, longest);
    }
    TERN_TRY(tern_check_optional_vector(ctx, op, "alibi", alibi, sizes.heads));
    if (tern_given(output))
        TERN_TRY(tern_check_rows(ctx, op, "output", output, (int64_t)rows, sizes.context, NULL));
    const struct tern_operand operands[] = { { "qkv", qkv, true, false },
                                             { "mask", mask, false, false },
                                             { "alibi", alibi, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));
    if (rows == 0)
        return TERN_OK;

    scratch_bytes = tern_softmax_context_scratch((int32_t)sizes.head_dim, tern_ctx_threads(ctx)) * sizeof(float);
    TERN_TRY(tern_pages_alloc(ctx, scratch_bytes, "scratch of attention", &scratch));
    c.kernels = tern_kernels_for(ctx, config);
    c.args = tern_softmax_context_args_from(config);
    if (tern_given(mask)) {
        c.args.mask = mask->data;
        c.args.mask_rows = (size_t)mask->dim[0];
        c.args.mask_stride = (size_t)mask->dim[1];
    }
    c.args.alibi = tern_floats(alibi);
    c.batch = (struct tern_kv_batch){ .cache = cache, .spans = spans, .n_spans = n_spans, .n_rows = rows };
    c.qkv = qkv->data;
    c.out = tern_floats(output);
    c.scratch = scratch;
    c.ld = (size_t)sizes.qkv;
    c.ld_out = (size_t)sizes.context;
    c.layer = layer;
    const tern_status status = tern_region(ctx, context_region, &c);
    tern_pages_free(scratch, scratch_bytes);
    return status;
}

/* ---- by name ---- */

static tern_status run_softmax_context(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                       const tern_op_call *call)
{
    return tern_softmax_context(ctx, config, io[0], io[1], io[2], call->cache, call->layer, call->spans, call->n_spans,
                                io[3]);
}

const struct tern_op_row tern_row_softmax_context = {
    .name = "softmax_context",
    .formula = "rotary, keys and values into the cache, softmax(scale q k + alibi + mask) v",
    .dtypes = 1u << TERN_FP32,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_HEADS | TERN_READS_ATTENTION,
    .kernels = "rotary_f32 kv_store_f32 attention_f32",
    .run = run_softmax_context,
    .io = { TERN_IN("qkv", "[.., (h+2G)E]"), TERN_MASK("mask", "[T|1, n]"), TERN_VECTOR_OPTIONAL("alibi", "[h]"),
            TERN_OUT_OPTIONAL("output", "[.., hE]") },
};
