#!/usr/bin/env python3
# labels: quick
"""Each allocation, mapping and thread of the command fails once: the command says so and exits with 1, or did not need it.

Needs the build's tern_faulty (the command with tests/faults.c in front of malloc); sanitizer builds have none.
"""
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.abspath(os.environ.get("TERN_SOURCE", os.path.join(HERE, "..", "..")))
FAULTY = os.environ.get("TERN_FAULTY")
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
    ("usage", ["run", "--no-such-option"]),
]


def run(arguments, folder, fault=None):
    count = os.path.join(folder, "count")
    env = {**os.environ, "TERN_FAULT_COUNT": count}
    env.pop("TERN_FAULT", None)
    if fault is not None:
        env["TERN_FAULT"] = str(fault)
    work = os.path.join(folder, "work")
    os.makedirs(work, exist_ok=True)
    for name in os.listdir(work):
        os.unlink(os.path.join(work, name))
    p = subprocess.run([FAULTY, *arguments], cwd=work, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    with open(count, encoding="ascii") as f:
        calls = int(f.read())
    return p.returncode, p.stdout, p.stderr, sorted(os.listdir(work)), calls


def check(name, arguments):
    with tempfile.TemporaryDirectory() as folder:
        want, out, _, files, calls = run(arguments, folder)
        failed = 0
        for n in range(calls):
            code, text, error, left, _ = run(arguments, folder, n)
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
