/* normal_form.c: Unicode normal forms over a buffer of code points.
 *
 * Decomposition of characters and the composition of a pair are utf8proc's; the canonical order in between is ours, a
 * merge sort, since runs of combining marks may be as long as the text (UAX 15, section 1.1), and so is the walk that
 * composes, which has to say what became of each character.
 *
 * The library's tables of normal forms are those of Unicode 9.  Characters that got a decomposition or a combining
 * class later stay as they are, so that the same text has the same ids (found by asking the library about every code
 * point). */
#include "text/normalizer.h"

#include "base/memory.h"
#include "text/character_tables.h"

#include <string.h>
#include <utf8proc.h>

#define DECOMPOSED_MAX 32 /* code points that one becomes at most: 18 (U+FDFA) */

static bool in_ranges(const struct tern_code_range *ranges, size_t n, int32_t code)
{
    return tern_code_range_find(ranges, n, (uint32_t)code) < n;
}

/* Decompositions that are younger than the library's tables. */
static bool is_young_letter(int32_t code)
{
    static const struct tern_code_range young[] = {
        { 0x32FF, 0x32FF },   { 0xA7F2, 0xA7F4 },   { 0xAB69, 0xAB69 },   { 0x10781, 0x107BA },
        { 0x11938, 0x11938 }, { 0x1E030, 0x1E06D }, { 0x1F16C, 0x1F16C }, { 0x1FBF0, 0x1FBF9 },
    };

    return code >= 0x32FF && in_ranges(young, sizeof young / sizeof *young, code);
}

/* Combining classes that are. */
static bool is_young_mark(int32_t code)
{
    static const struct tern_code_range young[] = {
        { 0x7FD, 0x7FD },     { 0x898, 0x89F },     { 0x8CA, 0x8D3 },     { 0x9FE, 0x9FE },     { 0xC3C, 0xC3C },
        { 0xD3B, 0xD3C },     { 0xEBA, 0xEBA },     { 0x1715, 0x1715 },   { 0x1ABF, 0x1ACE },   { 0x1DF6, 0x1DFA },
        { 0xA82C, 0xA82C },   { 0x10D24, 0x10D27 }, { 0x10EAB, 0x10EAC }, { 0x10EFD, 0x10EFF }, { 0x10F46, 0x10F50 },
        { 0x10F82, 0x10F85 }, { 0x11070, 0x11070 }, { 0x1133B, 0x1133B }, { 0x1145E, 0x1145E }, { 0x11839, 0x1183A },
        { 0x1193D, 0x1193E }, { 0x11943, 0x11943 }, { 0x119E0, 0x119E0 }, { 0x11A34, 0x11A34 }, { 0x11A47, 0x11A47 },
        { 0x11A99, 0x11A99 }, { 0x11D42, 0x11D42 }, { 0x11D44, 0x11D45 }, { 0x11D97, 0x11D97 }, { 0x11F41, 0x11F42 },
        { 0x16FF0, 0x16FF1 }, { 0x1E08F, 0x1E08F }, { 0x1E130, 0x1E136 }, { 0x1E2AE, 0x1E2AE }, { 0x1E2EC, 0x1E2EF },
        { 0x1E4EC, 0x1E4EF },
    };

    return code >= 0x7FD && in_ranges(young, sizeof young / sizeof *young, code);
}

static int combining_class(int32_t code)
{
    return code < 0x300 || is_young_mark(code) ? 0 : utf8proc_get_property(code)->combining_class;
}

/* ---- decomposition and order ------------------------------------------------------------------------------------- */

/* Stable merge sort of codes[0..n) by combining class, with `room` for n. */
static void sort_marks(struct tern_code_change *codes, struct tern_code_change *room, size_t n, uint64_t *steps)
{
    struct tern_code_change *from = codes, *to = room;

    for (size_t width = 1; width < n; width *= 2) {
        *steps += n;
        for (size_t begin = 0; begin < n; begin += 2 * width) {
            const size_t middle = begin + width < n ? begin + width : n;
            const size_t end = middle + width < n ? middle + width : n;
            size_t a = begin, b = middle;

            for (size_t i = begin; i < end; i++) {
                const bool left =
                    a < middle && (b == end || combining_class(from[a].code) <= combining_class(from[b].code));
                to[i] = left ? from[a++] : from[b++];
            }
        }
        struct tern_code_change *swap = from;
        from = to;
        to = swap;
    }
    if (from != codes)
        memcpy(codes, from, n * sizeof *codes);
}

/* Canonical order: each run of characters with a combining class other than 0 is sorted by it. */
static tern_status order_marks(tern_ctx *ctx, struct tern_normalizer_scratch *s, struct tern_code_change *codes,
                               size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t end = i;

        while (end < n && combining_class(codes[end].code) != 0)
            end++;
        if (end - i > 1) {
            TERN_TRY(TERN_GROW(ctx, &s->sorted, &s->sorted_capacity, end - i, "normalised text"));
            sort_marks(codes + i, s->sorted, end - i, &s->codes.steps);
        }
        i = end + 1;
    }
    return TERN_OK;
}

