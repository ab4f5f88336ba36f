/* vocab_files.c: a tokenizer from vocab.txt, or from vocab.json and merges.txt, with the rules of a class.
 *
 * Checkpoints from before tokenizer.json have the files that their models came with, and what users added in up to
 * three more.  What they come to is what transformers (5.23) makes of them: the parts of the class (vocab_class.c), and
 * these added tokens, in this order:
 * 1. tokenizer_config.json, added_tokens_decoder: {id: {content, flags}}; where that is missing, added_tokens.json
 *    {content: id}, without flags, special if the next ones name them.  By id.
 * 2. bos, eos, unk, sep, pad, cls and mask: as special_tokens_map.json names them, unless there is an
 *    added_tokens_decoder; else as tokenizer_config.json does; else the class's own.
 * 3. other keys that end with _token, and additional_special_tokens, of the same files. */
#include "text/json_parts.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "text/characters.h"
#include "text/vocab_class.h"

#include <stdlib.h>
#include <string.h>

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
    const struct tern_vocab_class *class;
    struct tern_json *vocab, *config, *map, *added; /* NULL: not there */
    struct candidate named[TERN_NAMED_TOKENS];      /* text NULL: none */
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

/* "text" or {"content": "text", flags}; null and absent leave *c without a text. */
static tern_status special_of(struct files *f, const struct tern_json *json, const tern_json_value *value,
                              const char *key, struct candidate *c)
{
    *c = (struct candidate){ .flags.special = true };
    if (!value || tern_json_type(value) == TERN_JSON_NULL)
        return TERN_OK;
    if (tern_json_type(value) == TERN_JSON_STRING) {
        c->text = tern_json_string(value, &c->size);
        return TERN_OK;
    }
    TERN_REQUIRE(f->ctx, tern_json_type(value) == TERN_JSON_OBJECT, TERN_ERR_FORMAT,
                 "%s: %s is %s, expected a string or an object", tern_json_where(json), key,
                 tern_json_type_name(value));
    return candidate_of(f, json, value, true, c);
}

/* The file that a key counts in; NULL where it is in none. */
static const struct tern_json *source_of(const struct files *f, const char *key)
{
    const tern_json_value *config = f->config ? tern_json_root(f->config) : NULL;

    if (!tern_json_get(config, "added_tokens_decoder") && f->map && tern_json_get(tern_json_root(f->map), key))
        return f->map;
    return tern_json_get(config, key) ? f->config : NULL;
}

static tern_status collect_named(struct files *f)
{
    for (int i = 0; i < TERN_NAMED_TOKENS; i++) {
        const char *key = tern_named_token_keys[i], *own = f->class->tokens[i];
        const struct tern_json *json = source_of(f, key);
        struct candidate *c = &f->named[i];

        if (json)
            TERN_TRY(special_of(f, json, tern_json_get(tern_json_root(json), key), key, c));
        else if (own)
            *c = (struct candidate){ own, strlen(own), 0, { .special = true } };
        if (i == TERN_NAMED_MASK && c->text && f->class->mask_takes_space &&
            (!json || tern_json_type(tern_json_get(tern_json_root(json), key)) == TERN_JSON_STRING))
            c->flags.lstrip = true;
        if (c->text)
            TERN_TRY(add_candidate(f, *c, true));
    }
    return TERN_OK;
}

static bool is_named(const char *key, size_t size)
{
    for (int i = 0; i < TERN_NAMED_TOKENS; i++)
        if (strlen(tern_named_token_keys[i]) == size && memcmp(tern_named_token_keys[i], key, size) == 0)
            return true;
    return false;
}

/* Keys of a model's own: "image_token" and the like. */
static tern_status collect_others(struct files *f, const struct tern_json *json)
{
    static const char end[] = "_token";
    const size_t length = sizeof end - 1;

    if (!json)
        return TERN_OK;
    for (void *it = tern_json_iter(tern_json_root(json)); it; it = tern_json_next(tern_json_root(json), it)) {
        size_t size;
        const char *key = tern_json_iter_key(it, &size);
        const enum tern_json_type type = tern_json_type(tern_json_iter_value(it));
        struct candidate c;

        if (size <= length || memcmp(key + size - length, end, length) != 0 || is_named(key, size) ||
            (type != TERN_JSON_STRING &&
             (type != TERN_JSON_OBJECT || !tern_json_get(tern_json_iter_value(it), "content"))))
            continue;
        TERN_TRY(special_of(f, json, tern_json_iter_value(it), key, &c));
        TERN_TRY(add_candidate(f, c, false));
    }
    return TERN_OK;
}

