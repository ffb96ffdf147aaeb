"""An engine whose model runs behind an OpenAI-compatible server.

vLLM, llama.cpp's server, Ollama and hosted models all speak this protocol; each request sends the
whole context, and a server that keeps prefixes computes only what is new in it.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, NamedTuple

from redpencil.engine import Capability, Sample, Sampling
from redpencil.engine.client import PATIENCE, Client, Dialect, Patience, Reply
from redpencil.errors import EngineError, UsageError

_MOMENT = 0.05


class ServerEngine:
    """Samples from a model that a server runs.

    Neither ids nor log-probabilities of what it sampled are known, so nothing can be reinforced.
    """

    capabilities: frozenset[Capability] = frozenset()

    def __init__(
        self,
        url: str,
        model: str,
        dialect: Dialect = "chat",
        *,
        capacity: int = 32,
        budget_tokens: int | None = None,
        patience: Patience = PATIENCE,
    ) -> None:
        """Make an engine; nothing is sent yet.

        Args:
            url: the server's base URL, such as `http://localhost:8000/v1`. The key, where it wants
                one, comes from the environment variable REDPENCIL_API_KEY, or else OPENAI_API_KEY.
            model: the name by which the server knows the model.
            dialect: `chat` sends observations as a user's messages and actions as the assistant's;
                `completions` sends all of it as one text to go on with.
            capacity: most requests at once.
            budget_tokens: tokens, those of prompts too, after which no request is sent any more;
                those under way then still come to their end.

        Raises:
            UsageError: `url` is no base URL, or the key is none that can be sent.
            MissingDependency: the client library is not installed.
        """
        self.capacity = capacity
        self._client = Client(url, model, dialect, budget_tokens, patience)
        self._dialect = dialect
        self._handles = itertools.count()
        self._contexts: dict[int, list[_Message]] = {}
        self._asked: dict[int, _Asked] = {}

    @property
    def tokens_used(self) -> int:
        """Tokens of prompts and completions so far.

        They are as the server reports them, or reckoned where what it computed never came.
        """
        return self._client.tokens_used

    def reach(self) -> None:
        """Make sure that there is a server, before a run finds out by many failures.

        Raises:
            UsageError: nothing answers.
        """
        self._client.reach()

    def open(self) -> int:
        if len(self._contexts) >= self.capacity:
            raise UsageError(f"this engine holds {self.capacity} sequences: close one first")
        handle = next(self._handles)
        self._contexts[handle] = []
        return handle

    def fork(self, handle: int) -> int:
        fork = self.open()
        self._contexts[fork] = self._contexts[handle][:]
        return fork

    def show(self, handle: int, text: str, *, chat: bool = False) -> tuple[int, ...]:
        if chat and self._dialect != "chat":
            raise UsageError(f"a model is asked directly in the chat dialect, not {self._dialect}")
        self._contexts[handle].append(_Message("user", text))
        return ()

    def begin(self, handle: int, sampling: Sampling) -> None:
        if sampling.grammar is not None or sampling.top_k:
            raise UsageError("a server takes neither grammar nor top_k: use the local engine")
        request = self._request(self._contexts[handle], sampling)
        self._asked[handle] = _Asked(self._client.ask(request), sampling)

    def step(self) -> list[tuple[int, Sample | EngineError | None]]:
        """Wait for a moment; the actions that ended meanwhile.

        Raises:
            UsageError: what the server refuses is the same for all: key, model or budget.
        """
        wait(
            [asked.reply for asked in self._asked.values()],
            timeout=_MOMENT,
            return_when=FIRST_COMPLETED,
        )
        done = [handle for handle, asked in self._asked.items() if asked.reply.done()]
        return [(handle, self._take(handle)) for handle in done]

    def close(self, handle: int) -> None:
        if handle in self._asked:
            self._asked.pop(handle).reply.cancel()
        self._contexts.pop(handle, None)

    def sync(self, source: Any) -> None:
        raise UsageError("a server keeps its own weights: train with the local engine or vLLM")

    def _take(self, handle: int) -> Sample | EngineError | None:
        outcome = self._asked.pop(handle).outcome()
        if isinstance(outcome, Sample):
            self._contexts[handle].append(_Message("assistant", outcome.text))
        return outcome

    def _request(self, context: Sequence[_Message], sampling: Sampling) -> dict[str, Any]:
        request: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            # Given one seed at every turn, a server would draw alike in all of them.
            "seed": Random(f"{sampling.seed}:{len(context)}").getrandbits(31),
        }
        if self._dialect == "chat":
            # A message ends its line by ending: line ends around it would be the template's.
            request["messages"] = [
                {"role": message.role, "content": message.text.strip("\n")} for message in context
            ]
        else:
            request["prompt"] = "".join(message.text for message in context)
        if sampling.complete("\n"):
            request["stop"] = ["\n"]
        return request


class _Message(NamedTuple):
    role: Literal["user", "assistant"]
    text: str


@dataclass
class _Asked:
    """An action that the server was asked for."""

    reply: Future[Reply]
    sampling: Sampling

    def outcome(self) -> Sample | EngineError | None:
        """What came of it; what the model wrote beyond the action's end is left out."""
        said = self.reply.result()
        if isinstance(said, UsageError):
            raise said
        if not isinstance(said, str):
            return said
        complete = self.sampling.complete
        end = bisect_left(range(len(said)), True, key=lambda end: complete(said[:end]))
        return Sample((), (), said[:end])
