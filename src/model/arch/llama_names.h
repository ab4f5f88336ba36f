/* llama_names.h: tensors that LLaMA, Gemma, Mixtral, Qwen, StableLM and InternLM have under the same names, below "model.". */
#ifndef TERN_MODEL_ARCH_LLAMA_NAMES_H
#define TERN_MODEL_ARCH_LLAMA_NAMES_H

#define LLAMA_ATTENTION_NAMES                                                                                  \
    .embed = "embed_tokens", .final_norm = "norm", .head = "lm_head", .attn_norm = "layers.#.input_layernorm", \
    .q = "layers.#.self_attn.q_proj", .k = "layers.#.self_attn.k_proj", .v = "layers.#.self_attn.v_proj",      \
    .out = "layers.#.self_attn.o_proj"

#define LLAMA_HEAD_NORM_NAMES .q_norm = "layers.#.self_attn.q_norm", .k_norm = "layers.#.self_attn.k_norm"

#define LLAMA_MLP_NAMES .up = "layers.#.mlp.up_proj", .gate = "layers.#.mlp.gate_proj", .down = "layers.#.mlp.down_proj"

#define LLAMA_SECOND_NORM .mlp_norm = "layers.#.post_attention_layernorm"

#endif
