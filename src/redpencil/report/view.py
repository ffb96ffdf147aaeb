"""What the page shows of a trace: lines highlighted and marked, commands, verdicts, rewards."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from redpencil.env import PASS_MESSAGE
from redpencil.types import Page, Trace, Turn

Mark = Literal["", "new", "gone"]

_ENDS = {
    "exit": "the model ended the episode",
    "solved": "ended because the tests pass",
    "truncated": "ended by a limit",
    "error": "ended by a fault of the infrastructure",
}


@dataclass(frozen=True)
class Line:
    """One line of a page; lines that went are shown struck, without a number."""

    number: int | None
    html: Markup
    mark: Mark


@dataclass(frozen=True)
class State:
    """The page after a turn (or at the start), with what led to it and what running it says."""

    lines: list[Line]
    feedback: str
    command: str
    error: str
    reward: float
    passed: bool
    tests: str


@dataclass(frozen=True)
class TraceView:
    """One trace as the page shows it."""

    label: str
    task_id: str
    prompt: str
    tests: tuple[str, ...]
    solved: bool
    end: str
    corruptions: str
    states: list[State]


def trace(trace: Trace, label: str) -> TraceView:
    """A trace's states, from the broken page to the last."""
    end = _ENDS[trace.end] + (f": {trace.error}" if trace.error else "")
    return TraceView(
        label=label,
        task_id=trace.task.id,
        prompt=trace.task.prompt,
        tests=trace.task.tests,
        solved=trace.solved,
        end=end if trace.method == "coe" else "one answer",
        corruptions=", ".join(name.replace("_", " ") for name in trace.corruptions),
        states=_states(trace),
    )


def code_css() -> Markup:
    """Pygments' colours for both schemes."""
    from pygments.formatters import HtmlFormatter

    light = HtmlFormatter(style="friendly").get_style_defs(".code")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".code")
    return Markup(f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}")


def _states(trace: Trace) -> list[State]:
    start = trace.turns[0].observation if trace.turns else trace.final
    feedback = _feedback(start.text) if trace.method == "coe" else start.text.rpartition("\n")[2]
    states = [State(_lines(start.page, start.page), feedback, "", "", 0.0, False, "")]
    before = start.page
    for index, turn in enumerate(trace.turns):
        last = index + 1 == len(trace.turns)
        after = (trace.final if last else trace.turns[index + 1].observation).page
        states.append(_state(turn, before, after))
        before = after
    return states


def _state(turn: Turn, before: Page, after: Page) -> State:
    verdict = turn.verdict
    return State(
        lines=_lines(before, after),
        feedback=verdict.detail or PASS_MESSAGE,
        command=turn.action,
        error=turn.error,
        reward=turn.reward,
        passed=verdict.solved,
        tests=f"{verdict.passed} of {verdict.total} tests pass"
        + (
            f", {verdict.hidden_passed} of {verdict.hidden_total} hidden"
            if verdict.hidden_total
            else ""
        ),
    )


def _feedback(observation: str) -> str:
    return observation.rpartition("\n***\n")[2].rstrip("\n")


def _lines(before: Page, after: Page) -> list[Line]:
    """The lines of `after`, those that are new marked, those that went put where they were."""
    old, new = _highlight(before), _highlight(after)
    lines: list[Line] = []
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag != "equal":
            lines += [Line(None, old[index], "gone") for index in range(a, b)]
        mark: Mark = "" if tag == "equal" else "new"
        lines += [Line(index + 1, new[index], mark) for index in range(c, d)]
    return lines


def _highlight(page: Page) -> list[Markup]:
    """Each line's HTML; Pygments escapes what the program holds."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers.python import PythonLexer

    if not page:
        return []
    lexer = PythonLexer(stripnl=False, ensurenl=False)
    text = "\n".join(page)
    html = highlight(text, lexer, HtmlFormatter(nowrap=True)).split("\n")
    return [Markup(line) for line in html[: len(page)]]
