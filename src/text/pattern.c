/* pattern.c: regular expressions of tokenizer.json, run by PCRE2.
 *
 * The files are written for Oniguruma with Ruby's syntax.  Most of what they use means the same in both, and the
 * rest is either written in other words (\s, \w, \b, ^, $, scripts) or refused by name: a pattern that quietly means
 * something else would give wrong ids.  translate() reads the expression once and knows every construct that it lets
 * through.
 *
 * Differences that it settles: \s is White_Space (PCRE2's has U+180E, too); \w is Alphabetic, marks, decimal digits
 * and connectors (PCRE2's has no marks, but all numbers); \p{Han} is the script, not the script extensions; ^ and $
 * are at lines; \h, \v, \R, \X, \G, \K, \Z, (?m), sets taken from sets and {n}+ mean different things. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pattern.h"

#include "base/memory.h"
#include "base/utf8.h"

#include <pcre2.h>
#include <string.h>

#define MATCH_LIMIT      10000000 /* internal steps for one place: seconds, not hours */
#define MATCH_LIMIT_EACH 16       /* more for each byte of text, where a place has to be tried again */
#define HEAP_LIMIT_KIB   262144   /* backtracking without JIT */
#define JIT_STACK_EACH   32       /* bytes of backtracking with JIT for each byte of the text, and their limits */
#define JIT_STACK_MIN    ((size_t)1 << 20)
#define JIT_STACK_MAX    ((size_t)1 << 30)
#define PATTERN_MAX      65536 /* bytes of an expression */

struct tern_pattern {
    pcre2_code *code;
    uint64_t *steps; /* NULL: nobody counts */
};

struct tern_pattern_match {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack; /* NULL: the 32 KiB on the machine's own have been enough */
    size_t stack_size;
};

/* ---- memory: PCRE2 asks tern's functions ------------------------------------------------------------------------- */

static void *allocate(size_t size, void *unused)
{
    void *p;

    (void)unused;
    return tern_alloc(NULL, size, 1, "a pattern", &p) == TERN_OK ? p : NULL;
}

static void release(void *p, void *unused)
{
    (void)unused;
    tern_free(p);
}

/* ---- from Oniguruma's language to PCRE2's ------------------------------------------------------------------------ */

#define SPACES \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NO_SPACES                                                                                                      \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}" \
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
#define WORDS                                                                   \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}" \
    "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"

/* Outside of a set, Oniguruma asks a table for characters below U+0100, and that one has superscripts and fractions. */
#define LONE_WORDS WORDS "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"
#define BEHIND     "(?<=[" LONE_WORDS "])"
#define NOT_BEHIND "(?<![" LONE_WORDS "])"
#define BEFORE     "(?=[" LONE_WORDS "])"
#define NOT_BEFORE "(?![" LONE_WORDS "])"

struct translation {
    tern_ctx *ctx;
    const char *where;
    const char *in;
    size_t size, at;
    char *out;
    size_t used, capacity;
    uint64_t caseless; /* bit d: letters in the group of depth d match without case */
    unsigned depth;    /* groups that are open */
};

static tern_status emit(struct translation *t, const char *text, size_t size)
{
    TERN_TRY(TERN_GROW(t->ctx, &t->out, &t->capacity, t->used + size + 1, "a pattern"));
    memcpy(t->out + t->used, text, size);
    t->used += size;
    t->out[t->used] = 0;
    return TERN_OK;
}

static tern_status emit_text(struct translation *t, const char *text)
{
    return emit(t, text, strlen(text));
}

/* The next `size` bytes as they are. */
static tern_status copy(struct translation *t, size_t size)
{
    TERN_TRY(emit(t, t->in + t->at, size));
    t->at += size;
    return TERN_OK;
}

static tern_status refuse(struct translation *t, const char *what)
{
    return tern_fail(t->ctx, TERN_ERR_UNSUPPORTED, "%s: %s at byte %zu of the pattern is not supported", t->where, what,
                     t->at);
}

