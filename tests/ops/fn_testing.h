/* fn_testing.h: stored tensors of any dtype for tests of the kernel functions.
 *
 * Conversions are written here in f64 arithmetic, without a look at the kernels.  Bounds: what a function computes in fp32
 * has its own error, relative to the largest result as in test_near; the one rounding at the store adds half a unit in the last
 * place.  bf16 has 8 significant bits, fp16 11: in [2^e, 2^(e+1)) half a unit is 2^(e-8) and 2^(e-11), which is at most 2^-8 and 2^-11
 * of the value; 2^-25 where fp16 is subnormal. */
#ifndef TERN_FN_TESTING_H
#define TERN_FN_TESTING_H

#include "ops/op_testing.h"

#include <tern/function.h>

static const tern_dtype fn_dtypes[] = { TERN_FP32, TERN_FP16, TERN_BF16 };
#define FN_EACH_DTYPE(d) for (size_t d##_ = 0, d = TERN_FP32; d##_ < 3 && (d = fn_dtypes[d##_], true); d##_++)

/* x to nearest even with `bits` bits of fraction, exponents from `low` on. */
static inline double fn_round(double x, int bits, int low)
{
    int e;

    if (x == 0 || !isfinite(x))
        return x;
    (void)frexp(x, &e);
    e = e - 1 < low ? low : e - 1;
    return ldexp(rint(ldexp(x, bits - e)), e - bits);
}

static inline void fn_put(void *data, tern_dtype dtype, size_t i, double x)
{
    if (dtype == TERN_FP32) {
        ((float *)data)[i] = (float)x;
    } else if (dtype == TERN_BF16) {
        const float f = (float)fn_round(x, 7, -126);
        uint32_t bits;
        memcpy(&bits, &f, sizeof bits);
        ((uint16_t *)data)[i] = (uint16_t)(bits >> 16);
    } else {
        const double r = fn_round(x, 10, -14), a = fabs(r);
        int e = 0;
        uint16_t bits;
        if (isnan(a)) {
            bits = 0x7e00;
        } else if (a >= 65520) {
            bits = 0x7c00;
        } else if (a < 0x1p-14) {
            bits = (uint16_t)ldexp(a, 24);
        } else {
            const double f = frexp(a, &e);
            bits = (uint16_t)((e + 14) << 10 | ((int)ldexp(f, 11) - 1024));
        }
        ((uint16_t *)data)[i] = signbit(r) ? bits | 0x8000 : bits;
    }
}

static inline double fn_get(const void *data, tern_dtype dtype, size_t i)
{
    if (dtype == TERN_FP32)
        return (double)((const float *)data)[i];
    const uint16_t h = ((const uint16_t *)data)[i];
    if (dtype == TERN_BF16) {
        const uint32_t bits = (uint32_t)h << 16;
        float f;
        memcpy(&f, &bits, sizeof f);
        return (double)f;
    }
    const int e = h >> 10 & 31, m = h & 1023;
    const double a = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h & 0x8000 ? -a : a;
}

static inline size_t fn_elements(const tern_tensor *t)
{
    size_t n = 1;

    for (int i = 0; i < t->rank; i++)
        n *= (size_t)t->dim[i];
    return n;
}

#define FN_POISON 0x5a

/* A poisoned tensor; sizes end at the first -1. */
static inline tern_tensor fn_out(tern_dtype dtype, const int64_t *dim)
{
    int rank = 0;

    while (dim[rank] >= 0)
        rank++;
    tern_tensor t = tern_tensor_view(NULL, dtype, rank, dim);
    const size_t bytes = fn_elements(&t) * tern_dtype_size(dtype);
    t.data = test_bytes(bytes + 64);
    memset(t.data, FN_POISON, bytes);
    memset((char *)t.data + bytes, 0, 64);
    return t;
}
#define FN_OUT(dtype, ...) fn_out((tern_dtype)(dtype), (int64_t[]){ __VA_ARGS__, -1 })

