#!/usr/bin/env bash
# Makes the environment from the lock files, without resolving: setup.sh VENV [PYTHON]
# It is made anew only when what it is made from changes. Exits 2, with one line, where no Python fits.
set -euo pipefail
venv=$1 python=${2:-}
versions="3.11 3.12 3.13"  # as pyproject.toml says; the first one is preferred
needs="fusechat needs CPython 3.11, 3.12 or 3.13, 64-bit, with glibc 2.31 or newer"  # the wheels' own need
here=$(dirname "$0")

facts() { "$1" "$here/facts.py" 2>/dev/null; }

has_version() { [[ " $versions " == *" $(cut -d ' ' -f 2 <<<"$1") "* ]]; }

# What speaks against a Python, by its facts. Prints nothing where it fits.
against() {
    local kind version bits lock libc system machine makes_venv _
    read -r kind version bits lock libc system machine makes_venv _ <<<"$1"
    if [[ $system != linux* ]]; then echo "a Python for $system"
    elif [[ $machine != x86_64 && $machine != aarch64 ]]; then echo "a Python for $machine, without wheels of vLLM"
    elif [ "$libc" = no-glibc ]; then echo "a Python without glibc (musl?), without wheels of vLLM"
    elif ! printf 'glibc-2.31\n%s\n' "$libc" | sort --version-sort --check=quiet; then echo "a Python on $libc"
    elif [ "$kind" != CPython ]; then echo "$kind $version"
    elif ! has_version "$1"; then echo "Python $version"
    elif [ "$bits" != 64-bit ]; then echo "a $bits Python $version"
    elif [ "$lock" != gil ]; then echo "a $lock Python $version"
    elif [ "$makes_venv" != venv ]; then echo "Python $version without venv"
    fi
}

# How to get one here.
advice() {
    local version
    case $1 in
    *"without venv")
        version=${1#Python } version=${version% without venv}
        if command -v apt-get >/dev/null; then echo "; install python$version-venv"
        else echo "; install its modules venv and ensurepip"
        fi
        return ;;
    "a Python for"* | *glibc*) return ;;  # another Python would not help
    esac
    for version in $versions; do
        if [ -n "$(apt-cache search --names-only "^python$version-venv\$" 2>/dev/null)" ]; then
            echo "; install one: apt-get install python$version-venv"
            return
        fi
    done
    if command -v dnf >/dev/null; then echo "; install one: dnf install python3.12"
    elif command -v zypper >/dev/null; then echo "; install one: zypper install python311"
    else echo "; install one, e.g. with uv: uv python install 3.11"
    fi
}

refuse() {
    echo "$needs; $1 is $2$(advice "$2")" >&2
    exit 2
}

# The environment's own sign of what it was made from. A moved folder is another one: scripts hold its path.
made_from=$(cat <(pwd) "$here"/{setup.sh,torch.txt,torch.lock,cpu.lock} "$here/../pyproject.toml" | sha256sum)
sign=$venv/.made-from
stands() { [ -e "$sign" ] && [ "$(cat "$sign")" = "$made_from" ] && facts "$venv/bin/python"; }

if [ -n "$python" ]; then
    its=$(facts "$python") || refuse "$python" "no Python that runs"
    problem=$(against "$its")
    [ -z "$problem" ] || refuse "$python" "$problem"
    [ "$(stands)" != "$its" ] || exit 0
else
    stands >/dev/null && exit 0
    refused="" reason=""
    for name in $(printf 'python%s ' $versions) python3; do
        its=$(facts "$name") || continue
        problem=$(against "$its")
        if [ -z "$problem" ]; then
            python=$name
            break
        elif [ -z "$refused" ] || has_version "$its"; then
            refused=$name reason=$problem
        fi
    done
    [ -n "$python" ] || refuse "${refused:-python3}" "${reason:-not there}"
fi

echo "set-up: $venv with $(command -v "$python")"
rm -rf "$venv"
"$python" -m venv "$venv"
# Twice quiet: pip warns of each place in its settings that is not there.
pip() { "$venv/bin/pip" install --quiet --quiet --disable-pip-version-check "$@"; }
uv() { "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps "$@"; }
pip uv==0.13.9
# The CPU build of torch: where pip's settings find one (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL), else from PyTorch's own index.
torch=$(cat "$here/torch.txt")
if ! pip --no-deps "$torch+cpu" 2>/dev/null && ! uv --torch-backend cpu "$torch" 2>/dev/null; then
    echo "set-up: no CPU build of torch within reach; fetching its CUDA build, about 2.5 GB, which works as well"
    uv --require-hashes -r "$here/torch.lock"
fi
uv --require-hashes -r "$here/cpu.lock"
uv --editable .

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
echo "$made_from" >"$sign"
