#!/usr/bin/env python3
"""Checks that everything public is documented, and that the documents name what is there.

    tools/check_docs.py [SOURCE-ROOT]

Every TERN_API function of include/tern has a doc comment that ends directly above it, or above the group of declarations
without a blank line between them that it belongs to.  The first table of docs/operators.md has a row for each line of
src/ops/op_list.h, in its order, with dtypes and norms as the operator's row in src/ops/*.c has them, and the tests that its last
one names are there.  Links between pages lead to files, and files and functions of ours that stand `between backticks` exist.
"""
import pathlib
import re
import sys

PAGES = ["*.md", "docs/*.md", "models/*.md", "tests/golden/*.md", "bench/*.md"]
OURS = re.compile(r"^(bench|cli|cmake|docs|examples|include|models|src|tests|tools)/[\w./-]+\.\w+$")


def check_functions(root, wrong):
    functions = 0
    for path in sorted((root / "include" / "tern").glob("*.h")):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if not line.startswith("TERN_API"):
                if not line.startswith("typedef") and re.match(r"^(const )?\w[\w ]*[ *]tern_\w+\(", line):
                    wrong.append(f"{path}:{number + 1}: a function without TERN_API")
                continue
            functions += 1
            above = number - 1
            while above >= 0 and (lines[above].startswith("TERN_API") or
                                  lines[above].startswith(" ") and lines[above].endswith((",", ";"))
                                  and not lines[above].endswith("*/")):
                above -= 1
            if above < 0 or not lines[above].rstrip().endswith("*/"):
                wrong.append(f"{path}:{number + 1}: no comment above: {line}")
                continue
            while above > 0 and "/*" not in lines[above]:
                above -= 1
            if "/**" not in lines[above]:
                wrong.append(f"{path}:{number + 1}: the comment above is not a doc comment (/**): {line}")
    if functions == 0:
        wrong.append(f"{root}: no public functions")
    return functions


def operators(root):
    """(name, dtypes, norms) of each operator, as the table of docs/operators.md should have them"""
    rows = "\n".join(path.read_text(encoding="utf-8") for path in sorted((root / "src/ops").glob("*.c")))
    for name in re.findall(r"^TERN_OP\((\w+)\)", (root / "src/ops/op_list.h").read_text(encoding="utf-8"), re.M):
        row = re.search(r"^const struct tern_op_row tern_row_%s = \{(.*?)^\};" % name, rows, re.M | re.S)
        row = row.group(1) if row else ""
        int8 = "int8" if "TERN_MATRIX" in row else "int8 as `activation_dtype`"
        norms = ("LayerNorm, RMSNorm" if ".norms = TERN_ANY_NORM" in row else
                 "itself" if re.search(r'\.kernels = "\w*_norm', row) else "none")
        yield name, f"fp32, fp16, bf16, {int8}" if ".dtypes = TERN_ALL_DTYPES" in row else "?", norms


def check_table(root, wrong):
    page = root / "docs/operators.md"
    table = re.search(r"^\|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", page.read_text(encoding="utf-8"), re.M).group(1)
    found = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]
    want = list(operators(root))
    if [row[0].split("`")[1] for row in found] != [name for name, _, _ in want]:
        wrong.append(f"{page}: the first table has other names than src/ops/op_list.h, or another order")
        return
    for row, (name, dtypes, norms) in zip(found, want):
        if row[3:] != [dtypes, norms, "cpu"]:
            wrong.append(f"{page}: {name} is {row[3:]}, expected {[dtypes, norms, 'cpu']}")


def check_defects(root, wrong):
    page = root / "docs/operators.md"
    for number, tests in re.findall(r"^\| (B\d+) \| .* \| ([^|]*) \|$", page.read_text(encoding="utf-8"), re.M):
        for part in tests.split("; ") if tests not in ("none", "the same") else []:
            files, _, names = part.partition(": ")
            for file in files.split(", "):
                path = root / "tests" / re.sub("/", "/test_", file)
                source = path.with_suffix(".c")
                text = source.read_text(encoding="utf-8") if source.exists() else ""
                if not all(re.search(r"\btest_\w*" + name, text) for name in names.split(", ") if "/" not in name):
                    wrong.append(f"{page}: {number}: there is no test {file}: {names}")


def check_names(root, wrong):
    code = " ".join(path.read_text(encoding="utf-8") for folder in ("include", "src", "cli")
                    for path in sorted((root / folder).rglob("*.[ch]")))
    known = set(re.findall(r"\btern_\w+", code)) | set("tern_" + n for n in re.findall(r"\b(?:TERN_K|TERN_OP)\((\w+)\)", code))
    for path in sorted(path for page in PAGES for path in root.glob(page)):
        text = path.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
            if not (path.parent / link).exists():
                wrong.append(f"{path}: a link to {link}, which is not there")
        for name in re.findall(r"`([^`\n]+)`", text):
            if OURS.match(name) and "NAME" not in name and not (root / name).exists():
                wrong.append(f"{path}: {name} is not there")
            for function in re.findall(r"^(tern_\w+)(?:\(\))?$", name):
                if function not in known and not re.search(r"[A-Z]", function):
                    wrong.append(f"{path}: there is no {function}")


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    wrong = []
    functions = check_functions(root, wrong)
    check_table(root, wrong)
    check_defects(root, wrong)
    check_names(root, wrong)
    for text in wrong:
        print(text)
    print(f"{functions} public functions, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
