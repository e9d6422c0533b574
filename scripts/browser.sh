#!/usr/bin/env bash
# The browser that the tests of the page drive: Debian's Chromium, by apt-get, where it is missing and may be installed.
set -euo pipefail

command -v chromium >/dev/null && exit 0
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
if command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then
    echo "setup: installing chromium with apt-get"
    as_root apt-get -qq -o DPkg::Lock::Timeout=300 update >/dev/null &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 \
            install --no-install-recommends chromium >/dev/null 2>&1 || true
fi
command -v chromium >/dev/null ||
    echo "setup: no chromium here and no way to install it: the tests of the page are skipped (apt-get install chromium)"
