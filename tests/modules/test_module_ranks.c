/* test_module_ranks.c: attention and feed-forward on two ranks, added in rank order, are those of one, in every dtype; one reduction
 * exactly when there are ranks; what is whole on every rank counts once. */
/* labels: quick threads */
#include "ops/dtype_testing.h"

#include <pthread.h>
#include <stdio.h>

enum { HEADS = 4, E = 6, H = HEADS * E, INNER = 44, RANKS = 2, MOST = 19 };

/* ---- two ranks: two threads, each with a context of its own ---- */

struct group {
    pthread_barrier_t barrier;
    float *data[RANKS];
};

struct rank {
    struct group *group;
    tern_comm comm;
    int calls;
    size_t floats;
    tern_ctx *ctx;
    tern_config config;
    tern_layer_weights weights;
    const struct given *given;
    tern_tensor input, out;
    tern_status status;
    char error[256];
};

/* What every rank has. */
struct given {
    bool attention;
    size_t kv_heads;
    tern_tensor residual, residual_norm, bias;
};

static tern_status sum_ranks(void *user, float *data, size_t n)
{
    struct rank *r = user;
    float *sum = malloc((n ? n : 1) * sizeof *sum);

    r->calls++;
    r->floats = n;
    r->group->data[r->comm.rank] = data;
    pthread_barrier_wait(&r->group->barrier);
    for (size_t i = 0; i < n; i++)
        sum[i] = r->group->data[0][i] + r->group->data[1][i];
    pthread_barrier_wait(&r->group->barrier);
    memcpy(data, sum, n * sizeof *sum);
    free(sum);
    return TERN_OK;
}

static tern_status run_attention(struct rank *r)
{
    const tern_kv_shape shape = { .n_layers = 1,
                                  .n_kv_heads = (int32_t)r->given->kv_heads / r->comm.size,
                                  .head_dim = E,
                                  .n_positions = 64,
                                  .n_sequences = 1,
                                  .n_context = 64 };
    tern_kv_span span = { .n_rows = (int32_t)r->input.dim[0] };
    const size_t n_spans = span.n_rows ? 1 : 0;
    tern_attention *attention = NULL;
    tern_kv_cache *cache = NULL;
    tern_status status = tern_attention_create(r->ctx, &r->config, &r->comm, NULL, &r->weights, &attention);

    if (!status)
        status = tern_kv_cache_create(r->ctx, &shape, &cache);
    if (!status)
        status = tern_kv_sequence_add(r->ctx, cache, &span.sequence);
    if (!status)
        status = tern_kv_reserve(r->ctx, cache, &span, n_spans);
    if (!status)
        status = tern_attention_forward(r->ctx, attention, NULL, &r->input, NULL, NULL, cache, 0, &span, n_spans,
                                        &r->out, NULL);
    tern_attention_destroy(&attention);
    tern_kv_cache_destroy(&cache);
    return status;
}

static tern_status run_mlp(struct rank *r)
{
    const struct given *g = r->given;
    tern_mlp *mlp = NULL;
    tern_status status = tern_mlp_create(r->ctx, &r->config, &r->comm, NULL, &r->weights, &mlp);

    if (!status)
        status = tern_mlp_forward(r->ctx, mlp, &r->input, &g->residual, &g->residual_norm, &g->bias, &r->out);
    tern_mlp_destroy(&mlp);
    return status;
}

/* No asserts here: they belong to the main thread. */
static void *run_rank(void *user)
{
    struct rank *r = user;

    r->status = r->given->attention ? run_attention(r) : run_mlp(r);
    snprintf(r->error, sizeof r->error, "%s", tern_error(r->ctx));
    return NULL;
}

/* Runs one rank or both, and says how often each reduced. */
static void run_ranks(struct rank *ranks, int size, int reductions)
{
    struct group group;
    pthread_t threads[RANKS];

    pthread_barrier_init(&group.barrier, NULL, RANKS);
    for (int i = 0; i < size; i++) {
        ranks[i].group = &group;
        ranks[i].comm = (tern_comm){ .user = &ranks[i], .rank = i, .size = size, .all_reduce = sum_ranks };
        ranks[i].ctx = test_ctx(1 + i);
        assert_int_equal(pthread_create(&threads[i], NULL, run_rank, &ranks[i]), 0);
    }
    for (int i = 0; i < size; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < size; i++) {
        if (ranks[i].status != TERN_OK)
            fail_msg("rank %d of %d: %s", i, size, ranks[i].error);
        assert_int_equal(ranks[i].calls, reductions);
        assert_int_equal(ranks[i].floats, reductions ? fn_elements(&ranks[i].out) : 0);
        tern_ctx_destroy(&ranks[i].ctx);
    }
    pthread_barrier_destroy(&group.barrier);
}

/* ---- shards ---- */

/* A matrix and what belongs to it, [in, out] or [out, in]. */
struct whole {
    tern_tensor w, scale, bias; /* scale: one for each output channel, with int8 */
    bool transposed;
    size_t in, out;
};

