"""Cases of make_models.py: LLaMA and its siblings."""
import torch
from transformers import (LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config,
                          Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

from make_models import Case

SIZES = dict(vocab_size=97, num_hidden_layers=3, max_position_embeddings=128, bos_token_id=1, eos_token_id=2)
PLACES = dict(layers="model.layers", norm="model.norm")


def llama(name, dtype=torch.float32, long=(), **settings):
    sizes = SIZES | dict(hidden_size=32, intermediate_size=72, num_attention_heads=4, num_key_value_heads=2) | settings
    return Case(name, LlamaConfig(**sizes), LlamaForCausalLM, dtype=dtype, long=long, **PLACES)


def rope(kind, **settings):
    return dict(rope_parameters={"rope_type": kind, "rope_theta": 10000.0} | settings)


CASES = [
    llama("llama-tiny"),
    llama("llama-biases", torch.bfloat16, attention_bias=True, mlp_bias=True, tie_word_embeddings=True, head_dim=12,
          rms_norm_eps=1e-3),
    llama("llama-linear", torch.float16, **rope("linear", factor=4.0)),
    llama("llama-dynamic", torch.bfloat16, long=(150,), max_position_embeddings=96, **rope("dynamic", factor=2.0)),
    llama("llama-llama3", torch.bfloat16, num_attention_heads=2, num_key_value_heads=1,
          **rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)),
    llama("llama-yarn", torch.bfloat16, num_attention_heads=2, num_key_value_heads=2,
          **rope("yarn", factor=4.0, original_max_position_embeddings=32)),
    Case("mistral-tiny", MistralConfig(**SIZES, hidden_size=32, intermediate_size=56, num_attention_heads=4,
                                       num_key_value_heads=1, sliding_window=9, head_dim=16), MistralForCausalLM,
         dtype=torch.bfloat16, **PLACES),
    Case("qwen2-tiny", Qwen2Config(**SIZES, hidden_size=36, intermediate_size=64, num_attention_heads=3,
                                   num_key_value_heads=3, tie_word_embeddings=True), Qwen2ForCausalLM, **PLACES),
    Case("qwen2-window", Qwen2Config(**SIZES, hidden_size=32, intermediate_size=64, num_attention_heads=4,
                                     num_key_value_heads=2, use_sliding_window=True, sliding_window=6,
                                     max_window_layers=1), Qwen2ForCausalLM, dtype=torch.bfloat16, **PLACES),
    Case("qwen3-tiny", Qwen3Config(**SIZES, hidden_size=32, intermediate_size=64, num_attention_heads=4,
                                   num_key_value_heads=2, head_dim=16), Qwen3ForCausalLM, dtype=torch.bfloat16, **PLACES),
    Case("qwen3-biases", Qwen3Config(**SIZES, hidden_size=24, intermediate_size=64, num_attention_heads=2,
                                     num_key_value_heads=1, head_dim=20, attention_bias=True, tie_word_embeddings=True,
                                     use_sliding_window=True, sliding_window=5,
                                     layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
         Qwen3ForCausalLM, **PLACES),
]
