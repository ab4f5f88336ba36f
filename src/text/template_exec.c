/* template_exec.c: statements, scopes, loops and macros.
 *
 * Scopes: the caller's variables, the template's own, then one for each round of a loop, each call of a macro, and each block of set,
 * filter, with and generation.  A name is looked up from the inside out, and set in the innermost scope: what a loop sets is gone
 * in the next round, which is why templates have namespaces.  A macro keeps the scope that it was defined in. */
#include "text/template_render.h"

#include "base/memory.h"
#include "base/utf8.h"

struct tern_variable_entry {
    const struct tern_vstring *name; /* of the template's names: compared by address */
    tern_value value;
};

struct tern_scope {
    struct tern_scope *parent;
    struct tern_variable_entry *entries;
    size_t count, capacity;
    bool kept; /* a macro was defined in it, or in a scope inside */
};

struct tern_vmacro {
    const struct tern_node_macro *node;
    struct tern_scope *scope;
    uint32_t line;
};

struct tern_vloop {
    const struct tern_node *node;
    struct tern_scope *outer; /* of the for statement */
    struct tern_viter *it;
    tern_value source; /* what is gone through; a list once the length was asked for */
    tern_value current, before, after;
    bool has_after, ended;  /* one element was looked at ahead; there is none */
    int64_t index0, length; /* length -1: not known */
    unsigned depth0;
    tern_value changed;
    bool has_changed;
};

/* ---- scopes ---- */

tern_status tern_scope_find(struct tern_render *r, const struct tern_vstring *name, const tern_value **out)
{
    uint64_t looked = 0;

    *out = NULL;
    for (const struct tern_scope *scope = r->scope; scope; looked += scope->count, scope = scope->parent)
        for (size_t i = scope->count; i > 0; i--)
            if (scope->entries[i - 1].name == name) {
                *out = &scope->entries[i - 1].value;
                return tern_render_spend(r, (looked + scope->count - i) / 16);
            }
    return tern_render_spend(r, looked / 16);
}

tern_status tern_scope_set(struct tern_render *r, struct tern_scope *scope, const struct tern_vstring *name,
                           tern_value value)
{
    for (size_t i = 0; i < scope->count; i++)
        if (scope->entries[i].name == name) {
            scope->entries[i].value = value;
            return TERN_OK;
        }
    if (scope->count == scope->capacity) {
        const size_t capacity = scope->capacity ? 2 * scope->capacity : 8;
        struct tern_variable_entry *entries;

        TERN_TRY(TERN_RENDER_TAKE(r, capacity, &entries));
        if (scope->count > 0)
            memcpy(entries, scope->entries, scope->count * sizeof *entries);
        scope->entries = entries;
        scope->capacity = capacity;
    }
    scope->entries[scope->count++] = (struct tern_variable_entry){ name, value };
    return TERN_OK;
}

static tern_status new_scope(struct tern_render *r, struct tern_scope *parent, struct tern_scope **out)
{
    TERN_TRY(TERN_RENDER_TAKE(r, 1, out));
    (*out)->parent = parent;
    return TERN_OK;
}

/* What the scope is to set itself later is undefined until then, whatever is outside. */
static tern_status hide(struct tern_render *r, struct tern_scope *scope, const struct tern_hidden *hidden)
{
    for (size_t i = 0; i < hidden->n; i++) {
        const struct tern_vstring *name = hidden->names[i];
        tern_value v;

        TERN_TRY(tern_value_undefined(r, &v, "'%.*s' is undefined", (int)name->size, name->data));
        TERN_TRY(tern_scope_set(r, scope, name, v));
    }
    return TERN_OK;
}

static tern_status new_block(struct tern_render *r, const struct tern_hidden *hidden, struct tern_scope **out)
{
    TERN_TRY(new_scope(r, r->scope, out));
    return hide(r, *out, hidden);
}

static void keep_scope(struct tern_scope *scope)
{
    for (; scope && !scope->kept; scope = scope->parent)
        scope->kept = true;
}

/* ---- targets ---- */

static tern_status assign(struct tern_render *r, const struct tern_node *target, tern_value value);

