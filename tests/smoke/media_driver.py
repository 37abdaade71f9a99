#!/usr/bin/env python3
"""`thalweg media-driver` with real processes: in place of a stock driver, side by side, again and again, with nothing left behind.
MEDIA_DRIVER_STARTS sets how often it is started and stopped in a row (50)."""
import glob
import os
import signal
import struct
import subprocess
import sys
import time

from harness import BUILD, COMMAND, Appliance, Scratch, check, ended, finish, run_cases, wait_for

CHANNEL = "aeron:udp?endpoint=localhost:24341"


class MediaDriver(Appliance):
    """`thalweg media-driver` with AERON_* variables and properties instead of a configuration."""

    def __init__(self, scratch, name, arguments=(), environment=None, prefix=()):
        super().__init__(scratch, name, prefix=prefix, environment=environment)
        self.arguments = list(arguments)
        self.env = {key: value for key, value in self.env.items() if not key.startswith("AERON_")}
        self.env.update({"AERON_DIR": self.directory, **(environment or {})})

    def start(self, wait=True):
        with open(self.log_path, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(self.prefix + [COMMAND, "media-driver", *self.arguments, "--json"], stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, env=self.env)
        if wait:
            wait_for(self.ready_event, f"readiness of {self.name}", alive=self.process)


def move_messages(driver, channel, count=5000):
    subscriber = driver.spawn("sub", "--channel", channel, "--verify", "--until-end", "--wait", "60s")
    publisher = driver.spawn("pub", "--channel", channel, "--verify", "--rate", "0", "--count", str(count))
    sent = finish(publisher, "pub")
    received = finish(subscriber, "sub")
    check(sent["messages_sent"] == count, f"sent {sent['messages_sent']} of {count}")
    check(received["messages_received"] == count and received["missing"] == 0 and received["corrupt"] == 0, f"received {received}")


def request_termination(driver, token="please"):
    subprocess.run([os.path.join(BUILD, "tests", "support", "terminator"), driver.directory, token], check=True, timeout=60)


def messages_arrive_over_ipc_and_localhost(scratch):
    with MediaDriver(scratch, "a", environment={"AERON_TERM_BUFFER_LENGTH": "64k", "AERON_IPC_TERM_BUFFER_LENGTH": "64k"}) as a:
        move_messages(a, "aeron:ipc")
        move_messages(a, CHANNEL)


def the_environment_files_and_definitions_count_in_this_order(scratch):
    path = os.path.join(scratch.path, "driver.properties")
    with open(path, "w", encoding="utf-8") as file:
        file.write("aeron.mtu.length=4k\naeron.ipc.mtu.length=4k\n")
    environment = {"AERON_MTU_LENGTH": "2k", "AERON_TERM_BUFFER_LENGTH": "128k", "AERON_PRINT_CONFIGURATION": "true", "AERON_DIR_WARN_IF_EXISTS": "1"}
    driver = MediaDriver(scratch, "a", environment=environment)
    os.mkdir(driver.directory)
    done = subprocess.Popen([COMMAND, "media-driver", path, "-Daeron.ipc.mtu.length=8k", "-D", "aeron.no.such=1"], env=driver.env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    with ended(done):
        wait_for(lambda: os.path.exists(driver.directory + "/cnc.dat"), "cnc.dat", alive=done)
        done.send_signal(signal.SIGTERM)
        out, err = done.communicate(timeout=60)
    for line in ("mtu: 4KiB", "ipc-mtu: 8KiB", "term-length: 128KiB"):
        check(line in out, f"'{line}' missing in {out}")
    check("AERON_NO_SUCH (-D aeron.no.such) is no setting of a media driver" in err, err)
    check(f"{driver.directory} exists already" in err, err)


def two_run_side_by_side(scratch):
    with MediaDriver(scratch, "a") as a, MediaDriver(scratch, "b") as b:
        move_messages(a, "aeron:ipc")
        move_messages(b, "aeron:ipc")
        subscriber = b.spawn("sub", "--channel", CHANNEL, "--verify", "--until-end", "--wait", "60s")
        publisher = a.spawn("pub", "--channel", CHANNEL, "--verify", "--rate", "0", "--count", "5000")
        check(finish(publisher, "pub")["messages_sent"] == 5000, "a sent too few")
        received = finish(subscriber, "sub")
        check(received["messages_received"] == 5000 and received["missing"] == 0, f"received {received}")


def lost_of(driver):
    return sum(row["count"] for row in driver.run("drops", "--all")["port_drops"] if row["name"] == "impaired_lost")


def lost_frames_are_repaired(scratch):
    """Loss of the types and on the way that each setting is about."""
    arguments = "AERON_UDP_CHANNEL_TRANSPORT_BINDINGS_LOSS_ARGS"
    for number, (environment, loses) in enumerate((
            ({"AERON_DEBUG_RECEIVE_DATA_LOSS_RATE": "0.05", "AERON_DEBUG_RECEIVE_DATA_LOSS_SEED": "3"}, True),
            ({"AERON_DEBUG_SEND_DATA_LOSS_RATE": "0.05", "AERON_DEBUG_RECEIVE_CONTROL_LOSS_RATE": "0.1"}, True),
            ({"AERON_DEBUG_SEND_CONTROL_LOSS_RATE": "0.1", "AERON_UDP_CHANNEL_INCOMING_INTERCEPTORS": "loss", arguments: "rate=0.05|seed=7|recv-msg-mask=0x2"}, True),
            ({"AERON_UDP_CHANNEL_INCOMING_INTERCEPTORS": "loss", arguments: "rate=1.0|recv-msg-mask=0x4"}, False))):  # NAKs, of which there are none
        with MediaDriver(scratch, f"loss{number}", environment=environment) as a:
            move_messages(a, CHANNEL)
            naks = sum(row["value"] for row in a.run("stat", "NAK")["counters"])
            check((naks > 0) == loses and (lost_of(a) > 0) == loses, f"{environment}: {naks} NAKs, {lost_of(a)} frames lost on purpose")


def a_directory_that_another_driver_uses_is_refused(scratch):
    with MediaDriver(scratch, "a") as a:
        other = subprocess.run([COMMAND, "media-driver"], env=a.env, capture_output=True, text=True, timeout=60, check=False)
        check(other.returncode == 1 and "owned by a running control plane" in other.stderr, other.stderr)
        move_messages(a, "aeron:ipc", 100)


def a_client_may_end_it_where_the_validator_allows_that(scratch):
    with MediaDriver(scratch, "deny") as denying:
        request_termination(denying)
        wait_for(lambda: any("termination" in row["text"] for row in denying.run("errors")["errors"]), "the refusal in the error log", alive=denying.process)
        move_messages(denying, "aeron:ipc", 100)
    allowing = MediaDriver(scratch, "allow", environment={"AERON_DRIVER_TERMINATION_VALIDATOR": "allow"})
    allowing.start()
    with ended(allowing.process):
        request_termination(allowing)
        check(allowing.process.wait(60) == 0, f"ended with {allowing.process.returncode}: {allowing.log()}")


def has_ended(pid):
    """Also of one that nobody has collected yet."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def control_plane_of(driver):
    return next(pid for name, pid in driver.children().items() if name.startswith("thalweg-control"))


def accept_termination(driver, run):
    """What a control plane of that run stores when it accepts an end; 1: of any run."""
    with open(os.path.join(driver.directory, "registry.dat"), "r+b", buffering=0) as registry:
        registry.seek(112)  # RegistryHeader::is_termination_accepted, behind the control plane's ProcessInfo
        registry.write(struct.pack("<I", run))


def an_end_that_was_asked_for_survives_the_control_plane(scratch):
    """Killed before it read the request, and killed after it had accepted it: its successor ends the instance."""
    for name in ("unread", "accepted"):
        driver = MediaDriver(scratch, name, environment={"AERON_DRIVER_TERMINATION_VALIDATOR": "allow"})
        driver.start()
        with ended(driver.process):
            pid = control_plane_of(driver)
            os.kill(pid, signal.SIGSTOP)
            if name == "unread":
                request_termination(driver)
            else:
                accept_termination(driver, run=1)
            os.kill(pid, signal.SIGKILL)
            check(driver.process.wait(60) == 0, f"{name}: ended with {driver.process.returncode}: {driver.log()}")
            check(("termination_resumed" in driver.log()) == (name == "accepted"), driver.log())
            check(glob.glob(driver.directory + "/publications/*") == [], "logs are left")


def an_end_does_not_reach_the_next_start(scratch):
    """Everybody is killed over an accepted end, the supervisor first; whoever starts the instance again meanwhile gets one that runs."""
    old = MediaDriver(scratch, "a", environment={"AERON_DRIVER_TERMINATION_VALIDATOR": "allow"})
    old.start()
    with ended(old.process):
        move_messages(old, "aeron:ipc", 100)
        children = old.children().values()
        for pid in children:
            os.kill(pid, signal.SIGSTOP)
        accept_termination(old, run=4711)
        old.process.kill()
        old.process.wait()
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            wait_for(lambda p=pid: has_ended(p), "the end of a child")
    os.remove(old.log_path)
    with MediaDriver(scratch, "a") as again:
        move_messages(again, "aeron:ipc", 100)
        check("termination_resumed" not in again.log(), again.log())


def nobody_in_particular_can_run_it(scratch):
    if os.getuid() != 0:
        return  # we are unprivileged already: every other case shows it
    os.chmod(scratch.path, 0o777)
    prefix = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")
    with MediaDriver(scratch, "nobody", prefix=prefix) as a:
        move_messages(a, "aeron:ipc", 1000)
        move_messages(a, CHANNEL, 1000)


def nothing_is_left_after_many_starts(scratch):
    starts = int(os.environ.get("MEDIA_DRIVER_STARTS", "50"))
    ready, gone = [], []
    for number in range(1, starts + 1):
        driver = MediaDriver(scratch, "a", environment={"AERON_DIR_DELETE_ON_SHUTDOWN": "true"})
        driver.start()
        ready.append(driver.ready_event()["took_ns"])
        children = driver.children()
        begun = time.monotonic()
        check(driver.stop() == 0, f"number {number} ended with an error after {time.monotonic() - begun:.1f} s, and was ready after {ready[-1] / 1e9:.1f} s: {driver.log()}")
        gone.append(time.monotonic() - begun)
        check(not os.path.exists(driver.directory), f"left behind: {glob.glob(driver.directory + '/**', recursive=True)}")
        for pid in children.values():
            check(not os.path.exists(f"/proc/{pid}"), f"process {pid} is still there")
        os.remove(driver.log_path)
    check(scratch.leftovers() == [], f"left in /dev/shm: {scratch.leftovers()}")
    def told(times_ms):
        ordered = sorted(times_ms)
        return f"median {ordered[starts // 2]:.0f} ms, p99 {ordered[starts * 99 // 100]:.0f} ms, longest {ordered[-1]:.0f} ms"
    print(f"  {starts} starts: ready after {told([took / 1e6 for took in ready])}; gone after {told([took * 1e3 for took in gone])}")


CASES = [messages_arrive_over_ipc_and_localhost, the_environment_files_and_definitions_count_in_this_order, two_run_side_by_side, lost_frames_are_repaired,
         a_directory_that_another_driver_uses_is_refused, a_client_may_end_it_where_the_validator_allows_that, an_end_that_was_asked_for_survives_the_control_plane,
         an_end_does_not_reach_the_next_start, nobody_in_particular_can_run_it,
         nothing_is_left_after_many_starts]

if __name__ == "__main__":
    sys.exit(run_cases(CASES))
