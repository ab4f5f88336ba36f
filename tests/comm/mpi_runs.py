"""Programs on several ranks of this host, for the tests in this folder."""
import concurrent.futures
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

BUILD = os.environ.get("TERN_BUILD", "build/release")
RANKS = os.path.join(BUILD, "tests", "comm", "test_ranks")
PLUGIN = os.path.join(BUILD, "libtern_mpi.so")

BOUND = 10.0  # seconds from a fault to the end of the last process
START = 60.0  # until then ranks have started, on a busy machine

# So many runs start at a time, however many wait for what then happens: ranks are given six seconds to find each other.
STARTING = threading.BoundedSemaphore(4)

# Messages of ranks go through TCP, as they would between hosts.
AS_BETWEEN_HOSTS = ["--mca", "pml", "ob1", "--mca", "btl", "tcp,self"]


def missing():
    """why nothing of this can be tested here; None if it can"""
    if os.environ.get("TERN_MPI") == "OFF":
        return "built with -DTERN_MPI=OFF"
    if not shutil.which("mpirun"):
        return "mpirun is not installed (openmpi-bin)"
    if not os.path.exists(PLUGIN):
        sys.exit(f"mpirun is here and {PLUGIN} is not: was libopenmpi-dev missing when tern was built?")
    return None


def sanitizer():
    """the sanitizers of the build, as CMake was told; "" without any"""
    with open(os.path.join(BUILD, "CMakeCache.txt"), encoding="utf-8") as f:
        told = re.search(r"^TERN_SANITIZE:.*?=(.*)$", f.read(), re.M)
    return told[1] if told else ""


def mpirun(n, path="auto", quiet=True):
    """the beginning of a command line"""
    command = ["mpirun", "-n", str(n), "--oversubscribe"]
    if os.geteuid() == 0:
        command.append("--allow-run-as-root")
    if quiet:
        command.append("-q")
    if path == "p2p":
        command += AS_BETWEEN_HOSTS
    return command


def environment(path="auto", **more):
    env = dict(os.environ, TERN_COMM=path, TERN_PLUGINS=os.path.abspath(BUILD))
    # Traffic stays on the loopback, also that of ranks which tern starts itself.
    env.update(OMPI_MCA_oob_tcp_if_include="lo", OMPI_MCA_btl_tcp_if_include="lo")
    # What the ranks' group has to have if there are several: see ranks.c.
    env["TERN_TEST_WINDOW"] = "1" if path == "auto" else "0"
    # What Open MPI keeps at its end is not ours.
    env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    env["TSAN_OPTIONS"] = env.get("TSAN_OPTIONS", "") + ":detect_deadlocks=0"  # its TCP takes two locks in both orders; we have none
    env.update(more)
    return env


def until(true, seconds=START):
    """whether it becomes so in time"""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def stat(pid):
    """the system's words on a process, from its state on; None: it is gone"""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rpartition(")")[2].split()
    except OSError:
        return None


def state(pid):
    """what a process does, in the system's letters; None: it is gone"""
    words = stat(pid)
    return words and words[0]


def alive(pid):
    """whether it is there and does not only wait for its parent to look at it"""
    return state(pid) not in (None, "Z", "X")


def has_window(pid):
    """whether a rank has come to the shared window, which is the last that it opens"""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as f:
            return "/osc_sm." in f.read()
    except OSError:
        return False


def members(folder):
    """{process: its rank, or None} of all that are there and have that folder in their environment"""
    mark, told = b"TERN_TEST_RUN=" + folder.encode(), b"OMPI_COMM_WORLD_RANK="
    found = {}
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/environ", "rb") as f:
                words = f.read().split(b"\0")
        except OSError:  # no process, gone, or someone else's
            continue
        if mark in words:
            found[int(name)] = next((int(word[len(told):]) for word in words if word.startswith(told)), None)
    return found


class Run:
    """A command that starts ranks.  What it starts is known by a folder in its environment, where ranks of ranks.c write their process ids once
    they are in the group, and when they did what a test has told them to."""

    def __init__(self, command, env, stdin=subprocess.DEVNULL):
        self.folder = tempfile.TemporaryDirectory()
        self.out = tempfile.TemporaryFile()
        self.err = tempfile.TemporaryFile()
        self.ended = None
        STARTING.acquire()  # pylint: disable=consider-using-with
        self.starting = True
        self.began = time.monotonic()
        # What a killed mpirun leaves of Open MPI's own shared memory goes with the folder.
        env = dict(env, TERN_TEST_RUN=self.folder.name, OMPI_MCA_btl_vader_backing_directory=self.folder.name,
                   OMPI_MCA_orte_tmpdir_base=self.folder.name)
        self.process = subprocess.Popen(command, env=env, stdin=stdin, stdout=self.out, stderr=self.err, start_new_session=True)

    def has_started(self):
        if self.starting:
            self.starting = False
            STARTING.release()

    def members(self):
        return members(self.folder.name)

    def wait(self, there, what):
        """what there() gives, once it gives something"""
        end = time.monotonic() + START
        while True:
            late = self.process.poll() is not None or time.monotonic() > end
            found = there()
            if found:
                self.has_started()
                return found
            if late:
                status, out, err, _ = self.end(0)
                raise AssertionError(f"{what}: they did not come; status {status}: {out}{err}")
            time.sleep(0.02)

    def read(self, name):
        """what a rank wrote into the folder; None: nothing yet"""
        try:
            with open(os.path.join(self.folder.name, name), encoding="ascii") as f:
                text = f.read()
        except FileNotFoundError:
            return None
        return text if text.endswith("\n") else None

    def ranks(self, n):
        """the process ids of ranks.c, once all are in the group"""
        self.wait(lambda: all(self.read(str(r)) for r in range(n)), f"{n} ranks")
        return [int(self.read(str(r))) for r in range(n)]

    def tern_ranks_now(self, n):
        """those of the command, if it has started them all"""
        pids = {rank: pid for pid, rank in self.members().items() if rank is not None}
        return [pids[r] for r in range(n)] if len(pids) == n else None

    def struck(self):
        """when a rank did what it was told to, by time.monotonic()"""
        return float(self.wait(lambda: self.read("struck"), "a fault"))

    def end(self, seconds, since=None):
        """(status, stdout, stderr, processes that are left) at the latest so many seconds after `since`, which is now;
        status None: the command did not end"""
        if self.ended:
            return self.ended
        deadline = (time.monotonic() if since is None else since) + seconds
        try:
            status = self.process.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            status = None
        left = self.members()
        while left and time.monotonic() < deadline:
            time.sleep(0.02)
            left = self.members()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        self.has_started()
        texts = []
        for f in (self.out, self.err):
            f.seek(0)
            texts.append(f.read().decode(errors="replace"))
            f.close()
        self.folder.cleanup()
        self.ended = status, *texts, sorted(left)
        return self.ended


def main(side_by_side=8, not_here=None):
    """unittest.main() of a file whose tests mostly wait: several at a time.  Says what cannot be tested here, and leaves it."""
    def flat(suite):
        return [case for part in suite for case in (flat(part) if isinstance(part, unittest.TestSuite) else [part])]

    def run(case):
        result = unittest.TestResult()
        case.run(result)
        return result

    cases = [case for case in flat(unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"]))
             if len(sys.argv) < 2 or any(name in case.id() for name in sys.argv[1:])]
    began = time.monotonic()
    reason = missing() or (not_here() if not_here else None)
    if reason:
        print(f"skipped: {reason}\nRan {len(cases)} tests in 0.0s\nOK (skipped={len(cases)})")
        sys.exit(0)
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
