/* test_attention_answer.c: the attention module gives one answer: at every level, with any threads, alone and in a batch, however a
 * prompt is cut, in every dtype. */
/* labels: quick threads */
#include "ops/dtype_testing.h"

enum { HEADS = 4, GROUPS = 2, E = 20, H = HEADS * E, E2 = 24, SEQUENCES = 3, LONGEST = 131 };
static const size_t lengths[SEQUENCES] = { 70, LONGEST, 3 };

/* A module's numbers, and the rows of all sequences, one sequence behind the other. */
struct work {
    const struct dt_kind *kind;
    tern_config config;
    tern_layer_weights weights;
    size_t rows;
    tern_tensor input, alibi, mask; /* [rows, H], [HEADS], bool [rows, LONGEST] */
};

static struct work work(tern_ctx *ctx, const struct dt_kind *kind, bool post)
{
    struct work w = { .kind = kind, .config = dt_config(kind) };
    const size_t qkv = (HEADS + GROUPS) * E + GROUPS * E2;
    struct dt_matrix w1 = dt_matrix(ctx, kind, post, H, qkv, 0.3f, 4);
    struct dt_matrix w2 = dt_matrix(ctx, kind, post, HEADS * E2, H, 0.3f, 5);

    for (size_t s = 0; s < SEQUENCES; s++)
        w.rows += lengths[s];
    w.config.hidden_size = H;
    w.config.heads = HEADS;
    w.config.num_kv = GROUPS;
    w.config.pre_layer_norm = !post;
    w.config.transposed_mode = post;
    w.config.rotary_dim = 10;
    w.weights = (tern_layer_weights){ .attn_qkvw = w1.raw,
                                      .attn_qkvw_scale = w1.scale,
                                      .attn_qkvb = FN_IN(kind->a, 1, (int64_t)qkv),
                                      .attn_ow = w2.raw,
                                      .attn_ow_scale = w2.scale };
    if (!post)
        w.weights.norm_w = FN_IN(TERN_FP32, 1, H);
    tern_weight_destroy(&w1.packed);
    tern_weight_destroy(&w2.packed);
    w.input = FN_IN(kind->a, 1, (int64_t)w.rows, H);
    w.alibi = FN_IN(TERN_FP32, 0.05f, HEADS);
    w.mask = FN_OUT(TERN_BOOL, (int64_t)w.rows, LONGEST);
    for (size_t i = 0; i < w.rows * LONGEST; i++)
        ((bool *)w.mask.data)[i] = test_random(&test_seed) % 5 != 0;
    return w;
}

/* How the sequences are read: `first` and the `n` from it on, in chunks of `chunk` rows, the later ones in shorter ones. */
struct way {
    size_t first, n, chunk;
};

/* Rows of a tensor, from or to a place among others. */
static void copy_rows(void *to, size_t to_row, const void *from, size_t from_row, size_t n, size_t bytes)
{
    memcpy((char *)to + to_row * bytes, (const char *)from + from_row * bytes, n * bytes);
}

static void read_prompts(tern_ctx *ctx, const struct work *w, const tern_attention *attention, struct way way,
                         tern_tensor *out)
{
    const tern_kv_shape shape = { .n_layers = 1,
                                  .n_kv_heads = GROUPS,
                                  .head_dim = E2,
                                  .n_positions = 64 * 7,
                                  .n_sequences = SEQUENCES,
                                  .n_context = LONGEST };
    const size_t bytes = H * tern_dtype_size(w->kind->a);
    size_t done[SEQUENCES] = { 0 }, at[SEQUENCES] = { 0 };
    int32_t id[SEQUENCES];
    tern_kv_cache *cache;

    assert_ok(ctx, tern_kv_cache_create(ctx, &shape, &cache));
    for (size_t s = 0; s < SEQUENCES; s++) {
        assert_ok(ctx, tern_kv_sequence_add(ctx, cache, &id[s]));
        at[s] = s ? at[s - 1] + lengths[s - 1] : 0;
    }
    for (;;) {
        tern_kv_span spans[SEQUENCES];
        size_t n_spans = 0, n = 0, from[SEQUENCES];
        tern_tensor x = FN_OUT(w->kind->a, (int64_t)w->rows, H), y = FN_OUT(w->kind->a, (int64_t)w->rows, H);
        tern_tensor mask = FN_OUT(TERN_BOOL, (int64_t)w->rows, LONGEST);

        for (size_t s = way.first; s < way.first + way.n; s++) {
            const size_t left = lengths[s] - done[s], chunk = (way.chunk + s) / (s + 1);
            const size_t k = left < chunk ? left : chunk;
            if (!k)
                continue;
            spans[n_spans] = (tern_kv_span){
                .sequence = id[s], .row = (int32_t)n, .n_rows = (int32_t)k, .position = (int64_t)done[s]
            };
            from[n_spans++] = at[s] + done[s];
            copy_rows(x.data, n, w->input.data, at[s] + done[s], k, bytes);
            copy_rows(mask.data, n, w->mask.data, at[s] + done[s], k, LONGEST);
            n += k;
            done[s] += k;
        }
        if (!n)
            break;
        x.dim[0] = y.dim[0] = mask.dim[0] = (int64_t)n;
        assert_ok(ctx, tern_kv_reserve(ctx, cache, spans, n_spans));
        assert_ok(ctx, tern_attention_forward(ctx, attention, NULL, &x, &mask, &w->alibi, cache, 0, spans, n_spans, &y,
                                              NULL));
        assert_ok(ctx, tern_kv_commit(ctx, cache, spans, n_spans));
        for (size_t i = 0; i < n_spans; i++)
            copy_rows(out->data, from[i], y.data, (size_t)spans[i].row, (size_t)spans[i].n_rows, bytes);
    }
    tern_kv_cache_destroy(&cache);
}

