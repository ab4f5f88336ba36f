/* test_attention_forms.c: softmax_context in every dtype, with every mask, layout and option, against f64 and against itself. */
/* labels: quick threads */
#include "ops/fn_testing.h"

enum mask_kind { NO_MASK, ADDED, ADDED_FP32, PER_HEAD, BOOLS, INT64S, HIDES, KEYS_ONLY, MASKS };

/* B sequences of S rows each, all of them known at the start. */
struct form {
    tern_config config;
    tern_attention_options options;
    size_t batch, s, heads, kv_heads, e, e2;
    tern_tensor qkv; /* [B, S, W] in A */
    enum mask_kind mask;
    double *added;     /* [B, h, S, S] what the mask adds; -INFINITY hides */
    int64_t *position; /* [B, S] or NULL */
    tern_tensor alibi; /* [h] */
    size_t chunk;      /* rows of each sequence in one call */
};

static tern_dtype activation(const struct form *f)
{
    return f->config.dtype == TERN_INT8 ? f->config.activation_dtype : f->config.dtype;
}

static size_t width(const struct form *f)
{
    return (f->heads + f->kv_heads) * f->e + f->kv_heads * f->e2;
}

static size_t q_at(const struct form *f, size_t h)
{
    return f->config.bigscience_bloom ? h * (2 * f->e + f->e2) : h * f->e;
}
static size_t k_at(const struct form *f, size_t g)
{
    return f->config.bigscience_bloom ? g * (2 * f->e + f->e2) + f->e : (f->heads + g) * f->e;
}
static size_t v_at(const struct form *f, size_t g)
{
    return f->config.bigscience_bloom ? g * (2 * f->e + f->e2) + 2 * f->e : (f->heads + f->kv_heads) * f->e + g * f->e2;
}

static struct form form(tern_dtype dtype, size_t batch, size_t s, size_t heads, size_t kv_heads, size_t e, size_t e2)
{
    struct form f = { .config = test_config(),
                      .options = tern_attention_options_default(),
                      .batch = batch,
                      .s = s,
                      .heads = heads,
                      .kv_heads = kv_heads,
                      .e = e,
                      .e2 = e2,
                      .alibi = tern_tensor_none(),
                      .chunk = 1000000 };

    f.config.dtype = dtype;
    f.config.hidden_size = (int64_t)(heads * e);
    f.config.heads = (int32_t)heads;
    f.config.num_kv = (int32_t)kv_heads;
    f.options.v_head_dim = e == e2 ? 0 : (int32_t)e2;
    f.qkv = FN_IN(dtype, 1, (int64_t)batch, (int64_t)s, (int64_t)width(&f));
    return f;
}

/* What a mask of this kind adds for (b, h, i, j), as a pattern: a fifth is hidden, the own position never. */
static void make_mask(struct form *f, enum mask_kind kind)
{
    const size_t n = f->batch * f->heads * f->s * f->s;
    const tern_dtype stored = kind == ADDED_FP32 ? TERN_FP32 : activation(f);

    f->mask = kind;
    f->config.invert_mask = kind != HIDES;
    f->added = test_doubles(n);
    for (size_t i = 0; i < n; i++) {
        const size_t j = i % f->s, row = i / f->s % f->s, b = i / (f->s * f->s * f->heads);
        const size_t h = kind == PER_HEAD ? i / (f->s * f->s) % f->heads : 0;
        const size_t r = kind == KEYS_ONLY ? 0 : row;
        const size_t hash = (j * 7 + r * 3 + h * 11 + b * 5) % 13;
        uint32_t half = 0;
        fn_put(&half, stored, 0, (double)hash * 0.17 - 1);
        f->added[i] = j != row && hash < 3 ? -INFINITY : kind <= PER_HEAD ? fn_get(&half, stored, 0) : 0;
    }
}

/* The mask for rows [from, from + n) and all positions: what is given to the operator. */
static tern_tensor given_mask(const struct form *f, size_t from, size_t n)
{
    const int64_t b = (int64_t)f->batch, h = f->mask == PER_HEAD ? (int64_t)f->heads : 1, s = (int64_t)f->s;
    const tern_dtype dtype = f->mask == ADDED_FP32  ? TERN_FP32
                             : f->mask == BOOLS     ? TERN_BOOL
                             : f->mask == INT64S    ? TERN_INT64
                             : f->mask == HIDES     ? TERN_INT8
                             : f->mask == KEYS_ONLY ? TERN_UINT16
                                                    : activation(f);
    tern_tensor t = fn_out(dtype, (int64_t[]){ b, h, f->mask == KEYS_ONLY ? 1 : (int64_t)n, s, -1 });

    for (size_t i = 0; i < fn_elements(&t); i++) {
        const size_t j = i % f->s, row = from + i / f->s % (size_t)t.dim[2], rest = i / f->s / (size_t)t.dim[2];
        const size_t head = rest % (size_t)h, batch = rest / (size_t)h;
        const double x = f->added[((batch * f->heads + head) * f->s + row) * f->s + j];
        const bool one = (x == 0) != (f->mask == HIDES);
        switch (f->mask) {
        case BOOLS:
            ((bool *)t.data)[i] = one;
            break;
        case INT64S:
            ((int64_t *)t.data)[i] = one ? INT64_C(1) << 40 : 0;
            break;
        case HIDES:
            ((int8_t *)t.data)[i] = one ? -1 : 0;
            break;
        case KEYS_ONLY: /* row 0's own position is no exception here */
            ((uint16_t *)t.data)[i] = (j * 7 + batch * 5) % 13 < 3 ? 0 : 3;
            break;
        default:
            fn_put(t.data, dtype, i, x);
        }
    }
    return t;
}

