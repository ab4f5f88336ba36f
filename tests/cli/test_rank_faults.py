#!/usr/bin/env python3
# labels: quick
"""tern bench --tp 2 with a rank that is killed or stopped, a signal, a launcher that is killed: it ends in time with one message and its exit code,
and no process stays behind."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "comm"))
import mpi_runs  # noqa: E402

SOURCE = os.path.abspath(os.environ.get("TERN_SOURCE", os.path.join(HERE, "..", "..")))
TERN = os.path.abspath(os.environ.get("TERN", os.path.join(SOURCE, "build", "tern")))
MODEL = os.path.join(SOURCE, "models", "tiny-shakespeare")
BOUND = 10.0  # seconds from a fault to the end of the last process


def children(pid):
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as f:
                    fields = f.read().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == pid:
                found.append(int(name))
    return sorted(found)


def has_window(pid):
    """whether a rank has come to the shared window, which is the last that it opens"""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as f:
            return "/osc_sm." in f.read()
    except OSError:
        return False


class Faults(unittest.TestCase):
    """bench, which does not end by itself within these tests"""

    def start(self, timeout="2", path="auto", n=2):
        env = dict(mpi_runs.environment(path), TERN_COMM_TIMEOUT=timeout)
        process = subprocess.Popen([TERN, "bench", MODEL, "--tp", str(n), "--no-ceilings", "--runs", "999", "--decode", "200", "-q"], env=env,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        end = time.monotonic() + 30
        ranks = []
        while len(ranks) < n and time.monotonic() < end:
            time.sleep(0.05)
            ranks = [rank for mpirun in children(process.pid) for rank in children(mpirun)]
        while path == "auto" and not all(map(has_window, ranks)) and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(1 if path == "auto" else 3)  # they open the model and begin
        self.assertEqual(len(ranks), n)
        self.addCleanup(process.kill)
        return process, ranks, children(process.pid)

    def end(self, process, pids):
        out, err = process.communicate(timeout=BOUND)
        end = time.monotonic() + BOUND
        while any(map(mpi_runs.alive, pids)) and time.monotonic() < end:
            time.sleep(0.02)
        left = [pid for pid in pids if mpi_runs.alive(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        self.assertEqual(left, [])
        return process.returncode, out, err.decode()

    def test_a_rank_that_is_killed(self):
        for rank, path, n in ((0, "auto", 2), (1, "auto", 2), (1, "p2p", 3)):
            process, ranks, mpirun = self.start("5", path, n)  # mpirun sees it first, which takes it up to two
            os.kill(ranks[rank], signal.SIGKILL)
            code, _, err = self.end(process, ranks + mpirun)
            self.assertEqual((code, err.count("\n")), (1, 1), err)
            self.assertIn(f"tern: rank {rank} of {n} (process {ranks[rank]}) was ended by signal 9", err)

    def test_a_rank_that_is_stopped(self):
        for rank in (0, 1):
            process, ranks, mpirun = self.start()
            os.kill(ranks[rank], signal.SIGSTOP)
            code, _, err = self.end(process, ranks + mpirun)
            self.assertEqual((code, err.count("\n")), (1, 1), err)
            self.assertIn(f"tern: rank {rank} (", err)
            self.assertIn(f"process {ranks[rank]}) has not answered for 2 s", err)

    def test_signals_end_it_as_they_do_without_ranks(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process, ranks, mpirun = self.start()
            process.send_signal(number)
            code, out, err = self.end(process, ranks + mpirun)
            self.assertEqual((code, out, err), (128 + number, b"", ""))

    def test_a_rank_that_never_comes_to_mpi_s_start(self):
        """with a signal meanwhile, and without"""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "mpirun")
            with open(path, "w", encoding="ascii") as f:
                f.write("#!/bin/sh\nshift 2\nexec '%s' -n 1 \"$@\" : -n 1 sleep 60\n" % shutil.which("mpirun"))
            os.chmod(path, 0o755)
            env = dict(mpi_runs.environment(), PATH=folder + ":" + os.environ["PATH"])
            for number in (signal.SIGTERM, None):
                process = subprocess.Popen([TERN, "run", MODEL, "-p", "x", "--tp", "2"], env=env, stdin=subprocess.DEVNULL,
                                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                self.addCleanup(process.kill)
                time.sleep(2)
                ranks, mpirun = [rank for mpirun in children(process.pid) for rank in children(mpirun)], children(process.pid)
                self.assertEqual(len(ranks), 2)
                if number:
                    process.send_signal(number)
                    self.assertEqual(self.end(process, ranks + mpirun), (143, b"", ""))
                else:
                    code, out, err = self.end(process, ranks + mpirun)
                    self.assertEqual((code, out, err.count("\n")), (1, b"", 1), err)
                    self.assertIn("has waited 6 s for the others to join", err)

    def test_stopped_together_they_go_on(self):
        process, ranks, mpirun = self.start()
        process.send_signal(signal.SIGTSTP)
        time.sleep(3.5)
        for pid in [process.pid, *ranks]:
            with open(f"/proc/{pid}/stat", encoding="ascii") as f:
                self.assertEqual(f.read().rpartition(")")[2].split()[0], "T")
        process.send_signal(signal.SIGCONT)
        time.sleep(2.5)
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        self.assertEqual(self.end(process, ranks + mpirun), (130, b"", ""))

    def test_a_launcher_or_mpirun_that_is_killed(self):
        process, ranks, mpirun = self.start()
        process.kill()
        self.end(process, ranks + mpirun)
        process, ranks, mpirun = self.start()
        os.kill(mpirun[0], signal.SIGKILL)
        code, _, err = self.end(process, ranks + mpirun)
        self.assertEqual((code, err.count("\n")), (1, 1), err)
        self.assertIn(f"tern: mpirun (process {mpirun[0]}) was ended by signal 9", err)

    def test_a_rank_that_is_killed_before_it_has_reported(self):
        with tempfile.TemporaryDirectory() as folder:
            # mpirun with another last rank, which is killed before it is a rank
            path = os.path.join(folder, "mpirun")
            with open(path, "w", encoding="ascii") as f:
                f.write("#!/bin/sh\nshift 2; exec '%s' -n 1 \"$@\" : -n 1 sh -c 'sleep 1; kill -9 $$'\n" % shutil.which("mpirun"))
            os.chmod(path, 0o755)
            env = dict(mpi_runs.environment(), PATH=folder + ":" + os.environ["PATH"])
            answer = subprocess.run([TERN, "run", MODEL, "-p", "x", "--tp", "2"], env=env, stdin=subprocess.DEVNULL, capture_output=True,
                                    timeout=30, check=False)
            err = answer.stderr.decode()
            self.assertEqual((answer.returncode, err.count("\n")), (1, 1), err)
            self.assertNotIn("rank 0 of", err)
            self.assertIn("ended by signal 9", err)


if __name__ == "__main__":
    mpi_runs.main()
