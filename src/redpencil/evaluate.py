"""Evaluation: a policy plays broken programs, and its traces are summed up."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from redpencil import provenance
from redpencil.bounds import oracle, random_edits
from redpencil.checkers import Checker
from redpencil.corrupt import Kinds
from redpencil.demos import Broken, broken_variants
from redpencil.engine import Engine
from redpencil.engine.client import PATIENCE, Dialect
from redpencil.engine.server import ServerEngine
from redpencil.engine.weights import (
    Dtype,
    adapter_sha256,
    dtype_of,
    load_model,
    model_sha256,
)
from redpencil.env import CHATS, EDITS, Decoding, EditRules, Method, repairing
from redpencil.errors import UsageError
from redpencil.files import claim, read_json, write_json
from redpencil.policy import ModelPolicy, Policy
from redpencil.results import RESULTS, TRACES, Origin, Results, problem_of, summarise
from redpencil.rollout import CONCURRENCY, Episode, OnTrace, Play, rollout_to_file
from redpencil.runs import as_made
from redpencil.tasks import load_examples, tasks_sha256, verify
from redpencil.tasks.overlap import disjoint
from redpencil.tasks.source import counted
from redpencil.types import Task, Trace, Value

BOUNDS: dict[str, Callable[[], Policy]] = {"oracle": oracle, "random-edit": random_edits}
"""Who can act without a model."""
CONTEXT = 2048
"""Tokens of an episode unless told otherwise."""


class Plan(Value, frozen=True):
    """What is evaluated: all that the traces depend on but the broken programs themselves.

    Raises:
        UsageError: its samples would all be the same, or it asks of a server, or without one, what
            cannot be had there.
    """

    method: Method | Literal["write"]
    tasks: str
    """The task source, such as `builtin:test`."""
    base_model: str
    """The model that acts, or one of `BOUNDS`."""
    adapter: str | None = None
    samples: int = 1
    """Traces per program."""
    temperature: float = 0.0
    """0 samples greedily."""
    server: str | None = None
    """Base URL of the server that runs the model, None where it runs here."""
    dialect: Dialect = "chat"
    """What is spoken with the server."""
    dtype: Dtype = "auto"
    """What the model computes in, where it runs here."""
    context: int = CONTEXT
    """Most tokens of an episode, where the model runs here; one that takes fewer has its own."""
    decoding: Decoding = "free"
    """Which commands could be sampled."""
    candidates: int = 1
    """Actions drafted in each turn, of which the likeliest that leads somewhere new is taken."""
    shots: int = 0
    """Solved tasks shown before the one to solve; not in editing."""
    rules: EditRules = msgspec.field(default_factory=EditRules)
    limit: int | None = None
    """At most so many programs."""
    variants: int = 1
    """Broken programs made of each task that has none of its own."""
    corruptions: tuple[int, int] = (1, 3)
    """Least and most corruptions of a broken program."""
    kinds: Kinds = "all"
    """The corruptions chosen from."""
    renamed: float = 0.0
    """Chance that a solution gets other local names before it is broken."""
    seed: int = 0
    """Of the corruptions and, plus the sample's number, of the sampling."""

    def __post_init__(self) -> None:
        alike = self.temperature == 0 and self.candidates == 1 and self.base_model not in BOUNDS
        if self.samples > 1 and alike:
            raise UsageError(
                "samples at temperature 0 are all the same: give --temperature, such as 1"
            )
        if self.base_model in BOUNDS and (self.method != "coe" or self.adapter or self.server):
            raise UsageError(f"{self.base_model} only edits, and has neither adapter nor server")
        if self.base_model in BOUNDS and self.decoding != "free":
            raise UsageError(f"--decoding is for a model: {self.base_model} samples nothing")
        local = self.dtype, self.context, self.candidates
        if local != ("auto", CONTEXT, 1) and not _runs_here(self):
            raise UsageError("--dtype, --context and --candidates are for a model that runs here")
        if self.method in EDITS and self.shots:
            raise UsageError("--shots: no solved task is shown before one to edit")
        if self.decoding != "free" and self.method not in EDITS:
            raise UsageError("--decoding: only edits have a grammar")
        if self.server is None:
            if self.dialect != "chat":
                raise UsageError("--dialect is spoken with a server: name it with --server")
        elif self.adapter is not None:
            raise UsageError("--server and --adapter: a server has to load adapters by itself")
        elif self.decoding != "free":
            raise UsageError("--server and --decoding: a server does not take our grammar")
        elif self.method == "in-place" and self.dialect == "chat":
            raise UsageError(
                "--method in-place: a line has to stand after those before it: ask the server "
                "in --dialect completions"
            )
        elif self.method in CHATS and self.dialect == "completions":
            raise UsageError(f"a model is asked for an answer ({self.method}) in --dialect chat")


class Settled(Plan, frozen=True, kw_only=True):
    """A plan, and what is in all that it only names."""

    tasks_sha256: str
    """Of the programs played, as tasks."""
    adapter_sha256: str | None
    model_sha256: str | None
    """Of a model that lies in a folder; None where it goes by a name."""
    examples_sha256: str | None = None
    """Of the solved tasks of which `shots` are shown."""


