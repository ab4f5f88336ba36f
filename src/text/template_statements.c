/* template_statements.c: tags to statements. */
#include "text/template_parser.h"

#include "base/memory.h"
#include "base/utf8.h"

#include <string.h>

typedef struct tern_node node;

/* Names that a macro's body reads without having set them before, in the order of the text. */
struct reads {
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

/* The body of a block up to one of `ends` (NULL at the end of the list), which stays the token. */
static tern_status parse_statements(struct tern_parser *p, const char *const *ends, node *owner, node ***items,
                                    size_t *n)
{
    if (tern_parse_at(p, TERN_T_COLON))
        TERN_TRY(tern_parse_next(p));
    TERN_TRY(tern_parse_expect(p, TERN_T_BLOCK_END));
    TERN_TRY(tern_parse_deeper(p));
    TERN_TRY(tern_parse_body(p, ends, owner, items, n));
    p->depth--;
    return TERN_OK;
}

static tern_status parse_until(struct tern_parser *p, const char *end, node *owner)
{
    const char *const ends[] = { end, NULL };

    TERN_TRY(parse_statements(p, ends, owner, &owner->items, &owner->n_items));
    return tern_parse_next(p);
}

static tern_status check_target(struct tern_parser *p, const node *n)
{
    if (n->kind == TERN_N_NAME) {
        tern_parse_mean(n->name);
        return TERN_OK;
    }
    if (n->kind == TERN_N_MEMBER)
        return TERN_OK;
    if (n->kind != TERN_N_TUPLE)
        return tern_parse_fail(p, n->line, TERN_ERR_FORMAT, "only names can be assigned to");
    for (size_t i = 0; i < n->n_items; i++)
        TERN_TRY(check_target(p, n->items[i]));
    return TERN_OK;
}

static bool assigns_loop(const struct tern_parser *p, const node *n)
{
    bool found = n->kind == TERN_N_NAME && n->name == p->t->loop;

    for (size_t i = 0; n->kind == TERN_N_TUPLE && i < n->n_items; i++)
        found = found || assigns_loop(p, n->items[i]);
    return found;
}

static tern_status parse_set(struct tern_parser *p, node *n)
{
    TERN_TRY(tern_parse_next(p));
    TERN_TRY(tern_parse_tuple(p, TERN_TUPLE_SIMPLE | TERN_TUPLE_MEMBERS, &n->a));
    TERN_TRY(check_target(p, n->a));
    if (p->loops > 0 && assigns_loop(p, n->a))
        return tern_parse_fail(p, n->line, TERN_ERR_FORMAT, "'loop' cannot be assigned to inside of a loop");
    if (tern_parse_at(p, TERN_T_ASSIGN)) {
        TERN_TRY(tern_parse_next(p));
        TERN_TRY(tern_parse_tuple(p, TERN_TUPLE_CONDITION, &n->b));
        return tern_node_deepen(p, n, n->b);
    }
    n->kind = TERN_N_SET_BLOCK;
    if (tern_parse_at(p, TERN_T_PIPE)) {
        TERN_TRY(tern_parse_filters(p, false, &n->b));
        TERN_TRY(tern_node_deepen(p, n, n->b));
    }
    return parse_until(p, "endset", n);
}

static tern_status parse_for(struct tern_parser *p, node *n)
{
    static const char *const ends[] = { "endfor", "else", NULL };

    TERN_TRY(tern_parse_next(p));
    TERN_TRY(tern_parse_tuple(p, TERN_TUPLE_SIMPLE, &n->a));
    TERN_TRY(check_target(p, n->a));
    if (assigns_loop(p, n->a))
        return tern_parse_fail(p, n->line, TERN_ERR_FORMAT, "'loop' cannot be assigned to inside of a loop");
    TERN_TRY(tern_parse_expect_name(p, "in"));
    TERN_TRY(tern_parse_tuple(p, 0, &n->b));
    TERN_TRY(tern_node_deepen(p, n, n->b));
    bool there;
    TERN_TRY(tern_parse_skip_name(p, "if", &there));
    if (there) {
        TERN_TRY(tern_parse_expression(p, &n->c));
        TERN_TRY(tern_node_deepen(p, n, n->c));
    }
    TERN_TRY(tern_parse_skip_name(p, "recursive", &n->flag));
    p->loops++;
    TERN_TRY(parse_statements(p, ends, n, &n->items, &n->n_items));
    p->loops--;
    const bool has_else = tern_parse_at_name(p, "else");
    TERN_TRY(tern_parse_next(p));
    if (has_else) {
        TERN_TRY(parse_statements(p, ends, n, &n->other, &n->n_other));
        if (!tern_parse_at_name(p, "endfor"))
            return tern_parse_fail(p, p->token.line, TERN_ERR_FORMAT, "expected 'endfor', got 'else'");
        TERN_TRY(tern_parse_next(p));
    }
    return TERN_OK;
}

static tern_status parse_if(struct tern_parser *p, node *n)
{
    static const char *const ends[] = { "elif", "else", "endif", NULL };
    struct tern_nodes branches = { 0 };
    node *other = n;

    for (;;) {
        node *branch;
        bool is_elif, is_else;

        TERN_TRY(tern_node_make(p, TERN_N_BRANCH, p->token.line, &branch));
        TERN_TRY(tern_parse_next(p)); /* if, elif */
        TERN_TRY(tern_parse_tuple(p, 0, &branch->a));
        TERN_TRY(tern_node_deepen(p, branch, branch->a));
        TERN_TRY(parse_statements(p, ends, branch, &branch->items, &branch->n_items));
        TERN_TRY(tern_nodes_push(p, &branches, branch));
        is_elif = tern_parse_at_name(p, "elif");
        is_else = tern_parse_at_name(p, "else");
        if (is_elif)
            continue;
        TERN_TRY(tern_parse_next(p));
        if (is_else) {
            TERN_TRY(parse_statements(p, ends + 2, other, &n->other, &n->n_other));
            TERN_TRY(tern_parse_next(p));
        }
        return tern_nodes_keep(p, &branches, n, &n->items, &n->n_items);
    }
}

/* "(a, b=1)" of a macro or a call block. */
static tern_status parse_signature(struct tern_parser *p, node *owner, struct tern_node_macro *m)
{
    size_t capacity = 0;
    struct tern_nodes defaults = { 0 };

    TERN_TRY(tern_parse_expect(p, TERN_T_LPAREN));
    while (!tern_parse_at(p, TERN_T_RPAREN)) {
        const struct tern_vstring *name;
        struct tern_template_token token;
        node *value = NULL;

        if (defaults.count > 0)
            TERN_TRY(tern_parse_expect(p, TERN_T_COMMA));
        TERN_TRY(tern_parse_take_name(p, &token));
        TERN_TRY(tern_parse_intern(p, token.text, token.size, &name));
        tern_parse_mean(name);
        TERN_TRY(tern_names_push(p, &m->params, &capacity, defaults.count, name, token.line, "parameter"));
        if (tern_parse_at(p, TERN_T_ASSIGN)) {
            TERN_TRY(tern_parse_next(p));
            TERN_TRY(tern_parse_expression(p, &value));
        } else if (defaults.count > 0 && defaults.data[defaults.count - 1]) {
            return tern_parse_fail(p, p->token.line, TERN_ERR_FORMAT, "a parameter without default follows one with");
        }
        TERN_TRY(tern_nodes_push(p, &defaults, value));
    }
    TERN_TRY(tern_parse_next(p));
    return tern_nodes_keep(p, &defaults, owner, &m->defaults, &m->n_params);
}

static tern_status parse_macro_body(struct tern_parser *p, const char *end, node *n)
{
    const char *const ends[] = { end, NULL };
    const unsigned loops = p->loops;
    struct tern_node_macro *m = n->macro;
    struct reads reads = { .caller = &m->takes_caller, .kwargs = &m->takes_kwargs, .varargs = &m->takes_varargs };

    p->loops = 0;
    TERN_TRY(parse_statements(p, ends, n, &m->body, &m->n_body));
    p->loops = loops;
    TERN_TRY(tern_parse_next(p));
    find_list(&reads, m->body, m->n_body, false);
    for (size_t i = 0; i < m->n_params; i++) {
        const struct tern_vstring *name = m->params[i];

        if (name == p->t->caller && m->takes_caller) {
            if (!m->defaults[i])
                return tern_parse_fail(p, n->line, TERN_ERR_FORMAT,
                                       "the parameter 'caller' wants a default, or to be left out");
            m->takes_caller = false;
        }
        if (name == p->t->kwargs)
            m->takes_kwargs = false;
        if (name == p->t->varargs)
            m->takes_varargs = false;
    }
    return TERN_OK;
}

static tern_status parse_macro(struct tern_parser *p, node *n)
{
    struct tern_template_token token;

    TERN_TRY(tern_parse_next(p));
    TERN_TRY(tern_parse_take_name(p, &token));
    TERN_TRY(TERN_POOL_TAKE(p->ctx, &p->t->pool, 1, &n->macro));
    TERN_TRY(tern_parse_intern(p, token.text, token.size, &n->macro->name));
    tern_parse_mean(n->macro->name);
    TERN_TRY(parse_signature(p, n, n->macro));
    return parse_macro_body(p, "endmacro", n);
}

static tern_status parse_call_block(struct tern_parser *p, node *n)
{
    TERN_TRY(tern_parse_next(p));
    TERN_TRY(TERN_POOL_TAKE(p->ctx, &p->t->pool, 1, &n->macro));
    if (tern_parse_at(p, TERN_T_LPAREN))
        TERN_TRY(parse_signature(p, n, n->macro));
    TERN_TRY(tern_parse_expression(p, &n->a));
    if (n->a->kind != TERN_N_CALL)
        return tern_parse_fail(p, n->line, TERN_ERR_FORMAT, "'call' wants a call behind it");
    TERN_TRY(tern_node_deepen(p, n, n->a));
    return parse_macro_body(p, "endcall", n);
}

static tern_status parse_filter_block(struct tern_parser *p, node *n)
{
    TERN_TRY(tern_parse_next(p));
    TERN_TRY(tern_parse_filters(p, true, &n->a));
    TERN_TRY(tern_node_deepen(p, n, n->a));
    return parse_until(p, "endfilter", n);
}

static tern_status parse_with(struct tern_parser *p, node *n)
{
    struct tern_nodes list = { 0 };

    TERN_TRY(tern_parse_next(p));
    while (!tern_parse_at(p, TERN_T_BLOCK_END)) {
        node *item;

        if (list.count > 0)
            TERN_TRY(tern_parse_expect(p, TERN_T_COMMA));
        TERN_TRY(tern_parse_tuple(p, TERN_TUPLE_SIMPLE, &item));
        TERN_TRY(check_target(p, item));
        TERN_TRY(tern_nodes_push(p, &list, item));
        TERN_TRY(tern_parse_expect(p, TERN_T_ASSIGN));
        TERN_TRY(tern_parse_expression(p, &item));
        TERN_TRY(tern_nodes_push(p, &list, item));
    }
    TERN_TRY(tern_nodes_keep(p, &list, n, &n->other, &n->n_other));
    return parse_until(p, "endwith", n);
}

/* The body of a generation block is a function in jinja2: no break leaves it. */
static tern_status parse_generation(struct tern_parser *p, node *n)
{
    const unsigned loops = p->loops;

    TERN_TRY(tern_parse_next(p));
    p->loops = 0;
    TERN_TRY(parse_until(p, "endgeneration", n));
    p->loops = loops;
    return TERN_OK;
}

static tern_status parse_print(struct tern_parser *p, node *n)
{
    struct tern_nodes list = { 0 };
    node *item;

    TERN_TRY(tern_parse_next(p));
    while (!tern_parse_at(p, TERN_T_BLOCK_END)) {
        if (list.count > 0)
            TERN_TRY(tern_parse_expect(p, TERN_T_COMMA));
        TERN_TRY(tern_parse_expression(p, &item));
        TERN_TRY(tern_node_make_with(p, TERN_N_PRINT, item->line, item, NULL, &item));
        TERN_TRY(tern_nodes_push(p, &list, item));
    }
    return tern_nodes_keep(p, &list, n, &n->items, &n->n_items);
}

static tern_status parse_jump(struct tern_parser *p, node *n)
{
    if (p->loops == 0)
        return tern_parse_fail(p, n->line, TERN_ERR_FORMAT, "'%s' outside of a loop",
                               n->kind == TERN_N_BREAK ? "break" : "continue");
    return tern_parse_next(p);
}

static const struct {
    const char *name;
    enum tern_node_kind kind;
    tern_status (*parse)(struct tern_parser *p, node *n);
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

static tern_status parse_statement(struct tern_parser *p, node **out)
{
    static const char *const others[] = { "block",      "extends", "include", "import", "from",
                                          "autoescape", "trans",   "do",      "debug" };
    const struct tern_template_token token = p->token;
    char got[80];

    if (token.kind != TERN_T_NAME)
        return tern_parse_fail(p, token.line, TERN_ERR_FORMAT, "expected a tag's name, got %s",
                               tern_token_shown(&token, got));
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++)
        if (tern_parse_at_name(p, statements[i].name)) {
            TERN_TRY(tern_node_make(p, statements[i].kind, token.line, out));
            return statements[i].parse(p, *out);
        }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (tern_parse_at_name(p, others[i]))
            return tern_parse_fail(
                p, token.line, TERN_ERR_UNSUPPORTED,
                "the tag '%s' is not one that tern has (if, for, set, macro, call, filter, with, generation, "
                "print, break, continue, raw)",
                others[i]);
    if (token.size > 3 && memcmp(token.text, "end", 3) == 0)
        return tern_parse_fail(p, token.line, TERN_ERR_FORMAT, "%s ends nothing that is open here",
                               tern_token_shown(&token, got));
    return tern_parse_fail(
        p, token.line, TERN_ERR_UNSUPPORTED,
        "the tag %s is not one that tern has (if, for, set, macro, call, filter, with, generation, print, "
        "break, continue, raw)",
        tern_token_shown(&token, got));
}

static bool at_end(const struct tern_parser *p, const char *const *ends)
{
    for (size_t i = 0; ends && ends[i]; i++)
        if (tern_parse_at_name(p, ends[i]))
            return true;
    return false;
}

static tern_status parse_text(struct tern_parser *p, struct tern_nodes *list)
{
    const struct tern_vstring *text;
    node *n;

    if (p->token.size > 0) {
        TERN_TRY(tern_string_borrow(p->ctx, &p->t->pool, p->token.text, p->token.size, SIZE_MAX, &text));
        TERN_TRY(tern_node_make(p, TERN_N_TEXT, p->token.line, &n));
        n->value = (tern_value){ .kind = TERN_V_STRING, .as.string = text };
        TERN_TRY(tern_nodes_push(p, list, n));
    }
    return tern_parse_next(p);
}

/* Text and tags up to a tag of `ends` (then its name is the token), or to the end where `ends` is NULL. */
tern_status tern_parse_body(struct tern_parser *p, const char *const *ends, node *owner, node ***items, size_t *count)
{
    struct tern_nodes list = { 0 };
    node *n;

    for (;;) {
        if (tern_parse_at(p, TERN_T_DATA)) {
            TERN_TRY(parse_text(p, &list));
        } else if (tern_parse_at(p, TERN_T_PRINT_BEGIN)) {
            const uint32_t here = p->token.line;

            TERN_TRY(tern_parse_next(p));
            TERN_TRY(tern_parse_tuple(p, TERN_TUPLE_CONDITION, &n));
            TERN_TRY(tern_parse_expect(p, TERN_T_PRINT_END));
            TERN_TRY(tern_node_make_with(p, TERN_N_PRINT, here, n, NULL, &n));
            TERN_TRY(tern_nodes_push(p, &list, n));
        } else if (tern_parse_at(p, TERN_T_BLOCK_BEGIN)) {
            TERN_TRY(tern_parse_next(p));
            if (at_end(p, ends))
                break;
            TERN_TRY(parse_statement(p, &n));
            TERN_TRY(tern_nodes_push(p, &list, n));
            TERN_TRY(tern_parse_expect(p, TERN_T_BLOCK_END));
        } else { /* the end */
            if (!ends)
                break;
            while (ends[1]) /* the last one is its end */
                ends++;
            return tern_parse_fail(p, owner->line, TERN_ERR_FORMAT, "the block that begins here has no '%s'", *ends);
        }
    }
    return tern_nodes_keep(p, &list, owner, items, count);
}