static bool starts(const struct translation *t, const char *text)
{
    const size_t n = strlen(text);

    return t->size - t->at >= n && memcmp(t->in + t->at, text, n) == 0;
}

static int peek(const struct translation *t, size_t ahead)
{
    return t->size - t->at > ahead ? (unsigned char)t->in[t->at + ahead] : -1;
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(int c)
{
    return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* \p{Name}, \p{^Name}, \P{Name}: general categories have the same names in both, scripts get "sc:". */
static tern_status translate_property(struct translation *t)
{
    static const char categories[] =
        " L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp "
        "C Cc Cf Cn Co Cs Any ";
    const char *begin = t->in + t->at + 3, *end;
    bool negated = t->in[t->at + 1] == 'P';
    char name[32], needle[36];

    if (peek(t, 2) != '{')
        return refuse(t, "\\p without braces");
    end = memchr(begin, '}', t->size - t->at - 3);
    if (end && *begin == '^') {
        negated = !negated;
        begin++;
    }
    if (!end || end == begin || (size_t)(end - begin) >= sizeof name)
        return refuse(t, "this \\p{...}");
    memcpy(name, begin, (size_t)(end - begin));
    name[end - begin] = 0;
    for (const char *c = name; *c; c++)
        if (!((*c | 0x20) >= 'a' && (*c | 0x20) <= 'z') && *c != '_')
            return refuse(t, "this \\p{...}");

    needle[0] = ' ';
    memcpy(needle + 1, name, strlen(name));
    memcpy(needle + 1 + strlen(name), " ", 2);
    TERN_TRY(emit_text(t, negated ? "\\P{" : "\\p{"));
    if (!strstr(categories, needle))
        TERN_TRY(emit_text(t, "sc:"));
    TERN_TRY(emit_text(t, name));
    t->at = (size_t)(end - t->in) + 1;
    return emit_text(t, "}");
}

static tern_status translate_escape(struct translation *t, bool in_class)
{
    const int c = peek(t, 1);
    const char *words = NULL;
    char what[8];

    switch (c) {
    case -1:
        return tern_fail(t->ctx, TERN_ERR_FORMAT, "%s: the pattern ends with a lone backslash", t->where);
    case 'p':
    case 'P':
        return translate_property(t);
    case 'd':
    case 'D':
    case 'r':
    case 'n':
    case 't':
    case 'f':
    case 'a':
    case 'e':
        return copy(t, 2);
    case 'A':
    case 'z':
        if (!in_class)
            return copy(t, 2);
        break;
    case 'b':
        words = in_class ? "\\x{8}" : "(?:" BEHIND NOT_BEFORE "|" NOT_BEHIND BEFORE ")";
        break;
    case 'B':
        words = in_class ? NULL : "(?:" BEHIND BEFORE "|" NOT_BEHIND NOT_BEFORE ")";
        break;
    case 's':
        words = in_class ? SPACES : "[" SPACES "]";
        break;
    case 'S':
        words = in_class ? NO_SPACES : "[" NO_SPACES "]";
        break;
    case 'w':
        words = in_class ? WORDS : "[" LONE_WORDS "]";
        break;
    case 'W':
        words = in_class ? NULL : "[^" LONE_WORDS "]";
        break;
    case 'x':
        if (peek(t, 2) == '{') {
            size_t n = 3;

            while (is_hex(peek(t, n)))
                n++;
            if (n > 3 && n <= 9 && peek(t, n) == '}')
                return copy(t, n + 1);
        } else if (is_hex(peek(t, 2)) && is_hex(peek(t, 3)) && peek(t, 2) < '8') {
            return copy(t, 4);
        }
        break;
    case 'u':
        if (is_hex(peek(t, 2)) && is_hex(peek(t, 3)) && is_hex(peek(t, 4)) && is_hex(peek(t, 5))) {
            TERN_TRY(emit_text(t, "\\x{"));
            TERN_TRY(emit(t, t->in + t->at + 2, 4));
            t->at += 6;
            return emit_text(t, "}");
        }
        break;
    default:
        if (c < 0x80 && !is_digit(c) && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))
            return copy(t, 2);
    }
    if (words) {
        t->at += 2;
        return emit_text(t, words);
    }
    memcpy(what, "\\?", 3);
    what[1] = (char)(c < 0x80 ? c : '?');
    return refuse(t, what);
}

#define DEPTH_MAX 60

static bool is_caseless(const struct translation *t)
{
    return t->caseless >> t->depth & 1;
}

/* Where a set begins or ends inside of another: the two are one set together, which PCRE2 has no brackets for.  A
 * hyphen beside the inner bracket would become a range. */
static tern_status translate_inner_bracket(struct translation *t, unsigned *depth)
{
    const bool opens = peek(t, 0) == '[';

    if (opens && (peek(t, 1) == '^' || peek(t, 1) == ':' || peek(t, 1) == ']'))
        return refuse(t, "a set of this kind inside of a set");
    if (t->in[t->at - 1] == '-' || peek(t, 1) == '-')
        return refuse(t, "a hyphen beside a set inside of a set");
    *depth += opens ? 1 : -1U;
    t->at++;
    return TERN_OK;
}

static tern_status translate_class(struct translation *t)
{
    unsigned depth = 0; /* sets inside of this one */

    TERN_TRY(copy(t, 1));
    if (peek(t, 0) == '^')
        TERN_TRY(copy(t, 1));
    if (peek(t, 0) == ']')
        return refuse(t, "']' as the first character of a set");
    while (peek(t, 0) != ']' || depth > 0) {
        if (is_caseless(t) && (peek(t, 0) >= 0x80 || peek(t, 0) == '\\'))
            return refuse(t, "this character in a set in a group without case");
        switch (peek(t, 0)) {
        case -1:
            return tern_fail(t->ctx, TERN_ERR_FORMAT, "%s: the pattern ends inside of a set, expected ']'", t->where);
        case '[':
        case ']':
            TERN_TRY(translate_inner_bracket(t, &depth));
            break;
        case '&':
            if (peek(t, 1) == '&')
                return refuse(t, "'&&'");
            TERN_TRY(copy(t, 1));
            break;
        case '\\':
            TERN_TRY(translate_escape(t, true));
            break;
        default:
            TERN_TRY(copy(t, 1));
        }
    }
    return copy(t, 1);
}

/* Without case, Oniguruma lets one letter match several (ss and sharp s, fi and its ligature) and sees properties as
 * they are; PCRE2 does neither.  What could meet that is refused. */
static tern_status check_caseless(struct translation *t)
{
    static const char *const pairs[] = { "ss", "ff", "fi", "fl", "st" };
    const int c = peek(t, 0), next = peek(t, 1);

    if (!is_caseless(t))
        return TERN_OK;
    if (c >= 0x80 || (c == '\\' && next >= 0 && strchr("pPxu", next)))
        return refuse(t, "this character in a group without case");
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if ((c | 0x20) == pairs[i][0] && (next | 0x20) == pairs[i][1])
            return refuse(t, "this pair of letters in a group without case");
    return TERN_OK;
}

static tern_status translate_group(struct translation *t)
{
    static const char *const same[] = { "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:" };
    const uint64_t bit = UINT64_C(2) << t->depth;
    const bool caseless = starts(t, "(?i:") || (is_caseless(t) && !starts(t, "(?-i:"));

    if (t->at == 0 && starts(t, "(?i)")) {
        t->caseless |= 1;
        return copy(t, 4);
    }
    if (t->depth == DEPTH_MAX)
        return refuse(t, "a group this deep in groups");
    t->depth++;
    t->caseless = caseless ? t->caseless | bit : t->caseless & ~bit;

    if (peek(t, 1) == '*')
        return refuse(t, "'(*'");
    if (peek(t, 1) != '?')
        return copy(t, 1);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (starts(t, same[i]))
            return copy(t, strlen(same[i]));
    return refuse(t, "this group");
}

/* {n}, {n,}, {n,m}, {,m}, perhaps lazy; a brace that is no quantifier is a character in both. */
static tern_status translate_brace(struct translation *t)
{
    size_t n = 1, low, high;
    bool comma = false;

    for (low = 0; is_digit(peek(t, n)); n++)
        low++;
    if (peek(t, n) == ',') {
        comma = true;
        n++;
    }
    for (high = 0; is_digit(peek(t, n)); n++)
        high++;
    if (peek(t, n) != '}' || (low == 0 && high == 0)) {
        t->at++;
        return emit_text(t, "\\{");
    }
    if (peek(t, n + 1) == '+' || (!comma && peek(t, n + 1) == '?'))
        return refuse(t, "a sign behind {...}");
    if (low == 0) {
        TERN_TRY(emit_text(t, "{0"));
        t->at++;
        return copy(t, n);
    }
    return copy(t, n + 1);
}

static tern_status translate(struct translation *t)
{
    while (t->at < t->size) {
        TERN_TRY(check_caseless(t));
        switch (peek(t, 0)) {
        case '\\':
            TERN_TRY(translate_escape(t, false));
            break;
        case '[':
            TERN_TRY(translate_class(t));
            break;
        case '(':
            TERN_TRY(translate_group(t));
            break;
        case ')':
            t->depth -= t->depth > 0; /* one too many is PCRE2's to refuse */
            TERN_TRY(copy(t, 1));
            break;
        case '{':
            TERN_TRY(translate_brace(t));
            break;
        default:
            TERN_TRY(copy(t, 1));
        }
    }
    return emit_text(t, "");
}

/* ---- compiling and matching -------------------------------------------------------------------------------------- */

static tern_status compile(tern_ctx *ctx, struct tern_pattern *pattern, const char *text, size_t size, bool literal,
                           const char *where)
{
    const uint32_t counting = pattern->steps ? PCRE2_AUTO_CALLOUT | PCRE2_NO_AUTO_POSSESS : 0;
    const uint32_t options = literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | counting;
    pcre2_general_context *memory = pcre2_general_context_create(allocate, release, NULL);
    pcre2_compile_context *context = memory ? pcre2_compile_context_create(memory) : NULL;
    tern_status status = TERN_OK;
    int error = 0;
    PCRE2_SIZE offset = 0;

    if (context) {
        pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        pattern->code =
            pcre2_compile((PCRE2_SPTR)text, size, PCRE2_UTF | PCRE2_NO_UTF_CHECK | options, &error, &offset, context);
    }
    if (!pattern->code && (error == 0 || error == PCRE2_ERROR_HEAP_FAILED)) {
        status = tern_fail_memory(ctx, size, "a pattern");
    } else if (!pattern->code) {
        char message[160];

        pcre2_get_error_message(error, (PCRE2_UCHAR *)message, sizeof message);
        status = tern_fail(ctx, TERN_ERR_FORMAT, "%s: not a regular expression: %s, at byte %zu of '%.*s'", where,
                           message, (size_t)offset, (int)(size < 200 ? size : 200), text);
    } else if (!pattern->steps) {
        pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE); /* where there is no JIT, matching is slower, no more */
    }
    pcre2_compile_context_free(context);
    pcre2_general_context_free(memory);
    return status;
}

