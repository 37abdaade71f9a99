#!/usr/bin/env python3
"""Kernel-backed ports against the kernel's own UDP: af_packet and af_xdp over a veth pair whose other end is in a network namespace, and tap.

`port_echo` bounces what a kernel socket sends; the kernel verifies what comes back. Everything lives in namespaces that belong to this
script's processes, so that nothing is left behind however it ends. Usage: ports.py af-packet|af-xdp|tap [PORT_ECHO]
"""
import json
import os
import socket
import subprocess
import sys
import time

from harness import DEADLINE_S, SKIPPED, Failure, check
import namespaces

OURS, PORTS = "10.77.0.1", "10.77.0.2"


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(1 if os.environ.get("CI") == "true" else SKIPPED)


def csum_errors():
    with open("/proc/thread-self/net/snmp", encoding="ascii") as file:
        names, values = [line.split() for line in file if line.startswith("Udp:")]
    return int(values[names.index("InCsumErrors")])


def exchange():
    """The kernel's side, in its namespace: each of 200 datagrams of many sizes must come back unchanged."""
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.bind((OURS, 40001))
    client.settimeout(0.2)
    end = time.monotonic() + DEADLINE_S
    errors_before = csum_errors()
    resent = 0
    for number in range(200):
        sent = f"{number}:".encode() + os.urandom(1 + number * 7)
        while True:
            check(time.monotonic() < end, f"datagram {number} never came back")
            client.sendto(sent, (PORTS, 40002))
            try:
                received, source = client.recvfrom(4096)
            except socket.timeout:
                resent += 1
                continue
            if received == sent:
                check(source == (PORTS, 40002), f"an answer from {source}")
                break
    check(csum_errors() == errors_before, "frames with a wrong UDP checksum arrived")
    print(json.dumps({"returned": 200, "resent": resent}))


def as_client(prefix):
    print(namespaces.run(*prefix, sys.executable, os.path.abspath(__file__), "--client").strip())


def prepare(device, prefix, mac):
    """The kernel's end: an address, a neighbour that needs no ARP, and finished checksums."""
    for command in (("ip", "address", "add", OURS + "/24", "dev", device), ("ip", "link", "set", device, "up"),
                    ("ethtool", "-K", device, "tx", "off"), ("ip", "neighbour", "replace", PORTS, "lladdr", mac, "dev", device)):
        namespaces.run(*prefix, *command)


def echo(program, *arguments):
    process = subprocess.Popen([program, f"address={PORTS}", *arguments], stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline().strip()
    if line != "ready":
        process.kill()
        process.wait()
        raise Failure(f"port_echo said '{line}'")
    return process


def finish(process):
    process.terminate()
    out, _ = process.communicate(timeout=DEADLINE_S)
    check(process.returncode == 0, f"port_echo ended with {process.returncode}")
    figures = json.loads(out.strip().splitlines()[-1])
    check(figures["echoed"] >= 200, f"port_echo counts {figures}")
    print(out.strip())


def bounce(program, kind, device, prefix, kernels_device, mac):
    process = echo(program, f"kind={kind}", f"device={device}")
    try:
        prepare(kernels_device, prefix, mac)
        as_client(prefix)
        finish(process)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def veth(program, kind):
    with namespaces.Neighbour() as neighbour:
        device = neighbour.device
        bounce(program, kind, device, neighbour.prefix, neighbour.peer_device, namespaces.mac_of(device))


def tap(program):
    bounce(program, "tap", "tap0", (), "tap0", "02:00:00:00:00:77")


def main():
    if sys.argv[1:] == ["--client"]:
        exchange()
        return
    kind = sys.argv[1]
    program = sys.argv[2] if len(sys.argv) > 2 else os.path.join(os.environ["THALWEG_BUILD"], "tests", "support", "port_echo")
    if os.geteuid() != 0:
        skip("needs root for network namespaces")
    if kind == "tap" and not os.path.exists("/dev/net/tun"):
        skip("no /dev/net/tun")
    try:
        namespaces.enter()
        if kind == "tap":
            tap(program)
        else:
            veth(program, kind)
    except Failure as failure:
        print(f"failed: {failure}")
        sys.exit(1)
    print("ok")


main()
