#!/usr/bin/env python3
"""What a question to somebody else needs, with real processes: `thalweg trace` while frames pass, `thalweg support-bundle` with everything but the messages."""
import json
import os
import signal
import subprocess
import sys
import tarfile

from harness import Appliance, check, ended, exit_of, finish, run_cases, wait_for

CHANNEL = "aeron:udp?endpoint=10.77.1.2:40123"
YAML = ("ports:\n  - {name: left, type: patch, address: 10.77.1.1/24, peer: right}\n"
        "  - {name: right, type: patch, address: 10.77.1.2/24, peer: left, impair: {loss: 10%}}\n")
SECRET = "what the messages say is nobody's business"
RAW = ("registry.dat", "cnc.dat", "loss-report.dat")


def captures(appliance):
    return appliance.run("capture", "--list")["captures"]


def trace(appliance, *arguments):
    return appliance.spawn("trace", "left", *arguments)


def lines(process, what):
    out, err = process.communicate(timeout=60)
    check(process.returncode == 0, f"{what} ended with {process.returncode}: {err}")
    return [json.loads(line) for line in out.splitlines()]


def start_stream(appliance):
    """A verified stream: its subscriber and its publisher."""
    subscriber = appliance.spawn("sub", "--channel", CHANNEL, "--verify", "--until-end", "--wait", "60s")
    publisher = appliance.spawn("pub", "--channel", CHANNEL, "--verify", "--rate", "2000", "--wait", "60s")
    return subscriber, publisher


def a_stream_is_told_frame_by_frame_while_it_passes(scratch):
    with Appliance(scratch, "a", YAML) as a:
        with ended(trace(a, "--count", "400")) as process:
            wait_for(lambda: [one for one in captures(a) if one["state"] == "active"], "the trace", alive=process)
            subscriber, publisher = start_stream(a)
            with ended(subscriber), ended(publisher):
                frames = lines(process, "trace")
                with ended(trace(a, "--type", "nak", "--type", "sm", "--count", "3")) as some:
                    kinds = {frame["type"] for frame in lines(some, "trace of types")}
                check(kinds <= {"NAK", "SM"} and kinds, f"other frames: {kinds}")
                publisher.send_signal(signal.SIGINT)
                sent, received = finish(publisher, "pub"), finish(subscriber, "sub")
        check(sent["messages_sent"] == received["messages_received"], f"{sent} {received}")
        check(len(frames) == 400, f"{len(frames)} lines of 400")
        order = [frame["type"] for frame in frames]
        first = {kind: order.index(kind) for kind in set(order)}
        check(first["ARP"] < first["SETUP"] < first["SM"] and first["SETUP"] < first["DATA"], f"order {first}")
        data = [frame for frame in frames if frame["type"] == "DATA"]
        check(all(frame["direction"] == "out" and frame["destination"] == "10.77.1.2:40123" and frame["stream_id"] == 1001 for frame in data), f"{data[:3]}")
        check([f["epoch_ns"] for f in frames if f["direction"] == "out"] == sorted(f["epoch_ns"] for f in frames if f["direction"] == "out"), "time went back")
        wait_for(lambda: captures(a) == [] and not [name for name in os.listdir(a.directory) if name.startswith("trace")], "end of the traces")


def control_c_ends_a_trace_and_its_capture(scratch):
    with Appliance(scratch, "a", YAML) as a, ended(trace(a)) as process:
        wait_for(lambda: [one for one in captures(a) if one["state"] == "active"], "the trace", alive=process)
        code, _, error = exit_of(a, "trace", "left")
        check(code == 1 and "being captured already" in error, f"a second trace: {code} {error}")
        process.send_signal(signal.SIGINT)
        check(process.wait(60) == 0, f"ended with {process.returncode}")
        wait_for(lambda: captures(a) == [], "end of the capture")
        check(not [name for name in os.listdir(a.directory) if name.startswith("trace")], "the file is left")
        code, _, error = exit_of(a, "trace", "middle")
        check(code == 1 and "no port has the name 'middle'" in error, f"unknown port: {code} {error}")


