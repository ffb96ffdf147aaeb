"""The local engine is exact: what it samples is what a full recomputation would have given."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from families import FAMILIES, WINDOW, random_model
from redpencil.engine import Sample, Sampling
from redpencil.engine.cache import BLOCK
from redpencil.engine.draw import draw
from redpencil.engine.local import LocalEngine
from redpencil.engine.packed import PackedModel
from redpencil.engine.weights import load_adapter, load_base, load_model
from redpencil.errors import UsageError
from redpencil.recipes import Lora
from redpencil.train.loop import new_adapter, save_adapter


def sampling(seed: int = 0, temperature: float = 1.0, tokens: int = 12) -> Sampling:
    return Sampling(temperature, 1.0, tokens, seed, lambda text: "\n" in text)


def converse(engine: LocalEngine, texts: list[list[str]], seed: int = 0) -> list[list[Sample]]:
    """Several sequences, turn by turn in one batch: `texts[i][t]` is shown to i in turn t."""
    handles = [engine.open() for _ in texts]
    said: list[list[Sample]] = [[] for _ in texts]
    for turn in range(max(map(len, texts))):
        active = [i for i, shown in enumerate(texts) if turn < len(shown)]
        for i in active:
            engine.append(handles[i], engine.encode(texts[i][turn]))
        samples = engine.sample([(handles[i], sampling(seed + i)) for i in active])
        for i, sample in zip(active, samples, strict=True):
            said[i].append(sample)
    for handle in handles:
        engine.close(handle)
    return said


TEXTS = [
    ["def f(x):\n", "    return x\n", "for item in items:\n"],
    ["def f(x):\n", "a longer text that is shown to this sequence alone\n"],
    ["total = 0\n" * 12, "\n", "x"],
    ["def f(x):\n"],
]


def check_against_recomputation(
    reference: Any, engine: LocalEngine, texts: list[list[str]], said: list[list[Sample]]
) -> None:
    """What `converse` sampled is what the whole context, computed at once, gives.

    Every token is, drawn by the same seed, and its log-probability.
    """
    for seed, (shown, samples) in enumerate(zip(texts, said, strict=True)):
        ids: list[int] = []
        wanted: dict[int, tuple[float, float]] = {}
        for text, sample in zip(shown, samples, strict=True):
            ids += engine.encode(text)
            random = Random(f"{seed}:{len(ids)}")
            for token, logprob in zip(sample.ids, sample.logprobs, strict=True):
                wanted[len(ids)] = (random.random(), logprob)
                ids.append(token)
        with torch.inference_mode():
            logits = reference(torch.tensor([ids])).logits[0].float()
        for place, (uniform, logprob) in wanted.items():
            row = logits[place - 1 : place]
            (drawn,) = draw(row, row.logsumexp(-1), [sampling()], [uniform])
            assert drawn.token == ids[place]
            assert abs(drawn.logprob - logprob) < 1e-4


def test_packed_sampling_equals_full_recomputation(engine: LocalEngine, tiny_model: Path) -> None:
    reference: Any = load_base(str(tiny_model), torch.float32)[0]
    check_against_recomputation(reference, engine, TEXTS, converse(engine, TEXTS))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_exact(family: str, engine: LocalEngine) -> None:
    tiny = engine._contexts.model.config
    reference = random_model(family, tiny, attention="eager")
    own = LocalEngine(random_model(family, tiny), engine._tokenizer)
    assert type(own._contexts) is FAMILIES[family][0]
    texts = [*TEXTS, ["def f(x):\n" * 30, "    return x\n" * 12], ["def f(x):\n" * 30, "y"]]
    check_against_recomputation(reference, own, texts, converse(own, texts))


def test_sequences_may_join_at_any_token(engine: LocalEngine) -> None:
    shown = ["def f(x):\n" * 20, "total = 0\n" * 40, "def f(x):\n" * 19 + "y", "x"]
    handles = [engine.open() for _ in shown]
    samples: dict[int, Any] = {}
    for handle, text in zip(handles, shown, strict=True):
        engine.show(handle, text)
        engine.begin(handle, sampling(handle))
        for _ in range(3):
            samples.update(engine.step())
    while len(samples) < len(handles):
        samples.update(engine.step())
    for handle in handles:
        engine.close(handle)
    for index, text in enumerate(shown):
        ((alone,),) = converse(engine, [[text]], seed=handles[index])
        assert alone.ids == samples[handles[index]].ids


def counting(engine: LocalEngine) -> list[int]:
    """How many tokens each of the engine's steps from now on computes."""
    computed: list[int] = []
    forward = engine._contexts.forward

    def counted(rows: Any, chunks: Any) -> torch.Tensor:
        computed.append(sum(map(len, chunks)))
        return forward(rows, chunks)

    engine._contexts.forward = counted  # type: ignore[method-assign]
    return computed


