/* check_act.c: activations over all binades, and the epilogue in all its forms. */
#include "tc.h"

static const struct {
    enum tern_act act;
    const char *name;
} acts[] = {
    { TERN_ACT_NONE, "none" },           { TERN_ACT_RELU, "relu" },         { TERN_ACT_LEAKY_RELU, "leaky" },
    { TERN_ACT_GELU_TANH, "gelu_tanh" }, { TERN_ACT_GELU_ERF, "gelu_erf" }, { TERN_ACT_GELU_SIGMOID, "gelu_sigmoid" },
    { TERN_ACT_SILU, "silu" },           { TERN_ACT_SIGMOID, "sigmoid" },   { TERN_ACT_TANH, "tanh" },
};

void check_act_f32(struct tc *t)
{
    static const size_t sizes[] = { 1, 7, 8, 9, 15, 16, 17, 33, 100 };

    for (size_t a = 0; a < TC_COUNT(acts); a++) {
        const enum tern_act act = acts[a].act;

        for (size_t s = 0; s < TC_COUNT(sizes); s++) {
            const size_t n = sizes[s];

            if (!tc_case(t, "%s,n=%zu", acts[a].name, n))
                continue;
            const float *x = tc_in_f32(t, n, s & 1 ? TC_OUTLIERS : TC_SPECIAL);
            float *want = tc_out_f32(t, n), *base = tc_out_f32(t, n), *got = tc_out_f32(t, n);
            float *place = tc_copy_f32(t, x, n);

            t->ref.act_f32(want, x, NULL, n, act, NULL);
            t->base.act_f32(base, x, NULL, n, act, NULL);
            t->new.act_f32(got, x, NULL, n, act, NULL);
            t->new.act_f32(place, place, NULL, n, act, NULL);
            tc_near_f32(t, want, got, NULL, n);
            tc_same_f32(t, base, got, n);
            tc_same_f32(t, got, place, n);

            const struct tern_row_flow flow = tc_flow(t, n);
            float *streamed = tc_out_row_f32(t, n);

            t->new.act_f32(streamed, x, NULL, n, act, &flow);
            tc_same_row_f32(t, got, streamed, n);
        }
        for (size_t s = 0; s < TC_COUNT(sizes); s++) {
            const size_t n = sizes[s];

            if (!tc_case(t, "%s,bias,n=%zu", acts[a].name, n))
                continue;
            const float *x = tc_in_f32(t, n, TC_NORMAL), *bias = tc_in_f32(t, n, TC_OUTLIERS);
            float *want = tc_out_f32(t, n), *got = tc_out_f32(t, n), *sum = tc_out_row_f32(t, n);
            const struct tern_row_flow flow = tc_flow(t, n);

            for (size_t i = 0; i < n; i++)
                want[i] = x[i] + bias[i];
            t->new.act_f32(want, want, NULL, n, act, NULL);
            t->new.act_f32(got, x, bias, n, act, NULL);
            t->new.act_f32(sum, x, bias, n, act, &flow);
            tc_same_f32(t, want, got, n);
            tc_same_row_f32(t, want, sum, n);
        }
        if (tc_case(t, "%s,dense",
                    acts[a].name)) { /* both signs: 400 floats in each binade, and -16..16 in small steps */
            const size_t n = 2 * 254 * 400 + 65536;
            float *x = tc_out_f32(t, n), *want = tc_out_f32(t, n), *base = tc_out_f32(t, n), *got = tc_out_f32(t, n);

            for (size_t i = 0; i < n; i++) {
                const uint32_t bits = (uint32_t)(i / 2 * 20971 + tc_below(t, 20971) + (i & 1) * 0x80000000u);
                if (i < 2 * 254 * 400)
                    memcpy(x + i, &bits, sizeof bits);
                else
                    x[i] = (float)((double)(i - 2 * 254 * 400) / 2048 - 16 + (double)tc_below(t, 1000) * 1e-6);
            }
            t->ref.act_f32(want, x, NULL, n, act, NULL);
            t->base.act_f32(base, x, NULL, n, act, NULL);
            t->new.act_f32(got, x, NULL, n, act, NULL);
            tc_near_f32(t, want, got, NULL, n);
            tc_same_f32(t, base, got, n);
        }
        if (act != TERN_ACT_NONE && tc_bench(t, 0, 4096, "%s,n=4096", acts[a].name)) {
            const float *x = tc_in_f32(t, 4096, TC_NORMAL);
            float *got = tc_out_f32(t, 4096);

            TC_TIME(t) t->new.act_f32(got, x, NULL, 4096, act, NULL);
        }
    }
}

