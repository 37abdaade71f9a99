#!/usr/bin/env python3
"""The coverage table of the wire protocol: what its generator takes and refuses, and that the table is up to date. Usage: coverage_test.py <repository>"""
import os
import subprocess
import sys
import tempfile

ROOT = sys.argv[1]
GENERATOR = os.path.join(ROOT, "scripts/dev/protocol_coverage.py")
RULES = "tests/coverage/wire-protocol.txt"
TABLE = "docs/reference/protocol-coverage.md"
problems = []

GOOD_RULES = """# a remark
## 1.1 Headers
1. The first.
2. The second | of two.
3. [later: IPv6] The third.

## 2 Names (open)
1. The open one.
"""
GOOD_TESTS = {
    "tests/unit/a_test.cpp": """// proves 1.1/1
// What it is about.
TEST(Headers, first) {
  EXPECT_EQ(1, 1);  // proves 1.1/2
}
class Rows : public Test {};
INSTANTIATE_TEST_SUITE_P(
    Spec, Rows,
    Values(Row{"a row", 1},  // proves 1.1/2
           Row{"another", 2}));
""",
    "tests/smoke/b.py": "def a_case():\n    run()  #" " proves 1.1/1\n",
    "tests/sim/checks.cpp": "void check() {\n  // proves 1.1/1\n}\n",
}


def check(is_good, message):
    if not is_good:
        problems.append(message)


def write(root, path, text):
    path = os.path.join(root, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def run(root, *arguments):
    done = subprocess.run([sys.executable, GENERATOR, *arguments, root], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def repository(scratch, rules=GOOD_RULES, **changed):
    root = tempfile.mkdtemp(dir=scratch)
    os.makedirs(os.path.join(root, "docs/reference"))
    write(root, RULES, rules)
    for path, text in {**GOOD_TESTS, **changed}.items():
        write(root, path, text)
    return root


def the_table_names_each_rule_and_its_tests(scratch):
    root = repository(scratch)
    check(run(root) == (0, ""), f"good repository: {run(root)}")
    with open(os.path.join(root, TABLE), encoding="utf-8") as file:
        table = file.read()
    for line in ("**4 rules, 2 proven, 2 missing.**", "| [1.1](#11-headers) | Headers | 3 | 2 | 1 |", "| [2](#2-names) | Names | 1 | 0 | 1 |",
                 "| 1.1/1 | The first. | [checks.cpp](../../tests/sim/checks.cpp)<br>[a_case](../../tests/smoke/b.py)"
                 "<br>[Headers.first](../../tests/unit/a_test.cpp) |",
                 "| 1.1/2 | The second \\| of two. | [Headers.first](../../tests/unit/a_test.cpp)<br>[Spec/Rows, a row](../../tests/unit/a_test.cpp) |",
                 "| 1.1/3 | The third. | **missing**, later: IPv6 |", "| 2/1 | The open one. | **missing** |"):
        check(line + "\n" in table, f"the table has no line {line}:\n{table}")
    check(run(root, "--check") == (0, ""), "a new table is up to date")
    write(root, TABLE, table + "x")
    check("not up to date" in run(root, "--check")[1] and run(root, "--check")[0] == 1, "a stale table passed")
    os.remove(os.path.join(root, TABLE))
    check(run(root, "--check")[0] == 1, "a missing table passed")


def every_mistake_is_found(scratch):
    a_test = GOOD_TESTS["tests/unit/a_test.cpp"]
    for what, rules, test, expected in (
            ("a rule without a test", GOOD_RULES.replace("3. [later: IPv6] ", "3. "), a_test, "1.1/3 has no test"),
            ("a rule that lost its test", GOOD_RULES, a_test.replace("1.1/2", "1.1/1"), "1.1/2 has no test"),
            ("a mark that outlived its reason", GOOD_RULES, a_test.replace("1.1/2", "1.1/2, 1.1/3", 1), "take away '[later: IPv6]'"),
            ("an unknown rule", GOOD_RULES, a_test.replace("1.1/2", "1.1/4"), "no rule 1.1/4"),
            ("an unknown section", GOOD_RULES, a_test.replace("1.1/2", "9.9/1"), "no rule 9.9/1"),
            ("an odd list", GOOD_RULES, a_test.replace("proves 1.1/1", "proves 1.1/1 and 1.1/2"), "is no list"),
            ("a comment above no test", GOOD_RULES, a_test.replace("// What it is about.", "int helper();"), "belongs to no test"),
            ("a comment before the first test", GOOD_RULES, "  // proves 1.1/2\n" + a_test, "belongs to no test"),
            ("a hole in the numbers", GOOD_RULES.replace("2. The second", "4. The second"), a_test, "neither a section nor its next rule"),
            ("a section twice", GOOD_RULES + "## 1.1 Again\n", a_test, "there already")):
        code, errors = run(repository(scratch, rules, **{"tests/unit/a_test.cpp": test}))
        check(code == 1 and expected in errors, f"{what}: exit {code}, {errors}")


with tempfile.TemporaryDirectory() as scratch_directory:
    the_table_names_each_rule_and_its_tests(scratch_directory)
    every_mistake_is_found(scratch_directory)
code_here, errors_here = run(ROOT, "--check")
check(code_here == 0, f"this repository:\n{errors_here}")
for problem in problems:
    print(problem, file=sys.stderr)
sys.exit(1 if problems else 0)
