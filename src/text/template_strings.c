/* template_strings.c: what Python's str does, by code points.
 *
 * Cases are full ones: a character may become several (U+00DF upper is SS), and a capital sigma at a word's end has a small form of its
 * own.  utf8proc has the simple mappings; what goes beyond them stands here (Unicode's SpecialCasing.txt, the unconditional part). */
#include "base/utf8.h"
#include "text/template_render.h"

#include <utf8proc.h>

struct special_case {
    uint32_t code, upper[3], title[3];
};

static const struct special_case special_cases[] = {
    { 0x00df, { 0x0053, 0x0053 }, { 0x0053, 0x0073 } },
    { 0x0149, { 0x02bc, 0x004e }, { 0x02bc, 0x004e } },
    { 0x01f0, { 0x004a, 0x030c }, { 0x004a, 0x030c } },
    { 0x0390, { 0x0399, 0x0308, 0x0301 }, { 0x0399, 0x0308, 0x0301 } },
    { 0x03b0, { 0x03a5, 0x0308, 0x0301 }, { 0x03a5, 0x0308, 0x0301 } },
    { 0x0587, { 0x0535, 0x0552 }, { 0x0535, 0x0582 } },
    { 0x1e96, { 0x0048, 0x0331 }, { 0x0048, 0x0331 } },
    { 0x1e97, { 0x0054, 0x0308 }, { 0x0054, 0x0308 } },
    { 0x1e98, { 0x0057, 0x030a }, { 0x0057, 0x030a } },
    { 0x1e99, { 0x0059, 0x030a }, { 0x0059, 0x030a } },
    { 0x1e9a, { 0x0041, 0x02be }, { 0x0041, 0x02be } },
    { 0x1f50, { 0x03a5, 0x0313 }, { 0x03a5, 0x0313 } },
    { 0x1f52, { 0x03a5, 0x0313, 0x0300 }, { 0x03a5, 0x0313, 0x0300 } },
    { 0x1f54, { 0x03a5, 0x0313, 0x0301 }, { 0x03a5, 0x0313, 0x0301 } },
    { 0x1f56, { 0x03a5, 0x0313, 0x0342 }, { 0x03a5, 0x0313, 0x0342 } },
    { 0x1f80, { 0x1f08, 0x0399 }, { 0x1f88 } },
    { 0x1f81, { 0x1f09, 0x0399 }, { 0x1f89 } },
    { 0x1f82, { 0x1f0a, 0x0399 }, { 0x1f8a } },
    { 0x1f83, { 0x1f0b, 0x0399 }, { 0x1f8b } },
    { 0x1f84, { 0x1f0c, 0x0399 }, { 0x1f8c } },
    { 0x1f85, { 0x1f0d, 0x0399 }, { 0x1f8d } },
    { 0x1f86, { 0x1f0e, 0x0399 }, { 0x1f8e } },
    { 0x1f87, { 0x1f0f, 0x0399 }, { 0x1f8f } },
    { 0x1f88, { 0x1f08, 0x0399 }, { 0x1f88 } },
    { 0x1f89, { 0x1f09, 0x0399 }, { 0x1f89 } },
    { 0x1f8a, { 0x1f0a, 0x0399 }, { 0x1f8a } },
    { 0x1f8b, { 0x1f0b, 0x0399 }, { 0x1f8b } },
    { 0x1f8c, { 0x1f0c, 0x0399 }, { 0x1f8c } },
    { 0x1f8d, { 0x1f0d, 0x0399 }, { 0x1f8d } },
    { 0x1f8e, { 0x1f0e, 0x0399 }, { 0x1f8e } },
    { 0x1f8f, { 0x1f0f, 0x0399 }, { 0x1f8f } },
    { 0x1f90, { 0x1f28, 0x0399 }, { 0x1f98 } },
    { 0x1f91, { 0x1f29, 0x0399 }, { 0x1f99 } },
    { 0x1f92, { 0x1f2a, 0x0399 }, { 0x1f9a } },
    { 0x1f93, { 0x1f2b, 0x0399 }, { 0x1f9b } },
    { 0x1f94, { 0x1f2c, 0x0399 }, { 0x1f9c } },
    { 0x1f95, { 0x1f2d, 0x0399 }, { 0x1f9d } },
    { 0x1f96, { 0x1f2e, 0x0399 }, { 0x1f9e } },
    { 0x1f97, { 0x1f2f, 0x0399 }, { 0x1f9f } },
    { 0x1f98, { 0x1f28, 0x0399 }, { 0x1f98 } },
    { 0x1f99, { 0x1f29, 0x0399 }, { 0x1f99 } },
    { 0x1f9a, { 0x1f2a, 0x0399 }, { 0x1f9a } },
    { 0x1f9b, { 0x1f2b, 0x0399 }, { 0x1f9b } },
    { 0x1f9c, { 0x1f2c, 0x0399 }, { 0x1f9c } },
    { 0x1f9d, { 0x1f2d, 0x0399 }, { 0x1f9d } },
    { 0x1f9e, { 0x1f2e, 0x0399 }, { 0x1f9e } },
    { 0x1f9f, { 0x1f2f, 0x0399 }, { 0x1f9f } },
    { 0x1fa0, { 0x1f68, 0x0399 }, { 0x1fa8 } },
    { 0x1fa1, { 0x1f69, 0x0399 }, { 0x1fa9 } },
    { 0x1fa2, { 0x1f6a, 0x0399 }, { 0x1faa } },
    { 0x1fa3, { 0x1f6b, 0x0399 }, { 0x1fab } },
    { 0x1fa4, { 0x1f6c, 0x0399 }, { 0x1fac } },
    { 0x1fa5, { 0x1f6d, 0x0399 }, { 0x1fad } },
    { 0x1fa6, { 0x1f6e, 0x0399 }, { 0x1fae } },
    { 0x1fa7, { 0x1f6f, 0x0399 }, { 0x1faf } },
    { 0x1fa8, { 0x1f68, 0x0399 }, { 0x1fa8 } },
    { 0x1fa9, { 0x1f69, 0x0399 }, { 0x1fa9 } },
    { 0x1faa, { 0x1f6a, 0x0399 }, { 0x1faa } },
    { 0x1fab, { 0x1f6b, 0x0399 }, { 0x1fab } },
    { 0x1fac, { 0x1f6c, 0x0399 }, { 0x1fac } },
    { 0x1fad, { 0x1f6d, 0x0399 }, { 0x1fad } },
    { 0x1fae, { 0x1f6e, 0x0399 }, { 0x1fae } },
    { 0x1faf, { 0x1f6f, 0x0399 }, { 0x1faf } },
    { 0x1fb2, { 0x1fba, 0x0399 }, { 0x1fba, 0x0345 } },
    { 0x1fb3, { 0x0391, 0x0399 }, { 0x1fbc } },
    { 0x1fb4, { 0x0386, 0x0399 }, { 0x0386, 0x0345 } },
    { 0x1fb6, { 0x0391, 0x0342 }, { 0x0391, 0x0342 } },
    { 0x1fb7, { 0x0391, 0x0342, 0x0399 }, { 0x0391, 0x0342, 0x0345 } },
    { 0x1fbc, { 0x0391, 0x0399 }, { 0x1fbc } },
    { 0x1fc2, { 0x1fca, 0x0399 }, { 0x1fca, 0x0345 } },
    { 0x1fc3, { 0x0397, 0x0399 }, { 0x1fcc } },
    { 0x1fc4, { 0x0389, 0x0399 }, { 0x0389, 0x0345 } },
    { 0x1fc6, { 0x0397, 0x0342 }, { 0x0397, 0x0342 } },
    { 0x1fc7, { 0x0397, 0x0342, 0x0399 }, { 0x0397, 0x0342, 0x0345 } },
    { 0x1fcc, { 0x0397, 0x0399 }, { 0x1fcc } },
    { 0x1fd2, { 0x0399, 0x0308, 0x0300 }, { 0x0399, 0x0308, 0x0300 } },
    { 0x1fd3, { 0x0399, 0x0308, 0x0301 }, { 0x0399, 0x0308, 0x0301 } },
    { 0x1fd6, { 0x0399, 0x0342 }, { 0x0399, 0x0342 } },
    { 0x1fd7, { 0x0399, 0x0308, 0x0342 }, { 0x0399, 0x0308, 0x0342 } },
    { 0x1fe2, { 0x03a5, 0x0308, 0x0300 }, { 0x03a5, 0x0308, 0x0300 } },
    { 0x1fe3, { 0x03a5, 0x0308, 0x0301 }, { 0x03a5, 0x0308, 0x0301 } },
    { 0x1fe4, { 0x03a1, 0x0313 }, { 0x03a1, 0x0313 } },
    { 0x1fe6, { 0x03a5, 0x0342 }, { 0x03a5, 0x0342 } },
    { 0x1fe7, { 0x03a5, 0x0308, 0x0342 }, { 0x03a5, 0x0308, 0x0342 } },
    { 0x1ff2, { 0x1ffa, 0x0399 }, { 0x1ffa, 0x0345 } },
    { 0x1ff3, { 0x03a9, 0x0399 }, { 0x1ffc } },
    { 0x1ff4, { 0x038f, 0x0399 }, { 0x038f, 0x0345 } },
    { 0x1ff6, { 0x03a9, 0x0342 }, { 0x03a9, 0x0342 } },
    { 0x1ff7, { 0x03a9, 0x0342, 0x0399 }, { 0x03a9, 0x0342, 0x0345 } },
    { 0x1ffc, { 0x03a9, 0x0399 }, { 0x1ffc } },
    { 0xfb00, { 0x0046, 0x0046 }, { 0x0046, 0x0066 } },
    { 0xfb01, { 0x0046, 0x0049 }, { 0x0046, 0x0069 } },
    { 0xfb02, { 0x0046, 0x004c }, { 0x0046, 0x006c } },
    { 0xfb03, { 0x0046, 0x0046, 0x0049 }, { 0x0046, 0x0066, 0x0069 } },
    { 0xfb04, { 0x0046, 0x0046, 0x004c }, { 0x0046, 0x0066, 0x006c } },
    { 0xfb05, { 0x0053, 0x0054 }, { 0x0053, 0x0074 } },
    { 0xfb06, { 0x0053, 0x0054 }, { 0x0053, 0x0074 } },
    { 0xfb13, { 0x0544, 0x0546 }, { 0x0544, 0x0576 } },
    { 0xfb14, { 0x0544, 0x0535 }, { 0x0544, 0x0565 } },
    { 0xfb15, { 0x0544, 0x053b }, { 0x0544, 0x056b } },
    { 0xfb16, { 0x054e, 0x0546 }, { 0x054e, 0x0576 } },
    { 0xfb17, { 0x0544, 0x053d }, { 0x0544, 0x056d } },
};