static tern_status collect_lists(struct files *f)
{
    static const char *const keys[] = { "additional_special_tokens", "extra_special_tokens" };

    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        const struct tern_json *json = source_of(f, keys[k]);
        const tern_json_value *list = json ? tern_json_get(tern_json_root(json), keys[k]) : NULL;

        if (!list || tern_json_type(list) != TERN_JSON_ARRAY)
            continue;
        for (size_t i = 0; i < tern_json_size(list); i++) {
            struct candidate c;

            TERN_TRY(special_of(f, json, tern_json_at(list, i), keys[k], &c));
            if (c.text)
                TERN_TRY(add_candidate(f, c, false));
        }
    }
    return TERN_OK;
}

static tern_status add_tokens(struct files *f, const bool *used, size_t n_used)
{
    struct tern_tokenizer *t = f->t;
    size_t bytes = 0;

    TERN_TRY(collect_added(f));
    TERN_TRY(collect_named(f));
    if (!f->config || !tern_json_get(tern_json_root(f->config), "added_tokens_decoder"))
        TERN_TRY(collect_others(f, f->map));
    TERN_TRY(collect_others(f, f->config));
    TERN_TRY(collect_lists(f));

    for (size_t i = 0; i < f->n_candidates; i++)
        bytes += f->candidates[i].size;
    TERN_TRY(tern_added_tokens_create(f->ctx, f->n_candidates, bytes, &t->added));
    for (size_t i = 0; i < f->n_candidates; i++)
        TERN_TRY(tern_added_tokens_add(f->ctx, &t->added, tern_token_model_vocab(&t->model), used, n_used,
                                       f->candidates[i].text, f->candidates[i].size, f->candidates[i].flags, f->dir));
    return tern_added_tokens_finish(f->ctx, &t->added, &t->normalizer);
}

/* ---- around a text ----------------------------------------------------------------------------------------------- */

static tern_status option(struct files *f, const char *key, bool standard, bool *out)
{
    *out = standard;
    return f->config ? tern_json_opt_bool(f->ctx, f->config, tern_json_root(f->config), key, standard, out) : TERN_OK;
}

static tern_status id_of(struct files *f, enum tern_named_token name, int32_t *out)
{
    const struct candidate *c = &f->named[name];
    const int32_t index = c->text ? tern_names_find(&f->t->added.names, c->text, c->size) : -1;

    TERN_REQUIRE(f->ctx, index >= 0, TERN_ERR_FORMAT, "%s: %s needs a %s, and there is none", f->dir, f->class->name,
                 tern_named_token_keys[name]);
    *out = f->t->added.tokens[index].id;
    return TERN_OK;
}

/* Appends ids to a list, up to one of INT32_MIN; all have a type. */
static tern_status add_items(struct files *f, struct tern_post_list *list, uint32_t type, const int32_t *ids)
{
    for (; *ids != INT32_MIN; ids++)
        TERN_TRY(tern_post_list_add(f->ctx, list, *ids, type));
    return TERN_OK;
}
#define ADD_ITEMS(f, list, type, ...) add_items((f), (list), (type), (const int32_t[]){ __VA_ARGS__, INT32_MIN })

static struct tern_post_step *add_step(struct files *f, enum tern_post_kind kind)
{
    struct tern_post_step *step = &f->t->post.steps[f->t->post.n_steps++];

    *step = (struct tern_post_step){ .kind = kind };
    return step;
}

