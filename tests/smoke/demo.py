#!/usr/bin/env python3
"""The demo as users see it, shortened: both forms pass, and a link that loses nothing says so."""
import importlib.util
import os
import signal
import subprocess
import sys

from harness import Failure, check, ended, run_cases

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
    for option, value, answer in (("--loss", "99", "--loss takes 0 to 30"), ("--size", "23", "--size takes 24 to 1048576")):
        done = subprocess.run([sys.executable, DEMO, option, value], capture_output=True, text=True, timeout=60, check=False)
        check(done.returncode == 2 and answer in done.stderr, done.stderr)


def the_shortest_message_passes(_):
    run_demo("--single", "--size", "24")


def ctrl_c_and_a_kill_end_it_in_order(scratch):
    """No traceback, no process and no directory is left, whoever asks it to end."""
    for how in (signal.SIGINT, signal.SIGTERM):
        before = {name for name in os.listdir("/dev/shm") if name.startswith("thalweg-demo-")}
        with ended(subprocess.Popen([sys.executable, DEMO, "--single", "--seconds", "600"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                    env={**os.environ, "THALWEG_DEMO_TEST": scratch.path})) as demo:
            lines = []
            for line in demo.stdout:
                lines.append(line)
                if "retransmits" in line and " sent " in line:
                    break
            demo.send_signal(how)
            text = "".join(lines) + demo.communicate(timeout=120)[0]
        check(demo.returncode == 130 and "FAIL: interrupted" in text and "Traceback" not in text, f"{how!r} ended it with {demo.returncode}:\n{text}")
        after = {name for name in os.listdir("/dev/shm") if name.startswith("thalweg-demo-")}
        check(after <= before, f"{how!r} left {after - before}")
        left = processes_with(f"THALWEG_DEMO_TEST={scratch.path}")
        check(not left, f"{how!r} left processes: {left}")


def processes_with(variable):
    """Processes that were started with this environment variable, ours and dead ones excepted."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                is_one = variable.encode() in file.read().split(b"\0")
            with open(f"/proc/{name}/comm", encoding="utf-8") as file:
                command = file.read().strip()
        except OSError:
            continue
        if is_one:
            found[int(name)] = command
    return found


def a_publisher_that_does_not_end_is_ended_and_named(_):
    spec = importlib.util.spec_from_file_location("demo_script", DEMO)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    with ended(subprocess.Popen(["sleep", "600"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)) as process:
        try:
            script.Traffic(process).finish(0.01, "publisher")
        except Failure as error:
            check("the publisher did not end" in str(error), str(error))
        else:
            raise Failure("nobody missed it")


CASES = [two_appliances_on_memif_deliver_over_a_bad_link, one_appliance_on_a_patch_cable_delivers_over_a_bad_link,
         a_wrong_argument_is_answered_with_the_usage, the_shortest_message_passes, ctrl_c_and_a_kill_end_it_in_order, a_publisher_that_does_not_end_is_ended_and_named]

if __name__ == "__main__":
    sys.exit(run_cases(CASES))
