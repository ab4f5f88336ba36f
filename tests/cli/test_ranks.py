#!/usr/bin/env python3
# labels: quick
"""Commands on several ranks, started by --tp and by mpirun: the same answer as one process gives, and one message for whatever goes wrong."""
import array
import concurrent.futures
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import types
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "comm"))
import mpi_runs  # noqa: E402
from mpi_runs import BOUND  # noqa: E402

SOURCE = os.path.abspath(os.environ.get("TERN_SOURCE", os.path.join(HERE, "..", "..")))
TERN = os.path.abspath(os.environ.get("TERN", os.path.join(SOURCE, "build", "tern")))
FAULTY = os.environ.get("TERN_FAULTY")
MODEL = os.path.join(SOURCE, "models", "tiny-shakespeare")
TINY = os.path.join(SOURCE, "tests", "golden", "models", "llama-tiny")
SECONDS = 100  # a run that nothing is wrong with takes about one

ENV = dict(mpi_runs.environment(), TERN_COMM_TIMEOUT="2")
ENV.pop("TERN_PLUGINS")  # it lies beside the command


def tern(*args, stdin=b""):
    return subprocess.run([TERN, *args], input=stdin, env=ENV, capture_output=True, timeout=SECONDS, check=False)


def whole(command, env=None, seconds=BOUND):
    """the answer of a command that starts ranks, from when the first of them is there; no process stays behind"""
    run = mpi_runs.Run(command, env or ENV)
    run.wait(lambda: run.process.poll() is not None or set(run.members().values()) - {None}, "ranks")
    status, out, err, left = run.end(seconds)
    if status is None or left:
        raise AssertionError(f"{command}: status {status}, {left} are there after {seconds} s: {out}{err}")
    return types.SimpleNamespace(returncode=status, stdout=out.encode(), stderr=err.encode())


def direct(*parts, seconds=BOUND):
    """mpirun, with a command line for each rank"""
    command = mpi_runs.mpirun(1)
    for i, part in enumerate(parts):
        command += ([":", "-n", "1"] if i else []) + list(part)
    return whole(command, seconds=seconds)


def side_by_side(function, cases):
    """a list of what it gives for each of them"""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(function, cases))


def numbers(path):
    with open(path, "rb") as f:
        data = f.read()
    values = array.array("f")
    values.frombytes(data[10 + int.from_bytes(data[8:10], "little"):])
    if not all(map(math.isfinite, values)):
        raise AssertionError(f"{path} has numbers that are none")
    return values


