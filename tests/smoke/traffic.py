#!/usr/bin/env python3
"""The traffic verbs and the samples of libthalweg against a real instance: what they carry, how they end, what they answer."""
import os
import signal
import subprocess
import sys
import time

from harness import BUILD, DEADLINE_S, Appliance, check, ended, exit_of, finish, next_progress, run_cases, wait_for

CLAIMER = os.path.join(BUILD, "tests", "support", "claimer")
IPC = "aeron:ipc"
UDP = "aeron:udp?endpoint=localhost:24341"
REPLY = "aeron:udp?endpoint=localhost:24342"


def expect_whole(received, count):
    check(received["messages_received"] == count, f"received {received['messages_received']} of {count}")
    check(received["missing"] == 0 and received["out_of_order"] == 0 and received["corrupt"] == 0, f"received {received}")


def pings_are_answered_over_ipc_and_udp(scratch):
    with Appliance(scratch, "a") as a:
        for channel, reply in ((IPC, IPC), (UDP, REPLY)):
            streams = ("--channel", channel, "--reply-channel", reply)
            with ended(a.spawn("pong", *streams, "--until-end")) as pong:
                ping = a.run("ping", *streams, "--rate", "1000", "--count", "500", "--warm-up", "0s", "--wait", "60s")
                check(ping["messages_received"] == 500 and ping["missing"] == 0 and ping["corrupt"] == 0, f"ping {ping}")
                check(0 < ping["rtt_min_ns"] <= ping["rtt_p50_ns"] <= ping["rtt_p99_ns"] <= ping["rtt_max_ns"], f"percentiles {ping}")
                answers = finish(pong, "pong")
                check(answers["end_reason"] == "end_of_stream", f"pong {answers}")


def lines_of_standard_input_come_out_as_they_went_in(scratch):
    text = "one\n\n" + "long " * 2000 + "\nlast without an end"
    with Appliance(scratch, "a") as a:
        for channel in (IPC, UDP):
            subscriber = subprocess.Popen(a.command("sub", "--channel", channel, "--lines", "--until-end", "--wait", "60s"), stdout=subprocess.PIPE,
                                          stderr=subprocess.DEVNULL, text=True)
            with ended(subscriber):
                subprocess.run(a.command("pub", "--channel", channel, "--lines", "--wait", "60s"), input=text, text=True, check=True,
                               stdout=subprocess.DEVNULL, timeout=DEADLINE_S * 2)
                out, _ = subscriber.communicate(timeout=DEADLINE_S * 2)
                check(out == text + "\n", f"{channel}: {out[:200]!r}")


def whoever_stays_alone_says_so_and_ends_with_5(scratch):
    with Appliance(scratch, "a") as a:
        for arguments in (("pub", "--count", "1"), ("sub",), ("ping",)):
            code, answer, _ = exit_of(a, *arguments, "--wait", "200ms")
            check(code == 5 and answer["end_reason"] == "timed_out" and not answer["is_connected"], f"{arguments}: {code} {answer}")
        code, _, _ = exit_of(a, "pub", "--channel", "aeron:udp?endpoint=nonsense", "--count", "1")
        check(code == 2, f"a channel that is none ends with {code}")


def a_rate_is_not_exceeded(scratch):
    with Appliance(scratch, "a") as a:
        with ended(a.spawn("sub", "--channel", UDP, "--verify", "--until-end")) as subscriber:
            sent = a.run("pub", "--channel", UDP, "--verify", "--rate", "2000", "--count", "2000", "--wait", "60s")
            check(sent["duration_ns"] >= 990_000_000, f"2000 messages at 2000/s took {sent['duration_ns']} ns")
            expect_whole(finish(subscriber, "sub"), 2000)


def a_stopped_subscriber_stops_the_publisher_and_loses_nothing(scratch):
    count = 1_500_000  # 96 bytes each in the log: more than the window of either channel
    with Appliance(scratch, "a") as a:
        for channel in (IPC, UDP):
            with ended(a.spawn("sub", "--channel", channel, "--verify", "--until-end", "--interval", "50ms")) as subscriber:
                next_progress(subscriber, "sub")
                subscriber.send_signal(signal.SIGSTOP)
                with ended(a.spawn("pub", "--channel", channel, "--verify", "--rate", "0", "--count", str(count), "--interval", "50ms")) as publisher:
                    stalled = lambda: (p := next_progress(publisher, "pub"))["messages_sent"] > 0 and p["messages_per_second"] == 0
                    wait_for(stalled, "stall of the publisher", alive=publisher)
                    subscriber.send_signal(signal.SIGCONT)
                    sent = finish(publisher, "pub")
                    check(sent["messages_sent"] == count and sent["back_pressured"] > 0, f"sent {sent}")
                    expect_whole(finish(subscriber, "sub"), count)


