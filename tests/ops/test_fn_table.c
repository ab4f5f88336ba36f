/* test_fn_table.c: what holds for every kernel function: the same bits at every level with 1, 2 and 3 threads, outputs over
 * the inputs that they may be and over no others, and an error without a trace for every bad argument.
 *
 * One row per function lists its tensors; the tests go through all rows. */
#include "ops/fn_testing.h"

#define MAX_ARGS 9

/* F: the call's dtype.  V: that or fp32.  S: fp32.  I: int32, L: int64 or int32 (given as int32), W: int64, B: bool. */
enum kind { F = 1, V, S, I, L, W, B };
enum role { IN, OPT, OUT };

struct arg {
    const char *name; /* as messages have it */
    enum kind kind;
    enum role role;
    int64_t dim[5];
    const int32_t *ints;
    unsigned may; /* outputs: bits of the arguments that it may be */
};

struct function {
    const char *name;
    tern_status (*call)(tern_ctx *ctx, tern_tensor *const *t);
    struct arg arg[MAX_ARGS];
    unsigned strided; /* bits of the arguments that may have any strides */
    bool grows;       /* an output may be larger than what is written */
};

#define CALL(name, ...)                                                  \
    static tern_status call_##name(tern_ctx *ctx, tern_tensor *const *t) \
    {                                                                    \
        return tern_##name(ctx, __VA_ARGS__);                            \
    }

CALL(layer_norm, t[0], t[1], t[2], 1e-5f, t[3])
CALL(layer_norm_residual, t[0], t[1], t[2], t[3], t[4], 1e-5f, t[5], t[6])
CALL(rms_norm, t[0], t[1], 1e-5f, t[2])
CALL(pre_rms_norm, t[0], t[1], t[2], 1e-5f, t[3], t[4])
CALL(residual_add_bias, t[0], t[1], t[2], t[3], t[4], 2, true, true, true, t[5])
CALL(gelu, t[0], TERN_GELU_UNSET, t[1])
CALL(bias_add, t[0], t[1], t[2])
CALL(bias_gelu, t[0], t[1], TERN_GELU_UNSET, t[2])
CALL(bias_relu, t[0], t[1], t[2])
CALL(bias_residual, t[0], t[1], t[2], t[3])
CALL(gated_activation, t[0], t[1], TERN_GATE_INTERLEAVED, "silu", t[2])
CALL(vector_add, t[0], t[1], 0.5f, t[2])
CALL(moe_res_matmul, t[0], t[1], t[2], t[3])
CALL(rotary, t[0], t[1], 6, 10000, false, t[2])
CALL(pad_transform, t[0], t[2], t[4], 3, t[1], t[3], t[5])
CALL(matmul, t[0], t[1], t[2], "gelu", t[3])
CALL(matmul_4d, t[0], t[1], t[2])
CALL(score_4d_matmul, t[0], 5, 0.3f, true, t[1])
CALL(context_4d_matmul, t[0], t[1], 5, t[2])
CALL(einsum_sec_sm_ecm, t[0], t[1], t[2])
CALL(packed_attention, t[0], 3, 0.3f, true, t[1], t[2])
CALL(unpacked_attention, t[0], t[1], t[2], 0.3f, true, t[3], t[4])
CALL(top_k_gating, t[0], 2, t[1], t[2], t[3], t[4], t[5])
CALL(moe_scatter, t[0], t[1], t[2], t[3], t[4], t[5], t[6])
CALL(moe_gemm, t[0], t[1], t[2], t[3], "gelu_tanh", t[4])
CALL(moe_gather, t[0], t[1], t[2], true, t[3])
CALL(embedding, t[0], t[1], t[2], t[3], 1, t[4])
CALL(logits_gather, t[0], t[1], t[2])

static const int32_t positions[] = { 3, 0, 77, 12, 5, 6, 1000, 9 };
static const int32_t experts[] = { 1, 0, -1, -1, 0, 2, 1, 2 }, slots[] = { 0, 1, -1, -1, 0, 1, 1, 0 };
static const int32_t counts[] = { 2, 2, 2 }, mapped[] = { 2, 1, -1, -1, 0, 5, 3, 4 }, ends[] = { 9, 9, 40 };
static const int32_t ids[] = { 3, 0, 6, 1, 1 }, places[] = { 0, 1, 2, 0, 1 }, lengths[] = { 1, 3, 4 };

