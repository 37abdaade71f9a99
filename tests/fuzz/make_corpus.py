#!/usr/bin/env python3
"""Makes the seeds in tests/fuzz/corpus from tests/data and a few tables. Run it after a target's input format changed; findings that were
added by hand (crash-*) stay. Usage: tests/fuzz/make_corpus.py"""
import gzip
import random
import struct
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "data"
CONFIG = HERE.parent.parent / "config"


def put(target, name, content):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def frames_of(pcap):
    raw = pcap.read_bytes()
    at = 24
    while at < len(raw):
        length = struct.unpack_from("<I", raw, at + 8)[0]
        yield raw[at + 16:at + 16 + length]
        at += 16 + length


def recorded():
    """One recorded frame of every wire-protocol type, flag byte and short length: name -> Ethernet frame."""
    found = {}
    for pcap in sorted(DATA.glob("*.pcap")):
        for frame in frames_of(pcap):
            payload = frame[42:]
            if len(payload) < 8 or len(frame) > 400:
                continue
            kind, flags = struct.unpack_from("<H", payload, 6)[0], payload[5]
            found.setdefault(f"type{kind:02x}-flags{flags:02x}-{min(len(payload), 64)}", frame)
    return found


def programs(target, count, length, prefixes=(b"",)):
    """Stateful targets read their input as a program; any bytes are one."""
    for i in range(count):
        rng = random.Random(f"{target}{i}")
        put(target, f"program-{i:02d}", prefixes[i % len(prefixes)] + bytes(rng.choice((rng.randrange(256), rng.randrange(16), 0)) for _ in range(length)))


def text(value):
    return struct.pack("<i", len(value)) + value


def archive_control():
    """Requests of the archive's protocol, as clients send them, and programs."""
    def request(kind, numbers, *texts):
        body = struct.pack("<IIqII", 1, kind, 7, len(numbers), len(texts)) + b"".join(struct.pack("<q", n) for n in numbers)
        body += b"".join(struct.pack("<I", len(t)) + t for t in texts)
        return struct.pack("<H", len(body)) + body
    ipc = b"aeron:ipc"
    requests = {"list": request(2, [0, 10, 5, 6, 0], ipc), "position": request(4, [0]), "record": request(5, [4, 1, 1], ipc) * 2 + request(6, [0]), "stop": request(7, [0]),
                "truncate": request(8, [0, 1056]) + request(8, [0, 33]), "purge": request(9, [0]) * 2, "stop-replay": request(11, [0]),
                "replicate": request(12, [3, 10, 0, 640, 1], ipc, ipc) * 2 + request(14, []) + request(13, [0]) * 2, "checksum": request(15, [0, 0, 1 << 62]) + request(15, [0, 32, -1])}
    for name, content in requests.items():
        put("archive_control", name, content)
    put("archive_control", "all", b"".join(requests.values()))
    programs("archive_control", 8, 200, (b"", b"\0\0"))


def fragments():
    """Programs of fragments: number of the datagram, place and length in steps of 256 bytes, whether more follow."""
    def piece(number, at, length, more):
        return bytes([3, number, 0, at, 0, length - 1, int(more), 1])

    whole = [(0, 4, True), (4, 4, True), (8, 2, False)]
    orders = {"in-order": whole, "backwards": whole[::-1], "repeated": whole[:2] + whole, "overlap": [(0, 4, True), (2, 4, True), (8, 2, False)],
              "two-ends": [(4, 2, False), (8, 2, False)], "hole": whole[::2]}
    for name, pieces in orders.items():
        put("fragments", name, b"".join(piece(5, *p) for p in pieces))
    put("fragments", "interleaved", b"".join(piece(n, *p) for p in whole for n in range(6)))
    put("fragments", "too-many", b"".join(piece(n, *whole[0]) for n in range(48)) + b"".join(piece(n, *p) for p in whole for n in range(48)))
    put("fragments", "too-late", piece(5, *whole[0]) + b"\0\xff\1" + b"".join(piece(5, *p) for p in whole))
    put("fragments", "no-buffer", b"\2\0" + piece(5, *whole[0]) + b"\2\1" + b"".join(piece(5, *p) for p in whole))
    put("fragments", "far-end", bytes([3, 5, 1, 0xFF, 0x1F, 1, 0, 1, 0, 1]) + bytes([3, 5, 1, 0xE0, 0x1F, 1, 12, 0, 0, 1]))
    programs("fragments", 8, 400, (b"\3", b"\4"))


