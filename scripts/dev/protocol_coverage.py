#!/usr/bin/env python3
"""Puts the rules of the wire protocol beside the tests that prove them.

Usage: protocol_coverage.py [--check] [ROOT]     writes docs/reference/protocol-coverage.md; --check: fails when it is not up to date

Rules are listed in tests/coverage/wire-protocol.txt. Tests say what they prove in a comment `// proves 2.5/3, 2.5/4` (`#` in Python): at the
margin, directly above a test or a case's function; indented or at the end of a line, for the test around it, as beside a row of a table of cases.
Exit 1 with each mistake: an unknown rule, a comment that belongs to no test, a rule without a test that is not marked as later, a mark that
outlived its rule's first test.
"""
import dataclasses
import os
import re
import sys

RULES = "tests/coverage/wire-protocol.txt"
TABLE = "docs/reference/protocol-coverage.md"
SECTION = re.compile(r"^## (\d+(?:\.\d+)?) (.+?)( \(open\))?$")
RULE = re.compile(r"^(\d+)\. (?:\[later: ([^\]]+)\] )?(.+)$")
COMMENT = {".cpp": re.compile(r"// proves (\d.*)$"), ".hpp": re.compile(r"// proves (\d.*)$"), ".py": re.compile(r"# proves (\d.*)$")}
RULE_ID = re.compile(r"^\d+(?:\.\d+)?/\d+$")
TEST = re.compile(r"^(?:TYPED_)?TEST(?:_F|_P)?\((\w+), (\w+)\)")
INSTANCE = re.compile(r"^INSTANTIATE_TEST_SUITE_P\(\s*(\w+),\s*(\w+),")
CASE = re.compile(r"^def (\w+)\(")


@dataclasses.dataclass
class Rule:
    id: str
    text: str
    later: str | None
    is_open: bool
    tests: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Section:
    number: str
    title: str
    rules: list = dataclasses.field(default_factory=list)


