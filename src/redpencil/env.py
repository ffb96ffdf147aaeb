"""Episodes: a task, a checker, and rewards as data.

`EditEnv` is the paper's Chain-of-Edits: one command a turn, the page's new state as the answer.
`AnswerEnv` is the baseline: the whole repaired program in a single answer. `WriteEnv` asks for a
program where there is none yet, which is where faults come from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from redpencil import editor
from redpencil.checkers import Checker
from redpencil.errors import ApplyError, ParseError, SandboxError, UsageError
from redpencil.types import Edit, End, Observation, Page, Status, Task, Value, Verdict

PASS_MESSAGE = "All tests pass."

EDIT_PROMPT = """\
You are an expert Python programmer who fixes all mistakes in a snippet, only by these commands:
### ADDL n >>>line | ### REPL n >>>line | ### REPW n >>>old >>>new | ### DELL n | ### EXIT

Task: {prompt}
Tests:
{tests}

"""

ANSWER_PROMPT = """\
Fix this Python program so that the tests pass. \
Answer with nothing but the whole fixed program in a ```python block.

Task: {prompt}

Tests:
{tests}

Program:
```python
{program}```

Running it says:
{feedback}"""

WRITE_PROMPT = "You are an expert Python programmer. Each program makes the tests of its task pass."

_FENCE = re.compile(r"```[A-Za-z0-9]*[ ]*\n(.*?)^[ ]*```", re.DOTALL | re.MULTILINE)
_OPEN_FENCE = re.compile(r"```[A-Za-z0-9]*[ ]*\n(.*)", re.DOTALL)


class RewardRule(Value, frozen=True):
    """Rewards per turn (paper, section on RLVR); the no-op cost is ours and off by default."""

    solve: float = 1.0
    """Paid once, in the turn whose page first passes every test."""
    malformed: float = -0.5
    """For an action that is no command the page can take."""
    no_exit: float = -0.5
    """Added to the last turn when a limit ends the episode instead of EXIT."""
    noop: float = 0.0
    """For a command that leaves the page as it was."""


class EditRules(Value, frozen=True):
    """What an episode of editing costs, and when it ends."""

    max_turns: int = 10
    idle_turns: int | None = None
    """So many turns in a row that leave the page as it was end the episode as a limit does."""
    until_solved: bool = False
    """End as soon as the visible tests pass, without waiting for EXIT."""
    reward: RewardRule = msgspec.field(default_factory=RewardRule)


class Step(NamedTuple):
    """What an action led to."""

    observation: Observation
    edit: Edit | None
    error: str
    verdict: Verdict
    reward: float
    end: End | None
    """Why the episode is over, or None while it goes on."""

    @property
    def terminated(self) -> bool:
        """Ended by the policy (EXIT, or its one answer), or because the tests pass."""
        return self.end in ("exit", "solved")

    @property
    def truncated(self) -> bool:
        """Ended by a limit."""
        return self.end == "truncated"


class Env(Protocol):
    """One episode of one task; the rollout owns the loop."""

    @property
    def task(self) -> Task: ...
    @property
    def method(self) -> str:
        """Name on the trace: `coe`, `direct` or `write`."""

    @property
    def chat(self) -> bool:
        """Whether the observation is a user's message to put into the model's chat template."""

    @property
    def max_tokens(self) -> int:
        """Most tokens an action may have."""

    def complete(self, text: str) -> bool:
        """Whether the action that begins with `text` needs nothing more."""

    def action(self, text: str) -> str:
        """The action proper in what was sampled, which may run past its end."""

    def grammar(self) -> str | None:
        """What the next action has to be to be well formed; None where anything is."""

    def reset(self) -> Observation:
        """Start the episode.

        Raises:
            SandboxError: the checker could not judge the program.
        """

    def step(self, action: str) -> Step:
        """Take one action.

        Raises:
            SandboxError: the checker could not judge the program.
        """

    def cut_short(self) -> float:
        """The reward for being ended by a limit that the environment does not know of."""


