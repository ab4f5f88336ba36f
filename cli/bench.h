/* bench.h: what tern bench measures, and how it is shown. */
#ifndef TERN_CLI_BENCH_H
#define TERN_CLI_BENCH_H

#include <tern/tern.h>

#define BENCH_RUNS_MAX 999

/* What a run is asked for. */
struct bench_plan {
    const int32_t *contexts; /* ascending */
    size_t n_contexts;
    int32_t sequences; /* at once */
    int32_t decode;    /* steps of one decode measurement; 0: an encoder, which has a forward pass alone */
    int runs;
    bool encoder; /* it is an encoder's checkpoint, which has no sessions */
    bool bar;     /* show progress */
};

enum bench_what { BENCH_PREFILL, BENCH_DECODE, BENCH_FORWARD };

/* One line of the answer: samples of one thing.  All sizes are those of one step, or of one whole prompt. */
struct bench_row {
    enum bench_what what;
    int32_t context; /* tokens of a prompt; before a decode */
    double tokens;   /* of all sequences */
    double weight_bytes, kv_bytes;
    double weight_ops, attention_ops; /* a multiplication and an addition are two */
    double *seconds;                  /* [runs] sorted */
    double median, min, max;
};

struct bench {
    const char *name;              /* as it was asked for */
    const tern_model_shape *shape; /* NULL: from files */
    const tern_model *model;
    const tern_ceilings *ceilings; /* NULL: not measured */
    const struct bench_plan *plan;
    struct bench_row *rows;
    size_t n_rows;
};

/* Measures plan->runs times after one run that warms up, one thing after the other in each run, so that a machine that changes its pace
 * changes it for all of them.  0 or the exit code, after a line.  In any case bench_free(). */
int bench_measure(struct bench *bench, tern_ctx *ctx);
void bench_free(struct bench *bench);

/* Rates of a row, at its median. */
double bench_tokens_per_s(const struct bench_row *row);
double bench_bytes_per_s(const struct bench_row *row);
double bench_ops_per_s(const struct bench_row *row);
/* The arithmetic that the model's products are done in, by name, and its ceiling. */
const char *bench_arithmetic(const struct bench *bench);
tern_rate bench_arithmetic_ceiling(const struct bench *bench);

const char *bench_what_name(enum bench_what what);

/* The answer as a table, as one JSON object, as CSV with a line of names.  0 or the exit code. */
int bench_print_table(const struct bench *bench, tern_ctx *ctx);
int bench_print_json(const struct bench *bench, tern_ctx *ctx);
int bench_print_csv(const struct bench *bench, tern_ctx *ctx);

#endif
