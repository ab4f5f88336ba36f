/* kv_cache.c: a pool of blocks, and the sequences that hold them.
 *
 * A block may be held by several sequences (after a fork); who writes into such a block takes a copy first.  A block that
 * comes back from another use is zeroed when it is taken, so that no number of another sequence is ever read. */
#include "ops/kv_pool.h"

#include "base/memory.h"

#include <assert.h>
#include <string.h>

static tern_status check_shape(tern_ctx *ctx, const tern_kv_shape *s)
{
    const struct {
        const char *name;
        int64_t value, max;
    } sizes[] = {
        { "n_layers", s->n_layers, 1 << 20 },
        { "n_kv_heads", s->n_kv_heads, 1 << 20 },
        { "head_dim", s->head_dim, 512 },
        { "n_positions", s->n_positions, (int64_t)(INT32_MAX - 1) * TERN_KV_BLOCK },
        { "n_sequences", s->n_sequences, INT32_MAX },
        { "n_context", s->n_context, INT32_MAX },
    };

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        TERN_REQUIRE(ctx, sizes[i].value >= 1 && sizes[i].value <= sizes[i].max, TERN_ERR_ARG,
                     "kv_cache: %s is %" PRId64 ", expected 1..%" PRId64, sizes[i].name, sizes[i].value, sizes[i].max);
    TERN_REQUIRE(ctx, s->dtype == TERN_FP32 || s->dtype == TERN_FP16 || s->dtype == TERN_BF16, TERN_ERR_ARG,
                 "kv_cache: dtype is %s, expected fp32, fp16 or bf16", tern_dtype_name(s->dtype));
    return TERN_OK;
}

static int64_t blocks_of(int64_t positions)
{
    return (positions + TERN_KV_BLOCK - 1) / TERN_KV_BLOCK;
}

static int32_t groups_of(const struct tern_kv_cache *c)
{
    return c->n_blocks / KV_GROUP + (c->n_blocks % KV_GROUP > 0);
}

static tern_status product(tern_ctx *ctx, size_t a, size_t b, const char *what, size_t *out)
{
    TERN_REQUIRE(ctx, tern_size_mul(a, b, out), TERN_ERR_MEMORY, "out of memory: %zu x %zu bytes for %s", a, b, what);
    return TERN_OK;
}

/* The sizes that follow from a checked shape. */
static tern_status fill_sizes(tern_ctx *ctx, const tern_kv_shape *shape, struct tern_kv_cache *c)
{
    c->shape = *shape;
    c->n_blocks = (int32_t)blocks_of(shape->n_positions);
    c->blocks_each = (int32_t)blocks_of(shape->n_context);
    const size_t e = (size_t)shape->head_dim, size = tern_dtype_size(shape->dtype);
    c->k_bytes = TERN_KV_BLOCK * size * (shape->dtype == TERN_BF16 ? (e + 1) / 2 * 2 : e);
    c->v_bytes = TERN_KV_BLOCK * size * ((e + 31) / 32 * 32);
    const size_t layer_bytes = (c->k_bytes + c->v_bytes) * (size_t)shape->n_kv_heads;
    TERN_TRY(product(ctx, layer_bytes, (size_t)shape->n_layers, "a KV pool", &c->block_bytes));
    return product(ctx, c->block_bytes, (size_t)c->n_blocks, "a KV pool", &c->pool_bytes);
}

tern_status tern_kv_cache_measure(tern_ctx *ctx, const tern_kv_shape *shape, size_t *bytes)
{
    struct tern_kv_cache c;

    TERN_REQUIRE(ctx, shape && bytes, TERN_ERR_ARG, "kv_cache: %s is NULL", shape ? "bytes" : "shape");
    TERN_TRY(check_shape(ctx, shape));
    TERN_TRY(fill_sizes(ctx, shape, &c));
    *bytes = c.pool_bytes;
    return TERN_OK;
}

