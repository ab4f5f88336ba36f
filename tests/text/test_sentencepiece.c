/* test_sentencepiece.c: .model files: texts to pieces, places and back, as the sentencepiece library has them. */
#include "testing.h"

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "text/protobuf.h"
#include "text/sentencepiece_decode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN TERN_SOURCE_DIR "/tests/golden/sentencepiece/"

static void open_model(tern_ctx *ctx, const char *name, struct tern_sentencepiece *model)
{
    char path[512], *data;
    size_t size;

    snprintf(path, sizeof path, "%s%s.model", GOLDEN, name);
    assert_ok(ctx, tern_file_read(ctx, path, 1 << 24, &data, &size));
    *model = (struct tern_sentencepiece){ 0 };
    assert_ok(ctx, tern_sentencepiece_read(ctx, model, data, size, path));
    tern_free(data);
}

/* `expected` is a list of [id, begin, end]. */
static bool same_tokens(const struct tern_token_list *list, const tern_json_value *expected)
{
    bool same = list->ids.count == tern_json_size(expected);

    for (size_t i = 0; i < list->ids.count && same; i++) {
        const tern_json_value *token = tern_json_at(expected, i);

        same = list->ids.data[i] == tern_json_int(tern_json_at(token, 0));
        if (list->wants_spans)
            same = same && list->spans[i].begin == tern_json_int(tern_json_at(token, 1)) &&
                   list->spans[i].end == tern_json_int(tern_json_at(token, 2));
    }
    return same;
}

static bool same_text(const struct tern_sentencepiece *model, const tern_json_value *ids, bool pairs,
                      const tern_json_value *expected)
{
    const size_t room = tern_sentencepiece_decode_room(model);
    char *out = malloc(room * (tern_json_size(ids) + 1));
    struct tern_piece_decoding state = { 0 };
    size_t n = 0, size;
    const char *text = tern_json_string(expected, &size);

    assert_non_null(out);
    for (size_t i = 0; i < tern_json_size(ids); i++) {
        const tern_json_value *id = tern_json_at(ids, i);

        n += tern_sentencepiece_decode_next(model, &state, (int32_t)tern_json_int(pairs ? tern_json_at(id, 0) : id),
                                            out + n);
        assert_int_equal(tern_utf8_uncut(out, n), n); /* whole characters only */
    }
    n += tern_sentencepiece_decode_end(&state, out + n);
    const bool same = n == size && memcmp(out, text, n) == 0;
    if (!same)
        print_message("decoded '%.*s', expected '%.*s'\n", (int)n, out, (int)size, text);
    free(out);
    return same;
}

static size_t check_model(tern_ctx *ctx, const char *name, const tern_json_value *golden, size_t *texts)
{
    const tern_json_value *cases = tern_json_get(golden, "cases"), *loose = tern_json_get(golden, "decode");
    struct tern_sentencepiece_scratch scratch = { 0 };
    struct tern_sentencepiece model;
    size_t wrong = 0;

    open_model(ctx, name, &model);
    for (size_t i = 0; i < tern_json_size(cases); i++) {
        const tern_json_value *one = tern_json_at(cases, i), *expected = tern_json_at(one, 1);
        size_t size;
        const char *text = tern_json_string(tern_json_at(one, 0), &size);

        for (int spans = 0; spans < 2; spans++) {
            struct tern_token_list list = { .wants_spans = spans };

            assert_ok(ctx, tern_sentencepiece_encode(ctx, &model, &scratch, text, size, &list));
            if (!same_tokens(&list, expected)) {
                wrong++;
                print_message("%s: '%.*s': %zu tokens, expected %zu:", name, (int)size, text, list.ids.count,
                              tern_json_size(expected));
                for (size_t k = 0; k < list.ids.count && k < 12; k++)
                    print_message(" %d", list.ids.data[k]);
                print_message("\n");
            }
            tern_token_list_destroy(&list);
        }
        if (!same_text(&model, expected, true, tern_json_at(one, 2))) {
            wrong++;
            print_message("%s: '%.*s' decoded\n", name, (int)size, text);
        }
        ++*texts;
    }
    for (size_t i = 0; i < tern_json_size(loose); i++)
        if (!same_text(&model, tern_json_at(tern_json_at(loose, i), 0), false,
                       tern_json_at(tern_json_at(loose, i), 1))) {
            wrong++;
            print_message("%s: ids %zu\n", name, i);
        }
    tern_sentencepiece_scratch_destroy(&scratch);
    tern_sentencepiece_destroy(&model);
    return wrong;
}

