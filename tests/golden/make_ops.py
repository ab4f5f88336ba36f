#!/usr/bin/env python3
"""Goldens of operators: torch in float64, from inputs that the test makes again.

    python make_ops.py [OUT-FOLDER]

Writes ops/fp32.json beside this file: for each case the operator, its settings, its inputs (shape, distribution) and, of each
output, 256 sampled values, the sum and the sum of squares.  Inputs come from the counter-based generator of
docs/numerics.md, written here and in tests/ops/golden_inputs.h.  The formulas are those of docs/operators.md and use nothing of tern.
"""
import base64
import itertools
import json
import math
import pathlib
import sys

import numpy as np
import torch

torch.set_num_threads(2)
DTYPE = "fp32"
SAMPLES = 256
MOST_FLOP = 2e9

# ---- the generator ---------------------------------------------------------------------------------------------------


def philox(key, blocks):
    """Philox4x32-10 of the counters 0 .. blocks - 1: [blocks, 4] of uint32."""
    c = [np.arange(blocks, dtype=np.uint64) & 0xFFFFFFFF, np.arange(blocks, dtype=np.uint64) >> np.uint64(32),
         np.zeros(blocks, np.uint64), np.zeros(blocks, np.uint64)]
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(b >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), b & low, (a >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), a & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, 1).astype(np.uint32)


