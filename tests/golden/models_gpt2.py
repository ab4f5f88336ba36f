"""Cases of make_models.py: GPT-2; make_gpt2.py has more, with longer goldens."""
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from make_models import Case

SIZES = dict(vocab_size=97, n_positions=128, n_embd=32, n_layer=3, n_head=4, bos_token_id=1, eos_token_id=2)


def gpt2(name, dtype=torch.bfloat16, kinds={}, **settings):
    return Case(name, GPT2Config(**SIZES | settings), GPT2LMHeadModel, dtype=dtype, layers="transformer.h",
                norm="transformer.ln_f", kinds=kinds, distinct=7)


CASES = [
    gpt2("gpt2-plain", n_head=2),
    gpt2("gpt2-inverse", torch.float16, scale_attn_by_inverse_layer_idx=True, n_inner=72, activation_function="gelu",
         layer_norm_epsilon=1e-3, tie_word_embeddings=False),
    # Scores without a scale: queries are small, or each token would see one other alone.
    gpt2("gpt2-unscaled", kinds={"c_attn": 0.12}, scale_attn_weights=False, activation_function="relu", n_inner=60),
]
