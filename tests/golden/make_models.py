#!/usr/bin/env python3
"""Makes a small random checkpoint of each family, and what transformers computes from it.

Run, from the root of the repository, in the environment that tests/golden/README.md describes:

    build/golden-env/bin/python tests/golden/make_models.py [NAME ...]        without NAME, all of them

Each is written by transformers' own save_pretrained(), read back with its weights widened to float64, and run in float64
with eager attention; what the reference casts to float32 itself stays so.  Results are stored as f32.  What transformers'
own runs in bfloat16 and float16 differ by is stored beside them: the bound of the test.

Weights are larger than fresh ones, so that attention is far from uniform and logits are far apart.  Seeds are tried in turn
until, over all greedy ids, the best logit leads the second by more than ten tolerances: then no implementation within the
tolerance can pick another id.

The cases are in models_*.py: a list CASES of Case in each.
"""
import copy
import dataclasses
import glob
import importlib
import json
import os
import sys

import numpy
import safetensors
import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from transformers import logging

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "models")
N_GREEDY = 48
TOLERANCE = 3e-5                # of the largest |logit|
LENGTHS = (1, 5, 17, 40)        # ragged prompts
HIDDEN = 1                      # the prompt whose hidden states are stored


@dataclasses.dataclass
class Case:
    name: str
    config: object                      # a transformers config
    model: type                         # what loads it
    layers: str                         # its list of layers, as an attribute path
    norm: str = None                    # its final norm, None without one
    dtype: torch.dtype = torch.float32  # of the stored weights
    one_centred: bool = True            # norms multiply by weight, not by 1 + weight
    long: tuple = ()                    # lengths of further prompts, of which only the logits are compared
    rewrite: object = None              # what to do to the written folder: a function of its path
    lengths: tuple = LENGTHS
    kinds: dict = dataclasses.field(default_factory=dict)   # part of a name: scale of its random numbers
    attention: str = "eager"            # the reference's implementation
    distinct: int = 12                  # fewest distinct greedy ids of a prompt; fewer would be a weak test
    encoder: bool = False               # answers and states of whole texts; no greedy ids
    segments: int = 0                   # an encoder's: tokens of the second half of prompt 2 are of segment 1


def versions():
    return {m.__name__: m.__version__ for m in (torch, transformers, tokenizers, safetensors, numpy)}


