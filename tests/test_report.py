"""The page: complete, self-contained, safe from what traces hold, and working in a browser."""

from __future__ import annotations

import html
import itertools
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made import Act, episode, origin
from redpencil.checkers import PythonChecker
from redpencil.env import AnswerEnv, EditEnv, Env
from redpencil.errors import DataError, MissingDependency, UsageError
from redpencil.files import write_json, write_jsonl
from redpencil.policy import ScriptedPolicy
from redpencil.recipes import read
from redpencil.report import Curve, Entry, build, from_folder, from_folders, markdown, write
from redpencil.report.view import highlighted, trace_view, visible
from redpencil.results import Results, summarise
from redpencil.rollout import Episode, rollout
from redpencil.runs import claim_run
from redpencil.types import Observation, Task, Trace

NASTY = "### REPL 2 >>>    return '</script><img src=x onerror=alert(1)>'"
FIX = "### REPL 2 >>>    return n * 2"
ANSWER = "```python\ndef double(n):\n    return 2 * n\n```"
CURVE = Curve("SFT: loss", [(1.0, 2.0), (2.0, 1.0), (3.0, 0.5)])


def play(env: Env, actions: list[str], seed: int = 0, corruptions: tuple[str, ...] = ()) -> Trace:
    policy = ScriptedPolicy(lambda _: actions)
    (trace,) = rollout([Episode(env, seed, corruptions)], policy)
    return trace


@pytest.fixture
def traces(double: Task) -> list[Trace]:
    checker = PythonChecker()
    edits = [[NASTY, "### OOPS", FIX, "### EXIT"], ["### DELL 9", "### EXIT"]]
    return [
        *(
            play(EditEnv(double, checker), actions, seed, ("wrong_operator",))
            for seed, actions in enumerate(edits)
        ),
        play(AnswerEnv(double, checker), [ANSWER], 2),
    ]


@pytest.fixture
def results(traces: list[Trace]) -> Results:
    made = origin(command="redpencil eval builtin:test --out runs/x")
    return summarise(traces, made, 12.5)


@pytest.fixture
def page(traces: list[Trace], results: Results) -> str:
    return build("A <title>", [Entry("after SFT", results, traces)], [CURVE])


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
    assert [name for name, _ in tags.found].count("figure") == 2  # by turn, and the loss
    assert sum(attrs.get("class") == "trace" for _, attrs in tags.found) == 3
    assert sum("data-turn" in attrs for _, attrs in tags.found) == 5 + 3 + 2
    assert "66.7%" in page
    assert "after SFT" in page
    assert "redpencil eval builtin:test --out runs/x" in page
    assert "unknown command" in page
    assert "broken by wrong operator" in page


@pytest.fixture
def measured() -> list[Entry]:
    """Two evaluations of two programs, with all that a page can show."""

    def played(label: str, wins: list[bool], tokens: int) -> Entry:
        found = [
            episode(
                program,
                Act("### REPL 1 >>>y", "y", tokens=tokens),
                Act("### REPL 1 >>>z", "z", solved, tokens),
                of=program,
                corruptions=("misspell",) * (place + 1),
                fault=("wrong_answer", "NameError")[place],
            )
            for place, (program, solved) in enumerate(zip("ab", wins, strict=True))
        ]
        return Entry(label, summarise(found, origin(), 3.0), found)

    return [played("one | *first*", [False, True], 0), played("two", [True, True], 9)]


def test_the_page_shows_what_compute_buys_and_who_wins(measured: list[Entry]) -> None:
    page = build("t", measured, [])
    headings = re.findall(r'<h2 id="(\w+)">', page)
    assert headings == [
        "results", "compute", "corruptions", "faults", "ends", "pairs", "traces",
    ]  # fmt: skip
    alts = [html.unescape(alt) for alt in re.findall(r'aria-label="(Share solved[^"]*)"', page)]
    assert alts == [
        "Share solved: one | *first* 50.0%; two 100.0%",
        "Share solved by turns: one | *first* up to 50.0%; two up to 100.0%",
        "Share solved by tokens: two up to 100.0%",
        "Share solved, By number of corruptions: 1 corruption, 2 corruptions",
        "Share solved, By kind of failure: NameError, wrong answer",
    ]
    assert page.count('<p class="keys">') == 3
    assert "+50.0" in page


