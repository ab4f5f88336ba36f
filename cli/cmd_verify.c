/* cmd_verify.c: tern verify: a checkpoint held against what its reference computed. */
#include "cli.h"
#include "json_out.h"
#include "options.h"

#include <stdlib.h>
#include <string.h>

/* How far a state, a logit or a vector may be off in each dtype, relative, before it counts as another: fp32 and fp16 compute alike,
 * fp16 from rounded weights. */
static double tolerance_of(tern_model_dtype dtype)
{
    switch (dtype) {
    case TERN_MODEL_BF16:
        return 0.1;
    case TERN_MODEL_FP16:
        return 0.02;
    case TERN_MODEL_INT8:
        return 0.25;
    case TERN_MODEL_AUTO:
    case TERN_MODEL_FP32:
        break;
    }
    return 1e-4;
}

static bool passes(const tern_verify_report *r, double tolerance)
{
    return r->first_state < 0 && r->logits_rel <= tolerance && r->answers_rel <= tolerance &&
           r->vectors_abs <= tolerance && r->n_texts == r->n_texts_same && r->n_chats == r->n_chats_same;
}

/* The last layer's own state is not in a golden where a norm is behind it. */
static void print_state(const tern_verify_report *r, char *out, size_t size)
{
    if (r->first_state < 0)
        snprintf(out, size, "none");
    else if (r->first_state == 0)
        snprintf(out, size, "the embedding");
    else
        snprintf(out, size, "layer %d%s", r->first_state - 1,
                 r->final_norm && r->first_state == r->n_states - 1 ? ", the last, or the final norm" : "");
}

static void print_report(const char *dtype, const tern_verify_report *r, bool good)
{
    char state[64];

    printf("%-5s %s\n", dtype, good ? "as the golden" : "differs");
    if (r->n_rows)
        printf("  logits      largest error %.3g, relative %.3g; best id the same in %lld of %lld rows\n",
               r->logits_abs, r->logits_rel, (long long)r->n_best, (long long)r->n_rows);
    if (r->n_answers)
        printf("  answers     largest error %.3g, relative %.3g; %d texts\n", r->answers_abs, r->answers_rel,
               r->n_answers);
    if (r->n_states) {
        print_state(r, state, sizeof state);
        printf("  states      largest error %.3g, relative %.3g; first that diverges: %s\n", r->states_abs,
               r->states_rel, state);
    }
    if (r->n_texts)
        printf("  ids         the same for %d of %d texts\n", r->n_texts_same, r->n_texts);
    if (r->n_chats)
        printf("  chats       rendered the same: %d of %d\n", r->n_chats_same, r->n_chats);
    if (r->n_vectors)
        printf("  embeddings  largest error %.3g, relative %.3g; %d sentences\n", r->vectors_abs, r->vectors_rel,
               r->n_vectors);
}

static void out_report(struct json_out *j, const char *dtype, const tern_verify_report *r, bool good)
{
    out_object_begin(j, NULL);
    out_name(j, "dtype", dtype);
    out_bool(j, "same", good);
    out_int(j, "prompts", r->n_prompts);
    out_int(j, "rows", r->n_rows);
    out_int(j, "best_same", r->n_best);
    out_number(j, "logits_abs", r->logits_abs, 6);
    out_number(j, "logits_rel", r->logits_rel, 6);
    out_number(j, "answers_abs", r->answers_abs, 6);
    out_number(j, "answers_rel", r->answers_rel, 6);
    out_number(j, "states_abs", r->states_abs, 6);
    out_number(j, "states_rel", r->states_rel, 6);
    out_int(j, "first_state", r->first_state);
    out_bool(j, "final_norm", r->final_norm);
    out_int(j, "texts", r->n_texts);
    out_int(j, "texts_same", r->n_texts_same);
    out_int(j, "chats", r->n_chats);
    out_int(j, "chats_same", r->n_chats_same);
    out_int(j, "embeddings", r->n_vectors);
    out_number(j, "embeddings_abs", r->vectors_abs, 6);
    out_number(j, "embeddings_rel", r->vectors_rel, 6);
    out_object_end(j);
}

static int verify_all(tern_ctx *ctx, const char *path, const char *golden, const tern_model_dtype *dtypes, size_t n,
                      bool json)
{
    struct json_out j;
    bool all_good = true;
    int code = json ? out_begin(&j) : 0;

    if (code)
        return code;
    if (json)
        out_array_begin(&j, NULL);
    for (size_t i = 0; !code && i < n; i++) {
        const double tolerance = tolerance_of(dtypes[i]);
        tern_verify_report report;
        const tern_status status = tern_verify(ctx, path, golden, dtypes[i], tolerance, &report);
        const bool good = !status && passes(&report, tolerance);

        if (status) {
            code = cli_fail(status, tern_error(ctx));
            break;
        }
        all_good = all_good && good;
        if (json)
            out_report(&j, tern_model_dtype_name(dtypes[i]), &report, good);
        else
            print_report(tern_model_dtype_name(dtypes[i]), &report, good);
    }
    if (json) {
        out_array_end(&j);
        const int end = out_end(&j, !code);
        code = code ? code : end;
    }
    return code ? code : all_good ? CLI_OK : CLI_FAIL;
}

int cmd_verify(int argc, char **argv)
{
    static const tern_model_dtype all[] = { TERN_MODEL_FP32, TERN_MODEL_BF16, TERN_MODEL_FP16, TERN_MODEL_INT8 };
    const char *name = NULL, *golden = NULL;
    int64_t threads = 0;
    int dtype = TERN_MODEL_AUTO;
    bool json = false, given = false;
    const struct option options[] = {
        { 0, "golden", "FILE", "what the reference computed (default: golden.safetensors of MODEL)", OPTION_TEXT,
          &golden, NULL, 0, 0, false },
        { 0, "threads", "N", "0: as many as the machine allows", OPTION_INT, &threads, NULL, 0, 1024, false },
        OPTION_DTYPE(&dtype, &given),
        { 0, "json", NULL, "an array with an object for each dtype", OPTION_FLAG, &json, NULL, 0, 0, false },
    };
    const struct command_line line = {
        .command = "verify",
        .arguments = "MODEL [--golden FILE] [OPTIONS]",
        .about =
            "Replays what the reference computed from this very checkpoint - ids of texts, rendered chats, states of\n"
            "each layer, logits, embeddings - and prints how far tern is from it, for each dtype, and the first layer\n"
            "that diverges.  Exit code 1 where something is off: beyond 1e-4 of the largest number in fp32, 0.02 in\n"
            "fp16, 0.1 in bf16 and 0.25 in int8, or another id or text.  tools/make_golden.py makes the file.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .model = &name,
        .model_required = true,
    };
    tern_ctx *ctx = NULL;
    char *path = NULL, *file = NULL;
    int code;

    const enum option_outcome outcome = options_parse(&line, argc, argv);
    if (outcome != OPTION_PARSED)
        return options_exit(outcome);
    code = cli_context_open(threads, &ctx);
    if (!code)
        code = cli_directory_find(ctx, name, &path);
    if (!code && !golden) {
        if (asprintf(&file, "%s/golden.safetensors", path) < 0) {
            file = NULL;
            code = cli_error(CLI_FAIL, "out of memory: the name of a file");
        }
        golden = file;
    }
    if (!code) {
        const tern_model_dtype one = (tern_model_dtype)dtype;
        code = verify_all(ctx, path, golden, given ? &one : all, given ? 1 : sizeof all / sizeof all[0], json);
    }
    tern_ctx_destroy(&ctx);
    free(path);
    free(file);
    return code;
}