/* Both layouts, with and without biases; in_place: y == gate or y == up. */
void check_gate_f32(struct tc *t)
{
    static const size_t sizes[] = { 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 100, 300 };

    for (size_t a = 0; a < TC_COUNT(acts); a++)
        for (size_t s = 0; s < TC_COUNT(sizes); s++)
            for (int form = 0; form < 4; form++) {
                const size_t n = sizes[s];
                const bool pairs = form & 1, biased = form & 2;

                if (!tc_case(t, "%s,n=%zu%s%s", acts[a].name, n, pairs ? ",pairs" : "", biased ? ",bias" : ""))
                    continue;
                const float *x = tc_in_f32(t, 2 * n, s & 1 || biased ? TC_OUTLIERS : TC_SPECIAL);
                const float *bias = tc_in_f32(t, 2 * n, TC_NORMAL);
                const float *up = pairs ? x + 1 : x, *gate = pairs ? x : x + n;
                const float *up_bias = !biased ? NULL : pairs ? bias + 1 : bias;
                const float *gate_bias = !biased ? NULL : pairs ? bias : bias + n;
                float *want = tc_out_f32(t, n), *base = tc_out_f32(t, n), *got = tc_out_f32(t, n);
                float *streamed = tc_out_row_f32(t, n), *scale = tc_out_f32(t, n);
                const struct tern_row_flow flow = tc_flow(t, 2 * n);
                const enum tern_act act = acts[a].act;

                t->ref.gate_f32(want, up, gate, up_bias, gate_bias, pairs, n, act, NULL);
                t->base.gate_f32(base, up, gate, up_bias, gate_bias, pairs, n, act, NULL);
                t->new.gate_f32(got, up, gate, up_bias, gate_bias, pairs, n, act, NULL);
                t->new.gate_f32(streamed, up, gate, up_bias, gate_bias, pairs, n, act, &flow);
                for (size_t i = 0; i < n; i++) /* the activation may be 6e-8 in all off, so many times over */
                    scale[i] = fmaxf(fabsf(want[i]),
                                     fabsf(up[pairs ? 2 * i : i] + (biased ? up_bias[pairs ? 2 * i : i] : 0)) / 4);
                tc_near_f32(t, want, got, scale, n);
                tc_same_f32(t, base, got, n);
                tc_same_row_f32(t, got, streamed, n);
                if (pairs)
                    continue;
                float *place = tc_copy_f32(t, up, n);
                t->new.gate_f32(place, place, gate, up_bias, gate_bias, false, n, act, NULL);
                tc_same_f32(t, got, place, n);
                memcpy(place, gate, n * sizeof *place);
                t->new.gate_f32(place, up, place, up_bias, gate_bias, false, n, act, NULL);
                tc_same_f32(t, got, place, n);
            }
    for (int pairs = 0; pairs < 2; pairs++)
        if (tc_bench(t, 12.0 * 2048, 0, "silu,n=2048%s", pairs ? ",pairs" : "")) {
            const float *x = tc_in_f32(t, 4096, TC_NORMAL);
            float *got = tc_out_f32(t, 2048);

            TC_TIME(t)
            t->new.gate_f32(got, pairs ? x + 1 : x, pairs ? x : x + 2048, NULL, NULL, pairs, 2048, TERN_ACT_SILU, NULL);
        }
}

/* A finished tile and its place; the floats, or integers with their scales. */
struct finished {
    const float *tile;
    const int32_t *integers;
    const float *row_scale;
    size_t row, col, m, n;
};

static void finish(const struct tern_kernels *k, const struct finished *f, float *c, size_t ldc,
                   const struct tern_epilogue *e)
{
    if (f->tile)
        k->epilogue_f32(c, ldc, f->tile, e, f->row, f->col, f->m, f->n);
    else
        k->epilogue_s32(c, ldc, f->integers, f->row_scale, e, f->row, f->col, f->m, f->n);
}

/* A gate's activation may be 6e-8 in all off, as many times over as what it is multiplied with has: sizes for the bound. */
static void gated_sizes(struct tc *t, const struct finished *f, struct tern_epilogue e, float *size, size_t ldc)
{
    const size_t begin = f->row * ldc + f->col;
    float *by = tc_copy_f32(t, size, begin + (f->m - 1) * ldc + f->n);

    e.gate = NULL;
    e.act = TERN_ACT_NONE;
    e.residual = e.residual2 = NULL;
    finish(&t->ref, f, by, ldc, &e);
    for (size_t i = 0; i < f->m; i++)
        for (size_t at = begin + i * ldc, end = at + f->n; at < end; at++)
            size[at] = fmaxf(size[at], fabsf(by[at]) / 4);
}

