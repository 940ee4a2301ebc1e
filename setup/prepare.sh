#!/bin/bash
# Gets this machine and this folder ready; changes nothing that is there already.
#
#   setup/prepare.sh run      Debian packages, .venv, npm packages, static files: what `make run` needs
#   setup/prepare.sh test     and what tests, linters and benchmarks need
#   setup/prepare.sh lock     writes setup/requirements.lock anew from the versions in pyproject.toml
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/.."
what=$1
lock=setup/requirements.lock
pip_version=26.3   # dependency groups need 25.1

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }
fingerprint() { cat "$@" | sha256sum | cut -d' ' -f1; }

# --- Debian packages -------------------------------------------------------------------------------------------------

wanted_packages() { # section ...
    local section
    for section; do
        sed -n "/^\[$section\]/,/^\[/{/^\[/d; s/[[:space:]]*#.*//; /./p}" setup/packages.txt
    done
}

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing_packages() {
    local package
    for package in $(wanted_packages "$@"); do
        is_installed "$package" || echo "$package"
    done
    compgen -G '/boot/vmlinuz-*' >/dev/null || is_installed linux-image-cloud-amd64 || echo linux-image-cloud-amd64
    command -v node >/dev/null || echo nodejs
    command -v npm >/dev/null || echo npm
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif [ -t 0 ]; then sudo "$@"; else sudo -n "$@"; fi
}

install_packages() { # section ...
    local missing
    missing=$(missing_packages "$@" | xargs)
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null; then
        fail "these Debian packages are missing, and there is no apt-get here: $missing"
    fi
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        fail "these Debian packages are missing, and only root can install them: $missing"
    fi
    say "installing Debian packages: $missing"
    # A test machine gets sshd, nginx and databases for the lab to run by itself: Debian must not start them as services.
    local policy=/usr/sbin/policy-rc.d ours=
    if [ "$what" = test ] && [ ! -e $policy ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
        as_root chmod 0755 $policy
        trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    # shellcheck disable=SC2086  (a list of words)
    if ! { as_root apt-get -qq update &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing; } \
        >.cache/apt.log 2>&1; then
        tail -n 20 .cache/apt.log >&2
        fail "Debian's packages could not be installed: see .cache/apt.log"
    fi
    if [ -n "$ours" ]; then
        as_root rm -f $policy
        trap - EXIT
    fi
}

# --- Python ----------------------------------------------------------------------------------------------------------

find_python() {
    local python
    for python in python3 /usr/bin/python3; do
        if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$python"
            return
        fi
    done
    fail "v2vweb needs Python 3.11 or newer, with venv"
}

pip() { .venv/bin/python -m pip --disable-pip-version-check -qq "$@"; }

make_venv() { # group ...
    local stamp=.venv/.v2vweb-stamp now done
    now=$(fingerprint pyproject.toml $lock)
    if ! .venv/bin/python -c '' 2>/dev/null || { [ -e $stamp ] && ! grep -qxF "at $PWD" $stamp; }; then
        say "making .venv"
        "$(find_python)" -m venv --clear .venv
    fi
    done=$(sed -n "s/^$now //p" $stamp 2>/dev/null || true)
    local group args=() all=yes
    for group; do
        args+=(--group "$group")
        case " $done " in *" $group "*) ;; *) all= ;; esac
    done
    [ -z "$all" ] || return 0
    say "installing Python packages: $*"
    pip install --root-user-action=ignore "pip==$pip_version"
    pip install --root-user-action=ignore --constraint $lock "${args[@]}"
    printf 'at %s\n%s %s\n' "$PWD" "$now" "$*" >$stamp
}

write_lock() {
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    "$(find_python)" -m venv "$folder"
    "$folder/bin/python" -m pip -qq install "pip==$pip_version"
    "$folder/bin/python" -m pip -qq install --group run --group test --group lint
    {
        echo "# Every Python package at its version, written by \`make lock\` from pyproject.toml."
        "$folder/bin/python" -m pip freeze
    } >$lock
    say "wrote $lock"
}

# --- npm -------------------------------------------------------------------------------------------------------------

install_npm() {
    local stamp=node_modules/.v2vweb-stamp now
    now=$(fingerprint package.json package-lock.json)
    [ "$(cat $stamp 2>/dev/null)" = "$now" ] && return
    say "installing npm packages"
    npm ci --ignore-scripts --loglevel=error >/dev/null
    echo "$now" >$stamp
}

mkdir -p .cache
exec 9>.cache/setup.lock
flock 9   # two starts at once must not both build .venv
case $what in
run)
    install_packages run
    make_venv run
    ;;
test)
    install_packages run test
    make_venv run test lint
    ;;
lock)
    write_lock
    exit
    ;;
*) fail "call it as: setup/prepare.sh run|test|lock" ;;
esac
install_npm
.venv/bin/python setup/assets.py
