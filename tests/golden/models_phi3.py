"""Cases of make_models.py: Phi-3 and Phi-4-mini."""
import torch
from transformers import Phi3Config, Phi3ForCausalLM

from make_models import Case
from models_gemma import spelling

SIZES = dict(vocab_size=97, num_hidden_layers=3, max_position_embeddings=192, original_max_position_embeddings=96,
             hidden_size=32, intermediate_size=56, num_attention_heads=2, num_key_value_heads=1,
             bos_token_id=1, eos_token_id=2, pad_token_id=0)
PLACES = dict(layers="model.layers", norm="model.norm", dtype=torch.bfloat16)
SHORT = [1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0]
LONG = [1.5, 2.0, 3.0, 4.5, 6.0, 8.0, 11.0, 15.0]


def longrope(n, **settings):
    return {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": SHORT[:n], "long_factor": LONG[:n],
            "original_max_position_embeddings": 96} | settings


CASES = [
    Case("phi3-tiny", Phi3Config(**SIZES | dict(original_max_position_embeddings=192, num_key_value_heads=2,
                                                sliding_window=11)), Phi3ForCausalLM, **PLACES),
    Case("phi3-longrope", Phi3Config(**SIZES, rope_parameters=longrope(8)), Phi3ForCausalLM, **PLACES, long=(110,),
         rewrite=spelling(rope_parameters=None, rope_theta=10000.0,
                          rope_scaling={"type": "su", "original_max_position_embeddings": 96,
                                        "short_factor": SHORT, "long_factor": LONG})),
    # As Phi-4-mini: a part of each head turns, the head is the embedding.
    Case("phi3-partial", Phi3Config(**SIZES | dict(rms_norm_eps=1e-3, tie_word_embeddings=True, hidden_act="gelu"),
                                    rope_parameters=longrope(6, partial_rotary_factor=0.75, attention_factor=1.3)),
         Phi3ForCausalLM, **PLACES, long=(120,)),
]
