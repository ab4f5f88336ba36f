/* check_norm.c: LayerNorm and RMSNorm, alone and behind a residual sum. */
#include "tc.h"

static const size_t sizes[] = { 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 100, 768, 4099, 16384 };

/* What the error of a LayerNorm is relative to: its largest terms, (|x| + mean |x|) rstd |gamma| + |beta|. */
static float *layer_norm_scale(struct tc *t, const float *x, const float *gamma, const float *beta, size_t n, float eps)
{
    float *scale = tc_out_f32(t, n);
    double mean = 0, size = 0, variance = 0;

    for (size_t i = 0; i < n; i++) {
        mean += x[i] / (double)n;
        size += fabs(x[i]) / (double)n;
    }
    for (size_t i = 0; i < n; i++)
        variance += (x[i] - mean) * (x[i] - mean) / (double)n;
    for (size_t i = 0; i < n; i++)
        scale[i] = (float)((fabs(x[i]) + size) / sqrt(variance + eps) * fabs(gamma[i]) + (beta ? fabs(beta[i]) : 0));
    return scale;
}

void check_layer_norm_f32(struct tc *t)
{
    for (size_t s = 0; s < TC_COUNT(sizes); s++)
        for (int form = 0; form < 4; form++) {
            const size_t n = sizes[s];
            const float eps = form & 2 ? 0.5f : 1e-5f;

            if (!tc_case(t, "n=%zu%s,eps=%g", n, form & 1 ? "" : ",beta", eps))
                continue;
            const float *x = tc_in_f32(t, n, form & 2 ? TC_NEAR_ONE : TC_OUTLIERS),
                        *gamma = tc_in_f32(t, n, TC_NEAR_ONE);
            const float *beta = form & 1 ? NULL : tc_in_f32(t, n, TC_NORMAL);
            float *want = tc_out_f32(t, n), *base = tc_out_f32(t, n), *got = tc_out_f32(t, n),
                  *place = tc_copy_f32(t, x, n);

            t->ref.layer_norm_f32(want, x, gamma, beta, n, eps, NULL);
            t->base.layer_norm_f32(base, x, gamma, beta, n, eps, NULL);
            t->new.layer_norm_f32(got, x, gamma, beta, n, eps, NULL);
            t->new.layer_norm_f32(place, place, gamma, beta, n, eps, NULL);
            tc_near_f32(t, want, got, layer_norm_scale(t, x, gamma, beta, n, eps), n);
            tc_same_f32(t, base, got, n);
            tc_same_f32(t, got, place, n);

            const struct tern_row_flow flow = tc_flow(t, n);
            float *streamed = tc_out_row_f32(t, n);

            t->new.layer_norm_f32(streamed, x, gamma, beta, n, eps, &flow);
            tc_same_row_f32(t, got, streamed, n);
        }
    if (tc_case(t, "nan")) {
        float *x = tc_copy_f32(t, tc_in_f32(t, 40, TC_NORMAL), 40), *want = tc_out_f32(t, 40), *got = tc_out_f32(t, 40);

        x[37] = NAN;
        t->ref.layer_norm_f32(want, x, x, NULL, 40, 0, NULL);
        t->new.layer_norm_f32(got, x, x, NULL, 40, 0, NULL);
        tc_same_f32(t, want, got, 40);
    }
    for (size_t n = 768; n <= 3072; n *= 4)
        if (tc_bench(t, 8.0 * (double)n, 0, "n=%zu", n)) {
            const float *x = tc_in_f32(t, n, TC_NORMAL), *gamma = tc_in_f32(t, n, TC_NEAR_ONE),
                        *beta = tc_in_f32(t, n, TC_NORMAL);
            float *y = tc_out_f32(t, n);

            TC_TIME(t) t->new.layer_norm_f32(y, x, gamma, beta, n, 1e-5f, NULL);
        }
}

void check_rms_norm_f32(struct tc *t)
{
    for (size_t s = 0; s < TC_COUNT(sizes); s++)
        for (int form = 0; form < 2; form++) {
            const size_t n = sizes[s];
            const float eps = form ? 0.5f : 1e-5f;

            if (!tc_case(t, "n=%zu,eps=%g", n, eps))
                continue;
            const float *x = tc_in_f32(t, n, TC_OUTLIERS), *gamma = tc_in_f32(t, n, TC_NEAR_ONE);
            float *want = tc_out_f32(t, n), *base = tc_out_f32(t, n), *got = tc_out_f32(t, n),
                  *place = tc_copy_f32(t, x, n);

            t->ref.rms_norm_f32(want, x, gamma, n, eps, NULL);
            t->base.rms_norm_f32(base, x, gamma, n, eps, NULL);
            t->new.rms_norm_f32(got, x, gamma, n, eps, NULL);
            t->new.rms_norm_f32(place, place, gamma, n, eps, NULL);
            tc_near_f32(t, want, got, NULL, n);
            tc_same_f32(t, base, got, n);
            tc_same_f32(t, got, place, n);

            const struct tern_row_flow flow = tc_flow(t, n);
            float *streamed = tc_out_row_f32(t, n);

            t->new.rms_norm_f32(streamed, x, gamma, n, eps, &flow);
            tc_same_row_f32(t, got, streamed, n);
        }
    for (size_t n = 768; n <= 3072; n *= 4)
        if (tc_bench(t, 8.0 * (double)n, 0, "n=%zu", n)) {
            const float *x = tc_in_f32(t, n, TC_NORMAL), *gamma = tc_in_f32(t, n, TC_NEAR_ONE);
            float *y = tc_out_f32(t, n);

            TC_TIME(t) t->new.rms_norm_f32(y, x, gamma, n, 1e-5f, NULL);
        }
}