def on_this_machine(plan: Plan) -> Plan:
    """A plan whose model computes in the same type wherever it is loaded: here's, if `auto`."""
    if not _runs_here(plan):
        return plan
    name = str(dtype_of(plan.dtype)).removeprefix("torch.")
    return msgspec.structs.replace(plan, dtype=msgspec.convert(name, Dtype))


def settle(plan: Plan, tasks: Sequence[Task], examples: Sequence[Task] = ()) -> Settled:
    """A plan that is not the same any more when its model, its adapter or the tasks are others.

    Args:
        examples: those of which some are shown before each task.

    Raises:
        UsageError: there is no such adapter.
    """
    return Settled(
        **msgspec.structs.asdict(on_this_machine(plan)),
        tasks_sha256=tasks_sha256(tasks),
        adapter_sha256=None if plan.adapter is None else adapter_sha256(Path(plan.adapter)),
        model_sha256=model_sha256(plan.base_model) if _runs_here(plan) else None,
        examples_sha256=tasks_sha256(examples) if examples else None,
    )


class Chosen(NamedTuple):
    """The broken programs of a plan, and what there is to say of them."""

    broken: list[Broken]
    passing: int
    """So many came with their tasks, pass every test and are left out: no test shows their bug."""
    unsolved: list[str]
    """Tasks whose own solution fails their tests; they are played, though perhaps in vain."""

    @property
    def remarks(self) -> list[str]:
        """What is out of the ordinary, in a sentence each."""
        said = []
        if self.passing:
            said.append(f"{counted(self.passing, 'program')} left out: no test shows a bug.")
        if self.unsolved:
            said.append(f"The task's own solution fails its tests: {', '.join(self.unsolved)}.")
        return said


def choose(plan: Plan, tasks: Sequence[Task], checker: Checker) -> Chosen:
    """The broken programs that a plan plays of these tasks.

    Raises:
        UsageError: a task has neither a program nor a solution to corrupt.
        SandboxError: the checker could not judge a program.
    """
    made = broken_variants(
        tasks,
        plan.variants,
        plan.corruptions,
        plan.seed,
        checker,
        kinds=plan.kinds,
        renamed=plan.renamed,
    )
    chosen = list(itertools.islice(made, plan.limit))
    findings = verify([item.task for item in chosen], checker)
    broken = [
        item
        for item, finding in zip(chosen, findings, strict=True)
        if finding.program is None or not finding.program.solved
    ]
    unsolved = [f.task.id for f in findings if f.solution is not None and not f.solution.solved]
    return Chosen(broken, len(chosen) - len(broken), list(dict.fromkeys(unsolved)))


class Asking(NamedTuple):
    """How much a server may be asked; it changes no trace."""

    budget_tokens: int | None = None
    """Most tokens that it may be asked to process."""
    at_once: int | None = None
    """Most requests at once, `CONCURRENCY` unless told otherwise."""
    timeout: float | None = None
    """Seconds that it has for an answer."""


ASKING = Asking()


def make_policy(plan: Plan, asking: Asking = ASKING) -> Policy:
    """The policy of a plan: its model, loaded here or behind its server, or one of `BOUNDS`.

    Raises:
        UsageError: there is no such model, adapter or server, limits of a server but none, or more
            context asked for than the model has.
        MissingDependency: a package is missing; the message names the command that adds it.
    """
    engine: Engine
    if asking != ASKING and plan.server is None:
        raise UsageError("--budget-tokens, --at-once and --answer-timeout are for a --server")
    if plan.base_model in BOUNDS:
        return BOUNDS[plan.base_model]()
    if plan.server is not None:
        engine = ServerEngine(
            plan.server,
            plan.base_model,
            plan.dialect,
            capacity=asking.at_once or CONCURRENCY,
            budget_tokens=asking.budget_tokens,
            patience=PATIENCE._replace(timeout=asking.timeout or PATIENCE.timeout),
        )
        engine.reach()
    else:
        adapter = None if plan.adapter is None else Path(plan.adapter)
        weights = load_model(plan.base_model, adapter, dtype_of(plan.dtype))
        from redpencil.engine.cache import decoder_config

        room = getattr(decoder_config(weights[0]), "max_position_embeddings", None)
        if room is not None and plan.context > max(room, CONTEXT):
            raise UsageError(
                f"--context {plan.context}: {plan.base_model} has {room} tokens at most"
            )
        from redpencil.engine.local import LocalEngine

        engine = LocalEngine(*weights, context=plan.context)
    return ModelPolicy(
        engine,
        plan.base_model,
        temperature=plan.temperature,
        decoding=plan.decoding,
        candidates=plan.candidates,
    )


