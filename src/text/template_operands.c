/* template_operands.c: what stands between operators, by the grammar of jinja2's parser: names, literals, tuples, and what follows
 * them: .name, [...], (...), |filter, is test. */
#include "text/template_parser.h"

#include <string.h>

typedef struct tern_node node;

/* ---- lists ---- */

typedef tern_status item_fn(struct tern_parser *p, struct tern_nodes *list);

/* Items with commas between them up to `close`, which is skipped; trailing: the last one may have a comma too. */
static tern_status parse_items(struct tern_parser *p, enum tern_lexeme close, bool trailing, item_fn *item,
                               struct tern_nodes *list)
{
    bool more = false;

    while (!tern_parse_at(p, close)) {
        if (more) {
            TERN_TRY(tern_parse_expect(p, TERN_T_COMMA));
            if (trailing && tern_parse_at(p, close))
                break;
        }
        TERN_TRY(item(p, list));
        more = true;
    }
    return tern_parse_next(p);
}

static tern_status parse_element(struct tern_parser *p, struct tern_nodes *list)
{
    node *item;

    TERN_TRY(tern_parse_expression(p, &item));
    return tern_nodes_push(p, list, item);
}

/* "key: value"; a key that is a text is a name that may be called. */
static tern_status parse_entry(struct tern_parser *p, struct tern_nodes *list)
{
    node *key;

    TERN_TRY(tern_parse_expression(p, &key));
    if (key->kind == TERN_N_CONST && key->value.kind == TERN_V_STRING) {
        const struct tern_vstring *name;

        TERN_TRY(tern_parse_intern(p, key->value.as.string->data, key->value.as.string->size, &name));
        tern_parse_mean(name);
    }
    TERN_TRY(tern_nodes_push(p, list, key));
    TERN_TRY(tern_parse_expect(p, TERN_T_COLON));
    return parse_element(p, list);
}

static tern_status parse_display(struct tern_parser *p, enum tern_node_kind kind, enum tern_lexeme close, item_fn *item,
                                 node **out)
{
    struct tern_nodes list = { 0 };

    TERN_TRY(tern_node_make(p, kind, p->token.line, out));
    TERN_TRY(tern_parse_next(p));
    TERN_TRY(tern_parse_deeper(p));
    TERN_TRY(parse_items(p, close, true, item, &list));
    p->depth--;
    return tern_nodes_keep(p, &list, *out, &(*out)->items, &(*out)->n_items);
}

static tern_status parse_primary(struct tern_parser *p, bool members, node **out);

tern_status tern_parse_tuple(struct tern_parser *p, unsigned flags, node **out)
{
    const uint32_t line = p->token.line;
    struct tern_nodes list = { 0 };
    bool is_tuple = false;
    char got[80];

    for (;;) {
        node *item = NULL;

        if (list.count > 0)
            TERN_TRY(tern_parse_expect(p, TERN_T_COMMA));
        if (tern_parse_at(p, TERN_T_PRINT_END) || tern_parse_at(p, TERN_T_BLOCK_END) || tern_parse_at(p, TERN_T_RPAREN))
            break;
        if (flags & TERN_TUPLE_SIMPLE)
            TERN_TRY(parse_primary(p, flags & TERN_TUPLE_MEMBERS, &item));
        else if (flags & TERN_TUPLE_CONDITION)
            TERN_TRY(tern_parse_expression(p, &item));
        else
            TERN_TRY(tern_parse_or(p, &item));
        TERN_TRY(tern_nodes_push(p, &list, item));
        if (!tern_parse_at(p, TERN_T_COMMA))
            break;
        is_tuple = true;
    }
    if (!is_tuple && list.count > 0) {
        *out = list.data[0];
        return TERN_OK;
    }
    if (!is_tuple && !(flags & TERN_TUPLE_PARENTHESES))
        return tern_parse_fail(p, p->token.line, TERN_ERR_FORMAT, "expected an expression, got %s",
                               tern_token_shown(&p->token, got));
    TERN_TRY(tern_node_make(p, TERN_N_TUPLE, line, out));
    return tern_nodes_keep(p, &list, *out, &(*out)->items, &(*out)->n_items);
}

/* ---- names and literals ---- */

