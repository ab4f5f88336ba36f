/* fn_moe.c: choosing experts for tokens, sending rows to them and collecting what they answer.
 *
 * Gating counts slots after all choices are made, in order of (token, choice), on one thread: a sum over T k numbers that
 * cost the softmax of as many rows.  Scatter has checked and mapped every choice before it copies a row, so that a bad one
 * leaves the outputs alone and no two threads write one place. */
#include "ops/gating.h"
#include "ops/op_table.h"
#include "ops/widen.h"

#include <tern/function.h>

#include <math.h>
#include <string.h>

/* ---- gating ---- */

struct gating {
    const tern_tensor *logits;
    const bool *padding; /* or NULL */
    float *scores;
    int32_t *experts, *slots, *counts;
    float *scratch; /* [threads][3][n] */
    size_t rows, n, k;
};

/* Whether logit b goes before logit a, which has the lower index. */
static bool goes_before(float b, float a)
{
    return b > a || (isnan(a) && !isnan(b));
}

void tern_gate_row(const struct tern_kernels *kernels, const float *logits, size_t n, size_t k, float *scores,
                   int32_t *experts, float *scratch)
{
    float *probability = scratch, *taken = scratch + n;

    kernels->softmax_f32(probability, logits, NULL, n, 0, n, 1, 0, NULL);
    memset(taken, 0, n * sizeof *taken);
    for (size_t j = 0; j < k; j++) {
        size_t best = n;
        for (size_t e = 0; e < n; e++)
            if (taken[e] == 0 && (best == n || goes_before(logits[e], logits[best])))
                best = e;
        taken[best] = 1;
        experts[j] = (int32_t)best;
        scores[j] = probability[best];
    }
}

static void gate_row(const struct gating *g, const struct tern_kernels *kernels, size_t row, float *scratch)
{
    float *scores = g->scores + row * g->k;
    int32_t *experts = g->experts + row * g->k;

    if (g->padding && g->padding[row]) {
        for (size_t j = 0; j < g->k; j++) {
            scores[j] = 0;
            experts[j] = -1;
        }
        return;
    }
    tern_wide_load(kernels, scratch, g->logits->data, g->logits->dtype, row * g->n, g->n);
    tern_gate_row(kernels, scratch, g->n, g->k, scores, experts, scratch + g->n);
}

static void gating_region(void *arg, const struct tern_par *par)
{
    const struct gating *g = arg;
    size_t row, end;

    tern_share(par, g->rows, 1, &row, &end);
    for (; row < end; row++)
        gate_row(g, par->kernels, row, g->scratch + 3 * g->n * (size_t)par->thread);
    tern_barrier(par);
    if (par->thread != 0)
        return;
    memset(g->counts, 0, g->n * sizeof *g->counts);
    for (size_t i = 0; i < g->rows * g->k; i++)
        g->slots[i] = g->experts[i] < 0 ? -1 : g->counts[g->experts[i]]++;
}

