/* template_symbols.c: which names a scope hides, by the rules of jinja2's compiler (its module idtracking).
 *
 * Names are looked up from the inside out when they are read, but for one rule: a name that a scope sets before it reads it, outside of
 * any "if", and that the scopes around it do not mention, is undefined there until it is set, whatever the caller's variable of that
 * name is.  {% macro f() %}{{ tools }}{% endmacro %}{{ f() }}{% set tools = 1 %} prints nothing.
 *
 * A scope's own mentions are those in its statements and expressions, also inside "if"; what is inside of loops, macros and blocks is
 * theirs. */
#include "base/memory.h"
#include "text/template_parser.h"

typedef struct tern_node node;

/* One scope at work.  Each name knows the innermost scope at work that mentions it; what it knew before is in the scope's list, and put
 * back at its end. */
struct mentioned {
    struct tern_name *name;
    uint32_t before;
    bool hidden;
};
struct scope {
    struct tern_parser *p;
    uint32_t number;   /* 1 for the first */
    unsigned branches; /* of "if" around the statement at work */
    struct mentioned *list;
    size_t count, capacity;
    size_t n_hidden;
};

enum use { READS, SETS, IS_PARAMETER };

static tern_status mention(struct scope *s, const struct tern_vstring *name, enum use use)
{
    struct tern_name *n = tern_parse_name_of(name);
    const bool hidden = use == SETS && s->branches == 0 && n->scope == 0;

    if (n->scope == s->number)
        return TERN_OK;
    TERN_TRY(TERN_GROW(s->p->ctx, &s->list, &s->capacity, s->count + 1, "names of a template"));
    s->list[s->count++] = (struct mentioned){ n, n->scope, hidden };
    s->n_hidden += hidden;
    n->scope = s->number;
    return TERN_OK;
}

/* ---- what expressions and targets mention ---- */

static tern_status read_node(struct scope *s, const node *n);

static tern_status read_all(struct scope *s, node *const *items, size_t n)
{
    for (size_t i = 0; i < n; i++)
        TERN_TRY(read_node(s, items[i]));
    return TERN_OK;
}

static tern_status read_node(struct scope *s, const node *n)
{
    if (!n)
        return TERN_OK;
    if (n->kind == TERN_N_NAME)
        return mention(s, n->name, READS);
    TERN_TRY(read_node(s, n->a));
    TERN_TRY(read_node(s, n->b));
    TERN_TRY(read_node(s, n->c));
    TERN_TRY(read_all(s, n->items, n->n_items));
    if (!n->args)
        return TERN_OK;
    TERN_TRY(read_all(s, n->args->args, n->args->n_args));
    TERN_TRY(read_all(s, n->args->values, n->args->n_keywords));
    TERN_TRY(read_node(s, n->args->more_args));
    return read_node(s, n->args->more_keywords);
}

static tern_status set_target(struct scope *s, const node *target, enum use use)
{
    if (target->kind == TERN_N_NAME)
        return mention(s, target->name, use);
    if (target->kind == TERN_N_MEMBER) /* of a namespace, which is read */
        return mention(s, target->name, READS);
    for (size_t i = 0; i < target->n_items; i++)
        TERN_TRY(set_target(s, target->items[i], use));
    return TERN_OK;
}

/* ---- what statements mention, without what is inside of scopes of their own ---- */

static tern_status see_body(struct scope *s, node *const *body, size_t n);

static tern_status see_if(struct scope *s, const node *n)
{
    s->branches++;
    for (size_t i = 0; i < n->n_items; i++) {
        TERN_TRY(read_node(s, n->items[i]->a));
        TERN_TRY(see_body(s, n->items[i]->items, n->items[i]->n_items));
    }
    TERN_TRY(see_body(s, n->other, n->n_other));
    s->branches--;
    return TERN_OK;
}

