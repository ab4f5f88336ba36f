#!/usr/bin/env python3
"""Makes quantize.json: weights, and the codes and scales that torch computes from them.

Run, from the root of the repository, in the environment that tests/golden/README.md describes:

    build/golden-env/bin/python tests/golden/make_quantize.py

The formulas are those of include/tern/quantize.h, written as tensor expressions in the dtype that they name, so that
torch decides each rounding.  Only groups that those expressions cannot code (nothing but zeros, one value, a quotient
beyond the dtype) are replaced, as the header says.  Merged shards are restored one by one and then put together; no
index formula is needed here.
"""
import json
import os

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
rng = torch.Generator().manual_seed(11)


def bits(t):
    """Hexadecimal digits of all values, in order."""
    if t.dtype == torch.uint8:
        return "".join(f"{v:02x}" for v in t.flatten().tolist())
    if t.element_size() == 2:
        return "".join(f"{v & 0xffff:04x}" for v in t.contiguous().view(torch.int16).flatten().tolist())
    return "".join(f"{v & 0xffffffff:08x}" for v in t.contiguous().view(torch.int32).flatten().tolist())


def pack(codes, n_bits):
    """Codes as bytes; two to a byte along the last axis with 4 bits."""
    codes = codes.to(torch.int32) % 2 ** n_bits
    if n_bits == 4:
        codes = codes[..., 0::2] * 16 + codes[..., 1::2]
    return codes.to(torch.uint8)


def checkpoint(w, n_bits, groups):
    flat = w.float().reshape(groups, -1)
    scale = [float(2 ** n_bits) / (2 * g.abs().max() + 1e-5) for g in flat]
    q = torch.stack([(g * s).round().clamp(-2 ** (n_bits - 1), 2 ** (n_bits - 1) - 1) for g, s in zip(flat, scale)])
    q = q.to(torch.int8)                # codes have no negative zero
    stored = 1 / torch.stack(scale)
    return q.reshape(w.shape), stored, (q * stored[:, None]).reshape(w.shape)


def injection(w, n_bits, groups):
    flat = w.reshape(groups, -1)
    low, high = (f(flat, dim=1, keepdim=True)[0].float() for f in (torch.min, torch.max))
    scale = torch.max(low.abs(), high.abs()) * 2.0 / 2 ** n_bits
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    q = (flat / scale).round().clamp(-2 ** (n_bits - 1), 2 ** (n_bits - 1) - 1)
    assert q.dtype == torch.float32
    q = q.to(torch.int8)
    return q.reshape(w.shape), scale.flatten(), (q * scale).reshape(w.shape)


