/* tokenizer.c: opening, and the way of a text through the components.
 *
 *   text -- added tokens that are looked for as they are --> stretches
 *        -- normalizer -- added tokens in normalised form --> stretches
 *        -- pre-tokenizer --> words -- model --> ids -- post-processor --> ids
 *
 * Nothing is collected on the way: a stretch goes all the way down before the next one is looked for.  The memory that
 * a call works in belongs to the call, so one tokenizer serves any number of threads without a lock. */
#include "text/text.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "text/byte_level.h"
#include "text/characters.h"

#include <string.h>

/* ---- opening ----------------------------------------------------------------------------------------------------- */

void tern_tokenizer_close(tern_tokenizer **tokenizer)
{
    if (!tokenizer || !*tokenizer)
        return;
    struct tern_tokenizer *t = *tokenizer;

    tern_normalizer_destroy(&t->normalizer);
    tern_pre_tokenizer_destroy(&t->pre_tokenizer);
    tern_token_model_destroy(&t->model);
    tern_added_tokens_destroy(&t->added);
    tern_free(t->post);
    tern_free(t->tokens);
    tern_free(t->bytes);
    tern_free(t);
    *tokenizer = NULL;
}

static void set_token(struct tern_tokenizer *t, size_t *bytes, int32_t id, const char *text, size_t size, bool special)
{
    struct tern_token *token = &t->tokens[id];

    token->begin = (uint32_t)*bytes;
    if (t->decoder == TERN_DECODE_BYTE_LEVEL) {
        token->size = (uint32_t)tern_byte_level_decode(text, size, t->bytes + *bytes);
    } else {
        memcpy(t->bytes + *bytes, text, size);
        token->size = (uint32_t)size;
    }
    token->used = true;
    token->special = special;
    *bytes += token->size;
    t->longest = token->size > t->longest ? token->size : t->longest;
}

/* The table by id, from the vocabulary and the added tokens, which go before it. */
static tern_status make_tokens(tern_ctx *ctx, struct tern_tokenizer *t)
{
    const struct tern_names *vocab = tern_token_model_vocab(&t->model);
    int32_t top = t->added.max_id;
    size_t bytes = 0, room = vocab->text_size, size;

    for (size_t i = 0; i < t->added.count; i++) {
        tern_added_token_text(&t->added, &t->added.tokens[i], &size);
        room += size;
    }
    for (size_t i = 0; i < vocab->n_slots; i++)
        top = vocab->slots[i].id > top ? vocab->slots[i].id : top;
    t->n_tokens = (size_t)(top + 1);
    TERN_REQUIRE(ctx, room < UINT32_MAX, TERN_ERR_FORMAT, "the tokens have %zu bytes of text, at most 4 GiB", room);
    TERN_TRY(TERN_ALLOC(ctx, t->n_tokens, "the table of tokens", &t->tokens));
    TERN_TRY(TERN_ALLOC(ctx, room, "the bytes of tokens", &t->bytes));
    for (size_t i = 0; i < t->added.count; i++) {
        const struct tern_added_token *token = &t->added.tokens[i];
        const char *text = tern_added_token_text(&t->added, token, &size);

        set_token(t, &bytes, token->id, text, size, tern_added_token_is_special(&t->added, token));
    }
    for (size_t i = 0; i < vocab->n_slots; i++) {
        const struct tern_name *name = &vocab->slots[i];

        if (name->id >= 0 && !t->tokens[name->id].used)
            set_token(t, &bytes, name->id, vocab->text + name->begin, name->size, false);
    }
    return TERN_OK;
}

/* What is left to do when the files are read. */
static tern_status finish(tern_ctx *ctx, struct tern_tokenizer *t, const char *where)
{
    TERN_TRY(make_tokens(ctx, t));
    for (size_t i = 0; i < t->n_post; i++)
        TERN_REQUIRE(ctx, t->post[i].id < 0 || ((size_t)t->post[i].id < t->n_tokens && t->tokens[t->post[i].id].used),
                     TERN_ERR_FORMAT, "%s: post_processor adds id %d, but there is no such token among %zu", where,
                     t->post[i].id, t->n_tokens);
    return TERN_OK;
}

static tern_status read_dir(tern_ctx *ctx, struct tern_tokenizer *t, const char *dir)
{
    char *json = NULL, *vocab = NULL, *merges = NULL;
    tern_status status;

    TERN_TRY_OR_FAIL(tern_path_join(ctx, dir, "tokenizer.json", &json));
    TERN_TRY_OR_FAIL(tern_path_join(ctx, dir, "vocab.json", &vocab));
    TERN_TRY_OR_FAIL(tern_path_join(ctx, dir, "merges.txt", &merges));
    if (tern_path_is_file(json)) {
        TERN_TRY_OR_FAIL(tern_tokenizer_read_json(ctx, t, json));
    } else {
        TERN_REQUIRE_OR_FAIL(ctx, tern_path_is_file(vocab) || tern_path_is_file(merges), TERN_ERR_NOT_FOUND,
                             "%s has no tokenizer: expected tokenizer.json, or vocab.json and merges.txt", dir);
        TERN_TRY_OR_FAIL(tern_tokenizer_read_gpt2(ctx, t, dir));
    }
    status = TERN_OK;

fail:
    tern_free(json);
    tern_free(vocab);
    tern_free(merges);
    return status;
}

