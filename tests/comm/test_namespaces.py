#!/usr/bin/env python3
"""Two ranks in two network namespaces with a cable between them, as two hosts have: every operation, the watch over a rank that is
stopped, and over a cable that is cut."""
import itertools
import os
import re
import shutil
import subprocess
import tempfile
import time
import unittest

import mpi_runs
from mpi_runs import BOUND

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.abspath(os.environ.get("TERN_SOURCE", os.path.join(HERE, "..", "..")))
TERN = os.path.abspath(os.environ.get("TERN", os.path.join(SOURCE, "build", "tern")))
MODEL = os.path.join(SOURCE, "models", "tiny-shakespeare")
SECONDS = 60  # a run that nothing is wrong with takes about three

# What mpirun starts its daemon on the other host with: here a door into the other namespace, where the host has a name of its own.
DOOR = """#!/bin/sh
shift
exec ip netns exec {space} unshare --uts sh -c 'hostname tern-other; exec sh -c "$*"' sh "$@"
"""


def ip(*args):
    subprocess.run(["ip", *args], check=True, capture_output=True, text=True, timeout=BOUND)


class Cable:
    """two namespaces, in each of them an end of a cable"""

    numbers = itertools.count()

    def __init__(self):
        number = os.getpid() * 16 + next(Cable.numbers) % 16
        self.net = f"10.{200 + number % 50}.{number // 50 % 250}"
        self.spaces, self.ends = ([f"tern{number}{end}" for end in ends] for ends in ("ab", "vw"))

    def up(self):
        for space in self.spaces:
            ip("netns", "add", space)
            ip("-n", space, "link", "set", "lo", "up")
        ip("link", "add", self.ends[0], "netns", self.spaces[0], "type", "veth", "peer", "name", self.ends[1], "netns", self.spaces[1])
        for i in (0, 1):
            ip("-n", self.spaces[i], "addr", "add", f"{self.net}.{i + 1}/24", "dev", self.ends[i])
            ip("-n", self.spaces[i], "link", "set", self.ends[i], "up")

    def set_link(self, to):
        ip("-n", self.spaces[0], "link", "set", self.ends[0], to)

    def down(self):
        for space in self.spaces:
            subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True, timeout=BOUND)


def why_not():
    """why there can be no such namespaces here; None if there can"""
    if not shutil.which("ip") or not shutil.which("unshare"):
        return "two network namespaces: ip or unshare is not installed (iproute2, util-linux)"
    cable = Cable()
    try:
        cable.up()
        subprocess.run(["ip", "netns", "exec", cable.spaces[1], "unshare", "--uts", "hostname", "tern-other"], check=True, capture_output=True,
                       timeout=BOUND)
    except (subprocess.SubprocessError, OSError) as error:
        return f"two network namespaces are not permitted here: {(getattr(error, 'stderr', '') or error)}".strip()
    finally:
        cable.down()
    return None


class Namespaces(unittest.TestCase):
    def setUp(self):
        self.cable = Cable()
        self.addCleanup(self.cable.down)
        self.cable.up()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.door = os.path.join(folder.name, "door")
        with open(self.door, "w", encoding="ascii") as f:
            f.write(DOOR.format(space=self.cable.spaces[1]))
        os.chmod(self.door, 0o700)

    def mpirun(self):
        net = self.cable.net
        return ["ip", "netns", "exec", self.cable.spaces[0], "mpirun", "-q", "--allow-run-as-root", "-n", "2", "--host", f"{net}.1:1,{net}.2:1",
                "--mca", "plm", "rsh", "--mca", "plm_rsh_agent", self.door, "--mca", "oob_tcp_if_include", f"{net}.0/24",
                "--mca", "btl", "tcp,self", "--mca", "pml", "ob1", "--mca", "btl_tcp_if_include", f"{net}.0/24",
                "-x", "TERN_PLUGINS", "-x", "TERN_COMM_TIMEOUT", "-x", "TERN_TEST_RUN", "-x", "TERN_TEST_WINDOW"]

    def run_ranks(self, *command, **env):
        env = mpi_runs.environment(**env, TERN_TEST_WINDOW="0")
        for name in [name for name in env if name.startswith("OMPI_MCA_")]:
            del env[name]  # the loopback's
        run = mpi_runs.Run(self.mpirun() + list(command), env)
        self.addCleanup(run.end, 0)
        return run

    def test_every_operation(self):
        run = self.run_ranks(mpi_runs.RANKS, "collectives", "77")
        run.ranks(2)
        status, out, err, left = run.end(SECONDS)
        self.assertEqual((status, left), (0, []), out + err)

    def test_the_command(self):
        args = [TERN, "run", MODEL, "-p", "ROMEO:", "-n", "20", "--temp", "0", "-q"]
        one = subprocess.run(args, capture_output=True, text=True, check=True, timeout=SECONDS)
        status, out, err, left = self.run_ranks(*args).end(SECONDS)
        self.assertEqual((status, out, left), (0, one.stdout, []), err)

    def check_stopped(self, rank):
        run = self.run_ranks(mpi_runs.RANKS, "loop", str(rank), "stop", "300", TERN_COMM_TIMEOUT="2")
        status, _, err, left = run.end(BOUND, run.struck())
        self.assertEqual((status, left), (1, []), err)
        told = re.findall(r"^tern: (rank \d) \((.+?), process \d+\) has not answered for 2 s", err, re.M)
        self.assertEqual([name for name, _ in told], [f"rank {rank}"], err)
        self.assertEqual(told[0][1] == "tern-other", rank == 1)

    def test_rank_0_is_stopped(self):
        self.check_stopped(0)

    def test_rank_1_is_stopped(self):
        self.check_stopped(1)

    def check_cut(self, what):
        run = self.run_ranks(mpi_runs.RANKS, what, TERN_COMM_TIMEOUT="2")
        pids = run.ranks(2)
        self.cable.set_link("down")
        cut = time.monotonic()
        mpi_runs.until(lambda: not any(map(mpi_runs.alive, pids)), BOUND)
        self.assertEqual([mpi_runs.alive(pid) for pid in pids], [False, False])
        self.cable.set_link("up")  # mpirun and its daemon are Open MPI's to end
        status, _, err, left = run.end(BOUND, cut)
        self.assertNotIn(status, (0, None), err)
        self.assertEqual(left, [], err)
        # The word is rank 0's on its side, and rank 1's on the other, whose line may not come through any more.
        told = re.findall(r"^tern: rank (\d) \(.+\) (.+)", err, re.M)
        self.assertTrue(any("has not answered for 2 s" in text for _, text in told), err)
        self.assertIn(len(told), (1, 2), err)
        self.assertEqual(len(set(rank for rank, _ in told)), len(told), err)

    def test_a_cable_that_is_cut_in_the_middle_of_sums(self):
        self.check_cut("loop")

    def test_a_cable_that_is_cut_while_all_wait(self):
        self.check_cut("idle")


if __name__ == "__main__":
    mpi_runs.main(6, why_not)
