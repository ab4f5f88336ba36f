/* test_defects.c: places where the reference's modules go wrong, and what holds in these instead, in every dtype.  Numbers are
 * those of docs/operators.md. */
#include "ops/dtype_testing.h"

#include <tern/moe.h>

static tern_ctx *ctx;

static int setup(void **state)
{
    (void)state;
    ctx = test_ctx(2);
    return 0;
}

static int end(void **state)
{
    (void)state;
    tern_ctx_destroy(&ctx);
    return 0;
}

#define EACH_KIND(kind) for (const struct dt_kind *kind = dt_kinds; kind < dt_kinds + DT_KINDS; kind++)

/* ---- configs ---- */

static void test_b3_fields_of_a_json_have_their_effect(void **state)
{
    static const char text[] = "{\"hidden_size\": 6, \"heads\": 2, \"dtype\": \"fp32\", \"layer_norm_eps\": 3}";
    tern_config c = tern_config_default();
    const tern_tensor wide = FN_IN(TERN_FP32, 1, 6, 24), narrow = FN_IN(TERN_FP32, 1, 6, 20);
    const tern_tensor down = FN_IN(TERN_FP32, 1, 24, 6), g = FN_IN(TERN_FP32, 1, 6), eye = FN_IN(TERN_FP32, 1, 6, 6);
    tern_tensor x = FN_OUT(TERN_FP32, 1, 6), y = FN_OUT(TERN_FP32, 1, 6), norm = FN_OUT(TERN_FP32, 1, 6);
    tern_layer_weights w = tern_layer_weights_none();
    tern_mlp *mlp;

    (void)state;
    assert_ok(ctx, tern_config_parse(ctx, text, sizeof text - 1, "config.json", &c));
    /* intermediate_size is 4 H where it is not given, and dtype is a dtype. */
    w.attn_nw = g;
    w.inter_w = wide;
    w.output_w = down;
    assert_ok(ctx, tern_mlp_create(ctx, &c, NULL, NULL, &w, &mlp));
    tern_mlp_destroy(&mlp);
    w.inter_w = narrow;
    assert_fails(ctx, tern_mlp_create(ctx, &c, NULL, NULL, &w, &mlp), TERN_ERR_SHAPE, "24");
    /* layer_norm_eps counts: 1, -1, .. have variance 1, so they become half of themselves with an eps of 3. */
    for (size_t i = 0; i < 6; i++)
        fn_put(x.data, TERN_FP32, i, i % 2 ? -1 : 1);
    assert_ok(ctx, tern_qkv_gemm(ctx, &c, &x, &eye, NULL, &g, NULL, &y, &norm));
    for (size_t i = 0; i < 6; i++)
        assert_true(fabs(fn_at(&norm, i) - fn_at(&x, i) / 2 * fn_at(&g, i)) < 1e-6);
}

static void test_b4_fields_of_a_mixture_go_where_their_names_say(void **state)
{
    static const char text[] =
        "{\"mp_size\": 1, \"dtype\": \"int8\", \"moe_experts\": 4, \"global_experts\": 8, \"k\": 2, "
        "\"capacity_factor\": "
        "1.5, \"eval_capacity_factor\": 2.5, \"min_capacity\": 7, \"drop_tokens\": false, \"mlp_type\": \"residual\"}";
    const tern_config standard = tern_config_default();
    tern_op_settings s = tern_op_settings_default();

    (void)state;
    assert_ok(ctx, tern_op_settings_parse(ctx, TERN_MODULE_MOE, text, sizeof text - 1, "moe.json", &s));
    assert_int_equal(s.moe.moe_experts, 4);
    assert_int_equal(s.moe.global_experts, 8);
    assert_int_equal(s.moe.k, 2);
    assert_true(s.moe.capacity_factor == 1.5 && s.moe.eval_capacity_factor == 2.5);
    assert_int_equal(s.moe.min_capacity, 7);
    assert_false(s.moe.drop_tokens);
    assert_int_equal(s.moe.mlp_type, TERN_MOE_RESIDUAL);
    assert_int_equal(s.config.dtype, TERN_INT8);
    /* The operator's k is another one. */
    assert_int_equal(s.params.k, 1);
    assert_ok(ctx, tern_op_settings_set(ctx, tern_op_find("top_k_gating"), &s, "k", "3"));
    assert_true(s.params.k == 3 && s.moe.k == 2);
    /* Nothing is shifted into the fields that a positional call filled. */
    assert_int_equal(s.config.norm_type, standard.norm_type);
    assert_int_equal(s.config.window_size, standard.window_size);
    assert_int_equal(s.config.rotary_dim, standard.rotary_dim);
    assert_true(s.config.pre_layer_norm && s.config.scale_attention && s.config.triangular_masking);
    assert_false(s.config.stochastic_mode || s.config.local_attention || s.config.rotate_half);
}

