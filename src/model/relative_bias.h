/* relative_bias.h: what the scores of all layers have added by how far a key is from its query (MPNet, as T5 does).
 *
 *     score[q, k] += table[bucket(q - k)][head]
 *
 * A distance below 8 has a bucket of its own, larger ones share those from 8 on by their logarithm, the last from 91 on: 16 buckets for
 * keys up to the query, as many for those behind it.  Source: transformers 5.23, models/mpnet/. */
#ifndef TERN_MODEL_RELATIVE_BIAS_H
#define TERN_MODEL_RELATIVE_BIAS_H

#include "base/ctx.h"

#define TERN_RELATIVE_BUCKETS 32

/* The bucket of a key that stands `behind` places before its query; behind it where that is negative.  0..31. */
int32_t tern_relative_bucket(int64_t behind);

/* *out [heads, 2 n - 1]: of a head the values for keys n - 1 places before the query to n - 1 behind it, so that those of the query at
 * q begin at n - 1 - q.  table: [TERN_RELATIVE_BUCKETS or more, heads].  TERN_ERR_MEMORY; freed with tern_free(). */
tern_status tern_relative_bias(tern_ctx *ctx, const float *table, int32_t heads, int32_t n, float **out);

#endif