class EditEnv:
    """Chain-of-Edits: the policy edits the page by one command a turn."""

    method = "coe"
    chat = False
    max_tokens = 96

    def __init__(self, task: Task, checker: Checker, rules: EditRules | None = None) -> None:
        """Prepare an episode.

        Raises:
            UsageError: the task has no broken program.
        """
        self.task = task
        self.rules = rules or EditRules()
        self._page = editor.load_page(_broken_program(task))
        self._checker = checker
        self._turns = self._idle = 0
        self._paid = False

    def complete(self, text: str) -> bool:
        return "\n" in text

    def action(self, text: str) -> str:
        return text.partition("\n")[0]

    def grammar(self) -> str | None:
        return editor.grammar(self._page)

    def reset(self) -> Observation:
        self._turns = self._idle = 0
        self._page = editor.load_page(_broken_program(self.task))
        self._verdict = _judge(self._checker, self._page, self.task)
        self._paid = self._verdict.solved
        prompt = EDIT_PROMPT.format(prompt=self.task.prompt, tests="\n".join(self.task.tests))
        return self._observe(prompt, "")

    def step(self, action: str) -> Step:
        rule = self.rules.reward
        edit: Edit | None = None
        error, page = "", self._page
        try:
            edit = editor.parse(action)
            page = editor.apply(self._page, edit)
        except (ParseError, ApplyError) as problem:
            error = str(problem)
        if page != self._page:
            self._verdict = _judge(self._checker, page, self.task)
        exited = edit is not None and edit.command == "EXIT"
        reward = 0.0
        if error:
            reward += rule.malformed
        elif page == self._page and not exited:
            reward += rule.noop
        if self._verdict.solved and not self._paid:
            reward += rule.solve
            self._paid = True
        self._turns += 1
        self._idle = self._idle + 1 if page == self._page else 0
        self._page = page
        end: End | None = None
        if exited:
            end = "exit"
        elif self.rules.until_solved and self._verdict.status is Status.PASSED:
            end = "solved"
        elif self._turns >= self.rules.max_turns or self._idle == self.rules.idle_turns:
            end = "truncated"
            reward += rule.no_exit
        return Step(self._observe("", error), edit, error, self._verdict, reward, end)

    def cut_short(self) -> float:
        return self.rules.reward.no_exit

    def _observe(self, prefix: str, error: str) -> Observation:
        feedback = self._verdict.detail or PASS_MESSAGE
        if error:
            feedback = f"Not a valid command: {error}\n{feedback}"
        return Observation(prefix + editor.render(self._page, feedback), self._page)


class _OneAnswer:
    """An episode of one turn, in which a whole program is written."""

    chat = True
    max_tokens = 384

    def __init__(self, task: Task, checker: Checker, reward: RewardRule | None = None) -> None:
        self.task = task
        self.reward = reward or RewardRule()
        self._checker = checker

    def complete(self, text: str) -> bool:
        return _FENCE.search(text) is not None

    def action(self, text: str) -> str:
        return text

    def grammar(self) -> str | None:
        return None

    def step(self, action: str) -> Step:
        page = editor.load_page(answered_program(action))
        verdict = _judge(self._checker, page, self.task)
        error = "" if _OPEN_FENCE.search(action) else "no ``` block in the answer"
        reward = (self.reward.solve if verdict.solved else 0.0) + (
            self.reward.malformed if error else 0.0
        )
        observation = Observation(editor.render(page, verdict.detail or PASS_MESSAGE), page)
        return Step(observation, None, error, verdict, reward, "exit")

    def cut_short(self) -> float:
        return 0.0


class AnswerEnv(_OneAnswer):
    """The direct-answer baseline: one turn, in which the whole program is written anew."""

    method = "direct"

    def __init__(self, task: Task, checker: Checker, reward: RewardRule | None = None) -> None:
        """Prepare an episode.

        Raises:
            UsageError: the task has no broken program.
        """
        super().__init__(task, checker, reward)
        self._page = editor.load_page(_broken_program(task))

    def reset(self) -> Observation:
        verdict = _judge(self._checker, self._page, self.task)
        text = ANSWER_PROMPT.format(
            prompt=self.task.prompt,
            tests="\n".join(self.task.tests),
            program=editor.page_text(self._page),
            feedback=verdict.detail or PASS_MESSAGE,
        )
        return Observation(text, self._page)


class WriteEnv(_OneAnswer):
    """A program is written from the task's words and tests, after some that others solved.

    The prompt is plain text to go on with, so that models without a chat template can be asked.
    """

    method = "write"
    chat = False

    def __init__(
        self,
        task: Task,
        checker: Checker,
        examples: Sequence[Task] = (),
        reward: RewardRule | None = None,
    ) -> None:
        """Prepare an episode.

        Args:
            examples: other tasks, whose solutions are shown.
        """
        super().__init__(task, checker, reward)
        self._examples = examples

    def reset(self) -> Observation:
        shown = [f"{_asked(task)}{_fenced(task.solution or '')}" for task in self._examples]
        return Observation("\n".join([f"{WRITE_PROMPT}\n", *shown, _asked(self.task)]), ())


def answered_program(answer: str) -> str:
    """The program in an answer: its first fenced block, closed or not, else all of it."""
    match = _FENCE.search(answer) or _OPEN_FENCE.search(answer)
    return match.group(1) if match else answer


def finished_program(answer: str) -> Page | None:
    """The page in an answer's first fenced block; None where the block is missing or not closed."""
    match = _FENCE.search(answer)
    return editor.load_page(match.group(1)) if match else None


def _asked(task: Task) -> str:
    tests = "\n".join(task.tests)
    return f"Task: {task.prompt}\nTests:\n{tests}\nProgram:\n"


def _fenced(program: str) -> str:
    return f"```python\n{editor.page_text(editor.load_page(program))}```\n"


def _broken_program(task: Task) -> str:
    if task.program is None:
        raise UsageError(f"task {task.id} has no program to repair: corrupt its solution first")
    return task.program


def _judge(checker: Checker, page: Page, task: Task) -> Verdict:
    verdict = checker.check(editor.page_text(page), task)
    if verdict.status is Status.INFRA_ERROR:
        raise SandboxError(verdict.detail)
    return verdict
