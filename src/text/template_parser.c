/* template_parser.c: tokens to a tree, by the grammar of jinja2's parser, and what can be known to be wrong before anything is rendered.
 *
 * Precedence, weakest first: x if y else z; or; and; not; comparisons, in; + -; ~; * / // %; **; unary + -; then what
 * follows a value: .name, [...], (...), |filter, is test.  Unary minus binds stronger than **, as in jinja2 and unlike Python. */
#include "text/template_lexer.h"
#include "text/template_render.h"

#include "base/memory.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A call of something whose name is only good if the template gives it a meaning somewhere. */
struct pending {
    const struct tern_vstring *name;
    uint32_t line;
    bool method;
};

struct parser {
    tern_ctx *ctx;
    struct tern_template *t;
    struct tern_lexer lexer;
    struct tern_template_token token, ahead;
    bool has_ahead;
    unsigned depth; /* of the parser's own recursion */
    unsigned loops; /* that a break would leave */
    bool *meant;    /* per name: the template gives it a value, or asks whether it has one */
    size_t meant_capacity;
    struct pending *pending;
    size_t n_pending, pending_capacity;
};

typedef struct tern_node node;

/* A growing list of nodes, moved into the pool when it is done. */
struct nodes {
    node **data;
    size_t count, capacity;
};

static tern_status fail(struct parser *p, uint32_t line, tern_status status, const char *format, ...) TERN_PRINTF(4, 5);
static tern_status fail(struct parser *p, uint32_t line, tern_status status, const char *format, ...)
{
    char text[700];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return tern_fail(p->ctx, status, "%s, line %" PRIu32 ": %s", p->t->name, line, text);
}

/* ---- tokens ---- */

static tern_status next(struct parser *p)
{
    if (p->has_ahead) {
        p->token = p->ahead;
        p->has_ahead = false;
        return TERN_OK;
    }
    return tern_lexer_next(&p->lexer, &p->token);
}

static tern_status look(struct parser *p, const struct tern_template_token **out)
{
    if (!p->has_ahead) {
        TERN_TRY(tern_lexer_next(&p->lexer, &p->ahead));
        p->has_ahead = true;
    }
    *out = &p->ahead;
    return TERN_OK;
}

static bool token_is(const struct tern_template_token *t, const char *name)
{
    return t->kind == TERN_T_NAME && t->size == strlen(name) && memcmp(t->text, name, t->size) == 0;
}

static bool at_name(const struct parser *p, const char *name)
{
    return token_is(&p->token, name);
}

static bool at(const struct parser *p, enum tern_lexeme kind)
{
    return p->token.kind == kind;
}

/* The token in words, for errors. */
static const char *shown(const struct tern_template_token *t, char out[80])
{
    if (t->kind == TERN_T_NAME)
        snprintf(out, 80, "'%.*s'", (int)(t->size > 60 ? tern_utf8_uncut(t->text, 60) : t->size), t->text);
    else
        snprintf(out, 80, "'%s'", tern_lexeme_name(t->kind));
    return out;
}

static tern_status expect(struct parser *p, enum tern_lexeme kind)
{
    char got[80];

    if (!at(p, kind))
        return fail(p, p->token.line, TERN_ERR_FORMAT, "expected '%s', got %s", tern_lexeme_name(kind),
                    shown(&p->token, got));
    return next(p);
}

static tern_status expect_name(struct parser *p, const char *name)
{
    char got[80];

    if (!at_name(p, name))
        return fail(p, p->token.line, TERN_ERR_FORMAT, "expected '%s', got %s", name, shown(&p->token, got));
    return next(p);
}

static tern_status skip_name(struct parser *p, const char *name, bool *there)
{
    *there = at_name(p, name);
    return *there ? next(p) : TERN_OK;
}

/* ---- names and nodes ---- */

const struct tern_vstring *tern_template_name(const struct tern_template *t, const char *name, size_t size)
{
    for (size_t i = 0; i < t->n_names; i++)
        if (t->names[i]->size == size && memcmp(t->names[i]->data, name, size) == 0)
            return t->names[i];
    return NULL;
}

static tern_status intern(struct parser *p, const char *name, size_t size, const struct tern_vstring **out)
{
    struct tern_template *t = p->t;

    *out = tern_template_name(t, name, size);
    if (*out)
        return TERN_OK;
    TERN_TRY(TERN_GROW(p->ctx, &t->names, &t->names_capacity, t->n_names + 1, "names of a template"));
    TERN_TRY(TERN_GROW(p->ctx, &p->meant, &p->meant_capacity, t->n_names + 1, "names of a template"));
    TERN_TRY(tern_string_borrow(p->ctx, &t->pool, name, size, SIZE_MAX, out));
    p->meant[t->n_names] = false;
    t->names[t->n_names++] = *out;
    return TERN_OK;
}

/* The template gives the name a value, or asks whether it has one: a call of it is no mistake that could be known. */
static void mean(struct parser *p, const struct tern_vstring *name)
{
    for (size_t i = 0; i < p->t->n_names; i++)
        if (p->t->names[i] == name)
            p->meant[i] = true;
}

static bool is_meant(const struct parser *p, const struct tern_vstring *name)
{
    for (size_t i = 0; i < p->t->n_names; i++)
        if (p->t->names[i] == name)
            return p->meant[i];
    return false;
}

static tern_status want_meaning(struct parser *p, const struct tern_vstring *name, uint32_t line, bool method)
{
    TERN_TRY(TERN_GROW(p->ctx, &p->pending, &p->pending_capacity, p->n_pending + 1, "names of a template"));
    p->pending[p->n_pending++] = (struct pending){ name, line, method };
    return TERN_OK;
}

static tern_status make(struct parser *p, enum tern_node_kind kind, uint32_t line, node **out)
{
    TERN_TRY(TERN_POOL_TAKE(p->ctx, &p->t->pool, 1, out));
    (*out)->kind = kind;
    (*out)->line = line;
    (*out)->depth = 1;
    return TERN_OK;
}

static tern_status make_with(struct parser *p, enum tern_node_kind kind, uint32_t line, node *a, node *b, node **out);

/* Whatever hangs below a node makes it deeper; the limit holds for every tree, so that walking one never runs out of stack. */
static tern_status deepen(struct parser *p, node *n, const node *child)
{
    if (child && child->depth >= n->depth)
        n->depth = child->depth + 1;
    if (n->depth > TERN_TEMPLATE_NESTING)
        return fail(p, n->line, TERN_ERR_CAPACITY, "the limit of nesting is %d levels of operators and blocks",
                    TERN_TEMPLATE_NESTING);
    return TERN_OK;
}

static tern_status make_with(struct parser *p, enum tern_node_kind kind, uint32_t line, node *a, node *b, node **out)
{
    node *n;

    TERN_TRY(make(p, kind, line, &n));
    n->a = a;
    n->b = b;
    TERN_TRY(deepen(p, n, a));
    TERN_TRY(deepen(p, n, b));
    *out = n;
    return TERN_OK;
}

static tern_status make_const(struct parser *p, uint32_t line, tern_value value, node **out)
{
    TERN_TRY(make(p, TERN_N_CONST, line, out));
    (*out)->value = value;
    return TERN_OK;
}

static tern_status push(struct parser *p, struct nodes *list, node *n)
{
    TERN_TRY(TERN_GROW(p->ctx, &list->data, &list->capacity, list->count + 1, "a template"));
    list->data[list->count++] = n;
    return TERN_OK;
}

