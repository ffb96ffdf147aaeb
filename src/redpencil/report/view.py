"""What the page shows of a trace: lines highlighted and marked, commands, verdicts, rewards."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers.python import PythonLexer

from redpencil import editor
from redpencil.env import EDITS
from redpencil.env.answer import AGAIN_PROMPT, ANSWER_PROMPT
from redpencil.results import noops
from redpencil.types import Observation, Page, Status, Trace, Turn, Verdict

Mark = Literal["", "new", "gone"]
Tone = Literal["start", "solved", "partial", "failing", "malformed"]

_ENDS = {
    "exit": "The model ended the episode.",
    "solved": "Ended because the tests pass.",
    "truncated": "Ended by a limit.",
    "cut_short": "Cut short: no room for another action, or none was given.",
    "error": "Ended by a fault of the infrastructure",
}
_LIGHT, _DARK = "default", "github-dark"
_MOST_PIPS = 20

_BEFORE_ANSWER_FEEDBACK = ANSWER_PROMPT.rpartition("{program}")[2].removesuffix("{feedback}")
_BEFORE_AGAIN, _AFTER_AGAIN = AGAIN_PROMPT.split("{feedback}")
_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
_PICTURES |= {0x7F: 0x2421, 0xFEFF: 0xFFFD}


@dataclass(frozen=True)
class Line:
    """One line of a page; lines that went are shown struck, without a number."""

    number: int | None
    html: Markup
    mark: Mark


@dataclass(frozen=True)
class Outcome:
    """What an action was, and what came of it."""

    command: str
    """The part that names the edit; empty for a direct answer."""
    content: str
    """What the command writes, or the whole answer."""
    error: str
    idle: bool
    """The page stayed as it was, though the command is neither malformed nor EXIT."""
    given: bool
    """It was put into the policy's mouth."""
    tests: str
    pips: str
    """A filled dot for each visible test that passes, an open one for each that does not."""
    reward: str


@dataclass(frozen=True)
class State:
    """The page at the start, or after a turn together with the turn's outcome."""

    lines: list[Line]
    feedback: str
    tone: Tone
    outcome: Outcome | None


@dataclass(frozen=True)
class TraceView:
    """One trace as the page shows it."""

    label: str
    task_id: str
    prompt: str
    tests: tuple[str, ...]
    answers: bool
    """Its actions are whole programs, not edits."""
    solved: bool
    end: str
    corruptions: str
    given: tuple[str, ...]
    """Commands that led to the first page."""
    states: list[State]


def trace_view(trace: Trace, label: str) -> TraceView:
    """A trace's states, from the broken page to the last, under the label of its entry."""
    answers = trace.method not in EDITS
    end = "One answer, and no other try." if answers and trace.end == "exit" else _ENDS[trace.end]
    return TraceView(
        label=label,
        task_id=trace.task.id,
        prompt=visible(trace.task.prompt),
        tests=tuple(visible(test) for test in trace.task.tests),
        answers=answers,
        solved=trace.solved,
        end=f"{end}: {visible(trace.error)}" if trace.error else end,
        corruptions=", ".join(name.replace("_", " ") for name in trace.corruptions),
        given=tuple(map(visible, trace.task.given)),
        states=list(_states(trace)),
    )


def code_css() -> Markup:
    """Pygments' colours for both schemes."""
    light, dark = (_rules(style) for style in (_LIGHT, _DARK))
    return Markup(f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}")


def visible(text: str) -> str:
    """The text with its control characters as pictures; line feeds and tabs stay."""
    return text.translate(_PICTURES)


@lru_cache(maxsize=256)
def highlighted(page: Page) -> tuple[Markup, ...]:
    """Each line's HTML, escaped; as many as the page has lines."""
    if not page:
        return ()
    lexer = PythonLexer(stripnl=False, ensurenl=False)
    html = highlight(visible("\n".join(page)), lexer, HtmlFormatter(nowrap=True))
    return tuple(Markup(line) for line in html.split("\n")[: len(page)])


