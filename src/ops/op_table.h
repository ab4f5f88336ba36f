/* op_table.h: the table of operators: op x dtype x norm x device. */
#ifndef TERN_OPS_OP_TABLE_H
#define TERN_OPS_OP_TABLE_H

#include "ops/checks.h"

enum tern_op_id {
    TERN_OP_QKV_GEMM,
    TERN_OP_SOFTMAX_CONTEXT,
    TERN_OP_VECTOR_MATMUL,
    TERN_OP_MLP_GEMM,
    TERN_OP_GELU_GEMM,
    TERN_OP_RESIDUAL_ADD,
    TERN_OP_LINEAR,
    TERN_OP_SOFTMAX,
    TERN_OP_COUNT
};

/* The most named tensors of one operator. */
#define TERN_OP_IO_MAX 10

/* What operators read beyond the fields that tern_check_config() looks at; for the lists that tools show. */
enum tern_op_reads {
    TERN_READS_BLOCK = 1 << 16, /* pre_layer_norm, mlp_after_attn */
    TERN_READS_MATRIX = 1 << 17 /* transposed_mode; follows from a tensor that is a matrix */
};

/* io: the tensors in the order of the row, NULL where not given. */
typedef tern_status tern_op_run_fn(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                   const tern_op_call *call);

struct tern_op_row {
    const char *name;
    const char *formula;
    unsigned dtypes;     /* one bit per tern_dtype that has a kernel */
    unsigned norms;      /* one bit per tern_norm; 0: the operator has no norm, so any will do */
    unsigned devices;    /* one bit per tern_device */
    unsigned reads;      /* enum tern_config_reads and enum tern_op_reads */
    const char *kernels; /* those that it runs, as in kernel_list.h; "*" is layer_norm or rms_norm */
    tern_op_run_fn *run;
    tern_op_tensor io[TERN_OP_IO_MAX + 1]; /* ends with a NULL name */
};
const struct tern_op_row *tern_op_row(int index); /* NULL outside of the table */

/* Whether the table has an operator for this config, and whether the fields that it reads are right. */
tern_status tern_op_check(tern_ctx *ctx, enum tern_op_id id, const tern_config *config);

#endif
