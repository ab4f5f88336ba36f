/* embed.c: sentences to vectors.
 *
 * Texts become ids; they are read in the order of their lengths, a group of passes at a time, so that states are kept for that
 * group alone; and their vectors go where the texts were.  The sums of a pooling are over tokens in order. */
#include "base/file.h"
#include "base/fpmode.h"
#include "base/memory.h"
#include "engine/embed_modules.h"
#include "engine/text_batch.h"
#include "model/arch.h"

#include <tern/embed.h>

#include <math.h>
#include <string.h>

#define GROUP      64    /* texts whose states are kept at a time, at most */
#define GROUP_ROWS 16384 /* and tokens, unless one text has more */

struct tern_embedder {
    tern_ctx *ctx;
    tern_model *model;
    tern_tokenizer *tokenizer;
    tern_encoder *encoder;
    struct embed_modules modules;
    int32_t max_tokens, width, widest; /* width: what is kept of a vector; widest: of one between modules */
};

static tern_status take_limits(struct tern_embedder *e)
{
    const tern_model_config *c = tern_model_get_config(e->model);
    const int32_t said = e->modules.max_tokens;
    const tern_encoder_options options = { .n_context = said && said < c->n_context ? said : 0 };

    e->max_tokens = options.n_context ? options.n_context : c->n_context < 8192 ? c->n_context : 8192;
    e->width = embed_kept_width(&e->modules, c->hidden_size);
    e->widest = embed_pooled_width(&e->modules, c->hidden_size);
    for (size_t i = 0; i < e->modules.n_steps; i++)
        if (e->modules.steps[i].out > e->widest)
            e->widest = e->modules.steps[i].out;
    return tern_encoder_create(e->ctx, e->model, &options, &e->encoder);
}

/* Without modules.json: the last token of a language model has seen the whole text; of all others the mean. */
static void choose_pooling(struct tern_embedder *e)
{
    const char *name = tern_model_get_config(e->model)->architecture, *end = "ForCausalLM";
    const size_t n = strlen(name), n_end = strlen(end);
    const bool causal = n >= n_end && strcmp(name + n - n_end, end) == 0;

    if (e->modules.n_pools == 0)
        e->modules.pools[e->modules.n_pools++] = causal ? EMBED_POOL_LAST : EMBED_POOL_MEAN;
}

tern_status tern_embedder_find(tern_ctx *ctx, const char *name, char **path)
{
    struct embed_modules modules = { 0 };
    char *dir;

    TERN_REQUIRE(ctx, path, TERN_ERR_ARG, "embedder_find: path is NULL");
    *path = NULL;
    TERN_TRY(tern_directory_find(ctx, name, &dir));
    tern_status status = embed_modules_read(ctx, dir, &modules);
    if (status == TERN_OK)
        status = tern_strndup(ctx, modules.transformer, strlen(modules.transformer), "a model's path", path);
    embed_modules_free(&modules);
    tern_path_free(dir);
    return status;
}

tern_status tern_embedder_open(tern_ctx *ctx, const char *name, const tern_model_options *options, tern_embedder **out)
{
    struct tern_embedder *e = NULL;
    char *dir = NULL;
    tern_status status;

    TERN_REQUIRE(ctx, out, TERN_ERR_ARG, "embedder_open: out is NULL");
    *out = NULL;
    TERN_REQUIRE(NULL, ctx, TERN_ERR_ARG, "embedder_open: ctx is NULL");
    TERN_TRY(TERN_ALLOC(ctx, 1, "an embedder", &e));
    e->ctx = ctx;
    TERN_TRY_OR_FAIL(tern_directory_find(ctx, name, &dir));
    TERN_TRY_OR_FAIL(embed_modules_read(ctx, dir, &e->modules));
    TERN_TRY_OR_FAIL(tern_tokenizer_open(ctx, e->modules.transformer, &e->tokenizer));
    TERN_TRY_OR_FAIL(tern_model_open(ctx, e->modules.transformer, options, &e->model));
    choose_pooling(e);
    TERN_TRY_OR_FAIL(embed_modules_check(ctx, dir, &e->modules, tern_model_get_config(e->model)->hidden_size));
    TERN_TRY_OR_FAIL(take_limits(e));
    tern_path_free(dir);
    *out = e;
    return TERN_OK;

fail:
    tern_path_free(dir);
    tern_embedder_close(&e);
    return status;
}