class Answers(unittest.TestCase):
    def test_ids_of_one_process(self):
        args = ["run", MODEL, "-p", "ROMEO:", "-n", "60", "--temp", "0", "--json", "-q"]
        one = json.loads(tern(*args).stdout)
        for n, answer in enumerate(side_by_side(lambda n: tern(*args, "--tp", n), "1234"), 1):
            self.assertEqual((answer.returncode, answer.stderr), (0, b""))
            self.assertEqual(json.loads(answer.stdout)["ids"], one["ids"], n)

    def test_logits_of_one_process_and_of_the_run_before(self):
        with tempfile.TemporaryDirectory() as folder:
            for model in (MODEL, TINY):
                args = ["logits", model, "--ids", "1,5,9,2,40,17,3,3,8", "-q", "-o"]
                runs = enumerate(([], ["--tp", "2"], ["--tp", "2"], ["--tp", "3"]))
                for answer in side_by_side(lambda run: tern(*args, f"{folder}/{run[0]}", *run[1]), runs):
                    self.assertEqual((answer.returncode, answer.stderr), (0, b""))
                one, two, again, three = (numbers(f"{folder}/{i}") for i in range(4))
                bound = 1e-5 * max(map(abs, one))
                self.assertEqual(two, again)
                for other in (two, three):
                    self.assertEqual(len(other), len(one))
                    self.assertLess(max(abs(a - b) for a, b in zip(one, other)), bound)

    def test_sampling(self):
        args = ["run", MODEL, "-p", "ROMEO:", "-n", "30", "--temp", "0.9", "--seed", "11", "-q"]
        self.assertEqual(tern(*args, "--tp", "2").stdout, tern(*args).stdout)

    def test_streams_are_the_callers(self):
        args = ["run", MODEL, "-n", "12", "--temp", "0", "-q", "--echo"]
        text = b"JULIET:\nO \xc3\xa9"
        answer = tern(*args, "--tp", "2", stdin=text)
        self.assertEqual((answer.returncode, answer.stderr), (0, b""))
        self.assertTrue(answer.stdout.startswith(text))
        self.assertEqual(answer.stdout, tern(*args, stdin=text).stdout)
        whole = tern("logits", MODEL, "--ids", "1,2", "-o", "-", "--tp", "2")
        self.assertEqual((whole.returncode, whole.stdout[:6]), (0, b"\x93NUMPY"))
        closed = subprocess.run(["sh", "-c", f"'{TERN}' run '{MODEL}' -p x -n 200 --temp 0 -q --tp 2 | head -c 1; true"], env=ENV,
                                capture_output=True, timeout=SECONDS, check=False)
        self.assertEqual((len(closed.stdout), closed.stderr), (1, b""))

    def test_other_commands(self):
        one, two = (json.loads(tern("perplexity", MODEL, "-p", "To be, or not to be", "--json", "-q", *tp).stdout) for tp in ([], ["--tp", "2"]))
        self.assertAlmostEqual(one["bits_per_byte"], two["bits_per_byte"], 5)
        answer = tern("bench", "--shape", "tiny", "--no-ceilings", "--runs", "1", "--contexts", "8", "--decode", "1", "--json", "--tp", "2")
        self.assertEqual(answer.returncode, 0, answer.stderr)
        json.loads(answer.stdout)
        encoder = os.path.join(SOURCE, "tests", "golden", "models", "bert-tiny")
        answer = tern("bench", encoder, "--no-ceilings", "--runs", "1", "--contexts", "8", "--json", "--tp", "2")
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertEqual([row["what"] for row in json.loads(answer.stdout)["rows"]], ["forward"])
        with tempfile.TemporaryDirectory() as folder:
            template = os.path.join(folder, "t.jinja")
            with open(template, "w", encoding="ascii") as f:
                f.write("{{ messages[-1].content }}")
            args = ["chat", MODEL, "--template", template, "-n", "8", "--temp", "0", "-q"]
            one, two = (tern(*args, *tp, stdin=b"Hello\nWho are you?\n") for tp in ([], ["--tp", "2"]))
            self.assertEqual((two.returncode, two.stdout), (one.returncode, one.stdout), two.stderr)

    def test_ranks_of_mpirun(self):
        args = [TERN, "run", MODEL, "-p", "ROMEO:", "-n", "30", "--temp", "0", "-q"]
        one = subprocess.run(args, env=ENV, capture_output=True, timeout=SECONDS, check=True)
        for more in ([], ["--tp", "2"]):
            answer = direct(args + more, args + more, seconds=SECONDS)
            # mpirun gives rank 0 a terminal, for which a line is ended on stderr
            self.assertEqual((answer.returncode, answer.stdout, answer.stderr.strip()), (0, one.stdout, b""))

    def test_a_process_of_its_own_among_ranks(self):
        args = [TERN, "run", MODEL, "-p", "ROMEO:", "-n", "4", "--temp", "0", "-q", "--tp", "1"]
        answer = direct(["true"], args, seconds=SECONDS)
        self.assertEqual((answer.returncode, answer.stderr.strip()), (0, b""))
        self.assertTrue(answer.stdout)

    def test_a_text_that_looks_like_an_option(self):
        text, one = (tern("run", MODEL, "-p", "--tp=1", "-n", "20", "--temp", "0", "-q", *more).stdout for more in (["--tp", "2"], []))
        self.assertEqual(text, one)

    def test_threads_are_shared_out(self):
        def threads(*tp):
            text = tern("run", MODEL, "-p", "x", "-n", "1", *tp).stderr.decode()
            return int(re.search(r"(\d+) thread", text).group(1)), text

        n, _ = threads()
        each, text = threads("--tp", "2")
        self.assertEqual(each, max(1, n // 2))
        self.assertEqual("(a rank's share)" in text, n > 1)
        answer = tern("run", MODEL, "-p", "x", "-n", "1", "--tp", "2", "--threads", "3")
        self.assertIn(b"3 threads", answer.stderr)


class Errors(unittest.TestCase):
    def check(self, answer, code, *parts):
        """one line"""
        text = answer.stderr.decode()
        self.assertEqual((answer.returncode, text.count("\n"), answer.stdout), (code, 1, b""), text)
        for part in ("tern: ", *parts):
            self.assertIn(part, text)

    def test_errors_of_rank_0_are_told_once(self):
        cases = (
            (["run", MODEL, "--no-such-option"], 2, ["--no-such-option"]),
            (["run", "/nowhere", "-p", "x"], 1, ["/nowhere"]),
            (["run", MODEL, "-f", "/nowhere"], 1, ["cannot read '/nowhere'"]),
            (["run", MODEL, "-p", ""], 1, ["the prompt has no token ids"]),
            (["logits", MODEL, "--ids", "1,99999", "-o", "/dev/null", "-q"], 1, ["99999"]),
            (["logits", MODEL, "--ids", "1", "-o", "/nowhere/x.npy", "-q"], 1, ["/nowhere/x.npy"]))
        answers = side_by_side(lambda case: (whole([TERN, *case[0], "--tp", "2"]), direct([TERN, *case[0]], [TERN, *case[0]])), cases)
        for (args, code, parts), both in zip(cases, answers):
            for answer in both:
                with self.subTest(args=args):
                    self.check(answer, code, *parts)

    def test_more_ranks_than_can_be(self):
        n = 8 * len(os.sched_getaffinity(0))
        self.check(tern("run", MODEL, "-p", "x", "--tp", str(n + 8)), 2, f"expected at most {n}")
        self.check(tern("run", MODEL, "-p", "x", "--tp", "0"), 2, "--tp")
        args = [TERN, "run", MODEL, "-p", "x", "--tp", "3"]
        self.check(direct(args, args), 2, "--tp is 3", "expected 2")

        alone = direct(args)
        self.check(alone, 2, "--tp is 3", "expected 3")

    def test_what_one_rank_finds_before_the_group_is_there(self):
        args = [TERN, "run", MODEL, "-p", "x", "-n", "2", "--temp", "0", "-q"]
        cases = ((["env", "TERN_CPU=bogus", *args], "bogus"), (["env", "TERN_THREADS=abc", *args], "abc"), (args + ["--bad"], "--bad"),
                 (["env", "TERN_PLUGINS=/nowhere", *args], "/nowhere"))
        wrong = side_by_side(lambda case: direct(*case), [(args, case[0]) for case in cases] + [(case[0], args) for case in cases] +
                             [(case[0], case[0]) for case in cases])
        for (_, part), answer in zip(cases * 3, wrong):
            text = answer.stderr.decode()
            self.assertNotEqual(answer.returncode, 0)
            self.assertEqual((text.count("\n"), text.count("tern: "), answer.stdout), (1, 1, b""), text)
            self.assertIn(part, text)

    def test_without_mpirun(self):
        self.check(whole([TERN, "run", MODEL, "-p", "x", "--tp", "2"], dict(ENV, PATH="/nowhere")), 1, "openmpi-bin")

    def test_without_the_plugin(self):
        with tempfile.TemporaryDirectory() as folder:
            self.check(whole([TERN, "run", MODEL, "-p", "x", "--tp", "2"], dict(ENV, TERN_PLUGINS=folder)), 1, folder, "libtern_mpi.so")

    def test_without_room_in_shared_memory(self):
        small = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"', "sh"]
        if not shutil.which("unshare") or subprocess.run([*small, "true"], capture_output=True, check=False).returncode:
            self.skipTest("no mounts of our own here")
        args = [*small, TERN, "run", MODEL, "-p", "ROMEO:", "-n", "5", "--temp", "0", "-q", "--tp", "2"]
        for path, code, parts in (("auto", 1, ["/dev/shm has 1048576 bytes left, and 2 ranks share ", "TERN_COMM=p2p"]), ("p2p", 0, None)):
            answer = whole(args, dict(ENV, TERN_COMM=path), SECONDS)
            if parts:
                self.check(answer, code, *parts)
            else:
                self.assertEqual((answer.returncode, answer.stderr), (0, b""))

    def other(self, change):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "model")
        shutil.copytree(TINY, path)
        change(path)
        args = [TERN, "logits", TINY, "--ids", "1,2,3", "-o", "/dev/null", "-q"]
        answer = direct(args, args[:2] + [path] + args[3:])
        text = answer.stderr.decode()
        self.assertNotEqual(answer.returncode, 0)
        self.assertEqual(text.count("tern: "), 1, text)
        self.assertEqual(text.count("\n"), 1, text)
        return text

    def test_a_file_that_one_rank_cannot_read(self):
        def dangle(path):
            os.remove(os.path.join(path, "model.safetensors"))
            os.symlink("/nowhere", os.path.join(path, "model.safetensors"))

        self.assertIn("rank 1", self.other(dangle))
        self.assertIn("rank 1", self.other(lambda path: os.remove(os.path.join(path, "config.json"))))
        self.assertIn("rank 1", self.other(shutil.rmtree))

    def test_a_file_that_is_cut_off_on_one_rank(self):
        def cut(path):
            with open(os.path.join(path, "model.safetensors"), "r+b") as f:
                f.truncate(os.path.getsize(f.name) // 2)

        self.assertIn("rank 1", self.other(cut))

    def test_another_model_or_config_on_one_rank(self):
        def change_config(path):
            name = os.path.join(path, "config.json")
            with open(name, encoding="utf-8") as f:
                config = json.load(f)
            config["rms_norm_eps"] = 1e-3
            with open(name, "w", encoding="utf-8") as f:
                json.dump(config, f)

        def change_weight(path):
            with open(os.path.join(path, "model.safetensors"), "r+b") as f:
                f.seek(-2, os.SEEK_END)
                last = f.read(2)
                f.seek(-2, os.SEEK_END)
                f.write(bytes([last[0] ^ 1, last[1]]))

        self.assertIn("rank 1", self.other(change_config))
        self.assertIn("rank 1", self.other(change_weight))

    def test_another_version_on_one_rank(self):
        """Its plugin alone, or all of it: the files with another text in the place of their version's."""
        version = re.match(rb"tern (\S+)\n", tern("--version").stdout).group(1)
        other = version.translate(bytes.maketrans(b"0123456789", b"9876543210"))
        with tempfile.TemporaryDirectory() as folder:
            for source in (TERN, mpi_runs.PLUGIN):
                with open(source, "rb") as f:
                    data = f.read()
                self.assertIn(version + b"\0", data)
                with open(os.path.join(folder, os.path.basename(source)), "wb") as f:
                    f.write(data.replace(version + b"\0", other + b"\0"))
            copy = os.path.join(folder, os.path.basename(TERN))
            os.chmod(copy, 0o755)
            args = ["run", MODEL, "-p", "x", "-n", "2", "--temp", "0", "-q"]
            env = ["env", f"TERN_PLUGINS={folder}"]
            plugin, both = side_by_side(lambda command: direct([TERN, *args], command), ([*env, TERN, *args], [*env, copy, *args]))
        version, other = version.decode(), other.decode()
        self.check(plugin, 3, f"libtern_mpi.so' is of tern {other}, expected {version}")
        self.check(both, 3, "rank 1 (", f"runs tern {other} (", f"tern {version} (")

    def allocations(self, rank, *env):
        """what a rank says whose n-th allocation from there on fails, as a function of n, and how many there are"""
        args = ["run", MODEL, "-p", "ROMEO:", "-n", "3", "--temp", "0", "-q"]

        def run(n, *more):
            commands = [[TERN, *args], [TERN, *args]]
            commands[rank] = ["env", "TERN_PLUGINS=" + os.path.abspath(mpi_runs.BUILD), *env, f"TERN_FAULT={n}", *more, FAULTY, *args]
            return direct(*commands)

        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "count")
            answer = run(10**9, f"TERN_FAULT_COUNT={path}")
            self.assertEqual((answer.returncode, answer.stderr.strip()), (0, b""))
            with open(path, encoding="ascii") as f:
                return run, int(f.read())

    def check_allocations(self, rank, text):
        """all of a sample are needed: the first of the opening, some of the weights, and the last, which are the session's"""
        run, calls = self.allocations(rank, "TERN_FAULT_OPEN=1")
        self.assertGreater(calls, 100)
        cases = sorted({0, 1, 2, *range(5, calls, calls // 10), *range(calls - 14, calls, 3), calls - 1})
        for n, answer in zip(cases, side_by_side(run, cases)):
            with self.subTest(rank=rank, n=n, calls=calls):
                self.check(answer, 1, text)

    @unittest.skipUnless(FAULTY, "no build with failing allocations")
    def test_allocations_that_fail_on_rank_1(self):
        self.check_allocations(1, "tern: rank 1 of 2: ")

    @unittest.skipUnless(FAULTY, "no build with failing allocations")
    def test_allocations_that_fail_on_rank_0(self):
        self.check_allocations(0, "tern: ")  # of what is its own alone it does not say whose it is

    @unittest.skipUnless(FAULTY, "no build with failing allocations")
    def test_allocations_that_fail_on_one_rank_before_the_group_is_there(self):
        run, _ = self.allocations(1)
        cases = (0, 1, 2, 3)
        for n, answer in zip(cases, side_by_side(run, cases)):
            with self.subTest(n=n):
                self.check(answer, 1, "tern: out of memory")


if __name__ == "__main__":
    mpi_runs.main()
