#!/usr/bin/env python3
"""Goldens of operators and kernel functions: torch in float64, from inputs that the test makes again.

    python make_ops.py [--out FOLDER] [OPERATOR...]

Writes ops/OPERATOR.json beside this file: for each case the settings, the inputs (dtype, shape, distribution) and, of each output,
the sum, the sum of squares and what its tolerance is made of; and ops/OPERATOR.bin: 256 sampled values of each output, fp32 little endian,
at the place that the index gives.  The parts:

    ops_inputs.py     the counter-based generator of docs/numerics.md, which tests/ops/golden_inputs.h has in C
    ops_formulas.py   the formulas, from docs/operators.md; they use nothing of tern
    ops_case.py       what a case is
    ops_grid*.py      the cases: upstream's grids and the corners
"""
import argparse
import json
import math
import pathlib

import numpy as np
import torch

from ops_case import elements, modes, resolved
from ops_formulas import FORMULAS
from ops_grid import GRIDS
from ops_inputs import SAMPLES, Inputs, key_of, philox, sampled

# A case beyond either is for `make check-full` alone.
QUICK_FLOP = 2e9
QUICK_ELEMENTS = 2_500_000


def text_of(value):
    """A setting as tern_op_settings_set() reads it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def computed(op, case, c, t):
    """The outputs.  On a cache, several sequences one behind the other are what each of them is alone."""
    if not case.cache:
        outputs = FORMULAS[op](c, t)
        return {name: outputs[name] for name in case.wanted or outputs}
    parts = t["qkv"].split(case.cache.get("sequences", t["qkv"].shape[1]), 1)
    return {"output": torch.cat([FORMULAS[op](c, dict(t, qkv=x))["output"] for x in parts], 1)}


def described(y, name, at, case, mode):
    """One output: what the index has of it, and its samples."""
    flat = y.double().contiguous().numpy().reshape(-1)
    finite = flat[np.isfinite(flat)]
    picked = flat if flat.size <= SAMPLES else flat[sampled(name, flat.size)]
    output = name.rsplit("/", 1)[1]
    squares = float((finite * finite).sum())
    size = case.size.get(output, math.sqrt(squares / max(finite.size, 1)))
    entry = dict(dtype=case.outputs.get(output, mode.activation), shape=list(y.shape), at=at, sum=float(finite.sum()), squares=squares)
    if output in case.exact:
        entry["exact"] = True
    else:
        entry.update(depth=case.of("depth", output) or case.depth, size=size, inner=mode.inner(case, output))
        if mode.limit(case, output):
            entry["limit"] = mode.limit(case, output)
    return entry, picked.astype("<f4")


def write(folder, op):
    cases, samples, at = [], [], 0
    inputs = Inputs()
    grid, weights = GRIDS[op]
    for i, case in enumerate(grid()):
        name = f"{op}/{i}"
        inputs.next_case(case.inputs)
        for mode in modes(case, weights, i):
            c = dict(mode.settings, **case.settings)
            specs = resolved(case.inputs, mode)
            t = {k: inputs.numbers(name, specs, k) for k in specs}
            entry = dict(name=name, settings={k: text_of(v) for k, v in c.items() if k not in ("padded",)}, inputs=specs, outputs={})
            total = elements(specs)
            for k, y in computed(op, case, c, t).items():
                total += y.numel()
                entry["outputs"][k], picked = described(y, f"{name}/{k}", at, case, mode)
                at += picked.size
                samples.append(picked)
            if case.flop > QUICK_FLOP or total > QUICK_ELEMENTS:
                entry["full"] = True
            if not case.follows:
                entry["given"] = True
            if case.cache:
                entry["cache"] = case.cache
            cases.append(entry)
    head = dict(reference="torch, float64", versions=dict(torch=torch.__version__.split("+")[0], numpy=np.__version__),
                operator=op, philox=philox(key_of("philox"), 0, 2).reshape(-1).tolist())
    with open(folder / f"{op}.json", "w") as f:
        lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
        f.write(json.dumps(head)[:-1] + ', "cases": [\n' + lines + "\n]}\n")
    np.concatenate(samples or [np.zeros(0, "<f4")]).tofile(folder / f"{op}.bin")
    print(f"{op}: {len(cases)} cases, {sum('full' not in c for c in cases)} of them quick", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "ops")
    parser.add_argument("operators", nargs="*", metavar="OPERATOR", help="all of them by default")
    args = parser.parse_args()
    torch.set_num_threads(2)
    args.out.mkdir(parents=True, exist_ok=True)
    for op in args.operators or GRIDS:
        write(args.out, op)


if __name__ == "__main__":
    main()
