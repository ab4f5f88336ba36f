/* elementwise.tmpl.c: axpy, residual add, mixtures of two rows.  Built once per level; contracts in kernels.h. */
#include "kernels/flow.h"

/* ---- axpy ---- */

V16_FN void axpy_row(const enum v16_panel form, void *out, const void *x, const void *y, float scale, size_t n,
                     const struct tern_row_flow *hints)
{
    const struct tern_row_flow flow = flow_of(hints);
    const v16 s = v16_set1(scale);
    size_t i = flow_head(form, flow, out, n);

    for (size_t j = 0; j < i; j += 16)
        row_store_n(form, out, j, v16_fma(row_load_n(form, x, j, i - j), s, row_load_n(form, y, j, i - j)), i - j);
    for (; i + 32 <= n; i += 32) {
        const v16x2 a = row_load2(form, x, i), b = row_load2(form, y, i);
        const v16x2 sum = { v16_fma(a.lo, s, b.lo), v16_fma(a.hi, s, b.hi) };
        flow_store2(form, flow, out, i, sum);
        flow_ahead(flow, row_size(form) * i, 32 * row_size(form));
    }
    for (; i < n; i += 16)
        row_store_n(form, out, i, v16_fma(row_load_n(form, x, i, n - i), s, row_load_n(form, y, i, n - i)), n - i);
}

#define AXPY(form, type, suffix)                                                                       \
    static void TERN_K(axpy_##suffix)(type * out, const type *x, const type *y, float scale, size_t n, \
                                      const struct tern_row_flow *flow)                                \
    {                                                                                                  \
        axpy_row(form, out, x, y, scale, n, flow);                                                     \
    }
ROW_FORMS(AXPY)
#undef AXPY

/* ---- residual add ---- */

V16_FN v16 residual_value(const enum v16_panel form, const struct tern_residual_terms *terms, v16 x, v16 residual,
                          size_t i, size_t lanes)
{
    const v16 inv_mp = v16_set1(terms->inv_mp);
    v16 t = residual, u = x;

    if (terms->final_bias)
        t = v16_add(t, v16_load_n(terms->final_bias + i, lanes));
    if (terms->attention && terms->attention_inside)
        t = v16_add(t, row_load_n(form, terms->attention, i, lanes));
    if (terms->attention_bias && terms->attention_inside)
        t = v16_add(t, v16_load_n(terms->attention_bias + i, lanes));
    t = v16_mul(t, inv_mp);

    if (terms->attention && !terms->attention_inside)
        u = v16_add(u, row_load_n(form, terms->attention, i, lanes));
    u = v16_add(u, t);
    if (terms->attention_bias && !terms->attention_inside) {
        const v16 bias = v16_load_n(terms->attention_bias + i, lanes);
        u = v16_add(u, terms->attention_bias_divided ? v16_mul(bias, inv_mp) : bias);
    }
    return u;
}

V16_FN void residual_part(const enum v16_panel form, void *out, const void *x, const void *residual,
                          const struct tern_residual_terms *terms, size_t i, size_t lanes)
{
    const v16 a = row_load_n(form, x, i, lanes), b = row_load_n(form, residual, i, lanes);

    row_store_n(form, out, i, residual_value(form, terms, a, b, i, lanes), lanes);
}

V16_FN void residual_row(const enum v16_panel form, void *out, const void *x, const void *residual,
                         const struct tern_residual_terms *terms, size_t n, struct tern_row_flow flow)
{
    size_t i = flow_head(form, flow, out, n);

    for (size_t j = 0; j < i; j += 16)
        residual_part(form, out, x, residual, terms, j, i - j);
    for (; i + 32 <= n; i += 32) {
        const v16x2 a = row_load2(form, x, i), b = row_load2(form, residual, i);
        const v16x2 sum = { residual_value(form, terms, a.lo, b.lo, i, 16),
                            residual_value(form, terms, a.hi, b.hi, i + 16, 16) };
        flow_store2(form, flow, out, i, sum);
        flow_ahead(flow, row_size(form) * i, 32 * row_size(form));
    }
    for (; i < n; i += 16)
        residual_part(form, out, x, residual, terms, i, n - i);
}

