/* template_eval.c: expressions: the tree gone through, and what is called. */
#include "text/template_render.h"

#include <stdarg.h>
#include <stdio.h>

/* ---- the rendering itself ---- */

tern_status tern_render_fail(struct tern_render *r, tern_status status, const char *format, ...)
{
    char text[700];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return tern_fail(r->ctx, status, "%s, line %" PRIu32 ": %s", r->tmpl->name, r->line, text);
}

tern_status tern_render_spend(struct tern_render *r, uint64_t n)
{
    if (n > r->limits->steps - r->steps)
        return tern_render_fail(r, TERN_ERR_CAPACITY, "the limit of steps is %" PRIu64 ", and there are more",
                                r->limits->steps);
    r->steps += n;
    return TERN_OK;
}

tern_status tern_render_enter(struct tern_render *r)
{
    if (r->depth >= r->limits->depth)
        return tern_render_fail(r, TERN_ERR_CAPACITY, "the limit of depth is %u levels, and there are more",
                                r->limits->depth);
    r->depth++;
    return TERN_OK;
}

tern_status tern_undefined_used(struct tern_render *r, tern_value v)
{
    const struct tern_vundefined *u = v.as.undefined;

    TERN_RAISE(r, "%s", u ? u->text : "a value is undefined");
}

/* ---- calls ---- */

tern_status tern_call_bind(struct tern_render *r, const char *what, const struct tern_call *call, const char *names,
                           size_t n_required, tern_value *values, size_t n)
{
    bool given[12] = { false };

    if (call->n_args > n)
        TERN_RAISE(r, "%s takes at most %zu arguments, got %zu", what, n, call->n_args);
    for (size_t i = 0; i < n; i++) {
        given[i] = i < call->n_args;
        values[i] = given[i] ? call->args[i] : TERN_UNDEFINED_VALUE;
    }
    for (size_t k = 0; k < call->n_keywords; k++) {
        const struct tern_vstring *keyword = call->keywords[k].name;
        const char *name = names;
        size_t i = 0;

        for (; i < n; i++) {
            const size_t size = strcspn(name, ",");

            if (size == keyword->size && memcmp(name, keyword->data, size) == 0)
                break;
            name += size + (name[size] == ',' ? 2 : 0);
        }
        if (i == n)
            TERN_RAISE(r, "%s got an unexpected keyword argument '%.*s'", what, (int)keyword->size, keyword->data);
        if (given[i])
            TERN_RAISE(r, "%s got multiple values for argument '%.*s'", what, (int)keyword->size, keyword->data);
        given[i] = true;
        values[i] = call->keywords[k].value;
    }
    for (size_t i = 0; i < n_required; i++)
        if (!given[i])
            TERN_RAISE(r, "%s wants %zu argument%s (%s)", what, n_required, n_required == 1 ? "" : "s", names);
    return TERN_OK;
}

static tern_status add_more_args(struct tern_render *r, const struct tern_node *node, struct tern_vlist *list)
{
    struct tern_viter *it;
    tern_value v, item;
    bool done;

    TERN_TRY(tern_eval(r, node, &v));
    TERN_TRY(tern_value_iter(r, v, &it));
    for (;;) {
        TERN_TRY(tern_iter_next(r, it, &item, &done));
        if (done)
            return TERN_OK;
        TERN_TRY(tern_list_push(r, list, item));
    }
}

tern_status tern_eval_call(struct tern_render *r, const struct tern_node_args *args, struct tern_call *out)
{
    struct tern_keyword *keywords;
    tern_value list, more = TERN_UNDEFINED_VALUE;
    size_t n = 0;

    *out = (struct tern_call){ 0 };
    if (!args)
        return TERN_OK;
    TERN_TRY(tern_value_list(r, TERN_V_LIST, args->n_args, &list));
    for (size_t i = 0; i < args->n_args; i++) {
        tern_value v;

        TERN_TRY(tern_eval(r, args->args[i], &v));
        TERN_TRY(tern_list_push(r, list.as.list, v));
    }
    if (args->more_args)
        TERN_TRY(add_more_args(r, args->more_args, list.as.list));
    if (args->more_keywords) {
        TERN_TRY(tern_eval(r, args->more_keywords, &more));
        if (more.kind != TERN_V_DICT)
            TERN_RAISE(r, "argument after ** must be a mapping, not %s", tern_value_type(more));
        n = more.as.dict->count;
    }
    TERN_TRY(TERN_RENDER_TAKE(r, args->n_keywords + n, &keywords));
    for (size_t i = 0; i < args->n_keywords; i++) {
        keywords[i].name = args->names[i];
        TERN_TRY(tern_eval(r, args->values[i], &keywords[i].value));
    }
    for (size_t i = 0; i < n; i++) {
        const struct tern_ventry *entry = &more.as.dict->entries[i];

        if (entry->key.kind != TERN_V_STRING)
            TERN_RAISE(r, "keywords must be strings");
        for (size_t k = 0; k < args->n_keywords; k++)
            if (tern_string_equal(keywords[k].name, entry->key.as.string))
                TERN_RAISE(r, "got multiple values for keyword argument '%.*s'", (int)keywords[k].name->size,
                           keywords[k].name->data);
        keywords[args->n_keywords + i] = (struct tern_keyword){ entry->key.as.string, entry->value };
    }
    *out = (struct tern_call){ list.as.list->items, list.as.list->count, keywords, args->n_keywords + n };
    return TERN_OK;
}