static tern_status create(tern_ctx *ctx, const char *text, size_t size, bool literal, const char *where,
                          uint64_t *steps, struct tern_pattern **out)
{
    struct translation t = { .ctx = ctx, .where = where, .in = text, .size = size };
    struct tern_pattern *pattern = NULL;
    tern_status status;

    *out = NULL;
    TERN_REQUIRE(ctx, size <= PATTERN_MAX, TERN_ERR_FORMAT, "%s: a pattern of %zu bytes, at most %d", where, size,
                 PATTERN_MAX);
    TERN_TRY(TERN_ALLOC(ctx, 1, "a pattern", &pattern));
    pattern->steps = steps;
    if (!literal) {
        TERN_TRY_OR_FAIL(translate(&t));
        TERN_TRY_OR_FAIL(compile(ctx, pattern, t.out, t.used, false, where));
    } else {
        TERN_TRY_OR_FAIL(compile(ctx, pattern, text, size, true, where));
    }
    tern_free(t.out);
    *out = pattern;
    return TERN_OK;

fail:
    tern_free(t.out);
    tern_pattern_destroy(pattern);
    return status;
}

tern_status tern_pattern_create(tern_ctx *ctx, const char *text, size_t size, bool literal, const char *where,
                                struct tern_pattern **out)
{
    return create(ctx, text, size, literal, where, NULL, out);
}

