/* softmax_context.c: attention of a batch of rows over a cache: rotary, the cache, scores, softmax, context.
 *
 * Work is cut into tiles of up to 64 query rows that share one KV head: 64 tokens of one query head in a prompt; in a decode
 * step the query heads of one group, so that their keys and values are read once.  How it is cut shows nowhere in the
 * results: each row's sums run over absolute positions alone.
 *
 * Where the threads can share the KV heads evenly, each stores the keys and values of a head and goes on with that head's tiles, while
 * they are in its cache; else all are stored first. */
#include "base/fpmode.h"
#include "ops/kv_pool.h"
#include "ops/mask.h"
#include "ops/op_table.h"
#include "ops/rope.h"
#include "ops/stage.h"
#include "ops/widen.h"

#include <math.h>
#include <stdio.h>

/* ---- inside a region ---- */

/* What scores are multiplied by, rounded once.  volatile: see tern_standard_scale(). */
static float scale_of(const tern_config *config, int64_t head_dim)
{
    const bool by_layer = config->scale_attn_by_inverse_layer_idx;

    if (config->bigscience_bloom || (config->scale_attention && !config->use_mup && !by_layer))
        return tern_standard_scale(head_dim);
    if (!config->scale_attention)
        return 1;
    const tern_fpmode caller = tern_fpmode_enter();
    volatile double width = (double)head_dim;
    const double scale = config->use_mup ? 1.0 / width : 1.0 / sqrt(width);
    volatile float rounded = (float)(by_layer ? scale / (config->layer_id + 1.0) : scale);
    tern_fpmode_leave(caller);
    return rounded;
}

struct tern_softmax_context_args tern_softmax_context_args_from(const tern_config *config)
{
    const struct tern_config_sizes sizes = tern_config_sizes(config);

    return (struct tern_softmax_context_args){
        .heads = sizes.heads,
        .kv_heads = sizes.kv_heads,
        .head_dim = (int32_t)sizes.head_dim,
        .v_dim = (int32_t)sizes.head_dim,
        .interleaved = config->bigscience_bloom,
        .causal = config->triangular_masking,
        .window = config->local_attention ? config->window_size : 0,
        .scale = scale_of(config, sizes.head_dim),
        .rotary_dim = config->rotary_dim > 0 ? config->rotary_dim : 0,
        .rotate_neighbours = !config->rotate_half,
        .rope_theta = config->rope_theta,
        .store = tern_config_activation(config),
        .round_bf16 = tern_config_activation(config) == TERN_BF16,
    };
}

/* Where heads stand in a row of qkv. */
static size_t q_step(const struct tern_softmax_context_args *a)
{
    return (size_t)(a->interleaved ? 2 * a->head_dim + a->v_dim : a->head_dim);
}

static size_t k_column(const struct tern_softmax_context_args *a, size_t g)
{
    const size_t e = (size_t)a->head_dim;

    return a->interleaved ? g * q_step(a) + e : ((size_t)a->heads + g) * e;
}

static size_t v_column(const struct tern_softmax_context_args *a, size_t g)
{
    const size_t e = (size_t)a->head_dim;

    return a->interleaved ? g * q_step(a) + 2 * e : ((size_t)a->heads + (size_t)a->kv_heads) * e + g * (size_t)a->v_dim;
}

static void round_head(const struct tern_kernels *kernels, float *x, size_t n, tern_dtype dtype)
{
    uint16_t half[512];

    if (dtype == TERN_FP32)
        return;
    tern_wide_store(kernels, half, dtype, 0, x, n);
    tern_wide_load(kernels, x, half, dtype, 0, n);
}

/* Whether rows are rounded before they are stored: a cache of their dtype rounds them itself, as its kernel does with q. */
static bool rounds(const struct tern_softmax_context_args *args, const struct tern_kv_batch *batch)
{
    return args->store != batch->cache->shape.dtype;
}

/* Elements from i on of a row of rows. */
static const void *element(const struct tern_softmax_context_args *args, const void *rows, size_t i)
{
    return (const char *)rows + i * (args->half ? sizeof(uint16_t) : sizeof(float));
}

/* Turns `heads` heads of q or k; halves that are turned are bf16. */
static void turn_heads(const struct tern_kernels *kernels, const struct tern_softmax_context_args *args, void *x,
                       size_t heads, const float *cosine, const float *sine, const struct tern_row_flow *flow)
{
    const size_t n = (size_t)args->rotary_dim, step = q_step(args);

    if (args->half)
        kernels->rotary_bf16(x, x, cosine, sine, n, args->rotate_neighbours, heads, step, flow);
    else
        kernels->rotary_f32(x, x, cosine, sine, n, args->rotate_neighbours, heads, step, flow);
}

