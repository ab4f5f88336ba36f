#!/usr/bin/env python3
# labels: quick
"""Runs each tests/cli/cases/NAME.sh and compares what it shows with NAME.expected.

    TERN=build/tern python3 tests/cli/test_snapshots.py [--rewrite] [NAME ...]

--rewrite writes the files anew: then read the diff.  Paths of this machine are replaced by SOURCE, MODEL, TINY and TMP, the list of
families of models by FAMILIES.
"""
import difflib
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.abspath(os.environ.get("TERN_SOURCE", os.path.join(HERE, "..", "..")))
TERN = os.path.abspath(os.environ.get("TERN", os.path.join(SOURCE, "build", "tern")))
MODEL = os.path.join(SOURCE, "models", "tiny-shakespeare")
TINY = os.path.join(SOURCE, "tests", "golden", "gpt2-tiny-fp32")


def show(name):
    with tempfile.TemporaryDirectory() as tmp:
        tmp = os.path.realpath(tmp)
        work = os.path.join(tmp, "work")
        os.mkdir(work)
        env = {k: v for k, v in os.environ.items() if not k.startswith(("TERN", "HF_"))}
        env.update(TERN=TERN, SOURCE=SOURCE, MODEL=MODEL, TINY=TINY, HOME=tmp, LC_ALL="C", CASES=os.path.join(HERE, "cases"))
        script = f". {HERE}/prelude.sh\n. {HERE}/cases/{name}.sh\n"
        result = subprocess.run(["bash", "-c", script], cwd=work, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, timeout=300)
        text = result.stdout.decode(errors="backslashreplace")
        for path, word in ((MODEL, "MODEL"), (TINY, "TINY"), (SOURCE, "SOURCE"), (tmp, "TMP")):
            text = text.replace(path, word)
        return re.sub(r"families are [a-z0-9_, -]+", "families are FAMILIES", text)


def main():
    rewrite = "--rewrite" in sys.argv
    names = [a for a in sys.argv[1:] if not a.startswith("-")]
    if not names:
        names = sorted(f[:-3] for f in os.listdir(os.path.join(HERE, "cases")) if f.endswith(".sh"))
    failed = 0
    for name in names:
        path = os.path.join(HERE, "cases", name + ".expected")
        got = show(name)
        if rewrite:
            with open(path, "w") as f:
                f.write(got)
            continue
        print("[ RUN      ]", name)
        with open(path) as f:
            expected = f.read()
        print("[       OK ]" if got == expected else "[  FAILED  ]", name)
        if got != expected:
            failed += 1
            sys.stdout.writelines(difflib.unified_diff(expected.splitlines(True), got.splitlines(True), name + ".expected", "got"))
    print(f"{len(names)} cases, {failed} differ")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
