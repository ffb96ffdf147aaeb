"""Credit rules: golden values, worked out by hand."""

from __future__ import annotations

import pytest

from redpencil.train import credit


def test_the_papers_rule_normalises_each_turn_over_the_traces_that_have_it() -> None:
    advantages = credit.paper([[0.0, 1.0, 0.0], [0.0, 0.0], [-0.5, 1.0], [-0.5]])
    first = [0.25 / (0.25 + 1e-4)] * 2 + [-0.25 / (0.25 + 1e-4)] * 2
    mean, deviation = 2 / 3, (2 / 9) ** 0.5
    second = [(reward - mean) / (deviation + 1e-4) for reward in (1.0, 0.0, 1.0)]
    assert advantages[0] == pytest.approx([first[0], second[0], 0.0])
    assert advantages[1] == pytest.approx([first[1], second[1]])
    assert advantages[2] == pytest.approx([first[2], second[2]])
    assert advantages[3] == pytest.approx([first[3]])


def test_outcome_gives_a_traces_total_to_all_of_its_turns() -> None:
    advantages = credit.outcome([[0.0, 1.0], [-0.5, 0.5, 0.0]])
    assert advantages[0] == pytest.approx([0.5 / (0.5 + 1e-4)] * 2)
    assert advantages[1] == pytest.approx([-0.5 / (0.5 + 1e-4)] * 3)


@pytest.mark.parametrize("rule", credit.RULES)
def test_equal_traces_teach_nothing(rule: str) -> None:
    assert credit.RULES[rule]([[0.0, 1.0]] * 4) == [[0.0, 0.0]] * 4
    assert credit.RULES[rule]([]) == []


def test_advantages_fall_on_the_tokens_of_their_own_turn_alone() -> None:
    assert credit.per_token([1.5, -2.0], [(2, 3), (1, 0)]) == [1.5, 1.5, 0, 0, 0, -2.0]
    with pytest.raises(ValueError, match="argument"):
        credit.per_token([1.0], [(1, 0), (1, 0)])