#define D(...)          \
    {                   \
        __VA_ARGS__, -1 \
    }
static const struct function functions[] = {
    { "layer_norm",
      call_layer_norm,
      { { "input", F, IN, D(7, 33), 0, 0 },
        { "gamma", V, IN, D(33), 0, 0 },
        { "beta", V, OPT, D(33), 0, 0 },
        { "output", F, OUT, D(7, 33), 0, 1 } },
      0,
      0 },
    { "layer_norm_residual",
      call_layer_norm_residual,
      { { "input", F, IN, D(7, 33), 0, 0 },
        { "input_bias", V, OPT, D(33), 0, 0 },
        { "residual", F, IN, D(7, 33), 0, 0 },
        { "gamma", V, IN, D(33), 0, 0 },
        { "beta", V, OPT, D(33), 0, 0 },
        { "output", F, OUT, D(7, 33), 0, 5 },
        { "sum", F, OUT, D(7, 33), 0, 5 } },
      0,
      0 },
    { "rms_norm",
      call_rms_norm,
      { { "input", F, IN, D(7, 33), 0, 0 }, { "gamma", V, IN, D(33), 0, 0 }, { "output", F, OUT, D(7, 33), 0, 1 } },
      0,
      0 },
    { "pre_rms_norm",
      call_pre_rms_norm,
      { { "input", F, IN, D(7, 33), 0, 0 },
        { "residual", F, IN, D(7, 33), 0, 0 },
        { "gamma", V, IN, D(33), 0, 0 },
        { "output", F, OUT, D(7, 33), 0, 3 },
        { "sum", F, OUT, D(7, 33), 0, 3 } },
      0,
      0 },
    { "residual_add_bias",
      call_residual_add_bias,
      { { "hidden", F, IN, D(2, 4, 33), 0, 0 },
        { "residual", F, IN, D(2, 4, 33), 0, 0 },
        { "attention_output", F, OPT, D(2, 4, 33), 0, 0 },
        { "attention_bias", V, OPT, D(33), 0, 0 },
        { "final_bias", V, OPT, D(33), 0, 0 },
        { "output", F, OUT, D(2, 4, 33), 0, 7 } },
      0,
      0 },
    { "gelu", call_gelu, { { "input", F, IN, D(3, 5001), 0, 0 }, { "output", F, OUT, D(3, 5001), 0, 1 } }, 0, 0 },
    { "bias_add",
      call_bias_add,
      { { "input", F, IN, D(2, 4, 33), 0, 0 },
        { "bias", V, IN, D(33), 0, 0 },
        { "output", F, OUT, D(2, 4, 33), 0, 1 } },
      0,
      0 },
    { "bias_gelu",
      call_bias_gelu,
      { { "input", F, IN, D(2, 4, 33), 0, 0 },
        { "bias", V, IN, D(33), 0, 0 },
        { "output", F, OUT, D(2, 4, 33), 0, 1 } },
      0,
      0 },
    { "bias_relu",
      call_bias_relu,
      { { "input", F, IN, D(2, 4, 33), 0, 0 },
        { "bias", V, IN, D(33), 0, 0 },
        { "output", F, OUT, D(2, 4, 33), 0, 1 } },
      0,
      0 },
    { "bias_residual",
      call_bias_residual,
      { { "input", F, IN, D(2, 4, 33), 0, 0 },
        { "residual", F, IN, D(2, 4, 33), 0, 0 },
        { "bias", V, OPT, D(33), 0, 0 },
        { "output", F, OUT, D(2, 4, 33), 0, 3 } },
      0,
      0 },
    { "gated_activation",
      call_gated_activation,
      { { "input", F, IN, D(5, 66), 0, 0 }, { "bias", V, OPT, D(66), 0, 0 }, { "output", F, OUT, D(5, 33), 0, 0 } },
      0,
      0 },
    { "vector_add",
      call_vector_add,
      { { "a", F, IN, D(3, 5001), 0, 0 }, { "b", F, IN, D(3, 5001), 0, 0 }, { "output", F, OUT, D(3, 5001), 0, 3 } },
      0,
      0 },
    { "moe_res_matmul",
      call_moe_res_matmul,
      { { "residual", F, IN, D(5, 33), 0, 0 },
        { "coef", V, IN, D(5, 2), 0, 0 },
        { "experts", F, IN, D(5, 33), 0, 0 },
        { "output", F, OUT, D(5, 33), 0, 5 } },
      0,
      0 },
    { "rotary",
      call_rotary,
      { { "input", F, IN, D(2, 4, 3, 9), 0, 0 },
        { "position_ids", L, IN, D(2, 4), positions, 0 },
        { "output", F, OUT, D(2, 4, 3, 9), 0, 1 } },
      0,
      0 },
    { "pad_transform",
      call_pad_transform,
      { { "query", F, IN, D(2, 5, 15), 0, 0 },
        { "query_output", F, OUT, D(2, 3, 7, 5), 0, 0 },
        { "key", F, IN, D(2, 4, 15), 0, 0 },
        { "key_output", F, OUT, D(2, 3, 9, 5), 0, 0 },
        { "value", F, IN, D(2, 4, 15), 0, 0 },
        { "value_output", F, OUT, D(2, 3, 9, 5), 0, 0 } },
      0,
      1 },
    { "matmul",
      call_matmul,
      { { "a", F, IN, D(3, 50, 33), 0, 0 },
        { "b", F, IN, D(33, 67), 0, 0 },
        { "bias", V, OPT, D(67), 0, 0 },
        { "output", F, OUT, D(3, 50, 67), 0, 0 } },
      3,
      0 },
    { "matmul_4d",
      call_matmul_4d,
      { { "a", F, IN, D(2, 3, 17, 33), 0, 0 },
        { "b", F, IN, D(2, 3, 33, 9), 0, 0 },
        { "output", F, OUT, D(2, 3, 17, 9), 0, 0 } },
      0,
      0 },
    { "score_4d_matmul",
      call_score_4d_matmul,
      { { "qkv", F, IN, D(2, 35, 45), 0, 0 }, { "output", F, OUT, D(2, 3, 35, 35), 0, 0 } },
      0,
      0 },
    { "context_4d_matmul",
      call_context_4d_matmul,
      { { "prob", F, IN, D(2, 3, 35, 35), 0, 0 },
        { "qkv", F, IN, D(2, 35, 45), 0, 0 },
        { "output", F, OUT, D(2, 35, 15), 0, 0 } },
      0,
      0 },
    { "einsum_sec_sm_ecm",
      call_einsum_sec_sm_ecm,
      { { "q", F, IN, D(19, 3, 7), 0, 0 }, { "w", F, IN, D(19, 33), 0, 0 }, { "output", F, OUT, D(3, 7, 33), 0, 0 } },
      0,
      0 },
    { "packed_attention",
      call_packed_attention,
      { { "qkv", F, IN, D(2, 77, 45), 0, 0 },
        { "mask", V, OPT, D(2, 1, 1, 77), 0, 0 },
        { "output", F, OUT, D(2, 77, 15), 0, 0 } },
      0,
      0 },
    { "unpacked_attention",
      call_unpacked_attention,
      { { "q", F, IN, D(2, 4, 17, 9), 0, 0 },
        { "k", F, IN, D(2, 2, 45, 9), 0, 0 },
        { "v", F, IN, D(2, 2, 45, 35), 0, 0 },
        { "mask", V, OPT, D(17, 45), 0, 0 },
        { "output", F, OUT, D(2, 4, 17, 35), 0, 0 } },
      0,
      0 },
    { "top_k_gating",
      call_top_k_gating,
      { { "logits", F, IN, D(33, 9), 0, 0 },
        { "padding", B, OPT, D(33), 0, 0 },
        { "scores", S, OUT, D(33, 2), 0, 0 },
        { "experts", I, OUT, D(33, 2), 0, 0 },
        { "slots", I, OUT, D(33, 2), 0, 0 },
        { "counts", I, OUT, D(9), 0, 0 } },
      0,
      0 },
    { "moe_scatter",
      call_moe_scatter,
      { { "input", F, IN, D(4, 9), 0, 0 },
        { "experts", I, IN, D(4, 2), experts, 0 },
        { "slots", I, IN, D(4, 2), slots, 0 },
        { "counts", I, IN, D(3), counts, 0 },
        { "output", F, OUT, D(7, 9), 0, 0 },
        { "mapped_slots", I, OUT, D(4, 2), 0, 4 },
        { "row_ends", W, OUT, D(3), 0, 0 } },
      0,
      0 },
    { "moe_gemm",
      call_moe_gemm,
      { { "input", F, IN, D(41, 33), 0, 0 },
        { "weight", F, IN, D(3, 33, 35), 0, 0 },
        { "bias", V, OPT, D(3, 35), 0, 0 },
        { "row_ends", L, IN, D(3), ends, 0 },
        { "output", F, OUT, D(41, 35), 0, 0 } },
      2,
      0 },
    { "moe_gather",
      call_moe_gather,
      { { "input", F, IN, D(7, 33), 0, 0 },
        { "scores", S, IN, D(4, 2), 0, 0 },
        { "mapped_slots", I, IN, D(4, 2), mapped, 0 },
        { "output", F, OUT, D(4, 33), 0, 0 } },
      0,
      0 },
    { "embedding",
      call_embedding,
      { { "ids", L, IN, D(5), ids, 0 },
        { "table", F, IN, D(7, 33), 0, 0 },
        { "position_table", F, OPT, D(4, 33), 0, 0 },
        { "position_ids", L, IN, D(5), places, 0 },
        { "output", F, OUT, D(5, 33), 0, 0 } },
      0,
      0 },
    { "logits_gather",
      call_logits_gather,
      { { "input", F, IN, D(9, 33), 0, 0 },
        { "lengths", L, IN, D(3), lengths, 0 },
        { "output", F, OUT, D(3, 33), 0, 0 } },
      0,
      0 },
};
#define N_FUNCTIONS (sizeof functions / sizeof functions[0])

