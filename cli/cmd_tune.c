/* cmd_tune.c: tern tune: measures how the products of a model are best cut on this machine, and tells what it gained. */
#include "cli.h"
#include "json_out.h"
#include "options.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PATH_SIZE 4096
/* Rows of scores in one step: a token of each of some sequences, not all of a prompt. */
#define HEAD_ROWS 16

struct settings {
    const char *model, *shape;
    int64_t threads, max_tokens;
    int dtype;
    bool json, quiet;
};

/* Products with at most so many rows; one that is there twice is measured once. */
struct products {
    tern_tune_product *data;
    size_t n;
    int64_t max_rows;
};

/* What is found, as it is found. */
struct report {
    tern_tune_result *results;
    size_t n, capacity;
    bool bar, no_memory, stored;
    char note[512]; /* the latest; one of a file that was replaced stays */
};

/* false: the command ends with *code. */
static bool parse(struct settings *s, int argc, char **argv, int *code)
{
    const struct option options[] = {
        { 0, "shape", "NAME", "the products of this shape, see below; no file is read", OPTION_TEXT, &s->shape, NULL, 0,
          0, false },
        OPTION_DTYPE(&s->dtype, NULL),
        { 0, "threads", "N", "0: as many as the machine allows.  What is found holds for as many", OPTION_INT,
          &s->threads, NULL, 0, 1024, false },
        { 0, "max-tokens", "N", "the most tokens in one step; 512.  Above 2048 all are alike", OPTION_INT,
          &s->max_tokens, NULL, 1, 1 << 24, false },
        { 0, "json", NULL, "print one JSON object", OPTION_FLAG, &s->json, NULL, 0, 0, false },
        { 'q', "quiet", NULL, "no progress bar", OPTION_FLAG, &s->quiet, NULL, 0, 0, false },
    };
    const struct command_line line = {
        .command = "tune",
        .arguments = "[MODEL | --shape NAME] [OPTIONS]",
        .about =
            "Measures how the products of a model are best cut on this machine, and remembers it for every later run:\n"
            "rows of a tile, blocks of the inner size, what each thread takes.  Results do not change by a bit.  For "
            "each\n"
            "product and number of rows (from that to twice as many) it prints the time by tern's rules, the best "
            "time, the gain,\n"
            "and what gave it.  Without MODEL and --shape: all shapes below but the tiny ones, which takes minutes.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .model = &s->model,
    };

    return options_parse_shapes(line, &s->shape, argc, argv, code);
}

/* ---- what there is to measure ---- */

static int add(struct products *p, const tern_tune_product *product)
{
    tern_tune_product *grown = realloc(p->data, (p->n + 1) * sizeof(*grown));

    if (!grown)
        return cli_error(CLI_FAIL, "out of memory for a list of products");
    p->data = grown;
    grown[p->n++] = *product;
    return 0;
}

static bool has(const struct products *p, const tern_tune_product *product)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->data[i].in == product->in && p->data[i].out == product->out && p->data[i].dtype == product->dtype &&
            p->data[i].rounded == product->rounded)
            return true;
    return false;
}

static int add_shape(struct products *layers, struct products *heads, const tern_model_shape *s, int dtype)
{
    static const tern_tune_product kinds[] = { [TERN_MODEL_AUTO] = { 0, 0, TERN_FP32, false },
                                               [TERN_MODEL_FP32] = { 0, 0, TERN_FP32, false },
                                               [TERN_MODEL_BF16] = { 0, 0, TERN_BF16, true },
                                               [TERN_MODEL_FP16] = { 0, 0, TERN_FP16, false },
                                               [TERN_MODEL_INT8] = { 0, 0, TERN_INT8, true } };
    const bool gated = s->activation == TERN_GATED_GELU || s->activation == TERN_GATED_SILU;
    const int64_t H = s->hidden_size, I = s->intermediate_size, E = H / s->heads;
    const int64_t sizes[][2] = {
        { H, H + 2 * s->kv_heads * E }, { H, H }, { H, gated ? 2 * I : I }, { I, H }, { H, s->vocab_size }
    };
    const size_t n = sizeof(sizes) / sizeof(sizes[0]);
    int code = 0;

    for (size_t i = 0; i < n && !code; i++) {
        tern_tune_product product = kinds[dtype];

        product.in = sizes[i][0];
        product.out = sizes[i][1];
        code = add(i + 1 < n ? layers : heads, &product);
    }
    return code;
}

