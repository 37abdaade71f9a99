"""What the smoke tests share: a scratch directory, and a runner that prints one line a case. Appliances come from scripts/lib."""
import os
import shutil
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts", "lib"))
from appliance import BUILD, COMMAND, DEADLINE_S, Appliance, Failure, check, finish, wait_for  # noqa: E402  pylint: disable=wrong-import-position

__all__ = ["BUILD", "COMMAND", "DEADLINE_S", "Appliance", "Failure", "Scratch", "check", "finish", "run_cases", "wait_for"]


class Scratch:
    """A directory on tmpfs that is gone afterwards; `leftovers()` tells what drivers and EALs left behind in /dev/shm."""

    def __enter__(self):
        self.before = set(os.listdir("/dev/shm"))
        self.path = tempfile.mkdtemp(prefix="thalweg-smoke-", dir="/dev/shm")
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)

    def leftovers(self):
        mine = os.path.basename(self.path)
        return sorted(name for name in set(os.listdir("/dev/shm")) - self.before if name != mine and name.startswith(("aeron", "rte", "dpdk")))


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