tern_status tern_tokenizer_open(tern_ctx *ctx, const char *path, tern_tokenizer **out)
{
    struct tern_tokenizer *t;
    tern_status status;

    TERN_REQUIRE(ctx, out, TERN_ERR_ARG, "tokenizer_open: out is NULL");
    *out = NULL;
    TERN_REQUIRE(ctx, path, TERN_ERR_ARG, "tokenizer_open: path is NULL");
    TERN_TRY(TERN_ALLOC(ctx, 1, "a tokenizer", &t));
    t->added.max_id = -1;
    if (tern_path_is_dir(path))
        TERN_TRY_OR_FAIL(read_dir(ctx, t, path));
    else
        TERN_TRY_OR_FAIL(tern_tokenizer_read_json(ctx, t, path));
    TERN_TRY_OR_FAIL(finish(ctx, t, path));
    *out = t;
    return TERN_OK;

fail:
    tern_tokenizer_close(&t);
    return status;
}

tern_status tern_tokenizer_parse(tern_ctx *ctx, const char *text, size_t size, const char *where, tern_tokenizer **out)
{
    struct tern_tokenizer *t = NULL;
    struct tern_json *json = NULL;
    tern_status status;

    *out = NULL;
    TERN_TRY(tern_json_parse(ctx, text, size, where, &json));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, 1, "a tokenizer", &t));
    t->added.max_id = -1;
    TERN_TRY_OR_FAIL(tern_tokenizer_bind_json(ctx, t, json));
    TERN_TRY_OR_FAIL(finish(ctx, t, where));
    tern_json_destroy(json);
    *out = t;
    return TERN_OK;

fail:
    tern_json_destroy(json);
    tern_tokenizer_close(&t);
    return status;
}

int32_t tern_tokenizer_vocab_size(const tern_tokenizer *tokenizer)
{
    return tokenizer ? (int32_t)tokenizer->n_tokens : 0;
}

int32_t tern_tokenizer_find(const tern_tokenizer *tokenizer, const char *token)
{
    if (!tokenizer || !token)
        return -1;
    const int32_t added = tern_names_find(&tokenizer->added.names, token, strlen(token));

    return added >= 0 ? tokenizer->added.tokens[added].id
                      : tern_names_find(tern_token_model_vocab(&tokenizer->model), token, strlen(token));
}

tern_status tern_tokenizer_token(tern_ctx *ctx, const tern_tokenizer *tokenizer, int32_t id, const char **bytes,
                                 size_t *size, bool *special)
{
    TERN_REQUIRE(ctx, tokenizer && bytes && size, TERN_ERR_ARG, "tokenizer_token: tokenizer, bytes or size is NULL");
    TERN_REQUIRE(ctx, id >= 0 && (size_t)id < tokenizer->n_tokens, TERN_ERR_ARG,
                 "token id %d, the vocabulary ends at %zu", id, tokenizer->n_tokens);
    *bytes = tokenizer->bytes + tokenizer->tokens[id].begin;
    *size = tokenizer->tokens[id].size;
    if (special)
        *special = tokenizer->tokens[id].special;
    return TERN_OK;
}

/* ---- encoding ---------------------------------------------------------------------------------------------------- */

void tern_ids_free(tern_ids *ids)
{
    if (!ids)
        return;
    tern_free(ids->data);
    *ids = (tern_ids){ 0 };
}

/* One call of encode. */
struct work {
    tern_ctx *ctx;
    const struct tern_tokenizer *t;
    struct tern_normalizer_scratch normalizer;
    struct tern_pre_scratch pre;
    struct tern_token_model_scratch model;
    struct tern_token_list list;
};

static tern_status take_word(void *user, const char *word, size_t size, bool bytes)
{
    struct work *w = user;

    return tern_token_model_encode(w->ctx, &w->t->model, &w->model, word, size, bytes, &w->list);
}

static tern_status find_added(struct work *w, bool normalized, const char *text, size_t size);

/* A stretch of text between added tokens of the first pass, or of the second. */
static tern_status take_stretch(struct work *w, bool normalized, const char *text, size_t size)
{
    if (normalized)
        return tern_pre_tokenizer_run(w->ctx, &w->t->pre_tokenizer, &w->pre, text, size, take_word, w);
    TERN_TRY(tern_normalizer_run(w->ctx, &w->t->normalizer, &w->normalizer, text, size, &text, &size));
    return find_added(w, true, text, size);
}

/* True if text[begin..end) stands between characters that are no part of a word. */
static bool stands_alone(const char *text, size_t size, size_t begin, size_t end)
{
    return (begin == 0 || !tern_char_is_word(tern_utf8_previous(text, &begin))) &&
           (end == size || !tern_char_is_word(tern_utf8_next(text, &end)));
}

/* Where the white space before `at` begins, not before `least`. */
static size_t space_before(const char *text, size_t at, size_t least)
{
    while (at > least) {
        size_t begin = at;

        if (!tern_char_is_space(tern_utf8_previous(text, &begin)))
            break;
        at = begin;
    }
    return at;
}

