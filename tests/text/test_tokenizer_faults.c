/* test_tokenizer_faults.c: every allocation of opening and using tokenizers of all components fails once. */
#include "faults.h"
#include "testing.h"

#include "base/ctx.h"

#include <tern/tokenizer.h>

#include <stdio.h>
#include <string.h>

static const char input[] =
    "The  caf\xC3\xA9 <one> \xEF\xAC\x81x 12 \xE6\xB5\xB7 of\xCC\x81 the Norm Al, e|\xC2\xAD\xE2\x96\x81 <s> y";

static const char *path_of(const char *folder, const char *name, char *out)
{
    snprintf(out, 512, "%s/tests/%s/%s.json", TERN_SOURCE_DIR, folder, name);
    return out;
}

static void opening(void **state)
{
    static const char *const names[] = { "metaspace_strip", "bert", "splits", "roberta", "charsmap" };
    tern_ctx ctx = { 0 };
    char path[512];

    (void)state;
    FAULT_NEEDED;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        tern_tokenizer *t;

        path_of("fuzz/corpus/tokenizer", names[i], path);
        assert_ok(&ctx, tern_tokenizer_open(&ctx, path, &t));
        tern_tokenizer_close(&t);
        FAULT_EACH(n)
        {
            fault_arm(n);
            const tern_status status = tern_tokenizer_open(&ctx, path, &t);
            FAULT_DONE(n, &ctx, status, t);
            tern_tokenizer_close(&t);
        }
        tern_tokenizer_close(&t);
    }
}

/* All ids through a stream. */
static tern_status stream(tern_ctx *ctx, tern_decoder *decoder, const tern_encoding *e)
{
    const char *part;

    for (size_t i = 0; i < e->count; i++)
        TERN_TRY(tern_decoder_push(ctx, decoder, e->ids[i], &part, NULL));
    return tern_decoder_finish(ctx, decoder, &part, NULL);
}

static void using(void **state)
{
    static const char *const names[] = { "bert-options", "llama",   "t5",          "albert",
                                         "nmt",          "scripts", "clip",        "bpe-suffix",
                                         "behaviours-2", "ctc",     "after-bytes", "chars-map" };
    const tern_encode_options options = {
        .pair = "a second <left>", .pair_size = 15, .add_special = true, .apply_limits = true
    };
    tern_ctx ctx = { 0 };
    char path[512];

    (void)state;
    FAULT_NEEDED;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        tern_encoding e = { 0 };
        tern_decoder *decoder = NULL;
        tern_tokenizer *t;
        char *text = NULL;

        assert_ok(&ctx, tern_tokenizer_open(&ctx, path_of("golden/tokenizers", names[i], path), &t));
        FAULT_EACH(n)
        {
            fault_arm(n);
            const tern_status status = tern_tokenizer_encode_with(&ctx, t, input, sizeof input - 1, &options, &e);
            FAULT_DONE(n, &ctx, status, e.ids);
            tern_encoding_free(&e);
        }
        FAULT_EACH(n)
        {
            fault_arm(n);
            const tern_status status = tern_tokenizer_decode(&ctx, t, e.ids, e.count, false, &text, NULL);
            FAULT_DONE(n, &ctx, status, text);
            tern_text_free(text);
            text = NULL;
        }
        FAULT_EACH(n)
        {
            fault_arm(n);
            tern_status status = tern_decoder_create(&ctx, t, false, &decoder);
            if (status == TERN_OK)
                status = stream(&ctx, decoder, &e);
            if (status != TERN_OK)
                tern_decoder_destroy(&decoder);
            FAULT_DONE(n, &ctx, status, decoder);
            tern_decoder_destroy(&decoder);
        }
        tern_decoder_destroy(&decoder);
        tern_text_free(text);
        tern_encoding_free(&e);
        tern_tokenizer_close(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(opening), cmocka_unit_test(using) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
