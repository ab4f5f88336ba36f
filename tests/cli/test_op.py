#!/usr/bin/env python3
# labels: quick
"""tern op on files: every operator, kernel function and module in every dtype, against formulas in Python's float64.

    TERN=build/tern python3 tests/cli/test_op.py [-v] [Class.test]

Only Python's standard library.  What is held here is the way of a number from one file to another: names, dtypes, roundings on
input, scales, caches.  The operators themselves are held to torch by tests/ops.
"""
import ast
import json
import math
import os
import random
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.abspath(os.environ.get("TERN_SOURCE", os.path.join(HERE, "..", "..")))
TERN = os.path.abspath(os.environ.get("TERN", os.path.join(SOURCE, "build", "tern")))

CODES = {"<f4": "f", "<f2": "e", "<f8": "d", "|i1": "b", "|u1": "B", "<i2": "h", "<u2": "H", "<i4": "i", "<u4": "I", "<i8": "q",
         "<u8": "Q", "|b1": "?"}


# ---- arrays: a shape and a flat list ----------------------------------------------------------------------------------

class Array:
    def __init__(self, shape, values, descr="<f4"):
        self.shape, self.values, self.descr = tuple(shape), list(values), descr
        assert len(self.values) == math.prod(self.shape)

    def cast(self, descr):
        code = CODES[descr]
        return Array(self.shape, struct.unpack(f"<{len(self.values)}{code}", struct.pack(f"<{len(self.values)}{code}", *self.values)),
                     descr)

    def rows(self):
        n = self.shape[-1]
        return [self.values[i:i + n] for i in range(0, len(self.values), n)] if n else []

    def transposed(self):
        rows = self.rows()
        return Array(self.shape[::-1], [row[c] for c in range(self.shape[1]) for row in rows], self.descr)


