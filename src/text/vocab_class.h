/* vocab_class.h: what a tokenizer is whose files hold a vocabulary and nothing else.
 *
 * vocab.txt, and vocab.json with merges.txt, do not say how a text is normalised and cut; the class that
 * tokenizer_config.json or config.json names does.  The rows are what transformers (5.23) makes of its classes. */
#ifndef TERN_TEXT_VOCAB_CLASS_H
#define TERN_TEXT_VOCAB_CLASS_H

#include "base/json.h"

enum tern_named_token {
    TERN_NAMED_BOS,
    TERN_NAMED_EOS,
    TERN_NAMED_UNK,
    TERN_NAMED_SEP,
    TERN_NAMED_PAD,
    TERN_NAMED_CLS,
    TERN_NAMED_MASK,
    TERN_NAMED_TOKENS
};
extern const char *const tern_named_token_keys[TERN_NAMED_TOKENS]; /* "bos_token", ... */

/* What stands around a text. */
enum tern_vocab_post {
    TERN_VOCAB_POST_ENDS,    /* bos and eos, where tokenizer_config.json asks for them */
    TERN_VOCAB_POST_BERT,    /* cls A sep B sep; `cls_type` is the first one's type */
    TERN_VOCAB_POST_ROBERTA, /* RobertaProcessing of cls and sep */
    TERN_VOCAB_POST_CLIP,    /* the same of bos and eos, offsets as they are */
    TERN_VOCAB_POST_DEBERTA  /* cls A sep sep B sep */
};

struct tern_vocab_class {
    const char *name;  /* without Fast */
    bool wordpiece;    /* vocab.txt, else vocab.json and merges.txt */
    const char *parts; /* normalizer, pre_tokenizer and decoder as in tokenizer.json; $prefix, $chinese, $accents and
                        * $lower stand for options of tokenizer_config.json */
    const char *tokens[TERN_NAMED_TOKENS]; /* unless tokenizer_config.json says otherwise; NULL: none */
    enum tern_vocab_post post;
    const char *suffix; /* of the last character of a word; NULL: none */
    bool knows_unk;     /* the model has the unknown token */
    bool adds_prefix_space, mask_takes_space;
    uint32_t cls_type;
};

/* What a directory says its class is: as tokenizer_config.json names it (`config`, NULL: there is none), else config.json,
 * by class or by model_type. */
struct tern_class_name {
    char text[64]; /* without Fast; empty: none is named */
    bool is_fast;  /* Fast stood behind it */
    bool by_type;
    const char *file; /* which of the two names it */
};
tern_status tern_class_name_of(tern_ctx *ctx, const char *dir, const struct tern_json *config,
                               struct tern_class_name *out);

/* The row of a directory's class; BERT's for vocab.txt and GPT-2's for vocab.json where none is named.
 * TERN_ERR_UNSUPPORTED: there is no row for the class, or the class is for the other files. */
tern_status tern_vocab_class_of(tern_ctx *ctx, const char *dir, const struct tern_json *tokenizer_config,
                                bool wordpiece, const struct tern_vocab_class **out);

/* What a class puts around the pieces of a SentencePiece model unless tokenizer_config.json says otherwise. */
struct tern_piece_class {
    bool adds_bos, adds_eos;
    bool one_type; /* a second text has the first one's type */
};

/* TERN_ERR_UNSUPPORTED: the class has other ids than the model. */
tern_status tern_piece_class_of(tern_ctx *ctx, const char *dir, const struct tern_json *tokenizer_config,
                                struct tern_piece_class *out);

#endif
