#!/usr/bin/env python3
"""Checks that everything public is documented.

    tools/check_docs.py [SOURCE-ROOT]

Every TERN_API function of include/tern has a doc comment that ends directly above it, or above the group of declarations
without a blank line between them that it belongs to.
"""
import pathlib
import re
import sys


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    wrong, functions = [], 0
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
    for text in wrong:
        print(text)
    print(f"{functions} public functions, {len(wrong)} wrong")
    return 1 if wrong or functions == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