tern_status tern_kv_cache_create(tern_ctx *ctx, const tern_kv_shape *shape, tern_kv_cache **out)
{
    struct tern_kv_cache *c = NULL;
    size_t n = 0, heads = 0;
    void *pages = NULL;
    tern_status status;

    TERN_REQUIRE(ctx, out, TERN_ERR_ARG, "kv_cache: out is NULL");
    *out = NULL;
    TERN_REQUIRE(ctx, shape, TERN_ERR_ARG, "kv_cache: shape is NULL");
    TERN_TRY(check_shape(ctx, shape));

    TERN_TRY(TERN_ALLOC(ctx, 1, "a KV cache", &c));
    TERN_TRY_OR_FAIL(fill_sizes(ctx, shape, c));
    TERN_TRY_OR_FAIL(tern_pages_alloc(ctx, c->pool_bytes, "a KV pool", &pages));
    c->pool = pages;

    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, (size_t)groups_of(c), "a list of KV blocks", &c->free));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, (size_t)c->n_blocks, "a list of KV blocks", &c->refs));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, (size_t)c->n_blocks, "a list of KV blocks", &c->pending));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, (size_t)c->n_blocks, "a list of KV blocks", &c->written));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, (size_t)shape->n_sequences, "KV sequences", &c->sequences));
    TERN_TRY_OR_FAIL(product(ctx, (size_t)shape->n_sequences, (size_t)c->blocks_each, "KV block tables", &n));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, n, "KV block tables", &c->tables));
    TERN_TRY_OR_FAIL(product(ctx, n, (size_t)shape->n_kv_heads, "KV block tables", &heads));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, heads, "KV block tables", &c->k_blocks));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, heads, "KV block tables", &c->v_blocks));

    for (int32_t i = 0; i < c->n_blocks; i++)
        c->free[i / KV_GROUP]++;
    c->n_free = c->n_blocks;
    *out = c;
    return TERN_OK;

fail:
    tern_kv_cache_destroy(&c);
    return status;
}

void tern_kv_cache_destroy(tern_kv_cache **cache)
{
    struct tern_kv_cache *c = cache ? *cache : NULL;

    if (!c)
        return;
    tern_pages_free(c->pool, c->pool_bytes);
    tern_free(c->free);
    tern_free(c->refs);
    tern_free(c->pending);
    tern_free(c->written);
    tern_free(c->sequences);
    tern_free(c->tables);
    tern_free((void *)c->k_blocks);
    tern_free((void *)c->v_blocks);
    tern_free(c);
    *cache = NULL;
}

/* ---- blocks ---- */

/* A free block: the one after `last` (-1: there is none), or the first of a group with as many free ones as any, so that more can follow. */
static int32_t find_block(const struct tern_kv_cache *c, int32_t last)
{
    const int32_t n_groups = groups_of(c);
    int32_t group = 0, block;

    if (last >= 0 && last + 1 < c->n_blocks && c->refs[last + 1] == 0)
        return last + 1;
    for (int32_t i = 0; i < n_groups && c->free[group] < KV_GROUP; i++)
        group = c->free[i] > c->free[group] ? i : group;
    for (block = group * KV_GROUP; c->refs[block] > 0; block++)
        ;
    return block;
}

/* What a block holds becomes that of another one, or zeros (-1). */
static void fill_block(struct tern_kv_cache *c, int32_t block, int32_t from)
{
    for (int32_t layer = 0; layer < c->shape.n_layers; layer++)
        for (int32_t g = 0; g < c->shape.n_kv_heads; g++) {
            const struct kv_place to = kv_place(c, block, layer, g);
            if (from < 0) {
                memset(to.k, 0, c->k_bytes);
                memset(to.v, 0, c->v_bytes);
            } else {
                const struct kv_place place = kv_place(c, from, layer, g);
                memcpy(to.k, place.k, c->k_bytes);
                memcpy(to.v, place.v, c->v_bytes);
            }
        }
}

