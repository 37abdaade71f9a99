#!/usr/bin/env python3
"""Real processes are killed while streams run; every message is counted from end to end, and the longest pause is measured.

    survival.py [KIND ...] [--count N] [--seed N] [--rate N] [--pause-limit MS] [--json FILE]

Kinds: control, data, both (planes killed under traffic), claim (a publisher dies between claim and commit), command (a client dies inside a
command), supervised (the data plane of `thalweg up`, which starts it again; each time another instance), full-ring (the to-driver ring fills up, and the control plane stops or dies over it), silent (a client stops for many of its time-outs).
"""
import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

from harness import BUILD, DEADLINE_S, Appliance, Failure, Scratch, check, ended, finish, wait_for

SUPPORT = os.path.join(BUILD, "tests", "support")
PORTS = ("ports:\n  - {name: left, type: patch, address: 10.77.1.1/24, peer: right, impair: {loss: 1%}}\n"
         "  - {name: right, type: patch, address: 10.77.1.2/24, peer: left, impair: {loss: 1%}}\n")
SHORT = ("control-plane: {client-liveness-timeout: 500ms, timer-interval: 100ms}\nstreams: {unblock-timeout: 1s}\n")
TERMS = "term-length=64k"
LOOPBACK, IPC = f"aeron:udp?endpoint=localhost:24361|{TERMS}", f"aeron:ipc?{TERMS}"
PATCH = f"aeron:udp?endpoint=10.77.1.2:24362|{TERMS}"
UNBLOCKED_PUBLICATIONS, UNBLOCKED_COMMANDS = 19, 20  # system counters


class Instance(Appliance):
    """Both processes of an instance without a supervisor: this script starts them again at once, however often they die."""

    PROGRAMS = {"control": os.path.join("controlplane", "thalweg-controlplane"), "data": os.path.join("dataplane", "thalweg-dataplane")}

    def __init__(self, scratch, yaml=""):
        super().__init__(scratch, "a", PORTS + yaml)
        self.planes = {}

    def start(self, wait=True):
        for plane in self.PROGRAMS:
            self.start_plane(plane)
        try:
            wait_for(lambda: "instance_ready" in self.log(), "readiness", alive=self.planes["control"])
        except Failure:
            self.kill(*self.PROGRAMS)
            raise

    def start_plane(self, plane):
        with open(self.log_path, "a", encoding="utf-8") as log:
            self.planes[plane] = subprocess.Popen([os.path.join(BUILD, self.PROGRAMS[plane]), "--config", self.config], stdout=log, stderr=log,
                                                  stdin=subprocess.DEVNULL)

    def kill(self, *planes):
        for plane in planes:
            self.planes[plane].kill()
        for plane in planes:
            self.planes[plane].wait()

    def stop(self, how=signal.SIGTERM):
        codes = []
        for plane in ("control", "data"):
            process = self.planes.get(plane)
            if process is None:
                continue
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.send_signal(how)
            try:
                codes.append(process.wait(DEADLINE_S))
            except subprocess.TimeoutExpired:
                process.kill()
                codes.append(process.wait())
        return max((abs(code) for code in codes), default=0)

    def counters(self):
        return {row["id"]: row for row in self.run("stat")["counters"]}

    def registered(self):
        """Everything that clients and streams have, by counter id. Names that clients add to their heartbeat's label come later, so they are cut."""
        return {(row["id"], row["type_id"], row["label"].split(" name=")[0]) for row in self.counters().values() if row["type_id"] != 0}

    def system_counter(self, number):
        return self.counters()[number]["value"]


