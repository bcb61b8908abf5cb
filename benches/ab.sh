#!/usr/bin/env bash
# Compares the library at two revisions in one run: both built alike with the load programs of this tree,
# then measured in turn, 15 pairs in the order old, new, new, old. Prints for each load both medians, their ratio
# and its 95 % interval: ten minutes on a quiet machine, and the building before it.
#
#   benches/ab.sh REV                   the tree as it is, what is not committed included, against REV
#   benches/ab.sh REV REV2              REV2 against REV
#   benches/ab.sh --quick REV           a short pass, to see that it works; its numbers mean little
#   benches/ab.sh --pairs 30 --output /tmp/ab.md REV
set -euo pipefail
from=$PWD
cd "$(dirname "$0")/.."
. benches/need.sh

usage() {
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' benches/ab.sh
    exit "$1"
}

flags=() revisions=()
while [ $# -gt 0 ]; do
    case $1 in
    --quick) flags+=("$1") ;;
    --pairs) flags+=("$1" "${2:?how many pairs?}"); shift ;;
    --output) flags+=("$1" "$(cd "$from" && realpath -m -- "${2:?to which file?}")"); shift ;;
    -h | --help) usage 0 ;;
    -*) usage 2 >&2 ;;
    *) revisions+=("$1") ;;
    esac
    shift
done
[ ${#revisions[@]} = 1 ] || [ ${#revisions[@]} = 2 ] || usage 2 >&2

need git git
need valgrind valgrind

work=$PWD/target/ab
mkdir -p "$work"
# One at a time: they share the folder, and would share the cores.
exec 9>"$work/lock"
flock 9

# This tree as it is, as git keeps trees; the index that is in use stays as it is.
rm -f "$work/index"
GIT_INDEX_FILE=$work/index git add --all
here=$(GIT_INDEX_FILE=$work/index git write-tree)

# build TREE PROGRAM: both are built in the same folder, so that not even a path differs.
build() {
    rm -rf "$work/tree"
    mkdir "$work/tree"
    # The times are those of now: cargo tells by them that the folder holds another tree than before.
    git archive "$1" | tar -xm -C "$work/tree"
    rm -rf "$work/tree/benches/peers"
    git archive "$here" benches/peers | tar -xm -C "$work/tree"
    cp "$work/Cargo.lock" "$work/tree/benches/peers/" 2>/dev/null || true
    if ! compile; then
        echo "With the seqlink stack of this tree it does not build; with its own:" >&2
        git show "$1:benches/peers/src/stacks/link.rs" >"$work/tree/benches/peers/src/stacks/link.rs"
        compile
    fi
    cp "$work/build/release/load" "$2"
    cp "$work/tree/benches/peers/Cargo.lock" "$work/Cargo.lock"
}

compile() {
    CARGO_TARGET_DIR=$work/build cargo build --release --quiet --manifest-path "$work/tree/benches/peers/Cargo.toml"
}

# The one resolution of dependencies: of the benchmarks where they have been built, or a new one.
rm -f "$work/Cargo.lock"
cp benches/peers/Cargo.lock "$work/" 2>/dev/null || true

old=$(git rev-parse --verify --quiet "${revisions[0]}^{commit}") || { echo "no such revision: ${revisions[0]}" >&2; exit 2; }
name="$(git rev-parse --short "$old")"
if [ ${#revisions[@]} = 2 ]; then
    new=$(git rev-parse --verify --quiet "${revisions[1]}^{commit}") || { echo "no such revision: ${revisions[1]}" >&2; exit 2; }
    title="New is $(git rev-parse --short "$new"), old is $name."
else
    new=$here
    title="New is the tree at $(git rev-parse --short HEAD)"
    [ "$here" = "$(git rev-parse 'HEAD^{tree}')" ] || title+=" and what is not committed"
    title+=", old is $name."
fi
echo "Building." >&2
build "$new" "$work/new"
cp "$work/Cargo.lock" "$work/Cargo.lock.new"
build "$old" "$work/old"
cmp -s "$work/Cargo.lock.new" "$work/Cargo.lock" || title+=" Their dependencies differ."

"$work/new" compare --title "$title" ${flags[@]+"${flags[@]}"} "$work/old" "$work/new"
