#!/usr/bin/env python3
"""An appliance's life with real processes: start, traffic, deaths of its processes, unprivileged use, clean end."""
import glob
import os
import signal
import subprocess
import sys

from harness import COMMAND, Appliance, Failure, Scratch, check, finish, run_cases, wait_for

CHANNEL = "aeron:udp?endpoint=localhost:24331"


def move_messages(appliance, channel, count=20000):
    """`count` verified messages through `appliance`; answers the subscriber's summary."""
    subscriber = appliance.spawn("sub", "--channel", channel, "--verify", "--until-end", "--wait", "60s")
    publisher = appliance.spawn("pub", "--channel", channel, "--verify", "--rate", "0", "--count", str(count))
    sent = finish(publisher, "pub")
    received = finish(subscriber, "sub")
    check(sent["messages_sent"] == count, f"sent {sent['messages_sent']} of {count}")
    check(received["messages_received"] == count and received["missing"] == 0 and received["out_of_order"] == 0 and received["corrupt"] == 0,
          f"received {received}")
    return received


def messages_arrive_over_ipc_and_the_loopback_port(scratch):
    with Appliance(scratch, "a") as a:
        move_messages(a, "aeron:ipc")
        move_messages(a, CHANNEL)


def a_clean_end_by_either_signal_leaves_no_process_and_no_buffer(scratch):
    for number, how in enumerate((signal.SIGTERM, signal.SIGINT)):
        a = Appliance(scratch, f"a{number}", "", environment={"THALWEG_INSTANCE_DELETE_ON_SHUTDOWN": "true"})
        a.start()
        move_messages(a, "aeron:ipc", 1000)
        children = a.children()
        check(sorted(children) == ["thalweg-control", "thalweg-datapla"], f"children are {children}")
        check(a.stop(how) == 0, f"signal {how} ended it with an error: {a.log()}")
        check(not os.path.exists(a.directory), f"left behind: {glob.glob(a.directory + '/**', recursive=True)}")
        for pid in children.values():
            check(not os.path.exists(f"/proc/{pid}"), f"process {pid} is still there")
    check(scratch.leftovers() == [], f"left in /dev/shm: {scratch.leftovers()}")


def without_deletion_only_small_files_stay(scratch):
    with Appliance(scratch, "a") as a:
        move_messages(a, "aeron:ipc", 1000)
    logs = [path for path in glob.glob(a.directory + "/**", recursive=True) if path.endswith(".logbuffer")]
    check(logs == [], f"log buffers left behind: {logs}")


def a_second_instance_in_the_same_directory_is_refused(scratch):
    with Appliance(scratch, "a") as a:
        other = subprocess.run([COMMAND, "up", "--directory", a.directory], capture_output=True, text=True, timeout=60, check=False)
        check(other.returncode != 0, "a second instance started")
        check("owned by a running control plane" in other.stderr + other.stdout, f"unclear: {other.stderr}")
        move_messages(a, "aeron:ipc", 1000)


def a_killed_data_plane_comes_back_and_the_stream_goes_on(scratch):
    kill_in_a_stream(scratch, "thalweg-datapla")


def a_killed_control_plane_comes_back_and_the_stream_goes_on(scratch):
    kill_in_a_stream(scratch, "thalweg-control")


def kill_in_a_stream(scratch, victim):
    """Publishes a fixed number of messages, kills `victim` when some of them have arrived, and counts all of them in the end."""
    count = 60000
    with Appliance(scratch, "a") as a:
        subscriber = a.spawn("sub", "--channel", CHANNEL, "--verify", "--until-end", "--wait", "60s", "--interval", "50ms")
        publisher = a.spawn("pub", "--channel", CHANNEL, "--verify", "--rate", "30000", "--count", str(count))
        wait_for(lambda: '"messages_received":0,' not in (line := subscriber.stdout.readline()) and "progress" in line, "first messages")
        before = a.children()
        os.kill(before[victim], signal.SIGKILL)
        wait_for(lambda: a.children().get(victim) not in (None, before[victim]), f"a new {victim}", alive=a.process)
        sent = finish(publisher, "pub")
        received = finish(subscriber, "sub")
        check(sent["messages_sent"] == count, f"sent {sent}")
        check(received["messages_received"] == count and received["missing"] == 0, f"received {received}")
        move_messages(a, "aeron:ipc", 1000)