static tern_status unpack(struct tern_render *r, const struct tern_node *target, tern_value value)
{
    tern_value list;

    if (!tern_value_has_length(value) && value.kind != TERN_V_ITERATOR)
        TERN_RAISE(r, "cannot unpack non-iterable %s object", tern_value_type(value));
    TERN_TRY(tern_value_to_list(r, value, &list));
    if (list.as.list->count != target->n_items)
        TERN_RAISE(r, "%zu values to unpack, expected %zu", list.as.list->count, target->n_items);
    for (size_t i = 0; i < target->n_items; i++)
        TERN_TRY(assign(r, target->items[i], list.as.list->items[i]));
    return TERN_OK;
}

static tern_status check_namespaces(struct tern_render *r, const struct tern_node *target)
{
    if (target->kind == TERN_N_MEMBER) {
        const tern_value *space;

        TERN_TRY(tern_scope_find(r, target->name, &space));
        if (!space || space->kind != TERN_V_NAMESPACE)
            TERN_RAISE(r, "cannot assign attribute on non-namespace object");
        if (target->attr->size > 0 && target->attr->data[0] == '_')
            TERN_RAISE(r, "a namespace takes no names that begin with an underscore, got '%.*s'",
                       (int)target->attr->size, target->attr->data);
    }
    for (size_t i = 0; target->kind == TERN_N_TUPLE && i < target->n_items; i++)
        TERN_TRY(check_namespaces(r, target->items[i]));
    return TERN_OK;
}

static tern_status assign(struct tern_render *r, const struct tern_node *target, tern_value value)
{
    if (target->kind == TERN_N_NAME)
        return tern_scope_set(r, r->scope, target->name, value);
    if (target->kind == TERN_N_TUPLE)
        return unpack(r, target, value);
    const tern_value *space;
    TERN_TRY(tern_scope_find(r, target->name, &space));
    const tern_value key = { .kind = TERN_V_STRING, .as.string = target->attr };
    if (!space || space->kind != TERN_V_NAMESPACE)
        TERN_RAISE(r, "cannot assign attribute on non-namespace object");
    return tern_dict_set(r, space->as.dict, key, value);
}

/* ---- bodies ---- */

/* Runs a body in a scope of its own, what it writes goes to `out` (NULL: on to where it goes now). */
static tern_status run_inside(struct tern_render *r, struct tern_scope *scope, struct tern_out *out,
                              struct tern_node *const *body, size_t n)
{
    struct tern_scope *const before = r->scope;
    struct tern_out *const before_out = r->out;

    r->scope = scope;
    if (out)
        r->out = out;
    TERN_TRY(tern_exec(r, body, n));
    r->scope = before;
    r->out = before_out;
    return TERN_OK;
}

static tern_status exec_inside(struct tern_render *r, const struct tern_node *node)
{
    struct tern_scope *scope;

    TERN_TRY(new_block(r, &node->hidden, &scope));
    return run_inside(r, scope, NULL, node->items, node->n_items);
}

/* Filters over what was written to `text`. */
static tern_status apply_filters(struct tern_render *r, const struct tern_node *filters, struct tern_scope *scope,
                                 struct tern_out *text, tern_value *out)
{
    struct tern_scope *const before = r->scope;
    struct tern_out *const before_out = r->out;

    if (!filters)
        return tern_out_string(r, text, out);
    r->scope = scope;
    r->out = text;
    TERN_TRY(tern_eval(r, filters, out));
    r->scope = before;
    r->out = before_out;
    return TERN_OK;
}

/* What a filter or call block comes to is written as it is, and so must be a text. */
static tern_status put_block(struct tern_render *r, tern_value v)
{
    if (v.kind != TERN_V_STRING)
        TERN_RAISE(r, "sequence item: expected str instance, %s found", tern_value_type(v));
    return tern_out_value(r, r->out, v);
}

