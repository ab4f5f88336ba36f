#!/bin/sh
# check_headers.sh CC CXX: every public header compiles alone, as C11 and as C++17, without a warning.
set -u

cc=$1
cxx=$2
root=$(cd "$(dirname "$0")/.." && pwd)
wrong=0

for header in "$root"/include/tern/*.h; do
    name=tern/$(basename "$header")
    # Twice: the guard is checked too.
    source="#include <$name>
#include <$name>
typedef int not_empty;"
    echo "$source" | "$cc" -std=c11 -I"$root/include" -Wall -Wextra -Wpedantic -Wstrict-prototypes -Werror -fsyntax-only -x c - || wrong=1
    echo "$source" | "$cxx" -std=c++17 -I"$root/include" -Wall -Wextra -Wpedantic -Werror -fsyntax-only -x c++ - || wrong=1
done
exit $wrong
