#!/usr/bin/env python3
"""Plants one bug after the other and expects the tests to turn red.

    tests/mutants/run.py [word ...]     only the mutants whose name has one of the words

Each line of mutants.txt is one bug: a name, the file, the text that goes, the text that comes, and
the tests that must notice. A bug that shows in a program needs `test -- FILTER`: cargo builds the
examples only where nothing else is picked. It works on a copy under target/mutants, so the tree stays as it is.
"""

import argparse
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
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


def copy_tree(copy):
    copy.mkdir(parents=True, exist_ok=True)
    for name in ["Cargo.toml", "Cargo.lock", "README.md", "rustfmt.toml", "src", "tests", "examples", "docs", "benches"]:
        source, target = ROOT / name, copy / name
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, copy_function=shutil.copy2)
        elif source.exists():
            shutil.copy2(source, target)


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
    if whole.count(old) != 1:
        return f"the text stands {whole.count(old)} times in {mutant['file']}"
    try:
        path.write_text(whole.replace(old, new))
        builds = [["test", "--no-run", *mutant["test"].split()]]
        if mutant["file"].startswith("examples/"):
            # A test that is named brings no programs with it.
            builds.append(["build", "--examples"])
        for build in builds:
            built, output = cargo(copy, build, BUILD)
            if not built:
                return "it does not build:\n" + output
        passed, output = cargo(copy, ["test", *mutant["test"].split()], LIMIT)
        return "it lives" if passed else None
    finally:
        path.write_text(whole)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("words", nargs="*")
    words = arguments.parse_args().words
    copy = ROOT / "target/mutants"
    copy_tree(copy)
    dead, alive = 0, 0
    for mutant in mutants():
        if words and not any(word in mutant["name"] for word in words):
            continue
        started = time.monotonic()
        fault = try_mutant(copy, mutant)
        seconds = time.monotonic() - started
        print(f"{'LIVES' if fault else 'dies '} {seconds:4.0f} s  {mutant['name']}", flush=True)
        if fault:
            print("    " + fault.replace("\n", "\n    "), flush=True)
        dead, alive = dead + (not fault), alive + bool(fault)
    # In the words of a test runner: a mutant that dies is a test that passed.
    print(f"{dead} passed, {alive} failed")
    sys.exit(1 if alive or not dead else 0)


if __name__ == "__main__":
    main()