def groupwise(w, n_bits, axis, size):
    shape = w.shape[:axis] + (w.shape[axis] // size, size) + w.shape[axis + 1:]
    runs, top = w.reshape(shape), 2 ** n_bits - 1
    low, high = (f(runs, dim=axis + 1, keepdim=True) for f in (torch.amin, torch.amax))
    scale = top / (high - low)
    scale = torch.where(high == low, torch.ones_like(scale), scale.clamp(max=torch.finfo(w.dtype).max))
    q = ((runs - low) * scale).clamp(0, top).round().to(torch.uint8)
    back = q.float() / scale.float() + low.float()
    return q.reshape(w.shape), scale.float().flatten(), low.float().flatten(), back.reshape(w.shape)


def weight(dtype, *shape, kind="normal"):
    w = torch.randn(shape, generator=rng)
    if kind == "ties":                  # whole and half numbers up to 128: scale 1, so that every half is a tie
        w = (w * 80).round().clamp(-255, 255) / 2
        w[..., 0] = 128
    elif kind == "zeros":               # the first half of the rows
        w[: shape[0] // 2] = 0
    elif kind == "constant":
        w[: shape[0] // 2] = w[0, 0].clone()
    elif kind == "outliers":
        w = w * torch.where(torch.rand(shape, generator=rng) < 0.05, 80.0, 1.0)
    elif kind == "small":               # spans so small that 255 / span is beyond fp16
        w = w * 2e-4
    elif kind == "denormal":
        w = w * 1e-6 if dtype != "fp32" else w * 1e-41
    return w.to(DTYPES[dtype])


cases = []


def case(name, scheme, w, n_bits, options, shards=None, q=None, scale=None, low=None, back=None):
    assert torch.isfinite(back).all() and torch.isfinite(scale).all()
    many = shards or [w]
    cases.append({"name": name, "scheme": scheme, "dtype": next(k for k, v in DTYPES.items() if v == many[0].dtype),
                  "shape": list(many[0].shape), "shards": len(many), "bits": n_bits, "options": options,
                  "w": "".join(bits(s) for s in many), "codes": bits(pack(q, n_bits)), "scales": bits(scale),
                  "minima": bits(low) if low is not None else "",
                  "back": {k: bits(back.to(v)) for k, v in DTYPES.items()}})


def add_checkpoint(name, w, n_bits=8, groups=1, real=None, **options):
    q, scale, back = checkpoint(w, n_bits, real or groups)
    case(f"checkpoint {name}", "checkpoint", w, n_bits, {"groups": groups, **options}, q=q, scale=scale, back=back)


def add_shards(name, shards, axis, n_bits=8, groups=1, real=None, **options):
    parts = [checkpoint(w, n_bits, real or groups) for w in shards]
    q, back = (torch.cat([p[i] for p in parts], dim=axis) for i in (0, 2))
    scale = torch.cat([p[1].reshape(-1, 1) for p in parts], dim=axis).flatten()
    case(f"checkpoint {name}", "checkpoint", None, n_bits, {"groups": groups, "merge_axis": axis, **options},
         shards=shards, q=q, scale=scale, back=back)


def add_injection(name, w, n_bits=8, groups=0):
    q, scale, back = injection(w, n_bits, groups or w.shape[0])
    case(f"injection {name}", "injection", w, n_bits, {"groups": groups}, q=q, scale=scale, back=back)


def add_groupwise(name, w, n_bits, axis, size):
    q, scale, low, back = groupwise(w, n_bits, axis, size)
    case(f"groupwise {name}", "groupwise", w, n_bits, {"group_dim": axis, "group_size": size}, q=q, scale=scale, low=low,
         back=back)


def main():
    for dtype in DTYPES:
        add_checkpoint(f"{dtype} one group", weight(dtype, 7, 9))
        add_checkpoint(f"{dtype} groups inside rows and across them", weight(dtype, 6, 10), groups=4)
        add_checkpoint(f"{dtype} outliers", weight(dtype, 3, 22, kind="outliers"), groups=2)
        add_checkpoint(f"{dtype} 4 bits", weight(dtype, 5, 6), n_bits=4, groups=6)
        add_injection(f"{dtype} rows", weight(dtype, 5, 13))
        add_injection(f"{dtype} outliers", weight(dtype, 3, 22, kind="outliers"))
        add_injection(f"{dtype} ties", weight(dtype, 4, 24, kind="ties"))
        add_injection(f"{dtype} zeros", weight(dtype, 4, 6, kind="zeros"))
        add_injection(f"{dtype} 4 bits", weight(dtype, 6, 6), n_bits=4, groups=4)
        for n_bits in (8, 4):
            add_groupwise(f"{dtype} {n_bits} bits last axis", weight(dtype, 6, 24), n_bits, 1, 8)
            add_groupwise(f"{dtype} {n_bits} bits first axis", weight(dtype, 12, 10), n_bits, 0, 4)
            add_groupwise(f"{dtype} {n_bits} bits constant", weight(dtype, 4, 8, kind="constant"), n_bits, 1, 4)
            add_groupwise(f"{dtype} {n_bits} bits small spans", weight(dtype, 4, 16, kind="small"), n_bits, 1, 8)
        add_groupwise(f"{dtype} denormals", weight(dtype, 4, 16, kind="denormal"), 8, 1, 8)
        add_shards(f"{dtype} two shards, columns", [weight(dtype, 4, 6) for _ in range(2)], 0, groups=3)
        add_shards(f"{dtype} two shards, rows", [weight(dtype, 4, 6) for _ in range(2)], 1, groups=3)
    add_checkpoint("long group", weight("bf16", 300))
    add_injection("long group", weight("fp32", 1, 300))
    add_groupwise("long run", weight("fp16", 300), 8, 0, 300)
    add_checkpoint("one axis", weight("fp32", 30), groups=5)
    add_checkpoint("zeros", weight("fp32", 4, 6, kind="zeros"), groups=2)
    add_checkpoint("denormals", weight("fp32", 4, 6, kind="denormal"), groups=2)
    add_checkpoint("three axes", weight("fp32", 2, 3, 4), groups=6)
    add_checkpoint("extra grouping, 4 H to H", weight("fp32", 4, 16), groups=2, real=4)
    add_checkpoint("extra grouping, H to 4 H", weight("fp32", 16, 4), groups=2, real=4)
    add_checkpoint("extra grouping, ranks", weight("fp32", 8, 4), groups=1, real=2, mp_size=2)
    add_checkpoint("extra grouping off", weight("fp32", 16, 4), groups=2, mlp_extra_grouping=False)
    add_checkpoint("no extra grouping, other ratio", weight("fp32", 12, 4), groups=2)
    add_shards("extra grouping, shards, columns", [weight("fp32", 8, 4) for _ in range(2)], 0, groups=2, real=4)
    add_shards("extra grouping, shards, rows", [weight("fp32", 4, 8) for _ in range(2)], 1, groups=2, real=4)
    add_shards("four shards, groups across rows", [weight("fp32", 6, 5) for _ in range(4)], 1, groups=2)
    add_shards("three shards, 4 bits", [weight("fp32", 4, 6) for _ in range(3)], 1, n_bits=4, groups=8)
    add_injection("three axes", weight("fp32", 3, 2, 4))
    add_injection("one axis", weight("fp32", 8))
    for n_bits in (8, 4):
        add_groupwise(f"{n_bits} bits middle axis", weight("fp32", 2, 6, 4), n_bits, 1, 3)
        add_groupwise(f"{n_bits} bits outermost of three", weight("fp16", 4, 3, 2), n_bits, 0, 2)
        add_groupwise(f"{n_bits} bits wide inner axis", weight("bf16", 2, 300), n_bits, 0, 2)
    with open(os.path.join(HERE, "quantize.json"), "w") as f:
        f.write('{"torch": "%s", "cases": [\n' % torch.__version__.split("+")[0])
        f.write(",\n".join(json.dumps(c) for c in cases))
        f.write("\n]}\n")
    print(len(cases), "cases")


if __name__ == "__main__":
    main()