tern_status tern_value_call(struct tern_render *r, tern_value callee, const struct tern_call *call, tern_value *out)
{
    tern_status status;

    TERN_TRY(tern_render_enter(r));
    switch (callee.kind) {
    case TERN_V_UNDEFINED:
        return tern_undefined_used(r, callee);
    case TERN_V_FUNCTION:
        status = callee.as.function->run(r, call, out);
        break;
    case TERN_V_METHOD:
        if (!callee.as.method->method->run)
            return tern_render_fail(r, TERN_ERR_UNSUPPORTED, "the method '%s' is not one that tern has",
                                    callee.as.method->method->name);
        status = callee.as.method->method->run(r, callee.as.method->self, call, out);
        break;
    case TERN_V_MACRO:
        status = tern_macro_call(r, callee.as.macro, call, out);
        break;
    case TERN_V_LOOP:
        status = tern_loop_call(r, callee.as.loop, call, out);
        break;
    case TERN_V_JOINER:
        TERN_TRY(tern_value_borrowed(r, "", 0, out));
        if (callee.as.joiner->used)
            *out = callee.as.joiner->separator;
        callee.as.joiner->used = true;
        status = TERN_OK;
        break;
    default:
        TERN_RAISE(r, "'%s' object is not callable", tern_value_type(callee));
    }
    tern_render_leave(r);
    return status;
}

/* ---- the tree ---- */

static tern_status eval_name(struct tern_render *r, const struct tern_node *node, tern_value *out)
{
    const tern_value *v;
    const struct tern_function *function;

    TERN_TRY(tern_scope_find(r, node->name, &v));
    if (v) {
        *out = *v;
        return TERN_OK;
    }
    function = tern_function_find(node->name->data, node->name->size);
    if (function) {
        *out = (tern_value){ .kind = TERN_V_FUNCTION, .as.function = function };
        return TERN_OK;
    }
    return tern_value_undefined(r, out, "'%.*s' is undefined", (int)node->name->size, node->name->data);
}

static tern_status eval_items(struct tern_render *r, const struct tern_node *node, enum tern_value_kind kind,
                              tern_value *out)
{
    tern_value list;

    TERN_TRY(tern_value_list(r, kind, node->n_items, &list));
    for (size_t i = 0; i < node->n_items; i++) {
        tern_value item;

        TERN_TRY(tern_eval(r, node->items[i], &item));
        TERN_TRY(tern_list_push(r, list.as.list, item));
    }
    *out = list;
    return TERN_OK;
}

static tern_status eval_dict(struct tern_render *r, const struct tern_node *node, tern_value *out)
{
    tern_value dict;

    TERN_TRY(tern_value_dict(r, &dict));
    for (size_t i = 0; i + 1 < node->n_items; i += 2) {
        tern_value key, value;

        TERN_TRY(tern_eval(r, node->items[i], &key));
        TERN_TRY(tern_eval(r, node->items[i + 1], &value));
        TERN_TRY(tern_dict_set(r, dict.as.dict, key, value));
    }
    *out = dict;
    return TERN_OK;
}

static tern_status eval_compare(struct tern_render *r, const struct tern_node *node, tern_value *out)
{
    tern_value left, right;
    bool holds = true;

    TERN_TRY(tern_eval(r, node->a, &left));
    for (size_t i = 0; holds && i < node->n_items; i++) {
        TERN_TRY(tern_eval(r, node->items[i]->a, &right));
        TERN_TRY(tern_value_compare(r, node->items[i]->op, left, right, &holds));
        left = right;
    }
    *out = TERN_BOOL_VALUE(holds);
    return TERN_OK;
}

static tern_status eval_concat(struct tern_render *r, const struct tern_node *node, tern_value *out)
{
    tern_value text, v;

    for (size_t i = 0; i < node->n_items; i++) {
        TERN_TRY(tern_eval(r, node->items[i], &v));
        TERN_TRY(tern_value_str(r, v, &v));
        if (v.as.string->markup)
            TERN_TRY(tern_string_mark(r, v.as.string, false, &v));
        if (i == 0)
            text = v;
        else
            TERN_TRY(tern_string_concat(r, text.as.string, v.as.string, &text));
    }
    *out = text;
    return TERN_OK;
}

static tern_status eval_slice_part(struct tern_render *r, const struct tern_node *node, tern_value *out)
{
    *out = TERN_NONE_VALUE;
    return node ? tern_eval(r, node, out) : TERN_OK;
}

