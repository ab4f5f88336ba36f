"""Cases of make_models.py: Gemma 1, 2 and 3 (text)."""
import json
import os

import torch
from transformers import (Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig, GemmaConfig,
                          GemmaForCausalLM)

from make_models import Case

SIZES = dict(vocab_size=97, num_hidden_layers=3, max_position_embeddings=128, bos_token_id=1, eos_token_id=2)
PLACES = dict(layers="model.layers", norm="model.norm", one_centred=False, dtype=torch.bfloat16,
              kinds={"embed_tokens": 0.1})      # times sqrt(H) when they are read
# Beside what comes out of norms they are small, or a text would repeat its last token.
BEHIND = PLACES | dict(kinds={"embed_tokens": 0.03})
SMALL = SIZES | dict(hidden_size=28, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=12)


def spelling(**changes):
    """Rewrites config.json as older files spell it: keys to values; None takes a key out."""
    def rewrite(path):
        file = os.path.join(path, "config.json")
        with open(file) as f:
            config = json.load(f)
        for key, value in changes.items():
            config.pop(key, None)
            if value is not None:
                config[key] = value
        with open(file, "w") as f:
            json.dump(config, f, indent=2)
            f.write("\n")
    return rewrite


CASES = [
    # As the first files were: "gelu" is the tanh form.
    Case("gemma-tiny", GemmaConfig(**SMALL | dict(num_key_value_heads=1)), GemmaForCausalLM, **PLACES,
         rewrite=spelling(hidden_act="gelu", hidden_activation="gelu_pytorch_tanh", rope_parameters=None,
                          rope_theta=10000.0)),
    Case("gemma-biases", GemmaConfig(**SMALL | dict(attention_bias=True, tie_word_embeddings=False, hidden_act="silu",
                                                    rms_norm_eps=1e-3, num_key_value_heads=4,
                                                    rope_parameters={"rope_type": "default", "rope_theta": 500.0})),
         GemmaForCausalLM, **PLACES),
    Case("gemma2-tiny", Gemma2Config(**SMALL | dict(sliding_window=7, query_pre_attn_scalar=20,
                                                    attn_logit_softcapping=2.0, final_logit_softcapping=1.0)),
         Gemma2ForCausalLM, **BEHIND),
    Case("gemma2-uncapped", Gemma2Config(**SMALL | dict(sliding_window=5, query_pre_attn_scalar=12,
                                                        attn_logit_softcapping=None, final_logit_softcapping=None,
                                                        attention_bias=True, hidden_activation="silu",
                                                        rms_norm_eps=1e-3, tie_word_embeddings=False,
                                                        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
                                                        layer_types=["full_attention", "sliding_attention",
                                                                     "sliding_attention"])),
         Gemma2ForCausalLM, **BEHIND),
    Case("gemma3-tiny", Gemma3TextConfig(**SMALL | dict(sliding_window=6, query_pre_attn_scalar=16,
                                                        sliding_window_pattern=2)),
         Gemma3ForCausalLM, **BEHIND,
         rewrite=spelling(layer_types=None, sliding_window_pattern=2, rope_parameters=None, rope_theta=1e6,
                          rope_local_base_freq=10000.0)),
    Case("gemma3-ropes", Gemma3TextConfig(**SMALL | dict(
        sliding_window=9, query_pre_attn_scalar=12, final_logit_softcapping=8.0, attention_bias=True,
        hidden_activation="gelu", rms_norm_eps=1e-3, tie_word_embeddings=False,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 20000.0},
                         "sliding_attention": {"rope_type": "default", "rope_theta": 300.0}})),
         Gemma3ForCausalLM, **BEHIND),
]