/* Characters of other categories that count as lower or upper case (Other_Lowercase, Other_Uppercase). */
static const uint32_t other_lower[][2] = {
    { 0x00aa, 0x00aa },   { 0x00ba, 0x00ba },   { 0x02b0, 0x02b8 },   { 0x02c0, 0x02c1 },   { 0x02e0, 0x02e4 },
    { 0x0345, 0x0345 },   { 0x037a, 0x037a },   { 0x1d2c, 0x1d6a },   { 0x1d78, 0x1d78 },   { 0x1d9b, 0x1dbf },
    { 0x2071, 0x2071 },   { 0x207f, 0x207f },   { 0x2090, 0x209c },   { 0x2170, 0x217f },   { 0x24d0, 0x24e9 },
    { 0x2c7c, 0x2c7d },   { 0xa69c, 0xa69d },   { 0xa770, 0xa770 },   { 0xa7f8, 0xa7f9 },   { 0xab5c, 0xab5f },
    { 0x10780, 0x10780 }, { 0x10783, 0x10785 }, { 0x10787, 0x107b0 }, { 0x107b2, 0x107ba },
};
static const uint32_t other_upper[][2] = {
    { 0x2160, 0x216f }, { 0x24b6, 0x24cf }, { 0x1f130, 0x1f149 }, { 0x1f150, 0x1f169 }, { 0x1f170, 0x1f189 }
};
/* Word_Break of MidLetter, MidNumLet and Single_Quote: case goes over them. */
static const uint32_t middle[] = { 0x27,   0x2e,   0x3a,   0xb7,   0x387,  0x55f,  0x5f4,  0x2018, 0x2019,
                                   0x2024, 0x2027, 0xfe13, 0xfe52, 0xfe55, 0xff07, 0xff0e, 0xff1a };

