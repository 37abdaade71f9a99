"""The demo behind scripts/demo: appliances as real processes, traffic over a bad link, live progress, a table and a verdict."""
import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from types import SimpleNamespace

from appliance import Appliance, Failure, wait_for

LEFT, RIGHT = "10.77.1.1", "10.77.1.2"
PORT, PING_PORT, PONG_PORT = 40123, 40124, 40125
BOLD, GREEN, RED, FAINT, PLAIN = ("\033[1m", "\033[32m", "\033[31m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("",) * 5

STREAMS = """streams:
  # Ours at both ends: a lost retransmit is asked for again after two round trips instead of 10 ms, and all gaps at once.
  retransmit-linger-auto: true
  nak-all-gaps: true
  receiver-window: 1MiB
  socket-rcvbuf: 1MiB
"""


def parse_arguments():
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Two appliances, one bad link, every message in order.")
    parser.add_argument("--single", action="store_true", help="one data plane with both ends of a patch cable")
    parser.add_argument("--seconds", type=float, default=10, help="length of the stream (default 10)")
    parser.add_argument("--size", type=int, default=288, help="bytes per message (default 288)")
    parser.add_argument("--loss", type=float, default=1.0, help="percent of packets the link loses, each way (default 1)")
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not 0.5 <= options.seconds <= 3600:
        parser.error("--seconds takes 0.5 to 3600")
    if not 24 <= options.size <= 1 << 20:  # number and checksum need 24
        parser.error("--size takes 24 to 1048576")
    if not 0 <= options.loss <= 30:
        parser.error("--loss takes 0 to 30")
    return options


def port_yaml(name, kind, address, seed, loss, extra):
    return (f"  - name: {name}\n    type: {kind}\n    address: {address}/24\n{extra}"
            f"    impair: {{loss: {loss}%, reorder: 0.1%, duplicate: 0.1%, seed: {seed}}}\n")


class Traffic:
    """A publisher or subscriber: its progress lines as they come, its summary at the end."""

    def __init__(self, process):
        self.process = process
        self.latest = {}
        self.summary = {}
        self.errors = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=lambda: self.errors.put(process.stderr.read()), daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            if not line.startswith("{"):
                continue
            document = json.loads(line)
            if document.get("event") == "progress":
                self.latest = document
            else:
                self.summary = document

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:  # interrupted, or something else failed
            self.process.terminate()
            self.process.wait()

    def finish(self, limit_s, what):
        try:
            code = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failure(f"the {what} did not end within {limit_s:.0f} s") from None
        end = time.monotonic() + 5
        while not self.summary and time.monotonic() < end:
            time.sleep(0.01)
        return code, self.summary


def totals(appliances):
    """Lane counters and what the impaired links did, summed over all appliances."""
    sums = {}
    for appliance in appliances:
        for row in appliance.run("stat", check_exit=False).get("lane_counters", []):
            sums[row["name"]] = sums.get(row["name"], 0) + row["value"]
        for row in appliance.run("drops", check_exit=False).get("port_drops", []):
            if row["name"] == "impaired_lost":
                sums["link_lost"] = sums.get("link_lost", 0) + row["count"]
    return sums


def short(value):
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.2f}{letter}"
    return f"{value:.0f}"


def duration(value_ns):
    for limit, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if value_ns >= limit:
            return f"{value_ns / limit:.1f} {unit}"
    return f"{value_ns:.0f} ns"


def show_progress(publisher, subscriber, appliances, started):
    is_terminal = sys.stdout.isatty()
    while publisher.process.poll() is None:
        time.sleep(0.5)
        counters = totals(appliances)
        line = (f"{time.monotonic() - started:5.1f} s   sent {short(publisher.latest.get('messages_sent', 0)):>8}   "
                f"received {short(subscriber.latest.get('messages_received', 0)):>8}   "
                f"{short(subscriber.latest.get('messages_per_second', 0)):>7} msg/s   lost on link {short(counters.get('link_lost', 0)):>7}   "
                f"NAKs {short(counters.get('naks_sent', 0)):>7}   retransmits {short(counters.get('retransmits_sent', 0)):>7}")
        print(("\r\033[K" if is_terminal else "") + line, end="" if is_terminal else "\n", flush=True)
    if is_terminal:
        print("\r\033[K", end="")


def run_stream(sender, receiver, appliances, options):
    channel = f"aeron:udp?endpoint={RIGHT}:{PORT}"
    subscriber = Traffic(receiver.spawn("sub", "--channel", channel, "--stream", "1001", "--verify", "--until-end", "--wait", "30s", "--interval", "500ms"))
    publisher = Traffic(sender.spawn("pub", "--channel", channel, "--stream", "1001", "--verify", "--rate", "0", "--size", str(options.size),
                                     "--duration", f"{options.seconds}s", "--interval", "500ms"))
    with subscriber, publisher:
        show_progress(publisher, subscriber, appliances, time.monotonic())
        sent_code, sent = publisher.finish(options.seconds + 60, "publisher")
        received_code, received = subscriber.finish(60, "subscriber")
    if not sent or not received:
        raise Failure("publisher: " + publisher.errors.get() + "\nsubscriber: " + subscriber.errors.get())
    return sent, received, sent_code == 0 and received_code == 0


