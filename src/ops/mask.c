/* mask.c: see mask.h. */
#include "ops/mask.h"

#include "ops/widen.h"

#include <math.h>
#include <string.h>

tern_status tern_mask_check(tern_ctx *ctx, const char *op, const tern_tensor *mask, tern_dtype dtype)
{
    if (!tern_given(mask))
        return TERN_OK;
    TERN_REQUIRE(ctx, mask->dtype == dtype || mask->dtype == TERN_FP32 || tern_is_integer(mask->dtype), TERN_ERR_DTYPE,
                 "%s: mask is %s, expected %s%s, bool or integers", op, tern_dtype_name(mask->dtype),
                 tern_dtype_name(dtype), dtype == TERN_FP32 ? "" : ", fp32");
    return tern_check_tensor(ctx, op, "mask", mask, mask->dtype);
}

bool tern_mask_fit(const tern_tensor *mask, bool visible, const int64_t *full, bool longer, struct tern_mask *out)
{
    *out = (struct tern_mask){ 0 };
    if (!tern_given(mask))
        return true;
    if (mask->rank > 4)
        return false;
    const int64_t columns = mask->rank ? mask->dim[mask->rank - 1] : 1;
    if (columns != 1 && columns != full[3] && !(longer && columns > full[3]))
        return false;
    out->tensor = mask;
    out->visible = visible;
    out->columns = (size_t)columns;
    out->width = (size_t)full[3];
    out->made = mask->dtype != TERN_FP32 || out->columns < out->width;
    out->n_rows = 1;
    size_t step = out->made ? out->width : out->columns;
    if (mask->rank == 2 && mask->dim[0] != 1 && mask->dim[0] != full[2] && mask->dim[0] == full[0]) {
        out->stride[0] = step;
        out->n_rows = (size_t)mask->dim[0];
        return true;
    }
    for (int i = mask->rank - 2, axis = 2; i >= 0; i--, axis--) {
        const int64_t n = mask->dim[i];
        if (n != 1 && n != full[axis])
            return false;
        out->stride[axis] = n == 1 ? 0 : step;
        step *= (size_t)n;
        out->n_rows *= (size_t)n;
    }
    return true;
}

tern_status tern_mask_open(tern_ctx *ctx, struct tern_mask *mask)
{
    if (!mask->tensor)
        return TERN_OK;
    mask->rows = mask->tensor->data;
    if (!mask->made)
        return TERN_OK;
    mask->bytes = tern_mul_or_max(tern_mul_or_max(mask->n_rows, mask->width), sizeof(float));
    TERN_TRY(tern_scratch_take(ctx, mask->bytes, "a mask in fp32", &mask->memory));
    mask->rows = mask->memory;
    return TERN_OK;
}

void tern_mask_close(tern_ctx *ctx, struct tern_mask *mask)
{
    tern_scratch_give(ctx, mask->memory, mask->bytes);
    mask->memory = NULL;
}

/* Whether integer i is 0, of any width. */
static bool is_zero(const tern_tensor *t, size_t i)
{
    static const char zeros[8];
    const size_t size = tern_dtype_size(t->dtype);

    return memcmp((const char *)t->data + i * size, zeros, size) == 0;
}

void tern_mask_load(const struct tern_par *par, const struct tern_mask *mask)
{
    const size_t columns = mask->columns < mask->width ? mask->columns : mask->width;
    size_t row, end;

    if (!mask->made)
        return;
    tern_share(par, mask->n_rows, 1, &row, &end);
    for (; row < end; row++) {
        float *to = (float *)mask->memory + row * mask->width;
        const size_t at = row * mask->columns;
        if (tern_is_integer(mask->tensor->dtype))
            for (size_t j = 0; j < columns; j++)
                to[j] = is_zero(mask->tensor, at + j) == mask->visible ? -INFINITY : 0;
        else
            tern_wide_load(par->kernels, to, mask->tensor->data, mask->tensor->dtype, at, columns);
        for (size_t j = 1; mask->columns == 1 && j < mask->width; j++)
            to[j] = to[0];
    }
    tern_barrier(par);
}
