/* tokenizer.c: opening a tokenizer, and what can be asked about its tokens. */
#include "text/text.h"

#include "base/memory.h"
#include "text/byte_level.h"
#include "text/sentencepiece_decode.h"

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
    tern_post_destroy(&t->post);
    tern_decode_chain_destroy(&t->chain);
    tern_free(t->blanks);
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
    } else if (t->decoder == TERN_DECODE_SENTENCEPIECE) {
        token->size = (uint32_t)tern_sentencepiece_bytes(&t->model.sentencepiece, id, t->bytes + *bytes);
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
            set_token(t, &bytes, name->id, vocab->text + name->begin, name->size,
                      tern_token_model_is_special(&t->model, name->id));
    }
    return TERN_OK;
}

/* What each token stands for in running text: with a chain of decoders not what decoding begins with. */
static tern_status make_running(tern_ctx *ctx, struct tern_tokenizer *t)
{
    struct tern_decode_run run = { .chain = &t->chain };
    struct tern_decode_buffer all = { 0 };
    tern_status status;
    size_t end = 0;

    for (size_t i = 0; i < t->n_tokens; i++) {
        struct tern_token *token = &t->tokens[i];

        token->running_begin = token->begin;
        token->running_size = token->size;
        end = token->begin + token->size > end ? token->begin + token->size : end;
    }
    if (t->decoder != TERN_DECODE_CHAIN)
        return TERN_OK;
    TERN_TRY_OR_FAIL(TERN_GROW(ctx, &all.text, &all.capacity, 2 * end, "the bytes of tokens"));
    if (end > 0)
        memcpy(all.text, t->bytes, end);
    all.size = end;
    for (size_t i = 0; i < t->n_tokens; i++) {
        struct tern_token *token = &t->tokens[i];
        const size_t begin = all.size;

        TERN_TRY_OR_FAIL(tern_decode_alone(ctx, &run, t->bytes + token->begin, token->size, &all));
        TERN_REQUIRE_OR_FAIL(ctx, all.size < UINT32_MAX, TERN_ERR_FORMAT,
                             "the tokens have %zu bytes of text, at most 4 GiB", all.size);
        token->running_begin = (uint32_t)begin;
        token->running_size = (uint32_t)(all.size - begin);
    }
    tern_free(t->bytes);
    t->bytes = all.text;
    all.text = NULL;
    status = TERN_OK;

fail:
    tern_free(all.text);
    tern_decode_run_destroy(&run);
    return status;
}

static tern_status make_blanks(tern_ctx *ctx, struct tern_tokenizer *t)
{
    const struct tern_names *vocab = tern_token_model_vocab(&t->model);

    TERN_TRY(TERN_ALLOC(ctx, t->n_tokens, "the white space of tokens", &t->blanks));
    for (size_t i = 0; i < vocab->n_slots; i++)
        if (vocab->slots[i].id >= 0)
            t->blanks[vocab->slots[i].id] = tern_blanks_of(vocab->text + vocab->slots[i].begin, vocab->slots[i].size);
    return TERN_OK;
}

/* What is left to do when the files are read. */
static tern_status finish(tern_ctx *ctx, struct tern_tokenizer *t, const char *where)
{
    TERN_TRY(make_tokens(ctx, t));
    TERN_TRY(make_running(ctx, t));
    TERN_TRY(tern_post_finish(ctx, &t->post, where));
    for (int i = 0; i < 4; i++) {
        const struct tern_post_list *plan = &t->post.plan[i / 2][i % 2];

        for (size_t k = 0; k < plan->count; k++) {
            const int32_t id = plan->items[k].id;

            TERN_REQUIRE(ctx, id < 0 || ((size_t)id < t->n_tokens && t->tokens[id].used), TERN_ERR_FORMAT,
                         "%s: post_processor adds id %d, but there is no such token among %zu", where, id, t->n_tokens);
        }
    }
    if (t->post.trims)
        TERN_TRY(make_blanks(ctx, t));
    t->needs_places = t->normalizer.needs_places || t->pre_tokenizer.needs_places ||
                      (t->pre_tokenizer.needs_origin && t->normalizer.n_steps > 0);
    return TERN_OK;
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
    TERN_TRY_OR_FAIL(tern_tokenizer_read(ctx, t, path));
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
    *bytes = tokenizer->bytes + tokenizer->tokens[id].running_begin;
    *size = tokenizer->tokens[id].running_size;
    if (special)
        *special = tokenizer->tokens[id].special;
    return TERN_OK;
}
