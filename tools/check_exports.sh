#!/bin/sh
# check_exports.sh LIBTERN.SO [NEEDED...]: only tern_* symbols come out of the shared library, each of them is declared in
# include/tern, the SONAME is libtern.so.0, and the libraries that it needs are the named ones and no other.
set -u

library=$1
shift
root=$(dirname "$0")/..
wrong=0

exported=$(nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }')
for symbol in $exported; do
    case $symbol in
    tern_*)
        if ! grep -qw "$symbol" "$root"/include/tern/*.h; then
            echo "exported, and in no public header: $symbol"
            wrong=1
        fi
        ;;
    *)
        echo "exported without the prefix: $symbol"
        wrong=1
        ;;
    esac
done

soname=$(readelf -d "$library" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
if [ "$soname" != libtern.so.0 ]; then
    echo "SONAME is $soname, expected libtern.so.0"
    wrong=1
fi

for needed in $(readelf -d "$library" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p'); do
    case $needed in
    libc.so.* | libm.so.* | ld-linux*) continue ;;
    esac
    known=0
    for name in "$@"; do
        case $needed in "$name".so*) known=1 ;; esac
    done
    if [ $known -eq 0 ]; then
        echo "needs $needed, which is not among: $*"
        wrong=1
    fi
done

echo "$(echo "$exported" | wc -l) symbols"
exit $wrong
