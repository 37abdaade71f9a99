#!/usr/bin/env python3
"""`thalweg upgrade` with real processes: either one, or both, replaced under verified traffic by programs that were installed meanwhile; programs that
cannot take over are refused, and nothing of what runs is touched."""
import os
import shutil
import signal
import struct
import subprocess
import sys

from harness import BUILD, DEADLINE_S, Appliance, check, ended, exit_of, run_cases, wait_for
from survival import IPC, LOOPBACK, PATCH, PORTS, Stream, Traffic, check_new_commands

PROGRAMS = {"thalweg": os.path.join("controlplane", "cli"), "thalweg-controlplane": "controlplane", "thalweg-dataplane": "dataplane"}
VERSION_OFFSET = 8  # of the registry's version, behind its magic number


class Installed(Appliance):
    """An appliance that is started from programs installed in a folder of its own."""

    def __init__(self, scratch):
        super().__init__(scratch, "a", PORTS)
        self.bin = os.path.join(scratch.path, "bin")
        os.mkdir(self.bin)
        for program in PROGRAMS:
            self.install(program)

    def install(self, program, text=None):
        """As package managers do: a new file takes the old one's name, and whoever runs the old one goes on with that. `text`: a script instead."""
        new = os.path.join(self.bin, program + ".new")
        if text is None:
            shutil.copy(os.path.join(BUILD, PROGRAMS[program], program), new)
        else:
            with open(new, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(new, 0o755)
        os.rename(new, os.path.join(self.bin, program))

    def start(self, wait=True):
        with open(self.log_path, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen([os.path.join(self.bin, "thalweg"), "up", "--config", self.config, "--json"], stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, env=self.env)
        if wait:
            wait_for(self.ready_event, "readiness", alive=self.process)

    def planes(self):
        """Process ids by plane. The kernel cuts names after 15 bytes."""
        return {plane: pid for name, pid in self.children().items() for plane in ("control", "data") if name.startswith("thalweg-" + plane)}

    def runs_what_is_installed(self, plane):
        pid, program = (self.process.pid, "thalweg") if plane == "supervisor" else (self.planes()[plane], f"thalweg-{plane}plane")
        return os.stat(f"/proc/{pid}/exe").st_ino == os.stat(os.path.join(self.bin, program)).st_ino


def streams(instance):
    return Traffic(Stream(instance, "loopback", LOOPBACK, 1, 5000), Stream(instance, "ipc", IPC, 2, 5000), Stream(instance, "patch", PATCH, 3, 500, size=3000))


def registered(instance):
    return {(row["id"], row["type_id"], row["label"].split(" name=")[0]) for row in instance.run("stat")["counters"] if row["type_id"] != 0}


def replaced(scratch, planes, *arguments):
    with Installed(scratch) as a, streams(a) as traffic:
        before = registered(a)
        pids, took = a.planes(), {}
        for number in range(3):
            for plane in planes:
                a.install("thalweg" if plane == "supervisor" else f"thalweg-{plane}plane")
            rows = a.run("upgrade", *arguments)["planes"]
            check([row["plane"] for row in rows] == planes, f"replaced were {rows}")
            now = a.planes()
            for plane in ("control", "data"):
                check((now[plane] != pids[plane]) == (plane in planes), f"the {plane} plane was process {pids[plane]} and is {now[plane]}")
                check(a.runs_what_is_installed(plane), f"the {plane} plane runs another file than the one that is installed")
            check(a.runs_what_is_installed("supervisor"), "the supervisor runs another file than the one that is installed")
            for row in rows:
                check(row["release"] == row["release_before"] != "unknown", f"releases {row}")
                took.setdefault(row["plane"], []).append(row["took_ns"] / 1e6)
            pids = now
            check_new_commands(a, number)
            traffic.wait_for_progress("after the upgrade")
            wait_for(lambda: registered(a) == before, "everything registered as it was before")
        total = traffic.finish()
        print("  " + "; ".join(f"{plane} plane replaced in {', '.join(f'{ms:.0f}' for ms in times)} ms" for plane, times in took.items()) + f"; {total} messages, 0 lost")


def the_control_plane_under_traffic(scratch):
    replaced(scratch, ["control"], "--only", "control")


def the_data_plane_under_traffic(scratch):
    replaced(scratch, ["data"], "--only", "data")


def all_under_traffic(scratch):
    replaced(scratch, ["control", "data", "supervisor"])


def the_supervisor_under_traffic(scratch):
    replaced(scratch, ["supervisor"], "--only", "supervisor")


def supervise_after_upgrade(scratch, end):
    """A supervisor that was replaced starts again what dies, and both planes end with it."""
    a = Installed(scratch)
    a.start()
    with ended(a.process):
        a.install("thalweg")
        a.run("upgrade", "--only", "supervisor")
        pids = a.planes()
        for plane in ("data", "control"):
            os.kill(pids[plane], signal.SIGKILL)
            wait_for(lambda p=plane: a.planes().get(p) not in (None, pids[p]), f"another {plane} plane", alive=a.process)
        wait_for(lambda: exit_of(a, "stat")[0] == 0, "an instance that works", alive=a.process)
        check_new_commands(a, 0)
        check(a.log().count('"ready"') == 1, f"ready is told once: {a.log()}")
        pids = a.planes()
        code = a.stop(end)
        check(code == (0 if end == signal.SIGTERM else -end), f"ended with {code}: {a.log()}")
        wait_for(lambda: all(has_ended(pid) for pid in pids.values()), "the end of both planes")


def a_supervisor_that_was_replaced_ends_in_order(scratch):
    supervise_after_upgrade(scratch, signal.SIGTERM)


def a_supervisor_that_was_replaced_and_is_killed_takes_both_with_it(scratch):
    supervise_after_upgrade(scratch, signal.SIGKILL)


def has_ended(pid):
    """Also of one that nobody has collected yet."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def a_supervisor_that_cannot_take_over_is_refused(scratch):
    """A new `thalweg` that does not know the configuration: nothing has changed, and the old one goes on."""
    with Installed(scratch) as a:
        pids = a.planes()
        a.install("thalweg", "#!/bin/sh\necho \"thalweg.yaml:3:1: error: unknown key 'lanes'\" >&2\nexit 1\n")
        upgrade = [os.path.join(BUILD, PROGRAMS["thalweg"], "thalweg"), "upgrade", "--directory", a.directory]
        done = subprocess.run(upgrade, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        check(done.returncode == 3 and "the new supervisor cannot take over" in done.stderr and "unknown key 'lanes'" in done.stderr, f"{done}")
        check(a.planes() == pids, "processes were replaced")
        check_new_commands(a, 0)


def an_instance_of_another_registry_version_is_refused(scratch):
    """The file says that the programs that run are of another release than those that are installed."""
    with Installed(scratch) as a, streams(a) as traffic:
        pids = a.planes()
        with open(os.path.join(a.directory, "registry.dat"), "r+b", buffering=0) as registry:
            registry.seek(VERSION_OFFSET)
            ours = struct.unpack("<I", registry.read(4))[0]
            registry.seek(VERSION_OFFSET)
            registry.write(struct.pack("<I", ours + 1))
            code, document, _ = exit_of(a, "upgrade")
            check(code == 3 and document == {}, f"exit code {code}, {document}")
            told = subprocess.run(a.command("upgrade"), capture_output=True, text=True, timeout=DEADLINE_S, check=False).stderr
            for words in (f"has version {ours + 1}, this program knows {ours}", "stop the instance and start it with one release of both processes"):
                check(words in told, f"'{words}' is missing in: {told}")
            plane = subprocess.run([os.path.join(a.bin, "thalweg-dataplane"), "--config", a.config, "--check"], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
            check(plane.returncode == 1 and f"has version {ours + 1}" in plane.stderr, f"the data plane says {plane.returncode}: {plane.stderr}")
            registry.seek(VERSION_OFFSET)
            registry.write(struct.pack("<I", ours))
        check(a.planes() == pids, "processes were replaced")
        traffic.wait_for_progress("after the refusal")
        traffic.finish()


def programs_that_cannot_take_over_are_refused(scratch):
    """One that says no, one that does not know the configuration, one that is not there: the old ones go on."""
    with Installed(scratch) as a, streams(a) as traffic:
        pids = a.planes()
        refusals = (("#!/bin/sh\necho 'registry.dat has version 9, this program knows 10' >&2\nexit 1\n", "this program knows 10"),
                    ("#!/bin/sh\necho \"thalweg.yaml:3:1: error: unknown key 'lanes'\" >&2\nexit 1\n", "unknown key 'lanes'"))
        for text, words in refusals:
            a.install("thalweg-dataplane", text)
            code, _, told = exit_of(a, "upgrade")
            check(code == 3 and words in told and "the old one goes on" in told, f"exit code {code}: {told}")
        os.remove(os.path.join(a.bin, "thalweg-dataplane"))
        code, _, told = exit_of(a, "upgrade", "--check")
        check(code == 1 and "thalweg-dataplane" in told, f"exit code {code}: {told}")
        a.install("thalweg-dataplane")
        rows = a.run("upgrade", "--check")["planes"]
        check([row["release"] for row in rows] == ["can take over"] * 3, f"{rows}")
        check(a.planes() == pids, "processes were replaced")
        traffic.wait_for_progress("after the refusals")
        traffic.finish()


def an_instance_that_nobody_supervises_is_refused(scratch):
    appliance = Appliance(scratch, "a")
    with open(appliance.log_path, "a", encoding="utf-8") as log:
        planes = [subprocess.Popen([os.path.join(BUILD, PROGRAMS[name], name), "--config", appliance.config], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
                  for name in ("thalweg-controlplane", "thalweg-dataplane")]
    try:
        wait_for(lambda: "instance_ready" in appliance.log(), "readiness", alive=planes[0])
        code, _, told = exit_of(appliance, "upgrade")
        check(code == 1 and "nobody would start the control plane again" in told, f"exit code {code}: {told}")
        check(all(plane.poll() is None for plane in planes), "a process has ended")
    finally:
        for plane in planes:
            plane.terminate()
        for plane in planes:
            plane.wait(DEADLINE_S)


if __name__ == "__main__":
    sys.exit(run_cases([the_control_plane_under_traffic, the_data_plane_under_traffic, all_under_traffic, the_supervisor_under_traffic,
                        a_supervisor_that_was_replaced_ends_in_order,
                        a_supervisor_that_was_replaced_and_is_killed_takes_both_with_it, a_supervisor_that_cannot_take_over_is_refused, an_instance_of_another_registry_version_is_refused,
                        programs_that_cannot_take_over_are_refused, an_instance_that_nobody_supervises_is_refused]))
