#!/usr/bin/env python3
"""Whole appliances on ports that the kernel carries: a data plane and a control plane in each of two network namespaces, a veth pair between
them. af_packet and af_xdp sit on the pair itself; tap is bridged to it at either end; `kernel` sets an af_packet port against the kernel's
own UDP. Usage: veth.py af_packet|af_xdp|tap|kernel [CASE...]
"""
import contextlib
import os
import signal
import sys

from harness import Appliance, Failure, SKIPPED, check, ended, finish, next_progress, run_cases, wait_for
import namespaces

LEFT, RIGHT = "10.77.1.1", "10.77.1.2"
TO_RIGHT, TO_LEFT = f"aeron:udp?endpoint={RIGHT}:40123", f"aeron:udp?endpoint={LEFT}:40124"
KIND = sys.argv.pop(1) if len(sys.argv) > 1 else ""
DELETES = {"THALWEG_INSTANCE_DELETE_ON_SHUTDOWN": "true"}
# A process that starts again on a busy machine may take longer than a stream waits by default.
PATIENT = "streams: {image-liveness-timeout: 120s, connection-timeout: 120s, linger: 120s}\n"


def port_yaml(kind, address, device, queues=1, cuts=False):
    """With several queues as many lanes poll the port. `cuts`: datagrams beyond the MTU leave in fragments."""
    lanes = "dataplane: {lanes: [" + ", ".join(["{ports: [wire]}"] * queues) + "]}\n" if queues > 1 else ""
    return f"ports:\n  - {{name: wire, type: {kind}, address: {address}/24, device: {device}, queues: {queues}, ip-fragments: {str(cuts).lower()}}}\n{lanes}{PATIENT}"


class Side(Appliance):
    """One appliance whose port is on `device`, the veth's end in the namespace that `prefix` enters."""

    def __init__(self, scratch, name, address, device, prefix, queues=1, cuts=False):
        self.device, self.queues, self.cuts = device, queues, cuts
        super().__init__(scratch, name, self._yaml(name, address, prefix), prefix=prefix, environment=DELETES)

    def _yaml(self, name, address, prefix):
        if KIND == "tap":
            return port_yaml("tap", address, "tap0", cuts=self.cuts)
        if KIND != "kernel":
            return port_yaml(KIND, address, self.device, self.queues, self.cuts)
        if name == "left":
            return port_yaml("af_xdp" if self.cuts else "af_packet", address, self.device, cuts=self.cuts)
        namespaces.run(*prefix, "ip", "address", "add", f"{address}/24", "dev", self.device)
        namespaces.run(*prefix, "ethtool", "-K", self.device, "tx", "off")  # else the checksums it sends are unfinished
        return "ports:\n  - {name: sockets, type: kernel, mtu: 9600}\n" + PATIENT

    def start(self, wait=True):
        super().start(wait)
        if KIND == "tap":
            namespaces.run(*self.prefix, "ip", "link", "add", "bridge0", "type", "bridge", "mcast_snooping", "0")
            namespaces.run(*self.prefix, "ip", "link", "set", self.device, "master", "bridge0")
            namespaces.bring_up("bridge0", self.prefix)
            self.plug_in()

    def plug_in(self):
        """The port is a station behind its tap: a bridge carries frames between tap and wire. A new data plane makes a new tap."""
        if KIND == "tap":
            wait_for(lambda: "tap0" in namespaces.links(self.prefix), "the tap interface", alive=self.process)
            namespaces.run(*self.prefix, "ip", "link", "set", "tap0", "master", "bridge0")
            namespaces.bring_up("tap0", self.prefix)

    def remove_bridge(self):
        if "bridge0" in namespaces.links(self.prefix):
            namespaces.run(*self.prefix, "ip", "link", "delete", "bridge0")

    def expect_nothing_left(self):
        """After the end: no file, no program on the interface, no interface of its own."""
        check(not os.path.exists(self.directory), f"{self.directory} was left behind")
        links = namespaces.links(self.prefix)
        check(set(links) == {"lo", self.device}, f"interfaces {sorted(links)}")
        check("xdp" not in links[self.device], f"an XDP program stays on {self.device}: {links[self.device].get('xdp')}")


@contextlib.contextmanager
def two_appliances(scratch, queues=1, cuts=False):
    """left and right, ready; both must end cleanly and leave nothing behind."""
    with namespaces.Neighbour() as neighbour:
        left = Side(scratch, "left", LEFT, neighbour.device, (), queues, cuts)
        right = Side(scratch, "right", RIGHT, neighbour.peer_device, neighbour.prefix, queues, cuts)
        try:
            left.start()
            right.start()
            yield left, right
            check(left.stop(signal.SIGTERM) == 0 and right.stop(signal.SIGINT) == 0, "an unclean end")
        except BaseException:
            for side in (left, right):
                if side.process is not None:
                    side.stop()
                    print(f"--- log of {side.name}\n{side.log()}", flush=True)
            raise
        finally:
            left.remove_bridge()
            right.remove_bridge()
        left.expect_nothing_left()
        right.expect_nothing_left()
    check(scratch.leftovers() == [], f"left behind: {scratch.leftovers()}")