class Stream:
    """A verified stream of `thalweg pub` and `sub`, watched while it runs."""

    def __init__(self, instance, name, channel, stream, rate, size=64, shared=False):
        self.name = name
        self.gaps = []  # (when it was told, how long it was)
        self.received = 0
        self.lock = threading.Lock()
        arguments = ("--channel", channel, "--stream", str(stream), "--verify", "--wait", "120s")
        self.subscriber = instance.spawn("sub", *arguments, "--until-end", "--interval", "50ms")
        self.publisher = instance.spawn("pub", *arguments, "--rate", str(rate), "--size", str(size), *(("--shared",) if shared else ()))
        self.summary = None
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.subscriber.stdout:
            document = json.loads(line)
            with self.lock:
                if document.get("event") == "progress":
                    self.received = document["messages_received"]
                    self.gaps.append((time.monotonic(), document["longest_gap_ns"]))
                else:
                    self.summary = document

    def count(self):
        with self.lock:
            return self.received

    def longest_gap_ms(self, since):
        with self.lock:
            return max((gap for when, gap in self.gaps if when >= since), default=0) / 1e6

    def wait_for_progress(self, what):
        """Two reports with new messages: the second one tells of a gap that ended with the first."""
        for _ in range(2):
            before = self.count()
            wait_for(lambda b=before: self.count() > b, f"messages of {self.name} {what}", alive=self.subscriber)

    def finish(self):
        """Ends the stream; answers what was wrong with it."""
        self.publisher.send_signal(signal.SIGINT)
        try:
            out, told = self.publisher.communicate(timeout=DEADLINE_S)
            self.subscriber.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name}: no end, {self.count()} messages received") from None
        self.reader.join()
        told += self.subscriber.stderr.read()
        sent, got = json.loads(out.splitlines()[-1]) if out else None, self.summary
        if not sent or not got:
            return 0, [f"no summary: {told}"]
        wrong = [f"{key} {got[key]}" for key in ("missing", "out_of_order", "corrupt") if got[key] != 0]
        if sent["messages_sent"] != got["messages_received"]:
            wrong.append(f"{got['messages_received']} received of {sent['messages_sent']} sent")
        if len(got["sessions"]) != 1 or got["sessions"][0]["first_sequence"] != 0:
            wrong.append(f"sessions {got['sessions']}")
        if (sent["end_reason"], got["end_reason"]) != ("interrupted", "end_of_stream"):
            wrong.append(f"the publisher was ended by {sent['end_reason']}, the subscriber by {got['end_reason']}")
        if told.strip():
            wrong.append(f"clients were told: {told.strip()}")
        return sent["messages_sent"], wrong

    def end(self):
        for process in (self.publisher, self.subscriber):
            if process.poll() is None:
                process.kill()
            process.wait()


class Traffic:
    """Several streams at once, and what became of them."""

    def __init__(self, *streams):
        self.streams = streams

    def __enter__(self):
        for stream in self.streams:
            stream.wait_for_progress("at the start")
        return self

    def __exit__(self, *_):
        for stream in self.streams:
            stream.end()

    def wait_for_progress(self, what):
        for stream in self.streams:
            stream.wait_for_progress(what)

    def longest_gap_ms(self, since):
        return max(stream.longest_gap_ms(since) for stream in self.streams)

    def finish(self):
        total = 0
        wrong = []
        for stream in self.streams:
            sent, problems = stream.finish()
            total += sent
            wrong += [f"{stream.name}: {problem}" for problem in problems]
        check(not wrong, "; ".join(wrong))
        return total


class Run:
    """What all kinds share: their arguments, pauses and the line that tells them."""

    def __init__(self, options, kind):
        self.options = options
        self.kind = kind
        self.random = random.Random(f"{options.seed} {kind}")
        self.pauses = []
        self.figures = None

    def rounds(self):
        return range(self.options.count)

    def wait_a_moment(self):
        """A kill is to hit anything that goes on, not always the same."""
        time.sleep(self.random.uniform(0, 0.1))

    def add_pause(self, milliseconds):
        self.pauses.append(milliseconds)

    def tell(self, messages, quiet_ms):
        pauses = sorted(self.pauses) or [0.0]
        self.figures = {"kind": self.kind, "messages": messages, "lost": 0, "pauses_ms": pauses, "undisturbed_ms": quiet_ms}
        print(f"  {self.kind}: {len(self.pauses)} times, {messages} messages, 0 lost, doubled or torn; pause median {pauses[len(pauses) // 2]:.1f} ms, "
              f"longest {pauses[-1]:.1f} ms (undisturbed {quiet_ms:.1f} ms)", flush=True)
        limit = self.options.pause_limit
        check(limit is None or pauses[-1] <= limit, f"a pause of {pauses[-1]:.1f} ms")


def three_streams(instance, rate):
    """Every way that a message can take. Those of the patch cable are fragmented and some are lost on the way."""
    return Traffic(Stream(instance, "loopback", LOOPBACK, 1, rate), Stream(instance, "ipc", IPC, 2, rate), Stream(instance, "patch", PATCH, 3, rate / 10, size=3000))


def quiet_gap_ms(traffic):
    """The longest gap while nothing is killed: what the machine does to the streams anyway."""
    since = time.monotonic()
    while time.monotonic() < since + 1:
        traffic.wait_for_progress("undisturbed")
    return traffic.longest_gap_ms(since)


