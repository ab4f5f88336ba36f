/* widen.c: fp32 arithmetic on rows and matrices that are stored in fp32, fp16 or bf16. */
#include "ops/widen.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- checks ---- */

static bool is_float(tern_dtype dtype)
{
    return dtype == TERN_FP32 || dtype == TERN_FP16 || dtype == TERN_BF16;
}

tern_status tern_check_float(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t, tern_dtype dtype,
                             bool or_fp32)
{
    TERN_REQUIRE(ctx, ctx, TERN_ERR_ARG, "%s: ctx is NULL", op);
    if (t && dtype == TERN_ANY_FLOAT) {
        TERN_REQUIRE(ctx, is_float(t->dtype), TERN_ERR_DTYPE, "%s: %s is %s, expected fp32, fp16 or bf16", op, name,
                     tern_dtype_name(t->dtype));
        dtype = t->dtype;
    }
    if (t && or_fp32 && t->dtype == TERN_FP32)
        dtype = TERN_FP32;
    return tern_check_tensor(ctx, op, name, t, dtype);
}

size_t tern_elements(const tern_tensor *t)
{
    size_t n = 1;

    for (int i = 0; i < t->rank; i++)
        if (t->dim[i] == 0)
            return 0;
    for (int i = 0; i < t->rank; i++)
        n *= (size_t)t->dim[i];
    return n;
}

tern_status tern_check_float_rows(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t,
                                  tern_dtype dtype, int64_t rows, int64_t cols, size_t *found_rows, size_t *found_cols)
{
    int64_t n = 1;

    TERN_TRY(tern_check_float(ctx, op, name, t, dtype, false));
    TERN_REQUIRE(ctx, t->rank >= 1, TERN_ERR_SHAPE, "%s: %s has rank 0, expected at least one axis", op, name);
    for (int i = 0; i + 1 < t->rank; i++)
        n = t->dim[i] == 0 ? 0 : n;
    for (int i = 0; n > 0 && i + 1 < t->rank; i++)
        n *= t->dim[i]; /* the tensor check has seen that this fits */

    const int64_t found = t->dim[t->rank - 1];
    TERN_REQUIRE(ctx, cols < 0 || found == cols, TERN_ERR_SHAPE,
                 "%s: %s is %s, rows of %" PRId64 " values, expected rows of %" PRId64, op, name,
                 tern_dims_text(t).text, found, cols);
    TERN_REQUIRE(ctx, rows < 0 || n == rows, TERN_ERR_SHAPE,
                 "%s: %s is %s, %" PRId64 " rows, expected %" PRId64 " rows", op, name, tern_dims_text(t).text, n,
                 rows);
    if (found_rows)
        *found_rows = (size_t)n;
    if (found_cols)
        *found_cols = (size_t)found;
    return TERN_OK;
}

tern_status tern_check_float_vector(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t,
                                    tern_dtype dtype, int64_t n, bool optional)
{
    if (optional && !tern_given(t))
        return TERN_OK;
    TERN_TRY(tern_check_float(ctx, op, name, t, dtype, true));
    return tern_check_dims(ctx, op, name, t, 1, &n);
}

tern_status tern_check_dims(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t, int rank,
                            const int64_t *dim)
{
    char want[TERN_MAX_RANK * 22 + 4] = "[";
    bool same = t->rank == rank;
    size_t used = 1;

    for (int i = 0; i < rank && same; i++)
        same = dim[i] < 0 || t->dim[i] == dim[i];
    if (same)
        return TERN_OK;
    for (int i = 0; i < rank; i++) {
        const char *between = i ? ", " : "";
        used += (size_t)(dim[i] < 0 ? snprintf(want + used, sizeof want - used, "%sany", between)
                                    : snprintf(want + used, sizeof want - used, "%s%" PRId64, between, dim[i]));
    }
    return tern_fail(ctx, TERN_ERR_SHAPE, "%s: %s is %s, expected %s]", op, name, tern_dims_text(t).text, want);
}