/* What is read in pieces: all together, and each alone. */
static const struct way ways[] = { { 0, SEQUENCES, 1000 }, { 0, SEQUENCES, 64 }, { 0, SEQUENCES, 23 }, { 0, 1, 1000 },
                                   { 1, 1, 1000 },         { 2, 1, 1000 },       { 0, 1, 1 },          { 1, 1, 34 } };

static void test_the_bits_are_the_same_however_rows_are_computed(void **state)
{
    static const char *const levels[] = { "portable", "neon",   "neondot",    "avx2",
                                          "avxvnni",  "avx512", "avx512vnni", "avx512bf16" };

    (void)state;
    for (size_t k = 0; k < DT_KINDS; k++)
        for (int post = 0; post < 2; post++) {
            tern_ctx *first = test_ctx(1);
            const struct work w = work(first, &dt_kinds[k], post);
            tern_tensor want = FN_OUT(w.kind->a, (int64_t)w.rows, H);
            const size_t kept = test_n_blocks_;
            bool any = false;

            tern_ctx_destroy(&first);
            for (size_t l = 0; l < sizeof levels / sizeof levels[0]; l++)
                for (int threads = 1; threads <= 3; threads++) {
                    tern_ctx *ctx = test_ctx_at(threads, levels[l]);
                    tern_attention *attention;
                    if (!ctx)
                        break;
                    assert_ok(ctx, tern_attention_create(ctx, &w.config, NULL, NULL, &w.weights, &attention));
                    /* Products of bf16 have bits of their own there, for any batch and number of threads. */
                    const bool own = w.kind->dtype == TERN_BF16 && strcmp(levels[l], "avx512bf16") == 0;
                    if (!any || (own && threads == 1))
                        read_prompts(ctx, &w, attention, ways[0], &want);
                    any = true;
                    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
                        const size_t bytes = H * tern_dtype_size(w.kind->a);
                        tern_tensor got = FN_OUT(w.kind->a, (int64_t)w.rows, H);
                        size_t from = 0, n = 0;
                        read_prompts(ctx, &w, attention, ways[i], &got);
                        for (size_t s = 0; s < ways[i].first + ways[i].n; s++)
                            *(s < ways[i].first ? &from : &n) += lengths[s];
                        if (memcmp((char *)got.data + from * bytes, (char *)want.data + from * bytes, n * bytes) != 0)
                            fail_msg("%s, %s with %d threads: sequences %zu.. (%zu) in chunks of %zu have other bits",
                                     w.kind->name, levels[l], threads, ways[i].first, ways[i].n, ways[i].chunk);
                        while (test_n_blocks_ > kept)
                            free(test_blocks_[--test_n_blocks_]);
                    }
                    tern_attention_destroy(&attention);
                    tern_ctx_destroy(&ctx);
                }
            assert_true(any);
            test_teardown(NULL);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = { OP_TEST(test_the_bits_are_the_same_however_rows_are_computed) };
    return cmocka_run_group_tests_name("modules/attention_answer", tests, NULL, NULL);
}