/* ---- feed-forward ---- */

/* A feed-forward whose product is 0, so that its result is the sum around it: residual 2, attention 16, its bias 128, the last
 * bias 1024. */
static double sum_of(const struct dt_kind *kind, tern_norm norm, bool norm_there, bool bias, bool last)
{
    const int64_t H = 4, I = 6;
    const tern_tensor none = tern_tensor_none();
    tern_tensor x[5], y = FN_OUT(kind->a, 1, 4);
    tern_config c = dt_config(kind);
    tern_layer_weights w = tern_layer_weights_none();
    tern_mlp *mlp;
    static const double values[] = { 2, 16, 128, 1024, 1 };

    for (size_t i = 0; i < 5; i++) {
        const int64_t row[] = { 1, H, -1 };
        x[i] = fn_out(kind->a, i < 2 || i == 4 ? row : row + 1);
        for (size_t j = 0; j < 4; j++)
            fn_put(x[i].data, kind->a, j, values[i]);
    }
    c.hidden_size = 4;
    c.heads = 1;
    c.intermediate_size = 6;
    c.norm_type = norm;
    w.attn_nw = norm_there ? x[2] : none; /* any numbers */
    w.inter_w = FN_OUT(kind->dtype, H, I);
    w.output_w = FN_OUT(kind->dtype, I, H);
    memset(w.inter_w.data, 0, (size_t)(H * I) * tern_dtype_size(kind->dtype));
    memset(w.output_w.data, 0, (size_t)(H * I) * tern_dtype_size(kind->dtype));
    if (kind->dtype == TERN_INT8) {
        w.inter_w_scale = FN_IN(TERN_FP32, 1, 1);
        w.output_w_scale = FN_IN(TERN_FP32, 1, 1);
    }
    w.output_b = last ? x[3] : none;
    assert_ok(ctx, tern_mlp_create(ctx, &c, NULL, NULL, &w, &mlp));
    assert_ok(ctx, tern_mlp_forward(ctx, mlp, &x[1], &x[0], &x[4], bias ? &x[2] : NULL, &y));
    tern_mlp_destroy(&mlp);
    return fn_at(&y, 0);
}

static void test_b38_b40_b42_each_term_of_a_block_counts_once(void **state)
{
    (void)state;
    EACH_KIND(kind)
    for (int norm = TERN_LAYER_NORM; norm <= TERN_RMS_NORM; norm += TERN_RMS_NORM - TERN_LAYER_NORM)
        for (int which = 0; which < 8; which++) {
            const bool bias = which & 1, last = which & 2, there = which & 4;
            const double want = 2 + 16 + (bias ? 128 : 0) + (last ? 1024 : 0);
            /* bf16 has eight bits: what is stored is the sum, rounded once. */
            const double got = sum_of(kind, (tern_norm)norm, there, bias, last);
            assert_true(fabs(got - want) <= fn_half_ulp(kind->a, want));
        }
}

/* ---- attention ---- */

#define HEADS  4
#define GROUPS 2
#define WIDTH  8
#define H      (HEADS * WIDTH)
#define QKV    ((HEADS + 2 * GROUPS) * WIDTH)

struct attention {
    const struct dt_kind *kind;
    tern_config config;
    struct dt_matrix qkvw, ow;
    tern_tensor qkvb, nw, nb, alibi;
};

static struct attention attention(const struct dt_kind *kind, bool post, bool transposed)
{
    struct attention a = { .kind = kind, .config = dt_config(kind) };

    a.config.hidden_size = H;
    a.config.heads = HEADS;
    a.config.num_kv = GROUPS;
    a.config.rotary_dim = WIDTH;
    a.config.pre_layer_norm = !post;
    a.config.transposed_mode = transposed;
    a.qkvw = dt_matrix(ctx, kind, transposed, H, QKV, 0.3f, 8);
    a.ow = dt_matrix(ctx, kind, transposed, H, H, 0.3f, 4);
    a.qkvb = FN_IN(kind->a, 1, QKV);
    a.nw = post ? tern_tensor_none() : FN_IN(kind->a, 1, H);
    a.nb = post ? tern_tensor_none() : FN_IN(kind->a, 1, H);
    a.alibi = FN_IN(TERN_FP32, 0.1f, HEADS);
    return a;
}

