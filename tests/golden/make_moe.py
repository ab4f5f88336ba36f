#!/usr/bin/env python3
"""Goldens of the mixture of experts: torch in float64, from inputs that the test makes again.

    python make_moe.py

Writes moe/moe.json beside this file: for each case the settings, the inputs (shape, distribution, storage) and, of the output,
256 sampled values, the sum and the sum of squares.  Inputs come from the counter-based generator of docs/numerics.md, rounded
to the type that they are stored in.  The formulas are those of include/tern/moe.h, token by token and expert by expert, and
use nothing of tern.

Whether a token goes to one expert or the other must not hang on a rounding: where two logits that decide are closer than
MARGIN, the case takes other numbers (`retry` in its name).  Logits that are meant to be equal come from equal columns of the
gate, and are summed here column by column, so that they are equal to the bit.
"""
import base64
import json
import math
import pathlib

import numpy as np
import torch

SAMPLES = 256
MARGIN = 1e-4

# ---- the generator of docs/numerics.md -------------------------------------------------------------------------------


def philox(key, blocks):
    """Philox4x32-10 of the counters 0 .. blocks - 1: [blocks, 4] of uint32."""
    mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    counter = np.arange(blocks, dtype=np.uint64)
    x = [counter & mask, counter >> shift, np.zeros_like(counter), np.zeros_like(counter)]
    low, high = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        a, b = x[0] * np.uint64(0xD2511F53), x[2] * np.uint64(0xCD9E8D57)
        x = [(b >> shift) ^ x[1] ^ np.uint64(low), b & mask, (a >> shift) ^ x[3] ^ np.uint64(high), a & mask]
        low, high = (low + 0x9E3779B9) & 0xFFFFFFFF, (high + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(x, 1).astype(np.uint32)


def key_of(name):
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def words_of(name, n):
    return philox(key_of(name), (n + 3) // 4).reshape(-1)[:n]


def tensor(name, spec):
    """The numbers of a tensor as stored, in float64."""
    n = math.prod(spec["shape"])
    if spec["kind"] == "codes":
        x = (words_of(name, n) >> np.uint32(24)).astype(np.int64) - 128
        return torch.from_numpy(x.astype(np.float64)).reshape(spec["shape"])
    if spec["kind"] == "uniform":
        x = (words_of(name, n) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    else:
        w = words_of(name, 2 * n).reshape(-1, 2).astype(np.int64)
        x = ((w & 0xFFFF).sum(1) + (w >> 16).sum(1) - 131070).astype(np.float32) * np.float32(2.642906e-05)
    x = x * np.float32(spec["scale"]) + np.float32(spec["offset"])
    stored = dict(fp32=torch.float32, fp16=torch.float16, bf16=torch.bfloat16)[spec["dtype"]]
    return torch.from_numpy(x).to(stored).double().reshape(spec["shape"])


# ---- the formulas, in float64 ------------------------------------------------------------------------------------------


def gelu(x, form):
    if form == "sigmoid":
        return x * torch.sigmoid(1.702 * x)
    return torch.nn.functional.gelu(x, approximate="none" if form == "erf" else "tanh")


def act(x, c):
    kind = c["mlp_act_func_type"]
    if kind == "ReLU":
        return torch.relu(x)
    if kind == "GELU":
        return gelu(x, c.get("gelu", "tanh"))
    up, gate = x.chunk(2, -1)
    return up * (torch.nn.functional.silu(gate) if kind == "GATED_SILU" else gelu(gate, c.get("gelu", "erf")))


def rows_as_s8(x):
    """W8A8: rows as s8 with a scale each, by the steps in fp32 that define them."""
    x = x.float()
    largest = x.abs().amax(-1, keepdim=True)
    return torch.round(x * (127 / largest)).double() * (largest / 127).double()


def feed_forward(x, c, up, up_b, down, down_b):
    rows = rows_as_s8 if c.get("activation_quant") == "row" else lambda x: x
    return rows(act(rows(x) @ up + up_b, c)) @ down + down_b


def matrix(t, name, c):
    """[.., in, out], scaled if it is codes."""
    w = t[name]
    if c["transposed_mode"]:
        w = w.transpose(-1, -2)
    if c["dtype"] == "int8":
        s = t[name[:-2] + "_scale"]
        w = w * s.repeat_interleave(w.shape[-1] // s.shape[-1], -1).unsqueeze(-2)
    return w


def choose(logits, c, m):
    """For each token its kept experts and their scores: lists of (expert, score)."""
    n_tokens, n_experts = logits.shape
    k = m["k"]
    probability = torch.softmax(logits, -1)
    order = torch.sort(logits, dim=-1, descending=True, stable=True).indices[:, :k]
    ranked = torch.sort(logits, dim=-1, descending=True).values[:, :k + 1]
    gaps = ranked[:, :-1] - ranked[:, 1:]
    near = bool(((gaps != 0) & (gaps < MARGIN)).any())
    if m["drop_tokens"]:  # as sharded_moe.py's _capacity computes it
        capacity = max(int(torch.ceil((n_tokens / n_experts) * torch.tensor(m["eval_capacity_factor"] * k))), m["min_capacity"])
    else:
        capacity = n_tokens
    pairs = [(t, j) for t in range(n_tokens) for j in range(k)]
    if k == 2:
        pairs.sort(key=lambda p: p[1])
    kept, dropped = {}, 0
    for e in range(n_experts):
        queue = [(t, j) for t, j in pairs if order[t, j] == e]
        if m["drop_policy"] == "probs":
            p = [probability[t, e].item() for t, _ in queue]
            rank = sorted(range(len(queue)), key=lambda i: (-p[i], queue[i]))
            if len(queue) > capacity > 0:
                last, first_out = p[rank[capacity - 1]], p[rank[capacity]]
                near |= last != first_out and last - first_out < MARGIN * last
            queue = [queue[i] for i in rank]
        dropped += max(len(queue) - capacity, 0)
        for t, j in queue[:capacity]:
            kept[t, j] = probability[t, e]
    choices = []
    for t in range(n_tokens):
        mine = [(int(order[t, j]), kept[t, j]) for j in range(k) if (t, j) in kept]
        normalize = m["normalize"] if m["normalize"] >= 0 else int(k > 1)
        total = max(sum((float(s) for _, s in mine), 0.0), 2.0**-23) if normalize else 1.0
        choices.append([(e, s / total) for e, s in mine])
    return choices, near, dropped


def moe(c, m, t):
    x = t["input"].reshape(-1, t["input"].shape[-1])
    gate = t["gate_w"].T if c["transposed_mode"] else t["gate_w"]
    logits = torch.stack([(x * gate[:, e]).sum(-1) for e in range(gate.shape[1])], -1)
    choices, near, dropped = choose(logits, c, m)
    up, down = matrix(t, "inter_w", c), matrix(t, "output_w", c)
    zero = torch.zeros((), dtype=torch.float64)
    bias = lambda name, e: t[name][e] if name in t else zero
    y = torch.zeros_like(x)
    for i, mine in enumerate(choices):
        for e, score in mine:
            y[i] += score * feed_forward(x[i], c, up[e], bias("inter_b", e), down[e], bias("output_b", e))
    if m["mlp_type"] == "residual":
        dense = feed_forward(x, c, matrix(t, "res_inter_w", c), t.get("res_inter_b", zero), matrix(t, "res_output_w", c),
                             t.get("res_output_b", zero))
        coef_w = t["res_coef_w"].T if c["transposed_mode"] else t["res_coef_w"]
        pair = torch.softmax(x @ coef_w + t.get("res_coef_b", zero), -1)
        y = y * pair[:, :1] + dense * pair[:, 1:]
    return y.reshape(t["input"].shape), near, dropped


# ---- the cases -----------------------------------------------------------------------------------------------------------


def case(tokens, h, i, x, k, dtype="fp32", a=None, quant=None, weight=None, activation="GELU", gelu=None, transposed=False,
         biases=True, gate_scale=1.0, twins=False, groups=None, **moe_settings):
    a = a or dtype
    up = 2 * i if activation.startswith("GATED") else i
    c = dict(hidden_size=h, intermediate_size=i, dtype=dtype, mlp_act_func_type=activation, transposed_mode=transposed)
    if dtype == "int8":
        c.update(activation_dtype=a, activation_quant=quant or "none")
    if gelu:
        c["gelu"] = gelu
    m = dict(global_experts=x, k=k, eval_capacity_factor=1.0, min_capacity=1, drop_tokens=True, mlp_type="standard",
             normalize=-1, drop_policy="order")
    m.update(moe_settings)
    specs = {}

    def numbers(name, shape, scale, dtype, offset=0.0):
        specs[name] = dict(shape=list(shape), kind="normal", scale=scale, offset=offset, dtype=dtype)

    def weights(name, shape):
        stored = list(shape[:-2]) + ([shape[-1], shape[-2]] if transposed else list(shape[-2:]))
        if dtype == "int8":
            specs[name] = dict(shape=stored, kind="codes", dtype="int8")
            g = groups or shape[-1]
            specs[name[:-2] + "_scale"] = dict(shape=list(shape[:-2]) + [g], kind="uniform", scale=0.003 / math.sqrt(shape[-2]),
                                               offset=0.012 / math.sqrt(shape[-2]), dtype="fp32")
        else:
            numbers(name, stored, 1 / math.sqrt(shape[-2]), weight or dtype)

    numbers("input", tokens + [h], 1.0, a)
    numbers("gate_w", [x, h] if transposed else [h, x], gate_scale / math.sqrt(h), "fp32")
    if twins:
        specs["gate_w"]["twins"] = True
    weights("inter_w", (x, h, up))
    weights("output_w", (x, i, h))
    if biases:
        numbers("inter_b", [x, up], 0.2, a)
        numbers("output_b", [x, h], 0.2, "fp32")
    if m["mlp_type"] == "residual":
        weights("res_inter_w", (h, up))
        weights("res_output_w", (i, h))
        numbers("res_coef_w", [2, h] if transposed else [h, 2], 1 / math.sqrt(h), a)
        if biases:
            numbers("res_inter_b", [up], 0.2, "fp32")
            numbers("res_output_b", [h], 0.2, a)
            numbers("res_coef_b", [2], 0.5, "fp32")
    return c, m, specs


def grid():
    # fp32: k, capacity, ties, forms, activations, sizes
    for k in (1, 2, 4):
        yield case([7], 16, 24, 4, k, drop_tokens=False)
        yield case([2, 20], 16, 24, 8, k)
        yield case([50], 24, 20, 8, k, eval_capacity_factor=0.6)
        yield case([50], 24, 20, 8, k, eval_capacity_factor=0.6, drop_policy="probs")
        yield case([29], 12, 16, 6, k, twins=True, eval_capacity_factor=1.2)
        yield case([13], 12, 16, 8, k, gate_scale=0.0)
    yield case([41], 16, 16, 5, 3, eval_capacity_factor=0.5)
    yield case([9], 16, 16, 8, 2, min_capacity=4)
    yield case([10], 16, 16, 4, 1, eval_capacity_factor=1.2)
    yield case([30], 16, 16, 4, 2, eval_capacity_factor=0.0, min_capacity=0)
    yield case([35], 16, 16, 3, 1, eval_capacity_factor=0.6)  # 7 by the decimal numbers, 8 in fp32
    yield case([20], 16, 16, 6, 3, eval_capacity_factor=1.1)  # 11 by the decimal numbers and in fp32, 12 in float64
    yield case([30], 16, 16, 6, 2, normalize=0)
    yield case([30], 16, 16, 6, 1, normalize=1)
    yield case([30], 16, 16, 6, 2, mlp_type="residual")
    yield case([30], 16, 16, 6, 1, mlp_type="residual", biases=False)
    yield case([17], 20, 36, 4, 1, mlp_type="residual", activation="GATED_SILU", transposed=True)
    yield case([17], 20, 36, 4, 2, mlp_type="residual", activation="ReLU", drop_tokens=False, weight="bf16")
    for form in ("erf", "tanh", "sigmoid"):
        yield case([11], 16, 33, 4, 2, gelu=form)
        yield case([11], 16, 33, 4, 2, gelu=form, activation="GATED_GELU")
    yield case([11], 16, 33, 4, 2, activation="GATED_GELU", biases=False)
    yield case([11], 16, 33, 4, 2, activation="GATED_SILU", transposed=True, weight="fp16")
    yield case([5], 16, 24, 1, 1)
    yield case([6], 16, 24, 4, 4)
    yield case([1], 16, 24, 8, 2)
    yield case([0], 16, 24, 4, 2)
    yield case([3], 1, 1, 2, 1)
    yield case([9], 33, 65, 3, 2, transposed=True)
    yield case([300], 64, 128, 4, 1, eval_capacity_factor=4.0)
    yield case([2, 100], 96, 160, 16, 2, eval_capacity_factor=1.25)
    # the other dtypes
    kinds = [dict(dtype="fp16"), dict(dtype="bf16")]
    kinds += [dict(dtype="int8", a=a, quant=q) for a in ("fp16", "fp32", "bf16") for q in ("none", "row")]
    for kind in kinds:
        yield case([7], 16, 24, 4, 1, **kind)
        yield case([60], 32, 64, 8, 2, transposed=True, **kind)
        yield case([41], 33, 65, 6, 4, activation="GATED_SILU", eval_capacity_factor=0.7, **kind)
        yield case([30], 48, 96, 6, 2, activation="ReLU", mlp_type="residual", groups=3, drop_tokens=False, **kind)
        yield case([12], 20, 24, 6, 2, twins=True, biases=False, mlp_type="residual", activation="GATED_GELU", **kind)
        yield case([0], 16, 24, 4, 2, **kind)


def main():
    cases = []
    for number, (c, m, specs) in enumerate(grid()):
        for retry in range(200):
            name = f"moe/{number}" + (f"/{retry}" if retry else "")
            tensors = {k: tensor(f"{name}/{k}", s) for k, s in specs.items()}
            if specs["gate_w"].get("twins"):  # columns 2j + 1 are columns 2j
                axis = 0 if c["transposed_mode"] else 1
                n = tensors["gate_w"].shape[axis]
                tensors["gate_w"] = tensors["gate_w"].index_select(axis, torch.arange(n) // 2 * 2)
            y, near, dropped = moe(c, m, tensors)
            if not near:
                break
        assert not near, (c, m)
        flat = y.reshape(-1).numpy()
        picked = flat if flat.size <= SAMPLES else flat[words_of(f"{name}/output/sample", SAMPLES).astype(np.int64) % flat.size]
        cases.append(dict(name=name, config=json.dumps(c), moe=m, dropped=dropped, inputs=specs,
                          output=dict(shape=list(y.shape), sum=float(flat.sum()), squares=float((flat * flat).sum()),
                                      samples=base64.b64encode(picked.astype("<f4").tobytes()).decode())))
    folder = pathlib.Path(__file__).parent / "moe"
    folder.mkdir(exist_ok=True)
    head = dict(reference="torch, float64", versions=dict(torch=torch.__version__.split("+")[0], numpy=np.__version__))
    with open(folder / "moe.json", "w") as f:
        f.write(json.dumps(head)[:-1] + ', "cases": [\n' + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]}\n")
    print(len(cases), "cases,", sum(c["dropped"] > 0 for c in cases), "of them with dropped tokens")


if __name__ == "__main__":
    main()