tern_status tern_pattern_create_counting(tern_ctx *ctx, const char *text, size_t size, const char *where,
                                         uint64_t *steps, struct tern_pattern **out)
{
    return create(ctx, text, size, false, where, steps, out);
}

void tern_pattern_destroy(struct tern_pattern *pattern)
{
    if (!pattern)
        return;
    pcre2_code_free(pattern->code);
    tern_free(pattern);
}

bool tern_pattern_matches_empty(const struct tern_pattern *pattern)
{
    uint32_t empty = 1;

    pcre2_pattern_info(pattern->code, PCRE2_INFO_MATCHEMPTY, &empty);
    return empty != 0;
}

tern_status tern_pattern_match_create(tern_ctx *ctx, struct tern_pattern_match **out)
{
    struct tern_pattern_match *match;
    pcre2_general_context *memory;

    *out = NULL;
    TERN_TRY(TERN_ALLOC(ctx, 1, "a pattern's matches", &match));
    memory = pcre2_general_context_create(allocate, release, NULL);
    match->data = memory ? pcre2_match_data_create(1, memory) : NULL;
    match->context = memory ? pcre2_match_context_create(memory) : NULL;
    pcre2_general_context_free(memory);
    if (!match->data || !match->context) {
        tern_pattern_match_destroy(match);
        return tern_fail_memory(ctx, sizeof *match, "a pattern's matches");
    }
    pcre2_set_heap_limit(match->context, HEAP_LIMIT_KIB);
    *out = match;
    return TERN_OK;
}

