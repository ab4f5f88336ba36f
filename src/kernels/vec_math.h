/* vec_math.h: exp, tanh and the activations on v16.  Coefficients: tools/fit_polynomials.py.
 *
 * Degrees, and the largest errors over every seventh float:
 *   exp    1 + r + r^2 P4(r), |r| <= ln(2) / 2                       0.99 ulp, denormal results too
 *   2^x    1 + r P5(r), |r| <= 1 / 2                                 1.02 ulp
 *   tanh   below 0.625 x + x^3 P4(x^2), above (1 - e) / (1 + e)      1.51 ulp
 *   Q      2^(-1 + |x| P7(|x|)), x Q(x) to                           4.7e-8
 * The same operations at every level, therefore the same bits. */
#ifndef TERN_KERNELS_VEC_MATH_H
#define TERN_KERNELS_VEC_MATH_H

#include "kernels/kernels.h"
#include "kernels/vec.h"

V16_FN v16 v16_add1(v16 x)
{
    return v16_add(x, v16_set1(1));
}

V16_FN v16 v16_fma1(v16 a, v16 b, float c)
{
    return v16_fma(a, b, v16_set1(c));
}

/* exp(x) for x <= 0, or a NaN, in two steps.  x = n ln 2 + r; ln 2 in two parts, the first short enough that n times it is exact.  The
 * argument is clamped to where the result is 0 anyway, which keeps n in scale's range; max hands a NaN through as its second operand.
 *
 * A row takes each step for many vectors (act.tmpl.c, softmax.tmpl.c): as one chain they would wait for each other's operations, of
 * which the scheduler holds those of a few vectors only. */
struct v16_exp_parts {
    v16 r, n;
};

V16_FN struct v16_exp_parts v16_exp_split(v16 x)
{
    x = v16_max(v16_set1(-104.5f), x);

    const v16 n = v16_rint(v16_mul(x, v16_set1(1.44269504f)));
    const struct v16_exp_parts parts = { v16_fnma(n, v16_set1(1.42860677e-6f), v16_fnma(n, v16_set1(0.693145752f), x)),
                                         n };
    return parts;
}

V16_FN v16 v16_exp_join(v16 r, v16 n)
{
    v16 p = v16_fma1(v16_set1(0.00138145604f), r, 0.0083687352f);

    p = v16_fma1(p, r, 0.041668389f);
    p = v16_fma1(p, r, 0.166665211f);
    p = v16_fma1(p, r, 0.49999994f);
    return v16_scale(v16_add1(v16_fma(v16_mul(r, r), p, r)), n);
}

V16_FN v16 v16_exp_negative(v16 x)
{
    const struct v16_exp_parts parts = v16_exp_split(x);
    return v16_exp_join(parts.r, parts.n);
}

/* 2^x in the same two steps, where r is exact: for exponents that are rounded anyway, whose factor takes log2(e) too.  x <= 0 or a
 * NaN. */
V16_FN struct v16_exp_parts v16_exp2_split_negative(v16 x)
{
    x = v16_max(v16_set1(-151), x);

    const v16 n = v16_rint(x);
    const struct v16_exp_parts parts = { v16_sub(x, n), n };
    return parts;
}

/* Any x: from 128.5 on the result is infinity. */
V16_FN struct v16_exp_parts v16_exp2_split(v16 x)
{
    return v16_exp2_split_negative(v16_min(v16_set1(128.5f), x));
}

V16_FN v16 v16_exp2_join(v16 r, v16 n)
{
    v16 p = v16_fma1(v16_set1(0.000155946764f), r, 0.00134066434f);

    p = v16_fma1(p, r, 0.00961769279f);
    p = v16_fma1(p, r, 0.0555031039f);
    p = v16_fma1(p, r, 0.240226522f);
    p = v16_fma1(p, r, 0.693147242f);
    return v16_scale(v16_fma1(p, r, 1), n);
}

/* Any x: from 89 on the result is infinity. */
V16_FN v16 v16_exp(v16 x)
{
    return v16_exp_negative(v16_min(v16_set1(89), x));
}

/* tanh(x) with e = exp(-2 |x|) */
V16_FN v16 v16_tanh_of(v16 x, v16 e)
{
    const v16 a = v16_abs(x), t = v16_mul(x, x);
    const v16 far = v16_div(v16_sub(v16_set1(1), e), v16_add1(e));
    v16 p = v16_fma1(v16_set1(-0.00570498733f), t, 0.020639088f);

    p = v16_fma1(p, t, -0.0537397154f);
    p = v16_fma1(p, t, 0.133314416f);
    p = v16_fma1(p, t, -0.333332807f);
    p = v16_fma(v16_mul(p, t), a, a);
    return v16_copysign(v16_select(v16_less(a, v16_set1(0.625f)), p, far), x);
}

