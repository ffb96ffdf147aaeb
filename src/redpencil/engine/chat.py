"""Text as a model is shown it: plain, or a message at a time in its chat template.

Contexts only ever grow, so that each piece is encoded by itself.
"""

from __future__ import annotations

from typing import Any

from redpencil.errors import UsageError

_ANSWER = "(an answer)"


def encode(tokenizer: Any, text: str, *, begins: bool = False) -> list[int]:
    """Ids of text, without any special token but for those that it writes out.

    Args:
        begins: a context begins with it, and so with the BOS token if the tokenizer puts one
            before every text. Not for a chat, whose template writes that token out.
    """
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return _bos(tokenizer) + ids if begins else ids


def first_message(tokenizer: Any, text: str) -> str:
    """A user's first message and the beginning of the answer to it, special tokens written out.

    Raises:
        UsageError: the model has no chat template.
    """
    return _render(tokenizer, [_user(text)])


def next_message(tokenizer: Any, text: str, said: str) -> str:
    """A user's message after an answer, and the beginning of the answer to it.

    Args:
        said: the last token of the answer, special tokens written out; where it is the one that the
            template closes an answer by, the model has done so itself.

    Raises:
        UsageError: the model has no chat template.
    """
    after = _after_answer(tokenizer, text)
    return after.removeprefix(said) if said == answer_end(tokenizer) else after


def answer_end(tokenizer: Any) -> str:
    """The special token that the template closes an answer by, or the end of a text if it has none.

    Raises:
        UsageError: the model has no chat template.
    """
    after = _after_answer(tokenizer, "(a question)")
    known = tokenizer.added_tokens_decoder.values()
    closing = [token.content for token in known if token.special]
    end: str = next(filter(after.startswith, closing), tokenizer.eos_token)
    return end


def _after_answer(tokenizer: Any, text: str) -> str:
    answer = {"role": "assistant", "content": _ANSWER}
    rendered = _render(tokenizer, [_user("(a question)"), answer, _user(text)])
    return rendered.partition(_ANSWER)[2]


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
