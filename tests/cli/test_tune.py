#!/usr/bin/env python3
# labels: quick
"""tern tune: what it tells, what it keeps, and that nothing changes but time.  No test asserts a time."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.abspath(os.environ.get("TERN_SOURCE", os.path.join(HERE, "..", "..")))
TERN = os.path.abspath(os.environ.get("TERN", os.path.join(SOURCE, "build", "tern")))
TINY = os.path.join(SOURCE, "tests", "golden", "gpt2-tiny-fp32")
MODELS = os.path.join(SOURCE, "tests", "golden", "models")
MODEL = os.path.join(SOURCE, "models", "tiny-shakespeare")


class Tune(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("TERN", "HF_"))}
        self.env["XDG_CACHE_HOME"] = self.folder.name

    def tearDown(self):
        self.folder.cleanup()

    def tern(self, *args, code=0, **env):
        r = subprocess.run([TERN, *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env={**self.env, **env}, timeout=300)
        self.stderr = r.stderr.decode()
        self.assertEqual(r.returncode, code, self.stderr)
        return r.stdout

    def tune(self, *args, **more):
        got = json.loads(self.tern("tune", *args, "--json", "-q", **more))
        self.assertEqual(list(got), ["version", "cpu", "isa", "threads", "shapes", "file", "note"])
        for shape in got["shapes"]:
            self.assertEqual(list(shape), ["dtype", "rounded", "in", "out", "rows", "default_ms", "best_ms", "gain", "tile_rows",
                                           "k_block", "split"])
            self.assertTrue(0 < shape["best_ms"] <= shape["default_ms"])
            same = (shape["tile_rows"], shape["k_block"], shape["split"]) == (0, 0, None)
            self.assertEqual(shape["gain"] == 0, same)
        return got

    def files(self):
        return [os.path.join(at, name) for at, _, names in os.walk(self.folder.name) for name in names]

    def test_a_shape(self):
        """the four products of a layer with rows up to --max-tokens, the head's with up to 16, each once"""
        for dtype, rounded in (("fp32", False), ("fp16", False), ("bf16", True), ("int8", True)):
            got = self.tune("--shape", "tiny", "--dtype", dtype, "--max-tokens", 5, "--threads", 1)
            sizes = [(64, 128), (64, 64), (64, 352), (176, 64), (64, 256)]
            self.assertEqual([(s["dtype"], s["rounded"], s["in"], s["out"], s["rows"]) for s in got["shapes"]],
                             [(dtype, rounded, k, n, rows) for k, n in sizes for rows in (1, 2, 4)])
            self.assertEqual((got["threads"], got["note"]), (1, ""))
            self.assertEqual(sorted(self.files()), sorted([got["file"], got["file"] + ".lock"]))
        with open(got["file"], encoding="ascii") as f:
            lines = f.read().splitlines()
        self.assertEqual(lines[0], "tern plans 1")
        self.assertEqual(len([s for s in lines if s.split()[0] in ("f32", "f32_f16", "bf16", "q8")]), 4 * 15)

    def test_a_model(self):
        """a checkpoint's sizes; its answer is the same with what was found, without it and with the file broken"""
        plain = self.tern("run", MODEL, "-p", "ROMEO:", "-n", 12, "--temp", 0, "-q", TERN_TUNE="off")
        got = self.tune(MODEL, "--max-tokens", 8)
        self.assertEqual({s["rows"] for s in got["shapes"]}, {1, 2, 4, 8})
        self.assertEqual(self.tern("run", MODEL, "-p", "ROMEO:", "-n", 12, "--temp", 0, "-q"), plain)
        with open(got["file"], "ab") as f:
            f.write(b"more")
        self.assertEqual(self.tern("run", MODEL, "-p", "ROMEO:", "-n", 12, "--temp", 0, "-q"), plain)
        self.assertEqual(self.stderr, "")
        again = self.tune("--shape", "tiny", "--max-tokens", 1)
        self.assertIn("does not end with the checksum of what it holds", again["note"])
        self.assertIn("; replaced", self.stderr)
        self.assertEqual(self.tune("--shape", "tiny", "--max-tokens", 1)["note"], "")

    def test_what_a_model_multiplies(self):
        """heads of a width of their own, experts, routers, projected embeddings: the products that a trace of the model has, and no others"""
        trace = os.path.join(self.folder.name, "trace.json")
        for name in ("gemma-tiny", "qwen3-biases", "mixtral-tiny", "qwen2-moe-tiny", "opt-350m", "opt-projected"):
            model = os.path.join(MODELS, name)
            for dtype in ("auto", "bf16", "int8"):
                with self.subTest(model=name, dtype=dtype):
                    self.tern("bench", model, "--no-ceilings", "--contexts", 4, "--decode", 1, "--dtype", dtype, "--trace", trace, "-q")
                    with open(trace, encoding="utf-8") as f:
                        events = json.load(f)["traceEvents"]
                    done = {(e["args"]["in"], e["args"]["out"]) for e in events if e["name"].startswith("gemm")}
                    got = self.tune(model, "--max-tokens", 1, "--dtype", dtype)["shapes"]
                    self.assertEqual(sorted((s["in"], s["out"]) for s in got), sorted(done))
        got = self.tune(os.path.join(MODELS, "bert-tiny"), "--max-tokens", 1)["shapes"]  # no scores; its pooler is as wide as a layer
        self.assertEqual([(s["in"], s["out"]) for s in got], [(32, 96), (32, 32), (32, 72), (72, 32)])

    def test_nowhere_to_keep_it(self):
        """told, and no error"""
        got = self.tune("--shape", "tiny", "--max-tokens", 1, XDG_CACHE_HOME="/dev/null/cache")
        self.assertEqual(len(got["shapes"]), 5)
        self.assertIsNone(got["file"])
        self.assertIn("Not a directory", got["note"])
        self.assertIn("holds in this context alone", self.stderr)
        got = self.tune("--shape", "tiny", "--max-tokens", 1, TERN_TUNE="off")
        self.assertIsNone(got["file"])
        self.assertIn("TERN_TUNE is off", self.stderr)
        self.assertEqual(self.files(), [])
        self.tern("run", MODEL, "-p", "a", "-n", 1, code=1, TERN_TUNE="yes")
        self.assertIn('TERN_TUNE: got "yes", expected off, or nothing', self.stderr)

    def test_the_table(self):
        text = self.tern("tune", TINY, "--max-tokens", 1, "--threads", 1, "-q").decode()
        self.assertIn("weights            in      out   rows    rules ms     best ms    gain", text)
        self.assertEqual(len([s for s in text.splitlines() if s.startswith("fp32 ")]), 5)
        self.assertRegex(text.splitlines()[-1], r"^\d of 5 are faster than by the rules; kept in " + self.folder.name)

    def test_an_operator(self):
        """tern op with triton_autotune and layer 0 tunes, and the next call finds it"""
        head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }\n"
        for name in ("x.npy", "w.npy"):
            with open(os.path.join(self.folder.name, name), "wb") as f:
                f.write(b"\x93NUMPY\x01\0" + len(head).to_bytes(2, "little") + head + b"\x01" * 16)
        call = ["op", "vector_matmul", "--set", "dtype=fp32", "--set", "hidden_size=2", "--set", "max_out_tokens=1", "--in",
                "input=" + os.path.join(self.folder.name, "x.npy"), "--in", "weight=" + os.path.join(self.folder.name, "w.npy"), "--out",
                "output=" + os.path.join(self.folder.name, "y.npy"), "--set", "layer_id=0"]
        self.tern(*call)
        self.assertEqual(len(self.files()), 3)
        self.tern(*call, "--set", "triton_autotune=true")
        kept = [name for name in self.files() if name.endswith(".txt")]
        self.assertEqual(len(kept), 1)
        with open(kept[0], encoding="ascii") as f:
            before = f.read()
        self.assertEqual(before.count("\nf32 2 2 "), 5)  # 1 to 16 rows
        self.tern(*call, "--set", "triton_autotune=true")
        with open(kept[0], encoding="ascii") as f:
            self.assertEqual(f.read(), before)

    def test_stopped(self):
        """Ctrl-C ends it with what was found by then, which is kept"""
        with subprocess.Popen([TERN, "tune", "--max-tokens", "2048", "-q", "--threads", "1"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env=self.env) as p:
            try:
                p.wait(timeout=3)
            except subprocess.TimeoutExpired:
                p.send_signal(signal.SIGINT)
            text, _ = p.communicate(timeout=200)
        self.assertEqual(p.returncode, 128 + signal.SIGINT)
        self.assertIn(b"are faster than by the rules; kept in", text)
        self.assertEqual(len(self.files()), 2)


if __name__ == "__main__":
    if not os.access(TERN, os.X_OK):
        sys.exit(f"{TERN} is not there: set TERN")
    unittest.main(verbosity=2)
