"""Editing in place: a command names a line, and the line is written after those before it.

A language model has learned to go on from what stands above. In `### REPL 3 >>>` nothing of the
program stands above the line that it writes; here the lines before it do.
"""

from __future__ import annotations

from typing import TypeGuard

import msgspec

from redpencil import editor
from redpencil.checkers import Checker
from redpencil.env.edit import EditEnv
from redpencil.env.protocol import Decoding, EditRules, Step
from redpencil.errors import ParseError
from redpencil.types import Edit, Observation, Task

PLACE_PROMPT = """\
You are an expert Python programmer who fixes all mistakes in a snippet, only by these commands:
### ADDL n | ### REPL n | ### DELL n | ### EXIT
After ADDL and REPL the lines before line n are shown, and you write the line.

Task: {prompt}
Tests:
{tests}

"""


class PlaceEnv(EditEnv):
    """Chain-of-Edits in halves: ADDL and REPL name a line, the next action is what it says.

    What is shown before the line does not end in a line end: the action begins with it. Many
    tokenizers have one token for a line end and the indentation after it, and a model that is
    shown the one and asked for the other is where no text has ever led it.
    """

    method = "in-place"
    prompt = PLACE_PROMPT

    def __init__(self, task: Task, checker: Checker, rules: EditRules | None = None) -> None:
        """Prepare an episode; see `EditEnv`."""
        super().__init__(task, checker, rules)
        self._named: Edit | None = None

    def complete(self, text: str) -> bool:
        return super().complete(text if self._named is None else text.removeprefix("\n"))

    def action(self, text: str) -> str:
        if self._named is None or not text.startswith("\n"):
            return super().action(text)
        return "\n" + super().action(text[1:])

    def grammar(self, decoding: Decoding) -> str | None:
        if decoding == "free":
            return None
        seen = self._seen if decoding == "new-pages" else ()
        if self._named is None:
            return editor.half_grammar(self._page, seen)
        return editor.line_grammar(self._page, self._named, seen)

    def leads_on(self, action: str) -> bool:
        edit, _, error = self._applied(action)
        return not error if self._only_names(edit) else super().leads_on(action)

    def reset(self) -> Observation:
        self._named = None
        return super().reset()

    def step(self, action: str) -> Step:
        edit, _, error = self._applied(action)
        if error or not self._only_names(edit):
            step = super().step(action)
            self._named = None
            return step
        self._named = edit
        before = "".join(f"\n{line}" for line in self._page[: edit.line - 1])
        shown = Observation(f"```python{before}", self._page)
        return Step(shown, None, "", self._verdict, 0.0, None, half=True)

    def _only_names(self, edit: Edit | None) -> TypeGuard[Edit]:
        """Whether an edit names a line whose text is yet to be written."""
        return self._named is None and edit is not None and edit.command in ("ADDL", "REPL")

    def _parse(self, action: str) -> Edit:
        """The edit that an action is; with no text yet where it only names a line."""
        if self._named is None:
            return editor.parse_half(action)
        if not action.startswith("\n") or "\n" in action[1:]:
            raise ParseError("expected a line end and one line")
        return msgspec.structs.replace(self._named, text=action[1:])