static void keys_only(struct form *f)
{
    make_mask(f, KEYS_ONLY);
    for (size_t i = 0; i < f->batch * f->heads * f->s * f->s; i++)
        f->added[i] = (i % f->s * 7 + i / (f->s * f->s * f->heads) * 5) % 13 < 3 ? -INFINITY : 0;
}

static tern_kv_cache *make_cache(tern_ctx *ctx, const struct form *f)
{
    const tern_kv_shape shape = { .n_layers = 1,
                                  .n_kv_heads = (int32_t)f->kv_heads,
                                  .head_dim = (int32_t)(f->e > f->e2 ? f->e : f->e2),
                                  .n_positions = (int64_t)(f->batch * (f->s / 64 + 1) * 64),
                                  .n_sequences = (int32_t)f->batch,
                                  .n_context = (int64_t)f->s };
    tern_kv_cache *cache;
    int32_t id;

    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    for (size_t b = 0; b < f->batch; b++)
        assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &id));
    return cache;
}

/* Rows [from, from + n) of each sequence; their contexts to out, [B, S, h E2] in f32. */
static void run_chunk(tern_ctx *ctx, const struct form *f, tern_kv_cache *cache, size_t from, size_t n, float *out)
{
    const int64_t b = (int64_t)f->batch, w = (int64_t)width(f), c = (int64_t)(f->heads * f->e2);
    const size_t size = tern_dtype_size(activation(f));
    tern_tensor qkv = FN_OUT(activation(f), b, (int64_t)n, w), y = FN_OUT(activation(f), b, (int64_t)n, c);
    tern_tensor positions = FN_OUT(TERN_INT64, b, (int64_t)n);
    tern_attention_options options = f->options;
    tern_kv_span spans[8];

    for (size_t i = 0; i < f->batch; i++) {
        memcpy((char *)qkv.data + i * n * (size_t)w * size, (char *)f->qkv.data + (i * f->s + from) * (size_t)w * size,
               n * (size_t)w * size);
        spans[i] = (tern_kv_span){ (int32_t)i, (int32_t)(i * n), (int32_t)n, (int64_t)from };
        if (f->position)
            memcpy((int64_t *)positions.data + i * n, f->position + i * f->s + from, n * sizeof(int64_t));
    }
    options.position_ids = f->position ? &positions : NULL;
    const tern_tensor mask = f->mask ? given_mask(f, from, n) : tern_tensor_none();
    assert_ok(ctx, tern_kv_reserve(ctx, cache, spans, f->batch));
    assert_ok(ctx,
              tern_softmax_context(ctx, &f->config, &options, &qkv, &mask, &f->alibi, cache, 0, spans, f->batch, &y));
    assert_ok(ctx, tern_kv_commit(ctx, cache, spans, f->batch));
    for (size_t i = 0; i < fn_elements(&y); i++)
        out[((i / (n * (size_t)c)) * f->s + from) * (size_t)c + i % (n * (size_t)c)] = (float)fn_at(&y, i);
}

static void run_form(void *arg, tern_ctx *ctx, float *out)
{
    const struct form *f = arg;
    tern_kv_cache *cache = make_cache(ctx, f);

    for (size_t from = 0; from < f->s; from += f->chunk)
        run_chunk(ctx, f, cache, from, f->s - from < f->chunk ? f->s - from : f->chunk, out);
    tern_kv_cache_destroy(&cache);
}

static double rounded(tern_dtype dtype, double x)
{
    float f;

    if (dtype == TERN_FP32)
        return x;
    fn_put(&f, dtype, 0, x);
    return fn_get(&f, dtype, 0);
}

