"""The page: complete, self-contained, safe from what traces hold, and working in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from redpencil.checkers import PythonChecker
from redpencil.env import AnswerEnv, EditEnv
from redpencil.errors import DataError
from redpencil.evaluate import Plan, Results, summarise
from redpencil.jsonl import write_json, write_jsonl
from redpencil.policy import ScriptedPolicy
from redpencil.report import Curve, Entry, build, from_folder, write
from redpencil.rollout import Episode, rollout
from redpencil.types import Task, Trace

NASTY = "### REPL 2 >>>    return '</script><img src=x onerror=alert(1)>'"
FIX = "### REPL 2 >>>    return n * 2"


@pytest.fixture
def traces(double: Task) -> list[Trace]:
    checker = PythonChecker()
    scripts = [[NASTY, "### OOPS", FIX, "### EXIT"], ["### DELL 9", "### EXIT"]]
    found = []
    for seed, script in enumerate(scripts):
        policy = ScriptedPolicy(lambda _, script=script: script)  # type: ignore[misc]
        found += rollout([Episode(EditEnv(double, checker), seed, ("wrong_operator",))], policy)
    answer = ScriptedPolicy(lambda _: ["```python\ndef double(n):\n    return 2 * n\n```"])
    found += rollout([Episode(AnswerEnv(double, checker), 2)], answer)
    return found


@pytest.fixture
def results(traces: list[Trace]) -> Results:
    plan = Plan(method="coe", tasks="builtin:test", base_model="tiny")
    return summarise(plan, traces, 12.5, "redpencil eval builtin:test --out runs/x")


@pytest.fixture
def page(traces: list[Trace], results: Results) -> str:
    curve = Curve("SFT: loss", [(1.0, 2.0), (2.0, 1.0), (3.0, 0.5)])
    return build("A <title>", [Entry("after SFT", results, traces)], [curve])


class Tags(HTMLParser):
    """Collects the tags of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_holds_results_curves_and_every_turn(page: str) -> None:
    tags = Tags(page)
    names = [name for name, _ in tags.found]
    assert names.count("svg") == 2
    assert sum(attrs.get("class") == "trace" for _, attrs in tags.found) == 3
    assert "66.7%" in page
    assert "after SFT" in page
    assert "redpencil eval builtin:test --out runs/x" in page
    assert "unknown command" in page
    assert "broken by wrong operator" in page
    assert 'class="row new"' in page
    assert 'class="row gone"' in page


def test_the_page_loads_nothing_from_anywhere(page: str) -> None:
    for name, attrs in Tags(page).found:
        assert name not in ("link", "iframe", "img", "object")
        for attribute in ("src", "href"):
            assert not (attrs.get(attribute) or "#").startswith(("http", "//")), attrs
    assert not re.search(r"@import|url\((?!#)", page)


def test_what_traces_hold_stays_text(page: str) -> None:
    assert page.count("<script>") == page.count("</script>") == 1
    assert "<img" not in page
    assert "A &lt;title&gt;" in page


def test_the_same_input_gives_the_same_page(traces: list[Trace], results: Results) -> None:
    entries = [Entry("x", results, traces)]
    assert build("t", entries, []) == build("t", entries, [])


def test_a_run_folder_is_read_in_order(
    tmp_path: Path, traces: list[Trace], results: Results
) -> None:
    for label in ("sft", "base", "direct"):
        write_json(tmp_path / "eval" / label / "results.json", results)
        write_jsonl(tmp_path / "eval" / label / "traces.jsonl", traces)
    write_jsonl(
        tmp_path / "sft" / "metrics.jsonl",
        [{"step": 1.0, "loss": 2.0}, {"step": 2.0, "loss": 1.0}, {"step": 2.0, "runtime": 3.0}],
    )
    entries, curves = from_folder(tmp_path)
    assert [entry.label.split(",")[0] for entry in entries] == [
        "direct answer",
        "editing",
        "editing",
    ]
    assert [list(curve.points) for curve in curves] == [[(1.0, 2.0), (2.0, 1.0)]]
    write(tmp_path / "report.html", "run", entries, curves)
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_demonstrations_have_a_page_too(tmp_path: Path, traces: list[Trace]) -> None:
    write_jsonl(tmp_path / "demos.jsonl", traces)
    entries, curves = from_folder(tmp_path / "demos.jsonl")
    assert "Repaired" not in build("demos", entries, curves)


def test_a_corrupt_line_is_named(tmp_path: Path, traces: list[Trace], results: Results) -> None:
    write_json(tmp_path / "results.json", results)
    write_jsonl(tmp_path / "traces.jsonl", traces)
    with (tmp_path / "traces.jsonl").open("a") as file:
        file.write("{broken\n")
    with pytest.raises(DataError, match=r"traces\.jsonl, line 4"):
        from_folder(tmp_path)
    with pytest.raises(DataError, match="nothing to report"):
        from_folder(tmp_path / "nowhere")


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_steps_to_the_turn_that_a_link_names(tmp_path: Path, page: str) -> None:
    assert BROWSER is not None
    path = tmp_path / "page.html"
    path.write_text(page)
    dom = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
            f"{path.as_uri()}#trace=0&turn=2",
        ],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    trace = dom.split('id="trace-0"')[1].split('id="trace-1"')[0]
    shown = re.findall(r'class="state on" data-turn="(\d+)"', trace)
    assert shown == ["2", "2"]
    assert 'class="js"' in dom
