/* added_tokens.c: leftmost-longest matching of a set of texts.
 *
 * The texts of a pass stand in byte order; from a place in the text, the range of those that agree with it is
 * narrowed byte by byte with two binary searches, and the last one that ends inside of the range is the longest
 * match.  A table of first bytes skips ordinary text at the speed of a byte loop.  An Aho-Corasick automaton would
 * find the same matches without looking back, and cost far more to build than prompts take to read: added tokens are
 * few and short. */
#include "text/added_tokens.h"

#include "base/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct tern_added_pattern {
    const unsigned char *text;
    size_t size;
    size_t token; /* index; of equal texts the special ones come first, then the earlier ones */
    bool special;
};

tern_status tern_added_tokens_create(tern_ctx *ctx, size_t count, size_t bytes, struct tern_added_tokens *out)
{
    tern_status status;

    *out = (struct tern_added_tokens){ .max_id = -1 };
    TERN_TRY_OR_FAIL(tern_names_create(ctx, count, bytes, "added tokens", &out->names));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, count, "added tokens", &out->tokens));
    out->capacity = count;
    return TERN_OK;

fail:
    tern_added_tokens_destroy(out);
    return status;
}

void tern_added_tokens_destroy(struct tern_added_tokens *added)
{
    tern_names_destroy(&added->names);
    tern_free(added->tokens);
    tern_free(added->raw.patterns);
    tern_free(added->normalized.patterns);
    tern_free(added->normalized.text);
    *added = (struct tern_added_tokens){ .max_id = -1 };
}

tern_status tern_added_tokens_add(tern_ctx *ctx, struct tern_added_tokens *added, const struct tern_names *vocab,
                                  const bool *used, size_t n_used, const char *text, size_t size,
                                  struct tern_added_token token, const char *where)
{
    const int32_t n_vocab = (int32_t)vocab->count;

    if (size == 0)
        return TERN_OK;
    const int32_t there = tern_names_find(&added->names, text, size);
    if (there >= 0) {
        const struct tern_added_token *t = &added->tokens[there];

        TERN_REQUIRE(ctx,
                     t->single_word == token.single_word && t->lstrip == token.lstrip && t->rstrip == token.rstrip &&
                         t->normalized == token.normalized && t->special == token.special,
                     TERN_ERR_UNSUPPORTED, "%s: added token '%.*s' is there twice, with different flags", where,
                     (int)size, text);
        return TERN_OK;
    }
    token.id = tern_names_find(vocab, text, size);
    if (token.id < 0) {
        token.id = added->max_id >= n_vocab ? added->max_id + 1 : n_vocab;
        TERN_REQUIRE(
            ctx, (size_t)token.id >= n_used || !used[token.id], TERN_ERR_FORMAT,
            "%s: added token '%.*s' gets id %d, behind the %zu tokens of the vocabulary, but one of these has that id",
            where, (int)size, text, token.id, vocab->count);
    }
    assert(added->count < added->capacity);
    token.begin = (uint32_t)added->names.text_size;
    token.size = (uint32_t)size;
    tern_names_put(&added->names, text, size, (int32_t)added->count);
    added->tokens[added->count++] = token;
    added->max_id = token.id > added->max_id ? token.id : added->max_id;
    return TERN_OK;
}

static int compare_patterns(const void *a, const void *b)
{
    const struct tern_added_pattern *x = a, *y = b;
    const int order = memcmp(x->text, y->text, x->size < y->size ? x->size : y->size);

    if (order)
        return order;
    if (x->size != y->size)
        return x->size < y->size ? -1 : 1;
    if (x->special != y->special)
        return x->special ? -1 : 1;
    return x->token < y->token ? -1 : 1;
}

static void sort_pass(struct tern_added_pass *pass)
{
    if (pass->n_patterns > 1)
        qsort(pass->patterns, pass->n_patterns, sizeof *pass->patterns, compare_patterns);
    for (size_t i = 0; i < pass->n_patterns; i++)
        pass->first[pass->patterns[i].text[0]] = true;
}

static void add_pattern(struct tern_added_pass *pass, const struct tern_added_tokens *added, size_t token,
                        const char *text, size_t size)
{
    pass->patterns[pass->n_patterns++] =
        (struct tern_added_pattern){ (const unsigned char *)text, size, token, added->tokens[token].special };
}

/* The normalised form of a token's text; in the scratch, or the text itself. */
static tern_status normal_form_of(tern_ctx *ctx, const struct tern_normalizer *normalizer,
                                  struct tern_normalizer_scratch *scratch, const char *text, size_t size,
                                  struct tern_piece *out)
{
    struct tern_piece piece = { text, size, NULL, 0, size };
    struct tern_place *places = NULL;
    tern_status status;