static double *naive_form(const struct form *f)
{
    const tern_config *c = &f->config;
    const size_t w = width(f), n = f->heads * f->e2;
    double *x = fn_doubles(&f->qkv), *out = test_doubles(f->batch * f->s * n), *p = test_doubles(f->s);
    const struct naive_attention turn = { .rotary_dim = c->rotary_dim > 0 ? (size_t)c->rotary_dim : 0,
                                          .neighbours = !c->rotate_half,
                                          .theta = (double)c->rope_theta };
    const double scale = isnan(f->options.scale) ? 1 / sqrt((double)f->e) : (double)f->options.scale;
    const double cap = (double)f->options.softcap;

    for (size_t r = 0; r < f->batch * f->s; r++) {
        const size_t position = f->position ? (size_t)f->position[r] : r % f->s;
        for (size_t h = 0; h < f->heads; h++) {
            double *q = x + r * w + q_at(f, h);
            naive_rotate(q, &turn, position);
            for (size_t i = 0; activation(f) == TERN_BF16 && i < f->e; i++)
                q[i] = rounded(TERN_BF16, q[i]);
        }
        for (size_t g = 0; g < f->kv_heads; g++) {
            double *k = x + r * w + k_at(f, g);
            naive_rotate(k, &turn, position);
            for (size_t i = 0; i < f->e; i++)
                k[i] = rounded(activation(f), k[i]);
        }
    }
    for (size_t i = 0; i < f->batch * f->s * f->heads; i++) {
        const size_t h = i % f->heads, row = i / f->heads % f->s, b = i / f->heads / f->s;
        const size_t g = h / (f->heads / f->kv_heads), seen = c->triangular_masking ? row + 1 : f->s;
        const double *q = x + (b * f->s + row) * w + q_at(f, h);
        double *o = out + (b * f->s + row) * n + h * f->e2, max = -INFINITY, sum = 0;
        for (size_t j = 0; j < seen; j++) {
            const double add = f->mask ? f->added[((b * f->heads + h) * f->s + row) * f->s + j] : 0;
            p[j] = 0;
            for (size_t d = 0; d < f->e; d++)
                p[j] += q[d] * x[(b * f->s + j) * w + k_at(f, g) + d];
            p[j] *= scale;
            if (cap > 0)
                p[j] = cap * tanh(p[j] / cap);
            if (f->alibi.rank == 1)
                p[j] += fn_at(&f->alibi, h) * (double)j;
            p[j] = add == -INFINITY ? -INFINITY : p[j] + add;
            max = p[j] > max ? p[j] : max;
        }
        memset(o, 0, f->e2 * sizeof *o);
        for (size_t j = 0; j < seen && max > -INFINITY; j++) {
            const double e = p[j] == -INFINITY ? 0 : exp(p[j] - max);
            sum += e;
            for (size_t d = 0; d < f->e2 && e > 0; d++)
                o[d] += e * x[(b * f->s + j) * w + v_at(f, g) + d];
        }
        for (size_t d = 0; d < f->e2 && sum > 0; d++)
            o[d] /= sum;
    }
    return out;
}

/* Relative to the largest output.  fp32: as test_attention.c.  Turned keys may lie beside a tie of their rounding: one unit of a
 * channel or two, 2^-10 or 2^-7 of them, and scores of 3 move by that; the store adds half a unit; bf16 rounds each weight by up to
 * 2^-8 of it. */
static double bound(tern_dtype dtype)
{
    return dtype == TERN_FP32 ? 6e-6 : dtype == TERN_FP16 ? 2 * 0x1p-10 : 2 * 0x1p-7;
}

/* Against f64, with the definition, and in chunks. */
static void check_form(tern_ctx *ctx, struct form *f, const char *what)
{
    const size_t n = f->batch * f->s * f->heads * f->e2;
    float *whole = test_poison(n), *other = test_poison(n);
    const double *want = naive_form(f);

    run_form(f, ctx, whole);
    test_near(whole, want, n, bound(activation(f)), what);
    f->config.kernel = TERN_KERNEL_REFERENCE;
    run_form(f, ctx, other);
    test_near(other, want, n, bound(activation(f)), "the definition");
    f->config.kernel = TERN_KERNEL_AUTO;
    for (size_t chunk = 1; chunk < 8 && f->config.triangular_masking; chunk += 6) {
        f->chunk = chunk;
        run_form(f, ctx, other);
        test_equal(other, whole, n, "in chunks");
    }
    f->chunk = 1000000;
}

static const tern_dtype dtypes[] = { TERN_FP32, TERN_FP16, TERN_BF16 };

static void test_every_mask_in_every_dtype(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (size_t d = 0; d < 3; d++)
        for (int kind = NO_MASK; kind < MASKS; kind++)
            for (int causal = 0; causal < 2; causal++) {
                struct form f = form(dtypes[d], 2, 19, 4, 2, 12, 12);
                f.config.triangular_masking = causal;
                if (kind == KEYS_ONLY)
                    keys_only(&f);
                else if (kind)
                    make_mask(&f, (enum mask_kind)kind);
                check_form(ctx, &f, "a mask");
                test_teardown(NULL);
            }
    tern_ctx_destroy(&ctx);
}

