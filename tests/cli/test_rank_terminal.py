#!/usr/bin/env python3
# labels: quick
"""tern --tp 2 at a terminal, as a job of a shell: stopped, ended and continued like any other."""
import os
import pty
import select
import signal
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


class Shell:
    """bash at a terminal of its own; commands are echoed, so what is waited for is written in two parts"""

    def __init__(self, **env):
        self.folder = tempfile.TemporaryDirectory()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            env = dict(mpi_runs.environment(), PS1="> ", TERM="dumb", TERN_TEST_RUN=self.folder.name, **env)
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"], env)
        self.said = ""

    def type(self, text):
        os.write(self.fd, text.encode())

    def until(self, text, seconds=mpi_runs.START):
        """what is said up to there, and whether it came"""
        end = time.monotonic() + seconds
        while text not in self.said and time.monotonic() < end:
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.said += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:  # it has ended
                    break
        if text not in self.said:
            return self.said, False
        before, _, self.said = self.said.partition(text)
        return before, True

    def job(self):
        """{process: its rank, or None} of what it has started"""
        return {pid: rank for pid, rank in mpi_runs.members(self.folder.name).items() if pid != self.pid}

    def is_stopped(self):
        """the launcher and both ranks are"""
        return sum(mpi_runs.state(pid) == "T" for pid in self.job()) == 3

    def is_read(self):
        """rank 0 is in its group, has the terminal and waits"""
        words = [mpi_runs.stat(pid) for pid, rank in self.job().items() if rank == 0 and mpi_runs.has_window(pid)]
        return any(w and w[0] == "S" and w[2] == w[5] for w in words)

    def close(self):
        for pid in [*self.job(), self.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        os.waitpid(self.pid, 0)
        os.close(self.fd)
        self.folder.cleanup()


class Terminal(unittest.TestCase):
    def shell(self, **env):
        shell = Shell(**env)
        self.addCleanup(shell.close)
        return shell

    def expect(self, shell, text):
        before, found = shell.until(text)
        self.assertTrue(found, before)
        return before

    def wait(self, shell, there):
        self.assertTrue(mpi_runs.until(there), (shell.said, shell.job()))

    def test_one_that_is_stopped_and_ended_leaves_the_shell_its_terminal(self):
        shell = self.shell()
        shell.type(f"'{TERN}' bench '{MODEL}' --tp 2 --no-ceilings --runs 999 --decode 200\n")
        self.expect(shell, "measuring")
        shell.type("\x1a")
        self.expect(shell, "Stopped")
        self.wait(shell, shell.is_stopped)
        shell.type("kill %1\n")  # which lets it go on, and end
        self.assertTrue(mpi_runs.until(lambda: not shell.job(), mpi_runs.BOUND), shell.job())
        # The shell says what became of its jobs before it asks again, and may ask before the launcher is gone for good.
        self.assertTrue(mpi_runs.until(lambda: shell.type("\n") or shell.until("Exit 143", 0.5)[1]), shell.said)
        shell.type("echo 'sti''ll' here\n")
        self.expect(shell, "still here")

    @unittest.skipIf(mpi_runs.sanitizer() == "thread",
                     "TSan runs a handler once the read that the signal interrupts has ended, which it does not")
    def test_one_that_reads_in_the_background_waits_for_the_foreground(self):
        shell = self.shell(TERN_COMM_TIMEOUT="1")
        shell.type(f"'{TERN}' run '{MODEL}' --tp 2 -q --echo -f - -n 5 --temp 0 &\n")
        self.wait(shell, shell.is_stopped)
        time.sleep(1.5)  # longer than one that is stopped alone would be waited for
        shell.type("jobs\n")
        self.expect(shell, "Stopped")
        shell.type("fg; echo 'sta''tus' $?\n")
        self.wait(shell, shell.is_read)
        shell.type("ROMEO:\n\x04")
        self.expect(shell, "ROMEO:")
        before = self.expect(shell, "status 0")
        self.assertIn("ROMEO:", before)  # as the command says it, behind the terminal's echo
        self.assertNotIn("tern: ", before)

    def test_one_that_is_brought_to_the_foreground_before_it_reads(self):
        shell = self.shell(TERN_COMM_TIMEOUT="1")
        shell.type(f"'{TERN}' run '{MODEL}' --tp 2 -q --echo -f - -n 5 --temp 0 & fg; echo 'sta''tus' $?\n")
        self.wait(shell, shell.is_read)
        shell.type("ROMEO:\n\x04")
        self.assertNotIn("tern: ", self.expect(shell, "status 0"))


if __name__ == "__main__":
    mpi_runs.main()
