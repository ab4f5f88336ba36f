#!/usr/bin/env python3
# labels: quick
"""Each allocation, mapping and thread of the command fails once: the command says so and exits with 1, or did not need it.

Needs the build's tern_faulty (the command with tests/faults.c in front of malloc); sanitizer builds have none.
"""
import math
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.abspath(os.environ.get("TERN_SOURCE", os.path.join(HERE, "..", "..")))
FAULTY = os.environ.get("TERN_FAULTY")
GOLDEN = os.path.join(SOURCE, "tests", "golden")
TINY = os.path.join(SOURCE, "tests", "golden", "gpt2-tiny-fp32")
MODEL = os.path.join(SOURCE, "models", "tiny-shakespeare")

CASES = [
    ("logits", ["logits", TINY, "--ids", "1,2,3", "-o", "out.npy", "-q", "--threads", "2"]),
    ("tokenize", ["tokenize", MODEL, "-p", "To be, or not"]),
    ("detokenize", ["detokenize", MODEL, "--ids", "1,2,3"]),
    ("run", ["run", MODEL, "-p", "ROMEO:", "-n", "4", "--temp", "0", "-q", "--threads", "2", "--stop", "zebra"]),
    ("run --json", ["run", MODEL, "-p", "ROMEO:", "-n", "4", "--temp", "0", "--json", "-q", "--logit-bias", "3=1"]),
    ("perplexity", ["perplexity", MODEL, "-p", "To be, or not to be", "--json"]),
    ("info", ["info", MODEL]),
    ("run --trace", ["run", MODEL, "-p", "ROMEO:", "-n", "2", "--temp", "0", "--json", "-q", "--threads", "2", "--trace", "t.json"]),
    ("bench", ["bench", "--shape", "tiny", "--no-ceilings", "--runs", "1", "--contexts", "8", "--decode", "1", "--json", "--threads", "2"]),
    ("bench MODEL", ["bench", TINY, "--no-ceilings", "--runs", "1", "--contexts", "8", "--decode", "1", "--json", "--threads", "1"]),
    ("embed", ["embed", os.path.join(GOLDEN, "sentences", "older"), "-p", "a tern", "-q", "--npy", "v.npy", "--threads", "2"]),
    ("embed --json", ["embed", os.path.join(GOLDEN, "sentences", "activations"), "-p", "a tern", "-q", "--json", "--threads", "1"]),
    ("rerank", ["rerank", os.path.join(GOLDEN, "scores", "cross-saved"), "-p", "a", "-q", "--threads", "2"], b"one\ntwo\n"),
    ("classify", ["classify", os.path.join(GOLDEN, "scores", "classes"), "-p", "a", "-q", "--json", "--threads", "1"]),
    ("classify tokens", ["classify", os.path.join(GOLDEN, "scores", "tags"), "-p", "ab c", "-q", "--json", "--threads", "1"]),
    ("fill", ["fill", os.path.join(GOLDEN, "scores", "fill"), "-p", "ab [MASK] c", "-q", "-n", "2", "--threads", "1"]),
    ("op", ["op", "softmax_context", "--set", "dtype=bf16", "--set", "hidden_size=2", "--set", "heads=1", "--in", "qkv={files}/qkv.npy",
            "--in", "attn_mask={files}/mask.npy", "--in", "past_key={files}/past.npy", "--in", "past_value={files}/past.npy",
            "--out", "output=y.npy", "--out", "key=k.npy", "--threads", "1"]),
    ("op layer", ["op", "layer", "--config", "{files}/config.json", "--in", "input={files}/x.npy", "--in", "norm_w={files}/v.npy",
                  "--in", "attn_nw={files}/v.npy", "--in", "attn_qkvw={files}/qkvw.npy", "--in", "attn_ow={files}/w.npy",
                  "--in", "inter_w={files}/w.npy", "--in", "output_w={files}/w.npy", "--out", "output=y.npy", "--threads", "2"]),
    ("op workspace", ["op", "workspace", "--set", "hidden_size=64", "--set", "heads=4"]),
    ("usage", ["run", "--no-such-option"]),
    ("template", ["template", MODEL, "-f", "{files}/messages.json", "--template", "{files}/t.jinja", "--set", "x=[1]", "--tools", "{files}/messages.json"]),
    ("chat", ["chat", MODEL, "--template", "{files}/t.jinja", "-n", "2", "--temp", "0", "-q", "--threads", "1", "--set", "x=1"],
     b"/load {files}/messages.json\nWho?\n/retry\n/save h.json\n"),
]