static void drop(struct attention *a)
{
    tern_weight_destroy(&a->qkvw.packed);
    tern_weight_destroy(&a->ow.packed);
}

static tern_layer_weights weights_of(const struct attention *a, bool bias)
{
    tern_layer_weights w = tern_layer_weights_none();

    w.norm_w = a->nw;
    w.norm_b = a->nb;
    w.attn_qkvw = a->qkvw.raw;
    w.attn_qkvw_scale = a->qkvw.scale;
    w.attn_ow = a->ow.raw;
    w.attn_ow_scale = a->ow.scale;
    w.attn_qkvb = bias ? a->qkvb : tern_tensor_none();
    return w;
}

static tern_kv_cache *new_cache(int32_t sequences)
{
    const tern_kv_shape shape = { .n_layers = 1,
                                  .n_kv_heads = GROUPS,
                                  .head_dim = WIDTH,
                                  .n_positions = 64 * sequences,
                                  .n_sequences = sequences,
                                  .n_context = 64 };
    tern_kv_cache *cache;
    int32_t id;

    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    for (int32_t i = 0; i < sequences; i++)
        assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &id));
    return cache;
}

/* Rows [from, to) of x through the module, as the next tokens of sequence 0. */
static void step(const tern_attention *m, tern_kv_cache *cache, const tern_tensor *alibi, const tern_tensor *x,
                 tern_tensor *y, int64_t from, int64_t to)
{
    const size_t size = (size_t)from * (size_t)x->dim[1] * tern_dtype_size(x->dtype);
    const int64_t dim[] = { to - from, x->dim[1] };
    const tern_tensor in = tern_tensor_view((char *)x->data + size, x->dtype, 2, dim);
    tern_tensor out = tern_tensor_view((char *)y->data + size, y->dtype, 2, dim);
    const tern_kv_span span = { .n_rows = (int32_t)(to - from), .position = from };

    assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
    assert_ok(ctx, tern_attention_forward(ctx, m, NULL, &in, NULL, alibi, cache, 0, &span, 1, &out, NULL));
    assert_ok(ctx, tern_kv_commit(ctx, cache, &span, 1));
}

/* B25: the product before the attention of a post-LN block has its scales.  B57: it is of all rows.  B58: no other vector stands in
 * for its bias.  B59: slopes reach the attention.  So the module is its operators, to the bit. */
static void test_b25_b57_b58_b59_attention_is_its_operators(void **state)
{
    (void)state;
    EACH_KIND(kind)
    for (int v = 0; v < 16; v++) {
        const bool post = v & 1, bias = v & 2, sloped = v & 4, transposed = v & 8;
        struct attention a = attention(kind, post, transposed);
        const tern_layer_weights w = weights_of(&a, bias);
        const tern_tensor x = FN_IN(kind->a, 1, 7, H);
        tern_tensor got = FN_OUT(kind->a, 7, H), want = FN_OUT(kind->a, 7, H), qkv = FN_OUT(kind->a, 7, QKV);
        tern_tensor context = FN_OUT(kind->a, 7, H);
        const tern_tensor *alibi = sloped ? &a.alibi : NULL, *qkvb = bias ? &a.qkvb : NULL;
        const tern_kv_span span = { .n_rows = 7 };
        tern_kv_cache *one = new_cache(1), *other = new_cache(1);
        tern_attention *m;

        assert_ok(ctx, tern_attention_create(ctx, &a.config, NULL, NULL, &w, &m));
        step(m, one, alibi, &x, &got, 0, 7);
        if (post)
            assert_ok(ctx, tern_linear(ctx, &a.config, &x, &a.qkvw.given, qkvb, &qkv));
        else
            assert_ok(ctx, tern_qkv_gemm(ctx, &a.config, &x, &a.qkvw.given, qkvb, &a.nw, &a.nb, &qkv, NULL));
        assert_ok(ctx, tern_kv_reserve(ctx, other, &span, 1));
        assert_ok(ctx, tern_softmax_context(ctx, &a.config, NULL, &qkv, NULL, alibi, other, 0, &span, 1, &context));
        assert_ok(ctx, tern_vector_matmul(ctx, &a.config, &context, &a.ow.given, &want));
        fn_same(&got, want.data, kind->name);

        /* The product's scales against f64, not against the operator alone. */
        if (post) {
            tern_tensor plain = FN_OUT(kind->a, 7, QKV);
            assert_ok(ctx, tern_linear(ctx, &a.config, &x, &a.qkvw.given, qkvb, &plain));
            fn_near(&plain,
                    naive_matmul(dt_rows(kind, fn_doubles(&x), 7, H), a.qkvw.wide, bias ? dt_floats(&a.qkvb) : NULL, 7,
                                 H, QKV),
                    kind->bound, "qkv of a post-LN block");
        }
        tern_attention_destroy(&m);
        tern_kv_cache_destroy(&one);
        tern_kv_cache_destroy(&other);
        drop(&a);
        test_teardown(NULL);
    }
}

