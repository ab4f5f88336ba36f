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
import catching  # noqa: E402
import mpi_runs  # noqa: E402
from mpi_runs import BOUND  # noqa: E402

SOURCE = os.path.abspath(os.environ.get("TERN_SOURCE", os.path.join(HERE, "..", "..")))
TERN = os.path.abspath(os.environ.get("TERN", os.path.join(SOURCE, "build", "tern")))
MODEL = os.path.join(SOURCE, "models", "tiny-shakespeare")


def used(pid):
    """seconds of a processor"""
    words = mpi_runs.stat(pid)
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK") if words else 0


def has_plugin(pid):
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as f:
            return "/libtern_mpi.so" in f.read()
    except OSError:
        return False


class Faults(unittest.TestCase):
    def begin(self, command, env, stdin=subprocess.DEVNULL):
        run = mpi_runs.Run([TERN, *command], env, stdin)
        self.addCleanup(run.end, 0)
        return run

    def in_group(self, run, n, path):
        """the ranks, once they are in it"""
        def look():
            ranks = run.tern_ranks_now(n)
            # Messages cannot be seen from outside; who has computed for so long is beyond MPI's start.
            return ranks if ranks and all(map(mpi_runs.has_window, ranks) if path == "auto" else (used(r) > 0.4 for r in ranks)) else None
        ranks = run.wait(look, f"{n} ranks, {path}")
        self.assertEqual([mpi_runs.has_window(r) for r in ranks], [path == "auto"] * n)
        return ranks

    def start(self, timeout="2", path="auto", n=2):
        """bench, which does not end by itself within these tests: the run, and its ranks in the middle of it"""
        run = self.begin(["bench", MODEL, "--tp", str(n), "--no-ceilings", "--runs", "999", "--decode", "200", "-q"],
                         mpi_runs.environment(path, TERN_COMM_TIMEOUT=timeout))
        ranks = self.in_group(run, n, path)
        before = list(map(used, ranks))
        run.wait(lambda: all(used(r) > b + 0.1 for r, b in zip(ranks, before)), "steps")
        return run, ranks

    def end(self, run, since):
        status, out, err, left = run.end(BOUND, since)
        self.assertEqual(left, [], err)
        return status, out, err

    def check_line(self, run, since, *parts):
        code, _, err = self.end(run, since)
        self.assertEqual((code, err.count("\n")), (1, 1), err)
        for part in parts:
            self.assertIn(part, err)

    def check_killed(self, rank, path="auto", n=2):
        run, ranks = self.start("5", path, n)  # mpirun sees it first, which takes it up to two
        os.kill(ranks[rank], signal.SIGKILL)
        self.check_line(run, time.monotonic(), f"tern: rank {rank} of {n} (process {ranks[rank]}) was ended by signal 9")

    def test_rank_0_is_killed(self):
        self.check_killed(0)

    def test_rank_1_is_killed(self):
        self.check_killed(1)

    def test_rank_1_of_3_is_killed_in_the_middle_of_messages(self):
        self.check_killed(1, "p2p", 3)

    def check_stopped(self, rank, **more):
        run, ranks = self.start(**more)
        os.kill(ranks[rank], signal.SIGSTOP)
        self.check_line(run, time.monotonic(), f"tern: rank {rank} (", f"process {ranks[rank]}) has not answered for 2 s")

    def test_rank_0_is_stopped(self):
        self.check_stopped(0)

    def test_rank_1_is_stopped(self):
        self.check_stopped(1)

    def test_rank_1_is_stopped_in_the_middle_of_messages(self):
        self.check_stopped(1, path="p2p")

    def test_a_rank_is_killed_while_a_user_is_waited_for(self):
        with tempfile.TemporaryDirectory() as folder:
            template = os.path.join(folder, "t.jinja")
            with open(template, "w", encoding="ascii") as f:
                f.write("{{ messages[-1].content }}")
            run = self.begin(["chat", MODEL, "--template", template, "-n", "4", "--temp", "0", "-q", "--tp", "2"], mpi_runs.environment(),
                             subprocess.PIPE)
            self.addCleanup(run.process.stdin.close)
            ranks = self.in_group(run, 2, "auto")
            os.write(run.process.stdin.fileno(), b"Hello\n")
            run.wait(lambda: os.fstat(run.out.fileno()).st_size, "an answer")
            run.wait(lambda: mpi_runs.state(ranks[0]) == "S", "a prompt")
            os.kill(ranks[1], signal.SIGKILL)
            self.check_line(run, time.monotonic(), "tern: rank 1 ")

    def check_signal(self, number):
        """it ends by it as it does without ranks"""
        run, _ = self.start()
        run.process.send_signal(number)
        self.assertEqual(self.end(run, time.monotonic()), (128 + number, "", ""))

    def test_interrupted(self):
        self.check_signal(signal.SIGINT)

    def test_terminated(self):
        self.check_signal(signal.SIGTERM)

    def test_hung_up(self):
        self.check_signal(signal.SIGHUP)

    def with_last_rank(self, command):
        """tern run with something else in the place of its last rank"""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "mpirun")
        with open(path, "w", encoding="ascii") as f:
            f.write("#!/bin/sh\nshift 2\nexec '%s' -n 1 \"$@\" : -n 1 %s\n" % (shutil.which("mpirun"), command))
        os.chmod(path, 0o755)
        return self.begin(["run", MODEL, "-p", "x", "--tp", "2"], mpi_runs.environment(PATH=folder.name + ":" + os.environ["PATH"]))

    def in_start(self, run):
        """once rank 0 is in MPI's start, to which the other one never comes"""
        def look():
            ranks = run.tern_ranks_now(2)
            return ranks and has_plugin(ranks[0])
        run.wait(look, "rank 0")

    def test_a_rank_that_never_comes_to_mpi_s_start(self):
        run = self.with_last_rank("sleep 60")
        self.in_start(run)
        self.check_line(run, time.monotonic(), "has waited 6 s for the others to join")

    def test_a_signal_while_a_rank_does_not_come_to_mpi_s_start(self):
        run = self.with_last_rank("sleep 60")
        self.in_start(run)
        run.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.end(run, time.monotonic()), (143, "", ""))

    def test_a_signal_while_mpi_starts_and_input_is_still_to_come(self):
        def check(after):
            read, write = os.pipe()
            try:
                run = self.begin(["run", MODEL, "-f", "-", "--tp", "2"], mpi_runs.environment(), read)
                catching.started(run.process, signal.SIGTERM)
                time.sleep(after)
                since = time.monotonic()
                run.process.send_signal(signal.SIGTERM)
                return self.end(run, since)
            finally:
                os.close(read)
                os.close(write)
        for after in (0, 0.1, 0.2, 0.3, 0.4, 0.6):
            self.assertEqual(check(after), (143, "", ""), after)

    def test_a_rank_that_is_killed_before_it_has_reported(self):
        run = self.with_last_rank("sh -c 'sleep 1; kill -9 $$'")
        code, _, err = self.end(run, run.began)
        self.assertEqual((code, err.count("\n")), (1, 1), err)
        self.assertNotIn("rank 0 of", err)
        self.assertIn("ended by signal 9", err)

    def test_stopped_together_they_go_on(self):
        run, ranks = self.start("1")
        processes = [run.process.pid, *ranks]
        run.process.send_signal(signal.SIGTSTP)
        self.assertTrue(mpi_runs.until(lambda: all(mpi_runs.state(pid) == "T" for pid in processes), BOUND))
        time.sleep(1.5)  # longer than one alone would be waited for, and so after they go on
        self.assertEqual([mpi_runs.state(pid) for pid in processes], ["T"] * 3)
        run.process.send_signal(signal.SIGCONT)
        time.sleep(1.5)
        self.assertIsNone(run.process.poll())
        run.process.send_signal(signal.SIGINT)
        self.assertEqual(self.end(run, time.monotonic()), (130, "", ""))

    def test_a_launcher_that_is_killed(self):
        run, _ = self.start()
        run.process.kill()
        self.end(run, time.monotonic())

    def test_mpirun_is_killed(self):
        run, _ = self.start()
        mpirun, = (pid for pid, rank in run.members().items() if rank is None and pid != run.process.pid)
        os.kill(mpirun, signal.SIGKILL)
        self.check_line(run, time.monotonic(), f"tern: mpirun (process {mpirun}) was ended by signal 9")


if __name__ == "__main__":
    mpi_runs.main(16)
