#!/usr/bin/env python3
"""Memory of the ranks of a model: each peaks at its share of the weights, and a little more."""
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import unittest

import mpi_runs

TERN = os.environ.get("TERN", "build/tern")
H, I, L, V = 512, 2048, 8, 16384  # a LLaMA of 8 heads; 100 MB in bf16

# Runs what follows the first argument, and writes what it took at most, in KiB, to a file of its rank in that folder.
WATCH = """
import os, resource, subprocess, sys
status = subprocess.call(sys.argv[2:])
with open(os.path.join(sys.argv[1], os.environ.get("OMPI_COMM_WORLD_RANK", "0")), "w") as f:
    f.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(status)
"""


def tensors(layers, vocabulary):
    """names and shapes; the first is the largest"""
    yield "model.embed_tokens.weight", (vocabulary, H)
    yield "lm_head.weight", (vocabulary, H)
    yield "model.norm.weight", (H,)
    for layer in range(layers):
        name = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{name}{norm}.weight", (H,)
        for matrix in "qkvo":
            yield f"{name}self_attn.{matrix}_proj.weight", (H, H)
        for matrix in ("up", "gate"):
            yield f"{name}mlp.{matrix}_proj.weight", (I, H)
        yield f"{name}mlp.down_proj.weight", (H, I)


def write_model(folder, layers, vocabulary):
    """bytes of its weights"""
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": H, "intermediate_size": I,
              "num_hidden_layers": layers, "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": vocabulary,
              "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False,
              "rope_theta": 10000.0}
    with open(os.path.join(folder, "config.json"), "w", encoding="ascii") as f:
        json.dump(config, f)
    header, at = {}, 0
    for name, shape in tensors(layers, vocabulary):
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    # Numbers between -2^-5 and 2^-5 that do not repeat within a page.
    some = random.Random(1)
    page = b"".join(struct.pack("<H", some.getrandbits(1) << 15 | 0x3c00 | some.getrandbits(8)) for _ in range(65521))
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        left = at
        while left > 0:
            left -= f.write(page[:left])
    return at


def peaks(folder, n, model):
    """bytes that each of n ranks took"""
    command = [sys.executable, "-c", WATCH, folder, TERN, "logits", model, "--ids", "1,2,3", "-o",
               os.path.join(folder, f"logits-{n}.npy"), "-q", "--threads", "1"]
    if n > 1:
        command = mpi_runs.mpirun(n) + command
    subprocess.run(command, env=mpi_runs.environment(), check=True, timeout=60)
    found = []
    for rank in range(n):
        with open(os.path.join(folder, str(rank)), encoding="ascii") as f:
            found.append(1024 * int(f.read()))
    return found


@unittest.skipIf(mpi_runs.sanitizer() == "thread", "TSan keeps several times of what it watches")
class Memory(unittest.TestCase):
    def test_ranks_take_their_share(self):
        with tempfile.TemporaryDirectory() as folder:
            small, large = os.path.join(folder, "small"), os.path.join(folder, "large")
            os.mkdir(small)
            os.mkdir(large)
            write_model(small, 1, 64)
            weights = write_model(large, L, V)
            alone = max(peaks(folder, 1, large))
            for n in (2, 4):
                program = max(peaks(folder, n, small))  # without weights to speak of: MPI and its windows included
                found = peaks(folder, n, large)
                # While a matrix is read its pages are in memory beside what they become: the embedding's are most.
                bound = program + 1.02 * weights / n + 2 * V * H / n + 8e6
                print(f"weights {weights / 1e6:.0f} MB: 1 process peaks at {alone / 1e6:.0f} MB; of {n} ranks "
                      f"{', '.join(f'{p / 1e6:.0f}' for p in found)}, without weights {program / 1e6:.0f}, bound {bound / 1e6:.0f}")
                self.assertLess(max(found), bound)


if __name__ == "__main__":
    mpi_runs.main(1)
