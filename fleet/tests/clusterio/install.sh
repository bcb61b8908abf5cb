#!/bin/sh
# Installs the real Clusterio 2.0.0-alpha.12, every package pinned, for the tests that run it:
#   fleet/tests/clusterio/install.sh [folder]
# Prints the folder, and nothing else on stdout. What is there already is used as it is. Needs Node
# and npm.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
folder=${1:-${CARGO_TARGET_DIR:-$root/target}/clusterio}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
# The stamp is written last: half an installation is no installation.
if ! cmp -s "$here/package-lock.json" "$folder/installed.json"; then
    rm -f "$folder/installed.json"
    cp "$here/package.json" "$here/package-lock.json" "$folder/"
    npm ci --prefix "$folder" --no-audit --no-fund --ignore-scripts --loglevel=error >&2
    cp "$here/package-lock.json" "$folder/installed.json"
fi
printf '%s\n' "$folder"
