/* vocab_class.c: the classes' rows, and which one a directory names. */
#include "text/vocab_class.h"

#include "base/file.h"
#include "base/memory.h"

#include <stdio.h>
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
#define BLANK "[\\\\s\\\\x{1c}-\\\\x{1f}]"
static const char clip_parts[] = PARTS(
    "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\s+"
    "\"},"
    "\"content\":\" \"},{\"type\":\"Lowercase\"}]}",
    SEQUENCE(SPLIT("<\\\\|startoftext\\\\|>|<\\\\|endoftext\\\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\\\p{L}]+|[\\\\p{N}]|"
                   "[^\\\\s\\\\p{L}\\\\p{N}]+",
                   "Removed", "true"),
             BYTES),
    /* what transformers does to the library's text: a space for each end of a word, no white space (Python's, which has
     * four controls more) around the whole */
    "{\"type\":\"Sequence\",\"decoders\":[" BYTES_DECODER ",{\"type\":\"Replace\",\"pattern\":{\"String\":\"</w>\"},"
    "\"content\":\" \"},{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\A" BLANK "+|(?<!" BLANK ")" BLANK
    "+\\\\z\"},"
    "\"content\":\"\"}]}");
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

/* Classes that are another one under a name of their own, with the row's class. */
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
/* Model types with the classes that transformers gives them, of those that have files like these: what a config.json
 * says that names no class. */
static const char *const model_types[][2] = {
    { "BartTokenizer", "florence2" },
    { "BertJapaneseTokenizer", "bert-japanese" },
    { "BertTokenizer",
      "align bark bert blip bros chinese_clip convbert distilbert electra ernie flava git grounding-dino layoutlm "
      "megatron-bert mm-grounding-dino nezha nomic_bert qdqbert realm retribert squeezebert tvp vilt visual_bert" },
    { "BertweetTokenizer", "bertweet" },
    { "BioGptTokenizer", "biogpt" },
    { "BlenderbotSmallTokenizer", "blenderbot-small" },
    { "BlenderbotTokenizer", "blenderbot" },
    { "CLIPTokenizer", "aimv2 clip clipseg groupvit omdet-turbo oneformer owlv2 owlvit sam3 sam3_video xclip" },
    { "CTRLTokenizer", "ctrl" },
    { "ClvpTokenizer", "clvp" },
    { "CohereTokenizer", "aya_vision cohere cohere2" },
    { "CpmAntTokenizer", "cpmant" },
    { "DPRQuestionEncoderTokenizer", "dpr" },
    { "DebertaTokenizer", "deberta" },
    { "EsmTokenizer", "esm" },
    { "FlaubertTokenizer", "flaubert" },
    { "FunnelTokenizer", "funnel" },
    { "GPT2Tokenizer", "blip-2 codegen dbrx emu3 gpt2 gpt_neo gptj hyperclovax_vision_v2 instructblip "
                       "instructblipvideo jais2 opt phi starcoder2" },
    { "GPTNeoXJapaneseTokenizer", "gpt_neox_japanese" },
    { "GPTNeoXTokenizer", "falcon_mamba gpt_neox mamba mamba2 mpt olmo olmoe rwkv xlstm" },
    { "HerbertTokenizer", "herbert" },
    { "LEDTokenizer", "led" },
    { "LayoutLMv2Tokenizer", "layoutlmv2" },
    { "LayoutLMv3Tokenizer", "layoutlmv3" },
    { "LukeTokenizer", "luke" },
    { "LxmertTokenizer", "lxmert" },
    { "M2M100Tokenizer", "m2m_100" },
    { "MPNetTokenizer", "mpnet" },
    { "MarianTokenizer", "marian" },
    { "MarkupLMTokenizer", "markuplm" },
    { "MgpstrTokenizer", "mgp-str" },
    { "MobileBertTokenizer", "mobilebert" },
    { "MvpTokenizer", "mvp" },
    { "NougatTokenizer", "nougat pp_formulanet" },
    { "OpenAIGPTTokenizer", "openai-gpt" },
    { "PhobertTokenizer", "phobert" },
    { "Qwen2Tokenizer",
      "audioflamingo3 colqwen2 cosmos3_omni dots3_note fun_asr_nano hunyuan_vl internvl lighton_ocr "
      "moss_transcribe_diarize ovis2 qianfan_ocr qwen2 qwen2_5_omni qwen2_5_vl qwen2_audio qwen2_moe qwen2_vl qwen3 "
      "qwen3_asr qwen3_moe qwen3_next qwen3_omni_moe qwen3_vl qwen3_vl_moe vibevoice" },
    { "RoCBertTokenizer", "roc_bert" },
    { "RoFormerTokenizer", "roformer" },
    { "RobertaTokenizer",
      "bart bridgetower clap data2vec-text ibert lilt longformer mega mra roberta roberta-prelayernorm" },
    { "Speech2TextTokenizer", "speech_to_text" },
    { "SplinterTokenizer", "splinter" },
    { "TapasTokenizer", "tapas" },
    { "VitsTokenizer", "vits" },
    { "Wav2Vec2CTCTokenizer",
      "data2vec-audio hubert unispeech unispeech-sat wav2vec2 wav2vec2-bert wav2vec2-conformer" },
    { "Wav2Vec2PhonemeCTCTokenizer", "wav2vec2_phoneme" },
    { "WhisperTokenizer", "whisper" },
    { "XLMTokenizer", "xlm" },
    /* with a SentencePiece model */
    { "AlbertTokenizer", "albert yoso" },
    { "BarthezTokenizer", "barthez" },
    { "BartphoTokenizer", "bartpho" },
    { "BigBirdTokenizer", "big_bird" },
    { "CamembertTokenizer", "camembert" },
    { "CodeLlamaTokenizer", "code_llama" },
    { "CpmTokenizer", "cpm" },
    { "DebertaV2Tokenizer", "deberta-v2" },
    { "FNetTokenizer", "fnet" },
    { "LayoutXLMTokenizer", "layoutxlm" },
    { "MBart50Tokenizer", "mbart50" },
    { "MBartTokenizer", "mbart" },
    { "MLukeTokenizer", "mluke" },
    { "NllbTokenizer", "nllb nllb-moe" },
    { "PLBartTokenizer", "plbart" },
    { "PegasusTokenizer", "pegasus" },
    { "RemBertTokenizer", "rembert" },
    { "SeamlessM4TTokenizer", "seamless_m4t seamless_m4t_v2" },
    { "SiglipTokenizer", "siglip" },
    { "SpeechT5Tokenizer", "speecht5" },
    { "T5Tokenizer", "mt5 musicgen musicgen_melody switch_transformers t5" },
    { "UdopTokenizer", "udop" },
    { "XGLMTokenizer", "xglm" },
    { "XLMRobertaTokenizer", "gte jina_embeddings_v3 metaclip_2 trocr xlm-roberta xmod" },
    { "XLNetTokenizer", "xlnet" },
};