def control_c_ends_each_verb_with_a_summary(scratch):
    with Appliance(scratch, "a") as a:
        with ended(a.spawn("sub", "--verify", "--interval", "50ms")) as subscriber, \
                ended(a.spawn("pub", "--verify", "--rate", "1000", "--interval", "50ms")) as publisher:
            wait_for(lambda: next_progress(subscriber, "sub")["messages_received"] > 0, "messages", alive=publisher)
            publisher.send_signal(signal.SIGINT)
            sent = finish(publisher, "pub")
            check(sent["end_reason"] == "interrupted" and sent["messages_sent"] > 0, f"pub {sent}")
            # It polls on; what was sent is there before it is told to end.
            wait_for(lambda: next_progress(subscriber, "sub")["messages_received"] == sent["messages_sent"], "the rest", alive=subscriber)
            subscriber.send_signal(signal.SIGINT)
            received = finish(subscriber, "sub")
            check(received["end_reason"] == "interrupted", f"sub {received}")
            expect_whole(received, sent["messages_sent"])


def long_messages_are_put_together_again(scratch):
    with Appliance(scratch, "a") as a:
        for channel in (IPC, UDP):
            with ended(a.spawn("sub", "--channel", channel, "--verify", "--until-end")) as subscriber:
                a.run("pub", "--channel", channel, "--verify", "--rate", "0", "--size", "100KiB", "--count", "500", "--wait", "60s")
                received = finish(subscriber, "sub")
                expect_whole(received, 500)
                check(received["bytes_received"] == 500 * 102_400, f"received {received}")


def two_subscribers_both_get_everything(scratch):
    with Appliance(scratch, "a") as a:
        for channel in (IPC, UDP):
            arguments = ("sub", "--channel", channel, "--verify", "--until-end", "--interval", "50ms")
            with ended(a.spawn(*arguments)) as first, ended(a.spawn(*arguments)) as second:
                next_progress(first, "first sub")
                next_progress(second, "second sub")
                a.run("pub", "--channel", channel, "--verify", "--rate", "0", "--count", "50000", "--wait", "60s")
                expect_whole(finish(first, "first sub"), 50_000)
                expect_whole(finish(second, "second sub"), 50_000)


def shared_publishers_are_one_session(scratch):
    with Appliance(scratch, "a") as a:
        with ended(a.spawn("sub", "--until-end", "--interval", "50ms")) as subscriber:
            next_progress(subscriber, "sub")
            publishers = [a.spawn("pub", "--shared", "--rate", "5000", "--count", "5000") for _ in range(2)]
            sent = [finish(p, "pub") for p in publishers]
            check(sent[0]["session_id"] == sent[1]["session_id"], f"sessions {sent}")
            received = finish(subscriber, "sub")
            check(received["messages_received"] == 10_000, f"received {received}")


def a_publisher_killed_inside_a_claim_holds_the_others_up_for_the_unblock_timeout_only(scratch):
    timeouts = ("control-plane: {client-liveness-timeout: 2s, timer-interval: 100ms}\n"
                "streams: {unblock-timeout: 2500ms}\n")
    with Appliance(scratch, "a", timeouts) as a:
        for channel in (IPC, UDP):
            with ended(a.spawn("sub", "--channel", channel, "--verify", "--until-end", "--interval", "50ms")) as subscriber:
                next_progress(subscriber, "sub")
                claimer = subprocess.Popen([CLAIMER, a.directory, channel, "1001"], stdout=subprocess.PIPE, text=True)
                with ended(claimer):
                    check(claimer.stdout.readline() == "claimed\n", "the claimer did not claim")
                    arguments = ("--channel", channel, "--shared", "--verify", "--rate", "500", "--interval", "50ms")
                    with ended(a.spawn("pub", *arguments)) as publisher:
                        wait_for(lambda: next_progress(publisher, "pub")["messages_sent"] > 0, "messages behind the claim", alive=publisher)
                        check(next_progress(subscriber, "sub")["messages_received"] == 0, "messages passed the claim")
                        claimer.kill()
                        wait_for(lambda: next_progress(subscriber, "sub")["messages_received"] > 0, "messages after the time-out", alive=publisher)
                        publisher.send_signal(signal.SIGINT)
                        expect_whole(finish(subscriber, "sub"), finish(publisher, "pub")["messages_sent"])