/* The tensors of one call. */
struct tensors {
    tern_tensor t[MAX_ARGS];
    tern_tensor *p[MAX_ARGS];
    size_t n;
};

static tern_dtype dtype_of(enum kind kind, tern_dtype d)
{
    return kind == F || kind == V ? d
           : kind == S            ? TERN_FP32
           : kind == W            ? TERN_INT64
           : kind == B            ? TERN_BOOL
                                  : TERN_INT32;
}

/* Random where no numbers are given; the same each time. */
static struct tensors *make(const struct function *f, tern_dtype d, bool wide_vectors)
{
    struct tensors *s = test_bytes(sizeof *s);

    test_seed = 4711;
    s->n = 0;
    for (const struct arg *a = f->arg; a < f->arg + MAX_ARGS && a->kind; a++, s->n++) {
        const tern_dtype dtype = a->kind == V && wide_vectors ? TERN_FP32 : dtype_of(a->kind, d);
        tern_tensor *t = &s->t[s->n];
        if (a->role == OUT) {
            *t = fn_out(dtype, a->dim);
        } else if (a->ints) {
            *t = fn_ints(a->ints, a->dim);
        } else if (a->kind == B) {
            *t = fn_out(dtype, a->dim);
            for (size_t i = 0; i < fn_elements(t); i++)
                ((bool *)t->data)[i] = i % 5 == 3;
        } else {
            *t = fn_in(dtype, 1, a->dim);
        }
        s->p[s->n] = t;
    }
    return s;
}