tern_status tern_check_ints(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t, int rank,
                            const int64_t *dim)
{
    TERN_REQUIRE(ctx, ctx, TERN_ERR_ARG, "%s: ctx is NULL", op);
    TERN_REQUIRE(ctx, !t || t->dtype == TERN_INT32 || t->dtype == TERN_INT64, TERN_ERR_DTYPE,
                 "%s: %s is %s, expected int32 or int64", op, name, tern_dtype_name(t->dtype));
    TERN_TRY(tern_check_tensor(ctx, op, name, t, t ? t->dtype : TERN_INT32));
    return rank < 0 ? TERN_OK : tern_check_dims(ctx, op, name, t, rank, dim);
}

tern_status tern_check_int32(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t, int rank,
                             const int64_t *dim)
{
    TERN_TRY(tern_check_tensor(ctx, op, name, t, TERN_INT32));
    return tern_check_dims(ctx, op, name, t, rank, dim);
}

tern_status tern_check_eps(tern_ctx *ctx, const char *op, float eps)
{
    TERN_REQUIRE(ctx, isfinite(eps) && eps >= 0, TERN_ERR_ARG, "%s: eps is %g, expected a finite number, 0 or more", op,
                 (double)eps);
    return TERN_OK;
}

/* ---- widening and narrowing ---- */

void tern_wide_load(const struct tern_kernels *kernels, float *to, const void *data, tern_dtype dtype, size_t at,
                    size_t n)
{
    const void *from = tern_at(data, dtype, at);

    if (dtype == TERN_FP16)
        kernels->f32_from_f16(to, from, n);
    else if (dtype == TERN_BF16)
        kernels->f32_from_bf16(to, from, n);
    else if (n)
        memcpy(to, from, n * sizeof *to);
}

void tern_wide_store(const struct tern_kernels *kernels, void *data, tern_dtype dtype, size_t at, const float *from,
                     size_t n)
{
    void *to = (char *)data + at * tern_dtype_size(dtype);

    if (dtype == TERN_FP16)
        kernels->f16_from_f32(to, from, n);
    else if (dtype == TERN_BF16)
        kernels->bf16_from_f32(to, from, n);
    else if (n)
        memcpy(to, from, n * sizeof *from);
}

tern_status tern_widen_tensor(tern_ctx *ctx, const tern_tensor *t, float **owned, const float **out)
{
    *owned = NULL;
    *out = tern_given(t) ? t->data : NULL;
    if (!tern_given(t) || t->dtype == TERN_FP32)
        return TERN_OK;
    const size_t n = tern_elements(t);
    TERN_TRY(TERN_ALLOC(ctx, n, "a widened tensor", owned));
    tern_widen(ctx->kernels, *owned, t->data, t->dtype, n);
    *out = *owned;
    return TERN_OK;
}

/* n floats, rounded up to whole cache lines; SIZE_MAX stays. */
static size_t round_up(size_t n)
{
    return n > SIZE_MAX - 15 ? SIZE_MAX : (n + 15) / 16 * 16;
}

/* ---- rows ---- */

/* Fewest bytes between the row that is worked on and the one that is prefetched: rows of 3 KiB are 1.6 times as fast with the one
 * three rows on as with the next one. */
#define ROWS_AHEAD ((size_t)8 << 10)

struct rows {
    const struct tern_row_call *call;
    const struct tern_kernels *kernels;
    void *work;
    size_t width; /* numbers of a thread's work */
    size_t ahead; /* rows between the one that is worked on and the one that is prefetched */
    bool stream;  /* out[0] */
};

static size_t row_length(const struct tern_row_operand *o, size_t row)
{
    return o->total && o->total - row * o->n < o->n ? o->total - row * o->n : o->n;
}

/* Row `index` of those of a thread, which end before `end`. */
static struct tern_row row_at(const struct rows *r, float *work, struct tern_row_rest *rest, size_t index, size_t end)
{
    const struct tern_row_call *c = r->call;
    struct tern_row row = {
        .kernels = r->kernels,
        .dtype = c->in[0].dtype,
        .index = index,
        .n = row_length(&c->in[0], index),
        .flow = { .stream = r->stream, .work = work, .rest = r->stream ? rest : NULL },
    };

