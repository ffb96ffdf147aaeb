"""Published sets of bugs: what is made of their rows, written here in the schema of each."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import made
from redpencil.checkers import PythonChecker
from redpencil.errors import DataError, UsageError
from redpencil.files import write_jsonl
from redpencil.results import summarise
from redpencil.tasks import load, tasks_sha256, verify
from redpencil.types import Task

Run = Callable[..., subprocess.CompletedProcess[str]]

FIX: dict[str, Any] = {
    "task_id": "Python/7",
    "prompt": (
        "from typing import List\n\n\ndef _plus(n):\n    return n + 1\n\n\n"
        'def raise_all(ns: List[int]) -> List[int]:\n    """Add one to\n    every number.\n\n'
        '    >>> raise_all([1])\n    [2]\n    """\n'
    ),
    "declaration": "def raise_all(ns: List[int]) -> List[int]:\n",
    "canonical_solution": "    return [_plus(n) for n in ns]\n",
    "buggy_solution": "    return [n for n in ns]\n",
    "bug_type": "missing logic",
    "entry_point": "raise_all",
    "import": "",
    "test_setup": "",
    "test": (
        "\n\ndef check(raise_all):\n    import math\n    assert raise_all([1]) == [2], 'one'\n"
        "    assert raise_all([]) == []\n    assert raise_all([4, 0]) == [5, 1]\n    assert True\n"
        "    assert raise_all([2]) == [math.floor(3.5)]\n\ncheck(raise_all)"
    ),
    "example_test": "def check(raise_all):\n    assert raise_all([1]) == [2]\ncheck(raise_all)\n",
}
BUG: dict[str, Any] = {
    "slug": "most-frequent",
    "category": "logic error",
    "subtype": "operation error",
    "language": "python3",
    "level": "easy",
    "release_time": 1,
    "question": "Given letters, how often is the most frequent of them there?\n",
    "examples": [
        'Input: letters = ["a","b","a"], strict = true\nOutput: 2\nExplanation: "a", twice.',
        'Input: letters = ["b"], strict = false\r\nOutput: 1',
    ],
    "constraints": "1 <= letters.length",
    "solution": (
        "class Solution:\n    def top(self, letters: List[str], strict: bool) -> int:\n"
        "        return max(Counter(letters).values(), default=0)\n\n"
        "    def helper(self, n):\n        return math.inf"
    ),
    "buggy_code": (
        "\nclass Solution:\n    def top(self, letters: List[str], strict: bool) -> int:\n"
        "        return min(Counter(letters).values(), default=0)\n\n"
        "    def helper(self, n):\n        return math.inf\n"
    ),
    "bug_explanation": "The least frequent.",
}


def fix_folder(folder: Path, rows: Iterable[dict[str, Any]]) -> str:
    write_jsonl(folder / "humanevalpack.jsonl", rows)
    return f"humanevalfix:{folder}"


def bug_folder(folder: Path, rows: list[dict[str, Any]]) -> str:
    (folder / "eval.json").write_text(json.dumps(rows, indent=1))
    return f"debugbench:{folder}"


def without(row: dict[str, Any], field: str) -> dict[str, Any]:
    return {key: row[key] for key in row if key != field}


def complaints(tasks: Iterable[Task]) -> list[str]:
    return [finding.complaint for finding in verify(list(tasks), PythonChecker())]


