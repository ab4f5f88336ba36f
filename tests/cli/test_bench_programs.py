# labels: quick
"""Each program of bench/ that shares bench.h: what it says adds up in all three forms, and what it cannot do it refuses; the other two:
an answer that cannot be written is an error, and help is none."""
import json
import os
import pathlib
import subprocess
import tempfile

BUILD = pathlib.Path(os.environ["TERN_BUILD"])
SOURCE = pathlib.Path(os.environ.get("TERN_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
TINY = ["--ms", "1", "--rotate", "1", "--threads", "1"]
CASES = {  # the smallest case, its figures by name, and a case that there is not
    "bench_rows": (["--op", "layer_norm", "--shape", "512x768", "--dtype", "bf16"],
                   {"op": "layer_norm", "dtype": "bf16", "rows": 512, "width": 768}, ["--op", "none"]),
    "bench_mlp": (["--what", "block", "--shape", "768x3072", "--dtype", "int8", "--rows", "1"],
                  {"what": "block", "dtype": "int8", "h": 768, "i": 3072, "m": 1}, ["--shape", "1x1"]),
    "bench_attention": (["--what", "store", "--length", "128", "--dtype", "bf16"], {"what": "store", "dtype": "bf16", "length": 128},
                        ["--length", "1"]),
}


def run(program, *options):
    return subprocess.run([BUILD / program, *options], capture_output=True, text=True)


def near(a, b):
    return abs(a - b) <= 1e-4 * abs(b)


for program, (case, wanted, nothing) in CASES.items():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "answer.json"
        table = run(program, *TINY, *case, "--out", str(path))
        assert table.returncode == 0 and table.stderr == "", table.stderr
        assert len(table.stdout.splitlines()) == 3, table.stdout
        written = json.loads(path.read_text(encoding="utf-8"))
    assert written["bench"] == program and written["threads"] == 1 and written["rotate_bytes"] == 1 << 20, written
    (row,) = written["rows"]
    assert {name: row[name] for name in wanted} == wanted, row
    assert 0 < row["low"] <= row["seconds"] <= row["high"], row
    if program == "bench_rows":
        assert near(row["bytes_per_s"], 2 * 512 * 768 * 2 / row["seconds"]), row
        assert row["of_copy_low"] <= row["of_copy"] <= row["of_copy_high"], row
    elif program == "bench_mlp":
        assert near(row["ops_per_s"], 2 * 2 * 768 * 3072 / row["seconds"]), row
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"], row

    if program != "bench_rows":
        for name, rate, ceiling in (("of_ops", "ops_per_s", "ops_ceiling"), ("of_read", "bytes_per_s", "read_ceiling")):
            known = row[rate] is not None and row[ceiling] is not None  # storing multiplies nothing; memory may be short
            assert near(row[name], row[rate] / row[ceiling]) if known else row[name] is None, row

    lines = run(program, *TINY, *case, "--csv").stdout.splitlines()
    assert len(lines) == 2 and len(lines[0].split(",")) == len(lines[1].split(",")) == len(row), lines

    with open("/dev/full", "w") as full:
        wrong = subprocess.run([BUILD / program, *TINY, *case], stdout=full, stderr=subprocess.PIPE, text=True)
    assert wrong.returncode == 1 and f"{program}: cannot write to stdout" in wrong.stderr, wrong

    for options, code, text in ((["--threads", "x"], 2, "--threads"), (["--what-not"], 2, "--what-not"),
                                ([*TINY, *nothing], 2, nothing[1]), ([*TINY, nothing[0], ""], 2, nothing[0]), ([*case, "--out", "/nowhere/x"], 1, "/nowhere/x")):
        wrong = run(program, *options)
        assert wrong.returncode == code and text in wrong.stderr and wrong.stdout == "", (options, wrong)

for program in ("bench_tokenize", *(["bench_comm"] if (BUILD / "bench_comm").exists() else [])):  # which needs Open MPI
    helped = run(program, "--help")
    assert helped.returncode == 0 and "usage: " in helped.stdout and helped.stderr == "", helped
    with open("/dev/full", "w") as full:
        wrong = subprocess.run([BUILD / program, "--help"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert wrong.returncode == 1 and f"{program}: cannot write to stdout" in wrong.stderr, wrong

with tempfile.NamedTemporaryFile("w", suffix=".txt") as text:
    text.write("Some words.\n" * 100)
    text.flush()
    work = [SOURCE / "tests/golden/text/gpt2", text.name, "0.01"]
    answer = run("bench_tokenize", *work)
    assert answer.returncode == 0 and json.loads(answer.stdout)["bytes"] == 1200, answer
    with open("/dev/full", "w") as full:
        wrong = subprocess.run([BUILD / "bench_tokenize", *work], stdout=full, stderr=subprocess.PIPE, text=True)
    assert wrong.returncode == 1 and "bench_tokenize: cannot write to stdout" in wrong.stderr, wrong
wrong = run("bench_tokenize")
assert wrong.returncode == 2 and "usage: " in wrong.stderr and wrong.stdout == "", wrong

with tempfile.TemporaryDirectory() as folder:
    wrong = subprocess.run(["bash", SOURCE / "tools/bench.sh", folder], capture_output=True, text=True)
    assert wrong.returncode == 1 and f"'{folder}' has none of tern's programs" in wrong.stderr and wrong.stdout == "", wrong
