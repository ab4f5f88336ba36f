/* bench_out.c: what was measured, as a table, as JSON, as CSV. */
#include "bench.h"

#include "cli.h"
#include "json_out.h"
#include "ranks.h"

#include <math.h>
#include <stdlib.h>

/* x / ceiling, or NaN where either is not known. */
static double share(double x, double ceiling)
{
    return ceiling > 0 ? x / ceiling : NAN;
}

static double read_ceiling(const struct bench *b)
{
    return b->ceilings ? b->ceilings->read.team : 0;
}

static void print_rates(const tern_ceilings *c)
{
    const struct {
        const char *name;
        tern_rate rate;
    } rates[] = { { "fp32", c->fp32 }, { "bf16", c->bf16 },   { "int8", c->int8 },
                  { "read", c->read }, { "copied", c->copy }, { "copied past the caches", c->copy_streaming } };

    for (int memory = 0; memory < 2; memory++) {
        printf("%s", memory ? "" : "at best ");
        for (int i = 0; i < 3; i++) {
            const tern_rate r = rates[memory * 3 + i].rate;

            if (memory)
                printf("%.1f (one thread %.1f) %s%s", 1e-9 * r.team, 1e-9 * r.one, rates[3 + i].name,
                       i < 2 ? ", " : " GB/s\n");
            else
                printf("%.0f (one thread %.0f) %s%s", 1e-9 * r.team, 1e-9 * r.one, rates[i].name,
                       i < 2 ? ", " : " GFLOP/s\n");
        }
        if (!memory)
            printf("        ");
        if (!memory && !c->memory_bytes) {
            printf("memory is not measured: there is too little of it\n");
            break;
        }
    }
}

static void print_share(double x)
{
    if (isnan(x))
        printf("      ");
    else
        printf(" %3.0f %%", 100 * x);
}

int bench_print_table(const struct bench *b, tern_ctx *ctx)
{
    const tern_model_config *c = tern_model_get_config(b->model);
    const tern_model_stats s = tern_model_get_stats(b->model);
    const struct bench_plan *p = b->plan;
    const int threads = tern_ctx_threads(ctx);
    char cpu[256];

    cli_cpu_name(cpu, sizeof(cpu));
    printf("%s%s as %s: %d layers of %d, %.1f M weights, %.1f MB, %s in %.2f s\n", b->name,
           b->shape ? " (random weights)" : "", tern_model_dtype_name(c->model_dtype), c->n_layers, c->hidden_size,
           1e-6 * (double)s.n_parameters, 1e-6 * (double)s.packed_bytes, b->shape ? "made" : "loaded", s.load_seconds);
    if (s.weight_bytes_copied < s.file_bytes)
        printf("rank 0 has copied %.1f of the %.1f MB of weights; what follows of memory and arithmetic is its own\n",
               1e-6 * (double)s.weight_bytes_copied, 1e-6 * (double)s.file_bytes);
    printf("%s, %s, %d thread%s (%s), %d sequence%s, %d run%s\n", cpu, tern_ctx_isa(ctx), threads,
           threads == 1 ? "" : "s", ranks_threads_reason(ctx), p->sequences, p->sequences == 1 ? "" : "s", p->runs,
           p->runs == 1 ? "" : "s");
    if (b->ceilings)
        print_rates(b->ceilings);
    printf("\n%-8s %7s %11s %13s %12s %8s %s %9s of %s\n", "", "context", "ms", "spread", "tokens/s", "GB/s",
           b->ceilings ? "of read" : "       ", "GFLOP/s", bench_arithmetic(b));
    for (size_t i = 0; i < b->n_rows; i++) {
        const struct bench_row *row = &b->rows[i];

        printf("%-8s %7d %11.3f %+4.0f %% %+4.0f %% %11.1f %8.2f", bench_what_name(row->what), row->context,
               1e3 * row->median, 100 * (row->min / row->median - 1), 100 * (row->max / row->median - 1),
               bench_tokens_per_s(row), 1e-9 * bench_bytes_per_s(row));
        print_share(share(bench_bytes_per_s(row), read_ceiling(b)));
        printf(" %9.1f", 1e-9 * bench_ops_per_s(row));
        print_share(share(bench_ops_per_s(row), bench_arithmetic_ceiling(b).team));
        putchar('\n');
    }
    return 0;
}

static void out_rate(struct json_out *j, const char *key, tern_rate rate)
{
    out_object_begin(j, key);
    out_number(j, "one_thread", rate.one, 6);
    out_number(j, "all_threads", rate.team, 6);
    out_object_end(j);
}

static void out_ceilings(struct json_out *j, const tern_ceilings *c)
{
    if (!c) {
        out_null(j, "ceilings");
        return;
    }
    out_object_begin(j, "ceilings");
    out_rate(j, "fp32_ops_per_s", c->fp32);
    out_rate(j, "bf16_ops_per_s", c->bf16);
    out_rate(j, "int8_ops_per_s", c->int8);
    out_rate(j, "read_bytes_per_s", c->read);
    out_rate(j, "copy_bytes_per_s", c->copy);
    out_rate(j, "streaming_copy_bytes_per_s", c->copy_streaming);
    out_uint(j, "memory_bytes", c->memory_bytes);
    out_object_end(j);
}

