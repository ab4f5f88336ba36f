/* elementwise.tmpl.c: axpy, residual add, rotary.  Built once per level; contracts in kernels.h. */
#include "kernels/flow.h"

static void TERN_K(axpy_f32)(float *out, const float *x, const float *y, float scale, size_t n,
                             const struct tern_row_flow *hints)
{
    const struct tern_row_flow flow = flow_of(hints);
    const v16 s = v16_set1(scale);
    size_t i = flow_head(flow.stream, out, 64, sizeof *out, n);

    if (i)
        v16_store_n(out, v16_fma(v16_load_n(x, i), s, v16_load_n(y, i)), i);
    for (; i + 16 <= n; i += 16) {
        flow_store(flow.stream, out + i, v16_fma(v16_load(x + i), s, v16_load(y + i)));
        flow_ahead(flow, 4 * i);
    }
    if (i < n)
        v16_store_n(out + i, v16_fma(v16_load_n(x + i, n - i), s, v16_load_n(y + i, n - i)), n - i);
}

V16_FN v16 residual_value(const float *x, const float *residual, const struct tern_residual_terms *terms, size_t i,
                          size_t lanes)
{
    const v16 inv_mp = v16_set1(terms->inv_mp);
    v16 t = v16_load_n(residual + i, lanes), u = v16_load_n(x + i, lanes);

    if (terms->final_bias)
        t = v16_add(t, v16_load_n(terms->final_bias + i, lanes));
    if (terms->attention && terms->attention_inside)
        t = v16_add(t, v16_load_n(terms->attention + i, lanes));
    if (terms->attention_bias && terms->attention_inside)
        t = v16_add(t, v16_load_n(terms->attention_bias + i, lanes));
    t = v16_mul(t, inv_mp);

    if (terms->attention && !terms->attention_inside)
        u = v16_add(u, v16_load_n(terms->attention + i, lanes));
    u = v16_add(u, t);
    if (terms->attention_bias && !terms->attention_inside) {
        const v16 bias = v16_load_n(terms->attention_bias + i, lanes);
        u = v16_add(u, terms->attention_bias_divided ? v16_mul(bias, inv_mp) : bias);
    }
    return u;
}

V16_FN void residual_row(float *out, const float *x, const float *residual, const struct tern_residual_terms *terms,
                         size_t n, struct tern_row_flow flow)
{
    size_t i = flow_head(flow.stream, out, 64, sizeof *out, n);

    if (i)
        v16_store_n(out, residual_value(x, residual, terms, 0, i), i);
    for (; i + 16 <= n; i += 16) {
        flow_store(flow.stream, out + i, residual_value(x, residual, terms, i, 16));
        flow_ahead(flow, 4 * i);
    }
    if (i < n)
        v16_store_n(out + i, residual_value(x, residual, terms, i, n - i), n - i);
}

/* The sum of two rows alone has a loop without questions. */
static void TERN_K(residual_add_f32)(float *out, const float *x, const float *residual,
                                     const struct tern_residual_terms *terms, size_t n,
                                     const struct tern_row_flow *hints)
{
    const struct tern_residual_terms t = *terms, two = { .inv_mp = t.inv_mp };
    const struct tern_row_flow flow = flow_of(hints);

    if (!t.attention && !t.attention_bias && !t.final_bias)
        residual_row(out, x, residual, &two, n, flow);
    else
        residual_row(out, x, residual, &t, n, flow);
}

static void TERN_K(rotary_f32)(float *x, const float *cos, const float *sin, size_t rot, bool neighbours)
{
    const size_t pairs = rot / 2;

    if (neighbours) {
        for (size_t p = 0; p < pairs; p++) {
            const float a = x[2 * p], b = x[2 * p + 1];
            x[2 * p] = fmaf(a, cos[p], -(b * sin[p]));
            x[2 * p + 1] = fmaf(b, cos[p], a * sin[p]);
        }
        return;
    }
    for (size_t p = 0; p < pairs; p += 16) {
        const size_t lanes = pairs - p;
        const v16 a = v16_load_n(x + p, lanes), b = v16_load_n(x + pairs + p, lanes);
        const v16 c = v16_load_n(cos + p, lanes), s = v16_load_n(sin + p, lanes);

        v16_store_n(x + p, v16_fma(a, c, v16_sub(v16_set1(-0.0f), v16_mul(b, s))), lanes);
        v16_store_n(x + pairs + p, v16_fma(b, c, v16_mul(a, s)), lanes);
    }
}
