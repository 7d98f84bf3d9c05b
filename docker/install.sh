#!/bin/sh
# Installs the product and all that it needs into an empty folder: install.sh PREFIX LOCK SOURCE
#   PREFIX  becomes a Python environment, with the shipped recipes in PREFIX/recipes
#   LOCK    pinned and hashed requirements; nothing is resolved here
#   SOURCE  the repository
# Needs `uv` on the path. Leaves no installer behind.
set -eu
prefix=$1 lock=$2 source=$3
if [ -e "$prefix" ] && [ -n "$(ls -A "$prefix")" ]; then
    echo "install.sh: $prefix is not empty" >&2
    exit 2
fi
python=${PYTHON:-3.11}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
uv venv --quiet --python "$python" "$prefix"
uv pip install --quiet --python "$prefix/bin/python" --no-deps --require-hashes --link-mode copy -r "$lock"
# From a copy: a build leaves files beside its source.
for part in pyproject.toml README.md LICENSE fusechat pipeline services training; do cp -R "$source/$part" "$work/"; done
uv build --quiet --wheel --out-dir "$work/dist" --python "$prefix/bin/python" "$work"
# All that is there is compiled: nobody can write bytecode into the image, so each process would compile what it imports.
uv pip install --quiet --python "$prefix/bin/python" --no-deps --link-mode copy --compile-bytecode "$work"/dist/*.whl
cp -R "$source/pipeline/recipes" "$prefix/recipes"
"$prefix/bin/fusechat" --help >/dev/null
