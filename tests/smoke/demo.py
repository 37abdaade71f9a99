#!/usr/bin/env python3
"""The demo as users see it, shortened: both forms pass, and a link that loses nothing says so."""
import os
import subprocess
import sys

from harness import check, run_cases

DEMO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts", "lib", "demo.py")


def run_demo(*arguments):
    done = subprocess.run([sys.executable, DEMO, "--seconds", "2", *arguments], capture_output=True, text=True, timeout=180, check=False)
    check(done.returncode == 0, f"ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    check("PASS: " in done.stdout and "in order, checksums equal" in done.stdout, f"no verdict in:\n{done.stdout}")
    rows = {line[:28].strip(): line[28:].strip() for line in done.stdout.splitlines() if line.startswith("  ")}
    return {name: value.split()[0].replace(",", "") for name, value in rows.items() if value}


def two_appliances_on_memif_deliver_over_a_bad_link(_):
    rows = run_demo()
    check(int(rows["packets lost on the link"]) > 0 and int(rows["NAKs"]) > 0, f"the link lost nothing: {rows}")


def one_appliance_on_a_patch_cable_delivers_over_a_bad_link(_):
    rows = run_demo("--single", "--loss", "5")
    check(int(rows["packets lost on the link"]) > 0 and int(rows["NAKs"]) > 0, f"the link lost nothing: {rows}")


def a_wrong_argument_is_answered_with_the_usage(_):
    done = subprocess.run([sys.executable, DEMO, "--loss", "99"], capture_output=True, text=True, timeout=60, check=False)
    check(done.returncode == 2 and "--loss takes 0 to 30" in done.stderr, done.stderr)


CASES = [two_appliances_on_memif_deliver_over_a_bad_link, one_appliance_on_a_patch_cable_delivers_over_a_bad_link,
         a_wrong_argument_is_answered_with_the_usage]

if __name__ == "__main__":
    sys.exit(run_cases(CASES))
