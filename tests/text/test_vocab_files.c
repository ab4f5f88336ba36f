/* test_vocab_files.c: directories with a vocabulary and no tokenizer.json: what transformers' classes make of texts. */
#include "testing.h"

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "text/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN TERN_SOURCE_DIR "/tests/golden/vocab_files/"

static bool same_ids(const tern_encoding *e, const tern_json_value *ids)
{
    bool same = e->count == tern_json_size(ids);

    for (size_t i = 0; i < e->count && same; i++)
        same = e->ids[i] == tern_json_int(tern_json_at(ids, i));
    return same;
}

static bool same_offsets(const tern_encoding *e, const tern_json_value *offsets)
{
    bool same = e->count == tern_json_size(offsets);

    for (size_t i = 0; i < e->count && same; i++)
        same = e->offsets[i].begin == tern_json_int(tern_json_at(tern_json_at(offsets, i), 0)) &&
               e->offsets[i].end == tern_json_int(tern_json_at(tern_json_at(offsets, i), 1));
    return same;
}

/* One text: ids, offsets, and what the ids decode to. */
static size_t check_text(tern_ctx *ctx, const char *name, const tern_tokenizer *t, const tern_json_value *text,
                         const tern_json_value *expected)
{
    const tern_encode_options options = { .add_special = true };
    tern_encoding e = { 0 };
    size_t size, decoded_size, wrong = 0, want_size;
    const char *bytes = tern_json_string(text, &size), *want = tern_json_string(tern_json_at(expected, 2), &want_size);
    char *decoded;

    assert_ok(ctx, tern_tokenizer_encode_with(ctx, t, bytes, size, &options, &e));
    if (!same_ids(&e, tern_json_at(expected, 0))) {
        wrong++;
        print_message("%s: '%.*s': ids:", name, (int)size, bytes);
        for (size_t i = 0; i < e.count && i < 16; i++)
            print_message(" %d", e.ids[i]);
        print_message("\n");
    } else if (!same_offsets(&e, tern_json_at(expected, 1))) {
        wrong++;
        print_message("%s: '%.*s': offsets:", name, (int)size, bytes);
        for (size_t i = 0; i < e.count && i < 16; i++)
            print_message(" %u-%u", e.offsets[i].begin, e.offsets[i].end);
        print_message("\n");
    } else {
        assert_ok(ctx, tern_tokenizer_decode(ctx, t, e.ids, e.count, true, &decoded, &decoded_size));
        if (decoded_size != want_size || memcmp(decoded, want, want_size) != 0) {
            wrong++;
            print_message("%s: '%.*s' decoded '%s', expected '%s'\n", name, (int)size, bytes, decoded, want);
        }
        tern_text_free(decoded);
    }
    tern_encoding_free(&e);
    return wrong;
}

static size_t check_pair(tern_ctx *ctx, const char *name, const tern_tokenizer *t, const tern_json_value *expected)
{
    const tern_encode_options options = { .add_special = true, .pair = "fox the", .pair_size = 7 };
    tern_encoding e = { 0 };
    bool same;

    assert_ok(ctx, tern_tokenizer_encode_with(ctx, t, "the quick", 9, &options, &e));
    same = same_ids(&e, tern_json_at(expected, 0));
    for (size_t i = 0; i < e.count && same; i++)
        same = e.type_ids[i] == tern_json_int(tern_json_at(tern_json_at(expected, 1), i));
    if (!same)
        print_message("%s: the pair\n", name);
    tern_encoding_free(&e);
    return !same;
}

