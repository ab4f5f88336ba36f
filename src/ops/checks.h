/* checks.h: what operators ask of their tensors and configs before anything runs.
 *
 * Every text names the operator, the tensor or field, what was found and what was expected.  A check changes nothing, so
 * an operator that made all of its checks before its first write leaves its outputs alone on error. */
#ifndef TERN_OPS_CHECKS_H
#define TERN_OPS_CHECKS_H

#include "base/ctx.h"
#include "base/memory.h"
#include "base/scratch.h"
#include "ops/kernel_calls.h"

#include <tern/op.h>

/* "[2, 3, 4]" for a shape; for messages. */
struct tern_dims_text {
    char text[TERN_MAX_RANK * 22 + 4];
};
struct tern_dims_text tern_dims_text(const tern_tensor *t);

/* A dense tensor of numbers of this dtype whose data are there. */
tern_status tern_check_tensor(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t, tern_dtype dtype);

/* A matrix [in, out], packed or raw (then [out, in] when transposed; fp32, fp16 or bf16); -1 takes any.  found_out may be NULL. */
tern_status tern_check_weight(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t, bool transposed,
                              int64_t in, int64_t out, int64_t *found_out);

/* Tensors that one call must not mix up. */
struct tern_operand {
    const char *name;
    const tern_tensor *tensor; /* or NULL */
    bool output;
    bool may_be_output; /* an input that an output may be, exactly */
};
/* No output overlaps another output or an input, but for the inputs that it may be. */
tern_status tern_check_overlaps(tern_ctx *ctx, const char *op, const struct tern_operand *operands, size_t n);

/* Whether a parameter "or NULL" is there: neither NULL nor a view of rank -1. */
static inline bool tern_given(const tern_tensor *t)
{
    return t && t->rank >= 0;
}

/* The numbers of a checked optional tensor, NULL if it is not there. */
static inline float *tern_floats(const tern_tensor *t)
{
    return tern_given(t) ? t->data : NULL;
}

/* A matrix for products in config->dtype (which weight fits: docs/operators.md); layout by
 * config->transposed_mode.  -1 takes any size. */
tern_status tern_check_matrix(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t,
                              const tern_config *config, int64_t in, int64_t out, int64_t *found_out);
/* The weight behind such a matrix: the packed one, or a raw one packed now in the format of config->dtype. */
tern_status tern_bind_matrix(tern_ctx *ctx, const tern_tensor *t, const tern_config *config, const tern_weight **weight,
                             tern_weight **owned);
/* The scales NAME_scale of raw int8 codes of `matrices` matrices with `out` output channels each: fp32, finite, G for every matrix, one
 * matrix after the other; G divides out.  One matrix takes them in any shape of rank 1 or more, several as [matrices, ..]. */
tern_status tern_check_scales(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t, int64_t matrices,
                              int64_t out);
/* A raw int8 matrix with its scales, packed. */
tern_status tern_pack_int8(tern_ctx *ctx, const char *op, const char *name, const tern_tensor *t, bool transposed,
                           const tern_tensor *scales, tern_weight **out);

/* What an operator reads of a config; the bits choose which fields are checked. */
enum tern_config_reads {
    TERN_READS_NORM = 1,       /* norm_type, layer_norm_eps, pre_layer_norm */
    TERN_READS_ACTIVATION = 2, /* mlp_act_func_type, gelu */
    TERN_READS_GELU = 4,       /* gelu */
    TERN_READS_HEADS = 8,      /* hidden_size, heads, num_kv, mp_size */
    TERN_READS_ATTENTION = 16, /* rotary, window, layer_id where it scales */
    TERN_READS_MP = 32,        /* mp_size */
    TERN_READS_SIZES = 64,     /* hidden_size, intermediate_size */
    TERN_READS_ROTARY = 128    /* rotary_dim, rotate_half, rotate_every_two, rope_theta, of a function without heads */
};
tern_status tern_check_config(tern_ctx *ctx, const char *op, const tern_config *config, unsigned reads);

/* bool and integers of any width. */
static inline bool tern_is_integer(tern_dtype dtype)
{
    return (dtype >= TERN_UINT8 && dtype <= TERN_BOOL) || dtype == TERN_INT8;
}

/* Whether an activation multiplies the up-projection by act(gate), so that this has 2I columns. */
static inline bool tern_is_gated(tern_activation activation)
{
    return activation == TERN_GATED_GELU || activation == TERN_GATED_SILU;
}

/* Sizes of one rank that follow from a checked config. */
struct tern_config_sizes {
    int64_t hidden;   /* H */
    int64_t inner;    /* I of this rank */
    int64_t up;       /* p I of this rank */
    int64_t head_dim; /* E */
    int32_t heads;    /* h of this rank */
    int32_t kv_heads; /* G of this rank */
    int64_t qkv;      /* (h + 2G) E */
    int64_t context;  /* h E */
};
struct tern_config_sizes tern_config_sizes(const tern_config *config);

/* 1 / sqrt(E), rounded once, whatever the caller's rounding mode: what scores are multiplied by where no scale is given. */
float tern_standard_scale(int64_t head_dim);

/* Whether rotary pairs are neighbours, of a checked config. */
static inline bool tern_config_neighbours(const tern_config *config)
{
    return config->rotate_every_two < 0 ? !config->rotate_half : config->rotate_every_two != 0;
}

/* A: what activations are stored in. */
static inline tern_dtype tern_config_activation(const tern_config *config)
{
    return config->dtype == TERN_INT8 ? config->activation_dtype : config->dtype;
}

/* Whether rows are rounded before they enter a product (tern_gemm_run_narrow): to bf16, or to s8 with a scale each. */
static inline bool tern_config_narrow(const tern_config *config)
{
    return config->dtype == TERN_BF16 || (config->dtype == TERN_INT8 && config->activation_quant == TERN_QUANT_ROW);
}

/* data[0..n), fp32, fp16 or bf16, widened exactly to fp32. */
void tern_widen(const struct tern_kernels *kernels, float *to, const void *data, tern_dtype dtype, size_t n);

/* The kernels that a config asks for: the context's, or the definitions. */
const struct tern_kernels *tern_kernels_for(const tern_ctx *ctx, const tern_config *config);
/* The definitions (kernels/ref) in the form of a table. */
const struct tern_kernels *tern_kernels_reference(void);

/* `par` with another table. */
static inline struct tern_par tern_par_with(const struct tern_par *par, const struct tern_kernels *kernels)
{
    struct tern_par with = *par;

    with.kernels = kernels;
    return with;
}

#endif