/* Strings side by side are one. */
static tern_status parse_string(struct tern_parser *p, node **out)
{
    const uint32_t line = p->token.line;
    const struct tern_vstring *string;
    const char *text = p->token.text;
    size_t size = p->token.size, capacity = 0;
    char *joined = NULL;

    TERN_TRY(tern_parse_next(p));
    while (tern_parse_at(p, TERN_T_STRING)) {
        const size_t together = size + p->token.size;

        if (together > capacity) { /* twice as long each time: many short ones do not add up to more */
            char *grown;

            capacity = 2 * together;
            TERN_TRY(TERN_POOL_TAKE(p->ctx, &p->t->pool, capacity, &grown));
            if (size > 0)
                memcpy(grown, text, size);
            text = joined = grown;
        }
        if (p->token.size > 0)
            memcpy(joined + size, p->token.text, p->token.size);
        size = together;
        TERN_TRY(tern_parse_next(p));
    }
    TERN_TRY(tern_string_borrow(p->ctx, &p->t->pool, text, size, SIZE_MAX, &string));
    return tern_node_const(p, line, (tern_value){ .kind = TERN_V_STRING, .as.string = string }, out);
}

static tern_status parse_name(struct tern_parser *p, bool members, node **out)
{
    struct tern_template_token token;
    node *n;

    TERN_TRY(tern_parse_take_name(p, &token));
    if (tern_token_is(&token, "true") || tern_token_is(&token, "True"))
        return tern_node_const(p, token.line, TERN_BOOL_VALUE(true), out);
    if (tern_token_is(&token, "false") || tern_token_is(&token, "False"))
        return tern_node_const(p, token.line, TERN_BOOL_VALUE(false), out);
    if (tern_token_is(&token, "none") || tern_token_is(&token, "None"))
        return tern_node_const(p, token.line, TERN_NONE_VALUE, out);
    TERN_TRY(tern_node_make(p, members && tern_parse_at(p, TERN_T_DOT) ? TERN_N_MEMBER : TERN_N_NAME, token.line, &n));
    TERN_TRY(tern_parse_intern(p, token.text, token.size, &n->name));
    if (n->kind == TERN_N_MEMBER) {
        TERN_TRY(tern_parse_next(p));
        TERN_TRY(tern_parse_take_name(p, &token));
        TERN_TRY(tern_parse_intern(p, token.text, token.size, &n->attr));
        tern_parse_mean(n->attr);
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
        return tern_node_const(p, token.line, TERN_INT_VALUE(token.integer), out);
    case TERN_T_FLOAT:
        TERN_TRY(tern_parse_next(p));
        return tern_node_const(p, token.line, TERN_FLOAT_VALUE(token.real), out);
    case TERN_T_LPAREN:
        TERN_TRY(tern_parse_next(p));
        TERN_TRY(tern_parse_deeper(p));
        TERN_TRY(tern_parse_tuple(p, TERN_TUPLE_CONDITION | TERN_TUPLE_PARENTHESES, out));
        p->depth--;
        return tern_parse_expect(p, TERN_T_RPAREN);
    case TERN_T_LBRACKET:
        return parse_display(p, TERN_N_LIST, TERN_T_RBRACKET, parse_element, out);
    case TERN_T_LBRACE:
        return parse_display(p, TERN_N_DICT, TERN_T_RBRACE, parse_entry, out);
    default:
        return tern_parse_fail(p, token.line, TERN_ERR_FORMAT, "unexpected %s", tern_token_shown(&token, got));
    }
}

/* ---- calls ---- */

/* The arguments of a call in the making. */
struct arguments {
    struct tern_nodes args, values; /* by position, by name */
    const struct tern_vstring **names;
    size_t names_capacity;
    node *more_args, *more_keywords;
    uint32_t line; /* of the call */
};

static tern_status add_keyword(struct tern_parser *p, struct arguments *a)
{
    const struct tern_vstring *name;
    struct tern_template_token token;
    node *value;

    TERN_TRY(tern_parse_take_name(p, &token));
    TERN_TRY(tern_parse_intern(p, token.text, token.size, &name));
    tern_parse_mean(name);
    TERN_TRY(tern_names_push(p, &a->names, &a->names_capacity, a->values.count, name, a->line, "argument"));
    TERN_TRY(tern_parse_expect(p, TERN_T_ASSIGN));
    TERN_TRY(tern_parse_expression(p, &value));
    return tern_nodes_push(p, &a->values, value);
}