static void classes_are_those_of_transformers(void **state)
{
    tern_ctx ctx = { 0 };
    struct tern_json *json;
    size_t wrong = 0, checked = 0;

    (void)state;
    assert_ok(&ctx, tern_json_read(&ctx, GOLDEN "texts.json", 1 << 24, &json));
    const tern_json_value *root = tern_json_root(json), *texts = tern_json_get(root, "texts"),
                          *folders = tern_json_get(root, "folders");
    assert_true(tern_json_size(folders) >= 25);
    for (void *it = tern_json_iter(folders); it; it = tern_json_next(folders, it)) {
        const tern_json_value *cases = tern_json_get(tern_json_iter_value(it), "cases");
        tern_tokenizer *t;
        char path[512];
        size_t length;
        const char *name = tern_json_iter_key(it, &length);

        snprintf(path, sizeof path, "%s%s", GOLDEN, name);
        assert_ok(&ctx, tern_tokenizer_open(&ctx, path, &t));
        for (size_t i = 0; i < tern_json_size(cases); i++, checked++)
            wrong += check_text(&ctx, name, t, tern_json_at(texts, i), tern_json_at(cases, i));
        wrong += check_pair(&ctx, name, t, tern_json_get(tern_json_iter_value(it), "pair"));
        tern_tokenizer_close(&t);
    }
    tern_json_destroy(json);
    print_message("%zu texts, %zu wrong\n", checked, wrong);
    assert_int_equal(wrong, 0);
}

/* ---- bad folders ------------------------------------------------------------------------------------------------- */

static void refuse(const char *dir, tern_status expected, const char *one, const char *other)
{
    tern_ctx ctx = { 0 };
    tern_tokenizer *t;
    const tern_status status = tern_tokenizer_open(&ctx, dir, &t);

    if (status != expected || !strstr(tern_error(&ctx), one) || !strstr(tern_error(&ctx), other))
        fail_msg("status %d, '%s', expected %d with '%s' and '%s'", (int)status, tern_error(&ctx), (int)expected, one,
                 other);
    assert_null(t);
}

static void write_text(const char *dir, const char *name, const char *text)
{
    test_write(dir, name, text, strlen(text));
}

static void refuses_what_is_unknown_or_damaged(void **state)
{
    const char *dir = test_temp_dir();
    tern_ctx ctx = { 0 };
    tern_tokenizer *t;

    (void)state;
    write_text(dir, "vocab.txt", "[UNK]\n[CLS]\n[SEP]\na\n");
    write_text(dir, "tokenizer_config.json", "{\"tokenizer_class\":\"BertJapaneseTokenizer\"}");
    refuse(dir, TERN_ERR_UNSUPPORTED, "BertJapaneseTokenizer", "MPNet");
    write_text(dir, "tokenizer_config.json", "{\"tokenizer_class\":\"GPT2TokenizerFast\"}");
    refuse(dir, TERN_ERR_UNSUPPORTED, "GPT2TokenizerFast needs vocab.json", "vocab.txt");
    write_text(dir, "tokenizer_config.json", "{\"tokenizer_class\":7}");
    refuse(dir, TERN_ERR_FORMAT, "\"tokenizer_class\" is 7", "a string");
    write_text(dir, "tokenizer_config.json", "{\"do_lower_case\":\"yes\"}");
    refuse(dir, TERN_ERR_FORMAT, "do_lower_case", "a string");
    write_text(dir, "tokenizer_config.json", "{\"unk_token\":null}");
    refuse(dir, TERN_ERR_FORMAT, "BertTokenizer", "unk_token");
    write_text(dir, "tokenizer_config.json", "{\"cls_token\":null}");
    refuse(dir, TERN_ERR_FORMAT, "BertTokenizer needs a cls_token", "none");
    write_text(dir, "tokenizer_config.json", "{\"sep_token\":[]}");
    refuse(dir, TERN_ERR_FORMAT, "sep_token", "array");
    write_text(dir, "tokenizer_config.json", "{}");
    write_text(dir, "config.json", "{\"tokenizer_class\":\"RoFormerTokenizer\"}");
    refuse(dir, TERN_ERR_UNSUPPORTED, "config.json", "RoFormerTokenizer");
    write_text(dir, "config.json", "{\"model_type\":\"roformer\"}");
    refuse(dir, TERN_ERR_UNSUPPORTED, "config.json", "RoFormerTokenizer");
    write_text(dir, "config.json", "{\"model_type\":\"bert\"}");
    write_text(dir, "vocab.txt", "a\n\xFF\n");
    refuse(dir, TERN_ERR_FORMAT, "vocab.txt", "0xFF at offset 2");
    write_text(dir, "vocab.txt", "[UNK]\r\n[CLS]\r\n[SEP]\r\n[PAD]\r\n[MASK]\r\na  \r\na");
    assert_ok(&ctx, tern_tokenizer_open(&ctx, dir, &t)); /* ends of lines are white space; the last of two counts */
    assert_int_equal(tern_tokenizer_find(t, "[SEP]"), 2);
    assert_int_equal(tern_tokenizer_find(t, "a"), 6);
    tern_tokenizer_close(&t);
    test_remove_dir(dir);
}

