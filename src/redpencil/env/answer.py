"""Whole programs in answers, the baselines: at once, after thoughts in words, or again and again.

`WriteEnv` asks for a program where there is none yet, which is where faults come from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from redpencil import editor
from redpencil.checkers import Checker, judge
from redpencil.env.protocol import PASS_MESSAGE, Decoding, RewardRule, Step, broken_page
from redpencil.types import End, Observation, Page, Status, Task

ANSWER = """\
Fix this Python program so that the tests pass. \
Answer with nothing but the whole fixed program in a ```python block."""

THINK = """\
Fix this Python program so that the tests pass. First think, step by step and in words. \
Then write the whole fixed program in a ```python block."""

ANSWER_PROMPT = """\
{instruction}

Task: {prompt}

Tests:
{tests}

Program:
```python
{program}```

Running it says:
{feedback}"""

AGAIN_PROMPT = """\
Not all tests pass yet. Running your program says:
{feedback}

Answer with nothing but the whole fixed program in a ```python block."""

WRITE_PROMPT = "You are an expert Python programmer. Each program makes the tests of its task pass."

_CHARACTERS_PER_TOKEN = 3
"""Code has rather more, and what is set apart for an answer has to fit into the context."""

_FENCE = re.compile(r"```[A-Za-z0-9]*[ ]*\n(.*?)^[ ]*```", re.DOTALL | re.MULTILINE)
_OPENING = re.compile(r"```[A-Za-z0-9]*[ ]*\n")


class _Answering:
    """An episode whose actions are whole programs, each in a fenced block; one, unless told."""

    chat = True
    max_tokens = 384
    """At least; a broken program is given room to be written anew, be it as long as it may."""
    max_turns = 1

    def __init__(
        self,
        task: Task,
        checker: Checker,
        examples: Sequence[Task] = (),
        reward: RewardRule | None = None,
    ) -> None:
        """Prepare an episode.

        Args:
            examples: other tasks, which are shown with their solutions.
        """
        self.task = task
        self.reward = reward or RewardRule()
        self._checker = checker
        self._examples = examples
        self._turns = 0
        self._paid = False

    def complete(self, text: str) -> bool:
        return _FENCE.search(text) is not None

    def program(self, answer: str) -> str:
        """The program that an answer is judged by."""
        return answered_program(answer)

    def action(self, text: str) -> str:
        return text

    def grammar(self, decoding: Decoding) -> str | None:
        return None

    def leads_on(self, action: str) -> bool:
        return True

    def step(self, action: str) -> Step:
        page = editor.load_page(self.program(action))
        verdict = judge(self._checker, editor.page_text(page), self.task)
        error = "" if _OPENING.search(action) else "no ``` block in the answer"
        reward = self.reward.malformed if error else 0.0
        if verdict.solved and not self._paid:
            reward += self.reward.solve
            self._paid = True
        self._turns += 1
        feedback = verdict.detail or PASS_MESSAGE
        end: End | None = None
        if self.max_turns == 1:
            end = "exit"
        elif verdict.status is Status.PASSED:
            end = "solved"
        elif self._turns == self.max_turns:
            end = "truncated"
        text = editor.render(page, feedback) if end else AGAIN_PROMPT.format(feedback=feedback)
        return Step(Observation(text, page), None, error, verdict, reward, end)

    def cut_short(self) -> float:
        return 0.0


class AnswerEnv(_Answering):
    """The direct-answer baseline: one turn, in which the whole program is written anew."""

    method = "direct"
    instruction = ANSWER

    def __init__(
        self,
        task: Task,
        checker: Checker,
        examples: Sequence[Task] = (),
        reward: RewardRule | None = None,
    ) -> None:
        """Prepare an episode.

        Args:
            examples: other broken programs, which are shown with their solutions.

        Raises:
            UsageError: the task, or an example, has no broken program.
        """
        super().__init__(task, checker, examples, reward)
        for shown in (task, *examples):
            broken_page(shown)
        program = len(task.program or "") // _CHARACTERS_PER_TOKEN
        self.max_tokens += max(0, program - _Answering.max_tokens)

    def reset(self) -> Observation:
        self._turns = 0
        self._paid = False
        shown = [
            f"{self._asked(task)}\n\nAnswer:\n{fenced(task.solution or '')}\n"
            for task in self._examples
        ]
        last = self._asked(self.task)
        if shown:
            last += "\n\nAnswer:"
        return Observation("\n".join([*shown, last]), broken_page(self.task))

    def _asked(self, task: Task) -> str:
        page = broken_page(task)
        verdict = judge(self._checker, editor.page_text(page), task)
        return ANSWER_PROMPT.format(
            instruction=self.instruction,
            prompt=task.prompt,
            tests="\n".join(task.tests),
            program=editor.page_text(page),
            feedback=verdict.detail or PASS_MESSAGE,
        )


class ThinkEnv(AnswerEnv):
    """The reasoning baseline: thoughts in words, then the whole program, in one answer.

    Thoughts quote code in fenced blocks too, the broken program first of all. So only the model
    ends the answer, or the limit on tokens, and what it ends with counts.
    """

    method = "reasoning"
    instruction = THINK
    max_tokens = 1024

    def complete(self, text: str) -> bool:
        return False

    def program(self, answer: str) -> str:
        return concluding_program(answer)


class SelfRepairEnv(AnswerEnv):
    """Whole programs, one a turn, with what running the last one says, until the tests pass."""

    method = "self-repair"

    def __init__(
        self,
        task: Task,
        checker: Checker,
        examples: Sequence[Task] = (),
        reward: RewardRule | None = None,
        max_turns: int = 10,
    ) -> None:
        """Prepare an episode of at most `max_turns` answers; see `AnswerEnv`."""
        super().__init__(task, checker, examples, reward)
        self.max_turns = max_turns


class WriteEnv(_Answering):
    """A program is written from the task's words and tests, after some that others solved.

    The prompt is plain text to go on with, so that models without a chat template can be asked.
    """

    method = "write"
    chat = False

    def reset(self) -> Observation:
        self._turns = 0
        self._paid = False
        shown = [f"{_wanted(task)}{fenced(task.solution or '')}\n" for task in self._examples]
        return Observation("\n".join([f"{WRITE_PROMPT}\n", *shown, _wanted(self.task)]), ())


def fenced(program: str) -> str:
    """A program as an answer gives it, in a fenced block."""
    return f"```python\n{editor.page_text(editor.load_page(program))}```"


def answered_program(answer: str) -> str:
    """The program in an answer: its first fenced block, closed or not, else all of it."""
    match = _FENCE.search(answer)
    return match.group(1) if match else _OPENING.split(answer, maxsplit=1)[-1]


def concluding_program(answer: str) -> str:
    """The program that thoughts end with: the last fenced block that is closed, else the last one.

    All of the answer where there is none.
    """
    closed: list[str] = _FENCE.findall(answer)
    return closed[-1] if closed else _OPENING.split(answer)[-1]


def finished_program(answer: str) -> Page | None:
    """The page in an answer's first fenced block; None where the block is missing or not closed."""
    match = _FENCE.search(answer)
    return editor.load_page(match.group(1)) if match else None


def _wanted(task: Task) -> str:
    tests = "\n".join(task.tests)
    return f"Task: {task.prompt}\nTests:\n{tests}\nProgram:\n"