/* What a checkpoint multiplies.  No weight of it is read. */
static int add_checkpoint(tern_ctx *ctx, const struct settings *s, struct products *layers, struct products *heads)
{
    tern_model_options options = tern_model_options_default();
    tern_tune_product product;
    tern_model *model = NULL;
    char *path = NULL;
    bool answers;
    int code = cli_model_find(ctx, s->model, &path);

    options.dtype = (tern_model_dtype)s->dtype;
    options.describe = true;
    if (!code) {
        const tern_status status = tern_model_open(ctx, path, &options, &model);
        code = status ? cli_fail(status, tern_error(ctx)) : 0;
    }
    for (int i = 0; !code && tern_model_product_at(model, i, &product, &answers); i++)
        if (!answers)
            code = add(layers, &product);
        else if (!has(layers, &product)) /* as a pooler may be, which is as wide as a layer */
            code = add(heads, &product);
    tern_model_close(&model);
    free(path);
    return code;
}

static int collect(tern_ctx *ctx, const struct settings *s, struct products *layers, struct products *heads)
{
    int code = 0;

    if (s->model)
        return add_checkpoint(ctx, s, layers, heads);
    if (s->shape)
        return add_shape(layers, heads, tern_model_shape_find(s->shape), s->dtype);
    for (int i = 0; i < tern_model_shape_count() && !code; i++)
        if (strncmp(tern_model_shape_at(i)->name, "tiny", 4) != 0)
            code = add_shape(layers, heads, tern_model_shape_at(i), s->dtype);
    return code;
}

/* ---- measuring ---- */

static bool on_result(void *user, const tern_tune_result *result, size_t done, size_t total)
{
    struct report *r = user;

    if (r->n == r->capacity) {
        const size_t capacity = r->capacity ? 2 * r->capacity : 64;
        tern_tune_result *grown = realloc(r->results, capacity * sizeof(*grown));

        r->no_memory = !grown;
        if (!grown)
            return false;
        r->results = grown;
        r->capacity = capacity;
    }
    r->results[r->n++] = *result;
    if (r->bar)
        cli_progress("tuning", done, total);
    return !cli_signal();
}

static int measure(tern_ctx *ctx, const struct products *p, struct report *r)
{
    tern_tune_options options = tern_tune_options_default();

    options.max_rows = p->max_rows;
    options.progress = on_result;
    options.user = r;
    const tern_status status = tern_tune_products(ctx, p->data, p->n, &options);
    if (r->bar)
        cli_progress_end();
    if (tern_tune_note(ctx)[0] || !r->stored)
        snprintf(r->note, sizeof(r->note), "%s", tern_tune_note(ctx));
    r->stored = tern_tune_is_stored(ctx);
    if (r->no_memory)
        return cli_error(CLI_FAIL, "out of memory for what was measured");
    return status ? cli_fail(status, tern_error(ctx)) : 0;
}

/* ---- the answer ---- */

static double gain(const tern_tune_result *r)
{
    return r->best_seconds > 0 ? r->default_seconds / r->best_seconds - 1 : 0;
}

/* "tiles of 12 rows, k in blocks of 512, threads by rows"; "the rules" where nothing is better. */
static const char *plan_text(const tern_tune_result *r, char *out, size_t size)
{
    size_t n = 0;

    out[0] = '\0';
    if (r->tile_rows)
        n += (size_t)snprintf(out + n, size - n, "tiles of %d rows", r->tile_rows);
    if (r->k_block)
        n += (size_t)snprintf(out + n, size - n, "%sk in blocks of %d", n ? ", " : "", r->k_block);
    if (r->split)
        n += (size_t)snprintf(out + n, size - n, "%sthreads by %s", n ? ", " : "", r->split == 1 ? "panels" : "rows");
    if (!n)
        snprintf(out, size, "the rules");
    return out;
}