static tern_status see(struct scope *s, const node *n)
{
    switch (n->kind) {
    case TERN_N_PRINT:
    case TERN_N_FILTER_BLOCK:
    case TERN_N_CALL_BLOCK:
        return read_node(s, n->a);
    case TERN_N_FOR:
        return read_node(s, n->b);
    case TERN_N_IF:
        return see_if(s, n);
    case TERN_N_BRANCH: /* print */
        return see_body(s, n->items, n->n_items);
    case TERN_N_SET:
        TERN_TRY(read_node(s, n->b));
        return set_target(s, n->a, SETS);
    case TERN_N_SET_BLOCK:
        return set_target(s, n->a, SETS);
    case TERN_N_MACRO:
        return mention(s, n->macro->name, SETS);
    case TERN_N_WITH:
        for (size_t i = 1; i < n->n_other; i += 2)
            TERN_TRY(read_node(s, n->other[i]));
        return TERN_OK;
    default:
        return TERN_OK;
    }
}

static tern_status see_body(struct scope *s, node *const *body, size_t n)
{
    for (size_t i = 0; i < n; i++)
        TERN_TRY(see(s, body[i]));
    return TERN_OK;
}

/* ---- scopes within scopes ---- */

static tern_status go_inside(const struct scope *outer, node *const *body, size_t n);

/* A scope of its own: what comes with it (parameters, targets) is mentioned by `begin`, then its statements, then what is inside. */
static tern_status see_scope(struct tern_parser *p, uint32_t number, const node *owner,
                             tern_status (*begin)(struct scope *s, const node *owner), node *const *body, size_t n,
                             struct tern_hidden *hidden)
{
    struct scope s = { .p = p, .number = number };
    tern_status status = begin ? begin(&s, owner) : TERN_OK;

    if (!status)
        status = see_body(&s, body, n);
    if (!status && hidden)
        status = TERN_POOL_TAKE(p->ctx, &p->t->pool, s.n_hidden, &hidden->names);
    for (size_t i = 0; !status && hidden && i < s.count; i++)
        if (s.list[i].hidden)
            hidden->names[hidden->n++] = &s.list[i].name->text;
    if (!status)
        status = go_inside(&s, body, n);
    for (size_t i = s.count; i > 0; i--)
        s.list[i - 1].name->scope = s.list[i - 1].before;
    tern_free(s.list);
    return status;
}

static tern_status begin_loop(struct scope *s, const node *n)
{
    return set_target(s, n->a, IS_PARAMETER);
}

static tern_status begin_with(struct scope *s, const node *n)
{
    for (size_t i = 0; i < n->n_other; i += 2)
        TERN_TRY(set_target(s, n->other[i], IS_PARAMETER));
    return TERN_OK;
}

static tern_status begin_macro(struct scope *s, const node *n)
{
    for (size_t i = 0; i < n->macro->n_params; i++)
        TERN_TRY(mention(s, n->macro->params[i], IS_PARAMETER));
    return read_all(s, n->macro->defaults, n->macro->n_params);
}

static tern_status go_inside_one(const struct scope *outer, node *n)
{
    const uint32_t number = outer->number + 1;

    switch (n->kind) {
    case TERN_N_IF:
        for (size_t i = 0; i < n->n_items; i++)
            TERN_TRY(go_inside(outer, n->items[i]->items, n->items[i]->n_items));
        return go_inside(outer, n->other, n->n_other);
    case TERN_N_FOR:
        TERN_TRY(see_scope(outer->p, number, n, begin_loop, n->items, n->n_items, &n->hidden));
        return see_scope(outer->p, number, n, NULL, n->other, n->n_other, &n->hidden_other);
    case TERN_N_MACRO:
    case TERN_N_CALL_BLOCK:
        return see_scope(outer->p, number, n, begin_macro, n->macro->body, n->macro->n_body, &n->macro->hidden);
    case TERN_N_WITH:
        return see_scope(outer->p, number, n, begin_with, n->items, n->n_items, &n->hidden);
    case TERN_N_FILTER_BLOCK:
    case TERN_N_SET_BLOCK:
    case TERN_N_SCOPE:
        return see_scope(outer->p, number, n, NULL, n->items, n->n_items, &n->hidden);
    default:
        return TERN_OK;
    }
}

static tern_status go_inside(const struct scope *outer, node *const *body, size_t n)
{
    for (size_t i = 0; i < n; i++)
        TERN_TRY(go_inside_one(outer, body[i]));
    return TERN_OK;
}

tern_status tern_parse_symbols(struct tern_parser *p)
{
    return see_scope(p, 1, NULL, NULL, p->t->body, p->t->n_body, &p->t->hidden);
}