def _states(trace: Trace) -> Iterator[State]:
    seen = [*(turn.observation for turn in trace.turns), trace.final]
    first = seen[0]
    lines = [Line(n, html, "") for n, html in enumerate(highlighted(first.page), 1)]
    feedback = _feedback(first, last=bool(trace.task.given))
    yield State(lines, feedback, "start", None)
    idle = iter(noops(trace))
    begun = False
    for turn, before, after in zip(trace.turns, seen, seen[1:], strict=False):
        feedback = feedback if turn.half else _feedback(after)
        yield State(
            lines=_changed_lines(turn, before.page, after.page),
            feedback=feedback,
            tone=_tone(turn),
            outcome=_outcome(
                turn,
                is_text=begun or trace.method not in EDITS,
                idle=not turn.half and next(idle),
            ),
        )
        begun = turn.half


def _outcome(turn: Turn, *, is_text: bool, idle: bool) -> Outcome:
    """What became of a turn, whose action is a command unless it is text alone."""
    verb, arrow, content = turn.action.partition(editor.ARROW)
    if is_text:
        verb, arrow, content = "", "", turn.action.removeprefix("\n")
    return Outcome(
        command=visible(verb + arrow),
        content=visible(content),
        error=visible(turn.error),
        idle=idle,
        given=turn.given,
        tests=_tests(turn.verdict),
        pips=_pips(turn.verdict),
        reward=f"{turn.reward:+g}" if turn.reward else "0",
    )


def _tests(verdict: Verdict) -> str:
    text = f"{verdict.passed} of {verdict.total} tests pass"
    if verdict.hidden_total:
        text += f", {verdict.hidden_passed} of {verdict.hidden_total} hidden"
    if verdict.status not in (Status.PASSED, Status.FAILED):
        text += f" ({verdict.status.replace('_', ' ')})"
    return text


def _pips(verdict: Verdict) -> str:
    if verdict.total > _MOST_PIPS:
        return ""
    return "●" * verdict.passed + "○" * (verdict.total - verdict.passed)


def _tone(turn: Turn) -> Tone:
    if turn.error:
        return "malformed"
    if turn.verdict.solved:
        return "solved"
    return "partial" if turn.verdict.passed else "failing"


def _feedback(observation: Observation, *, last: bool = False) -> str:
    """What running the page said; the whole text where it is in no environment's form.

    Args:
        last: the text has earlier pages before this one, which may be alike.
    """
    if observation.text.startswith(_BEFORE_AGAIN) and observation.text.endswith(_AFTER_AGAIN):
        text = observation.text.removeprefix(_BEFORE_AGAIN).removesuffix(_AFTER_AGAIN)
        return visible(text.rstrip("\n"))
    for lead in (
        editor.render(observation.page, "").removesuffix("\n"),
        editor.page_text(observation.page) + _BEFORE_ANSWER_FEEDBACK,
    ):
        cut = observation.text.rpartition if last else observation.text.partition
        _, found, feedback = cut(lead)
        if found:
            return visible(feedback.rstrip("\n"))
    return visible(observation.text)


def _changed_lines(turn: Turn, before: Page, after: Page) -> list[Line]:
    """The lines of `after`, those that are new marked, those that went put where they were."""
    old, new = highlighted(before), highlighted(after)
    lines: list[Line] = []
    for gone, kept_or_new, mark in _changes(turn, before, after):
        lines += [Line(None, old[index], "gone") for index in gone]
        lines += [Line(index + 1, new[index], mark) for index in kept_or_new]
    return lines


def _changes(turn: Turn, before: Page, after: Page) -> Iterator[tuple[range, range, Mark]]:
    """Runs of lines: indices gone from `before`, indices in `after`, and how these are marked.

    An edit says itself which line it changed, which a comparison could only guess among equal
    lines; a whole new program is compared.
    """
    if before == after:
        yield range(0), range(len(after)), ""
    elif turn.edit is not None:
        at = turn.edit.line - 1
        gone = range(at, at + (turn.edit.command != "ADDL"))
        new = range(at, at + (turn.edit.command != "DELL"))
        yield range(0), range(at), ""
        yield gone, new, "new"
        yield range(0), range(new.stop, len(after)), ""
    else:
        matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
        for tag, a, b, c, d in matcher.get_opcodes():
            equal = tag == "equal"
            yield range(0) if equal else range(a, b), range(c, d), "" if equal else "new"


def _rules(style: str) -> str:
    """A Pygments style's rules for tokens; what it says of backgrounds and `pre` is left out."""
    rules = HtmlFormatter(style=style).get_style_defs(".code").split("\n")
    return "\n".join(rule for rule in rules if rule.startswith(".code .") and ".hll" not in rule)
