"""From traces to token ids, and which of them the model is trained on."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from redpencil.engine.chat import answer_end, encode, shown
from redpencil.env import CHATS
from redpencil.types import Trace


class Tokens(NamedTuple):
    """A sequence of tokens, as a policy saw and wrote it."""

    ids: list[int]
    is_action: list[bool]
    """True for the model's own tokens, False for what it was shown or given."""


def trace_tokens(trace: Trace, tokenizer: Any) -> list[Tokens]:
    """The tokens of a trace: exactly those sampled, where a model with tokens acted.

    It is one sequence, or one for each time that the policy was to begin anew.

    A demonstration has no sampled tokens: observations and actions are encoded piece by piece, as
    a policy would have received and written them, with what ends each action: a line end or, in a
    chat, the token that closes an answer. What the environment wrote after the last action is left
    out, since nothing follows from it.

    Raises:
        UsageError: the trace is a chat and the model has no chat template.
    """
    chat = trace.method in CHATS
    sequences: list[Tokens] = []
    for turn in trace.turns:
        if turn.observation.fresh or not sequences:
            sequences.append(Tokens([], []))
        ids, is_action = sequences[-1]
        text = turn.observation.text
        observed = list(turn.observation_ids) or shown(tokenizer, text, ids, chat=chat)
        said = list(turn.action_ids) or _said(turn.action, chat, tokenizer)
        ids += observed + said
        is_action += [False] * len(observed) + [not turn.given] * len(said)
    return sequences


def _said(action: str, chat: bool, tokenizer: Any) -> list[int]:
    if not chat:
        return encode(tokenizer, f"{action}\n")
    return [*encode(tokenizer, action), tokenizer.convert_tokens_to_ids(answer_end(tokenizer))]


def foreign(trace: Trace) -> Trace:
    """The trace as another model's words, to be encoded anew: its ids mean nothing to this one."""
    turns = (
        msgspec.structs.replace(turn, observation_ids=(), action_ids=(), logprobs=())
        for turn in trace.turns
    )
    return msgspec.structs.replace(trace, turns=tuple(turns))
