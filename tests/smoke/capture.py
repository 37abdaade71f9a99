#!/usr/bin/env python3
"""`thalweg capture` on a running appliance: what tshark, which knows nothing of ours, reads in the file; limits; how it ends; what it refuses."""
import contextlib
import os
import signal
import struct
import subprocess
import sys

from harness import Appliance, check, ended, exit_of, finish, run_cases, wait_for
import namespaces

LEFT, RIGHT, PORT = "10.77.1.1", "10.77.1.2", 40123
CHANNEL = f"aeron:udp?endpoint={RIGHT}:{PORT}"
# With checksums, so that tshark has something to check.
YAML = (f"ports:\n  - {{name: left, type: patch, address: {LEFT}/24, peer: right, checksums: on}}\n"
        f"  - {{name: right, type: patch, address: {RIGHT}/24, peer: left, checksums: on}}\n")
DATA_HEADER = struct.Struct("<iBBHiiiiq")  # length, version, flags, type, term offset, session, stream, term id, reserved value
PAD, DATA, STATUS_MESSAGE, SETUP = 0, 1, 3, 5
FIELDS = ("frame.time_epoch", "frame.len", "frame.cap_len", "ip.src", "udp.dstport", "ip.checksum.status", "udp.checksum.status", "udp.payload")
GOOD = "1"


def read_with_tshark(path):
    """Every frame of a capture, as a dictionary by field name."""
    command = ["tshark", "-n", "-r", path, "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-T", "fields", "-E", "separator=|"]
    for field in FIELDS:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    check(done.returncode == 0, f"tshark cannot read {path}: {done.stderr[-500:]}")
    return [dict(zip(FIELDS, line.split("|"))) for line in done.stdout.splitlines()]


