/* spec.h: what a family says of a model beside its tern_model_config: which of transformer.h it is, and its tensors' names. */
#ifndef TERN_MODEL_SPEC_H
#define TERN_MODEL_SPEC_H

#include "modules/block.h"
#include "ops/rope.h"

#include <tern/model.h>

/* Names of tensors without ".weight" and ".bias", below the family's prefix; # is the number of the layer.  NULL: there is none.
 * Of a product that is stored in one of several ways only those that it is stored as are there. */
struct tern_names {
    const struct tern_names
        *other; /* other names: the first with `out`, `embed` and `router` in the files counts; NULL */

    const char *embed, *types, *positions, *embed_norm, *final_norm;
    const char *relative;   /* [relative_rows, heads] */
    const char *project_in; /* [embed_width, H], where that is given */
    const char *head;       /* of TERN_TASK_GENERATE, as it stands in the file, without a prefix */
    const char *old_head;   /* another name of it, in older files; NULL: none */

    const char *attn_norm;       /* post-LN: the norm behind the attention is mlp_norm, this one closes the block */
    const char *q, *k, *v, *qkv; /* apart, or in one */
    const char *out, *q_norm, *k_norm;
    const char *attn_end, *mlp_end;  /* norms behind attention and feed-forward */
    const char *mlp_norm;            /* NULL: reads what the attention's norm made (parallel) */
    const char *up, *gate, *gate_up; /* up alone; up and gate apart; or in one, gate first */
    const char *down;

    /* Of a layer with experts, up and gate apart: a second # is the number of the expert.  Of all in one: whole names. */
    const char *router, *expert_up, *expert_gate, *expert_down, *experts_gate_up, *experts_down;
    const char *shared_up, *shared_gate, *shared_down, *shared_weight;
};

/* The experts of those layers that have them: experts.h. */
struct tern_experts_spec {
    int32_t n, k;         /* how many, and how many a row goes to; n 0: a model without */
    int32_t width;        /* I of each */
    int32_t shared_width; /* I of the one that every row goes to; 0: none */
    bool normalize;
    uint8_t *dense; /* [L]: which layers have a feed-forward nevertheless; NULL: none */
};

/* How q, k and v lie in a tensor of all three. */
enum tern_qkv_order {
    TERN_QKV_APART,     /* in tensors of their own */
    TERN_QKV_JOINED,    /* all q heads, all k heads, all v heads */
    TERN_QKV_BY_HEAD,   /* q, k, v of each head: as many k and v heads */
    TERN_QKV_BY_GROUP,  /* the q heads of a k head, that, its v */
    TERN_QKV_BY_CHANNEL /* q, k, v of each channel of each head: as many k and v heads */
};

enum tern_qk_norm {
    TERN_QK_NORM_NONE,
    TERN_QK_NORM_SHARED, /* gamma [E], all heads the same; of the spec's norm_type and norm_offset */
    TERN_QK_NORM_EACH,   /* gamma [heads, E]: a tensor for each head, NAME.{head}.weight */
};

/* Which row the answer of a text is made from. */
enum tern_pool { TERN_POOL_NONE, TERN_POOL_FIRST, TERN_POOL_MEAN, TERN_POOL_EOS };

/* The head of a task that is not TERN_TASK_GENERATE: head.h.  Names as they stand in the file, but where they are below the prefix. */
struct tern_head_spec {
    enum tern_pool pool; /* none: an answer for each token */
    const char *dense;   /* NULL: none */
    bool dense_prefixed, dense_bias;
    int32_t dense_width; /* D; 0: H */
    enum tern_act act;
    const char *dense_norm; /* with the model's type of norm and its eps */
    const char *out;        /* [D, n_out]; tied to the embedding where n_out is 0 and the config says so; NULL: none */
    const char *out_bias;   /* the bias's whole name; NULL: none */
    int32_t n_out;          /* 0: V */
};

/* What scores have added for the key at position j: ALiBi. */
enum tern_alibi {
    TERN_ALIBI_NONE,
    TERN_ALIBI_SLOPES, /* slope j, behind the scale */
    TERN_ALIBI_ROUNDED /* bf16(bf16(slope) bf16(j)), before it */
};

/* Layers that attend to a window, or turn otherwise, are local. */
struct tern_spec {
    const struct tern_names *names;
    enum tern_block_form form;
    bool stored_in_out; /* matrices are [in, out] in the files (Conv1D); embedding and head never */
    enum tern_qkv_order qkv_order;
    bool qkv_bias, out_bias, up_bias, down_bias, head_bias;
    bool norm_bias;     /* LayerNorm with beta */
    float norm_offset;  /* added to gamma */
    bool norm_plain;    /* gamma is 1 and beta 0: norms have no tensors */
    bool norm_residual; /* block.h */
    bool first_plain;   /* the first layer's attention reads what the embedding's norm made: it has none of its own */
    bool shared_layers; /* all layers are one: its names have no number */
    enum tern_qk_norm qk_norm;
    bool qk_norm_bias; /* SHARED with beta [E] */

    float embed_scale;       /* 1 */
    bool embed_inside;       /* with project_in: positions, types and their norm are of the table's width, before it */
    bool project_bias;       /* of project_in */
    int32_t embed_width;     /* of the table's rows, before project_in; 0: H, and no project_in */
    int32_t position_rows;   /* of the table of learned positions; 0: none */
    int32_t position_offset; /* row of position 0 */
    int32_t position_pad;    /* RoBERTa: this id less 1 stands at no position, in the row before; 0: none */

    float scale;     /* of scores; 0: 1 / sqrt(E) */
    float softcap;   /* of scores; 0: none */
    float logit_cap; /* of logits; 0: none */
    enum tern_alibi alibi;
    int32_t relative_rows; /* of a table of what scores have added by distance: relative_bias.h; 0: none */
    int32_t
        window; /* positions that a local layer sees, its own included; a bidirectional one as many on each side; 0: all */
    uint8_t *local;                    /* [L]: which layers are local; NULL: none */
    struct tern_rope rope, local_rope; /* of global and local layers; dim 0: none */

    struct tern_experts_spec experts;

    struct tern_head_spec head; /* where the task is not TERN_TASK_GENERATE */
    int32_t pool_eos;           /* TERN_POOL_EOS: the first of this id; -1: the first of the highest id */
    char **labels;              /* [n_labels], or NULL */
};

/* All zero but what stands for nothing. */
struct tern_spec tern_spec_default(const struct tern_names *names);
/* Frees what it points to.  labels: config's n_labels. */
void tern_spec_free(struct tern_spec *spec, int32_t n_labels);
/* Room for spec->local, all global.  TERN_ERR_MEMORY. */
tern_status tern_spec_local(tern_ctx *ctx, const tern_model_config *config, struct tern_spec *spec);

#endif