/* ---- one answer ---- */

static void test_same_bits_at_every_level_and_with_any_threads(void **state)
{
    (void)state;
    static const char *const levels[] = { "portable", "avx2", "avx512" };

    for (size_t i = 0; i < N_FUNCTIONS; i++)
        FN_EACH_DTYPE(d)
        {
            const struct function *f = &functions[i];
            struct tensors *first = NULL;
            for (size_t l = 0; l < 3; l++)
                for (int threads = 1; threads <= 3; threads++) {
                    tern_ctx *ctx = test_ctx_at(threads, levels[l]);
                    if (!ctx)
                        continue;
                    struct tensors *s = make(f, (tern_dtype)d, false);
                    assert_ok(ctx, f->call(ctx, s->p));
                    first = first ? first : s;
                    for (size_t a = 0; a < s->n; a++)
                        if (f->arg[a].role == OUT &&
                            memcmp(s->t[a].data, first->t[a].data,
                                   fn_elements(&s->t[a]) * tern_dtype_size(s->t[a].dtype)) != 0)
                            fail_msg("%s in %s: %s has other bits at %s with %d threads", f->name,
                                     tern_dtype_name((tern_dtype)d), f->arg[a].name, levels[l], threads);
                    tern_ctx_destroy(&ctx);
                }
            test_teardown(NULL);
        }
}

