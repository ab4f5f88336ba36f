/* kernel_list.h: every kernel, with the bound that its check holds it to.
 *
 * TERN_KERNEL(name, bound) makes the slot in struct tern_kernels, the null check at start, and demands check_<name> in
 * tern-check: a kernel without a check does not link.
 * TERN_EXACT: the definition's bits.  TERN_ULP(n): within n units in the last place of the f64 definition.
 * TERN_ULP_OR(n, e): within n such units, or within e in all.  TERN_REL(e): within e of the scale that the check states.
 * Units are those of the larger of the result and, where a result is a sum that can cancel, its largest term. */
TERN_KERNEL(gemm_f32, TERN_EXACT)
TERN_KERNEL(gemm_f32_f16, TERN_EXACT)
TERN_KERNEL(gemm_f32_bf16, TERN_EXACT)
TERN_KERNEL(gemm_f32_q8, TERN_EXACT)
TERN_KERNEL(gemm_bf16, TERN_REL(2.5e-7))
TERN_KERNEL(gemm_q8, TERN_EXACT)
TERN_KERNEL(quantize_row_q8, TERN_EXACT)
TERN_KERNEL(pair_bf16, TERN_EXACT)
TERN_KERNEL(pack_q8, TERN_EXACT)
TERN_KERNEL(dequant_q8, TERN_EXACT)
TERN_KERNEL(dequant_q4, TERN_EXACT)
TERN_KERNEL(pack_f32, TERN_EXACT)
TERN_KERNEL(pack_f16, TERN_EXACT)
TERN_KERNEL(pack_bf16, TERN_EXACT)
TERN_KERNEL(f32_from_f16, TERN_EXACT)
TERN_KERNEL(f32_from_bf16, TERN_EXACT)
TERN_KERNEL(f16_from_f32, TERN_EXACT)
TERN_KERNEL(bf16_from_f32, TERN_EXACT)
TERN_KERNEL(act_f32, TERN_ULP_OR(4, 6e-8))
TERN_KERNEL(epilogue_f32, TERN_ULP_OR(4, 6e-8))
TERN_KERNEL(epilogue_s32, TERN_ULP_OR(4, 6e-8))
TERN_KERNEL(layer_norm_f32, TERN_ULP(8))
TERN_KERNEL(layer_norm_residual_f32, TERN_ULP(8))
TERN_KERNEL(rms_norm_f32, TERN_ULP(8))
TERN_KERNEL(rms_norm_residual_f32, TERN_ULP(8))
TERN_KERNEL(softmax_f32, TERN_ULP(32))
TERN_KERNEL(axpy_f32, TERN_EXACT)
TERN_KERNEL(residual_add_f32, TERN_EXACT)
TERN_KERNEL(rotary_f32, TERN_EXACT)
TERN_KERNEL(kv_store_f32, TERN_EXACT)
TERN_KERNEL(attention_f32, TERN_REL(2e-7))