class Coverage:
    """The rules of one repository, what its tests say of them, and what is wrong with either."""

    def __init__(self, root):
        self.root = root
        self.sections = []
        self.by_id = {}
        self.problems = []
        self.read_rules()
        for path in self.test_files():
            self.read_tests(path)
        self.judge()

    def open(self, path):
        return open(os.path.join(self.root, path), encoding="utf-8")

    def read_rules(self):
        with self.open(RULES) as file:
            for number, line in enumerate(file, 1):
                line = line.rstrip("\n")
                if not line or line.startswith("# ") or line == "#":
                    continue
                section, rule = SECTION.match(line), RULE.match(line)
                if section:
                    is_open = section[3] is not None
                    if any(s.number == section[1] for s in self.sections):
                        self.problems.append(f"{RULES}:{number}: section {section[1]} is there already")
                    self.sections.append(Section(section[1], section[2]))
                elif rule and self.sections and int(rule[1]) == len(self.sections[-1].rules) + 1:
                    self.add_rule(Rule(f"{self.sections[-1].number}/{rule[1]}", rule[3], rule[2], is_open))
                else:
                    self.problems.append(f"{RULES}:{number}: neither a section nor its next rule: {line}")

    def add_rule(self, rule):
        self.sections[-1].rules.append(rule)
        self.by_id[rule.id] = rule

    def test_files(self):
        for folder, folders, names in os.walk(os.path.join(self.root, "tests")):
            folders.sort()
            for name in sorted(names):
                if os.path.splitext(name)[1] in COMMENT:
                    yield os.path.relpath(os.path.join(folder, name), self.root)

    def read_tests(self, path):
        """Finds the comments of one file and the test that each belongs to."""
        comment_form = COMMENT[os.path.splitext(path)[1]]
        with self.open(path) as file:
            lines = file.read().splitlines()
        has_tests = any(TEST.match(line) or CASE.match(line) for line in lines)
        current = None if has_tests else os.path.basename(path)
        waiting = []  # comments at the margin, for the test below them
        for number, line in enumerate(lines, 1):
            name = test_name(line, lines[number] if number < len(lines) else "")
            if name:
                current = name
                for where, ids in waiting:
                    self.prove(path, where, current, ids)
                waiting = []
            found = comment_form.search(line)
            if found and has_tests and found.start() == 0:
                waiting.append((number, found[1]))
            elif found and current:
                self.prove(path, number, row_name(current, line), found[1])
            elif found or (waiting and not name and line.split(" ")[0] not in ("//", "#")):
                self.problems.append(f"{path}:{waiting[0][0] if waiting else number}: belongs to no test")
                waiting = []

    def prove(self, path, number, test, ids):
        for rule_id in ids.split(", "):
            rule = self.by_id.get(rule_id)
            if not RULE_ID.match(rule_id):
                self.problems.append(f"{path}:{number}: '{ids}' is no list like 2.5/3, 2.5/4")
            elif rule is None:
                self.problems.append(f"{path}:{number}: there is no rule {rule_id} in {RULES}")
            elif (test, path) not in rule.tests:
                rule.tests.append((test, path))

    def judge(self):
        for rule in self.by_id.values():
            if rule.later and rule.tests:
                self.problems.append(f"{RULES}: {rule.id} is proven by {rule.tests[0][0]}; take away '[later: {rule.later}]'")
            elif not (rule.tests or rule.later or rule.is_open):
                self.problems.append(f"{RULES}: {rule.id} has no test: {rule.text}")

    def table(self):
        proven = sum(bool(r.tests) for r in self.by_id.values())
        out = ["# Coverage of the wire protocol", "",
               f"Generated from `{RULES}` and the tests by `scripts/dev/protocol_coverage.py`; do not edit. Rules are numbered within the sections of the",
               "wire protocol's specification.", "",
               f"**{len(self.by_id)} rules, {proven} proven, {len(self.by_id) - proven} missing.**", "",
               "| section | | rules | proven | missing |", "|---|---|---:|---:|---:|"]
        for s in self.sections:
            proven = sum(bool(r.tests) for r in s.rules)
            missing = len(s.rules) - proven
            out.append(f"| [{s.number}](#{anchor(s)}) | {s.title} | {len(s.rules)} | {proven} | {missing or ''} |")
        for s in self.sections:
            out += ["", f"## {s.number} {s.title}", "", "| rule | what it says | proven by |", "|---|---|---|"]
            out += [f"| {r.id} | {cell(r.text)} | {evidence(r)} |" for r in s.rules]
        return "\n".join(out) + "\n"


def test_name(line, next_line):
    """The test that begins in a line; the name of an instantiated suite may stand in the next one."""
    if (test := TEST.match(line)) is not None:
        return f"{test[1]}.{test[2]}"
    if (instance := INSTANCE.match(line + next_line)) is not None:
        return f"{instance[1]}/{instance[2]}"
    case = CASE.match(line)
    return case[1] if case else None


def row_name(test, line):
    """A row of a table of cases goes by its first text."""
    text = re.search(r'"([^"]+)"', line)
    return f"{test}, {text[1]}" if text and "/" in test else test


def cell(text):
    return text.replace("|", "\\|").replace("<", "&lt;")


def anchor(section):
    words = f"{section.number} {section.title}".lower().replace(" ", "-")
    return re.sub(r"[^a-z0-9-]", "", words)


def evidence(rule):
    if rule.tests:
        return "<br>".join(f"[{cell(test)}](../../{path})" for test, path in sorted(rule.tests, key=lambda t: (t[1], t[0])))
    return f"**missing**, later: {cell(rule.later)}" if rule.later else "**missing**"


def main():
    arguments = [a for a in sys.argv[1:] if a != "--check"]
    is_check = "--check" in sys.argv[1:]
    if len(arguments) > 1 or any(a.startswith("-") for a in arguments):
        sys.exit(__doc__)
    coverage = Coverage(arguments[0] if arguments else ".")
    path = os.path.join(coverage.root, TABLE)
    if not is_check:
        with open(path, "w", encoding="utf-8") as file:
            file.write(coverage.table())
    elif not os.path.exists(path) or open(path, encoding="utf-8").read() != coverage.table():
        coverage.problems.append(f"{TABLE} is not up to date; run scripts/dev/protocol_coverage.py")
    for problem in coverage.problems:
        print(problem, file=sys.stderr)
    sys.exit(1 if coverage.problems else 0)


main()
