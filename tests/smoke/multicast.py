#!/usr/bin/env python3
"""Multicast on a Linux bridge that snoops IGMP, or MLD: an appliance, a Linux host with plain UDP sockets and a bystander, each in a network
namespace of its own, joined by the bridge in this one. Usage: multicast.py af_packet|af_xdp ipv4|ipv6 [CASE...]
"""
import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time

from harness import Appliance, Failure, SKIPPED, check, ended, finish, run_cases, wait_for
import namespaces

PORT = 40456
KIND = sys.argv.pop(1) if len(sys.argv) > 1 else ""
FAMILY = sys.argv.pop(1) if len(sys.argv) > 1 else ""
IS_IPV6 = FAMILY == "ipv6"
if IS_IPV6:
    GROUP, CONTROL, STRANGE = "ff05::9:1", "ff05::9:2", "ff05::9:77"
    OURS, LINUX, BYSTANDER, QUERIER, PREFIX = "fd77::1", "fd77::2", "fd77::3", "fd77::fe", 64
    SOCKETS, AT_OURS, AT_LINUX, AT_GROUP = socket.AF_INET6, f"[{OURS}]", f"[{LINUX}]", f"[{GROUP}]"
else:
    GROUP, CONTROL, STRANGE = "224.10.9.1", "224.10.9.2", "224.10.9.77"
    OURS, LINUX, BYSTANDER, QUERIER, PREFIX = "10.77.2.1", "10.77.2.2", "10.77.2.3", "10.77.2.254", 24
    SOCKETS, AT_OURS, AT_LINUX, AT_GROUP = socket.AF_INET, OURS, LINUX, GROUP
CHANNEL = f"aeron:udp?endpoint={AT_GROUP}:{PORT}|interface={AT_OURS}/{PREFIX}"
FRAME_TYPES = {1: "data", 3: "status message", 5: "setup"}


def netns_of(neighbour):
    return f"/proc/{neighbour.keeper.pid}/ns/net"


@contextlib.contextmanager
def inside(path):
    """This thread in another network namespace: sockets made there stay there."""
    with open("/proc/thread-self/ns/net", encoding="utf-8") as home, open(path, encoding="utf-8") as other:
        setns(other.fileno())
        try:
            yield
        finally:
            setns(home.fileno())


def setns(descriptor):
    import ctypes  # pylint: disable=import-outside-toplevel  (os.setns() is newer than Debian 12's Python)
    clone_newnet = 0x40000000
    check(ctypes.CDLL(None, use_errno=True).setns(descriptor, clone_newnet) == 0, "setns")


def give_address(device, address, prefix=()):
    if IS_IPV6:
        namespaces.run(*prefix, "sysctl", "-qw", f"net.ipv6.conf.{device}.accept_dad=0", f"net.ipv6.conf.{device}.disable_ipv6=0")
    namespaces.run(*prefix, "ip", "address", "add", f"{address}/{PREFIX}", "dev", device, *(["nodad"] if IS_IPV6 else []))


class Host:
    """Plain Linux: an address, and sockets made in its namespace, which live as long as `stack`."""

    def __init__(self, stack, neighbour, address):
        self.stack, self.neighbour, self.address = stack, neighbour, address
        give_address(neighbour.peer_device, address, neighbour.prefix)
        namespaces.run(*neighbour.prefix, "ethtool", "-K", neighbour.peer_device, "tx", "off")  # else its checksums are unfinished

    def bound(self, address, port):
        with inside(netns_of(self.neighbour)):
            sock = self.stack.enter_context(socket.socket(SOCKETS, socket.SOCK_DGRAM))
            sock.bind((address, port))
            sock.settimeout(30)
        return sock

    def member(self, group):
        """A UDP socket that joined `group`."""
        sock = self.bound(group, PORT)
        if IS_IPV6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(SOCKETS, group) + struct.pack("@I", self.index()))
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + socket.inet_aton(self.address))
        return sock

    def index(self):
        with inside(netns_of(self.neighbour)):
            return socket.if_nametoindex(self.neighbour.peer_device)

    def sender(self):
        sock = self.bound(self.address, 0)
        if IS_IPV6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, self.index())
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(self.address))
        return sock

    def bad_checksums(self):
        if IS_IPV6:
            out = namespaces.run(*self.neighbour.prefix, "cat", "/proc/net/snmp6").split()
            return int(out[out.index("Udp6InCsumErrors") + 1])
        out = namespaces.run(*self.neighbour.prefix, "cat", "/proc/net/snmp").splitlines()
        names, values = [line.split() for line in out if line.startswith("Udp:")]
        return int(values[names.index("InCsumErrors")])