def a_relay_passes_everything_on_and_shows_in_the_list(scratch):
    relays = f"relays: [{{name: on, from: '{UDP}', to: '{REPLY}', stream: 1001, to-stream: 7}}]\n"
    with Appliance(scratch, "a", relays) as a:
        with ended(a.spawn("sub", "--channel", REPLY, "--stream", "7", "--verify", "--until-end")) as subscriber:
            with ended(a.spawn("pub", "--channel", UDP, "--verify", "--rate", "50000", "--count", "100000", "--wait", "60s")) as publisher:
                is_shown = lambda: [s for s in a.run("stream", "list")["streams"] if s["kind"] == "relay" and s["is_connected"] and s["stream_id"] == 7]
                wait_for(is_shown, "connected relay in the list", alive=publisher)
                finish(publisher, "pub")
                expect_whole(finish(subscriber, "sub"), 100_000)


def verbs_notice_that_the_appliance_has_gone(scratch):
    with Appliance(scratch, "a") as a:
        with ended(a.spawn("sub", "--interval", "50ms")) as subscriber:
            next_progress(subscriber, "sub")
            a.stop()
            started = time.monotonic()
            subscriber.communicate(timeout=DEADLINE_S)
            check(subscriber.returncode == 3, f"sub ended with {subscriber.returncode}")
            check(time.monotonic() - started < 30, "it took too long")


def the_benchmarks_measure_what_arrived(scratch):
    with Appliance(scratch, "a") as a:
        for channel in (IPC, UDP):
            moved = a.run("bench", "throughput", "--channel", channel, "--duration", "200ms", "--repeat", "2")
            check(moved["messages_per_second"] > 0 and moved["corrupt"] == 0 and len(moved["runs"]) == 2, f"{channel}: {moved}")
            trips = a.run("bench", "rtt", "--channel", channel, "--duration", "200ms", "--repeat", "2")
            check(trips["rtt_min_ns"] > 0 and trips["core_to_core_ns"] > 0 and len(trips["runs"]) == 2, f"{channel}: {trips}")


def the_samples_talk_to_each_other(scratch):
    def sample(a, name, *arguments):
        return subprocess.Popen([os.path.join(BUILD, "dataplane", "client", "sample_" + name), *arguments], env={**os.environ, "AERON_DIR": a.directory},
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def text_of(process):
        out, _ = process.communicate(timeout=DEADLINE_S * 2)
        check(process.returncode == 0, f"sample ended with {process.returncode}: {out[-500:]}")
        return out

    with Appliance(scratch, "a") as a:
        check(text_of(sample(a, "typed")).count("instrument ") == 10, "typed does not show ten quotes")
        with ended(sample(a, "ping_pong", "pong")), ended(sample(a, "ping_pong", "ping", "1000")) as ping:
            check("1000 round trips" in text_of(ping), "ping_pong")
        with ended(a.spawn("sub", "--channel", UDP, "--count", "2")) as checker, ended(sample(a, "basic_subscriber", UDP)) as subscriber, \
                ended(sample(a, "basic_publisher", UDP)) as publisher:
            finish(checker, "sub")
            publisher.send_signal(signal.SIGINT)
            check("accepted" in text_of(publisher), "basic_publisher")
            subscriber.send_signal(signal.SIGINT)
            check("message 1" in text_of(subscriber), "basic_subscriber")


CASES = [pings_are_answered_over_ipc_and_udp, lines_of_standard_input_come_out_as_they_went_in, whoever_stays_alone_says_so_and_ends_with_5,
         a_rate_is_not_exceeded, a_stopped_subscriber_stops_the_publisher_and_loses_nothing, control_c_ends_each_verb_with_a_summary,
         long_messages_are_put_together_again, two_subscribers_both_get_everything, shared_publishers_are_one_session,
         a_publisher_killed_inside_a_claim_holds_the_others_up_for_the_unblock_timeout_only,
         a_relay_passes_everything_on_and_shows_in_the_list, verbs_notice_that_the_appliance_has_gone, the_benchmarks_measure_what_arrived, the_samples_talk_to_each_other]

if __name__ == "__main__":
    sys.exit(run_cases(CASES))
