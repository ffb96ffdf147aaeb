"""Who acts: a script, a person, or a model behind an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from redpencil.engine import Engine, Sample, Sampling
from redpencil.env import Decoding, Env
from redpencil.errors import EngineError, UsageError
from redpencil.types import Observation, Task


class Action(NamedTuple):
    """What a policy did, with its tokens where it has any."""

    text: str
    observation_ids: tuple[int, ...] = ()
    action_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    given: bool = False
    """Whether it was put into the policy's mouth: nothing is learned from it."""
    discarded: int = 0
    """Tokens sampled for other actions that were weighed against it."""


class Session(Protocol):
    """A policy's side of one episode."""

    def close(self) -> None:
        """Free what the episode held."""


Outcome = Action | EngineError | None
"""None where the episode has no room for another action."""


class Policy(Protocol):
    """Acts in many episodes at once, each at its own pace."""

    @property
    def name(self) -> str: ...

    @property
    def capacity(self) -> int | None:
        """How many episodes can be open at once; None for any number."""

    def open(self, env: Env, seed: int) -> Session:
        """Begin an episode; `seed` settles all that is random in it."""

    def begin(self, session: Session, observation: Observation) -> None:
        """Begin to act on an observation.

        Raises:
            EngineError: no action can be had in this episode.
        """

    def step(self) -> list[tuple[Session, Outcome]]:
        """Go on with all actions that were begun, for a moment; those that ended meanwhile."""


Answer = Callable[[Observation], Action | None]
"""Acts in one episode: what is shown in, the action out, None to give up."""


class FunctionPolicy:
    """A function acts, a new one in each episode."""

    capacity = None

    def __init__(self, opening: Callable[[Task, int], Answer], name: str) -> None:
        """Make a policy.

        Args:
            opening: gives the function that acts in the episode of a task and a seed.
        """
        self.name = name
        self._opening = opening
        self._done: list[tuple[Session, Outcome]] = []

    def open(self, env: Env, seed: int) -> Session:
        return _Answering(self._opening(env.task, seed))

    def begin(self, session: Session, observation: Observation) -> None:
        assert isinstance(session, _Answering)
        self._done.append((session, session.answer(observation)))

    def step(self) -> list[tuple[Session, Outcome]]:
        done, self._done = self._done, []
        return done


class _Answering:
    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def close(self) -> None:
        pass


class ScriptedPolicy(FunctionPolicy):
    """Plays the actions that `script` gives for a task, whatever comes of them."""

    def __init__(self, script: Callable[[Task], Iterable[str]], name: str = "scripted") -> None:
        def opening(task: Task, seed: int) -> Answer:
            actions = map(Action, script(task))
            return lambda observation: next(actions, None)

        super().__init__(opening, name)


class HumanPolicy(FunctionPolicy):
    """A person acts: shown what the model would be shown, asked for one command."""

    def __init__(self, show: Callable[[str], None], ask: Callable[[], str | None]) -> None:
        """Make the policy of one person.

        Args:
            ask: gives the command, or None when the person has had enough.
        """

        def answer(observation: Observation) -> Action | None:
            show(observation.text)
            said = ask()
            return None if said is None else Action(said)

        super().__init__(lambda task, seed: answer, "human")


_SEEDS = 1 << 32
"""Between the seeds of an action's candidates, so that no episode's are another's."""
_BEGINNINGS = 1 << 64
"""Between the seeds of contexts begun anew, which would draw alike after pages that are alike."""


