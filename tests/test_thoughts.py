"""Reasoning in words as traces: read from s1K's two formats, encoded as a chat."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from redpencil.errors import DataError, UsageError
from redpencil.files import read_jsonl
from redpencil.thoughts import s1k
from redpencil.types import Trace

OLD = {
    "question": "What is two and two?",
    "thinking_trajectories": ["Two is one and one.", "So there are four ones."],
    "attempt": "Four.",
    "source_type": "made up",
}
NEW = {
    "question": "And three?",
    "deepseek_thinking_trajectory": "One more.",
    "deepseek_attempt": "Five.\n",
    "gemini_attempt": None,
}


def folder_of(tmp_path: Path, *rows: object) -> Path:
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_both_formats_become_traces(
    tmp_path: Path, redpencil: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    source = folder_of(tmp_path, OLD, NEW)
    done = redpencil("thoughts", f"s1k:{source}", "--out", tmp_path / "thoughts.jsonl")
    assert done.returncode == 0, done.stderr
    first, second = traces = read_jsonl(tmp_path / "thoughts.jsonl", Trace)
    assert traces == s1k(source)
    assert [trace.method for trace in traces] == ["reasoning"] * 2
    assert first.turns[0].observation.text == "What is two and two?"
    assert first.turns[0].action == "Two is one and one.\n\nSo there are four ones.\n\nFour."
    assert second.turns[0].action == "One more.\n\nFive."


def test_what_is_no_thought_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl, line 2: a row needs thoughts"):
        s1k(folder_of(tmp_path, OLD, {"question": "Why?", "attempt": "Because."}))
    with pytest.raises(DataError, match=r"line 1.*question"):
        s1k(folder_of(tmp_path, {"attempt": "Because."}))
    with pytest.raises(UsageError, match="no folder"):
        s1k(tmp_path / "none")


def test_they_are_trained_on_as_answers_in_a_chat(tmp_path: Path, tiny_model: Path) -> None:
    from redpencil.engine.weights import load_tokenizer
    from redpencil.train.tokens import trace_tokens

    tokenizer = load_tokenizer(str(tiny_model))
    (tokens,) = trace_tokens(s1k(folder_of(tmp_path, NEW))[0], tokenizer)
    text = tokenizer.decode(tokens.ids)
    assert text == "user: And three?<end>\nassistant: One more.\n\nFive.<end>"
    mine = [token for token, is_mine in zip(*tokens, strict=True) if is_mine]
    assert tokenizer.decode(mine) == "One more.\n\nFive.<end>"