def check_new_commands(instance, number):
    """A new publication and a new subscription, and a message from one to the other."""
    stream = ("--channel", IPC, "--stream", str(1000 + number), "--verify")
    with ended(instance.spawn("sub", *stream, "--count", "1", "--wait", "60s")) as subscriber:
        instance.run("pub", *stream, "--count", "1", "--wait", "60s")
        finish(subscriber, "sub")


def kill_planes(run, scratch, *planes):
    with Instance(scratch) as a, three_streams(a, run.options.rate) as traffic:
        before = a.registered()
        quiet_ms = quiet_gap_ms(traffic)
        for number in run.rounds():
            run.wait_a_moment()
            since = time.monotonic()
            a.kill(*planes)
            for plane in run.random.sample(planes, len(planes)):
                a.start_plane(plane)
            check_new_commands(a, number)
            traffic.wait_for_progress(f"after kill {number} of {planes}")
            run.add_pause(traffic.longest_gap_ms(since))
            wait_for(lambda: a.registered() == before, "everything registered as it was before, and nothing else")
        run.tell(traffic.finish(), quiet_ms)


def control(run, scratch):
    kill_planes(run, scratch, "control")


def data(run, scratch):
    kill_planes(run, scratch, "data")


def both(run, scratch):
    kill_planes(run, scratch, "control", "data")


def supervised(run, scratch):
    """What an operator sees: `thalweg up` notices the death, waits for its first back-off and starts another. One kill an instance, because a process that
    dies again and again waits longer each time."""
    messages, quiet_ms = 0, 0.0
    for number in run.rounds():
        with Appliance(scratch, f"up{number}", PORTS) as a, three_streams(a, run.options.rate) as traffic:
            quiet_ms = max(quiet_ms, quiet_gap_ms(traffic))
            run.wait_a_moment()
            since = time.monotonic()
            os.kill(next(pid for name, pid in a.children().items() if name.startswith("thalweg-data")), signal.SIGKILL)
            check_new_commands(a, number)
            traffic.wait_for_progress("after the kill")
            run.add_pause(traffic.longest_gap_ms(since))
            messages += traffic.finish()
    run.tell(messages, quiet_ms)


