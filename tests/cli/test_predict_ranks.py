#!/usr/bin/env python3
# labels: quick
"""tools/predict_ranks.py: what it takes from tern info, its sums, and the table of docs/distributed.md.

    TERN=build/tern python3 tests/cli/test_predict_ranks.py
"""
import json
import os
import re
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.abspath(os.environ.get("TERN_SOURCE", os.path.join(HERE, "..", "..")))
TERN = os.path.abspath(os.environ.get("TERN", os.path.join(SOURCE, "build", "tern")))
GOLDEN = os.path.join(SOURCE, "tests", "golden", "models")
MODEL = os.path.join(SOURCE, "models", "tiny-shakespeare")
SCRIPT = [sys.executable, os.path.join(SOURCE, "tools", "predict_ranks.py"), "--rank-gbs", "40"]
SECONDS = 100  # a run takes a tenth of one


class Predictions(unittest.TestCase):
    def predict(self, *args):
        command = [*SCRIPT, "--tern", TERN, "--json", *args]
        return json.loads(subprocess.run(command, capture_output=True, timeout=SECONDS, check=True).stdout)

    def info(self, path):
        return json.loads(subprocess.run([TERN, "info", path, "--json"], capture_output=True, timeout=SECONDS, check=True).stdout)

    def test_shares_and_sums(self):
        rows = self.predict(MODEL, "--ranks", "1,2,4")
        whole = self.info(MODEL)["memory"]["token_bytes"] / 1e6
        self.assertEqual([row["ranks"] for row in rows], [1, 2, 4])
        self.assertAlmostEqual(rows[0]["weight_mb"], whole, 6)
        self.assertAlmostEqual(rows[1]["weight_mb"], whole / 2, 6)
        self.assertEqual(rows[0]["between_ms"], 0)
        self.assertGreater(rows[2]["between_ms"], rows[1]["between_ms"])
        for row in rows:
            self.assertAlmostEqual(row["tokens_per_s"], 1e3 / (row["read_ms"] + row["between_ms"]), 3)
        # one key and value for 8 heads: it is whole on every rank, and all else is shared out
        rows = self.predict("--size", "2,1024,4096,8,1,1000", "--ranks", "1,8")
        each = 2 * (1024 * 1024 // 8 * 2 + 2 * 1024 * 128 + 2 * 1024 * 4096 // 8) + 1000 * 1024 // 8
        self.assertAlmostEqual(rows[1]["weight_mb"], 2e-6 * each, 3)

    def test_a_model_says_how_its_layers_are_added_up(self):
        """Of one family in both forms: a wait of 1 ms for each sum, and two for the scores."""
        size = ("--size", "5,64,64,4,4,100")
        for args, layers, parallel in ((["stablelm-parallel"], 3, True), (["stablelm-norms"], 3, False), (["falcon-7b"], 3, True),
                                       (["falcon-rw"], 3, False), (["gpt-neox-tiny"], 3, True), (["gpt-neox-sequential"], 3, False),
                                       ([*size, "--parallel"], 5, True), (size, 5, False)):
            with self.subTest(args=args):
                args = args if args[0] == "--size" else [os.path.join(GOLDEN, args[0])]
                if args[0] != "--size":
                    self.assertEqual(self.info(args[0])["model"]["layers"], layers)
                row = self.predict(*args, "--ranks", "2", "--ranks-per-host", "2", "--wait-us", "1000", "--copy-gbs", "1e9")[0]
                self.assertAlmostEqual(row["between_ms"], (1 if parallel else 2) * layers + 1 + 2, 4)

    def test_of_a_mixture_a_token_reads_its_experts_alone(self):
        path = os.path.join(GOLDEN, "mixtral-tiny")
        with open(os.path.join(path, "config.json"), encoding="utf-8") as f:
            c = json.load(f)
        H, inner = c["hidden_size"], c["intermediate_size"]

        def packed(rows, columns):  # bf16, in panels of 32 columns
            return 2 * rows * (columns + 31 & -32)
        idle = c["num_hidden_layers"] * (c["num_local_experts"] - c["num_experts_per_tok"]) * (packed(H, 2 * inner) + packed(inner, H))
        memory, model = self.info(path)["memory"], self.info(path)["model"]
        self.assertFalse(model["tied_embeddings"])
        unread = idle + packed(H, c["vocab_size"])  # and the embedding, of which a token reads a row
        self.assertAlmostEqual(memory["weight_bytes"] - memory["token_bytes"], unread, delta=0.05 * unread)
        self.assertAlmostEqual(self.predict(path, "--ranks", "1")[0]["weight_mb"], memory["token_bytes"] / 1e6, 6)

    def test_the_table_of_the_manual(self):
        """docs/distributed.md: a command in a code block for each row, and the row with two figures of what it prints now."""
        with open(os.path.join(SOURCE, "docs", "distributed.md"), encoding="utf-8") as f:
            text = f.read()
        table = re.search(r"(?m)^\| ranks \|(.*)\|\n\|[-|]+\|\n((?:\|.*\n)+)", text)
        ranks = ",".join(cell.strip() for cell in table[1].split("|"))
        rows = [[cell.strip() for cell in line.split("|")[2:-1]] for line in table[2].splitlines()]
        commands = re.findall(r"(?m)^ {4}tools/predict_ranks.py (--rank-gbs .*--size .*)$", text)
        self.assertEqual((len(rows), len(commands)), (4, 4))
        for command, row in zip(commands, rows):
            with self.subTest(command):
                got = self.predict(*command.split(), "--ranks", ranks)
                self.assertEqual(row, [f"{r['tokens_per_s']:.{0 if r['tokens_per_s'] >= 9.95 else 1}f}" for r in got])

    def test_what_cannot_be_predicted(self):
        for args, words in ((["--tern", TERN, os.path.join(GOLDEN, "bert-tiny")], "expected a model that generates"),
                            (["--tern", TERN, "/nowhere"], "/nowhere"), (["--tern", "/nowhere/tern", MODEL], "--tern says where it is"),
                            (["--tern", TERN, MODEL, "--parallel"], "MODEL says so itself"),
                            (["--tern", TERN, MODEL, "--dtype", "int4"], "int4"),
                            (["--size", "1,8,8,1,1,9", "--dtype", "int8"], "--bytes"), ([], "expected either MODEL or --size")):
            with self.subTest(args=args):
                done = subprocess.run(SCRIPT + args, capture_output=True, text=True, timeout=SECONDS, check=False)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(words, done.stderr)
                self.assertNotIn("Traceback", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=0, argv=sys.argv)
