"""Cases of make_models.py: GPT-J, GPT-NeoX, GPT-Neo, OPT, BLOOM, Falcon, Phi, StableLM; InternLM and Megatron-LM's GPT, re-laid."""
import functools
import json
import os

import torch
from safetensors.torch import load_file, save_file
from transformers import (BloomConfig, BloomForCausalLM, FalconConfig, FalconForCausalLM, GPT2Config, GPT2LMHeadModel,
                          GPTJConfig, GPTJForCausalLM, GPTNeoConfig, GPTNeoForCausalLM, GPTNeoXConfig,
                          GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM, PhiConfig,
                          PhiForCausalLM, StableLmConfig, StableLmForCausalLM)

from make_models import Case as BareCase

# Models without learned positions soon repeat themselves: fewer ids than make_models.py asks for.
Case = functools.partial(BareCase, distinct=7)
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


def new_head(path):
    """The head under the name that the reference itself has for it."""
    file = os.path.join(path, "model.safetensors")
    tensors = load_file(file)
    tensors["lm_head.weight"] = tensors.pop("embed_out.weight")
    save_file(tensors, file, {"format": "pt"})


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


def phi(name, dtype=torch.bfloat16, kinds={}, **settings):
    sizes = SIZES | dict(hidden_size=32, intermediate_size=64, num_attention_heads=4)
    return Case(name, PhiConfig(**sizes | settings), PhiForCausalLM, dtype=dtype, layers="model.layers",
                norm="model.final_layernorm", kinds=kinds)


def stablelm(name, dtype=torch.bfloat16, **settings):
    sizes = SIZES | dict(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=4)
    return Case(name, StableLmConfig(**sizes | settings), StableLmForCausalLM, dtype=dtype, layers="model.layers",
                norm="model.norm")


def opt(name, dtype=torch.bfloat16, **settings):
    sizes = SIZES | dict(hidden_size=32, ffn_dim=64, num_attention_heads=4, word_embed_proj_dim=32) | settings
    last = sizes.get("do_layer_norm_before", True) and not sizes.get("_remove_final_layer_norm")
    return Case(name, OPTConfig(**sizes), OPTForCausalLM, dtype=dtype, layers="model.decoder.layers",
                norm="model.decoder.final_layer_norm" if last else None)


def bloom(name, dtype=torch.bfloat16, rewrite=None, distinct=7, **settings):
    """What blocks add is large: else a tied head would say the last token again."""
    sizes = dict(vocab_size=97, hidden_size=32, n_layer=3, n_head=4) | IDS
    return Case(name, BloomConfig(**sizes | settings), BloomForCausalLM, dtype=dtype, rewrite=rewrite,
                layers="transformer.h", norm="transformer.ln_f", kinds={"dense.weight": 0.8, "4h_to_h.weight": 0.5},
                distinct=distinct)


def old_bloom(path):
    """Other spellings of sizes, and what it was trained with."""
    def change(config):
        for new, old in (("hidden_size", "n_embed"), ("n_layer", "num_hidden_layers"),
                         ("n_head", "num_attention_heads")):
            config[old] = config.pop(new)
        config["seq_length"] = 128
    edit(path, change)


def falcon(name, dtype=torch.bfloat16, long=(), distinct=7, **settings):
    """With ALiBi the reference's eager attention adds its bias twice, its default one once, as its models were trained."""
    sizes = SIZES | dict(hidden_size=32, num_attention_heads=4) | settings
    return Case(name, FalconConfig(**sizes), FalconForCausalLM, dtype=dtype, layers="transformer.h", long=long,
                norm="transformer.ln_f", kinds={"word_embeddings": 0.1}, attention="sdpa" if sizes.get("alibi") else "eager",
                distinct=distinct)


def relay(rename, change):
    """Renames and regroups the tensors of a folder, and changes its config.json; the reference has no class for the result."""
    def rewrite(path):
        file = os.path.join(path, "model.safetensors")
        save_file({k: v.contiguous() for k, v in rename(load_file(file)).items()}, file, {"format": "pt"})
        edit(path, change)
    rewrite.relaid = True
    return rewrite


def internlm(name, rotary, long=(), **settings):
    def change(config):
        for key in ("rope_parameters", "attention_bias", "mlp_bias", "head_dim"):
            config.pop(key)
        config |= dict(architectures=["InternLMForCausalLM"], model_type="internlm", rotary=rotary,
                       bias=settings.get("attention_bias", False))
    kind = {"origin": "default"}.get(rotary["type"], rotary["type"])
    rope = dict(rope_type=kind, rope_theta=rotary["base"])
    rope |= dict(factor=rotary["scaling_factor"]) if kind == "dynamic" else {}
    sizes = SIZES | dict(hidden_size=32, intermediate_size=72, num_attention_heads=4, num_key_value_heads=4)
    return Case(name, LlamaConfig(**sizes | settings | dict(rope_parameters=rope)), LlamaForCausalLM, long=long,
                dtype=torch.bfloat16, layers="model.layers", norm="model.norm",
                rewrite=relay(lambda tensors: tensors, change))


