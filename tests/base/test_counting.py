#!/usr/bin/env python3
"""What tools/run_tests.py makes of the output of programs: nothing that was left out or has failed counts as passed."""
import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.environ.get("TERN_SOURCE", os.path.join(HERE, "..", "..")), "tools"))
import run_tests  # noqa: E402


class Counting(unittest.TestCase):
    def check(self, output, program_failed, passed, skipped, *failed):
        self.assertEqual(run_tests.count(output, program_failed), (passed, skipped, list(failed)))

    def test_programs_of_cmocka(self):
        output = "[ RUN      ] a\n[       OK ] a\n[ RUN      ] b\nskipped: no AVX\n[  SKIPPED ] b\n[ RUN      ] c\n"
        self.check(output + "[  FAILED  ] c\n", True, 1, 1, "c")
        self.check(output + "[       OK ] c\n", False, 2, 1)
        self.check(output, True, 1, 1, "c")  # a crash
        self.check(output + "[       OK ] c\n", True, 2, 1, "(the program)")

    def test_unittest(self):
        self.check("Ran 5 tests in 0.1s\n\nOK (skipped=2)\n", False, 3, 2)
        self.check("Ran 1 test in 0.1s\n\nOK\n", False, 1, 0)
        self.check("FAIL: test_a (x.Y)\nRan 5 tests in 0.1s\n\nFAILED (failures=1, skipped=1)\n", True, 3, 1, "test_a")
        self.check("Ran 2 tests in 0.1s\n\nOK\n", True, 2, 0, "(the program)")
        self.check("skipped: no mpirun\nRan 4 tests in 0.0s\nOK (skipped=4)\n", False, 0, 4)

    def test_scripts(self):
        self.check("", False, 1, 0)
        self.check("all is well\n", False, 1, 0)
        self.check("", True, 0, 0, "(the program)")
        self.check("skipped: no compiler\n", False, 0, 1)
        self.check("skipped: no compiler\nskipped: no linker\n", False, 0, 1)
        self.check("skipped: one of two\nthe other is well\n", False, 1, 0)
        self.check("skipped: no compiler\n", True, 0, 0, "(the program)")


if __name__ == "__main__":
    unittest.main()
