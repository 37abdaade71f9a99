"""What the smoke tests share: a scratch directory, and a runner that prints one line a case. Appliances come from scripts/lib."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts", "lib"))
from appliance import BUILD, COMMAND, DEADLINE_S, Appliance, Failure, check, finish, wait_for  # noqa: E402  pylint: disable=wrong-import-position

__all__ = ["BUILD", "COMMAND", "DEADLINE_S", "Appliance", "Failure", "SKIPPED", "Scratch", "check", "ended", "exit_of", "finish", "next_progress", "run_cases", "wait_for"]
SKIPPED = 77  # what meson takes for a skipped test


def files_of_hugetlbfs():
    with open("/proc/mounts", encoding="utf-8") as file:
        mounts = [line.split()[1] for line in file if line.split()[2] == "hugetlbfs"]
    return {os.path.join(mount, name) for mount in mounts for name in os.listdir(mount)}


class Scratch:
    """A directory on tmpfs that is gone afterwards; `leftovers()` tells what drivers and EALs left behind in /dev/shm and on hugetlbfs."""

    def __enter__(self):
        self.before = set(os.listdir("/dev/shm"))
        self.huge_before = files_of_hugetlbfs()
        self.path = tempfile.mkdtemp(prefix="thalweg-smoke-", dir="/dev/shm")
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)

    def leftovers(self):
        mine = os.path.basename(self.path)
        small = [name for name in set(os.listdir("/dev/shm")) - self.before if name != mine and name.startswith(("aeron", "rte", "dpdk"))]
        return sorted(small) + sorted(files_of_hugetlbfs() - self.huge_before)


@contextlib.contextmanager
def ended(process):
    """Whatever happens in between, the process is not left behind."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait()


def exit_of(appliance, *arguments):
    """Exit code, JSON document and standard error of a command that is expected not to succeed."""
    done = subprocess.run(appliance.command(*arguments, "--json"), capture_output=True, text=True, timeout=DEADLINE_S * 2, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}, done.stderr


def next_progress(process, what):
    """The next progress document; the process is asked for them with --interval."""
    line = process.stdout.readline()
    check(line != "", f"{what} ended early")
    return json.loads(line)


def run_cases(cases):
    """Runs each case (a function of a Scratch) on its own and prints how it went; `argv` may name some of them. Answers the exit code."""
    wanted = [case for case in cases if len(sys.argv) < 2 or case.__name__ in sys.argv[1:]]
    failed = 0
    for case in wanted:
        started = time.monotonic()
        try:
            with Scratch() as scratch:
                case(scratch)
            outcome = "ok"
        except Exception as error:  # pylint: disable=broad-except
            failed += 1
            outcome = f"FAILED: {error}"
            if not isinstance(error, Failure):
                traceback.print_exc()
        print(f"{case.__name__.replace('_', ' ')}: {outcome} ({time.monotonic() - started:.1f} s)", flush=True)
    print(f"{len(wanted) - failed} passed, {failed} failed", flush=True)
    return 0 if failed == 0 else 1
