/* test_bad_tokenizer.c: files that are wrong, and allocations that fail: an error that names both sides, and nothing
 * left. */
#include "faults.h"
#include "small_tokenizer.h"

struct bad {
    struct small_tokenizer parts;
    tern_status status;
    const char *names[4]; /* what the text says besides the file */
};

#define SPLIT(rest) "{\"type\":\"Split\"," rest "}"
#define TOKEN(rest) "[{\"id\":10,\"content\":\"<x>\"," rest "}]"
#define FLAGS       "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":false"
#define VOCAB(rest) "{\"type\":\"BPE\",\"vocab\":{" rest "},\"merges\":[]}"
#define MERGE(rest) "{\"type\":\"BPE\"," SMALL_VOCAB ",\"merges\":[" rest "]}"
#define MODEL(rest) "{\"type\":\"BPE\"," rest "," SMALL_VOCAB "," SMALL_MERGES "}"
#define TEMPLATE(single, specials) \
    "{\"type\":\"TemplateProcessing\",\"single\":[" single "],\"pair\":[],\"special_tokens\":{" specials "}}"

#define PIECES(more)  "{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}," more "}"
#define SCORES(vocab) "{\"type\":\"Unigram\",\"vocab\":" vocab "}"

static const struct bad cases[] = {
    /* what tern does not know, by name */
    { { .normalizer = "{\"type\":\"Upper\"}" }, TERN_ERR_UNSUPPORTED, { "normalizer", "Upper", "NFKC" } },
    { { .normalizer = "{\"type\":\"Strip\"}" }, TERN_ERR_FORMAT, { "normalizer", "strip_left", "nothing" } },
    { { .normalizer = "{\"type\":\"Prepend\",\"prepend\":1}" }, TERN_ERR_FORMAT, { "'prepend'", "an integer" } },
    { { .normalizer = "{\"type\":\"Replace\",\"content\":\"\",\"pattern\":{\"Regex\":\"(\"}}" },
      TERN_ERR_FORMAT,
      { "not a regular expression" } },
    { { .normalizer = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"A\"}" },
      TERN_ERR_FORMAT,
      { "precompiled_charsmap", "base64" } },
    { { .normalizer = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA*AAA\"}" },
      TERN_ERR_FORMAT,
      { "0x2A", "base64" } },
    { { .normalizer = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"CAAAAAAAAAA=\"}" },
      TERN_ERR_FORMAT,
      { "2 units", "1 to 1" } },
    { { .pre_tokenizer = "{\"type\":\"CharDelimiterSplit\",\"delimiter\":\"ab\"}" },
      TERN_ERR_FORMAT,
      { "'delimiter'", "'ab'", "one character" } },
    { { .pre_tokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"last\"}" },
      TERN_ERR_UNSUPPORTED,
      { "prepend_scheme", "last", "always, first, never" } },
    { { .pre_tokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"add_prefix_space\":false}" },
      TERN_ERR_FORMAT,
      { "add_prefix_space", "'always'", "'never'" } },
    { { .pre_tokenizer = "{\"type\":\"Punctuation\",\"behavior\":\"Joined\"}" },
      TERN_ERR_UNSUPPORTED,
      { "Punctuation", "Joined", "Contiguous" } },
    { { .pre_tokenizer = "{\"type\":\"FixedLength\",\"length\":0}" }, TERN_ERR_FORMAT, { "length", "0" } },
    { { .post_processor = "{\"type\":\"BertProcessing\",\"sep\":[\"x\"],\"cls\":[\"x\",1]}" },
      TERN_ERR_FORMAT,
      { "BertProcessing", "'sep'", "1 values" } },
    { { .post_processor = "{\"type\":\"RobertaProcessing\",\"sep\":[\"x\",1],\"cls\":[\"x\",1]}" },
      TERN_ERR_FORMAT,
      { "RobertaProcessing", "trim_offsets" } },
    { { .normalizer = "{\"type\":\"NFC\",\"x\":1}" }, TERN_ERR_UNSUPPORTED, { "normalizer", "'x'" } },
    { { .pre_tokenizer = "{\"type\":\"Sentences\"}" },
      TERN_ERR_UNSUPPORTED,
      { "pre_tokenizer", "Sentences", "Split" } },
    { { .post_processor = "{\"type\":\"XlnetProcessing\"}" },
      TERN_ERR_UNSUPPORTED,
      { "post_processor", "XlnetProcessing", "BertProcessing" } },
    { { .decoder = "{\"type\":\"Spell\"}" }, TERN_ERR_UNSUPPORTED, { "decoder", "Spell", "ByteLevel" } },
    { { .decoder = "{\"type\":\"WordPiece\"}" }, TERN_ERR_FORMAT, { "decoder WordPiece", "cleanup", "nothing" } },
    { { .decoder = "{\"type\":\"Strip\",\"content\":\"\",\"start\":0,\"stop\":0}" },
      TERN_ERR_FORMAT,
      { "decoder Strip", "one character" } },
    { { .decoder = "{\"type\":\"Strip\",\"content\":\"x\",\"start\":-1,\"stop\":0}" },
      TERN_ERR_FORMAT,
      { "start", "-1" } },
    { { .decoder = "{\"type\":\"CTC\",\"pad_token\":1,\"word_delimiter_token\":\"|\",\"cleanup\":true}" },
      TERN_ERR_FORMAT,
      { "decoder CTC", "pad_token", "an integer" } },
    { { .decoder = "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"Oven\"}]}" },
      TERN_ERR_UNSUPPORTED,
      { "decoder", "Oven" } },
    { { .model = "{\"type\":\"Tiktoken\"}" }, TERN_ERR_UNSUPPORTED, { "model", "Tiktoken", "BPE", "Unigram" } },
    { { .model = "{\"vocab\":{}}" }, TERN_ERR_UNSUPPORTED, { "model", "no type" } },
    { { .more = ",\"extra\":1" }, TERN_ERR_UNSUPPORTED, { "'extra'" } },
    { { .model = MODEL("\"dropout\":0.1") }, TERN_ERR_UNSUPPORTED, { "dropout 0.1", "null or 0" } },
    { { .model = "{\"type\":\"WordPiece\",\"lower\":1}" }, TERN_ERR_UNSUPPORTED, { "WordPiece", "'lower'" } },
    { { .model = "{\"type\":\"WordLevel\",\"x\":1}" }, TERN_ERR_UNSUPPORTED, { "WordLevel", "'x'" } },
    { { .model = "{\"type\":\"Unigram\",\"x\":1}" }, TERN_ERR_UNSUPPORTED, { "Unigram", "'x'" } },
    { { .model = MODEL("\"new_option\":true") }, TERN_ERR_UNSUPPORTED, { "'new_option'" } },
    { { .pre_tokenizer = SPLIT("\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Joined\",\"invert\":false") },
      TERN_ERR_UNSUPPORTED,
      { "behavior", "Joined", "Isolated" } },
    { { .pre_tokenizer = SPLIT("\"pattern\":{\"Regex\":\"\\\\h\"},\"behavior\":\"Isolated\",\"invert\":false") },
      TERN_ERR_UNSUPPORTED,
      { "\\h" } },
    /* wrong types and missing parts */
    { { .normalizer = "7" }, TERN_ERR_FORMAT, { "normalizer", "integer", "object" } },
    { { .normalizer = "{}" }, TERN_ERR_FORMAT, { "normalizer", "'type'", "nothing" } },
    { { .pre_tokenizer = "{\"type\":\"ByteLevel\"}" }, TERN_ERR_FORMAT, { "add_prefix_space", "nothing" } },
    { { .pre_tokenizer = "{\"type\":\"Sequence\",\"pretokenizers\":{}}" },
      TERN_ERR_FORMAT,
      { "pretokenizers", "array" } },
    { { .pre_tokenizer = SPLIT("\"pattern\":{},\"behavior\":\"Isolated\",\"invert\":false") },
      TERN_ERR_FORMAT,
      { "pattern", "0 keys" } },
    { { .pre_tokenizer = SPLIT("\"pattern\":\"a\",\"behavior\":\"Isolated\",\"invert\":false") },
      TERN_ERR_FORMAT,
      { "pattern", "a string", "an object" } },
    { { .pre_tokenizer = SPLIT("\"pattern\":{\"Regex\":\"(\"},\"behavior\":\"Isolated\",\"invert\":false") },
      TERN_ERR_FORMAT,
      { "not a regular expression" } },
    { { .model = "null" }, TERN_ERR_FORMAT, { "'model'", "null" } },
    { { .model = "{\"type\":\"BPE\",\"vocab\":{}}" }, TERN_ERR_FORMAT, { "'merges'", "nothing", "array" } },
    { { .model = "{\"type\":\"BPE\",\"vocab\":[],\"merges\":[]}" }, TERN_ERR_FORMAT, { "'vocab'", "array", "object" } },
    { { .model = MODEL("\"dropout\":\"no\"") }, TERN_ERR_FORMAT, { "dropout", "a string", "a number" } },
    { { .model = MODEL("\"continuing_subword_prefix\":2") },
      TERN_ERR_FORMAT,
      { "continuing_subword_prefix", "integer", "string" } },
    { { .model = MODEL("\"continuing_subword_prefix\":\"##\"") }, TERN_ERR_FORMAT, { "merge 0", "'##'" } },
    { { .model = PIECES("\"unk_token\":null") }, TERN_ERR_FORMAT, { "WordPiece", "'unk_token'", "null", "string" } },
    { { .model = PIECES("\"unk_token\":\"a\"") }, TERN_ERR_FORMAT, { "continuing_subword_prefix", "nothing" } },
    { { .model = PIECES("\"unk_token\":\"a\",\"continuing_subword_prefix\":\"\"") },
      TERN_ERR_FORMAT,
      { "max_input_chars_per_word" } },
    { { .model = PIECES("\"unk_token\":\"a\",\"continuing_subword_prefix\":\"\",\"max_input_chars_per_word\":-1") },
      TERN_ERR_FORMAT,
      { "max_input_chars_per_word", "-1" } },
    { { .model = "{\"type\":\"WordLevel\",\"vocab\":{}}" },
      TERN_ERR_FORMAT,
      { "WordLevel", "'unk_token'", "nothing" } },
    { { .model = "{\"type\":\"WordLevel\",\"unk_token\":\"a\"}" },
      TERN_ERR_FORMAT,
      { "'vocab'", "nothing", "object" } },
    { { .model = SCORES("{}") }, TERN_ERR_FORMAT, { "Unigram", "'vocab'", "an object", "an array" } },
    { { .model = SCORES("[[\"a\",0],7]") }, TERN_ERR_FORMAT, { "entry 1", "integer", "[\"a\", -1.5]" } },
    { { .model = SCORES("[[\"a\"]]") }, TERN_ERR_FORMAT, { "entry 0" } },
    { { .model = SCORES("[[\"a\",\"0\"]]") }, TERN_ERR_FORMAT, { "entry 0" } },
    { { .model = SCORES("[[\"a\",0]],\"unk_id\":1") }, TERN_ERR_FORMAT, { "unk_id is 1", "1 tokens" } },
    { { .model = SCORES("[[\"a\",0]],\"unk_id\":-1") }, TERN_ERR_FORMAT, { "unk_id", "-1" } },
    { { .model = SCORES("[],\"unk_id\":0") }, TERN_ERR_FORMAT, { "unk_id is 0", "0 tokens" } },
    { { .model = SCORES("[],\"byte_fallback\":1") }, TERN_ERR_FORMAT, { "byte_fallback", "integer" } },
    { { .model = MODEL("\"unk_token\":3") }, TERN_ERR_FORMAT, { "'unk_token'", "integer", "string" } },
    { { .model = MODEL("\"fuse_unk\":\"yes\"") }, TERN_ERR_FORMAT, { "'fuse_unk'", "string", "true or false" } },
    { { .more = ",\"model\":{}" }, TERN_ERR_FORMAT, { "model" } },
    /* ids */
    { { .model = VOCAB("\"a\":\"0\"") }, TERN_ERR_FORMAT, { "'a'", "a string", "integer" } },
    { { .model = VOCAB("\"a\":0.5") }, TERN_ERR_FORMAT, { "'a'", "integer" } },
    { { .model = VOCAB("\"a\":-1") }, TERN_ERR_FORMAT, { "'a'", "-1", "0 to" } },
    { { .model = VOCAB("\"a\":4194304") }, TERN_ERR_FORMAT, { "'a'", "4194304", "4194303" } },
    { { .model = VOCAB("\"a\":99999999999") }, TERN_ERR_FORMAT, { "'a'", "99999999999" } },
    { { .model = VOCAB("\"a\":3,\"b\":4,\"c\":3") }, TERN_ERR_FORMAT, { "'a'", "'c'", "3" } },
    { { .model = VOCAB("\"a\":3,\"a\":4") }, TERN_ERR_FORMAT, { "" } },
    /* merges */
    { { .model = MERGE("\"a z\"") }, TERN_ERR_FORMAT, { "merge 0", "'a' and 'z'", "does not have 'z'" } },
    { { .model = MERGE("\"a b\",\"zz a\"") }, TERN_ERR_FORMAT, { "merge 1", "does not have 'zz'" } },
    { { .model = MERGE("\"b a\"") }, TERN_ERR_FORMAT, { "merge 0", "does not have 'ba'" } },
    { { .model = MERGE("\"a b c\"") }, TERN_ERR_FORMAT, { "merge 0", "'a b c'" } },
    { { .model = MERGE("\"ab\"") }, TERN_ERR_FORMAT, { "merge 0", "'ab'" } },
    { { .model = MERGE("[\"a\"]") }, TERN_ERR_FORMAT, { "merge 0", "an array" } },
    { { .model = MERGE("[\"a\",1]") }, TERN_ERR_FORMAT, { "merge 0" } },
    { { .model = MERGE("5") }, TERN_ERR_FORMAT, { "merge 0", "integer" } },
    /* added tokens */
    { { .added = "{}" }, TERN_ERR_FORMAT, { "added_tokens", "object", "array" } },
    { { .added = "[1]" }, TERN_ERR_FORMAT, { "added_tokens", "'content'" } },
    { { .added = TOKEN("\"single_word\":false") }, TERN_ERR_FORMAT, { "added_tokens", "'lstrip'", "nothing" } },
    { { .added = TOKEN(FLAGS ",\"colour\":1") }, TERN_ERR_UNSUPPORTED, { "added_tokens", "'colour'" } },
    { { .added = "[{\"id\":-1,\"content\":\"x\"," FLAGS "}]" }, TERN_ERR_FORMAT, { "id", "-1" } },
    { { .added = "[{\"content\":\"x\"," FLAGS "}]" }, TERN_ERR_FORMAT, { "id" } },
    { { .added = "[{\"id\":10,\"content\":\"x\"," FLAGS
                 "},{\"id\":11,\"content\":\"x\",\"single_word\":true,\"lstrip\":false,"
                 "\"rstrip\":false,\"normalized\":false,\"special\":false}]" },
      TERN_ERR_UNSUPPORTED,
      { "'x'", "twice" } },
    { { .added = TOKEN(FLAGS), .model = VOCAB("\"a\":0,\"b\":2") }, TERN_ERR_FORMAT, { "'<x>'", "id 2" } },
    /* post-processor */
    { { .post_processor = TEMPLATE("{\"SpecialToken\":{\"id\":\"S\",\"type_id\":0}}", "") },
      TERN_ERR_FORMAT,
      { "'S'" } },
    { { .post_processor = TEMPLATE("{\"Sequence\":{\"id\":\"B\",\"type_id\":0}}", "") },
      TERN_ERR_FORMAT,
      { "'B'", "'A'" } },
    { { .post_processor = TEMPLATE("\"$A\"", "") }, TERN_ERR_FORMAT, { "piece 0", "a string" } },
    { { .post_processor =
            TEMPLATE("{\"SpecialToken\":{\"id\":\"S\",\"type_id\":0}}", "\"S\":{\"id\":\"S\",\"ids\":[77]}") },
      TERN_ERR_FORMAT,
      { "77", "10" } },
    { { .post_processor =
            TEMPLATE("{\"SpecialToken\":{\"id\":\"S\",\"type_id\":0}}", "\"S\":{\"id\":\"S\",\"ids\":[\"x\"]}") },
      TERN_ERR_FORMAT,
      { "special token", "a string" } },
};