/* Halves are what goes to C otherwise, narrowed: of the level and of the definition. */
static void check_halves(struct tc *t, const struct finished *f, struct tern_epilogue e)
{
    const size_t width = f->col + f->n, ld = width + 5, size = (f->row + f->m - 1) * ld + width;
    const struct tern_kernels *tables[] = { &t->new, &t->ref };

    e.ld_half = ld;
    for (int i = 0; i < 4; i++) {
        const struct tern_kernels *k = tables[i / 2];
        float *c = tc_out_f32(t, size);
        uint16_t *want = tc_out_u16(t, size), *got = tc_out_u16(t, size);

        e.half_is_f16 = i % 2;
        e.half = NULL;
        finish(k, f, c, ld, &e);
        for (size_t at = f->row * ld + f->col; at < size; at += ld)
            (e.half_is_f16 ? t->ref.f16_from_f32 : t->ref.bf16_from_f32)(want + at, c + at, f->n);
        e.half = got;
        finish(k, f, NULL, 0, &e);
        tc_same_u16(t, want, got, size);
    }
}

void check_epilogue_f32(struct tc *t)
{
    static const size_t columns[] = { 1, 7, 8, 9, 15, 16, 17, 24, 31, 32 };

    for (size_t a = 0; a < TC_COUNT(acts); a++)
        for (size_t s = 0; s < TC_COUNT(columns); s++)
            for (int form = 0; form < 8; form++) {
                const size_t n = columns[s], m = 1 + (s * 5 + (size_t)form) % 14, row = form, col = 32 * (s & 1);
                const size_t ldc = col + n + (form & 1 ? 13 : 0), ld2 = col + n + 3;
                const size_t c_size = (row + m - 1) * ldc + col + n;

                if (!tc_case(t, "%s,m=%zu,n=%zu,form=%d", acts[a].name, m, n, form))
                    continue;
                const size_t further = 64; /* to a gate's columns */
                const float *tile = tc_in_panel(t, m * 32, TC_OUTLIERS),
                            *bias = tc_in_f32(t, col + further + n, TC_NORMAL);
                const float *columns_scale = tc_in_f32(t, col + further + n, TC_NEAR_ONE);
                const float *c = tc_in_f32(t, c_size, TC_NORMAL),
                            *second = tc_in_f32(t, (row + m - 1) * ld2 + col + n, TC_NORMAL);
                float *want = tc_copy_f32(t, c, c_size), *base = tc_copy_f32(t, c, c_size),
                      *got = tc_copy_f32(t, c, c_size);
                float *scale = tc_copy_f32(t, c, c_size);
                const float *gate = tc_in_panel(t, m * 32, TC_OUTLIERS);
                struct tern_epilogue e = { .act = acts[a].act, .gate = n == 32 && form % 3 ? gate : NULL };

                e.gate_columns = e.gate ? further : 0;
                if (form & 1)
                    e.bias = bias;
                if ((form + s) % 3 == 0)
                    e.scale = columns_scale;
                if (form & 4)
                    e.residual2 = second, e.ld_residual2 = ld2;
                for (int in_place = 0; in_place <= (form & 2); in_place += 2) {
                    const float *residual[3] = { c, c, c };
                    if (in_place) {
                        memcpy(want, c, c_size * sizeof *c);
                        memcpy(base, c, c_size * sizeof *c);
                        memcpy(got, c, c_size * sizeof *c);
                        residual[0] = want, residual[1] = base, residual[2] = got;
                    }
                    e.ld_residual = ldc;
                    e.residual = form & 2 ? residual[0] : NULL;
                    t->ref.epilogue_f32(want, ldc, tile, &e, row, col, m, n);
                    e.residual = form & 2 ? residual[1] : NULL;
                    t->base.epilogue_f32(base, ldc, tile, &e, row, col, m, n);
                    e.residual = form & 2 ? residual[2] : NULL;
                    t->new.epilogue_f32(got, ldc, tile, &e, row, col, m, n);
                    for (size_t i = 0; i < c_size; i++)
                        scale[i] = fabsf(want[i]) + (form & 6 ? fabsf(c[i]) + 6 : 0); /* a residual is at most 6 */
                    if (e.gate)
                        gated_sizes(t, &(struct finished){ tile, NULL, NULL, row, col, m, n }, e, scale, ldc);
                    tc_near_f32(t, want, got, scale, c_size);
                    tc_same_f32(t, base, got, c_size);
                }
                e.residual = form & 2 ? c : NULL;
                e.ld_residual = ldc;
                check_halves(t, &(struct finished){ tile, NULL, NULL, row, col, m, n }, e);
            }
    if (tc_bench(t, 0, 8 * 32, "gate,silu,m=8")) {
        const float *tile = tc_in_panel(t, 8 * 32, TC_NORMAL), *gate = tc_in_panel(t, 8 * 32, TC_NORMAL);
        float *c = tc_out_f32(t, 8 * 768);
        const struct tern_epilogue e = { .act = TERN_ACT_SILU, .gate = gate };

        TC_TIME(t) t->new.epilogue_f32(c, 768, tile, &e, 0, tc_turn(t) % 24 * 32, 8, 32);
    }
    for (size_t a = 0; a < TC_COUNT(acts); a++)
        if (tc_bench(t, 0, 8 * 32, "bias,%s,residual,m=8", acts[a].name)) {
            const float *tile = tc_in_panel(t, 8 * 32, TC_NORMAL), *bias = tc_in_f32(t, 768, TC_NORMAL);
            float *c = tc_out_f32(t, 8 * 768);
            const float *residual = tc_in_f32(t, 8 * 768, TC_NORMAL);
            const struct tern_epilogue e = {
                .bias = bias, .act = acts[a].act, .residual = residual, .ld_residual = 768
            };

            TC_TIME(t) t->new.epilogue_f32(c, 768, tile, &e, 0, tc_turn(t) % 24 * 32, 8, 32);
        }
}

