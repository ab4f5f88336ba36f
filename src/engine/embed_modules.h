/* embed_modules.h: what stands behind the transformer of a sentence-transformers directory. */
#ifndef TERN_ENGINE_EMBED_MODULES_H
#define TERN_ENGINE_EMBED_MODULES_H

#include "base/json.h"
#include "ops/kernel_calls.h"

#include <tern/context.h>

enum embed_pool {
    EMBED_POOL_CLS,       /* the first token's state */
    EMBED_POOL_MAX,       /* the largest of each number */
    EMBED_POOL_MEAN,      /* sum / n */
    EMBED_POOL_MEAN_SQRT, /* sum / sqrt(n) */
    EMBED_POOL_WEIGHTED,  /* token t, from 1 on, t times: sum / (1 + .. + n) */
    EMBED_POOL_LAST,      /* the last token's */
    EMBED_POOL_MODES
};

enum embed_kind { EMBED_DENSE, EMBED_LAYER_NORM, EMBED_NORMALIZE };

/* A module that takes a vector [in] to one of [out]. */
struct embed_step {
    enum embed_kind kind;
    int32_t in, out;
    tern_weight *weight;          /* dense: [in, out] */
    bool residual;                /* dense: its input is added behind the activation .. */
    tern_weight *residual_weight; /* .. by this [in, out] where the widths differ, else NULL */
    float *bias;                  /* dense: [out] or NULL; layer norm: beta */
    float *gamma;                 /* layer norm */
    enum tern_act act;
};

#define EMBED_STEPS 8

struct embed_prompt {
    char *name, *text;
};

struct embed_modules {
    char *transformer;                       /* the directory of the model */
    int32_t max_tokens;                      /* 0: not said */
    enum embed_pool pools[EMBED_POOL_MODES]; /* one behind the other */
    size_t n_pools;                          /* 0: modules.json is not there, the model decides */
    bool include_prompt;
    int32_t width; /* of the token states that pooling expects; 0: not said */
    struct embed_step steps[EMBED_STEPS];
    size_t n_steps;
    struct embed_prompt *prompts;
    size_t n_prompts;
    char *default_prompt; /* its name, or NULL */
    int32_t kept;         /* numbers of a vector that are kept; 0: all */
};

/* Reads the directory `dir`; *out is freed by embed_modules_free() in any case.
 * TERN_ERR_FORMAT, TERN_ERR_UNSUPPORTED (a module, by name), TERN_ERR_NOT_FOUND, TERN_ERR_SHAPE, TERN_ERR_DTYPE, TERN_ERR_IO,
 * TERN_ERR_MEMORY. */
tern_status embed_modules_read(tern_ctx *ctx, const char *dir, struct embed_modules *out);
void embed_modules_free(struct embed_modules *modules);

/* A file of a folder, whose root is of `type`; *json is NULL where it is absent and need not be there. */
tern_status embed_read_json(tern_ctx *ctx, const char *dir, const char *name, bool required, enum tern_json_type type,
                            struct tern_json **json);
/* Appends the module in the folder `dir`. */
tern_status embed_step_read(tern_ctx *ctx, const char *dir, enum embed_kind kind, struct embed_modules *modules);

/* What the transformer's folder says beside the model's own files (sentence_bert_config.json, tokenizer_config.json), which is for
 * `task`: tokens of a text at most, 0 where nothing says. */
tern_status embed_transformer_read(tern_ctx *ctx, const char *dir, const char *task, int32_t *max_tokens);
/* The same of the tokenizer's file alone. */
tern_status embed_model_max_read(tern_ctx *ctx, const char *dir, int32_t *max_tokens);

/* Whether each module takes what the one before gives: H-wide states to begin with. */
tern_status embed_modules_check(tern_ctx *ctx, const char *dir, const struct embed_modules *modules, int32_t hidden);
/* Numbers of a vector behind pooling, behind all steps, and of those the ones that are kept. */
int32_t embed_pooled_width(const struct embed_modules *modules, int32_t hidden);
int32_t embed_width(const struct embed_modules *modules, int32_t hidden);
int32_t embed_kept_width(const struct embed_modules *modules, int32_t hidden);

#endif
