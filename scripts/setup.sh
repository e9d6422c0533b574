#!/usr/bin/env bash
# Makes a checkout ready to run: virtual environment, pinned packages, bubblewrap for the sandbox's jail.
# Touches the system only through apt-get, only for what is missing, and only as root or with passwordless sudo.
set -euo pipefail
umask 022 # the jail runs as another user and must be able to read the environment
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

apt_install() {
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null || return 1
    say "installing $* with apt-get"
    as_root apt-get -qq -o DPkg::Lock::Timeout=300 update >/dev/null || return 1
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 \
        install --no-install-recommends "$@" >/dev/null || return 1
}

find_python() {
    local name
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    fail "Modelsmith needs Python 3.11 or newer and found none. Install it, or name it: make setup PYTHON=/path/to/python3.12"
}

make_venv() {
    "$1" -m venv --clear "$venv" >/dev/null 2>&1 && return
    apt_install python3-venv || apt_install "$(basename "$1")-venv" || true
    "$1" -m venv --clear "$venv" ||
        fail "$1 cannot make a virtual environment. Install its venv package (Debian and Ubuntu: apt-get install python3-venv)."
}

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    say "making $venv with $("$python" --version)"
    make_venv "$python"
fi

say "installing the packages of requirements.txt (a few minutes the first time)"
"$venv/bin/python" -m pip --disable-pip-version-check -qq install -r requirements.txt ||
    fail "the packages could not be installed. The lines above say why; run make setup again when it is mended."

bwrap --version >/dev/null 2>&1 || apt_install bubblewrap libseccomp2 || true
if jail=$(bwrap --version 2>/dev/null); then
    say "sandboxes are jailed by $jail"
else
    say "bubblewrap is missing and cannot be installed from here: sandboxes use Landlock and seccomp where the kernel has them, else they refuse to start (apt-get install bubblewrap mends it)"
fi

# Kernels, torch.compile and Triton compile C and C++ against this Python.
python_header='import pathlib, sys, sysconfig; sys.exit(not (pathlib.Path(sysconfig.get_paths()["include"]) / "Python.h").exists())'
command -v g++ >/dev/null && "$venv/bin/python" -c "$python_header" || apt_install g++ python3-dev binutils || true
if command -v g++ >/dev/null && "$venv/bin/python" -c "$python_header"; then
    say "kernels are compiled by $(g++ --version | head -1)"
else
    say "g++ or Python.h is missing and cannot be installed from here: kernels are not compiled (apt-get install g++ python3-dev mends it)"
fi