static bool in_ranges(const uint32_t (*ranges)[2], size_t n, uint32_t code)
{
    for (size_t i = 0; i < n; i++)
        if (code >= ranges[i][0] && code <= ranges[i][1])
            return true;
    return false;
}
#define IN_RANGES(ranges, code) in_ranges((ranges), sizeof(ranges) / sizeof(ranges)[0], (code))

static utf8proc_category_t category(uint32_t code)
{
    return utf8proc_category((utf8proc_int32_t)code);
}

static bool is_lower(uint32_t code)
{
    return category(code) == UTF8PROC_CATEGORY_LL || IN_RANGES(other_lower, code);
}

static bool is_upper(uint32_t code)
{
    return category(code) == UTF8PROC_CATEGORY_LU || IN_RANGES(other_upper, code);
}

static bool is_cased(uint32_t code)
{
    return category(code) == UTF8PROC_CATEGORY_LT || is_lower(code) || is_upper(code);
}

static bool is_case_ignorable(uint32_t code)
{
    for (size_t i = 0; i < sizeof middle / sizeof middle[0]; i++)
        if (code == middle[i])
            return true;
    switch (category(code)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
        return true;
    default:
        return false;
    }
}

bool tern_char_is_python_space(uint32_t code)
{
    return (code >= 0x09 && code <= 0x0d) || (code >= 0x1c && code <= 0x20) || code == 0x85 || code == 0xa0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f ||
           code == 0x205f || code == 0x3000;
}

