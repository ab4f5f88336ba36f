/* tune.c: measuring how products are best cut.
 *
 * For each shape the ways to cut it are tried one property after the other: who computes what, rows of a tile, blocks of k.  The
 * ones of a property are timed in turn, several rounds, and the shortest time of each counts: what else the machine does makes times
 * longer, never shorter.  What wins has been lucky too, so it meets the rules once more, and must be faster by a margin. */
#include "ops/tune.h"

#include "base/machine.h"
#include "base/memory.h"
#include "ops/checks.h"
#include "ops/feed_forward.h"
#include "ops/op_table.h"

#include <string.h>

#define ROUNDS      3    /* of the ways of one property */
#define LAST_ROUNDS 7    /* of the best one and the rules */
#define MARGIN      0.98 /* of the rules' time */
#define COLD_BYTES \
    (64 << 20) /* of weights, one after the other: more than second-level caches, and a part of the third */
#define MOST_BYTES   (256 << 20)
#define MOST_WORK    ((size_t)1 << 30) /* multiply-adds of a product that is timed */
#define LEAST_WORK   ((size_t)1 << 24) /* of a measurement; smaller products are repeated */
#define MOST_REPEATS 64
#define LEAST_PANELS 8 /* for each thread */
#define MOST_COPIES  4096
#define MOST_TRIED   32

/* ---- a product on made-up data ---- */

struct trial {
    tern_ctx *ctx;
    const struct tern_tune_clock *clock;
    tern_tune_product product;
    struct tern_weight weight; /* the first copy; of as many columns as are timed */
    size_t columns;            /* of the memory */
    size_t copy_bytes, n_copies, at;
    void *words;
    size_t words_bytes;
    float *scale; /* [columns], and behind it the zeros that integer sums start from; int8 only */
    size_t scale_bytes;
    float *rows, *result;
    void *narrow;
    size_t rows_bytes, result_bytes, narrow_bytes;
    size_t m, repeats;
    struct tern_plan plan;
};

static double machine_seconds(void *user, const struct tern_plan *plan)
{
    (void)user, (void)plan;
    return tern_machine_seconds();
}

static void trial_region(void *arg, const struct tern_par *par)
{
    const struct trial *t = arg;
    const struct tern_epilogue e = { 0 };
    const size_t in = (size_t)t->weight.in, out = (size_t)t->weight.out;

    for (size_t i = 0; i < t->repeats; i++) {
        struct tern_weight w = t->weight;
        w.words = (char *)t->words + (t->at + i) % t->n_copies * t->copy_bytes;
        tern_gemm_run_plan(par, t->result, out, t->rows, in, t->m, &w, &e, t->narrow, &t->plan);
    }
}

/* Seconds of one product. */
static double time_plan(struct trial *t, const struct tern_plan *plan)
{
    t->plan = *plan;
    const double begin = t->clock->seconds(t->clock->user, plan);
    tern_region_taken(t->ctx, trial_region, t);
    const double seconds = t->clock->seconds(t->clock->user, plan) - begin;
    t->at = (t->at + t->repeats) % t->n_copies;
    return seconds / (double)t->repeats;
}

/* Numbers of magnitude 0.5 to 1, or any codes: words whose bits are random where `mask` is set, `ones` elsewhere. */
struct fill {
    uint32_t *to;
    size_t n;
    uint32_t mask, ones;
};

static void fill_region(void *arg, const struct tern_par *par)
{
    const struct fill *f = arg;
    size_t i, end;

    tern_share(par, f->n, 4096, &i, &end);
    uint32_t x = 2463534242u + (uint32_t)i; /* xorshift: Marsaglia 2003 */
    for (; i < end; i++) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        f->to[i] = (x & f->mask) | f->ones;
    }
}

static void fill(tern_ctx *ctx, void *to, size_t bytes, tern_dtype dtype)
{
    struct fill f = { to, bytes / 4, 0x807fffff, 0x3f000000 };

    if (dtype == TERN_FP16)
        f.mask = 0x83ff83ff, f.ones = 0x38003800;
    else if (dtype == TERN_BF16)
        f.mask = 0x807f807f, f.ones = 0x3f003f00;
    else if (dtype == TERN_INT8)
        f.mask = 0xffffffff, f.ones = 0;
    tern_region_taken(ctx, fill_region, &f);
}