tern_status tern_top_k_gating(tern_ctx *ctx, const tern_tensor *logits, int32_t k, const tern_tensor *padding,
                              tern_tensor *scores, tern_tensor *experts, tern_tensor *slots, tern_tensor *counts)
{
    static const char op[] = "top_k_gating";
    struct gating g = { .logits = logits };

    TERN_TRY(tern_check_float_rows(ctx, op, "logits", logits, TERN_ANY_FLOAT, -1, -1, &g.rows, &g.n));
    TERN_REQUIRE(ctx, g.n >= 1 && g.n <= INT32_MAX, TERN_ERR_SHAPE, "%s: logits is %s, expected 1 expert or more", op,
                 tern_dims_text(logits).text);
    TERN_REQUIRE(ctx, k >= 1 && (size_t)k <= g.n, TERN_ERR_ARG, "%s: k is %" PRId32 ", expected 1..%zu experts", op, k,
                 g.n);
    g.k = (size_t)k;
    TERN_REQUIRE(ctx, g.rows <= INT32_MAX / g.k, TERN_ERR_SHAPE,
                 "%s: %zu rows with %zu experts each, expected at most %d", op, g.rows, g.k, INT32_MAX);
    const int64_t rows = (int64_t)g.rows, chosen[] = { rows, k };
    if (tern_given(padding)) {
        TERN_TRY(tern_check_tensor(ctx, op, "padding", padding, TERN_BOOL));
        TERN_TRY(tern_check_dims(ctx, op, "padding", padding, 1, &rows));
        g.padding = padding->data;
    }
    TERN_TRY(tern_check_float(ctx, op, "scores", scores, TERN_FP32, false));
    TERN_TRY(tern_check_dims(ctx, op, "scores", scores, 2, chosen));
    TERN_TRY(tern_check_int32(ctx, op, "experts", experts, 2, chosen));
    TERN_TRY(tern_check_int32(ctx, op, "slots", slots, 2, chosen));
    TERN_TRY(tern_check_int32(ctx, op, "counts", counts, 1, &(int64_t){ (int64_t)g.n }));
    const struct tern_operand operands[] = {
        { "logits", logits, false, false },  { "padding", padding, false, false }, { "scores", scores, true, false },
        { "experts", experts, true, false }, { "slots", slots, true, false },      { "counts", counts, true, false },
    };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));

    g.scores = scores->data;
    g.experts = experts->data;
    g.slots = slots->data;
    g.counts = counts->data;
    TERN_TRY(TERN_ALLOC(ctx, tern_mul_or_max(3 * g.n, (size_t)tern_ctx_threads(ctx)), "rows of logits", &g.scratch));
    const tern_status status = tern_region(ctx, gating_region, &g);
    tern_free(g.scratch);
    return status;
}

/* ---- scatter ---- */

struct scatter {
    const char *from;
    char *to;
    const int32_t *mapped; /* [rows * k] */
    size_t rows, k, bytes; /* bytes of a row */
};

static void scatter_region(void *arg, const struct tern_par *par)
{
    const struct scatter *s = arg;
    size_t i, end;

    tern_share(par, s->rows * s->k, 1, &i, &end);
    for (; i < end; i++)
        if (s->mapped[i] >= 0 && s->bytes)
            memcpy(s->to + (size_t)s->mapped[i] * s->bytes, s->from + i / s->k * s->bytes, s->bytes);
}

/* mapped[i] and ends[e] from experts, slots and counts. */
static tern_status map_slots(tern_ctx *ctx, const char *op, const tern_tensor *experts, const tern_tensor *slots,
                             const tern_tensor *counts, int64_t rows_out, int32_t *mapped, int64_t *ends, bool *used)
{
    const int64_t n = counts->dim[0];
    int64_t sum = 0;

    for (int64_t i = 0; i < n; i++) {
        const int64_t count = tern_int_at(counts, (size_t)i);
        TERN_REQUIRE(ctx, count >= 0, TERN_ERR_ARG, "%s: counts[%" PRId64 "] is %" PRId64 ", expected 0 or more", op, i,
                     count);
        TERN_REQUIRE(ctx, count <= INT32_MAX - sum && count <= rows_out - sum, TERN_ERR_SHAPE,
                     "%s: output has %" PRId64 " rows, expected at least %" PRId64 " and %" PRId64
                     " more, the sum of counts",
                     op, rows_out, sum, count);
        ends[i] = sum += count;
    }
    for (size_t i = 0; i < tern_elements(experts); i++) {
        const int64_t e = tern_int_at(experts, i), s = tern_int_at(slots, i);
        mapped[i] = -1;
        if (e == -1 || s == -1)
            continue;
        TERN_REQUIRE(ctx, e >= 0 && e < n, TERN_ERR_ARG, "%s: experts has %" PRId64 " at %zu, expected -1..%" PRId64,
                     op, e, i, n - 1);
        const int64_t count = tern_int_at(counts, (size_t)e);
        TERN_REQUIRE(ctx, s >= 0 && s < count, TERN_ERR_ARG,
                     "%s: slots has %" PRId64 " at %zu, expected -1..%" PRId64 " as expert %" PRId64 " has %" PRId64
                     " rows",
                     op, s, i, count - 1, e, count);
        const int64_t at = ends[e] - count + s;
        TERN_REQUIRE(ctx, !used[at], TERN_ERR_ARG,
                     "%s: slots has %" PRId64 " of expert %" PRId64 " a second time at %zu, expected it once", op, s, e,
                     i);
        used[at] = true;
        mapped[i] = (int32_t)at;
    }
    return TERN_OK;
}