/* A class without a row is refused by its name, whichever file names it, and so is a model type that has such a class. */
static void refuses_classes_by_name(void **state)
{
    static const struct {
        const char *class, *type; /* type NULL: several, or none */
    } classes[] = {
        { "WhisperTokenizer", "whisper" },
        { "LukeTokenizer", "luke" },
        { "HerbertTokenizer", "herbert" },
        { "NougatTokenizer", "nougat" },
        { "LayoutLMv2Tokenizer", "layoutlmv2" },
        { "LayoutLMv3Tokenizer", "layoutlmv3" },
        { "MarkupLMTokenizer", "markuplm" },
        { "BlenderbotSmallTokenizer", "blenderbot-small" },
        { "BioGptTokenizer", "biogpt" },
        { "CTRLTokenizer", "ctrl" },
        { "ClvpTokenizer", "clvp" },
        { "FlaubertTokenizer", "flaubert" },
        { "XLMTokenizer", "xlm" },
        { "MarianTokenizer", "marian" },
        { "M2M100Tokenizer", "m2m_100" },
        { "Speech2TextTokenizer", "speech_to_text" },
        { "VitsTokenizer", "vits" },
        { "Wav2Vec2CTCTokenizer", "wav2vec2" },
        { "BertJapaneseTokenizer", "bert-japanese" },
        { "BertweetTokenizer", "bertweet" },
        { "PhobertTokenizer", "phobert" },
        { "EsmTokenizer", "esm" },
        { "TapasTokenizer", "tapas" },
        { "SplinterTokenizer", "splinter" },
        { "RoCBertTokenizer", "roc_bert" },
        { "RoFormerTokenizer", "roformer" },
        { "CpmAntTokenizer", "cpmant" },
        { "GPTNeoXJapaneseTokenizer", "gpt_neox_japanese" },
        { "MgpstrTokenizer", "mgp-str" },
        { "TheirOwnTokenizer", NULL },
    };
    const char *dir = test_temp_dir();

    (void)state;
    write_text(dir, "vocab.json", "{\"a\":0,\"<|endoftext|>\":1}");
    write_text(dir, "merges.txt", "");
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        char text[128];

        snprintf(text, sizeof text, "{\"tokenizer_class\":\"%s\"}", classes[i].class);
        write_text(dir, "tokenizer_config.json", text);
        write_text(dir, "config.json", "{}");
        refuse(dir, TERN_ERR_UNSUPPORTED, classes[i].class, "tokenizer_config.json");
        write_text(dir, "tokenizer_config.json", "{}");
        write_text(dir, "config.json", text);
        refuse(dir, TERN_ERR_UNSUPPORTED, classes[i].class, "config.json");
        if (!classes[i].type)
            continue;
        snprintf(text, sizeof text, "{\"model_type\":\"%s\"}", classes[i].type);
        write_text(dir, "config.json", text);
        refuse(dir, TERN_ERR_UNSUPPORTED, classes[i].class, "config.json");
    }
    test_remove_dir(dir);
}

/* ---- SentencePiece models ---------------------------------------------------------------------------------------- */

static void copy_model(const char *dir)
{
    tern_ctx ctx = { 0 };
    char *data;
    size_t size;

    assert_ok(&ctx,
              tern_file_read(&ctx, TERN_SOURCE_DIR "/tests/golden/sentencepiece/unigram.model", 1 << 20, &data, &size));
    test_write(dir, "spiece.model", data, size);
    tern_free(data);
}