void tern_pattern_match_destroy(struct tern_pattern_match *match)
{
    if (!match)
        return;
    pcre2_match_data_free(match->data);
    pcre2_match_context_free(match->context);
    pcre2_jit_stack_free(match->stack);
    tern_free(match);
}

/* Steps that the one attempt at a place may take that is made when a search has come to its limit. */
static uint32_t long_limit(size_t left)
{
    return left < (UINT32_MAX - MATCH_LIMIT) / MATCH_LIMIT_EACH ? MATCH_LIMIT + MATCH_LIMIT_EACH * (uint32_t)left
                                                                : UINT32_MAX;
}

/* A larger stack for JIT, for a text of `size` bytes; false where there is none. */
static bool grow_stack(struct tern_pattern_match *match, size_t size)
{
    size_t wanted = size < JIT_STACK_MAX / JIT_STACK_EACH ? size * JIT_STACK_EACH : JIT_STACK_MAX;

    wanted = wanted > JIT_STACK_MIN ? wanted : JIT_STACK_MIN;
    if (wanted <= match->stack_size)
        return false;
    pcre2_jit_stack_free(match->stack);
    match->stack = pcre2_jit_stack_create(JIT_STACK_MIN, wanted, NULL);
    match->stack_size = match->stack ? wanted : 0;
    pcre2_jit_stack_assign(match->context, NULL, match->stack);
    return match->stack != NULL;
}