def ipv6():
    """Frames of Linux: neighbour and listener discovery, an echo, a datagram."""
    for name, frame in {
        "probe": "3333ff00000a02000000000a86dd6000000000203aff00000000000000000000000000000000ff0200000000000000000001ff00000a87"
            "0044af00000000fd00000000000000000000000000000a0e01440ea0954637",
        "solicitation": "3333ff00000a02000000000b86dd6000000000203afffd00000000000000000000000000000bff0200000000000000000001ff00000a87"
            "007d7300000000fd00000000000000000000000000000a010102000000000b",
        "advertisement": "02000000000b02000000000a86dd6000000000203afffd00000000000000000000000000000afd00000000000000000000000000000b88"
            "001c7860000000fd00000000000000000000000000000a020102000000000a",
        "echo": "02000000000a02000000000b86dd600b17b900403a40fd00000000000000000000000000000bfd00000000000000000000000000000a80"
            "0057893d8300017a71026b00000000b3b1010000000000101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f"
            "3031323334353637",
        "join": "33330000001602000000000b86dd6000000000240001fe80000000000000000000fffe00000bff0200000000000000000000000000163a"
            "000502000001008f006fe40000000104000000ff150000000000000000000000000109",
        "leave": "33330000001602000000000b86dd6000000000240001fe80000000000000000000fffe00000bff0200000000000000000000000000163a"
            "000502000001008f0070e40000000103000000ff150000000000000000000000000109",
        "udp": "02000000000a02000000000b86dd60067eb400101140fd00000000000000000000000000000bfd00000000000000000000000000000a9d"
            "5c9cbb001017447468616c77656721",
    }.items():
        put("ipv6", name, bytes.fromhex(frame))
    source, group = bytes.fromhex("fe80000000000000000000fffe00000b"), bytes.fromhex("ff020000000000000000000000000001")
    for name, code, rest in (("query-v1", 10_000, b""), ("query-v2", 1_000, b"\2\x7d\0\0"), ("query-sources", 0x9234, b"\2\x7d\0\1" + source)):
        message = struct.pack(">BBHHH", 130, 0, 0, code, 0) + bytes(16) + rest
        put("ipv6", name, struct.pack(">IHBB", 0x60000000, 8 + len(message), 0, 1) + source + group + bytes.fromhex("3a00050200000100") + message)


def ip_host6():
    """What neighbours, routers and strangers send to 2001:db8::1; the target puts the checksums right."""
    def frame(message, hops=255, to="20010db8000000000000000000000001", hop_by_hop=b"", protocol=58):
        source = bytes.fromhex("fe80" + "00" * 13 + "02" if hop_by_hop else "20010db8" + "00" * 11 + "02")
        ip = struct.pack(">IHBB", 0x60000000, len(hop_by_hop + message), 0 if hop_by_hop else protocol, hops) + source + bytes.fromhex(to)
        packet = bytes.fromhex("020000000001020000000002") + b"\x86\xdd" + ip + hop_by_hop + message
        return b"\0" + struct.pack("<H", len(packet)) + packet
    ours, peer, mac = bytes.fromhex("20010db8000000000000000000000001"), bytes.fromhex("20010db8000000000000000000000002"), bytes.fromhex("020000000002")
    alert, groups = bytes.fromhex("3a00050200000100"), "ff020000000000000000000000000001"
    asked = b"\x09\2\x0a\2"   # a neighbour is asked for, and a frame waits
    for name, script in {
        "solicitation": frame(bytes([135]) + b"\0" * 7 + ours + b"\1\1" + mac),
        "probe": frame(bytes([135]) + b"\0" * 7 + ours, to="ff0200000000000000000001ff000001"),
        "advertisement": asked + frame(bytes([136, 0, 0, 0, 0x60, 0, 0, 0]) + peer + b"\2\1" + mac) + b"\x04\x70\x17\x08\x09\2",
        "query-v2": b"\x0b\1\x0b\2" + frame(struct.pack(">BBHHH", 130, 0, 0, 1000, 0) + bytes(16) + b"\2\x7d\0\0", 1, groups, alert) + b"\4\xff\0\x08\x0c\1\x08",
        "query-v1": b"\x0b\1" + frame(struct.pack(">BBHHH", 130, 0, 0, 1000, 0) + bytes(16), 1, groups, alert) + b"\4\xff\0\x08\x0c\1\4\xff\0\x08",
        "echo": frame(bytes([128]) + b"\0" * 7 + b"ping", 64) * 2,
        "datagram": frame(struct.pack(">HHHH", 5000, 40456, 40, 0) + bytes(32), 64, protocol=17),
        "announce": b"\x0d\x0d" + b"\4\xff\0\x08" * 3,
    }.items():
        put("ip_host", "ipv6-" + name, b"\4" + script)


