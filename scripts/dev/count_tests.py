#!/usr/bin/env python3
"""Prints `<passed> <failed>` for one meson run: the cases of GoogleTest binaries (XML files), one for every other test.

Usage: count_tests.py testlog.json XML_DIRECTORY. With CI=true a skip counts as a failure.
"""
import glob
import json
import os
import sys
import xml.etree.ElementTree as ElementTree


def main():
    strict = os.environ.get("CI") == "true"
    passed = failed = 0
    covered = set()
    for path in glob.glob(os.path.join(sys.argv[2], "*.xml")):
        suites = ElementTree.parse(path).getroot()
        covered.add(os.path.splitext(os.path.basename(path))[0])
        for case in suites.iter("testcase"):
            skipped = case.get("result") == "skipped" or case.find("skipped") is not None
            if case.find("failure") is not None or (skipped and strict):
                failed += 1
                print(f"failed: {case.get('classname')}.{case.get('name')}{' (skipped)' if skipped else ''}", file=sys.stderr)
            elif not skipped and case.get("status", "run") == "run":
                passed += 1
    with open(sys.argv[1], encoding="utf-8") as log:
        for line in log:
            test = json.loads(line)
            good = test["result"] in ("OK", "EXPECTEDFAIL") or (test["result"] == "SKIP" and not strict)
            program = os.path.basename(test["command"][0]) if test.get("command") else ""
            if program in covered and good:
                continue  # its cases are counted above
            if good:
                passed += test["result"] != "SKIP"
            elif program not in covered or failed == 0:
                failed += 1
                print(f"failed: {test['name']} ({test['result']})", file=sys.stderr)
    print(passed, failed)


main()