static enum tern_weight_format format_of(tern_dtype dtype)
{
    return dtype == TERN_FP32   ? TERN_WEIGHT_F32
           : dtype == TERN_FP16 ? TERN_WEIGHT_F16
           : dtype == TERN_BF16 ? TERN_WEIGHT_BF16
                                : TERN_WEIGHT_Q8;
}

static size_t panel_bytes(const tern_tune_product *p)
{
    const struct tern_weight_layout layout = tern_weight_layout(format_of(p->dtype), (size_t)p->in);

    return layout.steps * layout.step_bytes;
}

/* Columns of a product of m rows that are timed: all, or whole panels, enough for every thread. */
static size_t columns_for(const struct trial *t, size_t m)
{
    const size_t out = (size_t)t->product.out, least = LEAST_PANELS * (size_t)tern_ctx_threads(t->ctx) * TERN_PANEL;
    const size_t by_bytes = MOST_BYTES / panel_bytes(&t->product) * TERN_PANEL;
    const size_t by_work = MOST_WORK / m / (size_t)t->product.in / TERN_PANEL * TERN_PANEL;
    size_t n = by_bytes < by_work ? by_bytes : by_work;

    n = n < least ? least : n;
    return n < out ? n : out;
}

/* Rows that stand for a bucket: its least ones that are asked for. */
static size_t rows_of(const tern_tune_options *o, uint32_t bucket)
{
    const size_t least = (size_t)1 << bucket, top = (size_t)1 << (TERN_PLAN_BUCKETS - 1);

    return (size_t)o->min_rows > least && least < top ? (size_t)o->min_rows : least;
}

/* Memory for a product with the rows of these buckets. */
static tern_status open_trial(struct trial *t, const tern_tune_options *o, uint32_t first, uint32_t last)
{
    const size_t in = (size_t)t->product.in, m = rows_of(o, last), columns = columns_for(t, rows_of(o, first));
    const size_t n_panels = (columns + TERN_PANEL - 1) / TERN_PANEL;
    size_t result = 0;

    t->columns = n_panels * TERN_PANEL;
    t->weight =
        (struct tern_weight){ .in = t->product.in, .out = (int64_t)columns, .format = format_of(t->product.dtype) };
    t->copy_bytes = tern_mul_or_max(n_panels, panel_bytes(&t->product));
    t->n_copies = 1 + COLD_BYTES / t->copy_bytes;
    t->n_copies = t->n_copies > MOST_COPIES ? MOST_COPIES : t->n_copies;
    t->words_bytes = tern_mul_or_max(t->n_copies, t->copy_bytes);
    for (uint32_t bucket = first; bucket <= last; bucket++) {
        const size_t floats = rows_of(o, bucket) * columns_for(t, rows_of(o, bucket));
        result = floats > result ? floats : result;
    }
    t->rows_bytes = tern_mul_or_max(m, in * sizeof(float));
    t->result_bytes = tern_mul_or_max(result, sizeof(float));
    TERN_TRY(tern_pages_alloc(t->ctx, t->words_bytes, "weights to measure", &t->words));
    TERN_TRY(tern_pages_alloc(t->ctx, t->rows_bytes, "rows to measure", (void **)&t->rows));
    TERN_TRY(tern_pages_alloc(t->ctx, t->result_bytes, "products to measure", (void **)&t->result));
    t->weight.words = t->words;
    if (t->product.dtype == TERN_FP32)
        t->weight.panels = t->words;
    if (t->product.dtype == TERN_INT8) {
        t->scale_bytes = 2 * t->columns * sizeof(float);
        TERN_TRY(tern_pages_alloc(t->ctx, t->scale_bytes, "scales to measure", (void **)&t->scale));
        fill(t->ctx, t->scale, t->scale_bytes / 2, TERN_FP32);
        t->weight.scale = t->scale;
        t->weight.start = (int32_t *)(void *)(t->scale + t->columns);
    }
    if (t->product.rounded) {
        t->narrow_bytes = tern_gemm_scratch(&t->weight, m);
        if (t->narrow_bytes)
            TERN_TRY(tern_pages_alloc(t->ctx, t->narrow_bytes, "rows to measure", &t->narrow));
    }
    fill(t->ctx, t->words, t->words_bytes, t->product.dtype);
    fill(t->ctx, t->rows, t->rows_bytes, TERN_FP32);
    return TERN_OK;
}