static struct whole whole(tern_ctx *ctx, const struct dt_kind *kind, bool transposed, size_t in, size_t out, bool bias)
{
    struct dt_matrix m = dt_matrix(ctx, kind, transposed, in, out, 0.3f, out);

    tern_weight_destroy(&m.packed);
    return (struct whole){ .w = m.raw,
                           .scale = m.scale,
                           .bias = bias ? FN_IN(TERN_FP32, 1, (int64_t)out) : tern_tensor_none(),
                           .transposed = transposed,
                           .in = in,
                           .out = out };
}

/* Elements that `keep` names, of a vector or along an axis of a matrix [a][b]. */
static tern_tensor kept(const tern_tensor *t, int axis, const size_t *keep, size_t n)
{
    const size_t size = t->rank < 0 ? 0 : tern_dtype_size(t->dtype);
    int64_t dim[2] = { t->dim[0], t->rank == 2 ? t->dim[1] : 1 };

    if (t->rank < 0)
        return *t;
    const size_t columns = (size_t)dim[1];
    dim[axis] = (int64_t)n;
    char *data = test_bytes((size_t)(dim[0] * dim[1]) * size), *to = data;
    for (size_t i = 0; i < (size_t)dim[0]; i++)
        for (size_t j = 0; j < (size_t)dim[1]; j++, to += size)
            memcpy(to, (char *)t->data + ((axis ? i : keep[i]) * columns + (axis ? keep[j] : j)) * size, size);
    return tern_tensor_view(data, t->dtype, t->rank, dim);
}

/* A rank's half of each of `parts` runs of output channels. */
static struct whole by_columns(const struct whole *m, const size_t *runs, size_t parts, int rank)
{
    size_t keep[256], n = 0, at = 0;

    for (size_t p = 0; p < parts; at += runs[p++])
        for (size_t i = 0; i < runs[p] / 2; i++)
            keep[n++] = at + (size_t)rank * runs[p] / 2 + i;
    struct whole half = *m;
    half.w = kept(&m->w, !m->transposed, keep, n);
    half.scale = kept(&m->scale, 0, keep, n);
    half.bias = kept(&m->bias, 0, keep, n);
    return half;
}

/* A rank's half of the inputs: the scales, of output channels, and the bias stay whole. */
static struct whole by_rows(const struct whole *m, int rank)
{
    size_t keep[256];

    for (size_t i = 0; i < m->in / 2; i++)
        keep[i] = (size_t)rank * m->in / 2 + i;
    struct whole half = *m;
    half.w = kept(&m->w, m->transposed, keep, m->in / 2);
    return half;
}

static void bind_attention(tern_layer_weights *w, const struct whole *qkv, const struct whole *out)
{
    w->attn_qkvw = qkv->w;
    w->attn_qkvw_scale = qkv->scale;
    w->attn_qkvb = qkv->bias;
    w->attn_ow = out->w;
    w->attn_ow_scale = out->scale;
}

static void bind_mlp(tern_layer_weights *w, const struct whole *up, const struct whole *down)
{
    w->inter_w = up->w;
    w->inter_w_scale = up->scale;
    w->inter_b = up->bias;
    w->output_w = down->w;
    w->output_w_scale = down->scale;
    w->output_b = down->bias;
}

/* Two ranks against one.  Both have the same numbers in front of the last product, but with activation_quant: there a rank's codes
 * are of the largest value of its own part of a row, so a code is off by up to one step, 1/127 of that, of one term among twelve
 * or more of either sign.  The last product's sum of some tens of terms is two sums here, each rounded to 2^-24; and where both
 * results are stored in 16 bits they may be on either side of a tie: fn_near() allows for one rounding, this for the other. */
static double bound_of(const struct dt_kind *kind)
{
    const double stored = kind->a == TERN_FP16 ? 0x1p-11 : kind->a == TERN_BF16 ? 0x1p-8 : 0;

    return stored + (kind->quant == TERN_QUANT_ROW ? 2e-2 : 1e-6);
}

static void compare(const struct rank *one, const struct rank *ranks, const struct dt_kind *kind, const char *what)
{
    const double *want = fn_doubles(&one->out);

    for (int r = 0; r < RANKS; r++)
        fn_near(&ranks[r].out, want, bound_of(kind), what);
    fn_same(&ranks[1].out, ranks[0].out.data, "the other rank");
}

/* ---- attention ---- */

