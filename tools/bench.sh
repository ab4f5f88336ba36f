#!/bin/bash
# bench.sh BUILD: kernels one by one, products, models.
set -eu

build=$1
cd "$(dirname "$0")/.."
if [ -x "$build/tern-check" ]; then
    "$build/tern-check" --bench
fi
mkdir -p build/bench
if [ -x "$build/bench_gemm" ]; then
    "$build/bench_gemm" --below --out build/bench/gemm.json
fi
if [ -x "$build/tern" ]; then
    "$build/tern" bench
    for shape in bert-base gpt2-124m; do
        for dtype in fp32 bf16 int8; do
            "$build/tern" bench --shape "$shape" --dtype "$dtype"
        done
    done
fi