def dump(value, path):
    with open(path, "w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


def attribute(model, path):
    for part in path.split("."):
        model = getattr(model, part)
    return model


def fill(case, model, seed):
    """Random numbers for every parameter, by what its name says that it is."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            z = torch.randn(p.shape, generator=rng, dtype=torch.float32)
            scale = next((s for part, s in case.kinds.items() if part in name), None)
            if scale is not None:
                p.copy_(scale * z)
            elif "norm" in name.lower() or ".ln_" in name or "ln_" in name.split(".")[-2]:
                p.copy_(0.1 * z if name.endswith("bias") else 0.2 * z + (1 if case.one_centred else 0))
            elif name.endswith("bias"):
                p.copy_(0.1 * z)
            elif "embed" in name or "wte" in name or "wpe" in name:
                p.copy_(0.5 * z)
            else:
                p.copy_(1.3 * z / p.shape[-1] ** 0.5)


def write(case, seed):
    out = os.path.join(OUT, case.name)
    os.makedirs(out, exist_ok=True)
    config = copy.deepcopy(case.config)
    config.dtype = case.dtype
    config._attn_implementation = case.attention
    model = case.model(config)
    fill(case, model, seed)
    model.to(case.dtype).save_pretrained(out)
    for extra in ("generation_config.json",):
        if os.path.exists(os.path.join(out, extra)):
            os.remove(os.path.join(out, extra))
    if case.rewrite:
        case.rewrite(out)
    return model


def load(case, path, model, dtype):
    """Read back from the files; a folder that was re-laid is one that the reference cannot read: the model that was written."""
    if case.rewrite and getattr(case.rewrite, "relaid", False):
        standard = torch.get_default_dtype()
        torch.set_default_dtype(dtype)      # what the reference makes in float32 stays so
        same = case.model(copy.deepcopy(model.config))
        torch.set_default_dtype(standard)
        same.load_state_dict(model.state_dict())
        return same.eval()
    loaded, info = case.model.from_pretrained(path, dtype=dtype, attn_implementation=case.attention,
                                              output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"], info
    if loaded._can_set_experts_implementation():
        loaded.set_experts_implementation("eager")
    return loaded.eval()


def forward(case, model, ids):
    """Logits [T, V], and hidden states [L+2, T, H]: what the first layer reads, each layer's output, and the final norm's."""
    states = []
    layers = attribute(model, case.layers)

    def first(output):
        return (output[0] if isinstance(output, tuple) else output).reshape(len(ids), -1)

    def entered(m, args, kwargs):
        if not states:      # a layer that all share is entered again
            states.append(first(args[0] if args else kwargs["hidden_states"]))

    hooks = [layers[0].register_forward_pre_hook(entered, with_kwargs=True)]
    hooks += [m.register_forward_hook(lambda m, x, y: states.append(first(y))) for m in layers]
    if case.norm:
        hooks += [attribute(model, case.norm).register_forward_hook(lambda m, x, y: states.append(first(y)))]
    with torch.no_grad():
        logits = encode(case, model, ids) if case.encoder else model(torch.tensor([ids]), use_cache=False).logits[0]
    for h in hooks:
        h.remove()
    if not case.norm and not case.encoder:
        states.append(states[-1])
    return logits, torch.stack(states)


def segments(case, ids):
    return [int(case.segments > 1 and len(ids) == case.lengths[2] and t >= len(ids) // 2) for t in range(len(ids))]


def encode(case, model, ids):
    """What the task of an encoder answers: scores, a pooled state, or the states themselves."""
    extra = {"token_type_ids": torch.tensor([segments(case, ids)])} if case.segments else {}
    output = model(torch.tensor([ids]), **extra)
    for name in ("logits", "prediction_logits", "text_embeds", "pooler_output", "last_hidden_state"):
        if getattr(output, name, None) is not None:
            return getattr(output, name)[0]
    raise AssertionError("no answer")


def greedy(case, model, prompt, least):
    """The ids, and the smallest lead that a chosen id had; None as soon as it is not above `least`, or too few ids differ."""
    ids, gap = [], float("inf")
    for i in range(N_GREEDY):
        two = torch.topk(forward(case, model, prompt + ids)[0][-1], 2)
        gap = min(gap, (two.values[0] - two.values[1]).item())
        ids.append(two.indices[0].item())
        if gap <= least or len(set(ids)) + N_GREEDY - 1 - i < case.distinct:
            return None, gap
    return ids, gap


def error(got, want):
    d = torch.cat([(g.double() - w).flatten() for g, w in zip(got, want)])
    return {"largest": d.abs().max().item(), "rms": d.square().mean().sqrt().item()}


def make(case):
    vocabulary = case.config.vocab_size
    for seed in range(1, 1000):
        written = write(case, seed)
        path = os.path.join(OUT, case.name)
        model = load(case, path, written, torch.float64)
        rng = torch.Generator().manual_seed(seed)
        prompts = [torch.randint(vocabulary, (n,), generator=rng).tolist() for n in case.lengths + case.long]
        runs = [forward(case, model, p) for p in prompts]
        largest = max(r[0].abs().max().item() for r in runs)
        tolerance = TOLERANCE * largest
        ids, gap = [], float("inf")
        for p in prompts[:len(case.lengths)] if not case.encoder else ():
            one, g = greedy(case, model, p, 10 * tolerance)
            ids.append(one)
            gap = min(gap, g)
            if one is None:
                break
        else:
            break
    else:
        sys.exit(f"{case.name}: no seed gives ids that are far apart and distinct")
    logits = [r[0] for r in runs]
    errors = {}
    for name, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        theirs = load(case, path, written, dtype)
        errors[name] = error([forward(case, theirs, p)[0] for p in prompts], logits)
    tensors = {f"logits.{i}": x.float().contiguous() for i, x in enumerate(logits)}
    tensors[f"hidden.{HIDDEN}"] = runs[HIDDEN][1].float().contiguous()
    save_file(tensors, os.path.join(path, "golden.safetensors"))
    more = {"segments": [segments(case, p) for p in prompts]} if case.encoder else {"greedy": ids, "smallest_gap": gap}
    dump({"reference": f"transformers {case.model.__name__}, eager attention, float64", "versions": versions(),
          "seed": seed, "prompts": prompts, "hidden_prompts": [HIDDEN], "largest_logit": largest, "tolerance": tolerance,
          "reference_error": errors} | more,
         os.path.join(path, "golden.json"))
    size = sum(os.path.getsize(f) for f in glob.glob(os.path.join(path, "*")))
    print(f"{case.name}: seed {seed}, largest logit {largest:.3f}, smallest gap {gap:.3g}, distinct greedy ids "
          f"{[len(set(x)) for x in ids]}, bf16 {errors['bf16']['rms']:.3g}, {size // 1024} KB", flush=True)


def main():
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    sys.path.insert(0, HERE)
    cases = {}
    for file in sorted(glob.glob(os.path.join(HERE, "models_*.py"))):
        for case in importlib.import_module(os.path.basename(file)[:-3]).CASES:
            assert case.name not in cases, case.name
            cases[case.name] = case
    for name in sys.argv[1:] or cases:
        make(cases[name])


if __name__ == "__main__":
    # The cases import this file by its name.
    sys.modules["make_models"] = sys.modules["__main__"]
    main()
