# shellcheck shell=bash
# What every part says, waits and counts with.

ok() { echo "ok: $*"; }
skip() { echo "SKIPPED: $*"; }
fail() {
    echo "FAIL: $*" >&2
    exit 1
}
part() { printf '\n--- %s\n' "$*"; }

# expect WHAT WANTED GOT
expect() {
    [ "$3" = "$2" ] || fail "$1: should be ${2:-none}, is ${3:-none}"
    ok "$1: ${2:-none}"
}

# refused COMMAND...: that it fails, and what it says of that in one line.
refused() {
    ! "$@" >refused.log 2>&1 || fail "should have been refused: $*"
    ok "refused: $(tail -n 1 refused.log)"
}

# eventually COMMAND...: until it succeeds, for 10 seconds.
eventually() {
    local deadline=$((SECONDS + 10))
    until "$@"; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.05
    done
}

# The words of some lines, in order, in one line.
one_line() { sort | paste -sd ' '; }

# ours: whether the plugins are cnikit's, and so can be asked more than a runtime asks.
ours() { [ "$PLUGINS" = ours ]; }