/* Both residual norms: which of bias (1), residual (2) and sum (4) are given; 8: y == x and sum == residual, or y == residual and
 * sum == x. */
static void check_residual(struct tc *t, bool layer)
{
    for (size_t s = 0; s < TC_COUNT(sizes); s++)
        for (int form = 0; form < 16; form++) {
            const size_t n = sizes[s];
            struct tern_kernels *k[3] = { &t->ref, &t->base, &t->new };
            float *y[3], *sum[3];

            if (n > 4099 && form != 7)
                continue;
            if (!tc_case(t, "n=%zu%s%s%s%s", n, form & 1 ? ",bias" : "", form & 2 ? ",residual" : "",
                         form & 4 ? ",sum" : "", form & 8 ? ",in place" : ""))
                continue;
            const float *x = tc_in_f32(t, n, TC_OUTLIERS), *gamma = tc_in_f32(t, n, TC_NEAR_ONE);
            const float *beta = tc_in_f32(t, n, TC_NORMAL), *bias = tc_in_f32(t, n, TC_NORMAL);
            const float *residual = tc_in_f32(t, n, TC_NORMAL);

            for (int i = 0; i < 3; i++) {
                const float *from = x, *add = residual;

                y[i] = tc_out_f32(t, n);
                sum[i] = tc_out_f32(t, n);
                if (form & 8) {
                    from = memcpy(s % 2 ? sum[i] : y[i], x, n * sizeof *x);
                    add = memcpy(s % 2 ? y[i] : sum[i], residual, n * sizeof *x);
                }
                if (layer)
                    k[i]->layer_norm_residual_f32(y[i], form & 4 ? sum[i] : NULL, from, form & 1 ? bias : NULL,
                                                  form & 2 ? add : NULL, gamma, beta, n, 1e-5f, NULL);
                else
                    k[i]->rms_norm_residual_f32(y[i], form & 4 ? sum[i] : NULL, from, form & 1 ? bias : NULL,
                                                form & 2 ? add : NULL, gamma, n, 1e-5f, NULL);
            }
            tc_same_f32(t, sum[0], sum[2], n); /* one addition after the other: exact */
            if (layer && form & 4)
                tc_near_f32(t, y[0], y[2], layer_norm_scale(t, sum[0], gamma, beta, n, 1e-5f), n);
            else if (!layer)
                tc_near_f32(t, y[0], y[2], NULL, n);
            tc_same_f32(t, y[1], y[2], n);

            if (form & 8)
                continue;
            const struct tern_row_flow flow = tc_flow(t, n);
            float *streamed = tc_out_row_f32(t, n), *stored = tc_out_f32(t, n);

            if (layer)
                t->new.layer_norm_residual_f32(streamed, form & 4 ? stored : NULL, x, form & 1 ? bias : NULL,
                                               form & 2 ? residual : NULL, gamma, beta, n, 1e-5f, &flow);
            else
                t->new.rms_norm_residual_f32(streamed, form & 4 ? stored : NULL, x, form & 1 ? bias : NULL,
                                             form & 2 ? residual : NULL, gamma, n, 1e-5f, &flow);
            tc_same_f32(t, sum[2], stored, n);
            tc_same_row_f32(t, y[2], streamed, n);
        }
    if (tc_bench(t, 16.0 * 768, 0, "n=768")) {
        const float *x = tc_in_f32(t, 768, TC_NORMAL), *gamma = tc_in_f32(t, 768, TC_NEAR_ONE);
        const float *residual = tc_in_f32(t, 768, TC_NORMAL);
        float *y = tc_out_f32(t, 768), *sum = tc_out_f32(t, 768);

        if (layer)
            TC_TIME(t) t->new.layer_norm_residual_f32(y, sum, x, gamma, residual, gamma, gamma, 768, 1e-5f, NULL);
        else
            TC_TIME(t) t->new.rms_norm_residual_f32(y, sum, x, gamma, residual, gamma, 768, 1e-5f, NULL);
    }
}

void check_layer_norm_residual_f32(struct tc *t)
{
    check_residual(t, true);
}

void check_rms_norm_residual_f32(struct tc *t)
{
    check_residual(t, false);
}