void tern_embedder_close(tern_embedder **embedder)
{
    if (!embedder || !*embedder)
        return;
    struct tern_embedder *e = *embedder;
    tern_encoder_destroy(&e->encoder);
    tern_model_close(&e->model);
    tern_tokenizer_close(&e->tokenizer);
    embed_modules_free(&e->modules);
    tern_free(e);
    *embedder = NULL;
}

int32_t tern_embedder_width(const tern_embedder *e)
{
    return e ? e->width : 0;
}

int32_t tern_embedder_max_tokens(const tern_embedder *e)
{
    return e ? e->max_tokens : 0;
}

tern_encoder_stats tern_embedder_get_stats(const tern_embedder *e)
{
    return tern_encoder_get_stats(e ? e->encoder : NULL);
}

const char *tern_embedder_prompt_name(const tern_embedder *e, size_t index)
{
    return e && index < e->modules.n_prompts ? e->modules.prompts[index].name : NULL;
}

const tern_model *tern_embedder_model(const tern_embedder *e)
{
    return e ? e->model : NULL;
}

const char *tern_embedder_prompt(const tern_embedder *e, const char *name)
{
    if (!e)
        return NULL;
    name = name ? name : e->modules.default_prompt;
    for (size_t i = 0; name && i < e->modules.n_prompts; i++)
        if (strcmp(e->modules.prompts[i].name, name) == 0)
            return e->modules.prompts[i].text;
    return NULL;
}

/* ---- from states to a vector ---- */

/* Tokens [first, n) of a text as one vector [H].  With none of them left (a prompt longer than what is read) it is the library's: the
 * first token's state for cls, -inf for max, else zeros. */
static void pool(enum embed_pool mode, float *to, const float *states, size_t first, size_t n, size_t H)
{
    const size_t count = n - first;
    float share = 1;

    if (mode == EMBED_POOL_CLS || (mode == EMBED_POOL_LAST && count)) {
        memcpy(to, states + (mode == EMBED_POOL_LAST ? n - 1 : count ? first : 0) * H, H * sizeof *to);
        return;
    }
    for (size_t k = 0; k < H; k++)
        to[k] = mode == EMBED_POOL_MAX ? -INFINITY : 0;
    for (size_t t = first; t < n; t++) {
        const float *row = states + t * H, weight = mode == EMBED_POOL_WEIGHTED ? (float)(t + 1) : 1;
        for (size_t k = 0; k < H; k++)
            if (mode == EMBED_POOL_MAX)
                to[k] = row[k] > to[k] || isnan(row[k]) ? row[k] : to[k];
            else
                to[k] += weight * row[k];
    }
    if (mode == EMBED_POOL_MEAN)
        share = 1 / (float)(count ? count : 1);
    else if (mode == EMBED_POOL_MEAN_SQRT)
        share = 1 / sqrtf((float)(count ? count : 1));
    else if (mode == EMBED_POOL_WEIGHTED)
        share = count ? 1 / ((float)(n * (n + 1) - first * (first + 1)) / 2) : 1;
    for (size_t k = 0; share != 1 && k < H; k++)
        to[k] *= share;
}

/* A module on rows of vectors, inside a region. */
struct module_run {
    const struct embed_step *step;
    const float *from;
    float *to;
    size_t n;
};