/* Hands the list over to a node, which gets as deep as that makes it, and frees it. */
static tern_status keep(struct parser *p, struct nodes *list, node *owner, node ***items, size_t *count)
{
    tern_status status = TERN_POOL_TAKE(p->ctx, &p->t->pool, list->count, items);

    for (size_t i = 0; !status && i < list->count; i++) {
        (*items)[i] = list->data[i];
        status = deepen(p, owner, list->data[i]);
    }
    *count = status ? 0 : list->count;
    tern_free(list->data);
    *list = (struct nodes){ 0 };
    return status;
}

static tern_status deeper(struct parser *p)
{
    if (p->depth >= TERN_TEMPLATE_NESTING)
        return fail(p, p->token.line, TERN_ERR_CAPACITY, "the limit of nesting is %d levels of operators and blocks",
                    TERN_TEMPLATE_NESTING);
    p->depth++;
    return TERN_OK;
}

/* ---- expressions ---- */

static tern_status parse_expression(struct parser *p, node **out);
static tern_status parse_or(struct parser *p, node **out);
static tern_status parse_unary(struct parser *p, bool with_filter, node **out);

enum { TUPLE_CONDITION = 1, TUPLE_PARENTHESES = 2, TUPLE_SIMPLE = 4, TUPLE_MEMBERS = 8 };

static tern_status parse_primary(struct parser *p, bool members, node **out);

/* Expressions with commas between them: a tuple, or the one expression.  end: a name that ends it, or NULL. */
static tern_status parse_tuple(struct parser *p, unsigned flags, const char *end, node **out)
{
    const uint32_t line = p->token.line;
    struct nodes list = { 0 };
    bool is_tuple = false;
    tern_status status = TERN_OK;
    char got[80];

    for (;;) {
        node *item = NULL;

        if (list.count > 0)
            TERN_TRY_OR_FAIL(expect(p, TERN_T_COMMA));
        if (at(p, TERN_T_PRINT_END) || at(p, TERN_T_BLOCK_END) || at(p, TERN_T_RPAREN) || (end && at_name(p, end)))
            break;
        if (flags & TUPLE_SIMPLE)
            TERN_TRY_OR_FAIL(parse_primary(p, flags & TUPLE_MEMBERS, &item));
        else if (flags & TUPLE_CONDITION)
            TERN_TRY_OR_FAIL(parse_expression(p, &item));
        else
            TERN_TRY_OR_FAIL(parse_or(p, &item));
        TERN_TRY_OR_FAIL(push(p, &list, item));
        if (!at(p, TERN_T_COMMA))
            break;
        is_tuple = true;
    }
    if (!is_tuple && list.count > 0) {
        *out = list.data[0];
    } else if (!is_tuple && !(flags & TUPLE_PARENTHESES)) {
        status = fail(p, p->token.line, TERN_ERR_FORMAT, "expected an expression, got %s", shown(&p->token, got));
    } else {
        TERN_TRY_OR_FAIL(make(p, TERN_N_TUPLE, line, out));
        return keep(p, &list, *out, &(*out)->items, &(*out)->n_items);
    }
fail:
    tern_free(list.data);
    return status;
}

static tern_status parse_list(struct parser *p, node **out)
{
    struct nodes list = { 0 };
    tern_status status = TERN_OK;

    TERN_TRY(make(p, TERN_N_LIST, p->token.line, out));
    TERN_TRY(next(p));
    while (!at(p, TERN_T_RBRACKET)) {
        node *item;

        if (list.count > 0)
            TERN_TRY_OR_FAIL(expect(p, TERN_T_COMMA));
        if (at(p, TERN_T_RBRACKET))
            break;
        TERN_TRY_OR_FAIL(parse_expression(p, &item));
        TERN_TRY_OR_FAIL(push(p, &list, item));
    }
    TERN_TRY_OR_FAIL(next(p));
    return keep(p, &list, *out, &(*out)->items, &(*out)->n_items);
fail:
    tern_free(list.data);
    return status;
}

static tern_status parse_dict(struct parser *p, node **out)
{
    struct nodes list = { 0 };
    tern_status status = TERN_OK;

    TERN_TRY(make(p, TERN_N_DICT, p->token.line, out));
    TERN_TRY(next(p));
    while (!at(p, TERN_T_RBRACE)) {
        node *item;

        if (list.count > 0)
            TERN_TRY_OR_FAIL(expect(p, TERN_T_COMMA));
        if (at(p, TERN_T_RBRACE))
            break;
        TERN_TRY_OR_FAIL(parse_expression(p, &item));
        if (item->kind == TERN_N_CONST && item->value.kind == TERN_V_STRING) {
            const struct tern_vstring *name;

            TERN_TRY_OR_FAIL(intern(p, item->value.as.string->data, item->value.as.string->size, &name));
            mean(p, name);
        }
        TERN_TRY_OR_FAIL(push(p, &list, item));
        TERN_TRY_OR_FAIL(expect(p, TERN_T_COLON));
        TERN_TRY_OR_FAIL(parse_expression(p, &item));
        TERN_TRY_OR_FAIL(push(p, &list, item));
    }
    TERN_TRY_OR_FAIL(next(p));
    return keep(p, &list, *out, &(*out)->items, &(*out)->n_items);
fail:
    tern_free(list.data);
    return status;
}

/* Strings side by side are one. */
static tern_status parse_string(struct parser *p, node **out)
{
    const uint32_t line = p->token.line;
    const struct tern_vstring *string;
    const char *text = p->token.text;
    size_t size = p->token.size;

    TERN_TRY(next(p));
    while (at(p, TERN_T_STRING)) {
        char *both;

        TERN_TRY(TERN_POOL_TAKE(p->ctx, &p->t->pool, size + p->token.size, &both));
        memcpy(both, text, size);
        memcpy(both + size, p->token.text, p->token.size);
        text = both;
        size += p->token.size;
        TERN_TRY(next(p));
    }
    TERN_TRY(tern_string_borrow(p->ctx, &p->t->pool, text, size, SIZE_MAX, &string));
    return make_const(p, line, (tern_value){ .kind = TERN_V_STRING, .as.string = string }, out);
}

static tern_status parse_name(struct parser *p, bool members, node **out)
{
    const struct tern_template_token token = p->token;
    node *n;

    TERN_TRY(next(p));
    if (token_is(&token, "true") || token_is(&token, "True"))
        return make_const(p, token.line, TERN_BOOL_VALUE(true), out);
    if (token_is(&token, "false") || token_is(&token, "False"))
        return make_const(p, token.line, TERN_BOOL_VALUE(false), out);
    if (token_is(&token, "none") || token_is(&token, "None"))
        return make_const(p, token.line, TERN_NONE_VALUE, out);
    TERN_TRY(make(p, members && at(p, TERN_T_DOT) ? TERN_N_MEMBER : TERN_N_NAME, token.line, &n));
    TERN_TRY(intern(p, token.text, token.size, &n->name));
    if (n->kind == TERN_N_MEMBER) {
        char got[80];

        TERN_TRY(next(p));
        if (!at(p, TERN_T_NAME))
            return fail(p, p->token.line, TERN_ERR_FORMAT, "expected 'name', got %s", shown(&p->token, got));
        TERN_TRY(intern(p, p->token.text, p->token.size, &n->attr));
        mean(p, n->attr);
        TERN_TRY(next(p));
    }
    *out = n;
    return TERN_OK;
}

