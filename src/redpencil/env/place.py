"""Editing in place: a command names a line, and the line is written after those before it.

A language model has learned to go on from what stands above. In `### REPL 3 >>>` nothing of the
program stands above the line that it writes; here the lines before it do.
"""

from __future__ import annotations

import msgspec

from redpencil import editor
from redpencil.checkers import Checker
from redpencil.env.edit import EditEnv
from redpencil.env.protocol import Decoding, EditRules, Step
from redpencil.errors import ApplyError, ParseError
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
    """Chain-of-Edits in halves: ADDL and REPL name a line, the next action is what it says."""

    method = "in-place"
    prompt = PLACE_PROMPT

    def __init__(self, task: Task, checker: Checker, rules: EditRules | None = None) -> None:
        """Prepare an episode; see `EditEnv`."""
        super().__init__(task, checker, rules)
        self._named: Edit | None = None

    def reset(self) -> Observation:
        self._named = None
        return super().reset()

    def grammar(self, decoding: Decoding) -> str | None:
        if decoding == "free":
            return None
        seen = self._seen if decoding == "new-pages" else ()
        if self._named is None:
            return editor.half_grammar(self._page, seen)
        return editor.line_grammar(self._page, self._named, seen)

    def leads_on(self, action: str) -> bool:
        try:
            edit = self._edit(action)
            page = editor.apply(self._page, edit)
        except (ParseError, ApplyError):
            return False
        names = self._named is None and edit.command in ("ADDL", "REPL")
        return names or edit.command == "EXIT" or page not in self._seen

    def step(self, action: str) -> Step:
        edit: Edit | None = None
        try:
            edit = self._edit(action)
            page = editor.apply(self._page, edit)
        except (ParseError, ApplyError) as problem:
            return self._take(edit, self._page, str(problem))
        if self._named is None and edit.command in ("ADDL", "REPL"):
            self._named = edit
            before = editor.page_text(self._page[: edit.line - 1])
            return Step(
                Observation(f"```python\n{before}", self._page), None, "", self._verdict, 0.0, None
            )
        self._named = None
        return self._take(edit, page, "")

    def _edit(self, action: str) -> Edit:
        """The edit that an action is; with no text yet where it only names a line."""
        if self._named is not None:
            return msgspec.structs.replace(self._named, text=action)
        return editor.parse_half(action)