def run_round_trips(sender, receiver):
    there, back = f"aeron:udp?endpoint={RIGHT}:{PING_PORT}", f"aeron:udp?endpoint={LEFT}:{PONG_PORT}"
    pong = receiver.spawn("pong", "--channel", there, "--reply-channel", back)
    try:
        with Traffic(sender.spawn("ping", "--channel", there, "--reply-channel", back, "--rate", "2000", "--warm-up", "500ms", "--duration", "2s")) as ping:
            return ping.finish(60, "ping")[1]
    finally:
        pong.send_signal(signal.SIGINT)
        pong.communicate(timeout=30)


def print_table(sent, received, trips, counters, options):
    rows = [("messages sent", f"{sent['messages_sent']:,}"), ("messages received", f"{received['messages_received']:,}"),
            ("missing", f"{received['missing']:,}"), ("out of order", f"{received['out_of_order']:,}"), ("corrupt", f"{received['corrupt']:,}"),
            ("throughput", f"{short(received['messages_per_second'])} msg/s of {options.size} bytes, {received['bytes_per_second'] * 8 / 1e9:.2f} Gbit/s"
             if "bytes_per_second" in received else f"{short(received['messages_per_second'])} msg/s of {options.size} bytes"),
            ("round trip p50 / p99 / p99.9", " / ".join(duration(trips.get(k, 0)) for k in ("rtt_p50_ns", "rtt_p99_ns", "rtt_p999_ns")) + " (repairs included)"),
            ("packets lost on the link", f"{counters.get('link_lost', 0):,}"), ("NAKs", f"{counters.get('naks_sent', 0):,}"),
            ("retransmits", f"{counters.get('retransmits_sent', 0):,} ({counters.get('retransmitted_bytes', 0) / 1e6:.1f} MB)")]
    width = max(len(name) for name, _ in rows)
    print()
    for name, value in rows:
        print(f"  {name:<{width}}  {BOLD}{value}{PLAIN}")
    print()


def verdict(sent, received, is_clean_end):
    wrong = [name for name in ("missing", "out_of_order", "corrupt") if received[name] != 0]
    count = sent["messages_sent"]
    if is_clean_end and not wrong and count > 0 and received["messages_received"] == count:
        print(f"{GREEN}PASS{PLAIN}: {count:,} messages sent, {count:,} received, in order, checksums equal")
        return 0
    print(f"{RED}FAIL{PLAIN}: sent {count:,}, received {received['messages_received']:,}; {', '.join(wrong) or 'processes did not end cleanly'}")
    return 1


def make_appliances(scratch, options):
    if options.single:
        ports = port_yaml("left", "patch", LEFT, 1, options.loss, "    peer: right\n") + port_yaml("right", "patch", RIGHT, 2, options.loss, "    peer: left\n")
        return [Appliance(scratch, "demo", f"ports:\n{ports}{STREAMS}")]
    socket = os.path.join(scratch.path, "link.sock")
    return [Appliance(scratch, name, "ports:\n" + port_yaml("wire", "memif", address, seed, options.loss, f"    socket: {socket}\n    id: 1\n    role: {role}\n") + STREAMS)
            for name, address, seed, role in (("left", LEFT, 1, "server"), ("right", RIGHT, 2, "client"))]


def run(options):
    with tempfile.TemporaryDirectory(prefix="thalweg-demo-", dir="/dev/shm") as path:
        scratch = SimpleNamespace(path=path)
        appliances = []
        try:
            appliances = make_appliances(scratch, options)
            kind = "one appliance, a patch cable between its two ports" if options.single else "two appliances joined by memif"
            print(f"{BOLD}Thalweg demo{PLAIN}: {kind}; the link loses {options.loss:g} %, reorders 0.1 % and duplicates 0.1 % each way.")
            print(f"{FAINT}Fast repair is on at both ends: retransmit-linger-auto, nak-all-gaps (streams: in the configuration).{PLAIN}")
            for appliance in appliances:
                appliance.start(wait=False)
            for appliance in appliances:
                ready = wait_for(appliance.ready_event, f"appliance {appliance.name}", alive=appliance.process)
                print(f"{FAINT}appliance {appliance.name}: ready in {duration(ready['took_ns'])}, {ready['lanes']} lane(s), {ready['ports']} ports{PLAIN}")
            sender, receiver = appliances[0], appliances[-1]
            sent, received, is_clean_end = run_stream(sender, receiver, appliances, options)
            counters = totals(appliances)
            trips = run_round_trips(sender, receiver)
            print_table(sent, received, trips, counters, options)
            result = verdict(sent, received, is_clean_end)
        except Failure as error:
            for appliance in appliances:
                print(f"--- log of {appliance.name}\n{appliance.log() if appliance.process else ''}")
            print(f"{RED}FAIL{PLAIN}: {error}")
            result = 1
        finally:
            codes = [appliance.stop() for appliance in appliances if appliance.process]
        if any(codes):
            for appliance in appliances:
                print(appliance.log())
            print(f"{RED}FAIL{PLAIN}: an appliance ended with {codes}")
            return 1
        return result


def main():
    options = parse_arguments()
    if options.check:
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the appliances as Ctrl-C does
    try:
        return run(options)
    except KeyboardInterrupt:
        print(f"\n{RED}FAIL{PLAIN}: interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main())
