/* check_rows.c: kernels on rows of halves: the bits of those on f32, which the other files hold to their definitions, rounded once; at
 * every size around whole vectors and lines, in place, streamed. */
#include "tc.h"

static const size_t sizes[] = { 1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 100, 300 };

/* The conversions of a format; the functions of both formats have the same types. */
struct half {
    tern_f32_from_f16_fn *widen;
    tern_f16_from_f32_fn *narrow;
};

static struct half f16(const struct tc *t)
{
    return (struct half){ t->base.f32_from_f16, t->base.f16_from_f32 };
}

static struct half bf16(const struct tc *t)
{
    return (struct half){ t->base.f32_from_bf16, t->base.bf16_from_f32 };
}

static uint16_t *in_half(struct tc *t, struct half h, size_t n, enum tc_data data)
{
    uint16_t *x = tc_out_u16(t, n);

    h.narrow(x, tc_in_f32(t, n, data), n);
    return x;
}

static float *widened(struct tc *t, struct half h, const uint16_t *x, size_t n)
{
    float *wide = tc_out_f32(t, n);

    h.widen(wide, x, n);
    return wide;
}

/* One NaN for all. */
static void fold(struct half h, uint16_t *x, size_t n)
{
    const float nan = NAN;

    for (size_t i = 0; i < n; i++) {
        float value;
        h.widen(&value, x + i, 1);
        if (isnan(value))
            h.narrow(x + i, &nan, 1);
    }
}

/* want: in f32.   streamed: NULL, or made by tc_out_row_u16. */
static void same(struct tc *t, struct half h, const float *want, uint16_t *got, uint16_t *streamed, size_t n)
{
    uint16_t *rounded = tc_out_u16(t, n);

    h.narrow(rounded, want, n);
    fold(h, rounded, n);
    fold(h, got, n);
    tc_same_u16(t, rounded, got, n);
    if (streamed) {
        fold(h, streamed, n);
        tc_same_row_u16(t, rounded, streamed, n);
    }
}

/* What a kernel is told that is to do nothing about memory. */
static struct tern_row_flow plain_flow(struct tc *t, size_t n)
{
    return (struct tern_row_flow){ .work = tc_out_f32(t, n) };
}

/* ---- activations and gates ---- */

static void check_act(struct tc *t, struct half h, tern_act_f16_fn *new)
{
    for (int act = TERN_ACT_NONE; act <= TERN_ACT_TANH; act++)
        for (size_t s = 0; s < TC_COUNT(sizes); s++) {
            const size_t n = sizes[s];

            if (!tc_case(t, "act=%d,n=%zu", act, n))
                continue;
            const uint16_t *x = tc_in_u16(t, n, TC_BITS);
            const float *wide = widened(t, h, x, n), *bias = s % 3 ? NULL : tc_in_f32(t, n, TC_NORMAL);
            float *want = tc_out_f32(t, n);
            uint16_t *got = tc_out_u16(t, n), *streamed = tc_out_row_u16(t, n), *place = tc_out_u16(t, n);
            const struct tern_row_flow flow = tc_flow(t, n), plain = plain_flow(t, n);

            t->base.act_f32(want, wide, bias, n, act, NULL);
            new (got, x, bias, n, act, &plain);
            new (streamed, x, bias, n, act, &flow);
            new (memcpy(place, x, n * sizeof *x), place, bias, n, act, &plain);
            same(t, h, want, got, streamed, n);
            same(t, h, want, place, NULL, n);
        }
    for (int act = TERN_ACT_GELU_TANH; act <= TERN_ACT_GELU_ERF; act++)
        if (tc_bench(t, 4.0 * 4096, 0, "act=%d,n=4096", act)) {
            const uint16_t *x = in_half(t, h, 4096, TC_NORMAL);
            const struct tern_row_flow plain = plain_flow(t, 4096);
            uint16_t *got = tc_out_u16(t, 4096);

            TC_TIME(t) new (got, x, NULL, 4096, act, &plain);
        }
}

void check_act_f16(struct tc *t)
{
    check_act(t, f16(t), t->new.act_f16);
}

void check_act_bf16(struct tc *t)
{
    check_act(t, bf16(t), t->new.act_bf16);
}