    for (size_t i = 0; i < TERN_ROW_INPUTS; i++)
        if (c->in[i].data)
            row.in[i] = tern_at(c->in[i].data, c->in[i].dtype, index * c->in[i].n);
    for (size_t i = 0; i < TERN_ROW_OUTPUTS; i++)
        if (c->out[i].data)
            row.out[i] = (char *)c->out[i].data + index * c->out[i].n * tern_dtype_size(c->out[i].dtype);

    /* Beside plain stores prefetching only gets in the way of theirs: norms of 768 bf16 at 15 instead of 19 GB/s. */
    const size_t ahead = index + r->ahead;
    if (r->stream && ahead < end) {
        row.flow.ahead[0] = tern_at(c->in[0].data, row.dtype, ahead * c->in[0].n);
        row.flow.ahead_bytes = row_length(&c->in[0], ahead) * tern_dtype_size(row.dtype);
        if (c->in[1].data && c->in[1].n == c->in[0].n && c->in[1].dtype == row.dtype)
            row.flow.ahead[1] = tern_at(c->in[1].data, row.dtype, ahead * c->in[0].n);
    }
    return row;
}

static void rows_region(void *arg, const struct tern_par *par)
{
    const struct rows *r = arg;
    struct tern_row_rest rest = { 0 };
    size_t index, end;

    tern_share(par, r->call->n_rows, 1, &index, &end);
    for (; index < end; index++) {
        rest.more = index + 1 < end;
        const struct tern_row row = row_at(r, (float *)r->work + r->width * (size_t)par->thread, &rest, index, end);
        r->call->fn(r->call->arg, &row);
    }
    tern_stream_end();
}

/* An output that is an input is in the cache already, so that it is not streamed. */
tern_status tern_rows_run(tern_ctx *ctx, const struct tern_row_call *call)
{
    const size_t threads = (size_t)tern_ctx_threads(ctx);
    const struct tern_row_operand *out = &call->out[0];
    const size_t written = (out->total ? out->total : out->n * call->n_rows) * tern_dtype_size(out->dtype);
    const size_t row_bytes = call->in[0].n * tern_dtype_size(call->in[0].dtype);
    struct rows r = { .call = call, .kernels = call->kernels ? call->kernels : ctx->kernels, .width = out->n };
    size_t bytes;

    if (call->n_rows == 0)
        return TERN_OK;
    r.stream = written / threads > r.kernels->cache_bytes;
    for (size_t i = 0; i < TERN_ROW_INPUTS; i++) {
        r.stream = r.stream && out->data != call->in[i].data;
        r.width = call->in[i].data && call->in[i].n > r.width ? call->in[i].n : r.width;
    }
    r.ahead = row_bytes ? (ROWS_AHEAD + row_bytes - 1) / row_bytes : 1;
    r.width = round_up(r.width);
    bytes = tern_mul_or_max(tern_mul_or_max(r.width, threads), sizeof(float));
    TERN_TRY(tern_scratch_take(ctx, bytes, "a row in fp32", &r.work));
    const tern_status status = tern_region(ctx, rows_region, &r);
    tern_scratch_give(ctx, r.work, bytes);
    return status;
}

/* ---- products ---- */

void tern_wide_pack(const struct tern_kernels *kernels, float *panel, const void *b, tern_dtype dtype, size_t b_row,
                    size_t b_col, size_t k, size_t n)
{
    if (dtype == TERN_FP16)
        kernels->pack_f16(panel, b, b_row, b_col, k, n);
    else if (dtype == TERN_BF16)
        kernels->pack_bf16(panel, b, b_row, b_col, k, n);
    else
        kernels->pack_f32(panel, b, b_row, b_col, k, n);
}

/* Rows that share a panel while it is in the cache: one item of work. */
#define CHUNK_ROWS ((size_t)8 * TERN_TILE_ROWS)

struct product {
    const struct tern_wide_gemm *g;
    const float *a; /* [n_a * m][k] in fp32, or A itself */
    float *wide;    /* the copy of A, or NULL */
    size_t n_a;     /* batches that have an A of their own */
    float *panels;  /* [threads][k * 32] */
    size_t panel_floats;
};

