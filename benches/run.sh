#!/usr/bin/env bash
# Measures this library against its peers, writes benches/RESULTS.md and draws benches/rates.svg: twenty
# minutes on a quiet machine. Installs what it needs and is not there: valgrind, Node, Clusterio's packages.
#
#   benches/run.sh                      everything
#   benches/run.sh --quick              a short pass, to see that it works; its numbers mean little
#   benches/run.sh --parts link,multi-thread --stacks seqlink,one-loop --output /tmp/results.md
set -euo pipefail
cd "$(dirname "$0")/peers"
. ../need.sh

need valgrind valgrind
need npm nodejs npm
[ -d clusterio/node_modules ] || npm --prefix clusterio install --no-package-lock --no-audit --no-fund --silent

# 15,000 links are two sockets each, one on either side.
ulimit -n "$(ulimit -Hn)"

cargo run --release --quiet -- run "$@"
