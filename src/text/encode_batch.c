/* encode_batch.c: many texts on the context's thread team.
 *
 * Texts are taken one by one from a counter, since they differ in length; what comes of each depends on it alone.  Each
 * thread works under a context of its own, which holds nothing but the text of an error. */
#include "text/text.h"

#include "base/memory.h"
#include "base/threads.h"

#include <stdatomic.h>

struct batch {
    const tern_tokenizer *tokenizer;
    const char *const *texts;
    const size_t *sizes;
    size_t n;
    const tern_encode_options *options;
    tern_encoding *out;
    tern_status *statuses;
    atomic_size_t next;
};

static void encode_share(void *arg, const struct tern_par *par)
{
    struct batch *b = arg;
    tern_ctx ctx = { 0 };

    (void)par;
    for (size_t i; (i = atomic_fetch_add_explicit(&b->next, 1, memory_order_relaxed)) < b->n;)
        b->statuses[i] = tern_encoding_make(&ctx, b->tokenizer, b->texts[i], b->sizes[i], b->options, &b->out[i]);
}

/* The first text that failed, again, for its error. */
static tern_status first_failure(tern_ctx *ctx, const struct batch *b)
{
    tern_encoding out;

    for (size_t i = 0; i < b->n; i++) {
        if (b->statuses[i] == TERN_OK)
            continue;
        const tern_status status = tern_encoding_make(ctx, b->tokenizer, b->texts[i], b->sizes[i], b->options, &out);
        tern_encoding_free(&out);
        return status ? status : tern_fail_memory(ctx, b->sizes[i], "a text of a batch");
    }
    return TERN_OK;
}

tern_status tern_tokenizer_encode_batch(tern_ctx *ctx, const tern_tokenizer *tokenizer, const char *const *texts,
                                        const size_t *sizes, size_t n, const tern_encode_options *options,
                                        tern_encoding *encodings)
{
    const tern_encode_options standard = { 0 };
    struct batch b = { .tokenizer = tokenizer, .texts = texts, .sizes = sizes, .n = n };
    size_t longest = 0;
    tern_status status;

    TERN_REQUIRE(ctx, tokenizer && ((texts && sizes && encodings) || n == 0), TERN_ERR_ARG,
                 "tokenizer_encode_batch: tokenizer, texts, sizes or encodings is NULL");
    b.options = options ? options : &standard;
    TERN_TRY(TERN_CHECK_RESERVED(ctx, "tern_encode_options", b.options));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, n, "encodings", &b.out));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, n, "encodings", &b.statuses));
    if (ctx && ctx->team) {
        TERN_TRY_OR_FAIL(tern_region(ctx, encode_share, &b));
    } else {
        encode_share(&b, NULL);
    }
    TERN_TRY_OR_FAIL(first_failure(ctx, &b));
    for (size_t i = 0; i < n; i++)
        longest = b.out[i].count > longest ? b.out[i].count : longest;
    for (size_t i = 0; i < n && b.options->apply_limits; i++)
        TERN_TRY_OR_FAIL(tern_encoding_pad(ctx, &tokenizer->post.limits, longest, &b.out[i]));
    for (size_t i = 0; i < n; i++) {
        tern_encoding_free(&encodings[i]);
        encodings[i] = b.out[i];
        b.out[i] = (tern_encoding){ 0 };
    }
    status = TERN_OK;

fail:
    for (size_t i = 0; i < n && b.out; i++)
        tern_encoding_free(&b.out[i]);
    tern_free(b.out);
    tern_free(b.statuses);
    return status;
}