static void check_gate(struct tc *t, struct half h, tern_gate_f16_fn *new)
{
    for (int act = TERN_ACT_NONE; act <= TERN_ACT_TANH; act++)
        for (size_t s = 0; s < TC_COUNT(sizes); s++)
            for (int pairs = 0; pairs < 2; pairs++) {
                const size_t n = sizes[s];

                if (!tc_case(t, "act=%d,n=%zu%s", act, n, pairs ? ",pairs" : ""))
                    continue;
                const uint16_t *x = tc_in_u16(t, 2 * n, TC_BITS);
                const float *wide = widened(t, h, x, 2 * n), *bias = s % 3 ? NULL : tc_in_f32(t, 2 * n, TC_NORMAL);
                const size_t up = pairs ? 1 : 0, gate = pairs ? 0 : n;
                const float *up_bias = bias ? bias + up : NULL, *gate_bias = bias ? bias + gate : NULL;
                float *want = tc_out_f32(t, n);
                uint16_t *got = tc_out_u16(t, n), *streamed = tc_out_row_u16(t, n);
                const struct tern_row_flow flow = tc_flow(t, 2 * n), plain = plain_flow(t, n);

                t->base.gate_f32(want, wide + up, wide + gate, up_bias, gate_bias, pairs, n, act, NULL);
                new (got, x + up, x + gate, up_bias, gate_bias, pairs, n, act, &plain);
                new (streamed, x + up, x + gate, up_bias, gate_bias, pairs, n, act, &flow);
                same(t, h, want, got, streamed, n);
            }
    for (int pairs = 0; pairs < 2; pairs++)
        if (tc_bench(t, 6.0 * 2048, 0, "silu,n=2048%s", pairs ? ",pairs" : "")) {
            const uint16_t *x = in_half(t, h, 4096, TC_NORMAL);
            const struct tern_row_flow plain = plain_flow(t, 2048);
            uint16_t *got = tc_out_u16(t, 2048);

            TC_TIME(t)
            new (got, pairs ? x + 1 : x, pairs ? x : x + 2048, NULL, NULL, pairs, 2048, TERN_ACT_SILU, &plain);
        }
}

void check_gate_f16(struct tc *t)
{
    check_gate(t, f16(t), t->new.gate_f16);
}

void check_gate_bf16(struct tc *t)
{
    check_gate(t, bf16(t), t->new.gate_bf16);
}

/* ---- norms ---- */

static void check_layer_norm(struct tc *t, struct half h, tern_layer_norm_f16_fn *new)
{
    for (size_t s = 0; s < TC_COUNT(sizes); s++)
        for (int form = 0; form < 4; form++) {
            const size_t n = sizes[s];

            if (!tc_case(t, "n=%zu,form=%d", n, form))
                continue;
            const uint16_t *x = in_half(t, h, n, form & 1 ? TC_OUTLIERS : TC_NEAR_ONE);
            const float *wide = widened(t, h, x, n), *gamma = tc_in_f32(t, n, TC_NEAR_ONE);
            const float *beta = form & 2 ? tc_in_f32(t, n, TC_NORMAL) : NULL;
            float *want = tc_out_f32(t, n);
            uint16_t *got = tc_out_u16(t, n), *streamed = tc_out_row_u16(t, n), *place = tc_out_u16(t, n);
            const struct tern_row_flow flow = tc_flow(t, n), plain = plain_flow(t, n);

            t->base.layer_norm_f32(want, wide, gamma, beta, n, 1e-5f, NULL);
            new (got, x, gamma, beta, n, 1e-5f, &plain);
            new (streamed, x, gamma, beta, n, 1e-5f, &flow);
            new (memcpy(place, x, n * sizeof *x), place, gamma, beta, n, 1e-5f, &plain);
            same(t, h, want, got, streamed, n);
            same(t, h, want, place, NULL, n);
        }
    if (tc_bench(t, 4.0 * 3072, 0, "n=3072")) {
        const uint16_t *x = in_half(t, h, 3072, TC_NORMAL);
        const float *gamma = tc_in_f32(t, 3072, TC_NEAR_ONE), *beta = tc_in_f32(t, 3072, TC_NORMAL);
        const struct tern_row_flow plain = plain_flow(t, 3072);
        uint16_t *got = tc_out_u16(t, 3072);

        TC_TIME(t) new (got, x, gamma, beta, 3072, 1e-5f, &plain);
    }
}

