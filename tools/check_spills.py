#!/usr/bin/env python3
"""check_spills.py PROGRAM: the hot loops of the kernels in a program keep their numbers in registers.

A spill costs a third of a product's speed and shows nowhere but in the machine code: gcc keeps an array, or a struct of two
vectors, in memory without a word.  Read from objdump: every innermost loop with multiply-adds, and the accesses to the stack in it.

Prints kernel, loops and the worst loop; ends with "N passed, N failed".  Exits 77, which ctest calls skipped, where there is no objdump
or the program is for another machine.
"""
import re
import shutil
import subprocess
import sys

KERNELS = re.compile(r"^(?:tern_)(gemm_\w+?|attention_\w+?)_(avx2|avxvnni|avx512|avx512vnni|avx512bf16)$")
MULTIPLY_ADD = re.compile(r"^(?:\{vex\} )?v(fn?madd\d+[ps]s|dpbf16ps|pdpbusd|pmaddwd)\b")
VECTOR = re.compile(r"%[yz]mm")
STACK = re.compile(r"\(%r[sb]p\b")
BRANCH = re.compile(r"^j\w+\s+([0-9a-f]+)\b")

# Accesses to the stack that a loop may have, with the reason.
ALLOWED = {
    # Sixteen registers hold the 12 sums of three rows, and little beside them.
    ("gemm_q8", "avx2"): 2,
    # The same product, in line: two of the 12 sums stay in memory beside what the kernel keeps for itself.
    ("attention_f32_f16", "avx2"): 4,
    # 13 and 14 rows: 28 sums, two widened vectors, the row, and the constants of shifts.
    ("gemm_f32_q8", "avx512"): 6,
}


def functions(program):
    """Yields (name, [(address, instruction)])."""
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", program], check=True, capture_output=True, text=True)
    name, body = None, []
    for line in text.stdout.splitlines():
        head = re.match(r"^[0-9a-f]+ <(.+)>:$", line)
        if head:
            if name:
                yield name, body
            name, body = head.group(1), []
            continue
        code = re.match(r"^\s*([0-9a-f]+):\s+(.*)$", line)
        if code:
            body.append((int(code.group(1), 16), code.group(2)))
    if name:
        yield name, body


def hot_loops(body):
    """Innermost loops with at least one multiply-add, as lists of instructions."""
    spans = []
    for address, code in body:
        jump = BRANCH.match(code)
        if jump and body[0][0] <= int(jump.group(1), 16) <= address:
            spans.append((int(jump.group(1), 16), address))
    for begin, end in spans:
        if any((b, e) != (begin, end) and begin <= b and e <= end for b, e in spans):
            continue
        loop = [code for address, code in body if begin <= address <= end]
        if any(MULTIPLY_ADD.match(code) for code in loop):
            yield loop


def accesses(kernel, loop):
    """How many accesses to the stack count in a loop.  Attention has loops of other kinds; those of its products prefetch, and may have
    their bounds on the stack, but no vector."""
    if not kernel.startswith("attention"):
        return sum(1 for code in loop if STACK.search(code))
    if not any(code.startswith("prefetch") for code in loop):
        return 0
    return sum(1 for code in loop if STACK.search(code) and VECTOR.search(code))


def main(program):
    if not shutil.which("objdump"):
        print("skipped: objdump is not installed")
        return 77
    passed = failed = 0
    for name, body in functions(program):
        kernel = KERNELS.match(name)
        if not kernel:
            continue
        worst = [accesses(kernel.group(1), loop) for loop in hot_loops(body)]
        if not worst:
            continue
        allowed = ALLOWED.get(kernel.groups(), 0)
        good = max(worst) <= allowed
        passed, failed = passed + good, failed + (not good)
        print(f"{'  ' if good else '! '}{kernel.group(1)} at {kernel.group(2)}: {len(worst)} loops, at most {max(worst)} accesses"
              f" to the stack in one, expected {'none' if not allowed else f'at most {allowed}'}")
    if not passed and not failed:
        print("skipped: no kernels of x86-64 in", program)
        return 77
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
