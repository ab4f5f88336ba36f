/* template_eval.c: expressions.  What an operator does follows Python, what attributes and subscripts give follows jinja2's sandbox:
 * obj.name looks for an attribute first and for an item then, obj["name"] the other way round, and what neither has is undefined. */
#include "text/template_render.h"

#include <math.h>
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

/* ---- arguments ---- */

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

/* ---- attributes and items ---- */

static tern_status undefined_member(struct tern_render *r, tern_value obj, tern_value key, tern_value *out)
{
    if (key.kind == TERN_V_STRING)
        return tern_value_undefined(r, out, "'%s object' has no attribute '%.*s'", tern_value_type(obj),
                                    (int)(key.as.string->size > 100 ? 100 : key.as.string->size), key.as.string->data);
    struct tern_out text = { 0 };
    tern_value shown;
    TERN_TRY(tern_out_repr(r, &text, key));
    TERN_TRY(tern_out_string(r, &text, &shown));
    return tern_value_undefined(r, out, "%s object has no element %.*s", tern_value_type(obj),
                                (int)(shown.as.string->size > 100 ? 100 : shown.as.string->size),
                                shown.as.string->data);
}

static bool starts_with(const struct tern_vstring *s, const char *prefix)
{
    return s->size >= strlen(prefix) && memcmp(s->data, prefix, strlen(prefix)) == 0;
}

static bool name_is(const struct tern_vstring *name, const char *text)
{
    return name->size == strlen(text) && memcmp(name->data, text, name->size) == 0;
}

/* What Python's getattr finds, and the sandbox lets through or makes undefined. */
static tern_status find_attribute(struct tern_render *r, tern_value obj, const struct tern_vstring *name,
                                  tern_value *out, bool *found)
{
    const struct tern_method *method;
    struct tern_vmethod *bound;

    *found = true;
    if (obj.kind == TERN_V_NAMESPACE) {
        const tern_value *v = tern_dict_get(obj.as.dict, name->data, name->size);

        *found = v != NULL;
        if (v)
            *out = *v;
        return TERN_OK;
    }
    if (obj.kind == TERN_V_LOOP) {
        TERN_TRY(tern_loop_attribute(r, obj.as.loop, name, out, found));
        if (*found)
            return TERN_OK;
        *found = true;
    }
    if (obj.kind == TERN_V_CYCLER && name_is(name, "current")) {
        *out = obj.as.cycler->items[obj.as.cycler->at];
        return TERN_OK;
    }
    if (obj.kind == TERN_V_MACRO && name_is(name, "name") && tern_macro_name(obj.as.macro))
        return tern_value_borrowed(r, tern_macro_name(obj.as.macro)->data, tern_macro_name(obj.as.macro)->size, out);
    method = tern_method_find(obj.kind, name->data, name->size);
    if ((method && method->changes) ||
        (starts_with(name, "__") && name->size > 4 && memcmp(name->data + name->size - 2, "__", 2) == 0))
        return tern_value_undefined(r, out, "access to attribute '%.*s' of '%s' object is unsafe.",
                                    (int)(name->size > 100 ? 100 : name->size), name->data, tern_value_type(obj));
    *found = method != NULL;
    if (!method)
        return TERN_OK;
    TERN_TRY(TERN_RENDER_TAKE(r, 1, &bound));
    *bound = (struct tern_vmethod){ obj, method };
    *out = (tern_value){ .kind = TERN_V_METHOD, .as.method = bound };
    return TERN_OK;
}

/* obj[key] of Python; not found where that raises TypeError or LookupError. */
static tern_status find_item(struct tern_render *r, tern_value obj, tern_value key, tern_value *out, bool *found)
{
    *found = false;
    if (obj.kind == TERN_V_DICT) {
        const struct tern_ventry *entry = NULL;

        if (key.kind == TERN_V_LIST || key.kind == TERN_V_DICT)
            return TERN_OK;
        TERN_TRY(tern_dict_find(r, obj.as.dict, key, &entry));
        if (entry)
            *out = entry->value;
        *found = entry != NULL;
        return TERN_OK;
    }
    if (obj.kind != TERN_V_LIST && obj.kind != TERN_V_TUPLE && obj.kind != TERN_V_STRING && obj.kind != TERN_V_RANGE)
        return TERN_OK;
    if (!tern_value_is_int(key))
        return TERN_OK;
    const int64_t length = (int64_t)tern_value_length(obj), index = tern_value_int(key);
    if (index >= length || index < -length)
        return TERN_OK;
    *found = true;
    return tern_value_at(r, obj, (size_t)(index < 0 ? index + length : index), out);
}