void check_layer_norm_f16(struct tc *t)
{
    check_layer_norm(t, f16(t), t->new.layer_norm_f16);
}

void check_layer_norm_bf16(struct tc *t)
{
    check_layer_norm(t, bf16(t), t->new.layer_norm_bf16);
}

static void check_rms_norm(struct tc *t, struct half h, tern_rms_norm_f16_fn *new)
{
    for (size_t s = 0; s < TC_COUNT(sizes); s++) {
        const size_t n = sizes[s];

        if (!tc_case(t, "n=%zu", n))
            continue;
        const uint16_t *x = in_half(t, h, n, TC_OUTLIERS);
        const float *wide = widened(t, h, x, n), *gamma = tc_in_f32(t, n, TC_NEAR_ONE);
        float *want = tc_out_f32(t, n);
        uint16_t *got = tc_out_u16(t, n), *streamed = tc_out_row_u16(t, n), *place = tc_out_u16(t, n);
        const struct tern_row_flow flow = tc_flow(t, n), plain = plain_flow(t, n);

        t->base.rms_norm_f32(want, wide, gamma, n, 1e-5f, NULL);
        new (got, x, gamma, n, 1e-5f, &plain);
        new (streamed, x, gamma, n, 1e-5f, &flow);
        new (memcpy(place, x, n * sizeof *x), place, gamma, n, 1e-5f, &plain);
        same(t, h, want, got, streamed, n);
        same(t, h, want, place, NULL, n);
    }
    if (tc_bench(t, 4.0 * 3072, 0, "n=3072")) {
        const uint16_t *x = in_half(t, h, 3072, TC_NORMAL);
        const float *gamma = tc_in_f32(t, 3072, TC_NEAR_ONE);
        const struct tern_row_flow plain = plain_flow(t, 3072);
        uint16_t *got = tc_out_u16(t, 3072);

        TC_TIME(t) new (got, x, gamma, 3072, 1e-5f, &plain);
    }
}

void check_rms_norm_f16(struct tc *t)
{
    check_rms_norm(t, f16(t), t->new.rms_norm_f16);
}

void check_rms_norm_bf16(struct tc *t)
{
    check_rms_norm(t, bf16(t), t->new.rms_norm_bf16);
}

/* One of the two.   bias (1), residual (2), sum (4); 8: y is residual and sum is x. */
static void check_residual(struct tc *t, struct half h, tern_layer_norm_residual_f16_fn *layer,
                           tern_rms_norm_residual_f16_fn *rms)
{
    for (size_t s = 0; s < TC_COUNT(sizes); s++)
        for (int form = 0; form < 16; form++) {
            const size_t n = sizes[s];

            if (!tc_case(t, "n=%zu%s%s%s%s", n, form & 1 ? ",bias" : "", form & 2 ? ",residual" : "",
                         form & 4 ? ",sum" : "", form & 8 ? ",in place" : ""))
                continue;
            const uint16_t *x = in_half(t, h, n, TC_OUTLIERS), *residual = in_half(t, h, n, TC_NORMAL);
            const float *wide = widened(t, h, x, n), *wide_residual = form & 2 ? widened(t, h, residual, n) : NULL;
            const float *gamma = tc_in_f32(t, n, TC_NEAR_ONE), *beta = tc_in_f32(t, n, TC_NORMAL);
            const float *bias = form & 1 ? tc_in_f32(t, n, TC_NORMAL) : NULL;
            float *want = tc_out_f32(t, n), *want_sum = tc_out_f32(t, n);
            uint16_t *y = form & 8 ? tc_out_u16(t, n) : tc_out_row_u16(t, n), *sum = tc_out_u16(t, n);
            const struct tern_row_flow flow = form & 8 ? plain_flow(t, n) : tc_flow(t, n);

            if (form & 8) {
                x = memcpy(sum, x, n * sizeof *x);
                residual = memcpy(y, residual, n * sizeof *x);
            }
            const uint16_t *add = form & 2 ? residual : NULL;
            if (layer) {
                t->base.layer_norm_residual_f32(want, want_sum, wide, bias, wide_residual, gamma, beta, n, 1e-5f, NULL);
                layer(y, form & 4 ? sum : NULL, x, bias, add, gamma, beta, n, 1e-5f, &flow);
            } else {
                t->base.rms_norm_residual_f32(want, want_sum, wide, bias, wide_residual, gamma, n, 1e-5f, NULL);
                rms(y, form & 4 ? sum : NULL, x, bias, add, gamma, n, 1e-5f, &flow);
            }
            if (form & 4)
                same(t, h, want_sum, sum, NULL, n);
            if (form & 8)
                same(t, h, want, y, NULL, n);
            else
                same(t, h, want, memcpy(tc_out_u16(t, n), y, n * sizeof *y), y, n);
        }
    if (tc_bench(t, 8.0 * 768, 0, "n=768")) {
        const uint16_t *x = in_half(t, h, 768, TC_NORMAL);
        const float *gamma = tc_in_f32(t, 768, TC_NEAR_ONE);
        const struct tern_row_flow plain = plain_flow(t, 768);
        uint16_t *y = tc_out_u16(t, 768), *sum = tc_out_u16(t, 768);

        if (layer)
            TC_TIME(t) layer(y, sum, x, gamma, x, gamma, gamma, 768, 1e-5f, &plain);
        else
            TC_TIME(t) rms(y, sum, x, gamma, x, gamma, 768, 1e-5f, &plain);
    }
}

