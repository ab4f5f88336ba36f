/* encode.c: the way of a text through the components.
 *
 *   text -- added tokens that are looked for as they are --> stretches
 *        -- normalizer -- added tokens in normalised form --> stretches
 *        -- pre-tokenizer --> words -- model --> tokens -- post-processor --> tokens
 *
 * Nothing is collected on the way: a stretch goes all the way down before the next one is looked for.  The memory that
 * a call works in belongs to the call, so one tokenizer serves any number of threads without a lock.
 *
 * Where offsets are asked for, text carries for each byte the place that it came from (piece.h); else it does not, and
 * nothing is paid. */
#include "text/text.h"

#include "base/memory.h"
#include "base/utf8.h"
#include "text/characters.h"

#include <string.h>

/* Where a token came from. */
struct token_place {
    uint32_t begin, end; /* code points of the text */
    struct tern_blanks blanks;
};

#define CHARACTERS_STEP 16

/* One text on its way. */
struct work {
    tern_ctx *ctx;
    const struct tern_tokenizer *t;
    struct tern_normalizer_scratch normalizer;
    struct tern_pre_scratch pre;
    struct tern_token_model_scratch model;
    struct tern_token_list list; /* spans are places in the text, in code points, when a word is done */
    bool wants_offsets;
    const char *text;
    size_t size;
    struct tern_place *places; /* of the text's own bytes */
    uint32_t *characters;      /* that begin before each CHARACTERS_STEP bytes of the text */
    struct tern_blanks *blanks;
    size_t blanks_capacity;
    uint64_t steps; /* bytes looked at, pairs, ids moved: what a test counts instead of time */
    bool (*goes_on)(void *user);
    void *user;
    size_t unasked; /* bytes of words since it was asked */
};

#define ASK ((size_t)1 << 18) /* bytes of words between two questions whether to go on */

/* What the tokens are made with; they stay. */
static void release_scratch(struct work *w)
{
    tern_normalizer_scratch_destroy(&w->normalizer);
    tern_pre_scratch_destroy(&w->pre);
    tern_token_model_scratch_destroy(&w->t->model, &w->model);
    tern_free(w->places);
    tern_free(w->characters);
    w->normalizer = (struct tern_normalizer_scratch){ 0 };
    w->pre = (struct tern_pre_scratch){ 0 };
    w->model = (struct tern_token_model_scratch){ 0 };
    w->places = NULL;
    w->characters = NULL;
}

static void destroy_work(struct work *w)
{
    release_scratch(w);
    tern_token_list_destroy(&w->list);
    tern_free(w->blanks);
}

/* ---- offsets ----------------------------------------------------------------------------------------------------- */

struct tern_blanks tern_blanks_of(const char *text, size_t size)
{
    struct tern_blanks blanks = { 0, 0 };
    size_t at = 0, behind = size;

    for (uint32_t code; at < size && blanks.leading < UINT16_MAX; blanks.leading++) {
        code = tern_utf8_next(text, &at);
        if (code != 0x120 && !tern_char_is_space(code))
            break;
    }
    for (uint32_t code; behind > 0 && blanks.trailing < UINT16_MAX; blanks.trailing++) {
        code = tern_utf8_previous(text, &behind);
        if (code != 0x120 && !tern_char_is_space(code))
            break;
    }
    return blanks;
}

/* The number of the character that a byte of the text is of. */
static uint32_t character_at(const struct work *w, size_t byte)
{
    uint32_t n = w->characters[byte / CHARACTERS_STEP];

    for (size_t at = byte / CHARACTERS_STEP * CHARACTERS_STEP; at <= byte; at++)
        n += ((unsigned char)w->text[at] & 0xC0) != 0x80;
    return n - 1;
}

