#!/usr/bin/env python3
"""Tokenizers in turn on the same text: tern, the tokenizers library, and transformers 4's GPT2Tokenizer, which is plain Python.

    bench/peers/text_tokenizers.py [FOLDER TEXT] [--build build/release] [--library PYTHON] [--slow PYTHON] [--seconds N]

FOLDER holds tokenizer.json, and vocab.json and merges.txt for the slow one; GPT-2's in ../shared/data without it, on English.  The
Pythons, of `make peers-setup`, have the tokenizers library, and transformers 4 (`pip install 'transformers<5'`); who is not there is left
out, and named.  One thread each; the best of the runs that fit into the time; the slow one reads the first 200 kB.  One line of JSON
each, and the ratios.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
LIBRARY = """
import json, sys, time
import tokenizers

def best_of(run, seconds):
    best, until, n = 1e9, time.perf_counter() + seconds, 0
    while n < 3 or time.perf_counter() < until:
        begin = time.perf_counter()
        run()
        best, n = min(best, time.perf_counter() - begin), n + 1
    return best

file, seconds = sys.argv[1] + "/tokenizer.json", float(sys.argv[3])
with open(sys.argv[2], encoding="utf-8", newline="") as f:
    text = f.read()
size = len(text.encode())
tok = tokenizers.Tokenizer.from_file(file)
tok.no_truncation()
tok.no_padding()
ids = tok.encode(text).ids
figures = {"open_ms": 1e3 * best_of(lambda: tokenizers.Tokenizer.from_file(file), seconds / 3),
           "encode_mb_s": size / best_of(lambda: tok.encode(text), seconds / 3) / 1e6,
           "decode_mb_s": size / best_of(lambda: tok.decode(ids), seconds / 3) / 1e6}
print(json.dumps({"name": "tokenizers " + tokenizers.__version__, "bytes": size, "tokens": len(ids),
                  **{k: round(v, 2) for k, v in figures.items()}}))
"""
SLOW = """
import json, sys, time
from transformers import GPT2Tokenizer, __version__
tok = GPT2Tokenizer(sys.argv[1] + "/vocab.json", sys.argv[1] + "/merges.txt")
text = open(sys.argv[2], encoding="utf-8", newline="").read()[:200000]
best = 1e9
for _ in range(3):
    begin = time.perf_counter()
    ids = tok.convert_tokens_to_ids(tok.tokenize(text))
    best = min(best, time.perf_counter() - begin)
print(json.dumps({"name": "transformers " + __version__ + " GPT2Tokenizer (Python)", "bytes": len(text.encode()), "tokens": len(ids),
                  "encode_mb_s": round(len(text.encode()) / best / 1e6, 3)}))
"""


def answer(*command):
    """the last line that a program prints, as JSON"""
    env = dict(os.environ, TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1")
    done = subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    return json.loads(done.stdout.splitlines()[-1])


def tern(build, *arguments):
    """its answer; without one this ends here, with what the program said"""
    program = build / "bench_tokenize"
    if not program.exists():
        sys.exit(f"tern is not built, and ratios are over its time: {program} is not there (make, or --build FOLDER)")
    try:
        return answer(program, *arguments)
    except subprocess.CalledProcessError as error:
        sys.exit(error.stderr.decode(errors="replace").strip() or f"{program}: ended with {error.returncode}")


def peer(python, script, name, *arguments):
    try:
        return [answer(python, "-c", script, *arguments)]
    except (OSError, subprocess.CalledProcessError):
        print(f"{name}: left out, {python} does not have it", file=sys.stderr)
        return []


def main():
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=DATA / "tokenizers" / "gpt2")
    parser.add_argument("text", nargs="?", type=pathlib.Path, default=DATA / "text" / "tinyshakespeare.txt")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release")
    parser.add_argument("--library", default=ROOT / "build" / "peers" / "bin" / "python")
    parser.add_argument("--slow", default=ROOT / "build" / "peers-slow" / "bin" / "python")
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    what = (options.folder, options.text)
    for path in what:
        if not path.exists():  # an error if it was asked for
            print(f"tokenizers: left out, {path} is not here", file=sys.stderr)
            sys.exit(0 if DATA in path.parents else 1)
    ours = tern(options.build, *what, options.seconds)
    library = peer(options.library, LIBRARY, "the tokenizers library", *what, options.seconds)
    slow = peer(options.slow, SLOW, "transformers 4", *what)
    if library and library[0]["tokens"] != ours["tokens"]:
        sys.exit(f"{ours['tokens']} tokens, the library has {library[0]['tokens']}")
    for result in [ours, *library, *slow]:
        print(json.dumps(result))
    print(json.dumps({"encode_ratio": {r["name"]: round(ours["encode_mb_s"] / r["encode_mb_s"], 2) for r in [*library, *slow]}}))


if __name__ == "__main__":
    main()
