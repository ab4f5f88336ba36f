/* workspace.c: sizes and memory of what operators hand on, with a checked cache in it.
 *
 * Parts stand one behind the other in one piece of pages, each from a cache line on; the cache is an object of its own.  Scratch
 * of attention is counted, as a call takes it, and not held. */
#include "ops/op_table.h"

#include <tern/workspace.h>

#include <string.h>

struct tern_workspace {
    tern_config config;
    tern_workspace_options options;
    tern_workspace_sizes sizes;
    int64_t width[TERN_WORKSPACE_PARTS]; /* columns of each part */
    void *memory;                        /* of all parts; NULL: released */
    size_t bytes;
    tern_kv_cache *cache;
};

tern_workspace_options tern_workspace_options_default(void)
{
    return (tern_workspace_options){ .batch = 1 };
}

static void widths(const tern_config *config, int64_t *width)
{
    const struct tern_config_sizes s = tern_config_sizes(config);

    width[TERN_WORKSPACE_QKV] = s.qkv;
    width[TERN_WORKSPACE_NORMED] = s.hidden;
    width[TERN_WORKSPACE_CONTEXT] = s.context;
    width[TERN_WORKSPACE_INNER] = s.up;
    width[TERN_WORKSPACE_OUTPUT] = s.hidden;
}

/* Whole blocks for each sequence, so that one that is full leaves the others theirs. */
static tern_kv_shape cache_shape(const tern_config *config, int64_t batch, int64_t tokens)
{
    const struct tern_config_sizes s = tern_config_sizes(config);

    return (tern_kv_shape){ .n_layers = config->num_hidden_layers > 0 ? config->num_hidden_layers : 1,
                            .n_kv_heads = s.kv_heads,
                            .head_dim = (int32_t)s.head_dim,
                            .n_positions = (tokens + 63) / 64 * 64 * batch,
                            .n_sequences = (int32_t)batch,
                            .n_context = tokens };
}

/* The sizes for so many positions of a sequence. */
static tern_status sizes_for(tern_ctx *ctx, const tern_config *config, const tern_workspace_options *o, int64_t tokens,
                             tern_workspace_sizes *sizes)
{
    const int64_t each = o->prompt_len > 0 && o->prompt_len < tokens ? o->prompt_len : tokens;
    const size_t element = tern_dtype_size(tern_config_activation(config));
    tern_workspace_sizes s = { .tokens = tokens, .rows = o->batch * each };
    int64_t width[TERN_WORKSPACE_PARTS];

    widths(config, width);
    for (int i = 0; i < TERN_WORKSPACE_PARTS; i++) {
        size_t *bytes = &s.part[i];
        TERN_REQUIRE(ctx,
                     tern_size_mul((size_t)s.rows, (size_t)width[i], bytes) && tern_size_mul(*bytes, element, bytes) &&
                         tern_size_add(*bytes, 63, bytes) && tern_size_add(s.total, *bytes / 64 * 64, &s.total),
                     TERN_ERR_MEMORY, "out of memory: %" PRId64 " rows of %" PRId64 " values in a workspace", s.rows,
                     width[i]);
        *bytes = *bytes / 64 * 64;
    }
    const int32_t head_dim = (int32_t)tern_config_sizes(config).head_dim;
    s.scores = tern_softmax_context_scratch(head_dim, head_dim, tern_ctx_threads(ctx)) * sizeof(float);
    if (!config->bigscience_bloom) {
        const tern_kv_shape shape = cache_shape(config, o->batch, tokens);
        TERN_TRY(tern_kv_cache_measure(ctx, &shape, &s.cache));
    }
    TERN_REQUIRE(ctx, tern_size_add(s.total, s.scores, &s.total) && tern_size_add(s.total, s.cache, &s.total),
                 TERN_ERR_MEMORY, "out of memory: more bytes in a workspace than there can be");
    *sizes = s;
    return TERN_OK;
}

