/* fn_rows.c: functions that move rows: rotary, padded heads, embedding, last rows. */
#include "ops/op_table.h"
#include "ops/rotary.h"
#include "ops/widen.h"

#include <tern/function.h>

#include <math.h>
#include <string.h>

/* ---- rotary ---- */

struct rotary {
    const tern_tensor *positions;
    double frequency[TERN_ROTARY_MAX];
    size_t head_dim;
    int32_t rotary_dim;
    bool every_two;
};

static void rotary_row(const void *arg, const struct tern_row *row)
{
    const struct rotary *r = arg;
    const size_t size = tern_dtype_size(row->dtype), turned = (size_t)r->rotary_dim;
    float cosine[TERN_ROTARY_MAX], sine[TERN_ROTARY_MAX];

    row->kernels->rotary_angles(cosine, sine, r->frequency, turned / 2, (double)tern_int_at(r->positions, row->index));
    TERN_ROW_KERNEL(
        row->kernels, row->dtype, rotary,
        (row->out[0], row->in[0], cosine, sine, turned, r->every_two, row->n / r->head_dim, r->head_dim, &row->flow));
    for (size_t i = turned; row->out[0] != row->in[0] && turned < r->head_dim && i < row->n; i += r->head_dim)
        memcpy((char *)row->out[0] + i * size, (const char *)row->in[0] + i * size, (r->head_dim - turned) * size);
}

tern_status tern_rotary(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *positions, int32_t rotary_dim,
                        float theta, bool rotate_every_two, tern_tensor *output)
{
    static const char op[] = "rotary";
    struct rotary r = { .positions = positions, .rotary_dim = rotary_dim, .every_two = rotate_every_two };
    size_t head_rows, rows;

    TERN_TRY(tern_check_float_rows(ctx, op, "input", input, TERN_ANY_FLOAT, -1, -1, &head_rows, &r.head_dim));
    TERN_REQUIRE(ctx, input->rank >= 2, TERN_ERR_SHAPE, "%s: input is %s, expected [.., heads, head size]", op,
                 tern_dims_text(input).text);
    const size_t heads = (size_t)input->dim[input->rank - 2];
    const int64_t most =
        input->dim[input->rank - 1] < 2 * TERN_ROTARY_MAX ? input->dim[input->rank - 1] : 2 * TERN_ROTARY_MAX;
    TERN_REQUIRE(ctx, rotary_dim >= 2 && rotary_dim % 2 == 0 && rotary_dim <= most, TERN_ERR_ARG,
                 "%s: rotary_dim is %" PRId32 ", expected an even number, 2..%" PRId64, op, rotary_dim, most);
    TERN_REQUIRE(ctx, isfinite(theta) && theta > 1, TERN_ERR_ARG, "%s: theta is %g, expected a finite number above 1",
                 op, (double)theta);
    TERN_TRY(tern_check_ints(ctx, op, "position_ids", positions, -1, NULL));
    rows = tern_elements(positions);
    TERN_REQUIRE(ctx, heads == 0 || rows == head_rows / heads, TERN_ERR_SHAPE,
                 "%s: position_ids is %s, expected one for each of %zu rows", op, tern_dims_text(positions).text,
                 heads ? head_rows / heads : 0);
    for (size_t i = 0; i < rows; i++)
        TERN_REQUIRE(ctx, tern_int_at(positions, i) >= 0, TERN_ERR_ARG,
                     "%s: position_ids[%zu] is %" PRId64 ", expected 0 or more", op, i, tern_int_at(positions, i));
    TERN_TRY(tern_check_float(ctx, op, "output", output, input->dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "output", output, input->rank, input->dim));
    const struct tern_operand operands[] = { { "input", input, false, true },
                                             { "position_ids", positions, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));
    if (head_rows == 0)
        return TERN_OK;

    tern_rotary_frequencies(r.frequency, rotary_dim, theta);
    const struct tern_row_call call = {
        .in = { { input->data, input->dtype, heads * r.head_dim, 0 } },
        .out = { { output->data, input->dtype, heads * r.head_dim, 0 } },
        .n_rows = rows,
        .fn = rotary_row,
        .arg = &r,
    };
    return tern_rows_run(ctx, &call);
}

/* ---- padded heads ---- */

int64_t tern_pad_head_size(int64_t head_size)
{
    if (head_size % 64 == 0 || head_size > 128)
        return head_size;
    return head_size < 32 ? 32 : head_size < 64 ? 64 : 128;
}

struct pad {
    struct {
        const char *from;
        char *to;
        size_t rows, rows_out, head_dim, head_dim_out;
    } part[3];
    size_t n_parts, batch, heads, size; /* bytes of an element */
};

