/* wordpiece.c: the longest match by walking a trie. */
#include "text/wordpiece.h"

#include "base/memory.h"

tern_status tern_wordpiece_finish(tern_ctx *ctx, struct tern_wordpiece *model, const char *unk, size_t unk_size,
                                  const char *prefix, size_t prefix_size)
{
    TERN_TRY(tern_names_trie(ctx, &model->vocab, &model->trie));
    TERN_TRY(tern_strndup(ctx, unk, unk_size, "the unknown token", &model->unk_token));
    model->unk_id = tern_names_find(&model->vocab, unk, unk_size);
    model->inside = TERN_TRIE_ROOT;
    model->has_inside = true;
    for (size_t i = 0; i < prefix_size && model->has_inside; i++)
        model->has_inside = tern_trie_step(&model->trie, &model->inside, (unsigned char)prefix[i]);
    return TERN_OK;
}

void tern_wordpiece_destroy(struct tern_wordpiece *model)
{
    tern_names_destroy(&model->vocab);
    tern_trie_destroy(&model->trie);
    tern_free(model->unk_token);
    *model = (struct tern_wordpiece){ 0 };
}

/* Characters of word[0..size), or some number above `limit`. */
static uint64_t count_chars(const char *word, size_t size, uint64_t limit)
{
    uint64_t n = 0;

    for (size_t i = 0; i < size && n <= limit; i++)
        n += ((unsigned char)word[i] & 0xC0) != 0x80;
    return n;
}

/* The longest token that word[at..size) begins with, and its end; -1 without. */
static int32_t longest(const struct tern_wordpiece *model, struct tern_wordpiece_scratch *scratch, const char *word,
                       size_t size, size_t at, size_t *end)
{
    uint32_t node = at > 0 ? model->inside : TERN_TRIE_ROOT;
    int32_t id = -1;

    if (at > 0 && !model->has_inside)
        return -1;
    while (at < size && tern_trie_step(&model->trie, &node, (unsigned char)word[at])) {
        at++;
        scratch->steps++;
        if (model->trie.nodes[node].value >= 0) {
            id = model->trie.nodes[node].value;
            *end = at;
        }
    }
    return id;
}

tern_status tern_wordpiece_encode(tern_ctx *ctx, const struct tern_wordpiece *model,
                                  struct tern_wordpiece_scratch *scratch, const char *word, size_t size,
                                  struct tern_token_list *out)
{
    const size_t before = out->ids.count;
    bool known = size <= model->max_chars || count_chars(word, size, model->max_chars) <= model->max_chars;

    for (size_t at = 0, end = 0; known && at < size; at = end) {
        const int32_t id = longest(model, scratch, word, size, at, &end);

        known = id >= 0;
        if (known)
            TERN_TRY(tern_token_list_push(ctx, out, id, at, end));
    }
    if (known)
        return TERN_OK;
    out->ids.count = before;
    TERN_REQUIRE(ctx, model->unk_id >= 0, TERN_ERR_FORMAT,
                 "the text needs the unknown token '%s', which the vocabulary of %zu tokens does not have",
                 model->unk_token, model->vocab.count);
    return tern_token_list_push(ctx, out, model->unk_id, 0, size);
}