def commands():
    head = struct.pack("<qq", 42, 43)
    channel = b"aeron:udp?endpoint=localhost:40123"
    key = struct.pack("<qiii", 7, 77, 1001, len(channel)) + channel
    bodies = [
        head + struct.pack("<i", 1001) + text(channel), head + struct.pack("<qQ", 41, 1), head + struct.pack("<qi", -1, 1001) + text(channel),
        head + struct.pack("<q", 41), head + struct.pack("<q", 41) + text(channel), head + struct.pack("<qq", 41, 40),
        head + struct.pack("<i", 1001) + text(key[:16]) + text(b"label"), head + struct.pack("<qi", 5, 1001) + text(key[:16]) + text(b"label"), head,
        head + text(b"token"), head + struct.pack("<qq", 41, 4096) + text(b"reason"), head + struct.pack("<i", 1001),
        struct.pack("<qi", 43, 1) + text(b"invalid channel"), struct.pack("<qqiiii", 43, 43, 77, 1001, 9, -1) + text(b"/dev/shm/a.logbuffer"),
        struct.pack("<qi", 43, 9), struct.pack("<qiiqi", 43, 77, 1001, 42, 9) + text(b"/dev/shm/a.logbuffer") + text(b"127.0.0.1:40123"),
        struct.pack("<qqi", 43, 42, 1001) + text(channel), struct.pack("<q", 43), struct.pack("<qi", 43, 9), struct.pack("<q", 42),
        struct.pack("<qi", 43, 77),
        struct.pack("<qqiiqqhH", 43, -1, 77, 1001, 1, -1, 1, 40123) + bytes([127, 0, 0, 1] + [0] * 12) + struct.pack("<i", 13) + text(b"rejected"),
    ]
    for kind, body in enumerate(bodies):
        put("commands", f"kind-{kind:02d}", bytes([kind]) + body)


def uris():
    values = [
        "aeron:ipc", "aeron:ipc?term-length=64k|mtu=1408", "aeron-spy:aeron:udp?endpoint=localhost:40123", "aeron:udp?endpoint=[::1]:0|interface=[::1]/64",
        "aeron:udp?endpoint=224.20.30.39:24326|interface=10.1.2.0/24|ttl=4|fc=tagged,g:-7/3,t:2s",
        "aeron:udp?control=localhost:5000|control-mode=dynamic|fc=min,t:500ms|session-id=0x7f|so-sndbuf=2m|so-rcvbuf=2m|rcv-wnd=64k",
        "aeron:udp?endpoint=a.b:1|init-term-id=-5|term-id=3|term-offset=64|term-length=65536|pub-wnd=32k|linger=5s|sparse=false|eos=false",
        "aeron:udp?control-mode=manual|tags=1,2|session-id=tag:1|alias=x|reliable=false|rejoin=false|tether=false|group=true|ssc=true",
        "aeron:udp?endpoint=h:1|untethered-window-limit-timeout=5s|untethered-linger-timeout=2s|untethered-resting-timeout=10s|nak-delay=1ms",
        "aeron:udp?endpoint=h:65536|mtu=1g|mtu=33", "aeron:udp?=|=|a", "aeron:tcp?endpoint=x", "", "aeron:udp?endpoint=h:1|cc=cubic|control-mode=response",
    ]
    for i, value in enumerate(values):
        put("uri", f"uri-{i:02d}", value.encode())


