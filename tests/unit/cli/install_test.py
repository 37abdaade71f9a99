#!/usr/bin/env python3
"""What `meson install` puts where. Files that are no programs are really installed, into a DESTDIR; programs are asked of meson, because
they need a whole build. Usage: install_test.py <build root>"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

PROGRAMS = ["bin/thalweg", "bin/thalweg-controlplane", "bin/thalweg-dataplane"]
FILES = [
    "lib/sysctl.d/60-thalweg.conf",
    "lib/systemd/system/thalweg.service",
    "lib/systemd/system/thalweg@.service",
    "lib/sysusers.d/thalweg.conf",
    "lib/tmpfiles.d/thalweg.conf",
    "lib/udev/rules.d/60-thalweg.rules",
    "share/bash-completion/completions/thalweg",
    "share/man/man1/thalweg.1",
    "share/man/man5/thalweg.yaml.5",
    "share/man/man8/thalweg-controlplane.8",
    "share/man/man8/thalweg-dataplane.8",
    "share/thalweg/default.yaml",
    "share/thalweg/thalweg.schema.json",
]


def fail(message):
    sys.exit(f"install_test: {message}")


def check(is_good, message):
    if not is_good:
        fail(message)


def installed_files(destination, prefix):
    found = set()
    for folder, _, names in os.walk(destination):
        for name in names:
            found.add(os.path.relpath(os.path.join(folder, name), destination + prefix))
    return found


# What ports that need no kernel interface of their own ask the kernel for: both IP versions, and endpoints below 1024.
GRANTED = {"RestrictAddressFamilies": {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_XDP"},
           "AmbientCapabilities": {"CAP_NET_BIND_SERVICE"}, "CapabilityBoundingSet": {"CAP_NET_BIND_SERVICE"}}


def verify_units(destination, prefix):
    """systemd must have nothing to say of the units but that the programs are not installed on this machine; and they grant what ports need."""
    check(shutil.which("systemd-analyze") is not None, "systemd-analyze is not there: scripts/install-packages test")
    folder = os.path.join(destination + prefix, "lib/systemd/system")
    for unit in ("thalweg.service", "thalweg@x.service"):
        result = subprocess.run(["systemd-analyze", "verify", "--man=no", os.path.join(folder, unit)], capture_output=True, text=True)
        said = [line for line in result.stderr.splitlines() if "thalweg" in line and "is not executable: No such file" not in line]
        check(not said, "\n".join(said))
    for unit in ("thalweg.service", "thalweg@.service"):
        with open(os.path.join(folder, unit), encoding="utf-8") as file:
            settings = dict(line.strip().split("=", 1) for line in file if "=" in line and not line.startswith("#"))
        for key, words in GRANTED.items():
            check(words <= set(settings[key].split()), f"{unit}: {key} lacks {sorted(words - set(settings[key].split()))}")


def main():
    build = sys.argv[1]
    meson = shutil.which("meson") or fail("meson is not there")
    options = json.loads(subprocess.run([meson, "introspect", "--buildoptions", build], check=True, capture_output=True, text=True).stdout)
    prefix = next(option["value"] for option in options if option["name"] == "prefix")
    planned = json.loads(subprocess.run([meson, "introspect", "--installed", build], check=True, capture_output=True, text=True).stdout)
    targets = set(planned.values())
    for program in PROGRAMS:
        check(os.path.join(prefix, program) in targets, f"{program} is not installed")
    check(any(target.endswith("/pkgconfig/thalweg.pc") for target in targets), "pkg-config knows nothing of the client")
    with tempfile.TemporaryDirectory() as destination:
        subprocess.run([meson, "install", "-C", build, "--no-rebuild", "--tags", "system,man", "--destdir", destination], check=True, stdout=subprocess.DEVNULL)
        found = installed_files(destination, prefix)
        examples = {f for f in found if f.startswith("share/thalweg/examples/")}
        check(len(examples) >= 3, "the example configurations are missing")
        check(found - examples == set(FILES), f"missing: {sorted(set(FILES) - found)}; not expected: {sorted(found - examples - set(FILES))}")
        unit = open(os.path.join(destination + prefix, "lib/systemd/system/thalweg.service"), encoding="utf-8").read()
        check(f"ExecStart={prefix}/bin/thalweg up" in unit, "the unit starts another program")
        check("@" not in unit, "a place holder is left in the unit")
        verify_units(destination, prefix)
    print("install_test: every file is where it belongs")


main()
