"""The measurements behind scripts/bench: Google Benchmark programs and whole appliances, one table and one JSON document."""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from types import SimpleNamespace
from typing import NamedTuple

from appliance import BUILD, Appliance, Failure, finish

LEFT, RIGHT, PORT = "10.77.1.1", "10.77.1.2", 40123
PATCH = (f"ports:\n  - {{name: left, type: patch, address: {LEFT}/24, peer: right}}\n"
         f"  - {{name: right, type: patch, address: {RIGHT}/24, peer: left}}\n"
         "streams: {receiver-window: 2MiB, socket-rcvbuf: 2MiB}\n")


class Result:
    """One line: a figure, what it was measured against in this run, and what it ought to be."""

    def __init__(self, name, unit, values, target, ceiling=None, at_most=True, is_ratio=True):
        self.name, self.unit, self.values, self.target, self.ceiling, self.at_most = name, unit, values, target, ceiling, at_most
        self.is_ratio = is_ratio and ceiling is not None  # what the target is: a multiple of the ceiling, or a value of its own

    @property
    def median(self):
        return statistics.median(self.values)

    @property
    def judged(self):
        """What the target is compared with."""
        return self.ratio if self.is_ratio else self.median

    @property
    def ratio(self):
        return self.median / self.ceiling if self.ceiling else None

    @property
    def is_met(self):
        if self.target is None:
            return None
        return self.judged <= self.target if self.at_most else self.judged >= self.target

    def document(self):
        return {"figure": self.name, "unit": self.unit, "median": self.median, "minimum": min(self.values), "maximum": max(self.values),
                "samples": len(self.values), "ceiling": self.ceiling, "ratio": self.ratio, "target": self.target,
                "direction": "at_most" if self.at_most else "at_least", "is_met": self.is_met}


# ---- Google Benchmark ---------------------------------------------------------------------------------------------------------------


def is_of(run_name, benchmark):
    """Google Benchmark appends its settings to a name: name/288/manual_time, name/32/min_time:0.200."""
    rest = run_name[len(benchmark):].split("/")
    return run_name.startswith(benchmark) and rest[0] == "" and all(":" in part or not part.isdigit() for part in rest[1:])


class Program(NamedTuple):
    """A benchmark program; one that `needs_veth` runs in a network namespace with a veth pair to another."""
    name: str
    arguments: tuple = ()
    needs_veth: bool = False

    @property
    def command(self):
        path = os.path.join(BUILD, "tests", "bench", self.name)
        wrapper = [sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "namespaces.py")] if self.needs_veth else []
        return [*wrapper, path, *self.arguments]