static tern_status parse_primary(struct parser *p, bool members, node **out)
{
    const struct tern_template_token token = p->token;
    char got[80];

    switch (token.kind) {
    case TERN_T_NAME:
        return parse_name(p, members, out);
    case TERN_T_STRING:
        return parse_string(p, out);
    case TERN_T_INTEGER:
        TERN_TRY(next(p));
        return make_const(p, token.line, TERN_INT_VALUE(token.integer), out);
    case TERN_T_FLOAT:
        TERN_TRY(next(p));
        return make_const(p, token.line, TERN_FLOAT_VALUE(token.real), out);
    case TERN_T_LPAREN:
        TERN_TRY(next(p));
        TERN_TRY(deeper(p));
        TERN_TRY(parse_tuple(p, TUPLE_CONDITION | TUPLE_PARENTHESES, NULL, out));
        p->depth--;
        return expect(p, TERN_T_RPAREN);
    case TERN_T_LBRACKET:
        TERN_TRY(deeper(p));
        TERN_TRY(parse_list(p, out));
        p->depth--;
        return TERN_OK;
    case TERN_T_LBRACE:
        TERN_TRY(deeper(p));
        TERN_TRY(parse_dict(p, out));
        p->depth--;
        return TERN_OK;
    default:
        return fail(p, token.line, TERN_ERR_FORMAT, "unexpected %s", shown(&token, got));
    }
}

static tern_status keep_args(struct parser *p, struct nodes *args, struct nodes *values,
                             const struct tern_vstring **names, size_t n_names, node *more_args, node *more_keywords,
                             node *owner)
{
    struct tern_node_args *a;
    tern_status status = TERN_OK;

    TERN_TRY_OR_FAIL(TERN_POOL_TAKE(p->ctx, &p->t->pool, 1, &a));
    a->more_args = more_args;
    a->more_keywords = more_keywords;
    TERN_TRY_OR_FAIL(deepen(p, owner, more_args));
    TERN_TRY_OR_FAIL(deepen(p, owner, more_keywords));
    TERN_TRY_OR_FAIL(TERN_POOL_TAKE(p->ctx, &p->t->pool, n_names, &a->names));
    for (size_t i = 0; i < n_names; i++)
        a->names[i] = names[i];
    TERN_TRY_OR_FAIL(keep(p, args, owner, &a->args, &a->n_args));
    TERN_TRY_OR_FAIL(keep(p, values, owner, &a->values, &a->n_keywords));
    owner->args = a;
fail:
    tern_free(args->data);
    tern_free(values->data);
    return status;
}

/* "(...)" behind what is called. */
static tern_status parse_args(struct parser *p, node *owner)
{
    const uint32_t line = p->token.line;
    struct nodes args = { 0 }, values = { 0 };
    const struct tern_vstring **names = NULL;
    size_t n_names = 0, names_capacity = 0;
    node *more_args = NULL, *more_keywords = NULL;
    bool comma = false;
    tern_status status = TERN_OK;

    TERN_TRY(deeper(p));
    TERN_TRY(expect(p, TERN_T_LPAREN));
    while (!at(p, TERN_T_RPAREN)) {
        const struct tern_template_token *ahead = NULL;
        node *value;
        bool order = true;

        if (comma) {
            TERN_TRY_OR_FAIL(expect(p, TERN_T_COMMA));
            if (at(p, TERN_T_RPAREN))
                break;
        }
        comma = true;
        if (at(p, TERN_T_MUL)) {
            order = !more_args && !more_keywords;
            TERN_TRY_OR_FAIL(next(p));
            TERN_TRY_OR_FAIL(parse_expression(p, &more_args));
        } else if (at(p, TERN_T_POW)) {
            order = !more_keywords;
            TERN_TRY_OR_FAIL(next(p));
            TERN_TRY_OR_FAIL(parse_expression(p, &more_keywords));
        } else {
            if (at(p, TERN_T_NAME))
                TERN_TRY_OR_FAIL(look(p, &ahead));
            if (ahead && ahead->kind == TERN_T_ASSIGN) {
                order = !more_keywords;
                TERN_TRY_OR_FAIL(TERN_GROW(p->ctx, &names, &names_capacity, n_names + 1, "a template"));
                TERN_TRY_OR_FAIL(intern(p, p->token.text, p->token.size, &names[n_names]));
                mean(p, names[n_names]);
                for (size_t i = 0; i < n_names; i++)
                    if (names[i] == names[n_names]) {
                        status = fail(p, line, TERN_ERR_FORMAT, "the argument '%.*s' is there twice",
                                      (int)names[i]->size, names[i]->data);
                        goto fail;
                    }
                n_names++;
                TERN_TRY_OR_FAIL(next(p));
                TERN_TRY_OR_FAIL(next(p));
                TERN_TRY_OR_FAIL(parse_expression(p, &value));
                TERN_TRY_OR_FAIL(push(p, &values, value));
            } else {
                order = !more_args && !more_keywords && values.count == 0;
                TERN_TRY_OR_FAIL(parse_expression(p, &value));
                TERN_TRY_OR_FAIL(push(p, &args, value));
            }
        }
        if (!order) {
            status = fail(p, line, TERN_ERR_FORMAT, "arguments come by position, then by name, then *x, then **x");
            goto fail;
        }
    }
    TERN_TRY_OR_FAIL(next(p));
    p->depth--;
    status = keep_args(p, &args, &values, names, n_names, more_args, more_keywords, owner);
    args = values = (struct nodes){ 0 };
fail:
    tern_free(args.data);
    tern_free(values.data);
    tern_free(names);
    return status;
}

/* Calls of names that have no meaning are found when the whole template is known. */
static tern_status check_callee(struct parser *p, const node *callee)
{
    const struct tern_vstring *name = callee->name;

    if (callee->kind == TERN_N_NAME && !tern_function_find(name->data, name->size))
        return want_meaning(p, name, callee->line, false);
    if (callee->kind == TERN_N_GETATTR && !tern_method_known(name->data, name->size))
        return want_meaning(p, name, callee->line, true);
    return TERN_OK;
}

static tern_status parse_call(struct parser *p, node *callee, node **out)
{
    TERN_TRY(check_callee(p, callee));
    TERN_TRY(make_with(p, TERN_N_CALL, p->token.line, callee, NULL, out));
    return parse_args(p, *out);
}

static tern_status parse_slice_part(struct parser *p, node *slice, node **part)
{
    if (at(p, TERN_T_COLON) || at(p, TERN_T_RBRACKET) || at(p, TERN_T_COMMA))
        return TERN_OK;
    TERN_TRY(parse_expression(p, part));
    return deepen(p, slice, *part);
}

/* One subscript: an expression, or a slice. */
static tern_status parse_subscribed(struct parser *p, node **out)
{
    const uint32_t line = p->token.line;
    node *first = NULL, *slice;

    if (!at(p, TERN_T_COLON)) {
        TERN_TRY(parse_expression(p, &first));
        if (!at(p, TERN_T_COLON)) {
            *out = first;
            return TERN_OK;
        }
    }
    TERN_TRY(next(p));
    TERN_TRY(make_with(p, TERN_N_SLICE, line, first, NULL, &slice));
    TERN_TRY(parse_slice_part(p, slice, &slice->b));
    if (at(p, TERN_T_COLON)) {
        TERN_TRY(next(p));
        TERN_TRY(parse_slice_part(p, slice, &slice->c));
    }
    *out = slice;
    return TERN_OK;
}