def a_file_is_told_as_the_port_was(scratch):
    with Appliance(scratch, "a", YAML) as a:
        path = os.path.join(scratch.path, "stream.pcapng")
        with ended(a.spawn("capture", "left", path, "--count", "200")) as capture:
            wait_for(lambda: [one for one in captures(a) if one["state"] == "active"], "the capture", alive=capture)
            subscriber, publisher = start_stream(a)
            with ended(subscriber), ended(publisher):
                finish(capture, "capture")
        with ended(a.spawn("trace", "--file", path)) as process:
            frames = lines(process, "trace --file")
        check({"SETUP", "SM", "DATA"} <= {frame["type"] for frame in frames}, f"{ {frame['type'] for frame in frames} }")


def bundle_of(appliance, path, *arguments):
    """The archive's files as bytes by name, and the parts as the command told them."""
    summary = appliance.run("support-bundle", "--output", path, *arguments)
    check(summary["file"] == path, f"it went to {summary['file']}")
    with tarfile.open(path) as archive:
        folders = {member.name.split("/")[0] for member in archive.getmembers()}
        check(len(folders) == 1, f"several folders: {folders}")
        files = {member.name.split("/", 1)[1]: archive.extractfile(member).read() for member in archive.getmembers() if member.isfile()}
    return files, {part["name"]: part for part in summary["parts"]}


def a_bundle_has_everything_but_the_messages(scratch):
    with Appliance(scratch, "a", YAML) as a:
        subscriber, publisher = start_stream(a)
        lines_in, lines_out = line_stream(a)
        with ended(subscriber), ended(publisher), ended(lines_in), ended(lines_out):
            lines_out.stdin.write((SECRET + "\n") * 100)
            lines_out.stdin.flush()
            wait_for(lambda: SECRET in lines_in.stdout.readline(), "the messages")
            wait_for(lambda: {"publication", "image", "ipc"} <= {stream["kind"] for stream in a.run("stream", "list")["streams"]}, "the streams")
            files, parts = bundle_of(a, os.path.join(scratch.path, "bundle.tar.gz"))
            publisher.send_signal(signal.SIGINT)
        for name, part in parts.items():
            check(part["remark"] is None and name in files, f"{name} is missing: {part}")
            if name.endswith(".json"):
                json.loads(files[name])
        check(a.directory.encode() in files["running-config.yaml"] and b"name: left" in files["running-config.yaml"], "the configuration is another one")
        streams = json.loads(files["stream-list.json"])["streams"]
        check({"publication", "image", "ipc"} <= {stream["kind"] for stream in streams}, f"streams {streams}")
        check(len(files["stream-why.jsonl"].splitlines()) >= len(streams), "not every stream is told about")
        check(any(row["value"] > 0 for row in json.loads(files["stat.json"])["counters"]), "no counters")
        check("errors" in json.loads(files["errors.json"]) and "findings" in json.loads(files["host-check.json"]), "no errors, no host check")
        check(json.loads(files["status.json"])["is_ready"] is True, "no status")
        for name in RAW:
            check(len(files[name]) == os.path.getsize(os.path.join(a.directory, name)), f"{name} has {len(files[name])} bytes")
        told = [name for name, content in files.items() if SECRET.encode() in content]
        check(told == [], f"messages are in {told}")


def line_stream(appliance):
    """A subscriber and a publisher of lines on an IPC stream; without --json, which --lines does not go with."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    return [subprocess.Popen(appliance.command(verb, "--channel", "aeron:ipc", "--lines"), **pipes) for verb in ("sub", "pub")]


def what_a_dead_instance_left_is_bundled_too(scratch):
    with Appliance(scratch, "a", YAML) as a:
        pass
    files, parts = bundle_of(a, os.path.join(scratch.path, "bundle.tar.gz"), "--config", a.config)
    check(parts["status.json"]["remark"] and "status.json" not in files, f"status of a dead one: {parts['status.json']}")
    check(b"name: left" in files["thalweg.yaml"] and files["registry.dat"], "configuration and registry are missing")


CASES = [a_stream_is_told_frame_by_frame_while_it_passes, control_c_ends_a_trace_and_its_capture, a_file_is_told_as_the_port_was,
         a_bundle_has_everything_but_the_messages, what_a_dead_instance_left_is_bundled_too]

if __name__ == "__main__":
    sys.exit(run_cases(CASES))
