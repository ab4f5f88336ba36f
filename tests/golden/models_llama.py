"""Cases of make_models.py: LLaMA and its siblings."""
import json
import os

import torch
from safetensors.torch import load_file, save_file
from transformers import (LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config,
                          Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

from make_models import Case
from models_gemma import spelling

SIZES = dict(vocab_size=97, num_hidden_layers=3, max_position_embeddings=128, bos_token_id=1, eos_token_id=2)
PLACES = dict(layers="model.layers", norm="model.norm")


def llama(name, dtype=torch.float32, long=(), rewrite=None, **settings):
    sizes = SIZES | dict(hidden_size=32, intermediate_size=72, num_attention_heads=4, num_key_value_heads=2) | settings
    return Case(name, LlamaConfig(**sizes), LlamaForCausalLM, dtype=dtype, long=long, rewrite=rewrite, **PLACES)


def rope(kind, **settings):
    return dict(rope_parameters={"rope_type": kind, "rope_theta": 10000.0} | settings)


def theta(value):
    return rope("default", rope_theta=value)


def mixed_shards(path):
    """Two files and their index; norms in float32, the matrices of layer 1 and every v in float16, all else as it was."""
    file = os.path.join(path, "model.safetensors")
    tensors = load_file(file)
    for name, tensor in tensors.items():
        if "norm" in name:
            tensors[name] = tensor.float()
        elif ".1." in name or "v_proj" in name:
            tensors[name] = tensor.half()
    os.remove(file)
    shards, names = {}, sorted(tensors)
    for i, part in enumerate((names[:len(names) // 2], names[len(names) // 2:])):
        shard = f"model-{i + 1:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, os.path.join(path, shard), {"format": "pt"})
        shards |= dict.fromkeys(part, shard)
    with open(file + ".index.json", "w") as f:
        size = sum(t.numel() * t.element_size() for t in tensors.values())
        json.dump({"metadata": {"total_size": size}, "weight_map": shards}, f, indent=1)
        f.write("\n")


CASES = [
    llama("llama-tiny"),
    llama("llama-mixed", torch.bfloat16, rewrite=mixed_shards, **theta(700.0)),
    llama("llama-biases", torch.bfloat16, attention_bias=True, mlp_bias=True, tie_word_embeddings=True, head_dim=12,
          rms_norm_eps=1e-3, hidden_act="gelu", pretraining_tp=2),
    llama("llama-linear", torch.float16, **rope("linear", factor=4.0)),
    llama("llama-dynamic", torch.bfloat16, long=(150,), max_position_embeddings=96, **rope("dynamic", factor=2.0)),
    llama("llama-llama3", torch.bfloat16, num_attention_heads=2, num_key_value_heads=1,
          **rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)),
    llama("llama-yarn", torch.bfloat16, num_attention_heads=2, num_key_value_heads=2,
          **rope("yarn", factor=4.0, original_max_position_embeddings=32)),
    Case("mistral-tiny", MistralConfig(**SIZES, hidden_size=32, intermediate_size=56, num_attention_heads=4,
                                       num_key_value_heads=1, sliding_window=9, head_dim=16), MistralForCausalLM,
         dtype=torch.bfloat16, **PLACES),
    Case("mistral-gelu", MistralConfig(**SIZES, hidden_size=24, intermediate_size=56, num_attention_heads=2,
                                       num_key_value_heads=2, sliding_window=None, hidden_act="gelu_new",
                                       rms_norm_eps=1e-3, tie_word_embeddings=True, **theta(500.0)), MistralForCausalLM,
         dtype=torch.bfloat16, **PLACES),
    Case("qwen2-tiny", Qwen2Config(**SIZES, hidden_size=36, intermediate_size=64, num_attention_heads=3,
                                   num_key_value_heads=3, tie_word_embeddings=True), Qwen2ForCausalLM, **PLACES),
    Case("qwen2-window", Qwen2Config(**SIZES, hidden_size=32, intermediate_size=64, num_attention_heads=4,
                                     num_key_value_heads=2, use_sliding_window=True, sliding_window=6,
                                     max_window_layers=1, hidden_act="gelu", rms_norm_eps=1e-3, **theta(500.0)),
         Qwen2ForCausalLM, dtype=torch.bfloat16, **PLACES),
    Case("qwen3-tiny", Qwen3Config(**SIZES, hidden_size=32, intermediate_size=64, num_attention_heads=4,
                                   num_key_value_heads=2, head_dim=16), Qwen3ForCausalLM, dtype=torch.bfloat16, **PLACES),
    Case("qwen3-biases", Qwen3Config(**SIZES, hidden_size=24, intermediate_size=64, num_attention_heads=2,
                                     num_key_value_heads=1, head_dim=20, attention_bias=True, tie_word_embeddings=True,
                                     use_sliding_window=True, sliding_window=5, hidden_act="gelu", rms_norm_eps=1e-3,
                                     **theta(500.0),
                                     layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
         Qwen3ForCausalLM, **PLACES),
    Case("qwen3-window", Qwen3Config(**SIZES, hidden_size=24, intermediate_size=48, num_attention_heads=2,
                                     num_key_value_heads=2, head_dim=12, use_sliding_window=True, sliding_window=6,
                                     max_window_layers=1), Qwen3ForCausalLM, dtype=torch.bfloat16, **PLACES,
         rewrite=spelling(layer_types=None)),
]
