#!/bin/bash
# labels: quick
# Old processors find no instruction that they lack: qemu ends a program that uses one.  The text is this machine's.
set -eu

if ! command -v qemu-x86_64 >/dev/null || [ "$(uname -m)" != x86_64 ]; then
    echo "skipped: needs qemu-x86_64 (tools/setup.sh neon installs it)"
    exit 0
fi
if ! grep -q '^TERN_SANITIZE:[A-Z]*=$' "$TERN_BUILD/CMakeCache.txt"; then
    echo "skipped: sanitizers do not run under qemu"
    exit 0
fi

run=("$TERN" run -n 12 -p "ROMEO:" --temp 0.8 --seed 3 -q --threads 1)
unset TERN_CPU
for dtype in fp32 bf16; do
    expected=$(TERN_CPU=portable "${run[@]}" --dtype "$dtype")
    for cpu in Nehalem:portable Haswell:avx2; do
        level=$(qemu-x86_64 -cpu "${cpu%:*}" "$TERN" --version 2>/dev/null | sed -n 's/^in use: //p')
        if [ "$level" != "${cpu#*:}" ]; then
            echo "${cpu%:*}: tern uses '$level', expected ${cpu#*:}"
            exit 1
        fi
        text=$(qemu-x86_64 -cpu "${cpu%:*}" "${run[@]}" --dtype "$dtype" 2>/dev/null)
        if [ "$text" != "$expected" ]; then
            echo "${cpu%:*}, $dtype: got '$text', expected '$expected'"
            exit 1
        fi
    done
done
