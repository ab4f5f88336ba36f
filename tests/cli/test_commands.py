#!/usr/bin/env python3
# labels: quick
"""The tern command from outside: goldens, threads and instruction sets, signals, files, the README's program.

    TERN=build/tern python3 tests/cli/test_commands.py [-v] [Class.test]

Only Python's standard library.  What is printed word for word is in cases/ (test_snapshots.py).
"""
import csv
import fcntl
import json
import math
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import catching

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.abspath(os.environ.get("TERN_SOURCE", os.path.join(HERE, "..", "..")))
TERN = os.path.abspath(os.environ.get("TERN", os.path.join(SOURCE, "build", "tern")))
BUILD = os.path.abspath(os.environ.get("TERN_BUILD", os.path.dirname(os.path.realpath(TERN))))
MODEL = os.path.join(SOURCE, "models", "tiny-shakespeare")
GOLDEN = os.path.join(SOURCE, "tests", "golden")
TINY = os.path.join(GOLDEN, "gpt2-tiny-fp32")
TEXT = os.path.join(SOURCE, "..", "shared", "data", "text", "tinyshakespeare.txt")
PROMPT = "ROMEO:\nBut soft, what light"


def read(*path, mode="r"):
    with open(os.path.join(*path), mode) as f:
        return f.read()


def environment(**extra):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("TERN", "HF_"))}
    env["TERN_TUNE"] = "off"
    env.update(extra)
    return env


def tern(*args, code=0, stdin=b"", env=None, timeout=100, **more):
    """Runs tern; its stdout.  stderr is kept in tern.stderr."""
    r = subprocess.run([TERN, *map(str, args)], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       env=env or environment(), timeout=timeout, **more)
    tern.stderr = r.stderr.decode()
    assert r.returncode == code, f"exit {r.returncode}, expected {code}: tern {' '.join(map(str, args))}\n{tern.stderr}"
    return r.stdout


def run_json(*args, **more):
    return json.loads(tern("run", *args, "--json", **more))


def read_npy(path):
    """Shape and values of a float32 file in NumPy's format 1.0, by the format's description."""
    data = read(path, mode="rb")
    assert data[:8] == b"\x93NUMPY\x01\x00"
    n = struct.unpack("<H", data[8:10])[0]
    assert (10 + n) % 64 == 0 and data[9 + n:10 + n] == b"\n"
    m = re.fullmatch(r"\{'descr': '<f4', 'fortran_order': False, 'shape': \((\d+), (\d+)\), \} *\n", data[10:10 + n].decode())
    rows, columns = int(m[1]), int(m[2])
    assert len(data) == 10 + n + 4 * rows * columns
    values = struct.unpack(f"<{rows * columns}f", data[10 + n:])
    return [values[i * columns:(i + 1) * columns] for i in range(rows)]


def read_safetensors(path, name):
    data = read(path, mode="rb")
    n = struct.unpack("<Q", data[:8])[0]
    entry = json.loads(data[8:8 + n])[name]
    begin, end = entry["data_offsets"]
    values = struct.unpack(f"<{(end - begin) // 4}f", data[8 + n + begin:8 + n + end])
    columns = entry["shape"][-1]
    return [values[i:i + columns] for i in range(0, len(values), columns)]


class InFolder(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.tmp)

    def path(self, name):
        return os.path.join(self.tmp, name)


class Goldens(InFolder):
    def test_builtin_greedy_ids_are_transformers_ids(self):
        golden = json.loads(read(GOLDEN, "builtin", "golden.json"))
        for text, prompt, ids, answer in zip(golden["texts"], golden["prompts"], golden["greedy"], golden["greedy_texts"]):
            got = run_json("-p", text, "-n", len(ids), "--temp", 0, "--repeat-penalty", 1, "--ignore-eos")
            self.assertEqual(got["prompt_ids"], prompt)
            self.assertEqual(got["ids"], ids)
            self.assertEqual(got["text"], answer)
            self.assertEqual(got["finish_reason"], "length")

    def test_logits_are_transformers_logits(self):
        for model in (TINY, os.path.join(GOLDEN, "gpt2-tiny-bf16")):
            golden = json.loads(read(model, "golden.json"))
            for i, prompt in enumerate(golden["prompts"]):
                tern("logits", model, "--dtype", "fp32", "--ids", ",".join(map(str, prompt)), "-o", self.path("x.npy"))
                got = read_npy(self.path("x.npy"))
                expected = read_safetensors(os.path.join(model, "golden.safetensors"), f"logits.{i}")
                self.assertEqual((len(got), len(got[0])), (len(prompt), 131))
                worst = max(abs(a - b) for x, y in zip(got, expected) for a, b in zip(x, y))
                self.assertLessEqual(worst, golden["tolerance"])

    def test_logits_of_text_and_of_its_ids_are_one_file(self):
        ids = json.loads(tern("tokenize", MODEL, "-p", PROMPT))["ids"]
        tern("logits", MODEL, "-p", PROMPT, "-o", self.path("a.npy"))
        tern("logits", MODEL, "--ids", ",".join(map(str, ids)), "-o", self.path("b.npy"))
        self.assertEqual(read(self.path("a.npy"), mode="rb"), read(self.path("b.npy"), mode="rb"))
        self.assertEqual(len(read_npy(self.path("a.npy"))), len(ids))
        self.assertEqual(sorted(os.listdir(self.tmp)), ["a.npy", "b.npy"])


