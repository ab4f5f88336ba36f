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

/* io: the tensors in the order of the row's names, NULL where not given. */
typedef tern_status tern_op_run_fn(tern_ctx *ctx, const tern_config *config, tern_tensor *const *io,
                                   const tern_op_call *call);

struct tern_op_row {
    const char *name;
    unsigned dtypes;  /* one bit per tern_dtype that has a kernel */
    unsigned norms;   /* one bit per tern_norm; 0: the operator has no norm, so any will do */
    unsigned devices; /* one bit per tern_device */
    unsigned reads;   /* enum tern_config_reads: config fields that are checked */
    tern_op_run_fn *run;
    const char *io[TERN_OP_IO_MAX + 1]; /* names; one that may be left out ends in '?' */
};

/* Whether the table has an operator for this config, and whether the fields that it reads are right. */
tern_status tern_op_check(tern_ctx *ctx, enum tern_op_id id, const tern_config *config);

#endif
