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

DEADLINE_S = 60
OURS, PORTS = "10.77.0.1", "10.77.0.2"
SKIPPED = 77


class Failure(Exception):
    """A condition that the test states and that did not hold."""


def check(condition, text):
    if not condition:
        raise Failure(text)


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(1 if os.environ.get("CI") == "true" else SKIPPED)


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    check(done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


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


def as_client(keeper):
    command = ["nsenter", "-t", str(keeper.pid), "-n"] if keeper is not None else []
    print(run(*command, sys.executable, os.path.abspath(__file__), "--client").strip())


def prepare(device, prefix, mac):
    """The kernel's end: an address, a neighbour that needs no ARP, and finished checksums."""
    run(*prefix, "ip", "address", "add", OURS + "/24", "dev", device)
    run(*prefix, "ip", "link", "set", device, "up")
    run(*prefix, "ethtool", "-K", device, "tx", "off")
    run(*prefix, "ip", "neighbour", "replace", PORTS, "lladdr", mac, "dev", device)


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


def veth(program, kind):
    keeper = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo up; exec sleep 600"], stdout=subprocess.PIPE, text=True)
    process = None
    try:
        check(keeper.stdout.readline().strip() == "up", "no second namespace")
        inside = ["nsenter", "-t", str(keeper.pid), "-n"]
        run("ip", "link", "add", "port0", "type", "veth", "peer", "name", "host0")
        run("ip", "link", "set", "host0", "netns", str(keeper.pid))
        run("sysctl", "-qw", "net.ipv6.conf.port0.disable_ipv6=1")
        run("ip", "link", "set", "port0", "up")
        with open("/sys/class/net/port0/address", encoding="ascii") as file:
            mac = file.read().strip()
        prepare("host0", inside, mac)
        process = echo(program, f"kind={kind}", "device=port0")
        as_client(keeper)
        finish(process)
    finally:
        for one in (process, keeper):
            if one is not None and one.poll() is None:
                one.kill()
                one.wait()


def tap(program):
    process = echo(program, "kind=tap", "device=tap0")
    try:
        prepare("tap0", [], "02:00:00:00:00:77")
        as_client(None)
        finish(process)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def main():
    if sys.argv[1:] == ["--client"]:
        exchange()
        return
    kind = sys.argv[1]
    program = sys.argv[2] if len(sys.argv) > 2 else os.path.join(os.environ["THALWEG_BUILD"], "tests", "support", "port_echo")
    if os.environ.get("THALWEG_IN_NAMESPACE") != "1":
        if os.geteuid() != 0:
            skip("needs root for network namespaces")
        if kind == "tap" and not os.path.exists("/dev/net/tun"):
            skip("no /dev/net/tun")
        # sysfs shows the namespace it was mounted in, so it is mounted again, for this script alone.
        again = ["unshare", "-n", "-m", "sh", "-c", 'mount -t sysfs sysfs /sys && exec "$@"', "sh", sys.executable, *sys.argv]
        os.execvpe("unshare", again, dict(os.environ, THALWEG_IN_NAMESPACE="1"))
    run("ip", "link", "set", "lo", "up")
    try:
        if kind == "tap":
            tap(program)
        else:
            veth(program, kind)
    except Failure as failure:
        print(f"failed: {failure}")
        sys.exit(1)
    print("ok")


main()
