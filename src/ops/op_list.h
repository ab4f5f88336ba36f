/* op_list.h: every operator and kernel function that runs by name, in the order that tools show them.  Each name stands for
 * `tern_row_NAME` in the file of that operator.  No include guard: it is read with different definitions of TERN_OP. */
TERN_OP(qkv_gemm)
TERN_OP(softmax_context)
TERN_OP(vector_matmul)
TERN_OP(mlp_gemm)
TERN_OP(gelu_gemm)
TERN_OP(residual_add)
TERN_OP(linear)
TERN_OP(softmax)