static void refuses(void **state)
{
    tern_ctx ctx = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tern_tokenizer *t = (tern_tokenizer *)&ctx;
        char *json = small_json(cases[i].parts);

        assert_fails(&ctx, tern_tokenizer_parse(&ctx, json, strlen(json), "bad.json", &t), cases[i].status, "bad.json");
        assert_null(t);
        for (size_t k = 0; k < 4 && cases[i].names[k]; k++)
            if (!strstr(tern_error(&ctx), cases[i].names[k]))
                fail_msg("'%s' does not say %s", tern_error(&ctx), cases[i].names[k]);
        free(json);
    }
}

static void refuses_settings(void **state)
{
    static const char *const files[][2] = {
        { "{\"version\":\"2.0\",\"model\":" SMALL_BPE "}", "2.0" },
        { "{\"truncation\":{\"strategy\":\"Middle\",\"max_length\":3,\"stride\":0},\"model\":" SMALL_BPE "}",
          "Middle" },
        { "{\"padding\":{\"strategy\":{\"Loose\":3},\"direction\":\"Left\",\"pad_id\":0,\"pad_type_id\":0,"
          "\"pad_token\":\"x\"},\"model\":" SMALL_BPE "}",
          "Loose" },
    };
    tern_ctx ctx = { 0 };
    tern_tokenizer *t;

    (void)state;
    for (size_t i = 0; i < 3; i++)
        assert_fails(&ctx, tern_tokenizer_parse(&ctx, files[i][0], strlen(files[i][0]), "bad.json", &t),
                     TERN_ERR_UNSUPPORTED, files[i][1]);
    static const char *const too_long[] = {
        "{\"padding\":{\"strategy\":{\"Fixed\":16777217},\"direction\":\"Left\",\"pad_id\":0,\"pad_type_id\":0,"
        "\"pad_token\":\"x\"},\"model\":" SMALL_BPE "}",
        "{\"padding\":{\"strategy\":\"BatchLongest\",\"direction\":\"Left\",\"pad_to_multiple_of\":16777217,"
        "\"pad_id\":0,\"pad_type_id\":0,\"pad_token\":\"x\"},\"model\":" SMALL_BPE "}",
    };
    for (size_t i = 0; i < 2; i++)
        assert_fails(&ctx, tern_tokenizer_parse(&ctx, too_long[i], strlen(too_long[i]), "bad.json", &t),
                     TERN_ERR_FORMAT, "16777216");
    assert_fails(&ctx, tern_tokenizer_parse(&ctx, "[]", 2, "bad.json", &t), TERN_ERR_FORMAT, "an array");
    assert_fails(&ctx, tern_tokenizer_parse(&ctx, "{\"model\":", 9, "bad.json", &t), TERN_ERR_FORMAT, "bad.json");
    assert_fails(&ctx, tern_tokenizer_parse(&ctx, "{\"\xFF\":1}", 7, "bad.json", &t), TERN_ERR_FORMAT, "bad.json");

    /* sequences in sequences, deeper than anyone writes them */
    char deep[2048] = "";
    for (int i = 0; i < 20; i++)
        strcat(deep, "{\"type\":\"Sequence\",\"normalizers\":[");
    for (int i = 0; i < 20; i++)
        strcat(deep, "]}");
    assert_fails(&ctx, small_open(&ctx, PARTS(.normalizer = deep), &t), TERN_ERR_UNSUPPORTED, "Sequences");
}