static tern_status exec_filter_block(struct tern_render *r, const struct tern_node *node)
{
    struct tern_scope *scope;
    struct tern_out text = { 0 };
    tern_value v;

    TERN_TRY(new_block(r, &node->hidden, &scope));
    TERN_TRY(run_inside(r, scope, &text, node->items, node->n_items));
    if (r->jump != TERN_JUMP_NONE)
        return TERN_OK;
    TERN_TRY(apply_filters(r, node->a, scope, &text, &v));
    return put_block(r, v);
}

static tern_status exec_set_block(struct tern_render *r, const struct tern_node *node)
{
    struct tern_scope *scope;
    struct tern_out text = { 0 };
    tern_value v;

    TERN_TRY(new_block(r, &node->hidden, &scope));
    TERN_TRY(run_inside(r, scope, &text, node->items, node->n_items));
    if (r->jump != TERN_JUMP_NONE)
        return TERN_OK;
    TERN_TRY(apply_filters(r, node->b, scope, &text, &v));
    TERN_TRY(check_namespaces(r, node->a));
    return assign(r, node->a, v);
}

static tern_status exec_with(struct tern_render *r, const struct tern_node *node)
{
    struct tern_scope *scope, *const before = r->scope;

    TERN_TRY(new_scope(r, r->scope, &scope));
    for (size_t i = 0; i + 1 < node->n_other; i += 2) {
        tern_value v;

        TERN_TRY(tern_eval(r, node->other[i + 1], &v)); /* outside: it does not see its siblings */
        r->scope = scope;
        TERN_TRY(assign(r, node->other[i], v));
        r->scope = before;
    }
    TERN_TRY(hide(r, scope, &node->hidden));
    return run_inside(r, scope, NULL, node->items, node->n_items);
}

static tern_status exec_if(struct tern_render *r, const struct tern_node *node)
{
    for (size_t i = 0; i < node->n_items; i++) {
        tern_value v;

        TERN_TRY(tern_eval(r, node->items[i]->a, &v));
        if (tern_value_true(v))
            return tern_exec(r, node->items[i]->items, node->items[i]->n_items);
    }
    return tern_exec(r, node->other, node->n_other);
}

/* ---- loops ---- */

struct loop_filter {
    const struct tern_node *node;
    struct tern_scope *outer;
};

/* The elements for which the for statement's condition holds; its names are the target's, in a scope of their own. */
static tern_status next_that_holds(struct tern_render *r, struct tern_viter *it, tern_value *out, bool *done)
{
    const struct loop_filter *f = it->how;
    struct tern_scope *const before = r->scope;

    for (;;) {
        struct tern_scope *scope;
        tern_value v;

        TERN_TRY(tern_iter_next(r, it->inner, out, done));
        if (*done)
            return TERN_OK;
        TERN_TRY(new_scope(r, f->outer, &scope));
        r->scope = scope;
        TERN_TRY(assign(r, f->node->a, *out));
        TERN_TRY(tern_eval(r, f->node->c, &v));
        r->scope = before;
        if (tern_value_true(v))
            return TERN_OK;
    }
}

static tern_status loop_next(struct tern_render *r, struct tern_vloop *loop, bool *done)
{
    tern_value v = loop->after;

    *done = false;
    if (loop->ended) {
        *done = true;
        return TERN_OK;
    }
    if (!loop->has_after)
        TERN_TRY(tern_iter_next(r, loop->it, &v, done));
    loop->has_after = false;
    if (*done) {
        loop->ended = true;
        return TERN_OK;
    }
    loop->index0++;
    loop->before = loop->current;
    loop->current = v;
    return TERN_OK;
}

/* Looks one element ahead; false: there is none. */
static tern_status loop_peek(struct tern_render *r, struct tern_vloop *loop, bool *there)
{
    bool done = false;

    if (!loop->has_after && !loop->ended) {
        TERN_TRY(tern_iter_next(r, loop->it, &loop->after, &done));
        loop->ended = done;
        loop->has_after = !done;
    }
    *there = loop->has_after;
    return TERN_OK;
}

