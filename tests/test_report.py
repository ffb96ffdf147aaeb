"""The page: complete, self-contained, and safe from what traces hold."""

from __future__ import annotations

import html
import itertools
import re
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made import Act, episode, origin
from redpencil.checkers import PythonChecker
from redpencil.env import AnswerEnv, EditEnv, Env, PlaceEnv
from redpencil.errors import MissingDependency, UsageError
from redpencil.policy import ScriptedPolicy
from redpencil.report import Curve, Entry, build, markdown, write_markdown
from redpencil.report.view import highlighted, trace_view, visible
from redpencil.results import Results, summarise
from redpencil.rollout import Episode, rollout
from redpencil.types import Observation, Task, Trace
from tags import Tags

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


def test_markdown_shows_the_pages_plots_as_images_of_their_own(
    measured: list[Entry], tmp_path: Path
) -> None:
    curves = [Curve("a | loss", [(1, 2.0), (2, 1.0)])]
    path = tmp_path / "both.md"
    write_markdown(path, "t", measured, curves)
    text = path.read_text()
    assert "![Results](both.plots/results-plot-0.svg)" in text
    shown = re.findall(r"!\[.*?\]\((.*?)\)", text)
    drawn = sorted(f"both.plots/{file.name}" for file in (tmp_path / "both.plots").iterdir())
    assert sorted(shown) == drawn
    assert {re.split(r"[/-]", name)[1] for name in shown} == {
        "results", "compute", "corruptions", "faults", "learning",
    }  # fmt: skip
    for name in shown:
        image = ElementTree.parse(tmp_path / name).getroot()
        assert image.tag == "{http://www.w3.org/2000/svg}svg"
        used = set(re.findall(r"var\((--[\w-]+)\)", (tmp_path / name).read_text()))
        style = image.findtext("{http://www.w3.org/2000/svg}style") or ""
        assert all(f"{colour}:" in style for colour in used)
    assert text.index("## Learning") < text.index("a \\| loss") < text.index("## How this was")
    write_markdown(tmp_path / "of both.md", "t", measured, curves)
    assert "(of%20both.plots/" in (tmp_path / "of both.md").read_text()
    write_markdown(tmp_path / "bare.md", "t", measured)
    assert "![" not in (tmp_path / "bare.md").read_text()
    assert not (tmp_path / "bare.plots").exists()


def test_the_tables_can_be_had_as_markdown(measured: list[Entry]) -> None:
    text = markdown("A <title>", measured)
    assert text.startswith("# A \\<title\\>\n")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)\|", row) for row in rows]
    for above, below in itertools.pairwise(cells):
        if below[1] == " --- ":
            assert len(above) == len(below)
    shown = r"**+50.0** | +0.0 to +100.0 | 1.000 | 1 | 0 | 1 | 100.0% (15.8 to 100.0)"
    assert rf"| two | one \| \*first\* | {shown} |" in rows
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


def test_an_edit_in_place_shows_the_line_named_and_then_the_line(double: Task) -> None:
    actions = ["### REPL 2", "\n    return n * 2", "### EXIT"]
    view = trace_view(play(PlaceEnv(double, PythonChecker()), actions), "x")
    outcomes = [state.outcome for state in view.states if state.outcome]
    shown = [(outcome.command, outcome.content) for outcome in outcomes]
    assert shown == [("### REPL 2", ""), ("", "    return n * 2"), ("### EXIT", "")]
    assert not any(outcome.idle for outcome in outcomes)
    assert view.states[1].feedback == view.states[0].feedback
    assert not view.answers


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


def test_an_episode_that_begins_amid_one_shows_what_led_there(double: Task) -> None:
    vain = "### REPL 2 >>>    return n + 2"
    begun = msgspec.structs.replace(double, given=(vain, "### OOPS", vain))
    trace = play(EditEnv(begun, PythonChecker()), [FIX, "### EXIT"])
    usual = play(EditEnv(double, PythonChecker()), [vain])
    assert trace_view(trace, "x").states[0].feedback == trace_view(usual, "x").states[1].feedback
    page = build("t", [Entry("x", None, [trace])], [])
    assert "Amid an episode" in page
    assert "\n".join(begun.given) in html.unescape(page)
    assert "Amid an episode" not in build("t", [Entry("x", None, [usual])], [])


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


def test_a_command_that_was_given_says_so(traces: list[Trace]) -> None:
    stumble = msgspec.structs.replace(traces[0].turns[0], given=True)
    stumbled = msgspec.structs.replace(traces[0], turns=(stumble, *traces[0].turns[1:]))
    pages = [build("x", [Entry("x", None, [trace])], []) for trace in (traces[0], stumbled)]
    assert [page.count("not learned from") for page in pages] == [0, 1]