/* A block to stand after `last` in a sequence, with what `from` holds, or zeros (-1). */
static int32_t take_block(struct tern_kv_cache *c, int32_t last, int32_t from)
{
    assert(c->n_free > 0);
    const int32_t block = find_block(c, last);

    if (from >= 0 || c->written[block])
        fill_block(c, block, from);
    c->written[block] = true;
    c->refs[block] = 1;
    c->free[block / KV_GROUP]--;
    c->n_free--;
    return block;
}

static void release_block(struct tern_kv_cache *c, int32_t block)
{
    assert(c->refs[block] > 0);
    if (--c->refs[block] > 0)
        return;
    c->free[block / KV_GROUP]++;
    c->n_free++;
}

/* Gives back what a sequence holds beyond its first `keep` blocks. */
static void shrink(struct tern_kv_cache *c, int32_t sequence, int32_t keep)
{
    struct kv_sequence *s = &c->sequences[sequence];
    const int32_t *table = kv_table(c, sequence);

    while (s->n_blocks > keep)
        release_block(c, table[--s->n_blocks]);
}

tern_status tern_kv_check_dtype(tern_ctx *ctx, const char *op, const tern_kv_cache *cache, tern_dtype activation)
{
    const tern_dtype dtype = cache->shape.dtype;

    TERN_REQUIRE(ctx, dtype == TERN_FP32 || dtype == activation, TERN_ERR_DTYPE,
                 "%s: the cache keeps %s, expected fp32%s%s, as the activations are %s", op, tern_dtype_name(dtype),
                 activation == TERN_FP32 ? "" : " or ", activation == TERN_FP32 ? "" : tern_dtype_name(activation),
                 tern_dtype_name(activation));
    return TERN_OK;
}

void tern_kv_store(const struct tern_kernels *kernels, const struct tern_kv_cache *c, struct kv_place to,
                   const float *k, const float *v, size_t stride, size_t head_dim, size_t v_dim, size_t p, size_t n)
{
    const size_t k_width = (size_t)c->shape.head_dim;
    void *k_block = to.k, *v_block = to.v;

    if (c->shape.dtype == TERN_FP16)
        kernels->kv_store_f16(k_block, v_block, k, v, stride, head_dim, v_dim, k_width, p, n);
    else if (c->shape.dtype == TERN_BF16)
        kernels->kv_store_bf16(k_block, v_block, k, v, stride, head_dim, v_dim, k_width, p, n);
    else
        kernels->kv_store_f32(k_block, v_block, k, v, stride, head_dim, v_dim, k_width, p, n);
}

void tern_kv_move(const struct tern_kernels *kernels, const struct tern_kv_cache *c, struct kv_place to,
                  const uint16_t *k, const uint16_t *v, size_t stride, size_t head_dim, size_t v_dim, size_t p,
                  size_t n)
{
    const size_t k_width = (size_t)c->shape.head_dim;
    void *k_block = to.k, *v_block = to.v;

    if (c->shape.dtype == TERN_FP16)
        kernels->kv_move_f16(k_block, v_block, k, v, stride, head_dim, v_dim, k_width, p, n);
    else
        kernels->kv_move_bf16(k_block, v_block, k, v, stride, head_dim, v_dim, k_width, p, n);
}

/* ---- sequences ---- */

static bool is_sequence(const struct tern_kv_cache *c, int32_t sequence)
{
    return sequence >= 0 && sequence < c->shape.n_sequences && c->sequences[sequence].used;
}

#define REQUIRE_SEQUENCE(ctx, cache, sequence)                                                                       \
    do {                                                                                                             \
        TERN_REQUIRE((ctx), (cache), TERN_ERR_ARG, "kv_cache: cache is NULL");                                       \
        TERN_REQUIRE((ctx), is_sequence((cache), (sequence)), TERN_ERR_ARG,                                          \
                     "kv_cache: there is no sequence %" PRId32 ", expected one of up to %" PRId32 " that was added", \
                     (sequence), (cache)->shape.n_sequences);                                                        \
    } while (0)