static tern_status loop_length(struct tern_render *r, struct tern_vloop *loop, int64_t *out)
{
    if (loop->length < 0 && tern_value_has_length(loop->source)) {
        loop->length = (int64_t)tern_value_length(loop->source);
    } else if (loop->length < 0) {
        tern_value rest = { .kind = TERN_V_ITERATOR, .as.iter = loop->it }, list;

        TERN_TRY(tern_value_to_list(r, rest, &list));
        TERN_TRY(tern_value_iter(r, list, &loop->it));
        loop->length = (int64_t)list.as.list->count + loop->index0 + 1 + loop->has_after;
        if (list.as.list->count > 0)
            loop->ended = false;
    }
    *out = loop->length;
    return TERN_OK;
}

tern_status tern_loop_attribute(struct tern_render *r, struct tern_vloop *loop, const struct tern_vstring *name,
                                tern_value *out, bool *found)
{
    enum { INDEX, INDEX0, REVINDEX, REVINDEX0, FIRST, LAST, LENGTH, DEPTH, DEPTH0, PREVIOUS, NEXT, N };
    static const char *const names[N] = { "index",  "index0", "revindex", "revindex0", "first",   "last",
                                          "length", "depth",  "depth0",   "previtem",  "nextitem" };
    int which = 0;
    int64_t length = 0;
    bool there = false;

    while (which < N && (strlen(names[which]) != name->size || memcmp(names[which], name->data, name->size) != 0))
        which++;
    *found = which < N;
    if (which == REVINDEX || which == REVINDEX0 || which == LENGTH)
        TERN_TRY(loop_length(r, loop, &length));
    if (which == LAST || which == NEXT)
        TERN_TRY(loop_peek(r, loop, &there));
    switch (which) {
    case INDEX:
        *out = TERN_INT_VALUE(loop->index0 + 1);
        break;
    case INDEX0:
        *out = TERN_INT_VALUE(loop->index0);
        break;
    case REVINDEX:
        *out = TERN_INT_VALUE(length - loop->index0);
        break;
    case REVINDEX0:
        *out = TERN_INT_VALUE(length - loop->index0 - 1);
        break;
    case FIRST:
        *out = TERN_BOOL_VALUE(loop->index0 == 0);
        break;
    case LAST:
        *out = TERN_BOOL_VALUE(!there);
        break;
    case LENGTH:
        *out = TERN_INT_VALUE(length);
        break;
    case DEPTH:
        *out = TERN_INT_VALUE((int64_t)loop->depth0 + 1);
        break;
    case DEPTH0:
        *out = TERN_INT_VALUE((int64_t)loop->depth0);
        break;
    case PREVIOUS:
        if (loop->index0 == 0)
            return tern_value_undefined(r, out, "there is no previous item");
        *out = loop->before;
        break;
    case NEXT:
        if (!there)
            return tern_value_undefined(r, out, "there is no next item");
        *out = loop->after;
        break;
    default:
        break;
    }
    return TERN_OK;
}

tern_status tern_loop_cycle(struct tern_render *r, struct tern_vloop *loop, const struct tern_call *call,
                            tern_value *out)
{
    if (call->n_args == 0)
        TERN_RAISE(r, "no items for cycling given");
    *out = call->args[(size_t)loop->index0 % call->n_args];
    return TERN_OK;
}

tern_status tern_loop_changed(struct tern_render *r, struct tern_vloop *loop, const struct tern_call *call,
                              tern_value *out)
{
    tern_value now;
    bool same = false;

    TERN_TRY(tern_value_list(r, TERN_V_TUPLE, call->n_args, &now));
    for (size_t i = 0; i < call->n_args; i++)
        TERN_TRY(tern_list_push(r, now.as.list, call->args[i]));
    if (loop->has_changed)
        TERN_TRY(tern_value_equal(r, loop->changed, now, &same));
    loop->changed = now;
    loop->has_changed = true;
    *out = TERN_BOOL_VALUE(!same);
    return TERN_OK;
}

tern_status tern_loop_describe(struct tern_render *r, struct tern_vloop *loop, struct tern_out *out)
{
    int64_t length;

    TERN_TRY(loop_length(r, loop, &length));
    return tern_out_printf(r, out, "<LoopContext %" PRId64 "/%" PRId64 ">", loop->index0 + 1, length);
}