tern_status tern_value_getattr(struct tern_render *r, tern_value obj, const struct tern_vstring *name, tern_value *out)
{
    const tern_value key = { .kind = TERN_V_STRING, .as.string = name };
    bool found;

    if (obj.kind == TERN_V_UNDEFINED)
        return tern_undefined_used(r, obj);
    TERN_TRY(find_attribute(r, obj, name, out, &found));
    if (found)
        return TERN_OK;
    if (obj.kind == TERN_V_DICT) {
        const tern_value *item = tern_dict_get(obj.as.dict, name->data, name->size);

        if (item) {
            *out = *item;
            return TERN_OK;
        }
    }
    return undefined_member(r, obj, key, out);
}

tern_status tern_value_getitem(struct tern_render *r, tern_value obj, tern_value key, tern_value *out)
{
    bool found;

    if (obj.kind == TERN_V_UNDEFINED)
        return tern_undefined_used(r, obj);
    TERN_TRY(find_item(r, obj, key, out, &found));
    if (!found && key.kind == TERN_V_STRING)
        TERN_TRY(find_attribute(r, obj, key.as.string, out, &found));
    return found ? TERN_OK : undefined_member(r, obj, key, out);
}

/* ---- slices ---- */

static tern_status slice_part(struct tern_render *r, tern_value v, bool *given, int64_t *out)
{
    *given = v.kind != TERN_V_NONE;
    if (!*given)
        return TERN_OK;
    if (v.kind == TERN_V_UNDEFINED || !tern_value_is_int(v))
        TERN_RAISE(r, "slice indices must be integers or None or have an __index__ method");
    *out = tern_value_int(v);
    return TERN_OK;
}

/* As Python's slice.indices(): where it begins, and how many elements it has. */
static void slice_range(int64_t length, bool has_start, int64_t *start, bool has_stop, int64_t stop, int64_t step,
                        size_t *count)
{
    const int64_t low = step < 0 ? -1 : 0, high = step < 0 ? length - 1 : length;

    if (!has_start)
        *start = step < 0 ? high : low;
    else if (*start < 0)
        *start = *start < -length ? low : *start + length;
    else if (*start > high)
        *start = high;
    if (!has_stop)
        stop = step < 0 ? low : high;
    else if (stop < 0)
        stop = stop < -length ? low : stop + length;
    else if (stop > high)
        stop = high;
    if (step < 0)
        *count = stop < *start ? (size_t)((uint64_t)(*start - stop - 1) / (0 - (uint64_t)step) + 1) : 0;
    else
        *count = *start < stop ? (size_t)((uint64_t)(stop - *start - 1) / (uint64_t)step + 1) : 0;
}

tern_status tern_value_slice(struct tern_render *r, tern_value v, tern_value start, tern_value stop, tern_value step,
                             tern_value *out)
{
    bool has_start, has_stop, has_step;
    int64_t from = 0, to = 0, by = 1;
    size_t count;

    if (v.kind == TERN_V_UNDEFINED)
        return tern_undefined_used(r, v);
    if (v.kind != TERN_V_STRING && v.kind != TERN_V_LIST && v.kind != TERN_V_TUPLE && v.kind != TERN_V_RANGE)
        TERN_RAISE(r, "'%s' object is not subscriptable", tern_value_type(v));
    TERN_TRY(slice_part(r, start, &has_start, &from));
    TERN_TRY(slice_part(r, stop, &has_stop, &to));
    TERN_TRY(slice_part(r, step, &has_step, &by));
    if (by == 0)
        TERN_RAISE(r, "slice step cannot be zero");
    slice_range((int64_t)tern_value_length(v), has_start, &from, has_stop, to, by, &count);
    if (v.kind == TERN_V_STRING && by == 1)
        return tern_string_part(r, v.as.string, count ? (size_t)from : 0, count ? (size_t)from + count : 0, out);
    tern_value list = v;
    if (v.kind == TERN_V_STRING) /* its characters by number */
        TERN_TRY(tern_value_to_list(r, v, &list));
    tern_value items;
    TERN_TRY(tern_render_spend(r, count));
    TERN_TRY(tern_value_list(r, v.kind == TERN_V_TUPLE ? TERN_V_TUPLE : TERN_V_LIST, count, &items));
    for (size_t i = 0; i < count; i++) {
        tern_value item;

        TERN_TRY(tern_value_at(r, list, (size_t)(from + (int64_t)i * by), &item));
        TERN_TRY(tern_list_push(r, items.as.list, item));
    }
    *out = items;
    if (v.kind == TERN_V_RANGE) {
        struct tern_vrange *range;

        TERN_TRY(TERN_RENDER_TAKE(r, 1, &range));
        range->start = count ? items.as.list->items[0].as.integer : 0;
        range->step = v.as.range->step * (by > 1000000 ? 1000000 : by < -1000000 ? -1000000 : by);
        range->count = count;
        range->stop = range->start + (int64_t)count * range->step;
        *out = (tern_value){ .kind = TERN_V_RANGE, .as.range = range };
    }
    if (v.kind == TERN_V_STRING) {
        const struct tern_vstring nothing = { .data = "" };

        return tern_string_join(r, &nothing, items, false, out);
    }
    return TERN_OK;
}

