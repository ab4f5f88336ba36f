#!/bin/bash
# check_neon.sh [JOBS]: the kernels on AArch64, built by the cross compiler and run under qemu, and their results on this machine.
#
#   cortex-a53     nothing but what every AArch64 processor has; an instruction beyond that ends the program
#   max            all that qemu knows, the dot product extension among it
#
# tern-check holds the levels to their definitions and to the portable level's bits there, as it does here; its digests of all
# results are then compared with those of this machine's levels.  An emulator says nothing about speed.
set -u

jobs=${1:-2}
cd "$(dirname "$0")/.."
. tools/counts.sh
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

emulated() { # processor, options
    local cpu=$1
    shift
    qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu "$cpu" build/neon/tern-check --digests "$@" >"$logs/$cpu" 2>&1
    local status=$?
    grep -v '^digest ' "$logs/$cpu"
    return $status
}

native() {
    build/release/tern-check --digests >"$logs/native" 2>&1
    local status=$?
    grep -v '^digest ' "$logs/native"
    return $status
}

# The portable level leaves a few comparisons out, and bf16 pairs have bits of their own where an instruction multiplies them.
same_results() {
    awk '$1 != "digest" || $3 == "portable" || ($2 ~ /^(gemm|gemm_block|attention)_bf16$/ && $3 == "avx512bf16") { next }
         !($2 in first) { first[$2] = $4; level[$2] = $3 }
         { seen[$3] += !(($2, $3) in had); had[$2, $3]; kernels[$2] }
         first[$2] != $4 { printf "%s: %s gives other bits than %s\n", $2, $3, level[$2]; wrong++ }
         END {
             n = 0
             for (k in kernels) n++
             for (l in seen) printf "%s: %d kernels\n", l, seen[l]
             if (seen["neon"] != n || !seen["neondot"] || length(seen) < 3) {
                 print "there must be neon, neondot and a level of this machine to compare"
                 wrong++
             }
             exit wrong > 0
         }' "$logs/cortex-a53" "$logs/max" "$logs/native"
}

configure() { # folder, cmake options
    cmake -S . -B "build/$1" -G Ninja -DCMAKE_BUILD_TYPE=Release "${@:2}" >"build/$1.configure.log" 2>&1 ||
        { cat "build/$1.configure.log"; return 1; }
}

mkdir -p build
section "AArch64: operators and kernels, warnings are errors"
step configure neon -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/aarch64-linux-gnu.cmake" -DTERN_COMPONENTS=ops -DTERN_WERROR=ON
counted_step cmake --build build/neon -j "$jobs"
section "AArch64, cortex-a53: every kernel"
counted_step emulated cortex-a53
section "AArch64, max: what the dot product extension replaces"
counted_step emulated max gemm_q8
section "the same bits on both machines"
step configure release
step cmake --build build/release -j "$jobs" --target tern-check
step native
counted_step same_results
totals
