#!/bin/sh
# Runs the foreign peers against the built program:
#   cargo build && tests/foreign/run.sh [the program seqlink]
# Needs Python 3.11; the one package goes into a virtual environment under target/.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
venv=$target/foreign-venv
if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/requirements.txt"
fi
exec "$venv/bin/python" "$here/run.py" "${1:-$target/debug/seqlink}"
