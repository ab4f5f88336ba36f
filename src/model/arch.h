/* arch.h: what a family of models is to the rest of tern: one struct per file in arch/, one row each in arch_list.h. */
#ifndef TERN_MODEL_ARCH_H
#define TERN_MODEL_ARCH_H

#include "base/json.h"
#include "model/binder.h"
#include "model/head.h"
#include "model/model.h"
#include "model/shard.h"

struct tern_arch {
    const char *family; /* config.json's model_type */
    const char *const *
        architectures; /* its "architectures" that tern runs, NULL at the end; the first stands for a file without any */

    /* Patterns of names, NULL at the end; # stands for a number, "transformer." and the like may come before. */
    const char *const *ignored;  /* buffers that the reference ignores on load, of any dtype */
    const char *const *unused;   /* heads of other tasks: skipped, and named by tern_model_skipped() */
    const char *const *prefixes; /* what may stand before every name, NULL at the end; "" is always allowed */

    /* config.json (an object; family and architecture are filled in) to tern's words, everything checked. */
    tern_status (*parse_config)(tern_ctx *ctx, const struct tern_json *json, tern_model_config *config,
                                struct tern_spec *spec);

    /* Names to a struct at model->weights, every dtype and shape checked, weights packed.  What it made so far is freed by
     * destroy() in any case. */
    tern_status (*bind)(tern_ctx *ctx, tern_model *model, struct tern_binder *binder);

    /* The batch, by every thread of a region.  TERN_OK, TERN_ERR_CANCELLED, or what comm answers: the same on every thread. */
    tern_status (*forward)(const struct tern_par *par, const tern_model *model, const struct tern_batch *batch,
                           const struct tern_model_work *work);

    void (*destroy)(void *weights); /* NULL is fine */
};

struct tern_model_product {
    tern_tune_product kind;
    bool answers; /* of rows that are answered, not of every token's */
};

struct tern_model {
    const struct tern_arch *arch;
    tern_model_config config;
    struct tern_spec spec; /* what parse_config() said besides */
    const tern_comm *comm; /* who shares it: never NULL */
    struct tern_shards shards;
    bool hollow; /* opened to be described: its weights have no numbers */
    tern_model_stats stats;
    char *path;
    char **skipped;           /* [stats.n_skipped] */
    void *weights;            /* the family's struct */
    struct tern_group *group; /* group.h; NULL in a process of its own */

    /* What bind() leaves for tern_model_work_take(). */
    const struct tern_block **blocks; /* [n_layers] */
    struct tern_head head;
    size_t embed_width;                /* of the embedding's rows, where they are projected; else 0 */
    const struct tern_weight *project; /* what projects them, or NULL */
    struct tern_model_product *products;
    size_t n_products, products_capacity;
};

/* Lists model->products, once the above is there. */
tern_status tern_model_list_products(tern_ctx *ctx, tern_model *model);

/* --- what forward passes share; called by every thread -------------------------------------------------------------- */

/* x [T, H] is state `index` of batch->hidden, if that is wanted.  x is not written before the next barrier. */
void tern_forward_keep(const struct tern_par *par, const tern_model *model, const struct tern_batch *batch,
                       int32_t index, const float *x);

/* Whether the caller wants to stop: the same answer for every thread.  Where several ranks share the model their all-reduces tell. */
bool tern_forward_stopped(const struct tern_par *par, const tern_model *model, const struct tern_batch *batch,
                          const struct tern_model_work *work);

/* What a row begins as: column ids[row] of `table`, a packed [H, V] matrix (one that was packed from [V, H] rows), times scale, plus
 * types[types of the row] and positions[positions of the row], [.., H] each, or NULL.  With `project` columns of the table have a width of
 * their own, and their product with it is what types and positions are added to; its rows stay f32 whatever the weight.  With `inside`
 * types and positions are of the table's width, and are added, and the norm is taken, before that product. */
struct tern_embedding {
    const struct tern_weight *table, *project; /* project: [width, H] or NULL */
    const tern_comm *comm;                     /* who has the other columns; NULL: all are here */
    int64_t first_id;                          /* of this table's columns */
    float scale;
    const float *types, *positions;
    const float *project_bias; /* [H] or NULL */
    bool inside;
    const struct tern_norm_args *norm; /* with `inside`; NULL: none */
};
/* x [T, H].  narrow [T, width]: scratch, with `project`.  With `comm` both have room for a reduction: block.h.  Barrier at the end.
 * TERN_OK, or with `comm` what tern_rows_reduce() answers. */
tern_status tern_forward_embed(const struct tern_par *par, const struct tern_batch *batch,
                               const struct tern_embedding *embed, float *x, float *narrow,
                               const struct tern_block_work *work);

#endif