static void write_text(const char *dir, const char *name, const char *text)
{
    test_write(dir, name, text, strlen(text));
}

static void refuses_folders(void **state)
{
    static const char vocab[] = "{\"a\":0,\"b\":1,\"ab\":2}";
    const char *dir = test_temp_dir();
    tern_ctx ctx = { 0 };
    tern_tokenizer *t;
    char path[4096];

    (void)state;
    assert_fails(&ctx, tern_tokenizer_open(&ctx, NULL, &t), TERN_ERR_ARG, "path");
    assert_fails(&ctx, tern_tokenizer_open(&ctx, dir, NULL), TERN_ERR_ARG, "out");
    snprintf(path, sizeof path, "%s/nothing.json", dir);
    assert_fails(&ctx, tern_tokenizer_open(&ctx, path, &t), TERN_ERR_NOT_FOUND, "nothing.json");
    assert_fails(&ctx, tern_tokenizer_open(&ctx, dir, &t), TERN_ERR_NOT_FOUND, "merges.txt");
    assert_null(t);
    write_text(dir, "vocab.json", vocab);
    assert_fails(&ctx, tern_tokenizer_open(&ctx, dir, &t), TERN_ERR_NOT_FOUND, "merges.txt");

    write_text(dir, "merges.txt", "#version: 0.2\na b\nb c\n");
    assert_fails(&ctx, tern_tokenizer_open(&ctx, dir, &t), TERN_ERR_FORMAT, "'c'");
    write_text(dir, "merges.txt", "#version: 0.2\r\na b\r\n\r\na b b\r\n");
    assert_fails(&ctx, tern_tokenizer_open(&ctx, dir, &t), TERN_ERR_FORMAT, "line 4");
    write_text(dir, "merges.txt", "a b");
    write_text(dir, "vocab.json", "[1]");
    assert_fails(&ctx, tern_tokenizer_open(&ctx, dir, &t), TERN_ERR_FORMAT, "vocab.json");
    write_text(dir, "vocab.json", vocab);
    write_text(dir, "added_tokens.json", "{\"<x>\":\"5\"}");
    assert_fails(&ctx, tern_tokenizer_open(&ctx, dir, &t), TERN_ERR_FORMAT, "'<x>'");
    write_text(dir, "added_tokens.json", "{\"<y>\":4,\"<x>\":3}");
    write_text(dir, "special_tokens_map.json", "{\"eos_token\":7}");
    assert_fails(&ctx, tern_tokenizer_open(&ctx, dir, &t), TERN_ERR_FORMAT, "eos_token");
    write_text(dir, "special_tokens_map.json", "{\"eos_token\":\"<x>\",\"pad_token\":{\"content\":\"<p>\"}}");
    write_text(dir, "tokenizer_config.json", "{\"add_prefix_space\":1}");
    assert_fails(&ctx, tern_tokenizer_open(&ctx, dir, &t), TERN_ERR_FORMAT, "add_prefix_space");
    write_text(dir, "tokenizer_config.json", "{\"added_tokens_decoder\":{\"x\":{\"content\":\"q\"}}}");
    assert_fails(&ctx, tern_tokenizer_open(&ctx, dir, &t), TERN_ERR_FORMAT, "'x'");

    /* and as it should be: ids by the order of the file's, then the ones that only the map names */
    bool special;
    const char *bytes;
    size_t size;
    write_text(dir, "tokenizer_config.json", "{\"add_prefix_space\":false}");
    assert_ok(&ctx, tern_tokenizer_open(&ctx, dir, &t));
    assert_ids(&ctx, t, "ab<x><y><p>b", 2, 3, 4, 6, 1); /* 5: GPT-2's own end of text */
    assert_ok(&ctx, tern_tokenizer_token(&ctx, t, 3, &bytes, &size, &special));
    assert_true(special);
    assert_ok(&ctx, tern_tokenizer_token(&ctx, t, 4, &bytes, &size, &special));
    assert_false(special);
    tern_tokenizer_close(&t);
    /* the beginning of the text, on request and if there is such a token */
    write_text(dir, "tokenizer_config.json", "{\"add_bos_token\":true}");
    assert_ok(&ctx, tern_tokenizer_open(&ctx, dir, &t));
    assert_ids(&ctx, t, "ab", 5, 2);
    tern_tokenizer_close(&t);
    write_text(dir, "tokenizer_config.json", "{\"add_bos_token\":true,\"bos_token\":null}");
    assert_ok(&ctx, tern_tokenizer_open(&ctx, dir, &t));
    assert_ids(&ctx, t, "ab", 2);
    tern_tokenizer_close(&t);
    write_text(dir, "tokenizer_config.json", "{\"add_bos_token\":true,\"bos_token\":\"<x>\"}");
    assert_ok(&ctx, tern_tokenizer_open(&ctx, dir, &t));
    assert_ids(&ctx, t, "ab", 3, 2);
    assert_ids(&ctx, t, "", 3);
    tern_tokenizer_close(&t);
    test_remove_dir(dir);
}