@contextlib.contextmanager
def stream(sender, receiver, channel, count, *more, interval=()):
    """A verified stream of `count` messages; leaving it waits for its end: complete, in order, no byte changed."""
    with ended(receiver.spawn("sub", "--channel", channel, "--verify", "--until-end", "--wait", "60s", *interval)) as subscriber, \
            ended(sender.spawn("pub", "--channel", channel, "--verify", "--count", str(count), "--wait", "60s", *more)) as publisher:
        yield subscriber
        sent, received = finish(publisher, "pub"), finish(subscriber, "sub")
        check(sent["messages_sent"] == count, f"sent {sent}")
        check(received["messages_received"] == count, f"received {received['messages_received']} of {count}")
        check(received["missing"] == 0 and received["out_of_order"] == 0 and received["corrupt"] == 0, f"received {received}")


def messages_go_both_ways_at_once_complete_and_in_order(scratch):
    with two_appliances(scratch) as (left, right):
        with stream(left, right, TO_RIGHT, 50_000, "--rate", "0"), stream(right, left, TO_LEFT, 50_000, "--rate", "0"):
            pass


def long_messages_fill_the_frames_of_the_link(scratch):
    with two_appliances(scratch) as (left, right), stream(left, right, TO_RIGHT, 200, "--rate", "0", "--size", "100KiB"):
        pass


def datagrams_beyond_the_mtu_are_cut_and_put_together(scratch):
    """Against `kernel`, Linux puts ours together and we those of Linux. At af_packet it does so before we see them."""
    if KIND == "af_packet":
        return
    with two_appliances(scratch, cuts=True) as (left, right):
        long = ("--rate", "0", "--size", "20KiB")
        with stream(left, right, TO_RIGHT + "|mtu=8192", 1_000, *long), stream(right, left, TO_LEFT + "|mtu=8192", 1_000, *long):
            pass
        counters = {row["name"]: row["value"] for row in left.run("stat")["lane_counters"]}
        check(counters["fragments_sent"] > 10_000 and counters["datagrams_reassembled"] > 2_000, f"counters {counters}")


def pings_are_answered(scratch):
    streams = ("--channel", TO_RIGHT, "--reply-channel", TO_LEFT)
    with two_appliances(scratch) as (left, right), ended(right.spawn("pong", *streams, "--until-end")) as pong:
        ping = left.run("ping", *streams, "--rate", "1000", "--count", "1000", "--warm-up", "0s", "--wait", "60s")
        check(ping["messages_received"] == 1000 and ping["missing"] == 0 and ping["corrupt"] == 0, f"ping {ping}")
        finish(pong, "pong")


def a_killed_data_plane_finds_its_device_again_and_the_stream_goes_on(scratch):
    with two_appliances(scratch) as (left, right), stream(left, right, TO_RIGHT, 30_000, "--rate", "15000", interval=("--interval", "50ms")) as subscriber:
        wait_for(lambda: next_progress(subscriber, "sub")["messages_received"] > 0, "first messages")
        before = right.children()["thalweg-datapla"]
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: right.children().get("thalweg-datapla") not in (None, before), "a new data plane", alive=right.process)
        right.plug_in()


def lanes_share_a_port_with_several_queues(scratch):
    if KIND != "af_packet":
        return  # the other devices have one queue on a veth
    with two_appliances(scratch, queues=2) as (left, right), contextlib.ExitStack() as streams:
        for number in range(4):
            streams.enter_context(stream(left, right, f"aeron:udp?endpoint={RIGHT}:{40123 + number}", 10_000, "--rate", "0"))


CASES = [lanes_share_a_port_with_several_queues, messages_go_both_ways_at_once_complete_and_in_order, long_messages_fill_the_frames_of_the_link, pings_are_answered,
         datagrams_beyond_the_mtu_are_cut_and_put_together,
         a_killed_data_plane_finds_its_device_again_and_the_stream_goes_on]


def main():
    if KIND not in ("af_packet", "af_xdp", "tap", "kernel"):
        sys.exit("which kind of port? af_packet, af_xdp, tap or kernel")
    lacks = "root, for network namespaces" if os.geteuid() != 0 else ""
    if KIND == "tap" and not os.path.exists("/dev/net/tun"):
        lacks = "/dev/net/tun"
    if lacks:
        print(f"skipped: needs {lacks}")
        return 1 if os.environ.get("CI") == "true" else SKIPPED
    sys.argv.insert(1, KIND)  # for the script that runs inside
    try:
        namespaces.enter()
    except Failure as error:
        print(f"failed: {error}")
        return 1
    del sys.argv[1]
    return run_cases(CASES)


if __name__ == "__main__":
    sys.exit(main())
