/* test_attention_module.c: attention as a module, in every dtype: against its operators, against f64, with ranks. */
#include "faults.h"
#include "ops/dtype_testing.h"

#include <tern/quantize.h>

#define H     24
#define HEADS 4
#define E     (H / HEADS)

struct block {
    const struct dt_kind *kind;
    tern_config config;
    size_t rows, kv_heads, e2, qkv;
    struct dt_matrix w1, w2;
    tern_tensor nw, nb, b1, input;
};

/* A block whose value heads have width e2. */
static struct block block_of(tern_ctx *ctx, const struct dt_kind *kind, int variant, size_t e2)
{
    struct block b = { .kind = kind, .rows = 1 + (size_t)variant % 4 * 3, .kv_heads = variant & 1 ? 2 : 4, .e2 = e2 };
    const bool rms = variant & 2, post = !rms && variant & 4, biases = variant & 8;
    const tern_dtype v = variant & 4 ? TERN_FP32 : kind->a;

    b.qkv = (HEADS + b.kv_heads) * E + b.kv_heads * e2;
    b.config = dt_config(kind);
    b.config.hidden_size = H;
    b.config.heads = HEADS;
    b.config.num_kv = (int32_t)b.kv_heads;
    b.config.norm_type = rms ? TERN_RMS_NORM : TERN_LAYER_NORM;
    b.config.pre_layer_norm = !post;
    b.config.mlp_after_attn = post || variant % 3 != 0; /* no block is parallel and post-LN */
    b.config.transposed_mode = variant & 16;
    b.config.rotary_dim = variant % 5 == 1 ? 4 : 0;
    b.w1 = dt_matrix(ctx, kind, variant & 16, H, b.qkv, 0.3f, b.qkv % 4 ? 2 : 4);
    b.w2 = dt_matrix(ctx, kind, variant & 16, HEADS * e2, H, 0.3f, 3);
    b.nw = post ? tern_tensor_none() : FN_IN(v, 1, H);
    b.nb = post || rms || !biases ? tern_tensor_none() : FN_IN(v, 1, H);
    b.b1 = biases ? FN_IN(v, 1, (int64_t)b.qkv) : tern_tensor_none();
    b.input = FN_IN(kind->a, 1, 1, (int64_t)b.rows, H);
    return b;
}

static struct block block(tern_ctx *ctx, const struct dt_kind *kind, int variant)
{
    return block_of(ctx, kind, variant, E);
}

static void drop(struct block *b)
{
    tern_weight_destroy(&b->w1.packed);
    tern_weight_destroy(&b->w2.packed);
}

static tern_layer_weights weights_of(const struct block *b)
{
    return (tern_layer_weights){
        .norm_w = b->nw, .norm_b = b->nb, .attn_qkvw = b->w1.given, .attn_qkvb = b->b1, .attn_ow = b->w2.given
    };
}

static tern_kv_span start(tern_ctx *ctx, const struct block *b, tern_kv_cache **cache)
{
    const tern_kv_shape shape = { .n_layers = 2,
                                  .n_kv_heads = (int32_t)b->kv_heads / b->config.mp_size,
                                  .head_dim = (int32_t)(b->e2 > E ? b->e2 : E),
                                  .n_positions = 64,
                                  .n_sequences = 1,
                                  .n_context = 64 };
    tern_kv_span span = { .n_rows = (int32_t)b->rows };

    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, cache));
    assert_ok(ctx, tern_kv_sequence_add(ctx, *cache, &span.sequence));
    assert_ok(ctx, tern_kv_reserve(ctx, *cache, &span, 1));
    return span;
}

static void run(tern_ctx *ctx, const struct block *b, const tern_layer_weights *w, const tern_module_quant *quant,
                const tern_comm *comm, const tern_attention_options *options, const tern_tensor *mask,
                const tern_tensor *alibi, tern_tensor *out, tern_tensor *norm)
{
    tern_attention *attention;
    tern_kv_cache *cache;
    const tern_kv_span span = start(ctx, b, &cache);

    assert_ok(ctx, tern_attention_create(ctx, &b->config, comm, quant, w, &attention));
    assert_ok(ctx,
              tern_attention_forward(ctx, attention, options, &b->input, mask, alibi, cache, 1, &span, 1, out, norm));
    tern_attention_destroy(&attention);
    assert_null(attention);
    tern_kv_cache_destroy(&cache);
}