QUIX = {
    "python_programs/add_up.py": (
        "# Sums\ndef add_up(ns):\n    return sum(ns) + 1\n\n\n"
        '"""\nAdd up\n\nInput:\n    ns: numbers\n\nExamples:\n    >>> add_up([1])\n    1\n"""\n'
    ),
    "correct_python_programs/add_up.py": (
        '\ndef add_up(ns):\n    return sum(ns)\n\n"""\ndef add_up(ns):\n    return 0\n"""\n'
    ),
    "json_testcases/add_up.json": (
        "[[[]], 0]\n[[[1]], 1]\n[[[1, 2]], 3]\n\n[[[5]], 5]\n[[[9]], 9]\n"
    ),
    "python_testcases/test_add_up.py": (
        "import pytest\ndef test_add_up(input_data, expected):\n"
        "    if not pytest.run_slow and input_data == [\n        [9]\n    ]:\n"
        '        pytest.skip("Takes too long")\n    assert add_up(*input_data) == expected\n'
    ),
    "python_programs/pairs.py": "def pairs(n):\n    return [(i, i) for i in range(n)][1:]\n",
    "correct_python_programs/pairs.py": (
        "def pairs(n):\n    found = []\n    for i in range(n):\n        found.append((i, i))\n"
        "    return found\n"
    ),
    "json_testcases/pairs.json": "[2, [[0, 0], [1, 1]]]\n[1, [[0, 0]]]\n",
    "python_programs/walk.py": "def walk(tree):\n    for part in tree:\n        yield tree\n",
    "correct_python_programs/walk.py": "def walk(tree):\n    yield from tree\n",
    "json_testcases/walk.json": "[[[3, 4]], [3, 4]]\n",
    "python_programs/half.py": "def half(x, epsilon):\n    return x / 3\n",
    "correct_python_programs/half.py": "def half(x, epsilon):\n    return x / 2 + epsilon / 2\n",
    "json_testcases/half.json": "[[4, 0.01], 2]\n",
    "python_programs/graph.py": "def graph(node):\n    return node\n",
    "python_programs/graph_test.py": "",
    "python_programs/node.py": "class Node: pass\n",
}


def quix_folder(folder: Path, **changes: str | None) -> str:
    for name, text in {**QUIX, **changes}.items():
        if text is not None:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
    return f"quixbugs:{folder}"


def test_humanevalfix(tmp_path: Path) -> None:
    found = load(fix_folder(tmp_path, [FIX]))
    (task,) = found.tasks
    assert task.id == "humanevalfix/7"
    assert task.prompt == "Add one to every number."
    assert task.tests == ("assert raise_all([1]) == [2]",)
    assert task.hidden_tests == (
        "assert raise_all([]) == []",
        "assert raise_all([4, 0]) == [5, 1]",
        "import math\nassert raise_all([2]) == [math.floor(3.5)]",
    )
    assert task.program is not None
    assert task.solution is not None
    assert task.solution.replace("_plus(n) for", "n for") == task.program
    assert '"""' not in task.program
    assert found.summary.startswith("1 HumanEvalFix bug; 0 with a checking function")
    assert complaints(found.tasks) == [""]


def test_humanevalfix_takes_whatever_form_its_tests_have(tmp_path: Path) -> None:
    loop = "def check(f):\n    for n in (1, 2):\n        assert f([n]) == [n + 1]\n"
    rows = [
        FIX | {"task_id": "Python/1", "example_test": ""},
        FIX | {"task_id": "Python/2", "test": "assert raise_all([3]) == [4]\n"},
        FIX | {"task_id": "Python/3", "test": loop},
        FIX | {"task_id": "Python/4", "test": f"{loop}\ncheck(raise_all)\n"},
        without(without(FIX, "import"), "test_setup") | {"buggy_solution": "    return (\n"},
        FIX | {"task_id": "Python/5", "import": "import math", "test_setup": "x = [1]\n"},
    ]
    first, plain, called, calls, broken, imports = load(fix_folder(tmp_path, rows)).tasks
    assert (len(first.tests), first.tests[0]) == (3, "assert raise_all([1]) == [2]")
    assert plain.hidden_tests == ("assert raise_all([3]) == [4]",)
    assert called.hidden_tests == calls.hidden_tests == ()
    assert (
        called.tests[1].count("check(raise_all)") == calls.tests[1].count("check(raise_all)") == 1
    )
    assert broken.program is not None
    assert broken.program.endswith("return (\n")
    assert '"""' not in broken.program
    assert (imports.solution or "").startswith("import math\n")
    assert imports.setup == "x = [1]\n"
    assert complaints(load(fix_folder(tmp_path, rows)).tasks) == [""] * 6


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (without(FIX, "buggy_solution"), "missing required field `buggy_solution`"),
        (FIX | {"test": 3}, "$.test"),
        (FIX | {"test": "def check(:"}, "`test` is not Python"),
        (FIX | {"test": " \n"}, "`test` is empty"),
        (FIX | {"example_test": "assert ("}, "`example_test` is not Python"),
        (FIX | {"entry_point": "other"}, "`prompt` with `canonical_solution`: no function 'other'"),
        (FIX | {"canonical_solution": "    return ("}, "not Python"),
        (FIX | {"prompt": "def raise_all(ns):\n"}, "line 2"),
    ],
)
def test_wrong_rows_of_humanevalfix_are_named(
    tmp_path: Path, row: dict[str, Any], complaint: str
) -> None:
    row = row | {"task_id": "Python/8"}
    if complaint == "line 2":
        row |= {"canonical_solution": '    """Late."""\n    return ns\n'}
    source = fix_folder(tmp_path, [FIX, row])
    with pytest.raises(DataError) as caught:
        load(source)
    assert f"{tmp_path / 'humanevalpack.jsonl'}, line 2: " in str(caught.value)
    assert complaint in str(caught.value)


