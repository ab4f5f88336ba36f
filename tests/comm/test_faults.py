#!/usr/bin/env python3
"""A rank that is killed, is stopped or ends by itself, in the middle of sums and while all wait: every process ends within 10 s, with one
message and a status that is not 0, and none stays behind."""
import concurrent.futures
import os
import signal
import time
import unittest

import mpi_runs

BOUND = 10.0  # seconds from the fault to the end of the last process
AFTER = 0.3   # when the fault strikes
START = 60.0  # until then ranks have started, on a busy machine
TIMEOUT = 2   # TERN_COMM_TIMEOUT of most runs
N = 3


def fault(path, what, rank, how):
    """one run; what is wrong with it, or None"""
    case = f"{path} {what}: rank {rank} {how}"
    run = mpi_runs.Run(mpi_runs.mpirun(N, path) + [mpi_runs.RANKS, what, str(rank), how, str(int(1000 * AFTER))],
                       mpi_runs.environment(path, TERN_COMM_TIMEOUT=str(TIMEOUT)))
    run.ranks(N, START)
    started = time.monotonic()
    status, _, err, left = run.end(AFTER + BOUND)
    seconds = time.monotonic() - started - AFTER
    told = [line for line in err.splitlines() if line.startswith("tern: ")]
    if status is None or left:
        return f"{case}: {'it goes on' if status is None else f'{left} stay behind'} after {seconds:.1f} s: {err}"
    if status == 0:
        return f"{case}: status 0"
    if seconds > BOUND:
        return f"{case}: took {seconds:.1f} s"
    if how == "stop":
        want = f"tern: rank {rank} ("
        if len(told) != 1 or not told[0].startswith(want) or f"has not answered for {TIMEOUT} s" not in told[0]:
            return f"{case}: {err}"
    elif how in ("close", "return", "exit") and rank != 0:
        # mpirun may have been faster with ending all.
        if len(told) > 1 or (how == "close" and len(told) != 1) or any(f"rank {rank} (" not in line for line in told):
            return f"{case}: {err}"
    elif told:  # killed: mpirun says it; rank 0 ended by itself: it has said why
        return f"{case}: {err}"
    return None


def absence(rank, where):
    """a rank that stops while the group is opened; what is wrong, or None"""
    run = mpi_runs.Run(mpi_runs.mpirun(N) + [mpi_runs.RANKS, "absent", str(rank), *where], mpi_runs.environment())
    run.ranks(N, START)
    status, _, err, left = run.end(BOUND)
    told = [line for line in err.splitlines() if line.startswith("tern: ")]
    if (status, left) != (1, []) or [line[:12] for line in told] != [f"tern: rank {int(rank == 0)}"] or \
            "has waited 6 s for the others to join" not in told[0]:
        return f"rank {rank} {where}: status {status}, left {left}: {err}"
    return None


class Faults(unittest.TestCase):
    def test_every_process_ends(self):
        cases = [(path, what, rank, how) for path in ("auto", "p2p") for what, rank, how in (
            ("loop", 1, "kill"), ("loop", 1, "stop"), ("loop", 0, "stop"), ("loop", 2, "exit"), ("loop", 1, "close"),
            ("loop", 0, "close"), ("loop", 0, "exit"), ("idle", 0, "kill"), ("idle", 0, "stop"), ("idle", 2, "stop"),
            ("idle", 1, "return"), ("idle", 0, "close"))]
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            wrong = [text for text in pool.map(lambda case: fault(*case), cases) if text]
        self.assertEqual(wrong, [])

    def test_mpirun_tells_of_a_killed_rank(self):
        run = mpi_runs.Run(mpi_runs.mpirun(2, quiet=False) + [mpi_runs.RANKS, "idle", "1", "kill", "100"], mpi_runs.environment())
        status, _, err, left = run.end(START)
        self.assertEqual((status, left), (128 + signal.SIGKILL, []), err)
        self.assertEqual(err.count("exited on signal 9"), 1, err)
        self.assertNotIn("tern: ", err)

    def test_the_usual_time(self):
        run = mpi_runs.Run(mpi_runs.mpirun(2) + [mpi_runs.RANKS, "idle", "1", "stop", "100"], mpi_runs.environment())
        run.ranks(2, START)
        status, _, err, left = run.end(0.1 + BOUND)
        self.assertEqual((status, left), (1, []), err)
        self.assertEqual(err.count("has not answered for 5 s"), 1, err)

    def test_ranks_that_are_stopped_together_go_on(self):
        for path in ("auto", "p2p"):
            run = mpi_runs.Run(mpi_runs.mpirun(2, path) + [mpi_runs.RANKS, "loop", "0", "close", "4000"],
                               mpi_runs.environment(path, TERN_COMM_TIMEOUT="2"))
            pids = run.ranks(2, START)
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(3)
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            status, _, err, left = run.end(START)
            self.assertEqual((status, left, err), (33, [], ""), path)

    def test_a_rank_that_stops_while_the_group_is_opened(self):
        cases = [(rank, where) for rank in (0, 1) for where in ([], ["1"], ["30"])]  # after MPI's start, in it
        with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
            wrong = [text for text in pool.map(lambda case: absence(*case), cases) if text]
        self.assertEqual(wrong, [])

    def test_ranks_end_with_who_started_them(self):
        for path in ("auto", "p2p"):
            run = mpi_runs.Run(mpi_runs.mpirun(2, path) + [mpi_runs.RANKS, "idle"], mpi_runs.environment(path))
            pids = run.ranks(2, START)
            run.process.kill()
            end = time.monotonic() + BOUND
            while any(map(mpi_runs.alive, pids)) and time.monotonic() < end:
                time.sleep(0.05)
            _, _, err, left = run.end(1)
            self.assertEqual(left, [], f"{path}: {err}")


if __name__ == "__main__":
    mpi_runs.main()
