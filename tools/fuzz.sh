#!/bin/bash
# fuzz.sh SECONDS [NAME...]: builds the fuzz targets with libFuzzer, ASan and UBSan, and runs each for that long.
#
# New inputs are collected in build/fuzz/corpus/NAME; tests/fuzz/corpus/NAME is read and not written.  A finding is left
# in build/fuzz/findings, and its name printed: a fix takes it into tests/fuzz/corpus, where every `make check` replays it.
set -eu

seconds=$1
shift
cd "$(dirname "$0")/.."
if ! command -v clang >/dev/null; then
    echo "fuzz: needs clang (tools/setup.sh full installs it)" >&2
    exit 1
fi
mkdir -p build
CC=clang cmake -S . -B build/fuzz -G Ninja -DTERN_FUZZ=ON -DCMAKE_BUILD_TYPE=Debug >build/fuzz.configure.log 2>&1 ||
    { cat build/fuzz.configure.log; exit 1; }
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for source in tests/fuzz/fuzz_*.c; do
        name=${source##*/fuzz_}
        targets+=("${name%.c}")
    done
fi
for name in "${targets[@]}"; do
    if [ ! -f "tests/fuzz/fuzz_$name.c" ]; then
        echo "fuzz: no target '$name'; there are:" tests/fuzz/fuzz_*.c | sed 's,tests/fuzz/fuzz_\([a-z_]*\)\.c,\1,g' >&2
        exit 1
    fi
done
cmake --build build/fuzz -j "$(getconf _NPROCESSORS_ONLN)" -t $(printf 'fuzz_%s ' "${targets[@]}")

failed=0
for name in "${targets[@]}"; do
    mkdir -p "build/fuzz/corpus/$name" build/fuzz/findings
    dictionary=()
    [ -f "tests/fuzz/$name.dict" ] && dictionary=(-dict="tests/fuzz/$name.dict")
    echo "fuzz: $name, $seconds s"
    if ! "build/fuzz/tests/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -verbosity=0 -artifact_prefix="build/fuzz/findings/$name-" "${dictionary[@]}" "build/fuzz/corpus/$name" \
        "tests/fuzz/corpus/$name" </dev/null; then
        echo "fuzz: $name FAILED, see build/fuzz/findings"
        failed=1
    fi
done
exit $failed