static void pad_region(void *arg, const struct tern_par *par)
{
    const struct pad *p = arg;

    for (size_t i = 0; i < p->n_parts; i++) {
        const size_t rows = p->part[i].rows, rows_out = p->part[i].rows_out;
        const size_t bytes = p->part[i].head_dim * p->size, bytes_out = p->part[i].head_dim_out * p->size;
        size_t row, end;

        tern_share(par, bytes_out ? p->batch * p->heads * rows_out : 0, 1, &row, &end);
        for (; row < end; row++) {
            const size_t s = row % rows_out, head = row / rows_out % p->heads, b = row / rows_out / p->heads;
            const size_t used = s < rows ? bytes : 0;
            char *to = p->part[i].to + row * bytes_out;
            if (used)
                memcpy(to, p->part[i].from + ((b * rows + s) * p->heads + head) * bytes, used);
            memset(to + used, 0, bytes_out - used);
        }
    }
}

tern_status tern_pad_transform(tern_ctx *ctx, const tern_tensor *query, const tern_tensor *key,
                               const tern_tensor *value, int32_t heads, tern_tensor *query_output,
                               tern_tensor *key_output, tern_tensor *value_output)
{
    static const char op[] = "pad_transform";
    static const char *const names[] = { "query", "key", "value" };
    static const char *const output_names[] = { "query_output", "key_output", "value_output" };
    const tern_tensor *const from[] = { query, key, value };
    tern_tensor *const to[] = { query_output, key_output, value_output };
    struct tern_operand operands[6];
    struct pad p = { .heads = (size_t)heads };

    TERN_REQUIRE(ctx, heads >= 1, TERN_ERR_ARG, "%s: num_heads is %" PRId32 ", expected 1 or more", op, heads);
    for (int i = 0; i < 3; i++) {
        operands[2 * i] = (struct tern_operand){ names[i], from[i], false, false };
        operands[2 * i + 1] = (struct tern_operand){ output_names[i], to[i], true, false };
        if (i > 0 && !tern_given(from[i]) && !tern_given(to[i]))
            continue;
        TERN_TRY(tern_check_float(ctx, op, names[i], from[i], i ? query->dtype : TERN_ANY_FLOAT, false));
        TERN_TRY(tern_check_dims(ctx, op, names[i], from[i], 3, (int64_t[]){ i ? query->dim[0] : -1, -1, -1 }));
        TERN_REQUIRE(ctx, from[i]->dim[2] % heads == 0, TERN_ERR_SHAPE,
                     "%s: %s is %s, expected rows of %" PRId32 " heads", op, names[i], tern_dims_text(from[i]).text,
                     heads);
        const int64_t head_dim = from[i]->dim[2] / heads;
        TERN_TRY(tern_check_float(ctx, op, output_names[i], to[i], query->dtype, false));
        TERN_TRY(tern_check_dims(ctx, op, output_names[i], to[i], 4, (int64_t[]){ query->dim[0], heads, -1, -1 }));
        TERN_REQUIRE(ctx, to[i]->dim[2] >= from[i]->dim[1] && to[i]->dim[3] >= head_dim, TERN_ERR_SHAPE,
                     "%s: %s is %s, expected at least %" PRId64 " rows of at least %" PRId64 " values", op,
                     output_names[i], tern_dims_text(to[i]).text, from[i]->dim[1], head_dim);
        p.part[p.n_parts].from = from[i]->data;
        p.part[p.n_parts].to = to[i]->data;
        p.part[p.n_parts].rows = (size_t)from[i]->dim[1];
        p.part[p.n_parts].rows_out = (size_t)to[i]->dim[2];
        p.part[p.n_parts].head_dim = (size_t)head_dim;
        p.part[p.n_parts++].head_dim_out = (size_t)to[i]->dim[3];
    }
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));
    p.batch = (size_t)query->dim[0];
    p.size = tern_dtype_size(query->dtype);
    return tern_region(ctx, pad_region, &p);
}

/* ---- embedding ---- */

struct embedding {
    const tern_tensor *ids, *table, *position_table, *position_ids;
    int64_t offset;
    tern_tensor *output;
    size_t rows, cols;
};

static void embedding_region(void *arg, const struct tern_par *par)
{
    const struct embedding *m = arg;
    const tern_dtype dtype = m->table->dtype;
    const size_t n = m->cols, bytes = n * tern_dtype_size(dtype);
    size_t row, end;

    tern_share(par, m->rows, 1, &row, &end);
    for (; row < end; row++) {
        const size_t id = (size_t)tern_int_at(m->ids, row);
        if (!m->position_table) {
            memcpy((char *)m->output->data + row * bytes, (const char *)m->table->data + id * bytes, bytes);
            continue;
        }
        const size_t position = (size_t)(tern_int_at(m->position_ids, row) + m->offset);
        TERN_ROW_KERNEL(par->kernels, dtype, axpy, /* times 1 is exact */
                        ((void *)((char *)m->output->data + row * bytes), tern_at(m->table->data, dtype, id * n),
                         tern_at(m->position_table->data, dtype, position * n), 1, n, NULL));
    }
}

