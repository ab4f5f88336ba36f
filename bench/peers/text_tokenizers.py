#!/usr/bin/env python3
"""Tokenizers in turn on the same text: tern, the tokenizers library, and transformers 4's GPT2Tokenizer, which is plain Python.

    text_tokenizers.py BENCH_TOKENIZE FOLDER TEXT [--slow PYTHON] [--seconds N]

FOLDER holds tokenizer.json, and vocab.json and merges.txt for the slow one.  This Python has the tokenizers library; PYTHON is one with
transformers 4 (`pip install 'transformers<5'` in an environment of its own), without which the slow one is left out.  One thread each;
the best of the runs that fit into the time; the slow one reads the first 200 kB.  One line of JSON each, and the ratios.
"""
import argparse
import json
import os
import subprocess
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

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


def best_of(run, seconds):
    best, until, n = 1e9, time.perf_counter() + seconds, 0
    while n < 3 or time.perf_counter() < until:
        begin = time.perf_counter()
        run()
        best, n = min(best, time.perf_counter() - begin), n + 1
    return best


def library(folder, path, seconds):
    import tokenizers

    file = os.path.join(folder, "tokenizer.json")
    with open(path, encoding="utf-8", newline="") as f:
        text = f.read()
    size = len(text.encode())
    tok = tokenizers.Tokenizer.from_file(file)
    tok.no_truncation()
    tok.no_padding()
    ids = tok.encode(text).ids
    figures = {"open_ms": 1e3 * best_of(lambda: tokenizers.Tokenizer.from_file(file), seconds / 3),
               "encode_mb_s": size / best_of(lambda: tok.encode(text), seconds / 3) / 1e6,
               "decode_mb_s": size / best_of(lambda: tok.decode(ids), seconds / 3) / 1e6}
    return {"name": "tokenizers " + tokenizers.__version__, "bytes": size, "tokens": len(ids), **{k: round(v, 2) for k, v in figures.items()}}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench")
    parser.add_argument("folder")
    parser.add_argument("text")
    parser.add_argument("--slow")
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    ours = json.loads(subprocess.run([options.bench, options.folder, options.text, str(options.seconds)], check=True,
                                     stdout=subprocess.PIPE).stdout)
    results = [ours, library(options.folder, options.text, options.seconds)]
    if options.slow:
        results.append(json.loads(subprocess.run([options.slow, "-c", SLOW, options.folder, options.text], check=True,
                                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout))
    if results[1]["tokens"] != ours["tokens"]:
        sys.exit(f"{ours['tokens']} tokens, the library has {results[1]['tokens']}")
    for result in results:
        print(json.dumps(result))
    print(json.dumps({"encode_ratio": {r["name"]: round(ours["encode_mb_s"] / r["encode_mb_s"], 2) for r in results[1:]}}))


if __name__ == "__main__":
    main()