/* B51: layers, caches and positions are the objects' own.  B49: the first batch sizes nothing.  B60: keys and values are there at each
 * step.  Two modules in turn, in steps of other sizes, give what each gives alone and at once. */
static void test_b49_b51_b60_modules_in_turn_do_not_meet(void **state)
{
    (void)state;
    EACH_KIND(kind)
    {
        struct attention a[2] = { attention(kind, false, false), attention(kind, true, true) };
        tern_kv_cache *alone[2] = { new_cache(1), new_cache(1) }, *turns[2] = { new_cache(1), new_cache(1) };
        tern_attention *m[2];
        tern_tensor x[2], want[2], got[2];

        for (int i = 0; i < 2; i++) {
            const tern_layer_weights w = weights_of(&a[i], true);
            x[i] = FN_IN(kind->a, 1, 12, H);
            want[i] = FN_OUT(kind->a, 12, H);
            got[i] = FN_OUT(kind->a, 12, H);
            assert_ok(ctx, tern_attention_create(ctx, &a[i].config, NULL, NULL, &w, &m[i]));
            step(m[i], alone[i], NULL, &x[i], &want[i], 0, 12);
        }
        static const int64_t cuts[2][6] = { { 0, 1, 2, 3, 8, 12 }, { 0, 3, 4, 5, 6, 12 } };
        for (int s = 0; s < 5; s++)
            for (int i = 0; i < 2; i++)
                step(m[i], turns[i], NULL, &x[i], &got[i], cuts[i][s], cuts[i][s + 1]);
        for (int i = 0; i < 2; i++) {
            fn_same(&got[i], want[i].data, kind->name);
            tern_attention_destroy(&m[i]);
            tern_kv_cache_destroy(&alone[i]);
            tern_kv_cache_destroy(&turns[i]);
            drop(&a[i]);
        }
        test_teardown(NULL);
    }
}

/* Columns [from, to) of a raw matrix [in, out]. */
static tern_tensor columns(const tern_tensor *m, int64_t from, int64_t to)
{
    const size_t size = tern_dtype_size(m->dtype), n = (size_t)(to - from);
    const int64_t dim[] = { m->dim[0], to - from };
    char *data = test_bytes((size_t)m->dim[0] * n * size);

    for (size_t i = 0; i < (size_t)m->dim[0]; i++)
        memcpy(data + i * n * size, (char *)m->data + (i * (size_t)m->dim[1] + (size_t)from) * size, n * size);
    return tern_tensor_view(data, m->dtype, 2, dim);
}

static tern_tensor elements(const tern_tensor *v, int64_t from, int64_t to)
{
    const int64_t n = to - from;

    return v->rank < 0 ? *v
                       : tern_tensor_view((char *)v->data + (size_t)from * tern_dtype_size(v->dtype), v->dtype, 1, &n);
}