def execute(program, *arguments):
    """Runs a program to its end and answers what it printed."""
    if program.needs_veth and os.geteuid() != 0:
        raise Failure("needs root, for network namespaces")
    done = subprocess.run([*program.command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, timeout=900)
    if done.returncode != 0:
        raise Failure(f"{program.name} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


class Programs:
    """Runs a Google Benchmark program once and answers its samples by benchmark name."""

    def __init__(self, repetitions):
        self.repetitions = repetitions
        self.cache = {}

    def samples(self, program, benchmark, value="real_time"):
        if isinstance(program, str):
            program = Program(program)
        if program not in self.cache:
            self.cache[program] = self._run(program)
        found = [entry[value] for entry in self.cache[program]
                 if is_of(entry["run_name"], benchmark) and entry["run_type"] == "iteration" and value in entry]
        if not found:
            errors = {entry["error_message"] for entry in self.cache[program] if is_of(entry["run_name"], benchmark) and "error_message" in entry}
            raise Failure(f"{program.name} has no benchmark {benchmark} with {value} {', '.join(errors)}")
        return found

    def _run(self, program):
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            execute(program, f"--benchmark_repetitions={self.repetitions}", f"--benchmark_out={out.name}", "--benchmark_out_format=json",
                    "--benchmark_enable_random_interleaving=true")
            return json.load(out)["benchmarks"]


def ipc_throughput(context):
    rates = [rate / 1e6 for rate in context.programs.samples("ipc_bench", "throughput", "median_per_second")]
    return [Result("IPC 32 B, two threads (driver played by the subscriber's thread)", "M msg/s", rates, 1.2 * 38, at_most=False)]


def ratio(name, program, measured, ceilings, target, value="real_time", unit="ns"):
    """A figure of `program` against the sum of its bare parts in the same run."""
    def measure(context):
        ceiling = sum(statistics.median(context.programs.samples(program, part, value)) for part in ceilings)
        return [Result(name, unit, context.programs.samples(program, measured, value), target, ceiling)]
    return measure


def absolute(name, program, measured, target, value="real_time", unit="ns", at_most=True):
    def measure(context):
        return [Result(name, unit, context.programs.samples(program, measured, value), target, at_most=at_most)]
    return measure


# ---- whole appliances ---------------------------------------------------------------------------------------------------------------


def one_throughput(appliance, size, term_length, seconds):
    channel = f"aeron:udp?endpoint={RIGHT}:{PORT}|term-length={term_length}"
    subscriber = appliance.spawn("sub", "--channel", channel, "--until-end", "--wait", "30s")
    publisher = appliance.spawn("pub", "--channel", channel, "--rate", "0", "--size", str(size), "--duration", f"{seconds}s")
    sent, received = finish(publisher, "pub"), finish(subscriber, "sub")
    if sent["messages_sent"] != received["messages_received"]:
        raise Failure(f"{sent['messages_sent']} sent, {received['messages_received']} received")
    return received["messages_per_second"] / 1e6


def processes(context):
    """Publisher, data plane and subscriber as processes of their own, a patch cable between two ports of the data plane.

    A log goes round its three terms: those of 1 MiB stay in a core's caches, those of the default length come from memory each time.
    """
    results = []
    with Appliance(context.scratch, "bench", PATCH) as appliance:
        for size, target in ((288, 9), (32, 25), (1376, 2.5), (1408, 1.5)):
            for term_length, is_judged in (("1m", True), ("16m", False)):
                rates = [one_throughput(appliance, size, term_length, context.seconds) for _ in range(context.repetitions)]
                note = " (two fragments)" if size == 1408 else ""
                name = f"processes over a patch cable, {size} B{note}, terms of {term_length[:-1]} MiB"
                results.append(Result(name, "M msg/s", rates, target if is_judged else None, at_most=False))
    return results


def pss_mib(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        fields = {line.split(":")[0]: line.split()[1] for line in file if ":" in line}
    return (int(fields["Pss"]) + int(fields.get("Private_Hugetlb", 0)) + int(fields.get("Shared_Hugetlb", 0))) / 1024


def start_and_memory(context):
    starts, memory = [], []
    for number in range(context.repetitions):
        with Appliance(context.scratch, f"start{number}") as appliance:
            starts.append(appliance.ready_event()["took_ns"] / 1e6)
            memory.append(sum(pss_mib(pid) for pid in appliance.children().values()))
    return [Result("start to ready", "ms", starts, 500), Result("memory of the default configuration, PSS and hugetlb", "MiB", memory, 256)]


# ---- lanes ---------------------------------------------------------------------------------------------------------------------------


# What lane_bad_input/1 and the following mix with good frames.
BAD_INPUT = ("not IP", "broken frames", "no such port", "data of unknown sessions", "SETUPs of unknown sessions", "status messages of strangers",
             "NAKs of strangers", "ARP", "IGMP", "the other lane's")


def lanes(context):
    """A lane's way in and out, one thread doing all, idle streams beside: against bare loops (tests/bench/README.md)."""
    item = "ns_per_item"

    def of(benchmark):
        return context.programs.samples("lane_bench", benchmark, item)

    results = []
    for what, target, absolute_target in (("receive", 2.4, 8), ("send", 1.9, 6)):
        for frames in (1, 14):
            bare = statistics.median(of(f"bare_{what}/{frames}"))
            results.append(Result(f"lane {what}, 64 B, {frames} a datagram", "ns/frame", of(f"lane_{what}/{frames}"), target, bare))
        results.append(Result(f"lane {what}, 64 B, 14 a datagram, absolute", "ns/frame", of(f"lane_{what}/14"), absolute_target))
    for frames in (1, 14):
        both = statistics.median(of(f"lane_receive/{frames}")) + statistics.median(of(f"lane_send/{frames}"))
        results.append(Result(f"relay, 64 B, {frames} a datagram", "ns/frame", of(f"lane_relay/{frames}/0"), 1.1, both))
    bare = statistics.median(of("bare_send/1"))
    to_one = statistics.median(of("lane_fan_out/1/64"))
    for count in (8, 64):
        extra = [(count * per_frame - to_one) / (count - 1) for per_frame in of(f"lane_fan_out/{count}/64")]
        results.append(Result(f"each further of {count} destinations, 64 B", "ns/frame", extra, 1.5, bare))
    for size in (32, 288, 1376):
        bare = statistics.median(of(f"bare_path/{size}"))
        results.append(Result(f"one thread doing all, {size} B", "ns/message", of(f"lane_path/{size}"), 1.5, bare))
    for kind, count, target, base in (("connected", 1000, 1.1, "connected"), ("untouched", 1000, None, "connected"), ("unconnected", 4095, 1.1, "unconnected")):
        alone = statistics.median(of(f"lane_path_idle_{base}/288/0"))
        results.append(Result(f"one busy stream beside {count} idle {kind}", "ns/message", of(f"lane_path_idle_{kind}/288/{count}"), target, alone))
    for good_per_bad, target, stream in ((100, 1.1, "10 M"), (10, None, "1 M")):
        clean = statistics.median(of(f"lane_bad_input/0/1/{good_per_bad}"))
        for kind, what in enumerate(BAD_INPUT, 1):
            times = of(f"lane_bad_input/{kind}/1/{good_per_bad}")
            results.append(Result(f"one of {stream} good frames/s beside 100 k bad: {what}", "ns/frame", times, target, clean))
    few = statistics.median(of("lane_crowd/64/64"))
    results.append(Result("64 busy streams among 4,096 publications and 16,384 images", "ns/message", of("lane_crowd/4096/16384"), 1.15, few))
    return results


def goodput(context):
    """Simulated time, 10 Gbit/s, 20 us each way: our repair against the loss-free link; stock rules for information."""
    def of(loss, is_ours, window):
        return context.programs.samples("lane_bench", f"goodput/{loss}/{is_ours}/{window}", "goodput_MB_per_s")

    results = []
    for window in (512, 128):
        clean = statistics.median(of(0, 1, window))
        for loss, target in ((1, 0.90), (5, 0.75), (10, 0.60)):
            results.append(Result(f"goodput at {loss} % loss, our repair, window {window} KiB", "MB/s", of(loss, 1, window), target, clean, at_most=False))
            results.append(Result(f"goodput at {loss} % loss, stock rules, window {window} KiB", "MB/s", of(loss, 0, window), None, clean))
    for is_ours, name, target in ((1, "our repair", 100_000), (0, "stock rules", None)):
        taken = context.programs.samples("lane_bench", f"recovery/{is_ours}", "recovery_p99_ns")
        results.append(Result(f"repair of a single loss, 20 us each way, p99, {name}", "ns", taken, target))
    return results


# ---- ports and conductor --------------------------------------------------------------------------------------------------------------


def round_trip_veth(context):
    """Two processes on two CPUs: appliances against frames bounced through the same ports (tests/bench/veth_bench.cpp)."""
    results = []
    for kind in ("af_xdp", "af_packet"):
        program = Program("veth_bench", (kind,), needs_veth=True)
        for size, target in ((32, 2), (1376, None)):
            bare = statistics.median(context.programs.samples(program, f"bare_round_trip/{kind}/{size}", "p50_ns"))
            times = context.programs.samples(program, f"round_trip/{kind}/{size}", "p50_ns")
            results.append(Result(f"round trip {size} B, two processes, {kind} on veth, p50", "ns", times, target, bare))
    return results


def ports(context):
    """Bare frames between two ports, the far end in another process but for the patch cable: ceilings of everything that uses such a port."""
    results = []
    for kind in ("patch", "memif", "af_packet", "af_xdp"):
        program = Program("pmd_bench", (f"--benchmark_filter=^{kind}/",), needs_veth=kind.startswith("af_"))
        for size in (64, 1408):
            rates = [rate / 1e6 for rate in context.programs.samples(program, f"{kind}/throughput/{size}", "items_per_second")]
            results.append(Result(f"bare {kind}, {size} B payload, there and back", "M frames/s", rates, None, at_most=False))
        trips = [1e9 / rate for rate in context.programs.samples(program, f"{kind}/round_trip/64", "items_per_second")]
        results.append(Result(f"bare {kind} round trip, 64 B payload, mean", "ns", trips, None))
    return results


def conductor(context):
    """What clients wait for and what waiting costs; the one wake-up that every answer needs stands beside it."""
    samples = {}
    for _ in range(context.repetitions):
        for line in execute(Program("conductor_bench")).splitlines():
            document = json.loads(line)
            samples.setdefault(document["figure"], []).append(document["value"])
    bare = statistics.median(samples["wake_and_answer"]) / 1000
    results = []
    for figure, text, target in (("ready_ipc_pooled", "READY of a publication, IPC, p50", 200), ("ready_udp_pooled", "READY of a publication, UDP, p50", 200),
                                 ("ready_ipc_made_on_demand", "READY of a publication, log not in the pool, p50", None),
                                 ("usable_ipc_pooled", "publication mapped by its client, IPC, p50", None),
                                 ("usable_udp_pooled", "publication mapped by its client, UDP, p50", None),
                                 ("setup_to_status_message", "SETUP to its first status message, p50", 300),
                                 ("add_to_first_status_message", "adding a publication to its first status message, p50", None)):
        results.append(Result(text, "us", [value / 1000 for value in samples[figure]], target, bare, is_ratio=False))
    results.append(Result("idle conductor", "% of a core", samples["idle_conductor"], 5))
    return results


def clients(context):
    """Many streams and clients that come and go, beside streams that stay (tests/bench/clients_bench.cpp)."""
    samples = {}

    def measure(appliance, *arguments):
        for line in execute(Program("clients_bench"), appliance.directory, *arguments).splitlines():
            document = json.loads(line)
            samples.setdefault(document["figure"], []).append(document["value"])

    channel = f"aeron:udp?endpoint={RIGHT}:{PORT}|term-length=1m"
    count = "2000" if context.repetitions < 5 else "10000"
    for _ in range(context.repetitions):
        with Appliance(context.scratch, "churn", PATCH.replace("streams: {", "streams: {linger: 100ms, ") + "dataplane: {lanes: [{}]}\n") as appliance:
            measure(appliance, "churn", count, "4000", channel)
        with Appliance(context.scratch, "attach") as appliance:
            measure(appliance, "attach", "500")
    ready = {}
    for term in ("64k", "16m"):
        with Appliance(context.scratch, "ready" + term) as appliance:
            for _ in range(context.repetitions):
                measure(appliance, "ready", f"aeron:ipc?term-length={term}", "50")
        ready[term] = [value / 1000 for value in samples.pop("ready_ns")]
    text = f"beside {count} publications and subscriptions made and closed"
    results = [Result(f"lane of a busy stream {text}, CPU time", "ns/message", samples["churn_cpu_ns_per_message"], 1.05, statistics.median(samples["quiet_cpu_ns_per_message"])),
               Result(f"lane of a busy stream {text}, ticks", "ticks/message", samples["churn_ticks_per_message"], None, statistics.median(samples["quiet_ticks_per_message"])),
               Result("longest turn of that lane", "us", [value / 1000 for value in samples["turn_ns_max"]], None),
               Result("a publication and a subscription made there", "us", [value / 1000 for value in samples["pair_ns"]], None),
               Result("READY of a publication, terms of 64 KiB, p50", "us", ready["64k"], 200),
               Result("READY of a publication, terms of 16 MiB, p50", "us", ready["16m"], 2000),
               Result("500 clients attached at once", "ms", [value / 1e6 for value in samples["attach_ns"]], None),
               Result("conductor with 500 clients", "% of a core", samples["conductor_share"], None),
               Result("longest cycle of that conductor", "us", [value / 1000 for value in samples["conductor_cycle_ns_max"]], 100_000),
               Result("errors that 500 clients were told", "", samples["errors"], 0)]
    return results


SURVIVAL_KINDS = {"control": "control plane", "data": "data plane", "supervised": "data plane of `thalweg up`", "both": "both planes"}


def survival(context):
    """The longest time that a subscriber heard nothing, for each kill under traffic, beside what the machine does to it undisturbed."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "smoke", "survival.py")
    results = []
    for kind, target in (("control", None), ("data", 1000), ("supervised", 1000), ("both", 1000)):
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            done = subprocess.run([sys.executable, script, kind, "--count", str(4 * context.repetitions), "--json", out.name], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, check=False, timeout=900)
            if done.returncode != 0:
                raise Failure(f"survival.py {kind}: {done.stdout[-1000:]}")
            told = json.load(out)[0]
        results.append(Result(f"pause of running streams, kill -9: {SURVIVAL_KINDS[kind]}", "ms", told["pauses_ms"], target, told["undisturbed_ms"], is_ratio=False))
    return results


# ---- the durable log -----------------------------------------------------------------------------------------------------------------


def fio_bandwidth(directory, block_bytes, *arguments):
    """Bytes a second that fio writes one behind the other into an allocated file."""
    command = ["fio", "--name=log", f"--directory={directory}", "--rw=write", f"--bs={block_bytes}", "--fallocate=posix", "--ioengine=psync", "--output-format=json", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, timeout=120)
    if done.returncode != 0:
        raise Failure(f"fio ended with {done.returncode}: {done.stderr[-500:]}")
    for name in os.listdir(directory):
        if name.startswith("log."):
            os.remove(os.path.join(directory, name))
    return json.loads(done.stdout)["jobs"][0]["write"]["bw_bytes"]


def lane_beside_a_recording(context, directory):
    """What the data plane's path of a datagram costs while another process records onto the disk, and without that."""
    def lane():
        return Programs(context.repetitions).samples(Program("lane_bench", ("--benchmark_filter=^lane_receive/14",)), "lane_receive/14")
    alone = lane()
    environment = dict(os.environ, THALWEG_BENCH_DIRECTORY=directory)
    recorder = subprocess.Popen([os.path.join(BUILD, "tests", "bench", "replay_bench"), "--benchmark_filter=^record/", "--benchmark_repetitions=1000"],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        beside = lane()
    finally:
        recorder.terminate()
        recorder.wait()
    return Result("lane, receive, while a process records (ceiling: without it)", "ns", beside, 1.03, statistics.median(alone))


def log(context):
    """The durable log beside copies of the same bytes in memory, and beside fio on the same disk."""
    directory = os.path.join(BUILD, "log-bench")  # of a disk, not of memory
    os.makedirs(directory, exist_ok=True)
    os.environ["THALWEG_BENCH_DIRECTORY"] = directory
    def of(benchmark, value="cpu_time"):
        return context.programs.samples("log_bench", benchmark, value)
    results = []
    for batch, text, target in ((1, "one", 150), (100, "100", 4_000), (10_000, "10,000", 250_000)):
        results.append(Result(f"append 64 B, accepted, batch of {text}", "ns", of(f"append/batch:{batch}/ready:1"), target,
                              statistics.median(of(f"copy/batch:{batch}")), is_ratio=False))
    for writers in (1, 2, 4):
        results.append(Result(f"append 64 B, one shard, writers: {writers}", "ns", of(f"append_shared/iterations:200000/real_time/threads:{writers}", "real_time"), 1_000))
    results.append(Result("acknowledge, in batches of 100", "ns", [value / 100 for value in of("acknowledge/batch:100")], 20))
    results.append(Result("acknowledge, one at a time", "ns", of("acknowledge/batch:1"), 20))
    block = 1_000 * 104  # a record is header and payload
    durable = ("--size=256m", "--fdatasync=1", "--time_based", f"--runtime={context.seconds}")
    bandwidths = [fio_bandwidth(directory, block, *durable) / 1e6 for _ in range(context.repetitions)]
    results.append(Result("append, durable, 1,000 x 64 B (ceiling: fio, same blocks and syncs)", "MB/s",
                          [value / 1e6 for value in of("append_durable", "bytes_per_second")], 0.9, statistics.median(bandwidths), at_most=False))
    results.append(Result("read from the page cache, 64 KiB payloads", "GB/s", [value / 1e9 for value in of("read/payload:65536", "bytes_per_second")], 3, at_most=False))
    small = statistics.median(of("reopen_killed/GB:1", "real_time"))
    results.append(Result("reopen 20 GB after kill -9 (ceiling: 1 GB)", "ms", of("reopen_killed/GB:20", "real_time"), 1_000, small, is_ratio=False))
    def replay(benchmark):
        return [value / 1e9 for value in context.programs.samples("replay_bench", benchmark, "bytes_per_second")]
    results.append(Result("replay, read side, from the page cache, frames of 1,056 B", "GB/s", replay("replay_read/payload:1024"), 3, at_most=False))
    results.append(Result("replay into an IPC publication (ceiling: messages offered to it), frames of 1,056 B", "GB/s", replay("replay_into_ipc/payload:1024"), 0.6,
                          statistics.median(replay("offer_into_ipc/payload:1024")), at_most=False))
    sequential = [fio_bandwidth(directory, 128 << 10, "--size=1g", "--end_fsync=1") / 1e9 for _ in range(context.repetitions)]
    results.append(Result("record a stream, blocks of 128 KiB, 1 GiB and its sync (ceiling: fio, the same)", "GB/s",
                          [value / 1e9 for value in context.programs.samples("replay_bench", "record/payload:1024", "bytes_per_second")], 0.9, statistics.median(sequential), at_most=False))
    results.append(lane_beside_a_recording(context, directory))
    shutil.rmtree(directory, ignore_errors=True)
    return results


FIGURES = {
    "log": log,
    "lanes": lanes,
    "goodput": goodput,
    "ipc-throughput": ipc_throughput,
    "ipc-round-trip": ratio("IPC round trip 32 B, two threads", "ipc_bench", "ipc_round_trip", ["cache_line_round_trip"], 1.4, "median_ns"),
    "round-trip": absolute("round trip 32 B, one thread as both ends, loopback port, p50", "round_trip_bench", "round_trip/loopback/32", 1200, "p50_ns"),
    "round-trip-veth": round_trip_veth,
    "ports": ports,
    "conductor": conductor,
    "clients": clients,
    "survival": survival,
    "processes": processes,
    "start": start_and_memory,
}


def show(results):
    rows = [("FIGURE", "MEDIAN", "SPREAD", "CEILING", "RATIO", "TARGET", "")]
    for r in results:
        spread = f"{min(r.values):.4g}..{max(r.values):.4g}"
        target = "" if r.target is None else f"{'<=' if r.at_most else '>='} {r.target:g}" + ("x" if r.is_ratio else "")
        verdict = {True: "met", False: "MISSED", None: ""}[r.is_met]
        rows.append((r.name, f"{r.median:.4g} {r.unit}", spread, f"{r.ceiling:.4g}" if r.ceiling else "-", f"{r.ratio:.2f}x" if r.ceiling else "-", target, verdict))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Figures with their ceilings of the same run.")
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help="only these; see --list")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs: a first impression")
    parser.add_argument("--json", metavar="FILE", help="also write the results there")
    parser.add_argument("--list", action="store_true", help="names of the figures")
    options = parser.parse_args()
    if options.list:
        print("\n".join(FIGURES))
        return 0
    unknown = [name for name in options.figures if name not in FIGURES]
    if unknown:
        parser.error(f"unknown figure {unknown[0]}; one of: {' '.join(FIGURES)}")
    results, failures = [], 0
    with tempfile.TemporaryDirectory(prefix="thalweg-bench-", dir="/dev/shm") as path:
        repetitions = 3 if options.quick else 5
        context = SimpleNamespace(path=path, scratch=SimpleNamespace(path=path), programs=Programs(repetitions), repetitions=repetitions,
                                  seconds=1 if options.quick else 3)
        for name in options.figures or FIGURES:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            try:
                results += FIGURES[name](context)
            except Failure as error:
                failures += 1
                print(f"error: {name}: {error}", file=sys.stderr)
    show(results)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"cpus": os.cpu_count(), "results": [r.document() for r in results]}, file, indent=1)
    return 1 if failures else 0


sys.exit(main())
