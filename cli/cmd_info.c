/* cmd_info.c: tern info: a model and the memory it takes, and what this machine gives tern. */
#include "cli.h"
#include "json_out.h"
#include "options.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Text or JSON, from one list of facts.  Sections are objects. */
struct report {
    bool json;
    struct json_out j;
};

static void line(struct report *r, const char *key, const char *format, ...) TERN_PRINTF(3, 4);
static void line(struct report *r, const char *key, const char *format, ...)
{
    char label[40];
    size_t n = 0;
    va_list args;

    if (r->json)
        return;
    for (; key[n] && n + 1 < sizeof(label); n++)
        label[n] = key[n] == '_' ? ' ' : key[n];
    label[n] = 0;
    printf("  %-16s ", label);
    va_start(args, format);
    cli_print_line(stdout, format, args);
    va_end(args);
}

static void section(struct report *r, const char *key)
{
    if (r->json)
        out_object_begin(&r->j, key);
    else
        printf("%s\n", key);
}

static void section_end(struct report *r)
{
    if (r->json)
        out_object_end(&r->j);
}

static void fact_name(struct report *r, const char *key, const char *value)
{
    if (r->json)
        out_name(&r->j, key, value);
    line(r, key, "%s", value);
}

static void fact_int(struct report *r, const char *key, int64_t value)
{
    if (r->json)
        out_int(&r->j, key, value);
    line(r, key, "%" PRId64, value);
}

static void fact_bytes(struct report *r, const char *key, const char *label, uint64_t bytes)
{
    static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
    double x = (double)bytes;
    int unit = 0;

    while (x >= 1024 && unit < 4)
        x /= 1024, unit++;
    if (r->json)
        out_uint(&r->j, key, bytes);
    line(r, label, "%.*f %s", unit ? 1 : 0, x, units[unit]);
}

/* tern_build_info()'s lines, "compiler: ..." and so on, as facts. */
static void report_build(struct report *r)
{
    for (const char *c = tern_build_info(); *c;) {
        const int n = (int)strcspn(c, "\n"), n_key = (int)strcspn(c, ":");
        char key[64], value[512];

        if (n_key + 2 <= n) {
            snprintf(key, sizeof(key), "%.*s", n_key, c);
            snprintf(value, sizeof(value), "%.*s", n - n_key - 2, c + n_key + 2);
            fact_name(r, key, value);
        }
        c += n + (c[n] == '\n');
    }
}

static void report_machine(struct report *r, tern_ctx *ctx)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    char cpu[256], granted[1024];

    cli_cpu_name(cpu, sizeof(cpu));
    section(r, "machine");
    fact_name(r, "cpu", cpu);
    fact_name(r, "isa", tern_ctx_isa(ctx));
    if (r->json) {
        out_int(&r->j, "threads", tern_ctx_threads(ctx));
        out_name(&r->j, "threads_reason", tern_ctx_threads_reason(ctx));
    }
    line(r, "threads", "%d (%s)", tern_ctx_threads(ctx), tern_ctx_threads_reason(ctx));
    tern_cpus_describe(granted, sizeof(granted));
    fact_name(r, "granted", granted);
    if (pages > 0 && page > 0)
        fact_bytes(r, "memory_bytes", "memory", (uint64_t)pages * (uint64_t)page);
    section_end(r);
    section(r, "tern");
    fact_name(r, "version", tern_version());
    report_build(r);
    section_end(r);
}

static const char *const task_names[] = {
    [TERN_TASK_GENERATE] = "generate", [TERN_TASK_FILL] = "fill", [TERN_TASK_STATES] = "states",
    [TERN_TASK_CLASSIFY] = "classify", [TERN_TASK_TAG] = "tag",
};

