#!/usr/bin/env python3
"""What can be checked of docker/ without an engine: that everything it names is there. Usage: docker_test.py <repository> <thalweg program>"""
import os
import re
import shlex
import subprocess
import sys

ROOT, THALWEG = sys.argv[1:3]
BASES = {"debian:12"}
INSTRUCTIONS = {"FROM", "COPY", "RUN", "WORKDIR", "CMD", "ENTRYPOINT", "ENV"}
problems = []


def check(is_good, message):
    if not is_good:
        problems.append(message)


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def instructions(path):
    text = re.sub(r"\\\n", " ", read(path))
    return [line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def check_copy(path, words):
    source_image = next((w for w in words if w.startswith("--from=")), None)
    if source_image:
        return check(source_image == "--from=build", f"{path}: {source_image} names no stage")
    for source in words[:-1]:
        check(os.path.exists(os.path.join(ROOT, source)), f"{path}: COPY {source}: not in the repository")


# The scripts an instruction calls, by whatever directory they were copied to, and the package lists it names.
def check_scripts(path, text):
    lists = re.findall(r"^packages_(\w+)=", read("scripts/lib/common.sh"), re.M)
    for command in re.split(r"&&|;", text):
        words = shlex.split(command.strip(" []"))
        words = [w.strip(",") for w in words]
        if not words or "scripts/" not in words[0]:
            continue
        script = words[0][words[0].index("scripts/"):]
        check(os.access(os.path.join(ROOT, script), os.X_OK), f"{path}: {script} is no program")
        if script == "scripts/install-packages":
            for name in words[1:]:
                check(name in lists, f"{path}: no package list '{name}'")


def check_dockerfile(path, known_images):
    copied = {text.split()[-1] for instruction, text in instructions(path) if instruction == "COPY"}
    for instruction, text in instructions(path):
        for config in re.findall(r"\"--config\",\s*\"([^\"]+)\"", text):
            check(config in copied, f"{path}: {instruction} uses {config}, which nothing puts there")
        check(instruction in INSTRUCTIONS, f"{path}: unknown instruction {instruction}")
        if instruction == "FROM":
            check(text.split()[0] in known_images, f"{path}: FROM {text}: nobody builds it")
        elif instruction == "COPY":
            check_copy(path, text.split())
        elif instruction in ("RUN", "CMD"):
            check_scripts(path, text)
    tags = re.findall(r"^#\s+docker build -f (\S+) -t (\S+) \.$", read(path), re.M)
    check(len(tags) == 1 and tags[0][0] == path, f"{path}: its first lines do not say how to build it")
    return tags[0][1] if tags else ""


def check_compose(path, images):
    text = read(path)
    for image in re.findall(r"image:\s*(\S+)", text):
        check(image in images, f"{path}: image {image}: nobody builds it")
    mounted = dict(re.findall(r"\"\./([^:\"]+):([^:\"]+):ro\"", text))
    for file in mounted:
        check(os.path.isfile(os.path.join(ROOT, os.path.dirname(path), file)), f"{path}: {file} is not there")
    configs = re.findall(r"\"--config\",\s*\"([^\"]+)\"", text)
    check(configs and set(configs) <= set(mounted.values()), f"{path}: configurations {configs}, mounted {mounted}")
    return [os.path.join(os.path.dirname(path), file) for file in mounted]


# `COPY . /src` must not take a build directory of this machine along: the image would go on with it, at paths that are not there.
def check_ignored():
    path = os.path.join(ROOT, ".dockerignore")
    check(os.path.isfile(path) and "build*/" in read(".dockerignore").split("\n"), ".dockerignore: build*/ is not left out")


images = set(BASES)
check_ignored()
for dockerfile in ("docker/Dockerfile.build", "docker/Dockerfile.runtime"):
    images.add(check_dockerfile(dockerfile, images))
for config in check_compose("docker/compose.yaml", images):
    result = subprocess.run([THALWEG, "config", "check", os.path.join(ROOT, config)], capture_output=True, text=True)
    check(result.returncode == 0, f"{config}: {result.stderr}{result.stdout}")
if problems:
    sys.exit("docker_test:\n" + "\n".join(problems))
print("docker_test: everything named is there")