def control():
    values = [
        '{"version":1,"verb":"status","args":{}}', '{"version":1,"verb":"stream-list","args":{"session":77,"x":[1,2.5,null,true,"\\u00e9"]}}',
        '{"version":1,"result":{"streams":[]}}', '{"version":1,"error":{"code":3,"message":"m","hint":"h"}}', '{"version":2,"verb":"status"}',
        '{"version":1,"verb":7}', '{"version":9223372036854775808,"verb":"x"}', '{"version":1,"error":{"code":99999999999}}', "[" * 2000, '{"a":' * 2000,
        '{"version":1,"verb":"\\ud800","args":{"\\ud800":"\\udfff"}}', "nul", "",
    ]
    for i, value in enumerate(values):
        put("control", f"json-{i:02d}", value.encode())
        framed = struct.pack("<I", len(value)) + value.encode()
        put("control", f"record-{i:02d}", b"".join(bytes([63]) + framed[at:at + 64] for at in range(0, len(framed), 64)))


def files():
    cnc = gzip.decompress((DATA / "cnc-with-pub-sub-counters.dat.gz").read_bytes())
    put("files", "cnc-small", b"\0" + struct.pack("<I", 2 << 20) + cnc[:64])
    sizes = struct.pack("<iiiiiiqiq", 0x200, (1 << 16) + 768, (1 << 16) + 128, 4 * 32768, 32768, 65536, 10**10, 4242, 4096)
    put("files", "cnc-fits", b"\0" + struct.pack("<I", 1 << 20) + sizes)
    put("files", "cnc-short", b"\0" + struct.pack("<I", 100) + cnc[:64])
    header = struct.pack("<QII", 0x474552474C414854, 1, 40960) + struct.pack("<Q", 1 << 26)
    put("files", "registry", b"\1\1" + header)
    put("files", "registry-short", b"\1\0" + struct.pack("<I", 4096) + header)
    for name in ("logbuffer-ipc-publication-64k", "logbuffer-udp-image-64k"):
        log = gzip.decompress((DATA / f"{name}.gz").read_bytes())
        put("files", name, b"\2" + struct.pack("<I", len(log)) + log[-4096:-3584])
    put("files", "log-short", b"\2" + struct.pack("<I", 4096) + log[-4096:-3584])


def reports():
    entry = struct.pack("<iiqq", 24 + 5, 3, 1000, 900) + b"error" + b"\0" * 3
    put("reports", "errors", b"\2" + entry + struct.pack("<iiqq", 24 + 2000, 1, 5, 5) + b"x" * 40)
    loss = struct.pack("<qqqqii", 2, 4096, 100, 200, 77, 1001) + text(b"aeron:udp?endpoint=localhost:40123") + b"\0\0" + text(b"127.0.0.1:5000")
    put("reports", "losses", b"\3" + loss + b"\0" * 64 + loss)
    programs("reports", 8, 300, (b"\0", b"\1"))


