"""Decoding by a grammar: what it allows is what the page can take, and nothing else is sampled."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redpencil import editor
from redpencil.engine import Sample, Sampling
from redpencil.engine.local import LocalEngine
from redpencil.engine.weights import load_base
from redpencil.env import Decoding, EditEnv, EditRules
from redpencil.errors import EngineError, UsageError
from redpencil.policy import ModelPolicy
from redpencil.rollout import Episode, rollout
from redpencil.types import Edit, Page, Status, Task, Verdict

PAGES = [
    (),
    ("",),
    ("def f(x):", "    return x  # a/b \\ 'c' [e] {f} ^$.|?*+()"),
    ("if x >>> y:", "    ä = 'über' # " + "long" * 30, "\t"),
    tuple(f"x{n} = {n}" for n in range(30)),
]


@pytest.mark.parametrize("page", PAGES)
def test_the_grammar_allows_what_the_page_can_take(engine: LocalEngine, page: Page) -> None:
    lines = len(page)
    edits = [Edit("EXIT"), Edit("ADDL", 1, ""), Edit("ADDL", lines + 1, "    é / \\ >>> x")]
    for number, line in enumerate(page, 1):
        edits += [Edit("REPL", number, "y"), Edit("DELL", number)]
        words = [word for word in re.findall(r"\w+", line) if len(word.encode()) <= 40]
        edits += [Edit("REPW", number, "new >>> x", word) for word in words]
    grammar = editor.grammar(page)
    for edit in edits:
        editor.apply(page, edit)
        assert accepts(engine, grammar, editor.format_edit(edit) + "\n"), edit
    wrong = [f"### DELL {lines + 1}", f"### REPL {lines + 1} >>>x", "### REPW 1 >>>absent >>>x"]
    for text in [*wrong, "### EXIT ", "REPL 1 >>>x", "### FIX", f"### ADDL {lines + 2} >>>x", ""]:
        assert not accepts(engine, grammar, text + "\n"), text


@pytest.mark.parametrize("page", PAGES)
def test_the_grammar_of_halves_allows_what_names_a_line(engine: LocalEngine, page: Page) -> None:
    lines = len(page)
    grammar = editor.half_grammar(page)
    for number in range(1, lines + 1):
        for name in ("ADDL", "REPL", "DELL"):
            assert accepts(engine, grammar, f"### {name} {number}\n")
    assert accepts(engine, grammar, f"### ADDL {lines + 1}\n")
    assert accepts(engine, grammar, "### EXIT\n")
    wrong = [f"DELL {lines + 1}", f"REPL {lines + 1}", f"ADDL {lines + 2}", "ADDL 1 >>>x", "REPW 1"]
    for text in wrong:
        assert not accepts(engine, grammar, f"### {text}\n"), text
    for line in ("", "    é / \\ >>> x"):
        assert accepts(engine, editor.line_grammar(page, Edit("ADDL", 1)), f"\n{line}\n")


def test_halves_that_lead_to_a_seen_page_are_left_out(engine: LocalEngine) -> None:
    page, seen = ("x", "y"), [("x", "y"), ("x",), ("x", "z"), ("x", "z", "y")]
    halves = editor.half_grammar(page, seen)
    assert accepts(engine, halves, "### DELL 1\n")
    assert not accepts(engine, halves, "### DELL 2\n")
    replaced, added = (editor.line_grammar(page, Edit(name, 2), seen) for name in ("REPL", "ADDL"))
    for line in ("y", "z", "z "):
        assert not accepts(engine, replaced, f"\n{line}\n"), line
    assert not accepts(engine, added, "\nz\n")
    for grammar, line in ((replaced, "zz"), (replaced, " z"), (added, "y"), (added, "x")):
        assert accepts(engine, grammar, f"\n{line}\n"), line


LINES = ("", "x", "y x", "x x", "x + (y)/2 ")
PAGES_OF_FEW_LINES = st.lists(st.sampled_from(LINES), max_size=4).map(tuple)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(page=PAGES_OF_FEW_LINES, others=st.lists(PAGES_OF_FEW_LINES, max_size=4))
def test_a_grammar_of_new_pages_leaves_out_just_what_makes_a_seen_one(
    engine: LocalEngine, page: Page, others: list[Page]
) -> None:
    seen = {page, *others}
    everything, of_new = editor.grammar(page), editor.grammar(page, seen)
    places = range(1, len(page) + 2)
    edits = [Edit("ADDL", n, line) for n in places for line in LINES]
    edits += [Edit("REPL", n, line) for n in places[:-1] for line in LINES]
    edits += [Edit("DELL", n) for n in places[:-1]]
    edits += [
        Edit("REPW", n, new, old)
        for n in places[:-1]
        for old in ("x", "y", "+", "(", ")/", "2")
        for new in ("x", "y", "y x", "+", "")
        if old in page[n - 1]
    ]
    for edit in edits:
        text = editor.format_edit(edit) + "\n"
        assert accepts(engine, everything, text), edit
        texts = [edit.text.rstrip(" ")]  # an edit with spaces after it is left out along with it
        while texts[-1] != edit.text:
            texts.append(texts[-1] + " ")
        leading = [editor.apply(page, Edit(edit.command, edit.line, t, edit.old)) for t in texts]
        assert accepts(engine, of_new, text) == seen.isdisjoint(leading), edit
    assert accepts(engine, of_new, "### EXIT\n")


def accepts(engine: LocalEngine, grammar: str, text: str) -> bool:
    matcher = engine._grammars.begin(grammar)
    ids = engine.encode(text)
    return matcher.validate_tokens(ids) == len(ids) and matcher.consume_tokens(ids) is True


@pytest.mark.parametrize("decoding", ["well-formed", "new-pages"])
@pytest.mark.parametrize("page", PAGES)
def test_no_constrained_command_is_malformed_or_leads_back(
    engine: LocalEngine, page: Page, decoding: Decoding
) -> None:
    class Never:
        def check(self, text: str, task: Task) -> Verdict:
            return Verdict(Status.FAILED, 0, 1, "no", 0.0, "none")

    task = Task("t", "p", editor.page_text(page), None, ("assert f",), (), "", "test")
    policy = ModelPolicy(engine, "tiny", temperature=1.5, decoding=decoding)
    episodes = [Episode(EditEnv(task, Never(), EditRules(max_turns=3)), seed) for seed in range(8)]
    traces = list(rollout(episodes, policy))
    assert [turn.error for trace in traces for turn in trace.turns if turn.error] == []
    assert {turn.edit.command for trace in traces for turn in trace.turns if turn.edit} > {"ADDL"}
    if decoding == "new-pages":
        for trace in traces:
            pages = [turn.observation.page for turn in trace.turns]
            assert len(set(pages)) == len(pages)


def test_a_grammar_leaves_log_probabilities_alone(engine: LocalEngine, tiny_model: Path) -> None:
    reference: Any = load_base(str(tiny_model), torch.float32)[0]
    ids = engine.encode("L 1 x\n***\nfailed\n")
    handle = engine.open()
    engine.append(handle, ids)
    request = Sampling(1.5, 1.0, 12, 0, lambda text: "\n" in text, grammar=editor.grammar(("x",)))
    (sample,) = engine.sample([(handle, request)])
    with torch.inference_mode():
        scores = reference(torch.tensor([[*ids, *sample.ids]])).logits[0].log_softmax(-1)
    places = range(len(ids) - 1, len(ids) - 1 + len(sample.ids))
    expected = [
        scores[place, token].item() for place, token in zip(places, sample.ids, strict=True)
    ]
    assert sample.logprobs == pytest.approx(expected, abs=1e-4)
    engine.close(handle)


def test_a_policy_asks_for_a_grammar_only_where_there_are_any() -> None:
    class Plain:
        capabilities: frozenset[str] = frozenset({"ids"})

    with pytest.raises(UsageError, match="cannot decode by a grammar"):
        ModelPolicy(Plain(), "plain", decoding="well-formed")  # type: ignore[arg-type]


def test_a_grammar_that_is_none_is_refused(engine: LocalEngine) -> None:
    with pytest.raises(EngineError, match="not a grammar"):
        engine._grammars.begin("start: /(/")


def test_a_grammar_that_fails_ends_its_own_action(engine: LocalEngine) -> None:
    request = Sampling(1.0, 1.0, 12, 0, lambda text: "\n" in text, grammar=editor.grammar(("x",)))
    failing, other = engine.open(), engine.open()
    for handle in (failing, other):
        engine.show(handle, "L 1 x\n***\nfailed\n")
        engine.begin(handle, request)
    matcher = engine._drafts[failing].matcher
    assert matcher is not None
    matcher.consume_tokens(engine.encode("no command"))
    ended = {}
    while len(ended) < 2:
        ended.update(engine.step())
    assert isinstance(ended[failing], EngineError)
    assert "could not be followed" in str(ended[failing])
    assert isinstance(ended[other], Sample)
