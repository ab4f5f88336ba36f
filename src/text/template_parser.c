/* template_parser.c: tokens to expressions, by the grammar of jinja2's parser.
 *
 * Precedence, weakest first: x if y else z; or; and; not; comparisons, in; + -; ~; * / // %; **; unary + -; then what
 * follows a value: .name, [...], (...), |filter, is test.  Unary minus binds stronger than **, as in jinja2 and unlike Python. */
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

static tern_status look(struct tern_parser *p, const struct tern_template_token **out)
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

bool tern_parse_at_name(const struct tern_parser *p, const char *name)
{
    return token_is(&p->token, name);
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

tern_status tern_parse_skip_name(struct tern_parser *p, const char *name, bool *there)
{
    *there = tern_parse_at_name(p, name);
    return *there ? tern_parse_next(p) : TERN_OK;
}

/* ---- names and nodes ---- */

const struct tern_vstring *tern_template_name(const struct tern_template *t, const char *name, size_t size)
{
    for (size_t i = 0; i < t->n_names; i++)
        if (t->names[i]->size == size && memcmp(t->names[i]->data, name, size) == 0)
            return t->names[i];
    return NULL;
}

tern_status tern_parse_intern(struct tern_parser *p, const char *name, size_t size, const struct tern_vstring **out)
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

void tern_parse_mean(struct tern_parser *p, const struct tern_vstring *name)
{
    for (size_t i = 0; i < p->t->n_names; i++)
        if (p->t->names[i] == name)
            p->meant[i] = true;
}

static tern_status want_meaning(struct tern_parser *p, const struct tern_vstring *name, uint32_t line, bool method)
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

static tern_status make_const(struct tern_parser *p, uint32_t line, tern_value value, node **out)
{
    TERN_TRY(tern_node_make(p, TERN_N_CONST, line, out));
    (*out)->value = value;
    return TERN_OK;
}

tern_status tern_nodes_push(struct tern_parser *p, struct tern_nodes *list, node *n)
{
    TERN_TRY(TERN_GROW(p->ctx, &list->data, &list->capacity, list->count + 1, "a template"));
    list->data[list->count++] = n;
    return TERN_OK;
}

tern_status tern_nodes_keep(struct tern_parser *p, struct tern_nodes *list, node *owner, node ***items, size_t *count)
{
    tern_status status = TERN_POOL_TAKE(p->ctx, &p->t->pool, list->count, items);

    for (size_t i = 0; !status && i < list->count; i++) {
        (*items)[i] = list->data[i];
        status = tern_node_deepen(p, owner, list->data[i]);
    }
    *count = status ? 0 : list->count;
    tern_free(list->data);
    *list = (struct tern_nodes){ 0 };
    return status;
}

tern_status tern_parse_deeper(struct tern_parser *p)
{
    if (p->depth >= TERN_TEMPLATE_NESTING)
        return tern_parse_fail(p, p->token.line, TERN_ERR_CAPACITY,
                               "the limit of nesting is %d levels of operators and blocks", TERN_TEMPLATE_NESTING);
    p->depth++;
    return TERN_OK;
}

/* ---- expressions ---- */

static tern_status parse_or(struct tern_parser *p, node **out);
static tern_status parse_unary(struct tern_parser *p, bool with_filter, node **out);

static tern_status parse_primary(struct tern_parser *p, bool members, node **out);

tern_status tern_parse_tuple(struct tern_parser *p, unsigned flags, const char *end, node **out)
{
    const uint32_t line = p->token.line;
    struct tern_nodes list = { 0 };
    bool is_tuple = false;
    tern_status status = TERN_OK;
    char got[80];

    for (;;) {
        node *item = NULL;

        if (list.count > 0)
            TERN_TRY_OR_FAIL(tern_parse_expect(p, TERN_T_COMMA));
        if (tern_parse_at(p, TERN_T_PRINT_END) || tern_parse_at(p, TERN_T_BLOCK_END) ||
            tern_parse_at(p, TERN_T_RPAREN) || (end && tern_parse_at_name(p, end)))
            break;
        if (flags & TERN_TUPLE_SIMPLE)
            TERN_TRY_OR_FAIL(parse_primary(p, flags & TERN_TUPLE_MEMBERS, &item));
        else if (flags & TERN_TUPLE_CONDITION)
            TERN_TRY_OR_FAIL(tern_parse_expression(p, &item));
        else
            TERN_TRY_OR_FAIL(parse_or(p, &item));
        TERN_TRY_OR_FAIL(tern_nodes_push(p, &list, item));
        if (!tern_parse_at(p, TERN_T_COMMA))
            break;
        is_tuple = true;
    }
    if (!is_tuple && list.count > 0) {
        *out = list.data[0];
    } else if (!is_tuple && !(flags & TERN_TUPLE_PARENTHESES)) {
        status = tern_parse_fail(p, p->token.line, TERN_ERR_FORMAT, "expected an expression, got %s",
                                 tern_token_shown(&p->token, got));
    } else {
        TERN_TRY_OR_FAIL(tern_node_make(p, TERN_N_TUPLE, line, out));
        return tern_nodes_keep(p, &list, *out, &(*out)->items, &(*out)->n_items);
    }
fail:
    tern_free(list.data);
    return status;
}

static tern_status parse_list(struct tern_parser *p, node **out)
{
    struct tern_nodes list = { 0 };
    tern_status status = TERN_OK;

    TERN_TRY(tern_node_make(p, TERN_N_LIST, p->token.line, out));
    TERN_TRY(tern_parse_next(p));
    while (!tern_parse_at(p, TERN_T_RBRACKET)) {
        node *item;

        if (list.count > 0)
            TERN_TRY_OR_FAIL(tern_parse_expect(p, TERN_T_COMMA));
        if (tern_parse_at(p, TERN_T_RBRACKET))
            break;
        TERN_TRY_OR_FAIL(tern_parse_expression(p, &item));
        TERN_TRY_OR_FAIL(tern_nodes_push(p, &list, item));
    }
    TERN_TRY_OR_FAIL(tern_parse_next(p));
    return tern_nodes_keep(p, &list, *out, &(*out)->items, &(*out)->n_items);
fail:
    tern_free(list.data);
    return status;
}

static tern_status parse_dict(struct tern_parser *p, node **out)
{
    struct tern_nodes list = { 0 };
    tern_status status = TERN_OK;

    TERN_TRY(tern_node_make(p, TERN_N_DICT, p->token.line, out));
    TERN_TRY(tern_parse_next(p));
    while (!tern_parse_at(p, TERN_T_RBRACE)) {
        node *item;

        if (list.count > 0)
            TERN_TRY_OR_FAIL(tern_parse_expect(p, TERN_T_COMMA));
        if (tern_parse_at(p, TERN_T_RBRACE))
            break;
        TERN_TRY_OR_FAIL(tern_parse_expression(p, &item));
        if (item->kind == TERN_N_CONST && item->value.kind == TERN_V_STRING) {
            const struct tern_vstring *name;

            TERN_TRY_OR_FAIL(tern_parse_intern(p, item->value.as.string->data, item->value.as.string->size, &name));
            tern_parse_mean(p, name);
        }
        TERN_TRY_OR_FAIL(tern_nodes_push(p, &list, item));
        TERN_TRY_OR_FAIL(tern_parse_expect(p, TERN_T_COLON));
        TERN_TRY_OR_FAIL(tern_parse_expression(p, &item));
        TERN_TRY_OR_FAIL(tern_nodes_push(p, &list, item));
    }
    TERN_TRY_OR_FAIL(tern_parse_next(p));
    return tern_nodes_keep(p, &list, *out, &(*out)->items, &(*out)->n_items);
fail:
    tern_free(list.data);
    return status;
}

/* Strings side by side are one. */
static tern_status parse_string(struct tern_parser *p, node **out)
{
    const uint32_t line = p->token.line;
    const struct tern_vstring *string;
    const char *text = p->token.text;
    size_t size = p->token.size;

    TERN_TRY(tern_parse_next(p));
    while (tern_parse_at(p, TERN_T_STRING)) {
        char *both;

        TERN_TRY(TERN_POOL_TAKE(p->ctx, &p->t->pool, size + p->token.size, &both));
        memcpy(both, text, size);
        memcpy(both + size, p->token.text, p->token.size);
        text = both;
        size += p->token.size;
        TERN_TRY(tern_parse_next(p));
    }
    TERN_TRY(tern_string_borrow(p->ctx, &p->t->pool, text, size, SIZE_MAX, &string));
    return make_const(p, line, (tern_value){ .kind = TERN_V_STRING, .as.string = string }, out);
}

static tern_status parse_name(struct tern_parser *p, bool members, node **out)
{
    const struct tern_template_token token = p->token;
    node *n;

    TERN_TRY(tern_parse_next(p));
    if (token_is(&token, "true") || token_is(&token, "True"))
        return make_const(p, token.line, TERN_BOOL_VALUE(true), out);
    if (token_is(&token, "false") || token_is(&token, "False"))
        return make_const(p, token.line, TERN_BOOL_VALUE(false), out);
    if (token_is(&token, "none") || token_is(&token, "None"))
        return make_const(p, token.line, TERN_NONE_VALUE, out);
    TERN_TRY(tern_node_make(p, members && tern_parse_at(p, TERN_T_DOT) ? TERN_N_MEMBER : TERN_N_NAME, token.line, &n));
    TERN_TRY(tern_parse_intern(p, token.text, token.size, &n->name));
    if (n->kind == TERN_N_MEMBER) {
        char got[80];

        TERN_TRY(tern_parse_next(p));
        if (!tern_parse_at(p, TERN_T_NAME))
            return tern_parse_fail(p, p->token.line, TERN_ERR_FORMAT, "expected 'name', got %s",
                                   tern_token_shown(&p->token, got));
        TERN_TRY(tern_parse_intern(p, p->token.text, p->token.size, &n->attr));
        tern_parse_mean(p, n->attr);
        TERN_TRY(tern_parse_next(p));
    }
    *out = n;
    return TERN_OK;
}

static tern_status parse_primary(struct tern_parser *p, bool members, node **out)
{
    const struct tern_template_token token = p->token;
    char got[80];

    switch (token.kind) {
    case TERN_T_NAME:
        return parse_name(p, members, out);
    case TERN_T_STRING:
        return parse_string(p, out);
    case TERN_T_INTEGER:
        TERN_TRY(tern_parse_next(p));
        return make_const(p, token.line, TERN_INT_VALUE(token.integer), out);
    case TERN_T_FLOAT:
        TERN_TRY(tern_parse_next(p));
        return make_const(p, token.line, TERN_FLOAT_VALUE(token.real), out);
    case TERN_T_LPAREN:
        TERN_TRY(tern_parse_next(p));
        TERN_TRY(tern_parse_deeper(p));
        TERN_TRY(tern_parse_tuple(p, TERN_TUPLE_CONDITION | TERN_TUPLE_PARENTHESES, NULL, out));
        p->depth--;
        return tern_parse_expect(p, TERN_T_RPAREN);
    case TERN_T_LBRACKET:
        TERN_TRY(tern_parse_deeper(p));
        TERN_TRY(parse_list(p, out));
        p->depth--;
        return TERN_OK;
    case TERN_T_LBRACE:
        TERN_TRY(tern_parse_deeper(p));
        TERN_TRY(parse_dict(p, out));
        p->depth--;
        return TERN_OK;
    default:
        return tern_parse_fail(p, token.line, TERN_ERR_FORMAT, "unexpected %s", tern_token_shown(&token, got));
    }
}

static tern_status keep_args(struct tern_parser *p, struct tern_nodes *args, struct tern_nodes *values,
                             const struct tern_vstring **names, size_t n_names, node *more_args, node *more_keywords,
                             node *owner)
{
    struct tern_node_args *a;
    tern_status status = TERN_OK;

    TERN_TRY_OR_FAIL(TERN_POOL_TAKE(p->ctx, &p->t->pool, 1, &a));
    a->more_args = more_args;
    a->more_keywords = more_keywords;
    TERN_TRY_OR_FAIL(tern_node_deepen(p, owner, more_args));
    TERN_TRY_OR_FAIL(tern_node_deepen(p, owner, more_keywords));
    TERN_TRY_OR_FAIL(TERN_POOL_TAKE(p->ctx, &p->t->pool, n_names, &a->names));
    for (size_t i = 0; i < n_names; i++)
        a->names[i] = names[i];
    TERN_TRY_OR_FAIL(tern_nodes_keep(p, args, owner, &a->args, &a->n_args));
    TERN_TRY_OR_FAIL(tern_nodes_keep(p, values, owner, &a->values, &a->n_keywords));
    owner->args = a;
fail:
    tern_free(args->data);
    tern_free(values->data);
    return status;
}

/* "(...)" behind what is called. */
static tern_status parse_args(struct tern_parser *p, node *owner)
{
    const uint32_t line = p->token.line;
    struct tern_nodes args = { 0 }, values = { 0 };
    const struct tern_vstring **names = NULL;
    size_t n_names = 0, names_capacity = 0;
    node *more_args = NULL, *more_keywords = NULL;
    bool comma = false;
    tern_status status = TERN_OK;

    TERN_TRY(tern_parse_deeper(p));
    TERN_TRY(tern_parse_expect(p, TERN_T_LPAREN));
    while (!tern_parse_at(p, TERN_T_RPAREN)) {
        const struct tern_template_token *ahead = NULL;
        node *value;
        bool order = true;

        if (comma) {
            TERN_TRY_OR_FAIL(tern_parse_expect(p, TERN_T_COMMA));
            if (tern_parse_at(p, TERN_T_RPAREN))
                break;
        }
        comma = true;
        if (tern_parse_at(p, TERN_T_MUL)) {
            order = !more_args && !more_keywords;
            TERN_TRY_OR_FAIL(tern_parse_next(p));
            TERN_TRY_OR_FAIL(tern_parse_expression(p, &more_args));
        } else if (tern_parse_at(p, TERN_T_POW)) {
            order = !more_keywords;
            TERN_TRY_OR_FAIL(tern_parse_next(p));
            TERN_TRY_OR_FAIL(tern_parse_expression(p, &more_keywords));
        } else {
            if (tern_parse_at(p, TERN_T_NAME))
                TERN_TRY_OR_FAIL(look(p, &ahead));
            if (ahead && ahead->kind == TERN_T_ASSIGN) {
                order = !more_keywords;
                TERN_TRY_OR_FAIL(TERN_GROW(p->ctx, &names, &names_capacity, n_names + 1, "a template"));
                TERN_TRY_OR_FAIL(tern_parse_intern(p, p->token.text, p->token.size, &names[n_names]));
                tern_parse_mean(p, names[n_names]);
                for (size_t i = 0; i < n_names; i++)
                    if (names[i] == names[n_names]) {
                        status = tern_parse_fail(p, line, TERN_ERR_FORMAT, "the argument '%.*s' is there twice",
                                                 (int)names[i]->size, names[i]->data);
                        goto fail;
                    }
                n_names++;
                TERN_TRY_OR_FAIL(tern_parse_next(p));
                TERN_TRY_OR_FAIL(tern_parse_next(p));
                TERN_TRY_OR_FAIL(tern_parse_expression(p, &value));
                TERN_TRY_OR_FAIL(tern_nodes_push(p, &values, value));
            } else {
                order = !more_args && !more_keywords && values.count == 0;
                TERN_TRY_OR_FAIL(tern_parse_expression(p, &value));
                TERN_TRY_OR_FAIL(tern_nodes_push(p, &args, value));
            }
        }
        if (!order) {
            status = tern_parse_fail(p, line, TERN_ERR_FORMAT,
                                     "arguments come by position, then by name, then *x, then **x");
            goto fail;
        }
    }
    TERN_TRY_OR_FAIL(tern_parse_next(p));
    p->depth--;
    status = keep_args(p, &args, &values, names, n_names, more_args, more_keywords, owner);
    args = values = (struct tern_nodes){ 0 };
fail:
    tern_free(args.data);
    tern_free(values.data);
    tern_free(names);
    return status;
}

/* Calls of names that have no meaning are found when the whole template is known. */
static tern_status check_callee(struct tern_parser *p, const node *callee)
{
    const struct tern_vstring *name = callee->name;

    if (callee->kind == TERN_N_NAME && !tern_function_find(name->data, name->size))
        return want_meaning(p, name, callee->line, false);
    if (callee->kind == TERN_N_GETATTR && !tern_method_known(name->data, name->size))
        return want_meaning(p, name, callee->line, true);
    return TERN_OK;
}

static tern_status parse_call(struct tern_parser *p, node *callee, node **out)
{
    TERN_TRY(check_callee(p, callee));
    TERN_TRY(tern_node_make_with(p, TERN_N_CALL, p->token.line, callee, NULL, out));
    return parse_args(p, *out);
}

static tern_status parse_slice_part(struct tern_parser *p, node *slice, node **part)
{
    if (tern_parse_at(p, TERN_T_COLON) || tern_parse_at(p, TERN_T_RBRACKET) || tern_parse_at(p, TERN_T_COMMA))
        return TERN_OK;
    TERN_TRY(tern_parse_expression(p, part));
    return tern_node_deepen(p, slice, *part);
}

/* One subscript: an expression, or a slice. */
static tern_status parse_subscribed(struct tern_parser *p, node **out)
{
    const uint32_t line = p->token.line;
    node *first = NULL, *slice;

    if (!tern_parse_at(p, TERN_T_COLON)) {
        TERN_TRY(tern_parse_expression(p, &first));
        if (!tern_parse_at(p, TERN_T_COLON)) {
            *out = first;
            return TERN_OK;
        }
    }
    TERN_TRY(tern_parse_next(p));
    TERN_TRY(tern_node_make_with(p, TERN_N_SLICE, line, first, NULL, &slice));
    TERN_TRY(parse_slice_part(p, slice, &slice->b));
    if (tern_parse_at(p, TERN_T_COLON)) {
        TERN_TRY(tern_parse_next(p));
        TERN_TRY(parse_slice_part(p, slice, &slice->c));
    }
    *out = slice;
    return TERN_OK;
}

static tern_status parse_subscript(struct tern_parser *p, node *object, node **out)
{
    const struct tern_template_token token = p->token;
    struct tern_nodes list = { 0 };
    node *key;
    tern_status status = TERN_OK;

    TERN_TRY(tern_parse_next(p));
    if (token.kind == TERN_T_DOT) {
        const struct tern_template_token name = p->token;

        TERN_TRY(tern_parse_next(p));
        if (name.kind == TERN_T_NAME) {
            TERN_TRY(tern_node_make_with(p, TERN_N_GETATTR, token.line, object, NULL, out));
            return tern_parse_intern(p, name.text, name.size, &(*out)->name);
        }
        if (name.kind != TERN_T_INTEGER)
            return tern_parse_fail(p, name.line, TERN_ERR_FORMAT, "expected a name or a number behind '.'");
        TERN_TRY(make_const(p, name.line, TERN_INT_VALUE(name.integer), &key));
        return tern_node_make_with(p, TERN_N_GETITEM, token.line, object, key, out);
    }
    TERN_TRY(tern_parse_deeper(p));
    while (!tern_parse_at(p, TERN_T_RBRACKET)) {
        if (list.count > 0)
            TERN_TRY_OR_FAIL(tern_parse_expect(p, TERN_T_COMMA));
        TERN_TRY_OR_FAIL(parse_subscribed(p, &key));
        TERN_TRY_OR_FAIL(tern_nodes_push(p, &list, key));
    }
    TERN_TRY_OR_FAIL(tern_parse_next(p));
    p->depth--;
    if (list.count != 1) {
        for (size_t i = 0; i < list.count; i++)
            if (list.data[i]->kind == TERN_N_SLICE) {
                status = tern_parse_fail(p, token.line, TERN_ERR_UNSUPPORTED, "a slice among several subscripts");
                goto fail;
            }
        TERN_TRY_OR_FAIL(tern_node_make(p, TERN_N_TUPLE, token.line, &key));
        TERN_TRY_OR_FAIL(tern_nodes_keep(p, &list, key, &key->items, &key->n_items));
    }
    status = tern_node_make_with(p, TERN_N_GETITEM, token.line, object, key, out);
fail:
    tern_free(list.data);
    return status;
}

static tern_status parse_postfix(struct tern_parser *p, node **n)
{
    for (;;) {
        if (tern_parse_at(p, TERN_T_DOT) || tern_parse_at(p, TERN_T_LBRACKET))
            TERN_TRY(parse_subscript(p, *n, n));
        else if (tern_parse_at(p, TERN_T_LPAREN))
            TERN_TRY(parse_call(p, *n, n));
        else
            return TERN_OK;
    }
}

/* "name" or "name.name" of a filter or a test. */
static tern_status parse_dotted(struct tern_parser *p, const char **name, size_t *size)
{
    char got[80];

    if (!tern_parse_at(p, TERN_T_NAME))
        return tern_parse_fail(p, p->token.line, TERN_ERR_FORMAT, "expected 'name', got %s",
                               tern_token_shown(&p->token, got));
    *name = p->token.text;
    *size = p->token.size;
    TERN_TRY(tern_parse_next(p));
    while (tern_parse_at(p, TERN_T_DOT)) { /* the name in full, for the error: there are none with dots */
        TERN_TRY(tern_parse_next(p));
        if (tern_parse_at(p, TERN_T_NAME))
            *size = (size_t)(p->token.text + p->token.size - *name);
        TERN_TRY(tern_parse_next(p));
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
static tern_status check_named(struct tern_parser *p, const char *filter, size_t size, const node *n)
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
            return tern_parse_fail(p, n->line, TERN_ERR_UNSUPPORTED, "the test '%.*s' is not one that tern has",
                                   (int)name->size, name->data);
        if (!callers[i].test && !tern_filter_find(name->data, name->size))
            return tern_parse_fail(p, n->line, TERN_ERR_UNSUPPORTED, "the filter '%.*s' is not one that tern has",
                                   (int)name->size, name->data);
    }
    return TERN_OK;
}

tern_status tern_parse_filters(struct tern_parser *p, bool begins_inside, node **n)
{
    while (tern_parse_at(p, TERN_T_PIPE) || begins_inside) {
        const char *name = "";
        size_t size = 0;

        if (!begins_inside)
            TERN_TRY(tern_parse_next(p));
        begins_inside = false;
        TERN_TRY(tern_node_make_with(p, TERN_N_FILTER, p->token.line, *n, NULL, n));
        TERN_TRY(parse_dotted(p, &name, &size));
        (*n)->callee = tern_filter_find(name, size);
        if (!(*n)->callee)
            return tern_parse_fail(p, (*n)->line, TERN_ERR_UNSUPPORTED, "the filter '%.*s' is not one that tern has",
                                   (int)size, name);
        if (tern_parse_at(p, TERN_T_LPAREN))
            TERN_TRY(parse_args(p, *n));
        TERN_TRY(check_named(p, name, size, *n));
    }
    return TERN_OK;
}

/* "is name", "is not name", "is name arg", "is name(args)". */
static tern_status parse_test(struct tern_parser *p, node **n)
{
    const uint32_t line = p->token.line;
    const char *name = "";
    size_t size = 0;
    bool negated;
    node *subject = *n, *test;

    TERN_TRY(tern_parse_next(p));
    TERN_TRY(tern_parse_skip_name(p, "not", &negated));
    TERN_TRY(tern_node_make_with(p, TERN_N_TEST, line, subject, NULL, &test));
    TERN_TRY(parse_dotted(p, &name, &size));
    test->callee = tern_test_find(name, size);
    if (!test->callee)
        return tern_parse_fail(p, line, TERN_ERR_UNSUPPORTED, "the test '%.*s' is not one that tern has", (int)size,
                               name);
    if (subject->kind == TERN_N_NAME || subject->kind == TERN_N_GETATTR)
        tern_parse_mean(p, subject->name);
    if (tern_parse_at(p, TERN_T_LPAREN)) {
        TERN_TRY(parse_args(p, test));
    } else if ((tern_parse_at(p, TERN_T_NAME) && !tern_parse_at_name(p, "else") && !tern_parse_at_name(p, "or") &&
                !tern_parse_at_name(p, "and")) ||
               tern_parse_at(p, TERN_T_STRING) || tern_parse_at(p, TERN_T_INTEGER) || tern_parse_at(p, TERN_T_FLOAT) ||
               tern_parse_at(p, TERN_T_LBRACKET) || tern_parse_at(p, TERN_T_LBRACE)) {
        struct tern_nodes args = { 0 }, none = { 0 };
        node *arg;

        if (tern_parse_at_name(p, "is"))
            return tern_parse_fail(p, p->token.line, TERN_ERR_FORMAT, "tests cannot follow one another");
        TERN_TRY(parse_primary(p, false, &arg));
        TERN_TRY(parse_postfix(p, &arg));
        TERN_TRY(tern_nodes_push(p, &args, arg));
        TERN_TRY(keep_args(p, &args, &none, NULL, 0, NULL, NULL, test));
    }
    *n = test;
    return negated ? tern_node_make_with(p, TERN_N_NOT, line, test, NULL, n) : TERN_OK;
}

static tern_status parse_unary(struct tern_parser *p, bool with_filter, node **out)
{
    const struct tern_template_token token = p->token;

    if (token.kind == TERN_T_SUB || token.kind == TERN_T_ADD) {
        node *operand;

        TERN_TRY(tern_parse_next(p));
        TERN_TRY(tern_parse_deeper(p));
        TERN_TRY(parse_unary(p, false, &operand));
        p->depth--;
        TERN_TRY(tern_node_make_with(p, TERN_N_UNARY, token.line, operand, NULL, out));
        (*out)->op = token.kind == TERN_T_SUB ? TERN_OP_SUB : TERN_OP_ADD;
    } else {
        TERN_TRY(parse_primary(p, false, out));
    }
    TERN_TRY(parse_postfix(p, out));
    while (with_filter) {
        if (tern_parse_at(p, TERN_T_PIPE))
            TERN_TRY(tern_parse_filters(p, false, out));
        else if (tern_parse_at_name(p, "is"))
            TERN_TRY(parse_test(p, out));
        else if (tern_parse_at(p, TERN_T_LPAREN))
            TERN_TRY(parse_call(p, *out, out));
        else
            break;
    }
    return TERN_OK;
}

static tern_status binary(struct tern_parser *p, enum tern_operator op, uint32_t line, node *a, node *b, node **out)
{
    TERN_TRY(tern_node_make_with(p, TERN_N_BINARY, line, a, b, out));
    (*out)->op = op;
    return TERN_OK;
}

static tern_status parse_pow(struct tern_parser *p, node **out)
{
    TERN_TRY(parse_unary(p, true, out));
    while (tern_parse_at(p, TERN_T_POW)) {
        const uint32_t line = p->token.line;
        node *right;

        TERN_TRY(tern_parse_next(p));
        TERN_TRY(parse_unary(p, true, &right));
        TERN_TRY(binary(p, TERN_OP_POW, line, *out, right, out));
    }
    return TERN_OK;
}

static tern_status parse_product(struct tern_parser *p, node **out)
{
    TERN_TRY(parse_pow(p, out));
    while (tern_parse_at(p, TERN_T_MUL) || tern_parse_at(p, TERN_T_DIV) || tern_parse_at(p, TERN_T_FLOORDIV) ||
           tern_parse_at(p, TERN_T_MOD)) {
        const struct tern_template_token token = p->token;
        node *right;

        TERN_TRY(tern_parse_next(p));
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

static tern_status parse_concat(struct tern_parser *p, node **out)
{
    const uint32_t line = p->token.line;
    struct tern_nodes list = { 0 };
    node *item;
    tern_status status = TERN_OK;

    TERN_TRY(parse_product(p, &item));
    *out = item;
    if (!tern_parse_at(p, TERN_T_TILDE))
        return TERN_OK;
    TERN_TRY_OR_FAIL(tern_nodes_push(p, &list, item));
    while (tern_parse_at(p, TERN_T_TILDE)) {
        TERN_TRY_OR_FAIL(tern_parse_next(p));
        TERN_TRY_OR_FAIL(parse_product(p, &item));
        TERN_TRY_OR_FAIL(tern_nodes_push(p, &list, item));
    }
    TERN_TRY_OR_FAIL(tern_node_make(p, TERN_N_CONCAT, line, out));
    return tern_nodes_keep(p, &list, *out, &(*out)->items, &(*out)->n_items);
fail:
    tern_free(list.data);
    return status;
}

static tern_status parse_sum(struct tern_parser *p, node **out)
{
    TERN_TRY(parse_concat(p, out));
    while (tern_parse_at(p, TERN_T_ADD) || tern_parse_at(p, TERN_T_SUB)) {
        const struct tern_template_token token = p->token;
        node *right;

        TERN_TRY(tern_parse_next(p));
        TERN_TRY(parse_concat(p, &right));
        TERN_TRY(binary(p, token.kind == TERN_T_ADD ? TERN_OP_ADD : TERN_OP_SUB, token.line, *out, right, out));
    }
    return TERN_OK;
}

/* A comparison operator at the token, which is skipped; false: there is none. */
static tern_status comparison(struct tern_parser *p, enum tern_operator *op, bool *there)
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
        if (tern_parse_at(p, operators[i].token)) {
            *op = operators[i].op;
            return tern_parse_next(p);
        }
    if (tern_parse_at_name(p, "in")) {
        *op = TERN_OP_IN;
        return tern_parse_next(p);
    }
    if (tern_parse_at_name(p, "not")) {
        TERN_TRY(look(p, &ahead));
        if (token_is(ahead, "in")) {
            *op = TERN_OP_NOT_IN;
            TERN_TRY(tern_parse_next(p));
            return tern_parse_next(p);
        }
    }
    *there = false;
    return TERN_OK;
}

static tern_status parse_compare(struct tern_parser *p, node **out)
{
    const uint32_t line = p->token.line;
    struct tern_nodes list = { 0 };
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
        TERN_TRY_OR_FAIL(tern_node_make_with(p, TERN_N_COMPARED, line, n, NULL, &n));
        n->op = op;
        TERN_TRY_OR_FAIL(tern_nodes_push(p, &list, n));
    }
    *out = first;
    if (list.count == 0)
        return TERN_OK;
    TERN_TRY_OR_FAIL(tern_node_make_with(p, TERN_N_COMPARE, line, first, NULL, out));
    return tern_nodes_keep(p, &list, *out, &(*out)->items, &(*out)->n_items);
fail:
    tern_free(list.data);
    return status;
}

static tern_status parse_not(struct tern_parser *p, node **out)
{
    const uint32_t line = p->token.line;
    node *operand;

    if (!tern_parse_at_name(p, "not"))
        return parse_compare(p, out);
    TERN_TRY(tern_parse_next(p));
    TERN_TRY(tern_parse_deeper(p));
    TERN_TRY(parse_not(p, &operand));
    p->depth--;
    return tern_node_make_with(p, TERN_N_NOT, line, operand, NULL, out);
}

static tern_status parse_and(struct tern_parser *p, node **out)
{
    bool there;

    TERN_TRY(parse_not(p, out));
    for (;;) {
        node *right;

        TERN_TRY(tern_parse_skip_name(p, "and", &there));
        if (!there)
            return TERN_OK;
        TERN_TRY(parse_not(p, &right));
        TERN_TRY(tern_node_make_with(p, TERN_N_AND, right->line, *out, right, out));
    }
}

static tern_status parse_or(struct tern_parser *p, node **out)
{
    bool there;

    TERN_TRY(parse_and(p, out));
    for (;;) {
        node *right;

        TERN_TRY(tern_parse_skip_name(p, "or", &there));
        if (!there)
            return TERN_OK;
        TERN_TRY(parse_and(p, &right));
        TERN_TRY(tern_node_make_with(p, TERN_N_OR, right->line, *out, right, out));
    }
}

tern_status tern_parse_expression(struct tern_parser *p, node **out)
{
    bool there;

    TERN_TRY(tern_parse_deeper(p));
    TERN_TRY(parse_or(p, out));
    for (;;) {
        node *condition, *n;
        bool has_else;

        TERN_TRY(tern_parse_skip_name(p, "if", &there));
        if (!there)
            break;
        TERN_TRY(parse_or(p, &condition));
        TERN_TRY(tern_node_make_with(p, TERN_N_CHOICE, condition->line, condition, *out, &n));
        TERN_TRY(tern_parse_skip_name(p, "else", &has_else));
        if (has_else) {
            TERN_TRY(tern_parse_expression(p, &n->c));
            TERN_TRY(tern_node_deepen(p, n, n->c));
        }
        *out = n;
    }
    p->depth--;
    return TERN_OK;
}
