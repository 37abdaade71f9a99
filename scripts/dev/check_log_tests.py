#!/usr/bin/env python3
"""Checks that every test that docs/develop/log-tests.md names is there. Exit 1 if one is not.

A row says `file`: *name*, *name*; a name is a part of the name of a test or of its fixture in that file.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/develop/log-tests.md"
FOLDERS = ("tests/unit/log", "tests/unit/archive", "tests/smoke", "tests/component", "tests/fuzz")
TEST = re.compile(r"\b(?:TYPED_TEST|TEST|TEST_F|TEST_P)\(\s*(\w+)\s*,\s*(\w+)\s*\)")


def tests_of(stem):
    """Names of the tests in a source file, with their fixtures; None when there is no such file."""
    for folder in FOLDERS:
        for suffix in (".cpp", ".py", ".sh"):
            path = ROOT / folder / (stem + suffix)
            if path.exists():
                return [f"{fixture}.{name}" for fixture, name in TEST.findall(path.read_text())]
    return None


def main():
    problems = []
    for number, line in enumerate(PAGE.read_text().splitlines(), 1):
        if not line.startswith("|"):
            continue
        for stem, names in re.findall(r"`(\w+_(?:test|fuzz))`((?:(?!`\w+_(?:test|fuzz)`).)*)", line):
            tests = tests_of(stem)
            if tests is None:
                problems.append(f"{PAGE.name}:{number}: no file {stem}")
                continue
            for name in re.findall(r"\*(\w+)\*", names) + re.findall(r"all of `(\w+)`", names):
                if not any(name in test for test in tests):
                    problems.append(f"{PAGE.name}:{number}: {stem} has no test '{name}'")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
