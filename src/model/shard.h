/* shard.h: what of a model's matrices a rank has, where several processes share them.
 *
 *     QKV, attention-out      heads: columns of the one, rows of the other
 *     up (and gate), down     channels of the feed-forward, likewise
 *     embedding, head         rows and columns of the vocabulary
 *     experts                 whole ones
 *
 * KV heads are dealt out with the query heads that read them.  Where there are fewer of them than ranks, several ranks have the same
 * one and share its query heads.  Shares may differ by a grain (a head, an expert, 32 channels or words); a rank may have no head or no
 * expert.  Norms, biases that are added to sums of all ranks, routers and tables of positions are whole on every rank. */
#ifndef TERN_MODEL_SHARD_H
#define TERN_MODEL_SHARD_H

#include "model/spec.h"

#include <tern/comm.h>

/* `count` of something from `first` on. */
struct tern_shard {
    int64_t first, count;
};

struct tern_shards {
    int rank, size;
    struct tern_shard heads;      /* of h */
    struct tern_shard kv_heads;   /* of G: those that `heads` read */
    struct tern_shard channels;   /* of I */
    struct tern_shard shared;     /* of the I of the expert that every row goes to */
    struct tern_shard experts;    /* of X */
    struct tern_shard vocabulary; /* of V */
    int64_t most_words;           /* the largest count of vocabulary of all ranks */
};

/* Rank's share of `total` in whole grains, the last of which may be cut; single ones where there are fewer grains than ranks.  The first
 * ranks have one grain more than the others. */
struct tern_shard tern_shard_of(int64_t total, int64_t grain, int rank, int size);

/* TERN_ERR_UNSUPPORTED: fewer channels or words than ranks. */
tern_status tern_shards_make(tern_ctx *ctx, const tern_model_config *config, const struct tern_spec *spec,
                             const tern_comm *comm, struct tern_shards *out);

#endif