/* Numbers from N(0, scale), rounded to the dtype. */
static inline tern_tensor fn_in(tern_dtype dtype, float scale, const int64_t *dim)
{
    tern_tensor t = fn_out(dtype, dim);

    for (size_t i = 0; i < fn_elements(&t); i++)
        fn_put(t.data, dtype, i, (double)(scale * test_normal(&test_seed)));
    return t;
}
#define FN_IN(dtype, scale, ...) fn_in((tern_dtype)(dtype), (scale), (int64_t[]){ __VA_ARGS__, -1 })

/* One value everywhere. */
static inline tern_tensor fn_filled(tern_dtype dtype, double x, const int64_t *dim)
{
    tern_tensor t = fn_out(dtype, dim);

    for (size_t i = 0; i < fn_elements(&t); i++)
        fn_put(t.data, dtype, i, x);
    return t;
}
#define FN_FILLED(dtype, x, ...) fn_filled((tern_dtype)(dtype), (x), (int64_t[]){ __VA_ARGS__, -1 })

/* int32 numbers. */
static inline tern_tensor fn_ints(const int32_t *values, const int64_t *dim)
{
    tern_tensor t = fn_out(TERN_INT32, dim);

    if (fn_elements(&t))
        memcpy(t.data, values, fn_elements(&t) * sizeof *values);
    return t;
}

static inline double fn_at(const tern_tensor *t, size_t i)
{
    return fn_get(t->data, t->dtype, i);
}

/* All numbers in f64. */
static inline double *fn_doubles(const tern_tensor *t)
{
    double *d = test_doubles(fn_elements(t));

    for (size_t i = 0; i < fn_elements(t); i++)
        d[i] = fn_at(t, i);
    return d;
}

/* Half a unit in the last place of a stored x. */
static inline double fn_half_ulp(tern_dtype dtype, double x)
{
    const double a = fabs(x);

    return dtype == TERN_FP32 ? 0 : dtype == TERN_BF16 ? fmax(a * 0x1p-8, 0x1p-134) : fmax(a * 0x1p-11, 0x1p-25);
}

/* Every element within `bound` of the largest |want| (of 1/4 at least: inputs have size 1), and half a unit of its dtype. */
static inline void fn_near(const tern_tensor *got, const double *want, double bound, const char *what)
{
    const size_t n = fn_elements(got);
    const double scale = fmax(test_largest(want, n), 0.25);

    for (size_t i = 0; i < n; i++) {
        const double g = fn_at(got, i), half = fn_half_ulp(got->dtype, want[i]);
        if (!(fabs(g - want[i]) <= half + 1.01 * bound * scale))
            fail_msg("%s in %s: element %zu of %zu is %.9g, expected %.9g (half a unit %.1e, fp32 %.1e of %.3g)", what,
                     tern_dtype_name(got->dtype), i, n, g, want[i], half, bound, scale);
    }
}

static inline void fn_same(const tern_tensor *got, const void *want, const char *what)
{
    if (memcmp(got->data, want, fn_elements(got) * tern_dtype_size(got->dtype)) != 0)
        fail_msg("%s in %s: other bits", what, tern_dtype_name(got->dtype));
}

static inline void *fn_keep(const tern_tensor *t)
{
    const size_t bytes = fn_elements(t) * tern_dtype_size(t->dtype);
    void *copy = test_bytes(bytes);

    memcpy(copy, t->data, bytes);
    return copy;
}

/* The bytes behind a tensor are 0, as fn_out made them. */
static inline void fn_nothing_behind(const tern_tensor *t)
{
    const char *p = (const char *)t->data + fn_elements(t) * tern_dtype_size(t->dtype);

    for (size_t i = 0; i < 64; i++)
        assert_int_equal(p[i], 0);
}

static inline bool fn_untouched(const tern_tensor *t)
{
    for (size_t i = 0; i < fn_elements(t) * tern_dtype_size(t->dtype); i++)
        if (((const unsigned char *)t->data)[i] != FN_POISON)
            return false;
    return true;
}

#endif