/* Goes through `items` with the body of a for statement. */
static tern_status run_loop(struct tern_render *r, const struct tern_node *node, struct tern_scope *outer,
                            tern_value items, unsigned depth0)
{
    struct tern_vloop *loop;
    struct tern_scope *scope = NULL;
    bool done, finished = false;

    TERN_TRY(TERN_RENDER_TAKE(r, 1, &loop));
    *loop = (struct tern_vloop){ .node = node, .outer = outer, .index0 = -1, .length = -1, .depth0 = depth0 };
    loop->source = items;
    TERN_TRY(tern_value_iter(r, items, &loop->it));
    if (node->c) {
        struct loop_filter *f;
        tern_value filtered;

        TERN_TRY(TERN_RENDER_TAKE(r, 1, &f));
        *f = (struct loop_filter){ node, outer };
        TERN_TRY(tern_value_iterator(r, next_that_holds, items, &filtered));
        filtered.as.iter->how = f;
        filtered.as.iter->inner = loop->it;
        loop->it = filtered.as.iter;
        loop->source = filtered;
    }
    for (;;) {
        struct tern_scope *const before = r->scope;

        TERN_TRY(loop_next(r, loop, &done));
        if (done)
            break;
        if (scope && !scope->kept)
            scope->count = 0;
        else
            TERN_TRY(new_scope(r, outer, &scope));
        TERN_TRY(tern_scope_set(r, scope, r->tmpl->loop, (tern_value){ .kind = TERN_V_LOOP, .as.loop = loop }));
        r->scope = scope;
        TERN_TRY(assign(r, node->a, loop->current));
        TERN_TRY(hide(r, scope, &node->hidden));
        TERN_TRY(tern_exec(r, node->items, node->n_items));
        r->scope = before;
        const enum tern_jump jump = r->jump;
        r->jump = TERN_JUMP_NONE;
        if (jump == TERN_JUMP_BREAK)
            break;
        finished = finished || jump == TERN_JUMP_NONE;
    }
    if (finished || node->n_other == 0) /* as in jinja2, rounds that a continue ended do not count */
        return TERN_OK;
    TERN_TRY(new_scope(r, outer, &scope));
    TERN_TRY(hide(r, scope, &node->hidden_other));
    return run_inside(r, scope, NULL, node->other, node->n_other);
}

tern_status tern_loop_call(struct tern_render *r, struct tern_vloop *loop, const struct tern_call *call,
                           tern_value *out)
{
    struct tern_out text = { 0 }, *const before = r->out;

    if (!loop->node->flag)
        TERN_RAISE(r, "The loop must have the 'recursive' marker to be called recursively.");
    if (call->n_args != 1 || call->n_keywords > 0)
        TERN_RAISE(r, "a loop is called with one argument, got %zu", call->n_args + call->n_keywords);
    r->out = &text;
    TERN_TRY(run_loop(r, loop->node, loop->outer, call->args[0], loop->depth0 + 1));
    r->out = before;
    return tern_out_string(r, &text, out);
}

static tern_status exec_for(struct tern_render *r, const struct tern_node *node)
{
    tern_value items;

    TERN_TRY(tern_eval(r, node->b, &items));
    r->line = node->line;
    return run_loop(r, node, r->scope, items, 0);
}

/* ---- macros ---- */

const struct tern_vstring *tern_macro_name(const struct tern_vmacro *macro)
{
    return macro->node->name;
}

static tern_status make_macro(struct tern_render *r, const struct tern_node *node, tern_value *out)
{
    struct tern_vmacro *macro;

    TERN_TRY(TERN_RENDER_TAKE(r, 1, &macro));
    *macro = (struct tern_vmacro){ node->macro, r->scope, node->line };
    keep_scope(r->scope);
    *out = (tern_value){ .kind = TERN_V_MACRO, .as.macro = macro };
    return TERN_OK;
}

static int shown_name(const struct tern_node_macro *m, const char **name)
{
    *name = m->name ? m->name->data : "caller";
    return m->name ? (int)m->name->size : 6;
}