static void test_options_in_every_dtype(void **state)
{
    (void)state;
    static const size_t widths[][2] = { { 12, 12 }, { 12, 5 }, { 12, 70 }, { 40, 33 }, { 1, 1 }, { 2, 512 } };
    tern_ctx *ctx = test_ctx(3);

    for (size_t d = 0; d < 3; d++)
        for (int kind = 0; kind < 32; kind++) {
            const size_t *e = widths[kind % 6];
            const bool bloom = kind & 1;
            struct form f = form(dtypes[d], 2, 11, 4, bloom ? 4 : 2, e[0], e[1]);
            f.config.bigscience_bloom = bloom;
            if (bloom)
                f.config.scale_attention = false; /* 1/sqrt(E) all the same */
            if (kind & 2)
                f.options.softcap = 1.5f;
            if (kind & 4)
                f.options.scale = -0.3f;
            if (kind & 8 && e[0] > 1) {
                f.config.rotary_dim = (int32_t)(e[0] / 4 * 4 > 0 ? e[0] / 4 * 4 : 2);
                f.config.rotate_half = kind & 4;
                f.position = test_bytes(22 * sizeof(int64_t));
                for (size_t i = 0; i < 22; i++)
                    f.position[i] = (int64_t)(i * 37 % 100);
            }
            if (kind & 16) {
                f.alibi = FN_IN(kind & 1 ? TERN_FP32 : dtypes[d], 0.1f, 4);
                make_mask(&f, PER_HEAD);
            }
            check_form(ctx, &f, "options");
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

/* int8 without a weight is its activation_dtype, to the bit. */
static void test_int8_runs_in_its_activation_dtype(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);

    for (size_t d = 0; d < 3; d++)
        for (int quant = 0; quant < 2; quant++) {
            struct form f = form(dtypes[d], 2, 30, 2, 1, 16, 16);
            const size_t n = 2 * 30 * 32;
            float *want = test_poison(n), *got = test_poison(n);
            run_form(&f, ctx, want);
            f.config.dtype = TERN_INT8;
            f.config.activation_dtype = dtypes[d];
            f.config.activation_quant = quant ? TERN_QUANT_ROW : TERN_QUANT_NONE;
            run_form(&f, ctx, got);
            test_equal(got, want, n, "int8");
            test_near(got, naive_form(&f), n, bound(dtypes[d]), "int8");
        }
    tern_ctx_destroy(&ctx);
}

static void test_one_answer_in_every_dtype(void **state)
{
    (void)state;

    for (size_t d = 0; d < 3; d++) {
        struct form f = form(dtypes[d], 2, 70, 4, 2, 20, 36);
        f.config.rotary_dim = 20;
        f.config.rotate_half = true;
        make_mask(&f, PER_HEAD);
        test_same_bits(run_form, &f, 2 * 70 * 4 * 36);
        f.chunk = 9;
        test_same_bits(run_form, &f, 2 * 70 * 4 * 36);
        test_teardown(NULL);
    }
}

static void test_what_hidden_keys_hold_does_not_matter(void **state)
{
    (void)state;
    static const enum mask_kind kinds[] = { ADDED, BOOLS, INT64S, HIDES, KEYS_ONLY };
    tern_ctx *ctx = test_ctx(2);

    for (size_t d = 0; d < 3; d++)
        for (size_t k = 0; k < 5; k++) {
            struct form f = form(dtypes[d], 2, 40, 4, 2, 12, 20);
            const size_t n = 2 * 40 * 4 * 20;
            float *want = test_poison(n), *got = test_poison(n);
            if (kinds[k] == KEYS_ONLY)
                keys_only(&f);
            else
                make_mask(&f, kinds[k]);
            for (size_t i = 0; i < 2 * 4 * 40 * 40;
                 i++) /* key 5 of all, and key 33 of the first sequence from most rows */
                if (i % 40 == 5 || (i % 40 == 33 && i < 4 * 40 * 40 && kinds[k] != KEYS_ONLY))
                    f.added[i] = kinds[k] == KEYS_ONLY ? f.added[i] : -INFINITY;
            const size_t hidden = kinds[k] == KEYS_ONLY ? 2 : 5; /* 2 * 7 mod 13 is 1 */
            run_form(&f, ctx, want);
            for (size_t c = k_at(&f, 0); c < width(&f); c++) {
                fn_put(f.qkv.data, dtypes[d], hidden * width(&f) + c, c % 3 ? NAN : -INFINITY);
                if (kinds[k] != KEYS_ONLY)
                    fn_put(f.qkv.data, dtypes[d], 33 * width(&f) + c, c % 3 ? INFINITY : NAN);
            }
            run_form(&f, ctx, got);
            test_equal(got, want, n, "hidden keys");
            f.config.kernel = TERN_KERNEL_REFERENCE;
            run_form(&f, ctx, got);
            test_near(got, test_widen(want, n), n, bound(dtypes[d]), "hidden keys, the definition");
        }
    tern_ctx_destroy(&ctx);
}

static void test_a_row_without_keys_gives_zeros(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);

    for (size_t d = 0; d < 3; d++)
        for (int kind = ADDED; kind < KEYS_ONLY; kind++) {
            struct form f = form(dtypes[d], 1, 9, 2, 2, 4, 4);
            float *out = test_poison(72);
            make_mask(&f, (enum mask_kind)kind);
            for (size_t i = 0; i < 2 * 81; i++)
                f.added[i] = i / 9 % 9 == 4 ? -INFINITY : f.added[i];
            for (size_t c = 0; c < width(&f); c++)
                fn_put(f.qkv.data, dtypes[d], 8 * width(&f) + c, NAN);
            f.config.triangular_masking = false;
            run_form(&f, ctx, out);
            for (size_t i = 32; i < 40; i++)
                assert_true(out[i] == 0);
        }
    tern_ctx_destroy(&ctx);
}