/* The class of a model type; NULL without. */
static const char *class_of_type(const char *type)
{
    const size_t size = strlen(type);

    for (size_t i = 0; size > 0 && i < sizeof model_types / sizeof *model_types; i++)
        for (const char *at = model_types[i][1]; *at; at += *at == ' ') {
            const size_t length = strcspn(at, " ");

            if (length == size && memcmp(at, type, size) == 0)
                return model_types[i][0];
            at += length;
        }
    return NULL;
}

/* Names that say nothing: what any tokenizer.json is opened with. */
static bool says_nothing(const char *name)
{
    static const char *const names[] = { "PreTrainedTokenizer", "TokenizersBackend", "PythonBackend" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* The row of a class; NULL without. */
static const struct tern_vocab_class *row_of(const char *name)
{
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (strcmp(aliases[i][0], name) == 0)
            name = aliases[i][1];
    for (size_t i = 0; i < N_CLASSES; i++)
        if (strcmp(classes[i].name, name) == 0)
            return &classes[i];
    return NULL;
}

/* ---- which class a directory names ------------------------------------------------------------------------------- */

/* Takes a name, without Fast at its end; one that says nothing is none. */
static tern_status take_name(tern_ctx *ctx, const char *where, const char *name, struct tern_class_name *out)
{
    size_t size = strlen(name);

    out->is_fast = size > 4 && strcmp(name + size - 4, "Fast") == 0;
    size -= out->is_fast ? 4 : 0;
    TERN_REQUIRE(ctx, size < sizeof out->text, TERN_ERR_UNSUPPORTED,
                 "%s: tokenizer_class has a name of %zu bytes, at most %zu", where, size, sizeof out->text - 1);
    memcpy(out->text, name, size);
    out->text[size] = 0;
    if (says_nothing(out->text))
        out->text[0] = 0;
    return TERN_OK;
}

/* By config.json, which need not be there. */
static tern_status by_model(tern_ctx *ctx, const char *dir, struct tern_class_name *out)
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
        out->file = "config.json";
        out->by_type = !name;
        if (!name)
            name = class_of_type(type);
        if (name)
            TERN_TRY_OR_FAIL(take_name(ctx, path, name, out));
    }
    status = TERN_OK;

fail:
    tern_json_destroy(json);
    tern_free(path);
    return status;
}