tern_status tern_moe_scatter(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *experts,
                             const tern_tensor *slots, const tern_tensor *counts, tern_tensor *output,
                             tern_tensor *mapped_slots, tern_tensor *row_ends)
{
    static const char op[] = "moe_scatter";
    size_t rows, cols, choices;
    int32_t *mapped = NULL;
    int64_t *ends = NULL;
    bool *used = NULL;
    tern_status status;

    TERN_TRY(tern_check_float_rows(ctx, op, "input", input, TERN_ANY_FLOAT, -1, -1, &rows, &cols));
    TERN_TRY(tern_check_ints(ctx, op, "experts", experts, 2, (int64_t[]){ (int64_t)rows, -1 }));
    TERN_TRY(tern_check_ints(ctx, op, "slots", slots, 2, experts->dim));
    TERN_TRY(tern_check_ints(ctx, op, "counts", counts, 1, &(int64_t){ -1 }));
    TERN_TRY(tern_check_float(ctx, op, "output", output, input->dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "output", output, 2, (int64_t[]){ -1, (int64_t)cols }));
    TERN_TRY(tern_check_int32(ctx, op, "mapped_slots", mapped_slots, 2, experts->dim));
    TERN_TRY(tern_check_tensor(ctx, op, "row_ends", row_ends, TERN_INT64));
    TERN_TRY(tern_check_dims(ctx, op, "row_ends", row_ends, 1, counts->dim));
    const struct tern_operand operands[] = {
        { "input", input, false, false },      { "experts", experts, false, false },
        { "slots", slots, false, true },       { "counts", counts, false, false },
        { "output", output, true, false },     { "mapped_slots", mapped_slots, true, false },
        { "row_ends", row_ends, true, false },
    };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));

    choices = tern_elements(experts);
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, choices, "mapped slots", &mapped));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, (size_t)counts->dim[0], "ends of groups", &ends));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, (size_t)output->dim[0], "marks of rows", &used));
    TERN_TRY_OR_FAIL(map_slots(ctx, op, experts, slots, counts, output->dim[0], mapped, ends, used));

    const struct scatter s = {
        .from = input->data,
        .to = output->data,
        .mapped = mapped,
        .rows = rows,
        .k = (size_t)experts->dim[1],
        .bytes = cols * tern_dtype_size(input->dtype),
    };
    TERN_TRY_OR_FAIL(tern_region(ctx, scatter_region, (void *)(uintptr_t)&s));
    if (choices)
        memcpy(mapped_slots->data, mapped, choices * sizeof *mapped);
    if (counts->dim[0])
        memcpy(row_ends->data, ends, (size_t)counts->dim[0] * sizeof *ends);
    status = TERN_OK;
fail:
    tern_free(used);
    tern_free(ends);
    tern_free(mapped);
    return status;
}

/* ---- gather ---- */

struct gather {
    const tern_tensor *input;
    tern_tensor *output;
    const float *scores;
    const tern_tensor *mapped;
    float *scratch; /* [threads][2][cols] */
    size_t rows, cols, k;
    bool normalise;
};

