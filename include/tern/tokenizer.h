/* tokenizer.h: text to token ids and back, exactly as the file's own library does it. */
#ifndef TERN_TOKENIZER_H
#define TERN_TOKENIZER_H

#include <tern/context.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A vocabulary with its rules.  Read-only after open: shared by threads, each with a context of its own. */
typedef struct tern_tokenizer tern_tokenizer;

/** Opens the tokenizer of a checkpoint directory: tokenizer.json; else vocab.json + merges.txt, or vocab.txt, with the rules
 * of the class that tokenizer_config.json or config.json names (GPT-2's, BERT's with lower-casing if none is); else a
 * SentencePiece model (tokenizer.model, spiece.model, ...), by its own rules.
 *
 * @param ctx   error text.
 * @param path  a directory, a tokenizer.json file, or a SentencePiece model (*.model, *.spm).
 * @param out   the tokenizer; NULL on error.
 * @return TERN_OK; TERN_ERR_NOT_FOUND (no tokenizer files), TERN_ERR_FORMAT (damaged, or parts that contradict each other),
 *         TERN_ERR_UNSUPPORTED (a component that tern does not know, by name), TERN_ERR_IO, TERN_ERR_MEMORY. */
TERN_API tern_status tern_tokenizer_open(tern_ctx *ctx, const char *path, tern_tokenizer **out);

/** What a tokenizer is. */
typedef struct tern_tokenizer_info {
    char kind[24];   /**< "BPE", "WordPiece", "WordLevel", "Unigram", "SentencePiece" */
    int32_t n_ids;   /**< one more than the largest id */
    int32_t n_added; /**< tokens beside the model's vocabulary */
} tern_tokenizer_info;
/** Tells what tern_tokenizer_open() would give, in a fraction of its time: of a tokenizer.json everything is read and checked but the
 * vocabulary and the merges, of which the ids are looked at alone.
 * @return as tern_tokenizer_open(); *info is all zero on error. */
TERN_API tern_status tern_tokenizer_describe(tern_ctx *ctx, const char *path, tern_tokenizer_info *info);

/** Frees the tokenizer and sets *tokenizer to NULL.  NULL and a pointer to NULL are fine. */
TERN_API void tern_tokenizer_close(tern_tokenizer **tokenizer);

/** One more than the largest id; 0 for NULL. */
TERN_API int32_t tern_tokenizer_vocab_size(const tern_tokenizer *tokenizer);

/** Token ids, owned by whoever called; freed with tern_ids_free().  Zero-initialise before first use; calls append nothing, they replace. */
typedef struct tern_ids {
    int32_t *data;
    size_t count;
    size_t capacity;
} tern_ids;

/** Frees the ids and leaves an empty list.  NULL is fine. */
TERN_API void tern_ids_free(tern_ids *ids);

/** Text to ids, as long as it is: the file's truncation and padding are for tern_tokenizer_encode_with().
 *
 * @param text         UTF-8 of `size` bytes, NULs allowed; invalid UTF-8 is TERN_ERR_FORMAT with the byte offset.
 * @param add_special  also the ids that the post-processor adds (beginning of text, ...).
 * @param ids          replaced by the result.  On error unchanged.
 * @return TERN_OK, TERN_ERR_ARG, TERN_ERR_FORMAT (also: the text needs an unknown token that the vocabulary lacks),
 *         TERN_ERR_CAPACITY (a regular expression of the file needs more steps than the limit; a word of 2^31 characters),
 *         TERN_ERR_UNSUPPORTED, TERN_ERR_MEMORY.
 *
 * Added and special tokens written out in the text are recognised, as the tokenizers library does.  An empty text has the
 * ids that the post-processor adds, and no others.  Cost: O(n log n) in the bytes, whatever the text is made of, where
 * the file has no regular expression of its own; memory about 25 bytes per byte of the longest word. */
TERN_API tern_status tern_tokenizer_encode(tern_ctx *ctx, const tern_tokenizer *tokenizer, const char *text,
                                           size_t size, bool add_special, tern_ids *ids);

/** Where a token came from: code points [begin, end) of the text, of the first one or the second. */
typedef struct tern_token_range {
    uint32_t begin, end;
} tern_token_range;

/** Tokens of a text, or of two, with all that is known of them.  Freed with tern_encoding_free(); zero-initialise before
 * first use; calls replace what is there. */
typedef struct tern_encoding {
    size_t count;
    int32_t *ids;       /**< [count] */
    uint32_t *type_ids; /**< [count]: which text a token counts to, as the post-processor says */
    /** [count], or NULL; 0, 0 for special tokens that the post-processor added, and for padding */
    tern_token_range *offsets;
    uint8_t *attention; /**< [count]: 0 for padding, else 1 */
    size_t n_left_out;  /**< tokens of the texts that a truncation took */
    size_t capacity;
} tern_encoding;

/** Frees what an encoding holds and leaves an empty one.  NULL is fine. */
TERN_API void tern_encoding_free(tern_encoding *encoding);