/* The sum of two rows alone has a loop without questions. */
V16_FN void residual_add(const enum v16_panel form, void *out, const void *x, const void *residual,
                         const struct tern_residual_terms *terms, size_t n, const struct tern_row_flow *hints)
{
    const struct tern_residual_terms t = *terms, two = { .inv_mp = t.inv_mp };
    const struct tern_row_flow flow = flow_of(hints);

    if (!t.attention && !t.attention_bias && !t.final_bias)
        residual_row(form, out, x, residual, &two, n, flow);
    else
        residual_row(form, out, x, residual, &t, n, flow);
}

#define RESIDUAL_ADD(form, type, suffix)                                                         \
    static void TERN_K(residual_add_##suffix)(type * out, const type *x, const type *residual,   \
                                              const struct tern_residual_terms *terms, size_t n, \
                                              const struct tern_row_flow *flow)                  \
    {                                                                                            \
        residual_add(form, out, x, residual, terms, n, flow);                                    \
    }
ROW_FORMS(RESIDUAL_ADD)
#undef RESIDUAL_ADD

/* ---- mixtures ---- */

V16_FN v16 mix_value(v16 x, v16 of_x, v16 y, v16 of_y)
{
    return v16_add(v16_mul(x, of_x), v16_mul(y, of_y));
}

/* Columns i .. i + lanes - 1, 16 at most; each: with weights of their own. */
V16_FN void mix_part(const enum v16_panel form, void *out, const void *x, const void *y, const float *of_x,
                     const float *of_y, const bool each, size_t i, size_t lanes)
{
    const v16 a = each ? v16_load_n(of_x + i, lanes) : v16_set1(*of_x);
    const v16 b = each ? v16_load_n(of_y + i, lanes) : v16_set1(*of_y);

    row_store_n(form, out, i, mix_value(row_load_n(form, x, i, lanes), a, row_load_n(form, y, i, lanes), b), lanes);
}

V16_FN void mix_row(const enum v16_panel form, void *out, const void *x, const void *y, const float *of_x,
                    const float *of_y, const bool each, size_t n, struct tern_row_flow flow)
{
    size_t i = flow_head(form, flow, out, n);

    for (size_t j = 0; j < i; j += 16)
        mix_part(form, out, x, y, of_x, of_y, each, j, i - j);
    for (; i + 32 <= n; i += 32) {
        const v16x2 a = row_load2(form, x, i), b = row_load2(form, y, i);
        const v16x2 s = { each ? v16_load(of_x + i) : v16_set1(*of_x),
                          each ? v16_load(of_x + i + 16) : v16_set1(*of_x) };
        const v16x2 t = { each ? v16_load(of_y + i) : v16_set1(*of_y),
                          each ? v16_load(of_y + i + 16) : v16_set1(*of_y) };
        const v16x2 sum = { mix_value(a.lo, s.lo, b.lo, t.lo), mix_value(a.hi, s.hi, b.hi, t.hi) };
        flow_store2(form, flow, out, i, sum);
        flow_ahead(flow, row_size(form) * i, 32 * row_size(form));
    }
    for (; i < n; i += 16)
        mix_part(form, out, x, y, of_x, of_y, each, i, n - i);
}

V16_FN void mix(const enum v16_panel form, void *out, const void *x, const void *y, const float *of_x,
                const float *of_y, bool each, size_t n, const struct tern_row_flow *flow)
{
    if (each)
        mix_row(form, out, x, y, of_x, of_y, true, n, flow_of(flow));
    else
        mix_row(form, out, x, y, of_x, of_y, false, n, flow_of(flow));
}

#define MIX(form, type, suffix)                                                                                      \
    static void TERN_K(mix_##suffix)(type * out, const type *x, const type *y, const float *of_x, const float *of_y, \
                                     bool each, size_t n, const struct tern_row_flow *flow)                          \
    {                                                                                                                \
        mix(form, out, x, y, of_x, of_y, each, n, flow);                                                             \
    }
ROW_FORMS(MIX)
#undef MIX
