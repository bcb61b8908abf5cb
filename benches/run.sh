#!/usr/bin/env bash
# Measures this library against its peers and writes benches/RESULTS.md: a quarter of an hour on a
# quiet machine. Installs what it needs and is not there: valgrind, Node, Clusterio's packages.
#
#   benches/run.sh                      everything
#   benches/run.sh --quick              a short pass, to see that it works; its numbers mean little
#   benches/run.sh --parts link --stacks seqlink,floor --output /tmp/results.md
set -euo pipefail
cd "$(dirname "$0")/peers"

missing=()
command -v valgrind >/dev/null || missing+=(valgrind)
command -v npm >/dev/null || missing+=(nodejs npm)
if [ ${#missing[@]} -gt 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq "${missing[@]}"
fi

[ -d clusterio/node_modules ] || npm --prefix clusterio install --no-package-lock --no-audit --no-fund --silent

# 15,000 links are two sockets each, one on either side.
ulimit -n "$(ulimit -Hn)"

cargo run --release --quiet -- run "$@"