static tern_status parse_subscript(struct parser *p, node *object, node **out)
{
    const struct tern_template_token token = p->token;
    struct nodes list = { 0 };
    node *key;
    tern_status status = TERN_OK;

    TERN_TRY(next(p));
    if (token.kind == TERN_T_DOT) {
        const struct tern_template_token name = p->token;

        TERN_TRY(next(p));
        if (name.kind == TERN_T_NAME) {
            TERN_TRY(make_with(p, TERN_N_GETATTR, token.line, object, NULL, out));
            return intern(p, name.text, name.size, &(*out)->name);
        }
        if (name.kind != TERN_T_INTEGER)
            return fail(p, name.line, TERN_ERR_FORMAT, "expected a name or a number behind '.'");
        TERN_TRY(make_const(p, name.line, TERN_INT_VALUE(name.integer), &key));
        return make_with(p, TERN_N_GETITEM, token.line, object, key, out);
    }
    TERN_TRY(deeper(p));
    while (!at(p, TERN_T_RBRACKET)) {
        if (list.count > 0)
            TERN_TRY_OR_FAIL(expect(p, TERN_T_COMMA));
        TERN_TRY_OR_FAIL(parse_subscribed(p, &key));
        TERN_TRY_OR_FAIL(push(p, &list, key));
    }
    TERN_TRY_OR_FAIL(next(p));
    p->depth--;
    if (list.count != 1) {
        for (size_t i = 0; i < list.count; i++)
            if (list.data[i]->kind == TERN_N_SLICE) {
                status = fail(p, token.line, TERN_ERR_UNSUPPORTED, "a slice among several subscripts");
                goto fail;
            }
        TERN_TRY_OR_FAIL(make(p, TERN_N_TUPLE, token.line, &key));
        TERN_TRY_OR_FAIL(keep(p, &list, key, &key->items, &key->n_items));
    }
    status = make_with(p, TERN_N_GETITEM, token.line, object, key, out);
fail:
    tern_free(list.data);
    return status;
}

static tern_status parse_postfix(struct parser *p, node **n)
{
    for (;;) {
        if (at(p, TERN_T_DOT) || at(p, TERN_T_LBRACKET))
            TERN_TRY(parse_subscript(p, *n, n));
        else if (at(p, TERN_T_LPAREN))
            TERN_TRY(parse_call(p, *n, n));
        else
            return TERN_OK;
    }
}

/* "name" or "name.name" of a filter or a test. */
static tern_status parse_dotted(struct parser *p, const char **name, size_t *size)
{
    char got[80];

    if (!at(p, TERN_T_NAME))
        return fail(p, p->token.line, TERN_ERR_FORMAT, "expected 'name', got %s", shown(&p->token, got));
    *name = p->token.text;
    *size = p->token.size;
    TERN_TRY(next(p));
    while (at(p, TERN_T_DOT)) { /* the name in full, for the error: there are none with dots */
        TERN_TRY(next(p));
        if (at(p, TERN_T_NAME))
            *size = (size_t)(p->token.text + p->token.size - *name);
        TERN_TRY(next(p));
    }
    return TERN_OK;
}

/* The constant text that argument `i` of a call is, or NULL. */
static const struct tern_vstring *text_arg(const struct tern_node_args *args, size_t i)
{
    if (!args || i >= args->n_args || args->args[i]->kind != TERN_N_CONST || args->args[i]->value.kind != TERN_V_STRING)
        return NULL;
    return args->args[i]->value.as.string;
}

/* map('x'), select('x') and their kin call filters and tests by name: one that is written out is checked here. */
static tern_status check_named(struct parser *p, const char *filter, size_t size, const node *n)
{
    static const struct {
        const char *name;
        size_t arg;
        bool test;
    } callers[] = {
        { "map", 0, false },       { "select", 0, true },     { "reject", 0, true },
        { "selectattr", 1, true }, { "rejectattr", 1, true },
    };

    for (size_t i = 0; i < sizeof callers / sizeof callers[0]; i++) {
        const struct tern_vstring *name;

        if (strlen(callers[i].name) != size || memcmp(callers[i].name, filter, size) != 0)
            continue;
        name = text_arg(n->args, callers[i].arg);
        if (!name)
            continue;
        if (callers[i].test && !tern_test_find(name->data, name->size))
            return fail(p, n->line, TERN_ERR_UNSUPPORTED, "the test '%.*s' is not one that tern has", (int)name->size,
                        name->data);
        if (!callers[i].test && !tern_filter_find(name->data, name->size))
            return fail(p, n->line, TERN_ERR_UNSUPPORTED, "the filter '%.*s' is not one that tern has", (int)name->size,
                        name->data);
    }
    return TERN_OK;
}

/* "|name(args)", several of them; begins_inside: the first without its "|", in a filter block. */
static tern_status parse_filters(struct parser *p, bool begins_inside, node **n)
{
    while (at(p, TERN_T_PIPE) || begins_inside) {
        const char *name = "";
        size_t size = 0;

        if (!begins_inside)
            TERN_TRY(next(p));
        begins_inside = false;
        TERN_TRY(make_with(p, TERN_N_FILTER, p->token.line, *n, NULL, n));
        TERN_TRY(parse_dotted(p, &name, &size));
        (*n)->callee = tern_filter_find(name, size);
        if (!(*n)->callee)
            return fail(p, (*n)->line, TERN_ERR_UNSUPPORTED, "the filter '%.*s' is not one that tern has", (int)size,
                        name);
        if (at(p, TERN_T_LPAREN))
            TERN_TRY(parse_args(p, *n));
        TERN_TRY(check_named(p, name, size, *n));
    }
    return TERN_OK;
}

/* "is name", "is not name", "is name arg", "is name(args)". */
static tern_status parse_test(struct parser *p, node **n)
{
    const uint32_t line = p->token.line;
    const char *name = "";
    size_t size = 0;
    bool negated;
    node *subject = *n, *test;

    TERN_TRY(next(p));
    TERN_TRY(skip_name(p, "not", &negated));
    TERN_TRY(make_with(p, TERN_N_TEST, line, subject, NULL, &test));
    TERN_TRY(parse_dotted(p, &name, &size));
    test->callee = tern_test_find(name, size);
    if (!test->callee)
        return fail(p, line, TERN_ERR_UNSUPPORTED, "the test '%.*s' is not one that tern has", (int)size, name);
    if (subject->kind == TERN_N_NAME || subject->kind == TERN_N_GETATTR)
        mean(p, subject->name);
    if (at(p, TERN_T_LPAREN)) {
        TERN_TRY(parse_args(p, test));
    } else if ((at(p, TERN_T_NAME) && !at_name(p, "else") && !at_name(p, "or") && !at_name(p, "and")) ||
               at(p, TERN_T_STRING) || at(p, TERN_T_INTEGER) || at(p, TERN_T_FLOAT) || at(p, TERN_T_LBRACKET) ||
               at(p, TERN_T_LBRACE)) {
        struct nodes args = { 0 }, none = { 0 };
        node *arg;

        if (at_name(p, "is"))
            return fail(p, p->token.line, TERN_ERR_FORMAT, "tests cannot follow one another");
        TERN_TRY(parse_primary(p, false, &arg));
        TERN_TRY(parse_postfix(p, &arg));
        TERN_TRY(push(p, &args, arg));
        TERN_TRY(keep_args(p, &args, &none, NULL, 0, NULL, NULL, test));
    }
    *n = test;
    return negated ? make_with(p, TERN_N_NOT, line, test, NULL, n) : TERN_OK;
}

