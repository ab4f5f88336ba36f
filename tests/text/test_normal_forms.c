/* test_normal_forms.c: Unicode's own NormalizationTest.txt (8.0) through the four normalizers. */
#include "testing.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "text/normalizer.h"

#include <stdlib.h>
#include <string.h>

#define COLUMN_MAX 128 /* bytes of a column's text */

/* "0044 0307;": a column's text as UTF-8; what is behind it. */
static const char *read_column(const char *line, char text[COLUMN_MAX], size_t *size)
{
    *size = 0;
    while (*line != ';') {
        char *end;
        const unsigned long code = strtoul(line, &end, 16);

        assert_true(end > line && *size + 4 <= COLUMN_MAX);
        *size += tern_utf8_put((uint32_t)code, text + *size);
        line = end + (*end == ' ');
    }
    return line + 1;
}

struct columns {
    char text[5][COLUMN_MAX];
    size_t size[5];
};

static void check_form(const struct tern_normalizer *form, struct tern_normalizer_scratch *scratch,
                       const struct columns *c, int from, int to, bool places)
{
    struct tern_place of_bytes[COLUMN_MAX];
    struct tern_piece piece = { c->text[from], c->size[from], places ? of_bytes : NULL, 0, c->size[from] };
    tern_ctx ctx = { 0 };

    tern_places_of(piece.text, piece.size, of_bytes);
    assert_ok(&ctx, tern_normalizer_run(&ctx, form, scratch, piece, &piece));
    if (piece.size != c->size[to] || memcmp(piece.text, c->text[to], piece.size) != 0)
        fail_msg("column %d, '%.*s', becomes '%.*s', expected column %d, '%.*s'", from + 1, (int)c->size[from],
                 c->text[from], (int)piece.size, piece.text, to + 1, (int)c->size[to], c->text[to]);
}

/* The test's own rules: c2 = NFC(c1..c3), c4 = NFC(c4, c5); c3 = NFD(c1..c3), c5 = NFD(c4, c5); c4 = NFKC and c5 = NFKD of all. */
static void unicodes_own_test(void **state)
{
    static const struct {
        enum tern_normalizer_kind kind;
        int to[5];
    } forms[] = {
        { TERN_NORMALIZE_NFC, { 1, 1, 1, 3, 3 } },
        { TERN_NORMALIZE_NFD, { 2, 2, 2, 4, 4 } },
        { TERN_NORMALIZE_NFKC, { 3, 3, 3, 3, 3 } },
        { TERN_NORMALIZE_NFKD, { 4, 4, 4, 4, 4 } },
    };
    struct tern_normalizer normalizers[4] = { { 0 } };
    struct tern_normalizer_scratch scratch = { 0 };
    tern_ctx ctx = { 0 };
    size_t size, n = 0;
    char *file;

    (void)state;
    TEST_NEED_DATA(path, "unicode/NormalizationTest-8.0.0.txt");
    assert_ok(&ctx, tern_file_read(&ctx, path, 1 << 24, &file, &size));
    for (int f = 0; f < 4; f++)
        assert_ok(&ctx,
                  tern_normalizer_add(&ctx, &normalizers[f], (struct tern_normalizer_step){ .kind = forms[f].kind }));
    for (const char *line = file; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        struct columns c;

        if (!strchr("0123456789ABCDEF", *line))
            continue;
        const char *at = line;
        for (int i = 0; i < 5; i++)
            at = read_column(at, c.text[i], &c.size[i]);
        for (int f = 0; f < 4; f++)
            for (int from = 0; from < 5; from++)
                check_form(&normalizers[f], &scratch, &c, from, forms[f].to[from], n % 2 == 1);
        n++;
    }
    print_message("%zu lines\n", n);
    assert_true(n > 18000);
    for (int f = 0; f < 4; f++)
        tern_normalizer_destroy(&normalizers[f]);
    tern_normalizer_scratch_destroy(&scratch);
    tern_free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(unicodes_own_test) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
