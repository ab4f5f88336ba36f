/* template_lexer.c: the rules of jinja2's lexer, one function per state.
 *
 * Outside of tags text runs up to the next "{{", "{%" or "{#".  A "-" inside either end of a tag takes all white space beside
 * it; otherwise a newline right behind a block or comment goes (trim_blocks), and so do blanks between a line's beginning and a block or
 * comment, unless it begins with "+" (lstrip_blocks).  {% raw %} is taken care of here. */
#include "text/template_lexer.h"

#include "base/memory.h"
#include "base/utf8.h"
#include "text/template_render.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <utf8proc.h>

enum { IN_TEXT, AT_PRINT, AT_BLOCK, IN_PRINT, IN_BLOCK };

#define FAIL(lexer, at_line, ...) return lexer_fail((lexer), (at_line), __VA_ARGS__)

static tern_status lexer_fail(struct tern_lexer *l, uint32_t line, const char *format, ...) TERN_PRINTF(3, 4);
static tern_status lexer_fail(struct tern_lexer *l, uint32_t line, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return tern_fail(l->ctx, TERN_ERR_FORMAT, "%s, line %" PRIu32 ": %s", l->name, line, text);
}

tern_status tern_lexer_start(tern_ctx *ctx, const char *name, struct tern_pool *pool, const char *source, size_t size,
                             struct tern_lexer *out)
{
    char *text;
    size_t n = 0;

    *out = (struct tern_lexer){ .ctx = ctx, .name = name, .pool = pool, .line = 1, .line_starts = true };
    TERN_TRY(TERN_POOL_TAKE(ctx, pool, size + 1, &text));
    for (size_t i = 0; i < size; i++) {
        if (source[i] == '\r') {
            text[n++] = '\n';
            i += i + 1 < size && source[i + 1] == '\n';
        } else {
            text[n++] = source[i];
        }
    }
    if (n > 0 && text[n - 1] == '\n')
        n--;
    out->text = text;
    out->size = n;
    return TERN_OK;
}

void tern_lexer_finish(struct tern_lexer *l)
{
    tern_free(l->open);
    l->open = NULL;
}

const char *tern_lexeme_name(enum tern_lexeme kind)
{
    static const char *const names[] = {
        [TERN_T_END] = "end of template",
        [TERN_T_DATA] = "text",
        [TERN_T_PRINT_BEGIN] = "{{",
        [TERN_T_PRINT_END] = "}}",
        [TERN_T_BLOCK_BEGIN] = "{%",
        [TERN_T_BLOCK_END] = "%}",
        [TERN_T_NAME] = "name",
        [TERN_T_STRING] = "string",
        [TERN_T_INTEGER] = "integer",
        [TERN_T_FLOAT] = "float",
        [TERN_T_ADD] = "+",
        [TERN_T_SUB] = "-",
        [TERN_T_DIV] = "/",
        [TERN_T_FLOORDIV] = "//",
        [TERN_T_MUL] = "*",
        [TERN_T_MOD] = "%",
        [TERN_T_POW] = "**",
        [TERN_T_TILDE] = "~",
        [TERN_T_LBRACKET] = "[",
        [TERN_T_RBRACKET] = "]",
        [TERN_T_LPAREN] = "(",
        [TERN_T_RPAREN] = ")",
        [TERN_T_LBRACE] = "{",
        [TERN_T_RBRACE] = "}",
        [TERN_T_EQ] = "==",
        [TERN_T_NE] = "!=",
        [TERN_T_GT] = ">",
        [TERN_T_GE] = ">=",
        [TERN_T_LT] = "<",
        [TERN_T_LE] = "<=",
        [TERN_T_ASSIGN] = "=",
        [TERN_T_DOT] = ".",
        [TERN_T_COLON] = ":",
        [TERN_T_PIPE] = "|",
        [TERN_T_COMMA] = ",",
        [TERN_T_SEMICOLON] = ";",
    };

    return names[kind];
}

/* ---- looking ahead ---- */

static bool looking_at(const struct tern_lexer *l, size_t at, const char *text)
{
    const size_t n = strlen(text);

    return l->size - at >= n && memcmp(l->text + at, text, n) == 0;
}

/* Where the white space at `at` ends. */
static size_t skip_space(const struct tern_lexer *l, size_t at)
{
    while (at < l->size) {
        size_t next = at;

        if (!tern_char_is_python_space(tern_utf8_next(l->text, &next)))
            break;
        at = next;
    }
    return at;
}