static void close_trial(struct trial *t)
{
    tern_pages_free(t->words, t->words_bytes);
    tern_pages_free(t->rows, t->rows_bytes);
    tern_pages_free(t->result, t->result_bytes);
    tern_pages_free(t->scale, t->scale_bytes);
    tern_pages_free(t->narrow, t->narrow_bytes);
}

/* ---- the search ---- */

/* Ways that were timed, as what they come to. */
struct tried {
    struct tern_gemm_cut cuts[MOST_TRIED];
    size_t n;
};

/* Whether a plan comes to something that was not timed; then it counts as timed. */
static bool is_new(struct tried *tried, const struct trial *t, const struct tern_plan *plan)
{
    const struct tern_gemm_cut cut = tern_gemm_cut(t->ctx->kernels, tern_ctx_threads(t->ctx), t->m, &t->weight, plan);

    for (size_t i = 0; i < tried->n; i++)
        if (tried->cuts[i].tiles == cut.tiles && tried->cuts[i].blocks == cut.blocks &&
            tried->cuts[i].pairs == cut.pairs && tried->cuts[i].by_rows == cut.by_rows)
            return false;
    if (tried->n == MOST_TRIED)
        return false;
    tried->cuts[tried->n++] = cut;
    return true;
}

/* Shortest times of some plans, timed in turn. */
static void race(struct trial *t, const struct tern_plan *plans, size_t n, int rounds, double *shortest)
{
    for (int round = 0; round < rounds; round++)
        for (size_t i = 0; i < n; i++) {
            const double seconds = time_plan(t, &plans[i]);
            if (round == 0 || seconds < shortest[i])
                shortest[i] = seconds;
        }
}

enum { SPLIT, TILE_ROWS, K_BLOCK, PROPERTIES };

static size_t variants(const struct trial *t, int property, const struct tern_plan *base, struct tern_plan *to)
{
    static const uint32_t tile_rows[] = { 6, 8, 9, 10, 12, 14 };
    const uint32_t k_block = (uint32_t)t->ctx->kernels->k_block;
    const uint32_t k_blocks[] = { k_block / 2, 2 * k_block, TERN_PLAN_K_MAX };
    size_t n = 0;

    if (property == SPLIT)
        for (int split = TERN_SPLIT_PANELS; split <= TERN_SPLIT_ROWS && tern_ctx_threads(t->ctx) > 1; split++) {
            to[n] = *base;
            to[n++].split = (enum tern_plan_split)split;
        }
    else if (property == TILE_ROWS)
        for (size_t i = 0; i < sizeof tile_rows / sizeof tile_rows[0]; i++) {
            to[n] = *base;
            to[n++].tile_rows = tile_rows[i];
        }
    else
        for (size_t i = 0; i < sizeof k_blocks / sizeof k_blocks[0]; i++) {
            to[n] = *base;
            to[n++].k_block = k_blocks[i];
        }
    return n;
}

/* The best plan for t->m rows, and its time beside that of the rules. */
static void search(struct trial *t, struct tern_plan_entry *entry)
{
    const struct tern_plan rules = { 0 };
    struct tern_plan best = rules, plans[8];
    struct tried tried = { .n = 0 };
    double seconds[8];

    is_new(&tried, t, &rules);
    time_plan(t, &rules); /* and its pages and threads are warm */
    for (int property = 0; property < PROPERTIES; property++) {
        size_t n = 1;
        plans[0] = best;
        const size_t all = variants(t, property, &best, plans + 1);
        for (size_t i = 1; i <= all; i++)
            if (is_new(&tried, t, &plans[i]))
                plans[n++] = plans[i];
        if (n == 1)
            continue;
        race(t, plans, n, ROUNDS, seconds);
        for (size_t i = 1; i < n; i++)
            if (seconds[i] < seconds[0]) {
                seconds[0] = seconds[i];
                best = plans[i];
            }
    }
    const bool other = best.tile_rows || best.k_block || best.split;
    plans[0] = rules;
    plans[1] = best;
    race(t, plans, 1 + other, LAST_ROUNDS, seconds);
    const bool better = other && seconds[1] < MARGIN * seconds[0];
    const double whole = 1e9 * (double)t->product.out / (double)t->weight.out;
    entry->plan = better ? best : rules;
    entry->default_ns = (int64_t)(seconds[0] * whole);
    entry->best_ns = (int64_t)(seconds[better] * whole);
}

