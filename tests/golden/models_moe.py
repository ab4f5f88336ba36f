"""Cases of make_models.py: Mixtral, Qwen2-MoE and Qwen3-MoE."""
import os

import torch
from safetensors.torch import load_file, save_file
from transformers import (MixtralConfig, MixtralForCausalLM, Qwen2MoeConfig, Qwen2MoeForCausalLM, Qwen3MoeConfig,
                          Qwen3MoeForCausalLM)

from make_models import Case
from models_gemma import spelling

SIZES = dict(vocab_size=97, num_hidden_layers=3, max_position_embeddings=128, bos_token_id=1, eos_token_id=2,
             hidden_size=24, num_attention_heads=2, num_key_value_heads=1)
# A router decides: its scores lie apart.
PLACES = dict(layers="model.layers", norm="model.norm", dtype=torch.bfloat16, kinds={"mlp.gate.weight": 0.6})


def fused(path):
    """The experts of each layer in one, as transformers holds them in memory: gate_up_proj [X, 2 I, H], down_proj [X, H, I]."""
    file = os.path.join(path, "model.safetensors")
    old, new, experts = load_file(file), {}, {}
    for name, value in old.items():
        if ".experts." not in name:
            new[name.replace(".block_sparse_moe.", ".mlp.")] = value
            continue
        before, after = name.split(".experts.")
        number, kind = after.split(".")[:2]
        kind = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}.get(kind, kind)
        key = before.replace(".block_sparse_moe", ".mlp") + ".experts."
        experts.setdefault(key, {}).setdefault(int(number), {})[kind] = value
    for key, of in experts.items():
        all_of = [of[i] for i in range(len(of))]
        new[key + "gate_up_proj"] = torch.stack([torch.cat((e["gate_proj"], e["up_proj"])) for e in all_of])
        new[key + "down_proj"] = torch.stack([e["down_proj"] for e in all_of])
    save_file(new, file, metadata={"format": "pt"})


CASES = [
    Case("mixtral-tiny", MixtralConfig(**SIZES, intermediate_size=28, num_local_experts=5, num_experts_per_tok=2),
         MixtralForCausalLM, **PLACES,
         rewrite=spelling(rope_parameters=None, rope_theta=1e6)),
    Case("mixtral-fused", MixtralConfig(**SIZES | dict(num_key_value_heads=2), intermediate_size=24,
                                        num_local_experts=4, num_experts_per_tok=3, head_dim=8, sliding_window=9,
                                        tie_word_embeddings=True, rms_norm_eps=1e-3, hidden_act="gelu",
                                        rope_parameters={"rope_type": "default", "rope_theta": 500.0}),
         MixtralForCausalLM, **PLACES, rewrite=fused),
    Case("qwen2-moe-tiny", Qwen2MoeConfig(**SIZES, intermediate_size=40, moe_intermediate_size=20,
                                          shared_expert_intermediate_size=36, num_experts=6, num_experts_per_tok=3,
                                          mlp_only_layers=[1]), Qwen2MoeForCausalLM, **PLACES),
    Case("qwen2-moe-window", Qwen2MoeConfig(**SIZES, intermediate_size=52, moe_intermediate_size=16,
                                            shared_expert_intermediate_size=8, num_experts=4, num_experts_per_tok=2,
                                            decoder_sparse_step=2, norm_topk_prob=True, qkv_bias=False,
                                            use_sliding_window=True, sliding_window=6, max_window_layers=1,
                                            hidden_act="gelu", rms_norm_eps=1e-3, tie_word_embeddings=True,
                                            rope_parameters={"rope_type": "default", "rope_theta": 500.0}),
         Qwen2MoeForCausalLM, **PLACES, rewrite=spelling(layer_types=None)),
    Case("qwen3-moe-tiny", Qwen3MoeConfig(**SIZES, intermediate_size=40, moe_intermediate_size=20, num_experts=8,
                                          num_experts_per_tok=3, norm_topk_prob=True, head_dim=16),
         Qwen3MoeForCausalLM, **PLACES),
    Case("qwen3-moe-fused", Qwen3MoeConfig(**SIZES | dict(num_key_value_heads=2), intermediate_size=48,
                                           moe_intermediate_size=12, num_experts=5, num_experts_per_tok=2,
                                           decoder_sparse_step=2, attention_bias=True, use_sliding_window=True,
                                           sliding_window=7, tie_word_embeddings=True, hidden_act="gelu",
                                           rms_norm_eps=1e-3, mlp_only_layers=[0],
                                           rope_parameters={"rope_type": "default", "rope_theta": 500.0}),
         Qwen3MoeForCausalLM, **PLACES, rewrite=fused),
]
