/* text_batch.c: see text_batch.h. */
#include "engine/text_batch.h"

#include "base/ctx.h"
#include "base/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TELL 64 /* texts between two looks whether the caller goes on */

tern_status text_batch_tell(const struct text_batch *b, size_t done)
{
    TERN_REQUIRE(b->ctx, !b->progress || b->progress(b->user, done, b->n), TERN_ERR_CANCELLED,
                 "%s: cancelled after %zu of %zu texts", b->what, done, b->n);
    return TERN_OK;
}

/* Text with the prefix before it; *out stays NULL where there is none. */
static tern_status add_prefix(tern_ctx *ctx, const char *prefix, const char *text, size_t *size, char **out)
{
    const size_t before = prefix ? strlen(prefix) : 0;

    *out = NULL;
    if (!before)
        return TERN_OK;
    TERN_TRY(TERN_ALLOC(ctx, before + *size + 1, "a text", out));
    memcpy(*out, prefix, before);
    if (*size)
        memcpy(*out + before, text, *size);
    *size += before;
    return TERN_OK;
}

static bool goes_on(void *user)
{
    const struct text_batch *b = user;

    return !b->progress || b->progress(b->user, 0, b->n);
}

static tern_status encode_text(const struct text_batch *b, const struct text_how *how, const char *text, size_t size,
                               tern_encoding *out)
{
    const tern_encode_options options = { .pair = how->query ? text : NULL,
                                          .pair_size = how->query ? size : 0,
                                          .add_special = true,
                                          .ids_only = true,
                                          .max_length = how->cut ? (uint64_t)how->max_tokens : 0,
                                          .goes_on = goes_on,
                                          .user = (void *)(uintptr_t)b };
    char *whole;

    if (how->query)
        return tern_tokenizer_encode_with(b->ctx, b->tokenizer, how->query, how->query_size, &options, out);
    TERN_TRY(add_prefix(b->ctx, how->prefix, text, &size, &whole));
    const tern_status status =
        tern_tokenizer_encode_with(b->ctx, b->tokenizer, whole ? whole : text, size, &options, out);
    tern_free(whole);
    return status;
}

/* What the encoder would refuse, told here with the text's own number: it sees them in another order. */
static tern_status check_text(const struct text_batch *b, const struct text_how *how, size_t i)
{
    const tern_model_config *c = tern_model_get_config(b->model);
    const tern_encoding *e = &b->encodings[i];

    TERN_REQUIRE(b->ctx, e->count > 0, TERN_ERR_ARG, "text %zu has no tokens: there is nothing to %s", i + 1, b->what);
    TERN_REQUIRE(b->ctx, e->count <= (size_t)how->max_tokens, TERN_ERR_CAPACITY,
                 "text %zu has %zu tokens, the model reads at most %" PRId32
                 "; with cut (--cut) so many of it are read",
                 i + 1, e->count, how->max_tokens);
    for (size_t t = 0; t < e->count; t++) {
        TERN_REQUIRE(b->ctx, e->ids[t] < c->vocab_size, TERN_ERR_ARG,
                     "text %zu: the tokenizer gives id %" PRId32 ", the model's vocabulary has %" PRId32 " ids", i + 1,
                     e->ids[t], c->vocab_size);
        TERN_REQUIRE(b->ctx, c->n_types <= 1 || e->type_ids[t] < (uint32_t)c->n_types, TERN_ERR_ARG,
                     "text %zu: the tokenizer gives segment %" PRIu32 ", the model has %" PRId32, i + 1, e->type_ids[t],
                     c->n_types);
    }
    return TERN_OK;
}

static tern_status encode_all(struct text_batch *b, const char *const *texts, const size_t *sizes,
                              const struct text_how *how)
{
    for (size_t i = 0; i < b->n; i++) {
        if (i % TELL == 0)
            TERN_TRY(text_batch_tell(b, 0));
        const tern_status status = encode_text(b, how, texts[i], sizes[i], &b->encodings[i]);
        if (status != TERN_OK) {
            char reason[512];
            snprintf(reason, sizeof reason, "%s", tern_error(b->ctx));
            return tern_fail(b->ctx, status, "text %zu: %s", i + 1, reason);
        }
        TERN_TRY(check_text(b, how, i));
        b->n_cut += b->encodings[i].n_left_out > 0;
    }
    return TERN_OK;
}

/* Merge sort, bottom up. */
static tern_status sort_texts(struct text_batch *b)
{
    size_t *from, *to;

    TERN_TRY(TERN_ALLOC(b->ctx, b->n, "the order of texts", &b->order));
    TERN_TRY(TERN_ALLOC(b->ctx, b->n, "the order of texts", &to));
    from = b->order;
    for (size_t i = 0; i < b->n; i++)
        from[i] = i;
    for (size_t width = 1; width < b->n; width *= 2) {
        for (size_t at = 0; at < b->n; at += 2 * width) {
            const size_t middle = at + width < b->n ? at + width : b->n;
            const size_t end = at + 2 * width < b->n ? at + 2 * width : b->n;
            for (size_t l = at, r = middle, k = at; k < end; k++) {
                const bool left =
                    r >= end || (l < middle && b->encodings[from[l]].count >= b->encodings[from[r]].count);
                to[k] = left ? from[l++] : from[r++];
            }
        }
        size_t *swap = from;
        from = to;
        to = swap;
    }
    b->order = from;
    tern_free(to);
    return TERN_OK;
}

tern_status text_batch_read(struct text_batch *b, const char *const *texts, const size_t *sizes,
                            const struct text_how *how, size_t group_texts, size_t group_rows)
{
    TERN_TRY(TERN_ALLOC(b->ctx, b->n, "texts as token ids", &b->encodings));
    TERN_TRY(encode_all(b, texts, sizes, how));
    TERN_TRY(sort_texts(b));
    const size_t longest = b->encodings[b->order[0]].count;
    b->group_texts = b->n < group_texts ? b->n : group_texts;
    b->group_rows = longest > group_rows ? longest : group_rows;
    if (b->group_rows > b->group_texts * longest)
        b->group_rows = b->group_texts * longest;
    return TERN_ALLOC(b->ctx, b->group_texts, "texts of a pass", &b->group);
}

size_t text_batch_group(struct text_batch *b, size_t at)
{
    const bool types = tern_model_get_config(b->model)->n_types > 1;
    size_t n = 0;

    for (size_t rows = 0; n < b->group_texts && at + n < b->n; n++) {
        const tern_encoding *e = &b->encodings[b->order[at + n]];
        if (rows + e->count > b->group_rows)
            break;
        rows += e->count;
        b->group[n] = (tern_encode_text){ .ids = e->ids,
                                          .types = types ? (const int32_t *)e->type_ids : NULL,
                                          .n_ids = (int32_t)e->count };
    }
    return n;
}

void text_batch_free(struct text_batch *b)
{
    for (size_t i = 0; b->encodings && i < b->n; i++)
        tern_encoding_free(&b->encodings[i]);
    tern_free(b->encodings);
    tern_free(b->order);
    tern_free(b->group);
}
