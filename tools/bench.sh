#!/bin/bash
# bench.sh BUILD: kernels one by one, then what bench/ holds.
set -eu

build=$1
cd "$(dirname "$0")/.."
if [ -x "$build/tern-check" ]; then
    "$build/tern-check" --bench
fi
for program in "$build"/bench_*; do
    [ -x "$program" ] && [ ! -d "$program" ] && "$program"
done
if [ -x bench/run.sh ]; then
    bench/run.sh "$build"
fi