def protocol_frames(datagram):
    """(type, bytes) of each frame in a datagram. A heartbeat has length 0; padding is sent as its header alone."""
    while len(datagram) >= 8:
        length, _, _, kind = struct.unpack_from("<iBBH", datagram)
        yield kind, datagram[:length] if kind != PAD else datagram[:DATA_HEADER.size]
        if length <= 0 or kind == PAD:
            return
        datagram = datagram[(length + 31) // 32 * 32:]


def sequences(frames):
    """Numbers of the test messages in the captured datagrams, in the order of their first transmission."""
    found = {}
    for frame in frames:
        for kind, content in protocol_frames(bytes.fromhex(frame["udp.payload"])):
            if kind == DATA and len(content) > DATA_HEADER.size:
                found[struct.unpack_from("<Q", content, DATA_HEADER.size)[0]] = True
    return list(found)


def first_kinds(frames):
    return {kind for frame in frames for kind, _ in list(protocol_frames(bytes.fromhex(frame["udp.payload"])))[:1]}


def captures(appliance):
    return appliance.run("capture", "--list")["captures"]


@contextlib.contextmanager
def running_capture(appliance, path):
    """A capture of port left without a limit; it is open when this is entered."""
    with ended(appliance.spawn("capture", "left", path)) as process:
        wait_for(lambda: [one for one in captures(appliance) if one["state"] == "active"], "the capture", alive=process)
        yield process


@contextlib.contextmanager
def traffic(appliance):
    """A verified stream at a moderate rate for as long as it is needed; nothing of it may be lost by being watched."""
    with ended(appliance.spawn("sub", "--channel", CHANNEL, "--verify", "--until-end", "--wait", "60s")) as subscriber, \
            ended(appliance.spawn("pub", "--channel", CHANNEL, "--verify", "--rate", "5000", "--wait", "60s")) as publisher:
        yield
        publisher.send_signal(signal.SIGINT)
        sent, received = finish(publisher, "pub"), finish(subscriber, "sub")
        check(sent["messages_sent"] == received["messages_received"] and received["missing"] + received["corrupt"] == 0, f"{sent} {received}")


def a_whole_stream_is_in_the_file_and_control_c_ends_it(scratch):
    path = os.path.join(scratch.path, "stream.pcapng")
    with Appliance(scratch, "a", YAML) as a:
        with running_capture(a, path) as capture:
            with ended(a.spawn("sub", "--channel", CHANNEL, "--verify", "--until-end", "--wait", "60s")) as subscriber:
                a.run("pub", "--channel", CHANNEL, "--verify", "--rate", "10000", "--count", "3000", "--wait", "60s")
                check(finish(subscriber, "sub")["messages_received"] == 3000, "the stream was not whole")
            capture.send_signal(signal.SIGINT)
            summary = finish(capture, "capture")
        frames = [frame for frame in read_with_tshark(path) if frame["udp.payload"]]
        check(summary["dropped"] == 0 and summary["frames"] >= len(frames) > 0, f"{len(frames)} datagrams, summary {summary}")
        check(sequences(frames) == list(range(3000)), f"{len(sequences(frames))} messages, not 0 to 2999 in order")
        out, back = [[f for f in frames if f["ip.src"] == address] for address in (LEFT, RIGHT)]
        check({DATA, SETUP} <= first_kinds(out) and STATUS_MESSAGE in first_kinds(back), f"sent {first_kinds(out)}, received {first_kinds(back)}")
        check(all(f["ip.checksum.status"] == f["udp.checksum.status"] == GOOD for f in frames), "a wrong checksum")
        for way in (out, back):
            check([f["frame.time_epoch"] for f in way] == sorted(f["frame.time_epoch"] for f in way), "time went back")
        check(all(len(f["frame.time_epoch"].split(".")[1]) == 9 for f in frames) and any(f["frame.time_epoch"][-3:] != "000" for f in frames),
              "the time stamps have no nanoseconds")
        wait_for(lambda: captures(a) == [], "end of the capture")


def count_size_and_time_end_a_capture(scratch):
    with Appliance(scratch, "a", YAML) as a, traffic(a):
        def capture(*limits):
            path = os.path.join(scratch.path, "bounded.pcapng")
            summary = a.run("capture", "left", path, *limits)
            frames = read_with_tshark(path)
            check(summary["frames"] == len(frames) > 0, f"{len(frames)} frames in the file, summary {summary}")
            return frames, os.path.getsize(path)

        frames, _ = capture("--count", "500")
        check(len(frames) == 500, f"{len(frames)} frames of 500")
        frames, size = capture("--file-size", "64KiB")
        largest = max(int(f["frame.len"]) for f in frames)
        check(65536 - largest - 300 < size <= 65536, f"{size} bytes where 65536 are the limit")
        capture("--duration", "300ms")
        frames, _ = capture("--snap-length", "64", "--count", "100")
        check(all(int(f["frame.cap_len"]) <= 64 for f in frames) and any(int(f["frame.len"]) > 64 for f in frames), "frames were not cut")


def a_capture_is_ended_by_its_number_and_a_port_is_captured_once(scratch):
    with Appliance(scratch, "a", YAML) as a:
        path = os.path.join(scratch.path, "first.pcapng")
        with running_capture(a, path) as first:
            code, _, error = exit_of(a, "capture", "left", os.path.join(scratch.path, "second.pcapng"))
            check(code == 1 and "being captured already" in error, f"a second capture ended with {code}: {error}")
            check(first.poll() is None, "the second ended the first")
            a.run("capture", "--stop", str(captures(a)[0]["capture"]))
            finish(first, "capture")
            read_with_tshark(path)


def a_file_that_cannot_be_made_is_refused_with_the_reason(scratch):
    forbidden = os.path.join(scratch.path, "forbidden")
    os.mkdir(forbidden, 0o555)
    os.chmod(scratch.path, 0o777)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all") if os.geteuid() == 0 else ()
    with Appliance(scratch, "a", YAML, prefix=nobody) as a, traffic(a):
        for path, reason in ((forbidden + "/x.pcapng", "Permission denied"), (scratch.path + "/no/such/x.pcapng", "No such file"),
                             ("/dev/null", "not a regular file")):
            code, _, error = exit_of(a, "capture", "left", path)
            check(code == 1 and reason in error and path in error, f"{path}: {code} {error}")
        code, _, error = exit_of(a, "capture", "middle", scratch.path + "/x.pcapng")
        check(code == 1 and "no port has the name 'middle'" in error, f"unknown port: {code} {error}")
        wait_for(lambda: captures(a) == [], "end of the refused captures")


def a_full_disk_ends_the_capture_with_an_error_and_a_readable_file(scratch):
    small = os.path.join(scratch.path, "small")
    os.mkdir(small)
    namespaces.run("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small)
    try:
        with Appliance(scratch, "a", YAML) as a, traffic(a):
            path = small + "/x.pcapng"
            code, _, error = exit_of(a, "capture", "left", path)
            check(code == 1 and "No space left on device" in error and path in error, f"a full disk ends with {code}: {error}")
            frames = read_with_tshark(path)
            size = os.path.getsize(path)
            check(len(frames) > 0 and 192 * 1024 <= size <= 256 * 1024, f"{len(frames)} frames in {size} bytes of a disk with 256 KiB")
    finally:
        namespaces.run("umount", small)


CASES = [a_whole_stream_is_in_the_file_and_control_c_ends_it, count_size_and_time_end_a_capture,
         a_capture_is_ended_by_its_number_and_a_port_is_captured_once, a_file_that_cannot_be_made_is_refused_with_the_reason]


def main():
    if os.geteuid() == 0:
        namespaces.enter()  # a mount of its own
        return run_cases([*CASES, a_full_disk_ends_the_capture_with_an_error_and_a_readable_file])
    if os.environ.get("CI") == "true":
        print("failed: the case of a full disk needs root")
        return 1
    return run_cases(CASES)


if __name__ == "__main__":
    sys.exit(main())