/** What tern_tokenizer_encode_with() does.  All zero: one text, without special tokens, as long as it is. */
typedef struct tern_encode_options {
    const char *pair; /**< the second text, or NULL */
    size_t pair_size;
    bool add_special;  /**< also the ids that the post-processor adds */
    bool apply_limits; /**< truncation and padding as the file says */
    bool ids_only;     /**< offsets are not worked out and NULL, which is faster and takes less memory */
    uint64_t
        max_length; /**< tokens at most, special ones included, in place of the file's truncation: the longer text gives way
                               first, at the file's side; 0: the file's */
    /** NULL, or asked for every few hundred kilobytes of a text, by any thread of the context, whether to go on: false ends the call
     *  with TERN_ERR_CANCELLED */
    bool (*goes_on)(void *user);
    void *user;
    uint64_t reserved[1]; /**< zero */
} tern_encode_options;

/** A text, or two, to ids, type ids and offsets.
 *
 * Offsets are those of the tokenizers library: code points of the text as it was given, for each token those that its own
 * characters came from through normalisation, trimmed of white space where the post-processor says so.
 * @param options   NULL: all zero.
 * @param encoding  replaced by the result.  On error unchanged.
 * @return as tern_tokenizer_encode(); also TERN_ERR_ARG (the file's truncation cannot shorten these texts) and
 *         TERN_ERR_CAPACITY (a text of 4 GiB or more) and TERN_ERR_CANCELLED. */
TERN_API tern_status tern_tokenizer_encode_with(tern_ctx *ctx, const tern_tokenizer *tokenizer, const char *text,
                                                size_t size, const tern_encode_options *options,
                                                tern_encoding *encoding);

/** Many texts, on the context's threads: each as tern_tokenizer_encode_with() makes it, and padding to the longest of them
 * where the file says so.
 *
 * @param texts, sizes  [n].
 * @param options       for all of them; `pair` is the second text of each.  NULL: all zero.
 * @param encodings     [n], replaced.  On error all are unchanged.
 * @return as tern_tokenizer_encode_with(), of the first text that fails; TERN_ERR_STATE (the context is at work). */
TERN_API tern_status tern_tokenizer_encode_batch(tern_ctx *ctx, const tern_tokenizer *tokenizer,
                                                 const char *const *texts, const size_t *sizes, size_t n,
                                                 const tern_encode_options *options, tern_encoding *encodings);

/** Ids to text, all at once, as the file's decoder defines spaces.
 *
 * Bytes that do not form UTF-8 become U+FFFD, one for each maximal part of a character, as in the tokenizers library; an id
 * below the vocabulary's size that no token has (a hole) adds nothing, as there.
 * @param skip_special  leave out special tokens.
 * @param text          a new NUL-terminated string, freed with tern_text_free(); NULL on error.
 * @param size          its bytes without the NUL; may be NULL.
 * @return TERN_OK, TERN_ERR_ARG (an id outside of the vocabulary: id and size are named), TERN_ERR_MEMORY. */
TERN_API tern_status tern_tokenizer_decode(tern_ctx *ctx, const tern_tokenizer *tokenizer, const int32_t *ids,
                                           size_t n_ids, bool skip_special, char **text, size_t *size);

/** Frees what tern_tokenizer_decode() gave.  NULL is fine. */
TERN_API void tern_text_free(char *text);

/** The bytes that one id stands for in running text (before any UTF-8 check), without a copy.
 *
 * @param special  gets whether the token is special; may be NULL.
 * @return TERN_OK or TERN_ERR_ARG (NULL, id outside of the vocabulary).  *bytes is valid as long as the tokenizer. */
TERN_API tern_status tern_tokenizer_token(tern_ctx *ctx, const tern_tokenizer *tokenizer, int32_t id,
                                          const char **bytes, size_t *size, bool *special);

/** Id of a token by its text as the vocabulary writes it ("<|endoftext|>"), or -1. */
TERN_API int32_t tern_tokenizer_find(const tern_tokenizer *tokenizer, const char *token);

/** Decoding as tokens arrive: whole UTF-8 characters only. */
typedef struct tern_decoder tern_decoder;

/** Starts a stream.  Borrows the tokenizer.  @return TERN_OK or TERN_ERR_MEMORY. */
TERN_API tern_status tern_decoder_create(tern_ctx *ctx, const tern_tokenizer *tokenizer, bool skip_special,
                                         tern_decoder **out);
/** Frees it and sets *decoder to NULL.  NULL and a pointer to NULL are fine. */
TERN_API void tern_decoder_destroy(tern_decoder **decoder);

/** Takes the next id and gives the text that became certain with it: possibly nothing, never part of a character.
 *
 * @param text  valid until the next call with this decoder; NUL-terminated.
 * @param size  its bytes without the NUL; may be NULL.
 * @return TERN_OK, TERN_ERR_ARG (id outside of the vocabulary), TERN_ERR_MEMORY. */
TERN_API tern_status tern_decoder_push(tern_ctx *ctx, tern_decoder *decoder, int32_t id, const char **text,
                                       size_t *size);

/** Ends the stream: bytes that never became a character come out as U+FFFD.  All pieces together are tern_tokenizer_decode()'s text. */
TERN_API tern_status tern_decoder_finish(tern_ctx *ctx, tern_decoder *decoder, const char **text, size_t *size);

#ifdef __cplusplus
}
#endif
#endif