/* gamma, beta, bias and mask in fp32 give the bits that they give in the call's dtype. */
static void test_vectors_in_fp32(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (size_t i = 0; i < N_FUNCTIONS; i++)
        for (int half = 0; half < 2; half++) {
            const tern_dtype d = half ? TERN_FP16 : TERN_BF16;
            const struct function *f = &functions[i];
            struct tensors *a = make(f, d, false), *b = make(f, d, true);
            for (size_t k = 0; k < a->n; k++)
                for (size_t e = 0; f->arg[k].kind == V && e < fn_elements(&a->t[k]); e++)
                    fn_put(b->t[k].data, TERN_FP32, e, fn_at(&a->t[k], e));
            assert_ok(ctx, f->call(ctx, a->p));
            assert_ok(ctx, f->call(ctx, b->p));
            for (size_t k = 0; k < a->n; k++)
                if (f->arg[k].role == OUT)
                    fn_same(&b->t[k], a->t[k].data, f->name);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

/* ---- one memory ---- */

static void test_outputs_over_inputs(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (size_t i = 0; i < N_FUNCTIONS; i++)
        FN_EACH_DTYPE(d)
    for (size_t out = 0; out < MAX_ARGS; out++)
        for (size_t in = 0; in < MAX_ARGS; in++) {
            const struct function *f = &functions[i];
            if (f->arg[out].role != OUT || !f->arg[out].kind || !f->arg[in].kind || in == out)
                continue;
            struct tensors *want = make(f, (tern_dtype)d, false), *got = make(f, (tern_dtype)d, false);
            assert_ok(ctx, f->call(ctx, want->p));
            if (f->arg[out].may >> in & 1) {
                got->t[out].data = got->t[in].data;
                assert_ok(ctx, f->call(ctx, got->p));
                for (size_t a = 0; a < got->n; a++)
                    if (f->arg[a].role == OUT)
                        fn_same(&got->t[a], want->t[a].data, f->name);
                /* one element further is not the same memory */
                got = make(f, (tern_dtype)d, false);
                got->t[out].data = (char *)got->t[in].data + tern_dtype_size(got->t[out].dtype);
                assert_fails(ctx, f->call(ctx, got->p), TERN_ERR_ARG, "overlaps");
            } else {
                const size_t bytes_in = fn_elements(&got->t[in]) * tern_dtype_size(got->t[in].dtype);
                const size_t bytes = fn_elements(&got->t[out]) * tern_dtype_size(got->t[out].dtype);
                char *both = test_bytes(bytes_in + bytes + 64);
                memcpy(both, got->t[in].data, bytes_in);
                const void *kept = fn_keep(&got->t[in]);
                got->t[in].data = got->t[out].data = both;
                assert_fails(ctx, f->call(ctx, got->p), TERN_ERR_ARG, "overlaps");
                fn_same(&got->t[in], kept, f->name);
            }
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

/* ---- bad arguments ---- */

static void refused(tern_ctx *ctx, const struct function *f, struct tensors *s, size_t arg, tern_status want,
                    const char *why)
{
    const tern_status got = f->call(ctx, s->p);

    if (got == TERN_OK || (want != TERN_OK && got != want))
        fail_msg("%s: %s %s answers %d (%s), expected %d", f->name, f->arg[arg].name, why, (int)got, tern_error(ctx),
                 (int)want);
    if (!strstr(tern_error(ctx), f->name))
        fail_msg("%s: %s %s: the text is %s", f->name, f->arg[arg].name, why, tern_error(ctx));
    for (size_t a = 0; a < s->n; a++) {
        tern_tensor whole =
            tern_tensor_view(s->t[a].data, dtype_of(f->arg[a].kind, s->t[a].dtype), 1, (int64_t[]){ 1 });
        if (f->arg[a].role == OUT && a != arg && !fn_untouched(&whole))
            fail_msg("%s: %s %s, and %s was written", f->name, f->arg[arg].name, why, f->arg[a].name);
    }
}

static void test_bad_arguments(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (size_t i = 0; i < N_FUNCTIONS; i++)
        for (size_t a = 0; a < MAX_ARGS && functions[i].arg[a].kind; a++) {
            const struct function *f = &functions[i];
            const struct arg *arg = &f->arg[a];
            const bool optional = arg->role == OPT || (arg->role == OUT && strcmp(arg->name, "sum") == 0);
            const int last = (int)make(f, TERN_FP32, false)->t[a].rank - 1;
            struct tensors *s;

            for (int none = 0; none < 2; none++) {
                s = make(f, TERN_FP16, false);
                if (none)
                    s->t[a] = tern_tensor_none();
                else
                    s->p[a] = NULL;
                if (optional)
                    assert_ok(ctx, f->call(ctx, s->p));
                else
                    refused(ctx, f, s, a, none ? TERN_OK : TERN_ERR_ARG, none ? "is none" : "is NULL");
            }
            s = make(f, TERN_FP16, false);
            s->t[a].dtype = TERN_FP8_E4M3; /* bool and integers may be masks */
            refused(ctx, f, s, a, TERN_ERR_DTYPE, "is fp8");
            if (arg->kind == F && a > 0) {
                s = make(f, TERN_FP16, false);
                s->t[a].dtype = TERN_BF16;
                refused(ctx, f, s, a, TERN_ERR_DTYPE, "is of another dtype");
            }
            s = make(f, TERN_FP32, false);
            s->t[a].data = NULL;
            refused(ctx, f, s, a, TERN_ERR_ARG, "has NULL data");
            s = make(f, TERN_FP16, false);
            s->t[a].rank = TERN_MAX_RANK + 1;
            refused(ctx, f, s, a, TERN_ERR_SHAPE, "has rank 9");
            s = make(f, TERN_FP16, false);
            s->t[a].dim[0] = -1;
            refused(ctx, f, s, a, TERN_ERR_SHAPE, "has a negative size");
            s = make(f, TERN_FP16, false);
            s->t[a].stride[last] = f->strided >> a & 1 ? -1 : 2;
            refused(ctx, f, s, a, TERN_ERR_SHAPE, "has a bad stride");
            if (arg->kind != B) {
                s = make(f, TERN_FP16, false);
                s->t[a].data = (char *)s->t[a].data + 1;
                refused(ctx, f, s, a, TERN_ERR_ARG, "is misaligned");
            }
            for (int less = 0; less < 2; less++) {
                s = make(f, TERN_FP16, false);
                if (!less && f->grows && arg->role == OUT)
                    continue;
                s->t[a].dim[last] += less ? -1 : 1;
                s->t[a] = tern_tensor_view(s->t[a].data, s->t[a].dtype, s->t[a].rank, s->t[a].dim);
                if (less && strcmp(arg->name, "lengths") == 0)
                    continue; /* output has one row too many: told as such */
                refused(ctx, f, s, a, TERN_OK, less ? "is one shorter" : "is one longer");
            }
            test_teardown(NULL);
        }
    for (size_t i = 0; i < N_FUNCTIONS; i++) {
        struct tensors *s = make(&functions[i], TERN_FP32, false);
        assert_int_equal(functions[i].call(NULL, s->p), TERN_ERR_ARG);
    }
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_same_bits_at_every_level_and_with_any_threads),
        OP_TEST(test_vectors_in_fp32),
        OP_TEST(test_outputs_over_inputs),
        OP_TEST(test_bad_arguments),
    };
    return cmocka_run_group_tests_name("ops/fn_table", tests, NULL, NULL);
}
