#!/usr/bin/env python3
"""Fits the polynomials of src/kernels/vec_math.h: minimax by Remez exchange, in f64, standard library only.

Each fit is  f(x) ~ base(x) + factor(x) * (c[0] + c[1] t + ... ), t = inner(x),  with the error weighted by weight(x).
Prints the coefficients rounded to f32 as C literals, and the largest weighted error with those.
"""

import math
import struct


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def solve(a, b):
    """Gaussian elimination with partial pivoting."""
    n = len(b)
    rows = [row[:] + [value] for row, value in zip(a, b)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(i + 1, n):
            scale = rows[r][i] / rows[i][i]
            for c in range(i, n + 1):
                rows[r][c] -= scale * rows[i][c]
    x = [0.0] * n
    for i in reversed(range(n)):
        x[i] = (rows[i][n] - sum(rows[i][c] * x[c] for c in range(i + 1, n))) / rows[i][i]
    return x


def remez(f, base, factor, inner, weight, low, high, terms, rounds=30):
    def error(c, x):
        p = 0.0
        for k in reversed(c):
            p = p * inner(x) + k
        return (base(x) + factor(x) * p - f(x)) * weight(x)

    n = terms + 1
    grid = [low + (high - low) * (1 - math.cos(math.pi * i / 4000)) / 2 for i in range(4001)]
    points = [low + (high - low) * (1 - math.cos(math.pi * (i + 0.5) / n)) / 2 for i in range(n)]
    for _ in range(rounds):
        a = [[factor(x) * inner(x) ** k for k in range(terms)] + [(-1) ** i / weight(x)] for i, x in enumerate(points)]
        c = solve(a, [f(x) - base(x) for x in points])[:terms]
        extrema = []  # the largest error between two changes of its sign
        for x in grid:
            e = error(c, x)
            if extrema and (e > 0) == (extrema[-1][1] > 0):
                if abs(e) > abs(extrema[-1][1]):
                    extrema[-1] = (x, e)
            else:
                extrema.append((x, e))
        while len(extrema) > n:
            extrema.pop(0 if abs(extrema[0][1]) < abs(extrema[-1][1]) else -1)
        if len(extrema) < n:
            break
        points = [x for x, _ in extrema]
    c = [f32(k) for k in c]
    return c, max(abs(error(c, x)) for x in grid)


def tail(x):
    return math.erfc(x / math.sqrt(2)) / 2


def show(name, fit):
    coefficients, error = fit
    print(f"{name}: error {error:.2e} = 2^{math.log2(error):.1f}")
    for k in coefficients:
        print(f"    {k:.9g}f")


show("exp(r) = 1 + r + r^2 P(r), |r| <= ln(2) / 2, relative",
     remez(math.exp, lambda r: 1 + r, lambda r: max(r * r, 1e-30), lambda r: r, lambda r: math.exp(-r),
           -0.3467, 0.3467, 5))
show("2^r = 1 + r P(r), |r| <= 1/2, relative",
     remez(lambda r: 2**r, lambda r: 1, lambda r: r if r else 1e-30, lambda r: r, lambda r: 2**-r, -0.5, 0.5, 6))
show("tanh(x) = x + x^3 P(x^2), 0 <= x <= 0.625, relative",
     remez(math.tanh, lambda x: x, lambda x: x**3, lambda x: x * x, lambda x: 1 / math.tanh(x), 1e-4, 0.625, 5))
show("log2(Q(x)) = -1 + x P(x), Q(x) = erfc(x / sqrt(2)) / 2, 0 <= x <= 5.6, absolute error of max(x, 0.1) Q(x)",
     remez(lambda x: math.log2(tail(x)), lambda x: -1, lambda x: x if x else 1e-30, lambda x: x,
           lambda x: max(x, 0.1) * tail(x) * math.log(2), 0.0, 5.6, 8))
