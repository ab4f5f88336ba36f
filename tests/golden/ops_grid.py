"""The grid of the operators' goldens: upstream's sizes (DeepSpeed 0.16.5, tests/unit), then the corners.

GRIDS has for each operator a function that yields its cases.  Where two grids would multiply, the flags take turns, so that each
size meets some of them and each of them several sizes.
"""
import itertools
import math

from ops_case import Case, around_one, vector, weight
from ops_grid_attention import ATTENTION
from ops_grid_rows import ROWS
from ops_inputs import normal

NORMS = ("LayerNorm", "RMSNorm")


def product_shapes():
    """(rows, k, n): upstream's blas_linear, then sizes around the tiles."""
    yield from [((1, 1), 1024, 1024), ((1, 128), 768, 3072), ((1, 128), 3072, 768), ((2, 37), 1024, 1024),
                ((1, 1024), 1024, 1024), ((2, 1024), 1024, 1024), ((1, 13), 32768, 8192)]
    yield from [((rows,), k, n) for rows, k, n in [(0, 5, 7), (1, 1, 1), (2, 3, 31), (7, 17, 32), (8, 33, 33), (9, 100, 65),
                                                   (3, 1, 129), (65, 255, 1), (13, 16385, 5)]]


# Upstream's largest two: each once, not once per operator and layout.
LARGEST = [((1, 1024), 8192, 8192), ((1, 733), 8192, 32768)]


def products(with_bias):
    shapes = [(s, t) for s in product_shapes() for t in (False, True)]
    if with_bias:
        shapes += [(LARGEST[0], False), (LARGEST[1], True)]
    for i, ((lead, k, n), transposed) in enumerate(shapes):
        c = dict(transposed_mode=transposed)
        t = dict(input=normal(*lead, k, scale=0.1), weight=weight(c, k, n, 0.01))
        if with_bias and i % 5 != 4:
            t["bias"] = vector(n, 0.1)
        yield Case(c, t, depth=k, flop=2 * math.prod(lead) * k * n)


def vector_matmul():
    yield from products(False)


def linear():
    yield from products(True)
    # q, k, v apart and padded, for heads below 32, below 64, to 128 and of a multiple of 64.
    for i, (rows, h, size) in enumerate([(5, 2, 8), (3, 3, 40), (7, 2, 64), (4, 2, 80), (2, 1, 128), (3, 1, 1)]):
        c = dict(transposed_mode=i % 2 == 1, do_flash_attn=True, num_heads=h)
        t = dict(input=normal(2, rows, 24, scale=0.5), weight=weight(c, 24, 3 * h * size, 0.2), bias=vector(3 * h * size, 0.1))
        yield Case(c, t, depth=24, flop=12 * rows * 24 * h * size)


def qkv_gemm():
    """Upstream's norms; few columns, as the products' own sizes are above."""
    rows = [(b, h) for b, h in itertools.product((1, 32), (384, 512, 768, 1024, 2048, 8192, 14432))]
    rows += [(4096, 384), (128, 8192), (1, 4096), (37, 2048), (112, 14432), (883, 1024), (1024, 6144)]
    rows += [(0, 4), (1, 1), (3, 2), (5, 31), (6, 33), (4, 16385)]
    for i, ((m, h), kind) in enumerate(itertools.product(rows, NORMS)):
        c = dict(norm_type=kind, epsilon=1e-5, transposed_mode=i % 4 >= 2)
        n = (24, 33, 8)[i % 3]
        t = dict(input=normal(m, h), weight=weight(c, h, n, h**-0.5), gamma=around_one(h))
        if kind == "LayerNorm" and i % 3:
            t["beta"] = vector(h)
        if i % 2:
            t["bias"] = vector(n)
        yield Case(c, t, depth=2 * h, products=dict(output=1), widths=(h,), flop=2 * m * h * n)


def mlp_gemm():
    """Every norm, activation, GELU and order of the block."""
    kinds = [("GELU", None), ("GELU", "erf"), ("GELU", "sigmoid"), ("ReLU", None), ("GATED_GELU", None), ("GATED_GELU", "tanh"),
             ("GATED_SILU", None)]
    sizes = [(7, 64, 256), (37, 96, 385), (1, 1, 1), (3, 5, 7), (0, 8, 16), (16, 768, 1024), (2, 33, 31), (128, 768, 3072)]
    for i, (kind, (name, form), after) in enumerate(itertools.product(NORMS, kinds, (True, False))):
        for j in range(2):
            m, h, inner = sizes[(i + 2 * j) % 7] if (i, j) not in ((5, 0), (20, 0)) else sizes[7]
            c = dict(norm_type=kind, epsilon=1e-5, mlp_act_func_type=name, mlp_after_attn=after, transposed_mode=(i + j) % 2 == 1)
            if form:
                c["gelu"] = form
            up = 2 * inner if name.startswith("GATED") else inner
            t = dict(residual=normal(m, h), weight=weight(c, h, up, h**-0.5), weight_out=weight(c, inner, h, inner**-0.5),
                     gamma=around_one(h))
            if after or kind == "RMSNorm":
                t["input"] = normal(m, h)
            if kind == "LayerNorm" and (i + j) % 3:
                t["beta"] = vector(h)
            if (i + j) % 4:
                t.update(bias=vector(up), input_bias=vector(h))
            yield Case(c, t, depth=2 * h + inner, products=dict(output=3 if up > inner else 2), widths=(h, inner),
                       flop=2 * m * h * (up + inner))


def gelu_gemm():
    sizes = [(7, 64, 256), (37, 96, 385), (1, 1, 1), (3, 5, 7), (0, 8, 16), (16, 768, 1024), (2, 33, 31), (128, 768, 3072)]
    for i, ((m, h, inner), form) in enumerate(itertools.product(sizes, (None, "erf", "tanh", "sigmoid"))):
        c = dict(transposed_mode=i % 2 == 1)
        if form:
            c["gelu"] = form
        t = dict(input=normal(m, h), weight=weight(c, h, inner, h**-0.5), weight_out=weight(c, inner, h, inner**-0.5))
        if i % 3:
            t["bias"] = vector(inner)
        yield Case(c, t, depth=h + inner, products=1, widths=(inner,), flop=4 * m * h * inner)


# name: (cases, has weights)
GRIDS = dict(linear=(linear, True), vector_matmul=(vector_matmul, True), qkv_gemm=(qkv_gemm, True), mlp_gemm=(mlp_gemm, True),
             gelu_gemm=(gelu_gemm, True))
GRIDS.update((name, (cases, name in ("matmul", "fp16_matmul", "moe_gemm"))) for name, cases in (ROWS | ATTENTION).items())