def bf16(x):
    """Nearest bf16 of a float32, ties to even."""
    bits = struct.unpack("<I", struct.pack("<f", x))[0]
    return struct.unpack("<f", struct.pack("<I", (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000))[0]


def save(path, a):
    code = CODES[a.descr]
    head = f"{{'descr': '{a.descr}', 'fortran_order': False, 'shape': {a.shape!r}, }}"
    head += " " * (-(len(head) + 11) % 64) + "\n"
    with open(path, "wb") as f:
        f.write(b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head.encode() + struct.pack(f"<{len(a.values)}{code}", *a.values))


def load(path):
    with open(path, "rb") as f:
        data = f.read()
    n = struct.unpack("<H", data[8:10])[0]
    head = ast.literal_eval(data[10:10 + n].decode())
    count = math.prod(head["shape"])
    return Array(head["shape"], struct.unpack(f"<{count}{CODES[head['descr']]}", data[10 + n:]), head["descr"])


def quantised(w, groups):
    """Codes of w [in, out] and their scales, one for out / groups channels in a row."""
    k, n = w.shape
    each = n // groups
    rows = w.rows()
    scales = [max(max(abs(row[c]) for row in rows for c in range(g * each, (g + 1) * each)), 1e-9) / 127 for g in range(groups)]
    scales = Array((groups,), scales).cast("<f4")
    codes = [max(-127, min(127, round(row[c] / scales.values[c // each]))) for row in rows for c in range(n)]
    return Array((k, n), codes, "|i1"), scales


# ---- formulas -----------------------------------------------------------------------------------------------------------

def matmul(a, w, bias=None):
    """Rows times [in, out]."""
    columns = list(zip(*w.rows()))
    return [[math.fsum(x * y for x, y in zip(row, c)) + (bias.values[j] if bias else 0) for j, c in enumerate(columns)] for row in a]


def gelu_tanh(x):
    return 0.5 * x * (1 + math.tanh(0.7978845608028654 * (x + 0.044715 * x ** 3)))


def gelu_erf(x):
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def silu(x):
    return x / (1 + math.exp(-x))


def layer_norm(rows, gamma, beta, eps=1e-12):
    out = []
    for row in rows:
        mean = math.fsum(row) / len(row)
        scale = 1 / math.sqrt(math.fsum((x - mean) ** 2 for x in row) / len(row) + eps)
        out.append([(x - mean) * scale * g + b for x, g, b in zip(row, gamma.values, beta.values)])
    return out


def rms_norm(rows, gamma, eps=1e-12):
    return [[x / math.sqrt(math.fsum(y * y for y in row) / len(row) + eps) * g for x, g in zip(row, gamma.values)] for row in rows]


def add(*many):
    return [[math.fsum(v) for v in zip(*rows)] for rows in zip(*many)]


def plus(rows, bias):
    return [[x + b for x, b in zip(row, bias.values)] for row in rows]


def softmax(row):
    top = max(row)
    if top == -math.inf:
        return [0.0] * len(row)
    e = [math.exp(x - top) for x in row]
    return [x / math.fsum(e) for x in e]


def attention(qkv, batch, rows, heads, groups, width, past=None, mask=None):
    """Causal attention: context rows, and the keys and values [B][G][n] of all positions; no rotary."""
    out, keys, values = [], [], []
    for b in range(batch):
        k = [list(past[0][b][g]) if past else [] for g in range(groups)]
        v = [list(past[1][b][g]) if past else [] for g in range(groups)]
        before = len(k[0])
        for s in range(rows):
            row = qkv[b * rows + s]
            for g in range(groups):
                k[g].append(row[(heads + g) * width:(heads + g + 1) * width])
                v[g].append(row[(heads + groups + g) * width:(heads + groups + g + 1) * width])
        for s in range(rows):
            context = []
            for h in range(heads):
                g = h // (heads // groups)
                q = qkv[b * rows + s][h * width:(h + 1) * width]
                scores = [math.fsum(x * y for x, y in zip(q, k[g][j])) / math.sqrt(width) + (mask(b, h, s, j) if mask else 0)
                          for j in range(before + s + 1)]
                p = softmax(scores)
                context += [math.fsum(p[j] * v[g][j][c] for j in range(len(p))) for c in range(width)]
            out.append(context)
        keys.append(k)
        values.append(v)
    return out, keys, values


# ---- one run ------------------------------------------------------------------------------------------------------------

#                 what a file of activations is, and how far a result may be from the formula on the rounded inputs:
#                 of its largest number, some roundings of the type (2^-24, 2^-11, 2^-8) in the stages that store it
DTYPES = {
    "fp32": ({"dtype": "fp32"}, "<f4", 2e-6),
    "fp16": ({"dtype": "fp16"}, "<f2", 2e-3),
    "bf16": ({"dtype": "bf16"}, "<f4", 2e-2),
    "int8": ({"dtype": "int8"}, "<f2", 2e-3),
    "int8 bf16": ({"dtype": "int8", "activation_dtype": "bf16"}, "<f4", 2e-2),
    "int8 fp32": ({"dtype": "int8", "activation_dtype": "fp32"}, "<f4", 2e-6),
    # Rows of s8 have steps of 2^-7 of their largest number: sums of 16 and 24 products of them, after each other.
    "int8 rows": ({"dtype": "int8", "activation_dtype": "fp32", "activation_quant": "row"}, "<f4", 8e-2),
}


class InFolder(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.tmp)
        self.random = random.Random(self.id())

    def numbers(self, *shape, scale=0.5, offset=0.0):
        return Array(shape, [self.random.gauss(offset, scale) for _ in range(math.prod(shape))]).cast("<f4")

    def run_op(self, name, keys, inputs, outputs, code=0):
        """Runs tern op; the outputs, or the error's text."""
        command = [TERN, "op", name, "--threads", "1"]
        for key, value in keys.items():
            command += ["--set", f"{key}={value}"]
        for i, (key, a) in enumerate(inputs.items()):
            save(os.path.join(self.tmp, f"in{i}.npy"), a)
            command += ["--in", f"{key}=in{i}.npy"]
        for key in outputs:
            command += ["--out", f"{key}={key}.npy"]
        r = subprocess.run(command, cwd=self.tmp, capture_output=True, timeout=60,
                           env={k: v for k, v in os.environ.items() if not k.startswith("TERN")})
        self.assertEqual(r.returncode, code, (command, r.stderr))
        if code:
            self.assertTrue(r.stderr.startswith(b"tern: "), r.stderr)
            self.assertFalse([f for f in os.listdir(self.tmp) if not f.startswith("in")])
            return r.stderr.decode()
        got = [load(os.path.join(self.tmp, f"{key}.npy")) for key in outputs]
        for key in outputs:
            os.unlink(os.path.join(self.tmp, f"{key}.npy"))
        return got

    def near(self, got, want, tolerance, what):
        flat = [x for row in want for x in row]
        self.assertEqual(len(got.values), len(flat), what)
        limit = tolerance * max([abs(x) for x in flat] + [1e-3])
        worst = max((abs(x - y) for x, y in zip(got.values, flat)), default=0)
        self.assertLessEqual(worst, limit, what)

    def in_every_dtype(self, name, keys, inputs, outputs, formula, matrices=(), only=DTYPES, groups=2):
        """Runs `name` in each dtype, and its formula on the numbers that the files stand for."""
        for dtype in only:
            extra, descr, tolerance = DTYPES[dtype]
            files, stands = {}, {}
            for key, a in inputs.items():
                if a.descr != "<f4":
                    files[key] = stands[key] = a
                elif key in matrices and extra["dtype"] == "int8":
                    codes, scales = quantised(a, groups)
                    files[key], files[key + "_scale"] = codes, scales
                    each = a.shape[1] // groups
                    stands[key] = Array(a.shape, [q * scales.values[i % a.shape[1] // each] for i, q in enumerate(codes.values)])
                elif dtype.endswith("bf16"):
                    files[key], stands[key] = a, Array(a.shape, map(bf16, a.values))
                else:
                    files[key] = stands[key] = a.cast(descr)
            got = self.run_op(name, {**keys, **extra}, files, outputs)
            for out, want in zip(got, formula(**stands)):
                self.assertEqual(out.descr, descr, (name, dtype))
                self.near(out, want, tolerance, (name, dtype))
                if dtype.endswith("bf16"):
                    self.assertEqual(out.values, [bf16(x) for x in out.values], (name, dtype))


class CommandLine(InFolder):
    """What is refused before anything is written."""

    def tern(self, *arguments, code, text):
        before = sorted(os.listdir(self.tmp))
        r = subprocess.run([TERN, "op", *arguments], cwd=self.tmp, capture_output=True, timeout=60)
        self.assertEqual((r.returncode, r.stdout), (code, b""), (arguments, r.stderr))
        self.assertIn(text, r.stderr.decode())
        self.assertEqual(r.stderr.count(b"\n"), 1, r.stderr)
        self.assertEqual(sorted(os.listdir(self.tmp)), before)

    def qkv_gemm(self):
        for name, shape in (("x", (2, 4)), ("w", (4, 6)), ("g", (4,))):
            save(os.path.join(self.tmp, name + ".npy"), self.numbers(*shape))
        return ["qkv_gemm", "--set", "dtype=fp32", "--in", "input=x.npy", "--in", "weight=w.npy", "--in", "gamma=g.npy"]

    def test_two_results_in_one_place(self):
        command = self.qkv_gemm()
        os.mkdir(os.path.join(self.tmp, "d"))
        os.symlink("d", os.path.join(self.tmp, "e"))
        os.symlink("o.npy", os.path.join(self.tmp, "link.npy"))
        os.symlink("kept.npy", os.path.join(self.tmp, "kept_link.npy"))
        save(os.path.join(self.tmp, "kept.npy"), Array((1,), [7.0]))
        for one, two in (("o.npy", "o.npy"), ("o.npy", "./o.npy"), ("o.npy", "d/../o.npy"), ("o.npy", "link.npy"), ("d/o.npy", "e/o.npy"),
                         ("o.npy", os.path.join(self.tmp, "o.npy")), ("kept.npy", "kept_link.npy"), ("-", "/dev/stdout"),
                         ("-", "/dev/fd/1")):
            self.tern(*command, "--out", f"output={one}", "--out", f"norm={two}", code=2, text=f"are one file, '{two}'")
        self.assertEqual(load(os.path.join(self.tmp, "kept.npy")).values, [7.0])
        # Files of one name in two folders are two, and so are two names of one file: each is replaced.
        os.link(os.path.join(self.tmp, "kept.npy"), os.path.join(self.tmp, "hard.npy"))
        for one, two in (("o.npy", "d/o.npy"), ("kept.npy", "hard.npy")):
            r = subprocess.run([TERN, "op", *command, "--out", f"output={one}", "--out", f"norm={two}"], cwd=self.tmp, timeout=60)
            self.assertEqual(r.returncode, 0)
            self.assertEqual([load(os.path.join(self.tmp, f)).shape for f in (one, two)], [(2, 6), (2, 4)])

    def test_a_result_that_cannot_be_written_leaves_the_others_as_they_were(self):
        command = self.qkv_gemm()
        save(os.path.join(self.tmp, "kept.npy"), Array((1,), [7.0]))
        for bad in ("no/n.npy", "/tmp", "/dev/full", "x.npy/n.npy"):
            self.tern(*command, "--out", "output=kept.npy", "--out", f"norm={bad}", code=1, text=f"cannot write '{bad}'")
            self.assertEqual(load(os.path.join(self.tmp, "kept.npy")).values, [7.0])

    def test_a_result_that_there_is_none_of(self):
        save(os.path.join(self.tmp, "q.npy"), self.numbers(2, 3, 8))
        self.tern("pad_transform", "--set", "dtype=fp32", "--set", "num_heads=2", "--in", "query=q.npy", "--out", "query_output=o.npy",
                  "--out", "key_output=k.npy", code=1, text="pad_transform: there is no key_output with these inputs")

    def test_long_keys_are_unknown_ones(self):
        command = [*self.qkv_gemm(), "--out", "output=o.npy"]
        self.tern(*command, "--set", "k" * 100 + "=1", code=1, text="there is no key")
        self.tern(*command, "--set", "=1", code=2, text="--set wants KEY=VALUE, got '=1'")
        self.tern(*command, "--set", "dtype", code=2, text="--set wants KEY=VALUE, got 'dtype'")

    def test_what_is_not_there_is_3_and_what_is_wrong_1_from_set_and_from_json(self):
        command = [*self.qkv_gemm(), "--out", "output=o.npy"]
        config = os.path.join(self.tmp, "c.json")
        for key, value, code, text in (("dtype", "fp64", 3, 'dtype is "fp64", there is: fp32, fp16, bf16, int8'),
                                       ("norm_type", "GroupNorm", 3, 'norm_type is "GroupNorm", there is: LayerNorm, RMSNorm'),
                                       ("device", "cuda", 3, 'device is "cuda", there is: cpu'),
                                       ("kernel", "best", 1, 'kernel is "best", expected one of auto, reference'),
                                       ("activation_quant", "tensor", 1, 'activation_quant is "tensor", expected one of none, row'),
                                       ("head", "1", 1, 'there is no key "head"')):
            with open(config, "w") as f:
                json.dump({key: value}, f)
            self.tern(*command, "--set", f"{key}={value}", code=code, text=text)
            self.tern(*command, "--config", "c.json", code=code, text=text)
        os.remove(config)
        self.tern(*command, "--set", "norm_type=RMSNorm", "--set", "pre_layer_norm=false", code=3, text="there is: LayerNorm")

    def test_a_file_for_bf16_is_float32(self):
        save(os.path.join(self.tmp, "h.npy"), self.numbers(2, 4).cast("<f2"))
        save(os.path.join(self.tmp, "b.npy"), self.numbers(4))
        for keys in (["dtype=bf16"], ["dtype=int8", "activation_dtype=bf16"]):
            sets = [x for k in keys for x in ("--set", k)]
            self.tern("bias_add", *sets, "--in", "input=h.npy", "--in", "bias=b.npy", "--out", "output=o.npy", code=1,
                      text="bias_add: input is fp16, expected fp32 (a file has no bf16: float32 is rounded to it on input)")

    def test_what_has_no_end_is_not_read_to_it(self):
        self.tern("gelu", "--in", "input=/dev/zero", "--out", "output=o.npy", code=1, text="'/dev/zero': it is no NumPy file (.npy)")

    def test_stdin_is_one_input(self):
        command = ["bias_add", "--set", "dtype=fp32", "--out", "output=o.npy"]
        self.tern(*command, "--in", "input=-", "--in", "bias=-", code=2, text="stdin is given 2 times, expected once")
        self.tern(*command, "--config", "-", "--in", "input=-", code=2, text="stdin is given 2 times, expected once")

    def test_ctrl_c_while_it_waits_for_a_pipe(self):
        os.mkfifo(os.path.join(self.tmp, "pipe"))
        p = subprocess.Popen([TERN, "op", "gelu", "--in", "input=pipe", "--out", "output=o.npy", "--threads", "1"], cwd=self.tmp,
                             stderr=subprocess.PIPE)
        asleep = 0 # it waits when it has slept five looks in a row
        while asleep < 5 and p.poll() is None:
            time.sleep(0.02)
            with open(f"/proc/{p.pid}/stat", encoding="ascii") as f:
                asleep = asleep + 1 if f.read().rsplit(")", 1)[1].split()[0] == "S" else 0
        p.send_signal(signal.SIGINT)
        self.assertEqual((p.communicate(timeout=60)[1], p.returncode), (b"", 130))

    def test_records_are_no_numbers(self):
        command = [*self.qkv_gemm(), "--out", "output=o.npy"]
        head = "{'descr': [('a', '<f4'), ('b', '<f4')], 'fortran_order': False, 'shape': (2, 4), }\n"
        with open(os.path.join(self.tmp, "x.npy"), "wb") as f:
            f.write(b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head.encode() + b"\0" * 64)
        self.tern(*command, code=1, text="its elements are records, expected one number each")


class EveryDtype(InFolder):
    def test_products(self):
        x, w, b = self.numbers(2, 3, 16), self.numbers(16, 10), self.numbers(10)
        self.in_every_dtype("linear", {}, {"input": x, "weight": w, "bias": b}, ["output"],
                            lambda input, weight, bias: [matmul(input.rows(), weight, bias)], ["weight"])
        self.in_every_dtype("vector_matmul", {}, {"input": x, "weight": w}, ["output"],
                            lambda input, weight: [matmul(input.rows(), weight)], ["weight"])
        self.in_every_dtype("gelu_gemm", {}, {"input": x, "weight": w, "bias": b, "weight_out": self.numbers(10, 6)}, ["output"],
                            lambda input, weight, bias, weight_out:
                            [matmul([list(map(gelu_tanh, row)) for row in matmul(input.rows(), weight, bias)], weight_out)],
                            ["weight", "weight_out"])
        self.in_every_dtype("matmul", {"activation": "gelu"}, {"a": self.numbers(5, 16), "b": w, "bias": b}, ["output"],
                            lambda a, b, bias: [[list(map(gelu_erf, row)) for row in matmul(a.rows(), b, bias)]], ["b"])

    def test_norms_and_products(self):
        x, w, b, gamma, beta = self.numbers(2, 3, 16), self.numbers(16, 10), self.numbers(10), self.numbers(16), self.numbers(16)

        def with_layer_norm(input, weight, bias, gamma, beta):
            norm = layer_norm(input.rows(), gamma, beta)
            return [matmul(norm, weight, bias), norm]

        def with_rms_norm(input, weight, gamma):
            norm = rms_norm(input.rows(), gamma)
            return [matmul(norm, weight), norm]

        self.in_every_dtype("qkv_gemm", {}, {"input": x, "weight": w, "bias": b, "gamma": gamma, "beta": beta},
                            ["output", "norm"], with_layer_norm, ["weight"])
        self.in_every_dtype("qkv_gemm", {"norm_type": "RMSNorm"}, {"input": x, "weight": w, "gamma": gamma}, ["output", "norm"],
                            with_rms_norm, ["weight"])

        def gated(input, residual, weight, weight_out, gamma):
            z = add(input.rows(), residual.rows())
            inner = matmul(rms_norm(z, gamma), weight)
            return [matmul([[u * silu(g) for u, g in zip(row[:12], row[12:])] for row in inner], weight_out), z]

        self.in_every_dtype("mlp_gemm", {"norm_type": "RMSNorm", "mlp_act_func_type": "GATED_SILU"},
                            {"input": x, "residual": self.numbers(2, 3, 16), "weight": self.numbers(16, 24),
                             "weight_out": self.numbers(12, 16), "gamma": gamma}, ["output", "residual_add"], gated,
                            ["weight", "weight_out"])

    def test_rows(self):
        x, y, b, gamma, beta = self.numbers(2, 3, 16), self.numbers(2, 3, 16), self.numbers(16), self.numbers(16), self.numbers(16)
        only = [d for d in DTYPES if d != "int8 rows"]
        for name, keys, inputs, formula in (
                ("bias_add", {}, {"input": x, "bias": b}, lambda input, bias: [plus(input.rows(), bias)]),
                ("bias_gelu", {}, {"input": x, "bias": b},
                 lambda input, bias: [[list(map(gelu_tanh, row)) for row in plus(input.rows(), bias)]]),
                ("bias_relu", {}, {"input": x, "bias": b},
                 lambda input, bias: [[[max(v, 0) for v in row] for row in plus(input.rows(), bias)]]),
                ("bias_residual", {}, {"input": x, "residual": y, "bias": b},
                 lambda input, residual, bias: [plus(add(input.rows(), residual.rows()), bias)]),
                ("gelu", {}, {"input": x}, lambda input: [[list(map(gelu_erf, row)) for row in input.rows()]]),
                ("gated_activation", {"activation": "silu"}, {"input": x},
                 lambda input: [[[u * silu(g) for u, g in zip(row[:8], row[8:])] for row in input.rows()]]),
                ("layer_norm", {}, {"input": x, "gamma": gamma, "beta": beta},
                 lambda input, gamma, beta: [layer_norm(input.rows(), gamma, beta)]),
                ("rms_norm", {"epsilon": 0.5}, {"input": x, "gamma": gamma},
                 lambda input, gamma: [rms_norm(input.rows(), gamma, 0.5)]),
                ("vector_add", {"gamma": 3}, {"a": x, "b": y},
                 lambda a, b: [[[3 * u + v for u, v in zip(p, q)] for p, q in zip(a.rows(), b.rows())]]),
                ("residual_add", {"mp_size": 2}, {"hidden": x, "residual": y, "final_bias": b},
                 lambda hidden, residual, final_bias:
                 [add(hidden.rows(), [[v / 2 for v in row] for row in plus(residual.rows(), final_bias)])])):
            self.in_every_dtype(name, keys, inputs, ["output"], formula, only=only)

    def test_an_input_and_an_output_of_one_name(self):
        x, y, gamma = self.numbers(3, 16), self.numbers(3, 16), self.numbers(16)

        def formula(input, residual, gamma):
            z = add(input.rows(), residual.rows())
            return [rms_norm(z, gamma), z]

        self.in_every_dtype("pre_rms_norm", {}, {"input": x, "residual": y, "gamma": gamma}, ["output", "residual"], formula,
                            only=["fp32", "fp16", "bf16", "int8"])
        self.assertIn("residual is missing", self.run_op("pre_rms_norm", {"dtype": "fp32"}, {"input": x, "gamma": gamma},
                                                         ["output", "residual"], code=1))

    def test_matrices_lie_as_transposed_mode_says(self):
        x, w = self.numbers(4, 16), self.numbers(16, 6)
        codes, scales = quantised(w, 3)
        for keys, matrix in (({"dtype": "fp32"}, {"weight": w}), ({"dtype": "bf16"}, {"weight": w}),
                             ({"dtype": "int8", "activation_dtype": "fp32"}, {"weight": codes, "weight_scale": scales})):
            one, = self.run_op("linear", keys, {"input": x, **matrix}, ["output"])
            two, = self.run_op("linear", {**keys, "transposed_mode": "true"},
                               {"input": x, **matrix, "weight": matrix["weight"].transposed()}, ["output"])
            self.assertEqual(one.values, two.values)

    def test_float32_vectors_beside_float16(self):
        x, w, b = self.numbers(4, 16).cast("<f2"), self.numbers(16, 6).cast("<f2"), self.numbers(6)
        got, = self.run_op("linear", {}, {"input": x, "weight": w, "bias": b}, ["output"])
        self.near(got, matmul(x.rows(), w, b), 2e-3, "bias in float32")

    def test_what_bf16_is_rounded_to(self):
        # Ties go to even; what is beyond the largest becomes an infinity; a NaN stays one.
        values = [1.00390625, 1.01171875, -1.00390625, 3.4e38, math.inf, 1e-40, math.nan]
        got, = self.run_op("bias_add", {"dtype": "bf16"}, {"input": Array((7,), values), "bias": Array((7,), [0] * 7)}, ["output"])
        self.assertEqual(got.values[:5], [1.0, 1.015625, -1.0, math.inf, math.inf])
        self.assertEqual(got.values[5], bf16(1e-40))
        self.assertTrue(math.isnan(got.values[6]))


class Attention(InFolder):
    KEYS = {"hidden_size": 16, "heads": 2}

    def test_in_every_dtype(self):
        past = [self.numbers(2, 1, 4, 8, scale=0.3) for _ in range(2)]

        def formula(qkv, past_key, past_value):
            before = [[[a.rows()[b * 4:b * 4 + 4]] for b in range(2)] for a in (past_key, past_value)]
            context, keys, values = attention(qkv.rows(), 2, 3, 2, 1, 8, before)
            return [context] + [[row for b in kv for g in b for row in g] for kv in (keys, values)]

        self.in_every_dtype("softmax_context", {**self.KEYS, "num_kv": 1},
                            {"qkv": self.numbers(2, 3, 32, scale=0.3), "past_key": past[0], "past_value": past[1]},
                            ["output", "key", "value"], formula)

    def test_masks_of_any_kind_and_shape(self):
        qkv = self.numbers(2, 3, 48)
        visible = [[1, 0, 1], [1, 1, 0]]                            # of each sequence
        want, _, _ = attention(qkv.rows(), 2, 3, 2, 2, 8, mask=lambda b, h, s, j: 0 if visible[b][j] else -math.inf)
        flat = [x for row in visible for x in row]
        added = [0.0 if x else -math.inf for x in flat]
        for keys, mask in (({}, Array((2, 3), flat, "|b1")), ({}, Array((2, 3), flat, "<i8")), ({}, Array((2, 1, 1, 3), flat, "|u1")),
                           ({"invert_mask": "false"}, Array((2, 3), [1 - x for x in flat], "<i4")), ({}, Array((2, 3), added)),
                           ({}, Array((2, 1, 3, 3), [x for row in visible for _ in range(3) for x in row], "|b1"))):
            got, = self.run_op("softmax_context", {**self.KEYS, **keys, "dtype": "fp32"}, {"qkv": qkv, "attn_mask": mask}, ["output"])
            self.near(got, want, 2e-6, mask.descr)
        # One number broadcasts too.
        scores = self.numbers(1, 2, 3, 4)
        for mask, want in ((Array((), [True], "|b1"), [softmax(row) for row in scores.rows()]),
                           (Array((), [0], "<i4"), [[0.0] * 4] * 6), (Array((), [0.5]), [softmax(row) for row in scores.rows()])):
            got, = self.run_op("softmax", {"dtype": "fp32"}, {"scores": scores, "mask": mask}, ["output"])
            self.near(got, want, 2e-6, "one number")
        heads = self.numbers(1, 2, 1, 3)
        want, _, _ = attention(qkv.rows(), 2, 3, 2, 2, 8, mask=lambda b, h, s, j: heads.values[3 * h + j])
        got, = self.run_op("softmax_context", {**self.KEYS, "dtype": "fp32"}, {"qkv": qkv, "mask": heads}, ["output"])
        self.near(got, want, 2e-6, "one for each head")
        # What stands behind a hidden key does not matter.
        hidden = Array((2, 3), [0, 1, 1] * 2, "|b1")
        want, = self.run_op("softmax_context", {**self.KEYS, "dtype": "fp32"}, {"qkv": qkv, "mask": hidden}, ["output"])
        for b in range(2):
            for c in range(16, 48):
                qkv.values[b * 144 + c] = math.nan
        got, = self.run_op("softmax_context", {**self.KEYS, "dtype": "fp32"}, {"qkv": qkv, "mask": hidden}, ["output"])
        self.assertEqual(got.values[16:48] + got.values[64:], want.values[16:48] + want.values[64:])
        self.assertEqual(got.values[:16], [0] * 16)

    def test_softmax_takes_the_same_masks(self):
        scores = self.numbers(2, 2, 3, 4)
        visible = Array((2, 4), [1, 0, 1, 1, 0, 1, 1, 0], "|b1")
        want = [softmax([x if visible.values[i // 6 * 4 + j] else -math.inf for j, x in enumerate(row)])
                for i, row in enumerate(scores.rows())]
        for dtype in ("fp32", "fp16", "bf16", "int8"):
            _, descr, tolerance = DTYPES[dtype]
            got, = self.run_op("softmax", {"dtype": dtype}, {"scores": scores.cast(descr), "attn_mask": visible}, ["output"])
            self.near(got, want, tolerance, dtype)

    def test_scale_softcap_positions_and_wider_values(self):
        qkv, rows = self.numbers(1, 3, 40), []
        one, = self.run_op("softmax_context", {**self.KEYS, "dtype": "fp32", "scale": 0.5, "softcap": 2, "v_head_dim": 4},
                           {"qkv": qkv}, ["output"])
        q = qkv.rows()
        for s in range(3):
            for h in range(2):
                p = softmax([2 * math.tanh(0.5 * math.fsum(x * y for x, y in zip(q[s][8 * h:8 * h + 8], q[j][16 + 8 * h:24 + 8 * h])) / 2)
                             for j in range(s + 1)])
                rows.append([math.fsum(p[j] * q[j][32 + 4 * h + c] for j in range(s + 1)) for c in range(4)])
        self.assertEqual(one.shape, (1, 3, 8))
        self.near(one, rows, 2e-6, "scale, softcap, v_head_dim")
        # A sequence behind padding has its own positions: the same as without the padding.
        x = self.numbers(1, 3, 48)
        keys = {**self.KEYS, "dtype": "fp32", "rotary_dim": 8}
        padded = Array((1, 5, 48), [9.0] * 96 + x.values)
        got, = self.run_op("softmax_context", keys, {"qkv": padded, "attn_mask": Array((1, 5), [0, 0, 1, 1, 1], "|b1"),
                                                     "position_ids": Array((1, 5), [0, 0, 0, 1, 2], "<i8")}, ["output"])
        want, = self.run_op("softmax_context", keys, {"qkv": x}, ["output"])
        self.assertEqual(got.values[:32], [0] * 32)
        self.near(Array((3, 16), got.values[32:]), want.rows(), 1e-6, "left padding")

    def test_a_past_that_does_not_fit(self):
        qkv, past = self.numbers(1, 3, 48), self.numbers(1, 2, 4, 8)
        for inputs, keys, text in (
                ({"past_key": past, "past_value": self.numbers(1, 2, 5, 8)}, {}, "past_value is fp32 [1, 2, 5, 8]"),
                ({"past_key": past.cast("<f2"), "past_value": past}, {}, "past_key is fp16 [1, 2, 4, 8], expected fp32"),
                ({"past_key": past, "past_value": past}, {"num_kv": 1}, "")):
            error = self.run_op("softmax_context", {**self.KEYS, "dtype": "fp32", **keys}, {"qkv": qkv, **inputs},
                                ["output", "key"], code=1)
            self.assertIn(text, error)
        error = self.run_op("softmax_context", {**self.KEYS, "dtype": "fp32"}, {"qkv": qkv, "past_key": past}, ["output"], code=2)
        self.assertIn("past_key and past_value, or neither", error)


class Modules(InFolder):
    HEADS, WIDTH, HIDDEN, INNER = 2, 8, 16, 24

    def weights(self):
        h, i = self.HIDDEN, self.INNER
        return {"norm_w": self.numbers(h, offset=1), "norm_b": self.numbers(h), "attn_qkvw": self.numbers(h, 3 * h),
                "attn_qkvb": self.numbers(3 * h), "attn_ow": self.numbers(h, h), "attn_ob": self.numbers(h),
                "attn_nw": self.numbers(h, offset=1), "attn_nb": self.numbers(h), "inter_w": self.numbers(h, i),
                "inter_b": self.numbers(i), "output_w": self.numbers(i, h), "output_b": self.numbers(h)}

    KEYS = {"hidden_size": 16, "heads": 2, "intermediate_size": 24}
    MATRICES = ["attn_qkvw", "attn_ow", "inter_w", "output_w"]

    def layer(self, input, past=None, **w):
        """Sequential, pre-LN: the output, keys and values."""
        batch, rows = input.shape[:2]
        qkv = matmul(layer_norm(input.rows(), w["norm_w"], w["norm_b"]), w["attn_qkvw"], w["attn_qkvb"])
        context, keys, values = attention(qkv, batch, rows, self.HEADS, self.HEADS, self.WIDTH, past)
        s = add(matmul(context, w["attn_ow"], w["attn_ob"]), input.rows())
        inner = matmul(layer_norm(s, w["attn_nw"], w["attn_nb"]), w["inter_w"], w["inter_b"])
        out = add(matmul([list(map(gelu_tanh, row)) for row in inner], w["output_w"], w["output_b"]), s)
        return [out] + [[row for b in kv for g in b for row in g] for kv in (keys, values)]

    def test_layer(self):
        # Eight stages that store or round, each in the type that activations have.
        inputs = {"input": self.numbers(2, 5, 16), **self.weights()}
        self.in_every_dtype("layer", self.KEYS, inputs, ["output", "key", "value"], self.layer, self.MATRICES)

    def test_a_layer_behind_padding(self):
        # Two tokens that are none stand before: with their own positions, and hidden, they change nothing.
        w, x = self.weights(), self.numbers(1, 3, 16)
        padded = Array((1, 5, 16), [9.0] * 32 + x.values)
        for dtype in ("fp32", "fp16", "bf16"):
            extra, descr, _ = DTYPES[dtype]
            files = {k: a.cast(descr) for k, a in w.items()}
            keys = {**self.KEYS, **extra, "rotary_dim": 4, "scale": 0.3, "softcap": 5}
            want, = self.run_op("layer", keys, {**files, "input": x.cast(descr)}, ["output"])
            got, = self.run_op("layer", keys, {**files, "input": padded.cast(descr), "attn_mask": Array((1, 5), [0, 0, 1, 1, 1], "|b1"),
                                               "position_ids": Array((1, 5), [0, 0, 0, 1, 2], "<i8")}, ["output"])
            self.assertEqual(got.values[32:], want.values, dtype)
            other, = self.run_op("layer", {**keys, "scale": 0.4}, {**files, "input": x.cast(descr)}, ["output"])
            self.assertNotEqual(other.values, want.values, dtype)
        alibi, = self.run_op("layer", {**self.KEYS, "dtype": "fp32"}, {**w, "input": x, "alibi": Array((2,), [0.0, 0.0])}, ["output"])
        plain, = self.run_op("layer", {**self.KEYS, "dtype": "fp32"}, {**w, "input": x}, ["output"])
        self.assertEqual(alibi.values, plain.values)
        alibi, = self.run_op("layer", {**self.KEYS, "dtype": "fp32"}, {**w, "input": x, "alibi": Array((2,), [0.5, 0.25])}, ["output"])
        self.assertNotEqual(alibi.values, plain.values)
        for files, text in (({"attn_mask": Array((1, 4), [0.0] * 4).cast("<f2")}, "mask is fp16"),
                            ({"attn_mask": Array((1, 2, 4, 3), [0.0] * 24)}, "mask is [1, 2, 4, 3]"),
                            ({"position_ids": Array((1, 3), [0, -1, 2], "<i8")}, "position_ids[1] is -1"),
                            ({"alibi": Array((3,), [0.0] * 3)}, "alibi")):
            self.assertIn(text, self.run_op("layer", {**self.KEYS, "dtype": "fp32"}, {**w, "input": x, **files}, ["output"], code=1))

    def test_attention(self):
        w = self.weights()

        def formula(input, norm_w, norm_b, attn_qkvw, attn_qkvb, attn_ow):
            norm = layer_norm(input.rows(), norm_w, norm_b)
            context, keys, values = attention(matmul(norm, attn_qkvw, attn_qkvb), 2, 3, 2, 2, 8)
            return [matmul(context, attn_ow), norm] + [[row for b in kv for g in b for row in g] for kv in (keys, values)]

        inputs = {"input": self.numbers(2, 3, 16),
                  **{k: w[k] for k in ("norm_w", "norm_b", "attn_qkvw", "attn_qkvb", "attn_ow")}}
        # q and k are stored before they meet: a score's error, 2^-8 of its terms, is one of the exponent.  Small scores, then.
        inputs["attn_qkvw"] = self.numbers(16, 48, scale=0.1)
        self.in_every_dtype("attention", self.KEYS, inputs, ["output", "norm", "key", "value"], formula, self.MATRICES)

    def test_the_options_of_attention_count_in_every_module_that_has_it(self):
        w, x = self.weights(), self.numbers(1, 3, 16)
        parts = {k: w[k] for k in ("norm_w", "norm_b", "attn_qkvw", "attn_qkvb", "attn_ow")}
        for name, files in (("attention", parts), ("layer", w)):
            plain, = self.run_op(name, {**self.KEYS, "dtype": "fp32"}, {**files, "input": x}, ["output"])
            same, = self.run_op(name, {**self.KEYS, "dtype": "fp32", "v_head_dim": 8}, {**files, "input": x}, ["output"])
            self.assertEqual(same.values, plain.values, name)
            for keys in ({"scale": 0.9}, {"softcap": 0.5}):
                other, = self.run_op(name, {**self.KEYS, "dtype": "fp32", **keys}, {**files, "input": x}, ["output"])
                self.assertNotEqual(other.values, plain.values, (name, keys))
            self.assertIn("v_head_dim is 4", self.run_op(name, {**self.KEYS, "dtype": "fp32", "v_head_dim": 4}, {**files, "input": x},
                                                         ["output"], code=1))

    def test_value_heads_of_another_width_are_those_filled_up_with_zeros(self):
        w, x = self.weights(), self.numbers(1, 3, 16)
        qkv, out = w["attn_qkvw"].rows(), w["attn_ow"].rows()
        kept = [c for c in range(48) if c < 32 or c % 8 < 3]  # 3 channels of the values of each of two heads
        parts = {"attn_qkvw": Array((16, 38), [row[c] for row in qkv for c in kept]), "attn_qkvb": Array((38,), [w["attn_qkvb"].values[c] for c in kept]),
                 "attn_ow": Array((6, 16), [v for r, row in enumerate(out) if r % 8 < 3 for v in row])}
        filled = {"attn_qkvw": Array((16, 48), [row[c] if c in kept else 0.0 for row in qkv for c in range(48)]),
                  "attn_qkvb": Array((48,), [v if c in kept else 0.0 for c, v in enumerate(w["attn_qkvb"].values)])}
        for name in ("attention", "layer"):
            others = {k: a for k, a in w.items() if name == "layer" or k in ("norm_w", "norm_b", "attn_ow")}
            keys = {**self.KEYS, "dtype": "fp32"}
            want, = self.run_op(name, keys, {**others, **filled, "input": x}, ["output"])
            got, = self.run_op(name, {**keys, "v_head_dim": 3}, {**others, **parts, "input": x}, ["output"])
            self.assertEqual(got.values, want.values, name)
            self.assertIn("v_head_dim is 8, expected 0 or 3", self.run_op(name, keys, {**others, **parts, "input": x}, ["output"], code=1))

    def test_mlp(self):
        w = self.weights()

        def formula(input, residual, bias, attn_nw, attn_nb, inter_w, inter_b, output_w, output_b):
            s = plus(add(input.rows(), residual.rows()), bias)
            inner = matmul(layer_norm(s, attn_nw, attn_nb), inter_w, inter_b)
            return [add(matmul([list(map(gelu_tanh, row)) for row in inner], output_w, output_b), s)]

        inputs = {"input": self.numbers(3, 16), "residual": self.numbers(3, 16), "bias": self.numbers(16),
                  **{k: w[k] for k in ("attn_nw", "attn_nb", "inter_w", "inter_b", "output_w", "output_b")}}
        self.in_every_dtype("mlp", self.KEYS, inputs, ["output"], formula, self.MATRICES)

    def test_scales_in_the_references_form(self):
        w = self.weights()
        inputs = {"input": self.numbers(3, 16), "residual": self.numbers(3, 16), "attn_nw": w["attn_nw"], "attn_nb": w["attn_nb"]}
        keys = {**self.KEYS, "dtype": "int8", "activation_dtype": "fp32"}
        inter, inter_scale = quantised(w["inter_w"], 4)
        output, output_scale = quantised(w["output_w"], 4)
        one, = self.run_op("mlp", keys, {**inputs, "inter_w": inter, "inter_w_scale": inter_scale, "output_w": output,
                                         "output_w_scale": output_scale}, ["output"])
        scales = Array((2, 4), inter_scale.values + output_scale.values)
        for more in ({"q_groups": 4}, {"q_groups": 2, "mlp_extra_grouping": "true"}):
            two, = self.run_op("mlp", {**keys, **more}, {**inputs, "inter_w": inter, "output_w": output, "q_scales": scales},
                               ["output"])
            self.assertEqual(one.values, two.values)
        matrices = ("attn_qkvw", "attn_ow", "inter_w", "output_w")
        codes, beside = {k: w[k] for k in w if k not in matrices}, {}
        for k in matrices:
            codes[k], beside[k + "_scale"] = quantised(w[k], 4)
        layer = {**codes, "input": self.numbers(1, 3, 16)}
        one, = self.run_op("layer", keys, {**layer, **beside}, ["output"])
        two, = self.run_op("layer", {**keys, "q_groups": 4}, {**layer, "q_scales": Array((4, 4), sum((a.values for a in beside.values()), []))},
                           ["output"])
        self.assertEqual(one.values, two.values)
        self.assertIn("merge_count is 3", self.run_op("mlp", {**keys, "merge_count": 3},
                                                      {**inputs, "inter_w": inter, "output_w": output, "q_scales": scales},
                                                      ["output"], code=1))

    def test_weights_that_come_apart(self):
        w = self.weights()
        x = self.numbers(2, 3, 16)
        rows = w["attn_qkvw"].rows()
        apart = {f"attn_{n}w": Array((16, 16), [v for row in rows for v in row[16 * i:16 * i + 16]]) for i, n in enumerate("qkv")}
        apart.update({f"attn_{n}b": Array((16,), w["attn_qkvb"].values[16 * i:16 * i + 16]) for i, n in enumerate("qkv")})
        keys = {**self.KEYS, "dtype": "fp32", "set_empty_params": "true"}
        one, = self.run_op("layer", keys, {"input": x, **w}, ["output"])
        for name in ("attn_qkvw", "attn_qkvb"):
            del w[name]
        two, = self.run_op("layer", keys, {"input": x, **w, **apart}, ["output"])
        self.assertEqual(one.values, two.values)

    def test_a_sequence_in_two_pieces(self):
        w = self.weights()
        x = self.numbers(1, 5, 16)
        for dtype in ("fp32", "fp16", "bf16"):
            descr = DTYPES[dtype][1]
            files = {k: a.cast(descr) for k, a in w.items()}
            keys = {**self.KEYS, **DTYPES[dtype][0], "rotary_dim": 4}
            whole = self.run_op("layer", keys, {**files, "input": x.cast(descr)}, ["output", "key", "value"])
            first = self.run_op("layer", keys, {**files, "input": Array((1, 3, 16), x.values[:48]).cast(descr)},
                                ["output", "key", "value"])
            second = self.run_op("layer", keys, {**files, "input": Array((1, 2, 16), x.values[48:]).cast(descr),
                                                 "past_key": first[1], "past_value": first[2]}, ["output", "key", "value"])
            self.assertEqual(first[0].values + second[0].values, whole[0].values, dtype)
            self.assertEqual([second[1].values, second[2].values], [whole[1].values, whole[2].values], dtype)
            self.assertEqual(whole[1].shape, (1, 2, 5, 8))

    def test_moe(self):
        x, gate = self.numbers(7, 16), self.numbers(16, 4)
        w1, b1, w2, b2 = self.numbers(4, 16, 24), self.numbers(4, 24), self.numbers(4, 24, 16), self.numbers(4, 16)

        def part(a, e):
            n = math.prod(a.shape[1:])
            return Array(a.shape[1:], a.values[e * n:(e + 1) * n])

        def formula(input, gate_w, inter_w, inter_b, output_w, output_b):
            out = []
            for row, logits in zip(input.rows(), matmul(input.rows(), gate_w)):
                p = softmax(logits)
                chosen = sorted(range(4), key=lambda e: -p[e])[:2]
                y = [0.0] * 16
                for e in chosen:
                    inner = list(map(gelu_tanh, matmul([row], part(inter_w, e), part(inter_b, e))[0]))
                    for c, v in enumerate(matmul([inner], part(output_w, e), part(output_b, e))[0]):
                        y[c] += v * p[e] / sum(p[c] for c in chosen)
                out.append(y)
            return [out]

        self.in_every_dtype("moe", {"hidden_size": 16, "intermediate_size": 24, "global_experts": 4, "k": 2, "drop_tokens": "false"},
                            {"input": x, "gate_w": gate, "inter_w": w1, "inter_b": b1, "output_w": w2, "output_b": b2}, ["output"],
                            formula, only=["fp32", "fp16", "bf16"])

    def test_the_gates_of_a_mixture_lie_as_its_matrices_do(self):
        files = {"input": self.numbers(5, 16), "gate_w": self.numbers(16, 3), "inter_w": self.numbers(3, 16, 8),
                 "output_w": self.numbers(3, 8, 16), "res_inter_w": self.numbers(16, 8), "res_output_w": self.numbers(8, 16),
                 "res_coef_w": self.numbers(16, 2)}
        keys = {"dtype": "fp32", "hidden_size": 16, "intermediate_size": 8, "global_experts": 3, "mlp_type": "residual", "k": 2}
        one, = self.run_op("moe", keys, files, ["output"])
        turned = {"input": files["input"]}
        for name, a in files.items():
            if name != "input":
                each = a.shape[-2] * a.shape[-1]
                parts = [Array(a.shape[-2:], a.values[i:i + each]).transposed() for i in range(0, len(a.values), each)]
                turned[name] = Array(a.shape[:-2] + a.shape[:-3:-1], [x for part in parts for x in part.values])
        two, = self.run_op("moe", {**keys, "transposed_mode": "true"}, turned, ["output"])
        self.assertEqual(one.values, two.values)
        help_text = subprocess.run([TERN, "op", "moe", "--help"], capture_output=True, timeout=60).stdout
        self.assertIn(b"gate_w and res_coef_w lie as the matrices do", help_text)


if __name__ == "__main__":
    unittest.main()