def internlm2(name, scaling, long=(), **settings):
    sizes = SIZES | dict(hidden_size=32, intermediate_size=72, num_attention_heads=4, num_key_value_heads=2) | settings
    groups, theta = sizes["num_key_value_heads"], 3000.0
    names = {"embed_tokens": "tok_embeddings", "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1",
             "mlp.up_proj": "feed_forward.w3", "mlp.down_proj": "feed_forward.w2", "lm_head": "output",
             "input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm"}

    def rename(tensors):
        out = {}
        for key, tensor in tensors.items():
            if "k_proj" in key or "v_proj" in key:
                continue
            if "q_proj" in key:
                parts = [tensors[key.replace("q_proj", p)] for p in ("q_proj", "k_proj", "v_proj")]
                parts = [p.reshape(groups, -1, *p.shape[1:]) for p in parts]
                out[key.replace("self_attn.q_proj", "attention.wqkv")] = torch.cat(parts, 1).flatten(0, 1)
                continue
            for old, new in names.items():
                key = key.replace(old, new)
            out[key] = tensor
        return out

    def change(config):
        for key in ("rope_parameters", "attention_bias", "mlp_bias", "head_dim"):
            config.pop(key)
        config |= dict(architectures=["InternLM2ForCausalLM"], model_type="internlm2", rope_theta=theta,
                       rope_scaling=scaling, bias=settings.get("attention_bias", False))
    rope = dict(rope_type=scaling["type"] if scaling else "default", rope_theta=theta)
    rope |= dict(factor=scaling["factor"]) if scaling else {}
    return Case(name, LlamaConfig(**sizes | dict(rope_parameters=rope)), LlamaForCausalLM, dtype=torch.bfloat16,
                long=long, layers="model.layers", norm="model.norm", rewrite=relay(rename, change))


def megatron(name, version, embedding, layers, attention, dtype=torch.bfloat16, **settings):
    sizes = dict(vocab_size=97, n_positions=128, n_embd=32, n_layer=3, n_head=4) | IDS | settings
    heads = sizes["n_head"]
    parts = {"attn.c_attn": attention + ".query_key_value", "attn.c_proj": attention + ".dense",
             "mlp.c_fc": "mlp.dense_h_to_4h", "mlp.c_proj": "mlp.dense_4h_to_h", "ln_1": "input_layernorm",
             "ln_2": "post_attention_layernorm"}
    ends = {"wte": embedding + "word_embeddings", "wpe": embedding + "position_embeddings",
            "ln_f": layers + "final_layernorm"}

    def rename(tensors):
        out = {}
        for key, tensor in tensors.items():
            key, kind = key.removeprefix("transformer.").rsplit(".", 1)
            if key in ends:
                out[f"{ends[key]}.{kind}"] = tensor
                continue
            _, layer, part = key.split(".", 2)
            tensor = tensor.T if tensor.dim() == 2 else tensor
            if part == "attn.c_attn":
                tensor = tensor.reshape(3, heads, -1, *tensor.shape[1:])
                tensor = {0: tensor, 1.0: tensor.movedim(0, 2), 2.0: tensor.movedim(0, 1)}[min(version, 2.0)]
                tensor = tensor.flatten(0, 2)
            out[f"{layers}layers.{layer}.{parts[part]}.{kind}"] = tensor
        return out

    def change(config):
        old = dict(config)
        config.clear()
        config |= dict(architectures=["MegatronGPTModel"], model_type="megatron_gpt", checkpoint_version=version,
                       padded_vocab_size=old["vocab_size"], max_position_embeddings=old["n_positions"],
                       hidden_size=old["n_embd"], num_layers=old["n_layer"], num_attention_heads=old["n_head"],
                       ffn_hidden_size=old["n_inner"], layernorm_epsilon=old["layer_norm_epsilon"],
                       activation_function=old["activation_function"])
    return Case(name, GPT2Config(**sizes), GPT2LMHeadModel, dtype=dtype, layers="transformer.h",
                norm="transformer.ln_f", rewrite=relay(rename, change))


