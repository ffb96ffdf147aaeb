"""Chain-of-Edits, the paper's environment: one command a turn, the page's new state the answer."""

from __future__ import annotations

from rapidfuzz.distance import Levenshtein

from redpencil import editor
from redpencil.checkers import Checker, judge
from redpencil.env.protocol import PASS_MESSAGE, Decoding, EditRules, Step, broken_page
from redpencil.errors import ApplyError, ParseError, UsageError
from redpencil.types import Edit, End, Observation, Page, Status, Task

EDIT_PROMPT = """\
You are an expert Python programmer who fixes all mistakes in a snippet, only by these commands:
### ADDL n >>>line | ### REPL n >>>line | ### REPW n >>>old >>>new | ### DELL n | ### EXIT

Task: {prompt}
Tests:
{tests}

"""


class EditEnv:
    """Chain-of-Edits: the policy edits the page by one command a turn."""

    method = "coe"
    prompt = EDIT_PROMPT
    chat = False
    max_tokens = 96

    def __init__(self, task: Task, checker: Checker, rules: EditRules | None = None) -> None:
        """Prepare an episode.

        Raises:
            UsageError: the task has no broken program, or the rules pay for coming nearer to a
                solution that it has not.
        """
        self.task = task
        self.rules = rules or EditRules()
        if self.rules.reward.nearer and task.solution is None:
            raise UsageError(f"{task.id} has no solution: leave out rules.reward.nearer")
        self._page = broken_page(task)
        self._seen = {self._page}
        self._checker = checker
        self._turns = self._idle = 0
        self._paid = False

    def complete(self, text: str) -> bool:
        return "\n" in text

    def action(self, text: str) -> str:
        return text.partition("\n")[0]

    def grammar(self, decoding: Decoding) -> str | None:
        if decoding == "free":
            return None
        return editor.grammar(self._page, self._seen if decoding == "new-pages" else ())

    def leads_on(self, action: str) -> bool:
        edit, page, error = self._applied(action)
        exits = edit is not None and edit.command == "EXIT"
        return not error and (exits or page not in self._seen)

    def reset(self) -> Observation:
        self._turns = self._idle = 0
        self._page = broken_page(self.task)
        self._seen = {self._page}
        self._verdict = judge(self._checker, editor.page_text(self._page), self.task)
        self._paid = self._verdict.solved
        return self._resume(self._observe("", first=True))

    def _resume(self, first: Observation) -> Observation:
        """What is shown after the commands already given, which count against no limit."""
        if not self.task.given:
            return first
        text, last = first.text, len(self.task.given)
        for number, action in enumerate(self.task.given, 1):
            step = self.step(action)
            if step.end == "exit" or (step.end == "solved" and number == last):
                raise UsageError(f"{self.task.id}: the given {action!r} ends the episode")
            shown = step.observation.text
            text = shown if step.observation.fresh else f"{text}{action}\n{shown}"
        self._turns = self._idle = 0
        return Observation(text, self._page)

    def step(self, action: str) -> Step:
        rule = self.rules.reward
        edit, page, error = self._applied(action)
        if page != self._page:
            self._verdict = judge(self._checker, editor.page_text(page), self.task)
        exited = edit is not None and edit.command == "EXIT"
        reward = 0.0
        if error:
            reward += rule.malformed
        elif page == self._page and not exited:
            reward += rule.noop
        if exited and self._verdict.status is not Status.PASSED:
            reward += rule.given_up
        if self._verdict.solved and not self._paid:
            reward += rule.solve
            self._paid = True
        if rule.nearer:
            reward += rule.nearer * (self._distance(self._page) - self._distance(page))
        self._turns += 1
        self._idle = self._idle + 1 if page == self._page else 0
        self._page = page
        self._seen.add(page)
        end: End | None = None
        if exited:
            end = "exit"
        elif self.rules.until_solved and self._verdict.status is Status.PASSED:
            end = "solved"
        elif self._turns >= self.rules.max_turns or self._idle == self.rules.idle_turns:
            end = "truncated"
            reward += rule.no_exit
        return Step(self._observe(error), edit, error, self._verdict, reward, end)

    def _applied(self, action: str) -> tuple[Edit | None, Page, str]:
        """An action's parse, the page that it leads to, and what is wrong with it, if anything."""
        edit: Edit | None = None
        try:
            edit = self._parse(action)
            return edit, editor.apply(self._page, edit), ""
        except (ParseError, ApplyError) as problem:
            return edit, self._page, str(problem)

    def _distance(self, page: Page) -> int:
        """The fewest commands that turn a page into the solution."""
        return Levenshtein.distance(page, editor.load_page(self.task.solution or ""))

    def _parse(self, action: str) -> Edit:
        return editor.parse(action)

    def cut_short(self) -> float:
        return self.rules.reward.no_exit

    def _observe(self, error: str, *, first: bool = False) -> Observation:
        feedback = self._verdict.detail or PASS_MESSAGE
        if error:
            feedback = f"Not a valid command: {error}\n{feedback}"
        text = editor.render(self._page, feedback)
        if first or not self.rules.history:
            tests = "\n".join(self.task.tests)
            text = self.prompt.format(prompt=self.task.prompt, tests=tests) + text
        return Observation(text, self._page, fresh=not (first or self.rules.history))