def inet_checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def udp_of(frame):
    """(destination address, UDP header and payload, pseudo header) of a frame; None if it is of another kind."""
    if IS_IPV6:
        if frame[12:14] != b"\x86\xdd" or frame[20] != 17:
            return None
        udp = frame[54:54 + struct.unpack("!H", frame[18:20])[0]]
        return socket.inet_ntop(SOCKETS, frame[38:54]), udp, frame[22:54] + struct.pack("!IHBB", len(udp), 0, 0, 17)
    if frame[12:14] != b"\x08\x00" or frame[23] != 17 or frame[14] != 0x45:
        return None
    udp = frame[34:14 + struct.unpack("!H", frame[16:18])[0]]
    return socket.inet_ntoa(frame[30:34]), udp, frame[26:34] + struct.pack("!BBH", 0, 17, len(udp))


class Tap:
    """Every UDP frame that goes through a device."""

    def __init__(self, device):
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.sock.bind((device, 0))

    def frames(self, patience_s=0.0):
        """(destination address, UDP checksum, is it right) of what came since the last call."""
        found = []
        while select.select([self.sock], [], [], 0 if found else patience_s)[0]:
            frame, (_, _, kind, _, _) = self.sock.recvfrom(70000)
            datagram = udp_of(frame)
            if datagram is not None:
                to, udp, pseudo = datagram
                found.append((to, struct.unpack("!H", udp[6:8])[0], inet_checksum(pseudo + udp) == 0, kind))
        return found


class Network:
    """The bridge, and what is plugged into it."""

    def __init__(self, stack):
        self.neighbours = [stack.enter_context(namespaces.Neighbour(n)) for n in range(3)]
        namespaces.run("ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "1", "mcast_querier", "1", "mcast_startup_query_interval", "100",
                       "mcast_startup_query_count", "3", "mcast_query_response_interval", "100")
        stack.callback(namespaces.run, "ip", "link", "delete", "br0")
        for neighbour in self.neighbours:
            namespaces.run("ip", "link", "set", neighbour.device, "master", "br0")
        namespaces.bring_up("br0")
        give_address("br0", QUERIER)  # a querier asks from its address
        self.linux = Host(stack, self.neighbours[1], LINUX)
        self.bystander = Host(stack, self.neighbours[2], BYSTANDER)

    def members(self, group):
        """Ports of the bridge behind which somebody wants `group`."""
        listing = json.loads(namespaces.run("bridge", "-json", "mdb", "show", "dev", "br0"))
        return {entry["port"] for table in listing for entry in table.get("mdb", []) if entry["grp"] == group}

    def wait_until_snooping(self):
        """Before a querier has asked once, a bridge floods: a frame to a strange group that does not reach the bystander ends the wait."""
        tap, sender = Tap(self.neighbours[2].device), self.linux.sender()

        def is_pruned():
            tap.frames()
            sender.sendto(b"probe", (STRANGE, PORT))
            return not any(to == STRANGE for to, *_ in tap.frames(0.2))
        wait_for(is_pruned, "snooping")


@contextlib.contextmanager
def network(scratch):
    """An appliance on a snooping bridge with two Linux hosts."""
    with contextlib.ExitStack() as stack:
        net = Network(stack)
        neighbour = net.neighbours[0]
        addresses = f'address: 10.77.2.1/24, address6: "{OURS}/{PREFIX}"' if IS_IPV6 else f"address: {OURS}/{PREFIX}"
        yaml = f"ports:\n  - {{name: wire, type: {KIND}, {addresses}, device: {neighbour.peer_device}}}\n"
        appliance = Appliance(scratch, "ours", yaml, prefix=neighbour.prefix, environment={"THALWEG_INSTANCE_DELETE_ON_SHUTDOWN": "true"})
        appliance.start()
        try:
            yield net, appliance
            check(appliance.stop(signal.SIGTERM) == 0, "an unclean end")
        except BaseException:
            appliance.stop()
            print(f"--- log\n{appliance.log()}", flush=True)
            raise