/* The same from the operators. */
static void by_operators(tern_ctx *ctx, const struct block *b, const tern_attention_options *options,
                         const tern_tensor *mask, const tern_tensor *alibi, tern_tensor *out, tern_tensor *norm)
{
    tern_tensor qkv = FN_OUT(b->kind->a, 1, (int64_t)b->rows, (int64_t)b->qkv),
                context = FN_OUT(b->kind->a, 1, (int64_t)b->rows, (int64_t)(HEADS * b->e2));
    tern_attention_options with = options ? *options : tern_attention_options_default();
    tern_kv_cache *cache;
    const tern_kv_span span = start(ctx, b, &cache);

    with.v_head_dim = (int32_t)b->e2;
    if (b->config.pre_layer_norm)
        assert_ok(ctx, tern_qkv_gemm(ctx, &b->config, &b->input, &b->w1.given, &b->b1, &b->nw, &b->nb, &qkv, norm));
    else
        assert_ok(ctx, tern_linear(ctx, &b->config, &b->input, &b->w1.given, &b->b1, &qkv));
    assert_ok(ctx, tern_softmax_context(ctx, &b->config, &with, &qkv, mask, alibi, cache, 1, &span, 1, &context));
    assert_ok(ctx, tern_vector_matmul(ctx, &b->config, &context, &b->w2.given, out));
    tern_kv_cache_destroy(&cache);
}

/* Without masks, in f64. */
static double *naive(const struct block *b)
{
    const struct naive_attention a = { .heads = HEADS,
                                       .kv_heads = b->kv_heads,
                                       .head_dim = E,
                                       .v_dim = b->e2,
                                       .causal = true,
                                       .scale = 1 / sqrt((double)E),
                                       .rotary_dim = b->config.rotary_dim > 0 ? 4 : 0,
                                       .neighbours = true,
                                       .theta = 10000 };
    const double *x = fn_doubles(&b->input);
    float *stored = test_bytes(b->rows * b->qkv * 4);

    if (b->config.pre_layer_norm)
        x = naive_norm(x, dt_floats(&b->nw), dt_floats(&b->nb), b->rows, H, 1e-5f,
                       b->config.norm_type == TERN_RMS_NORM);
    const double *qkv =
        naive_matmul(dt_rows(b->kind, x, b->rows, H), b->w1.wide, dt_floats(&b->b1), b->rows, H, b->qkv);
    for (size_t i = 0; i < b->rows * b->qkv; i++)
        stored[i] = (float)qkv[i];
    const size_t context = HEADS * b->e2;
    return naive_matmul(dt_rows(b->kind, naive_attention(&a, stored, b->rows), b->rows, context), b->w2.wide, NULL,
                        b->rows, context, H);
}

/* Columns [from, to) of a raw matrix [H, n]. */
static tern_tensor columns(const struct dt_matrix *m, bool transposed, size_t from, size_t to)
{
    const size_t size = tern_dtype_size(m->raw.dtype), n = to - from, all = (size_t)m->raw.dim[!transposed];
    const int64_t dim[2] = { (int64_t)(transposed ? n : H), (int64_t)(transposed ? H : n) };
    char *data = test_bytes(H * n * size);

    for (size_t i = 0; i < H; i++)
        for (size_t o = 0; o < n; o++)
            memcpy(data + (transposed ? o * H + i : i * n + o) * size,
                   (const char *)m->raw.data + (transposed ? (o + from) * H + i : i * all + o + from) * size, size);
    return tern_tensor_view(data, m->raw.dtype, 2, dim);
}

static tern_tensor slice(const tern_tensor *t, size_t from, size_t to)
{
    const int64_t n = (int64_t)(to - from);

    return t->rank < 0 ? *t : tern_tensor_view((char *)t->data + from * tern_dtype_size(t->dtype), t->dtype, 1, &n);
}

