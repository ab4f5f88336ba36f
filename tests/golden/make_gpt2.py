#!/usr/bin/env python3
"""Makes small random GPT-2 checkpoints, and what transformers computes from them and from the built-in model.

Run, from the root of the repository, in the environment that tests/golden/README.md describes:

    build/golden-env/bin/python tests/golden/make_gpt2.py [NAME ...]        without NAME, all of them

The reference is transformers' GPT2LMHeadModel with eager attention, read back from the written files, its weights
widened to float64 (which is exact for all three dtypes) and all arithmetic in float64.  Results are stored as f32.

Weights are larger than a fresh GPT-2's, so that attention is far from uniform and logits are far apart.  Seeds are
tried in turn until, over all greedy ids, the best logit leads the second by more than ten tolerances: then no
implementation within the tolerance can pick another id.
"""
import json
import os
import sys

import numpy
import safetensors
import torch
import tokenizers
import transformers
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, logging

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
N_GREEDY = 64
TOLERANCE = 2e-5                # of the largest |logit|
LENGTHS = (1, 5, 17, 40)        # ragged prompts
HIDDEN = (1, 2)                 # prompts whose hidden states are stored
BUILTIN_ROWS = 4                # last rows of logits that are stored for the built-in model
BF16 = ("gpt2-tiny-bf16", "builtin")

TEXTS = ("First Citizen:\n", "ROMEO:\nBut soft, what light", "KING HENRY:\nNow is the winter of our discontent, and\n",
         "O", "JULIET:\nGood night, good night! Parting is such", "To be", "The", "DUKE:\nI'll not be gone; it's 'tis")

# Head widths 12, 16, 20, 20: below, at and beside what vectors like.  One has a feed-forward width other than 4 D.
TINY = {
    "gpt2-tiny-fp32": (torch.float32, dict(n_layer=3, n_embd=36, n_head=3)),
    "gpt2-tiny-fp16": (torch.float16, dict(n_layer=3, n_embd=48, n_head=3)),
    "gpt2-tiny-bf16": (torch.bfloat16, dict(n_layer=3, n_embd=60, n_head=3, n_inner=150)),
    "gpt2-tiny-headless": (torch.float32, dict(n_layer=2, n_embd=40, n_head=2)),
}


def versions():
    return {m.__name__: m.__version__ for m in (torch, transformers, tokenizers, safetensors, numpy)}


