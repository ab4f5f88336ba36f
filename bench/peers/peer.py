"""What a contestant in Python shares with peer.c: the talk with run.py, the values, the check of results.

Contestants import it before their library: where nothing but Python is, it tells a person what starts them.
"""
import functools
import os
import sys
import time

if not sys.argv[-1].isdecimal():  # THREADS, as run.py gives them
    print(f"{os.path.basename(sys.argv[0])} is started by run.py, which talks with it: see bench/peers/run.py --help",
          file=sys.stdout if "--help" in sys.argv else sys.stderr)
    sys.exit(0 if "--help" in sys.argv else 2)

import numpy  # noqa: E402 - a person may not have it

ROTATE = 192 << 20
RUNS_MAX = 2000
BYTES = {"fp32": 4, "bf16": 2, "int8": 1}


def gemm_rows(k, m):
    """[m, k] of 0..127 with a 127 in each row, as fp32"""
    x = numpy.random.default_rng(1).integers(0, 128, (m, k)).astype(numpy.float32)
    x[:, 0] = 127
    return x


@functools.lru_cache(maxsize=1)
def gemm_weight(k, n):
    """[k, n] of -3..3, as fp32"""
    return numpy.random.default_rng(2).integers(-3, 4, (k, n), numpy.int8).astype(numpy.float32)


def gemm_copies(dtype, k, n):
    return max(2, ROTATE // (k * n * BYTES[dtype]) + 1)


def gemm_check(name, x, w, got, dtype):
    """got [m, n] against the sums of whole numbers, at 32 places: equal in fp32, within a rounding of the largest in bf16; in int8, where a
    library chooses its codes, within half a step of 6 / 255 for each weight and of 127 / 255 for each number of a row, and of 5 % of
    the largest"""
    rows = numpy.random.default_rng(3).integers(0, len(x), 32)
    columns = numpy.random.default_rng(4).integers(0, w.shape[1], 32)
    left, right = x[rows].astype(numpy.float64), w[:, columns].astype(numpy.float64)
    want = numpy.einsum("ik,ki->i", left, right)
    steps = numpy.abs(left).sum(1) * 6 / 255 + numpy.abs(right).sum(0) * 127 / 255
    allowed = {"fp32": 0 * want, "bf16": numpy.full(32, numpy.abs(want).max() / 256), "int8": numpy.minimum(steps / 2, numpy.abs(want).max() / 20)}[dtype]
    error = numpy.abs(got[rows, columns] - want)
    if not (error <= allowed).all():
        worst = (error - allowed).argmax()
        sys.exit(f"{name}: wrong: off by {error[worst]:g} of {want[worst]:g}, expected at most {allowed[worst]:g}")


def serve(name, open_case):
    """open_case(words of the line) gives run(copy) and the number of copies, or None where the case is not offered"""
    run, copies, at = None, 1, 0
    print("name", name, flush=True)
    for line in sys.stdin:
        words = line.split()
        if words[0] == "case":
            run = None  # memory of the last case goes before the next one takes its own
            case = open_case(words[1:])
            if case is None:
                print("none", flush=True)
                continue
            run, copies = case
            at = 0
            for i in range(2):
                run(i % copies)
            print("ready", copies, flush=True)
        elif words[0] == "run" and run:
            budget, total, times = 1e-3 * float(words[1]), 0.0, []
            while not times or (total < budget and len(times) < RUNS_MAX):
                begin = time.perf_counter()
                run(at)
                times.append(time.perf_counter() - begin)
                total += times[-1]
                at = (at + 1) % copies
            print("times", *(f"{t:.9f}" for t in times), flush=True)
        elif words[0] == "ceilings":
            print("none", flush=True)
        else:
            sys.exit(f"{name}: cannot do: {line}")