/* The weights raw, and q, k and v apart. */
static void raw_and_apart(tern_ctx *ctx, const struct block *b, tern_layer_weights *raw, tern_layer_weights *apart)
{
    const size_t cut[4] = { 0, H, H + b->kv_heads * E, b->qkv };
    const bool t = b->config.transposed_mode, int8 = b->kind->dtype == TERN_INT8;
    tern_tensor scale = int8 ? FN_OUT(TERN_FP32, (int64_t)b->qkv) : tern_tensor_none();

    if (int8)
        assert_ok(ctx, tern_quant_expand_scales(ctx, &b->w1.scale, &scale));
    *raw = weights_of(b);
    raw->attn_qkvw = b->w1.raw;
    raw->attn_qkvw_scale = b->w1.scale;
    raw->attn_ow = b->w2.raw;
    raw->attn_ow_scale = b->w2.scale;
    *apart = *raw;
    apart->attn_qkvw = apart->attn_qkvb = apart->attn_qkvw_scale = tern_tensor_none();
    tern_tensor *const w[] = { &apart->attn_qw, &apart->attn_kw, &apart->attn_vw };
    tern_tensor *const v[] = { &apart->attn_qb, &apart->attn_kb, &apart->attn_vb };
    tern_tensor *const s[] = { &apart->attn_qw_scale, &apart->attn_kw_scale, &apart->attn_vw_scale };
    for (int i = 0; i < 3; i++) {
        *w[i] = columns(&b->w1, t, cut[i], cut[i + 1]);
        *v[i] = slice(&b->b1, cut[i], cut[i + 1]);
        *s[i] = slice(&scale, cut[i], cut[i + 1]);
    }
}

/* q, k, v, the weights of v and the context are stored or rounded to bf16 on the way, which the reference leaves out: up to 2^-8 of
 * each, where a score's becomes that of its exponential. */
static double bound_of(const struct dt_kind *kind)
{
    const double stored = kind->a == TERN_BF16 ? 3e-2 : kind->a == TERN_FP16 ? 4e-3 : 2e-5;

    return kind->quant == TERN_QUANT_ROW ? stored + 1e-2 : stored;
}

/* A module is its operators and the definition; raw, in parts and in place. */
static void check_forms(tern_ctx *ctx, struct block *b)
{
    const int64_t n = (int64_t)b->rows;
    const tern_dtype a = b->kind->a;
    tern_tensor got = FN_OUT(a, 1, n, H), want = FN_OUT(a, 1, n, H), norm = FN_OUT(a, 1, n, H),
                normed = FN_OUT(a, 1, n, H);
    const bool pre = b->config.pre_layer_norm;
    tern_layer_weights w = weights_of(b), apart;

    run(ctx, b, &w, NULL, NULL, NULL, NULL, NULL, &got, pre ? &norm : NULL);
    by_operators(ctx, b, NULL, NULL, NULL, &want, pre ? &normed : NULL);
    fn_same(&got, want.data, "the operators put together");
    fn_same(&norm, normed.data, "norm");
    fn_near(&got, naive(b), bound_of(b->kind), b->kind->name);

    raw_and_apart(ctx, b, &w, &apart);
    run(ctx, b, &w, NULL, NULL, NULL, NULL, NULL, &got, NULL);
    fn_same(&got, want.data, "raw matrices");
    b->config.set_empty_params = true;
    run(ctx, b, &apart, NULL, NULL, NULL, NULL, NULL, &got, NULL);
    fn_same(&got, want.data, "q, k and v apart");
    run(ctx, b, &w, NULL, NULL, NULL, NULL, NULL, &b->input, NULL);
    fn_same(&b->input, want.data, "in place");
}