class OneAnswer(unittest.TestCase):
    def test_same_text_for_threads_and_instruction_sets(self):
        args = ("run", "-p", PROMPT, "-n", 60, "--temp", 0.9, "--seed", 5, "-q")
        expected = tern(*args)
        for cpu in ("portable", "neon", "neondot", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16"):
            env = environment(TERN_CPU=cpu)
            if subprocess.run([TERN, "--version"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
                continue            # a level that this machine does not have
            self.assertIn(f"in use: {cpu}\n", tern("--version", env=env).decode())
            for threads in (1, 2, 3):
                self.assertEqual(tern(*args, "--threads", threads, env=env), expected, (cpu, threads))

    def test_a_seed_repeats_and_another_differs(self):
        a, b, c = (tern("run", "-p", PROMPT, "-n", 40, "--temp", 1, "--seed", s, "-q") for s in (1, 1, 2))
        self.assertEqual(a, b)
        self.assertNotEqual(a, c)


class Dtype(InFolder):
    def logits(self, name, *args):
        tern("logits", os.path.join(GOLDEN, name), "--ids", "5,100,7,7,0,130,64", "-o", self.path("x.npy"), *args)
        return read(self.path("x.npy"), mode="rb")

    def test_auto_is_the_default_and_has_the_bits_of_fp32(self):
        for name in ("gpt2-tiny-fp32", "gpt2-tiny-fp16", "gpt2-tiny-bf16"):
            wide = self.logits(name, "--dtype", "fp32")
            self.assertEqual(self.logits(name), wide)
            self.assertEqual(self.logits(name, "--dtype", "auto"), wide)
            self.assertNotEqual(self.logits(name, "--dtype", "bf16"), wide)
        self.assertEqual(self.logits("gpt2-tiny-fp16", "--dtype=fp16"), self.logits("gpt2-tiny-fp16"))

    def test_every_command_takes_it(self):
        for dtype in ("auto", "fp32", "bf16", "fp16"):
            self.assertEqual(len(run_json("-p", PROMPT, "-n", 5, "--temp", 0, "--dtype", dtype)["ids"]), 5)
            bits = json.loads(tern("perplexity", MODEL, "-p", PROMPT, "--json", "--dtype", dtype))["bits_per_byte"]
            self.assertTrue(0 < bits < 10)
            got = json.loads(tern("info", MODEL, "--json", "--dtype", dtype))
            weights = "fp16" if dtype == "auto" else dtype
            self.assertEqual((got["model"]["dtype"], got["model"]["opened_as"], got["model"]["weight_dtype"]),
                             ("fp16", dtype, weights))
            self.assertEqual(got["model"]["product_dtype"], "bf16" if dtype == "bf16" else "fp32")
            share = got["memory"]["weight_bytes"] / got["memory"]["file_bytes"]
            self.assertTrue(2 <= share < 2.1 if dtype == "fp32" else 1 <= share < 1.1, share)

    def test_bits_of_bf16_do_not_depend_on_threads(self):
        one = self.logits("gpt2-tiny-bf16", "--dtype", "bf16", "--threads", 1)
        for threads in (2, 3):
            self.assertEqual(self.logits("gpt2-tiny-bf16", "--dtype", "bf16", "--threads", threads), one)


class Run(InFolder):
    def test_stdout_is_the_continuation_alone(self):
        args = ("-p", PROMPT, "-n", 30, "--temp", 0)
        plain = tern("run", *args)
        self.assertRegex(tern.stderr, r"^load [\d.]+ s, prefill \d+ tokens at [\d.]+ tokens/s, decode \d+ tokens at [\d.]+ "
                                      r"tokens/s, \d+ threads? \((option|affinity mask|cgroup quota|physical cores)\), "
                                      r"(portable|avx2|avx512(vnni|bf16)?)\n$")
        self.assertEqual(plain.decode(), run_json(*args)["text"])
        self.assertEqual(tern.stderr, "")
        self.assertEqual(tern("run", *args, "--echo", "-q"), PROMPT.encode() + plain)
        self.assertEqual(tern.stderr, "")
        self.assertEqual(tern("run", MODEL, *args, "-q"), plain)
        self.assertEqual(tern("run", "--temp=0", "-n30", f"--prompt={PROMPT}", "-q", "--", MODEL), plain)
        self.assertEqual(tern("run", "-n", 30, "--temp", 0, "-q", stdin=PROMPT.encode()), plain)
        with open(self.path("prompt"), "w") as f:
            f.write(PROMPT)
        self.assertEqual(tern("run", "-f", f.name, "-n", 30, "--temp", 0, "-q"), plain)
        tern("run", *args, "--threads", 2)
        self.assertIn("2 threads (option)", tern.stderr)

    def test_json_object(self):
        got = run_json("-p", PROMPT, "-n", 9, "--temp", 0)
        self.assertEqual(list(got), ["prompt_ids", "ids", "text", "finish_reason", "timing"])
        self.assertEqual(list(got["timing"]), ["load_s", "prefill_tokens", "prefill_tokens_per_s", "decode_tokens",
                                               "decode_tokens_per_s", "peak_rss_bytes"])
        self.assertTrue(all(v > 0 for v in got["timing"].values()), got["timing"])
        self.assertEqual(got["timing"]["prefill_tokens"], len(got["prompt_ids"]))
        self.assertEqual(len(got["ids"]), 9)
        got = run_json("-p", PROMPT, "-n", 9, "--temp", 0, "--logprobs")
        self.assertEqual(len(got["logprobs"]), 9)
        self.assertTrue(all(-30 < p <= 0 for p in got["logprobs"]))

    def test_without_n_until_end_of_text_or_a_full_context(self):
        context = json.loads(read(MODEL, "config.json"))["n_positions"]
        got = run_json("-p", PROMPT, "--temp", 0, "--ignore-eos")
        self.assertEqual(len(got["prompt_ids"]) + len(got["ids"]), context)
        self.assertEqual(got["finish_reason"], "length")
        got = run_json("-p", PROMPT, "--temp", 0, "--logit-bias", "0=1000")       # end-of-text is certain
        self.assertEqual((got["ids"], got["text"], got["finish_reason"]), ([], "", "stop"))

    def test_a_seed_is_drawn_and_reported(self):
        args = ("run", "-p", PROMPT, "-n", 30, "--temp", 1)
        text = tern(*args)
        seed = re.match(r"seed (\d+), load ", tern.stderr)[1]
        self.assertEqual(tern(*args, "--seed", seed, "-q"), text)
        got = run_json(*args[1:])
        self.assertEqual(tern(*args, "--seed", re.fullmatch(r"seed (\d+)\n", tern.stderr)[1], "-q").decode(), got["text"])

    def test_stop_strings(self):
        full = run_json("-p", PROMPT, "-n", 60, "--temp", 0, "--ignore-eos")["text"]
        at = full.index(" ", 20)
        stop = full[at - 3:at + 3]                          # across a token's border
        got = run_json("-p", PROMPT, "-n", 60, "--temp", 0, "--ignore-eos", "--stop", "not in there", "--stop", stop)
        self.assertEqual((got["text"], got["finish_reason"]), (full[:full.index(stop)], "stop"))
        self.assertEqual(tern("run", "-p", PROMPT, "-n", 60, "--temp", 0, "--ignore-eos", "--stop", stop, "-q").decode(),
                         got["text"])

    def test_biases_and_penalties_reach_the_sampler(self):
        args = ("-p", PROMPT, "-n", 12, "--temp", 0)
        self.assertEqual(run_json(*args, "--logit-bias", "77=1000")["ids"], [77] * 12)
        ids = run_json(*args, "--logit-bias", "77=1000", "--logit-bias", "77,77,78=2000")["ids"]
        self.assertEqual(ids, [77, 77, 78] + [77, 77, 78] * 3)
        ids = run_json(*args, "--logit-bias", "77=10000", "--logit-bias", "78=9000", "--presence-penalty", 5000)["ids"]
        self.assertEqual(ids, [77, 78] + [77] * 10)
        ids = run_json(*args, "--logit-bias", "77=10000", "--logit-bias", "78=9900", "--frequency-penalty", 200)["ids"]
        self.assertEqual(ids, [77, 78] * 6)
        ids = run_json(*args, "--logit-bias", "77=1000", "--logit-bias", "78=600", "--repeat-penalty", 3)["ids"]
        self.assertEqual(ids[:2], [77, 78])
        greedy = run_json(*args)["ids"]
        for narrow in (("--top-k", 1), ("--top-p", 1e-6), ("--min-p", 1)):
            self.assertEqual(run_json(*args[:-1], 2, "--seed", 3, "--top-k", 0, *narrow)["ids"], greedy, narrow)

    def test_options_without_effect_are_told(self):
        tern("run", "-p", PROMPT, "-n", 1, "--temp", 0, "--top-k", 4)
        self.assertIn("the choice is greedy, so --top-k changes nothing", tern.stderr)

    def test_logprobs_on_stderr(self):
        got = run_json("-p", PROMPT, "-n", 5, "--temp", 0, "--logprobs")
        tern("run", "-p", PROMPT, "-n", 5, "--temp", 0, "--logprobs", "-q")
        lines = [line.split("\t") for line in tern.stderr.splitlines()]
        self.assertEqual([int(line[0]) for line in lines], got["ids"])
        self.assertEqual("".join(json.loads(line[2]) for line in lines), got["text"])
        for line, p in zip(lines, got["logprobs"]):
            self.assertAlmostEqual(float(line[1]), p, places=5)

    def test_text_streams(self):
        with subprocess.Popen([TERN, "run", "-p", PROMPT, "-q", "--ignore-eos"], stdout=subprocess.PIPE, env=environment()) as p:
            pieces = []
            while piece := os.read(p.stdout.fileno(), 65536):
                pieces.append(piece)
        self.assertEqual(p.returncode, 0)
        self.assertGreater(len(pieces), 5)


class Signals(InFolder):
    def start(self, *args, **more):
        return catching.started(subprocess.Popen([TERN, *args], stderr=subprocess.PIPE, env=environment(TERN_CPU="portable"), **more))

    def finish(self, process, code):
        out, err = process.communicate(timeout=120)
        self.assertEqual((process.returncode, err), (code, b""))
        return out

    def test_ctrl_c_while_generating(self):
        args = ("run", "-p", PROMPT, "--temp", "0", "--ignore-eos", "-q", "--threads", "1")
        full = tern(*args)
        p = self.start(*args, stdout=subprocess.PIPE)
        first = os.read(p.stdout.fileno(), 65536)
        p.send_signal(signal.SIGINT)
        text = first + self.finish(p, 130)
        self.assertTrue(full.startswith(text))
        self.assertLess(len(text), len(full))

    def test_ctrl_c_with_json_gives_what_there_is(self):
        for delay in (0, 0.05, 0.1, 0.2):       # somewhere between loading and the end
            p = self.start("run", "-p", PROMPT, "--ignore-eos", "--json", "-q", "--threads", "1", stdout=subprocess.PIPE)
            time.sleep(delay)
            p.send_signal(signal.SIGINT)
            out, err = p.communicate(timeout=120)
            self.assertEqual(err, b"")
            self.assertIn(p.returncode, (0, 130))
            if out:
                self.assertIn(json.loads(out)["finish_reason"], ("cancelled", "length"))

    def test_ctrl_c_while_reading_stdin(self):
        for command in (["run"], ["tokenize", MODEL], ["logits", MODEL, "-o", self.path("x.npy")], ["perplexity", MODEL]):
            p = self.start(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            time.sleep(0.3)
            p.send_signal(signal.SIGINT)
            p.wait(timeout=120)
            self.assertEqual(self.finish(p, 130), b"", command)
        self.assertEqual(os.listdir(self.tmp), [])

    def test_ctrl_c_while_writing(self):
        reader, writer = os.pipe()
        size = fcntl.fcntl(writer, 1031, 4096)              # F_SETPIPE_SZ
        os.write(writer, b"x" * size)                       # full: the first piece of text does not fit
        p = self.start("run", "-p", PROMPT, "-q", stdout=writer)
        time.sleep(1)
        p.send_signal(signal.SIGINT)
        p.wait(timeout=120)
        os.close(reader)
        os.close(writer)
        self.finish(p, 130)

    def test_ctrl_c_while_measuring(self):
        with open(self.path("text"), "w") as f:
            f.write("To be, or not to be: that is the question.\n" * 20000)
        p = self.start("perplexity", MODEL, "-f", f.name, stdout=subprocess.PIPE)
        time.sleep(1)
        p.send_signal(signal.SIGINT)
        self.assertEqual(self.finish(p, 130), b"")

    def test_terminate_is_143(self):
        p = self.start("run", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        time.sleep(0.3)
        p.terminate()
        p.wait(timeout=120)
        self.finish(p, 143)

    def test_a_closed_pipe_is_a_failure_without_noise(self):
        for args in (("run", "-p", PROMPT, "--ignore-eos"), ("run", "-p", PROMPT, "--json"), ("info",),
                     ("logits", TINY, "--ids", "1,2,3", "-o", "-")):
            reader, writer = os.pipe()
            os.close(reader)
            p = self.start(*args, stdout=writer)
            os.close(writer)
            self.finish(p, 1)


class Terminal(unittest.TestCase):
    def terminal(self):
        try:
            return pty.openpty()
        except OSError as error:  # a container without /dev/pts
            print(f"skipped: no terminal can be opened: {error}")
            self.skipTest("no terminal can be opened")

    def test_progress_bar_while_loading(self):
        leader, follower = self.terminal()
        p = subprocess.Popen([TERN, "run", "-p", PROMPT, "-n", "2", "--temp", "0"], stdout=subprocess.DEVNULL, stderr=follower,
                             env=environment())
        os.close(follower)
        seen = b""
        try:
            while piece := os.read(leader, 4096):
                seen += piece
        except OSError:             # the terminal's other end is closed
            pass
        os.close(leader)
        self.assertEqual(p.wait(timeout=120), 0)
        self.assertIn(b"\rloading [", seen)
        self.assertIn(b"\r\x1b[Kload ", seen)

    def test_a_prompt_is_missing(self):
        leader, follower = self.terminal()
        p = subprocess.run([TERN, "run"], stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
                           timeout=120)
        os.close(leader)
        os.close(follower)
        self.assertEqual((p.returncode, p.stdout), (2, b""))
        self.assertEqual(p.stderr, b"tern: run wants a text: -p TEXT, -f FILE, or something on stdin\n")


class Perplexity(InFolder):
    def windows(self, ids, n_ctx):
        """Sum of -log2 p as models/README.md describes it, from the files of tern logits."""
        bits, done = 0.0, 1
        for start in range(0, len(ids), n_ctx // 2):
            window = ids[start:start + n_ctx]
            first = done - start
            if first >= len(window):
                break
            tern("logits", MODEL, "--ids", ",".join(map(str, window)), "-o", self.path("w.npy"))
            rows = read_npy(self.path("w.npy"))
            for t in range(first, len(window)):
                row = rows[t - 1]
                top = max(row)
                bits += (math.log(sum(math.exp(x - top) for x in row)) + top - row[window[t]]) / math.log(2)
            done = start + len(window)
        self.assertEqual(done, len(ids))
        return bits

    def test_windows(self):
        text = "".join(f"Citizen {i}:\nWe are accounted poor citizens, the patricians good.\n\n" for i in range(20))
        n_ctx = json.loads(read(MODEL, "config.json"))["n_positions"]
        ids = json.loads(tern("tokenize", MODEL, "-p", text, "--no-special"))["ids"]
        self.assertGreater(len(ids), 1.6 * n_ctx)
        bits = self.windows([0] + ids, n_ctx)
        for threads in (1, 2):
            got = json.loads(tern("perplexity", MODEL, "--json", "--threads", threads, "-f", "-", "--from", 3,
                                  stdin=b"..." + text.encode()))
            self.assertEqual((got["tokens"], got["bytes"]), (len(ids), len(text)))
            self.assertAlmostEqual(got["bits_per_byte"], bits / len(text), places=6)
            self.assertAlmostEqual(got["perplexity"], 2 ** (bits / len(ids)), places=4)

    def test_ids_beyond_the_vocabulary(self):
        """Without an id that the model knows, nothing stands before the text."""
        folder = self.path("model")
        shutil.copytree(MODEL, folder)
        config = json.loads(read(MODEL, "config.json"))
        config.update(bos_token_id=50256, eos_token_id=50256)
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(config, f)
        ids = json.loads(tern("tokenize", MODEL, "-p", "What light is it?"))["ids"]
        got = json.loads(tern("perplexity", folder, "--json", "-p", "What light is it?"))
        self.assertEqual(got["tokens"], len(ids) - 1)

    @unittest.skipUnless(os.path.exists(TEXT), "the training text is not beside the repository")
    def test_last_tenth_of_the_text(self):
        size = os.path.getsize(TEXT)
        got = json.loads(tern("perplexity", MODEL, "-f", TEXT, "--from", size * 9 // 10, "--json", timeout=400)) # TSan: 100 s and more
        self.assertEqual(got["bytes"], size - size * 9 // 10)
        self.assertLessEqual(got["bits_per_byte"], 2.5)


class Places(InFolder):
    def broken(self, folder):
        """A built-in model whose error tells which one was found."""
        path = os.path.join(self.tmp, folder, "tiny-shakespeare")
        os.makedirs(path)
        with open(os.path.join(path, "config.json"), "w") as f:
            f.write("not JSON")
        return os.path.realpath(path)

    def test_builtin_model_is_found_installed_in_the_build_tree_and_by_environment(self):
        for binary, models in (("usr/bin/tern", "usr/share/tern/models"), ("tree/build/tern", "tree/models"),
                               ("tree2/build/release/tern", "tree2/models")):
            os.makedirs(os.path.dirname(self.path(binary)))
            shutil.copy(TERN, self.path(binary))
            path = self.broken(models)
            r = subprocess.run([self.path(binary), "run", "-p", "a"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env=environment(), timeout=120)
            self.assertEqual(r.returncode, 1)
            self.assertIn(path, r.stderr.decode())
        path = self.broken("elsewhere")
        tern("run", "-p", "a", code=1, env=environment(TERN_MODELS=self.path("elsewhere")))
        self.assertIn(path, tern.stderr)

    def test_name_in_the_hugging_face_cache(self):
        repo = self.path("hub/models--some-org--some-model")
        os.makedirs(repo + "/refs")
        os.makedirs(repo + "/snapshots")
        with open(repo + "/refs/main", "w") as f:
            f.write("0123abcd")
        os.symlink(MODEL, repo + "/snapshots/0123abcd")
        env = environment(HF_HOME=self.tmp)
        args = ("-p", PROMPT, "-n", 5, "--temp", 0, "-q")
        self.assertEqual(tern("run", "some-org/some-model", *args, env=env), tern("run", *args))
        tern("run", "some-org/another", *args, env=env, code=1)
        self.assertIn("some-org/another", tern.stderr)
        self.assertIn("download", tern.stderr)


class Info(unittest.TestCase):
    def test_model(self):
        got = json.loads(tern("info", MODEL, "--json", "--threads", 2))
        self.assertEqual(list(got), ["model", "memory", "machine", "tern"])
        config = json.loads(read(MODEL, "config.json"))
        self.assertEqual(got["model"]["family"], "gpt2")
        self.assertEqual(got["model"]["layers"], config["n_layer"])
        self.assertEqual(got["model"]["vocabulary"], config["vocab_size"])
        self.assertEqual(got["model"]["context"], config["n_positions"])
        self.assertEqual(got["model"]["dtype"], "fp16")
        self.assertEqual(got["model"]["skipped_tensors"], [])
        self.assertEqual((got["machine"]["threads"], got["machine"]["threads_reason"]), (2, "option"))
        self.assertTrue(all(v > 0 for v in got["memory"].values()))
        text = tern("info", MODEL).decode()
        for word in ("gpt2", "GPT2LMHeadModel", "threads", "skipped tensors", "weight", "kv"):
            self.assertIn(word, text)

    def test_machine(self):
        got = json.loads(tern("info", "--json"))
        self.assertEqual(list(got), ["machine", "tern"])
        self.assertIn(got["machine"]["isa"], ("portable", "neon", "neondot", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16"))
        self.assertGreaterEqual(got["machine"]["threads"], 1)
        self.assertRegex(got["machine"]["granted"], r"^\d+ processors? on \d+ of \d+ cores?; (no )?cgroup quota")
        self.assertIn(got["machine"]["granted"], tern("info").decode())
        self.assertIn("threads", tern("info").decode())

    def test_version(self):
        text = tern("--version").decode()
        self.assertRegex(text, r"^tern \d+\.\d+\.\d+\n")
        for word in ("compiler: ", "jansson ", "utf8proc ", "pcre2 ", "in use: "):
            self.assertIn(word, text.lower())


class Bench(unittest.TestCase):
    """Never how long something took: what is counted, and that the parts of the answer agree."""

    ROW = ["what", "context", "tokens", "median_ms", "min_ms", "max_ms", "sorted_ms", "weight_bytes", "kv_bytes", "weight_ops",
           "attention_ops", "tokens_per_s", "bytes_per_s", "ops_per_s", "share_of_read", "share_of_arithmetic"]

    def bench(self, *args):
        got = json.loads(tern("bench", *args, "--json", "-q"))
        self.assertEqual(list(got), ["version", "machine", "ceilings", "model", "sequences", "decode_steps", "runs", "rows",
                                     "peak_rss_bytes"])
        for row in got["rows"]:
            self.assertEqual(list(row), self.ROW)
            self.assertEqual(len(row["sorted_ms"]), got["runs"])
            self.assertEqual(row["sorted_ms"], sorted(row["sorted_ms"]))
            self.assertEqual((row["min_ms"], row["max_ms"]), (row["sorted_ms"][0], row["sorted_ms"][-1]))
            self.assertTrue(0 < row["min_ms"] <= row["median_ms"] <= row["max_ms"])
            seconds = row["median_ms"] / 1000
            for rate, amount in (("tokens_per_s", row["tokens"]), ("bytes_per_s", row["weight_bytes"] + row["kv_bytes"]),
                                 ("ops_per_s", row["weight_ops"])):
                self.assertAlmostEqual(row[rate] * seconds / amount, 1, places=4)
        return got

    # The shape tiny: L 2, H 64, I 176, h 4, G 2, E 16, V 256; RMSNorm, no biases, gated.
    WEIGHTS = 2 * (64 * 128 + 64 * 64 + 64 * 352 + 176 * 64)
    HEAD = 64 * 256

    def test_counts(self):
        for dtype, size in (("fp32", 4), ("fp16", 2), ("bf16", 2), ("int8", 1)):
            got = self.bench("--shape", "tiny", "--dtype", dtype, "--contexts", "8,200", "--decode", 3, "--runs", 2, "--no-ceilings",
                             "--threads", 1)
            self.assertIsNone(got["ceilings"])
            self.assertEqual((got["model"]["dtype"], got["model"]["random_weights"]), (dtype, True))
            self.assertEqual(got["machine"]["threads_reason"], "option")
            rows = got["rows"]
            self.assertEqual([(r["what"], r["context"]) for r in rows],
                             [("prefill", 8), ("decode", 8), ("prefill", 200), ("decode", 200)])
            # vectors, structs, and with int8 a scale and a start for each column
            more = 4 * 5 * 64 + 2048 + (8 * (2 * 608 + 256) if size == 1 else 0)
            for r in rows:
                s, pair = r["context"], 4 * 2 * 4 * 16
                self.assertIsNone(r["share_of_read"])
                self.assertLessEqual(size * (self.WEIGHTS + self.HEAD), r["weight_bytes"])
                self.assertLessEqual(r["weight_bytes"], size * (self.WEIGHTS + self.HEAD) + more)
                if r["what"] == "prefill":
                    self.assertEqual(r["tokens"], s)
                    self.assertEqual(r["weight_ops"], 2 * (self.WEIGHTS * s + self.HEAD))
                    self.assertEqual(r["attention_ops"], pair * s * (s + 1) / 2)
                else:
                    self.assertEqual(r["tokens"], 1)
                    self.assertEqual(r["weight_ops"], 2 * (self.WEIGHTS + self.HEAD))
                    self.assertEqual(r["attention_ops"], pair * (s + 2))
            # the cache is read from its first position on
            self.assertAlmostEqual(rows[3]["kv_bytes"] / rows[1]["kv_bytes"], 202 / 10)

    def test_sequences(self):
        one = self.bench("--shape", "tiny", "--runs", 1, "--no-ceilings")["rows"]
        many = self.bench("--shape", "tiny", "--runs", 1, "--no-ceilings", "--sequences", 7)["rows"]
        self.assertEqual([r["context"] for r in one], [16, 16, 128, 128, 246, 246])  # all that the model reads, with ten tokens
        self.assertEqual([r["context"] for r in many], [16, 16, 128, 128])
        for a, b in zip(one, many):
            for key in ("tokens", "weight_ops", "attention_ops", "kv_bytes"):
                self.assertAlmostEqual(b[key] / a[key], 7)
        self.assertEqual([r["weight_bytes"] for r in one], [one[0]["weight_bytes"]] * 6)
        self.assertEqual(many[3]["weight_bytes"], one[3]["weight_bytes"])
        self.assertGreater(many[2]["weight_bytes"], one[2]["weight_bytes"])  # 896 tokens are two steps
        most = self.bench("--shape", "tiny", "--runs", 1, "--no-ceilings", "--sequences", 600, "--contexts", "1,2", "--decode", 1)["rows"]
        self.assertEqual(most[0]["weight_bytes"], most[1]["weight_bytes"])  # a token of each is a step
        layers = most[2]["weight_bytes"] - most[0]["weight_bytes"]
        self.assertTrue(0 < layers < most[0]["weight_bytes"])

    def test_encoder(self):
        rows = self.bench("--shape", "tiny-encoder", "--runs", 1, "--no-ceilings")["rows"]
        self.assertEqual([(r["what"], r["context"]) for r in rows], [("forward", 128), ("forward", 256)])
        self.assertEqual(rows[0]["weight_ops"], 2 * 128 * 2 * (64 * 192 + 64 * 64 + 2 * 64 * 256))
        self.assertEqual(rows[0]["attention_ops"], 4 * 2 * 64 * 128 * 128)
        model = os.path.join(SOURCE, "tests", "golden", "models", "bert-classify")
        position = {}
        for more in ((), ("--dtype", "int8", "--sequences", 3), ("--dtype", "bf16")):
            sequences = 3 if "--sequences" in more else 1
            for contexts in ("7", "7,50"):
                row = self.bench(model, "--runs", 1, "--no-ceilings", "--contexts", contexts, *more)["rows"][0]
                self.assertEqual((row["what"], row["context"], row["tokens"]), ("forward", 7, 7 * sequences))
                self.assertGreater(row["weight_bytes"], 0)
                position.setdefault(more, set()).add(row["kv_bytes"] / row["tokens"])
        whole, int8, bf16 = ({*p} for p in position.values())
        self.assertEqual((len(whole), int8, {2 * b for b in bf16}), (1, whole, whole))  # whatever other contexts there are
        self.assertGreaterEqual(whole.pop(), 3 * 2 * 32 * 4)
        tern("bench", model, "--no-ceilings", "--decode", 2, "-q", code=2)
        self.assertEqual(tern.stderr, f"tern: {model} is an encoder: there is nothing to --decode\n")
        tern("bench", model, "--no-ceilings", "--contexts", 100000, "-q", code=1)
        self.assertIn("that the model reads", tern.stderr)
        wide = os.path.join(SOURCE, "tests", "golden", "models", "modernbert-tiny")
        config = json.loads(read(wide, "config.json"))
        config["max_position_embeddings"] = 1 << 22  # positions turn heads: there is no table of so many
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "config.json"), "w", encoding="ascii") as f:
                json.dump(config, f)
            os.symlink(os.path.join(wide, "model.safetensors"), os.path.join(folder, "model.safetensors"))
            tern("bench", folder, "--no-ceilings", "--sequences", 1024, "--contexts", 1 << 22, "-q", code=1)
        self.assertEqual(tern.stderr, "tern: 1024 texts of 4194304 tokens are more than the 1073741823 tokens of a pass\n")

    def test_model_and_ceilings(self):
        for dtype in ("auto", "int8"):
            got = self.bench(TINY, "--dtype", dtype, "--runs", 2, "--contexts", "5")
            self.assertEqual((got["model"]["dtype"], got["model"]["random_weights"]), (dtype, False))
            for name, rate in got["ceilings"].items():
                if name != "memory_bytes":
                    self.assertGreater(rate["one_thread"], 0)
                    self.assertGreater(rate["all_threads"], 0)
            arithmetic = got["ceilings"]["int8_ops_per_s" if dtype == "int8" else "fp32_ops_per_s"]["all_threads"]
            read_rate = got["ceilings"]["read_bytes_per_s"]["all_threads"]
            for r in got["rows"]:
                self.assertAlmostEqual(r["share_of_arithmetic"] * arithmetic / r["ops_per_s"], 1, places=2)
                self.assertAlmostEqual(r["share_of_read"] * read_rate / r["bytes_per_s"], 1, places=2)

    def test_csv_and_table(self):
        args = ["bench", "--shape", "tiny", "--runs", 2, "--no-ceilings", "-q"]
        lines = list(csv.DictReader(tern(*args, "--csv").decode().splitlines()))
        self.assertEqual(tern.stderr, "")
        self.assertEqual([(r["what"], r["context"]) for r in lines][:2], [("prefill", "16"), ("decode", "16")])
        for r in lines:
            self.assertTrue(None not in r and None not in r.values())
            self.assertTrue(float(r["min_ms"]) <= float(r["median_ms"]) <= float(r["max_ms"]))
            self.assertEqual((r["model"], r["dtype"], r["share_of_read"]), ("tiny", "fp32", ""))
        text = tern(*args).decode()
        for word in ("tiny (random weights) as fp32", "prefill", "decode", "tokens/s", "GFLOP/s"):
            self.assertIn(word, text)

    def test_memory_limit(self):
        """What does not fit is refused before it is taken, with both numbers."""
        tern("bench", "--shape", "tiny", "--sequences", 1024, "--contexts", "200", "--runs", 1, "--no-ceilings", "-q")
        available = int(re.search(r"MemAvailable: *(\d+) kB", read("/proc/meminfo"))[1]) * 1000
        if available > 30e9:
            self.skipTest("llama-7b in fp32 fits this machine")
        tern("bench", "--shape", "llama-7b", "--no-ceilings", "-q", code=1)
        self.assertRegex(tern.stderr, r"^tern: llama-7b: as fp32 its weights take 269\d\d MB, and making them \d+ MB more; "
                                      r"\d+ MB of memory are available\n$")


class Trace(InFolder):
    """A trace says who did what, in Chrome's form; what is computed does not change."""

    def events(self, *args, code=0):
        path = self.path("trace.json")
        out = tern(*args, "--trace", path, code=code)
        trace = json.loads(read(path))
        self.assertEqual(os.listdir(self.tmp), ["trace.json"])
        self.assertEqual(trace["otherData"]["left_out"], 0)
        return out, [e for e in trace["traceEvents"] if e["ph"] == "X"], trace["traceEvents"]

    def test_run(self):
        for dtype, product in (("fp32", "gemm_f32"), ("auto", "gemm_f32_f16"), ("bf16", "gemm_bf16"), ("int8", "gemm_q8")):
            args = ["run", MODEL, "-p", PROMPT, "-n", 4, "--temp", 0, "-q", "--threads", 2, "--dtype", dtype]
            out, events, every = self.events(*args)
            self.assertEqual(out, tern(*args))
            self.assertEqual(sorted({e["tid"] for e in events}), [0, 1])
            self.assertEqual([e["args"]["name"] for e in every if e["name"] == "thread_name"], ["thread 0", "thread 1"])
            steps = [e for e in events if e["name"] == "step"]
            # a prompt in one step, then single tokens, the last of which is not read any more
            self.assertEqual([e["args"]["tokens"] for e in steps[1:]], [1] * (len(steps) - 1))
            self.assertIn(len(steps), (4, 5))
            layers = json.loads(read(MODEL, "config.json"))["n_layer"]
            for tid in (0, 1):
                mine = [e for e in events if e["tid"] == tid]
                self.assertEqual([e["args"]["index"] for e in mine if e["name"] == "layer"], list(range(layers)) * len(steps))
                # four products in a layer, and the head; each thread takes part in all
                self.assertEqual(len([e for e in mine if e["name"] == product]), len(steps) * (4 * layers + 1))
                self.assertEqual(len([e for e in mine if e["name"] == "softmax_context"]), len(steps) * layers)
                self.assertEqual(len([e for e in mine if e["name"] == "pack"]), 4 * layers + 1)
                self.assertTrue(all(e["ts"] >= 0 and e["dur"] >= 0 for e in mine))
                ends = [e["ts"] + e["dur"] for e in mine if e["name"] != "step"]
                self.assertTrue(all(a <= b + 0.01 for a, b in zip(ends, ends[1:])))

    def test_bench(self):
        _, events, _ = self.events("bench", "--shape", "tiny", "--runs", 1, "--contexts", "8", "--decode", 2, "--no-ceilings", "--threads",
                                   1, "-q")
        steps = [e["args"] for e in events if e["name"] == "step"]
        self.assertEqual([(s["tokens"], s["scores"]) for s in steps], [(8, 1), (1, 1), (1, 1)] * 2)  # once to warm up
        self.assertEqual({e["tid"] for e in events}, {0})
        self.assertFalse([e for e in events if e["name"] == "wait"])  # there is nobody to wait for
        self.assertIn("rms_norm", {e["name"] for e in events})

    def test_where_it_goes(self):
        args = ["bench", "--shape", "tiny", "--runs", 1, "--contexts", "8", "--no-ceilings", "-q"]
        self.assertFalse(tern(*args, "--trace", self.path("no/trace.json"), code=1))  # nothing was measured for it
        self.assertIn("cannot write", tern.stderr)
        for what, why in ((self.tmp, "Is a directory"), ("", "No such file or directory")):
            self.assertFalse(tern(*args, "--trace", what, code=1))
            self.assertEqual(tern.stderr, f"tern: cannot write '{what}': {why}\n")
        os.symlink(self.path("there.json"), self.path("link.json"))
        tern(*args, "--trace", self.path("link.json"))  # it leads to nothing yet
        json.loads(read(self.path("there.json")))
        self.assertTrue(os.path.islink(self.path("link.json")))
        with open(self.path("there.json"), "w", encoding="ascii") as f:
            f.write("before")
        os.chmod(self.path("there.json"), 0o640)
        tern(*args, "--trace", self.path("link.json"))
        json.loads(read(self.path("there.json")))
        self.assertTrue(os.path.islink(self.path("link.json")))
        self.assertEqual(os.stat(self.path("there.json")).st_mode & 0o777, 0o640)
        tern(*args, "--trace", "/dev/null")
        tern("bench", self.path("nothing"), "--no-ceilings", "--trace", self.path("none.json"), code=1)
        self.assertFalse(os.path.exists(self.path("none.json")))


class Readme(InFolder):
    def program(self):
        return read(SOURCE, "examples", "generate.c")

    def test_the_program_is_the_examples(self):
        readme = read(SOURCE, "README.md")
        blocks = re.findall(r"```c\n(.*?)```", readme, re.S)
        self.assertEqual(blocks, [self.program()])
        self.assertLessEqual(sum(1 for line in self.program().splitlines() if line), 20)

    def test_it_compiles_and_runs(self):
        cache = read(BUILD, "CMakeCache.txt")
        compiler = re.search(r"^CMAKE_C_COMPILER:.*?=(.*)$", cache, re.M)[1]
        sanitize = re.search(r"^TERN_SANITIZE:.*?=(.*)$", cache, re.M)
        flags = [f"-fsanitize={sanitize[1]}"] if sanitize and sanitize[1] else []
        subprocess.run([compiler, "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", *flags,
                        "-I", os.path.join(SOURCE, "include"), os.path.join(SOURCE, "examples", "generate.c"),
                        "-o", self.path("generate"), "-L", BUILD, "-ltern", f"-Wl,-rpath,{BUILD}"], check=True)
        r = subprocess.run([self.path("generate"), MODEL, PROMPT], stdout=subprocess.PIPE, env=environment(), timeout=120)
        self.assertEqual(r.returncode, 0)
        self.assertGreater(len(r.stdout), 20)
        r = subprocess.run([self.path("generate"), self.tmp, PROMPT], stdout=subprocess.PIPE, env=environment(), timeout=120)
        self.assertEqual(r.returncode, 1)
        self.assertIn(b"config.json", r.stdout)


if __name__ == "__main__":
    unittest.main()
