"""From traces to token ids, and which of them the model is trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from redpencil.types import Trace

Encode = Callable[[str], list[int]]


class Tokens(NamedTuple):
    """A trace as one sequence of tokens."""

    ids: list[int]
    is_action: list[bool]
    """True for the model's own tokens, False for what it was shown or given."""


def trace_tokens(trace: Trace, encode: Encode) -> Tokens:
    """The tokens of a trace: exactly those sampled, where a model with tokens acted.

    A demonstration has no sampled tokens: observations and actions are encoded piece by piece, as
    a policy would have received and written them, the line end of each action included. What the
    environment wrote after the last action is left out, since nothing follows from it.
    """
    ids: list[int] = []
    is_action: list[bool] = []
    for turn in trace.turns:
        shown = list(turn.observation_ids) or encode(turn.observation.text)
        said = list(turn.action_ids) or encode(f"{turn.action}\n")
        ids += shown + said
        is_action += [False] * len(shown) + [not turn.given] * len(said)
    return Tokens(ids, is_action)