static void test_attention_on_two_ranks_is_that_of_one(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);

    for (size_t k = 0; k < DT_KINDS; k++)
        for (int variant = 0; variant < 32; variant++) {
            const struct dt_kind *kind = &dt_kinds[k];
            const bool transposed = variant & 1, post = variant & 2, rms = !post && variant & 4;
            const size_t rows = variant & 8 ? MOST : (size_t)variant % 3, kv = variant & 16 ? 2 : 4;
            const size_t runs[] = { H, kv * E, kv * E };
            const struct given given = { .attention = true, .kv_heads = kv };
            const struct whole qkv = whole(ctx, kind, transposed, H, H + 2 * kv * E, variant % 3),
                               out = whole(ctx, kind, transposed, H, H, false);
            struct rank one = { .given = &given, .config = dt_config(kind) }, ranks[RANKS];
            one.config.hidden_size = H;
            one.config.heads = HEADS;
            one.config.num_kv = (int32_t)kv;
            one.config.norm_type = rms ? TERN_RMS_NORM : TERN_LAYER_NORM;
            one.config.pre_layer_norm = !post;
            one.config.transposed_mode = transposed;
            one.config.rotary_dim = 4;
            if (!post)
                one.weights.norm_w = FN_IN(TERN_FP32, 1, H);
            one.weights.attn_ob = FN_IN(TERN_FP32, 100, H); /* not the attention's to add */
            one.input = FN_IN(kind->a, 1, (int64_t)rows, H);
            one.out = FN_OUT(kind->a, (int64_t)rows, H);
            for (int r = 0; r < RANKS; r++) {
                const struct whole q = by_columns(&qkv, runs, 3, r), o = by_rows(&out, r);
                ranks[r] = one;
                ranks[r].config.mp_size = RANKS;
                ranks[r].out = FN_OUT(kind->a, (int64_t)rows, H);
                bind_attention(&ranks[r].weights, &q, &o);
            }
            bind_attention(&one.weights, &qkv, &out);
            run_ranks(&one, 1, 0);
            run_ranks(ranks, RANKS, rows ? 1 : 0);
            compare(&one, ranks, kind, "attention on two ranks");

            /* A parallel block leaves the sum to its feed-forward. */
            for (int r = 0; !post && r < RANKS; r++) {
                ranks[r].config.mlp_after_attn = false;
                ranks[r].calls = 0;
                ranks[r].floats = 0;
            }
            if (!post) {
                run_ranks(ranks, RANKS, 0);
                double *sum = test_doubles(rows * H);
                for (size_t i = 0; i < rows * H; i++)
                    sum[i] = fn_at(&ranks[0].out, i) + fn_at(&ranks[1].out, i);
                fn_near(&one.out, sum, 2 * bound_of(kind), "the parts of a parallel block");
            }
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

/* ---- feed-forward ---- */

static void test_feed_forward_on_two_ranks_is_that_of_one(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);

    for (size_t k = 0; k < DT_KINDS; k++)
        for (int variant = 0; variant < 48; variant++) {
            const struct dt_kind *kind = &dt_kinds[k];
            const bool transposed = variant & 1, gated = variant & 2, biases = variant & 4;
            const int form = variant / 8 % 3; /* pre-LN, post-LN, parallel */
            const bool norm = variant < 24, rms = norm && form == 0 && variant & 1;
            const size_t rows = variant % 5 == 4 ? 0 : variant & 4 ? MOST : 2, up_width = gated ? 2 * INNER : INNER;
            const size_t runs[] = { INNER, INNER };
            const int64_t n = (int64_t)rows;
            const struct whole up = whole(ctx, kind, transposed, H, up_width, biases),
                               down = whole(ctx, kind, transposed, INNER, H, biases);
            const struct given given = { .residual = FN_IN(kind->a, 1, n, H),
                                         .residual_norm = FN_IN(kind->a, 1, n, H),
                                         .bias = biases ? FN_IN(TERN_FP32, 3, H) : tern_tensor_none() };
            struct rank one = { .given = &given, .config = dt_config(kind) }, ranks[RANKS];
            one.config.hidden_size = H;
            one.config.heads = HEADS;
            one.config.intermediate_size = INNER;
            one.config.norm_type = rms ? TERN_RMS_NORM : TERN_LAYER_NORM;
            one.config.pre_layer_norm = form != 1;
            one.config.mlp_after_attn = form != 2;
            one.config.mlp_act_func_type = gated ? TERN_GATED_SILU : TERN_GELU;
            one.config.transposed_mode = transposed;
            if (norm)
                one.weights.attn_nw = FN_IN(TERN_FP32, 1, H);
            one.input = FN_IN(kind->a, 1, n, H);
            one.out = FN_OUT(kind->a, n, H);
            for (int r = 0; r < RANKS; r++) {
                const struct whole u = by_columns(&up, runs, gated ? 2 : 1, r), d = by_rows(&down, r);
                ranks[r] = one;
                ranks[r].config.mp_size = RANKS;
                ranks[r].out = FN_OUT(kind->a, n, H);
                bind_mlp(&ranks[r].weights, &u, &d);
                if (form == 2) { /* each has a part of the attention's output: a half, which any dtype holds exactly */
                    ranks[r].input = FN_OUT(kind->a, n, H);
                    for (size_t i = 0; i < rows * H; i++)
                        fn_put(ranks[r].input.data, kind->a, i, fn_at(&one.input, i) / 2);
                }
            }
            bind_mlp(&one.weights, &up, &down);
            run_ranks(&one, 1, 0);
            run_ranks(ranks, RANKS, rows ? 1 : 0);
            compare(&one, ranks, kind, "feed-forward on two ranks");
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_attention_on_two_ranks_is_that_of_one),
        OP_TEST(test_feed_forward_on_two_ranks_is_that_of_one),
    };
    return cmocka_run_group_tests_name("modules/module_ranks", tests, NULL, NULL);
}
