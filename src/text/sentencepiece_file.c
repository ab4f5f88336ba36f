/* sentencepiece_file.c: from a .model file (sentencepiece_model.proto: ModelProto) to a model.
 *
 * Two passes: the first counts pieces and their bytes, the second takes them.  Fields that the library does not look at
 * when it cuts text (how the model was trained, its self-test) are passed over; what the library refuses is refused. */
#include "base/memory.h"
#include "base/utf8.h"
#include "text/protobuf.h"
#include "text/sentencepiece.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PIECES_MAX     ((size_t)1 << 22)
#define PIECE_SIZE_MAX 8000 /* the library's */
#define UNK_PENALTY    10.0F

/* A string of the file. */
struct text {
    const char *data;
    size_t size;
    bool given;
};

struct reader {
    tern_ctx *ctx;
    struct tern_sentencepiece *model;
    const char *where;
    size_t n_pieces, bytes; /* so far */
    uint64_t model_type;
    struct text unk_surface, bos_piece, eos_piece, charsmap;
};

struct piece {
    struct text text;
    float score;
    uint64_t type;
};

/* A field that is wanted of a message, and where it goes. */
struct slot {
    uint32_t number;
    const char *name;
    struct text *text; /* one of these */
    bool *flag;
    uint64_t *value;
    float *score;
};

static tern_status take_field(struct reader *r, const struct tern_message *m, const struct tern_field *field,
                              const struct slot *slot)
{
    const enum tern_wire_type type = slot->text ? TERN_WIRE_BYTES : slot->score ? TERN_WIRE_FIXED32 : TERN_WIRE_VARINT;
    const uint32_t bits = (uint32_t)field->value;

    TERN_TRY(tern_field_check(r->ctx, m, field, type, slot->name));
    if (slot->text)
        *slot->text = (struct text){ field->bytes, field->size, true };
    else if (slot->flag)
        *slot->flag = field->value != 0;
    else if (slot->value)
        *slot->value = field->value;
    else
        memcpy(slot->score, &bits, sizeof bits);
    return TERN_OK;
}

/* Fields that no slot is for are passed over; of one that comes twice the last counts. */
static tern_status read_fields(struct reader *r, struct tern_message m, const struct slot *slots, size_t n)
{
    struct tern_field field;
    bool more;

    for (;;) {
        TERN_TRY(tern_message_next(r->ctx, &m, &field, &more));
        if (!more)
            return TERN_OK;
        for (size_t i = 0; i < n; i++)
            if (slots[i].number == field.number)
                TERN_TRY(take_field(r, &m, &field, &slots[i]));
    }
}
#define READ_FIELDS(r, m, slots) read_fields((r), (m), (slots), sizeof(slots) / sizeof *(slots))

static tern_status read_piece(struct reader *r, struct tern_message m, struct piece *out)
{
    const struct slot slots[] = {
        { 1, "piece", .text = &out->text },
        { 2, "score", .score = &out->score },
        { 3, "type", .value = &out->type },
    };

    *out = (struct piece){ .type = TERN_PIECE_NORMAL };
    return READ_FIELDS(r, m, slots);
}

static tern_status read_trainer(struct reader *r, struct tern_message m)
{
    struct tern_sentencepiece *model = r->model;
    const struct slot slots[] = {
        { 3, "model_type", .value = &r->model_type },
        { 24, "treat_whitespace_as_suffix", .flag = &model->treat_whitespace_as_suffix },
        { 35, "byte_fallback", .flag = &model->byte_fallback },
        { 44, "unk_surface", .text = &r->unk_surface },
        { 46, "bos_piece", .text = &r->bos_piece },
        { 47, "eos_piece", .text = &r->eos_piece },
    };

    return READ_FIELDS(r, m, slots);
}

static tern_status read_normalizer(struct reader *r, struct tern_message m)
{
    struct tern_sentencepiece *model = r->model;
    const struct slot slots[] = {
        { 2, "precompiled_charsmap", .text = &r->charsmap },
        { 3, "add_dummy_prefix", .flag = &model->add_dummy_prefix },
        { 4, "remove_extra_whitespaces", .flag = &model->remove_extra_whitespaces },
        { 5, "escape_whitespaces", .flag = &model->escape_whitespaces },
    };

    return READ_FIELDS(r, m, slots);
}