/* The norm of q head i, or of k head i - heads, where there is one: rows are fp32 then. */
static void norm_head(const struct tern_kernels *kernels, const struct tern_softmax_context_args *args, float *x,
                      size_t i)
{
    const size_t heads = (size_t)args->heads;
    struct tern_norm_args norm = i < heads ? args->q_norm : args->k_norm;

    if (!norm.gamma)
        return;
    norm.gamma += i < heads ? i * args->q_norm_step : (i - heads) * args->k_norm_step;
    tern_norm_row(kernels, x, NULL, x, NULL, NULL, (size_t)args->head_dim, &norm);
}

/* What stands for the angles of a span's rows. */
static const double *frequencies(const struct tern_softmax_context_args *args, const struct tern_kv_batch *batch,
                                 size_t span, double *scratch)
{
    const tern_kv_span *s = &batch->spans[span];

    if (args->rope)
        return tern_rope_frequencies(args->rope, batch->planned ? batch->planned[span] : s->position + s->n_rows,
                                     scratch);
    tern_rotary_frequencies(scratch, args->rotary_dim, args->rope_theta);
    return scratch;
}

/* Head i of one row, normed, turned and, where `round`, rounded: first those of q, then k, then v. */
static void prepare_head(const struct tern_kernels *kernels, const struct tern_softmax_context_args *args, void *row,
                         size_t i, bool round, const float *cosine, const float *sine)
{
    const size_t heads = (size_t)args->heads, kv_heads = (size_t)args->kv_heads, e = (size_t)args->head_dim;
    const bool is_q = i < heads, is_v = i >= heads + kv_heads;
    void *x = (char *)row + (is_q   ? i * q_step(args)
                             : is_v ? v_column(args, i - heads - kv_heads)
                                    : k_column(args, i - heads)) *
                                (args->half ? sizeof(uint16_t) : sizeof(float));

    if (!is_v)
        norm_head(kernels, args, x, i);
    if (!is_v && args->rotary_dim > 0)
        turn_heads(kernels, args, x, 1, cosine, sine, NULL);
    round_head(kernels, x, is_v ? (size_t)args->v_dim : e,
               !round             ? TERN_FP32
               : !is_q            ? args->store
               : args->round_bf16 ? TERN_BF16
                                  : TERN_FP32);
}

/* Heads [i, end) of one row, of q and k, turned and no more; meanwhile the same of the next row comes from memory where there is one. */
static void turn_row(const struct tern_kernels *kernels, const struct tern_softmax_context_args *args, void *row,
                     size_t i, size_t end, const void *next, const float *cosine, const float *sine)
{
    const size_t heads = (size_t)args->heads;

    for (size_t stop; i < end; i = stop) {
        stop = i < heads && heads < end ? heads : end;
        const size_t at = i < heads ? i * q_step(args) : k_column(args, i - heads), size = args->half ? 2 : 4;
        const struct tern_row_flow flow = { .ahead = { next ? (const char *)next + at * size : NULL },
                                            .ahead_bytes = next ? (stop - i) * q_step(args) * size : 0 };
        turn_heads(kernels, args, (char *)row + at * size, stop - i, cosine, sine, &flow);
    }
}

