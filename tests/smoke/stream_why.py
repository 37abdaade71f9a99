#!/usr/bin/env python3
"""`thalweg stream why` with real processes: what a stream waits for, and whom."""
import os
import signal
import sys

from harness import Appliance, check, ended, run_cases, wait_for

PATIENT = {"THALWEG_CONTROL_PLANE_CLIENT_LIVENESS_TIMEOUT": "60s", "THALWEG_STREAMS_UNBLOCK_TIMEOUT": "90s"}  # with a client that is stopped
CHANNEL = "aeron:udp?endpoint=localhost:24351"
MEMIF = """ports:
  - {{name: wire, type: memif, socket: {socket}, id: 0, role: {role}, address: 10.91.0.{host}/24}}
"""


def publications(appliance):
    return [s for s in appliance.run("stream", "list")["streams"] if s["kind"] in ("publication", "ipc")]


def causes(appliance, stream):
    streams = appliance.run("stream", "why", str(stream["id"]))["streams"]
    check(len(streams) == 1 and streams[0]["kind"] == stream["kind"], f"other streams: {streams}")
    return streams[0]["causes"]


def wait_for_cause(appliance, kind):
    """The causes of the only publication, once `kind` is among them."""
    def found():
        listed = publications(appliance)
        if not listed:
            return None
        told = causes(appliance, listed[0])
        return told if any(cause["cause"] == kind for cause in told) else None
    return wait_for(found, f"the cause {kind}")


def publisher(appliance, channel):
    return ended(appliance.spawn("pub", "--channel", channel, "--rate", "0", "--count", "100000000"))


def a_stream_that_nobody_subscribes_to(scratch):
    with Appliance(scratch, "a") as a:
        with publisher(a, CHANNEL):
            told = wait_for_cause(a, "no_receiver")
            check("127.0.0.1:24351" in told[-1]["text"], f"told {told}")


def a_stopped_subscriber_is_named_with_its_process(scratch):
    for channel, whom in ((CHANNEL, "receiver_window"), ("aeron:ipc", "subscriber")):
        with Appliance(scratch, "a-" + whom, environment=PATIENT) as a:
            with ended(a.spawn("sub", "--channel", channel, "--interval", "50ms")) as subscriber, publisher(a, channel):
                wait_for(lambda s=subscriber: '"messages_received":0,' not in (line := s.stdout.readline()) and "progress" in line, "first messages")
                subscriber.send_signal(signal.SIGSTOP)
                told = wait_for_cause(a, whom)
                told = wait_for(lambda a=a: [c for c in causes(a, publications(a)[0]) if c["cause"] == "subscriber"], "the subscriber behind it")
                # The publisher has an IPC stream's log mapped, too: nobody can tell the two apart from outside.
                is_told = told[0]["pids"] == [subscriber.pid] if channel == CHANNEL else subscriber.pid in told[0]["pids"]
                check(is_told, f"process {subscriber.pid} is not told: {told}")


def a_link_without_a_peer_is_down(scratch):
    yaml = MEMIF.format(socket="why-" + os.path.basename(scratch.path), role="client", host=1)
    with Appliance(scratch, "a", yaml) as a:
        with publisher(a, "aeron:udp?endpoint=10.91.0.2:24351"):
            told = wait_for_cause(a, "link_down")
            check(told[0]["whom"] == "port wire", f"told {told}")


def a_next_hop_that_does_not_answer(scratch):
    socket = "why-" + os.path.basename(scratch.path)
    with Appliance(scratch, "a", MEMIF.format(socket=socket, role="client", host=1)) as a, Appliance(scratch, "b", MEMIF.format(socket=socket, role="server", host=2)):
        with publisher(a, "aeron:udp?endpoint=10.91.0.9:24351"):
            told = wait_for_cause(a, "arp")
            check(any("10.91.0.9" in cause["text"] for cause in told), f"told {told}")


CASES = [a_stream_that_nobody_subscribes_to, a_stopped_subscriber_is_named_with_its_process, a_link_without_a_peer_is_down, a_next_hop_that_does_not_answer]

if __name__ == "__main__":
    sys.exit(run_cases(CASES))
