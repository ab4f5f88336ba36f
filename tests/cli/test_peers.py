# labels: quick
"""bench/peers: what run.py cannot do it refuses before anything is measured, its answers are whole, and its helpers say what starts them."""
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(os.environ.get("TERN_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
PEERS = SOURCE / "bench/peers"
TERN_BUILD = os.environ["TERN_BUILD"]
sys.dont_write_bytecode = True  # in the source tree
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


def run(script, *options, status):
    done = subprocess.run([sys.executable, PEERS / script, *options], capture_output=True, text=True, timeout=60)
    assert done.returncode == status and "Traceback" not in done.stderr, (options, done)
    return done


for options, text in ((["--work", "nope"], "--work: 'nope' is none of gemm, rows, attention, mlp, bert"), (["--rounds", "0"], "got '0', expected 1 to"),
                      (["--rounds", "-1"], "got '-1', expected 1 to"), (["--only", "torch,nope"], "'nope' is none of tern, openblas"),
                      (["--shape", "1x1"], "got '1x1', expected K up to"), (["--shape", "768"], "got '768', expected KxN"),
                      (["--threads", "99999"], "got '99999', expected 1 to"), (["--threads", "0"], "got '0', expected 1 to"),
                      (["--dtype", "fp64"], "'fp64' is none of fp32, bf16, int8"), (["--dtype", ""], "got no word"),
                      (["--rows", "1,0"], "got '0', expected 1 to"), (["--op", "x"], "'x' is none of layer_norm"), (["--ms", "nan"], "got 'nan'")):
    wrong = run("run.py", *options, status=2)
    assert text in wrong.stderr and wrong.stdout == "", (options, wrong)

with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    for work, needs in (("gemm", "libtern.so"), ("bert", "tern")):
        wrong = run("run.py", "--work", work, "--build", name, "--out", folder / "peers.json", status=1)
        assert f"tern is not built, and ratios are over its time: {folder / needs} is not there" in wrong.stderr, wrong
    (folder / "tern").touch()
    wrong = run("run.py", "--work", "bert", "--build", name, "--out", folder / "nowhere/peers.json", status=1)
    assert "nowhere/peers.json, expected a file in a folder that is there" in wrong.stderr and os.listdir(name) == ["tern"], wrong

    # An answer that is cut off is named, and what is written takes its place whole.
    path = folder / "peers.json"
    path.write_text('{"gemm": [', encoding="utf-8")
    said = run("run.py", "--work", "", "--out", path, status=1).stderr
    assert f"{path} is not JSON: left out (" in said and path.read_text(encoding="utf-8") == '{"gemm": [', said
    spec = importlib.util.spec_from_file_location("peers_run", PEERS / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    link = folder / "link.json"
    link.symlink_to(path)
    answer = {"processor": "any"}
    for seconds in (1, 2):
        module.keep(link, answer, "gemm", {"m": 1, "seconds": seconds}, ("m",))
    assert json.loads(path.read_text(encoding="utf-8")) == {"processor": "any", "gemm": [{"m": 1, "seconds": 2}]}
    assert link.is_symlink() and sorted(os.listdir(name)) == ["link.json", "peers.json", "tern"], os.listdir(name)
    try:
        module.keep(pathlib.Path("/dev/full"), {}, "gemm", {"m": 1}, ("m",))
        raise AssertionError("/dev/full took an answer")
    except module.Gone as gone:
        assert "/dev/full: cannot be written: No space left" in str(gone), gone
    assert module.read(path) == (answer, True) and module.read(folder / "none.json") == ({}, True)

    text = folder / "words.txt"
    text.write_text("Some words.\n", encoding="utf-8")
    gpt2 = SOURCE / "tests/golden/text/gpt2"
    assert "bench_tokenize is not there" in run("text_tokenizers.py", gpt2, text, "--build", name, status=1).stderr
    assert f"bench_tokenize: {folder} has no tokenizer" in run("text_tokenizers.py", folder, text, "--build", TERN_BUILD, status=1).stderr
    assert f"{folder / 'none'} is not here" in run("text_tokenizers.py", folder / "none", text, "--build", TERN_BUILD, status=1).stderr

for script in ("bert_torch.py", "gemm_onnxruntime.py", "gemm_torch.py", "llama_cpp_python.py", "ops_torch.py"):
    helped = run(script, "--help", status=0)
    assert f"{script} is started by run.py" in helped.stdout and helped.stderr == "", helped
    assert f"{script} is started by run.py" in run(script, status=2).stderr