void check_layer_norm_residual_f16(struct tc *t)
{
    check_residual(t, f16(t), t->new.layer_norm_residual_f16, NULL);
}

void check_layer_norm_residual_bf16(struct tc *t)
{
    check_residual(t, bf16(t), t->new.layer_norm_residual_bf16, NULL);
}

void check_rms_norm_residual_f16(struct tc *t)
{
    check_residual(t, f16(t), NULL, t->new.rms_norm_residual_f16);
}

void check_rms_norm_residual_bf16(struct tc *t)
{
    check_residual(t, bf16(t), NULL, t->new.rms_norm_residual_bf16);
}

/* ---- softmax ---- */

static void check_softmax(struct tc *t, struct half h, tern_softmax_f16_fn *new)
{
    for (size_t s = 0; s < TC_COUNT(sizes); s++)
        for (int form = 0; form < 12; form++) {
            const size_t n = sizes[s];

            if (!tc_case(t, "n=%zu,form=%d", n, form))
                continue;
            const size_t first = form % 3 == 0 ? 0 : tc_below(t, n),
                         last = form % 3 == 2 ? n : first + tc_below(t, n - first + 1);
            const float scale = form & 1 ? 0.125f : 1, slope = form & 2 ? -0.25f : 0;
            const uint16_t *x = in_half(t, h, n, form % 5 ? TC_OUTLIERS : TC_SPECIAL);
            const float *wide = widened(t, h, x, n);
            float *mask = form & 4 ? tc_copy_f32(t, tc_in_f32(t, n, TC_NORMAL), n) : NULL, *want = tc_out_f32(t, n);
            uint16_t *got = tc_out_u16(t, n), *streamed = tc_out_row_u16(t, n), *place = tc_out_u16(t, n);
            const struct tern_row_flow flow = tc_flow(t, n), plain = plain_flow(t, n);

            for (size_t i = 0; mask && i < n; i++)
                if (tc_below(t, 4) == 0)
                    mask[i] = -INFINITY;
            t->base.softmax_f32(want, wide, mask, n, first, last, scale, slope, NULL);
            new (got, x, mask, n, first, last, scale, slope, &plain);
            new (streamed, x, mask, n, first, last, scale, slope, &flow);
            new (memcpy(place, x, n * sizeof *x), place, mask, n, first, last, scale, slope, &plain);
            same(t, h, want, got, streamed, n);
            same(t, h, want, place, NULL, n);
        }
    if (tc_bench(t, 4.0 * 2048, 0, "n=2048")) {
        const uint16_t *x = in_half(t, h, 2048, TC_NORMAL);
        const struct tern_row_flow plain = plain_flow(t, 2048);
        uint16_t *got = tc_out_u16(t, 2048);

        TC_TIME(t) new (got, x, NULL, 2048, 0, 2048, 0.125f, 0, &plain);
    }
}

