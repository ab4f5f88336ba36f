#!/bin/bash
# bench.sh BUILD: kernels one by one, models, then what bench/ holds.
set -eu

build=$1
cd "$(dirname "$0")/.."
if [ -x "$build/tern-check" ]; then
    "$build/tern-check" --bench
fi
if [ -x "$build/tern" ]; then
    "$build/tern" bench
    for shape in bert-base gpt2-124m; do
        for dtype in fp32 bf16 int8; do
            "$build/tern" bench --shape "$shape" --dtype "$dtype"
        done
    done
fi
if [ -x bench/run.sh ]; then
    bench/run.sh "$build"
fi
