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