def test_evaluations_of_other_programs_are_not_compared(
    measured: list[Entry], traces: list[Trace], results: Results
) -> None:
    assert "Compared in pairs" not in build("t", [measured[0], Entry("x", results, traces)], [])


def test_the_tables_can_be_had_as_markdown(measured: list[Entry]) -> None:
    text = markdown("A <title>", measured)
    assert text.startswith("# A \\<title\\>\n")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)\|", row) for row in rows]
    for above, below in itertools.pairwise(cells):
        if below[1] == " --- ":
            assert len(above) == len(below)
    assert r"| two | one \| \*first\* | **+50.0** | +0.0 to +100.0 | 1.000 | 1 | 0 | 1 |" in rows
    assert "| two | 0.0% | 0.0% | 100.0% |" in rows  # at 8, 16 and 32 tokens
    assert markdown("A <title>", measured) == text
    with pytest.raises(UsageError, match="no evaluation to tabulate"):
        markdown("t", [Entry("x", None, [])])


def test_the_page_loads_nothing_from_anywhere(page: str) -> None:
    for name, attrs in Tags(page).found:
        assert name not in ("iframe", "img", "object", "embed", "base")
        for attribute in ("src", "href", "xlink:href", "action", "srcset"):
            assert (attrs.get(attribute) or "#").startswith(("#", "data:")), attrs
    assert not re.search(r"@import|url\((?!#)", page)
    assert "default-src 'none'" in page


def test_what_traces_hold_stays_text(page: str) -> None:
    assert page.count("<script>") == page.count("</script>") == 1
    assert "<img" not in page
    assert "A &lt;title&gt;" in page


def test_what_names_hold_stays_text(traces: list[Trace], results: Results) -> None:
    evil = '"><script>alert(1)</script>$x$'
    task = msgspec.structs.replace(traces[0].task, id=evil, prompt=evil, tests=(evil,))
    trace = msgspec.structs.replace(traces[0], task=task, corruptions=(evil,), error=evil)
    measured = msgspec.structs.replace(results, command=evil, machine=evil, versions={evil: evil})
    page = build(evil, [Entry(evil, measured, [trace])], [Curve(evil, CURVE.points)])
    assert page.count("<script>") == 1
    assert all(None not in attrs.values() or name == "details" for name, attrs in Tags(page).found)


def test_every_id_of_the_page_is_its_own(traces: list[Trace], results: Results) -> None:
    page = build("t", [Entry("x", results, traces)], [CURVE, CURVE])
    ids = Counter(attrs["id"] for _, attrs in Tags(page).found if "id" in attrs)
    assert [name for name, count in ids.items() if count > 1] == []
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', page))
    assert used
    assert used <= set(ids)


def test_the_same_input_gives_the_same_page(traces: list[Trace], results: Results) -> None:
    entries = [Entry("x", results, traces)]
    assert build("t", entries, [CURVE]) == build("t", entries, [CURVE])


def test_the_seed_chooses_half_solved_traces(traces: list[Trace]) -> None:
    pool = [
        msgspec.structs.replace(trace, task=msgspec.structs.replace(trace.task, id=f"task/{n}"))
        for n, trace in enumerate(traces * 20)
    ]
    pages = [build("t", [Entry("x", None, pool)], [], gallery=8, seed=seed) for seed in (0, 1)]
    for page in pages:
        shown = [
            attrs.get("data-solved") for _, attrs in Tags(page).found if "data-solved" in attrs
        ]
        assert Counter(shown) == {"yes": 4, "no": 4}
    first, second = (re.findall(r"<b>(task/\d+)</b>", page) for page in pages)
    assert first != second


def test_the_plot_takes_an_interval_that_rounding_put_beside_its_mean(results: Results) -> None:
    nearly = msgspec.structs.replace(results, pass_at_1=0.3, ci95=(0.1 + 0.2, 0.4))
    assert "30.0%" in build("t", [Entry("x", nearly, [])], [])


