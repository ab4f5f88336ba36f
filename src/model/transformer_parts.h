/* transformer_parts.h: the weights of a model as transformer.c keeps them, and how they are declared to the binder.  Sizes are those of one
 * process; where several share a model each has its part: shard.h. */
#ifndef TERN_MODEL_TRANSFORMER_PARTS_H
#define TERN_MODEL_TRANSFORMER_PARTS_H

#include "model/arch.h"
#include "model/mixture.h"

/* Vectors of a layer. */
enum tern_transformer_vector {
    ATTN_NORM,
    ATTN_NORM_BIAS,
    QKV_BIAS,
    OUT_BIAS,
    Q_NORM,
    Q_NORM_BIAS,
    K_NORM,
    K_NORM_BIAS,
    ATTN_END,
    ATTN_END_BIAS,
    MLP_NORM,
    MLP_NORM_BIAS,
    UP_BIAS,
    DOWN_BIAS,
    MLP_END,
    MLP_END_BIAS,
    N_LAYER_VECTORS
};

struct tern_transformer_layer {
    tern_weight *qkv;            /* [H, (h + 2G) E] */
    tern_weight *out;            /* [h E, H] */
    tern_weight *up;             /* [H, pI] */
    tern_weight *down;           /* [I, H] */
    struct tern_mixture mixture; /* in place of up and down */
    float *vectors[N_LAYER_VECTORS];
    struct tern_block block;
};

struct tern_transformer {
    tern_weight *embed;   /* [H, V] or [width, V], packed for the head where tied; the embedding reads its columns */
    tern_weight *head;    /* [D, C] if it is not tied, else NULL */
    tern_weight *project; /* [width, H]: what makes H of the embedding's columns, or NULL */
    tern_weight *dense;   /* [H, D]: the first product of a head that has two */
    float *positions;     /* [position_rows, H], or [.., width] as types and embed_norm */
    float *types;         /* [n_types, H] */
    float *project_bias;  /* [H] */
    float *embed_norm, *embed_norm_bias, *final_norm, *final_norm_bias;
    float *ones;                                      /* [H]: gamma of norms that have no weights */
    float *dense_bias, *dense_norm, *dense_norm_bias; /* [D] */
    float *head_bias;                                 /* [C] */
    float *slopes;                                    /* [heads]: ALiBi's */
    float *bias;     /* [heads, n_context]: the same as what each position has added; or tern_relative_bias()'s */
    float *relative; /* [relative_rows, heads] */
    struct tern_norm_args final, behind_dense; /* what model->head points to */
    const struct tern_spec *spec;              /* the model's */
    int32_t n_layers;                          /* 1 where all are one */
    struct tern_transformer_layer *layers;
};

/* Chooses the names that the files have, and declares all of t's weights.  t->layers has room for t->n_layers.
 * Errors as tern_binder_matrix(). */
tern_status tern_transformer_declare(tern_model *model, struct tern_binder *binder, struct tern_transformer *t);

/* Numbers of a row that positions and types are added to. */
int64_t tern_transformer_table_width(const tern_model_config *config, const struct tern_spec *spec);

#endif
