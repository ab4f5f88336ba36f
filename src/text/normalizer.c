/* normalizer.c: Unicode normal forms and lower case, over a buffer of code points.
 *
 * The text becomes code points once, every step works on them, and they become UTF-8 again at the end.
 * Decomposition and composition of characters are utf8proc's; the canonical order in between is ours, a merge sort,
 * since runs of combining marks may be as long as the text (UAX 15, section 1.1).  Lower case is that of each
 * character alone, as in Rust's char::to_lowercase: U+0130 becomes two, a final sigma is nothing special.
 *
 * The library's tables of normal forms are those of Unicode 9.  Characters that got a decomposition or a combining
 * class later stay as they are, so that the same text has the same ids (found by asking the library about every code
 * point). */
#include "text/normalizer.h"

#include "base/memory.h"
#include "base/utf8.h"

#include <string.h>
#include <utf8proc.h>

#define DECOMPOSED_MAX 32 /* code points that one becomes at most: 18 (U+FDFA) */

void tern_normalizer_scratch_destroy(struct tern_normalizer_scratch *scratch)
{
    tern_free(scratch->codes);
    tern_free(scratch->sorted);
    tern_free(scratch->text);
    *scratch = (struct tern_normalizer_scratch){ 0 };
}

tern_status tern_normalizer_add(tern_ctx *ctx, struct tern_normalizer *normalizer, enum tern_normalizer_kind kind)
{
    TERN_TRY(TERN_GROW(ctx, &normalizer->steps, &normalizer->capacity, normalizer->n_steps + 1, "a normalizer"));
    normalizer->steps[normalizer->n_steps++] = kind;
    return TERN_OK;
}

void tern_normalizer_destroy(struct tern_normalizer *normalizer)
{
    tern_free(normalizer->steps);
    *normalizer = (struct tern_normalizer){ 0 };
}

struct range {
    int32_t first, last;
};

