/* sentencepiece.h: a SentencePiece model: from running text to pieces, by its own rules alone.
 *
 * Source: Kudo and Richardson 2018, arXiv:1808.06226; exactly as the sentencepiece library (0.2), float arithmetic
 * included.  A text is normalised (characters replaced by a table, white space taken together and written as U+2581),
 * then cut into pieces: by the best sum of scores (unigram), or by joining neighbours, highest score first (BPE). */
#ifndef TERN_TEXT_SENTENCEPIECE_H
#define TERN_TEXT_SENTENCEPIECE_H

#include "text/charsmap.h"
#include "text/names.h"
#include "text/token_list.h"
#include "text/trie.h"

enum tern_piece_type {
    TERN_PIECE_NORMAL = 1,
    TERN_PIECE_UNKNOWN = 2,
    TERN_PIECE_CONTROL = 3, /* never the result of a text */
    TERN_PIECE_USER = 4,    /* taken whole wherever it stands in a text */
    TERN_PIECE_UNUSED = 5,  /* only on the way to longer ones */
    TERN_PIECE_BYTE = 6     /* a byte of an unknown character */
};

struct tern_spm_piece {
    uint32_t begin, size; /* in the model's text */
    float score;
    enum tern_piece_type type;
};

struct tern_sentencepiece {
    struct tern_names vocab; /* of all pieces */
    struct tern_spm_piece *pieces;
    size_t n_pieces;
    char *text;
    bool is_bpe, has_unused, has_user;
    bool has_words; /* no piece goes on behind a word: none has U+2581 behind another character, none is unused */
    struct tern_trie trie; /* unigram: what a text is made of */
    struct tern_trie user; /* the user's pieces, if there are any */
    size_t longest;        /* bytes of the longest piece */
    float unk_score;
    int32_t unk_id; /* -1: none, and there are bytes */
    bool byte_fallback;
    int32_t byte_ids[256];
    int32_t bos_id, eos_id; /* -1: none */
    char *unk_surface;      /* what an unknown is in running text */
    size_t unk_surface_size;

    struct tern_charsmap *charsmap; /* NULL: characters stay as they are */
    bool add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces, treat_whitespace_as_suffix;
};

struct tern_piece_symbol {
    uint32_t begin;      /* in the normalised text */
    uint32_t size : 31;  /* 0: joined to the one before */
    uint32_t frozen : 1; /* a user's piece */
    uint32_t previous, next;
};

struct tern_sentencepiece_scratch {
    char *text; /* normalised */
    size_t size, text_capacity;
    uint32_t *origins; /* of each byte of it and of its end: where it was in the text; where spans are wanted */
    size_t origins_capacity;
    int32_t *best; /* unigram: of an end, then of a beginning: the piece there */
    size_t best_capacity;
    float *scores; /* of ends near by, in a ring */
    size_t scores_capacity;
    struct tern_piece_symbol *symbols; /* BPE */
    size_t symbols_capacity;
    uint64_t *heap; /* neighbours that could be joined: their score, the highest first, then the left one's place */
    size_t heap_capacity;
    uint32_t *splits; /* of an unused piece: the bytes of its left part in the last join that made it */
    size_t splits_capacity;
    uint64_t steps;
};
void tern_sentencepiece_scratch_destroy(struct tern_sentencepiece_scratch *scratch);

/* Reads a ModelProto; fills an empty model.  TERN_ERR_FORMAT (damaged, or what the library refuses),
 * TERN_ERR_UNSUPPORTED (WORD and CHAR models, a denormaliser), TERN_ERR_MEMORY. */
tern_status tern_sentencepiece_read(tern_ctx *ctx, struct tern_sentencepiece *model, const char *data, size_t size,
                                    const char *where);
void tern_sentencepiece_destroy(struct tern_sentencepiece *model);

/* Appends the tokens of a text, valid UTF-8 of less than 2^32 bytes; spans are what the library calls begin and end,
 * in bytes.  O(n log n) for BPE; for a unigram, as many bytes as the longest piece has are looked at for each character.
 * TERN_ERR_CAPACITY, TERN_ERR_MEMORY. */
tern_status tern_sentencepiece_encode(tern_ctx *ctx, const struct tern_sentencepiece *model,
                                      struct tern_sentencepiece_scratch *scratch, const char *text, size_t size,
                                      struct tern_token_list *out);

/* ---- the steps of it ---- */

/* text[0..size) into the scratch. */
tern_status tern_sentencepiece_normalize(tern_ctx *ctx, const struct tern_sentencepiece *model,
                                         struct tern_sentencepiece_scratch *scratch, const char *text, size_t size,
                                         bool wants_origins);

/* The longest of the user's pieces at the beginning of text[0..size), in bytes; 0 without. */
size_t tern_sentencepiece_user_piece(const struct tern_sentencepiece *model, const char *text, size_t size);

/* Takes a piece of the normalised text: `size` bytes, and its id, -1 for an unknown one. */
typedef tern_status tern_piece_fn(void *user, size_t size, int32_t id);

/* Cut the normalised text and call `fn` with each piece in order. */
tern_status tern_sentencepiece_unigram(tern_ctx *ctx, const struct tern_sentencepiece *model,
                                       struct tern_sentencepiece_scratch *scratch, tern_piece_fn *fn, void *user);
tern_status tern_sentencepiece_bpe(tern_ctx *ctx, const struct tern_sentencepiece *model,
                                   struct tern_sentencepiece_scratch *scratch, tern_piece_fn *fn, void *user);

#endif
