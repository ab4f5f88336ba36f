/* template_arithmetic.c: operators between values, as Python has them. */
#include "text/template_render.h"

#include <math.h>

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

tern_status tern_value_unary(struct tern_render *r, enum tern_operator op, tern_value v, tern_value *out)
{
    if (v.kind == TERN_V_UNDEFINED)
        return tern_undefined_used(r, v);
    if (!tern_value_is_number(v))
        TERN_RAISE(r, "bad operand type for unary %s: '%s'", operator_text(op), tern_value_type(v));
    if (v.kind == TERN_V_FLOAT) {
        *out = TERN_FLOAT_VALUE(op == TERN_OP_SUB ? -v.as.real : v.as.real);
        return TERN_OK;
    }
    if (op == TERN_OP_SUB)
        return int_binary(r, TERN_OP_SUB, 0, tern_value_int(v), out);
    *out = TERN_INT_VALUE(tern_value_int(v));
    return TERN_OK;
}

tern_status tern_value_compare(struct tern_render *r, enum tern_operator op, tern_value a, tern_value b, bool *out)
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
