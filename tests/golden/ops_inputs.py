"""Inputs of the operators' goldens: the counter-based generator of docs/numerics.md, and what each dtype makes of a number.

tests/ops/golden_inputs.h is the same in C.  A tensor is described by a dict that goes into the index as it is; `spec` functions
make one.  The dtypes A (activations), W (weights), V (vectors) and M (masks) stand for what a case's settings say they are.
"""
import math

import numpy as np
import torch

SAMPLES = 256
HUGE = 1 << 29
CHUNK = 1 << 15  # blocks at a time: the rounds stay in cache


def philox(key, first, blocks):
    """Philox4x32-10 of the counters first .. first + blocks - 1: [blocks, 4] of uint32."""
    low = np.uint64(0xFFFFFFFF)
    at = np.arange(first, first + blocks, dtype=np.uint64)
    c = [at & low, at >> np.uint64(32), np.zeros(blocks, np.uint64), np.zeros(blocks, np.uint64)]
    k0, k1 = key & 0xFFFFFFFF, key >> 32
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


def words(name, n):
    """The first n words of a name's stream."""
    key, blocks = key_of(name), (n + 3) // 4
    parts = [philox(key, first, min(CHUNK, blocks - first)).reshape(-1) for first in range(0, blocks, CHUNK)]
    return np.concatenate(parts)[:n] if parts else np.zeros(0, np.uint32)


def sampled(name, n):
    return words(name + "/sample", SAMPLES).astype(np.int64) % n


# ---- descriptions ------------------------------------------------------------------------------------------------------


def normal(*shape, scale=1.0, offset=0.0, dtype="A"):
    return dict(dtype=dtype, shape=list(shape), kind="normal", scale=scale, offset=offset)


def uniform(*shape, scale=1.0, offset=0.0, dtype="A"):
    return dict(dtype=dtype, shape=list(shape), kind="uniform", scale=scale, offset=offset)


def codes(*shape):
    """int8, all 256 values alike."""
    return dict(dtype="int8", shape=list(shape), kind="integers", low=-128, count=256)


def integers(*shape, low=0, count, dtype="int32"):
    return dict(dtype=dtype, shape=list(shape), kind="integers", low=low, count=count)


def mask(*shape, every=3, rare=0, usual=1, dtype="bool"):
    """`rare` once in `every` numbers, else `usual`."""
    return dict(dtype=dtype, shape=list(shape), kind="rare", every=every, rare=rare, usual=usual)


def listed(values, dtype="int32", shape=None):
    return dict(dtype=dtype, shape=list(shape or [len(values)]), kind="list", values=list(values))


def routed(kind, tokens, k, count, padding=0, of="experts", dtype="int32"):
    """Where k choices of each token go, all of it from the words of the tensor `of`: k neighbouring experts from a drawn one on,
    -1 for tokens that are none; their slots, counts, row_ends, and the rows that they are mapped to."""
    shape = [count] if kind in ("counts", "row_ends") else [tokens, k]
    return dict(dtype=dtype, shape=shape, kind=kind, of=of, tokens=tokens, k=k, count=count, padding=padding)


# ---- numbers -----------------------------------------------------------------------------------------------------------


def stored(x, dtype):
    """float64 of what is left of fp32 numbers in a dtype; the largest matrices stay in it, and are widened part by part."""
    if x.size > HUGE:
        return torch.from_numpy(x).to({"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[dtype])
    if dtype == "fp16":
        with np.errstate(over="ignore"):
            x = x.astype(np.float16)
    if dtype == "bf16":
        return torch.from_numpy(np.ascontiguousarray(x)).bfloat16().double()
    return torch.from_numpy(x.astype(np.float64))


def floats(name, spec, n):
    """fp32, whatever the dtype."""
    key, per_block = key_of(name), 4 if spec["kind"] == "uniform" else 2
    scale, offset = np.float32(spec["scale"]), np.float32(spec["offset"])
    out = np.empty(n, np.float32)
    for first in range(0, (n + per_block - 1) // per_block, CHUNK):
        w = philox(key, first, min(CHUNK, (n + per_block - 1) // per_block - first))
        if per_block == 4:
            x = (w.reshape(-1) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
        else:
            w = w.reshape(-1, 2)
            total = ((w & np.uint32(0xFFFF)) + (w >> np.uint32(16))).sum(1, dtype=np.uint32).astype(np.int32) - np.int32(131070)
            x = total.astype(np.float32) * np.float32(2.642906e-05)
        x = x * scale + offset
        assert x.dtype == np.float32
        at = first * per_block
        out[at:at + x.size] = x[:n - at]
    return out


def route(name, spec):
    tokens, k, count = spec["tokens"], spec["k"], spec["count"]
    w = words(name, tokens).astype(np.int64)
    chosen = (w[:, None] + np.arange(k)) % count
    if spec["padding"]:
        chosen[(w >> 16) % spec["padding"] == 0] = -1
    counts, slots = np.zeros(count, np.int64), np.full(chosen.shape, -1, np.int64)
    for at, e in np.ndenumerate(chosen):
        if e >= 0:
            slots[at] = counts[e]
            counts[e] += 1
    ends = np.cumsum(counts)
    mapped = np.where(chosen >= 0, (ends - counts)[np.maximum(chosen, 0)] + slots, -1)
    return dict(experts=chosen, slots=slots, counts=counts, row_ends=ends, mapped_slots=mapped)[spec["kind"]]


class Inputs:
    """The inputs of one operator's cases.  A case's dtypes have the same numbers, so these are kept until the next case."""

    def __init__(self):
        self.kept = {}

    def floats(self, full, spec, n):
        what = full, spec["kind"], spec["scale"], spec["offset"], n
        if what not in self.kept:
            self.kept[what] = floats(full, spec, n)
        return stored(self.kept[what], spec["dtype"])

    def next_case(self, specs):
        """Forgets what no input of this case is made of."""
        keys = {spec.get("key") for spec in specs.values()} - {None}
        self.kept = {what: x for what, x in self.kept.items() if what[0] in keys}

    def numbers(self, name, specs, tensor):
        """One input of a case, float64 or int64."""
        spec = specs[tensor]
        full, n = spec.get("key", f"{name}/{tensor}"), math.prod(spec["shape"])
        kind = spec["kind"]
        if kind in ("normal", "uniform"):
            x = self.floats(full, spec, n)
        elif kind == "integers":
            x = torch.from_numpy(words(full, n).astype(np.int64) % spec["count"] + spec["low"])
        elif kind == "rare":
            rare = words(full, n).astype(np.int64) % spec["every"] == 0
            x = np.where(rare, np.float32(spec["rare"]), np.float32(spec["usual"]))
            whole = spec["dtype"] in ("bool", "int32", "int64")
            x = torch.from_numpy(x.astype(np.int64)) if whole else stored(x, spec["dtype"])
        elif kind == "list":
            x = torch.tensor(spec["values"], dtype=torch.int64)
        else:
            x = torch.from_numpy(route(f"{name}/{spec['of']}", spec))
        if spec["dtype"] == "int8":
            x = x.double()
        return x.reshape(spec["shape"])