static void gather_region(void *arg, const struct tern_par *par)
{
    const struct gather *g = arg;
    const size_t n = g->cols;
    float *x = g->scratch + 2 * n * (size_t)par->thread, *sum = x + n;
    size_t row, end;

    tern_share(par, g->rows, 1, &row, &end);
    for (; row < end; row++) {
        const size_t first = row * g->k;
        const float *scores = g->scores + first;
        float total = 0;
        bool any = false;

        for (size_t j = 0; j < g->k; j++)
            if (tern_int_at(g->mapped, first + j) >= 0) {
                total += scores[j];
                any = true;
            }
        if (!any)
            continue;
        memset(sum, 0, n * sizeof *sum);
        for (size_t j = 0; j < g->k; j++) {
            const int64_t from = tern_int_at(g->mapped, first + j);
            if (from >= 0) {
                const float weight = !g->normalise ? scores[j] : total != 0 ? scores[j] / total : 0;
                tern_wide_load(par->kernels, x, g->input->data, g->input->dtype, (size_t)from * n, n);
                par->kernels->axpy_f32(sum, x, sum, weight, n, NULL);
            }
        }
        tern_wide_store(par->kernels, g->output->data, g->output->dtype, row * n, sum, n);
    }
}

tern_status tern_moe_gather(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *scores,
                            const tern_tensor *mapped_slots, bool normalise, tern_tensor *output)
{
    static const char op[] = "moe_gather";
    static const int64_t any[] = { -1, -1 };
    struct gather g = { .input = input, .output = output, .normalise = normalise };

    TERN_TRY(tern_check_float(ctx, op, "input", input, TERN_ANY_FLOAT, false));
    TERN_TRY(tern_check_dims(ctx, op, "input", input, 2, any));
    TERN_TRY(tern_check_float(ctx, op, "scores", scores, TERN_FP32, false));
    TERN_TRY(tern_check_dims(ctx, op, "scores", scores, 2, any));
    TERN_TRY(tern_check_ints(ctx, op, "mapped_slots", mapped_slots, 2, scores->dim));
    g.rows = (size_t)scores->dim[0];
    g.k = (size_t)scores->dim[1];
    g.cols = (size_t)input->dim[1];
    g.mapped = mapped_slots;
    for (size_t i = 0; i < g.rows * g.k; i++) {
        const int64_t from = tern_int_at(mapped_slots, i);
        TERN_REQUIRE(ctx, from >= -1 && from < input->dim[0], TERN_ERR_ARG,
                     "%s: mapped_slots has %" PRId64 " at %zu, expected -1..%" PRId64, op, from, i, input->dim[0] - 1);
    }
    TERN_TRY(tern_check_float_rows(ctx, op, "output", output, input->dtype, scores->dim[0], input->dim[1], NULL, NULL));
    const struct tern_operand operands[] = { { "input", input, false, false },
                                             { "scores", scores, false, false },
                                             { "mapped_slots", mapped_slots, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));
    if (g.rows == 0 || g.cols == 0)
        return TERN_OK;

    g.scores = scores->data;
    TERN_TRY(TERN_ALLOC(ctx, tern_mul_or_max(2 * g.cols, (size_t)tern_ctx_threads(ctx)), "rows in fp32", &g.scratch));
    const tern_status status = tern_region(ctx, gather_region, &g);
    tern_free(g.scratch);
    return status;
}

/* ---- by name ---- */

static tern_status run_top_k_gating(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                    const tern_op_call *call)
{
    (void)config;
    return tern_top_k_gating(ctx, io[0], call->params->k, io[1], io[2], io[3], io[4], io[5]);
}