bool tern_char_is_printable(uint32_t code)
{
    if (code < 0x7f)
        return code >= 0x20;
    switch (category(code)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

tern_status tern_string_is_cased(struct tern_render *r, const struct tern_vstring *s, bool upper, bool *out)
{
    bool any = false;

    *out = false;
    TERN_TRY(tern_render_spend(r, s->size / 16));
    for (size_t at = 0; at < s->size;) {
        const uint32_t code = tern_utf8_next(s->data, &at);

        if ((upper ? is_lower(code) : is_upper(code)) || category(code) == UTF8PROC_CATEGORY_LT)
            return TERN_OK;
        any = any || is_cased(code);
    }
    *out = any;
    return TERN_OK;
}

/* ---- cases ---- */

static const struct special_case *find_special(uint32_t code)
{
    size_t low = 0, high = sizeof special_cases / sizeof special_cases[0];

    while (low < high) {
        const size_t middle_at = (low + high) / 2;

        if (special_cases[middle_at].code == code)
            return &special_cases[middle_at];
        if (special_cases[middle_at].code < code)
            low = middle_at + 1;
        else
            high = middle_at;
    }
    return NULL;
}

static tern_status put_codes(struct tern_render *r, struct tern_out *out, const uint32_t codes[3])
{
    for (int i = 0; i < 3 && codes[i]; i++)
        TERN_TRY(tern_out_code(r, out, codes[i]));
    return TERN_OK;
}

static tern_status put_upper(struct tern_render *r, struct tern_out *out, uint32_t code, bool title)
{
    const struct special_case *special = code < 0x80 ? NULL : find_special(code);

    if (special)
        return put_codes(r, out, title ? special->title : special->upper);
    return tern_out_code(
        r, out,
        (uint32_t)(title ? utf8proc_totitle((utf8proc_int32_t)code) : utf8proc_toupper((utf8proc_int32_t)code)));
}

/* Whether the capital sigma that ends at byte `end` is the last cased character of its word. */
static bool is_final_sigma(const struct tern_vstring *s, size_t begin, size_t end)
{
    uint32_t code = 0;

    for (size_t at = begin; at > 0;) {
        code = tern_utf8_previous(s->data, &at);
        if (!is_case_ignorable(code))
            break;
        code = 0;
    }
    if (!code || !is_cased(code))
        return false;
    code = 0;
    for (size_t at = end; at < s->size;) {
        code = tern_utf8_next(s->data, &at);
        if (!is_case_ignorable(code))
            break;
        code = 0;
    }
    return !code || !is_cased(code);
}

static tern_status put_lower(struct tern_render *r, struct tern_out *out, const struct tern_vstring *s, size_t begin,
                             size_t end, uint32_t code)
{
    if (code == 0x130) {
        TERN_TRY(tern_out_code(r, out, 'i'));
        return tern_out_code(r, out, 0x307);
    }
    if (code == 0x3a3)
        return tern_out_code(r, out, is_final_sigma(s, begin, end) ? 0x3c2 : 0x3c3);
    return tern_out_code(r, out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)code));
}

