/* vocab_class.c: the classes' rows, and which one a directory names. */
#include "text/vocab_class.h"

#include "base/file.h"
#include "base/memory.h"

#include <string.h>

#define CONFIG_MAX ((size_t)1 << 24) /* bytes of config.json */

const char *const tern_named_token_keys[TERN_NAMED_TOKENS] = { "bos_token", "eos_token", "unk_token", "sep_token",
                                                               "pad_token", "cls_token", "mask_token" };

#define BYTES_DECODER  "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true}"
#define BYTES          "{\"type\":\"ByteLevel\",\"add_prefix_space\":$prefix,\"trim_offsets\":true,\"use_regex\":true}"
#define BYTES_NO_REGEX "{\"type\":\"ByteLevel\",\"add_prefix_space\":$prefix,\"trim_offsets\":true,\"use_regex\":false}"
#define SPLIT(regex, behavior, invert) \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"" behavior "\",\"invert\":" invert "}"
#define PARTS(normalizer, pre_tokenizer, decoder) \
    "{\"normalizer\":" normalizer ",\"pre_tokenizer\":" pre_tokenizer ",\"decoder\":" decoder "}"
#define SEQUENCE(first, second) "{\"type\":\"Sequence\",\"pretokenizers\":[" first "," second "]}"

#define BERT_NORMALIZER                                                                   \
    "{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":$chinese," \
    "\"strip_accents\":$accents,\"lowercase\":$lower}"
#define BERT_PRE "{\"type\":\"BertPreTokenizer\"}"

static const char bert_parts[] =
    PARTS(BERT_NORMALIZER, BERT_PRE, "{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true}");
static const char openai_parts[] =
    PARTS("{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,\"strip_accents\":null,"
          "\"lowercase\":true}",
          BERT_PRE, "{\"type\":\"BPEDecoder\",\"suffix\":\"</w>\"}");
static const char gpt2_parts[] = PARTS("null", BYTES, BYTES_DECODER);
static const char neox_parts[] = PARTS("{\"type\":\"NFC\"}", BYTES, BYTES_DECODER);
static const char cohere_parts[] =
    PARTS("{\"type\":\"NFC\"}", SEQUENCE("{\"type\":\"Digits\",\"individual_digits\":true}", BYTES), BYTES_DECODER);
static const char clip_parts[] = PARTS(
    "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\s+"
    "\"},"
    "\"content\":\" \"},{\"type\":\"Lowercase\"}]}",
    SEQUENCE(SPLIT("<\\\\|startoftext\\\\|>|<\\\\|endoftext\\\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\\\p{L}]+|[\\\\p{N}]|"
                   "[^\\\\s\\\\p{L}\\\\p{N}]+",
                   "Removed", "true"),
             BYTES),
    /* what transformers does to the library's text: a space for each end of a word, none around the whole */
    "{\"type\":\"Sequence\",\"decoders\":[" BYTES_DECODER ",{\"type\":\"Replace\",\"pattern\":{\"String\":\"</w>\"},"
    "\"content\":\" \"},{\"type\":\"Strip\",\"content\":\" \",\"start\":65535,\"stop\":65535}]}");
static const char qwen2_parts[] =
    PARTS("{\"type\":\"NFC\"}",
          SEQUENCE(SPLIT("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| "
                         "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+",
                         "Isolated", "false"),
                   BYTES_NO_REGEX),
          BYTES_DECODER);
#define EOT "<|endoftext|>"
/* bos, eos, unk, sep, pad, cls, mask */
#define BERT_TOKENS                                              \
    {                                                            \
        NULL, NULL, "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]" \
    }
#define ROBERTA_TOKENS                                           \
    {                                                            \
        "<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>" \
    }
#define QWEN_TOKENS                           \
    {                                         \
        NULL, EOT, EOT, NULL, EOT, NULL, NULL \
    }