/* bos and eos where they are asked for, if there are such. */
static tern_status add_ends(struct files *f)
{
    int32_t bos = INT32_MIN, eos = INT32_MIN;
    bool adds_bos, adds_eos;

    TERN_TRY(option(f, "add_bos_token", false, &adds_bos));
    TERN_TRY(option(f, "add_eos_token", false, &adds_eos));
    adds_bos = adds_bos && f->named[TERN_NAMED_BOS].text;
    adds_eos = adds_eos && f->named[TERN_NAMED_EOS].text;
    if (adds_bos)
        TERN_TRY(id_of(f, TERN_NAMED_BOS, &bos));
    if (adds_eos)
        TERN_TRY(id_of(f, TERN_NAMED_EOS, &eos));
    if (!adds_bos && !adds_eos)
        return TERN_OK;
    struct tern_post_step *step = add_step(f, TERN_POST_TEMPLATE);
    TERN_TRY(ADD_ITEMS(f, &step->single, 0, bos));
    TERN_TRY(ADD_ITEMS(f, &step->single, 0, TERN_POST_FIRST, eos));
    TERN_TRY(ADD_ITEMS(f, &step->pair, 0, bos));
    TERN_TRY(ADD_ITEMS(f, &step->pair, 0, TERN_POST_FIRST, eos));
    TERN_TRY(ADD_ITEMS(f, &step->pair, 1, bos));
    return ADD_ITEMS(f, &step->pair, 1, TERN_POST_SECOND, eos);
}

static tern_status add_post(struct files *f)
{
    const bool clip = f->class->post == TERN_VOCAB_POST_CLIP;
    struct tern_post_step *step;
    int32_t cls, sep;

    if (f->class->post == TERN_VOCAB_POST_ENDS)
        return add_ends(f);
    TERN_TRY(id_of(f, clip ? TERN_NAMED_BOS : TERN_NAMED_CLS, &cls));
    TERN_TRY(id_of(f, clip ? TERN_NAMED_EOS : TERN_NAMED_SEP, &sep));
    if (clip || f->class->post == TERN_VOCAB_POST_ROBERTA) {
        step = add_step(f, TERN_POST_ROBERTA);
        step->cls = cls;
        step->sep = sep;
        if (clip)
            return TERN_OK;
        step->trim_offsets = true;
        if (f->class->wordpiece)
            return TERN_OK;
        TERN_TRY(option(f, "trim_offsets", true, &step->trim_offsets));
        return option(f, "add_prefix_space", f->class->adds_prefix_space, &step->add_prefix_space);
    }
    step = add_step(f, TERN_POST_TEMPLATE);
    TERN_TRY(ADD_ITEMS(f, &step->single, f->class->cls_type, cls));
    TERN_TRY(ADD_ITEMS(f, &step->single, 0, TERN_POST_FIRST, sep));
    TERN_TRY(ADD_ITEMS(f, &step->pair, f->class->cls_type, cls));
    TERN_TRY(ADD_ITEMS(f, &step->pair, 0, TERN_POST_FIRST, sep));
    if (f->class->post == TERN_VOCAB_POST_DEBERTA)
        return ADD_ITEMS(f, &step->pair, 0, sep, TERN_POST_SECOND, sep);
    return ADD_ITEMS(f, &step->pair, 1, TERN_POST_SECOND, sep);
}

/* ---- the parts of the class -------------------------------------------------------------------------------------- */

/* true, false or null as JSON has it. */
static tern_status option_word(struct files *f, const char *key, const char *standard, const char **out)
{
    const tern_json_value *value = f->config ? tern_json_get(tern_json_root(f->config), key) : NULL;

    *out = standard;
    if (!value || tern_json_type(value) == TERN_JSON_NULL)
        return TERN_OK;
    TERN_REQUIRE(f->ctx, tern_json_type(value) == TERN_JSON_BOOL, TERN_ERR_FORMAT,
                 "%s: %s is %s, expected true, false or null", tern_json_where(f->config), key,
                 tern_json_type_name(value));
    *out = tern_json_bool(value) ? "true" : "false";
    return TERN_OK;
}

