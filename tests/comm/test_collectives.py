#!/usr/bin/env python3
"""Groups of 1 to 4 ranks: sums in rank order to the bit, gathers, broadcasts and barriers, through shared memory and through messages."""
import os
import shutil
import subprocess
import tempfile
import unittest

import mpi_runs

SECONDS = 120  # a run that nothing is wrong with takes about three


class Collectives(unittest.TestCase):
    def check(self, n, path, *args, status=0, **env):
        run = mpi_runs.Run(mpi_runs.mpirun(n, path) + [mpi_runs.RANKS, *args], mpi_runs.environment(path, **env))
        got, out, err, left = run.end(SECONDS)
        self.assertEqual((got, left), (status, []), f"{n} ranks, {path}: {out}{err}")
        return out, err

    def test_every_operation_on_one_rank(self):
        self.check(1, "auto", "collectives", "1")

    def test_every_operation_on_two_ranks(self):
        self.check(2, "auto", "collectives", "2")

    def test_every_operation_on_three_ranks(self):
        self.check(3, "auto", "collectives", "3")

    def test_every_operation_on_four_ranks(self):
        self.check(4, "auto", "collectives", "4")

    def test_every_operation_through_messages_of_two_ranks(self):
        self.check(2, "p2p", "collectives", "12")

    def test_every_operation_through_messages_of_three_ranks(self):
        self.check(3, "p2p", "collectives", "13")

    def test_every_operation_through_messages_of_four_ranks(self):
        self.check(4, "p2p", "collectives", "14")

    def test_two_groups_in_one_process(self):
        for path in ("auto", "p2p"):
            self.check(2, path, "twice")

    def test_a_forked_child_is_no_rank(self):
        for path in ("auto", "p2p"):
            self.check(2, path, "fork")

    def test_a_rank_of_another_version_is_refused_by_all(self):
        command = mpi_runs.mpirun(1) + [mpi_runs.RANKS, "open", "0.1.0", ":", "-n", "1", mpi_runs.RANKS, "open", "9.8.7"]
        status, _, err, left = mpi_runs.Run(command, mpi_runs.environment()).end(mpi_runs.BOUND)
        self.assertEqual((status, left), (3, []), err)
        lines = [line for line in err.splitlines() if line.startswith("test: ")]
        self.assertIn(len(lines), (1, 2), err)  # mpirun may end one when the other has ended
        for line in lines:
            self.assertRegex(line, r"rank 1 \(.+\) runs tern 9\.8\.7 .*rank 0 \(.+\) tern 0\.1\.0")

    def test_without_mpirun_there_is_one_rank(self):
        answer = subprocess.run([mpi_runs.RANKS, "collectives"], env=mpi_runs.environment(), capture_output=True, timeout=SECONDS,
                                text=True, check=False)
        self.assertEqual(answer.returncode, 0, answer.stderr)


class Plugins(unittest.TestCase):
    """What tern_comm_open() says of plugins that it cannot use."""

    def open(self, folder, **env):
        more = dict(mpi_runs.environment(), TERN_PLUGINS=folder, **env)
        answer = subprocess.run([mpi_runs.RANKS, "open"], env=more, capture_output=True, timeout=mpi_runs.BOUND, text=True, check=False)
        self.assertEqual(answer.returncode, 3, answer.stderr)
        return answer.stderr

    def test_a_folder_without_one(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertIn(f"there is no libtern_mpi.so in '{folder}' (TERN_PLUGINS)", self.open(folder))

    def test_none_anywhere(self):
        with tempfile.TemporaryDirectory() as folder:
            program = os.path.join(folder, "ranks")
            shutil.copy(mpi_runs.RANKS, program)
            env = mpi_runs.environment()
            env.pop("TERN_PLUGINS")
            answer = subprocess.run([program, "open"], env=env, capture_output=True, timeout=mpi_runs.BOUND, text=True, check=False)
            self.assertEqual(answer.returncode, 3, answer.stderr)
            self.assertIn(f"there is no libtern_mpi.so in '{folder}'", answer.stderr)
            self.assertIn("TERN_PLUGINS names another folder", answer.stderr)

    def test_a_file_that_is_none(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "libtern_mpi.so")
            with open(path, "w", encoding="ascii") as f:
                f.write("no object\n")
            self.assertIn(f"'{path}' cannot be loaded: ", self.open(folder))

    def test_a_file_that_is_cut_off(self):
        with open(mpi_runs.PLUGIN, "rb") as f:
            whole = f.read()
        for size in (5000, len(whole) // 2, len(whole) - 1):
            with tempfile.TemporaryDirectory() as folder:
                with open(os.path.join(folder, "libtern_mpi.so"), "wb") as f:
                    f.write(whole[:size])
                self.assertIn(f"libtern_mpi.so' is cut off: it has {size} bytes, its header says at least {len(whole)}", self.open(folder))

    def compiled(self, text):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        source = os.path.join(folder.name, "plugin.c")
        with open(source, "w", encoding="ascii") as f:
            f.write(text)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", os.path.join(folder.name, "libtern_mpi.so"), source], check=True)
        return self.open(folder.name)

    @unittest.skipUnless(shutil.which("cc"), "no compiler")
    def test_objects_of_others_and_of_other_versions(self):
        self.assertIn("is no plugin of tern: it has no tern_comm_plugin", self.compiled("int x;\n"))
        struct = "const struct { unsigned abi; const char *version; void *open, *close; } tern_comm_plugin = "
        self.assertIn("has interface 77, expected ", self.compiled(struct + '{ 77, "0.1.0", 0, 0 };\n'))
        self.assertIn("is of tern 9.8.7, expected ", self.compiled(struct + '{ 1, "9.8.7", 0, 0 };\n'))

    def test_wishes_that_cannot_be(self):
        for name, value in (("TERN_COMM", "carrier pigeon"), ("TERN_COMM_TIMEOUT", "soon"), ("TERN_COMM_TIMEOUT", "-1"),
                            ("TERN_COMM_TIMEOUT", "nan")):
            self.assertIn(f"{name} is '{value}', expected ", self.open(os.path.abspath(mpi_runs.BUILD), **{name: value}))


if __name__ == "__main__":
    mpi_runs.main()
