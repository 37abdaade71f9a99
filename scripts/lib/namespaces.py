"""Network namespaces for tests and benchmarks: the calling script in one of its own, another beside it, a veth pair between the two.

Both belong to processes and have no name, so that nothing is left behind however a script ends. Needs root.
"""
import json
import os
import subprocess
import sys

from appliance import check, wait_for

INSIDE = "THALWEG_IN_NAMESPACE"
# sysfs shows the namespace it was mounted in, so each namespace gets a mount of its own.
OWN_SYSFS = ["unshare", "-n", "-m", "sh", "-c", 'mount -t sysfs sysfs /sys && exec "$@"', "sh"]


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    check(done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def enter():
    """Runs this script again in namespaces of its own; returns when that has happened. Precondition: root."""
    if os.environ.get(INSIDE) != "1":
        os.execvpe(OWN_SYSFS[0], [*OWN_SYSFS, sys.executable, *sys.argv], dict(os.environ, **{INSIDE: "1"}))
    run("ip", "link", "set", "lo", "up")


def links(prefix=()):
    """The interfaces of a namespace, by name, as `ip` describes them."""
    return {link["ifname"]: link for link in json.loads(run(*prefix, "ip", "-json", "-details", "link", "show"))}


def mac_of(device, prefix=()):
    return links(prefix)[device]["address"]


def bring_up(device, prefix=()):
    """Up and without an address: addresses belong to the appliance."""
    run(*prefix, "sysctl", "-qw", f"net.ipv6.conf.{device}.disable_ipv6=1")
    run(*prefix, "ip", "link", "set", device, "up")


class Neighbour:
    """A second namespace, joined to this one by a veth pair: `device` here, `peer_device` there. `prefix` runs a command in it. Leaving it
    takes the pair away, and fails when a process still holds the namespace."""

    def __init__(self, number=0):
        self.device, self.peer_device = f"here{number}", f"there{number}"

    def __enter__(self):
        self.keeper = subprocess.Popen([*OWN_SYSFS, "sh", "-c", "ip link set lo up && echo up && exec sleep 3600"], stdout=subprocess.PIPE, text=True)
        try:
            check(self.keeper.stdout.readline().strip() == "up", "no second namespace")
            self.prefix = ("nsenter", "-t", str(self.keeper.pid), "-n", "-m")
            run("ip", "link", "add", self.device, "type", "veth", "peer", "name", self.peer_device)
            run("ip", "link", "set", self.peer_device, "netns", str(self.keeper.pid))
            bring_up(self.device)
            bring_up(self.peer_device, self.prefix)
        except BaseException:
            self._end_keeper()
            raise
        return self

    def __exit__(self, kind, *_):
        self._end_keeper()
        if kind is not None:
            subprocess.run(["ip", "link", "delete", self.device], capture_output=True, check=False)
        else:
            wait_for(lambda: self.device not in links(), "end of the second namespace: something still runs in it")

    def _end_keeper(self):
        self.keeper.kill()
        self.keeper.communicate()


def main():
    """Runs a command in a namespace with a veth pair to another, told by THALWEG_BENCH_VETH=ours,theirs and THALWEG_BENCH_NETNS."""
    enter()
    with Neighbour() as neighbour:
        told = {"THALWEG_BENCH_VETH": f"{neighbour.device},{neighbour.peer_device}", "THALWEG_BENCH_NETNS": f"/proc/{neighbour.keeper.pid}/ns/net"}
        return subprocess.run(sys.argv[1:], env={**os.environ, **told}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