/* ---- operators ---- */

static const char *operator_text(enum tern_operator op)
{
    static const char *const texts[] = {
        [TERN_OP_ADD] = "+",       [TERN_OP_SUB] = "-", [TERN_OP_MUL] = "*",           [TERN_OP_DIV] = "/",
        [TERN_OP_FLOORDIV] = "//", [TERN_OP_MOD] = "%", [TERN_OP_POW] = "** or pow()",
    };

    return texts[op];
}

static tern_status int_pow(struct tern_render *r, int64_t a, int64_t b, tern_value *out)
{
    int64_t result = 1;

    if (b < 0) {
        if (a == 0)
            TERN_RAISE(r, "0.0 cannot be raised to a negative power");
        *out = TERN_FLOAT_VALUE(pow((double)a, (double)b));
        return TERN_OK;
    }
    for (; b > 0; b >>= 1) {
        if ((b & 1) && __builtin_mul_overflow(result, a, &result))
            TERN_RAISE(r, "an integer with more than 64 bits");
        if (b > 1 && __builtin_mul_overflow(a, a, &a))
            TERN_RAISE(r, "an integer with more than 64 bits");
    }
    *out = TERN_INT_VALUE(result);
    return TERN_OK;
}

__extension__ typedef unsigned __int128 wide;

/* a / b rounded once, as Python has it, also where a or b is no double. */
static double divide_ints(int64_t a, int64_t b)
{
    const uint64_t limit = (uint64_t)1 << 53;
    uint64_t x = a < 0 ? 0 - (uint64_t)a : (uint64_t)a, y = b < 0 ? 0 - (uint64_t)b : (uint64_t)b;
    int shift, drop = 0;

    if (x <= limit && y <= limit)
        return (double)a / (double)b;
    if (x == 0)
        return b < 0 ? -0.0 : 0.0;
    shift = __builtin_clzll(x);
    const wide n = (wide)(x << shift) << 64;
    wide quotient = n / y; /* at least 64 bits of it */
    bool rest = n % y != 0;
    for (; quotient >> 64; drop++) {
        rest = rest || (quotient & 1);
        quotient >>= 1;
    }
    const double magnitude = ldexp((double)((uint64_t)quotient | rest), drop - 64 - shift);
    return (a < 0) != (b < 0) ? -magnitude : magnitude;
}

static tern_status int_binary(struct tern_render *r, enum tern_operator op, int64_t a, int64_t b, tern_value *out)
{
    int64_t result = 0;
    bool overflow = false;

    if (b == 0 && (op == TERN_OP_DIV || op == TERN_OP_FLOORDIV || op == TERN_OP_MOD))
        TERN_RAISE(r, op == TERN_OP_DIV ? "division by zero" : "integer division or modulo by zero");
    switch (op) {
    case TERN_OP_ADD:
        overflow = __builtin_add_overflow(a, b, &result);
        break;
    case TERN_OP_SUB:
        overflow = __builtin_sub_overflow(a, b, &result);
        break;
    case TERN_OP_MUL:
        overflow = __builtin_mul_overflow(a, b, &result);
        break;
    case TERN_OP_DIV:
        *out = TERN_FLOAT_VALUE(divide_ints(a, b));
        return TERN_OK;
    case TERN_OP_FLOORDIV:
    case TERN_OP_MOD:
        overflow = a == INT64_MIN && b == -1 && op == TERN_OP_FLOORDIV;
        if (b == -1) {
            result = overflow || op == TERN_OP_MOD ? 0 : -a;
        } else {
            const int64_t quotient = a / b, rest = a % b;
            const bool down = rest != 0 && (rest < 0) != (b < 0);

            result = op == TERN_OP_MOD ? rest + (down ? b : 0) : quotient - down;
        }
        break;
    default:
        return int_pow(r, a, b, out);
    }
    if (overflow)
        TERN_RAISE(r, "an integer with more than 64 bits");
    *out = TERN_INT_VALUE(result);
    return TERN_OK;
}

