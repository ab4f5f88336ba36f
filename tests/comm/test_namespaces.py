#!/usr/bin/env python3
"""Two ranks in two network namespaces with a cable between them, as two hosts have: every operation, the watch over a rank that is
stopped, and over a cable that is cut."""
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import mpi_runs

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.abspath(os.environ.get("TERN_SOURCE", os.path.join(HERE, "..", "..")))
TERN = os.path.abspath(os.environ.get("TERN", os.path.join(SOURCE, "build", "tern")))
MODEL = os.path.join(SOURCE, "models", "tiny-shakespeare")
TAG = f"{os.getpid() % 100000}"
SPACES = (f"tern{TAG}a", f"tern{TAG}b")
CABLE = (f"tern{TAG}v", f"tern{TAG}w")
NET = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
BOUND = 10.0

# What mpirun starts its daemon on the other host with: here a door into the other namespace, where the host has a name of its own.
DOOR = """#!/bin/sh
shift
exec ip netns exec {space} unshare --uts sh -c 'hostname tern-other; exec sh -c "$*"' sh "$@"
"""


def ip(*args):
    subprocess.run(["ip", *args], check=True, capture_output=True, text=True)


def raise_cable():
    for space in SPACES:
        ip("netns", "add", space)
        ip("-n", space, "link", "set", "lo", "up")
    ip("link", "add", CABLE[0], "netns", SPACES[0], "type", "veth", "peer", "name", CABLE[1], "netns", SPACES[1])
    for i in (0, 1):
        ip("-n", SPACES[i], "addr", "add", f"{NET}.{i + 1}/24", "dev", CABLE[i])
        ip("-n", SPACES[i], "link", "set", CABLE[i], "up")


def take_down():
    for space in SPACES:
        subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)


def why_not():
    """why there can be no such namespaces here; None if there can"""
    if not shutil.which("ip") or not shutil.which("unshare"):
        return "two network namespaces: ip or unshare is not installed (iproute2, util-linux)"
    try:
        raise_cable()
        subprocess.run(["ip", "netns", "exec", SPACES[1], "unshare", "--uts", "hostname", "tern-other"], check=True, capture_output=True)
    except (subprocess.CalledProcessError, OSError) as error:
        return f"two network namespaces are not permitted here: {(getattr(error, 'stderr', '') or error)}".strip()
    finally:
        take_down()
    return None


class Namespaces(unittest.TestCase):
    def setUp(self):
        raise_cable()
        self.addCleanup(take_down)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.door = os.path.join(folder.name, "door")
        with open(self.door, "w", encoding="ascii") as f:
            f.write(DOOR.format(space=SPACES[1]))
        os.chmod(self.door, 0o700)

    def mpirun(self):
        net = f"{NET}.0/24"
        return ["ip", "netns", "exec", SPACES[0], "mpirun", "-q", "--allow-run-as-root", "-n", "2", "--host", f"{NET}.1:1,{NET}.2:1",
                "--mca", "plm", "rsh", "--mca", "plm_rsh_agent", self.door, "--mca", "oob_tcp_if_include", net,
                "--mca", "btl", "tcp,self", "--mca", "pml", "ob1", "--mca", "btl_tcp_if_include", net,
                "-x", "TERN_PLUGINS", "-x", "TERN_COMM_TIMEOUT", "-x", "TERN_TEST_PIDS"]

    def run_ranks(self, *command, **env):
        return mpi_runs.Run(self.mpirun() + list(command), mpi_runs.environment(**env))

    def test_every_operation(self):
        status, out, err, left = self.run_ranks(mpi_runs.RANKS, "collectives", "77").end(100)
        self.assertEqual((status, left), (0, []), out + err)

    def test_the_command(self):
        args = [TERN, "run", MODEL, "-p", "ROMEO:", "-n", "20", "--temp", "0", "-q"]
        one = subprocess.run(args, capture_output=True, text=True, check=True)
        status, out, err, _ = self.run_ranks(*args).end(100)
        self.assertEqual((status, out), (0, one.stdout), err)

    def test_a_rank_that_is_stopped(self):
        for rank in (0, 1):
            run = self.run_ranks(mpi_runs.RANKS, "loop", str(rank), "stop", "300", TERN_COMM_TIMEOUT="2")
            run.ranks(2)
            status, _, err, left = run.end(BOUND)
            self.assertEqual((status, left), (1, []), err)
            told = re.findall(r"^tern: (rank \d) \((.+?), process \d+\) has not answered for 2 s", err, re.M)
            self.assertEqual([name for name, _ in told], [f"rank {rank}"], err)
            self.assertEqual(told[0][1] == "tern-other", rank == 1)

    def test_a_cable_that_is_cut(self):
        for what in ("loop", "idle"):
            run = self.run_ranks(mpi_runs.RANKS, what, TERN_COMM_TIMEOUT="2")
            pids = run.ranks(2)
            ip("-n", SPACES[0], "link", "set", CABLE[0], "down")
            end = time.monotonic() + BOUND
            while any(map(mpi_runs.alive, pids)) and time.monotonic() < end:
                time.sleep(0.05)
            left = [pid for pid in pids if mpi_runs.alive(pid)]
            ip("-n", SPACES[0], "link", "set", CABLE[0], "up")  # mpirun and its daemon are Open MPI's to end
            _, _, err, _ = run.end(BOUND)
            self.assertEqual(left, [], err)
            self.assertIn("has not answered for 2 s", err)
            for space in SPACES:  # none of theirs stays behind
                pids = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True, check=True).stdout.split()
                for pid in pids:
                    os.kill(int(pid), signal.SIGKILL)


if __name__ == "__main__":
    mpi_runs.main(1, why_not)