def write_files(folder):
    """What the cases of tern op read."""
    for name, descr, shape in (("qkv", "<f4", (2, 3, 6)), ("mask", "|b1", (2, 5)), ("past", "<f4", (2, 1, 2, 2)), ("x", "<f4", (1, 3, 2)),
                               ("v", "<f4", (2,)), ("qkvw", "<f4", (2, 6)), ("w", "<f4", (2, 2))):
        head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape!r}, }}\n"
        size = 1 if descr == "|b1" else 4
        with open(os.path.join(folder, name + ".npy"), "wb") as f:
            f.write(b"\x93NUMPY\x01\0" + len(head).to_bytes(2, "little") + head.encode() + b"\x01" * (size * math.prod(shape)))
    with open(os.path.join(folder, "t.jinja"), "w", encoding="ascii") as f:
        f.write("{% macro f(m) %}{{ m.role ~ ':' }} {{ m.content }}\n{% endmacro %}{% for m in messages %}{{ f(m) }}{% endfor %}{{ [x, tools] | tojson }}")
    with open(os.path.join(folder, "messages.json"), "w", encoding="ascii") as f:
        f.write('[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]')
    with open(os.path.join(folder, "config.json"), "w", encoding="ascii") as f:
        f.write('{"dtype": "fp32", "hidden_size": 2, "heads": 1, "intermediate_size": 2}')


def run(arguments, folder, stdin, fault=None):
    count = os.path.join(folder, "count")
    env = {**os.environ, "TERN_FAULT_COUNT": count}
    env.pop("TERN_FAULT", None)
    if fault is not None:
        env["TERN_FAULT"] = str(fault)
    work = os.path.join(folder, "work")
    os.makedirs(work, exist_ok=True)
    for name in os.listdir(work):
        os.unlink(os.path.join(work, name))
    p = subprocess.run([FAULTY, *arguments], cwd=work, env=env, input=stdin, capture_output=True, timeout=60)
    with open(count, encoding="ascii") as f:
        calls = int(f.read())
    return p.returncode, p.stdout, p.stderr, sorted(os.listdir(work)), calls


def check(name, arguments, stdin=b""):
    with tempfile.TemporaryDirectory() as folder:
        write_files(folder)
        arguments = [a.replace("{files}", folder) for a in arguments]
        stdin = stdin.replace(b"{files}", folder.encode())
        want, out, _, files, calls = run(arguments, folder, stdin)
        failed = int(want != (2 if name == "usage" else 0))
        # What fails while a model is opened is the same in all cases: those with an input begin where that ends.
        first = run(arguments, folder, b"")[-1] - 50 if stdin else 0
        for n in range(first, calls):
            code, text, error, left, _ = run(arguments, folder, stdin, n)
            # What the command can do without (a buffer of the C library) may fail unnoticed; then nothing else changes.
            if "--json" in arguments or arguments[0] == "info":
                same = code == want
            else:
                same = (code, text, left) == (want, out, files)
            told = code == 1 and error.startswith(b"tern: ") and (not files or left == [])
            if not same and not told:
                print(f"{name}: call {n} of {calls} failed: exit {code}, files {left}, {error[-300:]!r}")
                failed += 1
        return failed


def main():
    if not FAULTY:
        print("skipped: faults: the sanitizer owns the allocator")
        return 0
    bad = 0
    for case in CASES:
        print("[ RUN      ]", case[0])
        failed = check(*case)
        print("[  FAILED  ]" if failed else "[       OK ]", case[0])
        bad += failed
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
