"""Who acts: a script, a person, or a model behind an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from redpencil.editor import format_edit
from redpencil.engine import Engine, Sampling
from redpencil.env import PASS_MESSAGE, Env
from redpencil.errors import UsageError
from redpencil.types import Edit, Observation, Task


class Action(NamedTuple):
    """What a policy did, with its tokens where it has any."""

    text: str
    observation_ids: tuple[int, ...] = ()
    action_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()


class Session(Protocol):
    """A policy's side of one episode."""

    def close(self) -> None:
        """Free what the episode held."""


class Policy(Protocol):
    """Acts in many episodes at once, so that a model can sample them as one batch."""

    @property
    def name(self) -> str: ...

    def open(self, env: Env, seed: int) -> Session:
        """Begin an episode; `seed` settles all that is random in it."""

    def act(self, pending: Sequence[tuple[Session, Observation]]) -> list[Action | None]:
        """An action for each observation; None where the episode has no room for another."""


class ScriptedPolicy:
    """Plays the actions that `script` gives for a task: the teacher of demonstrations.

    With `exit_on_pass` the script is left for EXIT as soon as the visible tests pass.
    """

    def __init__(
        self,
        script: Callable[[Task], Iterable[str]],
        name: str = "scripted",
        *,
        exit_on_pass: bool = False,
    ) -> None:
        self.name = name
        self._script = script
        self._exit_on_pass = exit_on_pass

    def open(self, env: Env, seed: int) -> Session:
        return _Script(self._script(env.task))

    def act(self, pending: Sequence[tuple[Session, Observation]]) -> list[Action | None]:
        return [self._next(session, observation) for session, observation in pending]

    def _next(self, session: Session, observation: Observation) -> Action | None:
        assert isinstance(session, _Script)
        if self._exit_on_pass and observation.text.endswith(f"\n{PASS_MESSAGE}\n"):
            return Action(format_edit(Edit("EXIT")))
        text = next(session.actions, None)
        return None if text is None else Action(text)


class _Script:
    def __init__(self, actions: Iterable[str]) -> None:
        self.actions = iter(actions)

    def close(self) -> None:
        pass


class HumanPolicy:
    """A person acts: shown what the model would be shown, asked for one command."""

    name = "human"

    def __init__(self, show: Callable[[str], None], ask: Callable[[], str | None]) -> None:
        """Make the policy of one person.

        Args:
            ask: gives the command, or None when the person has had enough.
        """
        self._show = show
        self._ask = ask

    def open(self, env: Env, seed: int) -> Session:
        return _Script(())

    def act(self, pending: Sequence[tuple[Session, Observation]]) -> list[Action | None]:
        actions: list[Action | None] = []
        for _, observation in pending:
            self._show(observation.text)
            said = self._ask()
            actions.append(None if said is None else Action(said))
        return actions


class ModelPolicy:
    """A language model acts through an engine that keeps its context across turns.

    The context only ever grows: the ids of each observation, then the ids sampled for the action,
    exactly as sampled. A line end that the model did not write itself is put before the next
    observation, where it counts as the environment's.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        constrained: bool = False,
    ) -> None:
        """Make a policy of an engine.

        Args:
            constrained: let it sample only what is well formed on the page as it stands.

        Raises:
            UsageError: the engine cannot constrain what it samples.
        """
        if constrained and "grammar" not in engine.capabilities:
            raise UsageError("this engine cannot decode by a grammar: use the local engine")
        self._constrained = constrained
        self.name = name
        self._engine = engine
        self._temperature = temperature
        self._top_p = top_p

    def open(self, env: Env, seed: int) -> Session:
        sampling = Sampling(
            temperature=self._temperature,
            top_p=self._top_p,
            max_tokens=env.max_tokens,
            seed=seed,
            complete=env.complete,
        )
        return _Conversation(self._engine, env, sampling)

    def act(self, pending: Sequence[tuple[Session, Observation]]) -> list[Action | None]:
        actions: list[Action | None] = [None] * len(pending)
        sampled: list[tuple[int, _Conversation, list[int]]] = []
        for index, (session, observation) in enumerate(pending):
            assert isinstance(session, _Conversation)
            ids = session.observe(observation)
            if self._engine.room(session.handle) >= len(ids) + session.sampling.max_tokens:
                self._engine.append(session.handle, ids)
                sampled.append((index, session, ids))
        samples = self._engine.sample([(s.handle, self._sampling(s)) for _, s, _ in sampled])
        for (index, session, ids), sample in zip(sampled, samples, strict=True):
            session.ended_line = sample.text.endswith("\n")
            actions[index] = Action(
                session.env.action(sample.text), tuple(ids), sample.ids, sample.logprobs
            )
        return actions

    def _sampling(self, session: _Conversation) -> Sampling:
        if not self._constrained:
            return session.sampling
        return session.sampling._replace(grammar=session.env.grammar())


class _Conversation:
    def __init__(self, engine: Engine, env: Env, sampling: Sampling) -> None:
        self.env = env
        self.sampling = sampling
        self.handle = engine.open()
        self.ended_line = True
        self._engine = engine

    def observe(self, observation: Observation) -> list[int]:
        if self.env.chat:
            return self._engine.encode_chat(observation.text)
        return self._engine.encode(observation.text if self.ended_line else f"\n{observation.text}")

    def close(self) -> None:
        self._engine.close(self.handle)