/* The heads of all rows that are to be turned or rounded, a share of (row, head) for each thread. */
static void prepare(const struct tern_par *par, const struct tern_softmax_context_args *args, void *qkv, size_t ld,
                    const struct tern_kv_batch *batch)
{
    const size_t turned = (size_t)args->heads + (size_t)args->kv_heads;
    const bool round = rounds(args, batch);
    const size_t n_heads = round ? turned + (size_t)args->kv_heads : turned;
    const bool alone = !round && !args->q_norm.gamma && !args->k_norm.gamma;
    double scratch[TERN_ROTARY_MAX];
    const double *frequency = NULL;
    float cosine[TERN_ROTARY_MAX], sine[TERN_ROTARY_MAX];
    size_t i, end, span = 0;

    tern_share(par, batch->n_rows * n_heads, 1, &i, &end);
    while (i < end) {
        const size_t row = i / n_heads;
        while (row >= (size_t)batch->spans[span].row + (size_t)batch->spans[span].n_rows) {
            span++;
            frequency = args->rope ? NULL : frequency;
        }
        const int64_t place = batch->spans[span].position + ((int64_t)row - batch->spans[span].row);
        const int64_t position = args->position_ids ? tern_int_at(args->position_ids, row) : place;
        if (!frequency)
            frequency = frequencies(args, batch, span, scratch);
        if (args->rope)
            tern_rope_angles(par->kernels, args->rope, cosine, sine, frequency, position);
        else
            par->kernels->rotary_angles(cosine, sine, frequency, (size_t)args->rotary_dim / 2, (double)position);
        const size_t bytes = ld * (args->half ? sizeof(uint16_t) : sizeof(float)), first = row * n_heads;
        const size_t stop = end < first + n_heads ? end : first + n_heads;
        char *const at = (char *)qkv + row * bytes;
        if (alone)
            turn_row(par->kernels, args, at, i - first, stop - first, stop < end ? at + bytes : NULL, cosine, sine);
        for (; !alone && i < stop; i++)
            prepare_head(par->kernels, args, at, i - first, round, cosine, sine);
        i = stop;
    }
}

/* What all parts of a call know. */
struct call {
    const struct tern_par *par;
    const struct tern_softmax_context_args *args;
    const struct tern_kv_batch *batch;
    const void *qkv;
    void *out; /* NULL: only the cache is written */
    size_t ld, ld_out;
    int32_t layer;
    float *scratch; /* this thread's */
};

/* Keys and values of a span's positions [p, stop), of one block, for one KV head. */
static void store(const struct call *call, const tern_kv_span *span, int32_t head, int64_t p, int64_t stop)
{
    const struct tern_softmax_context_args *args = call->args;
    const struct tern_kv_cache *cache = call->batch->cache;
    const size_t g = (size_t)head, e = (size_t)args->head_dim, v_dim = (size_t)args->v_dim, ld = call->ld;
    const size_t row = ((size_t)span->row + (size_t)(p - span->position)) * ld, n = (size_t)(stop - p);
    const void *k = element(args, call->qkv, row + k_column(args, g));
    const void *v = element(args, call->qkv, row + v_column(args, g));
    const struct kv_place to = kv_place(cache, kv_table(cache, span->sequence)[p / TERN_KV_BLOCK], call->layer, head);

    if (args->half)
        tern_kv_move(call->par->kernels, cache, to, k, v, ld, e, v_dim, (size_t)(p % TERN_KV_BLOCK), n);
    else
        tern_kv_store(call->par->kernels, cache, to, k, v, ld, e, v_dim, (size_t)(p % TERN_KV_BLOCK), n);
}

/* The addresses of all blocks of a span's sequence, for the attention kernel. */
static void find_blocks(const struct call *call, const tern_kv_span *span, int32_t head)
{
    const struct tern_kv_cache *cache = call->batch->cache;
    const int64_t n = (span->position + span->n_rows + TERN_KV_BLOCK - 1) / TERN_KV_BLOCK;
    const size_t at = kv_addresses(cache, span->sequence, head);
    const int32_t *table = kv_table(cache, span->sequence);

    for (int64_t b = 0; b < n; b++) {
        const struct kv_place place = kv_place(cache, table[b], call->layer, head);
        cache->k_blocks[at + (size_t)b] = place.k;
        cache->v_blocks[at + (size_t)b] = place.v;
    }
}

/* The end of position p's block, or of the span. */
static int64_t block_end(const tern_kv_span *span, int64_t p)
{
    const int64_t end = span->position + span->n_rows, stop = (p / TERN_KV_BLOCK + 1) * TERN_KV_BLOCK;

    return end < stop ? end : stop;
}

/* Everything that is new of the batch into the cache, by (span, block, KV head) in turn. */
static void store_all(const struct call *call)
{
    const struct tern_kv_batch *batch = call->batch;
    const size_t count = (size_t)call->par->count, mine = (size_t)call->par->thread;
    size_t item = 0;

    for (const tern_kv_span *span = batch->spans; span < batch->spans + batch->n_spans; span++) {
        const int64_t end = span->position + span->n_rows;

        for (int64_t p = span->position, stop; p < end; p = stop) {
            stop = block_end(span, p);
            for (int32_t g = 0; g < call->args->kv_heads; g++)
                if (item++ % count == mine)
                    store(call, span, g, p, stop);
        }
        for (int32_t g = 0; call->out && g < call->args->kv_heads; g++)
            if (item++ % count == mine)
                find_blocks(call, span, g);
    }
}

