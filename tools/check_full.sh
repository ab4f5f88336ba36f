#!/bin/bash
# check_full.sh [JOBS]: everything under everything.  Ends with the sum of all counts; fails if any part does.
set -u

jobs=${1:-2}
python=python3
[ -x /usr/bin/python3 ] && python=/usr/bin/python3
cd "$(dirname "$0")/.."
. tools/counts.sh

build() { # folder, cmake options
    local folder=$1
    shift
    mkdir -p build
    cmake -S . -B "build/$folder" -G Ninja "$@" >"build/$folder.configure.log" 2>&1 || { cat "build/$folder.configure.log"; return 1; }
    cmake --build "build/$folder" -j "$jobs"
}

section "release, all tests"
step build release -DCMAKE_BUILD_TYPE=Release -DTERN_WERROR=OFF
counted "$python" tools/run_tests.py build/release

section "tokenizers beside the tokenizers library: 100,000 random texts each; lines of up to 4 MiB, their steps counted"
counted_step env TERN_TOKENIZERS_FULL=1 build/release/tests/text/test_tokenizer_goldens
counted_step env TERN_TOKENIZERS_FULL=1 build/release/tests/text/test_text_costs

for level in portable avx2 avxvnni avx512 avx512vnni avx512bf16; do
    if TERN_CPU=$level build/release/tern info >/dev/null 2>&1; then
        section "release, TERN_CPU=$level"
        counted env TERN_CPU=$level "$python" tools/run_tests.py build/release -LE full
    else
        echo "check-full: this machine has no $level"
    fi
done

section "AArch64 under qemu"
counted bash tools/check_neon.sh "$jobs"

# No guard pages: qemu 7.2 loads lanes that a mask leaves out.
for cpu in Nehalem Haswell; do
    section "every kernel on an emulated $cpu"
    counted_step qemu-x86_64 -cpu "$cpu" build/release/tern-check --unguarded
done

section "ASan and UBSan, all tests"
step build asan -DCMAKE_BUILD_TYPE=Debug -DTERN_SANITIZE=address,undefined
counted "$python" tools/run_tests.py build/asan

section "TSan, all tests"
step build tsan -DCMAKE_BUILD_TYPE=Debug -DTERN_SANITIZE=thread
counted "$python" tools/run_tests.py build/tsan

section "clang, warnings are errors, all tests"
step env CC=clang cmake -S . -B build/clang -G Ninja -DCMAKE_BUILD_TYPE=Release -DTERN_WERROR=ON
step cmake --build build/clang -j "$jobs"
counted "$python" tools/run_tests.py build/clang

section "gcc, warnings are errors"
step build werror -DCMAKE_BUILD_TYPE=Release -DTERN_WERROR=ON

section "operators alone, without any library"
step build ops -DCMAKE_BUILD_TYPE=Release -DTERN_COMPONENTS=ops -DPKG_CONFIG_EXECUTABLE=/nonexistent
counted "$python" tools/run_tests.py build/ops

section "install"
counted_step bash tools/check_install.sh build/release

section "format"
counted_step bash tools/format.sh --check

section "fuzzing"
counted_step bash tools/fuzz.sh "${SECONDS_EACH:-60}"

totals