def segments():
    """Programs of records (and a pad now and then) of the durable log, then places that are written over; and raw bytes."""
    def record(payload, kind=1):
        return bytes([1, len(payload)]) + payload + bytes([kind])

    def program(records, scribbles=b""):
        return bytes([0, 0, 0]) + struct.pack("<H", len(records)) + records + scribbles

    def scribble(at, content):
        return struct.pack("<I", at) + bytes([len(content) - 1]) + content

    few = b"".join(record(b"payload%d" % i) for i in range(9))
    pads = record(b"a") + record(b"x" * 70, 0) + bytes([2]) + record(b"b") + record(b"", 1)
    put("segments", "good", program(few))
    put("segments", "pads", program(pads))
    put("segments", "torn", program(few, scribble(9 * 48 - 3, bytes(3))))
    put("segments", "hole", program(few, scribble(2 * 48, bytes(48))))
    put("segments", "flipped-length", program(few, scribble(3 * 48, b"\xff\x7f")))
    put("segments", "negative-length", program(few, scribble(3 * 48, b"\xd8\xff\xff\xff\0\0\0\0")))
    put("segments", "stale", program(few, scribble(4 * 48 + 8, b"\x09")))
    put("segments", "raw-zeros", bytes([0, 0, 1]) + bytes(64))
    put("segments", "raw-header", bytes([0, 0, 1]) + b"TLGSEG01\1\0\0\0\0\0\0\0" + struct.pack("<Q", 65536))
    put("segments", "raw-hostile", bytes([0, 0, 1]) + b"".join(struct.pack("<IIQ", 8192 - at - 40, 1, 0) for at in range(0, 8152, 16)))
    programs("segments", 6, 300, (bytes([0, 0, 0, 200, 0]), bytes([0, 0, 1])))


def main():
    put("canary", "text", b"\x03abcdef")
    frames = recorded()
    for name, frame in sorted(frames.items()):
        put("frames", name, frame[42:])
    for i, (name, frame) in enumerate(sorted(frames.items())):
        if i % 4 == 0:
            put("ip", name, frame)
            put("ip_host", name, b"\2\0" + struct.pack("<H", len(frame)) + frame)
    me, other = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
    arp = b"\xff" * 6 + other + bytes.fromhex("0806000108000604") + b"\0\1" + other + bytes([10, 1, 0, 2]) + b"\0" * 6 + bytes([10, 1, 0, 1])
    echo = me + other + bytes.fromhex("0800450000240000000040016 6ce0a0100020a010001".replace(" ", "")) + bytes.fromhex("0800e5c800010001") + b"ping"
    tagged = me + other + bytes.fromhex("81000007") + echo[12:]
    igmp = bytes.fromhex("01005e000001") + other + bytes.fromhex("08004600002000000000010 24435".replace(" ", "")) + bytes([10, 1, 0, 9, 224, 0, 0, 1]) + bytes.fromhex("940400001164ee9b00000000")
    for name, frame in (("arp", arp), ("echo", echo), ("vlan", tagged), ("igmp", igmp)):
        put("ip", name, frame)
        put("ip_host", name, (b"\1" if name == "vlan" else b"\0") + (b"\0" + struct.pack("<H", len(frame)) + frame) * 2 + b"\2\2\3\2\4\1\0\5")
    commands()
    fragments()
    ipv6()
    ip_host6()
    uris()
    control()
    files()
    reports()
    for example in sorted((CONFIG / "examples").glob("*.yaml")):
        put("config", example.name, example.read_bytes())
    put("config", "wrong.yaml", b"streams: {mtu: 1409, lingr: 5s, mtu: 1g}\nports: [{name: a, type: patch, address: 1.2.3.4/99}]\n--- \n&a [*a]\n")
    put("config", "override", b"streams.mtu=64KiB\n")
    segments()
    programs("recordings", 12, 400)
    archive_control()
    programs("rings", 8, 200, (b"\0", b"\1"))
    programs("counters", 8, 300)
    programs("log", 8, 300)
    programs("names", 8, 400)
    programs("image", 16, 600, tuple(bytes([b]) for b in (0, 1, 2, 4, 8, 16, 32)))
    programs("publication", 16, 600, tuple(bytes([b]) for b in (0, 1, 2, 4, 8, 16, 64, 128)))
    # Adds and honest answers first, so that the programs find something to work on.
    programs("client", 12, 300, (b"\3\3\3\0\3\1\5\6\6\7", b"\3\0\3\3\5\6\7\x08\x40\0\1\0\x09\x05\1"))
    programs("conductor", 12, 400, (b"\0\0\2\2\0\1\1\7", b"\0\2\2\2\0\1\2\7\x0b\2\0\1\5\7"))


main()