static tern_status count_characters(struct work *w)
{
    uint32_t n = 0;

    TERN_TRY(TERN_ALLOC(w->ctx, w->size / CHARACTERS_STEP + 1, "characters of text", &w->characters));
    for (size_t at = 0; at < w->size; at++) {
        if (at % CHARACTERS_STEP == 0)
            w->characters[at / CHARACTERS_STEP] = n;
        n += ((unsigned char)w->text[at] & 0xC0) != 0x80;
    }
    return TERN_OK;
}

/* Bytes [begin, end) of the text as code points.  What begins behind the text's end stays in bytes, as in the library,
 * which has no character there. */
static struct token_place in_code_points(const struct work *w, size_t begin, size_t end)
{
    struct token_place place = { (uint32_t)begin, (uint32_t)end, { 0, 0 } };

    if (begin >= w->size)
        return place;
    place.begin = character_at(w, begin);
    if (end < w->size)
        place.end = character_at(w, end);
    else
        place.end = (end - 1 < w->size ? character_at(w, end - 1) : place.begin + 1) + 1;
    return place;
}

/* The place of bytes [begin, end) of a piece.  Spans that are not within it are taken as they are (the library's way:
 * byte fallback can count more bytes than there are). */
static struct token_place place_of(const struct work *w, struct tern_piece piece, size_t begin, size_t end)
{
    if (begin == end)
        return in_code_points(w, piece.original + begin, piece.original + end);
    if (begin > end || end > piece.size)
        return in_code_points(w, begin, end);
    return in_code_points(w, piece.places[begin].begin, piece.places[end - 1].end);
}

static tern_status reserve_blanks(struct work *w)
{
    return w->t->blanks ? TERN_GROW(w->ctx, &w->blanks, &w->blanks_capacity, w->list.ids.count, "places of tokens")
                        : TERN_OK;
}

static void keep_place(struct work *w, size_t i, struct token_place place)
{
    w->list.spans[i] = (struct tern_span){ place.begin, place.end };
}

/* Tokens from `first` on are those of a word. */
static tern_status note_words(struct work *w, struct tern_piece word, size_t first)
{
    TERN_TRY(reserve_blanks(w));
    for (size_t i = first; i < w->list.ids.count; i++) {
        const struct tern_span span = w->list.spans[i];
        const int32_t id = w->list.ids.data[i];

        keep_place(w, i, place_of(w, word, span.begin, span.end));
        if (!w->t->blanks)
            continue;
        if (tern_token_model_is_loose(&w->t->model, id) && span.begin <= span.end && span.end <= word.size)
            w->blanks[i] = tern_blanks_of(word.text + span.begin, span.end - span.begin);
        else
            w->blanks[i] = w->t->blanks[id];
    }
    return TERN_OK;
}

/* The last token is an added one, found as the whole of a piece. */
static tern_status note_added(struct work *w, struct tern_piece piece)
{
    const size_t last = w->list.ids.count - 1;

    TERN_TRY(reserve_blanks(w));
    keep_place(w, last, place_of(w, piece, 0, piece.size));
    if (w->t->blanks)
        w->blanks[last] = tern_blanks_of(piece.text, piece.size);
    return TERN_OK;
}

/* Takes white space from a token's ends, where it is more than the one space that the tokenizer put there. */
static void trim(struct token_place *place, bool first, bool prefix_space)
{
    uint32_t leading = place->blanks.leading;
    const uint32_t trailing = place->blanks.trailing;

    if ((first || place->begin == 0) && prefix_space && leading == 1)
        leading = 0;
    if (leading > 0)
        place->begin = leading < place->end - place->begin ? place->begin + leading : place->end;
    if (trailing > 0 && place->end >= trailing)
        place->end = place->end - trailing > place->begin ? place->end - trailing : place->begin;
}

/* ---- from text to tokens ----------------------------------------------------------------------------------------- */

