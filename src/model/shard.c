/* shard.c: see shard.h. */
#include "model/shard.h"

#include "ops/checks.h"

struct tern_shard tern_shard_of(int64_t total, int64_t grain, int rank, int size)
{
    int64_t n = (total + grain - 1) / grain;

    if (n < size) {
        n = total;
        grain = 1;
    }
    const int64_t each = n / size, more = n % size, first = rank * each + (rank < more ? rank : more);
    const int64_t begin = first * grain, end = (first + each + (rank < more)) * grain;
    return (struct tern_shard){ begin < total ? begin : total,
                                (end < total ? end : total) - (begin < total ? begin : total) };
}

/* Whole KV heads, or a part of the query heads of one. */
static void share_heads(const tern_model_config *c, int rank, int size, struct tern_shards *out)
{
    const int64_t G = c->kv_heads, group = c->heads / G;

    if (G >= size) {
        out->kv_heads = tern_shard_of(G, 1, rank, size);
        out->heads = (struct tern_shard){ out->kv_heads.first * group, out->kv_heads.count * group };
        return;
    }
    const int64_t head = rank * G / size, begin = (head * size + G - 1) / G, end = ((head + 1) * size + G - 1) / G;
    const struct tern_shard part = tern_shard_of(group, 1, (int)(rank - begin), (int)(end - begin));
    out->heads = (struct tern_shard){ head * group + part.first, part.count };
    out->kv_heads = (struct tern_shard){ head, part.count > 0 };
}

tern_status tern_shards_make(tern_ctx *ctx, const tern_model_config *config, const struct tern_spec *spec,
                             const tern_comm *comm, struct tern_shards *out)
{
    const int rank = comm->rank, size = comm->size;
    const int64_t shared = spec->experts.shared_width, V = config->vocab_size;
    const int64_t inner = spec->experts.n > 0 && !spec->experts.dense ? size : config->intermediate_size;
    const int64_t least = shared && shared < inner ? shared : inner;

    TERN_REQUIRE(ctx, least >= size && V >= size, TERN_ERR_UNSUPPORTED,
                 "the model is shared by %d ranks, its %s are %" PRId64 ", expected at least as many", size,
                 least < size ? "channels of a feed-forward" : "words", least < size ? least : V);
    *out = (struct tern_shards){
        .rank = rank,
        .size = size,
        .channels = tern_shard_of(config->intermediate_size, TERN_PANEL, rank, size),
        .shared = tern_shard_of(shared, TERN_PANEL, rank, size),
        .experts = tern_shard_of(spec->experts.n, 1, rank, size),
        .vocabulary = tern_shard_of(V, TERN_PANEL, rank, size),
        .most_words = tern_shard_of(V, TERN_PANEL, 0, size).count,
    };
    share_heads(config, rank, size, out);
    return TERN_OK;
}