struct tile {
    const tern_kv_span *span;
    int32_t token, n_tokens; /* of the span */
    int32_t head, n_heads;   /* n_tokens or n_heads is 1 */
    int32_t kv_head;
};

/* The mask of a head and a token of a span, NULL without one. */
static const float *mask_row(const struct tern_softmax_context_args *args, const struct tern_kv_batch *batch,
                             const tern_kv_span *span, int32_t token, int32_t head)
{
    const ptrdiff_t *stride = args->mask_stride;

    return args->mask ? args->mask + ((span - batch->spans) * stride[0] + head * stride[1] + token * stride[2] +
                                      ((ptrdiff_t)span->row + token) * stride[3])
                      : NULL;
}

/* Where the next tile of tokens begins: further on in the span, or in the next head. */
static const void *next_query(const struct call *call, const struct tile *tile)
{
    const struct tern_softmax_context_args *args = call->args;
    const int32_t token = tile->token + tile->n_tokens;
    const size_t row = (size_t)tile->span->row, q = q_step(args);

    if (tile->n_tokens == 1)
        return NULL;
    if (token < tile->span->n_rows)
        return element(args, call->qkv, (row + (size_t)token) * call->ld + (size_t)tile->head * q);
    return tile->head + 1 < args->heads ? element(args, call->qkv, row * call->ld + (size_t)(tile->head + 1) * q)
                                        : NULL;
}

static void attend(const struct call *call, const struct tile *tile)
{
    const struct tern_softmax_context_args *args = call->args;
    const struct tern_kv_batch *batch = call->batch;
    const tern_kv_span *span = tile->span;
    const size_t v_dim = (size_t)args->v_dim, row0 = (size_t)span->row + (size_t)tile->token;
    const size_t at = kv_addresses(batch->cache, span->sequence, tile->kv_head), ld = call->ld, ld_out = call->ld_out;
    int64_t first[TERN_ATTN_ROWS], last[TERN_ATTN_ROWS];
    const float *mask[TERN_ATTN_ROWS];
    float slope[TERN_ATTN_ROWS];

    const int32_t n = tile->n_tokens * tile->n_heads;
    for (int32_t r = 0; r < n; r++) {
        const int32_t token = tile->n_tokens > 1 ? r : 0, head = tile->head + (tile->n_heads > 1 ? r : 0);
        const int64_t position = span->position + tile->token + token;
        last[r] = args->causal ? position + 1 : span->position + span->n_rows;
        if (args->around && position + args->window < last[r])
            last[r] = position + args->window;
        first[r] = args->window > 0 && position + 1 > args->window ? position + 1 - args->window : 0;
        slope[r] = args->alibi ? args->alibi[head] : 0;
        mask[r] = mask_row(args, batch, span, tile->token + token, head);
    }
    const struct tern_attention_rows a = {
        .q = element(args, call->qkv, row0 * ld + (size_t)tile->head * q_step(args)),
        .out = (void *)(uintptr_t)element(args, call->out, row0 * ld_out + (size_t)tile->head * v_dim),
        .q_stride = tile->n_tokens > 1 ? ld : q_step(args),
        .out_stride = tile->n_tokens > 1 ? ld_out : v_dim,
        .n_rows = (size_t)n,
        .head_dim = (size_t)args->head_dim,
        .v_dim = v_dim,
        .k_width = (size_t)batch->cache->shape.head_dim,
        .k_blocks = batch->cache->k_blocks + at,
        .v_blocks = batch->cache->v_blocks + at,
        .first = first,
        .last = last,
        .slope = args->alibi ? slope : NULL,
        .mask = args->mask ? mask : NULL,
        .scale = args->scale,
        .softcap = args->softcap,
        .round_bf16 = args->round_bf16,
        .half = args->half,
        .prefetch = call->par->kernels->prefetch,
        .next =
            tile->kv_head + 1 < args->kv_heads
                ? kv_place(batch->cache, kv_table(batch->cache, span->sequence)[0], call->layer, tile->kv_head + 1).k
                : NULL,
        .next_q = next_query(call, tile),
        .scratch = call->scratch,
        .state = call->scratch + tern_attention_scratch((size_t)args->head_dim),
    };
    const struct tern_kernels *kernels = call->par->kernels;
    const tern_dtype dtype = batch->cache->shape.dtype;
    if (dtype == TERN_FP16)
        kernels->attention_f32_f16(&a);
    else if (dtype == TERN_BF16)
        kernels->attention_bf16(&a);
    else
        kernels->attention_f32(&a);
}