/* What the call gives by name, and parameters have not taken: kwargs, or an error. */
static tern_status rest_of_keywords(struct tern_render *r, const struct tern_node_macro *m,
                                    const struct tern_call *call, const bool *used, struct tern_scope *scope)
{
    tern_value kwargs;
    const char *name;

    TERN_TRY(tern_value_dict(r, &kwargs));
    for (size_t i = 0; i < call->n_keywords; i++) {
        const tern_value key = { .kind = TERN_V_STRING, .as.string = call->keywords[i].name };

        if (used[i])
            continue;
        if (!m->takes_kwargs) {
            const int size = shown_name(m, &name);

            TERN_RAISE(r, "macro '%.*s' takes no keyword argument '%.*s'", size, name,
                       (int)call->keywords[i].name->size, call->keywords[i].name->data);
        }
        TERN_TRY(tern_dict_set(r, kwargs.as.dict, key, call->keywords[i].value));
    }
    return m->takes_kwargs ? tern_scope_set(r, scope, r->tmpl->kwargs, kwargs) : TERN_OK;
}

/* What the call gives by position beyond the parameters: varargs, or an error. */
static tern_status rest_of_args(struct tern_render *r, const struct tern_node_macro *m, const struct tern_call *call,
                                struct tern_scope *scope)
{
    tern_value varargs;
    const char *name;

    if (call->n_args > m->n_params && !m->takes_varargs) {
        const int size = shown_name(m, &name);

        TERN_RAISE(r, "macro '%.*s' takes not more than %zu argument(s)", size, name, m->n_params);
    }
    if (!m->takes_varargs)
        return TERN_OK;
    TERN_TRY(tern_value_list(r, TERN_V_TUPLE, 0, &varargs));
    for (size_t i = m->n_params; i < call->n_args; i++)
        TERN_TRY(tern_list_push(r, varargs.as.list, call->args[i]));
    return tern_scope_set(r, scope, r->tmpl->varargs, varargs);
}

static tern_status bind_params(struct tern_render *r, const struct tern_vmacro *macro, const struct tern_call *call,
                               struct tern_scope *scope)
{
    const struct tern_node_macro *m = macro->node;
    bool *used, *missing;

    TERN_TRY(TERN_RENDER_TAKE(r, call->n_keywords, &used));
    TERN_TRY(TERN_RENDER_TAKE(r, m->n_params, &missing));
    for (size_t i = 0; i < m->n_params; i++) {
        tern_value v = TERN_UNDEFINED_VALUE;

        missing[i] = i >= call->n_args;
        if (!missing[i])
            v = call->args[i];
        for (size_t k = 0; missing[i] && k < call->n_keywords; k++)
            if (tern_string_equal(call->keywords[k].name, m->params[i])) {
                v = call->keywords[k].value;
                used[k] = true;
                missing[i] = false;
            }
        if (missing[i])
            TERN_TRY(tern_value_undefined(r, &v, "parameter '%.*s' was not provided", (int)m->params[i]->size,
                                          m->params[i]->data));
        TERN_TRY(tern_scope_set(r, scope, m->params[i], v));
    }
    if (m->takes_caller) {
        tern_value caller;

        TERN_TRY(tern_value_undefined(r, &caller, "No caller defined"));
        for (size_t k = 0; k < call->n_keywords; k++)
            if (tern_string_equal(call->keywords[k].name, r->tmpl->caller)) {
                if (call->keywords[k].value.kind != TERN_V_NONE)
                    caller = call->keywords[k].value;
                used[k] = true;
            }
        TERN_TRY(tern_scope_set(r, scope, r->tmpl->caller, caller));
    }
    TERN_TRY(rest_of_keywords(r, m, call, used, scope));
    TERN_TRY(rest_of_args(r, m, call, scope));
    for (size_t i = 0; i < m->n_params; i++) /* defaults see the parameters before them */
        if (missing[i] && m->defaults[i]) {
            struct tern_scope *const before = r->scope;
            tern_value v;

            r->scope = scope;
            TERN_TRY(tern_eval(r, m->defaults[i], &v));
            r->scope = before;
            TERN_TRY(tern_scope_set(r, scope, m->params[i], v));
        }
    return TERN_OK;
}