static void normalize(float *to, const float *x, size_t n)
{
    double sum = 0;

    for (size_t k = 0; k < n; k++)
        sum += (double)x[k] * (double)x[k];
    const double length = sqrt(sum), by = length > 1e-12 ? length : 1e-12;
    for (size_t k = 0; k < n; k++)
        to[k] = (float)((double)x[k] / by);
}

static void run_module(void *arg, const struct tern_par *par)
{
    const struct module_run *r = arg;
    const struct embed_step *step = r->step;
    const size_t in = (size_t)step->in, out = (size_t)step->out;
    struct tern_epilogue end = { .bias = step->bias, .act = step->act };
    const struct tern_norm_args norm = { TERN_LAYER_NORM, step->gamma, step->bias, 1e-5f };

    if (step->kind == EMBED_LAYER_NORM) {
        tern_norm_run(par, r->to, NULL, r->from, NULL, NULL, r->n, in, &norm);
        return;
    }
    if (step->residual_weight)
        tern_gemm_run(par, r->to, out, r->from, in, r->n, step->residual_weight, &(struct tern_epilogue){ 0 });
    if (step->residual) {
        end.residual = step->residual_weight ? r->to : r->from;
        end.ld_residual = out;
    }
    tern_gemm_run(par, r->to, out, r->from, in, r->n, step->weight, &end);
}

/* Vectors [n][pooled width] through all modules; both buffers have room for the widest.  Gives the one that the result is in. */
static tern_status run_modules(struct tern_embedder *e, float *a, float *b, size_t n, float **result)
{
    size_t width = (size_t)embed_pooled_width(&e->modules, tern_model_get_config(e->model)->hidden_size);

    for (size_t i = 0; i < e->modules.n_steps; i++) {
        const struct embed_step *step = &e->modules.steps[i];
        struct module_run run = { .step = step, .from = a, .to = b, .n = n };
        if (step->kind == EMBED_NORMALIZE) {
            for (size_t t = 0; t < n; t++)
                normalize(b + t * width, a + t * width, width);
        } else {
            TERN_TRY(tern_region(e->ctx, run_module, &run));
            width = (size_t)step->out;
        }
        float *swap = a;
        a = b;
        b = swap;
    }
    *result = a;
    return TERN_OK;
}

/* ---- texts ---- */

struct call {
    struct tern_embedder *e;
    struct text_batch texts;
    size_t prompt; /* tokens that pooling leaves out */
    float *states, *a, *b;
};

/* Tokens of the prompt alone, without the special one that ends it: sentence-transformers' get_prompt_length(). */
static tern_status count_prompt(struct call *c, const struct text_how *how)
{
    const tern_encode_options options = { .add_special = true,
                                          .ids_only = true,
                                          .max_length = (uint64_t)how->max_tokens };
    tern_encoding encoding = { 0 };
    const char *bytes;
    size_t size;
    bool special = false;

    if (!how->prefix || c->e->modules.include_prompt)
        return TERN_OK;
    TERN_TRY(
        tern_tokenizer_encode_with(c->e->ctx, c->e->tokenizer, how->prefix, strlen(how->prefix), &options, &encoding));
    c->prompt = encoding.count;
    if (encoding.count > 0 &&
        tern_tokenizer_token(c->e->ctx, c->e->tokenizer, encoding.ids[encoding.count - 1], &bytes, &size, &special) ==
            TERN_OK &&
        special)
        c->prompt--;
    tern_encoding_free(&encoding);
    return TERN_OK;
}

/* A vector to its place. */
static tern_status keep_vector(const struct call *c, size_t text, const float *from, size_t n, float *vectors)
{
    for (size_t k = 0; k < n; k++)
        TERN_REQUIRE(c->e->ctx, isfinite(from[k]), TERN_ERR_FORMAT,
                     "text %zu: the model gives a number that is not finite: %g in place %zu of its vector", text + 1,
                     (double)from[k], k + 1);
    memcpy(vectors + text * n, from, n * sizeof *from);
    return TERN_OK;
}

