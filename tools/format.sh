#!/bin/bash
# format.sh [--check]: clang-format over the C files of the tree, or only a list of those that differ.
set -eu

cd "$(dirname "$0")/.."
if ! command -v clang-format >/dev/null; then
    echo "format: needs clang-format (tools/setup.sh full installs it)" >&2
    exit 1
fi
mapfile -t files < <(git ls-files -co --exclude-standard '*.c' '*.h')
if [ "${1:-}" = --check ]; then
    clang-format --dry-run --Werror "${files[@]}"
else
    clang-format -i "${files[@]}"
fi