/* ---- products ---- */

struct tuning {
    tern_ctx *ctx;
    const struct tern_tune_clock *clock;
    const tern_tune_options *options;
    size_t done, total;
};

static tern_status key_of(const tern_tune_product *p, int threads, uint32_t bucket, struct tern_plan_key *key)
{
    const struct tern_weight w = { .in = p->in, .out = p->out, .format = format_of(p->dtype) };

    *key = (struct tern_plan_key){ .in = p->in, .out = p->out, .bucket = bucket, .threads = (uint32_t)threads };
    return tern_gemm_plan_kind(&w, p->rounded, &key->kind) ? TERN_OK : TERN_ERR_ARG;
}

static void result_of(const struct tern_plan_entry *e, bool latest, tern_tune_result *out)
{
    static const tern_dtype dtypes[TERN_PLAN_KINDS] = {
        TERN_FP32, TERN_FP16, TERN_BF16, TERN_BF16, TERN_INT8, TERN_INT8
    };

    *out = (tern_tune_result){ .product = { e->key.in, e->key.out, dtypes[e->key.kind],
                                            e->key.kind == TERN_PLAN_BF16 || e->key.kind == TERN_PLAN_Q8 },
                               .rows = 1 << e->key.bucket,
                               .threads = (int32_t)e->key.threads,
                               .default_seconds = 1e-9 * (double)e->default_ns,
                               .best_seconds = 1e-9 * (double)e->best_ns,
                               .tile_rows = (int32_t)e->plan.tile_rows,
                               .k_block = (int32_t)e->plan.k_block,
                               .split = (int32_t)e->plan.split,
                               .latest = latest };
}

/* Whether a bucket of a product is to be measured: it is not known, or not of this call. */
static bool is_wanted(const struct tuning *g, const tern_tune_product *p, uint32_t bucket)
{
    const struct tern_plans *plans = g->ctx->plans;
    struct tern_plan_key key;

    if (key_of(p, tern_ctx_threads(g->ctx), bucket, &key) != TERN_OK)
        return false;
    const struct tern_plan_entry *e = tern_plans_find(plans, &key);
    return !e || (!g->options->missing_only && e->call != plans->call);
}

static tern_status tune_bucket(struct tuning *g, struct trial *t, uint32_t bucket)
{
    struct tern_plan_entry entry = { .measured = true, .call = g->ctx->plans->call };
    const tern_tune_options *o = g->options;
    tern_tune_result result;

    TERN_TRY(key_of(&t->product, tern_ctx_threads(g->ctx), bucket, &entry.key));
    t->m = rows_of(o, bucket);
    t->weight.out = (int64_t)columns_for(t, t->m);
    const size_t work = (t->m < 8 ? 8 : t->m) * (size_t)t->product.in * (size_t)t->weight.out;
    t->repeats = work < LEAST_WORK ? (LEAST_WORK + work - 1) / work : 1;
    t->repeats = t->repeats > MOST_REPEATS ? MOST_REPEATS : t->repeats;
    search(t, &entry);
    TERN_TRY(tern_plans_put(g->ctx, g->ctx->plans, &entry));
    g->done++;
    result_of(&entry, true, &result);
    TERN_REQUIRE(g->ctx, !o->progress || o->progress(o->user, &result, g->done, g->total), TERN_ERR_CANCELLED,
                 "tuning was cancelled after %zu of %zu shapes", g->done, g->total);
    return tern_team_keep(g->ctx);
}