static void out_model(struct json_out *j, const struct bench *b)
{
    const tern_model_config *c = tern_model_get_config(b->model);
    const tern_model_stats s = tern_model_get_stats(b->model);

    out_object_begin(j, "model");
    out_name(j, "name", b->name);
    out_bool(j, "random_weights", b->shape != NULL);
    out_name(j, "dtype", tern_model_dtype_name(c->model_dtype));
    out_name(j, "weight_dtype", tern_dtype_name(c->weight_dtype));
    out_name(j, "product_dtype", tern_dtype_name(c->row_dtype));
    out_int(j, "n_layers", c->n_layers);
    out_int(j, "hidden_size", c->hidden_size);
    out_uint(j, "parameters", s.n_parameters);
    out_uint(j, "file_bytes", s.file_bytes);
    out_uint(j, "weight_bytes_copied", s.weight_bytes_copied);
    out_uint(j, "packed_bytes", s.packed_bytes);
    out_number(j, "load_s", s.load_seconds, 6);
    out_object_end(j);
}

static void out_row(struct json_out *j, const struct bench *b, const struct bench_row *row)
{
    out_object_begin(j, NULL);
    out_name(j, "what", bench_what_name(row->what));
    out_int(j, "context", row->context);
    out_number(j, "tokens", row->tokens, 17);
    out_number(j, "median_ms", 1e3 * row->median, 6);
    out_number(j, "min_ms", 1e3 * row->min, 6);
    out_number(j, "max_ms", 1e3 * row->max, 6);
    out_array_begin(j, "sorted_ms");
    for (int i = 0; i < b->plan->runs; i++)
        out_number(j, NULL, 1e3 * row->seconds[i], 6);
    out_array_end(j);
    out_number(j, "weight_bytes", row->weight_bytes, 17);
    out_number(j, "kv_bytes", row->kv_bytes, 17);
    out_number(j, "weight_ops", row->weight_ops, 17);
    out_number(j, "attention_ops", row->attention_ops, 17);
    out_number(j, "tokens_per_s", bench_tokens_per_s(row), 6);
    out_number(j, "bytes_per_s", bench_bytes_per_s(row), 6);
    out_number(j, "ops_per_s", bench_ops_per_s(row), 6);
    out_number(j, "share_of_read", share(bench_bytes_per_s(row), read_ceiling(b)), 4);
    out_number(j, "share_of_arithmetic", share(bench_ops_per_s(row), bench_arithmetic_ceiling(b).team), 4);
    out_object_end(j);
}

int bench_print_json(const struct bench *b, tern_ctx *ctx)
{
    struct json_out j;
    char cpu[256];

    cli_cpu_name(cpu, sizeof(cpu));
    if (out_begin(&j))
        return CLI_FAIL;
    out_object_begin(&j, NULL);
    out_name(&j, "version", tern_version());
    out_object_begin(&j, "machine");
    out_name(&j, "cpu", cpu);
    out_name(&j, "isa", tern_ctx_isa(ctx));
    out_int(&j, "threads", tern_ctx_threads(ctx));
    out_name(&j, "threads_reason", ranks_threads_reason(ctx));
    out_object_end(&j);
    out_ceilings(&j, b->ceilings);
    out_model(&j, b);
    out_int(&j, "sequences", b->plan->sequences);
    out_int(&j, "decode_steps", b->plan->decode);
    out_int(&j, "runs", b->plan->runs);
    out_array_begin(&j, "rows");
    for (size_t i = 0; i < b->n_rows; i++)
        out_row(&j, b, &b->rows[i]);
    out_array_end(&j);
    out_uint(&j, "peak_rss_bytes", cli_peak_rss());
    out_object_end(&j);
    return out_end(&j, true);
}

/* A field of a name that others chose: quoted where it must be. */
static void csv_text(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        if (*text == '"')
            putchar('"');
        putchar(*text);
    }
    putchar('"');
}

/* Nothing where it is not known. */
static void csv_number(double x)
{
    putchar(',');
    if (isfinite(x))
        printf("%.6g", x);
}

int bench_print_csv(const struct bench *b, tern_ctx *ctx)
{
    const tern_model_config *c = tern_model_get_config(b->model);
    char cpu[256];

    cli_cpu_name(cpu, sizeof(cpu));
    puts(
        "version,cpu,isa,threads,threads_reason,model,dtype,sequences,runs,what,context,tokens,median_ms,min_ms,max_ms,"
        "tokens_per_s,bytes_per_s,ops_per_s,share_of_read,share_of_arithmetic,read_ceiling,arithmetic_ceiling");
    for (size_t i = 0; i < b->n_rows; i++) {
        const struct bench_row *row = &b->rows[i];
        const double read = read_ceiling(b), arithmetic = bench_arithmetic_ceiling(b).team;

        printf("%s,", tern_version());
        csv_text(cpu);
        printf(",%s,%d,%s,", tern_ctx_isa(ctx), tern_ctx_threads(ctx), ranks_threads_reason(ctx));
        csv_text(b->name);
        printf(",%s,%d,%d,%s,%d,%.0f", tern_model_dtype_name(c->model_dtype), b->plan->sequences, b->plan->runs,
               bench_what_name(row->what), row->context, row->tokens);
        csv_number(1e3 * row->median);
        csv_number(1e3 * row->min);
        csv_number(1e3 * row->max);
        csv_number(bench_tokens_per_s(row));
        csv_number(bench_bytes_per_s(row));
        csv_number(bench_ops_per_s(row));
        csv_number(share(bench_bytes_per_s(row), read));
        csv_number(share(bench_ops_per_s(row), arithmetic));
        csv_number(read > 0 ? read : NAN);
        csv_number(arithmetic > 0 ? arithmetic : NAN);
        putchar('\n');
    }
    return 0;
}