tern_status tern_kv_sequence_add(tern_ctx *ctx, tern_kv_cache *cache, int32_t *sequence)
{
    TERN_REQUIRE(ctx, cache && sequence, TERN_ERR_ARG, "kv_cache: %s is NULL", cache ? "sequence" : "cache");
    for (int32_t i = 0; i < cache->shape.n_sequences; i++)
        if (!cache->sequences[i].used) {
            cache->sequences[i] = (struct kv_sequence){ .used = true };
            *sequence = i;
            return TERN_OK;
        }
    return tern_fail(ctx, TERN_ERR_CAPACITY,
                     "kv_cache: %" PRId32 " sequences are in use, expected fewer than n_sequences = %" PRId32,
                     cache->shape.n_sequences, cache->shape.n_sequences);
}

tern_status tern_kv_sequence_remove(tern_ctx *ctx, tern_kv_cache *cache, int32_t sequence)
{
    REQUIRE_SEQUENCE(ctx, cache, sequence);
    shrink(cache, sequence, 0);
    cache->sequences[sequence].used = false;
    return TERN_OK;
}

tern_status tern_kv_sequence_fork(tern_ctx *ctx, tern_kv_cache *cache, int32_t sequence, int32_t *fork)
{
    int32_t to;

    REQUIRE_SEQUENCE(ctx, cache, sequence);
    TERN_REQUIRE(ctx, fork, TERN_ERR_ARG, "kv_cache: fork is NULL");
    TERN_TRY(tern_kv_sequence_add(ctx, cache, &to));

    const struct kv_sequence *s = &cache->sequences[sequence];
    struct kv_sequence *f = &cache->sequences[to];
    const int32_t *table = kv_table(cache, sequence);
    int32_t *copy = cache->tables + (size_t)to * (size_t)cache->blocks_each;
    f->length = s->length;
    f->n_blocks = (int32_t)blocks_of(s->length);
    for (int32_t i = 0; i < f->n_blocks; i++) {
        copy[i] = table[i];
        cache->refs[table[i]]++;
    }
    *fork = to;
    return TERN_OK;
}

tern_status tern_kv_sequence_truncate(tern_ctx *ctx, tern_kv_cache *cache, int32_t sequence, int64_t length)
{
    REQUIRE_SEQUENCE(ctx, cache, sequence);
    struct kv_sequence *s = &cache->sequences[sequence];

    TERN_REQUIRE(ctx, length >= 0 && length <= s->length, TERN_ERR_ARG,
                 "kv_cache: sequence %" PRId32 " cut to %" PRId64 " positions, expected 0..%" PRId64 ", its length",
                 sequence, length, s->length);
    s->length = length;
    shrink(cache, sequence, (int32_t)blocks_of(length));
    return TERN_OK;
}

int64_t tern_kv_sequence_length(const tern_kv_cache *cache, int32_t sequence)
{
    return cache && is_sequence(cache, sequence) ? cache->sequences[sequence].length : -1;
}

int64_t tern_kv_cache_free_positions(const tern_kv_cache *cache)
{
    return cache ? (int64_t)cache->n_free * TERN_KV_BLOCK : 0;
}

size_t tern_kv_cache_bytes(const tern_kv_cache *cache)
{
    return cache ? cache->pool_bytes : 0;
}

/* ---- spans ---- */

/* The list's own stamp marks the sequences that it has named. */
static tern_status check_span(tern_ctx *ctx, struct tern_kv_cache *c, const tern_kv_span *span, uint32_t stamp)
{
    REQUIRE_SEQUENCE(ctx, c, span->sequence);
    struct kv_sequence *s = &c->sequences[span->sequence];

    TERN_REQUIRE(ctx, s->stamp != stamp, TERN_ERR_ARG,
                 "kv_cache: sequence %" PRId32 " is named twice, expected once a batch", span->sequence);
    s->stamp = stamp;
    TERN_REQUIRE(ctx, span->n_rows >= 1, TERN_ERR_ARG,
                 "kv_cache: a span of sequence %" PRId32 " has %" PRId32 " rows, expected 1 or more", span->sequence,
                 span->n_rows);
    TERN_REQUIRE(ctx, span->position >= 0 && span->position <= s->length, TERN_ERR_ARG,
                 "kv_cache: sequence %" PRId32 " continued at position %" PRId64 ", expected 0..%" PRId64
                 ", its length",
                 span->sequence, span->position, s->length);
    return TERN_OK;
}