void check_softmax_f16(struct tc *t)
{
    check_softmax(t, f16(t), t->new.softmax_f16);
}

void check_softmax_bf16(struct tc *t)
{
    check_softmax(t, bf16(t), t->new.softmax_bf16);
}

/* ---- sums ---- */

static void check_axpy(struct tc *t, struct half h, tern_axpy_f16_fn *new)
{
    for (size_t s = 0; s < TC_COUNT(sizes); s++) {
        const size_t n = sizes[s];

        if (!tc_case(t, "n=%zu", n))
            continue;
        const uint16_t *x = tc_in_u16(t, n, TC_BITS), *y = in_half(t, h, n, TC_SPECIAL);
        const float *wide_x = widened(t, h, x, n), *wide_y = widened(t, h, y, n);
        float *want = tc_out_f32(t, n);
        uint16_t *got = tc_out_u16(t, n), *streamed = tc_out_row_u16(t, n), *place = tc_out_u16(t, n);
        const struct tern_row_flow flow = tc_flow(t, n);

        t->base.axpy_f32(want, wide_x, wide_y, 0.3f, n, NULL);
        new (got, x, y, 0.3f, n, NULL);
        new (streamed, x, y, 0.3f, n, &flow);
        new (memcpy(place, y, n * sizeof *y), x, place, 0.3f, n, NULL);
        same(t, h, want, got, streamed, n);
        same(t, h, want, place, NULL, n);
    }
    if (tc_bench(t, 6.0 * 768, 0, "n=768")) {
        const uint16_t *x = in_half(t, h, 768, TC_NORMAL), *y = in_half(t, h, 768, TC_NORMAL);
        uint16_t *out = tc_out_u16(t, 768);

        TC_TIME(t) new (out, x, y, 0.5f, 768, NULL);
    }
}

void check_axpy_f16(struct tc *t)
{
    check_axpy(t, f16(t), t->new.axpy_f16);
}

void check_axpy_bf16(struct tc *t)
{
    check_axpy(t, bf16(t), t->new.axpy_bf16);
}

static void check_mix(struct tc *t, struct half h, tern_mix_f16_fn *new)
{
    for (size_t s = 0; s < TC_COUNT(sizes); s++)
        for (int each = 0; each < 2; each++) {
            const size_t n = sizes[s];

            if (!tc_case(t, "n=%zu%s", n, each ? ",each" : ""))
                continue;
            const uint16_t *x = tc_in_u16(t, n, TC_BITS), *y = in_half(t, h, n, TC_SPECIAL);
            const float *wide_x = widened(t, h, x, n), *wide_y = widened(t, h, y, n);
            const float *of_x = tc_in_f32(t, each ? n : 1, TC_NORMAL), *of_y = tc_in_f32(t, each ? n : 1, TC_NORMAL);
            float *want = tc_out_f32(t, n);
            uint16_t *got = tc_out_u16(t, n), *streamed = tc_out_row_u16(t, n), *place = tc_out_u16(t, n);
            const struct tern_row_flow flow = tc_flow(t, n);

            t->base.mix_f32(want, wide_x, wide_y, of_x, of_y, each, n, NULL);
            new (got, x, y, of_x, of_y, each, n, NULL);
            new (streamed, x, y, of_x, of_y, each, n, &flow);
            new (memcpy(place, y, n * sizeof *y), x, place, of_x, of_y, each, n, NULL);
            same(t, h, want, got, streamed, n);
            same(t, h, want, place, NULL, n);
        }
}

void check_mix_f16(struct tc *t)
{
    check_mix(t, f16(t), t->new.mix_f16);
}

void check_mix_bf16(struct tc *t)
{
    check_mix(t, bf16(t), t->new.mix_bf16);
}

