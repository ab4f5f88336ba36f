/* template_parser.c: what the parts of the parser stand on: tokens, names, nodes, and what can be known to be wrong of a whole template. */
#include "text/template_parser.h"

#include "base/memory.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct tern_node node;

tern_status tern_parse_fail(struct tern_parser *p, uint32_t line, tern_status status, const char *format, ...)
{
    char text[700];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return tern_fail(p->ctx, status, "%s, line %" PRIu32 ": %s", p->t->name, line, text);
}

/* ---- tokens ---- */

tern_status tern_parse_next(struct tern_parser *p)
{
    if (p->has_ahead) {
        p->token = p->ahead;
        p->has_ahead = false;
        return TERN_OK;
    }
    return tern_lexer_next(&p->lexer, &p->token);
}

tern_status tern_parse_look(struct tern_parser *p, const struct tern_template_token **out)
{
    if (!p->has_ahead) {
        TERN_TRY(tern_lexer_next(&p->lexer, &p->ahead));
        p->has_ahead = true;
    }
    *out = &p->ahead;
    return TERN_OK;
}

bool tern_token_is(const struct tern_template_token *t, const char *name)
{
    return t->kind == TERN_T_NAME && t->size == strlen(name) && memcmp(t->text, name, t->size) == 0;
}

bool tern_parse_at_name(const struct tern_parser *p, const char *name)
{
    return tern_token_is(&p->token, name);
}

bool tern_parse_at(const struct tern_parser *p, enum tern_lexeme kind)
{
    return p->token.kind == kind;
}

const char *tern_token_shown(const struct tern_template_token *t, char out[80])
{
    if (t->kind == TERN_T_NAME)
        snprintf(out, 80, "'%.*s'", (int)(t->size > 60 ? tern_utf8_uncut(t->text, 60) : t->size), t->text);
    else
        snprintf(out, 80, "'%s'", tern_lexeme_name(t->kind));
    return out;
}

tern_status tern_parse_expect(struct tern_parser *p, enum tern_lexeme kind)
{
    char got[80];

    if (!tern_parse_at(p, kind))
        return tern_parse_fail(p, p->token.line, TERN_ERR_FORMAT, "expected '%s', got %s", tern_lexeme_name(kind),
                               tern_token_shown(&p->token, got));
    return tern_parse_next(p);
}

tern_status tern_parse_expect_name(struct tern_parser *p, const char *name)
{
    char got[80];

    if (!tern_parse_at_name(p, name))
        return tern_parse_fail(p, p->token.line, TERN_ERR_FORMAT, "expected '%s', got %s", name,
                               tern_token_shown(&p->token, got));
    return tern_parse_next(p);
}

tern_status tern_parse_take_name(struct tern_parser *p, struct tern_template_token *out)
{
    char got[80];

    if (!tern_parse_at(p, TERN_T_NAME))
        return tern_parse_fail(p, p->token.line, TERN_ERR_FORMAT, "expected 'name', got %s",
                               tern_token_shown(&p->token, got));
    *out = p->token;
    return tern_parse_next(p);
}

tern_status tern_parse_skip_name(struct tern_parser *p, const char *name, bool *there)
{
    *there = tern_parse_at_name(p, name);
    return *there ? tern_parse_next(p) : TERN_OK;
}

/* ---- names and nodes ---- */

/* Where a name is in the index, or the empty place where it belongs. */
static size_t place_of(const struct tern_template *t, const char *name, size_t size, uint64_t hash)
{
    size_t at = hash & (t->n_index - 1);

    for (; t->index[at]; at = (at + 1) & (t->n_index - 1)) {
        const struct tern_name *n = t->names[t->index[at] - 1];

        if (n->hash == hash && n->text.size == size && memcmp(n->text.data, name, size) == 0)
            break;
    }
    return at;
}

const struct tern_vstring *tern_template_name(const struct tern_template *t, const char *name, size_t size)
{
    const uint32_t number = t->index[place_of(t, name, size, tern_bytes_hash(name, size))];

    return number ? &t->names[number - 1]->text : NULL;
}

static tern_status grow_index(struct tern_parser *p)
{
    struct tern_template *t = p->t;
    const size_t n = t->n_index ? 2 * t->n_index : 64;

    TERN_TRY(TERN_POOL_TAKE(p->ctx, &t->pool, n, &t->index));
    t->n_index = n;
    for (size_t i = 0; i < t->n_names; i++)
        t->index[place_of(t, t->names[i]->text.data, t->names[i]->text.size, t->names[i]->hash)] = (uint32_t)i + 1;
    return TERN_OK;
}