/* Their number and names, as many as a few lines hold. */
static void report_labels(struct report *r, const tern_model *model)
{
    const int32_t n = tern_model_get_config(model)->n_labels;
    char names[512] = "";
    size_t used = 0;

    if (r->json) {
        out_int(&r->j, "labels", n);
        out_array_begin(&r->j, "label_names");
        for (int32_t i = 0; i < n && tern_model_label(model, i); i++)
            out_name(&r->j, NULL, tern_model_label(model, i));
        out_array_end(&r->j);
    }
    for (int32_t i = 0; i < n && used < sizeof names && tern_model_label(model, i); i++)
        used +=
            (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : ": ", tern_model_label(model, i));
    line(r, "labels", "%" PRId32 "%s%s", n, names, used >= sizeof names ? ".." : "");
}

static void report_model(struct report *r, const tern_model *model, const tern_tokenizer_info *tokenizer,
                         const char *no_tokenizer)
{
    const tern_model_config *c = tern_model_get_config(model);
    const tern_model_stats stats = tern_model_get_stats(model);

    section(r, "model");
    fact_name(r, "path", tern_model_path(model));
    fact_name(r, "family", c->family);
    fact_name(r, "architecture", c->architecture);
    fact_name(r, "task", task_names[c->task]);
    if (c->n_labels)
        report_labels(r, model);
    fact_name(r, "dtype", tern_dtype_name(c->dtype));
    if (r->json) {
        out_name(&r->j, "opened_as", tern_model_dtype_name(c->model_dtype));
        out_name(&r->j, "weight_dtype", tern_dtype_name(c->weight_dtype));
        out_name(&r->j, "product_dtype", tern_dtype_name(c->row_dtype));
    }
    line(r, "weights", "%s (--dtype %s), products of rows in %s", tern_dtype_name(c->weight_dtype),
         tern_model_dtype_name(c->model_dtype), tern_dtype_name(c->row_dtype));
    fact_int(r, "parameters", (int64_t)stats.n_parameters);
    if (r->json) {
        out_int(&r->j, "layers", c->n_layers);
        out_bool(&r->j, "parallel_layers", c->parallel_layers);
    }
    line(r, "layers", "%d%s", c->n_layers, c->parallel_layers ? ", attention and feed-forward side by side" : "");
    fact_int(r, "hidden_size", c->hidden_size);
    fact_int(r, "feed_forward", c->intermediate_size);
    fact_int(r, "heads", c->heads);
    fact_int(r, "kv_heads", c->kv_heads);
    fact_int(r, "head_dim", c->head_dim);
    fact_int(r, "context", c->n_context);
    fact_int(r, "vocabulary", c->vocab_size);
    if (r->json) {
        out_bool(&r->j, "tied_embeddings", c->tied_embeddings);
        if (no_tokenizer) {
            out_null(&r->j, "tokenizer");
            out_null(&r->j, "tokenizer_vocabulary");
        } else {
            out_name(&r->j, "tokenizer", tokenizer->kind);
            out_int(&r->j, "tokenizer_vocabulary", tokenizer->n_ids);
        }
        out_array_begin(&r->j, "skipped_tensors");
        for (uint32_t i = 0; i < stats.n_skipped; i++)
            out_name(&r->j, NULL, tern_model_skipped(model, i));
        out_array_end(&r->j);
    }
    if (c->task == TERN_TASK_GENERATE || c->task == TERN_TASK_FILL)
        line(r, "embeddings", "%s",
             c->tied_embeddings ? "tied: one matrix for input and output" : "input and output apart");
    if (no_tokenizer)
        line(r, "tokenizer", "none: %s", no_tokenizer);
    else if (tokenizer->n_added)
        line(r, "tokenizer", "%s, %" PRId32 " ids, %" PRId32 " of them added", tokenizer->kind, tokenizer->n_ids,
             tokenizer->n_added);
    else
        line(r, "tokenizer", "%s, %" PRId32 " ids", tokenizer->kind, tokenizer->n_ids);
    for (uint32_t i = 0; i < stats.n_skipped; i++)
        line(r, "skipped_tensor", "%s", tern_model_skipped(model, i));
    if (!stats.n_skipped)
        line(r, "skipped_tensors", "none");
}