static tern_status parse_unary(struct parser *p, bool with_filter, node **out)
{
    const struct tern_template_token token = p->token;

    if (token.kind == TERN_T_SUB || token.kind == TERN_T_ADD) {
        node *operand;

        TERN_TRY(next(p));
        TERN_TRY(deeper(p));
        TERN_TRY(parse_unary(p, false, &operand));
        p->depth--;
        TERN_TRY(make_with(p, TERN_N_UNARY, token.line, operand, NULL, out));
        (*out)->op = token.kind == TERN_T_SUB ? TERN_OP_SUB : TERN_OP_ADD;
    } else {
        TERN_TRY(parse_primary(p, false, out));
    }
    TERN_TRY(parse_postfix(p, out));
    while (with_filter) {
        if (at(p, TERN_T_PIPE))
            TERN_TRY(parse_filters(p, false, out));
        else if (at_name(p, "is"))
            TERN_TRY(parse_test(p, out));
        else if (at(p, TERN_T_LPAREN))
            TERN_TRY(parse_call(p, *out, out));
        else
            break;
    }
    return TERN_OK;
}

static tern_status binary(struct parser *p, enum tern_operator op, uint32_t line, node *a, node *b, node **out)
{
    TERN_TRY(make_with(p, TERN_N_BINARY, line, a, b, out));
    (*out)->op = op;
    return TERN_OK;
}

static tern_status parse_pow(struct parser *p, node **out)
{
    TERN_TRY(parse_unary(p, true, out));
    while (at(p, TERN_T_POW)) {
        const uint32_t line = p->token.line;
        node *right;

        TERN_TRY(next(p));
        TERN_TRY(parse_unary(p, true, &right));
        TERN_TRY(binary(p, TERN_OP_POW, line, *out, right, out));
    }
    return TERN_OK;
}

static tern_status parse_product(struct parser *p, node **out)
{
    TERN_TRY(parse_pow(p, out));
    while (at(p, TERN_T_MUL) || at(p, TERN_T_DIV) || at(p, TERN_T_FLOORDIV) || at(p, TERN_T_MOD)) {
        const struct tern_template_token token = p->token;
        node *right;

        TERN_TRY(next(p));
        TERN_TRY(parse_pow(p, &right));
        TERN_TRY(binary(p,
                        token.kind == TERN_T_MUL        ? TERN_OP_MUL
                        : token.kind == TERN_T_DIV      ? TERN_OP_DIV
                        : token.kind == TERN_T_FLOORDIV ? TERN_OP_FLOORDIV
                                                        : TERN_OP_MOD,
                        token.line, *out, right, out));
    }
    return TERN_OK;
}

static tern_status parse_concat(struct parser *p, node **out)
{
    const uint32_t line = p->token.line;
    struct nodes list = { 0 };
    node *item;
    tern_status status = TERN_OK;

    TERN_TRY(parse_product(p, &item));
    *out = item;
    if (!at(p, TERN_T_TILDE))
        return TERN_OK;
    TERN_TRY_OR_FAIL(push(p, &list, item));
    while (at(p, TERN_T_TILDE)) {
        TERN_TRY_OR_FAIL(next(p));
        TERN_TRY_OR_FAIL(parse_product(p, &item));
        TERN_TRY_OR_FAIL(push(p, &list, item));
    }
    TERN_TRY_OR_FAIL(make(p, TERN_N_CONCAT, line, out));
    return keep(p, &list, *out, &(*out)->items, &(*out)->n_items);
fail:
    tern_free(list.data);
    return status;
}

static tern_status parse_sum(struct parser *p, node **out)
{
    TERN_TRY(parse_concat(p, out));
    while (at(p, TERN_T_ADD) || at(p, TERN_T_SUB)) {
        const struct tern_template_token token = p->token;
        node *right;

        TERN_TRY(next(p));
        TERN_TRY(parse_concat(p, &right));
        TERN_TRY(binary(p, token.kind == TERN_T_ADD ? TERN_OP_ADD : TERN_OP_SUB, token.line, *out, right, out));
    }
    return TERN_OK;
}

/* A comparison operator at the token, which is skipped; false: there is none. */
static tern_status comparison(struct parser *p, enum tern_operator *op, bool *there)
{
    static const struct {
        enum tern_lexeme token;
        enum tern_operator op;
    } operators[] = {
        { TERN_T_EQ, TERN_OP_EQ }, { TERN_T_NE, TERN_OP_NE }, { TERN_T_LT, TERN_OP_LT },
        { TERN_T_LE, TERN_OP_LE }, { TERN_T_GT, TERN_OP_GT }, { TERN_T_GE, TERN_OP_GE },
    };
    const struct tern_template_token *ahead;

    *there = true;
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++)
        if (at(p, operators[i].token)) {
            *op = operators[i].op;
            return next(p);
        }
    if (at_name(p, "in")) {
        *op = TERN_OP_IN;
        return next(p);
    }
    if (at_name(p, "not")) {
        TERN_TRY(look(p, &ahead));
        if (token_is(ahead, "in")) {
            *op = TERN_OP_NOT_IN;
            TERN_TRY(next(p));
            return next(p);
        }
    }
    *there = false;
    return TERN_OK;
}

static tern_status parse_compare(struct parser *p, node **out)
{
    const uint32_t line = p->token.line;
    struct nodes list = { 0 };
    node *first, *n;
    tern_status status = TERN_OK;

    TERN_TRY(parse_sum(p, &first));
    for (;;) {
        enum tern_operator op = TERN_OP_EQ;
        bool there;

        TERN_TRY_OR_FAIL(comparison(p, &op, &there));
        if (!there)
            break;
        TERN_TRY_OR_FAIL(parse_sum(p, &n));
        TERN_TRY_OR_FAIL(make_with(p, TERN_N_COMPARED, line, n, NULL, &n));
        n->op = op;
        TERN_TRY_OR_FAIL(push(p, &list, n));
    }
    *out = first;
    if (list.count == 0)
        return TERN_OK;
    TERN_TRY_OR_FAIL(make_with(p, TERN_N_COMPARE, line, first, NULL, out));
    return keep(p, &list, *out, &(*out)->items, &(*out)->n_items);
fail:
    tern_free(list.data);
    return status;
}

static tern_status parse_not(struct parser *p, node **out)
{
    const uint32_t line = p->token.line;
    node *operand;

    if (!at_name(p, "not"))
        return parse_compare(p, out);
    TERN_TRY(next(p));
    TERN_TRY(deeper(p));
    TERN_TRY(parse_not(p, &operand));
    p->depth--;
    return make_with(p, TERN_N_NOT, line, operand, NULL, out);
}

static tern_status parse_and(struct parser *p, node **out)
{
    bool there;

    TERN_TRY(parse_not(p, out));
    for (;;) {
        node *right;

        TERN_TRY(skip_name(p, "and", &there));
        if (!there)
            return TERN_OK;
        TERN_TRY(parse_not(p, &right));
        TERN_TRY(make_with(p, TERN_N_AND, right->line, *out, right, out));
    }
}

static tern_status parse_or(struct parser *p, node **out)
{
    bool there;

    TERN_TRY(parse_and(p, out));
    for (;;) {
        node *right;

        TERN_TRY(skip_name(p, "or", &there));
        if (!there)
            return TERN_OK;
        TERN_TRY(parse_and(p, &right));
        TERN_TRY(make_with(p, TERN_N_OR, right->line, *out, right, out));
    }
}

