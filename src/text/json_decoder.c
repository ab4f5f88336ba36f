/* json_decoder.c: the decoder of tokenizer.json. */
#include "text/json_parts.h"

#include "base/memory.h"

static tern_status bind_strip(struct tern_binder *b, const tern_json_value *value, struct tern_decode_step *step)
{
    int64_t start, stop;

    TERN_TRY(TERN_BIND_KEYS(b, value, "decoder Strip", "type", "content", "start", "stop"));
    TERN_TRY(tern_bind_char(b, value, "decoder Strip", "content", &step->code));
    TERN_TRY(tern_json_need_int(b->ctx, b->json, value, "start", 0, INT32_MAX, &start));
    TERN_TRY(tern_json_need_int(b->ctx, b->json, value, "stop", 0, INT32_MAX, &stop));
    step->start = (size_t)start;
    step->stop = (size_t)stop;
    return TERN_OK;
}

/* What the step's kind reads from the file. */
static tern_status bind_step(struct tern_binder *b, const tern_json_value *value, struct tern_decode_step *step)
{
    bool split, unused;

    switch (step->kind) {
    case TERN_DECODE_STEP_BPE:
        TERN_TRY(TERN_BIND_KEYS(b, value, "decoder BPEDecoder", "type", "suffix"));
        return tern_bind_text(b, value, "decoder BPEDecoder", "suffix", &step->text, &step->text_size);
    case TERN_DECODE_STEP_BYTE_FALLBACK:
        return TERN_BIND_KEYS(b, value, "decoder ByteFallback", "type");
    case TERN_DECODE_STEP_BYTE_LEVEL:
        TERN_TRY(
            TERN_BIND_KEYS(b, value, "decoder ByteLevel", "type", "add_prefix_space", "trim_offsets", "use_regex"));
        TERN_TRY(tern_bind_opt_bool(b, value, "decoder ByteLevel", "use_regex", true, &unused));
        TERN_TRY(tern_bind_bool(b, value, "decoder ByteLevel", "add_prefix_space", &unused));
        return tern_bind_bool(b, value, "decoder ByteLevel", "trim_offsets", &unused);
    case TERN_DECODE_STEP_CTC:
        TERN_TRY(TERN_BIND_KEYS(b, value, "decoder CTC", "type", "pad_token", "word_delimiter_token", "cleanup"));
        TERN_TRY(tern_bind_bool(b, value, "decoder CTC", "cleanup", &step->cleanup));
        TERN_TRY(tern_bind_text(b, value, "decoder CTC", "pad_token", &step->text, &step->text_size));
        return tern_bind_text(b, value, "decoder CTC", "word_delimiter_token", &step->more, &step->more_size);
    case TERN_DECODE_STEP_FUSE:
        return TERN_BIND_KEYS(b, value, "decoder Fuse", "type");
    case TERN_DECODE_STEP_METASPACE:
        TERN_TRY(TERN_BIND_KEYS(b, value, "decoder Metaspace", "type", "replacement", "str_rep", "add_prefix_space",
                                "prepend_scheme", "split"));
        TERN_TRY(tern_bind_char(b, value, "decoder Metaspace", "replacement", &step->code));
        TERN_TRY(tern_bind_opt_bool(b, value, "decoder Metaspace", "split", true, &split));
        return tern_bind_prepend_scheme(b, value, "decoder Metaspace", &step->scheme);
    case TERN_DECODE_STEP_REPLACE:
        TERN_TRY(TERN_BIND_KEYS(b, value, "decoder Replace", "type", "pattern", "content"));
        TERN_TRY(tern_bind_text(b, value, "decoder Replace", "content", &step->text, &step->text_size));
        return tern_bind_pattern(b, value, "decoder Replace", &step->pattern);
    case TERN_DECODE_STEP_STRIP:
        return bind_strip(b, value, step);
    case TERN_DECODE_STEP_WORDPIECE:
        TERN_TRY(TERN_BIND_KEYS(b, value, "decoder WordPiece", "type", "prefix", "cleanup"));
        TERN_TRY(tern_bind_bool(b, value, "decoder WordPiece", "cleanup", &step->cleanup));
        return tern_bind_text(b, value, "decoder WordPiece", "prefix", &step->text, &step->text_size);
    }
    return TERN_OK;
}

static tern_status bind_decoder(struct tern_binder *b, const tern_json_value *value, int depth)
{
    static const struct {
        const char *name;
        enum tern_decode_kind kind;
    } kinds[] = {
        { "BPEDecoder", TERN_DECODE_STEP_BPE },
        { "ByteFallback", TERN_DECODE_STEP_BYTE_FALLBACK },
        { "ByteLevel", TERN_DECODE_STEP_BYTE_LEVEL },
        { "CTC", TERN_DECODE_STEP_CTC },
        { "Fuse", TERN_DECODE_STEP_FUSE },
        { "Metaspace", TERN_DECODE_STEP_METASPACE },
        { "Replace", TERN_DECODE_STEP_REPLACE },
        { "Strip", TERN_DECODE_STEP_STRIP },
        { "WordPiece", TERN_DECODE_STEP_WORDPIECE },
    };
    struct tern_decode_chain *chain = &b->t->chain;
    const char *type;
    size_t size;

    TERN_TRY(tern_bind_component(b, value, "decoder", &type, &size));
    if (!type)
        return TERN_OK;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!tern_bind_equal(type, size, kinds[i].name))
            continue;
        TERN_REQUIRE(b->ctx, chain->n_steps < TERN_DECODE_STEPS_MAX, TERN_ERR_UNSUPPORTED,
                     "%s: decoder has more than %d steps", b->where, TERN_DECODE_STEPS_MAX);
        chain->steps[chain->n_steps] = (struct tern_decode_step){ .kind = kinds[i].kind };
        return bind_step(b, value, &chain->steps[chain->n_steps++]);
    }
    if (!tern_bind_equal(type, size, "Sequence"))
        return tern_bind_unknown(b, "decoder", type, size,
                                 "ByteLevel, WordPiece, Metaspace, BPEDecoder, CTC, ByteFallback, Fuse, Strip, "
                                 "Replace, Sequence");
    return tern_bind_sequence(b, value, "decoder", "decoders", depth, bind_decoder);
}

tern_status tern_bind_decoder(struct tern_binder *b, const tern_json_value *value)
{
    const struct tern_decode_chain *chain = &b->t->chain;

    TERN_TRY(bind_decoder(b, value, 0));
    if (!value || tern_json_type(value) == TERN_JSON_NULL)
        b->t->decoder = TERN_DECODE_SPACES;
    else if (chain->n_steps == 1 && chain->steps[0].kind == TERN_DECODE_STEP_BYTE_LEVEL)
        b->t->decoder = TERN_DECODE_BYTE_LEVEL;
    else
        b->t->decoder = TERN_DECODE_CHAIN;
    return TERN_OK;
}
