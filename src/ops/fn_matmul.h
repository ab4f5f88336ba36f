/* fn_matmul.h: what tern_matmul() and tern_moe_gemm() share with their forms for packed weights and int8 codes. */
#ifndef TERN_OPS_FN_MATMUL_H
#define TERN_OPS_FN_MATMUL_H

#include "ops/checks.h"

/* The activations that each takes, for tern_activation_parse(). */
extern const char *const tern_matmul_activations[];
extern const char *const tern_moe_gemm_activations[];

/* Of a checked input [R, K]: bias [experts, n] in its dtype or fp32, or none; row_ends [experts], not decreasing, 0..R. */
tern_status tern_check_row_groups(tern_ctx *ctx, const char *op, const tern_tensor *input, const tern_tensor *bias,
                                  const tern_tensor *row_ends, int64_t experts, int64_t n);

/* tern_matmul() with a packed b; a and b are not NULL. */
tern_status tern_matmul_packed(tern_ctx *ctx, const tern_tensor *a, const tern_tensor *b, const tern_tensor *bias,
                               const char *activation, tern_tensor *output);

#endif