static tern_status parse_expression(struct parser *p, node **out)
{
    bool there;

    TERN_TRY(deeper(p));
    TERN_TRY(parse_or(p, out));
    for (;;) {
        node *condition, *n;
        bool has_else;

        TERN_TRY(skip_name(p, "if", &there));
        if (!there)
            break;
        TERN_TRY(parse_or(p, &condition));
        TERN_TRY(make_with(p, TERN_N_CHOICE, condition->line, condition, *out, &n));
        TERN_TRY(skip_name(p, "else", &has_else));
        if (has_else) {
            TERN_TRY(parse_expression(p, &n->c));
            TERN_TRY(deepen(p, n, n->c));
        }
        *out = n;
    }
    p->depth--;
    return TERN_OK;
}

/* ---- statements ---- */

/* Names that a macro's body reads without having set them before, in the order of the text. */
struct reads {
    const struct parser *p;
    bool *caller, *kwargs, *varargs;
    bool caller_set, kwargs_set, varargs_set;
};
static void find_reads(struct reads *reads, const node *n, bool target);

static void find_list(struct reads *reads, node *const *items, size_t n, bool target)
{
    for (size_t i = 0; i < n; i++)
        find_reads(reads, items[i], target);
}

static void see_name(struct reads *reads, const struct tern_vstring *name, bool target)
{
    static const char *const special[] = { "caller", "kwargs", "varargs" };
    bool *const read[] = { reads->caller, reads->kwargs, reads->varargs };
    bool *const set[] = { &reads->caller_set, &reads->kwargs_set, &reads->varargs_set };

    for (int i = 0; i < 3; i++) {
        if (name->size != strlen(special[i]) || memcmp(name->data, special[i], name->size) != 0)
            continue;
        if (target)
            *set[i] = true;
        else if (!*set[i])
            *read[i] = true;
    }
}

static void find_args(struct reads *reads, const struct tern_node_args *args)
{
    if (!args)
        return;
    find_list(reads, args->args, args->n_args, false);
    find_list(reads, args->values, args->n_keywords, false);
    find_reads(reads, args->more_args, false);
    find_reads(reads, args->more_keywords, false);
}

static void find_reads(struct reads *reads, const node *n, bool target)
{
    if (!n)
        return;
    if (n->kind == TERN_N_NAME)
        see_name(reads, n->name, target);
    if (n->kind == TERN_N_SET || n->kind == TERN_N_SET_BLOCK || n->kind == TERN_N_FOR) {
        find_reads(reads, n->a, true);
        if (n->kind == TERN_N_SET_BLOCK) {
            find_reads(reads, n->b, false);
            find_list(reads, n->items, n->n_items, false);
            return;
        }
    } else {
        find_reads(reads, n->a, target && n->kind == TERN_N_TUPLE);
    }
    find_reads(reads, n->b, false);
    if (n->kind != TERN_N_FOR)
        find_reads(reads, n->c, false);
    find_args(reads, n->args);
    if (n->macro) {
        for (size_t i = 0; i < n->macro->n_params; i++)
            see_name(reads, n->macro->params[i], true);
        find_list(reads, n->macro->defaults, n->macro->n_params, false);
        find_list(reads, n->macro->body, n->macro->n_body, false);
    }
    if (n->kind == TERN_N_WITH)
        for (size_t i = 0; i < n->n_other; i++)
            find_reads(reads, n->other[i], i % 2 == 0);
    find_list(reads, n->items, n->n_items, target && n->kind == TERN_N_TUPLE);
    if (n->kind != TERN_N_WITH)
        find_list(reads, n->other, n->n_other, false);
    if (n->kind == TERN_N_FOR)
        find_reads(reads, n->c, false);
}

static tern_status parse_body(struct parser *p, const char *const *ends, node *owner, node ***items, size_t *n);

/* The body of a block up to one of `ends` (NULL at the end of the list), which stays the token. */
static tern_status parse_statements(struct parser *p, const char *const *ends, node *owner, node ***items, size_t *n)
{
    if (at(p, TERN_T_COLON))
        TERN_TRY(next(p));
    TERN_TRY(expect(p, TERN_T_BLOCK_END));
    TERN_TRY(deeper(p));
    TERN_TRY(parse_body(p, ends, owner, items, n));
    p->depth--;
    return TERN_OK;
}

static tern_status parse_until(struct parser *p, const char *end, node *owner)
{
    const char *const ends[] = { end, NULL };

    TERN_TRY(parse_statements(p, ends, owner, &owner->items, &owner->n_items));
    return next(p);
}

static tern_status check_target(struct parser *p, const node *n)
{
    if (n->kind == TERN_N_NAME) {
        mean(p, n->name);
        return TERN_OK;
    }
    if (n->kind == TERN_N_MEMBER)
        return TERN_OK;
    if (n->kind != TERN_N_TUPLE)
        return fail(p, n->line, TERN_ERR_FORMAT, "only names can be assigned to");
    for (size_t i = 0; i < n->n_items; i++)
        TERN_TRY(check_target(p, n->items[i]));
    return TERN_OK;
}

static bool assigns_loop(const struct parser *p, const node *n)
{
    bool found = n->kind == TERN_N_NAME && n->name == p->t->loop;

    for (size_t i = 0; n->kind == TERN_N_TUPLE && i < n->n_items; i++)
        found = found || assigns_loop(p, n->items[i]);
    return found;
}

static tern_status parse_set(struct parser *p, node *n)
{
    TERN_TRY(next(p));
    TERN_TRY(parse_tuple(p, TUPLE_SIMPLE | TUPLE_MEMBERS, NULL, &n->a));
    TERN_TRY(check_target(p, n->a));
    if (p->loops > 0 && assigns_loop(p, n->a))
        return fail(p, n->line, TERN_ERR_FORMAT, "'loop' cannot be assigned to inside of a loop");
    if (at(p, TERN_T_ASSIGN)) {
        TERN_TRY(next(p));
        TERN_TRY(parse_tuple(p, TUPLE_CONDITION, NULL, &n->b));
        return deepen(p, n, n->b);
    }
    n->kind = TERN_N_SET_BLOCK;
    if (at(p, TERN_T_PIPE)) {
        TERN_TRY(parse_filters(p, false, &n->b));
        TERN_TRY(deepen(p, n, n->b));
    }
    return parse_until(p, "endset", n);
}

static tern_status parse_for(struct parser *p, node *n)
{
    static const char *const ends[] = { "endfor", "else", NULL };

    TERN_TRY(next(p));
    TERN_TRY(parse_tuple(p, TUPLE_SIMPLE, "in", &n->a));
    TERN_TRY(check_target(p, n->a));
    if (assigns_loop(p, n->a))
        return fail(p, n->line, TERN_ERR_FORMAT, "'loop' cannot be assigned to inside of a loop");
    TERN_TRY(expect_name(p, "in"));
    TERN_TRY(parse_tuple(p, 0, "recursive", &n->b));
    TERN_TRY(deepen(p, n, n->b));
    bool there;
    TERN_TRY(skip_name(p, "if", &there));
    if (there) {
        TERN_TRY(parse_expression(p, &n->c));
        TERN_TRY(deepen(p, n, n->c));
    }
    TERN_TRY(skip_name(p, "recursive", &n->flag));
    p->loops++;
    TERN_TRY(parse_statements(p, ends, n, &n->items, &n->n_items));
    p->loops--;
    const bool has_else = at_name(p, "else");
    TERN_TRY(next(p));
    if (has_else) {
        TERN_TRY(parse_statements(p, ends, n, &n->other, &n->n_other));
        if (!at_name(p, "endfor"))
            return fail(p, p->token.line, TERN_ERR_FORMAT, "expected 'endfor', got 'else'");
        TERN_TRY(next(p));
    }
    return TERN_OK;
}

