#!/usr/bin/env python3
"""libthalweg as somebody else finds it: installed into a directory of its own, then small programs built with pkg-config, CMake and Meson, shared
and static, in C++ and C, linked and run. No driver is needed: the programs say that there is none."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

BUILD = pathlib.Path(os.environ["THALWEG_BUILD"])
CPP = """#include <thalweg/thalweg.hpp>
#include <cstdio>
int main() {
  thalweg::client::Context context;
  context.directory = "/nonexistent";
  context.connect_timeout = std::chrono::nanoseconds{0};
  const auto client = thalweg::client::Client::connect(context);
  const auto channel = thalweg::client::ChannelUriBuilder::udp().endpoint("localhost:40123").build();
  std::printf("%d %s\\n", client ? 0 : static_cast<int>(client.error().code), channel->c_str());
}
"""
C = """#include <thalweg/thalweg.h>
#include <stdio.h>
int main(void) {
  thalweg_cnc_t *cnc = NULL;
  printf("%d %s\\n", (int)thalweg_cnc_open("/nonexistent", &cnc), thalweg_version());
  return cnc != NULL;
}
"""
CMAKE = """cmake_minimum_required(VERSION 3.20)
project(consumer C CXX)
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_EXTENSIONS OFF)
find_package(thalweg {version} CONFIG REQUIRED)
foreach(kind thalweg thalweg_static)
  add_executable(cpp_${{kind}} main.cpp)
  target_link_libraries(cpp_${{kind}} PRIVATE thalweg::${{kind}})
  add_executable(c_${{kind}} main.c)
  target_link_libraries(c_${{kind}} PRIVATE thalweg::${{kind}})
endforeach()
"""
MESON = """project('consumer', 'cpp', 'c', default_options: ['cpp_std=c++20', 'c_std=c11'])
thalweg = dependency('thalweg', version: '>= {version}')
executable('cpp_thalweg', 'main.cpp', dependencies: thalweg)
executable('c_thalweg', 'main.c', dependencies: thalweg)
"""
MESON_SUBPROJECT = """project('consumer', 'cpp', 'c', default_options: ['cpp_std=c++20', 'c_std=c11'])
thalweg = dependency('thalweg', version: '>= {version}', fallback: 'thalweg', default_options: ['tests=false', 'optimization=0', 'debug=false'])
executable('cpp_thalweg', 'main.cpp', dependencies: thalweg)
executable('c_thalweg', 'main.c', dependencies: thalweg)
"""
SOURCE = pathlib.Path(__file__).resolve().parents[2]
failures = []


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        print(f"$ {' '.join(map(str, command))}\n{done.stdout}{done.stderr}", file=sys.stderr)
        raise SystemExit(1)
    return done.stdout.strip()


def expect(what, found, wanted):
    print(f"{'ok  ' if found == wanted else 'FAIL'} {what}: {found}")
    if found != wanted:
        failures.append(what)


def main():
    with tempfile.TemporaryDirectory(prefix="thalweg-install-") as name:
        root = pathlib.Path(name)
        destination, work = root / "dest", root / "work"
        work.mkdir()
        run("meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", destination, "--tags", "devel,libthalweg")
        pc = next(destination.rglob("thalweg.pc"))
        library = pc.parent.parent
        prefix = pathlib.Path(run("pkg-config", "--variable=prefix", pc))
        for file in ("libthalweg.so", "libthalweg.so.0", "libthalweg.a"):
            expect(file, (library / file).exists(), True)
        environment = dict(os.environ, PKG_CONFIG_PATH=str(pc.parent), PKG_CONFIG_SYSROOT_DIR=str(destination), LD_LIBRARY_PATH=str(library))
        version = run("pkg-config", "--modversion", "thalweg", env=environment)
        (work / "main.cpp").write_text(CPP, encoding="utf-8")
        (work / "main.c").write_text(C, encoding="utf-8")
        cpp_wanted, c_wanted = "4 aeron:udp?endpoint=localhost:40123", f"3 {version}"

        flags = run("pkg-config", "--cflags", "--libs", "thalweg", env=environment).split()
        private = run("pkg-config", "--static", "--libs", "thalweg", env=environment).split()
        static = ["-l:libthalweg.a" if flag == "-lthalweg" else flag for flag in private]
        includes = run("pkg-config", "--cflags", "thalweg", env=environment).split()
        strict = ["-Wall", "-Wextra", "-Werror"]
        for kind, wanted_flags in (("shared", flags), ("static", includes + static)):
            run("g++", "-std=c++20", *strict, "-Wpedantic", work / "main.cpp", "-o", work / "cpp", *wanted_flags)
            expect(f"pkg-config C++ {kind}", run(work / "cpp", env=environment), cpp_wanted)
            run("gcc", "-std=c11", *strict, "-Wpedantic", work / "main.c", "-o", work / "c", *wanted_flags)
            expect(f"pkg-config C {kind}", run(work / "c", env=environment), c_wanted)

        if shutil.which("cmake") is None:
            raise SystemExit("cmake is not installed: scripts/test installs it")
        (work / "CMakeLists.txt").write_text(CMAKE.format(version=version), encoding="utf-8")
        run("cmake", "-S", work, "-B", root / "cmake", f"-DCMAKE_PREFIX_PATH={destination}{prefix}", "-DCMAKE_C_COMPILER=gcc", "-DCMAKE_CXX_COMPILER=g++")
        run("cmake", "--build", root / "cmake")
        plain = {key: value for key, value in environment.items() if key != "LD_LIBRARY_PATH"}  # CMake gives its programs a run path
        for kind in ("thalweg", "thalweg_static"):
            expect(f"CMake C++ {kind}", run(root / "cmake" / f"cpp_{kind}", env=plain), cpp_wanted)
            expect(f"CMake C {kind}", run(root / "cmake" / f"c_{kind}", env=plain), c_wanted)
        (work / "CMakeLists.txt").write_text(CMAKE.format(version="99.0"), encoding="utf-8")
        later = subprocess.run(["cmake", "-S", str(work), "-B", str(root / "later"), f"-DCMAKE_PREFIX_PATH={destination}{prefix}"], capture_output=True, text=True, check=False)
        expect("CMake refuses another version", later.returncode != 0, True)

        (work / "meson.build").write_text(MESON.format(version=version), encoding="utf-8")
        run("meson", "setup", root / "meson", work, env=dict(environment, CC="gcc", CXX="g++"))
        run("ninja", "-C", root / "meson", env=environment)
        expect("Meson C++", run(root / "meson" / "cpp_thalweg", env=environment), cpp_wanted)
        expect("Meson C", run(root / "meson" / "c_thalweg", env=environment), c_wanted)

        # The same programs, with the library as a part of their own build: nothing is installed.
        (work / "subprojects").mkdir()
        (work / "subprojects" / "thalweg").symlink_to(SOURCE)
        (work / "meson.build").write_text(MESON_SUBPROJECT.format(version=version), encoding="utf-8")
        alone = {key: value for key, value in os.environ.items() if key not in ("PKG_CONFIG_PATH", "LD_LIBRARY_PATH")}
        run("meson", "setup", root / "subproject", work, env=dict(alone, CC="ccache gcc" if shutil.which("ccache") else "gcc", CXX="ccache g++" if shutil.which("ccache") else "g++"))
        run("ninja", "-C", root / "subproject", "-j2", "cpp_thalweg", "c_thalweg", env=alone)
        expect("Meson subproject C++", run(root / "subproject" / "cpp_thalweg", env=alone), cpp_wanted)
        expect("Meson subproject C", run(root / "subproject" / "c_thalweg", env=alone), c_wanted)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