tern_status tern_parse_intern(struct tern_parser *p, const char *name, size_t size, const struct tern_vstring **out)
{
    const uint64_t hash = tern_bytes_hash(name, size);
    struct tern_template *t = p->t;
    struct tern_name *fresh;

    *out = t->n_index ? tern_template_name(t, name, size) : NULL;
    if (*out)
        return TERN_OK;
    if (2 * (t->n_names + 1) > t->n_index)
        TERN_TRY(grow_index(p));
    TERN_TRY(TERN_GROW(p->ctx, &t->names, &t->names_capacity, t->n_names + 1, "names of a template"));
    TERN_TRY(TERN_POOL_TAKE(p->ctx, &t->pool, 1, &fresh));
    fresh->text = (struct tern_vstring){ .data = name, .size = size, .n_chars = tern_utf8_count(name, size) };
    fresh->hash = hash;
    t->index[place_of(t, name, size, hash)] = (uint32_t)t->n_names + 1;
    t->names[t->n_names++] = fresh;
    *out = &fresh->text;
    return TERN_OK;
}

struct tern_name *tern_parse_name_of(const struct tern_vstring *name)
{
    return (struct tern_name *)(uintptr_t)name; /* which is its first member */
}

void tern_parse_mean(const struct tern_vstring *name)
{
    tern_parse_name_of(name)->meant = true;
}

tern_status tern_parse_want_meaning(struct tern_parser *p, const struct tern_vstring *name, uint32_t line, bool method)
{
    TERN_TRY(TERN_GROW(p->ctx, &p->pending, &p->pending_capacity, p->n_pending + 1, "names of a template"));
    p->pending[p->n_pending++] = (struct tern_pending){ name, line, method };
    return TERN_OK;
}

tern_status tern_node_make(struct tern_parser *p, enum tern_node_kind kind, uint32_t line, node **out)
{
    TERN_TRY(TERN_POOL_TAKE(p->ctx, &p->t->pool, 1, out));
    (*out)->kind = kind;
    (*out)->line = line;
    (*out)->depth = 1;
    return TERN_OK;
}

tern_status tern_node_deepen(struct tern_parser *p, node *n, const node *child)
{
    if (child && child->depth >= n->depth)
        n->depth = child->depth + 1;
    if (n->depth > TERN_TEMPLATE_NESTING)
        return tern_parse_fail(p, n->line, TERN_ERR_CAPACITY,
                               "the limit of nesting is %d levels of operators and blocks", TERN_TEMPLATE_NESTING);
    return TERN_OK;
}

tern_status tern_node_make_with(struct tern_parser *p, enum tern_node_kind kind, uint32_t line, node *a, node *b,
                                node **out)
{
    node *n;

    TERN_TRY(tern_node_make(p, kind, line, &n));
    n->a = a;
    n->b = b;
    TERN_TRY(tern_node_deepen(p, n, a));
    TERN_TRY(tern_node_deepen(p, n, b));
    *out = n;
    return TERN_OK;
}

tern_status tern_node_const(struct tern_parser *p, uint32_t line, tern_value value, node **out)
{
    TERN_TRY(tern_node_make(p, TERN_N_CONST, line, out));
    (*out)->value = value;
    return TERN_OK;
}

tern_status tern_nodes_push(struct tern_parser *p, struct tern_nodes *list, node *n)
{
    if (list->count == list->capacity) {
        const size_t capacity = list->capacity ? 2 * list->capacity : 4;
        node **data;

        TERN_TRY(TERN_POOL_TAKE(p->ctx, &p->t->pool, capacity, &data));
        for (size_t i = 0; i < list->count; i++)
            data[i] = list->data[i];
        list->data = data;
        list->capacity = capacity;
    }
    list->data[list->count++] = n;
    return TERN_OK;
}

tern_status tern_nodes_keep(struct tern_parser *p, const struct tern_nodes *list, node *owner, node ***items,
                            size_t *count)
{
    for (size_t i = 0; i < list->count; i++)
        TERN_TRY(tern_node_deepen(p, owner, list->data[i]));
    *items = list->data;
    *count = list->count;
    return TERN_OK;
}

