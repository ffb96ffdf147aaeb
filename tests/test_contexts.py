"""What a policy's context holds: what was shown and sampled, token by token, chats too."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from redpencil.checkers import PythonChecker
from redpencil.engine import Sample, Sampling
from redpencil.engine.chat import shown
from redpencil.engine.local import LocalEngine
from redpencil.engine.weights import load_tokenizer
from redpencil.env import EditEnv, EditRules, PlaceEnv, SelfRepairEnv
from redpencil.policy import ModelPolicy, ScriptedPolicy
from redpencil.rollout import Episode, rollout
from redpencil.train.tokens import trace_tokens
from redpencil.train.vllm import VllmEngine
from redpencil.types import Task, Trace


def test_a_trace_holds_exactly_the_tokens_sampled(engine: LocalEngine, double: Task) -> None:
    env = EditEnv(double, PythonChecker(), EditRules(max_turns=3))
    (trace,) = rollout([Episode(env, seed=3)], ModelPolicy(engine, "tiny"))
    (tokens,) = trace_tokens(trace, tokenizer=None)  # nothing is encoded again
    decode = engine.decode
    for turn in trace.turns:
        assert decode(turn.action_ids).partition("\n")[0] == turn.action
        assert len(turn.logprobs) == len(turn.action_ids)
    mine = [token for token, is_mine in zip(*tokens, strict=True) if is_mine]
    assert mine == [token for turn in trace.turns for token in turn.action_ids]
    shown = [turn.observation.text for turn in trace.turns]
    rendered = decode(tokens.ids)
    for text in shown:
        assert text in rendered


def test_a_line_written_in_place_stands_after_its_page_to_the_letter(
    engine: LocalEngine, tiny_model: Path, double: Task
) -> None:
    """Sampled or demonstrated: what is shown and what is written are one text."""
    policy = ModelPolicy(engine, "tiny", decoding="well-formed")
    rules = EditRules(max_turns=3)
    env = PlaceEnv(double, PythonChecker(), rules)
    sampled = list(rollout([Episode(env, seed) for seed in range(6)], policy, concurrency=1))
    script = ["### REPL 2", "\n    return n * 2", "### EXIT"]
    (shown,) = rollout([Episode(env)], ScriptedPolicy(lambda _: script))
    written = 0
    for trace in (*sampled, shown):
        (tokens,) = trace_tokens(trace, load_tokenizer(str(tiny_model)))
        text = engine.decode(tokens.ids)
        for named, line in itertools.pairwise(trace.turns):
            if named.half:
                assert f"{named.action}\n{line.observation.text}{line.action}" in text
                written += 1
    assert written > 3
    mine = [token for token, is_mine in zip(*tokens, strict=True) if is_mine]
    assert engine.decode(mine) == "### REPL 2\n\n    return n * 2\n### EXIT\n"


def test_the_chat_template_is_used_where_the_environment_asks(engine: LocalEngine) -> None:
    ids = engine.show(engine.open(), "hello", chat=True)
    assert engine.decode(ids) == "user: hello\nassistant: "


def test_a_conversation_is_what_the_chat_template_makes_of_it(
    engine: LocalEngine, tiny_model: Path, double: Task
) -> None:
    """Turn by turn, answers that the model ends by itself and answers that were ended."""
    tokenizer = load_tokenizer(str(tiny_model))
    env = SelfRepairEnv(double, PythonChecker(), max_turns=4)
    env.max_tokens = 24
    ended = set()
    for seed in range(12):
        (trace,) = rollout([Episode(env, seed)], ModelPolicy(engine, "tiny", temperature=1.5))
        messages, ids = [], []
        for turn in trace.turns:
            ids += [*turn.observation_ids, *turn.action_ids]
            by_itself = turn.action_ids[-1] == tokenizer.eos_token_id
            ended.add(by_itself)
            said = tokenizer.decode(turn.action_ids).removesuffix("<end>" if by_itself else "")
            messages.append({"role": "user", "content": turn.observation.text})
            messages.append({"role": "assistant", "content": said})
        wanted = tokenizer.apply_chat_template(messages, tokenize=False)
        assert wanted.startswith(tokenizer.decode(ids))
        assert wanted.removeprefix(tokenizer.decode(ids)) in ("\n", "<end>\n")
    assert len(trace.turns) == 4
    assert ended == {True, False}


def test_a_chats_demonstration_is_encoded_as_the_policy_would_have_met_it(
    engine: LocalEngine, tiny_model: Path, double: Task
) -> None:
    answers = ["```python\nx\n```", f"```python\n{double.solution}```"]
    env = SelfRepairEnv(double, PythonChecker())
    (trace,) = rollout([Episode(env)], ScriptedPolicy(lambda _: answers))
    tokenizer = load_tokenizer(str(tiny_model))
    (tokens,) = trace_tokens(trace, tokenizer)
    mine = [token for token, is_mine in zip(*tokens, strict=True) if is_mine]
    assert tokenizer.decode(mine) == "".join(f"{answer}<end>" for answer in answers)
    messages = [
        message
        for turn in trace.turns
        for message in (
            {"role": "user", "content": turn.observation.text},
            {"role": "assistant", "content": turn.action},
        )
    ]
    wanted = tokenizer.apply_chat_template(messages, tokenize=False)
    assert tokenizer.decode(tokens.ids) == wanted.removesuffix("\n")


def test_a_chat_is_closed_by_the_token_of_its_template(tiny_model: Path, double: Task) -> None:
    """Which is not always the one that ends a text; an answer that has it is not closed twice."""
    tokenizer: Any = load_tokenizer(str(tiny_model))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>", "<over>"]})
    tokenizer.chat_template = tokenizer.chat_template.replace("<end>", "<over>")
    env = SelfRepairEnv(double, PythonChecker())
    (trace,) = rollout([Episode(env)], ScriptedPolicy(lambda _: ["no", "not this"]))
    (tokens,) = trace_tokens(trace, tokenizer)
    text = tokenizer.decode(tokens.ids)
    assert "assistant: no<over>\nuser: " in text
    assert text.endswith("assistant: not this<over>")
    for last, wanted in {"<over>": "\nuser: Why?<over>", "<end>": "<over>\nuser: Why?"}.items():
        before = [tokenizer.convert_tokens_to_ids(last)]
        ids = shown(tokenizer, "Why?", before, chat=True)
        assert tokenizer.decode(ids).startswith(wanted)


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_what_looks_like_a_special_token_in_a_program_is_text(
    chat: bool, second: bool, tiny_model: Path
) -> None:
    tokenizer: Any = load_tokenizer(str(tiny_model))
    end = tokenizer.eos_token_id
    text = f'END = "{tokenizer.eos_token}"'
    before = [end] if second else []
    plain = shown(tokenizer, 'END = ""', before, chat=chat)
    ids = shown(tokenizer, text, before, chat=chat)
    assert ids.count(end) == plain.count(end)
    assert text in tokenizer.decode(ids, skip_special_tokens=True)


def test_without_history_each_turn_is_a_sequence_of_its_own(
    engine: LocalEngine, double: Task
) -> None:
    rules = EditRules(max_turns=3, history=False)
    env = EditEnv(double, PythonChecker(), rules)
    (trace,) = rollout([Episode(env, seed=3)], ModelPolicy(engine, "tiny"))
    sequences = trace_tokens(trace, tokenizer=None)
    assert len(sequences) == len(trace.turns) == 3
    for index, (turn, tokens) in enumerate(zip(trace.turns, sequences, strict=True)):
        assert tokens.ids == [*turn.observation_ids, *turn.action_ids]
        assert engine.decode(turn.observation_ids) == turn.observation.text
        assert "Task: Return twice the number." in turn.observation.text
        assert alone(engine, turn.observation.text, seed=3 + (index << 64)).ids == turn.action_ids
    assert engine.capacity == len(engine._free)  # every sequence is closed again


def alone(engine: LocalEngine, text: str, seed: int) -> Sample:
    handle = engine.open()
    engine.append(handle, engine.encode(text))
    request = Sampling(1.0, 1.0, 96, seed, lambda text: "\n" in text)
    (sample,) = engine.sample([(handle, request)])
    engine.close(handle)
    return sample


@pytest.fixture
def demo_trace(double: Task) -> Trace:
    script = ["### REPL 2 >>>    return n * 2", "### EXIT"]
    (trace,) = rollout(
        [Episode(EditEnv(double, PythonChecker()))], ScriptedPolicy(lambda _: script)
    )
    return trace


def test_a_demonstration_is_encoded_as_a_policy_would_have_met_it(
    engine: LocalEngine, tiny_model: Path, demo_trace: Trace
) -> None:
    (tokens,) = trace_tokens(demo_trace, load_tokenizer(str(tiny_model)))
    mine = [token for token, is_mine in zip(*tokens, strict=True) if is_mine]
    assert engine.decode(mine) == "### REPL 2 >>>    return n * 2\n### EXIT\n"
    shown = "".join(turn.observation.text for turn in demo_trace.turns)
    theirs = [token for token, is_mine in zip(*tokens, strict=True) if not is_mine]
    assert engine.decode(theirs) == shown


def test_a_context_begins_as_the_tokenizer_begins_a_text(
    engine: LocalEngine, tiny_model: Path, demo_trace: Trace
) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    bos = tokenizer.bos_token, tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(f"{bos[0]} $A", None, [bos])
    texts = [turn.observation.text for turn in demo_trace.turns]
    (tokens,) = trace_tokens(demo_trace, tokenizer)
    assert tokens.ids.count(bos[1]) == 1
    engines = [
        LocalEngine(engine._contexts.model, tokenizer),
        VllmEngine(None, tokenizer, context=1024),  # type: ignore[arg-type]
    ]
    for own in engines:
        handle = own.open()
        shown = [id for text in texts for id in own.show(handle, text)]
        assert shown == [id for id, mine in zip(*tokens, strict=True) if not mine]
        assert shown[0] == bos[1]
        assert engine.decode(shown) == "".join(texts)
    first = engines[0].show(engines[0].open(), "hello", chat=True)
    assert first[0] != bos[1]  # which a template writes out itself
