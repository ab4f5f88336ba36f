/* text.h: the inside of a tokenizer: the components of tokenizer.json, bound once. */
#ifndef TERN_TEXT_TEXT_H
#define TERN_TEXT_TEXT_H

#include "base/json.h"
#include "text/added_tokens.h"
#include "text/decode_chain.h"
#include "text/normalizer.h"
#include "text/post.h"
#include "text/pre_tokenizer.h"
#include "text/token_model.h"

#include <tern/tokenizer.h>

#define TERN_TOKENIZER_FILE_MAX ((size_t)1 << 28) /* bytes of one file */
#define TERN_TOKEN_ID_MAX       ((1 << 22) - 1)   /* vocabularies in use end below 2^20 */

enum tern_decoder_kind {
    TERN_DECODE_SPACES,        /* no decoder: the tokens' texts with a space between them */
    TERN_DECODE_BYTE_LEVEL,    /* the tokens' bytes, one behind the other */
    TERN_DECODE_SENTENCEPIECE, /* a SentencePiece model's own way */
    TERN_DECODE_CHAIN          /* a chain of decoders */
};

/* An id's place in the table of tokens. */
struct tern_token {
    uint32_t begin, size;                 /* in the table's bytes: what decoding begins with */
    uint32_t running_begin, running_size; /* what it stands for in running text */
    bool used;                            /* false: there is no token of this id */
    bool special;
};

struct tern_tokenizer {
    struct tern_normalizer normalizer;
    struct tern_pre_tokenizer pre_tokenizer;
    struct tern_token_model model;
    struct tern_added_tokens added;
    struct tern_post post;
    enum tern_decoder_kind decoder;
    struct tern_decode_chain chain;

    struct tern_token *tokens; /* by id */
    size_t n_tokens;           /* the largest id plus one */
    char *bytes;
    size_t longest; /* bytes of the longest token */

    bool needs_places; /* ids depend on where pieces of text came from */
    struct tern_blanks {
        uint16_t leading, trailing; /* characters that trimming offsets takes for white space */
    } * blanks;                     /* of the model's tokens, by id; NULL where nothing trims */
};

/* The white space at the ends of a token's text. */
struct tern_blanks tern_blanks_of(const char *text, size_t size);

/* An empty tokenizer is filled from a directory or a file, whichever kind that is. */
tern_status tern_tokenizer_read(tern_ctx *ctx, struct tern_tokenizer *t, const char *path);

/* The kinds: tokenizer.json; vocab.txt (`wordpiece`), or vocab.json and merges.txt, in a directory, with the rules of the
 * class that its config names; a SentencePiece .model, with what tokenizer_config.json in `dir` (NULL: none) says about the tokens at its ends. */
tern_status tern_tokenizer_read_json(tern_ctx *ctx, struct tern_tokenizer *t, const char *path);
tern_status tern_tokenizer_read_vocab(tern_ctx *ctx, struct tern_tokenizer *t, const char *dir, bool wordpiece);
tern_status tern_tokenizer_read_sentencepiece(tern_ctx *ctx, struct tern_tokenizer *t, const char *path,
                                              const char *dir);
tern_status tern_tokenizer_bind_json(tern_ctx *ctx, struct tern_tokenizer *t, const struct tern_json *json);

/* What both need: a vocabulary object {token: id} into a model's; `used` is by id, n_used long, freed by the caller. */
tern_status tern_vocab_read(tern_ctx *ctx, const struct tern_json *json, const tern_json_value *vocab,
                            struct tern_names *names, bool **used, size_t *n_used);

/* tern_tokenizer_encode_with() without padding, into an encoding that holds nothing; and padding, where `longest` tokens
 * are in the longest encoding of the batch. */
tern_status tern_encoding_make(tern_ctx *ctx, const tern_tokenizer *tokenizer, const char *text, size_t size,
                               const tern_encode_options *options, tern_encoding *out);
tern_status tern_encoding_pad(tern_ctx *ctx, const struct tern_limits *limits, size_t longest, tern_encoding *encoding);

/* The tokenizer of bytes that are not in a file; `where` names them in errors.  For tests and fuzzing. */
tern_status tern_tokenizer_parse(tern_ctx *ctx, const char *text, size_t size, const char *where, tern_tokenizer **out);

/* Encoding with a count of the elementary steps that it took: bytes looked at by the search for added tokens, code points
 * by the normalizer, bytes by the pre-tokenizer, the model's own, ids by the post-processor.  What a pattern does between
 * the beginning of a search and the end of its match is not among them (pattern.h).  For tests of growth. */
tern_status tern_tokenizer_encode_counted(tern_ctx *ctx, const tern_tokenizer *tokenizer, const char *text, size_t size,
                                          bool add_special, tern_ids *ids, uint64_t *steps);

#endif