static tern_status check(tern_ctx *ctx, const tern_config *config, const tern_workspace_options *o)
{
    static const char op[] = "workspace";
    const int act = config ? (int)config->mlp_act_func_type : 0;

    TERN_TRY(tern_op_check(ctx, &tern_row_workspace, config));
    TERN_REQUIRE(ctx, act >= TERN_GELU && act <= TERN_GATED_SILU, TERN_ERR_CONFIG,
                 "%s: mlp_act_func_type is %d, expected GELU 1, ReLU 2, GATED_GELU 3 or GATED_SILU 4", op, act);
    TERN_REQUIRE(ctx, config->max_out_tokens >= 1, TERN_ERR_CONFIG,
                 "%s: max_out_tokens is %" PRId32 ", expected 1 or more", op, config->max_out_tokens);
    TERN_REQUIRE(ctx, config->min_out_tokens >= 1 && config->min_out_tokens <= config->max_out_tokens, TERN_ERR_CONFIG,
                 "%s: min_out_tokens is %" PRId32 ", expected 1..%" PRId32 ", which max_out_tokens is", op,
                 config->min_out_tokens, config->max_out_tokens);
    TERN_REQUIRE(ctx, config->num_hidden_layers == -1 || config->num_hidden_layers >= 1, TERN_ERR_CONFIG,
                 "%s: num_hidden_layers is %" PRId32 ", expected 1 or more, or -1 for one", op,
                 config->num_hidden_layers);
    TERN_REQUIRE(ctx, o->batch >= 1 && o->batch <= INT32_MAX, TERN_ERR_ARG, "%s: batch is %" PRId64 ", expected 1..%d",
                 op, o->batch, INT32_MAX);
    TERN_REQUIRE(ctx, o->prompt_len >= 0 && o->prompt_len <= INT32_MAX, TERN_ERR_ARG,
                 "%s: prompt_len is %" PRId64 ", expected 0..%d", op, o->prompt_len, INT32_MAX);
    TERN_REQUIRE(ctx, o->memory >= 0, TERN_ERR_ARG, "%s: memory is %" PRId64 ", expected 0 or more", op, o->memory);
    return TERN_OK;
}

tern_status tern_workspace_measure(tern_ctx *ctx, const tern_config *config, const tern_workspace_options *options,
                                   tern_workspace_sizes *sizes)
{
    const tern_workspace_options o = options ? *options : tern_workspace_options_default();
    tern_workspace_sizes s;

    TERN_REQUIRE(ctx, ctx && sizes, TERN_ERR_ARG, "workspace: %s is NULL", ctx ? "sizes" : "ctx");
    TERN_TRY(check(ctx, config, &o));
    int64_t low = config->min_out_tokens, high = config->max_out_tokens;
    TERN_TRY(sizes_for(ctx, config, &o, high, &s));
    if (o.memory && s.total > (size_t)o.memory) {
        TERN_TRY(sizes_for(ctx, config, &o, low, &s));
        TERN_REQUIRE(ctx, s.total <= (size_t)o.memory, TERN_ERR_CAPACITY,
                     "workspace: %" PRId64 " tokens (min_out_tokens) take %zu bytes, expected at most %" PRId64
                     ", which memory is",
                     low, s.total, o.memory);
        while (high - low > 1) { /* low fits, high does not: more tokens never take less */
            const int64_t middle = low + (high - low) / 2;
            TERN_TRY(sizes_for(ctx, config, &o, middle, &s));
            *(s.total <= (size_t)o.memory ? &low : &high) = middle;
        }
        TERN_TRY(sizes_for(ctx, config, &o, low, &s));
    }
    *sizes = s;
    return TERN_OK;
}

/* ---- the memory ---- */