def type_of(datagram):
    return FRAME_TYPES.get(struct.unpack_from("<H", datagram, 6)[0])


def setup(stream, session):
    return struct.pack("<iBBHiiiiiiii", 40, 0, 0x40, 5, 0, session, stream, 7, 7, 65536, 1408, 0)


def data(stream, session, offset, payload, flags=0xC0):
    frame = struct.pack("<iBBHiiiiq", 32 + len(payload), 0, flags, 1, offset, session, stream, 7, 0) + payload
    return frame + b"\0" * (-len(frame) % 32)


def a_linux_socket_gets_our_multicast_with_right_checksums(scratch):
    with network(scratch) as (net, appliance):
        member, tap = net.linux.member(GROUP), Tap(net.neighbours[1].device)
        with ended(appliance.spawn("pub", "--channel", CHANNEL, "--count", "1", "--wait", "60s")):
            for _ in range(5):
                datagram, (source, *_) = member.recvfrom(2000)
                check(source == OURS and type_of(datagram) == "setup", f"{type_of(datagram)} from {source}")
            frames = [frame for frame in tap.frames() if frame[0] == GROUP]
            check(len(frames) >= 5, f"{len(frames)} frames on the wire")
            check(all(checksum != 0 and is_right for _, checksum, is_right, _ in frames), f"checksums {frames}")
        check(net.linux.bad_checksums() == 0, "the kernel found a wrong checksum")


def a_linux_socket_gets_our_unicast_with_right_checksums(scratch):
    with network(scratch) as (net, appliance):
        sock = net.linux.bound(LINUX, PORT)
        with ended(appliance.spawn("pub", "--channel", f"aeron:udp?endpoint={AT_LINUX}:{PORT}", "--count", "1", "--wait", "60s")):
            for _ in range(3):
                datagram, (source, *_) = sock.recvfrom(2000)
                check(source == OURS and type_of(datagram) == "setup", f"{type_of(datagram)} from {source}")
        check(net.linux.bad_checksums() == 0, "the kernel found a wrong checksum")


def what_linux_sends_to_a_group_reaches_our_receiver_and_we_answer_the_control_group(scratch):
    with network(scratch) as (net, appliance):
        control, sender = net.linux.member(CONTROL), net.linux.sender()
        with ended(appliance.spawn("sub", "--channel", CHANNEL, "--count", "2", "--wait", "60s")) as subscriber:
            wait_for(lambda: net.neighbours[0].device in net.members(GROUP), "our membership")

            def is_answered():
                sender.sendto(setup(1001, 4711), (GROUP, PORT))
                return select.select([control], [], [], 0.2)[0]
            wait_for(is_answered, "a status message")
            datagram, (source, port, *_) = control.recvfrom(2000)
            check(type_of(datagram) == "status message" and (source, port) == (OURS, PORT), f"{type_of(datagram)} from {source}:{port}")
            sender.sendto(data(1001, 4711, 0, b"one") + data(1001, 4711, 64, b"two"), (GROUP, PORT))
            received = finish(subscriber, "sub")
            check(received["messages_received"] == 2, f"received {received}")


def what_linux_sends_to_our_address_is_received_and_answered(scratch):
    with network(scratch) as (net, appliance):
        sock = net.linux.bound(LINUX, 0)
        with ended(appliance.spawn("sub", "--channel", f"aeron:udp?endpoint={AT_OURS}:{PORT}", "--count", "2", "--wait", "60s")) as subscriber:
            def is_answered():
                sock.sendto(setup(1001, 4711), (OURS, PORT))
                try:
                    return select.select([sock], [], [], 0.2)[0] and type_of(sock.recv(2000)) == "status message"
                except ConnectionRefusedError:  # before the subscription is there
                    return False
            wait_for(is_answered, "a status message")
            sock.sendto(data(1001, 4711, 0, b"one") + data(1001, 4711, 64, b"two"), (OURS, PORT))
            received = finish(subscriber, "sub")
            check(received["messages_received"] == 2, f"received {received}")
        check(net.linux.bad_checksums() == 0, "the kernel found a wrong checksum")


