"""What a report is made of: folders and files, in order, under names that tell them apart."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from made import Act, episode, origin
from redpencil.errors import DataError
from redpencil.files import write_json, write_jsonl
from redpencil.recipes import read
from redpencil.report import build, from_folder, from_folders, markdown, write
from redpencil.results import Results, summarise
from redpencil.runs import claim_run
from redpencil.types import Trace


@pytest.fixture(scope="module")
def traces() -> list[Trace]:
    mended = episode("x", Act("### REPL 1 >>>y", "y", solved=True), of="test/double")
    return [mended, episode("x", Act("### EXIT", "x"), of="test/other", seed=1)]


@pytest.fixture(scope="module")
def results(traces: list[Trace]) -> Results:
    return summarise(traces, origin(), 12.5)


def run_folder(folder: Path, results: Results, traces: list[Trace]) -> Path:
    for label in ("sft", "base", "other", "direct"):
        write_json(folder / "eval" / label / "results.json", results)
        write_jsonl(folder / "eval" / label / "traces.jsonl", traces)
    return folder


def test_a_run_folder_is_read_in_order(
    tmp_path: Path, traces: list[Trace], results: Results
) -> None:
    run_folder(tmp_path, results, traces)
    claim_run(tmp_path, read("quickstart"))
    nan = {"step": 3.0, "loss": float("nan"), "note": "diverged"}
    rows = [{"step": 1.0, "loss": 2.0}, {"step": 2.0, "loss": 1.0}, {"step": 2.0, "runtime": 3.0}]
    write_jsonl(tmp_path / "sft" / "metrics.jsonl", [*rows, nan])
    entries, curves = from_folder(tmp_path)
    baseline, untrained, sft = (
        "direct, zero-shot",
        "editing, untrained",
        "editing, SFT",
    )
    assert [entry.label for entry in entries] == [baseline, untrained, sft, "other"]
    assert [list(curve.points) for curve in curves] == [[(1.0, 2.0), (2.0, 1.0)]]
    # A folder of another's, called so or not, says of itself what it holds.
    (alone,), _ = from_folder(tmp_path / "eval" / "direct")
    assert alone.label == "direct"
    write(tmp_path / "report.html", "run", entries, curves)
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_trainings_are_found_wherever_they_are(
    tmp_path: Path, traces: list[Trace], results: Results
) -> None:
    for name in ("eval", "direct"):
        write_json(tmp_path / "mine" / name / "results.json", results)
        write_jsonl(tmp_path / "mine" / name / "traces.jsonl", traces)
    losses = [{"step": float(step), "loss": 1.0} for step in range(3)]
    write_jsonl(tmp_path / "mine" / "sft" / "metrics.jsonl", losses)
    rewards = [row | {"reward": 0.5, "solved_rate": 0.2} for row in losses]
    write_jsonl(tmp_path / "mine" / "rl" / "metrics.jsonl", rewards)
    entries, curves = from_folder(tmp_path / "mine")
    assert [entry.label for entry in entries] == ["direct", "eval"]
    learned = [
        "sft: loss on the model's own tokens",
        "rl: share of traces solved",
        "rl: mean reward of a trace",
    ]
    assert [curve.label for curve in curves] == learned
    shutil.copytree(tmp_path / "mine" / "eval", tmp_path / "mine" / "sft" / "eval")
    entries, (curve,) = from_folder(tmp_path / "mine" / "sft")
    assert ([entry.label for entry in entries], curve.label) == (["eval"], learned[0])
    shutil.rmtree(tmp_path / "mine" / "sft" / "eval")
    named = [tmp_path / "mine" / name for name in ("eval", "sft", "rl")]
    entries, curves = from_folders(named)
    assert [entry.label for entry in entries] == ["eval"]
    assert [curve.label for curve in curves] == learned
    assert "rl: mean reward" in build("rl", *from_folder(tmp_path / "mine" / "rl"))


def test_several_folders_are_told_apart(
    tmp_path: Path, traces: list[Trace], results: Results
) -> None:
    for name in ("small", "large"):
        claim_run(run_folder(tmp_path / name, results, traces), read("quickstart"))
        rows = [{"step": float(step), "loss": 1.0} for step in range(3)]
        write_jsonl(tmp_path / name / "sft" / "metrics.jsonl", rows)
    folders = [tmp_path / "small", tmp_path / "large" / "eval" / "sft"]
    entries, curves = from_folders(folders)
    assert [entry.label for entry in entries] == [
        "small: direct, zero-shot",
        "small: editing, untrained",
        "small: editing, SFT",
        "small: other",
        "sft",
    ]
    assert [curve.label for curve in curves] == ["small: SFT: loss on the model's own tokens"]
    assert from_folders(folders[:1]) == from_folder(folders[0])


def test_results_alone_have_tables_and_no_traces(
    tmp_path: Path, traces: list[Trace], results: Results
) -> None:
    for name in ("direct", "coe"):
        write_json(tmp_path / f"{name}.json", results)
    entries, curves = from_folders([tmp_path / "direct.json", tmp_path / "coe.json"])
    assert [(entry.label, entry.results, entry.traces) for entry in entries] == [
        ("direct", results, ()),
        ("coe", results, ()),
    ]
    assert not curves
    text = markdown("Results", entries)
    assert "Compared in pairs" in text
    assert f"{results.pass_at_1:.1%}" in text
    assert 'class="trace"' not in build("Results", entries, curves)


def test_demonstrations_have_a_page_too(tmp_path: Path, traces: list[Trace]) -> None:
    write_jsonl(tmp_path / "demos.jsonl", traces)
    page = build("demos", *from_folder(tmp_path / "demos.jsonl"))
    assert "Results" not in page
    assert "test/double" in page


def test_what_cannot_be_read_is_named(
    tmp_path: Path, traces: list[Trace], results: Results
) -> None:
    with pytest.raises(DataError, match=r"nothing to report in .*redpencil eval"):
        from_folder(tmp_path / "nowhere")
    run_folder(tmp_path, results, traces)
    metrics = tmp_path / "sft" / "metrics.jsonl"
    write_jsonl(metrics, [{"step": 1.0, "loss": 2.0}, {"loss": 1.0}])
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2: .*`step`"):
        from_folder(tmp_path)
    metrics.unlink()
    with (tmp_path / "eval" / "sft" / "traces.jsonl").open("a") as file:
        file.write("{broken\n")
    with pytest.raises(DataError, match=r"traces\.jsonl, line 3"):
        from_folder(tmp_path)
    empty = tmp_path / "demos.jsonl"
    empty.touch()
    with pytest.raises(DataError, match=r"no traces in .*redpencil demos"):
        from_folder(empty)