static tern_status decompose(tern_ctx *ctx, struct tern_codes *c, utf8proc_option_t options)
{
    for (size_t i = 0; i < c->n; i++) {
        const int32_t code = c->codes[i];
        int32_t parts[DECOMPOSED_MAX];
        int boundary = 0;

        TERN_TRY(tern_codes_reserve(ctx, c, c->n_next + DECOMPOSED_MAX));
        if (code < 0x80 || is_young_letter(code)) {
            tern_codes_put(c, code, 0);
            continue;
        }
        const utf8proc_ssize_t got = utf8proc_decompose_char(code, parts, DECOMPOSED_MAX, options, &boundary);
        TERN_REQUIRE(ctx, got >= 0 && got <= DECOMPOSED_MAX, TERN_ERR_UNSUPPORTED, "U+%04X cannot be normalised: %s",
                     (unsigned)code, got < 0 ? utf8proc_errmsg(got) : "too long");
        for (utf8proc_ssize_t k = 0; k < got; k++)
            tern_codes_put(c, parts[k], k > 0);
    }
    return TERN_OK;
}

/* ---- composition ------------------------------------------------------------------------------------------------- */

/* Characters of combining class 0 that are the second of a pair, besides Hangul's. */
static bool is_second_letter(int32_t code)
{
    static const struct tern_code_range seconds[] = {
        { 0x9BE, 0x9BE },     { 0x9D7, 0x9D7 },     { 0xB3E, 0xB3E },     { 0xB56, 0xB57 },     { 0xBBE, 0xBBE },
        { 0xBD7, 0xBD7 },     { 0xCC2, 0xCC2 },     { 0xCD5, 0xCD6 },     { 0xD3E, 0xD3E },     { 0xD57, 0xD57 },
        { 0xDCF, 0xDCF },     { 0xDDF, 0xDDF },     { 0x102E, 0x102E },   { 0x1161, 0x1175 },   { 0x11A8, 0x11C2 },
        { 0x1B35, 0x1B35 },   { 0x11127, 0x11127 }, { 0x1133E, 0x1133E }, { 0x11357, 0x11357 }, { 0x114B0, 0x114B0 },
        { 0x114BA, 0x114BA }, { 0x114BD, 0x114BD }, { 0x115AF, 0x115AF },
    };

    return code >= 0x9BE && in_ranges(seconds, sizeof seconds / sizeof *seconds, code);
}

/* What two characters become together, or -1.  What is young joins nothing. */
static int32_t pair_of(int32_t first, int32_t second, int second_class)
{
    int32_t pair[2] = { first, second };

    if (second < 0x300 || (second_class == 0 && !is_second_letter(second)) || is_young_mark(first) ||
        is_young_letter(first))
        return -1;
    return utf8proc_normalize_utf32(pair, 2, UTF8PROC_STABLE | UTF8PROC_COMPOSE) == 1 ? pair[0] : -1;
}

/* Composes next[0..n_next) in place.  A letter takes up the marks behind it that nothing of the same class or a higher
 * one keeps from it; each that it takes is one character less behind it.  Source: Unicode 15, section 3.11, D117. */
static void compose(struct tern_codes *c)
{
    struct tern_code_change *codes = c->next;
    size_t kept = 0, letter = SIZE_MAX;
    int last_class = -1; /* of the mark before, -1 right behind the letter */

    for (size_t i = 0; i < c->n_next; i++) {
        const int class = combining_class(codes[i].code);

        if (letter != SIZE_MAX && last_class < class) {
            const int32_t joined = pair_of(codes[letter].code, codes[i].code, class);

            if (joined >= 0) {
                codes[letter].code = joined;
                codes[letter].change += codes[i].change - 1;
                continue;
            }
        }
        if (class == 0) {
            letter = kept;
            last_class = -1;
        } else {
            last_class = class;
        }
        codes[kept++] = codes[i];
    }
    c->steps += c->n_next;
    c->n_next = kept;
}

tern_status tern_normal_form(tern_ctx *ctx, struct tern_normalizer_scratch *s, enum tern_normalizer_kind kind)
{
    const bool compatible = kind == TERN_NORMALIZE_NFKC || kind == TERN_NORMALIZE_NFKD;
    const bool composed = kind == TERN_NORMALIZE_NFC || kind == TERN_NORMALIZE_NFKC;

    TERN_TRY(decompose(ctx, &s->codes, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0)));
    TERN_TRY(order_marks(ctx, s, s->codes.next, s->codes.n_next));
    if (composed)
        compose(&s->codes);
    return tern_codes_take(ctx, &s->codes, 0);
}