static size_t space_behind(const char *text, size_t size, size_t at)
{
    while (at < size) {
        size_t end = at;

        if (!tern_char_is_space(tern_utf8_next(text, &end)))
            break;
        at = end;
    }
    return at;
}

/* Finds the added tokens of a pass in text[0..size) and hands on what is between them.  As in the library, white
 * space that rstrip took can still hold a later match; one that is left with nothing is no token. */
static tern_status find_added(struct work *w, bool normalized, const char *text, size_t size)
{
    const struct tern_added_tokens *added = &w->t->added;
    const struct tern_added_pass *pass = normalized ? &added->normalized : &added->raw;
    const struct tern_added_token *token;
    size_t done = 0, begin, end, blank_begin = 0, blank_end = 0;

    for (size_t from = 0; (token = tern_added_tokens_find(added, pass, text, size, from, &begin, &end)); from = end) {
        size_t stop = end;

        if (token->single_word && !stands_alone(text, size, begin, end))
            continue;
        if (token->lstrip)
            begin = begin > done ? space_before(text, begin, done) : done;
        if (token->rstrip) {
            /* [blank_begin, blank_end) is known to be blank: a run of tokens in it looks behind it once */
            if (end < blank_begin || end > blank_end) {
                blank_begin = end;
                blank_end = space_behind(text, size, end);
            }
            stop = blank_end;
        }
        if (begin >= stop)
            continue;
        if (done < begin)
            TERN_TRY(take_stretch(w, normalized, text + done, begin - done));
        TERN_TRY(tern_token_list_push(w->ctx, &w->list, token->id, begin, stop));
        done = stop;
    }
    return done < size ? take_stretch(w, normalized, text + done, size - done) : TERN_OK;
}

/* What the post-processor makes of the text's ids. */
static tern_status post_process(struct work *w, bool add_special)
{
    const struct tern_tokenizer *t = w->t;
    tern_ids out = { 0 };
    size_t n = 0;
    tern_status status;

    if (t->n_post == 0)
        return TERN_OK;
    for (size_t i = 0; i < t->n_post; i++)
        TERN_REQUIRE(w->ctx, tern_size_add(n, t->post[i].id < 0 ? w->list.ids.count : 1, &n), TERN_ERR_MEMORY,
                     "out of memory: %zu token ids", n);
    TERN_TRY_OR_FAIL(TERN_GROW(w->ctx, &out.data, &out.capacity, n, "token ids"));
    for (size_t i = 0; i < t->n_post; i++) {
        if (t->post[i].id >= 0) {
            if (add_special)
                out.data[out.count++] = t->post[i].id;
        } else if (w->list.ids.count > 0) {
            memcpy(out.data + out.count, w->list.ids.data, w->list.ids.count * sizeof *out.data);
            out.count += w->list.ids.count;
        }
    }
    tern_ids_free(&w->list.ids);
    w->list.ids = out;
    return TERN_OK;

fail:
    tern_ids_free(&out);
    return status;
}

tern_status tern_tokenizer_encode_counted(tern_ctx *ctx, const tern_tokenizer *tokenizer, const char *text, size_t size,
                                          bool add_special, tern_ids *ids, uint64_t *steps)
{
    struct work w = { .ctx = ctx, .t = tokenizer };
    tern_status status;
    size_t bad;

    TERN_REQUIRE(ctx, tokenizer && ids && (text || size == 0), TERN_ERR_ARG,
                 "tokenizer_encode: tokenizer, text or ids is NULL");
    TERN_REQUIRE(ctx, tern_utf8_check(text, size, &bad), TERN_ERR_FORMAT,
                 "the text is not UTF-8: byte 0x%02X at offset %zu of %zu", (unsigned char)text[bad], bad, size);

    TERN_TRY_OR_FAIL(tern_token_model_begin(ctx, &tokenizer->model, &w.model, size));
    TERN_TRY_OR_FAIL(TERN_GROW(ctx, &w.list.ids.data, &w.list.ids.capacity, size / 4 + 16, "token ids"));
    TERN_TRY_OR_FAIL(find_added(&w, false, text, size));
    TERN_TRY_OR_FAIL(post_process(&w, add_special));
    tern_ids_free(ids);
    *ids = w.list.ids;
    w.list.ids = (tern_ids){ 0 };
    status = TERN_OK;

fail:
    *steps = tern_token_model_steps(&tokenizer->model, &w.model);
    tern_normalizer_scratch_destroy(&w.normalizer);
    tern_pre_scratch_destroy(&w.pre);
    tern_token_model_scratch_destroy(&tokenizer->model, &w.model);
    tern_token_list_destroy(&w.list);
    return status;
}

tern_status tern_tokenizer_encode(tern_ctx *ctx, const tern_tokenizer *tokenizer, const char *text, size_t size,
                                  bool add_special, tern_ids *ids)
{
    uint64_t steps;

    return tern_tokenizer_encode_counted(ctx, tokenizer, text, size, add_special, ids, &steps);
}