static int32_t ceil_div(int32_t a, int32_t b)
{
    return (a + b - 1) / b;
}

/* Tokens or heads of a tile, whichever makes fewer tiles; the other is 1. */
struct steps {
    int32_t token, head;
};

/* With several threads tiles of tokens are cut further, until each thread has some of them: causal ones grow along a span. */
static struct steps steps_of(const struct call *call, const tern_kv_span *span)
{
    const int32_t group = call->args->heads / call->args->kv_heads, least = 8;
    const int64_t wanted = call->par->count > 1 ? 4 * (int64_t)call->par->count : 1;
    struct steps s = { TERN_ATTN_ROWS, 1 };

    if ((int64_t)group * ceil_div(span->n_rows, TERN_ATTN_ROWS) >
        (int64_t)span->n_rows * ceil_div(group, TERN_ATTN_ROWS))
        return (struct steps){ 1, TERN_ATTN_ROWS };
    while (s.token > least && (int64_t)call->args->heads * ceil_div(span->n_rows, s.token) < wanted)
        s.token /= 2;
    return s;
}

/* The tiles of a span's KV head that are this thread's; *item counts all of them.  Threads take every count-th, turning round after each
 * round.   alone: all are this thread's. */
static void attend_head(const struct call *call, const tern_kv_span *span, int32_t head, bool alone, size_t *item)
{
    const size_t count = alone ? 1 : (size_t)call->par->count, mine = alone ? 0 : (size_t)call->par->thread;
    const int32_t group = call->args->heads / call->args->kv_heads;
    const struct steps step = steps_of(call, span);

    for (int32_t h = 0; h < group; h += step.head)
        for (int32_t token = 0; token < span->n_rows; token += step.token, ++*item) {
            const size_t turn = *item % count;
            if ((*item / count % 2 ? count - 1 - turn : turn) != mine)
                continue;
            const struct tile tile = {
                .span = span,
                .token = token,
                .n_tokens = token + step.token <= span->n_rows ? step.token : span->n_rows - token,
                .head = head * group + h,
                .n_heads = h + step.head <= group ? step.head : group - h,
                .kv_head = head,
            };
            attend(call, &tile);
        }
}

/* Each KV head is stored and attended to by one thread. */
static void run_heads(const struct call *call)
{
    const struct tern_kv_batch *batch = call->batch;
    size_t item = 0;

    for (const tern_kv_span *span = batch->spans; span < batch->spans + batch->n_spans; span++)
        for (int32_t g = call->par->thread; g < call->args->kv_heads; g += call->par->count) {
            const int64_t end = span->position + span->n_rows;
            for (int64_t p = span->position; p < end; p = block_end(span, p))
                store(call, span, g, p, block_end(span, p));
            find_blocks(call, span, g);
            attend_head(call, span, g, true, &item);
        }
}

static void attend_all(const struct call *call)
{
    const struct tern_kv_batch *batch = call->batch;
    size_t item = 0;

    for (const tern_kv_span *span = batch->spans; span < batch->spans + batch->n_spans; span++)
        for (int32_t g = 0; g < call->args->kv_heads; g++)
            attend_head(call, span, g, false, &item);
}

/* One thread's part, a multiple of a cache line. */
static size_t scratch_floats(int32_t head_dim, int32_t v_dim)
{
    return tern_attention_scratch((size_t)head_dim) + tern_attention_state((size_t)v_dim, TERN_ATTN_ROWS);
}

size_t tern_softmax_context_scratch(int32_t head_dim, int32_t v_dim, int n_threads)
{
    return scratch_floats(head_dim, v_dim) * (size_t)n_threads;
}

void tern_softmax_context_run(const struct tern_par *par, const struct tern_softmax_context_args *args, void *qkv,
                              size_t ld, const struct tern_kv_batch *batch, int32_t layer, void *out, size_t ld_out,
                              float *scratch)
{
    static const struct tern_trace_kind kind = { "softmax_context", { "rows", "sequences", "layer" } };
    const double begin = tern_trace_begin(par);
    const size_t each = scratch_floats(args->head_dim, args->v_dim);
    const struct call call = { .par = par,
                               .args = args,
                               .batch = batch,
                               .qkv = qkv,
                               .out = out,
                               .ld = ld,
                               .ld_out = ld_out,
                               .layer = layer,
                               .scratch = scratch + each * (size_t)par->thread };

    if (args->rotary_dim > 0 || args->q_norm.gamma || args->k_norm.gamma || rounds(args, batch)) {
        prepare(par, args, qkv, ld, batch);
        tern_barrier(par);
    }
    if (out && args->kv_heads % par->count == 0) {
        run_heads(&call);
    } else {
        store_all(&call);
        if (out) {
            tern_barrier(par);
            attend_all(&call);
        }
    }
    tern_barrier(par);
    tern_trace_end(par, &kind, begin, batch->n_rows, batch->n_spans, (size_t)layer);
}

