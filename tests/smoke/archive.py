#!/usr/bin/env python3
"""The archive as real processes: what is published is what the files have, over a lossy link, over killed control planes and on a disk that is full.

Runs in a mount namespace of its own, where the disks are small tmpfs. Needs root."""
import os
import signal
import subprocess
import sys

from harness import DEADLINE_S, SKIPPED, Appliance, check, ended, exit_of, finish, next_progress, run_cases, wait_for

PORTS = ("ports:\n  - {name: left, type: patch, address: 10.77.1.1/24, peer: right, impair: {loss: 1%}}\n"
         "  - {name: right, type: patch, address: 10.77.1.2/24, peer: left, impair: {loss: 1%}}\n")
PATCH = "aeron:udp?endpoint=10.77.1.2:24372|term-length=64k"
LOOPBACK = "aeron:udp?endpoint=localhost:24371|term-length=64k"
IPC = "aeron:ipc?term-length=64k"
SEGMENT = 64 << 10


def archive_yaml(scratch, recordings="", more=""):
    return (f"archive:\n  directory: {scratch.path}/archive\n  segment-length: 64KiB\n  sync-interval: 20ms\n{more}"
            + (f"  recordings:\n{recordings}" if recordings else ""))


def declared(name, channel, stream, more=""):
    return f"    - {{name: {name}, channel: \"{channel}\", stream: {stream}{more}}}\n"


def recordings(a, *arguments):
    return a.run("archive", "list", *arguments)["recordings"]


def verified(a, *arguments):
    """Every recording is read whole and found good; answers them by id."""
    answer = a.run("archive", "verify", *arguments)
    check(answer["faults"] == [], f"faults {answer['faults']}")
    return {one["recording"]: one for one in answer["recordings"]}


def publish_lines(a, channel, stream, lines):
    done = subprocess.run(a.command("pub", "--channel", channel, "--stream", str(stream), "--lines", "--wait", "60s", "--json"), input="\n".join(lines), text=True,
                          capture_output=True, timeout=DEADLINE_S * 2, check=False)
    check(done.returncode == 0, f"pub ended with {done.returncode}: {done.stderr[-1000:]}")


def payloads(a, recording, *arguments):
    """Messages of a recording: fragments put together."""
    messages, parts = [], []
    for frame in a.run("archive", "dump", str(recording), "--count", "1000000", *arguments)["frames"]:
        if frame["type"] == "padding":
            continue
        parts.append(bytes.fromhex(frame["payload"]))
        if "E" in frame["flags"]:
            messages.append(b"".join(parts).decode())
            parts = []
    return messages


def stopped(a, count=1):
    """Waits until this many recordings are there and none is active."""
    def look():
        found = recordings(a)
        return found if len(found) >= count and all(one["state"] == "stopped" for one in found) else None
    return wait_for(look, f"{count} stopped recordings")


