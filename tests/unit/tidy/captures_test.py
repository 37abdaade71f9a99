#!/usr/bin/env python3
"""Every recorded capture is replayed: against what sends, against what receives, and none is skipped. Usage: captures_test.py <repository>"""
import os
import re
import sys

ROOT = sys.argv[1]
NO_RECEIVER = {"17-setup-without-receiver.pcap"}  # nobody listened
GOSSIP = {"21-name-resolution-res-frames.pcap"}   # its name frames have a test of their own, too

problems = []


def names_after(path, opening):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return set(re.findall(opening + r'[^;"]*?"([^"]+\.pcap)"', file.read()))


captures = {name for name in os.listdir(os.path.join(ROOT, "tests/data")) if name.endswith(".pcap")}
streams = "tests/component/proto_replay_test.cpp"
appliances = "tests/component/capture_replay_test.cpp"
senders = names_after(streams, r"SenderCase\{") | names_after(appliances, r"PublicationCase\{")
receivers = names_after(streams, r"ReceiverCase\{") | names_after(appliances, r"SubscriptionCase\{")
receivers |= names_after(appliances, r"make\(") & {"15-setup-refused-mtu-over-window.pcap"}
if len(captures) < 21:
    problems.append(f"only {len(captures)} captures in tests/data")
for missing in sorted(captures - senders):
    problems.append(f"{missing} is not replayed against a sender")
for missing in sorted(captures - receivers - NO_RECEIVER):
    problems.append(f"{missing} is not replayed against a receiver")
for missing in sorted(GOSSIP - names_after("tests/unit/names/recorded_gossip_test.cpp", "data_path")):
    problems.append(f"{missing} is not replayed against the gossip of names")
for path in (streams, appliances):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        if re.search(r"DISABLED_|GTEST_SKIP", file.read()):
            problems.append(f"{path} skips something")
for problem in problems:
    print(problem)
sys.exit(1 if problems else 0)