/* Keys and values read out of a cache and put into another go on as if they had never left, in every dtype. */
static void test_past_keys_are_those_of_a_live_cache(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(2);

    for (size_t d = 0; d < 3; d++) {
        struct form f = form(dtypes[d], 1, 70, 4, 2, 12, 20);
        float *want = test_poison(70 * 80), *got = test_poison(70 * 80);
        tern_kv_cache *live = make_cache(ctx, &f), *other = make_cache(ctx, &f);
        tern_tensor key = FN_OUT(dtypes[d], 2, 66, 12), value = FN_OUT(dtypes[d], 2, 66, 20);
        const tern_kv_span span = { .n_rows = 66 };
        f.config.rotary_dim = 12;
        f.config.rotate_half = true;
        run_chunk(ctx, &f, live, 0, 66, want);
        assert_ok(ctx, tern_kv_read(ctx, live, 0, 0, 0, &key, &value));
        assert_ok(ctx, tern_kv_reserve(ctx, other, &span, 1));
        assert_ok(ctx, tern_kv_write(ctx, other, 0, &span, &key, &value));
        assert_ok(ctx, tern_kv_commit(ctx, other, &span, 1));
        run_chunk(ctx, &f, live, 66, 4, want);
        run_chunk(ctx, &f, other, 66, 4, got);
        test_equal(got + 66 * 80, want + 66 * 80, 4 * 80, "past keys and values");
        tern_kv_cache_destroy(&live);
        tern_kv_cache_destroy(&other);
    }
    tern_ctx_destroy(&ctx);
}

/* A sequence with three pads before it, hidden, positions from 0: as the sequence alone. */
static void test_left_padding_with_positions(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);

    for (size_t d = 0; d < 3; d++) {
        struct form f = form(dtypes[d], 1, 12, 2, 2, 8, 8), alone = form(dtypes[d], 1, 9, 2, 2, 8, 8);
        float *padded = test_poison(12 * 16), *want = test_poison(9 * 16);
        const size_t row = width(&f) * tern_dtype_size(dtypes[d]);
        f.config.rotary_dim = alone.config.rotary_dim = 8;
        f.config.rotate_half = alone.config.rotate_half = true;
        memcpy(alone.qkv.data, (char *)f.qkv.data + 3 * row, 9 * row);
        make_mask(&f, BOOLS);
        f.position = test_bytes(12 * sizeof(int64_t));
        for (size_t i = 0; i < 12; i++)
            f.position[i] = i < 3 ? 1 : (int64_t)i - 3;
        for (size_t i = 0; i < 2 * 144; i++)
            f.added[i] = i % 12 < 3 ? -INFINITY : 0;
        run_form(&f, ctx, padded);
        run_form(&alone, ctx, want);
        test_near(padded + 48, test_widen(want, 144), 144, dtypes[d] == TERN_FP32 ? 3e-6 : bound(dtypes[d]), "padded");
        for (size_t i = 0; i < 48; i++)
            assert_true(padded[i] == 0);
    }
    tern_ctx_destroy(&ctx);
}

/* More keys than fit any register array, heads of every width: of equal values the average is the value, but for a chain of 9000
 * additions, each off by 2^-24 of its sum at most and rarely by as much. */
static void test_many_keys_and_wide_heads(void **state)
{
    (void)state;
    static const size_t cases[][3] = { { 9000, 1, 1 }, { 8193, 2, 33 }, { 600, 512, 512 }, { 3, 511, 1 } };
    tern_ctx *ctx = test_ctx(2);

    for (size_t d = 0; d < 3; d++)
        for (size_t c = 0; c < 4; c++) {
            struct form f = form(dtypes[d], 1, cases[c][0], 1, 1, cases[c][1], cases[c][2]);
            const size_t n = f.s * f.e2;
            float *out = test_poison(n);
            tern_kv_cache *cache = make_cache(ctx, &f);
            for (size_t r = 0; r < f.s; r++)
                for (size_t i = 0; i < f.e2; i++)
                    fn_put(f.qkv.data, dtypes[d], r * width(&f) + v_at(&f, 0) + i, 1.5);
            f.config.triangular_masking = false;
            run_chunk(ctx, &f, cache, 0, f.s - 1, out);
            run_chunk(ctx, &f, cache, f.s - 1, 1, out);
            for (size_t i = 0; i < n; i++)
                if (!(fabs((double)out[i] - 1.5) <= 2e-4 + (dtypes[d] == TERN_BF16 ? 0x1p-7 : 0)))
                    fail_msg("%zu keys: %.9g", f.s, (double)out[i]);
            tern_kv_cache_destroy(&cache);
            test_teardown(NULL);
        }
    tern_ctx_destroy(&ctx);
}

