#!/bin/bash
# check_install.sh BUILD: installs into a folder, moves it, and builds programs against it with pkg-config and with CMake.
set -eu

build=$1
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

DESTDIR="$work/stage" cmake --install "$build" --prefix /opt/tern >/dev/null
mv "$work/stage/opt/tern" "$work/moved"
lib=$(dirname "$(find "$work/moved" -name libtern.a)")

for file in libtern.so libtern.so.0 libtern.a pkgconfig/tern.pc cmake/tern/ternConfig.cmake; do
    [ -e "$lib/$file" ] || { echo "install: no $file in $lib"; exit 1; }
done
[ -e "$work/moved/include/tern/context.h" ] || { echo "install: no headers"; exit 1; }

[ -x "$work/moved/share/tern/make_golden.py" ] || { echo "install: no make_golden.py"; exit 1; }

cat >"$work/use.c" <<'C'
#include <tern/context.h>
#include <stdio.h>

int main(void)
{
    tern_ctx *ctx;
    char message[256];

    if (tern_ctx_create(&ctx, NULL, message, sizeof message) != TERN_OK) {
        fprintf(stderr, "%s\n", message);
        return 1;
    }
    printf("%s, %d threads\n", tern_ctx_isa(ctx), tern_ctx_threads(ctx));
    tern_ctx_destroy(&ctx);
    return 0;
}
C
export PKG_CONFIG_PATH="$lib/pkgconfig"
# shellcheck disable=SC2046 # flags are words
cc "$work/use.c" -o "$work/use" $(pkg-config --cflags --libs tern)
LD_LIBRARY_PATH="$lib" "$work/use"
# shellcheck disable=SC2046
cc "$work/use.c" -o "$work/use_static" $(pkg-config --cflags tern) "$lib/libtern.a" $(pkg-config --static --libs-only-l tern |
    sed 's/-ltern//') -pthread
"$work/use_static"

# The command and a program find the plugin where they were moved to, if it was built and there is an mpirun.
if [ -e "$build/libtern_mpi.so" ]; then
    [ -e "$lib/libtern_mpi.so" ] || { echo "install: no libtern_mpi.so in $lib"; exit 1; }
    ! ldd "$lib/libtern.so" | grep -q libmpi || { echo "install: libtern.so links MPI"; exit 1; }
    if command -v mpirun >/dev/null; then
        export OMPI_MCA_oob_tcp_if_include=lo OMPI_MCA_btl_tcp_if_include=lo # nothing leaves this host
        cp -r "$work/moved/share/tern/models/tiny-shakespeare" "$work/model"
        TERN_PLUGINS='' "$work/moved/bin/tern" run --tp 2 "$work/model" -p ROMEO: -n 2 -q >/dev/null
        cat >"$work/group.c" <<'C'
#include <tern/comm.h>
#include <stdio.h>

int main(void)
{
    tern_comm *comm = NULL;
    tern_ctx *ctx = NULL;

    if (tern_ctx_create(&ctx, NULL, NULL, 0) != TERN_OK || tern_comm_open(ctx, "mpi", &comm) != TERN_OK) {
        fprintf(stderr, "%s\n", tern_error(ctx));
        return 1;
    }
    tern_comm_close(&comm);
    tern_ctx_destroy(&ctx);
    return 0;
}
C
        # shellcheck disable=SC2046
        cc "$work/group.c" -o "$work/group" $(pkg-config --cflags --libs tern)
        TERN_PLUGINS='' LD_LIBRARY_PATH="$lib" "$work/group"
    fi
fi

cat >"$work/CMakeLists.txt" <<'C'
cmake_minimum_required(VERSION 3.25)
project(use C)
find_package(tern 0.1 REQUIRED)
add_executable(use use.c)
target_link_libraries(use PRIVATE tern::tern)
C
cmake -S "$work" -B "$work/b" -G Ninja -Dtern_DIR="$lib/cmake/tern" >/dev/null
cmake --build "$work/b" >/dev/null
"$work/b/use"
echo "install: ok"