tern_status tern_names_push(struct tern_parser *p, const struct tern_vstring ***names, size_t *capacity, size_t count,
                            const struct tern_vstring *name, uint32_t line, const char *what)
{
    for (size_t i = 0; i < count; i++)
        if ((*names)[i] == name)
            return tern_parse_fail(p, line, TERN_ERR_FORMAT, "the %s '%.*s' is there twice", what, (int)name->size,
                                   name->data);
    if (count == *capacity) {
        const struct tern_vstring **grown;

        *capacity = *capacity ? 2 * *capacity : 4;
        TERN_TRY(TERN_POOL_TAKE(p->ctx, &p->t->pool, *capacity, &grown));
        for (size_t i = 0; i < count; i++)
            grown[i] = (*names)[i];
        *names = grown;
    }
    (*names)[count] = name;
    return TERN_OK;
}

tern_status tern_parse_deeper(struct tern_parser *p)
{
    if (p->depth >= TERN_TEMPLATE_NESTING)
        return tern_parse_fail(p, p->token.line, TERN_ERR_CAPACITY,
                               "the limit of nesting is %d levels of operators and blocks", TERN_TEMPLATE_NESTING);
    p->depth++;
    return TERN_OK;
}

/* ---- a template from end to end ---- */

/* Calls of names that the template never gives a value. */
static tern_status check_pending(struct tern_parser *p)
{
    for (size_t i = 0; i < p->n_pending; i++) {
        const struct tern_pending *c = &p->pending[i];
        const struct tern_vstring *name = c->name;

        if (tern_parse_name_of(name)->meant || name == p->t->caller || name == p->t->loop)
            continue;
        return tern_parse_fail(p, c->line, TERN_ERR_UNSUPPORTED, "the %s '%.*s' is not one that tern has",
                               c->method ? "method" : "function", (int)name->size, name->data);
    }
    return TERN_OK;
}

static tern_status parse_template(struct tern_parser *p, const char *source, size_t size)
{
    struct tern_template *t = p->t;
    node *root;

    TERN_TRY(tern_parse_intern(p, "loop", 4, &t->loop));
    TERN_TRY(tern_parse_intern(p, "caller", 6, &t->caller));
    TERN_TRY(tern_parse_intern(p, "varargs", 7, &t->varargs));
    TERN_TRY(tern_parse_intern(p, "kwargs", 6, &t->kwargs));
    TERN_TRY(tern_lexer_start(p->ctx, t->name, &t->pool, source, size, &p->lexer));
    TERN_TRY(tern_parse_next(p));
    TERN_TRY(tern_node_make(p, TERN_N_BRANCH, 1, &root));
    TERN_TRY(tern_parse_body(p, NULL, root, &t->body, &t->n_body));
    TERN_TRY(check_pending(p));
    return tern_parse_symbols(p);
}

void tern_template_destroy(struct tern_template *t)
{
    if (!t)
        return;
    tern_pool_free(&t->pool);
    tern_free(t->names);
    tern_free(t->name);
    tern_free(t);
}

tern_status tern_template_parse(tern_ctx *ctx, const char *name, const char *source, size_t size,
                                struct tern_template **out)
{
    struct tern_parser p = { .ctx = ctx };
    struct tern_template *t = NULL;
    size_t bad = 0;
    tern_status status;

    *out = NULL;
    TERN_REQUIRE(ctx, size <= TERN_TEMPLATE_SOURCE_MAX, TERN_ERR_CAPACITY,
                 "%s: the template has %zu bytes, the limit is %zu", name, size, TERN_TEMPLATE_SOURCE_MAX);
    TERN_REQUIRE(ctx, tern_utf8_check(source, size, &bad), TERN_ERR_FORMAT, "%s: no UTF-8 at byte %zu", name, bad);
    TERN_TRY(TERN_ALLOC(ctx, 1, "a template", &t));
    t->pool.limit = SIZE_MAX / 2; /* the length of the source bounds it */
    t->pool.name = "the template's tree";
    TERN_TRY_OR_FAIL(tern_strndup(ctx, name, strlen(name), "a template's name", &t->name));
    p.t = t;
    status = parse_template(&p, source, size);
    tern_lexer_finish(&p.lexer);
    tern_free(p.pending);
    if (!status) {
        *out = t;
        return TERN_OK;
    }
fail:
    tern_template_destroy(t);
    return status;
}