/* Moves to `to`, and counts the lines. */
static void advance(struct tern_lexer *l, size_t to)
{
    for (size_t i = l->at; i < to; i++)
        l->line += l->text[i] == '\n';
    l->line_starts = to > l->at && l->text[to - 1] == '\n';
    l->at = to;
}

/* The end of a tag that closes with `close` ("%}", "#}", "}}") at `at`: behind it and what is trimmed; 0 if it is not there.
 * plus: "+%}" keeps the newline.  trims: a newline behind it goes. */
static size_t tag_end(const struct tern_lexer *l, size_t at, const char *close, bool plus, bool trims)
{
    if (at < l->size && l->text[at] == '-' && looking_at(l, at + 1, close))
        return skip_space(l, at + 3);
    if (plus && at < l->size && l->text[at] == '+' && looking_at(l, at + 1, close))
        return at + 3;
    if (!looking_at(l, at, close))
        return 0;
    return at + 2 + (trims && at + 2 < l->size && l->text[at + 2] == '\n');
}

/* ---- text ---- */

/* The text [begin, end) before a tag, as the tag's sign and kind leave it. */
static size_t strip_before(const struct tern_lexer *l, size_t begin, size_t end, char sign, bool block)
{
    size_t line, at;

    if (sign == '-') {
        while (end > begin) {
            size_t before = end;

            if (!tern_char_is_python_space(tern_utf8_previous(l->text, &before)))
                break;
            end = before;
        }
        return end;
    }
    if (sign == '+' || !block)
        return end;
    for (line = end; line > begin && l->text[line - 1] != '\n'; line--)
        ;
    if (line == begin && !l->line_starts)
        return end;
    for (at = line; at < end;) {
        if (!tern_char_is_python_space(tern_utf8_next(l->text, &at)))
            return end;
    }
    return line;
}

static void give_text(struct tern_lexer *l, size_t begin, size_t end, struct tern_template_token *out)
{
    *out = (struct tern_template_token){
        .kind = TERN_T_DATA, .line = l->line, .text = l->text + begin, .size = end - begin
    };
}

/* "{% raw %}" at `at`: behind it, 0 if it is something else. */
static size_t raw_tag(const struct tern_lexer *l, size_t at, const char *word)
{
    at += 2;
    if (at < l->size && (l->text[at] == '-' || l->text[at] == '+'))
        at++;
    at = skip_space(l, at);
    if (!looking_at(l, at, word))
        return 0;
    return skip_space(l, at + strlen(word));
}

/* What stands between {% raw %} and {% endraw %}; l->at is behind the first. */
static tern_status raw_text(struct tern_lexer *l, uint32_t line, struct tern_template_token *out)
{
    for (size_t at = l->at; at < l->size; at++) {
        size_t behind, end;

        if (!looking_at(l, at, "{%"))
            continue;
        behind = raw_tag(l, at, "endraw");
        end = behind ? tag_end(l, behind, "%}", true, true) : 0;
        if (!end)
            continue;
        const char sign = l->text[at + 2];
        give_text(l, l->at, strip_before(l, l->at, at, sign, true), out);
        advance(l, end);
        return TERN_OK;
    }
    if (l->at < l->size)
        FAIL(l, line, "'raw' has no 'endraw'");
    give_text(l, l->at, l->at, out);
    return TERN_OK;
}

static tern_status comment(struct tern_lexer *l, char sign)
{
    /* A sign belongs to the beginning: "{#-#}" takes white space before it alone. */
    const size_t begin = l->at + 2 + (sign == '-' || sign == '+');

    for (size_t at = begin; at < l->size; at++) {
        const size_t end = tag_end(l, at, "#}", true, true);

        if (end) {
            advance(l, end);
            return TERN_OK;
        }
    }
    if (begin < l->size)
        FAIL(l, l->line, "a comment has no end, '#}'");
    advance(l, begin); /* jinja2 does not mind one of which there is no more than that */
    return TERN_OK;
}