/* ---- the operator ---- */

tern_attention_options tern_attention_options_default(void)
{
    return (tern_attention_options){ .scale = NAN };
}

struct context {
    const struct tern_kernels *kernels;
    struct tern_stage stage;
    struct tern_mask mask;
    struct tern_softmax_context_args args;
    struct tern_kv_batch batch;
    float *qkv, *out, *scratch; /* fp32, of the tensors or widened */
    void *half_qkv, *half_out;  /* or, with args.half, the tensors' own */
    size_t ld, ld_out;
    int32_t layer;
};

static void context_region(void *arg, const struct tern_par *par)
{
    const struct context *c = arg;
    const struct tern_par with = tern_par_with(par, c->kernels);

    tern_stage_load(&with, &c->stage);
    tern_mask_load(&with, &c->mask);
    tern_softmax_context_run(&with, &c->args, c->args.half ? c->half_qkv : c->qkv, c->ld, &c->batch, c->layer,
                             c->args.half ? c->half_out : c->out, c->ld_out, c->scratch);
    tern_stage_store(&with, &c->stage);
}

tern_status tern_context_options(tern_ctx *ctx, const char *op, const tern_attention_options *o,
                                 struct tern_softmax_context_args *args)
{
    TERN_REQUIRE(ctx, isnan(o->scale) || isfinite(o->scale), TERN_ERR_ARG,
                 "%s: scale is %g, expected a finite number, or NaN for the config's", op, (double)o->scale);
    TERN_REQUIRE(ctx, isfinite(o->softcap) && o->softcap >= 0, TERN_ERR_ARG,
                 "%s: softcap is %g, expected a finite number, 0 or more", op, (double)o->softcap);
    TERN_REQUIRE(ctx, o->v_head_dim >= 0 && o->v_head_dim <= 512, TERN_ERR_ARG,
                 "%s: v_head_dim is %" PRId32 ", expected 0..512", op, o->v_head_dim);
    if (!isnan(o->scale))
        args->scale = o->scale;
    args->softcap = o->softcap;
    if (o->v_head_dim > 0)
        args->v_dim = o->v_head_dim;
    return TERN_OK;
}

tern_status tern_context_positions(tern_ctx *ctx, const char *op, const tern_tensor *positions, size_t rows,
                                   struct tern_softmax_context_args *args)
{
    if (!tern_given(positions))
        return TERN_OK;
    TERN_TRY(tern_check_ints(ctx, op, "position_ids", positions, -1, NULL));
    TERN_REQUIRE(ctx, tern_elements(positions) == rows, TERN_ERR_SHAPE,
                 "%s: position_ids is %s, expected one for each of %zu rows", op, tern_dims_text(positions).text, rows);
    for (size_t i = 0; i < rows; i++)
        TERN_REQUIRE(ctx, tern_int_at(positions, i) >= 0, TERN_ERR_ARG,
                     "%s: position_ids[%zu] is %" PRId64 ", expected 0 or more", op, i, tern_int_at(positions, i));
    args->position_ids = positions;
    return TERN_OK;
}

tern_status tern_context_mask(tern_ctx *ctx, const char *op, const tern_tensor *mask, const tern_config *config,
                              const struct tern_kv_batch *batch, struct tern_softmax_context_args *args,
                              struct tern_mask *out)
{
    char each[48] = "1 as the spans differ";
    int64_t longest = 0, same = -1;