/* What a denormaliser would do to decoded text is not there yet. */
static tern_status check_denormalizer(struct reader *r, struct tern_message m)
{
    struct text charsmap = { 0 };
    const struct slot slots[] = { { 2, "precompiled_charsmap", .text = &charsmap } };

    TERN_TRY(READ_FIELDS(r, m, slots));
    TERN_REQUIRE(r->ctx, charsmap.size == 0, TERN_ERR_UNSUPPORTED,
                 "%s: denormalizer_spec has a precompiled_charsmap of %zu bytes, which is not supported; expected "
                 "none",
                 r->where, charsmap.size);
    return TERN_OK;
}

/* ---- pieces ------------------------------------------------------------------------------------------------------ */

/* Of "<0x41>": 0x41; -1 for another text. */
static int byte_of(const char *text, size_t size)
{
    static const char digits[] = "0123456789ABCDEF";
    const char *high, *low;

    if (size != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    high = memchr(digits, text[3], 16);
    low = memchr(digits, text[4], 16);
    return high && low ? (int)((high - digits) * 16 + (low - digits)) : -1;
}

static tern_status check_piece(struct reader *r, const struct piece *piece)
{
    const size_t id = r->n_pieces;
    const struct text text = piece->text;
    size_t bad;

    TERN_REQUIRE(r->ctx, id < PIECES_MAX, TERN_ERR_FORMAT, "%s: more than %zu pieces", r->where, PIECES_MAX);
    TERN_REQUIRE(r->ctx, text.size > 0, TERN_ERR_FORMAT, "%s: piece %zu is empty", r->where, id);
    TERN_REQUIRE(r->ctx, text.size < PIECE_SIZE_MAX, TERN_ERR_FORMAT,
                 "%s: piece %zu has %zu bytes, expected less than %d", r->where, id, text.size, PIECE_SIZE_MAX);
    TERN_REQUIRE(r->ctx, tern_utf8_check(text.data, text.size, &bad), TERN_ERR_FORMAT,
                 "%s: piece %zu is not UTF-8: byte 0x%02X at offset %zu of %zu", r->where, id,
                 (unsigned char)text.data[bad], bad, text.size);
    TERN_REQUIRE(r->ctx, piece->type >= TERN_PIECE_NORMAL && piece->type <= TERN_PIECE_BYTE, TERN_ERR_UNSUPPORTED,
                 "%s: piece %zu '%.*s' has type %" PRIu64 ", expected 1 to 6", r->where, id, (int)text.size, text.data,
                 piece->type);
    TERN_REQUIRE(r->ctx, isfinite(piece->score), TERN_ERR_FORMAT,
                 "%s: the score of piece %zu '%.*s' is %g, expected a number", r->where, id, (int)text.size, text.data,
                 (double)piece->score);
    return TERN_OK;
}

/* A table of the pieces before their rules are known: types and texts. */
static void keep_piece(struct reader *r, const struct piece *piece)
{
    struct tern_sentencepiece *model = r->model;

    memcpy(model->text + r->bytes, piece->text.data, piece->text.size);
    model->pieces[r->n_pieces] = (struct tern_spm_piece){ (uint32_t)r->bytes, (uint32_t)piece->text.size, piece->score,
                                                          (enum tern_piece_type)piece->type };
}

static tern_status read_model(struct reader *r, struct tern_message m, bool keep)
{
    struct tern_field field;
    struct piece piece;
    bool more;

    r->n_pieces = r->bytes = 0;
    for (;;) {
        TERN_TRY(tern_message_next(r->ctx, &m, &field, &more));
        if (!more)
            return TERN_OK;
        if (field.number >= 1 && field.number <= 5)
            TERN_TRY(tern_field_check(r->ctx, &m, &field, TERN_WIRE_BYTES, "a part of the model"));
        const struct tern_message part = tern_field_message(&m, &field);
        if (field.number == 1) {
            TERN_TRY(read_piece(r, part, &piece));
            TERN_TRY(check_piece(r, &piece));
            if (keep)
                keep_piece(r, &piece);
            r->bytes += piece.text.size;
            r->n_pieces++;
        } else if (field.number == 2 && !keep) {
            TERN_TRY(read_trainer(r, part));
        } else if (field.number == 3 && !keep) {
            TERN_TRY(read_normalizer(r, part));
        } else if (field.number == 5 && !keep) {
            TERN_TRY(check_denormalizer(r, part));
        }
    }
}

/* ---- what the pieces come to ------------------------------------------------------------------------------------- */

static bool is_reserved(enum tern_piece_type type)
{
    return type == TERN_PIECE_UNKNOWN || type == TERN_PIECE_CONTROL || type == TERN_PIECE_BYTE;
}

/* A NUL that a conversion left behind stands for nothing. */
static bool is_nothing(const struct reader *r, const struct tern_spm_piece *piece)
{
    return piece->size == 1 && r->model->text[piece->begin] == 0 &&
           (r->model->byte_fallback || piece->type == TERN_PIECE_UNUSED);
}

static tern_status bind_piece(struct reader *r, int32_t id)
{
    struct tern_sentencepiece *model = r->model;
    struct tern_spm_piece *piece = &model->pieces[id];
    const char *text = model->text + piece->begin;

    if (is_nothing(r, piece)) {
        piece->type = TERN_PIECE_UNUSED;
        model->has_unused = true;
        return TERN_OK;
    }
    TERN_REQUIRE(r->ctx, !memchr(text, 0, piece->size), TERN_ERR_FORMAT, "%s: piece %d has a NUL inside", r->where, id);
    model->longest = piece->size > model->longest ? piece->size : model->longest;
    model->has_user = model->has_user || piece->type == TERN_PIECE_USER;
    model->has_unused = model->has_unused || piece->type == TERN_PIECE_UNUSED;
    if (piece->type == TERN_PIECE_UNKNOWN) {
        TERN_REQUIRE(r->ctx, model->unk_id < 0, TERN_ERR_FORMAT, "%s: pieces %d and %d are both the unknown one",
                     r->where, model->unk_id, id);
        model->unk_id = id;
    }
    if (piece->type == TERN_PIECE_BYTE) {
        const int byte = byte_of(text, piece->size);

        TERN_REQUIRE(r->ctx, model->byte_fallback, TERN_ERR_FORMAT,
                     "%s: piece %d '%.*s' is a byte, but byte_fallback is false", r->where, id, (int)piece->size, text);
        TERN_REQUIRE(r->ctx, byte >= 0, TERN_ERR_FORMAT, "%s: piece %d '%.*s' is a byte, expected <0x00> to <0xFF>",
                     r->where, id, (int)piece->size, text);
        model->byte_ids[byte] = id;
    }
    if (piece->type == TERN_PIECE_NORMAL && piece->score < model->unk_score)
        model->unk_score = piece->score;
    return TERN_OK;
}

/* The id of a name among the pieces that are (or are not) reserved; those of a unigram may share their names with the
 * others. */
static tern_status name_pieces(struct reader *r)
{
    struct tern_sentencepiece *model = r->model;

    TERN_TRY(tern_names_create(r->ctx, model->n_pieces, r->bytes, "the pieces", &model->vocab));
    for (int reserved = 1; reserved >= 0; reserved--)
        for (size_t i = 0; i < model->n_pieces; i++) {
            const struct tern_spm_piece *piece = &model->pieces[i];
            const char *text = model->text + piece->begin;

            if (is_reserved(piece->type) != (reserved != 0))
                continue;
            const int32_t there = tern_names_find(&model->vocab, text, piece->size);
            TERN_REQUIRE(r->ctx,
                         there < 0 || is_nothing(r, piece) ||
                             (!model->is_bpe && is_reserved(model->pieces[there].type) != (reserved != 0)),
                         TERN_ERR_FORMAT, "%s: pieces %d and %zu are both '%.*s'", r->where, there, i, (int)piece->size,
                         text);
            tern_names_put_behind(&model->vocab, text, piece->size, (int32_t)i);
        }
    return TERN_OK;
}

static tern_status make_trie(struct reader *r, bool user, struct tern_trie *out)
{
    const struct tern_sentencepiece *model = r->model;
    struct tern_trie_key *keys;
    size_t n = 0;

    TERN_TRY(TERN_ALLOC(r->ctx, model->n_pieces, "the trie of pieces", &keys));
    for (size_t i = 0; i < model->n_pieces; i++) {
        const struct tern_spm_piece *piece = &model->pieces[i];

        if (user ? piece->type == TERN_PIECE_USER : !is_reserved(piece->type) && !is_nothing(r, piece))
            keys[n++] = (struct tern_trie_key){ model->text + piece->begin, piece->size, (int32_t)i };
    }
    const tern_status status = tern_trie_create(r->ctx, keys, n, r->where, out);
    tern_free(keys);
    return status;
}

/* A control piece by its name; -1 without. */
static int32_t control(const struct reader *r, struct text name, const char *standard)
{
    const struct tern_sentencepiece *model = r->model;
    const int32_t id = name.size > 0 ? tern_names_find(&model->vocab, name.data, name.size)
                                     : tern_names_find(&model->vocab, standard, strlen(standard));

    return id >= 0 && model->pieces[id].type == TERN_PIECE_CONTROL ? id : -1;
}

/* Whether U+2581 stands behind another character. */
static bool goes_on(const char *text, size_t size)
{
    bool other = false;

    for (size_t i = 0; i < size; i++) {
        if (size - i >= 3 && memcmp(text + i, "\xE2\x96\x81", 3) == 0) {
            if (other)
                return true;
            i += 2;
        } else {
            other = true;
        }
    }
    return false;
}

static bool find_words(const struct tern_sentencepiece *model)
{
    for (size_t i = 0; i < model->n_pieces; i++) {
        const struct tern_spm_piece *piece = &model->pieces[i];

        if (!is_reserved(piece->type) && goes_on(model->text + piece->begin, piece->size))
            return false;
    }
    return !model->has_unused;
}

static tern_status finish(struct reader *r)
{
    static const char unknown[] = " \xE2\x81\x87 ";
    struct tern_sentencepiece *model = r->model;
    const struct text surface = r->unk_surface;

    for (size_t i = 0; i < model->n_pieces; i++)
        TERN_TRY(bind_piece(r, (int32_t)i));
    model->unk_score -= UNK_PENALTY;
    TERN_REQUIRE(r->ctx, model->unk_id >= 0 || model->byte_fallback, TERN_ERR_FORMAT,
                 "%s: none of %zu pieces is the unknown one, and byte_fallback is false", r->where, model->n_pieces);
    for (int byte = 0; byte < 256 && model->byte_fallback; byte++)
        TERN_REQUIRE(r->ctx, model->byte_ids[byte] >= 0, TERN_ERR_FORMAT,
                     "%s: byte_fallback is true, but there is no piece for byte <0x%02X>", r->where, (unsigned)byte);
    TERN_TRY(name_pieces(r));
    if (!model->is_bpe) {
        TERN_TRY(make_trie(r, false, &model->trie));
        TERN_REQUIRE(r->ctx, model->trie.longest > 0, TERN_ERR_FORMAT, "%s: none of %zu pieces can be part of a text",
                     r->where, model->n_pieces);
    }
    model->has_words = find_words(model);
    if (model->has_user)
        TERN_TRY(make_trie(r, true, &model->user));
    model->bos_id = control(r, r->bos_piece, "<s>");
    model->eos_id = control(r, r->eos_piece, "</s>");
    model->unk_surface_size = surface.given ? surface.size : sizeof unknown - 1;
    TERN_TRY(tern_strndup(r->ctx, surface.given ? surface.data : unknown, model->unk_surface_size,
                          "the text of the unknown piece", &model->unk_surface));
    return r->charsmap.size > 0
               ? tern_charsmap_create(r->ctx, r->charsmap.data, r->charsmap.size, r->where, &model->charsmap)
               : TERN_OK;
}

tern_status tern_sentencepiece_read(tern_ctx *ctx, struct tern_sentencepiece *model, const char *data, size_t size,
                                    const char *where)
{
    const struct tern_message file = { data, size, 0, 0, where };
    struct reader r = { .ctx = ctx, .model = model, .where = where, .model_type = 1 };
    size_t bad;

    model->add_dummy_prefix = model->remove_extra_whitespaces = model->escape_whitespaces = true;
    model->unk_id = -1;
    model->unk_score = FLT_MAX;
    for (int byte = 0; byte < 256; byte++)
        model->byte_ids[byte] = -1;
    TERN_TRY(read_model(&r, file, false));
    TERN_REQUIRE(ctx, r.model_type == 1 || r.model_type == 2, TERN_ERR_UNSUPPORTED,
                 "%s: model_type %" PRIu64 "%s is not supported, expected UNIGRAM (1) or BPE (2)", where, r.model_type,
                 r.model_type == 3   ? " (WORD)"
                 : r.model_type == 4 ? " (CHAR)"
                                     : "");
    TERN_REQUIRE(ctx, tern_utf8_check(r.unk_surface.data, r.unk_surface.size, &bad), TERN_ERR_FORMAT,
                 "%s: unk_surface is not UTF-8: byte 0x%02X at offset %zu of %zu", where,
                 (unsigned char)r.unk_surface.data[bad], bad, r.unk_surface.size);
    model->is_bpe = r.model_type == 2;
    model->n_pieces = r.n_pieces;
    TERN_TRY(TERN_ALLOC(ctx, r.n_pieces, "the pieces", &model->pieces));
    TERN_TRY(TERN_ALLOC(ctx, r.bytes, "the texts of pieces", &model->text));
    TERN_TRY(read_model(&r, file, true));
    return finish(&r);
}