static tern_status tune_product(struct tuning *g, const tern_tune_product *p)
{
    const uint32_t first = tern_plan_bucket((size_t)g->options->min_rows);
    const uint32_t last = tern_plan_bucket((size_t)g->options->max_rows);
    struct trial t = { .ctx = g->ctx, .clock = g->clock, .product = *p };
    tern_status status = TERN_OK;
    bool open = false;

    for (uint32_t bucket = first; bucket <= last; bucket++) {
        if (!is_wanted(g, p, bucket))
            continue;
        if (!open)
            TERN_TRY_OR_FAIL(open_trial(&t, g->options, first, last));
        open = true;
        TERN_TRY_OR_FAIL(tune_bucket(g, &t, bucket));
    }

fail:
    close_trial(&t);
    return status;
}

bool tern_tune_is_same(const tern_tune_product *a, const tern_tune_product *b)
{
    return a->in == b->in && a->out == b->out && a->dtype == b->dtype && a->rounded == b->rounded;
}

/* Whether a product stood in the list before. */
static bool is_repeated(const tern_tune_product *products, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (tern_tune_is_same(&products[j], &products[i]))
            return true;
    return false;
}

static tern_status check(tern_ctx *ctx, const tern_tune_product *products, size_t n, const tern_tune_options *o)
{
    static const char op[] = "tune";

    TERN_REQUIRE(ctx, ctx && (products || n == 0), TERN_ERR_ARG, "%s: %s is NULL", op, ctx ? "products" : "ctx");
    TERN_TRY(TERN_CHECK_RESERVED(ctx, op, o));
    TERN_REQUIRE(ctx, o->min_rows >= 1 && o->max_rows >= o->min_rows, TERN_ERR_ARG,
                 "%s: rows are %" PRId64 " to %" PRId64 ", expected 1 <= min <= max", op, o->min_rows, o->max_rows);
    for (size_t i = 0; i < n; i++) {
        const tern_tune_product *p = &products[i];
        TERN_REQUIRE(ctx, p->in >= 1 && p->in <= 1 << 24 && p->out >= 1 && p->out <= 1 << 24, TERN_ERR_ARG,
                     "%s: product %zu is [%" PRId64 ", %" PRId64 "], expected sizes in 1..%d", op, i, p->in, p->out,
                     1 << 24);
        TERN_REQUIRE(
            ctx, p->dtype == TERN_FP32 || p->dtype == TERN_FP16 || p->dtype == TERN_BF16 || p->dtype == TERN_INT8,
            TERN_ERR_ARG, "%s: product %zu is %s, expected fp32, fp16, bf16 or int8", op, i, tern_dtype_name(p->dtype));
    }
    return TERN_OK;
}

tern_tune_options tern_tune_options_default(void)
{
    return (tern_tune_options){ .min_rows = 1, .max_rows = 1024 };
}

tern_status tern_tune_measure(tern_ctx *ctx, const tern_tune_product *products, size_t n,
                              const tern_tune_options *options, const struct tern_tune_clock *clock)
{
    static const struct tern_tune_clock machine = { machine_seconds, NULL };
    const tern_tune_options standard = tern_tune_options_default();
    struct tuning g = { .ctx = ctx, .clock = clock ? clock : &machine, .options = options ? options : &standard };
    tern_status status = TERN_OK;

    TERN_TRY(check(ctx, products, n, g.options));
    TERN_TRY(tern_team_take(ctx)); /* no region reads the table while it is changed */
    ctx->plans->call++;
    const uint32_t first = tern_plan_bucket((size_t)g.options->min_rows);
    const uint32_t last = tern_plan_bucket((size_t)g.options->max_rows);
    for (size_t i = 0; i < n; i++)
        for (uint32_t bucket = first; bucket <= last; bucket++)
            g.total += !is_repeated(products, i) && is_wanted(&g, &products[i], bucket);
    for (size_t i = 0; i < n && status == TERN_OK; i++)
        status = tune_product(&g, &products[i]);
    tern_plans_store(ctx->plans, ctx->isa);
    tern_team_give(ctx);
    return status;
}