static uint32_t next_stamp(struct tern_kv_cache *c)
{
    if (++c->stamp == 0) { /* after four billion lists: forget the old marks */
        for (int32_t i = 0; i < c->shape.n_sequences; i++)
            c->sequences[i].stamp = 0;
        c->stamp = 1;
    }
    return c->stamp;
}

/* Blocks that a span writes, [*first, *end) of the sequence's table; those from n_blocks on are not there yet. */
static void span_blocks(const tern_kv_span *span, int32_t *first, int32_t *end)
{
    *first = (int32_t)(span->position / TERN_KV_BLOCK);
    *end = (int32_t)blocks_of(span->position + span->n_rows);
}

/* Blocks that a span needs: new ones, and copies of shared ones.  `pending` counts the copies that the spans before it
 * make of the same block: the last holder needs none. */
static int64_t count_span(struct tern_kv_cache *c, const tern_kv_span *span)
{
    const struct kv_sequence *s = &c->sequences[span->sequence];
    const int32_t *table = kv_table(c, span->sequence);
    int32_t first, end;

    span_blocks(span, &first, &end);
    int64_t need = end > s->n_blocks ? end - s->n_blocks : 0;
    for (int32_t i = first; i < end && i < s->n_blocks; i++)
        if (c->refs[table[i]] - c->pending[table[i]] > 1) {
            c->pending[table[i]]++;
            need++;
        }
    return need;
}

tern_status tern_kv_reserve(tern_ctx *ctx, tern_kv_cache *cache, const tern_kv_span *spans, size_t n_spans)
{
    int64_t need = 0;

    TERN_REQUIRE(ctx, cache && (spans || n_spans == 0), TERN_ERR_ARG, "kv_cache: %s is NULL",
                 cache ? "spans" : "cache");
    const uint32_t stamp = next_stamp(cache);
    for (size_t i = 0; i < n_spans; i++) {
        TERN_TRY(check_span(ctx, cache, &spans[i], stamp));
        const int64_t end = spans[i].position + spans[i].n_rows;
        TERN_REQUIRE(ctx, end <= cache->shape.n_context, TERN_ERR_CAPACITY,
                     "kv_cache: sequence %" PRId32 " would hold %" PRId64 " positions, the context has %" PRId64,
                     spans[i].sequence, end, cache->shape.n_context);
    }

    for (size_t i = 0; i < n_spans; i++)
        need += count_span(cache, &spans[i]);
    for (size_t i = 0; i < n_spans; i++) {
        const int32_t *table = kv_table(cache, spans[i].sequence);
        int32_t first, end;
        span_blocks(&spans[i], &first, &end);
        for (; first < end && first < cache->sequences[spans[i].sequence].n_blocks; first++)
            cache->pending[table[first]] = 0;
    }
    TERN_REQUIRE(ctx, need <= cache->n_free, TERN_ERR_CAPACITY,
                 "kv_cache: the batch needs %" PRId64 " more positions, %" PRId64 " of %" PRId64
                 " are free (in blocks of %d)",
                 need * TERN_KV_BLOCK, tern_kv_cache_free_positions(cache), (int64_t)cache->n_blocks * TERN_KV_BLOCK,
                 TERN_KV_BLOCK);

    for (size_t i = 0; i < n_spans; i++) {
        struct kv_sequence *s = &cache->sequences[spans[i].sequence];
        int32_t *table = cache->tables + (size_t)spans[i].sequence * (size_t)cache->blocks_each;
        int32_t first, end;
        span_blocks(&spans[i], &first, &end);
        for (; first < end && first < s->n_blocks; first++) {
            const int32_t shared = table[first];
            if (cache->refs[shared] > 1) {
                table[first] = take_block(cache, first > 0 ? table[first - 1] : -1, shared);
                release_block(cache, shared);
            }
        }
        for (; s->n_blocks < end; s->n_blocks++)
            table[s->n_blocks] = take_block(cache, s->n_blocks > 0 ? table[s->n_blocks - 1] : -1, -1);
    }
    return TERN_OK;
}