tern_status tern_embedding(tern_ctx *ctx, const tern_tensor *ids, const tern_tensor *table,
                           const tern_tensor *position_table, const tern_tensor *position_ids, int64_t offset,
                           tern_tensor *output)
{
    static const char op[] = "embedding";
    static const int64_t any[] = { -1, -1 };
    const bool positions = tern_given(position_table);
    struct embedding m = { .ids = ids,
                           .table = table,
                           .position_table = positions ? position_table : NULL,
                           .position_ids = position_ids,
                           .offset = offset,
                           .output = output };

    TERN_TRY(tern_check_ints(ctx, op, "ids", ids, -1, NULL));
    TERN_TRY(tern_check_float(ctx, op, "table", table, TERN_ANY_FLOAT, false));
    TERN_TRY(tern_check_dims(ctx, op, "table", table, 2, any));
    m.rows = tern_elements(ids);
    m.cols = (size_t)table->dim[1];
    for (size_t i = 0; i < m.rows; i++) {
        const int64_t id = tern_int_at(ids, i);
        TERN_REQUIRE(ctx, id >= 0 && id < table->dim[0], TERN_ERR_ARG,
                     "%s: ids[%zu] is %" PRId64 ", expected 0..%" PRId64 " as table has %" PRId64 " rows", op, i, id,
                     table->dim[0] - 1, table->dim[0]);
    }
    if (positions) {
        TERN_TRY(tern_check_float(ctx, op, "position_table", position_table, table->dtype, false));
        TERN_TRY(tern_check_dims(ctx, op, "position_table", position_table, 2, (int64_t[]){ -1, table->dim[1] }));
        TERN_TRY(tern_check_ints(ctx, op, "position_ids", position_ids, -1, NULL));
        TERN_REQUIRE(ctx, tern_elements(position_ids) == m.rows, TERN_ERR_SHAPE,
                     "%s: position_ids is %s, expected %zu as ids is", op, tern_dims_text(position_ids).text, m.rows);
        for (size_t i = 0; i < m.rows; i++) {
            int64_t at;
            const bool fits = !__builtin_add_overflow(tern_int_at(position_ids, i), offset, &at) && at >= 0 &&
                              at < position_table->dim[0];
            TERN_REQUIRE(ctx, fits, TERN_ERR_ARG,
                         "%s: position_ids[%zu] is %" PRId64 " and offset %" PRId64 ", expected a sum of 0..%" PRId64
                         " as position_table has %" PRId64 " rows",
                         op, i, tern_int_at(position_ids, i), offset, position_table->dim[0] - 1,
                         position_table->dim[0]);
        }
    }
    TERN_TRY(
        tern_check_float_rows(ctx, op, "output", output, table->dtype, (int64_t)m.rows, table->dim[1], NULL, NULL));
    const struct tern_operand operands[] = { { "ids", ids, false, false },
                                             { "table", table, false, false },
                                             { "position_table", position_table, false, false },
                                             { "position_ids", positions ? position_ids : NULL, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));
    if (m.rows == 0 || m.cols == 0)
        return TERN_OK;

    return tern_region(ctx, embedding_region, &m);
}

/* ---- last rows ---- */

tern_status tern_logits_gather(tern_ctx *ctx, const tern_tensor *input, const tern_tensor *lengths, tern_tensor *output)
{
    static const char op[] = "logits_gather";
    size_t rows, cols, at = 0;

    TERN_TRY(tern_check_float_rows(ctx, op, "input", input, TERN_ANY_FLOAT, -1, -1, &rows, &cols));
    TERN_TRY(tern_check_ints(ctx, op, "lengths", lengths, 1, &(int64_t){ -1 }));
    const size_t n = (size_t)lengths->dim[0], bytes = cols * tern_dtype_size(input->dtype);
    for (size_t i = 0; i < n; i++) {
        const int64_t length = tern_int_at(lengths, i);
        TERN_REQUIRE(ctx, length >= 1 && (uint64_t)length <= rows - at, TERN_ERR_ARG,
                     "%s: lengths[%zu] is %" PRId64 ", expected 1..%zu as %zu of %zu rows are left", op, i, length,
                     rows - at, rows - at, rows);
        at += (size_t)length;
    }
    TERN_TRY(tern_check_float(ctx, op, "output", output, input->dtype, false));
    TERN_TRY(tern_check_dims(ctx, op, "output", output, 2, (int64_t[]){ (int64_t)n, (int64_t)cols }));
    const struct tern_operand operands[] = { { "input", input, false, false },
                                             { "lengths", lengths, false, false },
                                             { "output", output, true, false } };
    TERN_TRY(tern_check_overlaps(ctx, op, operands, sizeof operands / sizeof operands[0]));

    at = 0;
    for (size_t i = 0; i < n && bytes; i++) {
        at += (size_t)tern_int_at(lengths, i);
        memcpy((char *)output->data + i * bytes, (const char *)input->data + (at - 1) * bytes, bytes);
    }
    return TERN_OK;
}