/* Python's float %, whose result has the divisor's sign, and the quotient that goes with it. */
static double float_mod(double a, double b, double *quotient)
{
    double rest = fmod(a, b), div = (a - rest) / b;

    if (rest != 0) {
        if ((b < 0) != (rest < 0)) {
            rest += b;
            div -= 1;
        }
    } else {
        rest = copysign(0, b);
    }
    if (div != 0) {
        *quotient = floor(div);
        if (div - *quotient > 0.5)
            *quotient += 1;
    } else {
        *quotient = copysign(0, a / b);
    }
    return rest;
}

static tern_status float_binary(struct tern_render *r, enum tern_operator op, double a, double b, tern_value *out)
{
    double result, quotient;

    if (b == 0 && (op == TERN_OP_DIV || op == TERN_OP_FLOORDIV || op == TERN_OP_MOD))
        TERN_RAISE(r, op == TERN_OP_DIV ? "float division by zero" : "float floor division by zero");
    switch (op) {
    case TERN_OP_ADD:
        result = a + b;
        break;
    case TERN_OP_SUB:
        result = a - b;
        break;
    case TERN_OP_MUL:
        result = a * b;
        break;
    case TERN_OP_DIV:
        result = a / b;
        break;
    case TERN_OP_MOD:
        result = float_mod(a, b, &quotient);
        break;
    case TERN_OP_FLOORDIV:
        (void)float_mod(a, b, &quotient);
        result = quotient;
        break;
    default:
        if (a == 0 && b < 0)
            TERN_RAISE(r, "0.0 cannot be raised to a negative power");
        result = pow(a, b);
        if (isnan(result) && !isnan(a) && !isnan(b))
            TERN_RAISE(r, "a negative number to a fractional power is a complex number");
        if (isinf(result) && isfinite(a) && isfinite(b))
            TERN_RAISE(r, "(34, 'Numerical result out of range')");
        break;
    }
    *out = TERN_FLOAT_VALUE(result);
    return TERN_OK;
}

/* "ab" * 3, [1] * 3. */
static tern_status repeat(struct tern_render *r, tern_value v, int64_t times, tern_value *out)
{
    if (v.kind == TERN_V_STRING) {
        struct tern_out text = { 0 };

        for (int64_t i = 0; i < times && v.as.string->size > 0; i++) {
            TERN_TRY(tern_render_spend(r, 1));
            TERN_TRY(tern_out_put(r, &text, v.as.string->data, v.as.string->size));
        }
        return tern_out_string(r, &text, out);
    }
    tern_value list;
    TERN_TRY(tern_value_list(r, v.kind, 0, &list));
    for (int64_t i = 0; i < times && v.as.list->count > 0; i++)
        for (size_t k = 0; k < v.as.list->count; k++) {
            TERN_TRY(tern_render_spend(r, 1));
            TERN_TRY(tern_list_push(r, list.as.list, v.as.list->items[k]));
        }
    *out = list;
    return TERN_OK;
}

static tern_status add_strings(struct tern_render *r, tern_value a, tern_value b, tern_value *out)
{
    const bool markup = a.as.string->markup || b.as.string->markup;

    if (markup && !a.as.string->markup)
        TERN_TRY(tern_string_escape(r, a.as.string, &a));
    if (markup && !b.as.string->markup)
        TERN_TRY(tern_string_escape(r, b.as.string, &b));
    TERN_TRY(tern_string_concat(r, a.as.string, b.as.string, out));
    return markup ? tern_string_mark(r, out->as.string, true, out) : TERN_OK;
}

static bool is_repeatable(tern_value v)
{
    return v.kind == TERN_V_STRING || v.kind == TERN_V_LIST || v.kind == TERN_V_TUPLE;
}