/* ---- allocations that fail --------------------------------------------------------------------------------------- */

static const struct small_tokenizer rich = {
    .added =
        "[{\"id\":10,\"content\":\"<X>\",\"single_word\":false,\"lstrip\":true,\"rstrip\":true,\"normalized\":true,"
        "\"special\":true},{\"id\":11,\"content\":\"<y>\"," FLAGS "}]",
    .normalizer = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},{\"type\":\"Lowercase\"}]}",
    .pre_tokenizer =
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[\\\\s\\\\d]\"},"
        "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
        "\"trim_offsets\":true,\"use_regex\":true}," SMALL_NO_RULE "]}",
    .post_processor =
        TEMPLATE("{\"SpecialToken\":{\"id\":\"S\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}",
                 "\"S\":{\"id\":\"S\",\"ids\":[4]}"),
    .decoder = SMALL_BYTES,
    .model =
        "{\"unk_token\":\"<unk>\",\"ignore_merges\":true," SMALL_VOCAB ",\"merges\":[\"a b\",[\"ab\",\"c\"],\"a b\"]}",
};

static void faults_of_opening(void **state)
{
    tern_ctx ctx = { 0 };
    tern_tokenizer *t = NULL;

    (void)state;
    FAULT_NEEDED;
    const char *dir = test_temp_dir();
    char *json = small_json(rich);
    write_text(dir, "tokenizer.json", json);
    assert_ok(&ctx, tern_tokenizer_open(&ctx, dir, &t));
    tern_tokenizer_close(&t);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_tokenizer_open(&ctx, dir, &t);
        FAULT_DONE(n, &ctx, status, t);
        tern_tokenizer_close(&t);
    }
    tern_tokenizer_close(&t);
    test_remove_dir(dir);
    free(json);
}

