# labels: quick
"""tools/check_spills.py finds what leaves its register in a hot loop, names it, and lets through what is not one.

Loops are planted as assembly, in the files and under the names that the kernels have.
"""
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(os.environ.get("TERN_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
CHECK = SOURCE / "tools/check_spills.py"

PRODUCT = "\n".join(f"vfmadd231ps %zmm30, %zmm31, %zmm{i}" for i in range(28))
WORK = "\n".join(f"vaddps %ymm{i % 4}, %ymm5, %ymm{i % 4}" for i in range(8))
ROUND = "\nadd $64, %rdi\ncmp %rdi, %rsi\njne 1b\n"

# name: (level, what the function does, what must be reported, or None)
CASES = {
    "a product in registers": ("avx512", f"1: vmovups (%rdi), %zmm30\n{PRODUCT}{ROUND}", None),
    "a sum of a product in memory": ("avx512", f"1: vmovups (%rdi), %zmm30\n{PRODUCT}\nvaddps 0x40(%rsp), %zmm1, %zmm1\n"
                                     f"vmovaps %zmm1, 0x40(%rsp){ROUND}", ["0x40(%rsp),%zmm1", "%zmm1,0x40(%rsp)"]),
    "two constants of a product in memory": ("avx512", f"1: vmovups 0x40(%rsp), %zmm30\nvmovups 0x80(%rsp), %zmm31\n{PRODUCT}{ROUND}",
                                             ["0x40(%rsp),%zmm30", "0x80(%rsp),%zmm31"]),
    "a bound of a product in memory": ("avx512", f"1: vmovups (%rdi), %zmm30\n{PRODUCT}\nadd $64, %rdi\ncmp 8(%rsp), %rdi\njne 1b\n", None),
    "strides in vector registers": ("avx512", f"1: vmovq %xmm29, %rax\nvmovups (%rdi,%rax), %zmm30\nvmovq %xmm28, %rbx\n{PRODUCT}{ROUND}",
                                    ["vmovq  %xmm29,%rax", "vmovq  %xmm28,%rbx"]),
    "counts in mask registers": ("avx512", f"1: kmovq %k1, %rax\nkmovq %k2, %rcx\ninc %rax\n{PRODUCT}\nkmovq %rax, %k1\nkmovq %rcx, %k2{ROUND}",
                                 ["kmovq  %k1,%rax", "kmovq  %k2,%rcx"]),
    "an answer to a comparison": ("avx512", f"1: vcmpps $1, (%rdi), %zmm30, %k1\nkmovw %k1, %eax\nvcmpps $2, (%rdi), %zmm30, %k2\n"
                                  f"kmovw %k2, %ecx\n{PRODUCT}{ROUND}", None),
    "a sum of few in memory": ("avx2", f"1: vmaxps 8(%rsp), %ymm0, %ymm1\nvmovaps %ymm1, 8(%rsp){ROUND}", ["0x8(%rsp),%ymm0,%ymm1", "%ymm1,0x8(%rsp)"]),
    "a struct in memory by halves": ("avx2", "mov %rsp, %rbp\n" f"1: vmovaps %xmm1, -0x40(%rbp)\nvmovaps %xmm2, -0x30(%rbp)\nvmovaps -0x40(%rbp), %ymm3{ROUND}",
                                     ["%xmm1,-0x40(%rbp)", "%xmm2,-0x30(%rbp)", "-0x40(%rbp),%ymm3"]),
    "a pointer in %rbp": ("avx2", f"1: vmaxps 8(%rbp), %ymm0, %ymm1\nvmovaps %ymm1, 8(%rbp){ROUND}", None),
    "one of eight": ("avx2", f"1: {WORK}\n{WORK}\nvmaxps 8(%rsp), %ymm0, %ymm1\nvmovaps %ymm1, 8(%rsp){ROUND}", None),
    "constants in memory": ("avx2", f"1: vmulps 0x20(%rsp), %ymm0, %ymm1\nvmulps 0x40(%rsp), %ymm1, %ymm1\nvmulps 0x60(%rsp), %ymm1, %ymm1{ROUND}", None),
    "an array by index": ("avx2", f"1: vmaxps 8(%rsp,%rax), %ymm0, %ymm1\nvmovaps %ymm1, 8(%rsp,%rax){ROUND}", None),
    "a vector of elements": ("avx2", f"1: vmovss %xmm0, 8(%rsp)\nvmovss %xmm1, 12(%rsp)\nvmovups 8(%rsp), %xmm2{ROUND}", None),
    "an outer loop": ("avx2", f"2: vmaxps 8(%rsp), %ymm0, %ymm1\nvmovaps %ymm1, 8(%rsp)\n1: vaddps (%rdi), %ymm1, %ymm1{ROUND}dec %rdx\njne 2b\n", None),
    "the far part of a loop": ("avx2", "1: vaddps (%rdi), %ymm1, %ymm1\nadd $64, %rdi\ncmp %rdi, %rsi\njb 3f\n2: dec %rdx\njne 1b\nret\n"
                               "3: vmaxps 8(%rsp), %ymm0, %ymm1\nvmovaps %ymm1, 8(%rsp)\njmp 2b\n", ["0x8(%rsp),%ymm0,%ymm1", "%ymm1,0x8(%rsp)"]),
    "a loop behind a switch": ("avx2", f"jmp *%rax\n.p2align 5\nxor %ecx, %ecx\n1: vmaxps 8(%rsp), %ymm0, %ymm1\nvmovaps %ymm1, 8(%rsp){ROUND}",
                               ["0x8(%rsp),%ymm0,%ymm1", "%ymm1,0x8(%rsp)"]),
    "a loop that calls": ("avx2", f"1: vmovaps %ymm1, 8(%rsp)\ncall elsewhere\nvmaxps 8(%rsp), %ymm0, %ymm1{ROUND}", None),
    "integers alone": ("avx2", f"1: inc %rax\nmov %rax, 8(%rsp)\nmov 8(%rsp), %rax{ROUND}", None),
}


def check(folder, files):
    """What the tool says of an object made of files: {name: [(function, text)]}."""
    objects = []
    for name, functions in files.items():
        text = f'.file "{name}"\n.text\n'
        for function, body in functions:
            text += f".p2align 5\n.type {function}, @function\n{function}:\n{body}\nret\n.size {function}, . - {function}\n"
        objects.append(folder / f"{name}.o")
        subprocess.run(["as", "-o", objects[-1], "-"], input=text + ".section .note.GNU-stack\n", text=True, check=True)
    whole = folder / "whole.o"
    subprocess.run(["ld", "-r", "-o", whole, *objects], check=True)
    return subprocess.run([sys.executable, CHECK, whole], capture_output=True, text=True)


def planted(folder):
    for i, (name, (level, body, expected)) in enumerate(CASES.items()):
        function = f"helper_{i}" if i % 2 else f"tern_softmax_f32_{level}"  # the file says what is looked at, no name
        answer = check(folder, {"other.c": [("before", "ret")], f"isa_{level}.c": [("first", "nop"), (function, body)], "after.c": [("after", "ret")]})
        assert not answer.stderr, (name, answer.stderr)
        if expected is None:
            assert answer.returncode == 0 and "2 passed, 0 failed" in answer.stdout, (name, answer.stdout)
            continue
        assert answer.returncode == 1 and "1 passed, 1 failed" in answer.stdout, (name, answer.stdout)
        assert f"! {function}, level {level}: the loop at " in answer.stdout, (name, answer.stdout)
        found = [line for line in answer.stdout.splitlines() if line.startswith("    ")]
        assert len(found) == len(expected), (name, answer.stdout)
        for instruction, line in zip(expected, found):
            assert instruction in line, (name, instruction, answer.stdout)


def says_what_it_skips(folder):
    skipped = [CASES[name][1] for name in ("a loop that calls", "integers alone")]
    answer = check(folder, {"isa_avx2.c": [(f"f{i}", body) for i, body in enumerate(skipped)]})
    assert "avx2: 2 functions, 0 hot loops; not looked at: 1 loops that call, 1 of integers alone" in answer.stdout, answer.stdout

    spill = CASES["a sum of few in memory"][1]
    for name in ("isa_portable.c", "gemm.c"):
        answer = check(folder, {name: [("f", spill)]})
        assert answer.returncode == 77 and answer.stdout.startswith("skipped: "), answer.stdout


def missing_kernels(folder):
    """A program without a kernel, as after a renaming, does not pass."""
    whole = check(folder, {"isa_avx2.c": [("tern_gemm_f32_avx2", "nop")]})
    assert whole.returncode == 0, whole.stdout
    program = folder / "program"
    (folder / "whole.o").rename(program)
    answer = subprocess.run([sys.executable, CHECK, program], capture_output=True, text=True)
    assert answer.returncode == 1 and "! gemm_q8 at avx2: expected a function tern_gemm_q8_avx2 in isa_avx2.c, found none" in answer.stdout, answer.stdout
    assert "! gemm_f32 at avx2" not in answer.stdout, answer.stdout
    assert "! softmax_f32 at avx512: " in answer.stdout, answer.stdout


def main():
    if platform.machine() != "x86_64" or not all(map(shutil.which, ("as", "ld", "objdump"))):
        print("[ RUN      ] spills\nskipped: no x86-64, or no binutils\n[  SKIPPED ] spills")
        return
    for test in (planted, says_what_it_skips, missing_kernels):
        print(f"[ RUN      ] {test.__name__}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            test(pathlib.Path(folder))
        print(f"[       OK ] {test.__name__}", flush=True)


main()
