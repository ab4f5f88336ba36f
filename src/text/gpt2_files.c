/* gpt2_files.c: a tokenizer from vocab.json and merges.txt, with GPT-2's rules.
 *
 * Checkpoints from before tokenizer.json have the two files that openai/gpt-2 came with, and what users added in up
 * to three more.  What they come to is what transformers (5) makes of them: a BPE over bytes, ByteLevel before and
 * behind it, add_prefix_space from tokenizer_config.json, and these added tokens, in this order:
 * 1. tokenizer_config.json, added_tokens_decoder: {id: {content, flags}}; where that is missing, added_tokens.json
 *    {content: id}, without flags, special if the next two name them, other than as additional ones.  By id.
 * 2. the special tokens that tokenizer_config.json names and, without an added_tokens_decoder, those that
 *    special_tokens_map.json names, flags as given.
 * 3. <|endoftext|>, special, if the vocabulary has it.
 *
 * With add_bos_token in tokenizer_config.json, the post-processor puts bos_token, <|endoftext|> unless named, first. */
#include "text/text.h"

#include "base/file.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

static const char *const special_names[] = { "bos_token", "eos_token", "unk_token", "sep_token",
                                             "pad_token", "cls_token", "mask_token" };
#define N_SPECIAL_NAMES (sizeof special_names / sizeof *special_names)

/* A token that will be added; the text belongs to one of the documents. */
struct candidate {
    const char *text;
    size_t size;
    int64_t id; /* the order of those that have one */
    struct tern_added_token flags;
};

struct files {
    tern_ctx *ctx;
    struct tern_tokenizer *t;
    const char *dir;
    struct tern_json *vocab, *config, *map, *added; /* NULL: not there */
    struct candidate bos;                           /* bos_token */
    struct candidate *candidates;
    size_t n_candidates, capacity;
};

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* An object from a file of the directory; *out stays NULL if the file is not there and need not be. */
static tern_status read_object(struct files *f, const char *name, bool needed, struct tern_json **out)
{
    char *path = NULL;
    tern_status status;

    TERN_TRY(tern_path_join(f->ctx, f->dir, name, &path));
    if (needed || tern_path_is_file(path)) {
        TERN_TRY_OR_FAIL(tern_json_read(f->ctx, path, TERN_TOKENIZER_FILE_MAX, out));
        TERN_REQUIRE_OR_FAIL(f->ctx, tern_json_type(tern_json_root(*out)) == TERN_JSON_OBJECT, TERN_ERR_FORMAT,
                             "%s is %s, expected an object", path, tern_json_type_name(tern_json_root(*out)));
    }
    status = TERN_OK;

fail:
    tern_free(path);
    return status;
}

/* The next line of text[*at..size), without its end; false at the end of the text. */
static bool next_line(const char *text, size_t size, size_t *at, const char **line, size_t *length)
{
    if (*at >= size)
        return false;
    const char *end = memchr(text + *at, '\n', size - *at);

    *line = text + *at;
    *length = end ? (size_t)(end - *line) : size - *at;
    *at += *length + 1;
    if (*length > 0 && (*line)[*length - 1] == '\r')
        --*length;
    return true;
}

static bool is_comment(const char *line, size_t length)
{
    return length >= 8 && memcmp(line, "#version", 8) == 0;
}

static tern_status parse_merges(struct files *f, const char *path, const char *text, size_t size)
{
    const char *line;
    size_t length, n = 0, number = 0;

    for (size_t at = 0; next_line(text, size, &at, &line, &length);)
        n += length > 0 && !is_comment(line, length);
    TERN_TRY(tern_bpe_merges_create(f->ctx, &f->t->model.bpe, n));
    for (size_t at = 0; next_line(text, size, &at, &line, &length);) {
        number++;
        if (length == 0 || is_comment(line, length))
            continue;
        const char *space = memchr(line, ' ', length);
        TERN_REQUIRE(f->ctx, space && !memchr(space + 1, ' ', length - (size_t)(space + 1 - line)), TERN_ERR_FORMAT,
                     "%s: line %zu is '%.*s', expected two tokens with one space between them", path, number,
                     (int)length, line);
        TERN_TRY(tern_bpe_merges_add(f->ctx, &f->t->model.bpe, line, (size_t)(space - line), space + 1,
                                     length - (size_t)(space + 1 - line), path));
    }
    return TERN_OK;
}