static const struct tern_vocab_class classes[] = {
    { "BertTokenizer", true, bert_parts, BERT_TOKENS, .post = TERN_VOCAB_POST_BERT },
    { "FunnelTokenizer",
      true,
      bert_parts,
      { "<s>", "</s>", "<unk>", "<sep>", "<pad>", "<cls>", "<mask>" },
      .post = TERN_VOCAB_POST_BERT,
      .cls_type = 2 },
    { "MPNetTokenizer",
      true,
      bert_parts,
      { "<s>", "</s>", "[UNK]", "</s>", "<pad>", "<s>", "<mask>" },
      .post = TERN_VOCAB_POST_ROBERTA,
      .mask_takes_space = true },
    { "GPT2Tokenizer", false, gpt2_parts, { EOT, EOT, EOT, NULL, NULL, NULL, NULL }, .post = TERN_VOCAB_POST_ENDS },
    { "CodeGenTokenizer", false, gpt2_parts, { EOT, EOT, EOT, NULL, NULL, NULL, NULL }, .post = TERN_VOCAB_POST_ENDS },
    { "RobertaTokenizer", false, gpt2_parts, ROBERTA_TOKENS, .post = TERN_VOCAB_POST_ROBERTA },
    { "BlenderbotTokenizer", false, gpt2_parts, ROBERTA_TOKENS, .post = TERN_VOCAB_POST_ENDS, .adds_prefix_space = true,
      .mask_takes_space = true },
    { "DebertaTokenizer",
      false,
      gpt2_parts,
      { "[CLS]", "[SEP]", "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]" },
      .post = TERN_VOCAB_POST_DEBERTA },
    { "CLIPTokenizer",
      false,
      clip_parts,
      { "<|startoftext|>", EOT, EOT, NULL, EOT, NULL, NULL },
      .post = TERN_VOCAB_POST_CLIP,
      .suffix = "</w>",
      .knows_unk = true },
    { "OpenAIGPTTokenizer",
      false,
      openai_parts,
      { NULL, NULL, "<unk>", NULL, NULL, NULL, NULL },
      .post = TERN_VOCAB_POST_ENDS,
      .suffix = "</w>",
      .knows_unk = true },
    { "GPTNeoXTokenizer",
      false,
      neox_parts,
      { EOT, EOT, EOT, NULL, "<|padding|>", NULL, NULL },
      .post = TERN_VOCAB_POST_ENDS },
    { "Qwen2Tokenizer", false, qwen2_parts, QWEN_TOKENS, .post = TERN_VOCAB_POST_ENDS },
    { "CohereTokenizer",
      false,
      cohere_parts,
      { "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", "<UNK>", "<SEP>", "<PAD>", "<CLS>", "<MASK_TOKEN>" },
      .post = TERN_VOCAB_POST_ENDS },
};
#define N_CLASSES (sizeof classes / sizeof *classes)

/* Classes that are another one under a name of their own, and what models have: both with the row's class. */
static const char *const aliases[][2] = {
    { "DistilBertTokenizer", "BertTokenizer" },
    { "ElectraTokenizer", "BertTokenizer" },
    { "MobileBertTokenizer", "BertTokenizer" },
    { "LxmertTokenizer", "BertTokenizer" },
    { "LayoutLMTokenizer", "BertTokenizer" },
    { "ConvBertTokenizer", "BertTokenizer" },
    { "SqueezeBertTokenizer", "BertTokenizer" },
    { "DPRContextEncoderTokenizer", "BertTokenizer" },
    { "DPRQuestionEncoderTokenizer", "BertTokenizer" },
    { "DPRReaderTokenizer", "BertTokenizer" },
    { "BartTokenizer", "RobertaTokenizer" },
    { "LongformerTokenizer", "RobertaTokenizer" },
    { "LEDTokenizer", "RobertaTokenizer" },
    { "MvpTokenizer", "RobertaTokenizer" },
};
static const char *const model_types[][2] = {
    { "bert", "BertTokenizer" },
    { "distilbert", "BertTokenizer" },
    { "electra", "BertTokenizer" },
    { "mobilebert", "BertTokenizer" },
    { "lxmert", "BertTokenizer" },
    { "layoutlm", "BertTokenizer" },
    { "convbert", "BertTokenizer" },
    { "squeezebert", "BertTokenizer" },
    { "nomic_bert", "BertTokenizer" },
    { "megatron-bert", "BertTokenizer" },
    { "funnel", "FunnelTokenizer" },
    { "mpnet", "MPNetTokenizer" },
    { "roberta", "RobertaTokenizer" },
    { "bart", "RobertaTokenizer" },
    { "longformer", "RobertaTokenizer" },
    { "led", "RobertaTokenizer" },
    { "mvp", "RobertaTokenizer" },
    { "ibert", "RobertaTokenizer" },
    { "mega", "RobertaTokenizer" },
    { "mra", "RobertaTokenizer" },
    { "roberta-prelayernorm", "RobertaTokenizer" },
    { "blenderbot", "BlenderbotTokenizer" },
    { "deberta", "DebertaTokenizer" },
    { "clip", "CLIPTokenizer" },
    { "openai-gpt", "OpenAIGPTTokenizer" },
    { "gpt_neox", "GPTNeoXTokenizer" },
    { "mpt", "GPTNeoXTokenizer" },
    { "olmo", "GPTNeoXTokenizer" },
    { "olmoe", "GPTNeoXTokenizer" },
    { "mamba", "GPTNeoXTokenizer" },
    { "qwen2", "Qwen2Tokenizer" },
    { "qwen2_moe", "Qwen2Tokenizer" },
    { "qwen3", "Qwen2Tokenizer" },
    { "qwen3_moe", "Qwen2Tokenizer" },
    { "qwen3_next", "Qwen2Tokenizer" },
    { "cohere", "CohereTokenizer" },
    { "cohere2", "CohereTokenizer" },
};