tern_status tern_class_name_of(tern_ctx *ctx, const char *dir, const struct tern_json *config,
                               struct tern_class_name *out)
{
    const char *name = NULL;

    *out = (struct tern_class_name){ .file = "tokenizer_config.json" };
    if (config)
        TERN_TRY(tern_json_opt_string(ctx, config, tern_json_root(config), "tokenizer_class", NULL, &name));
    if (name)
        TERN_TRY(take_name(ctx, tern_json_where(config), name, out));
    return out->text[0] ? TERN_OK : by_model(ctx, dir, out);
}

/* ---- what it comes to -------------------------------------------------------------------------------------------- */

tern_status tern_vocab_class_of(tern_ctx *ctx, const char *dir, const struct tern_json *config, bool wordpiece,
                                const struct tern_vocab_class **out)
{
    struct tern_class_name name;

    TERN_TRY(tern_class_name_of(ctx, dir, config, &name));
    *out = row_of(name.text[0] ? name.text : wordpiece ? "BertTokenizer" : "GPT2Tokenizer");
    TERN_REQUIRE(
        ctx, *out, TERN_ERR_UNSUPPORTED,
        "%s/%s: tokenizer_class %s%s without a tokenizer.json is not supported; there are: Bert, Funnel and MPNet, and "
        "those of their kind, for vocab.txt; GPT2, CodeGen, Roberta, Bart, Longformer, LED, Mvp, Blenderbot, "
        "Deberta, CLIP, OpenAIGPT, GPTNeoX, Qwen2 and Cohere for vocab.json",
        dir, name.file, name.text, name.is_fast ? "Fast" : "");
    if ((*out)->wordpiece != wordpiece && name.by_type) /* a model type says less than the files do */
        *out = row_of(wordpiece ? "BertTokenizer" : "GPT2Tokenizer");
    TERN_REQUIRE(ctx, (*out)->wordpiece == wordpiece, TERN_ERR_UNSUPPORTED,
                 "%s/%s: tokenizer_class %s%s needs %s, but there is %s", dir, name.file, name.text,
                 name.is_fast ? "Fast" : "", (*out)->wordpiece ? "vocab.txt" : "vocab.json and merges.txt",
                 wordpiece ? "vocab.txt" : "vocab.json");
    return TERN_OK;
}

/* Classes whose ids are not those of the model alone: numbers are moved, tokens of other files come first, characters are
 * changed by rules that the model does not hold, or what stands around a text is not in it. */
static const char not_pieces[] =
    " AlbertTokenizer BarthezTokenizer BartphoTokenizer BertJapaneseTokenizer BigBirdTokenizer CamembertTokenizer "
    "CpmTokenizer DebertaV2Tokenizer ErnieMTokenizer FNetTokenizer LayoutXLMTokenizer M2M100Tokenizer MBart50Tokenizer "
    "MBartTokenizer MLukeTokenizer MarianTokenizer NllbTokenizer PLBartTokenizer PegasusTokenizer RemBertTokenizer "
    "SeamlessM4TTokenizer SiglipTokenizer Speech2TextTokenizer UdopTokenizer XGLMTokenizer XLMProphetNetTokenizer "
    "XLMRobertaTokenizer XLNetTokenizer ";

tern_status tern_piece_class_of(tern_ctx *ctx, const char *dir, const struct tern_json *config,
                                struct tern_piece_class *out)
{
    struct tern_class_name name;
    char word[sizeof name.text + 2];

    *out = (struct tern_piece_class){ 0 };
    TERN_TRY(tern_class_name_of(ctx, dir, config, &name));
    snprintf(word, sizeof word, " %s ", name.text);
    TERN_REQUIRE(ctx, !name.text[0] || !strstr(not_pieces, word), TERN_ERR_UNSUPPORTED,
                 "%s/%s: tokenizer_class %s%s without a tokenizer.json is not supported: its ids are not those of the "
                 "SentencePiece model alone",
                 dir, name.file, name.text, name.is_fast ? "Fast" : "");
    out->adds_bos = strcmp(name.text, "CodeLlamaTokenizer") == 0;
    out->adds_eos = out->one_type = strcmp(name.text, "T5Tokenizer") == 0;
    return TERN_OK;
}