static void texts_are_the_librarys(void **state)
{
    tern_ctx ctx = { 0 };
    struct tern_json *json;
    size_t wrong = 0, texts = 0;

    (void)state;
    assert_ok(&ctx, tern_json_read(&ctx, GOLDEN "texts.json", 1 << 24, &json));
    const tern_json_value *models = tern_json_get(tern_json_root(json), "models");
    assert_true(tern_json_size(models) >= 24);
    for (void *it = tern_json_iter(models); it; it = tern_json_next(models, it)) {
        size_t length;
        const char *name = tern_json_iter_key(it, &length);

        wrong += check_model(&ctx, name, tern_json_iter_value(it), &texts);
    }
    tern_json_destroy(json);
    print_message("%zu texts, %zu wrong\n", texts, wrong);
    assert_int_equal(wrong, 0);
}

/* ---- costs ------------------------------------------------------------------------------------------------------- */

static uint64_t steps_of(tern_ctx *ctx, const struct tern_sentencepiece *model, const char *unit, size_t n)
{
    struct tern_sentencepiece_scratch scratch = { 0 };
    struct tern_token_list list = { 0 };
    const size_t size = strlen(unit);
    char *text = malloc(n * size);

    assert_non_null(text);
    for (size_t i = 0; i < n; i++)
        memcpy(text + i * size, unit, size);
    assert_ok(ctx, tern_sentencepiece_encode(ctx, model, &scratch, text, n * size, &list));
    const uint64_t steps = scratch.steps;
    tern_token_list_destroy(&list);
    tern_sentencepiece_scratch_destroy(&scratch);
    free(text);
    return steps;
}

static void long_texts_cost_little_more(void **state)
{
    static const char *const names[] = { "bpe", "bpe-ties", "bpe-types", "bpe-bytes", "unigram", "unigram-far" };
    static const char *const units[] = { "a", "ab", "abc ", "the ", "\xE6\x97\xA5" };
    tern_ctx ctx = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct tern_sentencepiece model;

        open_model(&ctx, names[i], &model);
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            const uint64_t few = steps_of(&ctx, &model, units[u], 4096);
            const uint64_t many = steps_of(&ctx, &model, units[u], 16 * 4096);

            if (many > 32 * few)
                fail_msg("%s, '%s': %llu steps for 4096, %llu for 16 times as many", names[i], units[u],
                         (unsigned long long)few, (unsigned long long)many);
        }
        tern_sentencepiece_destroy(&model);
    }
}

/* ---- bad files --------------------------------------------------------------------------------------------------- */

struct bytes {
    char data[4096];
    size_t size;
};

static void put_varint(struct bytes *b, uint64_t n)
{
    for (; n > 0x7F; n >>= 7)
        b->data[b->size++] = (char)((n & 0x7F) | 0x80);
    b->data[b->size++] = (char)n;
}

static void put_number(struct bytes *b, unsigned number, uint64_t value)
{
    put_varint(b, number << 3);
    put_varint(b, value);
}

