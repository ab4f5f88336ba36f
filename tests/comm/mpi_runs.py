"""Programs on several ranks of this host, for the tests in this folder."""
import concurrent.futures
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BUILD = os.environ.get("TERN_BUILD", "build/release")
RANKS = os.path.join(BUILD, "tests", "comm", "test_ranks")
PLUGIN = os.path.join(BUILD, "libtern_mpi.so")

# Traffic stays on the loopback; messages of ranks go through TCP, as they would between hosts.
LOOPBACK = ["--mca", "oob_tcp_if_include", "lo", "--mca", "btl_tcp_if_include", "lo"]
AS_BETWEEN_HOSTS = ["--mca", "pml", "ob1", "--mca", "btl", "tcp,self"]


def missing():
    """why nothing of this can be tested here; None if it can"""
    if not shutil.which("mpirun"):
        return "mpirun is not installed (openmpi-bin)"
    if not os.path.exists(PLUGIN):
        return f"no {PLUGIN}: built without Open MPI"
    return None


def mpirun(n, path="auto", quiet=True):
    """the beginning of a command line"""
    command = ["mpirun", "-n", str(n), "--oversubscribe", *LOOPBACK]
    if os.geteuid() == 0:
        command.append("--allow-run-as-root")
    if quiet:
        command.append("-q")
    if path == "p2p":
        command += AS_BETWEEN_HOSTS
    return command


def environment(path="auto", **more):
    env = dict(os.environ, TERN_COMM=path, TERN_PLUGINS=os.path.abspath(BUILD))
    # What Open MPI keeps at its end is not ours.
    env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    env["TSAN_OPTIONS"] = env.get("TSAN_OPTIONS", "") + ":detect_deadlocks=0"  # its TCP takes two locks in both orders; we have none
    env.update(more)
    return env


def alive(pid):
    """whether a process is there and does not only wait for its parent to look at it"""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


class Run:
    """A command that starts ranks, each of which writes its process id into a folder."""

    def __init__(self, command, env):
        self.folder = tempfile.TemporaryDirectory()
        self.out = tempfile.TemporaryFile()
        self.err = tempfile.TemporaryFile()
        self.began = time.monotonic()
        self.process = subprocess.Popen(command, env=dict(env, TERN_TEST_PIDS=self.folder.name), stdin=subprocess.DEVNULL,
                                        stdout=self.out, stderr=self.err, start_new_session=True)
        self.pids = {}

    def ranks(self, n, seconds=30):
        """their process ids, once all are there"""
        end = time.monotonic() + seconds
        while len(self.pids) < n and time.monotonic() < end and self.process.poll() is None:
            self.look()
            time.sleep(0.02)
        return [self.pids[r] for r in range(n)]

    def look(self):
        for name in os.listdir(self.folder.name):
            with open(os.path.join(self.folder.name, name), encoding="ascii") as f:
                text = f.read()
            if text.endswith("\n"):
                self.pids[int(name)] = int(text)

    def end(self, seconds):
        """(status, stdout, stderr, processes that are left); status None: it did not end"""
        try:
            status = self.process.wait(max(0.1, seconds))
        except subprocess.TimeoutExpired:
            status = None
        self.look()
        self.seconds = time.monotonic() - self.began
        # A process that was killed may need a moment to be gone.
        patience = time.monotonic() + 3
        while any(map(alive, self.pids.values())) and time.monotonic() < patience:
            time.sleep(0.02)
        left = [pid for pid in self.pids.values() if alive(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        if status is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        texts = []
        for f in (self.out, self.err):
            f.seek(0)
            texts.append(f.read().decode(errors="replace"))
            f.close()
        self.folder.cleanup()
        return status, texts[0], texts[1], left


def main(side_by_side=4, not_here=None):
    """unittest.main() of a file whose tests mostly wait: several at a time.  Says what cannot be tested here, and leaves it."""
    reason = missing() or (not_here() if not_here else None)
    if reason:
        print(f"skipped: {reason}")
        sys.exit(0)

    def flat(suite):
        return [case for part in suite for case in (flat(part) if isinstance(part, unittest.TestSuite) else [part])]

    def run(case):
        result = unittest.TestResult()
        case.run(result)
        return result

    cases = [case for case in flat(unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"]))
             if len(sys.argv) < 2 or any(name in case.id() for name in sys.argv[1:])]
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(side_by_side) as pool:
        results = list(pool.map(run, cases))
    wrong = [(kind, case, text) for r in results for kind, found in (("ERROR", r.errors), ("FAIL", r.failures)) for case, text in found]
    skipped = [(case, text) for r in results for case, text in r.skipped]
    for kind, case, text in wrong:
        print(f"{kind}: {case}\n{text}")
    for case, text in skipped:
        print(f"skipped: {case}: {text}")
    print(f"Ran {len(cases)} tests in {time.monotonic() - began:.1f}s")
    print(f"{'FAILED' if wrong else 'OK'} (skipped={len(skipped)})")
    sys.exit(bool(wrong))