static tern_status eval_getitem(struct tern_render *r, const struct tern_node *node, tern_value *out)
{
    tern_value obj, key, stop, step;

    TERN_TRY(tern_eval(r, node->a, &obj));
    if (node->b->kind == TERN_N_SLICE) {
        TERN_TRY(eval_slice_part(r, node->b->a, &key));
        TERN_TRY(eval_slice_part(r, node->b->b, &stop));
        TERN_TRY(eval_slice_part(r, node->b->c, &step));
        return tern_value_slice(r, obj, key, stop, step, out);
    }
    TERN_TRY(tern_eval(r, node->b, &key));
    return tern_value_getitem(r, obj, key, out);
}

static tern_status eval_call(struct tern_render *r, const struct tern_node *node, tern_value *out)
{
    struct tern_call call;
    tern_value callee;
    tern_status status;

    TERN_TRY(tern_eval(r, node->a, &callee));
    TERN_TRY(tern_eval_call(r, node->args, &call));
    r->line = node->line;
    status = tern_value_call(r, callee, &call, out);
    return status;
}

static tern_status eval_filter(struct tern_render *r, const struct tern_node *node, tern_value *out)
{
    const struct tern_filter *filter = node->callee;
    struct tern_call call;
    tern_value v;

    if (node->a)
        TERN_TRY(tern_eval(r, node->a, &v));
    else
        TERN_TRY(tern_out_string(r, r->out, &v));
    TERN_TRY(tern_eval_call(r, node->args, &call));
    r->line = node->line;
    return filter->run(r, v, &call, out);
}

static tern_status eval_test(struct tern_render *r, const struct tern_node *node, tern_value *out)
{
    const struct tern_test *test = node->callee;
    struct tern_call call;
    tern_value v;
    bool holds = false;

    TERN_TRY(tern_eval(r, node->a, &v));
    TERN_TRY(tern_eval_call(r, node->args, &call));
    r->line = node->line;
    TERN_TRY(test->run(r, v, &call, &holds));
    *out = TERN_BOOL_VALUE(holds);
    return TERN_OK;
}

static tern_status eval_choice(struct tern_render *r, const struct tern_node *node, tern_value *out)
{
    tern_value condition;

    TERN_TRY(tern_eval(r, node->a, &condition));
    if (tern_value_true(condition))
        return tern_eval(r, node->b, out);
    if (node->c)
        return tern_eval(r, node->c, out);
    return tern_value_undefined(
        r, out, "the inline if-expression on line %" PRIu32 " evaluated to false and no else section was defined.",
        node->line);
}

static tern_status eval_node(struct tern_render *r, const struct tern_node *node, tern_value *out)
{
    tern_value a, b;

    switch (node->kind) {
    case TERN_N_CONST:
        *out = node->value;
        return TERN_OK;
    case TERN_N_NAME:
        return eval_name(r, node, out);
    case TERN_N_TUPLE:
        return eval_items(r, node, TERN_V_TUPLE, out);
    case TERN_N_LIST:
        return eval_items(r, node, TERN_V_LIST, out);
    case TERN_N_DICT:
        return eval_dict(r, node, out);
    case TERN_N_AND:
    case TERN_N_OR:
        TERN_TRY(tern_eval(r, node->a, out));
        return tern_value_true(*out) == (node->kind == TERN_N_AND) ? tern_eval(r, node->b, out) : TERN_OK;
    case TERN_N_NOT:
        TERN_TRY(tern_eval(r, node->a, &a));
        *out = TERN_BOOL_VALUE(!tern_value_true(a));
        return TERN_OK;
    case TERN_N_COMPARE:
        return eval_compare(r, node, out);
    case TERN_N_BINARY:
        TERN_TRY(tern_eval(r, node->a, &a));
        TERN_TRY(tern_eval(r, node->b, &b));
        r->line = node->line;
        return tern_value_binary(r, node->op, a, b, out);
    case TERN_N_UNARY:
        TERN_TRY(tern_eval(r, node->a, &a));
        return tern_value_unary(r, node->op, a, out);
    case TERN_N_CONCAT:
        return eval_concat(r, node, out);
    case TERN_N_CHOICE:
        return eval_choice(r, node, out);
    case TERN_N_GETATTR:
        TERN_TRY(tern_eval(r, node->a, &a));
        r->line = node->line;
        return tern_value_getattr(r, a, node->name, out);
    case TERN_N_GETITEM:
        return eval_getitem(r, node, out);
    case TERN_N_CALL:
        return eval_call(r, node, out);
    case TERN_N_FILTER:
        return eval_filter(r, node, out);
    case TERN_N_TEST:
        return eval_test(r, node, out);
    default: /* statements, targets and parts: the parser puts none here */
        TERN_RAISE(r, "no expression");
    }
}

tern_status tern_eval(struct tern_render *r, const struct tern_node *node, tern_value *out)
{
    TERN_TRY(tern_render_spend(r, 1));
    TERN_TRY(tern_render_enter(r));
    r->line = node->line;
    TERN_TRY(eval_node(r, node, out));
    tern_render_leave(r);
    return TERN_OK;
}