/* Text up to the next tag, which is entered: TERN_T_DATA, possibly of no bytes. */
static tern_status lex_text(struct tern_lexer *l, struct tern_template_token *out)
{
    size_t at = l->at;

    while (at < l->size &&
           !(l->text[at] == '{' && at + 1 < l->size && strchr("{%#", l->text[at + 1]) && l->text[at + 1]))
        at++;
    if (at == l->size) {
        give_text(l, l->at, at, out);
        if (out->size == 0)
            out->kind = TERN_T_END;
        advance(l, at);
        return TERN_OK;
    }
    const char kind = l->text[at + 1], sign = at + 2 < l->size ? l->text[at + 2] : '\0';
    size_t raw = kind == '%' ? raw_tag(l, at, "raw") : 0;

    if (raw) /* its end takes no newline, unlike those of other tags */
        raw = tag_end(l, raw, "%}", false, false);
    give_text(l, l->at, strip_before(l, l->at, at, sign, kind != '{'), out);
    advance(l, at);
    if (raw) {
        l->state = IN_TEXT;
        const uint32_t line = l->line;
        struct tern_template_token inside = { .size = 0 };

        advance(l, raw);
        TERN_TRY(raw_text(l, line, &inside));
        /* One token of both. */
        char *text;
        TERN_TRY(TERN_POOL_TAKE(l->ctx, l->pool, out->size + inside.size + 1, &text));
        if (out->size > 0)
            memcpy(text, out->text, out->size);
        if (inside.size > 0)
            memcpy(text + out->size, inside.text, inside.size);
        out->text = text;
        out->size += inside.size;
        return TERN_OK;
    }
    if (kind == '#')
        return comment(l, sign);
    l->state = kind == '{' ? AT_PRINT : AT_BLOCK;
    return TERN_OK;
}

/* ---- inside of tags ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int digit_of(char c)
{
    return is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : 99;
}

/* Behind digits that may have single underscores between them; `at` if there is none. */
static size_t skip_digits(const struct tern_lexer *l, size_t at, int base, bool underscore_first)
{
    const size_t begin = at;
    bool after = !underscore_first; /* no underscore may come here */

    while (at < l->size) {
        if (digit_of(l->text[at]) < base) {
            after = false;
            at++;
        } else if (l->text[at] == '_' && !after && at + 1 < l->size && digit_of(l->text[at + 1]) < base) {
            at++;
        } else {
            break;
        }
    }
    return at > begin ? at : begin;
}

/* Where a float that begins at `at` ends; 0: it is an integer. */
static size_t float_end(const struct tern_lexer *l, size_t at)
{
    size_t end = skip_digits(l, at, 10, false), e;
    bool is_float = false;

    if (at > 0 && l->text[at - 1] == '.')
        return 0;
    if (end + 1 < l->size && l->text[end] == '.' && is_digit(l->text[end + 1])) {
        end = skip_digits(l, end + 1, 10, false);
        is_float = true;
    }
    if (end < l->size && (l->text[end] == 'e' || l->text[end] == 'E')) {
        e = end + 1;
        if (e < l->size && (l->text[e] == '+' || l->text[e] == '-'))
            e++;
        if (e < l->size && is_digit(l->text[e]))
            return skip_digits(l, e, 10, false);
    }
    return is_float ? end : 0;
}

static tern_status lex_number(struct tern_lexer *l, struct tern_template_token *out)
{
    const char *t = l->text + l->at;
    size_t end = float_end(l, l->at);
    int64_t number = 0;
    int base = 10;

    if (end) {
        const struct tern_vstring digits = { .data = t, .size = end - l->at };

        out->kind = TERN_T_FLOAT;
        if (!tern_float_parse(&digits, &out->real))
            FAIL(l, l->line, "'%.*s' is no number", (int)(digits.size > 60 ? 60 : digits.size), t);
        advance(l, end);
        return TERN_OK;
    }
    end = l->at + 1;
    if (*t == '0' && l->size - l->at > 2 && strchr("bBoOxX", t[1]) && t[1]) {
        const int wanted = t[1] == 'b' || t[1] == 'B' ? 2 : t[1] == 'o' || t[1] == 'O' ? 8 : 16;
        const size_t digits = skip_digits(l, l->at + 2, wanted, true);

        if (digits > l->at + 2 && l->text[digits - 1] != '_') {
            base = wanted;
            end = digits;
        }
    } else if (*t == '0') {
        while (end < l->size &&
               (l->text[end] == '0' || (l->text[end] == '_' && end + 1 < l->size && l->text[end + 1] == '0')))
            end++;
    } else {
        end = skip_digits(l, l->at, 10, false);
    }
    for (size_t i = l->at + (base == 10 ? 0 : 2); i < end; i++) {
        if (l->text[i] == '_')
            continue;
        if (__builtin_mul_overflow(number, base, &number) ||
            __builtin_add_overflow(number, digit_of(l->text[i]), &number))
            FAIL(l, l->line, "the integer '%.*s' has more than 64 bits", (int)(end - l->at > 60 ? 60 : end - l->at), t);
    }
    out->kind = TERN_T_INTEGER;
    out->integer = number;
    advance(l, end);
    return TERN_OK;
}