/* B61: q, k and v are parts of their own sizes, not thirds.  B66: the number of KV heads decides those sizes. */
static void test_b61_b66_grouped_heads_have_parts_of_their_own_sizes(void **state)
{
    const int64_t q = HEADS * WIDTH, k = q + GROUPS * WIDTH, all = QKV;

    (void)state;
    EACH_KIND(kind)
    {
        struct attention a = attention(kind, true, false);
        tern_layer_weights w = weights_of(&a, true);
        const tern_tensor x = FN_IN(kind->a, 1, 5, H);
        tern_tensor got = FN_OUT(kind->a, 5, H), want = FN_OUT(kind->a, 5, H);
        tern_kv_cache *one = new_cache(1), *other = new_cache(1);
        tern_attention *m;

        assert_ok(ctx, tern_attention_create(ctx, &a.config, NULL, NULL, &w, &m));
        step(m, one, NULL, &x, &want, 0, 5);
        tern_attention_destroy(&m);

        a.config.set_empty_params = true;
        w.attn_qw = columns(&a.qkvw.raw, 0, q);
        w.attn_kw = columns(&a.qkvw.raw, q, k);
        w.attn_vw = columns(&a.qkvw.raw, k, all);
        w.attn_qb = elements(&a.qkvb, 0, q);
        w.attn_kb = elements(&a.qkvb, q, k);
        w.attn_vb = elements(&a.qkvb, k, all);
        /* A scale for each 8 channels: 4, 2 and 2 of them. */
        w.attn_qw_scale = elements(&a.qkvw.scale, 0, 4);
        w.attn_kw_scale = elements(&a.qkvw.scale, 4, 6);
        w.attn_vw_scale = elements(&a.qkvw.scale, 6, 8);
        w.attn_qkvw = w.attn_qkvb = w.attn_qkvw_scale = tern_tensor_none();
        assert_ok(ctx, tern_attention_create(ctx, &a.config, NULL, NULL, &w, &m));
        step(m, other, NULL, &x, &got, 0, 5);
        tern_attention_destroy(&m);
        fn_same(&got, want.data, kind->name);

        a.config.set_empty_params = false;
        a.config.num_kv = -1; /* as many as heads */
        w = weights_of(&a, false);
        assert_fails(ctx, tern_attention_create(ctx, &a.config, NULL, NULL, &w, &m), TERN_ERR_SHAPE, "attn_qkvw");
        assert_null(m);
        tern_kv_cache_destroy(&one);
        tern_kv_cache_destroy(&other);
        drop(&a);
        test_teardown(NULL);
    }
}

/* B46: a weight without codes, or codes without scales, are no int8 module.  B60: nor are rows of another dtype taken. */
static void test_b46_b60_weights_and_rows_are_of_the_configs_dtype(void **state)
{
    (void)state;
    EACH_KIND(kind)
    {
        struct attention a = attention(kind, true, false);
        tern_layer_weights w = weights_of(&a, false);
        tern_attention *m;

        FN_EACH_DTYPE(d)
        {
            const tern_tensor x = FN_IN(d, 1, 1, H);
            tern_tensor y = FN_OUT(d, 1, H);
            const tern_kv_span span = { .n_rows = 1 };
            tern_kv_cache *cache = new_cache(1);
            if ((tern_dtype)d == kind->a) {
                tern_kv_cache_destroy(&cache);
                continue;
            }
            assert_ok(ctx, tern_attention_create(ctx, &a.config, NULL, NULL, &w, &m));
            assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
            assert_fails(ctx, tern_attention_forward(ctx, m, NULL, &x, NULL, NULL, cache, 0, &span, 1, &y, NULL),
                         TERN_ERR_DTYPE, "expected");
            assert_true(fn_untouched(&y));
            tern_attention_destroy(&m);
            tern_kv_cache_destroy(&cache);
        }
        if (kind->dtype == TERN_INT8) {
            FN_EACH_DTYPE(d)
            {
                w.attn_qkvw = FN_IN(d, 1, H, QKV);
                assert_fails(ctx, tern_attention_create(ctx, &a.config, NULL, NULL, &w, &m), TERN_ERR_ARG, "attn_qkvw");
                w.attn_qkvw_scale = tern_tensor_none();
                assert_fails(ctx, tern_attention_create(ctx, &a.config, NULL, NULL, &w, &m), TERN_ERR_DTYPE,
                             "attn_qkvw");
                w.attn_qkvw_scale = a.qkvw.scale;
            }
            w.attn_qkvw = a.qkvw.raw;
            w.attn_qkvw_scale = tern_tensor_none();
            assert_int_not_equal(tern_attention_create(ctx, &a.config, NULL, NULL, &w, &m), TERN_OK);
            assert_null(m);
        }
        drop(&a);
        test_teardown(NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_b3_fields_of_a_json_have_their_effect),
        OP_TEST(test_b4_fields_of_a_mixture_go_where_their_names_say),
        OP_TEST(test_b38_b40_b42_each_term_of_a_block_counts_once),
        OP_TEST(test_b25_b57_b58_b59_attention_is_its_operators),
        OP_TEST(test_b49_b51_b60_modules_in_turn_do_not_meet),
        OP_TEST(test_b61_b66_grouped_heads_have_parts_of_their_own_sizes),
        OP_TEST(test_b46_b60_weights_and_rows_are_of_the_configs_dtype),
    };
    return cmocka_run_group_tests_name("modules/defects", tests, setup, end);
}
