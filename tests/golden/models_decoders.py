"""Cases of make_models.py: GPT-J, GPT-NeoX, GPT-Neo, Phi and StableLM."""
import functools
import json
import os

import torch
from transformers import (GPTJConfig, GPTJForCausalLM, GPTNeoConfig, GPTNeoForCausalLM, GPTNeoXConfig,
                          GPTNeoXForCausalLM, PhiConfig, PhiForCausalLM, StableLmConfig, StableLmForCausalLM)

from make_models import Case as BareCase

# Heads that are tied, and models without learned positions, soon repeat themselves: fewer ids than make_models.py asks for.
Case = functools.partial(BareCase, distinct=6)
IDS = dict(bos_token_id=1, eos_token_id=2)
SIZES = dict(vocab_size=97, num_hidden_layers=3, max_position_embeddings=128) | IDS


def edit(path, change):
    """Changes the config.json of a folder."""
    file = os.path.join(path, "config.json")
    with open(file) as f:
        config = json.load(f)
    change(config)
    with open(file, "w") as f:
        json.dump(config, f, indent=2)
        f.write("\n")


def gptj(name, dtype=torch.bfloat16, **settings):
    sizes = dict(vocab_size=97, n_positions=128, n_embd=32, n_layer=3, n_head=2, rotary_dim=8) | IDS
    return Case(name, GPTJConfig(**sizes | settings), GPTJForCausalLM, dtype=dtype, layers="transformer.h",
                norm="transformer.ln_f")


def old_neox(path):
    """As transformers wrote it before rope_parameters."""
    def change(config):
        rope = config.pop("rope_parameters")
        config["rotary_emb_base"] = rope["rope_theta"]
        config["rotary_pct"] = rope["partial_rotary_factor"]
    edit(path, change)


def neox(name, dtype=torch.bfloat16, rewrite=None, rotary=None, **settings):
    sizes = SIZES | dict(hidden_size=32, intermediate_size=64, num_attention_heads=2)
    rope = dict(rope_parameters={"rope_type": "default"} | rotary) if rotary else {}
    return Case(name, GPTNeoXConfig(**sizes | rope | settings), GPTNeoXForCausalLM, dtype=dtype, rewrite=rewrite,
                layers="gpt_neox.layers", norm="gpt_neox.final_layer_norm")


def neo(name, dtype=torch.bfloat16, **settings):
    sizes = dict(vocab_size=97, max_position_embeddings=128, hidden_size=32, num_layers=4, num_heads=4, window_size=6,
                 attention_types=[[["global", "local"], 2]], intermediate_size=64) | IDS
    return Case(name, GPTNeoConfig(**sizes | settings), GPTNeoForCausalLM, dtype=dtype, layers="transformer.h",
                norm="transformer.ln_f", kinds={"q_proj": 0.1})     # scores have no scale


def phi(name, dtype=torch.bfloat16, **settings):
    sizes = SIZES | dict(hidden_size=32, intermediate_size=64, num_attention_heads=4)
    return Case(name, PhiConfig(**sizes | settings), PhiForCausalLM, dtype=dtype, layers="model.layers",
                norm="model.final_layernorm")


def stablelm(name, dtype=torch.bfloat16, **settings):
    sizes = SIZES | dict(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=4)
    return Case(name, StableLmConfig(**sizes | settings), StableLmForCausalLM, dtype=dtype, layers="model.layers",
                norm="model.norm")


CASES = [
    gptj("gptj-tiny"),
    gptj("gptj-tied", torch.float32, n_head=4, rotary_dim=4, n_inner=48, activation_function="gelu",
         layer_norm_epsilon=1e-3, tie_word_embeddings=True),
    neox("gpt-neox-tiny", torch.float16, rewrite=old_neox),
    neox("gpt-neox-sequential", use_parallel_residual=False, attention_bias=False, tie_word_embeddings=True,
         hidden_act="gelu_fast", layer_norm_eps=1e-3, rotary=dict(rope_theta=500.0, partial_rotary_factor=0.5)),
    neox("gpt-neox-linear", num_attention_heads=4, rotary=dict(rope_type="linear", factor=4.0, rope_theta=10000.0,
                                                               partial_rotary_factor=1.0)),
    neo("gpt-neo-tiny"),
    neo("gpt-neo-types", torch.float32, num_layers=3, num_heads=2, window_size=1, intermediate_size=None,
        attention_types=[[["local"], 1], [["global"], 1], [["local"], 1]], activation_function="relu",
        layer_norm_epsilon=1e-3, tie_word_embeddings=False),
    phi("phi-tiny", partial_rotary_factor=0.5),
    phi("phi-norms", torch.float32, num_attention_heads=2, num_key_value_heads=1, partial_rotary_factor=0.25,
        qk_layernorm=True, hidden_act="gelu", layer_norm_eps=1e-3, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 300.0}),
    stablelm("stablelm-tiny", num_attention_heads=2, num_key_value_heads=2),
    stablelm("stablelm-norms", torch.float32, num_key_value_heads=2, use_qkv_bias=True, qk_layernorm=True,
             partial_rotary_factor=0.5, layer_norm_eps=1e-3, tie_word_embeddings=True),
    stablelm("stablelm-parallel", use_parallel_residual=True, hidden_act="gelu", partial_rotary_factor=1.0,
             rope_parameters={"rope_type": "default", "rope_theta": 300.0}),
]