def test_quixbugs(tmp_path: Path) -> None:
    found = load(quix_folder(tmp_path))
    add_up, half, pairs, walk = found.tasks
    assert "4 QuixBugs programs; 1 on graphs left out" in found.summary
    assert "1 slow case" in found.summary
    assert add_up.id == "quixbugs/add_up"
    assert add_up.prompt == "Add up\nInput:\n    ns: numbers"
    assert add_up.program == "# Sums\ndef add_up(ns):\n    return sum(ns) + 1\n"
    assert add_up.solution == "def add_up(ns):\n    return sum(ns)\n"
    assert add_up.tests[1:] == ("assert add_up([1]) == 1", "assert add_up([1, 2]) == 3")
    assert add_up.hidden_tests == ("assert add_up([5]) == 5",)
    assert half.tests == ("assert abs(half(4, 0.01) - 2) <= 0.01",)
    assert pairs.tests[0] == "assert pairs(2) == [(0, 0), (1, 1)]"
    assert walk.tests == ("assert list(walk([3, 4])) == [3, 4]",)
    assert walk.prompt == "walk"
    assert complaints(found.tasks) == [""] * 4


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("json_testcases/walk.json", "[[1], 1]\n[[1]]\n", "walk.json, line 2"),
        ("json_testcases/walk.json", '[[1], 1]\n{"a": 1}\n', "walk.json, line 2"),
        ("json_testcases/walk.json", "[[1], 1]\n[[1], \n", "walk.json, line 2"),
        ("json_testcases/walk.json", "\n", "walk.json has no test case"),
        ("correct_python_programs/walk.py", None, "cannot read"),
        ("correct_python_programs/walk.py", "def other(): pass\n", "the function 'walk'"),
        ("python_programs/walk.py", "x = 1\ndef walk(:\n", "walk.py, line 2"),
    ],
)
def test_what_is_wrong_with_a_clone_of_quixbugs_is_named(
    tmp_path: Path, name: str, text: str | None, complaint: str
) -> None:
    source = quix_folder(tmp_path, **{name: text})
    with pytest.raises(DataError) as caught:
        load(source)
    assert complaint in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_debugbench(tmp_path: Path) -> None:
    mean = {
        "slug": "mean",
        "examples": ["Input: ns = [1,2]\nOutput: 1.50000"],
        "solution": "class Solution:\n    def mean(self, ns):\n        return sum(ns) / len(ns)\n",
        "buggy_code": "class Solution:\n    def mean(self, ns):\n        return sum(ns / len(ns)\n",
    }
    found = load(bug_folder(tmp_path, [BUG, BUG, BUG | {"language": "java"}, BUG | mean]))
    first, again, floating = found.tasks
    assert found.summary == "3 DebugBench bugs (Python, easy); left out: 0"
    assert first.id == "debugbench/most-frequent#operation-error"
    assert again.id == "debugbench/most-frequent#operation-error/2"
    assert first.prompt == "Given letters, how often is the most frequent of them there?"
    assert first.tests == (
        "assert Solution().top(['a', 'b', 'a'], True) == 2",
        "assert Solution().top(['b'], False) == 1",
    )
    assert first.solution is not None
    assert first.program is not None
    assert first.solution.startswith(
        "from collections import Counter\nfrom typing import List\nimport math\nclass Solution:\n"
    )
    assert first.solution.replace("max(", "min(") == first.program
    assert floating.tests == ("assert abs(Solution().mean([1, 2]) - 1.5) <= 1e-05",)
    assert complaints(found.tasks) == [""] * 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"examples": ["Input: letters = [1], strict = true\nOutput: 1, [_]"]}, "plain calls"),
        ({"examples": ['Input\n["Shop"]\n[[1]]\nOutput\n[null]']}, "plain calls"),
        ({"examples": ["Input: words = [1]\nOutput: 1"]}, "plain calls"),
        ({"examples": ["Input: letters = f(1), strict = true\nOutput: 1"]}, "plain calls"),
        ({"examples": []}, "without examples"),
        ({"solution": "class Solution\n"}, "not Python"),
        ({"question": "Return the answer in any order."}, "more than one right answer"),
        ({"solution": BUG["solution"].replace("-> int", "-> None")}, "work in place"),
        ({"solution": BUG["solution"].replace("-> int", "-> TreeNode")}, "classes of LeetCode's"),
    ],
)
def test_bugs_without_tests_are_counted(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    found = load(bug_folder(tmp_path, [BUG, BUG | {"level": "hard"}, BUG | change]))
    assert len(found.tasks) == 1
    assert "left out: 1 " in found.summary
    assert found.summary.endswith(reason)


def test_wrong_rows_of_debugbench_are_named(tmp_path: Path) -> None:
    source = bug_folder(tmp_path, [BUG, without(BUG, "solution")])
    with pytest.raises(DataError, match=r"eval\.json: .*`solution`.*\$\[1\]"):
        load(source)
    write_jsonl(tmp_path / "eval.json", [BUG, BUG | {"examples": "Input: a = 1"}])
    with pytest.raises(DataError, match=r"eval\.json, line 2: .*\$\.examples"):
        load(source)
    write_jsonl(tmp_path / "eval.json", [BUG])
    assert len(load(source).tasks) == 1


@pytest.mark.parametrize("source", ["humanevalfix", "debugbench", "quixbugs"])
def test_folders_that_hold_nothing(tmp_path: Path, source: str) -> None:
    with pytest.raises((UsageError, DataError)) as caught:
        load(f"{source}:{tmp_path}")
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(UsageError, match="no folder"):
        load(f"{source}:{tmp_path / 'nowhere'}")


def test_tasks_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 tasks of the name 'humanevalfix/7'"):
        load(fix_folder(tmp_path, [FIX, FIX]))


def test_tasks_are_verified_both_ways(double: Task) -> None:
    right, broken = double.solution, double.program
    tasks = [
        double,
        Task("t/1", "", right, right, double.tests, (), "", "test"),
        Task("t/2", "", broken, broken, double.tests, (), "", "test"),
        Task("t/3", "", broken, None, ("assert double(1) == 2",), double.tests, "", "test"),
        Task("t/4", "", right, None, double.tests, (), "", "test"),
        Task("t/5", "", None, right, double.tests, (), "", "test"),
    ]
    findings = verify(tasks, PythonChecker())
    said = [finding.complaint for finding in findings]
    assert [finding.task for finding in findings] == tasks
    assert said[0] == said[3] == said[5] == ""
    assert said[1] == said[4] == "its broken program passes every test"
    assert said[2].startswith("its solution fails: double(2) returned 3")
    assert [finding.only_hidden for finding in findings] == [False] * 3 + [True] + [False] * 2


def test_the_digest_is_of_what_the_tasks_are(tmp_path: Path) -> None:
    tasks = load(fix_folder(tmp_path, [FIX])).tasks
    write_jsonl(tmp_path / "mine.jsonl", tasks)
    assert tasks_sha256(load(f"jsonl:{tmp_path / 'mine.jsonl'}").tasks) == tasks_sha256(tasks)
    several = [made.task(name) for name in ("set/10", "set/9", "set/1")]
    assert tasks_sha256(several[::-1]) == tasks_sha256(several)  # an evaluation's are sorted
    changed = load(fix_folder(tmp_path, [FIX | {"buggy_solution": "    return ns\n"}])).tasks
    assert tasks_sha256(changed) != tasks_sha256(tasks)


def test_results_say_which_broken_programs_they_are_of() -> None:
    traces = [made.trace([0.0], of=name) for name in ("a", "b")]
    results = summarise(traces, made.origin(), 1.0)
    assert results.tasks_sha256 == tasks_sha256([made.task("a"), made.task("b")])


def test_tasks_that_do_not_hold_are_left_out(redpencil: Run, tmp_path: Path) -> None:
    harmless = FIX | {"task_id": "Python/8", "buggy_solution": FIX["canonical_solution"]}
    source, out = fix_folder(tmp_path, [FIX, harmless]), tmp_path / "kept.jsonl"
    result = redpencil("tasks", source, "--check", "--out", out)
    assert result.returncode == 1
    assert "humanevalfix/8: its broken program passes every test" in result.stdout
    assert "2 of 2 solutions pass their own tests." in result.stdout
    assert "1 of 2 broken programs fail them, 0 only hidden ones." in result.stdout
    (task,) = load(f"jsonl:{out}").tasks
    assert f"sha256 of the 1 left: {tasks_sha256([task])}" in result.stdout
    again = redpencil("tasks", f"jsonl:{out}", "--check")
    assert again.returncode == 0
    assert f"sha256: {tasks_sha256([task])}" in again.stdout


@pytest.mark.parametrize("test", ["-" * 100_000 + "1", "1+" * 100_000 + "1"])
def test_a_test_that_python_cannot_parse_is_named(tmp_path: Path, double: Task, test: str) -> None:
    write_jsonl(tmp_path / "t.jsonl", [msgspec.structs.replace(double, tests=(test,))])
    with pytest.raises(DataError, match=r"t\.jsonl, line 1: `tests\[0\]` is not Python: \w"):
        load(f"jsonl:{tmp_path / 't.jsonl'}")


def test_a_folder_is_read_once_by_its_own_name(tmp_path: Path) -> None:
    package, elsewhere = tmp_path / "package", tmp_path / "elsewhere"
    for folder, name in ((package / "real", "one"), (elsewhere, "two")):
        folder.mkdir(parents=True)
        text = f'def {name}():\n    """One.\n\n    >>> {name}()\n    1\n    """\n    return 1\n'
        (folder / f"{name}.py").write_text(text)
        (folder / "loop").symlink_to(folder.parent)
    (package / "another").symlink_to(package / "real")
    (package / "theirs").symlink_to(elsewhere)
    found = load(f"doctest:{package}").tasks
    names = [task.id.removeprefix("package/") for task in found]
    assert names == ["real.one.one", "theirs.two.two"]


def test_problems_that_were_trained_on_are_found(redpencil: Run, tmp_path: Path) -> None:
    source = fix_folder(tmp_path, [FIX, FIX | {"task_id": "Python/8"}])
    first, _ = load(source).tasks
    renamed = (first.solution or "").replace("raise_all", "lift").replace("ns", "numbers")
    other = Task(
        "other/1", "In other words.", None, f"# mine\n{renamed}", ("assert lift",), (), "", "train"
    )
    write_jsonl(tmp_path / "train.jsonl", [other])
    against = f"jsonl:{tmp_path / 'train.jsonl'}"
    found = redpencil("tasks", source, "--against", "builtin:train", "--against", against)
    assert found.returncode == 1
    assert "humanevalfix/7: the same problem as other/1" in found.stdout
    assert "2 of 2 tasks are a problem of builtin:train, jsonl:" in found.stdout
    clean = redpencil("tasks", source, "--against", "builtin:train")
    assert clean.returncode == 0
    assert "0 of 2 tasks are a problem of builtin:train" in clean.stdout