def test_an_equal_beginning_is_computed_once(engine: LocalEngine) -> None:
    computed = counting(engine)
    prompt = "total = 0\n" * 40
    length = len(engine.encode(prompt))
    converse(engine, [[prompt]] * 4 + [[prompt + "and more\n"]])
    sampled = 5 * 12
    assert sum(computed) < length + sampled + 5 * 16


def test_groups_with_a_common_header_compute_each_prompt_once(engine: LocalEngine) -> None:
    computed = counting(engine)
    header, *tails = (
        engine.encode(text) for text in ("# fix it\n" * 8, "x\n" * 30, "def y\n" * 20)
    )
    assert len(header) > 16
    handles = []
    for tail in tails:
        first = engine.open()
        engine.append(first, header + tail)
        handles += [first, engine.fork(first), engine.fork(first)]
        handles.append(engine.open())
        engine.append(handles[-1], header + tail)
    engine.sample([(handle, sampling(tokens=1)) for handle in handles])
    siblings = len(handles) - len(tails)
    assert sum(computed) == sum(map(len, [header, *tails])) + siblings


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_on_the_general_path_nobody_waits_for_what_cannot_be_shared(
    family: str, engine: LocalEngine
) -> None:
    own = LocalEngine(random_model(family, engine._contexts.model.config), engine._tokenizer)
    computed = counting(own)
    prompt = "def f(x):\n" * 30
    converse(own, [[prompt]] * 3)
    length = len(own.encode(prompt))
    # What a sliding window has left behind cannot be cut from what it holds.
    assert computed[:2] == ([length, 3] if family == "gpt2" else [3 * length, 3])


@pytest.mark.parametrize("family", ["openai-gpt", "recurrent_gemma", "mamba"])
def test_a_model_that_cannot_go_on_with_a_sequence_is_refused(
    family: str, engine: LocalEngine
) -> None:
    """It would see no more than the last token, or what another sequence left behind."""
    own = engine._contexts.model.config
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, vocab_size=own.vocab_size, hidden_size=32, n_embd=32)
    config.num_hidden_layers = config.num_attention_heads = 2
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(UsageError, match=f"{family}: this architecture cannot go on"):
        LocalEngine(model, engine._tokenizer)


def test_a_long_page_is_computed_in_steps(engine: LocalEngine, tiny_model: Path) -> None:
    texts = [["x = 1\n" * 150], ["y = 2\n" * 150], ["z"]]
    reference: Any = load_base(str(tiny_model), torch.float32)[0]
    check_against_recomputation(reference, engine, texts, converse(engine, texts))


def test_memory_is_taken_for_live_tokens_of_rows_in_use_only(engine: LocalEngine) -> None:
    def blocks() -> list[int]:
        """The rows of each block."""
        cache = engine._contexts._cache  # type: ignore[attr-defined]
        return [len(block.keys) for block in cache.blocks[0]]

    converse(engine, [["x = 1\n" * 150]])
    assert blocks() == []
    handles = [engine.open() for _ in range(3)]
    for handle, rows in zip(handles, ([1], [2], [4]), strict=True):
        engine.show(handle, "x")
        engine.sample([(handle, sampling())])
        assert blocks() == rows
    assert engine.capacity > 4


def test_what_a_group_begins_with_is_held_once(engine: LocalEngine) -> None:
    cache = engine._contexts._cache  # type: ignore[attr-defined]
    prompt = engine.encode("total = 0\n" * 60)
    first = engine.open()
    engine.append(first, prompt)
    group = [first, *(engine.fork(first) for _ in range(7))]
    engine.sample([(handle, sampling(handle, tokens=4)) for handle in group])
    (beginning,) = {id(cache.beginnings[handle]) for handle in group}
    assert len(cache.blocks[0]) == 1
    assert cache.begun(first) == len(prompt) - 1  # the last one is left, to sample after
    assert cache.lengths[first] == len(prompt) + 3
    # A fork of what has gone on begins with all that it had; the others keep theirs.
    later = engine.fork(first)
    engine.append(later, engine.encode("and more\n"))
    engine.sample([(later, sampling())])
    assert cache.begun(first) == cache.begun(later) == len(prompt) + 3
    assert {id(cache.beginnings[handle]) for handle in group[1:]} == {beginning}
    for handle in (*group, later):
        engine.close(handle)
    assert not any(cache.beginnings)