tern_status tern_value_binary(struct tern_render *r, enum tern_operator op, tern_value a, tern_value b, tern_value *out)
{
    if (a.kind == TERN_V_STRING && op == TERN_OP_MOD)
        return tern_string_percent(r, a.as.string, b, out);
    if (a.kind == TERN_V_UNDEFINED || b.kind == TERN_V_UNDEFINED)
        return tern_undefined_used(r, a.kind == TERN_V_UNDEFINED ? a : b);
    if (tern_value_is_int(a) && tern_value_is_int(b))
        return int_binary(r, op, tern_value_int(a), tern_value_int(b), out);
    if (tern_value_is_number(a) && tern_value_is_number(b))
        return float_binary(r, op, tern_value_real(a), tern_value_real(b), out);
    if (op == TERN_OP_ADD && a.kind == TERN_V_STRING && b.kind == TERN_V_STRING)
        return add_strings(r, a, b, out);
    if (op == TERN_OP_ADD && a.kind == b.kind && (a.kind == TERN_V_LIST || a.kind == TERN_V_TUPLE)) {
        tern_value list;

        TERN_TRY(tern_render_spend(r, a.as.list->count + b.as.list->count));
        TERN_TRY(tern_value_list(r, a.kind, a.as.list->count + b.as.list->count, &list));
        for (size_t i = 0; i < a.as.list->count; i++)
            TERN_TRY(tern_list_push(r, list.as.list, a.as.list->items[i]));
        for (size_t i = 0; i < b.as.list->count; i++)
            TERN_TRY(tern_list_push(r, list.as.list, b.as.list->items[i]));
        *out = list;
        return TERN_OK;
    }
    if (op == TERN_OP_MUL && is_repeatable(a) && tern_value_is_int(b))
        return repeat(r, a, tern_value_int(b), out);
    if (op == TERN_OP_MUL && is_repeatable(b) && tern_value_is_int(a))
        return repeat(r, b, tern_value_int(a), out);
    if (op == TERN_OP_ADD && a.kind == TERN_V_STRING)
        TERN_RAISE(r, "can only concatenate str (not \"%s\") to str", tern_value_type(b));
    TERN_RAISE(r, "unsupported operand type(s) for %s: '%s' and '%s'", operator_text(op), tern_value_type(a),
               tern_value_type(b));
}

static tern_status compare(struct tern_render *r, enum tern_operator op, tern_value a, tern_value b, bool *out)
{
    switch (op) {
    case TERN_OP_EQ:
        return tern_value_equal(r, a, b, out);
    case TERN_OP_NE:
        TERN_TRY(tern_value_equal(r, a, b, out));
        *out = !*out;
        return TERN_OK;
    case TERN_OP_IN:
        return tern_value_in(r, a, b, out);
    case TERN_OP_NOT_IN:
        TERN_TRY(tern_value_in(r, a, b, out));
        *out = !*out;
        return TERN_OK;
    default:
        return tern_value_ordered(r,
                                  op == TERN_OP_LT   ? '<'
                                  : op == TERN_OP_LE ? 'l'
                                  : op == TERN_OP_GT ? '>'
                                                     : 'g',
                                  a, b, out);
    }
}

/* ---- the tree ---- */

static tern_status eval_name(struct tern_render *r, const struct tern_node *node, tern_value *out)
{
    const tern_value *v = tern_scope_find(r->scope, node->name);
    const struct tern_function *function;

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
        TERN_TRY(compare(r, node->items[i]->op, left, right, &holds));
        left = right;
    }
    *out = TERN_BOOL_VALUE(holds);
    return TERN_OK;
}

static tern_status eval_unary(struct tern_render *r, const struct tern_node *node, tern_value *out)
{
    tern_value v;

    TERN_TRY(tern_eval(r, node->a, &v));
    if (v.kind == TERN_V_UNDEFINED)
        return tern_undefined_used(r, v);
    if (!tern_value_is_number(v))
        TERN_RAISE(r, "bad operand type for unary %s: '%s'", operator_text(node->op), tern_value_type(v));
    if (v.kind == TERN_V_FLOAT) {
        *out = TERN_FLOAT_VALUE(node->op == TERN_OP_SUB ? -v.as.real : v.as.real);
        return TERN_OK;
    }
    if (node->op == TERN_OP_SUB)
        return int_binary(r, TERN_OP_SUB, 0, tern_value_int(v), out);
    *out = TERN_INT_VALUE(tern_value_int(v));
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
        return eval_unary(r, node, out);
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