    TERN_TRY(tern_mask_check(ctx, op, mask, tern_config_activation(config)));
    for (size_t i = 0; i < batch->n_spans; i++) {
        const tern_kv_span *span = &batch->spans[i];
        longest = span->position + span->n_rows > longest ? span->position + span->n_rows : longest;
        same = i == 0 || same == span->n_rows ? span->n_rows : -1;
    }
    const int64_t by_row[] = { 1, 1, (int64_t)batch->n_rows, longest };
    const int64_t by_span[] = { (int64_t)batch->n_spans, args->heads, same, longest };
    if (tern_given(mask) && mask->rank == 2 && tern_mask_fit(mask, config->invert_mask, by_row, true, out)) {
        args->mask_stride[3] = (ptrdiff_t)out->stride[2];
        return TERN_OK;
    }
    const bool fits = tern_mask_fit(mask, config->invert_mask, by_span, true, out);
    for (int i = 0; i < 3; i++)
        args->mask_stride[i] = (ptrdiff_t)out->stride[i];
    if (same >= 0)
        snprintf(each, sizeof each, "%" PRId64, same);
    TERN_REQUIRE(
        ctx, fits, TERN_ERR_SHAPE,
        "%s: mask is %s, expected [n], [T|B|1, n] or [B|1, h|1, S|1, n] with T = %zu rows, B = %zu spans, h = %" PRId32
        ", S = %s, n 1 or at least %" PRId64,
        op, tern_dims_text(mask).text, batch->n_rows, batch->n_spans, args->heads, each, longest);
    return TERN_OK;
}

tern_status tern_softmax_context(tern_ctx *ctx, const tern_config *config, const tern_attention_options *options,
                                 tern_tensor *qkv, const tern_tensor *mask, const tern_tensor *alibi,
                                 tern_kv_cache *cache, int32_t layer, const tern_kv_span *spans, size_t n_spans,
                                 tern_tensor *output)
{
    static const char op[] = "softmax_context";
    const tern_attention_options standard = tern_attention_options_default();
    struct context c = { 0 };
    size_t rows, scratch_bytes = 0;
    void *scratch = NULL;
    tern_status status;

    TERN_TRY(tern_op_check(ctx, &tern_row_softmax_context, config));
    if (!options)
        options = &standard;
    const tern_dtype dtype = tern_config_activation(config);
    c.args = tern_softmax_context_args_from(config);
    TERN_TRY(tern_context_options(ctx, op, options, &c.args));
    const int64_t head_dim = c.args.head_dim, v_dim = c.args.v_dim;
    const int64_t widest = head_dim > v_dim ? head_dim : v_dim, context = c.args.heads * v_dim;
    const int64_t width = ((int64_t)c.args.heads + c.args.kv_heads) * head_dim + c.args.kv_heads * v_dim;
    TERN_TRY(tern_check_float_rows(ctx, op, "qkv", qkv, dtype, -1, width, &rows, NULL));
    TERN_REQUIRE(ctx, cache, TERN_ERR_ARG, "%s: cache is NULL", op);
    TERN_REQUIRE(ctx, cache->shape.n_kv_heads == c.args.kv_heads && cache->shape.head_dim == widest, TERN_ERR_SHAPE,
                 "%s: the cache has %" PRId32 " heads of %" PRId32 ", expected %" PRId32 " of %" PRId64, op,
                 cache->shape.n_kv_heads, cache->shape.head_dim, c.args.kv_heads, widest);
    TERN_TRY(tern_kv_check_dtype(ctx, op, cache, dtype));
    TERN_REQUIRE(ctx, layer >= 0 && layer < cache->shape.n_layers, TERN_ERR_ARG,
                 "%s: layer is %" PRId32 ", expected 0..%" PRId32, op, layer, cache->shape.n_layers - 1);
    TERN_TRY(tern_kv_check_spans(ctx, op, cache, spans, n_spans, rows));
    c.batch = (struct tern_kv_batch){ .cache = cache, .spans = spans, .n_spans = n_spans, .n_rows = rows };
    TERN_TRY(tern_context_mask(ctx, op, mask, config, &c.batch, &c.args, &c.mask));
    TERN_TRY(tern_check_float_vector(ctx, op, "alibi", alibi, dtype, c.args.heads, true));
    TERN_TRY(tern_context_positions(ctx, op, options->position_ids, rows, &c.args));
    if (tern_given(output))
        TERN_TRY(tern_check_float_rows(ctx, op, "output", output, dtype, (int64_t)rows, context, NULL, NULL));
    const struct tern_operand operands[] = { { "qkv", qkv, true, false },
                                             { "mask", mask, false, false },
                                             { "alibi", alibi, false, false },
                                             { "position_ids", options->position_ids, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));
    if (rows == 0)
        return TERN_OK;

    c.args.half = dtype != TERN_FP32 && cache->shape.dtype == dtype && (dtype == TERN_BF16 || c.args.rotary_dim == 0);
    if (c.args.half) {
        c.half_qkv = qkv->data;
        c.half_out = tern_given(output) ? output->data : NULL;
    } else {
        tern_stage_in_out(&c.stage, qkv, &c.qkv);
        tern_stage_out(&c.stage, output, &c.out);
    }
    tern_stage_in(&c.stage, alibi, &c.args.alibi);
    TERN_TRY_OR_FAIL(tern_stage_open(ctx, &c.stage));
    TERN_TRY_OR_FAIL(tern_mask_open(ctx, &c.mask));
    scratch_bytes = tern_softmax_context_scratch(c.args.head_dim, c.args.v_dim, tern_ctx_threads(ctx)) * sizeof(float);
    TERN_TRY_OR_FAIL(tern_scratch_take(ctx, scratch_bytes, "scratch of attention", &scratch));
    c.kernels = tern_kernels_for(ctx, config);
    c.args.mask = c.mask.rows;
    c.scratch = scratch;
    c.ld = (size_t)width;
    c.ld_out = (size_t)context;
    c.layer = layer;
    status = tern_region(ctx, context_region, &c);

fail:
    tern_scratch_give(ctx, scratch, scratch_bytes);
    tern_mask_close(ctx, &c.mask);
    tern_stage_close(ctx, &c.stage);
    return status;
}

