/* products.c: what a model multiplies its rows with, for tuning. */
#include "base/memory.h"
#include "model/arch.h"
#include "ops/tune.h"

/* Products with w, unless its kind is there.  NULL: none.  Groups are widened in tiles, where there is nothing to choose. */
static tern_status add(tern_ctx *ctx, tern_model *model, const struct tern_weight *w, bool narrow, bool answers)
{
    if (!w || w->format == TERN_WEIGHT_GROUPS)
        return TERN_OK;
    const struct tern_model_product p = {
        .kind = { .in = w->in,
                  .out = w->out,
                  .dtype = tern_weight_dtype(w),
                  .rounded = narrow && (w->format == TERN_WEIGHT_BF16 || w->format == TERN_WEIGHT_Q8) },
        .answers = answers,
    };
    for (size_t i = 0; i < model->n_products; i++)
        if (model->products[i].answers == answers && tern_tune_is_same(&model->products[i].kind, &p.kind))
            return TERN_OK;
    TERN_TRY(TERN_GROW(ctx, &model->products, &model->products_capacity, model->n_products + 1, "products of a model"));
    model->products[model->n_products++] = p;
    return TERN_OK;
}

static tern_status add_feed_forward(tern_ctx *ctx, tern_model *model, const struct tern_feed_forward_args *f,
                                    bool narrow)
{
    TERN_TRY(add(ctx, model, f->up, narrow, false));
    return add(ctx, model, f->down, narrow, false);
}

static tern_status add_block(tern_ctx *ctx, tern_model *model, const struct tern_block *b)
{
    const struct tern_experts *experts = b->experts;

    TERN_TRY(add(ctx, model, b->attention.qkv_w, b->narrow, false));
    TERN_TRY(add(ctx, model, b->attention.out_w, b->narrow, false));
    if (!experts)
        return add_feed_forward(ctx, model, &b->mlp.feed_forward, b->narrow);
    TERN_TRY(add(ctx, model, experts->router, false, false));
    TERN_TRY(add(ctx, model, experts->gate, false, false));
    for (size_t e = 0; e < experts->n; e++)
        TERN_TRY(add_feed_forward(ctx, model, &experts->experts[e].feed_forward, b->narrow));
    return add_feed_forward(ctx, model, &experts->shared.feed_forward, b->narrow);
}

tern_status tern_model_list_products(tern_ctx *ctx, tern_model *model)
{
    const bool narrow = model->config.row_dtype != TERN_FP32, answers = model->config.task != TERN_TASK_TAG;

    TERN_TRY(add(ctx, model, model->project, false, false));
    for (int32_t i = 0; i < model->config.n_layers; i++)
        TERN_TRY(add_block(ctx, model, model->blocks[i]));
    TERN_TRY(add(ctx, model, model->head.dense, narrow, answers));
    return add(ctx, model, model->head.out, narrow, answers);
}

int tern_model_product_count(const tern_model *model)
{
    return model ? (int)model->n_products : 0;
}

bool tern_model_product_at(const tern_model *model, int index, tern_tune_product *out, bool *answers)
{
    if (index < 0 || index >= tern_model_product_count(model) || !out)
        return false;
    *out = model->products[index].kind;
    if (answers)
        *answers = model->products[index].answers;
    return true;
}