static bool in_ranges(const struct range *ranges, size_t n, int32_t code)
{
    size_t low = 0, high = n;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;

        if (ranges[middle].last < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && ranges[low].first <= code;
}

/* Decompositions that are younger than the library's tables. */
static bool is_young_letter(int32_t code)
{
    static const struct range young[] = {
        { 0x32FF, 0x32FF },   { 0xA7F2, 0xA7F4 },   { 0xAB69, 0xAB69 },   { 0x10781, 0x107BA },
        { 0x11938, 0x11938 }, { 0x1E030, 0x1E06D }, { 0x1F16C, 0x1F16C }, { 0x1FBF0, 0x1FBF9 },
    };

    return code >= 0x32FF && in_ranges(young, sizeof young / sizeof *young, code);
}

/* Combining classes that are. */
static bool is_young_mark(int32_t code)
{
    static const struct range young[] = {
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

/* Composes codes[0..n) in place; gives how many are left.  What is young joins nothing: it is a wall between two
 * stretches. U+11930 is one because it makes a young letter of U+11935. */
static size_t compose(int32_t *codes, size_t n)
{
    size_t kept = 0, begin = 0;

    for (size_t i = 0; i <= n; i++) {
        if (i < n && codes[i] != 0x11930 && !is_young_mark(codes[i]) && !is_young_letter(codes[i]))
            continue;
        if (i > begin) {
            const utf8proc_ssize_t left = utf8proc_normalize_utf32(codes + begin, (utf8proc_ssize_t)(i - begin),
                                                                   UTF8PROC_STABLE | UTF8PROC_COMPOSE);

            memmove(codes + kept, codes + begin, (size_t)left * sizeof *codes);
            kept += (size_t)left;
        }
        if (i < n)
            codes[kept++] = codes[i];
        begin = i + 1;
    }
    return kept;
}

/* Stable merge sort of codes[0..n) by combining class, with `room` for n. */
static void sort_marks(int32_t *codes, int32_t *room, size_t n)
{
    int32_t *from = codes, *to = room;

    for (size_t width = 1; width < n; width *= 2) {
        for (size_t begin = 0; begin < n; begin += 2 * width) {
            const size_t middle = begin + width < n ? begin + width : n;
            const size_t end = middle + width < n ? middle + width : n;
            size_t a = begin, b = middle;

            for (size_t i = begin; i < end; i++) {
                const bool left = a < middle && (b == end || combining_class(from[a]) <= combining_class(from[b]));
                to[i] = left ? from[a++] : from[b++];
            }
        }
        int32_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != codes)
        memcpy(codes, from, n * sizeof *codes);
}

/* Canonical order: each run of characters with a combining class other than 0 is sorted by it. */
static tern_status order_marks(tern_ctx *ctx, struct tern_normalizer_scratch *s, int32_t *codes, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t end = i;

        while (end < n && combining_class(codes[end]) != 0)
            end++;
        if (end - i > 1) {
            TERN_TRY(TERN_GROW(ctx, &s->sorted, &s->sorted_capacity, end - i, "normalised text"));
            sort_marks(codes + i, s->sorted, end - i);
        }
        i = end + 1;
    }
    return TERN_OK;
}

/* codes[0..*n) in one of the four forms; in the scratch. */
static tern_status normal_form(tern_ctx *ctx, struct tern_normalizer_scratch *s, enum tern_normalizer_kind kind,
                               size_t *n)
{
    const bool compatible = kind == TERN_NORMALIZE_NFKC || kind == TERN_NORMALIZE_NFKD;
    const bool composed = kind == TERN_NORMALIZE_NFC || kind == TERN_NORMALIZE_NFKC;
    const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0);
    struct tern_normalizer_scratch out = { 0 };
    tern_status status = TERN_OK;
    size_t count = 0;

    for (size_t i = 0; i < *n; i++) {
        int boundary = 0;

        TERN_TRY_OR_FAIL(TERN_GROW(ctx, &out.codes, &out.codes_capacity, count + DECOMPOSED_MAX, "normalised text"));
        if (is_young_letter(s->codes[i])) {
            out.codes[count++] = s->codes[i];
            continue;
        }
        const utf8proc_ssize_t got =
            utf8proc_decompose_char(s->codes[i], out.codes + count, DECOMPOSED_MAX, options, &boundary);
        TERN_REQUIRE_OR_FAIL(ctx, got >= 0 && got <= DECOMPOSED_MAX, TERN_ERR_UNSUPPORTED,
                             "U+%04X cannot be normalised: %s", (unsigned)s->codes[i],
                             got < 0 ? utf8proc_errmsg(got) : "too long");
        count += (size_t)got;
    }
    TERN_TRY_OR_FAIL(order_marks(ctx, s, out.codes, count));
    if (composed)
        count = compose(out.codes, count);
    tern_free(s->codes);
    s->codes = out.codes;
    s->codes_capacity = out.codes_capacity;
    *n = count;
    return TERN_OK;

fail:
    tern_free(out.codes);
    return status;
}

static tern_status lower_case(tern_ctx *ctx, struct tern_normalizer_scratch *s, size_t *n)
{
    size_t extra = 0;

    for (size_t i = 0; i < *n; i++)
        extra += s->codes[i] == 0x130;
    TERN_TRY(TERN_GROW(ctx, &s->codes, &s->codes_capacity, *n + extra, "normalised text"));
    for (size_t i = *n, to = *n + extra; i-- > 0;) {
        if (s->codes[i] == 0x130) {
            s->codes[--to] = 0x307;
            s->codes[--to] = 'i';
        } else {
            s->codes[--to] = utf8proc_tolower(s->codes[i]);
        }
    }
    *n += extra;
    return TERN_OK;
}

tern_status tern_normalizer_run(tern_ctx *ctx, const struct tern_normalizer *normalizer,
                                struct tern_normalizer_scratch *scratch, const char *text, size_t size,
                                const char **out, size_t *out_size)
{
    size_t n = 0, bytes = 0;

    *out = text;
    *out_size = size;
    if (normalizer->n_steps == 0 || size == 0)
        return TERN_OK;
    TERN_REQUIRE(ctx, size <= INT32_MAX, TERN_ERR_CAPACITY, "%zu bytes of text to normalise, at most %d", size,
                 INT32_MAX);

    TERN_TRY(TERN_GROW(ctx, &scratch->codes, &scratch->codes_capacity, size, "normalised text"));
    for (size_t at = 0; at < size;)
        scratch->codes[n++] = (int32_t)tern_utf8_next(text, &at);
    for (size_t i = 0; i < normalizer->n_steps; i++) {
        if (normalizer->steps[i] == TERN_NORMALIZE_LOWERCASE)
            TERN_TRY(lower_case(ctx, scratch, &n));
        else
            TERN_TRY(normal_form(ctx, scratch, normalizer->steps[i], &n));
    }
    TERN_TRY(TERN_GROW(ctx, &scratch->text, &scratch->text_capacity, n * TERN_UTF8_MAX, "normalised text"));
    for (size_t i = 0; i < n; i++)
        bytes += tern_utf8_put((uint32_t)scratch->codes[i], scratch->text + bytes);
    *out = scratch->text;
    *out_size = bytes;
    return TERN_OK;
}