/* The tokens are all leading axes of logits. */
static tern_status infer_top_k_gating(tern_ctx *ctx, const tern_config *config, const tern_op_params *params,
                                      tern_tensor *const *io, tern_tensor *found)
{
    int64_t tokens = 1;

    (void)config;
    for (int i = 0; i + 1 < io[0]->rank; i++)
        TERN_REQUIRE(ctx, !__builtin_mul_overflow(tokens, io[0]->dim[i], &tokens), TERN_ERR_SHAPE,
                     "top_k_gating: logits is %s, more rows than there can be", tern_dims_text(io[0]).text);
    for (int i = 2; i < 5; i++)
        found[i] = tern_tensor_view(NULL, found[i].dtype, 2, (int64_t[]){ tokens, params->k });
    return TERN_OK;
}

const struct tern_op_row tern_row_top_k_gating = {
    .name = "top_k_gating",
    .formula = "softmax over the experts, the k largest of each token, slots in order of (token, choice)",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .params = "k",
    .kernels = "softmax_f32",
    .function = true,
    .run = run_top_k_gating,
    .infer = infer_top_k_gating,
    .io = { TERN_IN("logits", "[.., X]"),
            { .name = "padding", .shape = "[T]", .type = TERN_OP_BOOL, .optional = true },
            TERN_OUT_TYPED("scores", "[T, k]", TERN_OP_FP32),
            TERN_OUT_TYPED("experts", "[T, k]", TERN_OP_INTS),
            TERN_OUT_TYPED("slots", "[T, k]", TERN_OP_INTS),
            TERN_OUT_TYPED("counts", "[X]", TERN_OP_INTS) },
};

static tern_status run_moe_scatter(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                   const tern_op_call *call)
{
    (void)config;
    (void)call;
    return tern_moe_scatter(ctx, io[0], io[1], io[2], io[3], io[4], io[5], io[6]);
}

/* As many rows as there are choices: counts, whose sum is enough, are not looked at here. */
static tern_status infer_moe_scatter(tern_ctx *ctx, const tern_config *config, const tern_op_params *params,
                                     tern_tensor *const *io, tern_tensor *found)
{
    int64_t choices;

    (void)config;
    (void)params;
    TERN_REQUIRE(ctx, !__builtin_mul_overflow(io[1]->dim[0], io[1]->dim[1], &choices), TERN_ERR_SHAPE,
                 "moe_scatter: experts is %s, more choices than there can be", tern_dims_text(io[1]).text);
    found[4] = tern_tensor_view(NULL, found[4].dtype, 2, (int64_t[]){ choices, io[0]->dim[io[0]->rank - 1] });
    return TERN_OK;
}

const struct tern_op_row tern_row_moe_scatter = {
    .name = "moe_scatter",
    .formula = "output[row_ends[e - 1] + slot] = input[t] for each choice (e, slot) of token t",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .kernels = "",
    .function = true,
    .run = run_moe_scatter,
    .infer = infer_moe_scatter,
    .io = { TERN_IN("input", "[.., H]"), TERN_INTS("experts", "[T, k]"), TERN_INTS("slots", "[T, k]"),
            TERN_INTS("counts", "[X]"), TERN_OUT("output", "[R, H]"),
            TERN_OUT_TYPED("mapped_slots", "[T, k]", TERN_OP_INTS), TERN_OUT_TYPED("row_ends", "[X]", TERN_OP_INT64) },
};

static tern_status run_moe_gather(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                  const tern_op_call *call)
{
    (void)config;
    return tern_moe_gather(ctx, io[0], io[1], io[2], call->params->normalise, io[3]);
}

const struct tern_op_row tern_row_moe_gather = {
    .name = "moe_gather",
    .formula = "output[t] = sum over j of scores[t, j] input[mapped_slots[t, j]]",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .params = "normalise",
    .kernels = "axpy_f32",
    .function = true,
    .run = run_moe_gather,
    .io = { TERN_IN("input", "[R, H]"),
            { .name = "scores", .shape = "[T, k]", .type = TERN_OP_FP32 },
            TERN_INTS("mapped_slots", "[T, k]"),
            TERN_OUT("output", "[T, H]") },
};
