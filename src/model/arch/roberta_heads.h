/* roberta_heads.h: heads that RoBERTa, XLM-RoBERTa and MPNet have under the same names; BERT has the pooler and the tags as well. */
#ifndef TERN_MODEL_ARCH_ROBERTA_HEADS_H
#define TERN_MODEL_ARCH_ROBERTA_HEADS_H

#include "model/spec.h"

static const struct tern_head_spec roberta_pooler = {
    .pool = TERN_POOL_FIRST, .dense = "pooler.dense", .dense_prefixed = true, .dense_bias = true, .act = TERN_ACT_TANH
};
static const struct tern_head_spec roberta_fill = { .dense = "lm_head.dense",
                                                    .dense_bias = true,
                                                    .act = TERN_ACT_GELU_ERF,
                                                    .dense_norm = "lm_head.layer_norm",
                                                    .out = "lm_head.decoder",
                                                    .out_bias = "lm_head.bias" };
static const struct tern_head_spec roberta_classify = { .pool = TERN_POOL_FIRST,
                                                        .dense = "classifier.dense",
                                                        .dense_bias = true,
                                                        .act = TERN_ACT_TANH,
                                                        .out = "classifier.out_proj",
                                                        .out_bias = "classifier.out_proj.bias" };

static const struct tern_head_spec roberta_tag = { .out = "classifier", .out_bias = "classifier.bias" };

#endif