static int count_step(pcre2_callout_block *unused, void *steps)
{
    (void)unused;
    ++*(uint64_t *)steps;
    return 0;
}

/* A JIT that runs out of its stack gets a larger one, and is followed by the interpreter. */
static int match_from(const struct tern_pattern *pattern, struct tern_pattern_match *match,
                      const struct tern_pattern_walk *walk, uint32_t limit, uint32_t options)
{
    const PCRE2_SPTR text = (PCRE2_SPTR)walk->text;
    int rc;

    options |= PCRE2_NO_UTF_CHECK;
    pcre2_set_match_limit(match->context, limit);
    if (pattern->steps)
        pcre2_set_callout(match->context, count_step, pattern->steps);
    do
        rc = pcre2_match(pattern->code, text, walk->size, walk->from, options, match->data, match->context);
    while (rc == PCRE2_ERROR_JIT_STACKLIMIT && grow_stack(match, walk->size));
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(pattern->code, text, walk->size, walk->from, options | PCRE2_NO_JIT, match->data,
                         match->context);
    return rc;
}

/* The first match from walk->from on.  A run of white space of many megabytes takes more steps than the limit where an
 * expression matches it as well: so what comes to the limit is tried once more, at this place alone, with a limit that
 * grows with the text; as often as runs of that length can stand in it. */
static int search(const struct tern_pattern *pattern, struct tern_pattern_match *match, struct tern_pattern_walk *walk)
{
    int rc = match_from(pattern, match, walk, MATCH_LIMIT, 0);

    if (rc == PCRE2_ERROR_MATCHLIMIT && walk->n_long <= walk->size / (MATCH_LIMIT / MATCH_LIMIT_EACH)) {
        walk->n_long++;
        rc = match_from(pattern, match, walk, long_limit(walk->size - walk->from), PCRE2_ANCHORED);
        if (rc == PCRE2_ERROR_NOMATCH)
            rc = PCRE2_ERROR_MATCHLIMIT;
    }
    return rc;
}

/* What kept a search from its end. */
static tern_status fail_search(tern_ctx *ctx, const struct tern_pattern_walk *walk, int rc)
{
    if (rc == PCRE2_ERROR_NOMEMORY)
        return tern_fail_memory(ctx, walk->size, "a pattern's matches");
    if (rc == PCRE2_ERROR_HEAPLIMIT)
        return tern_fail(ctx, TERN_ERR_CAPACITY,
                         "a pattern of the tokenizer gives up at byte %zu of %zu: it needs more memory to go back to "
                         "than the limit of %d KiB",
                         walk->from, walk->size, HEAP_LIMIT_KIB);
    return tern_fail(ctx, TERN_ERR_CAPACITY,
                     "a pattern of the tokenizer gives up at byte %zu of %zu: it needs more steps than the limit of "
                     "%d (%d)",
                     walk->from, walk->size, MATCH_LIMIT, rc);
}

tern_status tern_pattern_next(tern_ctx *ctx, const struct tern_pattern *pattern, struct tern_pattern_match *match,
                              struct tern_pattern_walk *walk, bool *found, size_t *begin, size_t *end)
{
    *found = false;
    while (walk->from <= walk->size) {
        const int rc = search(pattern, match, walk);

        if (rc == PCRE2_ERROR_NOMATCH)
            return TERN_OK;
        if (rc < 0)
            return fail_search(ctx, walk, rc);

        const PCRE2_SIZE *place = pcre2_get_ovector_pointer(match->data);
        *begin = place[0];
        *end = place[1];
        if (*begin == *end && *end == walk->last_end) {
            /* empty, right behind the last one: one character further */
            if (walk->from < walk->size)
                tern_utf8_next(walk->text, &walk->from);
            else
                walk->from++;
            continue;
        }
        walk->from = walk->last_end = *end;
        *found = true;
        return TERN_OK;
    }
    return TERN_OK;
}
