#!/usr/bin/env python3
"""Runs ctest in a build folder and counts test cases.

    tools/run_tests.py BUILD [ctest options...]

ctest counts programs; a program of cmocka holds many cases.  Cases are counted from the output of each program: one that
was begun and neither passed nor was skipped has failed, a crash included.  Python's unittest is counted by its summary,
any other test (a script, a replay) as one, which is skipped if all that it says is "skipped: ...".  Failed programs are printed in full, skipped cases with their reason.
Programs run side by side, one per processor or TERN_TEST_JOBS.  The last line is
"N passed, N failed", alone; the exit status is 0 if nothing failed and something passed.
"""
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

BEGUN = re.compile(r"^\[ RUN      \] (.+)$")
ENDED = re.compile(r"^\[ +(OK|SKIPPED|FAILED) +\] (.+)$")


def count(output, program_failed):
    """(passed, skipped, names of failed cases) of one program's output"""
    passed = skipped = cases = 0
    failed, running = [], None
    for line in output.splitlines():
        begun, ended = BEGUN.match(line), ENDED.match(line)
        if begun:
            if running:
                failed.append(running)
            running = begun.group(1)
            cases += 1
        elif ended and running == ended.group(2):
            if ended.group(1) == "OK":
                passed += 1
            elif ended.group(1) == "SKIPPED":
                skipped += 1
            else:
                failed.append(running)
            running = None
    if running:
        failed.append(running)
    ran = re.search(r"^Ran (\d+) tests? in ", output, re.M)  # Python's unittest
    if cases == 0 and ran:
        bad = re.findall(r"^(?:FAIL|ERROR): (\S+)", output, re.M)
        left_out = re.search(r"^(?:OK|FAILED) \(.*skipped=(\d+)", output, re.M)
        skipped = int(left_out.group(1)) if left_out else 0
        failed = bad if program_failed else []
        passed = max(0, int(ran.group(1)) - skipped - len(failed))
        if program_failed and not failed:
            failed = ["(the program)"]
    elif cases == 0 and not program_failed:
        skipped = int(re.fullmatch(r"(skipped: .*\s*)+", output) is not None)
        passed = 1 - skipped
    elif program_failed and not failed:
        failed.append("(the program)")
    return passed, skipped, failed


def no_aslr(build):
    """ThreadSanitizer of gcc 12 cannot place its shadow when the kernel spreads addresses widely."""
    with open(os.path.join(build, "CMakeCache.txt"), encoding="utf-8") as f:
        thread = re.search(r"^TERN_SANITIZE:[A-Z]+=thread", f.read(), re.M)
    setarch = shutil.which("setarch")
    if not thread or not setarch:
        return []
    prefix = [setarch, platform.machine(), "-R"]
    return prefix if subprocess.run(prefix + ["true"], check=False, stderr=subprocess.DEVNULL).returncode == 0 else []


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    build, options = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.xml")
        command = no_aslr(build) + [
            "ctest", "--test-dir", build, "--output-on-failure", "--output-junit", report,
            "--test-output-size-passed", "10000000", "--test-output-size-failed", "10000000", *options]
        command += ["-j", os.environ.get("TERN_TEST_JOBS") or str(os.cpu_count() or 1)]
        code = subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode
        try:
            tests = ElementTree.parse(report).getroot().findall("testcase")
        except (OSError, ElementTree.ParseError) as error:
            print(f"no report from ctest: {error}")
            print("0 passed, 1 failed")
            return 1

    passed, skipped, failed = 0, 0, []
    for test in tests:
        output = test.findtext("system-out") or ""
        status = test.get("status")
        if status == "disabled" or test.find("skipped") is not None and status == "notrun":
            failed.append(f"{test.get('name')}: did not run")
            continue
        ok, left_out, wrong = count(output, status != "run")
        passed += ok
        skipped += left_out
        failed += [f"{test.get('name')}: {name}" for name in wrong]
        for line in output.splitlines():
            if line.startswith("skipped: "):
                print(f"{test.get('name')}: {line}")
    for name in failed:
        print(f"failed: {name}")
    if skipped:
        print(f"{skipped} skipped")
    if not tests:
        failed.append("there were no tests")
    if code != 0 and not failed:
        failed.append("ctest")
    print(f"{passed} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