/* The ids of "the", alone and with itself: with `bos` first and `eos` last or neither (-1), and the types of a pair. */
static void check_ends(const char *dir, int32_t bos, int32_t eos, uint32_t second_type)
{
    tern_encode_options options = { .add_special = true, .pair = "the", .pair_size = 3 };
    tern_ctx ctx = { 0 };
    tern_ids bare = { 0 };
    tern_encoding e = { 0 };
    tern_tokenizer *t;
    size_t n = 0;

    assert_ok(&ctx, tern_tokenizer_open(&ctx, dir, &t));
    assert_ok(&ctx, tern_tokenizer_encode(&ctx, t, "the", 3, false, &bare));
    assert_ok(&ctx, tern_tokenizer_encode_with(&ctx, t, "the", 3, &options, &e));
    assert_int_equal(e.count, 2 * (bare.count + (bos >= 0) + (eos >= 0)));
    for (uint32_t text = 0; text < 2; text++) {
        const uint32_t type = text * second_type;

        if (bos >= 0) {
            assert_int_equal(e.type_ids[n], type);
            assert_int_equal(e.ids[n++], bos);
        }
        for (size_t i = 0; i < bare.count; i++) {
            assert_int_equal(e.type_ids[n], type);
            assert_int_equal(e.ids[n++], bare.data[i]);
        }
        if (eos >= 0) {
            assert_int_equal(e.type_ids[n], type);
            assert_int_equal(e.ids[n++], eos);
        }
    }
    tern_encoding_free(&e);
    tern_ids_free(&bare);
    tern_tokenizer_close(&t);
}

/* What transformers 5.23 puts around a text by class (seen with this model), and what its settings change. */
static void models_have_the_ends_of_their_class(void **state)
{
    static const struct {
        const char *tokenizer_config, *config;
        int32_t bos, eos;
        uint32_t second_type;
    } cases[] = {
        { "{}", "{}", -1, -1, 1 },
        { "{\"tokenizer_class\":\"LlamaTokenizer\"}", "{}", -1, -1, 1 },
        { "{\"tokenizer_class\":\"LlamaTokenizer\",\"add_bos_token\":true}", "{}", 1, -1, 1 },
        { "{\"tokenizer_class\":\"LlamaTokenizerFast\",\"add_bos_token\":true,\"add_eos_token\":true}", "{}", 1, 2, 1 },
        { "{\"tokenizer_class\":\"CodeLlamaTokenizer\"}", "{}", 1, -1, 1 },
        { "{\"tokenizer_class\":\"CodeLlamaTokenizer\",\"add_bos_token\":false}", "{}", -1, -1, 1 },
        { "{\"tokenizer_class\":\"T5Tokenizer\"}", "{}", -1, 2, 0 },
        { "{}", "{\"model_type\":\"mt5\"}", -1, 2, 0 },
        { "{\"tokenizer_class\":\"TheirOwnTokenizer\"}", "{}", -1, -1, 1 },
    };
    const char *dir = test_temp_dir();

    (void)state;
    copy_model(dir);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text(dir, "tokenizer_config.json", cases[i].tokenizer_config);
        write_text(dir, "config.json", cases[i].config);
        check_ends(dir, cases[i].bos, cases[i].eos, cases[i].second_type);
    }
    test_remove_dir(dir);
}

/* Classes that give a model's pieces other numbers, or change the text first. */
static void models_of_other_ids_are_refused(void **state)
{
    static const char *const classes[] = { "XLMRobertaTokenizer", "CamembertTokenizer", "MBartTokenizer",
                                           "NllbTokenizerFast",   "PegasusTokenizer",   "XLNetTokenizer",
                                           "AlbertTokenizer",     "DebertaV2Tokenizer", "SiglipTokenizer" };
    const char *dir = test_temp_dir();

    (void)state;
    copy_model(dir);
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        char text[128];

        snprintf(text, sizeof text, "{\"tokenizer_class\":\"%s\"}", classes[i]);
        write_text(dir, "tokenizer_config.json", text);
        refuse(dir, TERN_ERR_UNSUPPORTED, classes[i], "SentencePiece model alone");
    }
    write_text(dir, "tokenizer_config.json", "{}");
    write_text(dir, "config.json", "{\"model_type\":\"xlm-roberta\"}");
    refuse(dir, TERN_ERR_UNSUPPORTED, "XLMRobertaTokenizer", "config.json");
    test_remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_are_those_of_transformers), cmocka_unit_test(refuses_what_is_unknown_or_damaged),
        cmocka_unit_test(refuses_classes_by_name),           cmocka_unit_test(models_have_the_ends_of_their_class),
        cmocka_unit_test(models_of_other_ids_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
