/* token_model.h: the model of a tokenizer, whichever it is: from a word to tokens.
 *
 * A new model is a file pair X.h, X.c with struct tern_X and struct tern_X_scratch, a member here, and a branch in each
 * function of token_model.c. */
#ifndef TERN_TEXT_TOKEN_MODEL_H
#define TERN_TEXT_TOKEN_MODEL_H

#include "text/bpe.h"
#include "text/names.h"
#include "text/sentencepiece.h"
#include "text/token_list.h"
#include "text/unigram.h"
#include "text/word_level.h"
#include "text/wordpiece.h"

enum tern_token_model_kind {
    TERN_TOKEN_MODEL_BPE,
    TERN_TOKEN_MODEL_WORDPIECE,
    TERN_TOKEN_MODEL_WORD_LEVEL,
    TERN_TOKEN_MODEL_UNIGRAM,
    TERN_TOKEN_MODEL_SENTENCEPIECE /* its words are whole texts */
};

/* Read-only once it is finished; shared by threads. */
struct tern_token_model {
    enum tern_token_model_kind kind;
    union {
        struct tern_bpe bpe;
        struct tern_wordpiece wordpiece;
        struct tern_word_level word_level;
        struct tern_unigram unigram;
        struct tern_sentencepiece sentencepiece;
    };
};

/* Memory that one call of encode works in, reused from word to word.  All zero is empty. */
struct tern_token_model_scratch {
    union {
        struct tern_bpe_scratch bpe;
        struct tern_wordpiece_scratch wordpiece;
        struct tern_unigram_scratch unigram;
        struct tern_sentencepiece_scratch sentencepiece;
    };
    char *mapped; /* of a word for a model that knows nothing of bytes: its byte-level characters */
    size_t mapped_capacity;
};

void tern_token_model_destroy(struct tern_token_model *model);
void tern_token_model_scratch_destroy(const struct tern_token_model *model, struct tern_token_model_scratch *scratch);

/* Before the first word of a text of `size` bytes: makes what pays for itself over a long text. */
tern_status tern_token_model_begin(tern_ctx *ctx, const struct tern_token_model *model,
                                   struct tern_token_model_scratch *scratch, size_t size);

/* Appends the tokens of a word, which is never empty.
 *
 * `bytes`: the word's bytes stand for their byte-level characters; no spans are wanted then.  Else it is valid UTF-8,
 * and spans are the library's Token.offsets.  Errors are the model's. */
tern_status tern_token_model_encode(tern_ctx *ctx, const struct tern_token_model *model,
                                    struct tern_token_model_scratch *scratch, const char *word, size_t size, bool bytes,
                                    struct tern_token_list *out);

/* True for an id whose tokens do not have its text, but the one that they were in the word: a Unigram's unknown. */
bool tern_token_model_is_loose(const struct tern_token_model *model, int32_t id);

/* Whether a model itself says that a token is special. */
bool tern_token_model_is_special(const struct tern_token_model *model, int32_t id);

/* Texts of tokens and their ids. */
const struct tern_names *tern_token_model_vocab(const struct tern_token_model *model);

/* Elementary steps so far: what a test counts instead of time. */
uint64_t tern_token_model_steps(const struct tern_token_model *model, const struct tern_token_model_scratch *scratch);

#endif
