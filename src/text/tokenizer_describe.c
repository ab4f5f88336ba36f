/* tokenizer_describe.c: what a tokenizer is, without making it.
 *
 * Nearly all of a tokenizer.json are the vocabulary and the merges of its model.  They are cut out of the text, with a look at each id;
 * what is left is small, and is read as it always is.  A file in which they cannot be found is opened as a whole, which tells what is
 * wrong with it. */
#include "base/file.h"
#include "base/memory.h"
#include "text/json_parts.h"

#include <string.h>

/* Bytes [begin, end) of the file, in place of which `short_form` is read. */
struct cut {
    size_t begin, end;
    const char *short_form;
};

/* ---- finding the vocabulary and the merges ---- */

struct scan {
    const char *text;
    size_t size, at;
    struct cut cuts[2]; /* in the order of the file */
    size_t n_cuts;
    int32_t n_ids; /* of the vocabulary */
};

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static void skip_space(struct scan *s)
{
    while (s->at < s->size && is_space(s->text[s->at]))
        s->at++;
}

static bool take(struct scan *s, char c)
{
    skip_space(s);
    if (s->at >= s->size || s->text[s->at] != c)
        return false;
    s->at++;
    return true;
}

/* From behind its opening quote to behind its closing one. */
static bool end_string(struct scan *s)
{
    size_t at = s->at;

    while (at < s->size && s->text[at] != '"')
        at += s->text[at] == '\\' ? 2 : 1;
    s->at = at + 1;
    return at < s->size;
}

static bool skip_string(struct scan *s)
{
    return take(s, '"') && end_string(s);
}

/* From behind the opening bracket of a list or an object to behind its closing one. */
static bool end_list(struct scan *s)
{
    static const signed char steps[256] = { ['{'] = 1, ['['] = 1, ['}'] = -1, [']'] = -1, ['"'] = 2 };

    for (size_t depth = 1; depth > 0;) {
        while (s->at < s->size && !steps[(unsigned char)s->text[s->at]])
            s->at++;
        if (s->at >= s->size)
            return false;
        const int step = steps[(unsigned char)s->text[s->at++]];
        if (step == 2 && !end_string(s))
            return false;
        depth += step == 1;
        depth -= step == -1;
    }
    return true;
}

/* Behind a value of any kind. */
static bool skip_value(struct scan *s)
{
    if (take(s, '"'))
        return end_string(s);
    if (take(s, '[') || take(s, '{'))
        return end_list(s);
    const size_t begin = s->at;
    while (s->at < s->size && !is_space(s->text[s->at]) && s->text[s->at] != ',' && s->text[s->at] != ']' &&
           s->text[s->at] != '}')
        s->at++;
    return s->at > begin;
}

/* { "token": id, .. } */
static bool scan_ids(struct scan *s)
{
    int64_t top = -1;

    if (!take(s, '{'))
        return false;
    if (take(s, '}'))
        return true;
    do {
        int64_t id = 0;
        size_t digits = 0;
        if (!skip_string(s) || !take(s, ':'))
            return false;
        for (skip_space(s); s->at < s->size && s->text[s->at] >= '0' && s->text[s->at] <= '9' && digits < 9; digits++)
            id = id * 10 + (s->text[s->at++] - '0');
        if (digits == 0 || id > TERN_TOKEN_ID_MAX)
            return false;
        top = id > top ? id : top;
    } while (take(s, ','));
    s->n_ids = (int32_t)(top + 1);
    return take(s, '}');
}

/* [ ["token", score], .. ]: an id is a place. */
static bool scan_places(struct scan *s)
{
    int32_t n = 0;

    if (!take(s, '['))
        return false;
    if (take(s, ']'))
        return true;
    do {
        if (!skip_value(s) || n++ > TERN_TOKEN_ID_MAX)
            return false;
    } while (take(s, ','));
    s->n_ids = n;
    return take(s, ']');
}

/* An object's field after field: each(s, name, size) is behind the colon, and leaves s->at behind the value. */
static bool scan_object(struct scan *s, bool (*each)(struct scan *s, const char *name, size_t size))
{
    if (!take(s, '{'))
        return false;
    if (take(s, '}'))
        return true;
    do {
        skip_space(s);
        const size_t begin = s->at + 1;
        if (!skip_string(s))
            return false;
        const size_t end = s->at - 1;
        if (!take(s, ':') || !each(s, s->text + begin, end - begin))
            return false;
    } while (take(s, ','));
    return take(s, '}');
}

static bool scan_model_field(struct scan *s, const char *name, size_t size)
{
    const bool vocab = tern_bind_equal(name, size, "vocab"), merges = tern_bind_equal(name, size, "merges");

    skip_space(s);
    const size_t begin = s->at;
    const bool list = begin < s->size && s->text[begin] == '[';
    if (!(vocab ? list ? scan_places(s) : scan_ids(s) : skip_value(s)))
        return false;
    if (!vocab && !(merges && list))
        return true;
    if (s->n_cuts == 2)
        return false;
    s->cuts[s->n_cuts++] = (struct cut){ begin, s->at, list ? "[]" : "{}" };
    return true;
}

static bool scan_field(struct scan *s, const char *name, size_t size)
{
    return tern_bind_equal(name, size, "model") ? scan_object(s, scan_model_field) : skip_value(s);
}

/* ---- what is left ---- */

