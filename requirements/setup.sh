#!/usr/bin/env bash
# Makes the environment from the lock file, without resolving: setup.sh PYTHON VENV
set -euo pipefail
python=$1 venv=$2
command -v "$python" >/dev/null || python=python3
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
    echo "fusechat needs Python 3.11; say which one it is: make setup PYTHON=/path/to/python3.11" >&2
    exit 2
}
rm -rf "$venv"
"$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
# torch by pip, which honours PIP_FIND_LINKS and PIP_EXTRA_INDEX_URL: that is where a CPU build is found.
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r requirements/torch.txt
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --require-hashes -r requirements/cpu.lock
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --editable .

# tcmalloc: a CPU trains a fifth faster with it, and well enough without. Debian's package, unpacked into the environment.
if [ ! -e "/usr/lib/$(uname -m)-linux-gnu/libtcmalloc_minimal.so.4" ] && command -v apt-get >/dev/null; then
    unpacked=$(mktemp -d)
    trap 'rm -rf "$unpacked"' EXIT
    get() { (cd "$unpacked" && apt-get download -qq libtcmalloc-minimal4); }
    if { get || { apt-get update -qq && get; }; } >/dev/null 2>&1; then
        dpkg -x "$unpacked"/*.deb "$unpacked"
        cp -L "$(find "$unpacked" -name libtcmalloc_minimal.so.4)" "$venv/lib/"
    fi
fi