static tern_status take_word(void *user, struct tern_piece word, bool bytes)
{
    struct work *w = user;
    const size_t first = w->list.ids.count;

    w->unasked += word.size;
    if (w->goes_on && w->unasked >= ASK) {
        w->unasked = 0;
        TERN_REQUIRE(w->ctx, w->goes_on(w->user), TERN_ERR_CANCELLED, "cancelled in a text of %zu bytes", w->size);
    }
    TERN_TRY(tern_token_model_encode(w->ctx, &w->t->model, &w->model, word.text, word.size, bytes, &w->list));
    return w->wants_offsets ? note_words(w, word, first) : TERN_OK;
}

static tern_status find_added(struct work *w, bool normalized, struct tern_piece piece);

/* A stretch of text between added tokens of the first pass, or of the second. */
static tern_status take_stretch(struct work *w, bool normalized, struct tern_piece piece)
{
    if (normalized)
        return tern_pre_tokenizer_run(w->ctx, &w->t->pre_tokenizer, &w->pre, piece, take_word, w);
    TERN_TRY(tern_normalizer_run(w->ctx, &w->t->normalizer, &w->normalizer, piece, &piece));
    return find_added(w, true, piece);
}

/* True if text[begin..end) stands between characters that are no part of a word. */
static bool stands_alone(const char *text, size_t size, size_t begin, size_t end)
{
    return (begin == 0 || !tern_char_is_word(tern_utf8_previous(text, &begin))) &&
           (end == size || !tern_char_is_word(tern_utf8_next(text, &end)));
}

/* Where the white space before `at` begins, not before `least`. */
static size_t space_before(const char *text, size_t at, size_t least, uint64_t *steps)
{
    while (at > least) {
        size_t begin = at;

        ++*steps;
        if (!tern_char_is_space(tern_utf8_previous(text, &begin)))
            break;
        at = begin;
    }
    return at;
}

static size_t space_behind(const char *text, size_t size, size_t at, uint64_t *steps)
{
    while (at < size) {
        size_t end = at;

        ++*steps;
        if (!tern_char_is_space(tern_utf8_next(text, &end)))
            break;
        at = end;
    }
    return at;
}

/* A part of a piece.  Without places its beginning is known where nothing has changed the text. */
static struct tern_piece cut(const struct work *w, struct tern_piece piece, size_t begin, size_t end)
{
    struct tern_piece part = tern_piece_cut(piece, begin, end);

    if (!piece.places && w->t->normalizer.n_steps == 0)
        part.original = piece.original + begin;
    return part;
}

/* Finds the added tokens of a pass in a piece and hands on what is between them.  As in the library, white space that
 * rstrip took can still hold a later match; one that is left with nothing is no token. */
static tern_status find_added(struct work *w, bool normalized, struct tern_piece piece)
{
    const struct tern_added_tokens *added = &w->t->added;
    const struct tern_added_pass *pass = normalized ? &added->normalized : &added->raw;
    const struct tern_added_token *token;
    const char *text = piece.text;
    const size_t size = piece.size;
    size_t done = 0, begin, end, blank_begin = 0, blank_end = 0;

    for (size_t from = 0; (token = tern_added_tokens_find(added, pass, text, size, from, &begin, &end, &w->steps));
         from = end) {
        size_t stop = end;

        if (token->single_word && !stands_alone(text, size, begin, end))
            continue;
        if (token->lstrip)
            begin = begin > done ? space_before(text, begin, done, &w->steps) : done;
        if (token->rstrip) {
            /* [blank_begin, blank_end) is known to be blank: a run of tokens in it looks behind it once */
            if (end < blank_begin || end > blank_end) {
                blank_begin = end;
                blank_end = space_behind(text, size, end, &w->steps);
            }
            stop = blank_end;
        }
        if (begin >= stop)
            continue;
        if (done < begin)
            TERN_TRY(take_stretch(w, normalized, cut(w, piece, done, begin)));
        TERN_TRY(tern_token_list_push(w->ctx, &w->list, token->id, 0, 0));
        if (w->wants_offsets)
            TERN_TRY(note_added(w, tern_piece_cut(piece, begin, stop)));
        done = stop;
    }
    return done < size ? take_stretch(w, normalized, cut(w, piece, done, size)) : TERN_OK;
}

