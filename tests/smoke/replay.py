#!/usr/bin/env python3
"""Recordings replayed by real processes: what subscribers, files and lines get is what was published, while recording goes on."""
import os
import subprocess
import sys
import time

from archive import PATCH, PORTS, SEGMENT, archive_yaml, declared, payloads, recordings, stopped, verified
from harness import BUILD, DEADLINE_S, Appliance, check, ended, exit_of, finish, run_cases, wait_for

IPC = "aeron:ipc?term-length=64k"
UDP = "aeron:udp?endpoint=localhost:24381"


def line(i):
    return f"{i}:" + "x" * (i * 37 % 3000)


def replayed(a, recording, channel, stream, *arguments):
    """A subscriber, and a replay that waits for it; answers both as running processes."""
    sub = subprocess.Popen(a.command("sub", "--channel", channel, "--stream", str(stream), "--lines", "--until-end", "--wait", "60s"), stdout=subprocess.PIPE, text=True)
    return sub, a.spawn("archive", "replay", str(recording), "--to", channel, str(stream), *arguments)


def lines_of(sub):
    out, _ = sub.communicate(timeout=DEADLINE_S * 2)
    return [one for one in out.splitlines() if ":" in one and one.split(":", 1)[0].isdigit()]


def publish_in_two_parts(a, channel, stream, count):
    """Answers a time between the recording of the first half and of the second."""
    with subprocess.Popen(a.command("pub", "--channel", channel, "--stream", str(stream), "--lines", "--wait", "60s", "--json"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as pub:
        pub.stdin.write("".join(line(i) + "\n" for i in range(count // 2)))
        pub.stdin.flush()

        def whole():
            found = recordings(a)
            return found and len(payloads(a, found[0]["recording"])) == count // 2
        wait_for(whole, "the first half", alive=pub)
        between = time.time_ns()
        pub.stdin.write("".join(line(i) + "\n" for i in range(count // 2, count)))
        pub.stdin.close()
        check(pub.wait(DEADLINE_S * 2) == 0, "pub failed")
    return between


def a_recording_is_replayed_twice_at_once_and_from_its_middle(scratch):
    count = 2000
    with Appliance(scratch, "a", PORTS + archive_yaml(scratch, declared("quotes", PATCH, 7))) as a:
        between = publish_in_two_parts(a, PATCH, 7, count)
        one = stopped(a)[0]
        check(one["position"] > 20 * SEGMENT, f"it did not roll over segments: {one}")
        runs = [replayed(a, one["recording"], IPC.split("?", maxsplit=1)[0], 50), replayed(a, one["recording"], UDP, 51),
                replayed(a, one["recording"], "aeron:ipc", 52, "--from-time", str(between))]
        got = [lines_of(sub) for sub, _ in runs]
        states = [finish(replay, "replay") for _, replay in runs]
        everything = [line(i) for i in range(count)]
        check(got[0] == everything and got[1] == everything, f"replayed {len(got[0])} and {len(got[1])} of {count} lines")
        check(got[2] == everything[count // 2:] or (len(got[2]) < count // 2 + 10 and got[2] == everything[-len(got[2]):] and len(got[2]) >= count // 2), f"from the middle: {len(got[2])} lines")
        check(all(state["state"] == "done" and state["position"] == one["position"] for state in states), f"replays ended as {states}")
        check(states[0]["start_position"] == 0 and states[2]["start_position"] > 0, f"replays began as {states}")
        check(a.run("archive", "status")["replayed_bytes"] >= 2 * one["position"], "bytes are not counted")
        # A part of it, by position and length.
        middle = a.run("archive", "dump", str(one["recording"]), "--from", str(4 * SEGMENT), "--count", "1")["frames"][0]["position"]
        sub, replay = replayed(a, one["recording"], "aeron:ipc", 53, "--from", str(middle), "--length", "64KiB")
        part = lines_of(sub)
        state = finish(replay, "replay")
        check(state["start_position"] == middle and middle + SEGMENT <= state["position"] < middle + SEGMENT + 1408, f"a part: {state}")
        check(part == everything[everything.index(part[0]):][:len(part)], "a part is not what was published")
        # So short that it is over as soon as it begins.
        with ended(a.spawn("sub", "--channel", "aeron:ipc", "--stream", "56", "--wait", "60s")):
            for _ in range(5):
                state = a.run("archive", "replay", str(one["recording"]), "--from", "0", "--length", "1", "--to", "aeron:ipc", "56")
                check(state["state"] == "done" and state["stop_position"] == 1 and state["position"] >= 32, f"a short one: {state}")


def messages_go_to_standard_output_and_into_files(scratch):
    with Appliance(scratch, "a", PORTS + archive_yaml(scratch, declared("quotes", PATCH, 7))) as a:
        publish_in_two_parts(a, PATCH, 7, 200)
        one = stopped(a)[0]
    place = ("--archive", f"{scratch.path}/archive")  # no instance is needed
    everything = [line(i) for i in range(200)]
    raw = subprocess.run(a.command("archive", "replay", str(one["recording"]), "--stdout", *place), capture_output=True, timeout=DEADLINE_S, check=True).stdout
    check(raw.decode() == "".join(everything), "the bytes are others")
    text = subprocess.run(a.command("archive", "replay", str(one["recording"]), "--text", *place), capture_output=True, text=True, timeout=DEADLINE_S, check=True).stdout
    check([row.split(maxsplit=2)[2] for row in text.splitlines()] == everything, "the lines are others")
    a.run("archive", "replay", str(one["recording"]), "--pcapng", f"{scratch.path}/out.pcapng", *place)
    traced = subprocess.run(a.command("trace", "--file", f"{scratch.path}/out.pcapng"), capture_output=True, text=True, timeout=DEADLINE_S, check=True).stdout
    frames = sum(-(-max(len(row), 1) // 1376) for row in everything)
    check(len(traced.splitlines()) >= frames, f"{len(traced.splitlines())} frames of {frames} in the capture: {traced[:300]}")


def a_live_recording_is_followed_to_its_end(scratch):
    with Appliance(scratch, "a", archive_yaml(scratch, declared("ipc", IPC, 4))) as a:
        wait_for(lambda: all(one["state"] == "subscribed" for one in a.run("archive", "status")["streams"]), "subscription")
        with ended(a.spawn("pub", "--channel", IPC, "--stream", "4", "--verify", "--rate", "20000", "--count", "60000", "--wait", "60s")) as pub:
            one = wait_for(lambda: next((r for r in recordings(a, "--active") if r["position"] > 5 * SEGMENT), None), "a growing recording", alive=pub)
            tail = subprocess.Popen(a.command("archive", "tail", str(one["recording"]), "--from", "0"), stdout=subprocess.PIPE, text=True)
            with ended(tail), ended(a.spawn("sub", "--channel", "aeron:ipc", "--stream", "54", "--verify", "--until-end", "--wait", "60s")) as sub, \
                    ended(a.spawn("archive", "replay", str(one["recording"]), "--follow", "--to", "aeron:ipc", "54")) as replay:
                sent = finish(pub, "pub")
                got = finish(sub, "sub")
                state = finish(replay, "replay")
                check(got["messages_received"] == sent["messages_sent"] == 60000 and got["missing"] == 0, f"followed {got}, sent {sent}")
                check(state["state"] == "done" and state["stop_position"] is None and state["position"] == stopped(a)[0]["position"], f"{state}")
                out, _ = tail.communicate(timeout=DEADLINE_S)
                check(len(out.splitlines()) == 60000, f"tail showed {len(out.splitlines())} messages")
        verified(a)


def merged(scratch, a, recording, live, stream, replay_channel, count):
    environment = dict(os.environ, AERON_DIR=a.directory)
    command = [f"{BUILD}/dataplane/client/sample_persistent_subscriber", str(recording), live, str(stream), replay_channel, "60", str(count)]
    with open(f"{scratch.path}/merged", "w", encoding="utf-8") as out:  # not a pipe: nobody reads it before the end
        return subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.PIPE, text=True)


def merged_lines(scratch):
    with open(f"{scratch.path}/merged", encoding="utf-8") as out:
        return out.read().splitlines()


def a_subscriber_goes_from_the_recording_to_live_without_a_gap(scratch):
    for channel, name in ((PATCH, "quotes"), (IPC, "ipc")):
        with Appliance(scratch, name, PORTS + archive_yaml(scratch, declared(name, channel, 7))) as a:
            first, second = [line(i) for i in range(1000)], [line(i) for i in range(1000, 3000)]
            publisher = a.command("pub", "--channel", channel, "--stream", "7", "--lines", "--wait", "60s", "--json")
            with subprocess.Popen(publisher, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as pub, ended(pub):
                pub.stdin.write("\n".join(first) + "\n")
                pub.stdin.flush()
                one = wait_for(lambda: next((r for r in recordings(a, "--active") if r["position"] > 4 * SEGMENT), None), "a recording", alive=pub)
                for replay_channel in ("aeron:ipc", "aeron:udp?endpoint=localhost:0"):
                    with ended(merged(scratch, a, one["recording"], channel, 7, replay_channel, 1000)) as reader:
                        _, error = reader.communicate(timeout=DEADLINE_S)
                        check(merged_lines(scratch) == first, f"{channel} {replay_channel}: {len(merged_lines(scratch))} of 1000 lines; {error}")
                with ended(merged(scratch, a, one["recording"], channel, 7, "aeron:ipc", 3000)) as reader:
                    check("live from" in reader.stderr.readline(), "it did not join live")
                    pub.stdin.write("\n".join(second) + "\n")
                    pub.stdin.flush()
                    _, error = reader.communicate(timeout=DEADLINE_S)
                    check(merged_lines(scratch) == first + second, f"{channel}: {len(merged_lines(scratch))} of 3000 lines; {error}")
                pub.stdin.close()
                pub.wait(DEADLINE_S)
            stopped(a)
        subprocess.run(["rm", "-rf", f"{scratch.path}/archive"], check=True)


def what_cannot_be_replayed_is_refused_with_the_reason(scratch):
    yaml = archive_yaml(scratch, declared("ipc", IPC, 4), "  max-replays: 1\n  replay-connect-timeout: ")
    with Appliance(scratch, "a", yaml.replace("timeout: ", "timeout: 60s\n", 1)) as a:
        wait_for(lambda: all(one["state"] == "subscribed" for one in a.run("archive", "status")["streams"]), "subscription")
        finish(a.spawn("pub", "--channel", IPC, "--stream", "4", "--verify", "--count", "3000", "--wait", "60s"), "pub")
        one = stopped(a)[0]
        number = str(one["recording"])
        to = ("--to", "aeron:ipc", "55")
        for arguments, want, text in ((("17", *to), 1, "no recording 17"), ((number, "--from", "33", *to), 2, "no frame begins at position 33"),
                                      ((number, "--from", "99999968", *to), 2, "which has 0 to"), ((number, "--from", str(one["position"]), *to), 2, "nothing behind position"),
                                      ((number, "--to", "aeron:ipc?term-length=128k", "55"), 2, "must be 65536"), ((number, "--to", "aeron:ipc", "x"), 2, "no stream id"),
                                      ((number,), 2, "where to?"), ((number, "--from-time", "yesterday", *to), 2, "is no time")):
            code, _, error = exit_of(a, "archive", "replay", *arguments)
            check(code == want and text in error, f"{arguments}: {code} {error}")
        held = a.run("archive", "replay", number, *to, "--detach")  # nobody subscribes, so it waits
        check(held["state"] == "connecting", f"{held}")
        for refused, text in ((("replay", number, *to), "no more are allowed"), (("purge", number, "--yes"), "being replayed"), (("truncate", number, str(SEGMENT), "--yes"), "being replayed")):
            code, _, error = exit_of(a, "archive", *refused)
            check(code == 1 and text in error, f"{refused}: {code} {error}")
        check(a.run("archive", "stop-replay", "--recording", number)["stopped"] == 1, "not one was stopped")
        wait_for(lambda: [r["state"] for r in a.run("archive", "replays")["replays"]] == ["stopped"], "the end of the replay")
        code, _, error = exit_of(a, "archive", "stop-replay", str(held["replay"]))
        check(code == 1 and "is running" in error, f"{code} {error}")
    with Appliance(scratch, "b", yaml.replace("timeout: ", "timeout: 200ms\n", 1)) as b:
        code, answer, error = exit_of(b, "archive", "replay", number, *to)
        check(code == 1 and "nobody subscribes to aeron:ipc stream 55" in error and answer["state"] == "failed", f"{code} {answer} {error}")
        b.run("archive", "purge", number, "--yes")


CASES = [a_recording_is_replayed_twice_at_once_and_from_its_middle, messages_go_to_standard_output_and_into_files, a_live_recording_is_followed_to_its_end,
         a_subscriber_goes_from_the_recording_to_live_without_a_gap,
         what_cannot_be_replayed_is_refused_with_the_reason]

if __name__ == "__main__":
    sys.exit(run_cases(CASES))