/* ---- by name ---- */

static tern_status run_softmax_context(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                       const tern_op_call *call)
{
    const tern_attention_options options = { .scale = call->params->scale,
                                             .softcap = call->params->softcap,
                                             .v_head_dim = call->params->v_head_dim,
                                             .position_ids = io[3] };

    return tern_softmax_context(ctx, config, &options, io[0], io[1], io[2], call->cache, call->layer, call->spans,
                                call->n_spans, io[4]);
}

/* output: rows as qkv has them, of h E'. */
static tern_status infer_softmax_context(tern_ctx *ctx, const tern_config *config, const tern_op_params *params,
                                         tern_tensor *const *io, tern_tensor *found)
{
    const struct tern_config_sizes sizes = tern_config_sizes(config);
    int64_t dim[TERN_MAX_RANK] = { 0 };
    const tern_tensor *qkv = io[0];

    if (!io[4])
        return TERN_OK;
    TERN_REQUIRE(ctx, qkv->rank >= 1, TERN_ERR_SHAPE, "softmax_context: qkv has rank %d, expected at least one axis",
                 qkv->rank);
    const int64_t v_dim = params->v_head_dim > 0 ? params->v_head_dim : sizes.head_dim;
    const int64_t width = ((int64_t)sizes.heads + sizes.kv_heads) * sizes.head_dim + sizes.kv_heads * v_dim;
    TERN_REQUIRE(ctx, qkv->dim[qkv->rank - 1] == width, TERN_ERR_SHAPE,
                 "softmax_context: qkv is %s, expected rows of %" PRId64, tern_dims_text(qkv).text, width);
    for (int i = 0; i + 1 < qkv->rank; i++)
        dim[i] = qkv->dim[i];
    dim[qkv->rank - 1] = sizes.heads * v_dim;
    found[4] = tern_tensor_view(NULL, tern_config_activation(config), qkv->rank, dim);
    TERN_REQUIRE(ctx, found[4].rank == qkv->rank, TERN_ERR_SHAPE,
                 "softmax_context: output of rank %d is larger than a tensor can be", qkv->rank);
    return TERN_OK;
}

const struct tern_op_row tern_row_softmax_context = {
    .name = "softmax_context",
    .formula = "rotary, keys and values into the cache, softmax(scale q k + alibi + mask) v",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_HEADS | TERN_READS_ATTENTION,
    .params = "scale softcap v_head_dim",
    .kernels = "rotary_f32 kv_store_f32 kv_store_f16 kv_store_bf16 kv_move_f16 kv_move_bf16 attention_f32 "
               "attention_f32_f16 attention_bf16",
    .run = run_softmax_context,
    .infer = infer_softmax_context,
    .io = { TERN_IN("qkv", "[.., (h+G)E+GE']"),
            TERN_MASK("mask", "[B|1, h|1, S|1, n]"),
            TERN_VECTOR_OPTIONAL("alibi", "[h]"),
            TERN_INTS_OPTIONAL("position_ids", "[..]"),
            { .name = "output", .shape = "[.., hE']", .output = true, .optional = true, .also = "context" } },
};
