"""A model's chat template, one message at a time, since contexts only ever grow."""

from __future__ import annotations

from typing import Any

from redpencil.errors import UsageError

_ANSWER = "(an answer)"


def first_message(tokenizer: Any, text: str) -> str:
    """A user's first message and the beginning of the answer to it, special tokens written out.

    Raises:
        UsageError: the model has no chat template.
    """
    return _render(tokenizer, [_user(text)])


def next_message(tokenizer: Any, text: str, *, closed: bool) -> str:
    """A user's message after an answer, and the beginning of the answer to it.

    Args:
        closed: the model has ended its answer itself, by the token that the template ends it by.

    Raises:
        UsageError: the model has no chat template.
    """
    answer = {"role": "assistant", "content": _ANSWER}
    rendered = _render(tokenizer, [_user("(a question)"), answer, _user(text)])
    after = rendered.partition(_ANSWER)[2]
    return after.removeprefix(tokenizer.eos_token) if closed else after


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _render(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    if not tokenizer.chat_template:
        raise UsageError("this model has no chat template, so it cannot be asked directly")
    text: str = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return text