def dump(value, path):
    with open(path, "w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


def random_state(config, seed):
    rng = torch.Generator().manual_seed(seed)
    state = {}
    for name, p in GPT2LMHeadModel(config).state_dict().items():
        if name == "lm_head.weight":                    # tied: wte stands for it
            continue
        z = torch.randn(p.shape, generator=rng)
        if ".ln_" in name:
            state[name] = 1 + 0.2 * z if name.endswith("weight") else 0.1 * z
        elif name.endswith("bias"):
            state[name] = 0.1 * z
        elif "wte" in name or "wpe" in name:
            state[name] = 0.3 * z
        else:
            state[name] = 0.2 * z
    return state


def write_tiny(name, seed):
    """Writes the checkpoint; returns its config, for the caller to read it back from the files."""
    dtype, sizes = TINY[name]
    config = GPT2Config(vocab_size=131, n_positions=112, bos_token_id=130, eos_token_id=130,
                        architectures=["GPT2LMHeadModel"], dtype=dtype, **sizes)
    state = {k: v.to(dtype) for k, v in random_state(config, seed).items()}
    out = os.path.join(HERE, name)
    os.makedirs(out, exist_ok=True)
    config.save_pretrained(out)
    if name == "gpt2-tiny-headless":
        # The names of OpenAI's gpt2 checkpoint, with the buffers that it carries and its reference ignores: a causal
        # mask, and what a masked score was replaced by.  Their dtype has changed over time.
        state = {k.removeprefix("transformer."): v for k, v in state.items()}
        mask = torch.ones(112, 112).tril().view(1, 1, 112, 112)
        state["h.0.attn.bias"] = mask
        state["h.1.attn.bias"] = mask.to(torch.uint8)
        state["h.1.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(state, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
    return out


def write_sharded():
    """gpt2-tiny-fp32 again, in two files; its goldens hold for both."""
    source, out = (os.path.join(HERE, n) for n in ("gpt2-tiny-fp32", "gpt2-tiny-sharded"))
    os.makedirs(out, exist_ok=True)
    GPT2Config.from_pretrained(source).save_pretrained(out)
    state = load_file(os.path.join(source, "model.safetensors"))
    names = sorted(state)
    index = {}
    for i, part in enumerate((names[::2], names[1::2]), 1):      # neighbours in different files
        file = f"model-{i:05}-of-00002.safetensors"
        save_file({n: state[n] for n in part}, os.path.join(out, file), metadata={"format": "pt"})
        index.update({n: file for n in part})
    dump({"metadata": {"total_size": sum(v.numel() * v.element_size() for v in state.values())},
          "weight_map": dict(sorted(index.items()))}, os.path.join(out, "model.safetensors.index.json"))
    a, b = load(source).state_dict(), load(out).state_dict()
    assert all(torch.equal(a[n], b[n]) for n in a)


def load(path):
    model, info = GPT2LMHeadModel.from_pretrained(path, dtype=torch.float64, attn_implementation="eager",
                                                  output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"], info
    return model.eval()


def forward(model, ids):
    """Logits [T, V], and hidden states [L+2, T, D]: the embedding, each layer's output, and the final norm's."""
    states = []
    t = model.transformer
    hooks = [t.h[0].register_forward_pre_hook(lambda m, x: states.append(x[0][0]))]
    hooks += [m.register_forward_hook(lambda m, x, y: states.append((y[0] if isinstance(y, tuple) else y)[0]))
              for m in t.h]
    hooks += [t.ln_f.register_forward_hook(lambda m, x, y: states.append(y[0]))]
    with torch.no_grad():
        logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    for h in hooks:
        h.remove()
    states = [s.reshape(len(ids), -1) for s in states]
    return logits, torch.stack(states)


def greedy(model, prompt):
    """The ids, and the smallest lead that a chosen id had."""
    ids, gap = list(prompt), float("inf")
    for _ in range(N_GREEDY):
        two = torch.topk(forward(model, ids)[0][-1], 2)
        gap = min(gap, (two.values[0] - two.values[1]).item())
        ids.append(two.indices[0].item())
    return ids[len(prompt):], gap


def tiny(name):
    for seed in range(1, 1000):
        out = write_tiny(name, seed)
        model = load(out)
        rng = torch.Generator().manual_seed(seed)
        prompts = [torch.randint(131, (n,), generator=rng).tolist() for n in LENGTHS]
        runs = [forward(model, p) for p in prompts]
        largest = max(r[0].abs().max().item() for r in runs)
        tolerance = TOLERANCE * largest
        ids, gap = [], float("inf")
        for p in prompts:
            one, g = greedy(model, p)
            ids.append(one)
            gap = min(gap, g)
            if gap <= 10 * tolerance or len(set(one)) < 20:      # few distinct ids would be a weak test
                break
        else:
            break
    tensors = {f"logits.{i}": r[0].float().contiguous() for i, r in enumerate(runs)}
    tensors |= {f"hidden.{i}": runs[i][1].float().contiguous() for i in HIDDEN}
    save_file(tensors, os.path.join(out, "golden.safetensors"))
    dump({"reference": "transformers GPT2LMHeadModel, eager attention, float64", "versions": versions(), "seed": seed,
          "prompts": prompts, "greedy": ids, "hidden_prompts": list(HIDDEN), "largest_logit": largest,
          "tolerance": tolerance, "smallest_gap": gap}, os.path.join(out, "golden.json"))
    print(f"{name}: seed {seed}, largest logit {largest:.3f}, tolerance {tolerance:.3g}, smallest gap {gap:.3g}, "
          f"distinct greedy ids {[len(set(x)) for x in ids]}")


def builtin():
    """Four of TEXTS whose greedy ids are clear, with the logits of each prompt's last four positions."""
    path = os.path.join(ROOT, "models", "tiny-shakespeare")
    out = os.path.join(HERE, "builtin")
    os.makedirs(out, exist_ok=True)
    tok = tokenizers.Tokenizer.from_file(os.path.join(path, "tokenizer.json"))
    model = load(path)
    tried = [(text, tok.encode(text).ids) for text in TEXTS]
    runs = [forward(model, ids) for _, ids in tried]
    largest = max(r[0].abs().max().item() for r in runs)
    tolerance = TOLERANCE * largest
    kept, tensors, least = [], {}, float("inf")
    for (text, ids), (logits, hidden) in zip(tried, runs):
        new, gap = greedy(model, ids)
        if gap <= 10 * tolerance or len(kept) == 4:
            continue
        i = len(kept)
        kept.append((text, ids, new))
        least = min(least, gap)
        tensors[f"logits.{i}"] = logits[-BUILTIN_ROWS:].float().contiguous()
        if i == 1:
            tensors[f"hidden.{i}"] = hidden.float().contiguous()
    assert len(kept) == 4
    save_file(tensors, os.path.join(out, "golden.safetensors"))
    dump({"reference": "transformers GPT2LMHeadModel, eager attention, float64", "versions": versions(),
          "texts": [k[0] for k in kept], "prompts": [k[1] for k in kept], "greedy": [k[2] for k in kept],
          "greedy_texts": [tok.decode(k[2]) for k in kept], "logit_rows": BUILTIN_ROWS, "hidden_prompts": [1],
          "largest_logit": largest, "tolerance": tolerance, "smallest_gap": least}, os.path.join(out, "golden.json"))
    print(f"builtin: largest logit {largest:.3f}, tolerance {tolerance:.3g}, smallest gap {least:.3g}")


def round_bf16(x):
    return x.to(torch.bfloat16).to(x.dtype)


def bf16_rule(model, ids):
    """Logits of what docs/numerics.md says of --dtype bf16, all else in float64: rows are rounded to bf16 where they enter
    a product, and so are queries, keys, values, and probabilities before the division by their sum."""
    t, c, r = model.transformer, model.config, round_bf16
    n, e = len(ids), c.n_embd // c.n_head
    hidden_keys = torch.ones(n, n).triu(1).bool()
    x = t.wte.weight[ids] + t.wpe.weight[:n]
    for layer in t.h:
        qkv = r(layer.ln_1(x)) @ layer.attn.c_attn.weight + layer.attn.c_attn.bias
        q, k, v = (r(part).view(n, c.n_head, e).transpose(0, 1) for part in qkv.split(c.n_embd, 1))
        s = (q @ k.mT / e ** 0.5).masked_fill(hidden_keys, -torch.inf)
        p = (s - s.amax(-1, keepdim=True)).exp()
        a = (r(p) @ v / p.sum(-1, keepdim=True)).transpose(0, 1).reshape(n, c.n_embd)
        x = x + r(a) @ layer.attn.c_proj.weight + layer.attn.c_proj.bias
        f = layer.mlp.act(r(layer.ln_2(x)) @ layer.mlp.c_fc.weight + layer.mlp.c_fc.bias)
        x = x + r(f) @ layer.mlp.c_proj.weight + layer.mlp.c_proj.bias
    return r(t.ln_f(x)) @ model.lm_head.weight.T


def error(got, want):
    d = torch.cat([(g - w).flatten() for g, w in zip(got, want)])
    return {"largest": d.abs().max().item(), "rms": d.square().mean().sqrt().item()}


def bf16(name):
    """What bf16 costs: by transformers' own run in bfloat16, and by tern's rule."""
    out = os.path.join(HERE, name)
    path = os.path.join(ROOT, "models", "tiny-shakespeare") if name == "builtin" else out
    with open(os.path.join(out, "golden.json")) as f:
        golden = json.load(f)
    prompts, rows = golden["prompts"], golden.get("logit_rows", 1 << 20)

    def logits(model, prompt):
        return forward(model, prompt)[0][-rows:].double()

    theirs = load(path).to(torch.bfloat16)          # every number, vectors too
    exact_of_theirs = load(path).to(torch.bfloat16).to(torch.float64)
    ours = load(path)                               # matrices that are multiplied with
    with torch.no_grad():
        for p in [ours.transformer.wte.weight] + [m.weight for h in ours.transformer.h for m in
                                                  (h.attn.c_attn, h.attn.c_proj, h.mlp.c_fc, h.mlp.c_proj)]:
            p.copy_(round_bf16(p))
        exact = [logits(ours, p) for p in prompts]
        rule = [bf16_rule(ours, p)[-rows:] for p in prompts]
        theirs_error = error([logits(theirs, p) for p in prompts], [logits(exact_of_theirs, p) for p in prompts])
        greedy_ids, leads = [], []
        for p in prompts:
            ids, _ = greedy(ours, p)
            two = torch.topk(forward(ours, p + ids)[0][len(p) - 1:-1], 2).values
            greedy_ids.append(ids)
            leads.append([round(x, 6) for x in (two[:, 0] - two[:, 1]).tolist()])
    tensors = {f"exact.{i}": x.float().contiguous() for i, x in enumerate(exact)}
    tensors |= {f"rule.{i}": x.float().contiguous() for i, x in enumerate(rule)}
    save_file(tensors, os.path.join(out, "golden_bf16.safetensors"))
    rule_error = error(rule, exact)
    dump({"reference": "transformers GPT2LMHeadModel, eager attention, bfloat16, against float64", "versions": versions(),
          "prompts": prompts, "greedy": greedy_ids, "leads": leads, "logit_rows": rows,
          "largest_logit": max(x.abs().max().item() for x in exact),
          "reference_error": theirs_error, "rule_error": rule_error}, os.path.join(out, "golden_bf16.json"))
    print(f"{name} in bf16: transformers {theirs_error}, the rule {rule_error}")


def main():
    torch.set_num_threads(1)
    logging.set_verbosity_error()                   # or each load of the headless folder reports its buffers
    logging.disable_progress_bar()
    for name in sys.argv[1:] or [*TINY, "gpt2-tiny-sharded", "builtin", "bf16"]:
        if name == "bf16":
            for checkpoint in BF16:
                bf16(checkpoint)
        elif name == "builtin":
            builtin()
        elif name == "gpt2-tiny-sharded":
            write_sharded()
        else:
            tiny(name)


if __name__ == "__main__":
    main()