static const char *look_up(const char *const table[][2], size_t n, const char *name, size_t size)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(table[i][0]) == size && memcmp(table[i][0], name, size) == 0)
            return table[i][1];
    return NULL;
}

/* Names that say nothing: what any tokenizer.json is opened with. */
static bool says_nothing(const char *name, size_t size)
{
    static const char *const names[] = { "PreTrainedTokenizer", "TokenizersBackend", "PythonBackend" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == size && memcmp(names[i], name, size) == 0)
            return true;
    return false;
}

/* The row of a class; NULL without. */
static const struct tern_vocab_class *row_of(const char *name, size_t size)
{
    const char *alias = look_up(aliases, sizeof aliases / sizeof *aliases, name, size);

    if (alias) {
        name = alias;
        size = strlen(alias);
    }
    for (size_t i = 0; i < N_CLASSES; i++)
        if (strlen(classes[i].name) == size && memcmp(classes[i].name, name, size) == 0)
            return &classes[i];
    return NULL;
}

static tern_status named(tern_ctx *ctx, const char *where, const char *name, bool wordpiece,
                         const struct tern_vocab_class **out)
{
    size_t size = strlen(name);
    const struct tern_vocab_class *row;

    if (size > 4 && strcmp(name + size - 4, "Fast") == 0)
        size -= 4;
    if (says_nothing(name, size))
        return TERN_OK;
    row = row_of(name, size);
    TERN_REQUIRE(
        ctx, row, TERN_ERR_UNSUPPORTED,
        "%s: tokenizer_class %s without a tokenizer.json is not supported; there are: Bert, Funnel and MPNet, and "
        "those of their kind, for vocab.txt; GPT2, CodeGen, Roberta, Bart, Longformer, LED, Mvp, Blenderbot, "
        "Deberta, CLIP, OpenAIGPT, GPTNeoX, Qwen2 and Cohere for vocab.json",
        where, name);
    TERN_REQUIRE(ctx, row->wordpiece == wordpiece, TERN_ERR_UNSUPPORTED,
                 "%s: tokenizer_class %s needs %s, but there is %s", where, name,
                 row->wordpiece ? "vocab.txt" : "vocab.json and merges.txt", wordpiece ? "vocab.txt" : "vocab.json");
    *out = row;
    return TERN_OK;
}

/* By config.json, which need not be there. */
static tern_status by_model(tern_ctx *ctx, const char *dir, bool wordpiece, const struct tern_vocab_class **out)
{
    struct tern_json *json = NULL;
    const char *name, *type;
    char *path;
    tern_status status;

    TERN_TRY(tern_path_join(ctx, dir, "config.json", &path));
    if (tern_path_is_file(path)) {
        TERN_TRY_OR_FAIL(tern_json_read(ctx, path, CONFIG_MAX, &json));
        TERN_TRY_OR_FAIL(tern_json_opt_string(ctx, json, tern_json_root(json), "tokenizer_class", NULL, &name));
        TERN_TRY_OR_FAIL(tern_json_opt_string(ctx, json, tern_json_root(json), "model_type", "", &type));
        if (name)
            TERN_TRY_OR_FAIL(named(ctx, path, name, wordpiece, out));
        else if ((name = look_up(model_types, sizeof model_types / sizeof *model_types, type, strlen(type))))
            *out = row_of(name, strlen(name));
        if (*out && (*out)->wordpiece != wordpiece) /* a model type says less than the files do */
            *out = NULL;
    }
    status = TERN_OK;

fail:
    tern_json_destroy(json);
    tern_free(path);
    return status;
}

tern_status tern_vocab_class_of(tern_ctx *ctx, const char *dir, const struct tern_json *config, bool wordpiece,
                                const struct tern_vocab_class **out)
{
    const char *name = NULL;

    *out = NULL;
    if (config)
        TERN_TRY(tern_json_opt_string(ctx, config, tern_json_root(config), "tokenizer_class", NULL, &name));
    if (name)
        TERN_TRY(named(ctx, tern_json_where(config), name, wordpiece, out));
    if (!*out)
        TERN_TRY(by_model(ctx, dir, wordpiece, out));
    if (!*out)
        *out = wordpiece ? row_of("BertTokenizer", strlen("BertTokenizer"))
                         : row_of("GPT2Tokenizer", strlen("GPT2Tokenizer"));
    return TERN_OK;
}
