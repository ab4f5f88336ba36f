#!/bin/bash
# bench.sh BUILD: kernels one by one, products, feed-forwards, attention, rows, models.  Answers lie in build/bench.
set -eu

build=$1
cd "$(dirname "$0")/.."
if [ -x "$build/tern-check" ]; then
    "$build/tern-check" --bench
fi
mkdir -p build/bench
for program in gemm mlp attention rows; do
    if [ -x "$build/bench_$program" ]; then
        echo
        "$build/bench_$program" --below --out "build/bench/$program.json"
    fi
done
if [ -x "$build/tern" ]; then
    "$build/tern" bench
    for shape in bert-base gpt2-124m; do
        for dtype in fp32 bf16 int8; do
            "$build/tern" bench --shape "$shape" --dtype "$dtype"
        done
    done
fi