def evaluate(
    plan: Plan,
    broken: Sequence[Broken],
    play: Play,
    checker: Checker,
    folder: Path,
    *,
    command: str = "",
    on_trace: OnTrace = lambda trace, sampled: None,
) -> Results:
    """Play every broken program `samples` times; write `traces.jsonl` and `results.json`.

    Traces are appended as they end, so an interrupted evaluation goes on where it was. Where all
    are there already, the results still say how they were sampled.

    Raises:
        UsageError: there is nothing to evaluate, or the folder holds an evaluation of another plan,
            of other programs or of an adapter that has changed.
    """
    origin = _origin(settle(plan, [item.task for item in broken]), command)
    spent = before = _spent_before(folder)
    started = time.perf_counter()

    def record(trace: Trace, sampled: bool) -> None:
        nonlocal spent
        on_trace(trace, sampled)
        if sampled:
            spent = before.and_then(time.perf_counter() - started, origin)
            write_json(folder / _SPENT, spent)

    traces = sample(plan, broken, play, checker, folder / TRACES, on_trace=record)
    results = spent.by_whom(summarise(traces, origin, spent.seconds))
    if spent == before:
        results = as_made(results, folder / RESULTS)
    write_json(folder / RESULTS, results)
    return results


def sample(
    plan: Plan,
    broken: Sequence[Broken],
    play: Play,
    checker: Checker,
    path: Path,
    *,
    on_trace: OnTrace = lambda trace, sampled: None,
) -> list[Trace]:
    """Play every broken program `samples` times and write the traces to a file, in a fixed order.

    Traces are appended as they end, so what was interrupted goes on where it was; traces that a
    fault of the infrastructure ended are made anew.

    Raises:
        UsageError: there is nothing to play, or the file holds traces of another plan, of other
            programs or of an adapter that has changed.
    """
    if not broken:
        raise UsageError(f"no broken program in {plan.tasks} to play")
    examples = _examples(plan, checker)
    claim(path, settle(plan, [item.task for item in broken], examples))
    assert plan.method != "write"
    episodes = [
        Episode(
            repairing(
                plan.method, item.task, checker, plan.rules, others(examples, item.task, plan.shots)
            ),
            seed,
            item.corruptions,
        )
        for item in broken
        for seed in range(plan.seed, plan.seed + plan.samples)
    ]
    return rollout_to_file(path, episodes, play, on_trace=on_trace)


def one_spare(examples: Iterable[Task], shots: int) -> list[Task]:
    """One example more than are shown, in case one of them is the task at hand; none for none.

    Raises:
        UsageError: there are too few.
    """
    if not shots:
        return []
    found = list(itertools.islice(examples, shots + 1))
    if len(found) <= shots:
        raise UsageError(
            f"--shots {shots}, each of another task: there are {len(found)} solved ones; ask for "
            "fewer"
        )
    return found


def others(examples: Sequence[Task], task: Task, count: int) -> list[Task]:
    """So many of the examples, none of them the task's problem by its name, words or solution."""
    apart, _ = disjoint((e for e in examples if e.id != problem_of(task.id)), [task])
    return apart[:count]


_SPENT = "spent.json"


class _Spent(Value, frozen=True):
    """What an evaluation has taken, and where: it may go on elsewhere, or at another commit."""

    seconds: float = 0.0
    commits: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()

    def and_then(self, seconds: float, origin: Origin) -> _Spent:
        return _Spent(
            self.seconds + seconds,
            tuple(dict.fromkeys([*self.commits, origin.git_commit])),
            tuple(dict.fromkeys([*self.machines, origin.machine])),
        )

    def by_whom(self, results: Results) -> Results:
        return msgspec.structs.replace(
            results,
            git_commit=", then ".join(self.commits) or results.git_commit,
            machine=", then ".join(self.machines) or results.machine,
        )


def _runs_here(plan: Plan) -> bool:
    """Whether there is a model, and on no server."""
    return plan.server is None and plan.base_model not in BOUNDS


def _origin(plan: Settled, command: str) -> Origin:
    return Origin(
        method=plan.method,
        tasks=plan.tasks,
        base_model=plan.base_model,
        adapter=plan.adapter,
        seed=plan.seed,
        command=command,
        versions=provenance.versions(),
        machine=provenance.machine(),
        git_commit=provenance.git_commit(),
        adapter_sha256=plan.adapter_sha256,
        model_sha256=plan.model_sha256,
        dtype=plan.dtype if _runs_here(plan) else None,
    )


def _examples(plan: Plan, checker: Checker) -> list[Task]:
    """Solved tasks, broken as those to be solved, settled by the seed."""
    if not plan.shots:
        return []
    solved = [task for task in load_examples(plan.tasks) if task.solution is not None]
    random.Random(plan.seed).shuffle(solved)
    made = broken_variants(solved, 1, plan.corruptions, plan.seed, checker, kinds=plan.kinds)
    return one_spare((broken.task for broken in made), plan.shots)


def _spent_before(folder: Path) -> _Spent:
    path, older, traces = folder / _SPENT, folder / "seconds.json", folder / TRACES
    if not (traces.exists() and traces.stat().st_size):
        return _Spent()
    if path.exists():
        return read_json(path, _Spent)
    return _Spent(read_json(older, float)) if older.exists() else _Spent()
