/* test_layer_masked.c: a layer with masks, slopes, positions and options: against f64, against its modules; what can be wrong. */
#include "faults.h"
#include "ops/dtype_testing.h"

enum { HEADS = 4, GROUPS = 2, E = 6, H = HEADS * E, INNER = 40, B = 2, S = 9 };
enum form { PRE, POST, PARALLEL_OWN, PARALLEL_SHARED, FORMS };

/* A layer without biases, and B sequences of S rows. */
struct block {
    const struct dt_kind *kind;
    enum form form;
    size_t e2;
    tern_config config;
    struct dt_matrix qkv, out, up, down;
    tern_tensor n1, n2, x;
};

static struct block block(tern_ctx *ctx, const struct dt_kind *kind, enum form form, size_t e2)
{
    struct block b = { .kind = kind, .form = form, .e2 = e2, .config = dt_config(kind) };
    const bool gated = form == PRE;

    b.config.hidden_size = H;
    b.config.heads = HEADS;
    b.config.num_kv = GROUPS;
    b.config.intermediate_size = INNER;
    b.config.mlp_act_func_type = gated ? TERN_GATED_SILU : TERN_GELU;
    b.config.pre_layer_norm = form != POST;
    b.config.mlp_after_attn = form < PARALLEL_OWN;
    b.qkv = dt_matrix(ctx, kind, false, H, (HEADS + GROUPS) * E + GROUPS * e2, 0.2f, 2);
    b.out = dt_matrix(ctx, kind, false, HEADS * e2, H, 0.3f, 3);
    b.up = dt_matrix(ctx, kind, false, H, gated ? 2 * INNER : INNER, 0.3f, 4);
    b.down = dt_matrix(ctx, kind, false, INNER, H, 0.3f, 2);
    b.n1 = FN_IN(TERN_FP32, 1, H);
    b.n2 = form == PARALLEL_SHARED ? tern_tensor_none() : FN_IN(TERN_FP32, 1, H);
    b.x = FN_IN(kind->a, 1, B * S, H);
    return b;
}

static tern_layer_weights weights_of(const struct block *b)
{
    return (tern_layer_weights){ .norm_w = b->n1,
                                 .attn_qkvw = b->qkv.given,
                                 .attn_ow = b->out.given,
                                 .attn_nw = b->n2,
                                 .inter_w = b->up.given,
                                 .output_w = b->down.given };
}

static void drop(struct block *b)
{
    tern_weight_destroy(&b->qkv.packed);
    tern_weight_destroy(&b->out.packed);
    tern_weight_destroy(&b->up.packed);
    tern_weight_destroy(&b->down.packed);
}

static tern_kv_cache *start(tern_ctx *ctx, const struct block *b, tern_kv_span *spans)
{
    const tern_kv_shape shape = { .n_layers = 1,
                                  .n_kv_heads = GROUPS,
                                  .head_dim = (int32_t)(b->e2 > E ? b->e2 : E),
                                  .n_positions = 64 * B,
                                  .n_sequences = B,
                                  .n_context = 64 };
    tern_kv_cache *cache;

    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    for (int32_t i = 0; i < B; i++) {
        spans[i] = (tern_kv_span){ .row = i * S, .n_rows = S };
        assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &spans[i].sequence));
    }
    assert_ok(ctx, tern_kv_reserve(ctx, cache, spans, B));
    return cache;
}

/* The layer's rows, in a copy. */
static tern_tensor run(tern_ctx *ctx, const struct block *b, const tern_attention_options *options,
                       const tern_tensor *mask, const tern_tensor *alibi)
{
    const tern_layer_weights w = weights_of(b);
    tern_tensor x = b->x;
    tern_kv_span spans[B];
    tern_kv_cache *cache = start(ctx, b, spans);
    tern_layer *layer;

    x.data = fn_keep(&b->x);
    assert_ok(ctx, tern_layer_create(ctx, &b->config, NULL, NULL, &w, &layer));
    assert_ok(ctx, tern_layer_forward_masked(ctx, layer, options, &x, mask, alibi, cache, 0, spans, B));
    tern_layer_destroy(&layer);
    tern_kv_cache_destroy(&cache);
    return x;
}

/* ---- the definition ---- */