/* The forms of a mask of two axes and fewer, and spans of different sizes. */
static void test_masks_of_few_axes(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    struct form f = form(TERN_FP32, 2, 4, 2, 2, 4, 4);
    tern_kv_cache *cache = make_cache(ctx, &f);
    const tern_kv_span even[2] = { { 0, 0, 4, 0 }, { 1, 4, 4, 0 } }, odd[2] = { { 0, 0, 2, 0 }, { 1, 2, 4, 0 } };
    static const int64_t good[][5] = {
        { 4, -1 },          { 9, -1 },          { 1, -1 },       { 1, 4, -1 },    { 8, 4, -1 },
        { 4, 4, -1 },       { 4, 1, -1 },       { 2, 4, 4, -1 }, { 1, 1, 6, -1 }, { 2, 1, 1, 4, -1 },
        { 2, 2, 4, 4, -1 }, { 1, 2, 1, 1, -1 }, { 2, 4, -1 },    { -1 }
    };
    static const int64_t bad[][6] = { { 3, -1 },          { 3, 4, -1 },       { 5, 4, -1 },         { 8, 1, 4, -1 },
                                      { 3, 1, 1, 4, -1 }, { 1, 1, 8, 4, -1 }, { 1, 2, 2, 4, 4, -1 } };

    assert_ok(ctx, tern_kv_reserve(ctx, cache, even, 2));
    for (size_t i = 0; i < 14; i++) {
        tern_tensor qkv = fn_in(TERN_FP32, 1, (int64_t[]){ 2, 4, 24, -1 }), y = FN_OUT(TERN_FP32, 2, 4, 8);
        tern_tensor mask = fn_out(TERN_BOOL, good[i]);
        float *kept;
        memset(mask.data, 1, fn_elements(&mask));
        tern_tensor again = qkv;
        again.data = fn_keep(&qkv);
        assert_ok(ctx, tern_softmax_context(ctx, &f.config, NULL, &qkv, NULL, NULL, cache, 0, even, 2, &y));
        kept = fn_keep(&y);
        assert_ok(ctx, tern_softmax_context(ctx, &f.config, NULL, &again, &mask, NULL, cache, 0, even, 2, &y));
        fn_same(&y, kept, "a mask that hides nothing");
    }
    tern_tensor qkv = FN_IN(TERN_FP32, 1, 2, 4, 24), y = FN_OUT(TERN_FP32, 2, 4, 8);
    for (size_t i = 0; i < 7; i++) {
        const tern_tensor mask = fn_out(TERN_BOOL, bad[i]);
        assert_fails(ctx, tern_softmax_context(ctx, &f.config, NULL, &qkv, &mask, NULL, cache, 0, even, 2, &y),
                     TERN_ERR_SHAPE, "with T = 8 rows, B = 2 spans, h = 2, S = 4, n 1 or at least 4");
    }
    tern_tensor six = FN_IN(TERN_FP32, 1, 6, 24), six_y = FN_OUT(TERN_FP32, 6, 8);
    const tern_tensor rows = FN_OUT(TERN_BOOL, 4, 4), of_all = FN_OUT(TERN_BOOL, 6, 4),
                      of_span = FN_OUT(TERN_BOOL, 2, 2, 1, 4);
    assert_fails(ctx, tern_softmax_context(ctx, &f.config, NULL, &six, &rows, NULL, cache, 0, odd, 2, &six_y),
                 TERN_ERR_SHAPE, "S = 1 as the spans differ");
    assert_true(fn_untouched(&y) && fn_untouched(&six_y));
    assert_ok(ctx, tern_softmax_context(ctx, &f.config, NULL, &six, &of_all, NULL, cache, 0, odd, 2, &six_y));
    assert_ok(ctx, tern_softmax_context(ctx, &f.config, NULL, &six, &of_span, NULL, cache, 0, odd, 2, &six_y));
    tern_tensor none = FN_OUT(TERN_FP32, 0, 24), none_y = FN_OUT(TERN_FP32, 0, 8);
    assert_ok(ctx, tern_softmax_context(ctx, &f.config, NULL, &none, NULL, NULL, cache, 0, NULL, 0, &none_y));
    tern_kv_cache_destroy(&cache);
    tern_ctx_destroy(&ctx);
}

static void test_bad_options(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);
    struct form f = form(TERN_FP16, 1, 4, 2, 2, 4, 4);
    tern_kv_cache *cache = make_cache(ctx, &f);
    const tern_kv_span span = { .n_rows = 4 };
    tern_tensor y = FN_OUT(TERN_FP16, 4, 8), wide = FN_IN(TERN_FP16, 1, 4, 26), ids = FN_OUT(TERN_INT32, 4);
    tern_tensor few = FN_OUT(TERN_INT32, 3), floats = FN_IN(TERN_FP32, 1, 4);
    tern_attention_options o;

    memset(ids.data, 0, 16);
    ((int32_t *)ids.data)[2] = -1;
    assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