/* The class's parts with the options in their places. */
static tern_status write_parts(struct files *f, char *out, size_t room)
{
    const struct {
        const char *mark, *key, *standard;
    } options[] = {
        { "$prefix", "add_prefix_space", f->class->adds_prefix_space ? "true" : "false" },
        { "$chinese", "tokenize_chinese_chars", "true" },
        { "$accents", "strip_accents", "null" },
        { "$lower", "do_lower_case", "true" },
    };
    const char *in = f->class->parts;
    size_t n = 0;

    while (*in) {
        const char *word = in;
        size_t length = 1, used = 1;

        for (size_t i = 0; *in == '$' && i < sizeof options / sizeof *options; i++)
            if (strncmp(in, options[i].mark, strlen(options[i].mark)) == 0) {
                TERN_TRY(option_word(f, options[i].key, options[i].standard, &word));
                length = strlen(word);
                used = strlen(options[i].mark);
            }
        TERN_REQUIRE(f->ctx, n + length < room, TERN_ERR_CAPACITY, "the parts of %s have more than %zu bytes",
                     f->class->name, room);
        memcpy(out + n, word, length);
        n += length;
        in += used;
    }
    out[n] = 0;
    return TERN_OK;
}

static tern_status bind_parts(struct files *f)
{
    struct tern_binder b = { .ctx = f->ctx, .t = f->t, .where = f->class->name };
    struct tern_json *json = NULL;
    char text[2048];
    tern_status status;

    TERN_TRY(write_parts(f, text, sizeof text));
    TERN_TRY(tern_json_parse(f->ctx, text, strlen(text), f->class->name, &json));
    b.json = json;
    const tern_json_value *root = tern_json_root(json);
    TERN_TRY_OR_FAIL(tern_bind_normalizer(&b, tern_json_get(root, "normalizer"), 0));
    TERN_TRY_OR_FAIL(tern_bind_pre_tokenizer(&b, tern_json_get(root, "pre_tokenizer"), 0));
    TERN_TRY_OR_FAIL(tern_bind_decoder(&b, tern_json_get(root, "decoder")));
    status = TERN_OK;

fail:
    tern_json_destroy(json);
    return status;
}

/* ---- the model --------------------------------------------------------------------------------------------------- */

/* What the model's unknown token is: named, else none. */
static tern_status find_unk(struct files *f, struct candidate *unk)
{
    const struct tern_json *json = source_of(f, "unk_token");
    const char *own = f->class->tokens[TERN_NAMED_UNK];

    *unk = (struct candidate){ .text = own, .size = strlen(own) };
    if (json)
        TERN_TRY(special_of(f, json, tern_json_get(tern_json_root(json), "unk_token"), "unk_token", unk));
    TERN_REQUIRE(f->ctx, unk->text && !memchr(unk->text, 0, unk->size), TERN_ERR_FORMAT,
                 "%s: %s needs an unk_token without a NUL, and there is none", f->dir, f->class->name);
    return TERN_OK;
}

static tern_status bind_bpe(struct files *f, bool **used, size_t *n_used)
{
    struct tern_bpe *bpe = &f->t->model.bpe;
    struct candidate unk;

    f->t->model.kind = TERN_TOKEN_MODEL_BPE;
    if (f->class->knows_unk) {
        TERN_TRY(find_unk(f, &unk));
        TERN_TRY(tern_strndup(f->ctx, unk.text, unk.size, "the unknown token", &bpe->unk_token));
    }
    if (f->class->suffix) {
        bpe->suffix_size = strlen(f->class->suffix);
        TERN_TRY(tern_strndup(f->ctx, f->class->suffix, bpe->suffix_size, "an affix", &bpe->suffix));
    }
    TERN_TRY(tern_vocab_read(f->ctx, f->vocab, tern_json_root(f->vocab), &bpe->vocab, used, n_used));
    TERN_TRY(read_merges(f));
    return tern_bpe_finish(f->ctx, bpe);
}

/* A line without the white space at its end. */
static size_t trimmed(const char *line, size_t length)
{
    while (length > 0) {
        size_t at = length;

        if (!tern_char_is_space(tern_utf8_previous(line, &at)))
            break;
        length = at;
    }
    return length;
}

/* A line is a token, its number the id; of lines that are the same, the last one. */
static tern_status parse_lines(struct files *f, const char *path, const char *text, size_t size,
                               struct tern_names *names, bool **used, size_t *n_used)
{
    struct line {
        const char *text;
        size_t size;
    } *lines = NULL;
    size_t n = 0, bad, capacity = 0, length, bytes = 0;
    const char *line;
    tern_status status;