class ModelPolicy:
    """A language model acts through an engine that keeps its context across turns.

    The context only ever grows, unless an observation says to begin anew: the ids of each
    observation, then the ids sampled for the action, exactly as sampled. A line end that the model
    did not write itself is put before the next observation, where it counts as the environment's.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        decoding: Decoding = "free",
        candidates: int = 1,
    ) -> None:
        """Make a policy of an engine.

        Args:
            decoding: whether it may sample anything, or commands that the page can take alone.
            candidates: how many actions are drafted in each turn, the first of them as the
                temperature says and the others at temperature 1; taken is the likeliest of those
                that lead somewhere new, as a whole.

        Raises:
            UsageError: the engine cannot constrain what it samples, or cannot weigh so many
                candidates.
        """
        if decoding != "free" and "grammar" not in engine.capabilities:
            raise UsageError("this engine cannot decode by a grammar: use the local engine")
        if candidates > 1 and not {"fork", "logprobs"} <= engine.capabilities:
            raise UsageError("this engine cannot weigh several actions: use the local engine")
        if candidates > engine.capacity:
            raise UsageError(
                f"{candidates} candidates are more than the {engine.capacity} sequences that this "
                "engine can hold: take fewer, or a smaller context"
            )
        self.name = name
        self._engine = engine
        self._temperature = temperature
        self._top_p = top_p
        self._decoding = decoding
        self._candidates = candidates
        self._acting: dict[int, _Conversation] = {}

    @property
    def capacity(self) -> int:
        return self._engine.capacity // self._candidates

    def open(self, env: Env, seed: int) -> Session:
        sampling = Sampling(
            temperature=self._temperature,
            top_p=self._top_p,
            max_tokens=env.max_tokens,
            seed=seed,
            complete=env.complete,
        )
        return _Conversation(self._engine, env, sampling)

    def begin(self, session: Session, observation: Observation) -> None:
        assert isinstance(session, _Conversation)
        session.observe(observation)
        grammar = session.env.grammar(self._decoding)
        for handle, sampling in session.draft(self._candidates):
            self._engine.begin(handle, sampling._replace(grammar=grammar))
            self._acting[handle] = session

    def step(self) -> list[tuple[Session, Outcome]]:
        outcomes: list[tuple[Session, Outcome]] = []
        for handle, drafted in self._engine.step():
            session = self._acting.pop(handle)
            if session.take(handle, drafted):
                outcomes.append((session, session.choose()))
        return outcomes


Drafted = Sample | EngineError | None


class _Conversation:
    """One sequence of the engine, and while an action is drafted more than once its forks."""

    def __init__(self, engine: Engine, env: Env, sampling: Sampling) -> None:
        self.env = env
        self._sampling = sampling
        self._engine = engine
        self._handle = engine.open()
        self._drafts: dict[int, Drafted] = {}
        self._missing: set[int] = set()
        self._ended_line = True
        self._shown: tuple[int, ...] = ()

    def observe(self, observation: Observation) -> None:
        if observation.fresh:
            self._engine.close(self._handle)
            self._handle = self._engine.open()
            self._ended_line = True
            self._sampling = self._sampling._replace(seed=self._sampling.seed + _BEGINNINGS)
        bare = self.env.chat or self._ended_line
        text = observation.text if bare else f"\n{observation.text}"
        self._shown = self._engine.show(self._handle, text, chat=self.env.chat)

    def draft(self, count: int) -> list[tuple[int, Sampling]]:
        """The sequences that an action is to be sampled on, and how."""
        forks = [self._engine.fork(self._handle) for _ in range(count - 1)]
        self._missing = {self._handle, *forks}
        seed = self._sampling.seed
        others = [
            (fork, self._sampling._replace(temperature=1.0, seed=seed + number * _SEEDS))
            for number, fork in enumerate(forks, 1)
        ]
        return [(self._handle, self._sampling), *others]

    def take(self, handle: int, drafted: Drafted) -> bool:
        """Keep what was drafted on a sequence; whether it was the last."""
        self._missing.remove(handle)
        self._drafts[handle] = drafted
        return not self._missing

    def choose(self) -> Outcome:
        """The action that is taken; of the sequences its own alone stays open."""
        best = max(self._drafts, key=self._worth)
        chosen, others = self._drafts.pop(best), self._drafts
        for handle in others:
            self._engine.close(handle)
        self._handle, self._drafts = best, {}
        if not isinstance(chosen, Sample):
            return chosen
        self._ended_line = chosen.text.endswith("\n")
        return Action(
            self.env.action(chosen.text),
            self._shown,
            chosen.ids,
            chosen.logprobs,
            discarded=sum(len(o.ids) for o in others.values() if isinstance(o, Sample)),
        )

    def _worth(self, handle: int) -> tuple[bool, bool, float]:
        drafted = self._drafts[handle]
        if not isinstance(drafted, Sample):
            return False, False, 0.0
        return True, self.env.leads_on(self.env.action(drafted.text)), sum(drafted.logprobs)

    def close(self) -> None:
        for handle in {self._handle, *self._drafts, *self._missing}:
            self._engine.close(handle)