def linux_finds_us_pings_us_and_hears_that_nobody_listens(scratch):
    with network(scratch) as (net, appliance):
        namespaces.run(*net.linux.neighbour.prefix, "ping", "-c", "5", "-i", "0.2", "-w", "30", OURS)
        sock = net.linux.bound(LINUX, 0)
        sock.connect((OURS, 9))

        def is_refused():
            try:
                sock.send(b"anybody?")
                return bool(select.select([sock], [], [], 0.2)[0]) and not sock.recv(2000)
            except ConnectionRefusedError:
                return True
        wait_for(is_refused, "port unreachable")
        counters = {row["name"]: row["value"] for row in appliance.run("stat")["lane_counters"]}
        answers = "nd_advertisements_sent" if IS_IPV6 else "arp_replies_sent"
        check(counters[answers] > 0 and counters["icmp_replies_sent"] >= 6, f"counters {counters}")


def the_bridge_forwards_what_we_joined_and_nothing_else(scratch):
    with network(scratch) as (net, appliance):
        ours = net.neighbours[0].device
        with ended(appliance.spawn("sub", "--channel", CHANNEL)) as subscriber:
            wait_for(lambda: ours in net.members(GROUP), "our membership")
            check(ours not in net.members(STRANGE) and net.neighbours[2].device not in net.members(GROUP), "membership of strangers")
            net.wait_until_snooping()
            tap, bystander, sender = Tap(ours), Tap(net.neighbours[2].device), net.linux.sender()
            for _ in range(50):
                sender.sendto(b"x" * 32, (GROUP, PORT))
                sender.sendto(b"y" * 32, (STRANGE, PORT))
            seen = []
            wait_for(lambda: seen.extend(tap.frames(0.2)) or sum(to == GROUP for to, *_ in seen) >= 50, "50 frames to the group")
            check(all(to != STRANGE for to, *_ in seen), "a group that nobody joined came to us")
            check(all(to not in (GROUP, STRANGE) for to, *_ in bystander.frames()), "a bystander got a group")
            subscriber.terminate()
            subscriber.wait()
        wait_for(lambda: ours not in net.members(GROUP), "the end of our membership")


def our_membership_is_told_again_when_the_bridge_asks(scratch):
    with network(scratch) as (net, appliance):
        ours = net.neighbours[0].device
        with ended(appliance.spawn("sub", "--channel", CHANNEL)):
            wait_for(lambda: ours in net.members(GROUP), "our membership")
            namespaces.run("ip", "link", "set", "br0", "type", "bridge", "mcast_snooping", "0")   # forgets
            namespaces.run("ip", "link", "set", "br0", "type", "bridge", "mcast_snooping", "1")   # asks
            started = time.monotonic()
            wait_for(lambda: ours in net.members(GROUP), "our membership again")
            print(f"    told again after {time.monotonic() - started:.2f} s", flush=True)


CASES = [a_linux_socket_gets_our_multicast_with_right_checksums, a_linux_socket_gets_our_unicast_with_right_checksums,
         what_linux_sends_to_a_group_reaches_our_receiver_and_we_answer_the_control_group, the_bridge_forwards_what_we_joined_and_nothing_else,
         our_membership_is_told_again_when_the_bridge_asks, what_linux_sends_to_our_address_is_received_and_answered,
         linux_finds_us_pings_us_and_hears_that_nobody_listens]


def main():
    if KIND not in ("af_packet", "af_xdp") or FAMILY not in ("ipv4", "ipv6"):
        sys.exit("which kind of port, of which family? af_packet or af_xdp, ipv4 or ipv6")
    if os.geteuid() != 0:
        print("skipped: needs root, for network namespaces")
        return 1 if os.environ.get("CI") == "true" else SKIPPED
    sys.argv[1:1] = [KIND, FAMILY]  # for the script that runs inside
    try:
        namespaces.enter()
    except Failure as error:
        print(f"failed: {error}")
        return 1
    del sys.argv[1:3]
    return run_cases(CASES)


if __name__ == "__main__":
    sys.exit(main())