static tern_status parse_if(struct parser *p, node *n)
{
    static const char *const ends[] = { "elif", "else", "endif", NULL };
    struct nodes branches = { 0 };
    node *other = n;
    tern_status status = TERN_OK;

    for (;;) {
        node *branch;
        bool is_elif, is_else;

        TERN_TRY_OR_FAIL(make(p, TERN_N_BRANCH, p->token.line, &branch));
        TERN_TRY_OR_FAIL(next(p)); /* if, elif */
        TERN_TRY_OR_FAIL(parse_tuple(p, 0, NULL, &branch->a));
        TERN_TRY_OR_FAIL(deepen(p, branch, branch->a));
        TERN_TRY_OR_FAIL(parse_statements(p, ends, branch, &branch->items, &branch->n_items));
        TERN_TRY_OR_FAIL(push(p, &branches, branch));
        is_elif = at_name(p, "elif");
        is_else = at_name(p, "else");
        if (is_elif)
            continue;
        TERN_TRY_OR_FAIL(next(p));
        if (is_else) {
            TERN_TRY_OR_FAIL(parse_statements(p, ends + 2, other, &n->other, &n->n_other));
            TERN_TRY_OR_FAIL(next(p));
        }
        return keep(p, &branches, n, &n->items, &n->n_items);
    }
fail:
    tern_free(branches.data);
    return status;
}

/* "(a, b=1)" of a macro or a call block. */
static tern_status parse_signature(struct parser *p, node *owner, struct tern_node_macro *m)
{
    const struct tern_vstring **names = NULL;
    size_t capacity = 0;
    struct nodes defaults = { 0 };
    tern_status status = TERN_OK;
    char got[80];

    TERN_TRY(expect(p, TERN_T_LPAREN));
    while (!at(p, TERN_T_RPAREN)) {
        node *value = NULL;

        if (defaults.count > 0)
            TERN_TRY_OR_FAIL(expect(p, TERN_T_COMMA));
        if (!at(p, TERN_T_NAME)) {
            status = fail(p, p->token.line, TERN_ERR_FORMAT, "expected 'name', got %s", shown(&p->token, got));
            goto fail;
        }
        TERN_TRY_OR_FAIL(TERN_GROW(p->ctx, &names, &capacity, defaults.count + 1, "a template"));
        TERN_TRY_OR_FAIL(intern(p, p->token.text, p->token.size, &names[defaults.count]));
        mean(p, names[defaults.count]);
        for (size_t i = 0; i < defaults.count; i++)
            if (names[i] == names[defaults.count]) {
                status = fail(p, p->token.line, TERN_ERR_FORMAT, "the parameter '%.*s' is there twice",
                              (int)names[i]->size, names[i]->data);
                goto fail;
            }
        TERN_TRY_OR_FAIL(next(p));
        if (at(p, TERN_T_ASSIGN)) {
            TERN_TRY_OR_FAIL(next(p));
            TERN_TRY_OR_FAIL(parse_expression(p, &value));
        } else if (defaults.count > 0 && defaults.data[defaults.count - 1]) {
            status = fail(p, p->token.line, TERN_ERR_FORMAT, "a parameter without default follows one with");
            goto fail;
        }
        TERN_TRY_OR_FAIL(push(p, &defaults, value));
    }
    TERN_TRY_OR_FAIL(next(p));
    TERN_TRY_OR_FAIL(TERN_POOL_TAKE(p->ctx, &p->t->pool, defaults.count, &m->params));
    for (size_t i = 0; i < defaults.count; i++)
        m->params[i] = names[i];
    status = keep(p, &defaults, owner, &m->defaults, &m->n_params);
fail:
    tern_free(defaults.data);
    tern_free(names);
    return status;
}

static tern_status parse_macro_body(struct parser *p, const char *end, node *n)
{
    const char *const ends[] = { end, NULL };
    const unsigned loops = p->loops;
    struct tern_node_macro *m = n->macro;
    struct reads reads = {
        .p = p, .caller = &m->takes_caller, .kwargs = &m->takes_kwargs, .varargs = &m->takes_varargs
    };

    p->loops = 0;
    TERN_TRY(parse_statements(p, ends, n, &m->body, &m->n_body));
    p->loops = loops;
    TERN_TRY(next(p));
    find_list(&reads, m->body, m->n_body, false);
    for (size_t i = 0; i < m->n_params; i++) {
        const struct tern_vstring *name = m->params[i];

        if (name == p->t->caller && m->takes_caller) {
            if (!m->defaults[i])
                return fail(p, n->line, TERN_ERR_FORMAT, "the parameter 'caller' wants a default, or to be left out");
            m->takes_caller = false;
        }
        if (name == p->t->kwargs)
            m->takes_kwargs = false;
        if (name == p->t->varargs)
            m->takes_varargs = false;
    }
    return TERN_OK;
}

static tern_status parse_macro(struct parser *p, node *n)
{
    char got[80];

    TERN_TRY(next(p));
    if (!at(p, TERN_T_NAME))
        return fail(p, p->token.line, TERN_ERR_FORMAT, "expected 'name', got %s", shown(&p->token, got));
    TERN_TRY(TERN_POOL_TAKE(p->ctx, &p->t->pool, 1, &n->macro));
    TERN_TRY(intern(p, p->token.text, p->token.size, &n->macro->name));
    mean(p, n->macro->name);
    TERN_TRY(next(p));
    TERN_TRY(parse_signature(p, n, n->macro));
    return parse_macro_body(p, "endmacro", n);
}

static tern_status parse_call_block(struct parser *p, node *n)
{
    TERN_TRY(next(p));
    TERN_TRY(TERN_POOL_TAKE(p->ctx, &p->t->pool, 1, &n->macro));
    if (at(p, TERN_T_LPAREN))
        TERN_TRY(parse_signature(p, n, n->macro));
    TERN_TRY(parse_expression(p, &n->a));
    if (n->a->kind != TERN_N_CALL)
        return fail(p, n->line, TERN_ERR_FORMAT, "'call' wants a call behind it");
    TERN_TRY(deepen(p, n, n->a));
    return parse_macro_body(p, "endcall", n);
}

static tern_status parse_filter_block(struct parser *p, node *n)
{
    TERN_TRY(next(p));
    TERN_TRY(parse_filters(p, true, &n->a));
    TERN_TRY(deepen(p, n, n->a));
    return parse_until(p, "endfilter", n);
}

static tern_status parse_with(struct parser *p, node *n)
{
    struct nodes list = { 0 };
    tern_status status = TERN_OK;

    TERN_TRY(next(p));
    while (!at(p, TERN_T_BLOCK_END)) {
        node *item;

        if (list.count > 0)
            TERN_TRY_OR_FAIL(expect(p, TERN_T_COMMA));
        TERN_TRY_OR_FAIL(parse_tuple(p, TUPLE_SIMPLE, NULL, &item));
        TERN_TRY_OR_FAIL(check_target(p, item));
        TERN_TRY_OR_FAIL(push(p, &list, item));
        TERN_TRY_OR_FAIL(expect(p, TERN_T_ASSIGN));
        TERN_TRY_OR_FAIL(parse_expression(p, &item));
        TERN_TRY_OR_FAIL(push(p, &list, item));
    }
    TERN_TRY_OR_FAIL(keep(p, &list, n, &n->other, &n->n_other));
    return parse_until(p, "endwith", n);
fail:
    tern_free(list.data);
    return status;
}