CASES = [
    gptj("gptj-tiny"),
    gptj("gptj-tied", torch.float32, n_head=4, rotary_dim=4, n_inner=48, activation_function="gelu",
         layer_norm_epsilon=1e-3, tie_word_embeddings=True),
    neox("gpt-neox-tiny", torch.float16, rewrite=old_neox),
    neox("gpt-neox-sequential", use_parallel_residual=False, attention_bias=False, tie_word_embeddings=True,
         hidden_act="gelu_fast", layer_norm_eps=1e-3, rotary=dict(rope_theta=500.0, partial_rotary_factor=0.5)),
    neox("gpt-neox-linear", rewrite=new_head, num_attention_heads=4,
         rotary=dict(rope_type="linear", factor=4.0, rope_theta=10000.0, partial_rotary_factor=1.0)),
    neo("gpt-neo-tiny"),
    neo("gpt-neo-types", torch.float32, num_layers=3, num_heads=2, window_size=1, intermediate_size=None,
        attention_types=[[["local"], 1], [["global"], 1], [["local"], 1]], activation_function="relu",
        layer_norm_epsilon=1e-3, tie_word_embeddings=False),
    phi("phi-tiny", partial_rotary_factor=0.5),
    phi("phi-norms", torch.float32, kinds={"embed": 0.1}, num_attention_heads=2, num_key_value_heads=1, partial_rotary_factor=0.25,
        qk_layernorm=True, hidden_act="gelu", layer_norm_eps=1e-3, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 300.0}),
    stablelm("stablelm-tiny", num_attention_heads=2, num_key_value_heads=2),
    stablelm("stablelm-norms", torch.float32, num_key_value_heads=2, use_qkv_bias=True, qk_layernorm=True,
             partial_rotary_factor=0.5, layer_norm_eps=1e-3, tie_word_embeddings=True),
    stablelm("stablelm-parallel", use_parallel_residual=True, hidden_act="gelu", partial_rotary_factor=1.0,
             rope_parameters={"rope_type": "default", "rope_theta": 300.0}),
    opt("opt-tiny"),
    opt("opt-350m", torch.float16, do_layer_norm_before=False, word_embed_proj_dim=20, activation_function="gelu"),
    opt("opt-plain", torch.float32, enable_bias=False, layer_norm_elementwise_affine=False, num_attention_heads=2,
        _remove_final_layer_norm=True, tie_word_embeddings=False),
    opt("opt-projected", word_embed_proj_dim=48, layer_norm_elementwise_affine=False, tie_word_embeddings=False),
    bloom("bloom-tiny", pretraining_tp=2),
    bloom("bloom-residual", torch.float32, rewrite=old_bloom, distinct=4, n_head=6, hidden_size=36, layer_norm_epsilon=1e-3,
          apply_residual_connection_post_layernorm=True, slow_but_exact=True, tie_word_embeddings=False),
    falcon("falcon-7b"),
    falcon("falcon-40b", new_decoder_architecture=True, num_kv_heads=2, tie_word_embeddings=False),
    falcon("falcon-11b", torch.float32, new_decoder_architecture=True, num_kv_heads=1, num_ln_in_parallel_attn=1,
           bias=True, ffn_hidden_size=48, activation="gelu_new", layer_norm_epsilon=1e-3,
           rope_parameters={"rope_type": "default", "rope_theta": 300.0}),
    falcon("falcon-rw", distinct=4, alibi=True, bias=True, multi_query=False, parallel_attn=False, num_attention_heads=2,
           vocab_size=61, max_position_embeddings=320, long=(310,)),
    falcon("falcon-alibi", torch.float32, alibi=True, num_attention_heads=6, hidden_size=36, activation="relu",
           tie_word_embeddings=False),
    internlm("internlm-tiny", dict(type="dynamic", base=10000.0, scaling_factor=2.0), long=(150,),
             max_position_embeddings=96, attention_bias=True),
    internlm("internlm-plain", dict(type="origin", base=500.0), rms_norm_eps=1e-3, tie_word_embeddings=True),
    internlm2("internlm2-tiny", dict(type="dynamic", factor=2.0), long=(150,), max_position_embeddings=96),
    internlm2("internlm2-biases", dict(type="linear", factor=4.0), attention_bias=True, num_key_value_heads=1),
    internlm2("internlm2-plain", None, num_key_value_heads=4, rms_norm_eps=1e-3),
    megatron("megatron-gpt-0", 0, "", "transformer.", "attention"),
    megatron("megatron-gpt-1", 1.0, "language_model.embedding.", "language_model.transformer.", "attention",
             torch.float32, n_inner=48, layer_norm_epsilon=1e-3, activation_function="gelu"),
    megatron("megatron-gpt-2", 2.0, "language_model.embedding.", "language_model.encoder.", "self_attention"),
    megatron("megatron-gpt-3", 3.0, "model.language_model.embedding.", "model.language_model.transformer.",
             "self_attention", n_head=2),
]
