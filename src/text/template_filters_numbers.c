/* template_filters_numbers.c: jinja2's filters of numbers. */
#include "text/template_filter.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static tern_status real_to_int(struct tern_render *r, double x, bool *ok, int64_t *out)
{
    *ok = isfinite(x);
    if (*ok && !(x > -9223372036854775808.0 && x < 9223372036854775808.0))
        TERN_RAISE(r, "an integer with more than 64 bits");
    if (*ok)
        *out = (int64_t)x;
    return TERN_OK;
}

TERN_FILTER(int)
{
    enum { STANDARD, BASE, N };
    tern_value args[N];
    int64_t base, number = 0;
    double x;
    bool ok = false;

    TERN_TRY(tern_call_bind(r, "int", call, "default, base", 0, args, N));
    TERN_TRY(tern_argument_int(r, "int: base", args[BASE], 10, &base));
    if (v.kind == TERN_V_UNDEFINED)
        return tern_undefined_used(r, v);
    if (tern_value_is_int(v)) {
        number = tern_value_int(v);
        ok = true;
    } else if (v.kind == TERN_V_FLOAT) {
        TERN_TRY(real_to_int(r, v.as.real, &ok, &number));
    } else if (v.kind == TERN_V_STRING) {
        TERN_TRY(tern_check_digits(r, v.as.string));
        TERN_TRY(tern_int_parse(r, v.as.string, base, &number, &ok));
        if (!ok && tern_float_parse(v.as.string, &x))
            TERN_TRY(real_to_int(r, x, &ok, &number));
    }
    *out = ok ? TERN_INT_VALUE(number) : tern_value_is_absent(args[STANDARD]) ? TERN_INT_VALUE(0) : args[STANDARD];
    return TERN_OK;
}

TERN_FILTER(float)
{
    tern_value standard;
    double x;

    TERN_TRY(tern_call_bind(r, "float", call, "default", 0, &standard, 1));
    if (v.kind == TERN_V_UNDEFINED)
        return tern_undefined_used(r, v);
    if (v.kind == TERN_V_STRING)
        TERN_TRY(tern_check_digits(r, v.as.string));
    if (tern_value_is_number(v))
        *out = TERN_FLOAT_VALUE(tern_value_real(v));
    else if (v.kind == TERN_V_STRING && tern_float_parse(v.as.string, &x))
        *out = TERN_FLOAT_VALUE(x);
    else
        *out = tern_value_is_absent(standard) ? TERN_FLOAT_VALUE(0) : standard;
    return TERN_OK;
}

TERN_FILTER(abs)
{
    TERN_TRY(tern_filter_no_args(r, "abs", call));
    if (v.kind == TERN_V_UNDEFINED)
        return tern_undefined_used(r, v);
    if (!tern_value_is_number(v))
        TERN_RAISE(r, "bad operand type for abs(): '%s'", tern_value_type(v));
    if (v.kind == TERN_V_FLOAT)
        *out = TERN_FLOAT_VALUE(fabs(v.as.real));
    else if (tern_value_int(v) == INT64_MIN)
        TERN_RAISE(r, "an integer with more than 64 bits");
    else
        *out = TERN_INT_VALUE(tern_value_int(v) < 0 ? -tern_value_int(v) : tern_value_int(v));
    return TERN_OK;
}

/* Python's round(x, n): to nearest by the exact decimal value of x, ties to even. */
static double round_real(double x, int64_t precision)
{
    char text[700];

    if (!isfinite(x) || precision > 330)
        return x;
    if (precision < -330)
        return copysign(0, x);
    if (precision >= 0) {
        snprintf(text, sizeof text, "%.*f", (int)precision, x);
        return strtod(text, NULL);
    }
    const double unit = pow(10, (double)-precision);
    return nearbyint(x / unit) * unit;
}

static tern_status round_int(struct tern_render *r, int64_t i, int64_t precision, tern_value *out)
{
    int64_t unit = 1;

    for (; precision < 0; precision++)
        if (__builtin_mul_overflow(unit, 10, &unit)) {
            *out = TERN_INT_VALUE(0);
            return TERN_OK;
        }
    int64_t rest = i % unit, down = i - rest;
    if (rest < 0) {
        rest += unit;
        if (__builtin_sub_overflow(down, unit, &down))
            TERN_RAISE(r, "an integer with more than 64 bits");
    }
    if ((rest > unit - rest || (rest == unit - rest && down / unit % 2 != 0)) &&
        __builtin_add_overflow(down, unit, &down))
        TERN_RAISE(r, "an integer with more than 64 bits");
    *out = TERN_INT_VALUE(down);
    return TERN_OK;
}

TERN_FILTER(round)
{
    enum { PRECISION, METHOD, N };
    tern_value args[N], scale, scaled, whole;
    int64_t precision;

    TERN_TRY(tern_call_bind(r, "round", call, "precision, method", 0, args, N));
    TERN_TRY(tern_argument_int(r, "round: precision", args[PRECISION], 0, &precision));
    if (v.kind == TERN_V_UNDEFINED)
        return tern_undefined_used(r, v);
    if (!tern_value_is_number(v))
        TERN_RAISE(r, "type %s doesn't define __round__ method", tern_value_type(v));
    const bool common = tern_value_is_absent(args[METHOD]) || tern_string_is(args[METHOD], "common");
    if (!common && !tern_string_is(args[METHOD], "ceil") && !tern_string_is(args[METHOD], "floor"))
        TERN_RAISE(r, "method must be common, ceil or floor");
    if (common) {
        if (v.kind != TERN_V_FLOAT)
            return round_int(r, tern_value_int(v), precision, out);
        *out = TERN_FLOAT_VALUE(round_real(v.as.real, precision));
        return TERN_OK;
    }
    TERN_TRY(tern_value_binary(r, TERN_OP_POW, TERN_INT_VALUE(10), TERN_INT_VALUE(precision), &scale));
    TERN_TRY(tern_value_binary(r, TERN_OP_MUL, v, scale, &scaled));
    whole = scaled;
    if (scaled.kind == TERN_V_FLOAT) {
        int64_t number = 0;
        bool ok;

        TERN_TRY(real_to_int(r, tern_string_is(args[METHOD], "ceil") ? ceil(scaled.as.real) : floor(scaled.as.real),
                             &ok, &number));
        if (!ok)
            TERN_RAISE(r, "cannot convert a float that is not finite to integer");
        whole = TERN_INT_VALUE(number);
    }
    return tern_value_binary(r, TERN_OP_DIV, whole, scale, out);
}

TERN_FILTER(sum)
{
    enum { ATTRIBUTE, START, N };
    tern_value args[N], item;
    struct tern_path path;
    struct tern_viter *it;
    bool done;

    TERN_TRY(tern_call_bind(r, "sum", call, "attribute, start", 0, args, N));
    TERN_TRY(tern_path_make(r, args[ATTRIBUTE], false, &path));
    *out = tern_value_is_absent(args[START]) ? TERN_INT_VALUE(0) : args[START];
    if (out->kind == TERN_V_STRING)
        TERN_RAISE(r, "sum() can't sum strings [use ''.join(seq) instead]");
    TERN_TRY(tern_value_iter(r, v, &it));
    for (;;) {
        TERN_TRY(tern_iter_next(r, it, &item, &done));
        if (done)
            return TERN_OK;
        TERN_TRY(tern_path_follow(r, &path, item, &item));
        TERN_TRY(tern_value_binary(r, TERN_OP_ADD, *out, item, out));
    }
}