void check_epilogue_s32(struct tc *t)
{
    static const size_t columns[] = { 1, 8, 15, 16, 17, 31, 32 };

    for (size_t a = 0; a < TC_COUNT(acts); a++)
        for (size_t s = 0; s < TC_COUNT(columns); s++)
            for (int form = 0; form < 8; form++) {
                const size_t n = columns[s], m = 1 + (s * 5 + (size_t)form) % 14, row = (size_t)form,
                             col = 32 * (s & 1);
                const size_t ldc = col + n + (form & 1 ? 13 : 0), c_size = (row + m - 1) * ldc + col + n;

                if (!tc_case(t, "%s,m=%zu,n=%zu,form=%d", acts[a].name, m, n, form))
                    continue;
                int32_t *tile = tc_out_s32(t, m * 32);
                const float *row_scale = tc_in_f32(t, m, TC_NEAR_ONE), *scale = tc_in_f32(t, col + 96 + n, TC_NORMAL);
                const float *bias = tc_in_f32(t, col + 96 + n, TC_NORMAL), *c = tc_in_f32(t, c_size, TC_NORMAL);
                float *want = tc_copy_f32(t, c, c_size), *base = tc_copy_f32(t, c, c_size),
                      *got = tc_copy_f32(t, c, c_size), *size = tc_copy_f32(t, c, c_size);
                int32_t *gate = tc_out_s32(t, m * 32);
                const struct tern_epilogue e = { .scale = form & 1 ? scale : NULL,
                                                 .bias = form & 2 ? bias : NULL,
                                                 .act = acts[a].act,
                                                 .gate = n == 32 && form % 3 ? gate : NULL,
                                                 .gate_columns = 96,
                                                 .residual = form & 4 ? c : NULL,
                                                 .ld_residual = ldc };

                for (size_t i = 0; i < m * 32; i++) /* small ones, and some that f32 rounds */
                    tile[i] = i % 5 ? (int32_t)tc_below(t, 41) - 20
                                    : (int32_t)((int64_t)tc_below(t, 0x7fffffff) * 2 - 0x7fffffff);
                for (size_t i = 0; i < m * 32; i++)
                    gate[i] = (int32_t)tc_below(t, 13) - 6;
                t->ref.epilogue_s32(want, ldc, tile, row_scale, &e, row, col, m, n);
                t->base.epilogue_s32(base, ldc, tile, row_scale, &e, row, col, m, n);
                t->new.epilogue_s32(got, ldc, tile, row_scale, &e, row, col, m, n);
                for (size_t i = 0; i < c_size; i++)
                    size[i] = fabsf(want[i]) + (form & 4 ? fabsf(c[i]) : 0);
                if (e.gate)
                    gated_sizes(t, &(struct finished){ NULL, tile, row_scale, row, col, m, n }, e, size, ldc);
                tc_near_f32(t, want, got, size, c_size);
                tc_same_f32(t, base, got, c_size);
                check_halves(t, &(struct finished){ NULL, tile, row_scale, row, col, m, n }, e);
            }
    if (tc_bench(t, 0, 8 * 32, "scale,bias,m=8")) {
        const float *row_scale = tc_in_f32(t, 8, TC_NORMAL), *bias = tc_in_f32(t, 768, TC_NORMAL);
        int32_t *tile = tc_out_s32(t, 8 * 32);
        float *c = tc_out_f32(t, 8 * 768);
        const struct tern_epilogue e = { .scale = bias, .bias = bias };

        TC_TIME(t) t->new.epilogue_s32(c, 768, tile, row_scale, &e, 0, tc_turn(t) % 24 * 32, 8, 32);
    }
}