/* -2u log2(e) with u = sqrt(2 / pi) (x + 0.044715 x^3): GELU is x / (1 + exp(-2u)), the same as with tanh(u), without its cancellation. */
V16_FN v16 v16_gelu_tanh_exponent(v16 x)
{
    const float u = -2 * 0.7978845608028654f * 1.44269504f;

    return v16_mul(x, v16_fma1(v16_mul(x, x), v16_set1(u * 0.044715f), u));
}

/* log2 Q(|x|), where Q(a) = erfc(a / sqrt 2) / 2: GELU is x Q(|x|) below 0 and x (1 - Q(|x|)) above, which needs neither erf near 0 nor a
 * difference from 1 that loses bits.  The polynomial is as exact as a Q(a) wants it, up to 5.6, where that is 6e-8; from there on it falls
 * faster than log2 Q, and Q with it. */
V16_FN v16 v16_gelu_erf_exponent(v16 x)
{
    const v16 a = v16_abs(x);
    v16 p = v16_fma1(v16_set1(-1.90206549e-06f), a, 2.8056942e-05f);

    p = v16_fma1(p, a, -0.000131473251f);
    p = v16_fma1(p, a, -0.000272075587f);
    p = v16_fma1(p, a, 0.00724542094f);
    p = v16_fma1(p, a, -0.0526276119f);
    p = v16_fma1(p, a, -0.459162146f);
    p = v16_fma1(p, a, -1.15111101f);
    return v16_fma1(p, a, -1);
}

V16_FN v16 v16_gelu_erf_of(v16 x, v16 q)
{
    return v16_mul(x, v16_select(v16_less(x, v16_set1(0)), q, v16_sub(v16_set1(1), q)));
}

/* Whether an activation is a function of x and an exponential, and these: act(x) = v16_act_of(x, v16_act_exp(x)), the exponential in the
 * steps of its exponent, which is a power of 2 or of e, and v16_act_split() and v16_act_join(). */
V16_FN bool v16_act_has_exp(enum tern_act act)
{
    return act != TERN_ACT_NONE && act != TERN_ACT_RELU && act != TERN_ACT_LEAKY_RELU;
}

V16_FN v16 v16_act_exponent(v16 x, enum tern_act act)
{
    switch (act) {
    case TERN_ACT_GELU_TANH:
        return v16_gelu_tanh_exponent(x);
    case TERN_ACT_GELU_ERF:
        return v16_gelu_erf_exponent(x);
    case TERN_ACT_GELU_SIGMOID:
        return v16_mul(x, v16_set1(-1.702f * 1.44269504f));
    case TERN_ACT_TANH:
        return v16_mul(v16_abs(x), v16_set1(-2));
    default:
        return v16_sub(v16_set1(0), x);
    }
}

V16_FN bool v16_act_is_exp2(enum tern_act act)
{
    return act == TERN_ACT_GELU_TANH || act == TERN_ACT_GELU_ERF || act == TERN_ACT_GELU_SIGMOID;
}

V16_FN struct v16_exp_parts v16_act_split(v16 exponent, enum tern_act act)
{
    if (act == TERN_ACT_GELU_ERF)
        return v16_exp2_split_negative(exponent);
    return v16_act_is_exp2(act) ? v16_exp2_split(exponent) : v16_exp_split(v16_min(v16_set1(89), exponent));
}

V16_FN v16 v16_act_join(v16 r, v16 n, enum tern_act act)
{
    return v16_act_is_exp2(act) ? v16_exp2_join(r, n) : v16_exp_join(r, n);
}

V16_FN v16 v16_act_exp(v16 x, enum tern_act act)
{
    const struct v16_exp_parts parts = v16_act_split(v16_act_exponent(x, act), act);
    return v16_act_join(parts.r, parts.n, act);
}

V16_FN v16 v16_act_of(v16 x, v16 e, enum tern_act act)
{
    if (act == TERN_ACT_GELU_ERF)
        return v16_gelu_erf_of(x, e);
    if (act == TERN_ACT_TANH)
        return v16_tanh_of(x, e);
    return v16_div(act == TERN_ACT_SIGMOID ? v16_set1(1) : x, v16_add1(e));
}

V16_FN v16 v16_tanh(v16 x)
{
    return v16_tanh_of(x, v16_act_exp(x, TERN_ACT_TANH));
}

V16_FN v16 v16_act(v16 x, enum tern_act act)
{
    switch (act) {
    case TERN_ACT_NONE:
        return x;
    case TERN_ACT_RELU:
        return v16_max(v16_set1(0), x); /* 0 > x ? 0 : x, so a NaN stays */
    case TERN_ACT_LEAKY_RELU:
        return v16_select(v16_less(x, v16_set1(0)), v16_mul(x, v16_set1(0.01f)), x);
    default:
        return v16_act_of(x, v16_act_exp(x, act), act);
    }
}

#endif
