#!/usr/bin/env python3
"""Checks that include arrows point one way only (docs/design.md, the house).

    tools/check_includes.py [SOURCE-ROOT]

base < kernels < ops < modules < model < engine < {cli, server, python};  text and comm need base alone;  modules and what
stands above may use comm;  model and engine may use text.  Programs see <tern/...> and the system only.  Libraries and
mpi.h have one place each.
"""
import pathlib
import re
import sys

ALLOWED = {
    "base": {"base"},
    "kernels": {"kernels", "base"},
    "text": {"text", "base"},
    "comm": {"comm", "base"},
    "ops": {"ops", "kernels", "base"},
    "modules": {"modules", "ops", "kernels", "base", "comm"},
    "model": {"model", "modules", "ops", "kernels", "base", "comm", "text"},
    "engine": {"engine", "model", "modules", "ops", "kernels", "base", "comm", "text"},
}
# A header of a library, and the folders that may include it.
OWNERS = {
    "jansson.h": {"base"},
    "utf8proc.h": {"text"},
    "pcre2.h": {"text"},
    "mpi.h": {"comm"},
    "cblas.h": set(),
    "omp.h": set(),
}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+([<"])([^>"]+)[>"]', re.M)


def areas_of(path, name, kind, area, root):
    """the area that an include of a file in src/ leads to, None for the system's"""
    if kind == "<":
        return None
    if (root / "src" / name).is_file():
        return name.split("/")[0]
    if (path.parent / name).is_file():
        return (path.parent / name).resolve().relative_to((root / "src").resolve()).parts[0]
    return "nowhere"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    wrong = []
    files = 0
    for path in sorted((root / "src").rglob("*.[ch]")):
        area = path.relative_to(root / "src").parts[0]
        files += 1
        if area not in ALLOWED:
            wrong.append(f"{path}: src/{area} has no place in the list of {sys.argv[0]}")
            continue
        for kind, name in INCLUDE.findall(path.read_text(encoding="utf-8")):
            target = areas_of(path, name, kind, area, root)
            if target == "nowhere":
                wrong.append(f'{path}: includes "{name}", which is not in src')
            elif target and target not in ALLOWED[area]:
                wrong.append(f'{path}: {area} must not know {target} (includes "{name}")')
            if name in OWNERS and area not in OWNERS[name]:
                wrong.append(f"{path}: only {', '.join(sorted(OWNERS[name])) or 'no one'} may include <{name}>")
    for folder in ("cli", "server", "python"):
        for path in sorted((root / folder).rglob("*.[ch]")):
            files += 1
            for kind, name in INCLUDE.findall(path.read_text(encoding="utf-8")):
                if kind == '"' and not (path.parent / name).is_file():
                    wrong.append(f'{path}: programs see <tern/...> and their own folder only (includes "{name}")')
    for path in sorted((root / "include").rglob("*.h")):
        files += 1
        for kind, name in INCLUDE.findall(path.read_text(encoding="utf-8")):
            if kind != "<" or not (name.startswith("tern/") or "/" not in name):
                wrong.append(f"{path}: public headers include <tern/...> and the C library only (includes {name})")
    # File names are unique, so that a message or a stack trace names one file.
    seen = {}
    for path in sorted((root / "src").rglob("*.[ch]")):
        if path.name in seen:
            wrong.append(f"{path}: the name is taken by {seen[path.name]}")
        seen[path.name] = path
    for text in wrong:
        print(text)
    print(f"{files} files, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