/* What running the model takes, a session of one full context or an encoder as it is by default. */
static void report_memory(struct report *r, const tern_model *model, uint64_t kv_bytes, uint64_t scratch_bytes)
{
    const tern_model_stats stats = tern_model_get_stats(model);

    section(r, "memory");
    fact_bytes(r, "file_bytes", "weights in files", stats.file_bytes);
    fact_bytes(r, "weight_bytes", "weights packed", stats.packed_bytes);
    if (tern_model_get_config(model)->task == TERN_TASK_GENERATE)
        fact_bytes(r, "token_bytes", "read for a token", stats.layer_bytes + stats.head_bytes);
    fact_bytes(r, "kv_bytes", "keys and values", kv_bytes);
    fact_bytes(r, "scratch_bytes", "scratch", scratch_bytes);
    fact_bytes(r, "needed_bytes", "needed", stats.packed_bytes + kv_bytes + scratch_bytes);
    section_end(r);
}

/* The table op x dtype x norm x device: what would run on this machine. */
static void report_ops(struct report *r, tern_ctx *ctx)
{
    static const tern_dtype dtypes[] = { TERN_FP32, TERN_FP16, TERN_BF16, TERN_INT8 };
    static const int norms[] = { 0, TERN_LAYER_NORM, TERN_RMS_NORM };
    static const char *const norm_names[] = { "none", "LayerNorm", "RMSNorm" };
    char cell[512];

    if (r->json)
        out_array_begin(&r->j, "operators");
    else
        printf("%-20s %-5s %-10s %-6s %s\n", "operator", "dtype", "norm", "device", "kernels");
    for (int op = 0; op < tern_op_count(); op++)
        for (size_t d = 0; d < sizeof(dtypes) / sizeof(dtypes[0]); d++)
            for (size_t n = 0; n < sizeof(norms) / sizeof(norms[0]); n++) {
                const bool there = tern_op_cell(ctx, op, dtypes[d], norms[n], TERN_CPU, cell, sizeof(cell));

                if (!r->json) {
                    printf("%-20s %-5s %-10s %-6s %s\n", tern_op_name(op), tern_dtype_name(dtypes[d]), norm_names[n],
                           "cpu", cell);
                    continue;
                }
                out_object_begin(&r->j, NULL);
                out_name(&r->j, "operator", tern_op_name(op));
                out_name(&r->j, "dtype", tern_dtype_name(dtypes[d]));
                out_name(&r->j, "norm", norm_names[n]);
                out_name(&r->j, "device", "cpu");
                out_bool(&r->j, "there", there);
                out_name(&r->j, there ? "kernels" : "reason", there ? cell : cell + strlen("n/a: "));
                out_object_end(&r->j);
            }
    if (r->json)
        out_array_end(&r->j);
    else
        printf("\nAccepted, and without effect on every operator: %s.\n", CLI_WITHOUT_EFFECT);
}

/* The names of the chat templates, or that there is none where one is expected. */
static void report_template(struct report *r, tern_ctx *ctx, const char *path, bool expected)
{
    tern_chat *chat = NULL;
    const tern_status status = tern_chat_open(ctx, path, NULL, &chat);

    if (r->json) {
        out_array_begin(&r->j, "chat_templates");
        for (size_t i = 0; i < tern_chat_count(chat); i++)
            out_name(&r->j, NULL, tern_chat_name(chat, i));
        out_array_end(&r->j);
    }
    if (status && expected)
        line(r, "chat_template", "none: %s", tern_error(ctx));
    for (size_t i = 0; i < tern_chat_count(chat); i++)
        line(r, "chat_template", "%s", tern_chat_name(chat, i));
    tern_chat_close(&chat);
}