def test_without_matplotlib_the_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, traces: list[Trace], results: Results
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependency, match=r"pip install 'redpencil\[eval\]'"):
        build("t", [Entry("x", results, traces)], [])
    assert "Traces" in build("t", [Entry("x", None, traces)], [])


def marks(trace: Trace, turn: int) -> list[tuple[int | None, str]]:
    """Number and mark of each line that a turn shows."""
    return [(line.number, line.mark) for line in trace_view(trace, "x").states[turn].lines]


def test_an_edit_marks_the_line_it_names_even_among_equals(double: Task) -> None:
    task = msgspec.structs.replace(double, program="a = 1\na = 1\na = 1\n")
    trace = play(
        EditEnv(task, PythonChecker()),
        ["### ADDL 2 >>>a = 1", "### DELL 3", "### REPL 3 >>>b", "### REPL 3 >>>b", "### EXIT"],
    )
    assert marks(trace, 1) == [(1, ""), (2, "new"), (3, ""), (4, "")]
    assert marks(trace, 2) == [(1, ""), (2, ""), (None, "gone"), (3, "")]
    assert marks(trace, 3) == [(1, ""), (2, ""), (None, "gone"), (3, "new")]
    assert marks(trace, 4) == [(1, ""), (2, ""), (3, "")]
    idle = [state.outcome.idle for state in trace_view(trace, "x").states if state.outcome]
    assert idle == [False, False, False, True, False]


def test_each_turn_shows_its_command_verdict_reward_and_reason(traces: list[Trace]) -> None:
    view = trace_view(traces[0], "x")
    assert [state.tone for state in view.states] == [
        "start",
        "failing",
        "malformed",
        "solved",
        "solved",
    ]
    assert view.states[2].outcome is not None
    assert view.states[3].outcome is not None
    assert view.states[2].outcome.error.startswith("unknown command")
    assert view.states[3].outcome.command == "### REPL 2 >>>"
    assert view.states[3].outcome.content == "    return n * 2"
    assert view.states[3].outcome.tests == "2 of 2 tests pass, 1 of 1 hidden"
    assert view.states[3].outcome.pips == "●●"
    assert [state.outcome and state.outcome.reward for state in view.states] == [
        None,
        "0",
        "-0.5",
        "+1",
        "0",
    ]


def test_feedback_is_what_the_model_was_shown_whole(traces: list[Trace], double: Task) -> None:
    class Chatty(PythonChecker):
        def check(self, text: str, task: Task):  # type: ignore[no-untyped-def]
            verdict = super().check(text, task)
            return msgspec.structs.replace(verdict, detail="first\n***\nRunning it says:\nlast")

    assert trace_view(traces[0], "x").states[2].feedback.startswith("Not a valid command: unknown")
    for env in (EditEnv(double, Chatty()), AnswerEnv(double, Chatty())):
        for state in trace_view(play(env, [ANSWER]), "x").states:
            said = state.feedback.removeprefix("Not a valid command: ").partition("first")
            assert said[1] + said[2] == "first\n***\nRunning it says:\nlast"


def test_an_episode_that_never_began_has_a_page(traces: list[Trace]) -> None:
    broken = msgspec.structs.replace(
        traces[0],
        turns=(),
        final=Observation("", ()),
        end="error",
        error="no sandbox",
        solved=False,
    )
    page = build("t", [Entry("x", None, [broken])], [])
    assert "Ended by a fault of the infrastructure: no sandbox" in page


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))))
def test_highlighting_keeps_every_line_and_every_character(lines: list[str]) -> None:
    page = tuple(lines)
    shown = [html.unescape(re.sub(r"<[^<>]*>", "", line)) for line in highlighted(page)]
    assert shown == [visible(line) for line in page]


def run_folder(folder: Path, results: Results, traces: list[Trace]) -> Path:
    for label in ("sft", "base", "other", "direct"):
        write_json(folder / "eval" / label / "results.json", results)
        write_jsonl(folder / "eval" / label / "traces.jsonl", traces)
    return folder