def nobody_in_particular_can_run_it(scratch):
    if os.getuid() != 0:
        return  # we are unprivileged already: every other case shows it
    os.chmod(scratch.path, 0o777)
    prefix = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")
    with Appliance(scratch, "nobody", prefix=prefix) as a:
        move_messages(a, "aeron:ipc", 1000)
        move_messages(a, CHANNEL, 1000)


def capabilities(pid, name):
    """The set `name` of each thread of a process."""
    sets = []
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        with open(path, encoding="utf-8") as status:
            sets += [int(line.split()[1], 16) for line in status if line.startswith(name + ":")]
    return sets


def root_keeps_only_the_capabilities_that_are_needed(scratch):
    if os.getuid() != 0:
        return  # nothing to give up
    bind_low_ports = 1 << 10  # CAP_NET_BIND_SERVICE, for endpoints on loopback and kernel ports
    with Appliance(scratch, "a") as a:
        for name, allowed in (("thalweg-datapla", bind_low_ports), ("thalweg-control", 0)):
            for which in ("CapEff", "CapPrm"):
                found = capabilities(a.children()[name], which)
                check(len(found) > 1, f"{name} has {len(found)} threads")
                check(all(one & ~allowed == 0 for one in found), f"{which} of the threads of {name}: {[hex(one) for one in found]}")
        move_messages(a, "aeron:udp?endpoint=localhost:933", 1000)  # needs the one that is kept


def bad_configuration_is_answered_with_places_and_nothing_is_started(scratch):
    path = os.path.join(scratch.path, "bad.yaml")
    with open(path, "w", encoding="utf-8") as file:
        file.write("streams:\n  mtuu: 1408\n  term-length: 17\nports:\n  - name: a\n    type: patch\n    address: 10.0.0.1/24\n    peer: nobody\n")
    done = subprocess.run([COMMAND, "up", "--config", path, "--directory", scratch.path + "/x"], capture_output=True, text=True, timeout=60, check=False)
    text = done.stdout + done.stderr
    check(done.returncode != 0, "it started")
    for part in (f"{path}:2:3", "mtu", f"{path}:3:", "nobody"):
        check(part in text, f"'{part}' missing in: {text}")
    check(not os.path.exists(scratch.path + "/x"), "a directory was made")


def what_cannot_be_had_ends_the_start_with_what_would_help(scratch):
    wishes = (("dataplane: {cpu-mode: exclusive, lanes: [{cpu: 0}]}", "CPU 0 is not isolated", "isolcpus=0"),
              ("dataplane: {lanes: [{cpu: 1023}]}", "CPU 1023 is not in this process's CPU set", "taskset"),
              ("ports: [{name: a, type: af_packet, device: nosuch0, address: 10.0.0.1/24}]", "port a: interface nosuch0 does not exist", "ip -br link"),
              ("instance: {group: nosuchgroup}", "instance group 'nosuchgroup' does not exist", "groupadd"),
              ("dataplane: {hugepages: 'on', packet-buffers: 16777216}", "hugepages:", "vm.nr_hugepages="))
    with open("/sys/devices/system/cpu/isolated", encoding="utf-8") as file:
        is_any_isolated = file.read().strip() != ""
    for number, (yaml, what, hint) in enumerate(wishes):
        if "exclusive" in yaml and is_any_isolated:
            continue  # CPU 0 may be the one; the unit tests of the CPU plan know every kind of machine
        path = os.path.join(scratch.path, f"{number}.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(yaml + "\n")
        done = subprocess.run([COMMAND, "up", "--config", path, "--directory", f"{scratch.path}/x{number}"], capture_output=True, text=True, timeout=120, check=False)
        text = done.stdout + done.stderr
        check(done.returncode != 0, f"it started with {yaml}")
        check(what in text and hint in text, f"{yaml}: unclear: {text}")
        check("group" not in yaml or not os.path.exists(f"{scratch.path}/x{number}"), "a directory was made")


CASES = [messages_arrive_over_ipc_and_the_loopback_port, a_clean_end_by_either_signal_leaves_no_process_and_no_buffer,
         without_deletion_only_small_files_stay, a_second_instance_in_the_same_directory_is_refused,
         a_killed_data_plane_comes_back_and_the_stream_goes_on, a_killed_control_plane_comes_back_and_the_stream_goes_on,
         nobody_in_particular_can_run_it, root_keeps_only_the_capabilities_that_are_needed,
         bad_configuration_is_answered_with_places_and_nothing_is_started, what_cannot_be_had_ends_the_start_with_what_would_help]

if __name__ == "__main__":
    sys.exit(run_cases(CASES))
