"""What an evaluation plays: the examples shown before an answer, and what cannot be played."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from redpencil.checkers import PythonChecker
from redpencil.dataset import Plan as DemosPlan
from redpencil.dataset import make_demos
from redpencil.demos import Broken, broken_variants
from redpencil.engine.weights import Dtype, adapter_sha256, dtype_of, model_sha256
from redpencil.errors import SandboxError, UsageError
from redpencil.evaluate import Asking, Plan, choose, evaluate, make_policy, others, sample
from redpencil.files import append_jsonl
from redpencil.policy import ModelPolicy, ScriptedPolicy
from redpencil.rollout import Episode, rollout
from redpencil.tasks import load, verify
from redpencil.types import Status, Task, Trace, Verdict

CHECKER = PythonChecker()
PLAY = partial(rollout, policy=ScriptedPolicy(lambda task: ["no program"]))


def test_as_many_examples_are_shown_as_asked_and_never_the_task_itself(tmp_path: Path) -> None:
    plan = Plan("direct", "builtin:train", "scripted", shots=2)
    tasks = load("builtin:train").tasks
    (shown,) = play(plan, tasks[0], tmp_path / "1")
    examples = [task for task in tasks if f"```python\n{task.solution}```" in shown]
    assert len(examples) == 2
    # The first example is now to be solved itself: another one takes its place.
    (again,) = play(plan, examples[0], tmp_path / "2")
    assert f"```python\n{examples[0].solution}```" not in again
    assert again.count("\nAnswer:\n```python\n") == 2


def test_no_example_is_the_problem_to_be_solved_under_another_name(double: Task) -> None:
    apart = load("builtin:train").tasks[0]
    words = msgspec.structs.replace(apart, id="words", prompt=double.prompt)
    solution = msgspec.structs.replace(apart, id="solution", solution=double.solution)
    assert others([words, solution, apart], double, 2) == [apart]


def test_changed_examples_are_not_gone_on_with(
    tmp_path: Path, double: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan("direct", "builtin:train", "scripted", shots=1)
    path = tmp_path / "traces.jsonl"
    sample(plan, [Broken(double, (), ())], PLAY, CHECKER, path)
    fewer = load("builtin:train").tasks[5:]
    monkeypatch.setattr("redpencil.evaluate.load_examples", lambda source: fewer)
    with pytest.raises(UsageError, match=r"something else \(examples_sha256: "):
        sample(plan, [Broken(double, (), ())], PLAY, CHECKER, path)


def test_a_request_that_is_refused_leaves_the_folder_to_the_next(
    tmp_path: Path, double: Task
) -> None:
    plan = Plan("direct", "builtin:train", "scripted", shots=1000)
    with pytest.raises(UsageError, match=r"--shots 1000, .*there are \d+ solved ones"):
        sample(plan, [Broken(double, (), ())], PLAY, CHECKER, tmp_path / "traces.jsonl")
    fewer = msgspec.structs.replace(plan, shots=1)
    assert sample(fewer, [Broken(double, (), ())], PLAY, CHECKER, tmp_path / "traces.jsonl")


def play(plan: Plan, task: Task, folder: Path) -> list[str]:
    broken = list(broken_variants([task], 1, (1, 3), 0, CHECKER))
    traces = sample(plan, broken, PLAY, CHECKER, folder / "traces.jsonl")
    return [trace.turns[0].observation.text for trace in traces]


def test_an_evaluation_goes_on_with_the_programs_and_the_adapter_that_it_was_begun_with_alone(
    tmp_path: Path, double: Task
) -> None:
    adapter = write_adapter(tmp_path / "adapter", b"weights")
    plan = Plan("coe", "jsonl:mine", "scripted", adapter=str(adapter))
    path, other = tmp_path / "traces.jsonl", msgspec.structs.replace(double, prompt="Halve it.")
    (trace,) = sample(plan, [Broken(double, (), ())], PLAY, CHECKER, path)
    written = path.read_bytes()
    with pytest.raises(UsageError, match=r"something else \(tasks_sha256: "):
        sample(plan, [Broken(other, (), ())], PLAY, CHECKER, path)
    write_adapter(adapter, b"trained further")
    with pytest.raises(UsageError, match=r"something else \(adapter_sha256: "):
        sample(plan, [Broken(double, (), ())], PLAY, CHECKER, path)
    assert path.read_bytes() == written
    write_adapter(adapter, b"weights")
    foreign = msgspec.structs.replace(trace, seed=9)
    append_jsonl(path, [foreign])
    assert sample(plan, [Broken(double, (), ())], PLAY, CHECKER, path) == [trace]


def test_looked_at_again_results_say_how_they_were_made(
    tmp_path: Path, double: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan("coe", "jsonl:mine", "scripted")
    broken = [Broken(double, (), ())]
    made = evaluate(plan, broken, PLAY, CHECKER, tmp_path, command="first")
    written = (tmp_path / "results.json").read_bytes()
    monkeypatch.setattr("redpencil.provenance.git_commit", lambda: "another")
    assert evaluate(plan, broken, PLAY, CHECKER, tmp_path, command="second") == made
    assert (tmp_path / "results.json").read_bytes() == written
    (tmp_path / "traces.jsonl").write_bytes(b"")
    assert evaluate(plan, broken, PLAY, CHECKER, tmp_path).git_commit == "another"


def test_what_was_gone_on_with_at_another_commit_says_both(
    tmp_path: Path, double: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan("coe", "jsonl:mine", "scripted")
    broken = [Broken(msgspec.structs.replace(double, id=name), (), ()) for name in "ab"]

    def one_alone(episodes: Sequence[Episode]) -> Iterator[Trace]:
        yield from PLAY(episodes[:1])
        raise KeyboardInterrupt

    monkeypatch.setattr("redpencil.provenance.git_commit", lambda: "one")
    with pytest.raises(KeyboardInterrupt):
        evaluate(plan, broken, one_alone, CHECKER, tmp_path)
    monkeypatch.setattr("redpencil.provenance.git_commit", lambda: "another")
    monkeypatch.setattr("redpencil.provenance.machine", lambda: "elsewhere")
    found = evaluate(plan, broken, PLAY, CHECKER, tmp_path)
    assert found.git_commit == "one, then another"
    assert found.machine.endswith(", then elsewhere")
    assert evaluate(plan, broken, PLAY, CHECKER, tmp_path) == found


def test_a_model_in_a_folder_is_known_by_its_weights(tiny_model: Path, tmp_path: Path) -> None:
    assert model_sha256("smollm2-135m") is None
    copied = shutil.copytree(tiny_model, tmp_path / "model")
    assert model_sha256(str(copied)) == model_sha256(str(tiny_model))
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert model_sha256(str(copied)) != model_sha256(str(tiny_model))


def test_results_say_which_adapter_they_are_of(tmp_path: Path, double: Task) -> None:
    adapter = write_adapter(tmp_path / "adapter", b"weights")
    plan = Plan("coe", "jsonl:mine", "scripted", adapter=str(adapter))
    found = evaluate(plan, [Broken(double, (), ())], PLAY, CHECKER, tmp_path / "eval")
    assert found.adapter_sha256 == adapter_sha256(adapter)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_computes_in_what_the_plan_says(tiny_model: Path, dtype: Dtype) -> None:
    policy = make_policy(Plan("coe", "jsonl:mine", str(tiny_model), dtype=dtype))
    assert isinstance(policy, ModelPolicy)
    assert policy._engine._contexts.model.dtype == dtype_of(dtype)  # type: ignore[attr-defined]


def test_programs_that_pass_are_left_out_and_wrong_solutions_named(double: Task) -> None:
    right, wrong = double.solution, double.program
    tasks = [
        msgspec.structs.replace(double, id=name, program=program, solution=solution)
        for name, program, solution in (
            ("broken", wrong, right),
            ("whole", right, right),
            ("hopeless", wrong, wrong),
            ("corrupted", None, right),
            ("beyond the limit", right, wrong),
        )
    ]
    plan = Plan("coe", "jsonl:mine", "scripted", limit=4)
    chosen = choose(plan, [tasks[3], *tasks[:3], tasks[4]], CHECKER)
    assert [item.task.id for item in chosen.broken] == ["corrupted", "broken", "hopeless"]
    assert chosen.remarks == [
        "1 program left out: no test shows a bug.",
        "The task's own solution fails its tests: hopeless.",
    ]
    assert choose(plan, tasks[:1], CHECKER).remarks == []


def test_solutions_get_other_names_where_the_plan_says_so() -> None:
    tasks = load("builtin:validation").tasks[:6]
    plain = choose(Plan("coe", "builtin:validation", "scripted"), tasks, CHECKER).broken
    other = choose(Plan("coe", "builtin:validation", "scripted", renamed=1), tasks, CHECKER).broken
    assert [item.task.id for item in other] == [item.task.id for item in plain]
    pairs = list(zip(plain, other, strict=True))
    assert all(item.task.solution in {t.solution for t in tasks} for item in plain)
    assert sum(a.task.solution != b.task.solution for a, b in pairs) >= 4


def write_adapter(folder: Path, weights: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def test_a_fault_of_a_task_is_not_shown_the_task() -> None:
    first, second = load("builtin:validation").tasks[:2]
    fault = msgspec.structs.replace(first, id=f"{first.id}#3")
    assert others([first, second], fault, 2) == [second]
    assert others([first, second], second, 1) == [first]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"shots": 1}, "no solved task is shown before one to edit"),
        ({"method": "in-place", "shots": 1}, "no solved task is shown before one to edit"),
        ({"method": "direct", "decoding": "new-pages"}, "only edits have a grammar"),
        ({"base_model": "oracle", "method": "direct"}, "oracle only edits"),
        ({"base_model": "random-edit", "adapter": "a"}, "has neither adapter nor server"),
        ({"base_model": "oracle", "dtype": "float32"}, "for a model that runs here"),
        ({"base_model": "oracle", "decoding": "new-pages"}, "oracle samples nothing"),
        ({"server": "http://localhost", "context": 4096}, "for a model that runs here"),
        ({"samples": 2}, "samples at temperature 0 are all the same"),
        ({"method": "in-place", "server": "http://localhost"}, "in --dialect completions"),
        ({"method": "reasoning", "server": "http://localhost", "dialect": "completions"}, "chat"),
    ],
)
def test_what_cannot_be_played_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Plan(**{"method": "coe", "tasks": "builtin:test", "base_model": "smollm2-135m"} | changes)


@pytest.mark.parametrize("asking", [Asking(5), Asking(None, 5), Asking(None, None, 5.0)])
def test_limits_of_a_server_are_for_a_server(asking: Asking) -> None:
    with pytest.raises(UsageError, match=r"--budget-tokens, --at-once and .* are for a --server"):
        make_policy(Plan("coe", "builtin:test", "oracle"), asking)


def test_what_could_not_be_judged_is_a_fault_and_no_finding(double: Task) -> None:
    task = msgspec.structs.replace(double, solution="def double(n):\n    return 2 * n\n")
    plan = Plan("coe", "jsonl:mine", "scripted")
    with pytest.raises(SandboxError, match="no process"):
        choose(plan, [task], Dead())
    with pytest.raises(SandboxError, match="no process"):
        verify([task], Dead())
    made_of = DemosPlan(tasks="jsonl:mine", tasks_sha256="")
    with pytest.raises(SandboxError, match="no process"):
        make_demos(task, made_of, [], [], Dead())


class Dead:
    """A checker whose sandbox does not start."""

    def check(self, text: str, task: Task) -> Verdict:
        return Verdict(Status.INFRA_ERROR, 0, 1, "no process", 0.0, "full")


def test_a_bound_that_draws_can_be_sampled_more_than_once() -> None:
    assert Plan("coe", "builtin:test", "random-edit", samples=4).temperature == 0