static tern_status read_merges(struct files *f)
{
    char *path = NULL, *text = NULL;
    size_t size;
    tern_status status;

    TERN_TRY(tern_path_join(f->ctx, f->dir, "merges.txt", &path));
    TERN_TRY_OR_FAIL(tern_file_read(f->ctx, path, TERN_TOKENIZER_FILE_MAX, &text, &size));
    TERN_TRY_OR_FAIL(parse_merges(f, path, text, size));
    status = TERN_OK;

fail:
    tern_free(path);
    tern_free(text);
    return status;
}

/* ---- added tokens ------------------------------------------------------------------------------------------------ */

static tern_status add_candidate(struct files *f, struct candidate c, bool promote)
{
    for (size_t i = 0; i < f->n_candidates; i++) {
        struct candidate *there = &f->candidates[i];

        if (there->size == c.size && memcmp(there->text, c.text, c.size) == 0) {
            if (promote && c.flags.special && !there->flags.special) { /* named as special later on */
                there->flags.special = true;
                there->flags.normalized = false;
            }
            return TERN_OK;
        }
    }
    TERN_TRY(TERN_GROW(f->ctx, &f->candidates, &f->capacity, f->n_candidates + 1, "added tokens"));
    f->candidates[f->n_candidates++] = c;
    return TERN_OK;
}

/* {"content": ..., flags}, what is missing is false. */
static tern_status candidate_of(struct files *f, const struct tern_json *json, const tern_json_value *object,
                                bool special, struct candidate *c)
{
    const tern_json_value *content = tern_json_get(object, "content");

    TERN_REQUIRE(f->ctx, content && tern_json_type(content) == TERN_JSON_STRING, TERN_ERR_FORMAT,
                 "%s: content of an added token is %s, expected a string", tern_json_where(json),
                 tern_json_type_name(content));
    c->text = tern_json_string(content, &c->size);
    TERN_TRY(tern_json_opt_bool(f->ctx, json, object, "single_word", false, &c->flags.single_word));
    TERN_TRY(tern_json_opt_bool(f->ctx, json, object, "lstrip", false, &c->flags.lstrip));
    TERN_TRY(tern_json_opt_bool(f->ctx, json, object, "rstrip", false, &c->flags.rstrip));
    TERN_TRY(tern_json_opt_bool(f->ctx, json, object, "special", special, &c->flags.special));
    TERN_TRY(tern_json_opt_bool(f->ctx, json, object, "normalized", !c->flags.special, &c->flags.normalized));
    c->flags.special = c->flags.special || special;
    return TERN_OK;
}

static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;

    return (x->id > y->id) - (x->id < y->id);
}

