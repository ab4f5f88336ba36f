"""Norms, activations, sums, attention and a feed-forward in torch, as a user calls them, without compilation.

    ops_torch.py THREADS

Attention is scaled_dot_product_attention where this torch has it, else written out; its queries, keys and values are parts of one tensor, as a
projection leaves them.
"""
import sys

import peer  # before what may not be there: it says what starts this program

import numpy
import torch
from torch.nn import functional

from gemm_torch import DTYPES, name

HEAD, EPS = 64, 1e-5
COLD = {"layer_norm": 2, "rms_norm": 2, "softmax": 2, "gelu_tanh": 2, "gelu_erf": 2, "add": 3}


def numbers(generator, dtype, *shape, scale=1.0):
    return (scale * torch.randn(*shape, generator=generator)).to(DTYPES[dtype])


def rms_norm(x, gamma):
    if hasattr(functional, "rms_norm"):
        return functional.rms_norm(x, x.shape[-1:], gamma, EPS)
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * gamma


def softmax_attention(q, k, v, causal):
    scores = q @ k.transpose(-1, -2) * HEAD ** -0.5
    if causal:
        scores = scores + torch.full(scores.shape[-2:], -torch.inf, dtype=scores.dtype).triu(1)
    return torch.softmax(scores, -1) @ v


def attention(q, k, v, causal):
    if hasattr(functional, "scaled_dot_product_attention"):
        return functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return softmax_attention(q, k, v, causal)


def rows_case(op, dtype, n, m):
    generator = torch.Generator().manual_seed(1)
    gamma, beta = numbers(generator, dtype, n), numbers(generator, dtype, n)
    slots = peer.ROTATE // (COLD[op] * m * n * peer.BYTES[dtype]) + 1
    x = [numbers(generator, dtype, m, n) for _ in range(slots)]
    z = [numbers(generator, dtype, m, n) for _ in range(slots)] if op == "add" else None
    kept = [None] * slots  # results stay until their slot's turn comes again, so that these lie apart as well
    calls = {
        "layer_norm": lambda a, i: functional.layer_norm(a, (n,), gamma.to(a.dtype), beta.to(a.dtype), EPS),
        "rms_norm": lambda a, i: rms_norm(a, gamma.to(a.dtype)),
        "softmax": lambda a, i: torch.softmax(a, -1),
        "gelu_tanh": lambda a, i: functional.gelu(a, approximate="tanh"),
        "gelu_erf": lambda a, i: functional.gelu(a),
        "add": lambda a, i: a + z[i].to(a.dtype),
    }
    call = calls[op]

    def run(copy):
        kept[copy] = call(x[copy], copy)
        return kept[copy]
    return run, slots, lambda: call(x[0].double(), 0)


def attention_case(dtype, causal, heads, m):
    generator = torch.Generator().manual_seed(1)
    qkv = numbers(generator, dtype, 1, m, 3, heads, HEAD)
    q, k, v = (qkv[:, :, i].transpose(1, 2) for i in range(3))
    return (lambda copy: attention(q, k, v, causal)), 1, lambda: softmax_attention(q.double(), k.double(), v.double(), causal)


def mlp_case(dtype, h, inner, m):
    generator = torch.Generator().manual_seed(1)
    copies = max(2, peer.ROTATE // (2 * h * inner * peer.BYTES[dtype]) + 1)
    x, gamma, beta, b1, b2 = (numbers(generator, dtype, *shape) for shape in ((m, h), (h,), (h,), (inner,), (h,)))
    up = [numbers(generator, dtype, inner, h, scale=h ** -0.5)]
    down = [numbers(generator, dtype, h, inner, scale=inner ** -0.5)]
    up, down = ([w[0].clone() for _ in range(copies)] for w in (up, down))

    def block(a, w1, w2):
        y = functional.layer_norm(a, (h,), gamma.to(a.dtype), beta.to(a.dtype), EPS)
        y = functional.gelu(functional.linear(y, w1, b1.to(a.dtype)), approximate="tanh")
        return a + functional.linear(y, w2, b2.to(a.dtype))
    return (lambda copy: block(x, up[copy], down[copy])), copies, lambda: block(x[:4].double(), up[0].double(), down[0].double())


def open_case(words):
    op, dtype, (k, n, m) = words[0], words[1], map(int, words[2:])
    if dtype == "int8":
        return None
    if op == "attention":
        run, copies, expected = attention_case(dtype, bool(k), n, m)
    elif op == "mlp":
        run, copies, expected = mlp_case(dtype, k, n, m)
    else:
        run, copies, expected = rows_case(op, dtype, n, m)
    want = expected().numpy()
    got = run(0)[..., :4, :].double().numpy() if op == "mlp" else run(0).double().numpy()
    tolerance = 1 / 32 if dtype == "bf16" else 1e-4
    if not numpy.all(numpy.abs(got - want) <= tolerance * (1 + numpy.abs(want))):
        sys.exit(f"{name()}: {op} is wrong: off by {numpy.abs(got - want).max():g}")
    return run, copies


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    torch.set_grad_enabled(False)
    peer.serve(name(), open_case)
