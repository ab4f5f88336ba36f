#!/bin/bash
# bench.sh BUILD [full]: kernels one by one, products, feed-forwards, attention, rows, models.  Answers lie in build/bench.
#
# Without full: some sizes of each, about a minute in an idle machine.  THREADS=1 times one thread instead of all that there are.
set -eu

build=${1:?usage: bench.sh BUILD [full]}
form=${2:-quick}
threads=${THREADS:-0}
cd "$(dirname "$0")/.."
found=
for program in tern-check bench_gemm bench_mlp bench_attention bench_rows tern; do
    [ ! -x "$build/$program" ] || found=yes
done
if [ -z "$found" ]; then
    echo "bench: '$build' has none of tern's programs, expected bench_gemm, tern and others (make builds them in build/release)" >&2
    exit 1
fi

check=('*/K=768,N=3072,M=1,hot' '*/K=768,N=3072,M=16,hot' '*/K=768,N=3072,M=128,hot'
       'attention*' 'softmax*' '*norm*' 'residual*' 'act*' 'gate*' 'rotary*')
gemm=(--shape 768x3072,4096x4096 --rows 1,16,128)
mlp=(--shape 768x3072 --rows 16,128)
attention=(--what prompt,decode --length 512)
rows=(--shape 512x3072)
model=(--contexts 128 --runs 3)
if [ "$form" = full ]; then
    check=() gemm=() mlp=() attention=() rows=() model=()
fi

heading() {
    printf '\n==== %s\n' "$*"
}

began=$SECONDS
if [ -x "$build/tern-check" ]; then
    heading "kernels, one thread: time, share of the level's fp32 arithmetic and of reading, times as fast as the level below"
    "$build/tern-check" --bench ${check[@]+"${check[@]}"}
fi
mkdir -p build/bench
for program in gemm mlp attention rows; do
    if [ -x "$build/bench_$program" ]; then
        declare -n options=$program
        heading "bench_$program"
        "$build/bench_$program" --threads "$threads" --below ${options[@]+"${options[@]}"} --out "build/bench/$program.json"
    fi
done
if [ -x "$build/bench_comm" ] && command -v mpirun >/dev/null; then
    heading "bench_comm, two ranks"
    as_root=
    [ "$(id -u)" -ne 0 ] || as_root=--allow-run-as-root
    # shellcheck disable=SC2086 # none or one word
    OMPI_MCA_oob_tcp_if_include=lo OMPI_MCA_btl_tcp_if_include=lo mpirun -q $as_root --oversubscribe -n 2 "$build/bench_comm" --out build/bench/comm.json
fi
if [ -x "$build/tern" ]; then
    heading "models"
    "$build/tern" bench --threads "$threads" --quiet ${model[@]+"${model[@]}"}
    for shape in bert-base gpt2-124m; do
        for dtype in fp32 bf16 int8; do
            echo
            "$build/tern" bench --threads "$threads" --quiet --shape "$shape" --dtype "$dtype" ${model[@]+"${model[@]}"}
        done
    done
fi
printf '\n%d s' $((SECONDS - began))
[ "$form" = full ] || printf '; all sizes: make bench FULL=1'
echo
