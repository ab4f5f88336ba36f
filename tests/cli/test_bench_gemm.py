# labels: quick
"""What bench_gemm says of itself adds up, an answer is whole or told not to be, and what it cannot do it refuses."""
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time

PROGRAM = pathlib.Path(os.environ["TERN_BUILD"]) / "bench_gemm"
CASE = ["--shape", "384x1536", "--dtype", "int8", "--rows", "4", "--ms", "1", "--threads", "1"]


def run(*options):
    return subprocess.run([PROGRAM, *options], capture_output=True, text=True)


def near(a, b):
    return abs(a - b) <= 1e-4 * abs(b)


with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "gemm.json"
    table = run(*CASE, "--below", "--out", str(path))
    assert table.returncode == 0, table.stderr
    assert len(table.stdout.splitlines()) == 3, table.stdout
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["threads"] == 1 and len(written["rows"]) == 1, written
    assert os.listdir(folder) == ["gemm.json"], os.listdir(folder)

    # Whoever is interrupted leaves an older answer as it was.
    older = path.read_bytes()
    process = subprocess.Popen([PROGRAM, "--ms", "300", "--threads", "1", "--rotate", "1", "--rows", "1", "--json", "--out", str(path)],
                               stdout=subprocess.PIPE)
    for _ in range(2):
        assert process.stdout.readline()  # measured, and on its way to the file
    part = path.with_name("gemm.json.part")
    until = time.monotonic() + 60
    while b"seconds" not in part.read_bytes() and time.monotonic() < until:
        time.sleep(0.01)
    assert path.read_bytes() == older
    process.send_signal(signal.SIGINT)
    assert process.wait() == -signal.SIGINT
    process.stdout.close()
    assert path.read_bytes() == older and part.exists()
    table = run(*CASE, "--out", str(path))
    assert table.returncode == 0 and path.read_bytes() != older and os.listdir(folder) == ["gemm.json"], table

    # A link stays, and the file behind it is the one that is replaced; what failed leaves nothing.
    link = path.with_name("link.json")
    link.symlink_to("gemm.json")
    older = path.read_bytes()
    failed = run("--shape", "384x1536", "--rows", "4", "--dtype", "fp32", "--threads", "2000", "--out", str(link))
    assert failed.returncode == 1 and "1024" in failed.stderr and path.read_bytes() == older, failed
    linked = run(*CASE, "--out", str(link))
    assert linked.returncode == 0 and link.is_symlink() and path.read_bytes() != older, linked
    assert sorted(os.listdir(folder)) == ["gemm.json", "link.json"], os.listdir(folder)

answer = run(*CASE, "--json")
assert answer.returncode == 0, answer.stderr
(row,) = json.loads(answer.stdout)["rows"]
assert (row["dtype"], row["k"], row["n"], row["m"]) == ("int8", 384, 1536, 4), row
assert row["low"] <= row["seconds"] <= row["high"], row
assert near(row["ops_per_s"], 2 * 4 * 384 * 1536 / row["seconds"]), row
assert near(row["bytes_per_s"], 384 * 1536 / row["seconds"]), row
assert near(row["of_ops"], row["ops_per_s"] / row["ops_ceiling"]), row
assert near(row["of_read"], row["bytes_per_s"] / row["read_ceiling"]), row
assert near(row["of_roofline"], max(row["of_ops"], row["of_read"])), row
assert near(row["product_of_roofline"], max(row["product_of_ops"], row["product_of_read"])), row
assert row["product_low"] <= row["product_seconds"] <= row["product_high"], row
assert near(row["product_of_ops"] * row["product_seconds"], row["of_ops"] * row["seconds"]), row

answer = run("--shape", "384x1536,1536x384", "--rows", "1,4", "--dtype", "fp32,int8", "--ms", "1", "--rotate", "1", "--json")
assert [(r["dtype"], r["k"], r["m"]) for r in json.loads(answer.stdout)["rows"]] == [
    (d, k, m) for d in ("fp32", "int8") for k in (384, 1536) for m in (1, 4)], answer

lines = run(*CASE, "--csv").stdout.splitlines()
assert len(lines) == 2 and len(lines[0].split(",")) == len(lines[1].split(",")), lines

# An answer that cannot be written is an error, in each form and in each place.
for form in ([], ["--json"], ["--csv"]):
    with open("/dev/full", "w") as full:
        wrong = subprocess.run([PROGRAM, *CASE, *form], stdout=full, stderr=subprocess.PIPE, text=True)
    assert wrong.returncode == 1 and "bench_gemm: cannot write to stdout: No space left" in wrong.stderr, (form, wrong)
for options in (CASE, ["--help"]):
    wrong = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", PROGRAM, *options], stderr=subprocess.PIPE, text=True)
    assert wrong.returncode == 1 and "bench_gemm: cannot write to stdout: Bad file" in wrong.stderr, wrong
wrong = run(*CASE, "--out", "/dev/full")
assert wrong.returncode == 1 and "/dev/full: No space left" in wrong.stderr, wrong

for options, code, text in ((["--rows", "x"], 2, "--rows"), (["--shape", "384"], 2, "--shape"), (["--what"], 2, "--what"),
                            (["--shape", "1x1"], 2, "1x1"), (["--out"], 2, "--out needs a value"),
                            (["--out", ""], 2, "--out takes the name"), ([*CASE, "--rows"], 2, "--rows needs a value"),
                            (["--rows", "1,2"], 2, "'2'"), ([*CASE, "--out", "/nowhere/x"], 1, "/nowhere/x")):
    wrong = run(*options)
    assert wrong.returncode == code and text in wrong.stderr, (options, wrong)
