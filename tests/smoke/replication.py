#!/usr/bin/env python3
"""Recordings copied from one appliance's archive into another's by real processes: bytes are compared, and either side is killed in the middle."""
import os
import signal
import sys

from archive import IPC, SEGMENT, declared, payloads, publish_lines, recordings, stopped, verified
from harness import Appliance, check, ended, exit_of, finish, run_cases, wait_for

SOURCE = "aeron:udp?endpoint=localhost:24391"
HERE = "aeron:udp?endpoint=localhost:0"
PATIENT = "control-plane: {client-liveness-timeout: 1s, timer-interval: 100ms}\n"


def archive_of(scratch, name, streams="", more=""):
    return (f"archive:\n  directory: {scratch.path}/archive-{name}\n  segment-length: 64KiB\n  sync-interval: 20ms\n{more}"
            + (f"  recordings:\n{streams}" if streams else "")) + PATIENT


def two(scratch):
    there = Appliance(scratch, "there", archive_of(scratch, "there", declared("ipc", IPC, 4), f"  remote-control-channel: \"{SOURCE}\"\n"))
    return there, Appliance(scratch, "here", archive_of(scratch, "here"))


def replicate(here, recording, *arguments):
    return here.run("archive", "replicate", str(recording), "--from", SOURCE, "--response", HERE, *arguments)


def state_of(here, number):
    """Nothing while its control plane is not there."""
    found = [one for one in here.run("archive", "replications", check_exit=False).get("replications", []) if one["replication"] == number]
    return found[0] if found else {}


def at_end(here, number):
    return wait_for(lambda: next((one for one in [state_of(here, number)] if one and one["state"] in ("done", "failed", "stopped")), None), "the end of the replication", deadline_s=120)


def ready(appliance):
    wait_for(lambda: all(one["state"] == "subscribed" for one in appliance.run("archive", "status")["streams"]), "subscription")


def a_recording_arrives_byte_for_byte(scratch):
    there, here = two(scratch)
    lines = [f"{i}:" + "x" * (i * 37 % 3000) for i in range(1500)]
    with there, here:
        ready(there)
        publish_lines(there, IPC, 4, lines)
        one = stopped(there)[0]
        done = replicate(here, one["recording"])
        check(done["state"] == "done" and done["position"] == done["verified_position"] == one["position"] > 20 * SEGMENT, f"{done} of {one}")
        check(payloads(here, done["recording"]) == lines, "the copy is not what was published")
        sums = [a.run("archive", "checksum", str(number)) for a, number in ((there, one["recording"]), (here, done["recording"]))]
        check(all(s["to"] == one["position"] and s["crc32c"] == sums[0]["crc32c"] for s in sums), f"checksums {sums}")
        copy = recordings(here)[0]
        check(all(copy[key] == one[key] for key in ("session_id", "stream_id", "start_ms", "channel", "source")), f"copy {copy} of {one}")
        # A part, which is then continued.
        part = replicate(here, one["recording"], "--stop-position", str(3 * SEGMENT))
        check(3 * SEGMENT <= part["position"] < 3 * SEGMENT + 1408 and part["state"] == "done", f"{part}")
        whole = replicate(here, one["recording"], "--into", str(part["recording"]))
        check(whole["recording"] == part["recording"] and whole["verified_position"] == one["position"], f"{whole}")
        verified(here)


def a_live_recording_is_followed_over_the_death_of_either_side(scratch):
    there, here = two(scratch)
    place = {a: f"{scratch.path}/archive-{a.name}" for a in (there, here)}
    with there, here:
        ready(there)
        with ended(there.spawn("pub", "--channel", IPC, "--stream", "4", "--verify", "--rate", "5000", "--wait", "60s", "--interval", "50ms")) as pub:
            one = wait_for(lambda: next((r for r in recordings(there, "--active") if r["position"] > 2 * SEGMENT), None), "a growing recording", alive=pub)
            number = replicate(here, one["recording"], "--follow", "--detach")["replication"]

            def moved(beyond):
                state = state_of(here, number)
                check(state.get("state") not in ("failed", "done"), f"{state}")
                return state if state.get("verified_position", 0) > beyond and state["state"] == "replicating" else None
            before = wait_for(lambda: moved(2 * SEGMENT), "copied frames", alive=pub)
            for victim in (here, there):
                died = victim.children()["thalweg-control"]
                os.kill(died, signal.SIGKILL)
                wait_for(lambda v=victim, pid=died: v.children().get("thalweg-control", pid) != pid, "new control plane")
                if victim is here:  # it knows by itself what it was at; the source's recording goes on
                    before = wait_for(lambda b=before: moved(b["position"] + SEGMENT), "frames after the kill", alive=pub)
            pub.send_signal(signal.SIGINT)
            finish(pub, "pub")
            # The source's recording ended with its control plane, or went on where it was; what it has is here in the end.
            done = at_end(here, number)
            check(done["state"] == "done" and done["verified_position"] == done["position"], f"{done}")
        last = next(r for r in recordings(there, "--archive", place[there]) if r["recording"] == one["recording"])
        check(done["position"] == last["position"] > before["position"], f"copied {done}, there is {last}")
        sums = [a.run("archive", "checksum", str(r), "--archive", place[a]) for a, r in ((there, one["recording"]), (here, done["recording"]))]
        check(sums[0]["crc32c"] == sums[1]["crc32c"] and sums[0]["to"] == sums[1]["to"] == last["position"], f"checksums {sums}")
        verified(here)


def what_cannot_be_copied_says_why(scratch):
    there, here = two(scratch)
    with here:
        waiting = replicate(here, 0, "--detach")["replication"]
        wait_for(lambda: state_of(here, waiting).get("state") == "waiting", "a replication without a source")
        check("no archive listens" in state_of(here, waiting)["error"], f"{state_of(here, waiting)}")
        here.run("archive", "stop-replication", str(waiting))
        check(state_of(here, waiting)["state"] == "stopped", "it goes on")
        code, _, error = exit_of(here, "archive", "stop-replication", str(waiting))
        check(code == 1 and "is running" in error, f"{code} {error}")
        for arguments, want, text in ((("--from", "nonsense", "--response", HERE), 2, "nonsense"), (("--from", SOURCE, "--response", HERE, "--into", "7"), 1, "no recording 7")):
            code, _, error = exit_of(here, "archive", "replicate", "0", *arguments)
            check(code == want and text in error, f"{arguments}: {code} {error}")
        with there:
            code, answer, error = exit_of(here, "archive", "replicate", "17", "--from", SOURCE, "--response", HERE)
            check(code == 1 and answer["state"] == "failed" and "no recording 17" in error, f"{code} {answer} {error}")


CASES = [a_recording_arrives_byte_for_byte, a_live_recording_is_followed_over_the_death_of_either_side, what_cannot_be_copied_says_why]

if __name__ == "__main__":
    sys.exit(run_cases(CASES))