@pytest.mark.parametrize("family", [name for name in FAMILIES if FAMILIES[name][0] is PackedModel])
def test_beginnings_that_grow_or_are_cut_change_nothing(family: str, engine: LocalEngine) -> None:
    tiny = engine._contexts.model.config
    own = LocalEngine(random_model(family, tiny), engine._tokenizer)
    contexts: dict[int, list[int]] = {}
    sampled: dict[int, dict[int, float]] = {}

    def open(ids: list[int], of: int | None = None) -> int:
        handle = own.open() if of is None else own.fork(of)
        contexts[handle] = [] if of is None else contexts[of][:]
        sampled[handle] = {} if of is None else dict(sampled[of])
        show(handle, ids)
        return handle

    def show(handle: int, ids: list[int]) -> None:
        own.append(handle, ids)
        contexts[handle] += ids

    def sample() -> None:
        requests = [(handle, sampling(handle, tokens=5)) for handle in contexts]
        for handle, drawn in zip(contexts, own.sample(requests), strict=True):
            assert drawn is not None
            places = range(len(contexts[handle]), len(contexts[handle]) + len(drawn.ids))
            sampled[handle] |= dict(zip(places, drawn.logprobs, strict=True))
            contexts[handle] += drawn.ids

    text = own.encode("def f(x):\n    return x + 1\n" * 60)
    first = open(text[: BLOCK + 40])
    sample()
    second = open([], of=first)  # what the first has gone on to moves
    sample()
    open(text[: BLOCK + 9] + own.encode("else"))  # a part of that beginning
    for handle in (first, second):
        show(handle, text[: BLOCK + 20])  # more than a block of their own
    sample()
    for handle in (first, second):
        open([], of=handle)
    sample()
    assert own._contexts._cache.begun(first) > 2 * BLOCK  # type: ignore[attr-defined]
    reference = random_model(family, tiny, attention="eager")
    for handle, ids in contexts.items():
        with torch.inference_mode():
            scores = reference(torch.tensor([ids])).logits[0].log_softmax(-1)
        for place, logprob in sampled[handle].items():
            assert abs(scores[place - 1, ids[place]].item() - logprob) < 1e-4


def test_a_window_that_has_left_the_beginning_behind_is_finite_in_bfloat16(
    engine: LocalEngine,
) -> None:
    model = random_model("mistral", engine._contexts.model.config).bfloat16()
    own = LocalEngine(model, engine._tokenizer)
    first = own.open()
    own.append(first, own.encode("def f(x):\n" * 30))
    request = Sampling(1.0, 1.0, 40, 0, lambda text: False)
    samples = own.sample([(first, request), (own.fork(first), request)])
    for sample in samples:
        assert sample is not None
        assert len(sample.ids) == 40 > WINDOW["sliding_window"]
        assert torch.tensor(sample.logprobs).isfinite().all()


def test_greedy_sampling_takes_the_likeliest(engine: LocalEngine, tiny_model: Path) -> None:
    reference: Any = load_base(str(tiny_model), torch.float32)[0]
    handle = engine.open()
    ids = engine.encode("def f(x):\n    return")
    engine.append(handle, ids)
    (sample,) = engine.sample([(handle, sampling(temperature=0.0))])
    for token in sample.ids:
        with torch.inference_mode():
            assert reference(torch.tensor([ids])).logits[0, -1].argmax().item() == token
        ids.append(token)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sequence_does_not_depend_on_its_neighbours(family: str, engine: LocalEngine) -> None:
    own = LocalEngine(random_model(family, engine._contexts.model.config), engine._tokenizer)
    together = converse(own, TEXTS)
    for index, shown in enumerate(TEXTS):
        (alone,) = converse(own, [shown], seed=index)
        for one, beside in zip(alone, together[index], strict=True):
            assert one.ids == beside.ids
            assert one.logprobs == pytest.approx(beside.logprobs, abs=1e-4)


def test_equal_prompts_with_different_seeds_differ(engine: LocalEngine) -> None:
    samples = converse(engine, [["def f(x):\n"]] * 6)
    assert len({sample.ids for (sample,) in samples}) > 1


def test_a_fork_continues_like_a_separate_run(engine: LocalEngine) -> None:
    one = engine.open()
    engine.append(one, engine.encode("def f(x):\n"))
    engine.sample([(one, sampling(0))])
    two = engine.fork(one)
    for handle in (one, two):
        engine.append(handle, engine.encode("again\n"))
    fork_ids = list(engine._ids[two])
    first, second = engine.sample([(one, sampling(5)), (two, sampling(5))])
    assert first.ids == second.ids
    for handle in (one, two):
        engine.close(handle)
    apart = engine.open()  # nothing of the two is left to be copied from
    engine.append(apart, fork_ids)
    (alone,) = engine.sample([(apart, sampling(5))])
    assert alone.ids == first.ids
    assert alone.logprobs == pytest.approx(first.logprobs, abs=1e-4)