#define BAD(qkv, change, status, text)    \
    o = tern_attention_options_default(); \
    change;                               \
    assert_fails(ctx, tern_softmax_context(ctx, &f.config, &o, qkv, NULL, NULL, cache, 0, &span, 1, &y), status, text)
    BAD(&f.qkv, o.scale = INFINITY, TERN_ERR_ARG, "scale is inf, expected a finite number");
    BAD(&f.qkv, o.softcap = -1, TERN_ERR_ARG, "softcap is -1, expected a finite number, 0 or more");
    BAD(&f.qkv, o.softcap = NAN, TERN_ERR_ARG, "softcap is nan");
    BAD(&f.qkv, o.v_head_dim = 513, TERN_ERR_ARG, "v_head_dim is 513, expected 0..512");
    BAD(&f.qkv, o.v_head_dim = 5, TERN_ERR_SHAPE, "rows of 24 values, expected rows of 26");
    BAD(&wide, o.v_head_dim = 5, TERN_ERR_SHAPE, "the cache has 2 heads of 4, expected 2 of 5");
    BAD(&f.qkv, o.position_ids = &ids, TERN_ERR_ARG, "position_ids[2] is -1, expected 0 or more");
    BAD(&f.qkv, o.position_ids = &few, TERN_ERR_SHAPE, "position_ids is [3], expected one for each of 4 rows");
    BAD(&f.qkv, o.position_ids = &floats, TERN_ERR_DTYPE, "position_ids is fp32, expected int32 or int64");
#undef BAD
    f.config.dtype = TERN_BF16;
    assert_fails(ctx, tern_softmax_context(ctx, &f.config, NULL, &f.qkv, NULL, NULL, cache, 0, &span, 1, &y),
                 TERN_ERR_DTYPE, "qkv is fp16, expected bf16");
    assert_true(fn_untouched(&y));
    tern_kv_cache_destroy(&cache);
    tern_ctx_destroy(&ctx);
}

/* ---- what the reference gets wrong, in every dtype ---- */

/* Rows of equal scores (q is 0): each output is the share of keys of its number mod 4 among those that the row sees. */
static struct form averaging(tern_dtype dtype, size_t s)
{
    struct form f = form(dtype, 1, s, 2, 1, 4, 4);

    for (size_t r = 0; r < s; r++)
        for (size_t c = 0; c < width(&f); c++)
            fn_put(f.qkv.data, dtype, r * width(&f) + c, c < v_at(&f, 0) ? 0 : c - v_at(&f, 0) == r % 4 ? 1 : 0);
    return f;
}

/* A row of `averaging` saw the keys [first, last). */
static void expect_seen(const float *row, tern_dtype dtype, size_t first, size_t last)
{
    for (size_t c = 0; c < 8; c++) {
        double want = 0;
        for (size_t j = first; j < last; j++)
            want += (j % 4 == c % 4) / (double)(last - first);
        if (!(fabs((double)row[c] - want) <= 1e-6 + 1.01 * fn_half_ulp(dtype, want)))
            fail_msg("saw %.9g of channel %zu, expected %.9g", (double)row[c], c, want);
    }
}

static void test_b11_b34_causal_in_prompt_and_decode(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);

    for (size_t d = 0; d < 3; d++)
        for (size_t chunk = 1; chunk <= 21; chunk += 4) {
            struct form f = averaging(dtypes[d], 21);
            float *out = test_poison(21 * 8);
            f.chunk = chunk;
            run_form(&f, ctx, out);
            for (size_t i = 0; i < 21; i++)
                expect_seen(out + i * 8, dtypes[d], 0, i + 1);
        }
    tern_ctx_destroy(&ctx);
}

static void test_b12_scores_are_scaled_before_any_rounding(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);

    /* Products of 64 * 60 * 60, 230400, are beyond fp16; scaled and capped they decide between two keys. */
    for (size_t d = 0; d < 3; d++) {
        struct form f = form(dtypes[d], 1, 2, 1, 1, 64, 1);
        float *out = test_poison(2);
        f.options.scale = 1.0f / 230400;
        for (size_t c = 0; c < 64; c++) {
            fn_put(f.qkv.data, dtypes[d], width(&f) + c, 60);
            fn_put(f.qkv.data, dtypes[d], 64 + c, 0);
            fn_put(f.qkv.data, dtypes[d], width(&f) + 64 + c, 60);
        }
        fn_put(f.qkv.data, dtypes[d], v_at(&f, 0), 0);
        fn_put(f.qkv.data, dtypes[d], width(&f) + v_at(&f, 0), 1);
        run_form(&f, ctx, out);
        assert_true(fabs((double)out[1] - 1 / (1 + exp(-1))) < (dtypes[d] == TERN_FP32 ? 1e-6 : 0x1p-8));
    }
    tern_ctx_destroy(&ctx);
}

static void test_b13_b15_a_mask_counts_whole_and_beside_causality(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);

    for (size_t d = 0; d < 3; d++) {
        struct form f = averaging(dtypes[d], 8);
        float *out = test_poison(64);
        make_mask(&f, ADDED_FP32);
        for (size_t i = 0; i < 2 * 64; i++)
            f.added[i] = i % 8 == 0 ? (double)(float)log(3) : i % 8 == 5 ? -INFINITY : 0;
        run_form(&f, ctx, out);
        assert_true(out[0] == 1 && out[1] == 0); /* row 0 sees itself alone */
        assert_true(fabs((double)out[8] - 0.75) < 1e-6 + 0x1p-8 * (dtypes[d] == TERN_BF16));
        assert_true(fabs((double)out[7 * 8 + 1] - 1.0 / 9) <
                    1e-6 + fn_half_ulp(dtypes[d], 0.25)); /* key 1; 5 is hidden */
    }
    tern_ctx_destroy(&ctx);
}

