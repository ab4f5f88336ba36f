#!/usr/bin/env python3
"""Makes tests/fuzz/corpus/model: for each case of tests/golden/models_*.py the smallest model of that form, as fuzz_model.c reads it:
its config.json and the headers of its files, without data.

Run, from the root of the repository, in the environment that tests/golden/README.md describes:

    build/golden-env/bin/python tests/fuzz/make_model_corpus.py [NAME ...]        without NAME, all of them
"""
import glob
import importlib
import json
import os
import struct
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(os.path.dirname(HERE), "golden")
OUT = os.path.join(HERE, "corpus", "model")
HEADS, WIDTH = 2, 8
SMALL = [(HEADS * WIDTH, "hidden_size n_embd dim"), (2, "num_hidden_layers n_layer n_layers num_layers"),
         (HEADS, "num_attention_heads n_head n_heads num_heads"), (2, "num_local_experts num_experts"),
         (6, "intermediate_size ffn_dim hidden_dim n_inner ffn_hidden_size vocab_size"), (1, "num_experts_per_tok"),
         (4, "moe_intermediate_size shared_expert_intermediate_size embedding_size projection_dim rotary_dim"),
         (4, "original_max_position_embeddings local_attention"), (8, "head_dim max_position_embeddings n_positions")]


def shrink(config):
    old = config.to_dict()
    new = {k: v for k, v in old.items() if k not in ("model_type", "transformers_version", "attention_layers")}
    for size, keys in SMALL:
        new |= {k: size for k in keys.split() if old.get(k) is not None}
    for key in ("num_key_value_heads", "num_kv_heads"):
        if old.get(key):
            new[key] = min(old[key], HEADS)
    if old.get("word_embed_proj_dim"):
        new["word_embed_proj_dim"] = HEADS * WIDTH if old["word_embed_proj_dim"] == old["hidden_size"] else 4
    for key in ("layer_types", "mlp_only_layers"):
        if old.get(key):
            new[key] = old[key][:2] if key == "layer_types" else [0]
    if old.get("attention_types"):
        new["attention_types"] = [[["global", "local"], 1]]
    ropes = old.get("rope_parameters") or {}
    for rope in [ropes] + [r for r in ropes.values() if isinstance(r, dict)]:
        pairs = int(WIDTH * (rope.get("partial_rotary_factor") or 1)) // 2
        rope |= {k: rope[k][:pairs] for k in ("short_factor", "long_factor") if k in rope}
        rope |= {k: 4 for k in ("original_max_position_embeddings",) if k in rope}
    for key in ("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id"):
        if isinstance(old.get(key), int) and old[key] >= 6:
            new[key] = 2
    return type(config)(**new)


def smaller(config):
    """What the rewritten config.json says of positions and of longrope's lists in sizes of its own."""
    pairs = config.get("hidden_size", 0) // config.get("num_attention_heads", 1) // 2
    scaling = config.get("rope_scaling") or {}
    scaling |= {k: scaling[k][:pairs] for k in ("short_factor", "long_factor") if k in scaling}
    scaling |= {k: 4 for k in ("original_max_position_embeddings",) if k in scaling}
    return config


def text_of(value):
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def header(path):
    with open(path, "rb") as f:
        size, = struct.unpack("<Q", f.read(8))
        tensors = json.loads(f.read(size))
    tensors.pop("__metadata__", None)
    return text_of(tensors)


def entry(case, folder):
    config = shrink(case.config)
    config.dtype = case.dtype
    case.model(config).to(case.dtype).save_pretrained(folder)
    if case.rewrite:
        case.rewrite(folder)
    with open(os.path.join(folder, "config.json")) as f:
        out = b"@c\n" + text_of(smaller(json.load(f)))
    files = sorted(glob.glob(os.path.join(folder, "*.safetensors")))
    if len(files) == 1:
        return out + b"@s\n" + header(files[0])
    names = {os.path.basename(file): f"model-{i + 1}.safetensors" for i, file in enumerate(files)}
    with open(os.path.join(folder, "model.safetensors.index.json")) as f:
        index = json.load(f)
    index["weight_map"] = {k: names[v] for k, v in index["weight_map"].items()}
    return out + b"".join(b"@%d\n" % (i + 1) + header(file) for i, file in enumerate(files)) + b"@i\n" + text_of(index)


def main():
    sys.path.insert(0, GOLDEN)
    from transformers import logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    os.makedirs(OUT, exist_ok=True)
    for file in sorted(glob.glob(os.path.join(GOLDEN, "models_*.py"))):
        for case in importlib.import_module(os.path.basename(file)[:-3]).CASES:
            if sys.argv[1:] and case.name not in sys.argv[1:]:
                continue
            with tempfile.TemporaryDirectory() as folder:
                data = entry(case, folder)
            with open(os.path.join(OUT, case.name), "wb") as f:
                f.write(data)
            print(f"{case.name}: {len(data)} bytes", flush=True)


if __name__ == "__main__":
    main()