/* ---- by name ---- */

static tern_status run_rotary(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                              const tern_op_call *call)
{
    (void)call;
    return tern_rotary(ctx, io[0], io[1], config->rotary_dim, config->rope_theta, tern_config_neighbours(config),
                       io[2]);
}

const struct tern_op_row tern_row_rotary = {
    .name = "rotary",
    .formula = "pairs of the leading rotary_dim channels turn by position_ids rope_theta^(-2m / rotary_dim)",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .reads = TERN_READS_ROTARY,
    .params = "rotary_dim",
    .kernels = "rotary_",
    .function = true,
    .run = run_rotary,
    .io = { TERN_IN("input", "[.., h, E]"), TERN_INTS("position_ids", "[..]"), TERN_OUT("output", "[.., h, E]") },
};

static tern_status run_pad_transform(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                     const tern_op_call *call)
{
    (void)config;
    return tern_pad_transform(ctx, io[0], io[1], io[2], call->params->num_heads, io[3], io[4], io[5]);
}

/* Without do_flash the sizes stay; with it heads are padded, and rows of keys and values to a multiple of 128. */
static tern_status infer_pad_transform(tern_ctx *ctx, const tern_config *config, const tern_op_params *params,
                                       tern_tensor *const *io, tern_tensor *found)
{
    const int64_t heads = params->num_heads;

    (void)config;
    TERN_REQUIRE(ctx, heads >= 1, TERN_ERR_ARG, "pad_transform: num_heads is %" PRId64 ", expected 1 or more", heads);
    for (int i = 0; i < 3; i++) {
        if (!tern_given(io[i]))
            continue;
        const int64_t rows = io[i]->dim[1], head_dim = io[i]->dim[2] / heads;
        const int64_t padded = i && rows % 128 && rows < INT64_MAX - 128 ? (rows / 128 + 1) * 128 : rows;
        found[3 + i] = tern_tensor_view(NULL, found[3 + i].dtype, 4,
                                        (int64_t[]){ io[i]->dim[0], heads, params->do_flash_attn ? padded : rows,
                                                     params->do_flash_attn ? tern_pad_head_size(head_dim) : head_dim });
    }
    return TERN_OK;
}

const struct tern_op_row tern_row_pad_transform = {
    .name = "pad_transform",
    .formula = "heads apart, [B, h, S, E], zero padded",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .params = "num_heads heads=num_heads do_flash=do_flash_attn do_flash_attn",
    .kernels = "",
    .function = true,
    .run = run_pad_transform,
    .infer = infer_pad_transform,
    .io = { TERN_IN_ALSO("query", "[B, S, hE]", "q"),
            { .name = "key", .shape = "[B, Sk, hEk]", .optional = true, .also = "k" },
            { .name = "value", .shape = "[B, Sv, hEv]", .optional = true, .also = "v" },
            TERN_OUT("query_output", "[B, h, S', E']"),
            TERN_OUT_OPTIONAL("key_output", "[B, h, Sk', Ek']"),
            TERN_OUT_OPTIONAL("value_output", "[B, h, Sv', Ev']") },
};

static tern_status run_embedding(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                 const tern_op_call *call)
{
    (void)config;
    return tern_embedding(ctx, io[0], io[1], io[2], io[3], call->params->offset, io[4]);
}

const struct tern_op_row tern_row_embedding = {
    .name = "embedding",
    .formula = "output = table[ids] (+ position_table[position_ids + offset])",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .params = "offset",
    .kernels = "axpy_",
    .function = true,
    .run = run_embedding,
    .io = { TERN_INTS("ids", "[..]"), TERN_IN("table", "[V, H]"), TERN_IN_OPTIONAL("position_table", "[P, H]"),
            TERN_INTS_OPTIONAL("position_ids", "*"), TERN_OUT("output", "[.., H]") },
};

static tern_status run_logits_gather(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                     const tern_op_call *call)
{
    (void)config;
    (void)call;
    return tern_logits_gather(ctx, io[0], io[1], io[2]);
}

const struct tern_op_row tern_row_logits_gather = {
    .name = "logits_gather",
    .formula = "output[i] = the last row of sequence i",
    .dtypes = TERN_ALL_DTYPES,
    .devices = TERN_ON_CPU,
    .kernels = "",
    .function = true,
    .run = run_logits_gather,
    .io = { TERN_IN("input", "[.., H]"), TERN_INTS("lengths", "[n]"), TERN_OUT("output", "[n, H]") },
};