/* added_tokens_decoder, or added_tokens.json. */
static tern_status collect_added(struct files *f)
{
    const tern_json_value *list = f->config ? tern_json_get(tern_json_root(f->config), "added_tokens_decoder") : NULL;

    if (list && tern_json_type(list) == TERN_JSON_OBJECT) {
        for (void *it = tern_json_iter(list); it; it = tern_json_next(list, it)) {
            struct candidate c = { 0 };
            size_t length;
            char *end;
            const char *key = tern_json_iter_key(it, &length);

            c.id = strtoll(key, &end, 10);
            TERN_REQUIRE(f->ctx, length > 0 && end == key + length && c.id >= 0 && c.id <= TERN_TOKEN_ID_MAX,
                         TERN_ERR_FORMAT, "%s: added_tokens_decoder has the key '%.*s', expected an id of 0 to %d",
                         tern_json_where(f->config), (int)length, key, TERN_TOKEN_ID_MAX);
            TERN_TRY(candidate_of(f, f->config, tern_json_iter_value(it), false, &c));
            TERN_TRY(add_candidate(f, c, false));
        }
    } else if (f->added) {
        const tern_json_value *object = tern_json_root(f->added);

        for (void *it = tern_json_iter(object); it; it = tern_json_next(object, it)) {
            struct candidate c = { .flags.normalized = true };

            c.text = tern_json_iter_key(it, &c.size);
            TERN_REQUIRE(f->ctx,
                         tern_json_type(tern_json_iter_value(it)) == TERN_JSON_INT &&
                             tern_json_int(tern_json_iter_value(it)) >= 0 &&
                             tern_json_int(tern_json_iter_value(it)) <= TERN_TOKEN_ID_MAX,
                         TERN_ERR_FORMAT, "%s: the id of '%.*s' is %s, expected an id of 0 to %d",
                         tern_json_where(f->added), (int)c.size, c.text, tern_json_type_name(tern_json_iter_value(it)),
                         TERN_TOKEN_ID_MAX);
            c.id = tern_json_int(tern_json_iter_value(it));
            TERN_TRY(add_candidate(f, c, false));
        }
    }
    if (f->n_candidates > 1)
        qsort(f->candidates, f->n_candidates, sizeof *f->candidates, compare_candidates);
    return TERN_OK;
}

/* "text" or {"content": "text", flags}; null and absent are none. */
static tern_status collect_special(struct files *f, const struct tern_json *json, const tern_json_value *value,
                                   const char *key, bool promote)
{
    struct candidate c = { .flags.special = true };

    if (!value || tern_json_type(value) == TERN_JSON_NULL)
        return TERN_OK;
    if (tern_json_type(value) == TERN_JSON_STRING) {
        c.text = tern_json_string(value, &c.size);
    } else {
        TERN_REQUIRE(f->ctx, tern_json_type(value) == TERN_JSON_OBJECT, TERN_ERR_FORMAT,
                     "%s: %s is %s, expected a string or an object", tern_json_where(json), key,
                     tern_json_type_name(value));
        TERN_TRY(candidate_of(f, json, value, true, &c));
    }
    if (strcmp(key, "bos_token") == 0)
        f->bos = c;
    return add_candidate(f, c, promote);
}

static tern_status collect_specials(struct files *f, const struct tern_json *json)
{
    if (!json)
        return TERN_OK;
    const tern_json_value *root = tern_json_root(json), *more = tern_json_get(root, "additional_special_tokens");

    for (size_t i = 0; i < N_SPECIAL_NAMES; i++)
        TERN_TRY(collect_special(f, json, tern_json_get(root, special_names[i]), special_names[i], true));
    for (size_t i = 0; i < tern_json_size(more); i++)
        TERN_TRY(collect_special(f, json, tern_json_at(more, i), "additional_special_tokens", false));
    return TERN_OK;
}

/* add_bos_token: the id of bos_token goes before the text's. */
static tern_status add_bos(struct files *f)
{
    struct tern_tokenizer *t = f->t;
    bool wanted;

    if (!f->config)
        return TERN_OK;
    TERN_TRY(tern_json_opt_bool(f->ctx, f->config, tern_json_root(f->config), "add_bos_token", false, &wanted));
    if (!wanted)
        return TERN_OK;
    const int32_t index = tern_names_find(&t->added.names, f->bos.text, f->bos.size);
    TERN_REQUIRE(f->ctx, index >= 0, TERN_ERR_FORMAT, "%s: add_bos_token is true, but there is no token '%.*s'",
                 tern_json_where(f->config), (int)f->bos.size, f->bos.text);
    struct tern_post_step *step = &t->post.steps[t->post.n_steps++];
    const int32_t bos = t->added.tokens[index].id;
    *step = (struct tern_post_step){ .kind = TERN_POST_TEMPLATE };
    TERN_TRY(tern_post_list_add(f->ctx, &step->single, bos, 0));
    TERN_TRY(tern_post_list_add(f->ctx, &step->single, TERN_POST_FIRST, 0));
    TERN_TRY(tern_post_list_add(f->ctx, &step->pair, bos, 0));
    TERN_TRY(tern_post_list_add(f->ctx, &step->pair, TERN_POST_FIRST, 0));
    TERN_TRY(tern_post_list_add(f->ctx, &step->pair, bos, 1));
    TERN_TRY(tern_post_list_add(f->ctx, &step->pair, TERN_POST_SECOND, 1));
    return TERN_OK;
}