static void put_bytes(struct bytes *b, unsigned number, const char *data, size_t size)
{
    put_varint(b, number << 3 | 2);
    put_varint(b, size);
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void put_piece(struct bytes *b, const char *text, size_t size, float score, unsigned type)
{
    struct bytes piece = { 0 };
    uint32_t bits;

    memcpy(&bits, &score, sizeof bits);
    put_bytes(&piece, 1, text, size);
    put_varint(&piece, 2 << 3 | 5);
    for (int i = 0; i < 4; i++)
        piece.data[piece.size++] = (char)(bits >> 8 * i);
    put_number(&piece, 3, type);
    put_bytes(b, 1, piece.data, piece.size);
}

/* A file of <unk> and "a". */
static struct bytes good(unsigned model_type)
{
    struct bytes b = { 0 }, trainer = { 0 };

    put_piece(&b, "<unk>", 5, 0, TERN_PIECE_UNKNOWN);
    put_piece(&b, "a", 1, -1, TERN_PIECE_NORMAL);
    put_number(&trainer, 3, model_type);
    put_bytes(&b, 2, trainer.data, trainer.size);
    return b;
}

static void refuse(struct bytes b, tern_status expected, const char *one, const char *other)
{
    struct tern_sentencepiece model = { 0 };
    tern_ctx ctx = { 0 };
    const tern_status status = tern_sentencepiece_read(&ctx, &model, b.data, b.size, "bad.model");

    if (status != expected || !strstr(tern_error(&ctx), "bad.model") || !strstr(tern_error(&ctx), one) ||
        !strstr(tern_error(&ctx), other))
        fail_msg("status %d, '%s', expected %d with '%s' and '%s'", (int)status, tern_error(&ctx), (int)expected, one,
                 other);
    tern_sentencepiece_destroy(&model);
}

static void refuses_what_the_library_refuses(void **state)
{
    static const char nul[] = "a\0b";
    struct bytes b, part = { 0 };

    (void)state;
    for (unsigned type = 1; type <= 2; type++) {
        refuse((struct bytes){ 0 }, TERN_ERR_FORMAT, "none of 0 pieces", "unknown");
        b = good(type);
        put_piece(&b, "", 0, 0, TERN_PIECE_NORMAL);
        refuse(b, TERN_ERR_FORMAT, "piece 2", "empty");
        b = good(type);
        put_piece(&b, nul, 3, 0, TERN_PIECE_NORMAL);
        refuse(b, TERN_ERR_FORMAT, "piece 2", "NUL");
        b = good(type);
        put_piece(&b, "\xFF", 1, 0, TERN_PIECE_NORMAL);
        refuse(b, TERN_ERR_FORMAT, "piece 2", "0xFF");
        b = good(type);
        put_piece(&b, "a", 1, 0, TERN_PIECE_NORMAL);
        refuse(b, TERN_ERR_FORMAT, "1 and 2", "are both 'a'");
        b = good(type);
        put_piece(&b, "u", 1, 0, TERN_PIECE_UNKNOWN);
        refuse(b, TERN_ERR_FORMAT, "pieces 0 and 2", "unknown");
        b = good(type);
        put_piece(&b, "<0x41>", 6, 0, TERN_PIECE_BYTE);
        refuse(b, TERN_ERR_FORMAT, "piece 2 '<0x41>'", "byte_fallback is false");
        b = good(type);
        put_piece(&b, "b", 1, 0, 7);
        refuse(b, TERN_ERR_UNSUPPORTED, "type 7", "1 to 6");
    }
    refuse(good(3), TERN_ERR_UNSUPPORTED, "model_type 3 (WORD)", "UNIGRAM");
    refuse(good(4), TERN_ERR_UNSUPPORTED, "model_type 4 (CHAR)", "BPE");
    refuse(good(9), TERN_ERR_UNSUPPORTED, "model_type 9", "BPE");

    put_number(&part, 35, 1);
    b = good(1);
    put_bytes(&b, 2, part.data, part.size);
    refuse(b, TERN_ERR_FORMAT, "byte_fallback is true", "<0x00>");
    put_piece(&b, "<0x4g>", 6, 0, TERN_PIECE_BYTE);
    refuse(b, TERN_ERR_FORMAT, "'<0x4g>'", "<0x00> to <0xFF>");
    b = (struct bytes){ 0 };
    put_piece(&b, "<unk>", 5, 0, TERN_PIECE_UNKNOWN);
    refuse(b, TERN_ERR_FORMAT, "none of 1 pieces", "part of a text");
    b = good(1);
    part.size = 0;
    put_bytes(&part, 2, "1234567", 7);
    put_bytes(&b, 3, part.data, part.size);
    refuse(b, TERN_ERR_FORMAT, "bad.model", "");
    b = good(1);
    put_bytes(&b, 5, part.data, part.size);
    refuse(b, TERN_ERR_UNSUPPORTED, "denormalizer_spec", "7 bytes");
    b = good(1);
    part.size = 0;
    put_bytes(&part, 44, "\xFF", 1);
    put_bytes(&b, 2, part.data, part.size);
    refuse(b, TERN_ERR_FORMAT, "unk_surface", "0xFF");
}

/* A file that ends too early is told as such, wherever it ends. */
static void refuses_damaged_messages(void **state)
{
    struct bytes b = good(1);

    (void)state;
    b.data[b.size++] = 0x0F; /* field 1, wire type 7 */
    refuse(b, TERN_ERR_FORMAT, "wire type 7", "0, 1, 2 or 5");
    b = good(1);
    b.data[b.size++] = 0x02; /* field 0 */
    refuse(b, TERN_ERR_FORMAT, "number 0", "1 to");
    b = good(1);
    b.data[b.size++] = 0x08; /* field 1 as a number */
    b.data[b.size++] = 1;
    refuse(b, TERN_ERR_FORMAT, "wire type 0", "expected 2");
    b = good(1);
    put_varint(&b, 1 << 3 | 2);
    put_varint(&b, 1000);
    refuse(b, TERN_ERR_FORMAT, "1000 bytes", "ends at");
    b = good(1);
    put_varint(&b, 9 << 3);
    for (int i = 0; i < 11; i++)
        b.data[b.size++] = (char)0xFF;
    refuse(b, TERN_ERR_FORMAT, "64 bits", "");
    b = good(1);
    put_varint(&b, 9 << 3 | 1);
    b.data[b.size++] = 0;
    refuse(b, TERN_ERR_FORMAT, "8 bytes", "ends at");
    b = good(1);
    put_varint(&b, 9 << 3);
    b.data[b.size++] = (char)0xFF;
    refuse(b, TERN_ERR_FORMAT, "goes on behind", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_the_librarys),
        cmocka_unit_test(long_texts_cost_little_more),
        cmocka_unit_test(refuses_what_the_library_refuses),
        cmocka_unit_test(refuses_damaged_messages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