/* The body of a generation block is a function in jinja2: no break leaves it. */
static tern_status parse_generation(struct parser *p, node *n)
{
    const unsigned loops = p->loops;

    TERN_TRY(next(p));
    p->loops = 0;
    TERN_TRY(parse_until(p, "endgeneration", n));
    p->loops = loops;
    return TERN_OK;
}

static tern_status parse_print(struct parser *p, node *n)
{
    struct nodes list = { 0 };
    node *item;
    tern_status status = TERN_OK;

    TERN_TRY(next(p));
    while (!at(p, TERN_T_BLOCK_END)) {
        if (list.count > 0)
            TERN_TRY_OR_FAIL(expect(p, TERN_T_COMMA));
        TERN_TRY_OR_FAIL(parse_expression(p, &item));
        TERN_TRY_OR_FAIL(make_with(p, TERN_N_PRINT, item->line, item, NULL, &item));
        TERN_TRY_OR_FAIL(push(p, &list, item));
    }
    return keep(p, &list, n, &n->items, &n->n_items);
fail:
    tern_free(list.data);
    return status;
}

static tern_status parse_jump(struct parser *p, node *n)
{
    if (p->loops == 0)
        return fail(p, n->line, TERN_ERR_FORMAT, "'%s' outside of a loop",
                    n->kind == TERN_N_BREAK ? "break" : "continue");
    return next(p);
}

static const struct {
    const char *name;
    enum tern_node_kind kind;
    tern_status (*parse)(struct parser *p, node *n);
} statements[] = {
    { "if", TERN_N_IF, parse_if },
    { "for", TERN_N_FOR, parse_for },
    { "set", TERN_N_SET, parse_set },
    { "macro", TERN_N_MACRO, parse_macro },
    { "call", TERN_N_CALL_BLOCK, parse_call_block },
    { "filter", TERN_N_FILTER_BLOCK, parse_filter_block },
    { "with", TERN_N_WITH, parse_with },
    { "generation", TERN_N_SCOPE, parse_generation },
    { "print", TERN_N_BRANCH, parse_print },
    { "break", TERN_N_BREAK, parse_jump },
    { "continue", TERN_N_CONTINUE, parse_jump },
};

static tern_status parse_statement(struct parser *p, node **out)
{
    static const char *const others[] = { "block",      "extends", "include", "import", "from",
                                          "autoescape", "trans",   "do",      "debug" };
    const struct tern_template_token token = p->token;
    char got[80];

    if (token.kind != TERN_T_NAME)
        return fail(p, token.line, TERN_ERR_FORMAT, "expected a tag's name, got %s", shown(&token, got));
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++)
        if (at_name(p, statements[i].name)) {
            TERN_TRY(make(p, statements[i].kind, token.line, out));
            return statements[i].parse(p, *out);
        }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (at_name(p, others[i]))
            return fail(p, token.line, TERN_ERR_UNSUPPORTED,
                        "the tag '%s' is not one that tern has (if, for, set, macro, call, filter, with, generation, "
                        "print, break, continue, raw)",
                        others[i]);
    if (token.size > 3 && memcmp(token.text, "end", 3) == 0)
        return fail(p, token.line, TERN_ERR_FORMAT, "%s ends nothing that is open here", shown(&token, got));
    return fail(p, token.line, TERN_ERR_UNSUPPORTED,
                "the tag %s is not one that tern has (if, for, set, macro, call, filter, with, generation, print, "
                "break, continue, raw)",
                shown(&token, got));
}

static bool at_end(const struct parser *p, const char *const *ends)
{
    for (size_t i = 0; ends && ends[i]; i++)
        if (at_name(p, ends[i]))
            return true;
    return false;
}

static tern_status parse_text(struct parser *p, struct nodes *list)
{
    const struct tern_vstring *text;
    node *n;

    if (p->token.size > 0) {
        TERN_TRY(tern_string_borrow(p->ctx, &p->t->pool, p->token.text, p->token.size, SIZE_MAX, &text));
        TERN_TRY(make(p, TERN_N_TEXT, p->token.line, &n));
        n->value = (tern_value){ .kind = TERN_V_STRING, .as.string = text };
        TERN_TRY(push(p, list, n));
    }
    return next(p);
}

/* Text and tags up to a tag of `ends` (then its name is the token), or to the end where `ends` is NULL. */
static tern_status parse_body(struct parser *p, const char *const *ends, node *owner, node ***items, size_t *count)
{
    struct nodes list = { 0 };
    node *n;
    tern_status status = TERN_OK;

    for (;;) {
        if (at(p, TERN_T_DATA)) {
            TERN_TRY_OR_FAIL(parse_text(p, &list));
        } else if (at(p, TERN_T_PRINT_BEGIN)) {
            const uint32_t here = p->token.line;

            TERN_TRY_OR_FAIL(next(p));
            TERN_TRY_OR_FAIL(parse_tuple(p, TUPLE_CONDITION, NULL, &n));
            TERN_TRY_OR_FAIL(expect(p, TERN_T_PRINT_END));
            TERN_TRY_OR_FAIL(make_with(p, TERN_N_PRINT, here, n, NULL, &n));
            TERN_TRY_OR_FAIL(push(p, &list, n));
        } else if (at(p, TERN_T_BLOCK_BEGIN)) {
            TERN_TRY_OR_FAIL(next(p));
            if (at_end(p, ends))
                break;
            TERN_TRY_OR_FAIL(parse_statement(p, &n));
            TERN_TRY_OR_FAIL(push(p, &list, n));
            TERN_TRY_OR_FAIL(expect(p, TERN_T_BLOCK_END));
        } else { /* the end */
            if (!ends)
                break;
            while (ends[1]) /* the last one is its end */
                ends++;
            status = fail(p, owner->line, TERN_ERR_FORMAT, "the block that begins here has no '%s'", *ends);
            goto fail;
        }
    }
    return keep(p, &list, owner, items, count);
fail:
    tern_free(list.data);
    return status;
}

/* Calls of names that the template never gives a value. */
static tern_status check_pending(struct parser *p)
{
    for (size_t i = 0; i < p->n_pending; i++) {
        const struct pending *c = &p->pending[i];
        const struct tern_vstring *name = c->name;

        if (is_meant(p, name) || name == p->t->caller || name == p->t->loop)
            continue;
        return fail(p, c->line, TERN_ERR_UNSUPPORTED, "the %s '%.*s' is not one that tern has",
                    c->method ? "method" : "function", (int)name->size, name->data);
    }
    return TERN_OK;
}

static tern_status parse_template(struct parser *p, const char *source, size_t size)
{
    struct tern_template *t = p->t;
    node *root;

    TERN_TRY(intern(p, "loop", 4, &t->loop));
    TERN_TRY(intern(p, "caller", 6, &t->caller));
    TERN_TRY(intern(p, "varargs", 7, &t->varargs));
    TERN_TRY(intern(p, "kwargs", 6, &t->kwargs));
    TERN_TRY(tern_lexer_start(p->ctx, t->name, &t->pool, source, size, &p->lexer));
    TERN_TRY(next(p));
    TERN_TRY(make(p, TERN_N_BRANCH, 1, &root));
    TERN_TRY(parse_body(p, NULL, root, &t->body, &t->n_body));
    return check_pending(p);
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
    struct parser p = { .ctx = ctx };
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
    tern_free(p.meant);
    tern_free(p.pending);
    if (!status) {
        *out = t;
        return TERN_OK;
    }
fail:
    tern_template_destroy(t);
    return status;
}