static tern_status add_tokens(struct files *f, const bool *used, size_t n_used)
{
    static const char end_of_text[] = "<|endoftext|>";
    const struct candidate end = { .text = end_of_text, .size = sizeof end_of_text - 1, .flags.special = true };
    struct tern_tokenizer *t = f->t;
    size_t bytes = 0;

    f->bos = end;
    TERN_TRY(collect_added(f));
    if (!f->config || !tern_json_get(tern_json_root(f->config), "added_tokens_decoder"))
        TERN_TRY(collect_specials(f, f->map));
    TERN_TRY(collect_specials(f, f->config));
    if (tern_names_find(&t->model.bpe.vocab, end.text, end.size) >= 0)
        TERN_TRY(add_candidate(f, end, true));

    for (size_t i = 0; i < f->n_candidates; i++)
        bytes += f->candidates[i].size;
    TERN_TRY(tern_added_tokens_create(f->ctx, f->n_candidates, bytes, &t->added));
    for (size_t i = 0; i < f->n_candidates; i++)
        TERN_TRY(tern_added_tokens_add(f->ctx, &t->added, &t->model.bpe.vocab, used, n_used, f->candidates[i].text,
                                       f->candidates[i].size, f->candidates[i].flags, f->dir));
    return tern_added_tokens_finish(f->ctx, &t->added, &t->normalizer);
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static tern_status bind(struct files *f)
{
    struct tern_pre_step step = { .kind = TERN_PRE_BYTE_LEVEL, .use_regex = true };
    bool *used = NULL;
    size_t n_used;
    tern_status status;

    if (f->config)
        TERN_TRY(tern_json_opt_bool(f->ctx, f->config, tern_json_root(f->config), "add_prefix_space", false,
                                    &step.add_prefix_space));
    f->t->pre_tokenizer.steps[0] = step;
    f->t->pre_tokenizer.n_steps = 1;
    f->t->decoder = TERN_DECODE_BYTE_LEVEL;
    TERN_TRY_OR_FAIL(
        tern_vocab_read(f->ctx, f->vocab, tern_json_root(f->vocab), &f->t->model.bpe.vocab, &used, &n_used));
    TERN_TRY_OR_FAIL(read_merges(f));
    TERN_TRY_OR_FAIL(tern_bpe_finish(f->ctx, &f->t->model.bpe));
    TERN_TRY_OR_FAIL(add_tokens(f, used, n_used));
    TERN_TRY_OR_FAIL(add_bos(f));
    status = TERN_OK;

fail:
    tern_free(used);
    return status;
}

tern_status tern_tokenizer_read_gpt2(tern_ctx *ctx, struct tern_tokenizer *t, const char *dir)
{
    struct files f = { .ctx = ctx, .t = t, .dir = dir };
    tern_status status;

    TERN_TRY_OR_FAIL(read_object(&f, "vocab.json", true, &f.vocab));
    TERN_TRY_OR_FAIL(read_object(&f, "tokenizer_config.json", false, &f.config));
    TERN_TRY_OR_FAIL(read_object(&f, "special_tokens_map.json", false, &f.map));
    TERN_TRY_OR_FAIL(read_object(&f, "added_tokens.json", false, &f.added));
    TERN_TRY_OR_FAIL(bind(&f));
    status = TERN_OK;

fail:
    tern_json_destroy(f.vocab);
    tern_json_destroy(f.config);
    tern_json_destroy(f.map);
    tern_json_destroy(f.added);
    tern_free(f.candidates);
    return status;
}