tern_status tern_macro_call(struct tern_render *r, const struct tern_vmacro *macro, const struct tern_call *call,
                            tern_value *out)
{
    struct tern_scope *scope;
    struct tern_out text = { 0 };
    const uint32_t line = r->line;

    TERN_TRY(new_scope(r, macro->scope, &scope));
    TERN_TRY(bind_params(r, macro, call, scope));
    TERN_TRY(hide(r, scope, &macro->node->hidden));
    TERN_TRY(run_inside(r, scope, &text, macro->node->body, macro->node->n_body));
    r->line = line;
    return tern_out_string(r, &text, out);
}

static tern_status exec_macro(struct tern_render *r, const struct tern_node *node)
{
    tern_value macro;

    TERN_TRY(make_macro(r, node, &macro));
    return tern_scope_set(r, r->scope, node->macro->name, macro);
}

/* The block becomes a macro that the called one gets as its caller. */
static tern_status exec_call_block(struct tern_render *r, const struct tern_node *node)
{
    struct tern_keyword *keywords;
    struct tern_call call;
    tern_value caller, callee, v;

    TERN_TRY(make_macro(r, node, &caller));
    TERN_TRY(tern_eval(r, node->a->a, &callee));
    TERN_TRY(tern_eval_call(r, node->a->args, &call));
    TERN_TRY(TERN_RENDER_TAKE(r, call.n_keywords + 1, &keywords));
    for (size_t i = 0; i < call.n_keywords; i++)
        keywords[i] = call.keywords[i];
    keywords[call.n_keywords++] = (struct tern_keyword){ r->tmpl->caller, caller };
    call.keywords = keywords;
    r->line = node->line;
    TERN_TRY(tern_value_call(r, callee, &call, &v));
    return put_block(r, v);
}

/* ---- statements ---- */

static tern_status exec_one(struct tern_render *r, const struct tern_node *node)
{
    tern_value v;

    switch (node->kind) {
    case TERN_N_TEXT:
        return tern_out_put(r, r->out, node->value.as.string->data, node->value.as.string->size);
    case TERN_N_PRINT:
        TERN_TRY(tern_eval(r, node->a, &v));
        return tern_out_value(r, r->out, v);
    case TERN_N_BRANCH:
        return tern_exec(r, node->items, node->n_items);
    case TERN_N_FOR:
        return exec_for(r, node);
    case TERN_N_IF:
        return exec_if(r, node);
    case TERN_N_SET:
        TERN_TRY(check_namespaces(r, node->a));
        TERN_TRY(tern_eval(r, node->b, &v));
        return assign(r, node->a, v);
    case TERN_N_SET_BLOCK:
        return exec_set_block(r, node);
    case TERN_N_MACRO:
        return exec_macro(r, node);
    case TERN_N_CALL_BLOCK:
        return exec_call_block(r, node);
    case TERN_N_FILTER_BLOCK:
        return exec_filter_block(r, node);
    case TERN_N_WITH:
        return exec_with(r, node);
    case TERN_N_SCOPE:
        return exec_inside(r, node);
    case TERN_N_BREAK:
        r->jump = TERN_JUMP_BREAK;
        return TERN_OK;
    case TERN_N_CONTINUE:
        r->jump = TERN_JUMP_CONTINUE;
        return TERN_OK;
    default: /* expressions: the parser puts none here */
        TERN_RAISE(r, "no statement");
    }
}

tern_status tern_exec(struct tern_render *r, struct tern_node *const *body, size_t n)
{
    TERN_TRY(tern_render_enter(r));
    for (size_t i = 0; i < n && r->jump == TERN_JUMP_NONE; i++) {
        TERN_TRY(tern_render_spend(r, 1));
        r->line = body[i]->line;
        TERN_TRY(exec_one(r, body[i]));
    }
    tern_render_leave(r);
    return TERN_OK;
}

/* ---- a rendering from end to end ---- */