static size_t batch_offset(const struct tern_wide_gemm *g, const size_t *stride, size_t batch)
{
    return batch / g->batches[1] * stride[0] + batch % g->batches[1] * stride[1];
}

/* A in fp32, rows dense.  A transposed or strided one is turned in blocks of 32 columns by the packing kernel. */
static void widen_a(const struct tern_par *par, const struct product *p)
{
    const struct tern_wide_gemm *g = p->g;
    _Alignas(64) float block[TERN_TILE_ROWS * TERN_PANEL];
    size_t row, end;

    tern_share(par, p->n_a * g->m, TERN_TILE_ROWS, &row, &end);
    while (row < end) {
        const size_t batch = row / g->m, r = row % g->m;
        size_t rows = TERN_TILE_ROWS;
        rows = rows > end - row ? end - row : rows;
        rows = rows > g->m - r ? g->m - r : rows;
        const void *from = tern_at(g->a, g->dtype, batch_offset(g, g->a_batch, batch) + r * g->a_row);
        if (g->a_col == 1) {
            for (size_t i = 0; i < rows; i++)
                tern_wide_load(par->kernels, p->wide + (row + i) * g->k, from, g->dtype, i * g->a_row, g->k);
        } else {
            for (size_t k = 0; k < g->k; k += TERN_PANEL) {
                const size_t n = g->k - k < TERN_PANEL ? g->k - k : TERN_PANEL;
                tern_wide_pack(par->kernels, block, tern_at(from, g->dtype, k * g->a_col), g->dtype, g->a_row, g->a_col,
                               rows, n);
                for (size_t i = 0; i < rows; i++)
                    memcpy(p->wide + (row + i) * g->k + k, block + i * TERN_PANEL, n * sizeof *block);
            }
        }
        row += rows;
    }
    tern_barrier(par);
}

/* Rows [row, row + rows) of a batch times one panel, through scale and epilogue to C. */
static void product_tile(const struct tern_kernels *kernels, const struct product *p, size_t batch, size_t row,
                         size_t rows, size_t col, const float *panel)
{
    const struct tern_wide_gemm *g = p->g;
    const size_t n = g->n - col < TERN_PANEL ? g->n - col : TERN_PANEL;
    const struct tern_epilogue e = {
        .bias = g->bias ? g->bias + batch / g->batches[1] * g->bias_batch + col : NULL,
        .act = g->act,
    };
    const size_t from =
        p->wide ? ((p->n_a > 1 ? batch * g->m : 0) + row) * g->k : batch_offset(g, g->a_batch, batch) + row * g->a_row;
    _Alignas(64) float tile[TERN_TILE_ROWS * TERN_PANEL], done[TERN_TILE_ROWS * TERN_PANEL];

    kernels->gemm_f32(tile, TERN_PANEL, p->a + from, p->wide ? g->k : g->a_row, panel, g->k, rows, false, NULL);
    if (g->scaled)
        for (size_t i = 0; i < rows * TERN_PANEL; i++)
            tile[i] *= g->scale;
    kernels->epilogue_f32(done, TERN_PANEL, tile, &e, 0, 0, rows, n);
    for (size_t i = 0; i < rows; i++) {
        if (g->causal)
            for (size_t j = 0; j < n; j++)
                if (col + j > row + i)
                    done[i * TERN_PANEL + j] = -INFINITY;
        tern_wide_store(kernels, g->c, g->dtype, batch_offset(g, g->c_batch, batch) + (row + i) * g->c_row + col,
                        done + i * TERN_PANEL, n);
    }
}