static tern_status put_folded(struct tern_render *r, struct tern_out *out, uint32_t code)
{
    utf8proc_int32_t codes[4];
    int boundary = 0;
    const utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)code, codes, 4, UTF8PROC_CASEFOLD, &boundary);

    for (utf8proc_ssize_t i = 0; i < n && i < 4; i++)
        TERN_TRY(tern_out_code(r, out, (uint32_t)codes[i]));
    return TERN_OK;
}

tern_status tern_string_case(struct tern_render *r, const struct tern_vstring *s, enum tern_case how, tern_value *out)
{
    struct tern_out text = { 0 };
    bool previous_cased = false;

    for (size_t at = 0, begin; at < s->size;) {
        begin = at;
        const uint32_t code = tern_utf8_next(s->data, &at);
        bool up = how == TERN_CASE_UPPER;

        if (how == TERN_CASE_FOLD) {
            TERN_TRY(put_folded(r, &text, code));
            continue;
        }
        if (how == TERN_CASE_CAPITALIZE)
            up = begin == 0;
        if (how == TERN_CASE_TITLE)
            up = !previous_cased;
        if (how == TERN_CASE_SWAP)
            up = is_lower(code);
        previous_cased = is_cased(code);
        if (how == TERN_CASE_SWAP && !is_lower(code) && !is_upper(code))
            TERN_TRY(tern_out_code(r, &text, code));
        else if (up)
            TERN_TRY(put_upper(r, &text, code, how == TERN_CASE_CAPITALIZE || how == TERN_CASE_TITLE));
        else
            TERN_TRY(put_lower(r, &text, s, begin, at, code));
    }
    return tern_out_string(r, &text, out);
}

/* ---- parts ---- */

/* The byte at which code point `index` begins. */
static size_t offset_of(const struct tern_vstring *s, size_t index)
{
    size_t at = 0;

    if (s->n_chars == s->size)
        return index;
    while (index-- > 0)
        (void)tern_utf8_next(s->data, &at);
    return at;
}

static tern_status bytes_part(struct tern_render *r, const struct tern_vstring *s, size_t begin, size_t end,
                              tern_value *out)
{
    return tern_value_borrowed(r, s->data + begin, end - begin, out);
}

tern_status tern_string_part(struct tern_render *r, const struct tern_vstring *s, size_t from, size_t to,
                             tern_value *out)
{
    const size_t begin = offset_of(s, from);
    size_t end = begin;

    TERN_TRY(tern_render_spend(r, begin / 64));
    if (s->n_chars == s->size)
        end = to;
    else
        for (size_t i = from; i < to; i++)
            (void)tern_utf8_next(s->data, &end);
    return bytes_part(r, s, begin, end, out);
}

/* White space, or one of `chars`. */
static bool strips(const struct tern_vstring *chars, uint32_t code)
{
    if (!chars)
        return tern_char_is_python_space(code);
    for (size_t at = 0; at < chars->size;)
        if (tern_utf8_next(chars->data, &at) == code)
            return true;
    return false;
}

tern_status tern_string_strip(struct tern_render *r, const struct tern_vstring *s, const struct tern_vstring *chars,
                              bool left, bool right, tern_value *out)
{
    size_t begin = 0, end = s->size;

    while (left && begin < end) {
        size_t next = begin;

        TERN_TRY(tern_render_spend(r, 1 + (chars ? chars->size / 16 : 0)));
        if (!strips(chars, tern_utf8_next(s->data, &next)))
            break;
        begin = next;
    }
    while (right && end > begin) {
        size_t before = end;

        TERN_TRY(tern_render_spend(r, 1 + (chars ? chars->size / 16 : 0)));
        if (!strips(chars, tern_utf8_previous(s->data, &before)))
            break;
        end = before;
    }
    return bytes_part(r, s, begin, end, out);
}

size_t tern_string_search(const struct tern_vstring *s, size_t from, const struct tern_vstring *needle)
{
    const char *found;

    if (from > s->size)
        return SIZE_MAX;
    if (needle->size == 0)
        return from;
    found = memmem(s->data + from, s->size - from, needle->data, needle->size);
    return found ? (size_t)(found - s->data) : SIZE_MAX;
}

