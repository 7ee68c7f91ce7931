#!/bin/sh
# Makes a checkout ready: system packages, the virtual environment, the project in it.
#
# Run by `make setup`, and by every target that needs it. Only the system packages need root; when
# there is neither root nor sudo, the command to run is printed. When nothing has changed since the
# last time it prints nothing and ends at once. All that it does is kept in .venv-setup.log.
set -eu

cd "$(dirname "$0")/.."
venv=.venv
stamp=$venv/.setup-stamp
log=$PWD/.venv-setup.log

say() { printf 'setup: %s\n' "$*"; }

fail() {
    printf 'setup: %s\n' "$1" >&2
    shift
    for hint in "$@"; do printf '  try  %s\n' "$hint" >&2; done
    exit 2
}

# What the result depends on, as one word: files, and the folder (an editable install names it).
identity() {
    { pwd; cat requirements.lock pyproject.toml configs/packages/host-*.toml setup/setup.sh setup/needs.py; } | cksum |
        tr ' \t' '--'
}

# The stamp's first line is the identity; the others are paths that were there.
is_current() {
    [ -f "$stamp" ] || return 1
    {
        IFS= read -r seen && [ "$seen" = "$1" ] || return 1
        while IFS= read -r proof; do [ -e "$proof" ] || return 1; done
    } <"$stamp"
}

# Print the newest Python from 3.11 on that can make a virtual environment; fails without one.
find_python() {
    for name in python3.14 python3.13 python3.12 python3.11 python3; do
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
            >/dev/null 2>&1; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        if [ -t 0 ]; then sudo "$@"; else sudo -n "$@"; fi
    else
        return 126
    fi
}

# Run one package manager's command, its output in the log; show the end of it when it fails.
system_command() {
    printf '\n$ %s\n' "$*" >>"$log"
    # DPkg::Lock::Timeout: another apt may be at work, as on a machine that has just booted.
    if [ "$1" = apt-get ]; then
        shift
        set -- env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 \
            -o Acquire::Retries=3 "$@"
    fi
    as_root "$@" >>"$log" 2>&1 </dev/null
}

install_python() {
    say 'Python 3.11 or newer with venv is missing: installing it'
    if command -v apt-get >/dev/null 2>&1; then
        if ! { system_command apt-get update &&
            system_command apt-get install --yes --no-install-recommends python3 python3-venv; }; then
            tail -n 5 "$log" >&2
            fail 'cannot install Python' \
                'as root: apt-get update && apt-get install --yes python3 python3-venv'
        fi
    elif command -v dnf >/dev/null 2>&1; then
        if ! system_command dnf install --assumeyes python3.12; then
            tail -n 5 "$log" >&2
            fail 'cannot install Python' 'as root: dnf install --assumeyes python3.12'
        fi
    else
        fail 'no Python 3.11 or newer with venv and ensurepip was found' 'install it, then call again'
    fi
}

install_system_packages() {
    missing=$("$python" setup/needs.py packages)
    [ -n "$missing" ] || return 0
    commands=$("$python" setup/needs.py commands)
    say "installing system packages: $missing"
    printf '%s\n' "$commands" | while IFS= read -r command; do
        # shellcheck disable=SC2086  # words without quotes: our own tables, printed by needs.py
        system_command $command || exit 1
    done || {
        tail -n 5 "$log" >&2
        fail "cannot install the system packages (see $log)" \
            "as root: $(printf '%s\n' "$commands" | paste -s -d '&' - | sed 's/&/ \&\& /g')"
    }
    left=$("$python" setup/needs.py packages)
    [ -z "$left" ] || say "still missing after that: $left (see harness doctor)"
}

make_environment() {
    if [ -e "$venv" ] && ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        say 'the virtual environment is broken (its Python is gone?): making it again'
        rm -rf "$venv"
    fi
    if [ ! -e "$venv" ]; then
        say "making the virtual environment with $python"
        "$python" -m venv "$venv" >>"$log" 2>&1 ||
            fail "cannot make $venv, see $log" 'apt-get install python3-venv'
    fi
    if ! { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --require-hashes --no-deps --only-binary :all: --requirement requirements.lock &&
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            --no-deps --no-build-isolation --editable .; } >>"$log" 2>&1; then
        tail -n 5 "$log" >&2
        fail "cannot install the Python packages, see $log" 'is the package index reachable?'
    fi
}

main() {
    wanted=$(identity)
    is_current "$wanted" && return 0
    : >"$log"
    python=$(find_python) || {
        install_python
        python=$(find_python) || fail 'still no Python 3.11 or newer that can make a venv'
    }
    install_system_packages
    make_environment
    {
        printf '%s\n' "$wanted"
        printf '%s\n' "$venv/bin/python"
        "$python" setup/needs.py proofs
    } >"$stamp.partial"
    mv "$stamp.partial" "$stamp"
    say 'ready'
}

# Two at a time would trip over each other: the second waits, then finds all done. The lock file
# goes where only this checkout looks; without flock(1) there is no lock.
if [ "${KH_SETUP_LOCKED:-}" != 1 ] && command -v flock >/dev/null 2>&1; then
    is_current "$(identity)" && exit 0
    KH_SETUP_LOCKED=1 exec flock .venv-setup.lock ./setup/setup.sh "$@"
fi
main