static void test_b17_masks_are_typed(void **state)
{
    (void)state;
    static const tern_dtype bad[] = { TERN_FP64, TERN_FP8_E4M3, TERN_BF16 };
    tern_ctx *ctx = test_ctx(1);
    struct form f = form(TERN_FP16, 1, 4, 2, 2, 4, 4);
    tern_kv_cache *cache = make_cache(ctx, &f);
    const tern_kv_span span = { .n_rows = 4 };
    tern_tensor y = FN_OUT(TERN_FP16, 4, 8);

    assert_ok(ctx, tern_kv_reserve(ctx, cache, &span, 1));
    for (size_t i = 0; i < 3; i++) {
        const tern_tensor mask = FN_OUT(bad[i], 4, 4);
        assert_fails(ctx, tern_softmax_context(ctx, &f.config, NULL, &f.qkv, &mask, NULL, cache, 0, &span, 1, &y),
                     TERN_ERR_DTYPE, "expected fp16, fp32, bool or integers");
    }
    assert_true(fn_untouched(&y));
    tern_kv_cache_destroy(&cache);
    tern_ctx_destroy(&ctx);
}

static void test_b18_b19_the_window_is_exact_in_prompt_and_decode(void **state)
{
    (void)state;
    tern_ctx *ctx = test_ctx(1);

    for (size_t d = 0; d < 3; d++)
        for (size_t chunk = 1; chunk <= 150; chunk += 149)
            for (int32_t window = 1; window < 150; window += 37) {
                struct form f = averaging(dtypes[d], 150);
                float *out = test_poison(150 * 8);
                f.config.local_attention = true;
                f.config.window_size = window;
                f.chunk = chunk;
                run_form(&f, ctx, out);
                for (size_t i = 0; i < 150; i++)
                    expect_seen(out + i * 8, dtypes[d], i + 1 > (size_t)window ? i + 1 - (size_t)window : 0, i + 1);
                test_teardown(NULL);
            }
    tern_ctx_destroy(&ctx);
}

/* Query heads of a group that hold the same numbers give the same bits, turned by either pairing, at any width of a head. */
static void test_b22_b34_heads_of_a_group_turn_alike(void **state)
{
    (void)state;
    static const size_t widths[] = { 2, 80, 96, 126 };
    tern_ctx *ctx = test_ctx(2);

    for (size_t d = 0; d < 3; d++)
        for (size_t w = 0; w < 4; w++)
            for (int half = 0; half < 2; half++) {
                struct form f = form(dtypes[d], 1, 10, 6, 2, widths[w], widths[w]);
                const size_t e = f.e, size = tern_dtype_size(dtypes[d]);
                float *out = test_poison(10 * 6 * e);
                f.config.rotary_dim = (int32_t)e;
                f.config.rotate_half = half;
                for (size_t r = 0; r < 10; r++)
                    for (size_t h = 1; h < 6; h++)
                        memcpy((char *)f.qkv.data + (r * width(&f) + h * e) * size,
                               (char *)f.qkv.data + r * width(&f) * size, e * size);
                check_form(ctx, &f, "rotary");
                run_form(&f, ctx, out);
                for (size_t r = 0; r < 10; r++)
                    for (size_t h = 0; h < 6; h++)
                        test_equal(out + (r * 6 + h) * e, out + (r * 6 + h / 3 * 3) * e, e, "a head of a group");
                test_teardown(NULL);
            }
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(test_every_mask_in_every_dtype),
        OP_TEST(test_options_in_every_dtype),
        OP_TEST(test_int8_runs_in_its_activation_dtype),
        OP_TEST(test_one_answer_in_every_dtype),
        OP_TEST(test_what_hidden_keys_hold_does_not_matter),
        OP_TEST(test_a_row_without_keys_gives_zeros),
        OP_TEST(test_past_keys_are_those_of_a_live_cache),
        OP_TEST(test_left_padding_with_positions),
        OP_TEST(test_many_keys_and_wide_heads),
        OP_TEST(test_masks_of_few_axes),
        OP_TEST(test_bad_options),
        OP_TEST(test_b11_b34_causal_in_prompt_and_decode),
        OP_TEST(test_b12_scores_are_scaled_before_any_rounding),
        OP_TEST(test_b13_b15_a_mask_counts_whole_and_beside_causality),
        OP_TEST(test_b17_masks_are_typed),
        OP_TEST(test_b18_b19_the_window_is_exact_in_prompt_and_decode),
        OP_TEST(test_b22_b34_heads_of_a_group_turn_alike),
    };
    return cmocka_run_group_tests_name("ops/attention_forms", tests, NULL, NULL);
}