tern_status tern_string_replace(struct tern_render *r, const struct tern_vstring *s, const struct tern_vstring *old,
                                const struct tern_vstring *fresh, int64_t count, tern_value *out)
{
    struct tern_out text = { 0 };
    size_t at = 0;

    TERN_TRY(tern_render_spend(r, s->size / 64));
    for (; count != 0; count--) {
        size_t found = tern_string_search(s, at, old);

        if (old->size == 0) { /* before each character, and at the end */
            TERN_TRY(tern_out_put(r, &text, fresh->data, fresh->size));
            if (at == s->size)
                return tern_out_string(r, &text, out);
            found = at;
            (void)tern_utf8_next(s->data, &found);
            TERN_TRY(tern_out_put(r, &text, s->data + at, found - at));
            at = found;
            continue;
        }
        if (found == SIZE_MAX)
            break;
        TERN_TRY(tern_render_spend(r, 1));
        TERN_TRY(tern_out_put(r, &text, s->data + at, found - at));
        TERN_TRY(tern_out_put(r, &text, fresh->data, fresh->size));
        at = found + old->size;
    }
    TERN_TRY(tern_out_put(r, &text, s->data + at, s->size - at));
    return tern_out_string(r, &text, out);
}

static bool ends_line(uint32_t code)
{
    return (code >= 0x0a && code <= 0x0d) || (code >= 0x1c && code <= 0x1e) || code == 0x85 || code == 0x2028 ||
           code == 0x2029;
}

tern_status tern_string_lines(struct tern_render *r, const struct tern_vstring *s, bool keep_ends, tern_value *out)
{
    tern_value line;
    size_t begin = 0;

    TERN_TRY(tern_value_list(r, TERN_V_LIST, 0, out));
    for (size_t at = 0, here; at < s->size;) {
        here = at;
        const uint32_t code = tern_utf8_next(s->data, &at);

        if (!ends_line(code))
            continue;
        if (code == '\r' && at < s->size && s->data[at] == '\n')
            at++;
        TERN_TRY(bytes_part(r, s, begin, keep_ends ? at : here, &line));
        TERN_TRY(tern_list_push(r, out->as.list, line));
        TERN_TRY(tern_render_spend(r, 1));
        begin = at;
    }
    if (begin == s->size)
        return TERN_OK;
    TERN_TRY(bytes_part(r, s, begin, s->size, &line));
    return tern_list_push(r, out->as.list, line);
}

tern_status tern_string_escape(struct tern_render *r, const struct tern_vstring *s, tern_value *out)
{
    static const char from[] = "&<>\"'", *const to[] = { "&amp;", "&lt;", "&gt;", "&#34;", "&#39;" };
    struct tern_out text = { 0 };

    for (size_t i = 0, begin = 0; i <= s->size; i++) {
        const char *found = i < s->size && s->data[i] ? strchr(from, s->data[i]) : NULL;

        if (!found && i < s->size)
            continue;
        TERN_TRY(tern_out_put(r, &text, s->data + begin, i - begin));
        if (found)
            TERN_TRY(tern_out_text(r, &text, to[found - from]));
        begin = i + 1;
    }
    return tern_out_string(r, &text, out);
}

tern_status tern_string_mark(struct tern_render *r, const struct tern_vstring *s, bool markup, tern_value *out)
{
    struct tern_vstring *copy;

    TERN_TRY(TERN_RENDER_TAKE(r, 1, &copy));
    *copy = *s;
    copy->markup = markup;
    *out = (tern_value){ .kind = TERN_V_STRING, .as.string = copy };
    return TERN_OK;
}

/* ---- splitting and joining ---- */

static void reverse(struct tern_vlist *list)
{
    for (size_t i = 0; i < list->count / 2; i++) {
        const tern_value item = list->items[i];

        list->items[i] = list->items[list->count - 1 - i];
        list->items[list->count - 1 - i] = item;
    }
}

static tern_status push_part(struct tern_render *r, const struct tern_vstring *s, size_t begin, size_t end,
                             tern_value *list)
{
    tern_value part;

    TERN_TRY(tern_render_spend(r, 1));
    TERN_TRY(bytes_part(r, s, begin, end, &part));
    return tern_list_push(r, list->as.list, part);
}