/* One escape sequence of a string, behind the backslash at text[*at]. */
static tern_status lex_escape(struct tern_lexer *l, const char *text, size_t size, size_t *at, char *out, size_t *n)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char c = text[*at];
    const char *simple = c ? strchr(from, c) : NULL;
    uint32_t code = 0;

    (*at)++;
    if (simple) {
        out[(*n)++] = to[simple - from];
    } else if (c == '\n') {
        /* a line that goes on: nothing */
    } else if (c >= '0' && c <= '7') {
        code = (uint32_t)(c - '0');
        for (int i = 0; i < 2 && *at < size && text[*at] >= '0' && text[*at] <= '7'; i++)
            code = 8 * code + (uint32_t)(text[(*at)++] - '0');
        *n += tern_utf8_put(code, out + *n);
    } else if (c == 'x' || c == 'u' || c == 'U') {
        const int digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;

        for (int i = 0; i < digits; i++, (*at)++) {
            if (*at >= size || digit_of(text[*at]) > 15)
                FAIL(l, l->line, "the escape \\%c in a string wants %d hexadecimal digits, got %d", c, digits, i);
            code = 16 * code + (uint32_t)digit_of(text[*at]);
        }
        if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
            FAIL(l, l->line, "the escape \\%c%0*" PRIX32 " in a string is no character", c, digits, code);
        *n += tern_utf8_put(code, out + *n);
    } else if (c == 'N') {
        FAIL(l, l->line, "the escape \\N{...} in a string is not one that tern has");
    } else { /* Python keeps the backslash */
        (*at)--;
        out[(*n)++] = '\\';
    }
    return TERN_OK;
}

static tern_status lex_string(struct tern_lexer *l, struct tern_template_token *out)
{
    const char quote = l->text[l->at];
    const size_t begin = l->at + 1;
    size_t end = begin, n = 0;
    char *text;

    while (end < l->size && l->text[end] != quote)
        end += l->text[end] == '\\' ? 2 : 1;
    if (end >= l->size)
        FAIL(l, l->line, "a string that begins with %c has no end", quote);
    /* An escape is never shorter than what it stands for, but for \ooo and \xhh above 0x7F: both have 4 bytes. */
    TERN_TRY(TERN_POOL_TAKE(l->ctx, l->pool, end - begin + 1, &text));
    for (size_t i = begin; i < end;) {
        if (l->text[i] != '\\') {
            text[n++] = l->text[i++];
            continue;
        }
        i++;
        TERN_TRY(lex_escape(l, l->text, end, &i, text, &n));
    }
    out->kind = TERN_T_STRING;
    out->text = text;
    out->size = n;
    advance(l, end + 1);
    return TERN_OK;
}

/* str.isidentifier(), by the categories that XID_Start and XID_Continue are made of. */
static bool is_name_char(uint32_t code, bool first)
{
    if (code < 0x80)
        return code == '_' || (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z') ||
               (!first && code >= '0' && code <= '9');
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_NL:
        return true;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_PC:
        return !first;
    default:
        return false;
    }
}

static size_t name_end(const struct tern_lexer *l, size_t at)
{
    bool first = true;

    while (at < l->size) {
        size_t next = at;

        if (!is_name_char(tern_utf8_next(l->text, &next), first))
            break;
        first = false;
        at = next;
    }
    return at;
}

static tern_status balance(struct tern_lexer *l, char c)
{
    static const char opening[] = "([{", closing[] = ")]}";
    const char *found = strchr(opening, c);

    if (found) {
        if (l->n_open >= TERN_TEMPLATE_NESTING)
            return tern_fail(l->ctx, TERN_ERR_CAPACITY,
                             "%s, line %" PRIu32 ": the limit of nesting is %d, and there are more open parentheses",
                             l->name, l->line, TERN_TEMPLATE_NESTING);
        TERN_TRY(TERN_GROW(l->ctx, &l->open, &l->open_capacity, l->n_open + 1, "parentheses"));
        l->open[l->n_open++] = closing[found - opening];
    } else if (strchr(closing, c)) {
        if (l->n_open == 0)
            FAIL(l, l->line, "unexpected '%c'", c);
        if (l->open[--l->n_open] != c)
            FAIL(l, l->line, "unexpected '%c', expected '%c'", c, l->open[l->n_open]);
    }
    return TERN_OK;
}