static void check_residual_add(struct tc *t, struct half h, tern_residual_add_f16_fn *new)
{
    for (size_t s = 0; s < TC_COUNT(sizes); s++)
        for (int form = 0; form < 32; form++) {
            const size_t n = sizes[s];

            if (!tc_case(t, "n=%zu%s%s%s%s%s", n, form & 1 ? ",attention" : "", form & 2 ? ",attention bias" : "",
                         form & 4 ? ",final bias" : "", form & 8 ? ",inside" : "", form & 16 ? ",divided" : ""))
                continue;
            const uint16_t *x = tc_in_u16(t, n, TC_BITS), *residual = in_half(t, h, n, TC_SPECIAL);
            const uint16_t *attention = in_half(t, h, n, TC_NORMAL);
            const float *wide_x = widened(t, h, x, n), *wide_residual = widened(t, h, residual, n);
            const float *a_bias = tc_in_f32(t, n, TC_NORMAL), *f_bias = tc_in_f32(t, n, TC_NORMAL);
            const struct tern_residual_terms terms = { form & 1 ? attention : NULL,
                                                       form & 2 ? a_bias : NULL,
                                                       form & 4 ? f_bias : NULL,
                                                       1 / 3.0f,
                                                       form & 8,
                                                       form & 16 };
            struct tern_residual_terms wide = terms;
            float *want = tc_out_f32(t, n);
            uint16_t *got = tc_out_u16(t, n), *streamed = tc_out_row_u16(t, n), *place = tc_out_u16(t, n);
            const struct tern_row_flow flow = tc_flow(t, n);

            wide.attention = form & 1 ? widened(t, h, attention, n) : NULL;
            t->base.residual_add_f32(want, wide_x, wide_residual, &wide, n, NULL);
            new (got, x, residual, &terms, n, NULL);
            new (streamed, x, residual, &terms, n, &flow);
            new (memcpy(place, residual, n * sizeof *x), x, place, &terms, n, NULL);
            same(t, h, want, got, streamed, n);
            same(t, h, want, place, NULL, n);
        }
    if (tc_bench(t, 6.0 * 768, 0, "n=768")) {
        const uint16_t *x = in_half(t, h, 768, TC_NORMAL), *y = in_half(t, h, 768, TC_NORMAL);
        const struct tern_residual_terms terms = { .inv_mp = 1 };
        uint16_t *out = tc_out_u16(t, 768);

        TC_TIME(t) new (out, x, y, &terms, 768, NULL);
    }
}

void check_residual_add_f16(struct tc *t)
{
    check_residual_add(t, f16(t), t->new.residual_add_f16);
}

void check_residual_add_bf16(struct tc *t)
{
    check_residual_add(t, bf16(t), t->new.residual_add_bf16);
}

/* ---- rotary ---- */

static void check_rotary(struct tc *t, struct half h, tern_rotary_f16_fn *new)
{
    for (size_t rot = 0; rot <= 130; rot += rot < 70 ? 2 : 28)
        for (int neighbours = 0; neighbours < 2; neighbours++) {
            if (!tc_case(t, "rot=%zu%s", rot, neighbours ? ",neighbours" : ""))
                continue;
            const size_t n = 2 * rot; /* of two heads */
            const uint16_t *x = tc_in_u16(t, n, TC_BITS);
            const float *cos = tc_in_f32(t, rot / 2, TC_NORMAL), *sin = tc_in_f32(t, rot / 2, TC_NORMAL);
            float *want = widened(t, h, x, n);
            uint16_t *got = tc_out_u16(t, n), *place = tc_out_u16(t, n), *streamed = tc_out_u16(t, n + 32);
            const struct tern_row_flow flow = tc_flow(t, n);

            streamed += (64 - (uintptr_t)streamed % 64) % 64 / sizeof *streamed;
            new (streamed, x, cos, sin, rot, neighbours, 2, rot, &flow);
            tern_stream_end();
            t->base.rotary_f32(want, want, cos, sin, rot, neighbours, 2, rot, NULL);
            new (got, x, cos, sin, rot, neighbours, 2, rot, NULL);
            new (memcpy(place, x, n * sizeof *x), place, cos, sin, rot, neighbours, 2, rot, NULL);
            same(t, h, want, got, NULL, n);
            same(t, h, want, place, NULL, n);
            same(t, h, want, streamed, NULL, n);
        }
}

void check_rotary_f16(struct tc *t)
{
    check_rotary(t, f16(t), t->new.rotary_f16);
}

void check_rotary_bf16(struct tc *t)
{
    check_rotary(t, bf16(t), t->new.rotary_bf16);
}