    if (normalizer->needs_places) {
        TERN_TRY(TERN_ALLOC(ctx, size, "places of text", &places));
        tern_places_of(text, size, places);
        piece.places = places;
    }
    status = tern_normalizer_run(ctx, normalizer, scratch, piece, out);
    out->places = NULL;
    tern_free(places);
    return status;
}

/* The normalised forms, one behind the other in pass->text; first all are made, since the text moves as it grows. */
static tern_status normalize_pass(tern_ctx *ctx, struct tern_added_tokens *added,
                                  const struct tern_normalizer *normalizer, struct tern_normalizer_scratch *scratch)
{
    struct tern_added_pass *pass = &added->normalized;
    size_t capacity = 0, used = 0;

    for (size_t i = 0; i < added->count; i++) {
        struct tern_added_token *token = &added->tokens[i];
        struct tern_piece form;

        if (!token->normalized)
            continue;
        TERN_TRY(normal_form_of(ctx, normalizer, scratch, added->names.text + token->begin, token->size, &form));
        TERN_REQUIRE(ctx, used + form.size < UINT32_MAX, TERN_ERR_FORMAT,
                     "the added tokens have %zu bytes, at most 4 GiB", used);
        TERN_TRY(TERN_GROW(ctx, &pass->text, &capacity, used + form.size, "added tokens"));
        memcpy(pass->text + used, form.text, form.size);
        token->form_begin = (uint32_t)used;
        token->form_size = (uint32_t)form.size;
        used += form.size;
    }
    for (size_t i = 0; i < added->count; i++)
        if (added->tokens[i].form_size > 0)
            add_pattern(pass, added, i, pass->text + added->tokens[i].form_begin, added->tokens[i].form_size);
    return TERN_OK;
}

tern_status tern_added_tokens_finish(tern_ctx *ctx, struct tern_added_tokens *added,
                                     const struct tern_normalizer *normalizer)
{
    struct tern_normalizer_scratch scratch = { 0 };
    tern_status status;

    TERN_TRY(TERN_ALLOC(ctx, added->count, "added tokens", &added->raw.patterns));
    TERN_TRY(TERN_ALLOC(ctx, added->count, "added tokens", &added->normalized.patterns));
    for (size_t i = 0; i < added->count; i++)
        if (!added->tokens[i].normalized)
            add_pattern(&added->raw, added, i, added->names.text + added->tokens[i].begin, added->tokens[i].size);
    status = normalize_pass(ctx, added, normalizer, &scratch);
    tern_normalizer_scratch_destroy(&scratch);
    sort_pass(&added->raw);
    sort_pass(&added->normalized);
    return status;
}

const char *tern_added_token_text(const struct tern_added_tokens *added, const struct tern_added_token *token,
                                  size_t *size)
{
    *size = token->normalized ? token->form_size : token->size;
    return token->normalized ? added->normalized.text + token->form_begin : added->names.text + token->begin;
}

bool tern_added_token_is_special(const struct tern_added_tokens *added, const struct tern_added_token *token)
{
    size_t size;
    const char *text = tern_added_token_text(added, token, &size);
    const int32_t index = tern_names_find(&added->names, text, size);

    return index >= 0 && added->tokens[index].special;
}

/* In patterns[low..high), which agree up to `depth`, all longer than that: the first whose byte there is >= byte. */
static size_t first_not_below(const struct tern_added_pattern *patterns, size_t low, size_t high, size_t depth,
                              int byte)
{
    while (low < high) {
        const size_t middle = low + (high - low) / 2;

        if (patterns[middle].text[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest pattern at the beginning of text[0..size), or NULL. */
static const struct tern_added_pattern *match_here(const struct tern_added_pass *pass, const unsigned char *text,
                                                   size_t size, uint64_t *steps)
{
    const struct tern_added_pattern *best = NULL;
    size_t low = 0, high = pass->n_patterns;

    for (size_t depth = 0; depth < size && low < high; depth++) {
        ++*steps;
        low = first_not_below(pass->patterns, low, high, depth, text[depth]);
        high = first_not_below(pass->patterns, low, high, depth, text[depth] + 1);
        if (low < high && pass->patterns[low].size == depth + 1)
            best = &pass->patterns[low];
        while (low < high && pass->patterns[low].size == depth + 1)
            low++;
    }
    return best;
}

const struct tern_added_token *tern_added_tokens_find(const struct tern_added_tokens *added,
                                                      const struct tern_added_pass *pass, const char *text, size_t size,
                                                      size_t from, size_t *begin, size_t *end, uint64_t *steps)
{
    if (pass->n_patterns == 0)
        return NULL;
    for (size_t at = from; at < size; at++) {
        const struct tern_added_pattern *pattern;

        ++*steps;
        if (!pass->first[(unsigned char)text[at]])
            continue;
        pattern = match_here(pass, (const unsigned char *)text + at, size - at, steps);
        if (pattern) {
            *begin = at;
            *end = at + pattern->size;
            return &added->tokens[pattern->token];
        }
    }
    return NULL;
}
