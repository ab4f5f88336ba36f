/* config.c: the defaults of configs. */
#include <tern/moe.h>

tern_config tern_config_default(void)
{
    return (tern_config){
        .hidden_size = -1,
        .intermediate_size = -1,
        .heads = -1,
        .num_hidden_layers = -1,
        .layer_norm_eps = 1e-12f,
        .local_rank = -1,
        .mp_size = 1,
        .dtype = TERN_FP16,
        .pre_layer_norm = true,
        .norm_type = TERN_LAYER_NORM,
        .scale_attention = true,
        .triangular_masking = true,
        .window_size = 256,
        .rotary_dim = -1,
        .rotate_every_two = -1,
        .return_tuple = true,
        .mlp_after_attn = true,
        .mlp_act_func_type = TERN_GELU,
        .training_mp_size = 1,
        .max_out_tokens = 1024,
        .min_out_tokens = 1,
        .num_kv = -1,
        .rope_theta = 10000.0f,
        .invert_mask = true,
        .layer_id = -1,
        .device = TERN_CPU,
        .kernel = TERN_KERNEL_AUTO,
        .gelu = TERN_GELU_UNSET,
        .activation_dtype = TERN_FP16,
        .activation_quant = TERN_QUANT_NONE,
    };
}

tern_moe_config tern_moe_config_default(void)
{
    return (tern_moe_config){
        .moe_experts = 1,
        .global_experts = 1,
        .k = 1,
        .capacity_factor = 1,
        .eval_capacity_factor = 1,
        .min_capacity = 1,
        .drop_tokens = true,
        .normalize = -1,
    };
}