def test_places_of_closed_sequences_are_used_again(tiny_model: Path) -> None:
    engine = LocalEngine(*load_model(str(tiny_model), dtype=torch.float32), capacity=2)
    before = converse(engine, [["def f(x):\n"]])
    for _ in range(5):
        converse(engine, [["some other text\n"], ["and more\n"]])
    assert converse(engine, [["def f(x):\n"]]) == before
    engine.open()
    engine.open()
    with pytest.raises(UsageError, match="holds 2 sequences"):
        engine.open()


def test_top_p_and_top_k_leave_out_the_unlikely(engine: LocalEngine) -> None:
    def sample(top_p: float, top_k: int, seed: int) -> tuple[int, ...]:
        handle = engine.open()
        engine.append(handle, engine.encode("x = "))
        request = Sampling(1.0, top_p, 1, seed, lambda text: False, top_k=top_k)
        (drawn,) = engine.sample([(handle, request)])
        assert drawn is not None
        engine.close(handle)
        return drawn.ids

    assert len({sample(1e-6, 0, seed) for seed in range(12)}) == 1
    assert len({sample(1.0, 1, seed) for seed in range(12)}) == 1
    assert len({sample(1.0, 2, seed) for seed in range(12)}) == 2
    assert len({sample(1.0, 0, seed) for seed in range(12)}) > 2


def test_a_sequence_has_an_end(engine: LocalEngine) -> None:
    handle = engine.open()
    engine.append(handle, [1] * (1024 - 12))
    assert engine.sample([(handle, sampling(tokens=12))]) != [None]
    assert engine.sample([(handle, sampling(tokens=12))]) == [None]


@pytest.fixture
def adapted(tiny_model: Path, tmp_path: Path) -> Path:
    """An adapter that changes what the tiny model says."""
    model = new_adapter(load_base(str(tiny_model), torch.float32)[0], Lora(), seed=0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    return save_adapter(model, tmp_path, str(tiny_model))


def test_sync_takes_over_an_adapter(engine: LocalEngine, tiny_model: Path, adapted: Path) -> None:
    before = converse(engine, TEXTS)
    merged = LocalEngine(*load_model(str(tiny_model), adapted, torch.float32))
    engine.sync(load_adapter(load_base(str(tiny_model), torch.float32)[0], adapted))
    after = converse(engine, TEXTS)
    assert after != before
    for mine, theirs in zip(after, converse(merged, TEXTS), strict=True):
        assert [sample.ids for sample in mine] == [sample.ids for sample in theirs]


def test_after_a_sync_an_open_sequence_goes_on_by_the_new_weights(
    engine: LocalEngine, tiny_model: Path, adapted: Path
) -> None:
    merged = LocalEngine(*load_model(str(tiny_model), adapted, torch.float32))
    ids = [engine.open(), merged.open()]
    for one, handle in zip([engine, merged], ids, strict=True):
        one.show(handle, TEXTS[0][0])
    (early,) = engine.sample([(ids[0], sampling())])
    assert early is not None
    merged.append(ids[1], early.ids)
    engine.sync(load_adapter(load_base(str(tiny_model), torch.float32)[0], adapted))
    assert engine.sample([(ids[0], sampling())]) == merged.sample([(ids[1], sampling())])


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")  # PEFT sets it as GPT-2's layers need it
@pytest.mark.parametrize("family", FAMILIES)
def test_sync_takes_over_lora_in_training(family: str, engine: LocalEngine) -> None:
    """However often, and each time as it has become meanwhile."""
    tiny = engine._contexts.model.config
    trained = new_adapter(random_model(family, tiny, attention="eager"), Lora(), seed=0)
    own = LocalEngine(random_model(family, tiny), engine._tokenizer)
    said = [converse(own, TEXTS)]
    for _ in range(2):
        for name, weight in trained.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
        own.sync(trained)
        said.append(converse(own, TEXTS))
        assert said[-1] != said[-2]
        check_against_recomputation(trained, own, TEXTS, said[-1])


@pytest.mark.parametrize(
    "beyond",
    [{"use_dora": True}, {"modules_to_save": ["norm"]}, {"bias": "lora_only"}],
)
def test_sync_refuses_what_it_cannot_take_over(
    engine: LocalEngine, tiny_model: Path, beyond: dict[str, Any]
) -> None:
    config = LoraConfig(target_modules=["q_proj"], **beyond)
    model = get_peft_model(load_base(str(tiny_model), torch.float32)[0], config)
    with pytest.raises(UsageError, match=f"with {next(iter(beyond))} cannot be sampled"):
        engine.sync(model)


def test_wrong_models_and_adapters_say_what_to_do(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no model '\./nowhere-1b'"):
        load_base("./nowhere-1b")
    with pytest.raises(UsageError, match=r"adapter_config\.json is missing"):
        load_model(str(tiny_model), tmp_path)
