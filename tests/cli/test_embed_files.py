#!/usr/bin/env python3
# labels: quick
"""tern embed --npy: what NumPy reads from the file, and that there is no file where the work fails or is stopped; progress on a terminal.

    TERN=build/tern python3 tests/cli/test_embed_files.py
"""
import array
import ast
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import catching

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.abspath(os.environ.get("TERN_SOURCE", os.path.join(HERE, "..", "..")))
TERN = os.path.abspath(os.environ.get("TERN", os.path.join(SOURCE, "build", "tern")))
MEAN = os.path.join(SOURCE, "tests", "golden", "sentences", "mean")


def read_npy(path):
    """By the format's specification: version 1.0, a dictionary, then the numbers."""
    with open(path, "rb") as f:
        data = f.read()
    size = data[8] + 256 * data[9]
    assert data[:8] == b"\x93NUMPY\x01\x00" and (10 + size) % 64 == 0 and data[9 + size] == ord("\n"), data[:16]
    values = array.array("f")
    values.frombytes(data[10 + size:])
    return ast.literal_eval(data[10:10 + size].decode("latin-1")), values


class Files(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.lines = os.path.join(self.folder, "lines")

    def embed(self, lines, *arguments):
        with open(self.lines, "wb") as f:
            f.write(lines)
        return subprocess.run([TERN, "embed", MEAN, "-f", self.lines, "-q", *arguments], cwd=self.folder, capture_output=True,
                              timeout=100)

    def test_numbers_and_shape(self):
        for texts in ([], [b"one"], [b"a longer one", b"", b"b", b"and the last"]):
            done = self.embed(b"".join(t + b"\n" for t in texts), "--npy", "x.npy")
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))
            header, values = read_npy(os.path.join(self.folder, "x.npy"))
            self.assertEqual(header, {"descr": "<f4", "fortran_order": False, "shape": (len(texts), 24)})
            vectors = json.loads(self.embed(b"".join(t + b"\n" for t in texts), "--json").stdout)["embeddings"]
            self.assertEqual(list(values), [array.array("f", [x])[0] for v in vectors for x in v])

    def test_no_file_after_a_failure(self):
        for old in (False, True):
            if old:
                with open(os.path.join(self.folder, "x.npy"), "wb") as f:
                    f.write(b"before")
            done = self.embed(b"fine\nb\xffd\n", "--npy", "x.npy")
            self.assertEqual(done.returncode, 1)
            self.assertIn(b"text 2: ", done.stderr)
            self.assertEqual(sorted(os.listdir(self.folder)), ["lines"] + ["x.npy"] * old)
        with open(os.path.join(self.folder, "x.npy"), "rb") as f:
            self.assertEqual(f.read(), b"before")

    def test_a_place_that_takes_no_file_is_told_before_the_work(self):
        done = self.embed(b"b\xffd\n", "--npy", os.path.join(self.folder, "none", "x.npy"))
        self.assertEqual((done.returncode, b"No such file or directory" in done.stderr), (1, True))

    def test_no_file_after_ctrl_c(self):
        with open(self.lines, "wb") as f:
            f.write(b"some words of a line that is long enough\n" * 400000)
        p = subprocess.Popen([TERN, "embed", MEAN, "-f", self.lines, "-q", "--npy", "x.npy"], cwd=self.folder, stderr=subprocess.PIPE)
        catching.started(p)
        time.sleep(0.5)
        p.send_signal(signal.SIGINT)
        error = p.communicate(timeout=60)[1]
        self.assertEqual((p.returncode, error), (130, b""))
        self.assertEqual(os.listdir(self.folder), ["lines"])

    def test_progress(self):
        with open(self.lines, "wb") as f:
            f.write(b"some words\n" * 3000)
        leader, follower = pty.openpty()
        p = subprocess.Popen([TERN, "embed", MEAN, "-f", self.lines, "--npy", "x.npy"], cwd=self.folder, stderr=follower)
        os.close(follower)
        seen = b""
        while True:
            try:
                piece = os.read(leader, 4096)
            except OSError:
                break
            if not piece:
                break
            seen += piece
        os.close(leader)
        self.assertEqual(p.wait(timeout=60), 0)
        self.assertIn(b"embedding [", seen)
        self.assertIn(b"100 %", seen)
        self.assertTrue(seen.endswith(b"\r\x1b[K"), seen[-20:])


if __name__ == "__main__":
    unittest.main(verbosity=0, argv=sys.argv)