def test_a_run_folder_is_read_in_order(
    tmp_path: Path, traces: list[Trace], results: Results
) -> None:
    run_folder(tmp_path, results, traces)
    claim_run(tmp_path, read("quickstart"))
    nan = {"step": 3.0, "loss": float("nan"), "note": "diverged"}
    rows = [{"step": 1.0, "loss": 2.0}, {"step": 2.0, "loss": 1.0}, {"step": 2.0, "runtime": 3.0}]
    write_jsonl(tmp_path / "sft" / "metrics.jsonl", [*rows, nan])
    entries, curves = from_folder(tmp_path)
    baseline, untrained, sft = (
        "direct, zero-shot",
        "editing, untrained",
        "editing, SFT",
    )
    assert [entry.label for entry in entries] == [baseline, untrained, sft, "other"]
    assert [list(curve.points) for curve in curves] == [[(1.0, 2.0), (2.0, 1.0)]]
    # A folder of another's, called so or not, says of itself what it holds.
    (alone,), _ = from_folder(tmp_path / "eval" / "direct")
    assert alone.label == "direct"
    write(tmp_path / "report.html", "run", entries, curves)
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_trainings_are_found_wherever_they_are(
    tmp_path: Path, traces: list[Trace], results: Results
) -> None:
    for name in ("eval", "direct"):
        write_json(tmp_path / "mine" / name / "results.json", results)
        write_jsonl(tmp_path / "mine" / name / "traces.jsonl", traces)
    losses = [{"step": float(step), "loss": 1.0} for step in range(3)]
    write_jsonl(tmp_path / "mine" / "sft" / "metrics.jsonl", losses)
    rewards = [row | {"reward": 0.5, "solved_rate": 0.2} for row in losses]
    write_jsonl(tmp_path / "mine" / "rl" / "metrics.jsonl", rewards)
    entries, curves = from_folder(tmp_path / "mine")
    assert [entry.label for entry in entries] == ["direct", "eval"]
    learned = [
        "sft: loss on the model's own tokens",
        "rl: share of traces solved",
        "rl: mean reward of a trace",
    ]
    assert [curve.label for curve in curves] == learned
    named = [tmp_path / "mine" / name for name in ("eval", "sft", "rl")]
    entries, curves = from_folders(named)
    assert [entry.label for entry in entries] == ["eval"]
    assert [curve.label for curve in curves] == learned
    assert "rl: mean reward" in build("rl", *from_folder(tmp_path / "mine" / "rl"))


def test_several_folders_are_told_apart(
    tmp_path: Path, traces: list[Trace], results: Results
) -> None:
    for name in ("small", "large"):
        claim_run(run_folder(tmp_path / name, results, traces), read("quickstart"))
        rows = [{"step": float(step), "loss": 1.0} for step in range(3)]
        write_jsonl(tmp_path / name / "sft" / "metrics.jsonl", rows)
    folders = [tmp_path / "small", tmp_path / "large" / "eval" / "sft"]
    entries, curves = from_folders(folders)
    assert [entry.label for entry in entries] == [
        "small: direct, zero-shot",
        "small: editing, untrained",
        "small: editing, SFT",
        "small: other",
        "sft",
    ]
    assert [curve.label for curve in curves] == ["small: SFT: loss on the model's own tokens"]
    assert from_folders(folders[:1]) == from_folder(folders[0])


def test_results_alone_have_tables_and_no_traces(
    tmp_path: Path, traces: list[Trace], results: Results
) -> None:
    for name in ("direct", "coe"):
        write_json(tmp_path / f"{name}.json", results)
    entries, curves = from_folders([tmp_path / "direct.json", tmp_path / "coe.json"])
    assert [(entry.label, entry.results, entry.traces) for entry in entries] == [
        ("direct", results, ()),
        ("coe", results, ()),
    ]
    assert not curves
    text = markdown("Results", entries)
    assert "Compared in pairs" in text
    assert f"{results.pass_at_1:.1%}" in text
    assert 'class="trace"' not in build("Results", entries, curves)