/* The text without its cuts. */
static tern_status shorten(tern_ctx *ctx, const struct scan *s, char **out, size_t *out_size)
{
    size_t at = 0, n = 0, room = s->size + 1;

    for (size_t i = 0; i < s->n_cuts; i++)
        room -= s->cuts[i].end - s->cuts[i].begin - 2;
    TERN_TRY(tern_alloc(ctx, room, 1, "the rules of a tokenizer", (void **)out));
    for (size_t i = 0; i <= s->n_cuts; i++) {
        const size_t end = i < s->n_cuts ? s->cuts[i].begin : s->size;
        memcpy(*out + n, s->text + at, end - at);
        n += end - at;
        if (i < s->n_cuts) {
            memcpy(*out + n, s->cuts[i].short_form, 2);
            n += 2;
            at = s->cuts[i].end;
        }
    }
    (*out)[n] = '\0';
    *out_size = n;
    return TERN_OK;
}

static const char *const kind_names[] = {
    [TERN_TOKEN_MODEL_BPE] = "BPE",
    [TERN_TOKEN_MODEL_WORDPIECE] = "WordPiece",
    [TERN_TOKEN_MODEL_WORD_LEVEL] = "WordLevel",
    [TERN_TOKEN_MODEL_UNIGRAM] = "Unigram",
    [TERN_TOKEN_MODEL_SENTENCEPIECE] = "SentencePiece",
};

static void set_kind(tern_tokenizer_info *info, enum tern_token_model_kind kind)
{
    const char *name = kind_names[kind];

    memcpy(info->kind, name, strlen(name) + 1);
}

static tern_status describe_rules(tern_ctx *ctx, const struct scan *s, const char *where, tern_tokenizer_info *info)
{
    struct tern_tokenizer *t = NULL;
    struct tern_json *json = NULL;
    enum tern_token_model_kind kind;
    char *text = NULL;
    tern_status status;
    size_t size;

    TERN_TRY_OR_FAIL(shorten(ctx, s, &text, &size));
    TERN_TRY_OR_FAIL(tern_json_parse(ctx, text, size, where, &json));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, 1, "a tokenizer", &t));
    struct tern_binder b = { ctx, t, json, where };
    const tern_json_value *root = tern_json_root(json), *added = tern_json_get(root, "added_tokens");
    TERN_TRY_OR_FAIL(tern_bind_rules(&b, root));
    TERN_TRY_OR_FAIL(tern_bind_model_kind(&b, root, &kind));
    info->n_ids = s->n_ids;
    for (size_t i = 0; i < tern_json_size(added); i++) {
        int64_t id;
        TERN_TRY_OR_FAIL(tern_json_need_int(ctx, json, tern_json_at(added, i), "id", 0, TERN_TOKEN_ID_MAX, &id));
        info->n_added += id >= s->n_ids;
        info->n_ids = (int32_t)id >= info->n_ids ? (int32_t)id + 1 : info->n_ids;
    }
    set_kind(info, kind);

fail:
    tern_tokenizer_close(&t);
    tern_json_destroy(json);
    tern_free(text);
    return status;
}

static tern_status describe_whole(tern_ctx *ctx, const char *path, tern_tokenizer_info *info)
{
    tern_tokenizer *t;

    TERN_TRY(tern_tokenizer_open(ctx, path, &t));
    info->n_ids = (int32_t)t->n_tokens;
    for (size_t i = 0; i < t->added.count; i++) {
        size_t size;
        const char *text = tern_added_token_text(&t->added, &t->added.tokens[i], &size);
        info->n_added += tern_names_find(tern_token_model_vocab(&t->model), text, size) < 0;
    }
    set_kind(info, t->model.kind);
    tern_tokenizer_close(&t);
    return TERN_OK;
}

/* The tokenizer.json that a path means; NULL where it means something else. */
static tern_status find_json(tern_ctx *ctx, const char *path, char **out)
{
    const size_t n = strlen(path), n_end = strlen(".json");

    *out = NULL;
    if (!tern_path_is_dir(path))
        return n > n_end && strcmp(path + n - n_end, ".json") == 0 ? tern_strndup(ctx, path, n, "a path", out)
                                                                   : TERN_OK;
    TERN_TRY(tern_path_join(ctx, path, "tokenizer.json", out));
    if (!tern_path_is_file(*out)) {
        tern_free(*out);
        *out = NULL;
    }
    return TERN_OK;
}

tern_status tern_tokenizer_describe(tern_ctx *ctx, const char *path, tern_tokenizer_info *info)
{
    struct tern_map map = { 0 };
    char *file = NULL;
    tern_status status;

    TERN_REQUIRE(ctx, path && info, TERN_ERR_ARG, "tokenizer_describe: %s is NULL", path ? "info" : "path");
    *info = (tern_tokenizer_info){ 0 };
    TERN_TRY(find_json(ctx, path, &file));
    if (!file)
        return describe_whole(ctx, path, info);
    TERN_TRY_OR_FAIL(tern_map_open(ctx, file, &map));
    struct scan s = { .text = (const char *)map.data, .size = map.size };
    const bool found = map.size <= TERN_TOKENIZER_FILE_MAX && scan_object(&s, scan_field) && s.n_cuts > 0;
    status = found ? describe_rules(ctx, &s, file, info) : describe_whole(ctx, path, info);
    if (status != TERN_OK)
        *info = (tern_tokenizer_info){ 0 };

fail:
    tern_map_close(&map);
    tern_free(file);
    return status;
}