static void faults_of_gpt2_files(void **state)
{
    static const char vocab[] = "{\"a\":0,\"b\":1,\"ab\":2,\"<|endoftext|>\":3}", config[] = "{\"eos_token\":\"<e>\"}";
    tern_ctx ctx = { 0 };
    tern_tokenizer *t = NULL;

    (void)state;
    FAULT_NEEDED;
    const char *dir = test_temp_dir();
    write_text(dir, "vocab.json", vocab);
    write_text(dir, "merges.txt", "a b\n");
    write_text(dir, "tokenizer_config.json", config);
    assert_ok(&ctx, tern_tokenizer_open(&ctx, dir, &t));
    assert_ids(&ctx, t, "ab<|endoftext|><e>", 2, 3, 4);
    tern_tokenizer_close(&t);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_tokenizer_open(&ctx, dir, &t);
        FAULT_DONE(n, &ctx, status, t);
        tern_tokenizer_close(&t);
    }
    tern_tokenizer_close(&t);
    test_remove_dir(dir);
}

/* A file of each model, words and a SentencePiece model: opening, encoding with places and decoding. */
static void faults_of_models(void **state)
{
    static const char *const paths[] = { "text_models/unigram-bytes.json",    "text_models/wordpiece.json",
                                         "text_models/word-level.json",       "text_models/bpe-affixes-bytes.json",
                                         "vocab_files/bert-tokens",           "vocab_files/clip",
                                         "sentencepiece/bpe-all-types.model", "sentencepiece/unigram-user.model" };
    static const tern_encode_options options = { .add_special = true };
    static const char text[] = "abc the ab <s>";
    tern_ctx ctx = { 0 };
    tern_tokenizer *t = NULL;

    (void)state;
    FAULT_NEEDED;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        tern_encoding e = { 0 };
        char path[512], *decoded = NULL;

        snprintf(path, sizeof path, "%s/tests/golden/%s", TERN_SOURCE_DIR, paths[i]);
        assert_ok(&ctx, tern_tokenizer_open(&ctx, path, &t));
        assert_ok(&ctx, tern_tokenizer_encode_with(&ctx, t, text, sizeof text - 1, &options, &e));
        assert_ok(&ctx, tern_tokenizer_decode(&ctx, t, e.ids, e.count, false, &decoded, NULL));
        tern_text_free(decoded);
        decoded = NULL;
        tern_encoding_free(&e);
        tern_tokenizer_close(&t);
        FAULT_EACH(n)
        {
            fault_arm(n);
            tern_status status = tern_tokenizer_open(&ctx, path, &t);
            if (status == TERN_OK)
                status = tern_tokenizer_encode_with(&ctx, t, text, sizeof text - 1, &options, &e);
            if (status == TERN_OK)
                status = tern_tokenizer_decode(&ctx, t, e.ids, e.count, false, &decoded, NULL);
            tern_encoding_free(&e);
            tern_text_free(decoded);
            decoded = NULL;
            tern_tokenizer_close(&t);
            const char *object = status == TERN_OK ? path : NULL;
            FAULT_DONE(n, &ctx, status, object);
        }
    }
}