def test_demonstrations_have_a_page_too(tmp_path: Path, traces: list[Trace]) -> None:
    write_jsonl(tmp_path / "demos.jsonl", traces)
    page = build("demos", *from_folder(tmp_path / "demos.jsonl"))
    assert "Results" not in page
    assert "test/double" in page


def test_a_command_that_was_given_says_so(traces: list[Trace]) -> None:
    stumble = msgspec.structs.replace(traces[0].turns[0], given=True)
    stumbled = msgspec.structs.replace(traces[0], turns=(stumble, *traces[0].turns[1:]))
    pages = [build("x", [Entry("x", None, [trace])], []) for trace in (traces[0], stumbled)]
    assert [page.count("not learned from") for page in pages] == [0, 1]


def test_what_cannot_be_read_is_named(
    tmp_path: Path, traces: list[Trace], results: Results
) -> None:
    with pytest.raises(DataError, match=r"nothing to report in .*redpencil eval"):
        from_folder(tmp_path / "nowhere")
    run_folder(tmp_path, results, traces)
    metrics = tmp_path / "sft" / "metrics.jsonl"
    write_jsonl(metrics, [{"step": 1.0, "loss": 2.0}, {"loss": 1.0}])
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2: .*`step`"):
        from_folder(tmp_path)
    metrics.unlink()
    with (tmp_path / "eval" / "sft" / "traces.jsonl").open("a") as file:
        file.write("{broken\n")
    with pytest.raises(DataError, match=r"traces\.jsonl, line 4"):
        from_folder(tmp_path)
    empty = tmp_path / "demos.jsonl"
    empty.touch()
    with pytest.raises(DataError, match=r"no traces in .*redpencil demos"):
        from_folder(empty)


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[str, str], str]:
    """Opens a page at a link in headless Chromium; gives back the document it became."""
    if BROWSER is None:
        pytest.skip("no Chromium on this machine")

    def open_page(page: str, link: str) -> str:
        path = tmp_path / "page.html"
        path.write_text(page)
        return subprocess.run(
            [
                BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"{path.as_uri()}{link}",
            ],
            capture_output=True, text=True, timeout=60, check=True,
        ).stdout  # fmt: skip

    return open_page


def shown_turns(dom: str) -> list[str]:
    return re.findall(r'class="state on" data-turn="(\d+)"', dom)


@pytest.mark.browser
def test_a_browser_steps_to_the_turn_that_a_link_names(
    page: str, opened: Callable[[str, str], str]
) -> None:
    dom = opened(page, "#trace=0&turn=2")
    assert 'class="js"' in dom
    assert shown_turns(dom) == ["2", "0", "0"]
    assert ">3 traces</output>" in dom


@pytest.mark.browser
def test_arrow_keys_buttons_and_filters_work(page: str, opened: Callable[[str, str], str]) -> None:
    acts = """<script>
      const press = key =>
        document.body.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
      press("ArrowRight"); press("ArrowRight"); press("ArrowRight"); press("ArrowLeft");
      document.querySelector("#trace-1 [data-step='1']").click();
      document.querySelector("#trace-2 [data-go='1']").click();
      document.getElementById("by-outcome").value = "no";
      document.getElementById("by-outcome").dispatchEvent(new Event("change"));
    </script></body>"""
    unguarded = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    dom = opened(unguarded.replace("</body>", acts), "#trace=0")
    assert shown_turns(dom) == ["2", "1", "1"]
    outcomes = [attrs for _, attrs in Tags(dom).found if "data-solved" in attrs]
    assert Counter((attrs["data-solved"], "hidden" in attrs) for attrs in outcomes) == {
        ("yes", True): 2,
        ("no", False): 1,
    }
    assert ">1 trace</output>" in dom


@pytest.mark.browser
def test_no_other_script_than_the_page_s_own_runs(
    page: str, opened: Callable[[str, str], str]
) -> None:
    foreign = "<script>document.body.dataset.taken = 'yes'</script></body>"
    assert "data-taken" not in opened(page.replace("</body>", foreign), "")