static void test_forms(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (size_t k = 0; k < DT_KINDS; k++)
        for (int variant = 0; variant < 60; variant++) {
            struct block b = block(ctx, &dt_kinds[k], variant);
            check_forms(ctx, &b);
            drop(&b);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

/* Values of another width than q and k: the weights say it, and options may say it too. */
static void test_value_heads_of_any_width(void **state)
{
    static const size_t widths[] = { 1, 5, 8, 33 };

    (void)state;
    tern_ctx *ctx = test_ctx(2);
    for (size_t k = 0; k < DT_KINDS; k++)
        for (int variant = 0; variant < 60; variant += 7) {
            struct block b = block_of(ctx, &dt_kinds[k], variant, widths[variant % 4]);
            tern_tensor got = FN_OUT(b.kind->a, 1, (int64_t)b.rows, H), want = FN_OUT(b.kind->a, 1, (int64_t)b.rows, H);
            tern_attention_options options = tern_attention_options_default();
            tern_layer_weights w = weights_of(&b);

            check_forms(ctx, &b);
            run(ctx, &b, &w, NULL, NULL, NULL, NULL, NULL, &want, NULL);
            options.v_head_dim = (int32_t)b.e2;
            run(ctx, &b, &w, NULL, NULL, &options, NULL, NULL, &got, NULL);
            fn_same(&got, want.data, "v_head_dim as the weights have it");

            tern_attention *attention;
            tern_kv_cache *cache;
            const tern_kv_span span = start(ctx, &b, &cache);
            got = FN_OUT(b.kind->a, 1, (int64_t)b.rows, H);
            options.v_head_dim = E;
            assert_ok(ctx, tern_attention_create(ctx, &b.config, NULL, NULL, &w, &attention));
            assert_fails(
                ctx,
                tern_attention_forward(ctx, attention, &options, &b.input, NULL, NULL, cache, 0, &span, 1, &got, NULL),
                TERN_ERR_CONFIG, "attention: v_head_dim is 6, expected 0 or ");
            assert_true(fn_untouched(&got));
            tern_attention_destroy(&attention);
            tern_kv_cache_destroy(&cache);
            drop(&b);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

/* Masks, slopes and options go to softmax_context as they are. */
static void test_masks_and_options(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (size_t k = 0; k < DT_KINDS; k++)
        for (int variant = 0; variant < 24; variant++) {
            struct block b = block(ctx, &dt_kinds[k], 3 + 4 * (variant / 4)); /* 10 rows */
            const tern_dtype a = b.kind->a;
            const int64_t n = (int64_t)b.rows;
            tern_tensor got = FN_OUT(a, 1, n, H), want = FN_OUT(a, 1, n, H), alibi = FN_IN(a, 0.1f, HEADS);
            tern_tensor added = FN_IN(a, 1, n, n), per_head = FN_IN(TERN_FP32, 1, HEADS, 1, n);
            tern_tensor visible = FN_OUT(TERN_BOOL, 1, n);
            int32_t places[16];
            tern_attention_options options = tern_attention_options_default();
            const tern_layer_weights w = weights_of(&b);

            for (int64_t i = 0; i < n; i++) {
                ((bool *)visible.data)[i] = i % 3 != 1;
                places[i] = (int32_t)(i < 2 ? 0 : i - 2);
            }
            tern_tensor ids = tern_tensor_view(places, TERN_INT32, 1, &n);
            const tern_tensor *const masks[] = { NULL, &added, &per_head, &visible };
            const tern_tensor *mask = masks[variant % 4], *slopes = variant & 1 ? &alibi : NULL;
            b.config.invert_mask = variant % 3 != 0;
            options.softcap = variant % 5 == 0 ? 3 : 0;
            options.scale = variant % 3 == 1 ? 0.7f : NAN;
            options.position_ids = variant & 4 ? &ids : NULL;
            run(ctx, &b, &w, NULL, NULL, &options, mask, slopes, &got, NULL);
            by_operators(ctx, &b, &options, mask, slopes, &want, NULL);
            fn_same(&got, want.data, b.kind->name);
            drop(&b);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

/* BLOOM's order, from q, k and v apart: the same sums as all q, all k, all v where nothing else differs. */
static void test_bloom_from_parts(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);

    for (size_t k = 0; k < DT_KINDS; k++)
        for (int variant = 10; variant < 60; variant += 16) {
            struct block b = block_of(ctx, &dt_kinds[k], variant, variant & 32 ? 9 : E);
            tern_tensor got = FN_OUT(b.kind->a, 1, (int64_t)b.rows, H), want = FN_OUT(b.kind->a, 1, (int64_t)b.rows, H);
            tern_layer_weights raw, apart;

            raw_and_apart(ctx, &b, &raw, &apart);
            run(ctx, &b, &raw, NULL, NULL, NULL, NULL, NULL, &want, NULL);
            b.config.set_empty_params = b.config.bigscience_bloom = true;
            run(ctx, &b, &apart, NULL, NULL, NULL, NULL, NULL, &got, NULL);
            fn_same(&got, want.data, b.kind->name);
            drop(&b);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

/* Prompt at once, or token by token over a cache that is committed. */
static void test_decode_is_prefill(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (size_t k = 0; k < DT_KINDS; k++)
        for (int variant = 3; variant < 60; variant += 12) {
            struct block b = block(ctx, &dt_kinds[k], variant);
            const tern_dtype a = b.kind->a;
            tern_tensor want = FN_OUT(a, 1, (int64_t)b.rows, H), got = FN_OUT(a, 1, (int64_t)b.rows, H);
            const tern_layer_weights w = weights_of(&b);
            tern_attention *attention;
            tern_kv_cache *cache;

            run(ctx, &b, &w, NULL, NULL, NULL, NULL, NULL, &want, NULL);
            tern_kv_span span = start(ctx, &b, &cache);
            span.n_rows = 1;
            assert_ok(ctx, tern_attention_create(ctx, &b.config, NULL, NULL, &w, &attention));
            for (size_t r = 0; r < b.rows; r++) {
                const size_t at = r * H * tern_dtype_size(a);
                const tern_tensor x = tern_tensor_view((char *)b.input.data + at, a, 2, (int64_t[]){ 1, H });
                tern_tensor y = tern_tensor_view((char *)got.data + at, a, 2, (int64_t[]){ 1, H });
                span.position = (int64_t)r;
                assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
                assert_ok(ctx,
                          tern_attention_forward(ctx, attention, NULL, &x, NULL, NULL, cache, 1, &span, 1, &y, NULL));
                assert_ok(ctx, tern_kv_commit(ctx, cache, &span, 1));
            }
            fn_same(&got, want.data, b.kind->name);
            tern_attention_destroy(&attention);
            tern_kv_cache_destroy(&cache);
            drop(&b);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

/* ---- q_scales ---- */

/* A block's int8 numbers become what a record's scales make of the same codes; the formulas are the header's. */
static void rescale(struct block *b, const float *qkv, const float *out, size_t groups, size_t shards)
{
    const size_t in = HEADS * b->e2, part = in / shards, each = b->qkv / (groups * shards);
    const bool t = b->config.transposed_mode;

    for (size_t i = 0; i < H; i++)
        for (size_t o = 0; o < b->qkv; o++)
            b->w1.wide[i * b->qkv + o] =
                (float)((int8_t *)b->w1.raw.data)[t ? o * H + i : i * b->qkv + o] * qkv[o / each];
    for (size_t i = 0; i < in; i++)
        for (size_t o = 0; o < H; o++)
            b->w2.wide[i * H + o] = (float)((int8_t *)b->w2.raw.data)[t ? o * in + i : i * H + o] *
                                    out[(i % part + o * part) / (part * H / groups) * shards + i / part];
}

static void test_q_scales_are_those_of_the_definition(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (size_t k = 3; k < DT_KINDS; k++)
        for (int variant = 0; variant < 54; variant++) {
            const size_t groups = 1 + (size_t)variant % 3, shards = (size_t)1 << variant / 3 % 3, n = groups * shards;
            const int form = variant / 9 % 3; /* [2, L], [4, L], [1, 4, L] */
            const int64_t length = (int64_t)n + variant % 4;
            struct block b = block_of(ctx, &dt_kinds[k], variant, variant < 27 ? E : 18);
            tern_tensor record = form == 0   ? FN_IN(TERN_FP32, 0, 2, length)
                                 : form == 1 ? FN_IN(TERN_FP32, 0, 4, length)
                                             : FN_IN(TERN_FP32, 0, 1, 4, length);
            float *qkv = record.data, *out = qkv + length;
            for (size_t i = 0; i < fn_elements(&record); i++)
                qkv[i] = NAN; /* rows of other matrices and what fills a row up are not read */
            for (size_t i = 0; i < n; i++) {
                qkv[i] = 0.002f + 0.001f * (float)(i % 5);
                out[i] = 0.003f + 0.001f * (float)(i * 3 % 7);
            }
            rescale(&b, qkv, out, groups, shards);

            tern_layer_weights w = weights_of(&b);
            tern_module_quant quant = tern_module_quant_default();
            tern_tensor got = FN_OUT(b.kind->a, 1, (int64_t)b.rows, H), same = FN_OUT(b.kind->a, 1, (int64_t)b.rows, H);
            w.attn_qkvw = b.w1.raw;
            w.attn_ow = b.w2.raw;
            quant.q_scales = &record;
            quant.q_groups = (int32_t)groups;
            quant.merge_count = (int32_t)shards;
            run(ctx, &b, &w, &quant, NULL, NULL, NULL, NULL, &got, NULL);
            fn_near(&got, naive(&b), bound_of(b.kind), b.kind->name);

            /* Shards that were not merged: the scales that stand beside their matrix. */
            quant.mlp_extra_grouping = true;
            run(ctx, &b, &w, &quant, NULL, NULL, NULL, NULL, &same, NULL);
            fn_same(&same, got.data, "mlp_extra_grouping is not the attention's");
            w.attn_qkvw_scale = t1(qkv, n);
            w.attn_ow_scale = t1(out, n);
            run(ctx, &b, &w, NULL, NULL, NULL, NULL, NULL, &same, NULL);
            if (shards == 1)
                fn_same(&same, got.data, "scales beside the matrices");
            else
                assert_true(memcmp(same.data, got.data, fn_elements(&got) * tern_dtype_size(got.dtype)) != 0);
            drop(&b);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

static void test_bad_q_scales(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    struct block b = block(ctx, &dt_kinds[3], 9), plain = block(ctx, &dt_kinds[0], 9);
    const tern_tensor four = FN_IN(TERN_FP32, 1, 4, 2), three = FN_IN(TERN_FP32, 1, 3, 2),
                      half = FN_IN(TERN_FP16, 1, 4, 2), many = FN_IN(TERN_FP32, 1, 2, 64);
    tern_layer_weights w;
    tern_module_quant quant;
    tern_attention *attention;

#define BAD(from, change, status, part)                                                                      \
    w = weights_of(&from);                                                                                   \
    w.attn_qkvw = from.w1.raw;                                                                               \
    w.attn_ow = from.w2.raw;                                                                                 \
    quant = tern_module_quant_default();                                                                     \
    quant.q_scales = &four;                                                                                  \
    attention = (tern_attention *)ctx;                                                                       \
    change;                                                                                                  \
    assert_fails(ctx, tern_attention_create(ctx, &from.config, NULL, &quant, &w, &attention), status, part); \
    assert_null(attention)
    BAD(plain, (void)0, TERN_ERR_ARG, "attention: q_scales is given with dtype fp32, expected int8");
    BAD(b, quant.q_scales = &three, TERN_ERR_SHAPE, "attention: q_scales is [3, 2], expected [4, L] or [2, L]");
    BAD(b, quant.q_scales = &half, TERN_ERR_DTYPE, "attention: q_scales is fp16, expected fp32");
    BAD(b, quant.q_groups = 3, TERN_ERR_SHAPE,
        "attention: q_scales has rows of 2 scales, expected q_groups * merge_count = 3");
    BAD(b, quant.q_groups = 0, TERN_ERR_CONFIG, "attention: q_groups is 0");
    BAD(b, quant.merge_count = 6, TERN_ERR_CONFIG, "attention: merge_count is 6, expected a power of two");
    BAD(b, quant.q_scales = NULL, TERN_ERR_ARG, "attention: attn_qkvw is raw int8 with no scales");
    BAD(b, w.attn_qkvw_scale = b.w1.scale, TERN_ERR_ARG, "attention: attn_qkvw is raw int8 with both");
    BAD(b, (quant.q_scales = &many, quant.merge_count = 16), TERN_ERR_SHAPE,
        "attention: attn_ow has 24 inputs, expected a multiple of merge_count 16");
    BAD(b, (quant.q_scales = &many, quant.q_groups = 5), TERN_ERR_SHAPE, "attn_qkvw");
#undef BAD
    drop(&b);
    drop(&plain);
    tern_ctx_destroy(&ctx);
}

/* ---- ranks ---- */

struct counter {
    int calls;
    size_t n;
    tern_status status;
};

static tern_status twice(void *user, float *data, size_t n)
{
    struct counter *c = user;

    c->calls++;
    c->n = n;
    for (size_t i = 0; i < n; i++)
        data[i] += data[i];
    return c->status;
}

static void test_one_reduction_in_a_sequential_block_with_ranks(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (size_t k = 0; k < DT_KINDS; k++)
        for (int variant = 0; variant < 12; variant++) {
            struct counter counter = { .status = TERN_OK };
            tern_comm comm = { .user = &counter, .size = 1, .all_reduce = twice };
            struct block b = block(ctx, &dt_kinds[k], variant);
            const size_t n = b.rows * H;
            const bool reduces = b.config.mlp_after_attn;
            tern_layer_weights w = weights_of(&b);
            tern_tensor got = FN_OUT(b.kind->a, 1, (int64_t)b.rows, H), want = FN_OUT(b.kind->a, 1, (int64_t)b.rows, H);

            run(ctx, &b, &w, NULL, &comm, NULL, NULL, NULL, &want, NULL);
            assert_int_equal(counter.calls, 0);

            /* A rank that has all heads, of a model with twice as many. */
            b.config.mp_size = comm.size = 2;
            b.config.heads *= 2;
            b.config.num_kv *= 2;
            b.kv_heads *= 2;
            b.config.rotary_dim = 0;
            drop(&b);
            b.w1 = dt_matrix(ctx, b.kind, b.config.transposed_mode, H, b.qkv / 2, 0.3f, 1);
            b.w2 = dt_matrix(ctx, b.kind, b.config.transposed_mode, H / 2, H, 0.3f, 1);
            b.b1 = tern_tensor_none();
            w = weights_of(&b);
            tern_attention *attention;
            tern_kv_cache *cache;
            const tern_kv_shape shape = { .n_layers = 2,
                                          .n_kv_heads = b.config.num_kv / 2,
                                          .head_dim = H / HEADS / 2,
                                          .n_positions = 64,
                                          .n_sequences = 1,
                                          .n_context = 64 };
            tern_kv_span span = { .n_rows = (int32_t)b.rows };
            assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
            assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &span.sequence));
            assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
            assert_ok(ctx, tern_attention_create(ctx, &b.config, &comm, NULL, &w, &attention));
            assert_ok(ctx, tern_attention_forward(ctx, attention, NULL, &b.input, NULL, NULL, cache, 0, &span, 1, &got,
                                                  NULL));
            assert_int_equal(counter.calls, reduces ? 1 : 0);
            assert_int_equal(counter.n, reduces ? n : 0);
            if (reduces) { /* and what it answers is the output */
                counter.status = TERN_ERR_IO;
                got = FN_OUT(b.kind->a, 1, (int64_t)b.rows, H);
                assert_fails(
                    ctx,
                    tern_attention_forward(ctx, attention, NULL, &b.input, NULL, NULL, cache, 0, &span, 1, &got, NULL),
                    TERN_ERR_IO, "attention: all_reduce failed");
                assert_true(fn_untouched(&got));
            }
            tern_attention_destroy(&attention);
            tern_kv_cache_destroy(&cache);
            drop(&b);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

/* ---- what can be wrong ---- */

static void test_bad_modules(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    struct block b = block(ctx, &dt_kinds[0], 9);
    tern_layer_weights w, apart;
    tern_config config;
    tern_attention *attention;

    raw_and_apart(ctx, &b, &w, &apart);
#define BAD(from, change, status, part)                                                               \
    config = b.config;                                                                                \
    w = from;                                                                                         \
    attention = (tern_attention *)ctx;                                                                \
    change;                                                                                           \
    assert_fails(ctx, tern_attention_create(ctx, &config, NULL, NULL, &w, &attention), status, part); \
    assert_null(attention)
    const tern_layer_weights good = w;
    BAD(good, (config.pre_layer_norm = config.mlp_after_attn = false, config.norm_type = TERN_LAYER_NORM),
        TERN_ERR_UNSUPPORTED, "attention: pre_layer_norm and mlp_after_attn are both false");
    BAD(good, w.norm_w = tern_tensor_none(), TERN_ERR_ARG, "attention: norm_w is not there, expected [24]");
    BAD(good, w.attn_ow = w.attn_qkvw, TERN_ERR_SHAPE, "attention: attn_ow is [");
    BAD(good, config.norm_type = TERN_RMS_NORM, TERN_ERR_ARG, "attention: norm_b is given with RMSNorm");
    BAD(good, config.heads = 5, TERN_ERR_CONFIG, "heads is 5");
    BAD(good, config.mp_size = 2, TERN_ERR_CONFIG, "expected mp_size = 2 ranks");
    BAD(apart, (void)0, TERN_ERR_ARG, "attention: attn_qw is given, expected attn_qkvw (set_empty_params is false)");
    BAD(apart, (config.set_empty_params = true, w.attn_kw = tern_tensor_none()), TERN_ERR_ARG,
        "attention: attn_kw is not there beside the other parts of attn_qkvw, expected all");
    BAD(apart, (config.set_empty_params = true, w.attn_vw = w.attn_qw), TERN_ERR_SHAPE, "attention: attn_vw is [");
    BAD(apart, (config.set_empty_params = true, w.attn_kw.dtype = TERN_FP16), TERN_ERR_DTYPE,
        "attention: attn_kw is fp16, expected fp32 as attn_qw is");
#undef BAD
    tern_weight *packed;
    w = apart;
    config = b.config;
    config.set_empty_params = true;
    assert_ok(ctx, tern_weight_pack(ctx, &w.attn_qw, config.transposed_mode, &packed));
    w.attn_qw = tern_weight_view(packed);
    assert_fails(ctx, tern_attention_create(ctx, &config, NULL, NULL, &w, &attention), TERN_ERR_UNSUPPORTED,
                 "attention: attn_qw is a packed weight, expected a raw one (it becomes a part of attn_qkvw)");
    tern_weight_destroy(&packed);
    assert_fails(ctx, tern_attention_create(ctx, NULL, NULL, NULL, &good, &attention), TERN_ERR_ARG, "config is NULL");
    assert_fails(ctx, tern_attention_create(ctx, &b.config, NULL, NULL, NULL, &attention), TERN_ERR_ARG,
                 "weights is NULL");
    assert_fails(ctx, tern_attention_create(ctx, &b.config, NULL, NULL, &good, NULL), TERN_ERR_ARG, "out is NULL");

    const int64_t n = (int64_t)b.rows;
    tern_tensor out = FN_OUT(TERN_FP32, 1, n, H), norm = FN_OUT(TERN_FP32, 1, n, H), bad = FN_IN(TERN_FP32, 1, n, 3);
    tern_attention_options options = tern_attention_options_default();
    tern_kv_cache *cache;
    const tern_kv_span span = start(ctx, &b, &cache);
    assert_ok(ctx, tern_attention_create(ctx, &b.config, NULL, NULL, &good, &attention));
#define FORWARD(in, o, mask, c, out_) \
    tern_attention_forward(ctx, attention, o, in, mask, NULL, c, 1, &span, 1, out_, &norm)
    assert_fails(ctx, FORWARD(NULL, NULL, NULL, cache, &out), TERN_ERR_ARG, "attention: input is NULL");
    assert_fails(ctx, FORWARD(&bad, NULL, NULL, cache, &out), TERN_ERR_SHAPE, "attention: input is [");
    assert_fails(ctx, FORWARD(&b.input, NULL, NULL, cache, &bad), TERN_ERR_SHAPE, "attention: output is [");
    assert_fails(ctx, FORWARD(&b.input, NULL, NULL, cache, &norm), TERN_ERR_ARG, "overlaps");
    assert_fails(ctx, FORWARD(&b.input, NULL, &bad, cache, &out), TERN_ERR_SHAPE, "softmax_context: mask is [");
    assert_fails(ctx, FORWARD(&b.input, NULL, NULL, NULL, &out), TERN_ERR_ARG, "cache is NULL");
    options.v_head_dim = 5;
    assert_fails(ctx, FORWARD(&b.input, &options, NULL, cache, &out), TERN_ERR_CONFIG,
                 "v_head_dim is 5, expected 0 or 6");
    assert_true(fn_untouched(&out) && fn_untouched(&norm));
    tern_attention_destroy(&attention);
    tern_attention_destroy(&attention);
    tern_attention_destroy(NULL);
    tern_kv_cache_destroy(&cache);
    drop(&b);
    tern_ctx_destroy(&ctx);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    FAULT_NEEDED;
    tern_ctx *ctx = test_ctx(1);

    for (size_t k = 0; k < DT_KINDS; k++) {
        struct block b = block(ctx, &dt_kinds[k], 9);
        tern_layer_weights raw, apart;
        tern_tensor out = FN_OUT(b.kind->a, 1, (int64_t)b.rows, H), norm = FN_OUT(b.kind->a, 1, (int64_t)b.rows, H);
        tern_attention *attention = NULL;
        tern_kv_cache *cache;
        const tern_kv_span span = start(ctx, &b, &cache);

        raw_and_apart(ctx, &b, &raw, &apart);
        b.config.set_empty_params = true;
        FAULT_EACH(n)
        {
            fault_arm(n);
            const tern_status status = tern_attention_create(ctx, &b.config, NULL, NULL, &apart, &attention);
            FAULT_DONE(n, ctx, status, attention);
            tern_attention_destroy(&attention);
        }
        FAULT_EACH(n)
        {
            fault_arm(n);
            const tern_status status =
                tern_attention_forward(ctx, attention, NULL, &b.input, NULL, NULL, cache, 1, &span, 1, &out, &norm);
            FAULT_DONE(n, ctx, status, status == TERN_OK ? ctx : NULL);
            assert_true(fn_untouched(&out) && fn_untouched(&norm));
        }
        tern_attention_destroy(&attention);
        tern_kv_cache_destroy(&cache);
        drop(&b);
    }
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_forms),
        OP_TEST(test_value_heads_of_any_width),
        OP_TEST(test_masks_and_options),
        OP_TEST(test_bloom_from_parts),
        OP_TEST(test_decode_is_prefill),
        OP_TEST(test_q_scales_are_those_of_the_definition),
        OP_TEST(test_bad_q_scales),
        OP_TEST(test_one_reduction_in_a_sequential_block_with_ranks),
        OP_TEST(test_bad_modules),
        OP_TEST(test_allocation_failures),
    };
    return cmocka_run_group_tests_name("modules/attention_module", tests, NULL, NULL);
}