    TERN_REQUIRE(f->ctx, tern_utf8_check(text, size, &bad), TERN_ERR_FORMAT,
                 "%s is not UTF-8: byte 0x%02X at offset %zu of %zu", path, (unsigned char)text[bad], bad, size);
    for (size_t at = 0; next_line(text, size, &at, &line, &length);) {
        TERN_TRY_OR_FAIL(TERN_GROW(f->ctx, &lines, &capacity, n + 1, "the vocabulary"));
        lines[n++] = (struct line){ line, trimmed(line, length) };
        bytes += lines[n - 1].size;
        TERN_REQUIRE_OR_FAIL(f->ctx, n <= (size_t)TERN_TOKEN_ID_MAX + 1, TERN_ERR_FORMAT, "%s has more than %d lines",
                             path, TERN_TOKEN_ID_MAX + 1);
    }
    TERN_TRY_OR_FAIL(tern_names_create(f->ctx, n, bytes, "the vocabulary", names));
    TERN_TRY_OR_FAIL(TERN_ALLOC(f->ctx, n, "the vocabulary", used));
    *n_used = n;
    for (size_t i = n; i-- > 0;)
        if (tern_names_find(names, lines[i].text, lines[i].size) < 0) {
            tern_names_put(names, lines[i].text, lines[i].size, (int32_t)i);
            (*used)[i] = true;
        }
    status = TERN_OK;

fail:
    tern_free(lines);
    return status;
}

static tern_status bind_wordpiece(struct files *f, bool **used, size_t *n_used)
{
    struct tern_wordpiece *model = &f->t->model.wordpiece;
    char *path = NULL, *text = NULL;
    struct candidate unk;
    size_t size;
    tern_status status;

    f->t->model.kind = TERN_TOKEN_MODEL_WORDPIECE;
    model->max_chars = 100;
    TERN_TRY(find_unk(f, &unk));
    TERN_TRY(tern_path_join(f->ctx, f->dir, "vocab.txt", &path));
    TERN_TRY_OR_FAIL(tern_file_read(f->ctx, path, TERN_TOKENIZER_FILE_MAX, &text, &size));
    TERN_TRY_OR_FAIL(parse_lines(f, path, text, size, &model->vocab, used, n_used));
    TERN_TRY_OR_FAIL(tern_wordpiece_finish(f->ctx, model, unk.text, unk.size, "##", 2));
    status = TERN_OK;

fail:
    tern_free(path);
    tern_free(text);
    return status;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static tern_status bind(struct files *f, bool wordpiece)
{
    bool *used = NULL;
    size_t n_used;
    tern_status status;

    TERN_TRY(tern_vocab_class_of(f->ctx, f->dir, f->config, wordpiece, &f->class));
    TERN_TRY(bind_parts(f));
    TERN_TRY_OR_FAIL(wordpiece ? bind_wordpiece(f, &used, &n_used) : bind_bpe(f, &used, &n_used));
    TERN_TRY_OR_FAIL(add_tokens(f, used, n_used));
    TERN_TRY_OR_FAIL(add_post(f));
    status = TERN_OK;

fail:
    tern_free(used);
    return status;
}

tern_status tern_tokenizer_read_vocab(tern_ctx *ctx, struct tern_tokenizer *t, const char *dir, bool wordpiece)
{
    struct files f = { .ctx = ctx, .t = t, .dir = dir };
    tern_status status;

    if (!wordpiece)
        TERN_TRY_OR_FAIL(read_object(&f, "vocab.json", true, &f.vocab));
    TERN_TRY_OR_FAIL(read_object(&f, "tokenizer_config.json", false, &f.config));
    TERN_TRY_OR_FAIL(read_object(&f, "special_tokens_map.json", false, &f.map));
    TERN_TRY_OR_FAIL(read_object(&f, "added_tokens.json", false, &f.added));
    TERN_TRY_OR_FAIL(bind(&f, wordpiece));
    status = TERN_OK;

fail:
    tern_json_destroy(f.vocab);
    tern_json_destroy(f.config);
    tern_json_destroy(f.map);
    tern_json_destroy(f.added);
    tern_free(f.candidates);
    return status;
}
