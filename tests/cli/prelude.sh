# prelude.sh: what a case may use.  It runs in an empty folder, with TERN, SOURCE, MODEL (the built-in one) and TINY (a
# checkpoint without tokenizer) set.

# Runs tern and shows the command, what came out, and the exit code.  stdin is empty unless it is given.
t() {
    local code
    printf '$ tern'
    printf ' %s' "$@"
    echo
    if [ -t 0 ] || [ "$(readlink /proc/self/fd/0)" = /dev/null ]; then
        "$TERN" "$@" >.out 2>.err </dev/null
    else
        "$TERN" "$@" >.out 2>.err
    fi
    code=$?
    cat .out
    [ ! -s .out ] || [ -z "$(tail -c 1 .out)" ] || echo '<no newline>'
    sed 's/^/! /' .err
    [ $code = 0 ] || echo "exit $code"
    echo
}
