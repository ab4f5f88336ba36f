#!/usr/bin/env python3
# labels: full
"""Scores of every decoder among the goldens on 2, 3 and 4 ranks of mpirun: within 1e-5 of the largest of one process's, and the same best ids."""
import array
import json
import math
import os
import pathlib
import struct
import subprocess
import tempfile
import unittest

import mpi_runs

TERN = os.environ.get("TERN", "build/tern")
GOLDEN = pathlib.Path(os.environ.get("TERN_SOURCE", ".")) / "tests" / "golden"


def scores(n, model, ids, folder):
    """rows of scores"""
    path = os.path.join(folder, f"{n}.npy")
    command = [TERN, "logits", str(model), "--ids", ",".join(map(str, ids)), "-o", path, "-q", "--threads", "1",
               "--dtype", "fp32"]
    if n > 1:
        command = mpi_runs.mpirun(n) + command
    subprocess.run(command, env=mpi_runs.environment(), check=True, timeout=120)
    with open(path, "rb") as f:
        data = f.read()
    values = array.array("f", data[10 + struct.unpack_from("<H", data, 8)[0]:])
    width = len(values) // len(ids)
    return [values[row * width:(row + 1) * width] for row in range(len(ids))]


class Families(unittest.TestCase):
    def test_scores(self):
        worst, models = 0, 0
        for path in sorted(GOLDEN.glob("models/*/golden.json")) + [GOLDEN / "gpt2-tiny-fp32" / "golden.json"]:
            golden = json.loads(path.read_text(encoding="utf-8"))
            if "greedy" not in golden:
                continue
            models += 1
            ids = min(golden["prompts"], key=lambda prompt: abs(len(prompt) - 20))
            with tempfile.TemporaryDirectory() as folder:
                alone = scores(1, path.parent, ids, folder)
                largest = max(max(map(abs, row)) for row in alone)
                for n in (2, 3, 4):
                    shared = scores(n, path.parent, ids, folder)
                    self.assertTrue(all(math.isfinite(x) for rows in (alone, shared) for row in rows for x in row), path.parent.name)
                    self.assertEqual(list(map(len, shared)), list(map(len, alone)))
                    off = max(abs(a - b) for one, other in zip(alone, shared) for a, b in zip(one, other))
                    worst = max(worst, off / largest)
                    self.assertLessEqual(off, 1e-5 * largest, f"{path.parent.name} on {n} ranks")
                    best = [[max(range(len(row)), key=row.__getitem__) for row in rows] for rows in (alone, shared)]
                    self.assertEqual(*best, f"{path.parent.name} on {n} ranks")
        print(f"{models} models on 2, 3 and 4 ranks: at most {worst:.1g} of the largest score from one process")
        self.assertGreater(models, 60)


if __name__ == "__main__":
    mpi_runs.main(1)
