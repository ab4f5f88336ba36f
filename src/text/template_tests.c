/* template_tests.c: value is test. */
#include "text/template_render.h"

#include <math.h>

#define TEST(name) static tern_status name(struct tern_render *r, tern_value v, const struct tern_call *call, bool *out)

static tern_status no_args(struct tern_render *r, const struct tern_call *call)
{
    return tern_call_bind(r, "the test", call, "", 0, NULL, 0);
}

static tern_status one_arg(struct tern_render *r, const struct tern_call *call, tern_value *arg)
{
    return tern_call_bind(r, "the test", call, "other", 1, arg, 1);
}

#define KIND_TEST(name, condition) \
    TEST(name)                     \
    {                              \
        (void)v;                   \
        *out = (condition);        \
        return no_args(r, call);   \
    }

KIND_TEST(is_defined, v.kind != TERN_V_UNDEFINED)
KIND_TEST(is_undefined, v.kind == TERN_V_UNDEFINED)
KIND_TEST(is_none, v.kind == TERN_V_NONE)
KIND_TEST(is_boolean, v.kind == TERN_V_BOOL)
KIND_TEST(is_true, v.kind == TERN_V_BOOL && v.as.boolean)
KIND_TEST(is_false, v.kind == TERN_V_BOOL && !v.as.boolean)
KIND_TEST(is_integer, v.kind == TERN_V_INT)
KIND_TEST(is_float, v.kind == TERN_V_FLOAT)
KIND_TEST(is_number, tern_value_is_number(v))
KIND_TEST(is_string, v.kind == TERN_V_STRING)
KIND_TEST(is_mapping, v.kind == TERN_V_DICT)
KIND_TEST(is_sequence, tern_value_has_length(v) && v.kind != TERN_V_VIEW)
KIND_TEST(is_iterable, tern_value_has_length(v) || v.kind == TERN_V_ITERATOR || v.kind == TERN_V_LOOP)
KIND_TEST(is_callable, v.kind == TERN_V_UNDEFINED || v.kind == TERN_V_FUNCTION || v.kind == TERN_V_METHOD ||
                           v.kind == TERN_V_MACRO || v.kind == TERN_V_LOOP || v.kind == TERN_V_JOINER)
KIND_TEST(is_escaped, v.kind == TERN_V_STRING && v.as.string->markup)

static tern_status is_cased(struct tern_render *r, tern_value v, const struct tern_call *call, bool upper, bool *out)
{
    TERN_TRY(no_args(r, call));
    TERN_TRY(tern_value_str(r, v, &v));
    return tern_string_is_cased(r, v.as.string, upper, out);
}

TEST(is_lower)
{
    return is_cased(r, v, call, false, out);
}

TEST(is_upper)
{
    return is_cased(r, v, call, true, out);
}

static tern_status remainder_is(struct tern_render *r, tern_value v, tern_value by, int64_t wanted, bool *out)
{
    TERN_TRY(tern_value_binary(r, TERN_OP_MOD, v, by, &v));
    return tern_value_equal(r, v, TERN_INT_VALUE(wanted), out);
}

/* A look into jinja2's dict of names: what cannot be a key is an error. */
static tern_status is_name(struct tern_render *r, tern_value v, const struct tern_call *call, bool found, bool *out)
{
    uint64_t hash;

    TERN_TRY(tern_value_hash(r, v, &hash));
    *out = found;
    return no_args(r, call);
}

TEST(is_filter)
{
    return is_name(r, v, call, v.kind == TERN_V_STRING && tern_filter_find(v.as.string->data, v.as.string->size), out);
}

TEST(is_test)
{
    return is_name(r, v, call, v.kind == TERN_V_STRING && tern_test_find(v.as.string->data, v.as.string->size), out);
}

TEST(is_odd)
{
    TERN_TRY(no_args(r, call));
    return remainder_is(r, v, TERN_INT_VALUE(2), 1, out);
}

TEST(is_even)
{
    TERN_TRY(no_args(r, call));
    return remainder_is(r, v, TERN_INT_VALUE(2), 0, out);
}

TEST(is_divisible)
{
    tern_value by;

    TERN_TRY(tern_call_bind(r, "divisibleby", call, "num", 1, &by, 1));
    return remainder_is(r, v, by, 0, out);
}

TEST(is_same)
{
    tern_value other;

    TERN_TRY(one_arg(r, call, &other));
    *out = false;
    if (v.kind != other.kind)
        return TERN_OK;
    if (v.kind == TERN_V_INT || v.kind == TERN_V_BOOL || v.kind == TERN_V_NONE)
        return tern_value_equal(r, v, other, out);
    if (v.kind == TERN_V_STRING) { /* one object, or what Python would make one: short constants */
        *out = v.as.string == other.as.string || v.as.string->data == other.as.string->data;
        return TERN_OK;
    }
    *out = v.kind != TERN_V_FLOAT && v.as.identity == other.as.identity;
    return TERN_OK;
}

TEST(is_in)
{
    tern_value container;

    TERN_TRY(tern_call_bind(r, "in", call, "seq", 1, &container, 1));
    return tern_value_in(r, v, container, out);
}

TEST(is_equal)
{
    tern_value other;

    TERN_TRY(one_arg(r, call, &other));
    return tern_value_equal(r, v, other, out);
}

TEST(is_unequal)
{
    TERN_TRY(is_equal(r, v, call, out));
    *out = !*out;
    return TERN_OK;
}

#define ORDER_TEST(name, op)                             \
    TEST(name)                                           \
    {                                                    \
        tern_value other;                                \
                                                         \
        TERN_TRY(one_arg(r, call, &other));              \
        return tern_value_ordered(r, op, v, other, out); \
    }

ORDER_TEST(is_less, '<')
ORDER_TEST(is_at_most, 'l')
ORDER_TEST(is_greater, '>')
ORDER_TEST(is_at_least, 'g')

static const struct tern_test tests[] = {
    { "odd", is_odd },
    { "even", is_even },
    { "divisibleby", is_divisible },
    { "defined", is_defined },
    { "undefined", is_undefined },
    { "filter", is_filter },
    { "test", is_test },
    { "none", is_none },
    { "boolean", is_boolean },
    { "false", is_false },
    { "true", is_true },
    { "integer", is_integer },
    { "float", is_float },
    { "lower", is_lower },
    { "upper", is_upper },
    { "string", is_string },
    { "mapping", is_mapping },
    { "number", is_number },
    { "sequence", is_sequence },
    { "iterable", is_iterable },
    { "callable", is_callable },
    { "sameas", is_same },
    { "escaped", is_escaped },
    { "in", is_in },
    { "==", is_equal },
    { "eq", is_equal },
    { "equalto", is_equal },
    { "!=", is_unequal },
    { "ne", is_unequal },
    { ">", is_greater },
    { "gt", is_greater },
    { "greaterthan", is_greater },
    { "ge", is_at_least },
    { ">=", is_at_least },
    { "<", is_less },
    { "lt", is_less },
    { "lessthan", is_less },
    { "<=", is_at_most },
    { "le", is_at_most },
};

const struct tern_test *tern_test_find(const char *name, size_t size)
{
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
        if (strlen(tests[i].name) == size && memcmp(tests[i].name, name, size) == 0)
            return &tests[i];
    return NULL;
}