static tern_status allocate(tern_ctx *ctx, tern_workspace *w)
{
    size_t bytes = 0;
    tern_status status;

    for (int i = 0; i < TERN_WORKSPACE_PARTS; i++)
        bytes += w->sizes.part[i]; /* the sum was measured */
    TERN_TRY_OR_FAIL(tern_pages_alloc(ctx, bytes, "a workspace", &w->memory));
    w->bytes = bytes;
    if (!w->config.bigscience_bloom) {
        const tern_kv_shape shape = cache_shape(&w->config, w->options.batch, w->sizes.tokens);
        TERN_TRY_OR_FAIL(tern_kv_cache_create(ctx, &shape, &w->cache));
        for (int64_t i = 0; i < w->options.batch; i++) {
            int32_t sequence;
            TERN_TRY_OR_FAIL(tern_kv_sequence_add(ctx, w->cache, &sequence));
        }
    }
    return TERN_OK;
fail:
    tern_workspace_release(w);
    return status;
}

tern_status tern_workspace_create(tern_ctx *ctx, const tern_config *config, const tern_workspace_options *options,
                                  tern_workspace **out)
{
    tern_workspace_sizes sizes;
    tern_workspace *w;

    TERN_REQUIRE(ctx, ctx && out, TERN_ERR_ARG, "workspace: %s is NULL", ctx ? "out" : "ctx");
    *out = NULL;
    TERN_TRY(tern_workspace_measure(ctx, config, options, &sizes));
    TERN_TRY(TERN_ALLOC(ctx, 1, "a workspace", &w));
    w->config = *config;
    w->options = options ? *options : tern_workspace_options_default();
    w->sizes = sizes;
    widths(config, w->width);
    const tern_status status = allocate(ctx, w);
    if (status)
        tern_workspace_destroy(&w);
    *out = w;
    return status;
}

void tern_workspace_release(tern_workspace *workspace)
{
    if (!workspace)
        return;
    tern_pages_free(workspace->memory, workspace->bytes);
    workspace->memory = NULL;
    tern_kv_cache_destroy(&workspace->cache);
}

void tern_workspace_destroy(tern_workspace **workspace)
{
    if (!workspace)
        return;
    tern_workspace_release(*workspace);
    tern_free(*workspace);
    *workspace = NULL;
}

tern_status tern_workspace_retake(tern_ctx *ctx, tern_workspace *workspace)
{
    TERN_REQUIRE(ctx, ctx && workspace, TERN_ERR_ARG, "workspace: %s is NULL", ctx ? "workspace" : "ctx");
    return workspace->memory ? TERN_OK : allocate(ctx, workspace);
}

bool tern_workspace_is_allocated(const tern_workspace *workspace)
{
    return workspace && workspace->memory;
}

tern_workspace_sizes tern_workspace_sizes_of(const tern_workspace *workspace)
{
    return workspace ? workspace->sizes : (tern_workspace_sizes){ .tokens = 0 };
}

tern_kv_cache *tern_workspace_cache(const tern_workspace *workspace)
{
    return workspace ? workspace->cache : NULL;
}

tern_status tern_workspace_reset_cache(tern_ctx *ctx, tern_workspace *workspace)
{
    TERN_REQUIRE(ctx, ctx && workspace, TERN_ERR_ARG, "workspace: %s is NULL", ctx ? "workspace" : "ctx");
    TERN_REQUIRE(ctx, workspace->cache, TERN_ERR_STATE, "workspace: it has no cache, %s",
                 workspace->config.bigscience_bloom ? "its caller has (bigscience_bloom)" : "it was released");
    for (int32_t i = 0; i < (int32_t)workspace->options.batch; i++)
        TERN_TRY(tern_kv_sequence_truncate(ctx, workspace->cache, i, 0));
    return TERN_OK;
}