static bool space_at(const struct tern_vstring *s, size_t at, size_t *next)
{
    *next = at;
    return tern_char_is_python_space(tern_utf8_next(s->data, next));
}

static bool space_before(const struct tern_vstring *s, size_t at, size_t *before)
{
    *before = at;
    return tern_char_is_python_space(tern_utf8_previous(s->data, before));
}

static tern_status split_space(struct tern_render *r, const struct tern_vstring *s, int64_t limit, tern_value *out)
{
    size_t at = 0, next;

    for (;;) {
        while (at < s->size && space_at(s, at, &next))
            at = next;
        if (at == s->size)
            return TERN_OK;
        const size_t begin = at;
        if (limit-- == 0) { /* the rest, without the white space at its end */
            size_t end = s->size, before;

            while (space_before(s, end, &before))
                end = before;
            return push_part(r, s, begin, end, out);
        }
        while (at < s->size && !space_at(s, at, &next))
            at = next;
        TERN_TRY(push_part(r, s, begin, at, out));
    }
}

static tern_status split_space_right(struct tern_render *r, const struct tern_vstring *s, int64_t limit,
                                     tern_value *out)
{
    size_t at = s->size, before;

    for (;;) {
        while (at > 0 && space_before(s, at, &before))
            at = before;
        if (at == 0)
            break;
        const size_t end = at;
        if (limit-- == 0) {
            size_t begin = 0, next;

            while (space_at(s, begin, &next))
                begin = next;
            TERN_TRY(push_part(r, s, begin, end, out));
            break;
        }
        while (at > 0 && !space_before(s, at, &before))
            at = before;
        TERN_TRY(push_part(r, s, at, end, out));
    }
    reverse(out->as.list);
    return TERN_OK;
}

/* The last place at which the needle lies wholly before `end`. */
static size_t search_back(const struct tern_vstring *s, size_t end, const struct tern_vstring *needle)
{
    for (size_t at = end; at >= needle->size; at--)
        if (memcmp(s->data + at - needle->size, needle->data, needle->size) == 0)
            return at - needle->size;
    return SIZE_MAX;
}

tern_status tern_string_split(struct tern_render *r, const struct tern_vstring *s, const struct tern_vstring *separator,
                              int64_t limit, bool from_right, tern_value *out)
{
    TERN_TRY(tern_value_list(r, TERN_V_LIST, 0, out));
    TERN_TRY(tern_render_spend(r, s->size / 64));
    if (!separator)
        return from_right ? split_space_right(r, s, limit, out) : split_space(r, s, limit, out);
    if (separator->size == 0)
        TERN_RAISE(r, "empty separator");
    if (from_right) {
        size_t end = s->size, found;

        TERN_TRY(
            tern_render_spend(r, s->size / 16 * (1 + separator->size / 64))); /* each place may compare all of it */
        for (; limit != 0 && (found = search_back(s, end, separator)) != SIZE_MAX; limit--) {
            TERN_TRY(push_part(r, s, found + separator->size, end, out));
            end = found;
        }
        TERN_TRY(push_part(r, s, 0, end, out));
        reverse(out->as.list);
        return TERN_OK;
    }
    size_t begin = 0, found;
    for (; limit != 0 && (found = tern_string_search(s, begin, separator)) != SIZE_MAX; limit--) {
        TERN_TRY(push_part(r, s, begin, found, out));
        begin = found + separator->size;
    }
    return push_part(r, s, begin, s->size, out);
}

tern_status tern_string_join(struct tern_render *r, const struct tern_vstring *separator, tern_value items,
                             bool any_type, tern_value *out)
{
    struct tern_out text = { 0 };
    struct tern_viter *it;

    TERN_TRY(tern_value_iter(r, items, &it));
    for (size_t i = 0;; i++) {
        tern_value item;
        bool done;

        TERN_TRY(tern_iter_next(r, it, &item, &done));
        if (done)
            return tern_out_string(r, &text, out);
        if (i > 0)
            TERN_TRY(tern_out_put(r, &text, separator->data, separator->size));
        if (!any_type && item.kind != TERN_V_STRING)
            TERN_RAISE(r, "sequence item %zu: expected str instance, %s found", i, tern_value_type(item));
        TERN_TRY(tern_out_value(r, &text, item));
    }
}