static tern_status check_text(tern_ctx *ctx, const char *text, size_t size)
{
    size_t bad;

    TERN_REQUIRE(ctx, text || size == 0, TERN_ERR_ARG, "tokenizer_encode: text is NULL");
    TERN_REQUIRE(ctx, tern_utf8_check(text, size, &bad), TERN_ERR_FORMAT,
                 "the text is not UTF-8: byte 0x%02X at offset %zu of %zu", (unsigned char)text[bad], bad, size);
    return TERN_OK;
}

/* The tokens of one text, without those of the post-processor.  w has ctx, t and wants_offsets; it is destroyed by the
 * caller, on error, too. */
static tern_status encode_text(struct work *w, const char *text, size_t size)
{
    struct tern_piece piece = { text, size, NULL, 0, size };

    TERN_TRY(check_text(w->ctx, text, size));
    w->text = text;
    w->size = size;
    if (w->wants_offsets || w->t->needs_places) {
        TERN_REQUIRE(w->ctx, size < UINT32_MAX, TERN_ERR_CAPACITY, "%zu bytes of text with offsets, at most %" PRIu32,
                     size, UINT32_MAX - 1);
        TERN_TRY(TERN_ALLOC(w->ctx, size, "places of text", &w->places));
        tern_places_of(text, size, w->places);
        piece.places = w->places;
    }
    if (w->wants_offsets) {
        w->list.wants_spans = true;
        TERN_TRY(count_characters(w));
    }
    TERN_TRY(tern_token_model_begin(w->ctx, &w->t->model, &w->model, size));
    TERN_TRY(tern_token_list_reserve(w->ctx, &w->list, size / 4 + 16));
    TERN_TRY(find_added(w, false, piece));
    w->steps += tern_token_model_steps(&w->t->model, &w->model) + w->normalizer.steps + w->pre.n_bytes;
    release_scratch(w); /* what is made of the tokens may need as much */
    return TERN_OK;
}

/* ---- ids alone --------------------------------------------------------------------------------------------------- */

/* What the post-processor makes of one text's ids. */
static tern_status post_process(struct work *w, bool add_special)
{
    const struct tern_post_list *plan = &w->t->post.plan[0][add_special];
    tern_ids out = { 0 };
    size_t n = 0;

    TERN_TRY(tern_post_check(w->ctx, plan));
    if (plan->count == 1 && plan->items[0].id == TERN_POST_FIRST)
        return TERN_OK;
    for (size_t i = 0; i < plan->count; i++)
        TERN_REQUIRE(w->ctx, tern_size_add(n, plan->items[i].id < 0 ? w->list.ids.count : 1, &n), TERN_ERR_MEMORY,
                     "out of memory: %zu token ids", n);
    TERN_TRY(TERN_GROW(w->ctx, &out.data, &out.capacity, n, "token ids"));
    for (size_t i = 0; i < plan->count; i++) {
        if (plan->items[i].id >= 0) {
            out.data[out.count++] = plan->items[i].id;
        } else if (w->list.ids.count > 0) {
            memcpy(out.data + out.count, w->list.ids.data, w->list.ids.count * sizeof *out.data);
            out.count += w->list.ids.count;
        }
    }
    w->steps += out.count;
    tern_ids_free(&w->list.ids);
    w->list.ids = out;
    return TERN_OK;
}

tern_status tern_tokenizer_encode_counted(tern_ctx *ctx, const tern_tokenizer *tokenizer, const char *text, size_t size,
                                          bool add_special, tern_ids *ids, uint64_t *steps)
{
    struct work w = { .ctx = ctx, .t = tokenizer };
    tern_status status;

    TERN_REQUIRE(ctx, tokenizer && ids && (text || size == 0), TERN_ERR_ARG,
                 "tokenizer_encode: tokenizer, text or ids is NULL");
    TERN_TRY_OR_FAIL(encode_text(&w, text, size));
    TERN_TRY_OR_FAIL(post_process(&w, add_special));
    tern_ids_free(ids);
    *ids = w.list.ids;
    w.list.ids = (tern_ids){ 0 };
    status = TERN_OK;

fail:
    *steps = w.steps;
    destroy_work(&w);
    return status;
}

