"""`check` and `repair` of a person's own files, as the command line does them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from made import BROKEN, RIGHT, TESTS
from redpencil.cli import app
from redpencil.policy import ScriptedPolicy

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_check_prints_the_verdict(redpencil: Run, shop: Path) -> None:
    right = redpencil("check", shop / "right.py", "--tests", shop / "tests.py", "--json")
    verdict = json.loads(right.stdout)
    assert right.returncode == 1  # the tests import `shop`, and this file is `right`
    assert verdict["status"] == "crashed"
    broken = redpencil("check", shop / "shop.py", "--tests", shop / "tests.py", "--json")
    verdict = json.loads(broken.stdout)
    assert broken.returncode == 1
    assert set(verdict) == {
        "status", "passed", "total", "detail", "seconds", "rung", "inside",
    }  # fmt: skip
    assert (verdict["status"], verdict["passed"], verdict["total"]) == ("failed", 0, 2)
    assert verdict["detail"] == "double(2) returned 3, expected 4"
    (shop / "shop.py").write_text(RIGHT)
    passed = redpencil("check", shop / "shop.py", "--tests", shop / "tests.py")
    assert passed.returncode == 0
    assert "2 of 2 tests pass" in passed.stdout


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (b'def f():\n    return """\n\t"""\n', "passed"),
        (b"def f():\n    if True:\n\treturn 1\n", "TabError"),
        (b'\xef\xbb\xbfdef f():\r\n    return "\\n\\t"', "passed"),
    ],
    ids=["a tab in a text", "tabs among spaces", "from Windows"],
)
def test_a_program_is_judged_as_it_stands(shop: Path, program: bytes, said: str) -> None:
    (shop / "shop.py").write_bytes(program)
    (shop / "tests.py").write_text('assert f() == "\\n\\t"\n')
    command = ["check", str(shop / "shop.py"), "--tests", str(shop / "tests.py")]
    assert said in CliRunner().invoke(app, command).stdout


def test_whatever_pytest_runs_is_a_test(redpencil: Run, shop: Path) -> None:
    (shop / "tests.py").write_text(
        "import pytest\nimport unittest\nimport shop\nfrom shop import double as twice\n\n"
        "@pytest.fixture\ndef two(): return 2\n\n"
        "@pytest.mark.parametrize('n', [2, 3])\n"
        "def test_many(n, two): assert twice(n) == n * two\n\n"
        "def test_patched(monkeypatch, tmp_path):\n"
        "    monkeypatch.setattr(shop, 'double', lambda n: 7)\n"
        "    assert shop.double(1) == 7\n\n"
        "class TestMore:\n"
        "    def test_raises(self):\n"
        "        with pytest.raises(TypeError): twice(None)\n\n"
        "class Case(unittest.TestCase):\n"
        "    def test_equal(self): self.assertEqual(twice(5), 10)\n"
    )
    broken = redpencil("check", shop / "shop.py", "--tests", shop / "tests.py")
    assert "2 of 4 tests pass" in broken.stdout, broken.stdout
    assert "4 judged inside" in broken.stdout
    assert "run_test('test_many'): AssertionError: assert 3 == (2 * 2)" in broken.stdout
    (shop / "shop.py").write_text(RIGHT)
    right = redpencil("check", shop / "shop.py", "--tests", shop / "tests.py")
    assert right.returncode == 0, right.stdout
    assert "4 of 4 tests pass" in right.stdout


def test_objects_may_be_what_is_tested(redpencil: Run, shop: Path) -> None:
    (shop / "shop.py").write_text(
        "class Bag:\n    def __init__(s, *n): s.n = n\n    def __len__(s): return len(s.n)\n"
    )
    (shop / "tests.py").write_text(
        "from shop import Bag\nassert len(Bag(1, 2)) == 2\nassert not Bag()"
    )
    right = redpencil("check", shop / "shop.py", "--tests", shop / "tests.py")
    assert "2 of 2 tests pass" in right.stdout
    assert "2 judged inside" in right.stdout
    (shop / "tests.py").write_text("from shop import Bag\nassert len(Bag(1, 2)) == 3")
    wrong = redpencil("check", shop / "shop.py", "--tests", shop / "tests.py")
    assert wrong.returncode == 1


def test_tests_may_import_installed_packages(redpencil: Run, shop: Path) -> None:
    (shop / "tests.py").write_text("import msgspec\nassert msgspec.json.encode(double(4)) == b'8'")
    (shop / "shop.py").write_text(RIGHT)
    result = redpencil("check", shop / "shop.py", "--tests", shop / "tests.py")
    assert "1 of 1 tests pass" in result.stdout, result.stdout


def always_say(monkeypatch: pytest.MonkeyPatch, action: str) -> list[tuple[str, Path | None]]:
    """Whatever model is loaded says this; returns those that are, each with its adapter."""
    loaded: list[tuple[str, Path | None]] = []

    def load_model(model: str, adapter: Path | None) -> tuple[()]:
        loaded.append((model, adapter))
        return ()

    policy = ScriptedPolicy(lambda task: [action])
    monkeypatch.setattr("redpencil.engine.weights.load_model", load_model)
    monkeypatch.setattr("redpencil.engine.local.LocalEngine", lambda: None)
    monkeypatch.setattr("redpencil.policy.ModelPolicy", lambda *given, **named: policy)
    return loaded


@pytest.mark.parametrize(
    ("options", "model", "adapter"),
    [
        ((), "smollm2-135m", Path("on-board")),
        (("--model", "mine"), "mine", None),
        (("--adapter", "own"), "smollm2-135m", Path("own")),
        (("--model", "mine", "--adapter", "own"), "mine", Path("own")),
    ],
)
def test_the_adapter_on_board_repairs_with_the_model_that_it_is_for(
    shop: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    model: str,
    adapter: Path | None,
) -> None:
    loaded = always_say(monkeypatch, "### REPL 2 >>>    return n * 2")
    command = ["repair", str(shop / "shop.py"), "--tests", str(shop / "tests.py"), *options]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert loaded == [(model, adapter)]


WIDE = "    # " + "wide " * 30 + "\n"


@pytest.mark.skipif(
    shutil.which("patch") is None,
    reason="the promise is that `patch` takes it: install patch",
)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (BROKEN + WIDE, RIGHT + WIDE),
        ("\x0c\r\ndef double(n):\r\n\treturn n", "\x0c\r\ndef double(n):\r\n    return n * 2"),
        (f"\ufeffX = '\t[/b]'\n{BROKEN}\n", f"\ufeffX = '\t[/b]'\n{RIGHT}\n"),
    ],
    ids=["wide", "from Windows, no line end at its end", "marked"],
)  # fmt: skip
def test_a_repair_is_printed_as_a_patch_and_keeps_the_form_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str
) -> None:
    number = before[: before.index("return")].count("\n") + 1
    always_say(monkeypatch, f"### REPL {number} >>>    return n * 2")
    monkeypatch.chdir(tmp_path)
    Path("shop.py").write_bytes(before.encode())
    Path("tests.py").write_text(TESTS)
    command = ["repair", "shop.py", "--tests", "tests.py", "--adapter", "on-board"]
    printed = CliRunner().invoke(app, command)
    assert printed.exit_code == 0, printed.output
    assert Path("shop.py").read_bytes() == before.encode()
    Path("copy.py").write_bytes(before.encode())
    subprocess.run(["patch", "copy.py"], input=printed.stdout_bytes, check=True)
    assert Path("copy.py").read_bytes() == after.encode()
    written = CliRunner().invoke(app, [*command, "--write"])
    assert written.stdout_bytes == printed.stdout_bytes
    assert "Written to shop.py." in written.stderr
    assert Path("shop.py").read_bytes() == after.encode()
