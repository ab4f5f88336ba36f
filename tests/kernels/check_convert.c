/* check_convert.c: halves: all 65536 of them widened, and f32 around every half and half way between two narrowed. */
#include "tc.h"

static const size_t sizes[] = { 1, 7, 8, 9, 15, 16, 17, 31, 33, 100 };

static void check_widening(struct tc *t, tern_f32_from_f16_fn *ref, tern_f32_from_f16_fn *new)
{
    for (size_t s = 0; s < TC_COUNT(sizes); s++) {
        const size_t n = sizes[s];

        if (!tc_case(t, "n=%zu", n))
            continue;
        const uint16_t *x = tc_in_u16(t, n, TC_BITS);
        float *want = tc_out_f32(t, n), *got = tc_out_f32(t, n);

        ref(want, x, n);
        new (got, x, n);
        tc_same_f32(t, want, got, n);
    }
    if (tc_case(t, "all")) {
        uint16_t *x = tc_out_u16(t, 65536);
        float *want = tc_out_f32(t, 65536), *got = tc_out_f32(t, 65536);

        for (size_t i = 0; i < 65536; i++)
            x[i] = (uint16_t)i;
        ref(want, x, 65536);
        new (got, x, 65536);
        tc_same_f32(t, want, got, 65536);
    }
    if (tc_bench(t, 6.0 * 4096, 0, "n=4096")) {
        const uint16_t *x = tc_in_u16(t, 4096, TC_NORMAL);
        float *got = tc_out_f32(t, 4096);

        TC_TIME(t) new (got, x, 4096);
    }
}

/* NaNs are compared as NaNs: their bits are folded into one. */
static void fold_nan(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (isnan(x[i]) && (y[i] & 0x7f80) == 0x7f80)
            y[i] = 0x7fff;
        else if (isnan(x[i]) && (y[i] & 0x7c00) == 0x7c00 && (y[i] & 0x3ff))
            y[i] = 0x7fff;
}

static void check_narrowing(struct tc *t, tern_f32_from_f16_fn *widen, tern_f16_from_f32_fn *ref,
                            tern_f16_from_f32_fn *base, tern_f16_from_f32_fn *new)
{
    for (size_t s = 0; s < TC_COUNT(sizes); s++) {
        const size_t n = sizes[s];

        if (!tc_case(t, "n=%zu", n))
            continue;
        const float *x = tc_in_f32(t, n, TC_SPECIAL);
        uint16_t *want = tc_out_u16(t, n), *got = tc_out_u16(t, n);

        ref(want, x, n);
        new (got, x, n);
        fold_nan(want, x, n);
        fold_nan(got, x, n);
        tc_same_u16(t, want, got, n);
    }
    if (tc_case(t, "borders")) { /* for each half: itself, half way to the next, and the floats on both sides of that */
        uint16_t *h = tc_out_u16(t, 65536), *want = tc_out_u16(t, 65536), *got = tc_out_u16(t, 65536);
        float *at = tc_out_f32(t, 65536), *x = tc_out_f32(t, 65536);

        for (size_t i = 0; i < 65536; i++)
            h[i] = (uint16_t)i;
        widen(at, h, 65536);
        for (int side = -1; side <= 2; side++) {
            for (size_t i = 0; i < 65536; i++) {
                const float next = at[i % 0x8000 == 0x7fff ? i : i + 1];
                const float middle = isinf(next) ? at[i] * 1.0004883f : (float)(((double)at[i] + next) / 2);
                x[i] = side == 2 ? at[i] : side ? nextafterf(middle, side < 0 ? -INFINITY : INFINITY) : middle;
            }
            ref(want, x, 65536);
            new (got, x, 65536);
            fold_nan(want, x, 65536);
            fold_nan(got, x, 65536);
            tc_same_u16(t, want, got, 65536);
        }
    }
    if (tc_case(t, "bits")) {
        const float *x = tc_in_f32(t, 100000, TC_BITS);
        uint16_t *want = tc_out_u16(t, 100000), *got = tc_out_u16(t, 100000);

        base(want, x, 100000);
        new (got, x, 100000);
        tc_same_u16(t, want, got, 100000);
        ref(want, x, 100000);
        fold_nan(want, x, 100000);
        fold_nan(got, x, 100000);
        tc_same_u16(t, want, got, 100000);
    }
    if (tc_bench(t, 6.0 * 4096, 0, "n=4096")) {
        const float *x = tc_in_f32(t, 4096, TC_NORMAL);
        uint16_t *got = tc_out_u16(t, 4096);

        TC_TIME(t) new (got, x, 4096);
    }
}

void check_f32_from_f16(struct tc *t)
{
    check_widening(t, t->ref.f32_from_f16, t->new.f32_from_f16);
}

void check_f32_from_bf16(struct tc *t)
{
    check_widening(t, t->ref.f32_from_bf16, t->new.f32_from_bf16);
}

void check_f16_from_f32(struct tc *t)
{
    check_narrowing(t, t->ref.f32_from_f16, t->ref.f16_from_f32, t->base.f16_from_f32, t->new.f16_from_f32);
}

void check_bf16_from_f32(struct tc *t)
{
    check_narrowing(t, t->ref.f32_from_bf16, t->ref.bf16_from_f32, t->base.bf16_from_f32, t->new.bf16_from_f32);
}