tern_status tern_tune_products(tern_ctx *ctx, const tern_tune_product *products, size_t n,
                               const tern_tune_options *options)
{
    return tern_tune_measure(ctx, products, n, options, NULL);
}

/* ---- operators ---- */

#define MOST_PRODUCTS 4

/* Adds [in, out] in a config's dtype; a config's sizes need not go together. */
static void add(tern_tune_product *to, size_t *n, const tern_config *config, int64_t in, int64_t out)
{
    if (in >= 1 && out >= 1)
        to[(*n)++] = (tern_tune_product){ in, out, config->dtype, tern_config_narrow(config) };
}

/* What an operator multiplies with weights, of a config with sizes in range. */
static size_t products_of(const char *op, const tern_config *config, tern_tune_product *to)
{
    const int64_t H = config->hidden_size, ranks = config->mp_size > 1 ? config->mp_size : 1;
    const int64_t inner = (config->intermediate_size > 0 ? config->intermediate_size : 4 * H) / ranks;
    const int64_t heads = config->heads, kv = config->num_kv >= 0 ? config->num_kv : heads;
    const int64_t qkv = (heads > 0 ? H / heads * (heads + 2 * kv) : 3 * H) / ranks;
    size_t n = 0;

    if (strcmp(op, "qkv_gemm") == 0 || strcmp(op, "linear") == 0) {
        add(to, &n, config, H, qkv);
    } else if (strcmp(op, "vector_matmul") == 0) {
        add(to, &n, config, H / ranks, H);
    } else if (strcmp(op, "mlp_gemm") == 0) {
        add(to, &n, config, H, tern_is_gated(config->mlp_act_func_type) ? 2 * inner : inner);
        add(to, &n, config, inner, H);
    } else if (strcmp(op, "gelu_gemm") == 0) {
        add(to, &n, config, H, inner);
        add(to, &n, config, inner, H);
    }
    return n;
}

/* Rows of one to TERN_TUNE_BATCH sequences.  More rows than a feed-forward does at once are cut into parts of at least half as many. */
static tern_tune_options rows_for(const tern_ctx *ctx, int64_t min_len, int64_t max_len)
{
    const int64_t part = (int64_t)tern_feed_forward_most(tern_ctx_threads(ctx), SIZE_MAX) / 2;
    tern_tune_options o = tern_tune_options_default();

    o.min_rows = min_len < part ? min_len : part;
    o.max_rows = max_len > INT32_MAX ? max_len : max_len * TERN_TUNE_BATCH;
    return o;
}

tern_status tern_autotune(tern_ctx *ctx, const char *op, int64_t min_len, int64_t max_len, int64_t hidden_size,
                          tern_dtype dtype)
{
    tern_config config = tern_config_default();
    tern_tune_product products[MOST_PRODUCTS];

    TERN_REQUIRE(ctx, ctx && op, TERN_ERR_ARG, "autotune: %s is NULL", ctx ? "op" : "ctx");
    TERN_REQUIRE(ctx, min_len >= 1 && max_len >= min_len, TERN_ERR_ARG,
                 "autotune: lengths are %" PRId64 " to %" PRId64 ", expected 1 <= min_len <= max_len", min_len,
                 max_len);
    TERN_REQUIRE(ctx, hidden_size >= 1 && hidden_size <= 1 << 20, TERN_ERR_ARG,
                 "autotune: hidden_size is %" PRId64 ", expected 1..%d", hidden_size, 1 << 20);
    const struct tern_op_row *row = tern_op_row(tern_op_find(op));
    TERN_REQUIRE(
        ctx, row && row->reads & TERN_READS_TUNE, TERN_ERR_UNSUPPORTED,
        !row ? "autotune: there is no operator %.100s; those that can be tuned: qkv_gemm, linear, vector_matmul, "
               "mlp_gemm, gelu_gemm"
             : "autotune: %.100s has no product with a weight to tune, these have: qkv_gemm, linear, "
               "vector_matmul, mlp_gemm, gelu_gemm",
        op);
    config.hidden_size = hidden_size;
    config.dtype = dtype;
    size_t n = products_of(op, &config, products);
    if (dtype == TERN_INT8) {
        config.activation_quant = TERN_QUANT_ROW;
        n += products_of(op, &config, products + n);
    }
    const tern_tune_options options = rows_for(ctx, min_len, max_len);
    return tern_tune_products(ctx, products, n, &options);
}

