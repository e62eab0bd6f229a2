#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what the tests call over SIP, and what builds pjsua2, when it is missing: as root on Debian.
# Otherwise it says in one line what to install.
set -eu
cd "$(dirname "$0")/.."

missing=
want() {  # want COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
want sipp sip-tester
want sox sox
want debootstrap debootstrap
want swig swig
want c++ build-essential
for library in opus ssl srtp2 speex speexdsp gsm1; do
    dpkg-query -W -f '${Status}' "lib$library-dev" 2>/dev/null | grep -q 'ok installed' ||
        missing="$missing lib$library-dev"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || [ ! -e /etc/debian_version ]; then
    echo "The tests need these Debian packages: sudo apt-get install$missing" >&2
    exit 1
fi
echo "installing$missing" >&2
mkdir -p .cache
{
    apt-get update
    # shellcheck disable=SC2086 - a list of packages
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
} >.cache/peers.log 2>&1 || {
    tail -n 5 .cache/peers.log >&2
    echo "installing failed; all of its output is in .cache/peers.log" >&2
    exit 1
}