static tern_status add_argument(struct tern_parser *p, struct arguments *a)
{
    const struct tern_template_token *ahead = NULL;
    node *value;
    bool order = !a->more_keywords;

    if (tern_parse_at(p, TERN_T_MUL)) {
        order = order && !a->more_args;
        TERN_TRY(tern_parse_next(p));
        TERN_TRY(tern_parse_expression(p, &a->more_args));
    } else if (tern_parse_at(p, TERN_T_POW)) {
        TERN_TRY(tern_parse_next(p));
        TERN_TRY(tern_parse_expression(p, &a->more_keywords));
    } else {
        if (tern_parse_at(p, TERN_T_NAME))
            TERN_TRY(tern_parse_look(p, &ahead));
        if (ahead && ahead->kind == TERN_T_ASSIGN) {
            TERN_TRY(add_keyword(p, a));
        } else {
            order = order && !a->more_args && a->values.count == 0;
            TERN_TRY(tern_parse_expression(p, &value));
            TERN_TRY(tern_nodes_push(p, &a->args, value));
        }
    }
    if (!order)
        return tern_parse_fail(p, a->line, TERN_ERR_FORMAT,
                               "arguments come by position, then by name, then *x, then **x");
    return TERN_OK;
}

static tern_status keep_args(struct tern_parser *p, const struct arguments *a, node *owner)
{
    struct tern_node_args *args;

    TERN_TRY(TERN_POOL_TAKE(p->ctx, &p->t->pool, 1, &args));
    args->names = a->names;
    args->more_args = a->more_args;
    args->more_keywords = a->more_keywords;
    TERN_TRY(tern_node_deepen(p, owner, a->more_args));
    TERN_TRY(tern_node_deepen(p, owner, a->more_keywords));
    TERN_TRY(tern_nodes_keep(p, &a->args, owner, &args->args, &args->n_args));
    TERN_TRY(tern_nodes_keep(p, &a->values, owner, &args->values, &args->n_keywords));
    owner->args = args;
    return TERN_OK;
}

/* "(...)" behind what is called. */
static tern_status parse_args(struct tern_parser *p, node *owner)
{
    struct arguments a = { .line = p->token.line };
    bool more = false;

    TERN_TRY(tern_parse_deeper(p));
    TERN_TRY(tern_parse_expect(p, TERN_T_LPAREN));
    while (!tern_parse_at(p, TERN_T_RPAREN)) {
        if (more) {
            TERN_TRY(tern_parse_expect(p, TERN_T_COMMA));
            if (tern_parse_at(p, TERN_T_RPAREN))
                break;
        }
        TERN_TRY(add_argument(p, &a));
        more = true;
    }
    TERN_TRY(tern_parse_next(p));
    p->depth--;
    return keep_args(p, &a, owner);
}

/* Calls of names that have no meaning are found when the whole template is known. */
static tern_status check_callee(struct tern_parser *p, const node *callee)
{
    const struct tern_vstring *name = callee->name;

    if (callee->kind == TERN_N_NAME && !tern_function_find(name->data, name->size))
        return tern_parse_want_meaning(p, name, callee->line, false);
    if (callee->kind == TERN_N_GETATTR && !tern_method_known(name->data, name->size))
        return tern_parse_want_meaning(p, name, callee->line, true);
    return TERN_OK;
}

static tern_status parse_call(struct tern_parser *p, node *callee, node **out)
{
    TERN_TRY(check_callee(p, callee));
    TERN_TRY(tern_node_make_with(p, TERN_N_CALL, p->token.line, callee, NULL, out));
    return parse_args(p, *out);
}

/* ---- subscripts ---- */

static tern_status parse_slice_part(struct tern_parser *p, node *slice, node **part)
{
    if (tern_parse_at(p, TERN_T_COLON) || tern_parse_at(p, TERN_T_RBRACKET) || tern_parse_at(p, TERN_T_COMMA))
        return TERN_OK;
    TERN_TRY(tern_parse_expression(p, part));
    return tern_node_deepen(p, slice, *part);
}

/* One subscript: an expression, or a slice. */
static tern_status parse_subscribed(struct tern_parser *p, struct tern_nodes *list)
{
    const uint32_t line = p->token.line;
    node *first = NULL, *slice;

    if (!tern_parse_at(p, TERN_T_COLON)) {
        TERN_TRY(tern_parse_expression(p, &first));
        if (!tern_parse_at(p, TERN_T_COLON))
            return tern_nodes_push(p, list, first);
    }
    TERN_TRY(tern_parse_next(p));
    TERN_TRY(tern_node_make_with(p, TERN_N_SLICE, line, first, NULL, &slice));
    TERN_TRY(parse_slice_part(p, slice, &slice->b));
    if (tern_parse_at(p, TERN_T_COLON)) {
        TERN_TRY(tern_parse_next(p));
        TERN_TRY(parse_slice_part(p, slice, &slice->c));
    }
    return tern_nodes_push(p, list, slice);
}