/* Whether the blocks that a span writes are there, and its own. */
static tern_status check_reserved(tern_ctx *ctx, const char *op, const struct tern_kv_cache *cache,
                                  const tern_kv_span *span)
{
    const struct kv_sequence *s = &cache->sequences[span->sequence];
    int32_t first, end;

    span_blocks(span, &first, &end);
    TERN_REQUIRE(ctx, span->position + span->n_rows <= cache->shape.n_context && end <= s->n_blocks, TERN_ERR_STATE,
                 "%s: sequence %" PRId32 " has room for %" PRId64 " positions, the span ends at %" PRId64
                 ": tern_kv_reserve() comes first",
                 op, span->sequence, (int64_t)s->n_blocks * TERN_KV_BLOCK, span->position + span->n_rows);
    for (; first < end; first++)
        TERN_REQUIRE(ctx, cache->refs[kv_table(cache, span->sequence)[first]] == 1, TERN_ERR_STATE,
                     "%s: sequence %" PRId32 " shares its positions from %d on with a fork, expected its own: "
                     "tern_kv_reserve() comes first",
                     op, span->sequence, first * TERN_KV_BLOCK);
    return TERN_OK;
}

tern_status tern_kv_commit(tern_ctx *ctx, tern_kv_cache *cache, const tern_kv_span *spans, size_t n_spans)
{
    TERN_REQUIRE(ctx, cache && (spans || n_spans == 0), TERN_ERR_ARG, "kv_cache: %s is NULL",
                 cache ? "spans" : "cache");
    const uint32_t stamp = next_stamp(cache);
    for (size_t i = 0; i < n_spans; i++) {
        TERN_TRY(check_span(ctx, cache, &spans[i], stamp));
        TERN_TRY(check_reserved(ctx, "kv_cache", cache, &spans[i]));
    }
    for (size_t i = 0; i < n_spans; i++) {
        struct kv_sequence *s = &cache->sequences[spans[i].sequence];
        s->length = spans[i].position + spans[i].n_rows;
        shrink(cache, spans[i].sequence, (int32_t)blocks_of(s->length));
    }
    return TERN_OK;
}

tern_status tern_kv_check_spans(tern_ctx *ctx, const char *op, tern_kv_cache *cache, const tern_kv_span *spans,
                                size_t n_spans, size_t n_rows)
{
    const uint32_t stamp = next_stamp(cache);
    size_t row = 0;

    TERN_REQUIRE(ctx, spans || n_spans == 0, TERN_ERR_ARG, "%s: spans is NULL, expected %zu of them", op, n_spans);
    for (size_t i = 0; i < n_spans; i++) {
        const tern_kv_span *span = &spans[i];
        TERN_TRY(check_span(ctx, cache, span, stamp));
        TERN_REQUIRE(ctx, span->row >= 0 && (size_t)span->row == row, TERN_ERR_ARG,
                     "%s: span %zu begins at row %" PRId32 ", expected row %zu, where the one before it ends", op, i,
                     span->row, row);
        row += (size_t)span->n_rows;
        TERN_TRY(check_reserved(ctx, op, cache, span));
    }
    TERN_REQUIRE(ctx, row == n_rows, TERN_ERR_ARG, "%s: the spans have %zu rows, expected %zu", op, row, n_rows);
    return TERN_OK;
}