static void faults_of_use(void **state)
{
    tern_ctx ctx = { 0 };
    tern_tokenizer *t;
    tern_ids ids = { 0 };
    tern_decoder *decoder = NULL;
    char *text = NULL, input[3000];
    const char *piece;

    (void)state;
    FAULT_NEEDED;
    for (size_t i = 0; i < sizeof input; i++)
        input[i] = "abcabd <X> 1\xC3\xA9 <y>abab abcabcabcabcabcabcabcabcabcabcabcabcabc"[i % 62];
    assert_ok(&ctx, small_open(&ctx, rich, &t));
    assert_ok(&ctx, tern_tokenizer_encode(&ctx, t, input, 2914, true, &ids));
    const size_t count = ids.count;
    tern_ids_free(&ids);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_tokenizer_encode(&ctx, t, input, 2914, true, &ids);
        FAULT_DONE(n, &ctx, status, ids.data);
        tern_ids_free(&ids);
    }
    assert_int_equal(ids.count, count);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_tokenizer_decode(&ctx, t, ids.data, ids.count, true, &text, NULL);
        FAULT_DONE(n, &ctx, status, text);
        tern_text_free(text);
        text = NULL;
    }
    tern_text_free(text);
    FAULT_EACH(n)
    {
        fault_arm(n);
        const tern_status status = tern_decoder_create(&ctx, t, true, &decoder);
        FAULT_DONE(n, &ctx, status, decoder);
        tern_decoder_destroy(&decoder);
    }

    /* a stream allocates nothing */
    fault_count_start();
    for (size_t i = 0; i < ids.count; i++)
        assert_int_equal(tern_decoder_push(&ctx, decoder, ids.data[i], &piece, NULL), TERN_OK);
    assert_int_equal(tern_decoder_finish(&ctx, decoder, &piece, NULL), TERN_OK);
    assert_int_equal(fault_count(), 0);
    fault_disarm();
    tern_decoder_destroy(&decoder);
    tern_ids_free(&ids);
    tern_tokenizer_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses),           cmocka_unit_test(refuses_settings),     cmocka_unit_test(refuses_folders),
        cmocka_unit_test(faults_of_opening), cmocka_unit_test(faults_of_gpt2_files), cmocka_unit_test(faults_of_models),
        cmocka_unit_test(faults_of_use),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