def a_lossy_stream_is_recorded_byte_for_byte(scratch):
    lines = [f"{i}:" + "x" * (i * 37 % 3000) for i in range(2000)]
    with Appliance(scratch, "a", PORTS + archive_yaml(scratch, declared("quotes", PATCH, 7))) as a:
        publish_lines(a, PATCH, 7, lines)
        one = stopped(a)[0]
        check(one["name"] == "quotes" and one["stream_id"] == 7 and one["start_position"] == 0, f"recorded {one}")
        check(one["position"] > 20 * SEGMENT, f"it did not roll over segments: {one}")
        check(payloads(a, one["recording"]) == lines, "the recording is not what was published")
        state = verified(a)[one["recording"]]
        check(state["stop_position"] == one["position"], f"verified {state}, listed {one}")
        described = a.run("archive", "describe", str(one["recording"]))
        check(described["durable_position"] == one["position"] and described["segments"] == -(-one["position"] // SEGMENT), f"described {described}")
        # What the archive holds needs no running instance.
        place = ("--archive", f"{scratch.path}/archive")
    check(payloads(a, one["recording"], *place) == lines, "the recording is another one after the end")
    verified(a, *place)


def sessions_of_a_stream_are_recordings_of_their_own(scratch):
    with Appliance(scratch, "a", archive_yaml(scratch, declared("ipc", IPC, 1) + declared("sent", LOOPBACK, 2, ", source: local"))) as a:
        wait_for(lambda: all(one["state"] == "subscribed" for one in a.run("archive", "status")["streams"]), "subscriptions")
        for channel, stream in ((IPC, 1), (LOOPBACK, 2)):
            subscriber = ("sub", "--channel", channel, "--stream", str(stream), "--until-end", "--wait", "60s")
            with ended(a.spawn(*subscriber)) as sub:
                sent = [a.spawn("pub", "--channel", channel, "--stream", str(stream), "--verify", "--count", "3000", "--wait", "60s") for _ in range(2)]
                check(all(finish(pub, "pub")["messages_sent"] == 3000 for pub in sent), "not all were sent")
                finish(sub, "sub")
        found = stopped(a, 4)
        check(len(found) == 4 and len({one["session_id"] for one in found}) == 4, f"recorded {found}")
        check(all(one["data_frames"] == 3000 if "data_frames" in one else one["frames"] == 3000 for one in verified(a).values()), "frames are missing")


def streams_are_recorded_stopped_cut_and_purged_on_command(scratch):
    with Appliance(scratch, "a", archive_yaml(scratch)) as a:
        number = a.run("archive", "record", IPC, "3")["number"]
        code, _, error = exit_of(a, "archive", "record", IPC, "3")
        check(code == 1 and "recorded already" in error, f"a second one: {code} {error}")
        wait_for(lambda: a.run("archive", "status")["streams"][0]["state"] == "subscribed", "subscription")
        with ended(a.spawn("pub", "--channel", IPC, "--stream", "3", "--verify", "--rate", "5000", "--interval", "50ms")) as pub:
            one = wait_for(lambda: next((r for r in recordings(a, "--active") if r["position"] > 3 * SEGMENT), None), "three segments", alive=pub)
            verified(a)  # while it is written
            for refused in (("truncate", str(one["recording"]), "96"), ("purge", str(one["recording"]))):
                code, _, error = exit_of(a, "archive", *refused, "--yes")
                check(code == 1 and "active" in error, f"{refused}: {code} {error}")
            a.run("archive", "stop", str(one["recording"]))
            position = recordings(a)[0]["position"]
            before = next_progress(pub, "pub")["messages_sent"]
            wait_for(lambda: next_progress(pub, "pub")["messages_sent"] > before + 3000, "messages past a stopped recording", alive=pub)
            check(recordings(a)[0]["position"] == position, "a stopped recording grows")
        code, _, error = exit_of(a, "archive", "truncate", str(one["recording"]), str(SEGMENT + 32), "--yes")
        check(code == 2 and "no frame begins" in error, f"inside a frame: {code} {error}")
        a.run("archive", "truncate", str(one["recording"]), str(SEGMENT), "--yes")
        check(verified(a)[one["recording"]]["stop_position"] == SEGMENT, "it was not cut")
        a.run("archive", "stop", "--number", str(number))
        a.run("archive", "purge", str(one["recording"]), "--yes")
        check(recordings(a) == [] and a.run("archive", "status")["streams"] == [], "something is left")


def a_control_plane_killed_while_recording_loses_nothing_that_it_had(scratch):
    with Appliance(scratch, "a", archive_yaml(scratch, declared("ipc", IPC, 4)) + "control-plane: {client-liveness-timeout: 1s, timer-interval: 100ms}\n") as a:
        with ended(a.spawn("pub", "--channel", IPC, "--stream", "4", "--verify", "--rate", "20000", "--wait", "60s", "--interval", "50ms")) as pub:
            for round_number in range(3):
                one = wait_for(lambda: next((r for r in recordings(a, "--active", "--archive", f"{scratch.path}/archive") if r["state"] == "active" and r["position"] > r["start_position"] + 2 * SEGMENT), None),
                               "a growing recording", alive=pub)
                before = a.children()
                os.kill(before["thalweg-control"], signal.SIGKILL)
                had = a.run("archive", "describe", str(one["recording"]), "--archive", f"{scratch.path}/archive")
                wait_for(lambda: a.children().get("thalweg-control", before["thalweg-control"]) != before["thalweg-control"], "new control plane")
                kept = wait_for(lambda: next((r for r in recordings(a, "--archive", f"{scratch.path}/archive") if r["recording"] == one["recording"] and (r["state"] == "stopped" or r["position"] > had["position"])),
                                             None), "recovery, and perhaps its extension already")
                check(kept["position"] >= had["position"] >= had["durable_position"], f"round {round_number}: had {had}, kept {kept}")
            pub.send_signal(signal.SIGINT)
            finish(pub, "pub")
        found = stopped(a)
        ends = [(one["start_position"], one["position"]) for one in found]
        # The next one may begin with what the last one ended with: the position of a subscriber that died is a moment old.
        check(all(ends[i][0] < ends[i + 1][0] and ends[i][1] < ends[i + 1][1] for i in range(len(ends) - 1)), f"recordings out of order: {ends}")
        verified(a)


def a_full_disk_ends_recordings_and_not_the_stream(scratch):
    disk = f"{scratch.path}/archive"
    os.mkdir(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], check=True)
    try:
        with Appliance(scratch, "a", archive_yaml(scratch, declared("ipc", IPC, 5))) as a:
            with ended(a.spawn("pub", "--channel", IPC, "--stream", "5", "--verify", "--rate", "50000", "--wait", "60s", "--interval", "50ms")) as pub, \
                    ended(a.spawn("sub", "--channel", IPC, "--stream", "5", "--verify", "--interval", "50ms")) as sub:
                wait_for(lambda: a.run("archive", "status")["streams"][0]["state"] == "no space", "the end of the disk", alive=pub)
                full = stopped(a)[0]
                before = next_progress(sub, "sub")["messages_received"]
                wait_for(lambda: next_progress(sub, "sub")["messages_received"] > before + 20_000, "messages past a full disk", alive=pub)
                verified(a)
                a.run("archive", "purge", str(full["recording"]), "--yes")
                wait_for(lambda: next((r for r in recordings(a, "--active") if r["position"] > r["start_position"] + SEGMENT), None), "a recording with new space", alive=pub)
            verified(a)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def retention_keeps_what_it_was_told(scratch):
    retention = ", retention: {max-size: 512KiB, min-segments: 1}"
    with Appliance(scratch, "a", archive_yaml(scratch, declared("ipc", IPC, 6, retention), "  retention-interval: 100ms\n")) as a:
        with ended(a.spawn("pub", "--channel", IPC, "--stream", "6", "--verify", "--rate", "20000", "--wait", "60s", "--interval", "50ms")) as pub:
            one = wait_for(lambda: next((r for r in recordings(a) if r["start_position"] > 4 * SEGMENT), None), "deleted segments", alive=pub)
            check(one["start_position"] % SEGMENT == 0, f"{one}")
            wait_for(lambda: a.run("archive", "describe", str(one["recording"]))["file_bytes"] <= 700_000, "a size within bounds", alive=pub)
            pub.send_signal(signal.SIGINT)
            finish(pub, "pub")
        stopped(a)
        verified(a)


def what_cannot_be_is_refused_with_the_reason(scratch):
    with Appliance(scratch, "a") as a:
        for verb in (("status",), ("list",), ("record", IPC, "1")):
            code, _, error = exit_of(a, "archive", *verb)
            check(code == 1 and "no archive" in error, f"{verb}: {code} {error}")
        code, _, error = exit_of(a, "archive", "list", "--archive", scratch.path)
        check(code == 1 and "there is no archive" in error, f"{code} {error}")
    with Appliance(scratch, "b", archive_yaml(scratch)) as b:
        code, _, error = exit_of(b, "archive", "record", "aeron:nonsense", "1")
        check(code == 2, f"{code} {error}")
        code, _, error = exit_of(b, "archive", "describe", "17")
        check(code == 1 and "no recording 17" in error, f"{code} {error}")
        with Appliance(scratch, "c", archive_yaml(scratch)) as c:  # the same directory: its streams run, its archive does not
            code, _, error = exit_of(c, "archive", "status")
            check(code == 1 and "another archive has this directory open" in error, f"{code} {error}")
            check(c.run("stream", "list")["streams"] == [], "streams without an archive")


CASES = [a_lossy_stream_is_recorded_byte_for_byte, sessions_of_a_stream_are_recordings_of_their_own, streams_are_recorded_stopped_cut_and_purged_on_command,
         a_control_plane_killed_while_recording_loses_nothing_that_it_had, a_full_disk_ends_recordings_and_not_the_stream, retention_keeps_what_it_was_told,
         what_cannot_be_is_refused_with_the_reason]

if __name__ == "__main__":
    if os.environ.get("THALWEG_UNSHARED") != "1":
        if os.geteuid() != 0:
            print("needs root, to mount small disks")
            sys.exit(1 if os.environ.get("CI") == "true" else SKIPPED)
        os.environ["THALWEG_UNSHARED"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
    sys.exit(run_cases(CASES))
