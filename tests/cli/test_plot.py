# labels: quick
"""bench/plot.py draws each of the answers that the programs of bench/ write, as PNG and SVG, whatever the others are; without matplotlib it says
what installs it, and there is no more to test."""
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(os.environ.get("TERN_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
PLOT = SOURCE / "bench/plot.py"

with tempfile.TemporaryDirectory() as folder:
    (pathlib.Path(folder) / "matplotlib.py").write_text("raise ImportError\n", encoding="utf-8")
    without = os.environ | {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
    wrong = subprocess.run([sys.executable, PLOT, "--out", folder], capture_output=True, text=True, env=without)
    assert wrong.returncode == 1 and "make peers-setup" in wrong.stderr and "Traceback" not in wrong.stderr, wrong
    assert subprocess.run([sys.executable, PLOT, "--help"], capture_output=True, env=without).returncode == 0

if not importlib.util.find_spec("matplotlib"):
    print("[ RUN      ] plots\nskipped: matplotlib is not there\n[  SKIPPED ] plots")
    sys.exit(0)

TERN = {"version": "0.1.0", "isa": "avx512", "threads": 1}
TIMES = {"seconds": 2e-4, "low": 1e-4, "high": 3e-4}
PEERS = {"tern 0.1.0": TIMES | {"ratio": 1, "ratio_low": 1, "ratio_high": 1}, "other 1.0": TIMES | {"ratio": 2, "ratio_low": 1.5, "ratio_high": 4}}
CEILINGS = {"ops_ceiling": 2e11, "read_ceiling": None}  # memory was short
ANSWERS = {
    "gemm": TERN | {"rows": [{"dtype": "fp32", "k": 384, "n": 1536, "m": m} | TIMES | CEILINGS for m in (1, 16)]},
    "rows": TERN | {"rows": [{"op": "softmax", "dtype": d, "rows": 512, "width": 768, "of_copy": 0.9} | TIMES for d in ("fp32", "bf16")]},
    "mlp": TERN | {"rows": [{"what": w, "dtype": "int8", "h": 768, "i": 3072, "m": 16, "ratio": 1.1, "ratio_low": 1, "ratio_high": 1.3} | TIMES
                            for w in ("gelu", "block")]},
    "attention": TERN | {"rows": [{"what": w, "dtype": "bf16", "heads": 12, "kv_heads": 12, "length": n, "causal": 1, "ops_per_s": 2e11,
                                   "of_read": 0.9} | TIMES for w in ("prompt", "store", "plain", "decode") for n in (128, 512)]},
    "peers": {
        "processor": "any",
        "gemm": [{"dtype": "bf16", "k": 384, "n": 1536, "m": 1, "threads": t, "results": PEERS} | CEILINGS for t in (1, 2)],
        "ops": [{"op": "attention", "dtype": "fp32", "size": "128 full", "threads": 1, "results": PEERS}],
        "models": [{"shape": "bert-base", "what": "forward", "dtype": "fp32", "tokens": 128, "threads": 1, "results": PEERS}],
    },
}
DRAWN = {"gemm", "rows", "mlp", "attention", "peers-gemm", "peers-ratio", "peers-gemm-2-threads", "peers-ratio-2-threads", "peers-ops", "peers-models"}


def plot(source, out, status=0):
    made = subprocess.run([sys.executable, PLOT, "--from", source, "--out", out], capture_output=True, text=True,
                          env=os.environ | {"MPLCONFIGDIR": str(out)})
    assert made.returncode == status and "Traceback" not in made.stderr, made.stderr
    return made.stderr


with tempfile.TemporaryDirectory() as folder:
    source, out = pathlib.Path(folder) / "answers", pathlib.Path(folder) / "plots"
    source.mkdir()
    assert plot(source, out).count("is not there: left out") == len(ANSWERS)
    for name, answer in ANSWERS.items():
        (source / f"{name}.json").write_text(json.dumps(answer), encoding="utf-8")
    plot(source, out)
    for kind, begin in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        drawn = {p.stem: p.read_bytes() for p in out.glob("*" + kind)}
        assert set(drawn) == DRAWN, set(drawn) ^ DRAWN
        assert all(data.startswith(begin) and len(data) > 2000 for data in drawn.values())

    # What was cut off, or is something else, is named, and the others are drawn.
    for path in out.glob("*.*"):
        path.unlink()
    (source / "gemm.json").write_text(json.dumps(ANSWERS["gemm"])[:-20], encoding="utf-8")
    (source / "mlp.json").write_text("[1, 2]", encoding="utf-8")
    said = plot(source, out, status=1)
    assert f"{source}/gemm.json is not JSON: left out (" in said and f"{source}/mlp.json is no answer" in said, said
    assert {p.stem for p in out.glob("*.png")} == DRAWN - {"gemm", "mlp"}
    (source / "peers.json").write_bytes(b"\xff")
    said = plot(source, out, status=1)
    assert f"{source}/peers.json is not JSON: left out (" in said, said