tern_status tern_tokenizer_encode(tern_ctx *ctx, const tern_tokenizer *tokenizer, const char *text, size_t size,
                                  bool add_special, tern_ids *ids)
{
    uint64_t steps;

    return tern_tokenizer_encode_counted(ctx, tokenizer, text, size, add_special, ids, &steps);
}

/* ---- everything -------------------------------------------------------------------------------------------------- */

void tern_encoding_free(tern_encoding *encoding)
{
    if (!encoding)
        return;
    tern_free(encoding->ids);
    tern_free(encoding->type_ids);
    tern_free(encoding->offsets);
    tern_free(encoding->attention);
    *encoding = (tern_encoding){ 0 };
}

static tern_status alloc_encoding(tern_ctx *ctx, size_t count, bool offsets, tern_encoding *out)
{
    tern_status status;

    *out = (tern_encoding){ .capacity = count };
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, count, "token ids", &out->ids));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, count, "type ids", &out->type_ids));
    if (offsets)
        TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, count, "offsets", &out->offsets));
    TERN_TRY_OR_FAIL(TERN_ALLOC(ctx, count, "an attention mask", &out->attention));
    return TERN_OK;

fail:
    tern_encoding_free(out);
    return status;
}

static void put_token(tern_encoding *out, int32_t id, uint32_t type, uint32_t begin, uint32_t end, bool attention)
{
    out->ids[out->count] = id;
    out->type_ids[out->count] = type;
    if (out->offsets)
        out->offsets[out->count] = (tern_token_range){ begin, end };
    out->attention[out->count++] = attention;
}

/* Tokens [begin, end) of a text, as an item of the plan wants them. */
static void put_text(tern_encoding *out, const struct work *w, const struct tern_post_item *item, size_t begin,
                     size_t end)
{
    for (size_t i = begin; i < end; i++) {
        struct token_place place = { 0, 0, { 0, 0 } };

        if (out->offsets) {
            place.begin = w->list.spans[i].begin;
            place.end = w->list.spans[i].end;
        }
        if (out->offsets && w->t->blanks)
            place.blanks = w->blanks[i];
        for (int k = 0; k < item->n_trims; k++)
            trim(&place, i == begin && item->trims[k].leads, item->trims[k].prefix_space);
        put_token(out, w->list.ids.data[i], item->type, place.begin, place.end, true);
    }
}

/* Puts the plan into effect on one text, or two. */
static tern_status assemble(tern_ctx *ctx, const struct work *works, bool pair, const tern_encode_options *options,
                            tern_encoding *out)
{
    const struct tern_post *post = &works[0].t->post;
    const struct tern_post_list *plan = &post->plan[pair][options->add_special];
    struct tern_limits limits = options->apply_limits ? post->limits : (struct tern_limits){ 0 };
    const size_t count[2] = { works[0].list.ids.count, works[1].list.ids.count };
    size_t begin[2], end[2], n = 0;

    TERN_TRY(tern_post_check(ctx, plan));
    if (options->max_length > 0) {
        limits.truncates = true;
        limits.from_left = post->limits.from_left;
        limits.strategy = TERN_LONGEST_FIRST;
        limits.max_length = options->max_length < SIZE_MAX ? (size_t)options->max_length : SIZE_MAX;
        limits.stride = 0;
    }
    TERN_TRY(tern_limits_apply(ctx, &limits, pair, options->add_special ? post->n_added[pair] : 0, count, begin, end));
    for (size_t i = 0; i < plan->count; i++) {
        const int32_t id = plan->items[i].id;
        const int text = id == TERN_POST_SECOND;

        TERN_REQUIRE(ctx, tern_size_add(n, id >= 0 ? 1 : end[text] - begin[text], &n), TERN_ERR_MEMORY,
                     "out of memory: %zu token ids", n);
    }
    TERN_TRY(alloc_encoding(ctx, n, !options->ids_only, out));
    out->n_left_out = count[0] + count[1] - (end[0] - begin[0]) - (end[1] - begin[1]);
    for (size_t i = 0; i < plan->count; i++) {
        const struct tern_post_item *item = &plan->items[i];
        const int text = item->id == TERN_POST_SECOND;

        if (item->id >= 0)
            put_token(out, item->id, item->type, 0, 0, true);
        else
            put_text(out, &works[text], item, begin[text], end[text]);
    }
    return TERN_OK;
}

