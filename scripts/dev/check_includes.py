#!/usr/bin/env python3
"""Checks that include arrows point one way and that rte_* stays in pmd/ and dataplane/core/ (house rules). Exit 1 with each breach."""
import os
import re
import subprocess
import sys

# Folder -> folders it may include from (its own is implied).
ARROWS = {
    "dataplane/base": [],
    "dataplane/wire": ["dataplane/base"],
    "dataplane/shm": ["dataplane/base", "dataplane/wire"],
    "dataplane/proto": ["dataplane/base", "dataplane/wire", "dataplane/shm"],
    "pmd": ["dataplane/base", "dataplane/wire", "dataplane/shm"],
    "dataplane/core": ["dataplane/base", "dataplane/wire", "dataplane/shm", "dataplane/proto", "pmd"],
    "dataplane/client": ["dataplane/base", "dataplane/shm", "dataplane/wire/positions.hpp"],
    "config/schema": ["dataplane/base", "dataplane/wire/ipv6.hpp", "pmd/port.hpp"],
    "controlplane/api": ["dataplane/base"],
    "controlplane/archive": ["controlplane/api", "controlplane/log", "dataplane/base", "dataplane/shm", "dataplane/client"],
    "controlplane/cli": ["controlplane/api", "controlplane/archive", "controlplane/log", "dataplane/base", "dataplane/shm", "dataplane/wire", "config/schema", "dataplane/client",
                         "dataplane/core/route.hpp", "dataplane/core/cpu_plan.hpp", "pmd/packet_pool.hpp"],
    "controlplane/conductor": ["controlplane/api", "controlplane/host", "controlplane/names", "dataplane/base", "dataplane/shm", "dataplane/wire", "config/schema", "dataplane/client"],
    "controlplane/log": ["dataplane/base"],
    "controlplane/names": ["dataplane/base", "dataplane/wire"],
    "controlplane/host": ["controlplane/api", "dataplane/base", "dataplane/shm", "dataplane/wire", "config/schema"],
}
DPDK_ALLOWED = ("pmd/", "dataplane/core/", "tests/", "dataplane/main.cpp")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]')


def owner(path):
    best = ""
    for folder in ARROWS:
        if path.startswith(folder + "/") and len(folder) > len(best):
            best = folder
    return best


def main():
    breaches = 0
    files = subprocess.run(["git", "ls-files", "*.cpp", "*.hpp", "*.h", "*.c"], capture_output=True, text=True, check=True).stdout.split()
    for path in files:
        if not os.path.exists(path):
            continue
        folder = owner(path)
        for number, line in enumerate(open(path, encoding="utf-8"), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            kind, target = match.groups()
            if target.startswith("rte_") and not path.startswith(DPDK_ALLOWED):
                print(f"{path}:{number}: {target} outside pmd/ and dataplane/core/", file=sys.stderr)
                breaches += 1
            if kind != '"' or not folder or "/samples/" in path:
                continue
            allowed = ARROWS[folder] + [folder]
            if not any(target == a or target.startswith(a + "/") for a in allowed):
                print(f"{path}:{number}: {folder} may not include {target}", file=sys.stderr)
                breaches += 1
    sys.exit(1 if breaches else 0)


main()