/* f64, with what a mask adds: [B][S][S], -INFINITY hides. */
static double *naive(const struct block *b, const float *added, const float *alibi)
{
    const size_t m = B * S, n = m * H, qkv_width = (size_t)b->qkv.raw.dim[1], context = HEADS * b->e2;
    const double *x = fn_doubles(&b->x), eps = b->config.layer_norm_eps;
    const double *n1 = b->form == POST ? x : naive_norm(x, b->n1.data, NULL, m, H, eps, false);
    const double *qkv = naive_matmul(dt_rows(b->kind, n1, m, H), b->qkv.wide, NULL, m, H, qkv_width);
    double *attended = test_doubles(m * context), *s = test_doubles(n), *out = test_doubles(n);
    float *stored = test_bytes(m * qkv_width * 4);

    for (size_t i = 0; i < m * qkv_width; i++)
        stored[i] = (float)qkv[i];
    for (size_t i = 0; i < B; i++) {
        const struct naive_attention a = { .heads = HEADS,
                                           .kv_heads = GROUPS,
                                           .head_dim = E,
                                           .v_dim = b->e2,
                                           .causal = b->config.triangular_masking,
                                           .scale = 1 / sqrt((double)E),
                                           .theta = 10000,
                                           .alibi = alibi,
                                           .mask = added ? added + i * S * S : NULL,
                                           .mask_stride = S };
        memcpy(attended + i * S * context, naive_attention(&a, stored + i * S * qkv_width, S),
               S * context * sizeof *attended);
    }
    const double *attn = naive_matmul(dt_rows(b->kind, attended, m, context), b->out.wide, NULL, m, context, H);
    for (size_t i = 0; i < n; i++)
        s[i] = x[i] + attn[i];
    const double *z = b->form == PARALLEL_SHARED
                          ? n1
                          : naive_norm(b->form == PARALLEL_OWN ? x : s, b->n2.data, NULL, m, H, eps, false);
    const double *f = dt_mlp(b->kind, z, b->up.wide, NULL, b->down.wide, m, H, (size_t)b->up.raw.dim[1], H,
                             b->config.mlp_act_func_type, TERN_GELU_UNSET);
    for (size_t i = 0; i < n; i++)
        out[i] = f[i] + (b->form == POST ? z[i] : s[i]);
    return b->form == POST ? naive_norm(out, b->n1.data, NULL, m, H, eps, false) : out;
}

/* q, k, v, the weights of v and the context are rounded on the way where the definition does not: 2^-11 of each in fp16, 2^-8 in
 * bf16; norms enlarge that, and fp32's own, by the ratio of a row's largest value to its spread, up to 20.  A code of a row is off
 * by up to half a step, where what it is made of is off by less than that. */
static double bound_of(const struct dt_kind *kind)
{
    const double stored = kind->a == TERN_BF16 ? 3e-2 : kind->a == TERN_FP16 ? 2e-3 : 2e-5;

    return kind->quant == TERN_QUANT_ROW ? stored + 4e-2 : stored;
}

enum mask_kind { NONE, ADDED, ADDED_FP32, KEYS, BOOLS, INTS, HIDES, MASKS };

/* A mask of a kind, and what it adds. */
static tern_tensor make_mask(enum mask_kind kind, tern_dtype a, float *added)
{
    const bool keys = kind == KEYS, numbers = kind == ADDED || kind == ADDED_FP32;
    const tern_dtype dtype = kind == ADDED        ? a
                             : kind == ADDED_FP32 ? TERN_FP32
                             : kind == INTS       ? TERN_INT64
                             : kind == HIDES      ? TERN_INT8
                                                  : TERN_BOOL;
    tern_tensor t = FN_OUT(dtype, B, 1, keys ? 1 : S, S);

    for (size_t i = 0; i < B * S * S; i++) {
        const size_t j = i % S, row = i / S % S, batch = i / (S * S),
                     hash = (j * 7 + (keys ? 0 : row * 3) + batch * 5) % 13;
        const bool see = hash > 3 && (keys || row != 4); /* a row that sees nothing */
        const size_t at = keys ? batch * S + j : i;
        added[i] = see ? 0 : -INFINITY;
        if (numbers) {
            fn_put(t.data, dtype, at, see ? (double)hash * 0.17 - 1 : -INFINITY);
            added[i] = (float)fn_get(t.data, dtype, at);
        } else if (kind == INTS) {
            ((int64_t *)t.data)[at] = see ? INT64_MIN : 0;
        } else if (kind == HIDES) {
            ((int8_t *)t.data)[at] = see ? 0 : -1;
        } else {
            ((bool *)t.data)[at] = see;
        }
    }
    return t;
}