tern_status tern_workspace_tensor(tern_ctx *ctx, const tern_workspace *workspace, tern_workspace_part part,
                                  int64_t rows, tern_tensor *out)
{
    size_t at = 0;

    TERN_REQUIRE(ctx, ctx && workspace && out, TERN_ERR_ARG, "workspace: %s is NULL",
                 !ctx        ? "ctx"
                 : workspace ? "out"
                             : "workspace");
    TERN_REQUIRE(ctx, (int)part >= 0 && (int)part < TERN_WORKSPACE_PARTS, TERN_ERR_ARG,
                 "workspace: part is %d, expected 0..%d", (int)part, TERN_WORKSPACE_PARTS - 1);
    TERN_REQUIRE(ctx, workspace->memory, TERN_ERR_STATE, "workspace: it was released, expected one that is allocated");
    TERN_REQUIRE(ctx, rows >= 0, TERN_ERR_ARG, "workspace: rows is %" PRId64 ", expected 0 or more", rows);
    TERN_REQUIRE(ctx, rows <= workspace->sizes.rows, TERN_ERR_CAPACITY,
                 "workspace: %" PRId64 " rows, expected at most the %" PRId64 " that it was made for", rows,
                 workspace->sizes.rows);
    for (int i = 0; i < (int)part; i++)
        at += workspace->sizes.part[i];
    *out = tern_tensor_view((char *)workspace->memory + at, tern_config_activation(&workspace->config), 2,
                            (int64_t[]){ rows, workspace->width[part] });
    return TERN_OK;
}

/* ---- by name ---- */

/* Its outputs are numbers without an axis, each that is asked for. */
static tern_status run_workspace(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                 const tern_op_call *call)
{
    const tern_op_params *p = call->params;
    const tern_workspace_options options = { p->batch, p->prompt_len, p->memory };
    tern_workspace_sizes s;

    for (int i = 0; tern_row_workspace.io[i].name; i++)
        if (tern_given(io[i])) {
            TERN_TRY(tern_check_tensor(ctx, "workspace", tern_row_workspace.io[i].name, io[i], TERN_INT64));
            TERN_REQUIRE(ctx, io[i]->rank == 0, TERN_ERR_SHAPE, "workspace: %s is %s, expected [], one number",
                         tern_row_workspace.io[i].name, tern_dims_text(io[i]).text);
        }
    struct tern_operand operands[TERN_OP_IO_MAX];
    size_t n = 0;
    for (; tern_row_workspace.io[n].name; n++)
        operands[n] = (struct tern_operand){ tern_row_workspace.io[n].name, io[n], true, false };
    TERN_TRY(tern_check_overlaps(ctx, "workspace", operands, n));
    TERN_TRY(tern_workspace_measure(ctx, config, &options, &s));
    const int64_t values[] = { s.tokens,
                               s.rows,
                               (int64_t)s.part[TERN_WORKSPACE_QKV],
                               (int64_t)s.part[TERN_WORKSPACE_NORMED],
                               (int64_t)s.part[TERN_WORKSPACE_CONTEXT],
                               (int64_t)s.part[TERN_WORKSPACE_INNER],
                               (int64_t)s.part[TERN_WORKSPACE_OUTPUT],
                               (int64_t)s.scores,
                               (int64_t)s.cache,
                               (int64_t)s.total };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        if (tern_given(io[i]))
            memcpy(io[i]->data, &values[i], sizeof values[i]);
    return TERN_OK;
}

#define BYTES(n)                                                                          \
    {                                                                                     \
        .name = n, .shape = "[]", .type = TERN_OP_INT64, .optional = true, .output = true \
    }

const struct tern_op_row tern_row_workspace = {
    .name = "workspace",
    .formula = "bytes of what one layer's operators hand on, of attention's scratch and of the cache",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_HEADS | TERN_READS_SIZES | TERN_READS_WORKSPACE,
    .params = "batch prompt_len memory",
    .kernels = "",
    .run = run_workspace,
    .io = { BYTES("tokens"), BYTES("rows"), BYTES("qkv"), BYTES("normed"), BYTES("context"), BYTES("inner"),
            BYTES("output"), BYTES("scores"), BYTES("cache"), BYTES("total") },
};