struct tern_template_limits tern_template_limits_default(void)
{
    return (struct tern_template_limits){
        .steps = 20000000, .depth = 1000, .output = (size_t)1 << 26, .memory = (size_t)1 << 29
    };
}

/* {"thinking": x, the message's own, "reasoning_content": x}, where x is what the message has under any of three names. */
static tern_status alias_reasoning(struct tern_render *r, tern_value *message)
{
    static const char *const names[] = { "reasoning_content", "thinking", "reasoning" };
    const tern_value *found = NULL;
    tern_value copy;

    for (size_t i = 0; i < 3 && !found; i++) {
        found = tern_dict_get(message->as.dict, names[i], strlen(names[i]));
        if (found && found->kind == TERN_V_NONE)
            found = NULL;
    }
    if (!found)
        return TERN_OK;
    TERN_TRY(tern_value_dict(r, &copy));
    TERN_TRY(tern_dict_set_name(r, copy.as.dict, "thinking", *found));
    for (size_t i = 0; i < message->as.dict->count; i++)
        TERN_TRY(tern_dict_set(r, copy.as.dict, message->as.dict->entries[i].key, message->as.dict->entries[i].value));
    TERN_TRY(tern_dict_set_name(r, copy.as.dict, "reasoning_content", *found));
    *message = copy;
    return TERN_OK;
}

static tern_status set_variables(struct tern_render *r, const struct tern_variable *variables, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct tern_vstring *name = tern_template_name(r->tmpl, variables[i].name, strlen(variables[i].name));
        tern_value v = TERN_NONE_VALUE;

        if (!name) /* nothing in the template asks for it */
            continue;
        if (variables[i].kind == TERN_VARIABLE_BOOL)
            v = TERN_BOOL_VALUE(variables[i].truth);
        if (variables[i].kind == TERN_VARIABLE_TEXT)
            TERN_TRY(tern_value_borrowed(r, variables[i].text, strlen(variables[i].text), &v));
        if (variables[i].kind == TERN_VARIABLE_JSON || variables[i].kind == TERN_VARIABLE_MESSAGES)
            TERN_TRY(tern_value_from_json(r, variables[i].json, &v));
        for (size_t k = 0; variables[i].kind == TERN_VARIABLE_MESSAGES && k < v.as.list->count; k++)
            TERN_TRY(alias_reasoning(r, &v.as.list->items[k]));
        TERN_TRY(tern_scope_set(r, r->scope, name, v));
    }
    return TERN_OK;
}

static tern_status render(struct tern_render *r, const struct tern_variable *variables, size_t n, struct tern_out *out)
{
    TERN_TRY(new_scope(r, NULL, &r->root));
    r->scope = r->root;
    r->out = out;
    TERN_TRY(set_variables(r, variables, n));
    TERN_TRY(new_block(r, &r->tmpl->hidden, &r->scope));
    return tern_exec(r, r->tmpl->body, r->tmpl->n_body);
}

tern_status tern_template_render(tern_ctx *ctx, const struct tern_template *t, const struct tern_variable *variables,
                                 size_t n_variables, const struct tern_template_limits *limits, int64_t now,
                                 char **text, size_t *size)
{
    const struct tern_template_limits standard = tern_template_limits_default();
    struct tern_render r = { .ctx = ctx, .tmpl = t, .limits = limits ? limits : &standard, .line = 1, .now = now };
    struct tern_out out = { 0 };
    tern_status status;

    r.pool.limit = r.limits->memory;
    r.pool.name = "the limit of memory";
    status = render(&r, variables, n_variables, &out);
    if (r.pool.refused > 0) /* the pool knows neither template nor line */
        status = tern_render_fail(&r, TERN_ERR_CAPACITY, "%s is %zu bytes, %zu are taken and %zu more wanted",
                                  r.pool.name, r.pool.limit, r.pool.bytes, r.pool.refused);
    if (!status) {
        *size = out.buffer ? out.buffer->used : 0;
        status = tern_strndup(ctx, out.buffer ? out.buffer->data : "", *size, "a rendered text", text);
    }
    tern_pool_free(&r.pool);
    return status;
}