tern_status tern_encoding_make(tern_ctx *ctx, const tern_tokenizer *tokenizer, const char *text, size_t size,
                               const tern_encode_options *options, tern_encoding *out)
{
    struct work works[2] = { { .ctx = ctx, .t = tokenizer }, { .ctx = ctx, .t = tokenizer } };
    tern_status status;

    *out = (tern_encoding){ 0 };
    for (int i = 0; i < 2; i++) {
        works[i].wants_offsets = !options->ids_only;
        works[i].goes_on = works[i].normalizer.goes_on = options->goes_on;
        works[i].user = works[i].normalizer.user = options->user;
    }
    TERN_TRY_OR_FAIL(encode_text(&works[0], text, size));
    if (options->pair)
        TERN_TRY_OR_FAIL(encode_text(&works[1], options->pair, options->pair_size));
    status = assemble(ctx, works, options->pair != NULL, options, out);

fail:
    destroy_work(&works[0]);
    destroy_work(&works[1]);
    return status;
}

tern_status tern_encoding_pad(tern_ctx *ctx, const struct tern_limits *limits, size_t longest, tern_encoding *encoding)
{
    const size_t n = encoding->count, padded = tern_limits_padded(limits, n, longest);
    tern_encoding out;

    if (padded == n)
        return TERN_OK;
    TERN_TRY(alloc_encoding(ctx, padded, encoding->offsets != NULL, &out));
    for (size_t i = 0; i < padded; i++) {
        const size_t from = limits->pad_left ? i - (padded - n) : i; /* wraps around before the first token */

        if (from >= n)
            put_token(&out, limits->pad_id, limits->pad_type, 0, 0, false);
        else
            put_token(&out, encoding->ids[from], encoding->type_ids[from],
                      encoding->offsets ? encoding->offsets[from].begin : 0,
                      encoding->offsets ? encoding->offsets[from].end : 0, encoding->attention[from]);
    }
    tern_encoding_free(encoding);
    *encoding = out;
    return TERN_OK;
}

tern_status tern_tokenizer_encode_with(tern_ctx *ctx, const tern_tokenizer *tokenizer, const char *text, size_t size,
                                       const tern_encode_options *options, tern_encoding *encoding)
{
    const tern_encode_options standard = { 0 };
    tern_encoding out = { 0 };
    tern_status status;

    TERN_REQUIRE(ctx, tokenizer && encoding && (text || size == 0), TERN_ERR_ARG,
                 "tokenizer_encode_with: tokenizer, text or encoding is NULL");
    options = options ? options : &standard;
    TERN_TRY(TERN_CHECK_RESERVED(ctx, "tern_encode_options", options));
    TERN_TRY(tern_encoding_make(ctx, tokenizer, text, size, options, &out));
    if (options->apply_limits)
        TERN_TRY_OR_FAIL(tern_encoding_pad(ctx, &tokenizer->post.limits, out.count, &out));
    tern_encoding_free(encoding);
    *encoding = out;
    return TERN_OK;

fail:
    tern_encoding_free(&out);
    return status;
}
