/* op_table.h: the table of operators: op x dtype x norm x device.
 *
 * A row stands in the file of its operator, its name in op_list.h; everything that works by name reads the rows. */
#ifndef TERN_OPS_OP_TABLE_H
#define TERN_OPS_OP_TABLE_H

#include "ops/checks.h"

/* The most named tensors of one operator. */
#define TERN_OP_IO_MAX 16

/* What operators read beyond the fields that tern_check_config() looks at; for the lists that tools show. */
enum tern_op_reads {
    TERN_READS_BLOCK = 1 << 16,  /* pre_layer_norm, mlp_after_attn */
    TERN_READS_MATRIX = 1 << 17, /* transposed_mode; follows from a tensor that is a matrix */
    TERN_READS_MASK = 1 << 18,   /* invert_mask; follows from a tensor that is a mask */
    TERN_READS_EPS = 1 << 19,    /* layer_norm_eps alone */
    TERN_READS_AFTER = 1 << 21,  /* mlp_after_attn alone */
    TERN_READS_TUNE = 1 << 22,   /* triton_autotune and what it tunes for: a product with a weight (tune.c) */
    TERN_READS_WORKSPACE =
        1 << 20 /* max_out_tokens, min_out_tokens, num_hidden_layers, bigscience_bloom, mlp_act_func_type */
};

/* io: the tensors in the order of the row, NULL where not given; their dtypes fit the config.  int8 matrices are packed.
 * call is never NULL, nor is call->params. */
typedef tern_status tern_op_run_fn(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                   const tern_op_call *call);

/* Shapes that do not follow from a row's texts: found[i] is output i as its text gives it, of rank -1 where that has a symbol
 * that no input names.  Sets those that differ.  io as above, outputs not yet known. */
typedef tern_status tern_op_infer_fn(tern_ctx *ctx, const tern_config *config, const tern_op_params *params,
                                     tern_tensor *const *io, tern_tensor *found);

struct tern_op_row {
    const char *name;
    const char *also;      /* another name for it, or NULL */
    tern_dtype also_dtype; /* the only dtype that the other name stands for */
    const char *formula;
    unsigned dtypes;                /* one bit per tern_dtype that it runs in */
    unsigned norms;                 /* one bit per tern_norm; 0: the operator has no norm, so any will do */
    unsigned devices;               /* one bit per tern_device */
    unsigned reads;                 /* enum tern_config_reads and enum tern_op_reads */
    const char *params;             /* names of its own parameters (config_fields.c), a space between two; NULL: none */
    const char *const *activations; /* what its parameter activation may be, ends with NULL; NULL: it has none */
    const char *
        kernels; /* those that it runs, as in kernel_list.h, "" for none; "*" is layer_norm or rms_norm, "gemm" that of the dtype, "name_" name_f32 and so on */
    bool function; /* a function without a config: `kernel` is seen to by tern_op_run() */
    tern_op_run_fn *run;
    tern_op_infer_fn *infer;               /* or NULL */
    tern_op_tensor io[TERN_OP_IO_MAX + 1]; /* ends with a NULL name */
};
const struct tern_op_row *tern_op_row(int index); /* NULL outside of the table */

#define TERN_OP(name) extern const struct tern_op_row tern_row_##name;
#include "ops/op_list.h"
#undef TERN_OP

/* Whether the row has an operator for this config, and whether the fields that it reads are right. */
tern_status tern_op_check(tern_ctx *ctx, const struct tern_op_row *row, const tern_config *config);

/* ---- what rows are written in ---- */

#define TERN_ALL_DTYPES (1u << TERN_FP32 | 1u << TERN_FP16 | 1u << TERN_BF16 | 1u << TERN_INT8)
#define TERN_ANY_NORM   (1u << TERN_LAYER_NORM | 1u << TERN_RMS_NORM)
#define TERN_ON_CPU     (1u << TERN_CPU)

/* clang-format off */
#define TERN_IN(n, s)              { .name = n, .shape = s }
#define TERN_IN_OPTIONAL(n, s)     { .name = n, .shape = s, .optional = true }
#define TERN_VECTOR(n, s)          { .name = n, .shape = s, .type = TERN_OP_VECTOR }
#define TERN_VECTOR_OPTIONAL(n, s) { .name = n, .shape = s, .type = TERN_OP_VECTOR, .optional = true }
#define TERN_MATRIX(n, s)          { .name = n, .shape = s, .type = TERN_OP_MATRIX }
#define TERN_SCALE(n)              { .name = n "_scale", .shape = "[G]", .type = TERN_OP_SCALE, .optional = true } /* of matrix n */
#define TERN_SCALES(n)             { .name = n "_scale", .shape = "[X, G]", .type = TERN_OP_SCALE, .optional = true } /* of X matrices */
#define TERN_SCALE_ALSO(n, a)      { .name = n "_scale", .shape = "[G]", .type = TERN_OP_SCALE, .optional = true, .also = a }
#define TERN_INTS(n, s)            { .name = n, .shape = s, .type = TERN_OP_INTS }
#define TERN_INTS_OPTIONAL(n, s)   { .name = n, .shape = s, .type = TERN_OP_INTS, .optional = true }
#define TERN_MASK(n, s)            { .name = n, .shape = s, .type = TERN_OP_MASK, .optional = true, .also = "attn_" n }
#define TERN_IN_ALSO(n, s, a)      { .name = n, .shape = s, .also = a }
#define TERN_VECTOR_ALSO(n, s, a)  { .name = n, .shape = s, .type = TERN_OP_VECTOR, .also = a }
#define TERN_VECTOR_OPTIONAL_ALSO(n, s, a) { .name = n, .shape = s, .type = TERN_OP_VECTOR, .optional = true, .also = a }
#define TERN_MATRIX_ALSO(n, s, a)  { .name = n, .shape = s, .type = TERN_OP_MATRIX, .also = a }
#define TERN_OUT(n, s)             { .name = n, .shape = s, .output = true }
#define TERN_OUT_ALSO(n, s, a)     { .name = n, .shape = s, .output = true, .also = a }
#define TERN_OUT_OPTIONAL(n, s)    { .name = n, .shape = s, .output = true, .optional = true }
#define TERN_OUT_TYPED(n, s, t)    { .name = n, .shape = s, .output = true, .type = t }
/* clang-format on */

#endif