static void product_region(void *arg, const struct tern_par *par)
{
    const struct product *p = arg;
    const struct tern_wide_gemm *g = p->g;
    const size_t n_panels = (g->n + TERN_PANEL - 1) / TERN_PANEL, n_chunks = (g->m + CHUNK_ROWS - 1) / CHUNK_ROWS;
    float *panel = p->panels + p->panel_floats * (size_t)par->thread;
    size_t item, end, packed = SIZE_MAX;

    if (p->wide)
        widen_a(par, p);
    tern_share(par, g->batches[0] * g->batches[1] * n_panels * n_chunks, 1, &item, &end);
    for (; item < end; item++) {
        const size_t which = item / n_chunks, batch = which / n_panels, col = which % n_panels * TERN_PANEL;
        size_t row = item % n_chunks * CHUNK_ROWS, row_end = g->m;
        if (g->row_ends) {
            row += batch ? (size_t)g->row_ends[batch - 1] : 0;
            row_end = (size_t)g->row_ends[batch];
        }
        row_end = row_end > row + CHUNK_ROWS ? row + CHUNK_ROWS : row_end;
        if (row >= row_end)
            continue;
        if (packed != which) {
            tern_wide_pack(par->kernels, panel,
                           tern_at(g->b, g->b_dtype, batch_offset(g, g->b_batch, batch) + col * g->b_col), g->b_dtype,
                           g->b_row, g->b_col, g->k, g->n - col < TERN_PANEL ? g->n - col : TERN_PANEL);
            packed = which;
        }
        for (; row < row_end; row += TERN_TILE_ROWS)
            product_tile(par->kernels, p, batch, row, row_end - row < TERN_TILE_ROWS ? row_end - row : TERN_TILE_ROWS,
                         col, panel);
    }
}

tern_status tern_wide_gemm(tern_ctx *ctx, const struct tern_wide_gemm *g)
{
    const size_t batches = g->batches[0] * g->batches[1];
    struct product p = { .g = g, .a = g->a, .n_a = g->row_ends ? 1 : batches };
    tern_status status;

    if (batches == 0 || g->m == 0 || g->n == 0)
        return TERN_OK;
    p.panel_floats = round_up(tern_mul_or_max(g->k, TERN_PANEL));
    TERN_TRY(TERN_ALLOC(ctx, tern_mul_or_max(p.panel_floats, (size_t)tern_ctx_threads(ctx)), "panels of a matrix",
                        &p.panels));
    if (g->dtype != TERN_FP32 || g->a_col != 1) {
        TERN_TRY_OR_FAIL(
            TERN_ALLOC(ctx, tern_mul_or_max(tern_mul_or_max(p.n_a, g->m), g->k), "a matrix in fp32", &p.wide));
        p.a = p.wide;
    }
    status = tern_region(ctx, product_region, &p);
fail:
    tern_free(p.wide);
    tern_free(p.panels);
    return status;
}

/* ---- activations ---- */

tern_status tern_activation_parse(tern_ctx *ctx, const char *op, const char *name, const char *const *known,
                                  enum tern_act *act)
{
    static const struct {
        const char *name;
        enum tern_act act;
    } all[] = {
        { "", TERN_ACT_NONE },         { "relu", TERN_ACT_RELU },           { "leaky_relu", TERN_ACT_LEAKY_RELU },
        { "gelu", TERN_ACT_GELU_ERF }, { "gelu_tanh", TERN_ACT_GELU_TANH }, { "gelu_sigmoid", TERN_ACT_GELU_SIGMOID },
        { "silu", TERN_ACT_SILU },     { "sigmoid", TERN_ACT_SIGMOID },
    };
    char list[160];
    size_t used = 0;

    TERN_REQUIRE(ctx, name, TERN_ERR_ARG, "%s: activation is NULL, expected a name", op);
    for (const char *const *k = known; *k; k++) {
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
            if (strcmp(name, *k) == 0 && strcmp(name, all[i].name) == 0) {
                *act = all[i].act;
                return TERN_OK;
            }
        used += (size_t)snprintf(list + used, sizeof list - used, "%s\"%s\"", used ? ", " : "", *k);
    }
    return tern_fail(ctx, TERN_ERR_ARG, "%s: activation is \"%s\", expected one of %s", op, name, list);
}

const char *tern_gelu_named(const char *name, tern_gelu_form form)
{
    if (!name || strcmp(name, "gelu") != 0)
        return name;
    return form == TERN_GELU_TANH ? "gelu_tanh" : form == TERN_GELU_SIGMOID ? "gelu_sigmoid" : "gelu";
}
