#!/usr/bin/env python3
# labels: quick
"""embed, rerank, classify, fill and bench of an encoder on two and three ranks: the numbers of one process, and one message for an error."""
import concurrent.futures
import json
import math
import os
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "comm"))
import mpi_runs  # noqa: E402

SOURCE = os.path.abspath(os.environ.get("TERN_SOURCE", os.path.join(HERE, "..", "..")))
TERN = os.path.abspath(os.environ.get("TERN", os.path.join(SOURCE, "build", "tern")))
GOLDEN = os.path.join(SOURCE, "tests", "golden")
TEXTS = "The cat sat on the mat.\nA lamp that is lit by day\nwhere?\n"
TOLERANCE = 1e-5  # of the largest number: sums of as many parts as there are ranks
SECONDS = 100     # a run takes about one

ENV = dict(mpi_runs.environment())
ENV.pop("TERN_PLUGINS")  # it lies beside the command


def tern(*args, stdin=TEXTS):
    return subprocess.run([TERN, *args], input=stdin, env=ENV, capture_output=True, encoding="utf-8", timeout=SECONDS, check=False)


def numbers_and_rest(value):
    """a JSON value's floats, in order, and the value without them"""
    found = []

    def take(x):
        if isinstance(x, float):
            found.append(x)
            return None
        if isinstance(x, list):
            return [take(y) for y in x]
        return {k: take(y) for k, y in x.items()} if isinstance(x, dict) else x

    rest = take(value)
    return found, rest


class Texts(unittest.TestCase):
    def same(self, case):
        *args, n = case
        one, many = tern(*args, "--json", "-q"), tern(*args, "--json", "-q", "--tp", n)
        self.assertEqual((one.returncode, one.stderr), (0, ""), args)
        self.assertEqual((many.returncode, many.stderr), (0, ""), args)
        (a, rest), (b, other) = (numbers_and_rest([json.loads(line) for line in r.stdout.splitlines()]) for r in (one, many))
        self.assertTrue(a and all(map(math.isfinite, a + b)))
        self.assertEqual(rest, other)
        self.assertLess(max(abs(x - y) for x, y in zip(a, b)), TOLERANCE * max(map(abs, a)), args)

    def test_numbers_of_one_process(self):
        def at(*parts):
            return os.path.join(GOLDEN, *parts)
        cases = [("embed", at("sentences", "mean"), "2"), ("embed", at("sentences", "causal"), "3"), ("embed", at("sentences", "older"), "2"),
                 ("rerank", at("scores", "cross"), "-p", "a lamp", "2"), ("classify", at("scores", "classes"), "3"),
                 ("classify", at("scores", "tags"), "--tokens", "2"),
                 ("fill", at("scores", "fill"), "-p", "the [MASK] sat on the mat", "2")]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(self.same, cases))

    def test_bench_of_an_encoder(self):
        args = ["bench", "--shape", "bert-base", "--contexts", "8", "--runs", "1", "--no-ceilings", "--json", "-q"]
        one, two = (tern(*args, *more) for more in ([], ["--tp", "2"]))
        self.assertEqual((two.returncode, two.stderr), (0, ""))
        one, two = json.loads(one.stdout), json.loads(two.stdout)
        self.assertEqual([row["tokens"] for row in two["rows"]], [row["tokens"] for row in one["rows"]])
        self.assertLess(two["model"]["packed_bytes"], 0.6 * one["model"]["packed_bytes"])

    def test_one_message(self):
        mean, fill = os.path.join(GOLDEN, "sentences", "mean"), os.path.join(GOLDEN, "scores", "fill")
        for args, code, text in ((("embed", mean, "--prompt", "x"), 1, 'the model has no prompt "x"'),
                                 (("embed", mean + "-not"), 1, "mean-not"),
                                 (("rerank", mean, "-p", "q"), 3, "gives no scores of labels for a text"),
                                 (("fill", fill, "-p", "no word is missing"), 1, "text 1 has no mask token"),
                                 (("classify", mean, "-p", "x"), 3, "gives no scores of labels for a text")):
            answer = tern(*args, "-q", "--tp", "2")
            self.assertEqual((answer.returncode, answer.stdout, answer.stderr.count("\n")), (code, "", 1), answer.stderr)
            self.assertIn(text, answer.stderr)


if __name__ == "__main__":
    mpi_runs.main()