static void print_table(const struct report *r, tern_ctx *ctx, const char *path)
{
    size_t better = 0;
    char cpu[256], text[96];

    cli_cpu_name(cpu, sizeof(cpu));
    printf("%s, %s, %d thread%s (%s)\n\n", cpu, tern_ctx_isa(ctx), tern_ctx_threads(ctx),
           tern_ctx_threads(ctx) == 1 ? "" : "s", tern_ctx_threads_reason(ctx));
    printf("%-12s %8s %8s %6s %11s %11s %7s\n", "weights", "in", "out", "rows", "rules ms", "best ms", "gain");
    for (size_t i = 0; i < r->n; i++) {
        const tern_tune_result *t = &r->results[i];
        char name[16];

        snprintf(name, sizeof(name), "%s%s", tern_dtype_name(t->product.dtype),
                 t->product.rounded && t->product.dtype == TERN_INT8 ? " rows" : "");
        better += gain(t) > 0;
        printf("%-12s %8" PRId64 " %8" PRId64 " %6" PRId64 " %11.4f %11.4f %5.1f %%  %s\n", name, t->product.in,
               t->product.out, t->rows, 1e3 * t->default_seconds, 1e3 * t->best_seconds, 100 * gain(t),
               plan_text(t, text, sizeof(text)));
    }
    printf("\n%zu of %zu are faster than by the rules%s%s\n", better, r->n, path ? "; kept in " : "", path ? path : "");
}

static int print_json(const struct report *r, tern_ctx *ctx, const char *path)
{
    static const char *const splits[] = { NULL, "panels", "rows" };
    struct json_out j;
    char cpu[256];
    const int code = out_begin(&j);

    if (code)
        return code;
    cli_cpu_name(cpu, sizeof(cpu));
    out_object_begin(&j, NULL);
    out_name(&j, "version", tern_version());
    out_name(&j, "cpu", cpu);
    out_name(&j, "isa", tern_ctx_isa(ctx));
    out_int(&j, "threads", tern_ctx_threads(ctx));
    out_array_begin(&j, "shapes");
    for (size_t i = 0; i < r->n; i++) {
        const tern_tune_result *t = &r->results[i];

        out_object_begin(&j, NULL);
        out_name(&j, "dtype", tern_dtype_name(t->product.dtype));
        out_bool(&j, "rounded", t->product.rounded);
        out_int(&j, "in", t->product.in);
        out_int(&j, "out", t->product.out);
        out_int(&j, "rows", t->rows);
        out_number(&j, "default_ms", 1e3 * t->default_seconds, 6);
        out_number(&j, "best_ms", 1e3 * t->best_seconds, 6);
        out_number(&j, "gain", gain(t), 4);
        out_int(&j, "tile_rows", t->tile_rows);
        out_int(&j, "k_block", t->k_block);
        if (t->split)
            out_name(&j, "split", splits[t->split]);
        else
            out_null(&j, "split");
        out_object_end(&j);
    }
    out_array_end(&j);
    if (path)
        out_name(&j, "file", path);
    else
        out_null(&j, "file");
    out_name(&j, "note", r->note);
    out_object_end(&j);
    return out_end(&j, true);
}

static int run(const struct settings *s)
{
    struct products layers = { .max_rows = s->max_tokens };
    struct products heads = { .max_rows = s->max_tokens < HEAD_ROWS ? s->max_tokens : HEAD_ROWS };
    struct report report = { .bar = !s->quiet };
    char path[PATH_SIZE] = "";
    tern_ctx *ctx = NULL;
    int code = s->shape && !cli_shape_find(s->shape) ? CLI_USAGE : cli_context_open(s->threads, &ctx);

    if (!code)
        code = collect(ctx, s, &layers, &heads);
    if (!code) {
        int printed = 0;

        code = measure(ctx, &layers, &report);
        if (!code && heads.n) /* an encoder may have none */
            code = measure(ctx, &heads, &report);
        tern_tune_path(ctx, path, sizeof(path));
        const char *kept = tern_tune_is_stored(ctx) ? path : NULL;
        if (s->json && !code)
            printed = print_json(&report, ctx, kept);
        else if (!s->json && report.n)
            print_table(&report, ctx, kept); /* after Ctrl-C what there is by then */
        if (report.note[0])
            cli_error(0, "%s", report.note);
        code = code ? code : printed;
    }
    tern_ctx_destroy(&ctx);
    free(layers.data);
    free(heads.data);
    free(report.results);
    return code;
}

int cmd_tune(int argc, char **argv)
{
    struct settings s = { .max_tokens = 512, .dtype = TERN_MODEL_AUTO };
    int code;

    return parse(&s, argc, argv, &code) ? run(&s) : code;
}