def helper(instance, program, *arguments):
    """A program of tests/support that says `claimed` and waits for its end."""
    process = subprocess.Popen([os.path.join(SUPPORT, program), instance.directory, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        check(process.stdout.readline() == "claimed\n", f"{program} {arguments}: {process.stderr.read() if process.poll() is not None else 'no claim'}")
    except Failure:
        process.kill()
        raise
    return process


def claim(run, scratch):
    """Between claim and commit, on publications that others share: the dead claim is skipped, what the others sent is not."""
    with Instance(scratch, SHORT) as a:
        streams = Traffic(Stream(a, "loopback", LOOPBACK, 1, run.options.rate, shared=True), Stream(a, "ipc", IPC, 2, run.options.rate, shared=True))
        with streams as traffic:
            quiet_ms = quiet_gap_ms(traffic)
            before = a.registered()
            for number in run.rounds():
                run.wait_a_moment()
                since = time.monotonic()
                with ended(helper(a, "claimer", LOOPBACK, "1")), ended(helper(a, "claimer", IPC, "2")):
                    pass
                traffic.wait_for_progress(f"after dead claim {number}")
                run.add_pause(traffic.longest_gap_ms(since))
            wait_for(lambda: a.registered() == before, "the dead clients' registrations gone")
            unblocked = a.system_counter(UNBLOCKED_PUBLICATIONS)
            check(unblocked == 2 * run.options.count, f"{unblocked} claims of {2 * run.options.count} were unblocked")
            run.tell(traffic.finish(), quiet_ms)


def command(run, scratch):
    """Inside a command: the ring is blocked until the dead claim is skipped, streams do not notice, and the commands behind it are answered."""
    with Instance(scratch, SHORT) as a, three_streams(a, run.options.rate) as traffic:
        quiet_ms = quiet_gap_ms(traffic)
        for number in run.rounds():
            since = time.monotonic()
            with ended(helper(a, "wrecker", run.random.choice(("tail", "length", "body", "lap")))):
                pass
            check_new_commands(a, number)
            traffic.wait_for_progress("after a dead command")
            run.add_pause(traffic.longest_gap_ms(since))
        unblocked = a.system_counter(UNBLOCKED_COMMANDS)
        check(unblocked >= run.options.count, f"{unblocked} of {run.options.count} dead commands were skipped")
        run.tell(traffic.finish(), quiet_ms)


def full_ring(run, scratch):
    """Nobody reads commands until the ring is full; then the control plane goes on, or dies over it. Whoever asked meanwhile is answered."""
    with Instance(scratch) as a, three_streams(a, run.options.rate) as traffic:
        before = a.registered()
        quiet_ms = quiet_gap_ms(traffic)
        for number in run.rounds():
            since = time.monotonic()
            a.planes["control"].send_signal(signal.SIGSTOP)
            filled = subprocess.run([os.path.join(SUPPORT, "wrecker"), a.directory, "fill"], capture_output=True, text=True, check=True, timeout=DEADLINE_S)
            check(int(filled.stdout) > 1000, f"the ring took {filled.stdout} commands")
            stream = ("--channel", IPC, "--stream", str(1000 + number), "--verify")
            with ended(a.spawn("sub", *stream, "--count", "1", "--wait", "60s")) as subscriber, \
                    ended(a.spawn("pub", *stream, "--count", "1", "--wait", "60s")) as publisher:
                traffic.wait_for_progress("with a full ring")
                if run.random.random() < 0.5:
                    a.planes["control"].send_signal(signal.SIGCONT)
                else:
                    a.kill("control")
                    a.start_plane("control")
                finish(publisher, "pub")
                finish(subscriber, "sub")
            traffic.wait_for_progress("after the full ring")
            run.add_pause(traffic.longest_gap_ms(since))
            wait_for(lambda: a.registered() == before, "everything registered as it was before")
        run.tell(traffic.finish(), quiet_ms)


def silent(run, scratch):
    """A subscriber stops in the middle of its streams for six of its time-outs, a minute with the usual ones: its stream waits until it is given
    up, then goes on for the others. When it comes back it is told, and ends."""
    with Instance(scratch, SHORT) as a, three_streams(a, run.options.rate) as traffic:
        before = a.registered()
        quiet_ms = quiet_gap_ms(traffic)
        for _ in run.rounds():
            since = time.monotonic()
            channel, stream = run.random.choice(((LOOPBACK, 1), (IPC, 2), (PATCH, 3)))
            with ended(a.spawn("sub", "--channel", channel, "--stream", str(stream), "--interval", "50ms", "--wait", "60s")) as other:
                wait_for(lambda o=other: '"messages_received":0,' not in (line := o.stdout.readline()) and "progress" in line, "first messages")
                other.send_signal(signal.SIGSTOP)
                wait_for(lambda: a.registered() == before, "the silent client given up")
                traffic.wait_for_progress("without the silent client")
                time.sleep(6 * 0.5)
                other.send_signal(signal.SIGCONT)
                _, errors = other.communicate(timeout=DEADLINE_S)
                check(other.returncode not in (0, None) and "given this client up" in errors, f"the client came back with {other.returncode}: {errors}")
            traffic.wait_for_progress("after the silent client")
            run.add_pause(traffic.longest_gap_ms(since))
            wait_for(lambda: a.registered() == before, "nothing of it left")
        run.tell(traffic.finish(), quiet_ms)


KINDS = {"control": control, "data": data, "both": both, "claim": claim, "command": command, "supervised": supervised, "full-ring": full_ring, "silent": silent}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="all of them without a name")
    parser.add_argument("--count", type=int, default=20, help="kills of each kind (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments and victims (%(default)s)")
    parser.add_argument("--rate", type=float, default=5000, help="messages a second and stream (%(default)s); 0: as many as go")
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    parser.add_argument("--pause-limit", type=float, metavar="MS", help="a longer pause fails the run")
    options = parser.parse_args()
    failed, figures = 0, []
    for kind in options.kinds or KINDS:
        if kind not in KINDS:
            parser.error(f"no kind '{kind}'; one of: {', '.join(KINDS)}")
        started = time.monotonic()
        outcome = "ok"
        try:
            with Scratch() as scratch:
                run = Run(options, kind)
                KINDS[kind](run, scratch)
                figures.append(run.figures)
                check(scratch.leftovers() == [], f"left behind: {scratch.leftovers()}")
        except (Failure, subprocess.SubprocessError) as error:
            failed += 1
            outcome = f"FAILED: {error}"
        print(f"{kind}: {outcome} ({time.monotonic() - started:.1f} s, seed {options.seed})", flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)
    return 0 if failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