def key_of(name):
    """FNV-1a, 64 bits."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def numbers(name, spec):
    n = math.prod(spec["shape"])
    if spec["kind"] == "uniform":
        words = philox(key_of(name), (n + 3) // 4).reshape(-1)[:n]
        x = (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    else:
        words = philox(key_of(name), (n + 1) // 2).reshape(-1, 2)[:n].astype(np.int64)
        total = (words & 0xFFFF).sum(1) + (words >> 16).sum(1) - 131070
        x = total.astype(np.float32) * np.float32(2.642906e-05)
    x = x * np.float32(spec["scale"]) + np.float32(spec["offset"])
    assert x.dtype == np.float32
    return x.reshape(spec["shape"])


def sampled(name, n):
    return philox(key_of(name + "/sample"), SAMPLES // 4).reshape(-1).astype(np.int64) % n


# ---- the formulas, in float64 ------------------------------------------------------------------------------------------


def norm(x, c, gamma, beta):
    if c.get("norm_type", "LayerNorm") == "LayerNorm":
        return torch.nn.functional.layer_norm(x, x.shape[-1:], gamma, beta, c["epsilon"])
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + c["epsilon"]) * gamma


def gelu(x, form):
    if form == "sigmoid":
        return x * torch.sigmoid(1.702 * x)
    return torch.nn.functional.gelu(x, approximate="none" if form == "erf" else "tanh")


def act(x, c):
    kind = c.get("mlp_act_func_type", "GELU")
    if kind == "ReLU":
        return torch.relu(x)
    if kind == "GELU":
        return gelu(x, c.get("gelu", "tanh"))
    up, gate = x.chunk(2, -1)
    return up * (torch.nn.functional.silu(gate) if kind == "GATED_SILU" else gelu(gate, c.get("gelu", "erf")))


def matrix(w, c):
    return w.T if c.get("transposed_mode") else w


def linear(c, t):
    y = t["input"] @ matrix(t["weight"], c)
    return {"output": y + t["bias"] if "bias" in t else y}


def qkv_gemm(c, t):
    z = norm(t["input"], c, t["gamma"], t.get("beta"))
    y = z @ matrix(t["weight"], c)
    return {"output": y + t["bias"] if "bias" in t else y, "norm": z}


def mlp_gemm(c, t):
    rms = c.get("norm_type") == "RMSNorm"
    if not c.get("mlp_after_attn", True) and not rms:
        s = t["residual"]
    else:
        s = t["input"] + t["residual"] + (t["input_bias"] if "input_bias" in t else 0)
    z = norm(s, c, t["gamma"], t.get("beta"))
    y = act(z @ matrix(t["weight"], c) + (t["bias"] if "bias" in t else 0), c) @ matrix(t["weight_out"], c)
    return {"output": y, "residual_add": s if rms else z}


def gelu_gemm(c, t):
    u = t["input"] @ matrix(t["weight"], c) + (t["bias"] if "bias" in t else 0)
    return {"output": gelu(u, c.get("gelu", "tanh")) @ matrix(t["weight_out"], c)}


def residual_add(c, t):
    mp = c.get("mp_size", 1)
    x, r, a = t["hidden"], t["residual"], t.get("attention_output", 0)
    ba, bf = t.get("attention_bias", 0), t.get("final_bias", 0)
    if not c.get("mlp_after_attn", True):
        return {"output": x + a + (r + bf + ba) / mp}
    if c.get("pre_layer_norm", True):
        return {"output": x + (r + bf + a + ba) / mp}
    return {"output": x + (t.get("residual_add", r) + bf) / mp}


def visible(rows, columns, causal, window):
    """[rows, columns] of bool; row i stands at columns - rows + i."""
    at = torch.arange(rows)[:, None] + (columns - rows)
    j = torch.arange(columns)[None, :]
    see = torch.ones(rows, columns, dtype=torch.bool)
    if causal:
        see &= j <= at
    if window:
        see &= j > at - window
    return see


def masked_softmax(s, see):
    s = s.masked_fill(~see, -math.inf)
    return torch.nan_to_num(torch.softmax(s, -1), nan=0.0)


def softmax(c, t):
    s = t["scores"] * float(np.float32(c.get("layer_scale", 1)))
    rows, columns = s.shape[-2:]
    if "alibi" in t:
        first = c.get("head_offset", 0)
        slopes = t["alibi"][first:first + s.shape[1]]
        s = s + slopes[:, None, None] * torch.arange(columns, dtype=torch.float64)
    if "mask" in t:
        s = s + t["mask"]
    see = visible(rows, columns, c.get("triangular"), c["window_size"] if c.get("local_attention") else 0)
    return {"output": masked_softmax(s, see)}


def rotate(x, c):
    """x [B, S, heads, E] at positions 0 .. S - 1."""
    n = c.get("rotary_dim", -1)
    if n <= 0:
        return x
    theta = float(np.float32(c.get("rope_theta", 10000)))
    angle = torch.arange(x.shape[1], dtype=torch.float64)[:, None] * theta ** (
        -2 * torch.arange(n // 2, dtype=torch.float64) / n)
    cos, sin = angle.cos()[:, None, :], angle.sin()[:, None, :]
    half = c.get("rotate_half", False)
    a = x[..., :n // 2] if half else x[..., 0:n:2]
    b = x[..., n // 2:n] if half else x[..., 1:n:2]
    u, v = a * cos - b * sin, b * cos + a * sin
    turned = torch.cat([u, v], -1) if half else torch.stack([u, v], -1).flatten(-2)
    return torch.cat([turned, x[..., n:]], -1)


def softmax_context(c, t):
    h, width = c["heads"], c["hidden_size"] // c["heads"]
    g = c.get("num_kv", h)
    x = t["qkv"]
    batch, rows, _ = x.shape
    q, k, v = x.reshape(batch, rows, h + 2 * g, width).split([h, g, g], 2)
    q, k = rotate(q, c), rotate(k, c)
    k, v = (y.repeat_interleave(h // g, 2).transpose(1, 2) for y in (k, v))
    scale = 1.0
    if c.get("scale_attention", True):
        scale = (1 / width if c.get("use_mup") else width**-0.5)
        if c.get("scale_attn_by_inverse_layer_idx"):
            scale /= c["layer_id"] + 1
    s = q.transpose(1, 2) @ k.transpose(-1, -2) * scale
    if "alibi" in t:
        s = s + t["alibi"][:, None, None] * torch.arange(rows, dtype=torch.float64)
    if "mask" in t:
        s = s + t["mask"].reshape(-1, 1, t["mask"].shape[0] // batch if t["mask"].shape[0] > 1 else 1, rows)
    see = visible(rows, rows, c.get("triangular_masking", True), c["window_size"] if c.get("local_attention") else 0)
    p = masked_softmax(s, see)
    return {"output": (p @ v).transpose(1, 2).reshape(batch, rows, h * width)}


FORMULAS = dict(linear=linear, vector_matmul=linear, qkv_gemm=qkv_gemm, mlp_gemm=mlp_gemm, gelu_gemm=gelu_gemm,
                residual_add=residual_add, softmax=softmax, softmax_context=softmax_context)

# ---- the grid ----------------------------------------------------------------------------------------------------------


def normal(*shape, scale=1.0, offset=0.0):
    return dict(shape=list(shape), kind="normal", scale=scale, offset=offset)


def uniform(*shape, scale=1.0, offset=0.0):
    return dict(shape=list(shape), kind="uniform", scale=scale, offset=offset)


def weight(c, k, n, scale):
    return normal(*((n, k) if c.get("transposed_mode") else (k, n)), scale=scale)


def grid():
    """(operator, settings, inputs, longest chain of sums, flop)"""
    # Products: upstream's blas_linear shapes that stay below the limit, then sizes around the tiles.
    shapes = [((1, 1), 1024, 1024), ((1, 128), 768, 3072), ((1, 128), 3072, 768), ((2, 37), 1024, 1024)]
    shapes += [((rows,), k, n) for rows, k, n in [(0, 5, 7), (1, 1, 1), (2, 3, 31), (7, 17, 32), (8, 33, 33), (9, 100, 65),
                                                 (3, 1, 129), (65, 255, 1), (13, 16385, 5)]]
    for (lead, k, n), transposed in itertools.product(shapes, (False, True)):
        c = dict(transposed_mode=transposed)
        t = dict(input=normal(*lead, k, scale=0.1), weight=weight(c, k, n, 0.01))
        yield "vector_matmul", c, t, k, 2 * math.prod(lead) * k * n
        yield "linear", c, dict(t, bias=normal(n, scale=0.1)), k, 2 * math.prod(lead) * k * n

    # Norm, then a product: upstream's layer norm and RMS norm shapes, pre-LN tokens, then corners.  Few columns out: the
    # product's own sizes are above.
    rows = [(b * s, c) for b, s, c in itertools.product((1, 32), (1, 128), (384, 512, 768, 1024, 2048, 8192, 14432))
            if b * s * c <= 4_300_000]
    rows += [(1, 4096), (37, 2048), (112, 14432), (883, 1024)]
    rows += [(0, 4), (1, 1), (3, 2), (5, 31), (6, 33), (4, 16385)]
    for i, ((m, h), kind) in enumerate(itertools.product(rows, ("LayerNorm", "RMSNorm"))):
        c = dict(norm_type=kind, epsilon=1e-5, transposed_mode=i % 4 >= 2)
        n = (24, 33, 8)[i % 3]
        t = dict(input=normal(m, h), weight=weight(c, h, n, h**-0.5), gamma=uniform(h))
        if kind == "LayerNorm" and i % 3:
            t["beta"] = uniform(h)
        if i % 2:
            t["bias"] = normal(n)
        yield "qkv_gemm", c, t, 2 * h, 2 * m * h * n

    # Feed-forwards: every norm, activation, GELU and order of the block.
    kinds = [("GELU", None), ("GELU", "erf"), ("GELU", "sigmoid"), ("ReLU", None), ("GATED_GELU", None),
             ("GATED_GELU", "tanh"), ("GATED_SILU", None)]
    sizes = [(7, 64, 256), (37, 96, 385), (1, 1, 1), (3, 5, 7), (0, 8, 16), (16, 768, 1024), (2, 33, 31)]
    for i, (kind, (name, form), after) in enumerate(
            itertools.product(("LayerNorm", "RMSNorm"), kinds, (True, False))):
        for j in range(3):
            m, h, inner = sizes[(i + 2 * j) % len(sizes)]
            c = dict(norm_type=kind, epsilon=1e-5, mlp_act_func_type=name, mlp_after_attn=after,
                     transposed_mode=(i + j) % 2 == 1)
            if form:
                c["gelu"] = form
            up = 2 * inner if name.startswith("GATED") else inner
            t = dict(residual=normal(m, h), weight=weight(c, h, up, h**-0.5), weight_out=weight(c, inner, h, inner**-0.5),
                     gamma=uniform(h, offset=1.0, scale=0.5))
            if after or kind == "RMSNorm":
                t["input"] = normal(m, h)
            if kind == "LayerNorm" and j != 1:
                t["beta"] = uniform(h)
            if j != 2:
                t.update(bias=normal(up), input_bias=normal(h))
            yield "mlp_gemm", c, t, 2 * h + inner, 2 * m * h * (up + inner)
    for i, ((m, h, inner), form) in enumerate(
            itertools.product(sizes + [(128, 768, 3072)], (None, "erf", "tanh", "sigmoid"))):
        c = dict(transposed_mode=i % 2 == 1)
        if form:
            c["gelu"] = form
        t = dict(input=normal(m, h), weight=weight(c, h, inner, h**-0.5), weight_out=weight(c, inner, h, inner**-0.5))
        if i % 3:
            t["bias"] = normal(inner)
        yield "gelu_gemm", c, t, h + inner, 4 * m * h * inner

    # The end of a block: upstream's shapes; its eight flags take turns so that each size meets two and each flag all sizes.
    flags = list(itertools.product((True, False), (True, False), (1, 2)))
    sizes = [((b, s), h) for b, s, h in itertools.product((1, 2), (1, 128, 255), (512, 1232, 4096))]
    sizes += [((1, 1), 1), ((3, 1), 3), ((0, 2), 5), ((2, 2), 17), ((1, 1), 16385)]
    for i, ((lead, h), half) in enumerate(itertools.product(sizes, (0, 3))):
        after, pre, mp = flags[(i + half) % 8]
        c = dict(mlp_after_attn=after, pre_layer_norm=pre, mp_size=mp)
        t = dict(hidden=normal(*lead, h), residual=normal(*lead, h))
        if i % 5 != 4:
            t["attention_output"] = normal(*lead, h)
        if i % 3 != 2:
            t["final_bias"] = normal(h)
        if i % 3 != 1:
            t["attention_bias"] = normal(h)
        if i % 4 == 3:
            t["residual_add"] = normal(*lead, h)
        yield "residual_add", c, t, 5, 0

    # Softmax: upstream's shapes, then masks, limits, ALiBi, more keys than 8192 and rows beyond 16384.
    for b, s, n in itertools.product((1, 2), (1, 128, 255, 1232), (512, 4096)):
        if b * s * n <= 2_200_000:
            yield "softmax", {}, dict(scores=normal(b, 1, s, n)), n, 0
    extra = [((1, 1, 1, 1), {}, None, 0), ((2, 3, 5, 7), dict(triangular=True), (2, 1, 5, 7), 3),
             ((2, 3, 5, 7), dict(layer_scale=0.3), (1, 3, 1, 7), 0), ((1, 4, 9, 33), dict(head_offset=2), (1, 1, 9, 33), 6),
             ((1, 2, 40, 40), dict(triangular=True, local_attention=True, window_size=8), None, 0),
             ((1, 2, 3, 300), dict(triangular=True, local_attention=True, window_size=256), None, 2),
             ((1, 1, 3, 9000), dict(triangular=True), None, 0), ((1, 1, 2, 20000), {}, None, 0), ((0, 2, 3, 4), {}, None, 0),
             ((1, 12, 16, 16), dict(layer_scale=0.3, triangular=True), None, 0),
             ((1, 12, 128, 128), dict(layer_scale=0.3), (1, 1, 1, 128), 0)]
    for shape, c, mask, slopes in extra:
        t = dict(scores=normal(*shape))
        if mask:
            t["mask"] = normal(*mask)
        if slopes:
            t["alibi"] = uniform(slopes, scale=0.25)
        yield "softmax", c, t, shape[-1], 0

    # Attention: upstream's prompts, head sizes, groups and rotary shapes; a prompt in two pieces where `chunks` says so.
    def attention(b, s, h, width, g=None, chunks=None, mask=None, alibi=False, **c):
        g = g or h
        c = dict(hidden_size=h * width, heads=h, num_kv=g, **c)
        t = dict(qkv=normal(b, s, (h + 2 * g) * width, scale=0.5))
        if mask:
            t["mask"] = normal(*mask)
        if alibi:
            t["alibi"] = uniform(h, scale=0.125)
        if chunks:
            c["chunks"] = chunks
        return "softmax_context", c, t, s + 2 * width, 4 * b * h * s * s * width

    for s, width, causal in itertools.product((16, 128), (64, 128), (True, False)):
        yield attention(1, s, 12, width, triangular_masking=causal)
    for s in (2, 33, 65, 128, 256):
        for width in (64, 128):
            yield attention(1, s, 4, width)
    for past, s in ((34, 1), (40, 43), (144, 1), (128, 64), (228, 1)):
        yield attention(1, past + s, 4, 64, chunks=[past, s], rotary_dim=64, rotate_half=True)
    for h, g in ((32, 8), (64, 16), (40, 8)):
        yield attention(1, 38, h, 64, g)
        yield attention(1, 9, h, 128, g, chunks=[8, 1], rotary_dim=128, rotate_half=True)
    for width in (64, 80, 96):
        for half in (True, False):
            yield attention(1, 33, 4, width, rotary_dim=64, rotate_half=half)
            yield attention(2, 17, 2, width, rotary_dim=width, rotate_half=half, rope_theta=500000.0)
    for h in (64, 32, 16, 8):
        yield attention(1, 8, h, 1024 // h, rotary_dim=min(32, 1024 // h), rope_theta=2.0)
    yield attention(1, 1, 1, 1)
    yield attention(2, 3, 1, 2, rotary_dim=2)
    yield attention(3, 5, 3, 7)
    yield attention(2, 300, 2, 16, local_attention=True, window_size=256)
    yield attention(1, 40, 2, 16, local_attention=True, window_size=8, chunks=[39, 1])
    yield attention(1, 40, 3, 24, alibi=True)
    yield attention(2, 20, 2, 16, mask=(1, 20))
    yield attention(2, 20, 2, 16, mask=(40, 20), triangular_masking=False)
    yield attention(1, 20, 2, 16, use_mup=True)
    yield attention(1, 20, 2, 16, scale_attention=False)
    yield attention(1, 20, 2, 16, scale_attn_by_inverse_layer_idx=True, layer_id=3)
    yield attention(1, 9000, 1, 2, chunks=[8999, 1])


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "ops")
    cases = []
    counts = {}
    for op, c, specs, depth, flop in grid():
        assert flop <= MOST_FLOP, (op, specs, flop)
        number = counts[op] = counts.get(op, -1) + 1
        name = f"{op}/{number}"
        c = dict(c)
        chunks = c.pop("chunks", None)
        tensors = {k: torch.from_numpy(numbers(f"{name}/{k}", s).astype(np.float64)) for k, s in specs.items()}
        case = dict(name=name, op=op, settings=json.dumps(dict(dtype=DTYPE, **c)), depth=depth, inputs=specs, outputs={})
        if chunks:
            case["chunks"] = chunks
        for k, y in FORMULAS[op](c, tensors).items():
            y = y.contiguous().numpy()
            flat = y.reshape(-1)
            picked = flat if flat.size <= SAMPLES else flat[sampled(f"{name}/{k}", flat.size)]
            case["outputs"][k] = dict(shape=list(y.shape), sum=float(flat.sum()), squares=float((flat * flat).sum()),
                                      samples=base64.b64encode(picked.astype("<f4").tobytes()).decode())
        cases.append(case)
    folder.mkdir(exist_ok=True)
    with open(folder / f"{DTYPE}.json", "w") as f:
        head = dict(reference="torch, float64", versions=dict(torch=torch.__version__.split("+")[0], numpy=np.__version__),
                    dtype=DTYPE, philox=philox(key_of("philox"), 2).reshape(-1).tolist())
        f.write(json.dumps(head)[:-1] + ', "cases": [\n' + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]}\n")
    print(len(cases), counts)


if __name__ == "__main__":
    main()
