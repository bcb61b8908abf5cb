#!/usr/bin/env python3
"""Plants one bug after the other and expects the tests to turn red.

    tests/mutants/run.py [word ...]          only the mutants whose name or file has one of the words
    tests/mutants/run.py --check [word ...]  only whether the text that goes stands once in its file
    tests/mutants/run.py --again [word ...]  also those that were tried before

Each block of mutants.txt is one bug: a name, the file, the text that goes, the text that comes, and
the tests that must notice. It works on a copy under target/mutants, so the tree stays as it is.

What has come of a bug is kept in target/mutants.json, so a run that was broken off goes on where it
was. A bug is tried anew when its block has changed, or anything that its tests are built from.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
COPIED = [
    "Cargo.toml", "Cargo.lock", "README.md", "rustfmt.toml", "src", "tests", "examples", "fleet", "docs", "benches", "fuzz",
]
STATE = ROOT / "target/mutants.json"
BUILD = 300  # seconds; on a busy machine
LIMIT = 90  # seconds for the tests of one mutant; a test that hangs has noticed


def mutants():
    """The bugs: blocks of `name`, `file`, `-`, `+` and `test` lines, a blank line between two."""
    text = (ROOT / "tests/mutants/mutants.txt").read_text()
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        if not lines:
            continue
        fields = {"-": [], "+": []}
        for line in lines:
            key, _, value = line.partition(" ")
            if key in "-+":
                fields[key].append(value)
            else:
                fields[key] = value
        yield fields


def standing(mutant, whole):
    """What is wrong with the text that goes, if anything."""
    times = whole.count("\n".join(mutant["-"]))
    return None if times == 1 else f"the text stands {times} times in {mutant['file']}"


def files(top):
    return {path for path in top.rglob("*") if path.is_file()} if top.is_dir() else {top} if top.exists() else set()


def digest(copy, mutant):
    """Of the bug and of all that its tests are built from: the tests of others are left out."""
    tests = {f"{top}/{word}.rs" for top in ("tests", "fleet/tests") for word in mutant["test"].split()}
    digest = hashlib.sha256(repr(sorted(mutant.items())).encode())
    for name in COPIED:
        if name == "fuzz" and "seqlink-fuzz-targets" not in mutant["test"]:
            continue
        top = copy / name
        for path in sorted(files(top)):
            within = path.relative_to(copy).as_posix()
            other = path.parent in (copy / "tests", copy / "fleet/tests") and within not in tests
            if not other and not within.startswith("tests/mutants/"):
                digest.update(within.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def copy_tree(copy):
    """Copies what differs. A file that a broken run has left with a bug in it gets a new time with its
    text, or cargo would take what was built of it for good."""
    for name in COPIED:
        wanted = {path.relative_to(ROOT) for path in files(ROOT / name)}
        for path in files(copy / name):
            if path.relative_to(copy) not in wanted:
                path.unlink()
        for path in wanted:
            source, target = ROOT / path, copy / path
            if not target.exists() or target.read_bytes() != source.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)


def cargo(copy, arguments, limit):
    """Whether it succeeded; `None` when it took too long. What it printed."""
    process = subprocess.Popen(
        ["cargo", *arguments, "--quiet"],
        cwd=copy, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "CARGO_TARGET_DIR": str(copy / "target"), "RUST_BACKTRACE": "0"},
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit)
        return process.returncode == 0, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return None, process.communicate()[0]


def try_mutant(copy, mutant):
    path = copy / mutant["file"]
    whole = path.read_text()
    old, new = "\n".join(mutant["-"]), "\n".join(mutant["+"])
    fault = standing(mutant, whole)
    if fault:
        return fault
    try:
        path.write_text(whole.replace(old, new))
        words = mutant["test"].split()
        if "-p" not in words:
            words = ["-p", "seqlink", *words]
        built, output = cargo(copy, ["test", "--no-run", *words], BUILD)
        if not built:
            return "it does not build:\n" + output
        passed, output = cargo(copy, ["test", *words], LIMIT)
        return "it lives" if passed else None
    finally:
        path.write_text(whole)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("words", nargs="*")
    arguments.add_argument("--check", action="store_true", help="build and run nothing")
    arguments.add_argument("--again", action="store_true", help="forget what was tried before")
    options = arguments.parse_args()
    chosen = [
        mutant for mutant in mutants()
        if not options.words or any(word in mutant["name"] or word in mutant["file"] for word in options.words)
    ]
    copy = ROOT / "target/mutants"
    if not options.check:
        copy_tree(copy)
    known = json.loads(STATE.read_text()) if STATE.exists() else {}
    dead, alive = 0, 0
    for mutant in chosen:
        name, started = mutant["name"], time.monotonic()
        if options.check:
            path = ROOT / mutant["file"]
            fault = standing(mutant, path.read_text()) if path.exists() else f"no {mutant['file']}"
            if fault:
                print(f"{name}\n    {fault}")
        else:
            key = digest(copy, mutant)
            before = known.get(name)
            if before and before["digest"] == key and not options.again:
                fault, when = before["fault"], "before"
            else:
                fault = try_mutant(copy, mutant)
                when = f"{time.monotonic() - started:4.0f} s"
                # What did not build says nothing of the bug; the machine may have been busy.
                if not (fault or "").startswith("it does not build"):
                    known[name] = {"digest": key, "fault": fault}
                    STATE.write_text(json.dumps(known, indent=1))
            print(f"{'LIVES' if fault else 'dies '} {when}  {name}", flush=True)
            if fault:
                print("    " + fault.replace("\n", "\n    "), flush=True)
        dead, alive = dead + (not fault), alive + bool(fault)
    # In the words of a test runner: a mutant that dies is a test that passed.
    print(f"{dead} passed, {alive} failed")
    sys.exit(1 if alive or not dead else 0)


if __name__ == "__main__":
    main()