static tern_status lex_operator(struct tern_lexer *l, struct tern_template_token *out)
{
    static const struct {
        char text[3];
        enum tern_lexeme kind;
    } operators[] = {
        { "//", TERN_T_FLOORDIV }, { "**", TERN_T_POW },      { "==", TERN_T_EQ },    { "!=", TERN_T_NE },
        { ">=", TERN_T_GE },       { "<=", TERN_T_LE },       { "+", TERN_T_ADD },    { "-", TERN_T_SUB },
        { "/", TERN_T_DIV },       { "*", TERN_T_MUL },       { "%", TERN_T_MOD },    { "~", TERN_T_TILDE },
        { "[", TERN_T_LBRACKET },  { "]", TERN_T_RBRACKET },  { "(", TERN_T_LPAREN }, { ")", TERN_T_RPAREN },
        { "{", TERN_T_LBRACE },    { "}", TERN_T_RBRACE },    { ">", TERN_T_GT },     { "<", TERN_T_LT },
        { "=", TERN_T_ASSIGN },    { ".", TERN_T_DOT },       { ":", TERN_T_COLON },  { "|", TERN_T_PIPE },
        { ",", TERN_T_COMMA },     { ";", TERN_T_SEMICOLON },
    };

    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
        if (!looking_at(l, l->at, operators[i].text))
            continue;
        TERN_TRY(balance(l, operators[i].text[0]));
        out->kind = operators[i].kind;
        out->text = l->text + l->at;
        out->size = strlen(operators[i].text);
        advance(l, l->at + out->size);
        return TERN_OK;
    }
    size_t end = l->at;
    (void)tern_utf8_next(l->text, &end);
    FAIL(l, l->line, "unexpected character '%.*s'", (int)(end - l->at), l->text + l->at);
}

static tern_status lex_tag(struct tern_lexer *l, struct tern_template_token *out)
{
    const bool print = l->state == IN_PRINT;

    for (;;) {
        const size_t end =
            l->n_open > 0 ? 0 : tag_end(l, l->at, print ? "}}" : "%}", !print, !print); /* before operators */

        *out = (struct tern_template_token){ .line = l->line };
        if (end) {
            out->kind = print ? TERN_T_PRINT_END : TERN_T_BLOCK_END;
            advance(l, end);
            l->state = IN_TEXT;
            return TERN_OK;
        }
        if (l->at >= l->size) {
            if (l->n_open > 0)
                FAIL(l, l->line, "unexpected end of template, expected '%c'", l->open[l->n_open - 1]);
            out->kind = TERN_T_END;
            return TERN_OK;
        }
        const size_t space = skip_space(l, l->at);
        if (space == l->at)
            break;
        advance(l, space);
    }
    const char c = l->text[l->at];
    const size_t name = name_end(l, l->at);

    if (is_digit(c))
        return lex_number(l, out);
    if (name > l->at) {
        out->kind = TERN_T_NAME;
        out->text = l->text + l->at;
        out->size = name - l->at;
        advance(l, name);
        return TERN_OK;
    }
    if (c == '\'' || c == '"')
        return lex_string(l, out);
    return lex_operator(l, out);
}

tern_status tern_lexer_next(struct tern_lexer *l, struct tern_template_token *out)
{
    if (l->state == IN_TEXT)
        return lex_text(l, out);
    if (l->state == IN_PRINT || l->state == IN_BLOCK)
        return lex_tag(l, out);
    const bool print = l->state == AT_PRINT;
    const char sign = l->at + 2 < l->size ? l->text[l->at + 2] : '\0';

    *out = (struct tern_template_token){ .kind = print ? TERN_T_PRINT_BEGIN : TERN_T_BLOCK_BEGIN, .line = l->line };
    advance(l, l->at + (sign == '-' || sign == '+' ? 3 : 2));
    l->state = print ? IN_PRINT : IN_BLOCK;
    return TERN_OK;
}
