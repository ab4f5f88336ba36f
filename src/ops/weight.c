/* weight.c: matrices in the layout that the kernels stream, and vectors as fp32. */
#include "base/fpmode.h"
#include "ops/checks.h"

#include <string.h>

struct pack {
    const tern_tensor *w;
    size_t ldk, ldn; /* strides along in and out, in elements */
    struct tern_weight *weight;
};

/* Panels are cut over threads: each is written, and so placed in memory, by one of them. */
static void pack_region(void *arg, const struct tern_par *par)
{
    const struct pack *p = arg;
    const size_t in = (size_t)p->weight->in, out = (size_t)p->weight->out;
    size_t panel, end;

    tern_share(par, (out + TERN_PANEL - 1) / TERN_PANEL, 1, &panel, &end);
    for (; panel < end; panel++) {
        const size_t col = panel * TERN_PANEL, n = out - col < TERN_PANEL ? out - col : TERN_PANEL;
        float *to = p->weight->panels + panel * in * TERN_PANEL;
        if (p->w->dtype == TERN_FP32)
            par->kernels->pack_f32(to, (const float *)p->w->data + col * p->ldn, p->ldk, p->ldn, in, n);
        else if (p->w->dtype == TERN_FP16)
            par->kernels->pack_f16(to, (const uint16_t *)p->w->data + col * p->ldn, p->ldk, p->ldn, in, n);
        else
            par->kernels->pack_bf16(to, (const uint16_t *)p->w->data + col * p->ldn, p->ldk, p->ldn, in, n);
    }
}

tern_status tern_weight_pack(tern_ctx *ctx, const tern_tensor *w, bool transposed, tern_weight **out)
{
    struct tern_weight *weight = NULL;
    size_t panels = 0, bytes = 0;
    void *pages = NULL;
    tern_status status;

    TERN_REQUIRE(ctx, ctx && out, TERN_ERR_ARG, "weight_pack: %s is NULL", ctx ? "out" : "ctx");
    *out = NULL;
    TERN_REQUIRE(ctx, w, TERN_ERR_ARG, "weight_pack: w is NULL, expected a matrix");
    TERN_REQUIRE(ctx, !w->packed, TERN_ERR_ARG, "weight_pack: w is packed already, expected plain numbers");
    TERN_TRY(tern_check_weight(ctx, "weight_pack", "w", w, transposed, -1, -1, NULL));

    TERN_TRY(TERN_ALLOC(ctx, 1, "a packed weight", &weight));
    weight->in = w->dim[transposed];
    weight->out = w->dim[!transposed];
    panels = ((size_t)weight->out + TERN_PANEL - 1) / TERN_PANEL;
    TERN_REQUIRE_OR_FAIL(ctx,
                         tern_size_mul(panels, (size_t)weight->in, &bytes) &&
                             tern_size_mul(bytes, TERN_PANEL * sizeof(float), &bytes),
                         TERN_ERR_MEMORY, "out of memory: panels of a weight %s", tern_dims_text(w).text);
    TERN_TRY_OR_FAIL(tern_pages_alloc(ctx, bytes, "a packed weight", &pages));
    weight->panels = pages;
    weight->bytes = bytes;

    struct pack p = {
        .w = w, .ldk = transposed ? 1 : (size_t)w->dim[1], .ldn = transposed ? (size_t)w->dim[1] : 1, .weight = weight
    };
    TERN_TRY_OR_FAIL(tern_region(ctx, pack_region, &p));
    *out = weight;
    return TERN_OK;

fail:
    tern_weight_destroy(&weight);
    return status;
}

void tern_weight_destroy(tern_weight **w)
{
    if (!w || !*w)
        return;
    tern_pages_free((*w)->panels, (*w)->bytes);
    tern_free(*w);
    *w = NULL;
}

tern_tensor tern_weight_view(const tern_weight *w)
{
    if (!w)
        return tern_tensor_none();
    return (
        tern_tensor){ .packed = w, .dtype = TERN_FP32, .rank = 2, .dim = { w->in, w->out }, .stride = { w->out, 1 } };
}

size_t tern_weight_bytes(const tern_weight *w)
{
    return w ? sizeof *w + w->bytes : 0;
}

void tern_widen(const struct tern_kernels *kernels, float *to, const void *data, tern_dtype dtype, size_t n)
{
    const tern_fpmode caller = tern_fpmode_enter();

    if (dtype == TERN_FP16)
        kernels->f32_from_f16(to, data, n);
    else if (dtype == TERN_BF16)
        kernels->f32_from_bf16(to, data, n);
    else
        memcpy(to, data, n * sizeof *to);
    tern_fpmode_leave(caller);
}
