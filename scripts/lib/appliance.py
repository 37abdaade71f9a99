"""Appliances as real processes in directories of their own, commands with JSON answers, waits with deadlines. For the demo, the benchmarks and the
smoke tests; the environment variable THALWEG_BUILD names the build directory.

Nothing here sleeps for a fixed time: every wait is for a condition, with a deadline that is far beyond what a loaded machine needs.
"""
import json
import os
import signal
import subprocess
import time

BUILD = os.environ.get("THALWEG_BUILD", "")
COMMAND = os.path.join(BUILD, "controlplane", "cli", "thalweg")
DEADLINE_S = 60


class Failure(Exception):
    """A condition that a test states and that did not hold."""


def check(condition, text):
    if not condition:
        raise Failure(text)


def wait_for(condition, what, deadline_s=DEADLINE_S, alive=None):
    """Polls `condition` until it answers something true; fails when the deadline passes or the process `alive` ends."""
    end = time.monotonic() + deadline_s
    while True:
        answer = condition()
        if answer:
            return answer
        if alive is not None and alive.poll() is not None:
            raise Failure(f"process ended with {alive.returncode} while waiting for {what}")
        if time.monotonic() > end:
            raise Failure(f"no {what} within {deadline_s} s")
        time.sleep(0.02)


class Appliance:
    """`thalweg up` with a configuration written for it. Use as a context manager: it is ended, and must end cleanly."""

    def __init__(self, scratch, name, yaml="", prefix=(), environment=None):
        self.name = name
        self.directory = os.path.join(scratch.path, name)
        self.config = os.path.join(scratch.path, name + ".yaml")
        self.log_path = os.path.join(scratch.path, name + ".log")
        self.prefix = list(prefix)
        self.env = {**os.environ, **(environment or {})}
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(f"instance:\n  directory: {self.directory}\n  name: {name}\n{yaml}")
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *_):
        code = self.stop()
        if kind is not None:
            print(f"--- log of {self.name}\n{self.log()}", flush=True)
        else:
            check(code == 0, f"{self.name} ended with {code}, log: {self.log()[-2000:]}")

    def start(self, wait=True):
        with open(self.log_path, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(self.prefix + [COMMAND, "up", "--config", self.config, "--json"], stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, env=self.env)
        if wait:
            wait_for(self.ready_event, f"readiness of {self.name}", alive=self.process)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def ready_event(self):
        """What `thalweg up` said when both processes were there; None before."""
        for line in self.log().splitlines():
            if line.startswith("{") and '"ready"' in line:
                return json.loads(line)
        return None

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failure(f"{self.name} did not end on signal {how}") from None

    def command(self, *arguments):
        return self.prefix + [COMMAND, *arguments, "--directory", self.directory]

    def run(self, *arguments, check_exit=True, **options):
        """One command with --json; answers the decoded document."""
        done = subprocess.run(self.command(*arguments, "--json"), capture_output=True, text=True, timeout=DEADLINE_S * 2, check=False, **options)
        if check_exit:
            check(done.returncode == 0, f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr[-1500:]}")
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def spawn(self, *arguments):
        return subprocess.Popen(self.command(*arguments, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                stdin=subprocess.DEVNULL)

    def children(self):
        """Process ids of the two daemons, by name."""
        found = {}
        listing = subprocess.run(["ps", "--ppid", str(self.process.pid), "-o", "pid=,comm="], capture_output=True, text=True, check=False).stdout
        for line in listing.splitlines():
            pid, comm = line.split(None, 1)
            found[comm.strip()] = int(pid)
        return found


def finish(process, what):
    """Waits for a spawned command and answers its JSON document."""
    try:
        out, err = process.communicate(timeout=DEADLINE_S * 2)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise Failure(f"{what} did not end; stderr: {err[-1500:]}") from None
    check(process.returncode == 0, f"{what} ended with {process.returncode}: {err[-1500:]} {out[-500:]}")
    return json.loads(out.strip().splitlines()[-1]) if out.strip() else {}
