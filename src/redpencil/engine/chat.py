"""Text as a model is shown it: plain, or a message at a time in its chat template.

Contexts only ever grow, so that each piece is encoded by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redpencil.errors import UsageError

_ANSWER = "(an answer)"


def encode(tokenizer: Any, text: str, *, begins: bool = False) -> list[int]:
    """Ids of plain text, without any special token: a program may hold what looks like one.

    Args:
        begins: a context begins with it, and so with the BOS token if the tokenizer puts one
            before every text. Not for a chat, whose template writes that token out.
    """
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    return _bos(tokenizer) + ids if begins else ids


def shown(tokenizer: Any, text: str, before: Sequence[int], *, chat: bool) -> list[int]:
    """Ids of what is shown after a context: plain, or as a user's message with the beginning of
    the answer to it.

    Args:
        before: the context. Where it ends with the token that the template closes an answer by,
            the model has done so itself.

    Raises:
        UsageError: the model has no chat template, or one that changes what it is given.
    """
    if not chat:
        return encode(tokenizer, text, begins=not before)
    if not before:
        return _encode_rendered(tokenizer, _render(tokenizer, [_user(text)]), text)
    after, end = _after_answer(tokenizer, text), answer_end(tokenizer)
    if before[-1] == tokenizer.convert_tokens_to_ids(end):
        after = after.removeprefix(end)
    return _encode_rendered(tokenizer, after, text)


def answer_end(tokenizer: Any) -> str:
    """The special token that the template closes an answer by, or the end of a text if it has none.

    Raises:
        UsageError: the model has no chat template.
    """
    after = _after_answer(tokenizer, "(a question)")
    end: str = next(filter(after.startswith, _special(tokenizer)), tokenizer.eos_token)
    return end


def _after_answer(tokenizer: Any, text: str) -> str:
    answer = {"role": "assistant", "content": _ANSWER}
    rendered = _render(tokenizer, [_user("(a question)"), answer, _user(text)])
    return rendered.partition(_ANSWER)[2]


def _encode_rendered(tokenizer: Any, rendered: str, text: str) -> list[int]:
    """Ids of a message as the template renders it, whose special tokens are the template's alone.

    What is in the message is encoded apart only where it writes one out: across its ends there may
    be tokens of both.
    """
    if not any(token in text for token in _special(tokenizer)):
        ids: list[int] = tokenizer.encode(rendered, add_special_tokens=False)
        return ids
    before, found, after = rendered.rpartition(text.strip())
    if not found:
        raise UsageError(
            "a message holds what is a special token of this model, whose chat template changes "
            "messages, so that the two cannot be told apart: take another model"
        )
    return [
        *tokenizer.encode(before, add_special_tokens=False),
        *encode(tokenizer, found),
        *tokenizer.encode(after, add_special_tokens=False),
    ]


def _special(tokenizer: Any) -> list[str]:
    known = tokenizer.added_tokens_decoder.values()
    return [token.content for token in known if token.special]


def _bos(tokenizer: Any) -> list[int]:
    before: list[int] = tokenizer.encode("", add_special_tokens=True)[:1]
    return before if before == [tokenizer.bos_token_id] else []


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _render(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    if not tokenizer.chat_template:
        raise UsageError("this model has no chat template, so it cannot be asked directly")
    text: str = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return text
