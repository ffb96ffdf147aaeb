"""Asking an OpenAI-compatible server until it answers, or until there is no point in going on.

Requests run in an event loop beside the caller's thread, where a time limit holds for the whole of
a request and one that nobody waits for any more is cancelled. What goes wrong there comes back as
a value: neither a request nor its headers, which hold the key, end up in a traceback.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
import weakref
from collections.abc import Awaitable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from random import uniform
from typing import Annotated, Any, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from redpencil.errors import EngineError, MissingDependency, UsageError

Dialect = Literal["chat", "completions"]
KEY_VARIABLES = ("REDPENCIL_API_KEY", "OPENAI_API_KEY")
"""Where the key comes from, the first that is set; a server that asks for none needs neither."""

_LONGEST_PAUSE = 120.0
_FULL = re.compile(r"context[ _](length|size|window)|maximum model length", re.IGNORECASE)
"""How servers say that the context has no room for what is asked."""

T = TypeVar("T")


class Patience(NamedTuple):
    """How long a server is waited for."""

    timeout: float = 300.0
    """Seconds that one request may take."""
    retries: int = 6
    """How often a request that failed is sent again."""
    backoff: float = 0.5
    """Seconds before it first is; twice as long before each time after that."""


PATIENCE = Patience()

Reply = str | EngineError | UsageError | None
"""What the model says; None where the context is full. A UsageError concerns all requests."""


class Client:
    """A model as a server knows it."""

    def __init__(
        self,
        url: str,
        model: str,
        dialect: Dialect,
        budget_tokens: int | None,
        patience: Patience,
    ) -> None:
        """Make a client; nothing is sent yet.

        Raises:
            UsageError: `url` is no base URL, or the key is none that can be sent.
            MissingDependency: the library is not installed.
        """
        try:
            from openai import AsyncOpenAI
        except ImportError as error:
            raise MissingDependency(
                "speaking to a server needs openai: pip install 'redpencil[server]'"
            ) from error
        self.tokens_used = 0
        self._url = _base_url(url)
        self._model = model
        self._dialect = dialect
        self._budget = budget_tokens
        self._patience = patience
        self._key = _api_key()
        # The library's own time limit starts anew with every byte, and its retries leave out
        # answers that cannot be read.
        library = AsyncOpenAI(
            api_key=self._key or "none", base_url=self._url, max_retries=0, timeout=None
        )
        self._library: Any = library.with_raw_response
        weakref.finalize(self, _disconnect, library).atexit = False

    def reach(self) -> None:
        """Make sure that something answers.

        Raises:
            UsageError: nothing does.
        """
        reached = _submit(self._once(self._library.models.list())).result()
        if isinstance(reached, _Failure):
            raise UsageError(f"no server at {self._url}: {reached.why}")

    def ask(self, request: Mapping[str, Any]) -> Future[Reply]:
        """Send a request, and send it again where that may help."""
        return _submit(self._ask(request))

    async def _ask(self, request: Mapping[str, Any]) -> Reply:
        backoff, retries = self._patience.backoff, self._patience.retries
        pauses = (backoff * 2**n * uniform(0.5, 1.0) for n in range(retries))
        while True:
            if self._budget is not None and self.tokens_used >= self._budget:
                return EngineError(f"budget of {self._budget} tokens used up")
            reply = await self._try(request)
            if not isinstance(reply, _Failure):
                return reply
            if reply.computed:
                self.tokens_used += _may_have_cost(request)
            pause = next(pauses, None)
            if pause is None or reply.retry_after > _LONGEST_PAUSE:
                return EngineError(f"{self._url}: {reply.why}")
            await asyncio.sleep(min(max(pause, reply.retry_after), _LONGEST_PAUSE))

    async def _try(self, request: Mapping[str, Any]) -> Reply | _Failure:
        chat = self._dialect == "chat"
        endpoint = self._library.chat.completions if chat else self._library.completions
        response = await self._once(endpoint.create(model=self._model, **request))
        if isinstance(response, _Failure):
            return response
        if response.is_success:
            return self._read(response.text)
        return self._refused(response.status_code, response.text, _retry_after(response.headers))

    async def _once(self, sending: Awaitable[Any]) -> Any:
        """The response, whatever its status, or the failure to get any."""
        from openai import APIConnectionError, APIStatusError

        try:
            async with asyncio.timeout(self._patience.timeout):
                return (await sending).http_response
        except APIStatusError as error:
            return error.response
        except APIConnectionError as error:
            return _Failure(self._brief(f"connection failed: {error.__cause__}"))
        except TimeoutError:
            return _Failure(f"no answer within {self._patience.timeout:g} s", computed=True)

    def _refused(self, status: int, said: str, retry_after: float) -> Reply | _Failure:
        if status == 400 and _FULL.search(said):
            return None
        said = f"{status} {self._brief(said)}"
        if status in (408, 409, 429) or status >= 500:
            return _Failure(said, retry_after)
        if status in (401, 403):
            names = " or ".join(KEY_VARIABLES)
            return UsageError(f"{self._url} wants another key in {names}: {said}")
        if status == 404:
            return UsageError(
                f"{self._url} has no {self._dialect} model {self._model!r}: check the name, and "
                f"the URL, which mostly ends in /v1: {said}"
            )
        return EngineError(f"{self._url}: {said}")

    def _read(self, said: str) -> Reply | _Failure:
        try:
            answer = msgspec.json.decode(said, type=_Answer)
        except (ValueError, RecursionError) as error:
            why = f"an answer that cannot be read ({error}): {self._brief(said)}"
            return _Failure(why, computed=True)
        self.tokens_used += answer.tokens
        text = answer.text(self._dialect)
        if text is None:
            why = f"an answer without text: {self._brief(said)}"
            return _Failure(why, computed=not answer.tokens)
        if self._budget is not None and not answer.tokens:
            return UsageError(f"{self._url} does not say what it used: no budget can be kept")
        return text

    def _brief(self, said: str) -> str:
        """One line of at most 200 characters without the key, which a server may well repeat."""
        line = " ".join((said.replace(self._key, "[key]") if self._key else said).split())
        return line if len(line) <= 200 else f"{line[:200]}..."


class _Failure(NamedTuple):
    """What may go otherwise the next time."""

    why: str
    retry_after: float = 0.0
    """Seconds that the server wants to be left alone."""
    computed: bool = False
    """Whether the server may have answered, and charged for it, though we cannot know how much."""


def _may_have_cost(request: Mapping[str, Any]) -> int:
    """Tokens of a request and its answer, reckoned rather too high, in text or code."""
    context = request.get("prompt") or "".join(m["content"] for m in request["messages"])
    return len(context) // 3 + int(request["max_tokens"])


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    text: str | None = None
    message: _Message = _Message()


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    completion_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0


class _Answer(msgspec.Struct, frozen=True):
    """As much of an answer as concerns us, in either dialect."""

    choices: tuple[_Choice, ...] = ()
    usage: _Usage | None = None

    def text(self, dialect: Dialect) -> str | None:
        choice = self.choices[0] if self.choices else _Choice()
        return choice.message.content if dialect == "chat" else choice.text

    @property
    def tokens(self) -> int:
        """Of prompt and completion; 0, which none can have, where that is not reported."""
        return self.usage.prompt_tokens + self.usage.completion_tokens if self.usage else 0


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """The event loop of all clients; its thread ends with the process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="redpencil-client", daemon=True).start()
    return loop


def _submit(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    return asyncio.run_coroutine_threadsafe(coroutine, _loop())


def _disconnect(library: Any) -> None:
    _submit(library.close())


def _base_url(url: str) -> str:
    """The URL, unless it is none or holds what nobody wants in a file."""
    with suppress(ValueError):
        parts = urlsplit(url)
        secrets = parts.username or parts.password or parts.query or parts.fragment
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not secrets:
            return url
    raise UsageError(
        "a server's URL is one such as http://localhost:8000/v1, without a user or a query; "
        f"a key belongs into {KEY_VARIABLES[0]}"
    )


def _api_key() -> str:
    for name in KEY_VARIABLES:
        key = os.environ.get(name, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise UsageError(f"{name} holds characters that no key has")
        if key:
            return key
    return ""


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks us to wait, by a number or a date; 0 where it does not."""
    asked = headers.get("retry-after", "")
    with suppress(ValueError):
        return float(asked)
    with suppress(ValueError, TypeError):
        return (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds()
    return 0.0