/* Whether a config asks for what it multiplies to be tuned. */
static bool asks(const tern_config *config)
{
    return config->triton_autotune && config->layer_id == 0 && config->kernel != TERN_KERNEL_REFERENCE;
}

/* What is not known yet of some products, for the rows of a config. */
static tern_status tune_for(tern_ctx *ctx, const char *owner, const tern_config *config,
                            const tern_tune_product *products, size_t n)
{
    TERN_REQUIRE(ctx, config->min_out_tokens >= 1 && config->max_out_tokens >= config->min_out_tokens, TERN_ERR_CONFIG,
                 "%s: min_out_tokens is %" PRId32 " and max_out_tokens %" PRId32
                 ", expected 1 <= min <= max where triton_autotune is true",
                 owner, config->min_out_tokens, config->max_out_tokens);
    if (ctx->plans->off)
        return TERN_OK;
    tern_tune_options options = rows_for(ctx, config->min_out_tokens, config->max_out_tokens);
    options.missing_only = true;
    return tern_tune_products(ctx, products, n, &options);
}

tern_status tern_tune_created(tern_ctx *ctx, const struct tern_op_row *row, const tern_config *config)
{
    tern_tune_product products[MOST_PRODUCTS];

    if (!asks(config) || !(row->reads & TERN_READS_TUNE))
        return TERN_OK;
    TERN_REQUIRE(ctx,
                 config->hidden_size >= 1 && config->hidden_size <= 1 << 20 && config->intermediate_size <= 1 << 22,
                 TERN_ERR_CONFIG,
                 "%s: hidden_size is %" PRId64 " and intermediate_size %" PRId64
                 ", expected 1..%d and up to %d where triton_autotune is true",
                 row->name, config->hidden_size, config->intermediate_size, 1 << 20, 1 << 22);
    return tune_for(ctx, row->name, config, products, products_of(row->name, config, products));
}

tern_status tern_tune_bound(tern_ctx *ctx, const char *owner, const tern_config *config,
                            const struct tern_weight *const *weights, size_t n)
{
    static const tern_dtype dtypes[] = { [TERN_WEIGHT_F32] = TERN_FP32,
                                         [TERN_WEIGHT_F16] = TERN_FP16,
                                         [TERN_WEIGHT_BF16] = TERN_BF16,
                                         [TERN_WEIGHT_Q8] = TERN_INT8 };
    tern_tune_product products[MOST_PRODUCTS];
    size_t n_products = 0;

    if (!asks(config))
        return TERN_OK;
    for (size_t i = 0; i < n && n_products < MOST_PRODUCTS; i++)
        if (weights[i]->format != TERN_WEIGHT_GROUPS)
            products[n_products++] = (tern_tune_product){ weights[i]->in, weights[i]->out, dtypes[weights[i]->format],
                                                          tern_config_narrow(config) };
    return tune_for(ctx, owner, config, products, n_products);
}

/* ---- what is known ---- */

int tern_tune_count(const tern_ctx *ctx)
{
    return ctx ? (int)ctx->plans->count : 0;
}

bool tern_tune_at(const tern_ctx *ctx, int index, tern_tune_result *out)
{
    if (index < 0 || index >= tern_tune_count(ctx) || !out)
        return false;
    const struct tern_plan_entry *e = &ctx->plans->entries[index];
    result_of(e, e->call && e->call == ctx->plans->call, out);
    return true;
}

bool tern_tune_is_stored(const tern_ctx *ctx)
{
    for (size_t i = 0; ctx && i < ctx->plans->count; i++)
        if (ctx->plans->entries[i].measured)
            return false;
    return ctx != NULL;
}

const char *tern_tune_note(const tern_ctx *ctx)
{
    return ctx ? ctx->plans->note : "";
}

void tern_tune_path(const tern_ctx *ctx, char *out, size_t size)
{
    if (ctx && out && size)
        tern_plans_path(ctx->isa, out, size);
}
