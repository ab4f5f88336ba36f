# counts.sh: sourced by the scripts that run several suites and add up their "N passed, N failed".
all_passed=0
all_failed=0

section() {
    printf '\n== %s\n' "$*"
}

# Must work, counts only when it does not.
step() {
    if ! "$@" </dev/null; then
        echo "failed: $*"
        all_failed=$((all_failed + 1))
    fi
}

# One check of its own.
counted_step() {
    if "$@" </dev/null; then
        all_passed=$((all_passed + 1))
    else
        echo "failed: $*"
        all_failed=$((all_failed + 1))
    fi
}

# A suite whose last line is "N passed, N failed"; without such a line it has failed as a whole.
counted() {
    local log status last
    log=$(mktemp)
    "$@" </dev/null 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    last=$(tail -n 1 "$log")
    rm -f "$log"
    if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        all_passed=$((all_passed + BASH_REMATCH[1]))
        all_failed=$((all_failed + BASH_REMATCH[2]))
        if [ "$status" -ne 0 ] && [ "${BASH_REMATCH[2]}" -eq 0 ]; then
            all_failed=$((all_failed + 1))
        fi
    else
        echo "failed: $*"
        all_failed=$((all_failed + 1))
    fi
}

totals() {
    echo
    echo "$all_passed passed, $all_failed failed"
    [ "$all_failed" -eq 0 ] && [ "$all_passed" -gt 0 ]
}