/* ".name" and ".0" */
static tern_status parse_member(struct tern_parser *p, node *object, node **out)
{
    const uint32_t line = p->token.line;
    struct tern_template_token name;
    node *key;

    TERN_TRY(tern_parse_next(p));
    name = p->token;
    TERN_TRY(tern_parse_next(p));
    if (name.kind == TERN_T_NAME) {
        TERN_TRY(tern_node_make_with(p, TERN_N_GETATTR, line, object, NULL, out));
        return tern_parse_intern(p, name.text, name.size, &(*out)->name);
    }
    if (name.kind != TERN_T_INTEGER)
        return tern_parse_fail(p, name.line, TERN_ERR_FORMAT, "expected a name or a number behind '.'");
    TERN_TRY(tern_node_const(p, name.line, TERN_INT_VALUE(name.integer), &key));
    return tern_node_make_with(p, TERN_N_GETITEM, line, object, key, out);
}

static tern_status parse_subscript(struct tern_parser *p, node *object, node **out)
{
    const uint32_t line = p->token.line;
    struct tern_nodes list = { 0 };
    node *key;

    TERN_TRY(tern_parse_next(p));
    TERN_TRY(tern_parse_deeper(p));
    TERN_TRY(parse_items(p, TERN_T_RBRACKET, false, parse_subscribed, &list));
    p->depth--;
    if (list.count == 1)
        return tern_node_make_with(p, TERN_N_GETITEM, line, object, list.data[0], out);
    for (size_t i = 0; i < list.count; i++)
        if (list.data[i]->kind == TERN_N_SLICE)
            return tern_parse_fail(p, line, TERN_ERR_UNSUPPORTED, "a slice among several subscripts");
    TERN_TRY(tern_node_make(p, TERN_N_TUPLE, line, &key));
    TERN_TRY(tern_nodes_keep(p, &list, key, &key->items, &key->n_items));
    return tern_node_make_with(p, TERN_N_GETITEM, line, object, key, out);
}

static tern_status parse_postfix(struct tern_parser *p, node **n)
{
    for (;;) {
        if (tern_parse_at(p, TERN_T_DOT))
            TERN_TRY(parse_member(p, *n, n));
        else if (tern_parse_at(p, TERN_T_LBRACKET))
            TERN_TRY(parse_subscript(p, *n, n));
        else if (tern_parse_at(p, TERN_T_LPAREN))
            TERN_TRY(parse_call(p, *n, n));
        else
            return TERN_OK;
    }
}

/* ---- filters and tests ---- */

/* "name" or "name.name" of a filter or a test. */
static tern_status parse_dotted(struct tern_parser *p, const char **name, size_t *size)
{
    struct tern_template_token token;

    TERN_TRY(tern_parse_take_name(p, &token));
    *name = token.text;
    *size = token.size;
    while (tern_parse_at(p, TERN_T_DOT)) { /* the name in full, for the error: there are none with dots */
        TERN_TRY(tern_parse_next(p));
        TERN_TRY(tern_parse_take_name(p, &token));
        *size = (size_t)(token.text + token.size - *name);
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

/* Whether an argument without parentheses begins here. */
static bool at_bare_argument(const struct tern_parser *p)
{
    static const enum tern_lexeme kinds[] = { TERN_T_NAME,  TERN_T_STRING,   TERN_T_INTEGER,
                                              TERN_T_FLOAT, TERN_T_LBRACKET, TERN_T_LBRACE };

    if (tern_parse_at_name(p, "else") || tern_parse_at_name(p, "or") || tern_parse_at_name(p, "and"))
        return false;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (tern_parse_at(p, kinds[i]))
            return true;
    return false;
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
        tern_parse_mean(subject->name);
    if (tern_parse_at(p, TERN_T_LPAREN)) {
        TERN_TRY(parse_args(p, test));
    } else if (at_bare_argument(p)) {
        struct arguments a = { .line = line };
        node *arg;

        if (tern_parse_at_name(p, "is"))
            return tern_parse_fail(p, p->token.line, TERN_ERR_FORMAT, "tests cannot follow one another");
        TERN_TRY(parse_primary(p, false, &arg));
        TERN_TRY(parse_postfix(p, &arg));
        TERN_TRY(tern_nodes_push(p, &a.args, arg));
        TERN_TRY(keep_args(p, &a, test));
    }
    *n = test;
    return negated ? tern_node_make_with(p, TERN_N_NOT, line, test, NULL, n) : TERN_OK;
}

tern_status tern_parse_unary(struct tern_parser *p, bool with_filter, node **out)
{
    const struct tern_template_token token = p->token;

    if (token.kind == TERN_T_SUB || token.kind == TERN_T_ADD) {
        node *operand;

        TERN_TRY(tern_parse_next(p));
        TERN_TRY(tern_parse_deeper(p));
        TERN_TRY(tern_parse_unary(p, false, &operand));
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
