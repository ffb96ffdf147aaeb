"""What a model in training solves of broken programs that it is not trained on."""

from __future__ import annotations

import itertools
from statistics import fmean
from typing import Any

from accelerate.utils import broadcast_object_list

from redpencil.checkers import Checker
from redpencil.demos import broken_variants, demonstrate
from redpencil.engine.local import LocalEngine
from redpencil.engine.weights import load_base
from redpencil.env import Decoding, EditRules, Method, repairing
from redpencil.errors import SandboxError, UsageError
from redpencil.policy import ModelPolicy
from redpencil.recipes import Validation
from redpencil.rollout import Episode, rollout
from redpencil.tasks import load
from redpencil.train import processes
from redpencil.types import Trace


class Validator:
    """Lets a model mend the held-out programs of a recipe, greedily."""

    def __init__(
        self,
        recipe: Validation,
        model: str,
        method: Method,
        checker: Checker,
        seed: int,
        *,
        context: int,
        decoding: Decoding = "free",
    ) -> None:
        """Break the programs.

        Args:
            method: how they are to be mended.
            context: most tokens of an episode.
            decoding: which commands the model may write.

        Raises:
            UsageError: there are no such tasks, or none of them can be broken.
        """
        made = broken_variants(
            load(recipe.tasks).tasks, 1, recipe.corruptions, seed, checker, kinds=recipe.kinds
        )
        self._variants = list(itertools.islice(made, recipe.limit))
        if not self._variants:
            raise UsageError(f"nothing to validate on: no task of {recipe.tasks} can be broken")
        self._recipe = recipe
        self._model = model
        self._method = method
        self._checker = checker
        self._context = context
        self._decoding: Decoding = decoding
        self._engine: LocalEngine | None = None

    def demos(self) -> list[Trace]:
        """Demonstrations of the same programs, for the loss."""
        rules = EditRules(history=self._recipe.rules.history)
        made = demonstrate(self._variants, self._checker, method=self._method, rules=rules)
        return [trace for trace in made if isinstance(trace, Trace)]

    def solved_rate(self, model: Any) -> float:
        """The share of the programs that the model, as it stands, mends.

        Of several processes the first plays and the others wait for its result.

        Raises:
            SandboxError: a fault of the machinery ended an episode.
        """
        rate = [self._play(model) if processes.is_first() else 0.0]
        if processes.count() > 1:
            broadcast_object_list(rate)
        return rate[0]

    def _play(self, model: Any) -> float:
        if self._engine is None:
            self._engine = LocalEngine(*load_base(self._model), self._context)
        self._engine.sync(model)
        episodes = [
            Episode(repairing(self._method, broken.task, self._checker, self._recipe.rules))
            for broken in self._variants
        ]
        policy = ModelPolicy(self._engine, self._model, temperature=0.0, decoding=self._decoding)
        return fmean(_solved(trace) for trace in rollout(episodes, policy))


def _solved(trace: Trace) -> bool:
    """Raises: SandboxError: a fault of the machinery ended it, which says nothing of the model."""
    if trace.end == "error":
        raise SandboxError(f"cannot validate: {trace.error}; the same command goes on")
    return trace.solved