static void test_masks_and_slopes_are_those_of_the_definition(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (size_t k = 0; k < DT_KINDS; k++)
        for (int form = 0; form < FORMS; form++)
            for (int mask = NONE; mask < MASKS; mask++) {
                const struct dt_kind *kind = &dt_kinds[k];
                struct block b = block(ctx, kind, (enum form)form, mask % 3 == 1 ? 9 : E);
                float *added = test_bytes(B * S * S * 4);
                const tern_tensor given = make_mask((enum mask_kind)mask, kind->a, added);
                const tern_tensor slopes = FN_IN(mask & 2 ? TERN_FP32 : kind->a, 0.2f, HEADS);
                const bool alibi = mask % 2 == 0;

                b.config.triangular_masking = mask % 3 != 0;
                b.config.invert_mask = mask != HIDES;
                const tern_tensor got = run(ctx, &b, NULL, mask ? &given : NULL, alibi ? &slopes : NULL);
                fn_near(&got, naive(&b, mask ? added : NULL, alibi ? dt_floats(&slopes) : NULL), bound_of(kind),
                        kind->name);
                drop(&b);
                test_teardown(NULL);
            }
    tern_ctx_destroy(&ctx);
}

/* Without biases the modules put together give the same bits in fp32; so options go where they belong. */
static void test_options_are_those_of_the_attention(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (int form = 0; form < FORMS; form++)
        for (int variant = 0; variant < 6; variant++) {
            struct block b = block(ctx, &dt_kinds[0], (enum form)form, variant & 1 ? 8 : E);
            const tern_layer_weights w = weights_of(&b);
            tern_attention_options options = { .scale = variant < 2 ? NAN : 0.2f * (float)variant,
                                               .softcap = variant % 3 ? 0 : 2,
                                               .v_head_dim = variant & 2 ? (int32_t)b.e2 : 0 };
            int64_t places[B * S];
            for (size_t i = 0; i < B * S; i++)
                places[i] = (int64_t)(i * i % 23);
            const tern_tensor ids = tern_tensor_view(places, TERN_INT64, 1, (int64_t[]){ B * S });
            options.position_ids = variant > 3 ? &ids : NULL;
            b.config.rotary_dim = 4;

            tern_tensor a = FN_OUT(TERN_FP32, B * S, H), norm = FN_OUT(TERN_FP32, B * S, H),
                        want = FN_OUT(TERN_FP32, B * S, H);
            tern_attention *attention;
            tern_mlp *mlp;
            tern_kv_span spans[B];
            tern_kv_cache *cache = start(ctx, &b, spans);
            assert_ok(ctx, tern_attention_create(ctx, &b.config, NULL, NULL, &w, &attention));
            assert_ok(ctx, tern_mlp_create(ctx, &b.config, NULL, NULL, &w, &mlp));
            assert_ok(ctx, tern_attention_forward(ctx, attention, &options, &b.x, NULL, NULL, cache, 0, spans, B, &a,
                                                  form == POST ? NULL : &norm));
            assert_ok(ctx, tern_mlp_forward(ctx, mlp, &a, &b.x, &norm, NULL, &want));
            if (form == POST) {
                const tern_tensor sum = want;
                want = FN_OUT(TERN_FP32, B * S, H);
                assert_ok(ctx, tern_layer_norm(ctx, &sum, &b.n1, NULL, b.config.layer_norm_eps, &want));
            }
            const tern_tensor got = run(ctx, &b, &options, NULL, NULL);
            fn_same(&got, want.data, "attention, then feed-forward");
            tern_attention_destroy(&attention);
            tern_mlp_destroy(&mlp);
            tern_kv_cache_destroy(&cache);
            drop(&b);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

/* Padding on the left that is hidden, with the positions of what follows counted from it: the bits of rows without it. */
static void test_rows_behind_padding_are_rows_without_it(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (size_t k = 0; k < DT_KINDS; k++)
        for (int form = 0; form < FORMS; form++) {
            enum { PADDING = 3 };
            const struct dt_kind *kind = &dt_kinds[k];
            struct block b = block(ctx, kind, (enum form)form, E);
            const tern_layer_weights w = weights_of(&b);
            const size_t bytes = H * tern_dtype_size(kind->a);
            int32_t places[S];
            bool see[S];
            tern_layer *layer;
            tern_tensor x[2];

            b.config.rotary_dim = 6;
            assert_ok(ctx, tern_layer_create(ctx, &b.config, NULL, NULL, &w, &layer));
            for (int i = 0; i < S; i++) {
                see[i] = i >= PADDING;
                places[i] = i < PADDING ? 0 : i - PADDING;
            }
            for (int padded = 0; padded < 2; padded++) {
                const int skip = padded ? 0 : PADDING;
                const tern_tensor mask = tern_tensor_view(see + skip, TERN_BOOL, 1, (int64_t[]){ S - skip });
                const tern_tensor ids = tern_tensor_view(places + skip, TERN_INT32, 1, (int64_t[]){ S - skip });
                tern_attention_options options = tern_attention_options_default();
                tern_kv_span spans[B];
                tern_kv_cache *cache = start(ctx, &b, spans);
                x[padded] = tern_tensor_view((char *)fn_keep(&b.x) + (size_t)skip * bytes, kind->a, 2,
                                             (int64_t[]){ S - skip, H });
                spans[0].n_rows = S - skip;
                options.position_ids = &ids;
                assert_ok(ctx,
                          tern_layer_forward_masked(ctx, layer, &options, &x[padded], &mask, NULL, cache, 0, spans, 1));
                tern_kv_cache_destroy(&cache);
            }
            fn_same(&x[0], (char *)x[1].data + PADDING * bytes, kind->name);
            tern_layer_destroy(&layer);
            drop(&b);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

/* ---- q_scales ---- */

/* The codes of a matrix [in, out] by the header's formula: shards were merged along inputs or along outputs. */
static void rescale(struct dt_matrix *m, const float *s, size_t groups, size_t shards, bool along_inputs)
{
    const size_t in = (size_t)m->raw.dim[0], out = (size_t)m->raw.dim[1], part = in / shards;

    for (size_t i = 0; i < in; i++)
        for (size_t o = 0; o < out; o++)
            m->wide[i * out + o] = (float)((int8_t *)m->raw.data)[i * out + o] *
                                   s[along_inputs ? (i % part + o * part) / (part * out / groups) * shards + i / part
                                                  : o / (out / (groups * shards))];
}

static void test_q_scales_of_a_layer_are_those_of_the_definition(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (size_t k = 3; k < DT_KINDS; k++)
        for (int variant = 0; variant < 16; variant++) {
            struct block b = block(ctx, &dt_kinds[k], (enum form)(variant / 4), E);
            const bool extra = variant & 1;
            const size_t shards = variant & 2 ? 2 : 1, groups = 1 + (size_t)variant / 8, most = 2 * groups * shards;
            tern_tensor record = FN_IN(TERN_FP32, 0, 4, (int64_t)most + 1), two = FN_IN(TERN_FP32, 0.1f, 2, 8);
            struct dt_matrix *const m[] = { &b.qkv, &b.out, &b.up, &b.down };
            for (size_t r = 0; r < 4; r++) {
                float *s = (float *)record.data + r * (most + 1);
                const size_t g = r > 1 && extra ? 2 * groups : groups;
                for (size_t i = 0; i <= most; i++)
                    s[i] = i < g * shards ? 0.002f + 0.001f * (float)((i + r) % 4) : NAN;
                rescale(m[r], s, g, shards, r % 2 && shards > 1);
                tern_weight_destroy(&m[r]->packed);
                m[r]->given = m[r]->raw;
            }
            const tern_layer_weights w = weights_of(&b);
            tern_module_quant quant = tern_module_quant_default();
            tern_tensor x = b.x;
            tern_layer *layer = (tern_layer *)ctx;
            tern_kv_span spans[B];
            tern_kv_cache *cache = start(ctx, &b, spans);
            x.data = fn_keep(&b.x);
            quant.q_groups = (int32_t)groups;
            quant.merge_count = (int32_t)shards;
            quant.mlp_extra_grouping = extra;
            assert_fails(ctx, tern_layer_create(ctx, &b.config, NULL, &quant, &w, &layer), TERN_ERR_ARG,
                         "layer: attn_qkvw is raw int8 with no scales, expected attn_qkvw_scale or q_scales");
            assert_null(layer);
            quant.q_scales = &two;
            assert_fails(ctx, tern_layer_create(ctx, &b.config, NULL, &quant, &w, &layer), TERN_ERR_SHAPE,
                         "layer: q_scales is [2, 8], expected [4, L]");
            assert_null(layer);
            quant.q_scales = &record;
            assert_ok(ctx, tern_layer_create(ctx, &b.config, NULL, &quant, &w, &layer));
            assert_ok(ctx, tern_layer_forward(ctx, layer, &x, cache, 0, spans, B));
            fn_near(&x, naive(&b, NULL, NULL), bound_of(b.kind), b.kind->name);
            tern_layer_destroy(&layer);
            tern_kv_cache_destroy(&cache);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

/* ---- what can be wrong ---- */

static void test_bad_calls_leave_the_rows(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);

    for (size_t k = 0; k < DT_KINDS; k++) {
        struct block b = block(ctx, &dt_kinds[k], PRE, 8);
        const tern_dtype a = b.kind->a, other = a == TERN_FP16 ? TERN_BF16 : TERN_FP16;
        const tern_layer_weights w = weights_of(&b);
        const tern_attention_options good = tern_attention_options_default();
        tern_attention_options o;
        tern_tensor x = FN_OUT(a, B * S, H), wrong = FN_OUT(a, B * S, H + 1), ids = FN_OUT(TERN_INT32, B * S), part;
        const tern_tensor narrow = FN_IN(a, 1, B, 1, S, S - 1), heads = FN_IN(a, 1, B, 3, S, S),
                          type = FN_IN(other, 1, S), code = FN_OUT(TERN_FP64, S), five = FN_IN(a, 1, 5),
                          slopes = FN_IN(other, 1, HEADS), floats = FN_IN(TERN_FP32, 1, B * S),
                          few = FN_OUT(TERN_INT32, 3);
        tern_kv_span spans[B], far[B];
        tern_layer *layer;
        struct block thin = { .e2 = E };
        tern_kv_cache *cache = start(ctx, &b, spans), *small = start(ctx, &thin, far);

        memset(ids.data, 0, B * S * sizeof(int32_t));
        assert_ok(ctx, tern_layer_create(ctx, &b.config, NULL, NULL, &w, &layer));
#define BAD(change, rows, mask, alibi, where, status, text)                                                            \
    o = good;                                                                                                          \
    change;                                                                                                            \
    assert_fails(ctx, tern_layer_forward_masked(ctx, layer, &o, rows, mask, alibi, where, 0, spans, B), status, text); \
    assert_true(fn_untouched(&x))
        BAD((void)0, NULL, NULL, NULL, cache, TERN_ERR_ARG, "layer: x is NULL");
        BAD((void)0, &wrong, NULL, NULL, cache, TERN_ERR_SHAPE, "layer: x is [18, 25]");
        BAD((void)0, &x, NULL, NULL, NULL, TERN_ERR_ARG, "layer: cache is NULL");
        BAD((void)0, &x, NULL, NULL, small, TERN_ERR_SHAPE, "layer: the cache has 2 heads of 6, expected 2 of 8");
        BAD((void)0, &x, &narrow, NULL, cache, TERN_ERR_SHAPE, "layer: mask is [2, 1, 9, 8], expected");
        BAD((void)0, &x, &heads, NULL, cache, TERN_ERR_SHAPE, "layer: mask is [2, 3, 9, 9], expected");
        BAD((void)0, &x, &type, NULL, cache, TERN_ERR_DTYPE, "layer: mask is ");
        BAD((void)0, &x, &code, NULL, cache, TERN_ERR_DTYPE, "layer: mask is ");
        BAD((void)0, &x, NULL, &five, cache, TERN_ERR_SHAPE, "layer: alibi is [5]");
        BAD((void)0, &x, NULL, &slopes, cache, TERN_ERR_DTYPE, "layer: alibi is ");
        BAD(o.scale = INFINITY, &x, NULL, NULL, cache, TERN_ERR_ARG, "layer: scale is inf");
        BAD(o.softcap = -1, &x, NULL, NULL, cache, TERN_ERR_ARG, "layer: softcap is -1");
        BAD(o.softcap = NAN, &x, NULL, NULL, cache, TERN_ERR_ARG, "layer: softcap is ");
        BAD(o.v_head_dim = E, &x, NULL, NULL, cache, TERN_ERR_CONFIG, "layer: v_head_dim is 6, expected 0 or 8");
        BAD(o.v_head_dim = -1, &x, NULL, NULL, cache, TERN_ERR_CONFIG, "layer: v_head_dim is -1, expected 0 or 8");
        BAD(o.position_ids = &floats, &x, NULL, NULL, cache, TERN_ERR_DTYPE, "layer: position_ids is fp32");
        BAD(o.position_ids = &few, &x, NULL, NULL, cache, TERN_ERR_SHAPE, "layer: position_ids is [3]");
        BAD((((int32_t *)ids.data)[7] = -2, o.position_ids = &ids), &x, NULL, NULL, cache, TERN_ERR_ARG,
            "layer: position_ids[7] is -2");
        part = tern_tensor_view(x.data, a, 1, (int64_t[]){ S });
        BAD((void)0, &x, &part, NULL, cache, TERN_ERR_ARG, "overlap");
        part.dim[0] = HEADS;
        BAD((void)0, &x, NULL, &part, cache, TERN_ERR_ARG, "overlap");
        part = tern_tensor_view(x.data, TERN_INT8, 1, (int64_t[]){ B * S });
        BAD(o.position_ids = &part, &x, NULL, NULL, cache, TERN_ERR_DTYPE, "layer: position_ids is int8");
#undef BAD
        assert_fails(ctx, tern_layer_forward_masked(ctx, NULL, NULL, &x, NULL, NULL, cache, 0, spans, B), TERN_ERR_ARG,
                     "layer: layer is NULL");
        assert_fails(ctx, tern_layer_forward_masked(ctx, layer, NULL, &x, NULL, NULL, cache, 0, spans, 1), TERN_ERR_ARG,
                     "layer: the spans have 9 rows, expected 18");
        assert_fails(ctx, tern_layer_forward_masked(ctx, layer, NULL, &x, NULL, NULL, cache, -1, spans, B),
                     TERN_ERR_ARG, "layer: cache_layer is -1, expected 0..0");
        assert_true(fn_untouched(&x));
        tern_layer_destroy(&layer);
        tern_kv_cache_destroy(&cache);
        tern_kv_cache_destroy(&small);
        drop(&b);
        test_teardown(NULL);
    }
    tern_ctx_destroy(&ctx);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    FAULT_NEEDED;
    tern_ctx *ctx = test_ctx(1);

    for (size_t k = 0; k < DT_KINDS; k++) {
        struct block b = block(ctx, &dt_kinds[k], k % 2 ? PARALLEL_OWN : PRE, 8);
        const bool int8 = b.kind->dtype == TERN_INT8;
        tern_layer_weights w = weights_of(&b);
        tern_module_quant quant = tern_module_quant_default();
        const tern_tensor record = FN_IN(TERN_FP32, 0.01f, 4, 2), slopes = FN_IN(b.kind->a, 0.1f, HEADS);
        tern_attention_options options = tern_attention_options_default();
        tern_tensor x = b.x, mask = FN_OUT(TERN_BOOL, B, 1, S, S), ids = FN_OUT(TERN_INT32, B * S);
        const void *kept = fn_keep(&x);
        tern_kv_span spans[B];
        tern_kv_cache *cache = start(ctx, &b, spans);
        tern_layer *layer = NULL;

        if (int8) { /* merged shards: every way of packing */
            w.attn_qkvw = b.qkv.raw;
            w.attn_ow = b.out.raw;
            w.inter_w = b.up.raw;
            w.output_w = b.down.raw;
            quant.q_scales = &record;
            quant.merge_count = 2;
        }
        memset(mask.data, 1, fn_elements(&mask));
        memset(ids.data, 0, fn_elements(&ids) * sizeof(int32_t));
        options.position_ids = &ids;
        b.config.rotary_dim = 4;
        FAULT_EACH(n)
        {
            fault_arm(n);
            const tern_status status = tern_layer_create(ctx, &b.config, NULL, &quant, &w, &layer);
            FAULT_DONE(n, ctx, status, layer);
            tern_layer_destroy(&layer);
        }
        FAULT_EACH(n)
        {
            fault_arm(n);
            const tern_status status =
                tern_layer_forward_masked(ctx, layer, &options, &x, &mask, &slopes, cache, 0, spans, B);
            FAULT_DONE(n, ctx, status, status == TERN_OK ? ctx : NULL);
            fn_same(&x, kept, "x after an error");
        }
        assert_true(memcmp(x.data, kept, fn_elements(&x) * tern_dtype_size(x.dtype)) != 0);
        tern_layer_destroy(&layer);
        tern_kv_cache_destroy(&cache);
        drop(&b);
    }
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_masks_and_slopes_are_those_of_the_definition),
        OP_TEST(test_options_are_those_of_the_attention),
        OP_TEST(test_rows_behind_padding_are_rows_without_it),
        OP_TEST(test_q_scales_of_a_layer_are_those_of_the_definition),
        OP_TEST(test_bad_calls_leave_the_rows),
        OP_TEST(test_allocation_failures),
    };
    return cmocka_run_group_tests_name("modules/layer_masked", tests, NULL, NULL);
}