/* Texts [at, at + n) of the order: read, pooled, through the modules, and to their places. */
static tern_status run_group(struct call *c, size_t at, size_t n, float *vectors)
{
    struct tern_embedder *e = c->e;
    const size_t H = (size_t)tern_model_get_config(e->model)->hidden_size, kept = (size_t)e->width;
    const size_t width = (size_t)embed_width(&e->modules, (int32_t)H);
    const size_t pooled = (size_t)embed_pooled_width(&e->modules, (int32_t)H);
    const float *states = c->states;
    float *result = NULL;

    TERN_TRY(tern_encode(e->encoder, c->texts.group, n, c->states, NULL));
    const tern_fpmode caller = tern_fpmode_enter();
    for (size_t i = 0; i < n; i++) {
        const size_t tokens = (size_t)c->texts.group[i].n_ids, first = c->prompt < tokens ? c->prompt : tokens;
        for (size_t p = 0; p < e->modules.n_pools; p++)
            pool(e->modules.pools[p], c->a + i * pooled + p * H, states, first, tokens, H);
        states += tokens * H;
    }
    tern_status status = run_modules(e, c->a, c->b, n, &result);
    tern_fpmode_leave(caller);
    for (size_t i = 0; status == TERN_OK && i < n; i++)
        status = keep_vector(c, c->texts.order[at + i], result + i * width, kept, vectors);
    return status;
}

static tern_status run_all(struct call *c, float *vectors)
{
    tern_ctx *ctx = c->e->ctx;
    const size_t H = (size_t)tern_model_get_config(c->e->model)->hidden_size, widest = (size_t)c->e->widest;

    TERN_TRY(TERN_ALLOC(ctx, c->texts.group_rows * H, "states of texts", &c->states));
    TERN_TRY(TERN_ALLOC(ctx, c->texts.group_texts * widest, "vectors", &c->a));
    TERN_TRY(TERN_ALLOC(ctx, c->texts.group_texts * widest, "vectors", &c->b));
    for (size_t at = 0, n; at < c->texts.n; at += n) {
        n = text_batch_group(&c->texts, at);
        TERN_TRY(run_group(c, at, n, vectors));
        TERN_TRY(text_batch_tell(&c->texts, at + n));
    }
    return TERN_OK;
}

tern_status tern_embed(tern_embedder *e, const char *const *texts, const size_t *sizes, size_t n,
                       const tern_embed_options *options, float *vectors)
{
    const tern_embed_options standard = { 0 };
    tern_status status;

    options = options ? options : &standard;
    TERN_REQUIRE(NULL, e, TERN_ERR_ARG, "embedder is NULL");
    TERN_REQUIRE(e->ctx, n == 0 || (texts && sizes && vectors), TERN_ERR_ARG, "embed: texts, sizes or vectors is NULL");
    TERN_TRY(TERN_CHECK_RESERVED(e->ctx, "tern_embed_options", options));
    const struct text_how how = { .prefix = options->prompt, .max_tokens = e->max_tokens, .cut = true };
    struct call c = { .e = e,
                      .texts = { .ctx = e->ctx,
                                 .tokenizer = e->tokenizer,
                                 .model = e->model,
                                 .what = "embed",
                                 .progress = options->progress,
                                 .user = options->user,
                                 .n = n } };
    if (options->n_cut)
        *options->n_cut = 0;
    if (n == 0)
        return TERN_OK;
    TERN_TRY_OR_FAIL(text_batch_read(&c.texts, texts, sizes, &how, GROUP, GROUP_ROWS));
    TERN_TRY_OR_FAIL(count_prompt(&c, &how));
    status = run_all(&c, vectors);
    if (options->n_cut)
        *options->n_cut = c.texts.n_cut;

fail:
    text_batch_free(&c.texts);
    tern_free(c.states);
    tern_free(c.a);
    tern_free(c.b);
    return status;
}
