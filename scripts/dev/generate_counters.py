#!/usr/bin/env python3
"""Generates the counter enum from dataplane/shm/counters.yaml: `generate_counters.py <yaml> <hpp>`, or a Markdown page with --docs."""
import re
import sys


def read(path):
    """Entries of the flow-style YAML list (a subset, so that a bare machine needs no YAML module)."""
    pattern = re.compile(r'^- \{(.*), help: "(.*)"\}$')
    entries = []
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        line = line.rstrip("\n")
        if not line or line.startswith("#"):
            continue
        match = pattern.match(line)
        if not match:
            sys.exit(f"{path}:{number}: not a counter entry")
        entry = dict(field.split(": ") for field in match.group(1).split(", "))
        entry["help"] = match.group(2)
        entries.append(entry)
    return entries


def camel(name):
    return "k" + "".join(word.capitalize() for word in name.split("_"))


def header(entries):
    out = ["// Generated from dataplane/shm/counters.yaml by scripts/dev/generate_counters.py. Do not edit.", "#pragma once",
           "#include <array>", "#include <cstdint>", "#include <string_view>", "", '#include "dataplane/shm/counters.hpp"', "",
           "namespace thalweg::shm {", "", "enum class LaneCounter : std::uint16_t {"]
    out += [f"  {camel(e['name'])},  // {e['help']} [{e['unit']}]" for e in entries]
    out += ["};", f"inline constexpr std::size_t kLaneCounterCount = {len(entries)};", "",
            "struct LaneCounterInfo {", "  std::string_view name;", "  std::string_view unit;", "  std::string_view help;",
            "  std::int32_t stock;  // SystemCounter id it is summed into, -1: none", "};",
            "inline constexpr std::array<LaneCounterInfo, kLaneCounterCount> kLaneCounters{{"]
    for e in entries:
        stock = f"static_cast<std::int32_t>(SystemCounter::{e['stock']})" if "stock" in e else "-1"
        out.append(f'    {{"{e["name"]}", "{e["unit"]}", "{e["help"]}", {stock}}},')
    out += ["}};", "", "}  // namespace thalweg::shm", ""]
    return "\n".join(out)


def docs(entries):
    out = ["# Counters", "", "Generated from `dataplane/shm/counters.yaml`; `thalweg stat` and `thalweg drops` print them.", "",
           "| name | unit | meaning | stock counter |", "|---|---|---|---|"]
    out += [f"| `{e['name']}` | {e['unit']} | {e['help']} | {e.get('stock', '')[1:]} |" for e in entries]
    return "\n".join(out) + "\n"


def main():
    if len(sys.argv) == 4 and sys.argv[1] == "--docs":
        text = docs(read(sys.argv[2]))
    elif len(sys.argv) == 3:
        text = header(read(sys.argv[1]))
    else:
        sys.exit(__doc__)
    open(sys.argv[-1], "w", encoding="utf-8").write(text)


main()
