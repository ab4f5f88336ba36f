/* quantize_spans.h: quantised tensors from inside, and their numbers piece by piece. */
#ifndef TERN_OPS_QUANTIZE_SPANS_H
#define TERN_OPS_QUANTIZE_SPANS_H

#include "ops/checks.h"

#include <tern/quantize.h>

struct tern_qtensor {
    tern_quant_layout layout;
    float *scales;
    float *minima; /* NULL if symmetric */
    uint8_t *codes;
    size_t n; /* elements */
    size_t code_bytes;
};

/* Groups of each of n shards like w, by the checkpoint or the injection scheme. */
int64_t tern_quant_groups(const tern_quant_options *o, const tern_tensor *w, int64_t n);

/* Bits, grouping, axis, shape and group sizes agree; *n gets the number of elements. */
tern_status tern_quant_check_layout(tern_ctx *ctx, const char *op, const tern_quant_layout *layout, size_t *n);

/* A tensor with room for codes and scales, all zero.  The layout was checked. */
tern_status tern_qtensor_alloc(tern_ctx *ctx, const tern_quant_layout *layout, size_t n, tern_qtensor **out);

/* to[0..n) = elements first .. first + n of the flattened tensor, in fp32.  Any borders, also inside groups and bytes.
 * Called in regions: allocates nothing, cannot fail; floating-point modes are the caller's matter. */
void tern_dequant_span(const struct tern_qtensor *q, float *to, size_t first, size_t n);

/* The group of element (row, col) of a matrix, and how many elements from there on in its row (cols >= 1) and in its column
 * (rows >= 1) are of the same one. */
struct tern_quant_place {
    size_t group, rows, cols;
};
struct tern_quant_place tern_quant_place_at(const tern_quant_layout *layout, size_t row, size_t col);

/* out[o] = scales[o / (n / groups)], o < n; groups divides n. */
void tern_quant_expand(float *out, size_t n, const float *scales, size_t groups);

#endif