static int describe(struct report *r, tern_ctx *ctx, const char *name, int dtype)
{
    tern_model *model = NULL;
    tern_tokenizer_info tokenizer;
    tern_session_stats session;
    tern_encoder_stats encoder;
    char *path = NULL, *no_tokenizer = NULL;
    int code = cli_model_find(ctx, name, &path);

    if (!code) {
        tern_model_options options = tern_model_options_default();
        options.dtype = (tern_model_dtype)dtype;
        options.describe = true;
        const tern_status status = tern_model_open(ctx, path, &options, &model);
        code = status ? cli_fail(status, tern_error(ctx)) : 0;
    }
    if (!code && tern_tokenizer_describe(ctx, path, &tokenizer)) {
        no_tokenizer = strdup(tern_error(ctx));
        code = no_tokenizer ? 0 : cli_error(CLI_FAIL, "out of memory for the reason of a missing tokenizer");
    }
    const bool generates = !code && tern_model_get_config(model)->task == TERN_TASK_GENERATE;
    if (!code) {
        const tern_status status = generates ? tern_session_measure(ctx, model, NULL, &session)
                                             : tern_encoder_measure(ctx, model, NULL, &encoder);
        code = status ? cli_fail(status, tern_error(ctx)) : 0;
    }
    if (!code) {
        report_model(r, model, &tokenizer, no_tokenizer);
        report_template(r, ctx, path, generates);
        section_end(r);
        report_memory(r, model, generates ? session.kv_bytes : encoder.kv_bytes,
                      generates ? session.scratch_bytes : encoder.scratch_bytes);
    }
    tern_model_close(&model);
    free(no_tokenizer);
    free(path);
    return code;
}

int cmd_info(int argc, char **argv)
{
    const char *name = NULL;
    int64_t threads = 0;
    int dtype = TERN_MODEL_AUTO;
    bool json = false, ops = false, has_dtype = false;
    const struct option options[] = {
        { 0, "ops", NULL, "the operators instead: what runs for each dtype, norm and device", OPTION_FLAG, &ops, NULL,
          0, 0, false },
        { 0, "threads", "N", "0: as many as the machine allows", OPTION_INT, &threads, NULL, 0, 1024, false },
        OPTION_DTYPE(&dtype, &has_dtype),
        { 0, "json", NULL, "print one JSON object", OPTION_FLAG, &json, NULL, 0, 0, false },
    };
    const struct command_line command = {
        .command = "info",
        .arguments = "[MODEL] [OPTIONS]",
        .about = "Tells what MODEL is, without reading its weights, the memory that it takes (weights; keys, values "
                 "and scratch\n"
                 "of one full context, or of a pass over texts), and the tensors that are skipped; then the machine: "
                 "instruction\n"
                 "set, threads and what decided their number.  Without MODEL the machine and the build alone.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .model = &name,
    };
    tern_ctx *ctx = NULL;
    int code;

    const enum option_outcome outcome = options_parse(&command, argc, argv);
    if (outcome != OPTION_PARSED)
        return options_exit(outcome);
    if (ops && name)
        return cli_error(CLI_USAGE, "info takes a MODEL or --ops, got both");
    if (has_dtype && !name)
        return cli_error(CLI_USAGE, "info wants a MODEL with --dtype");
    code = cli_context_open(threads, &ctx);
    if (!code) {
        struct report r = { .json = json };

        if (json)
            code = out_begin(&r.j);
        if (!code && json)
            out_object_begin(&r.j, NULL);
        if (!code && name)
            code = describe(&r, ctx, name, dtype);
        if (!code && ops)
            report_ops(&r, ctx);
        else if (!code)
            report_machine(&r, ctx);
        if (!code && json)
            out_object_end(&r.j);
        if (json) {
            const int ended = out_end(&r.j, !code);

            code = code ? code : ended;
        }
    }
    tern_ctx_destroy(&ctx);
    return code;
}
