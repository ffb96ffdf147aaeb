"""Files: written whole or not at all, complained about by place."""

from __future__ import annotations

from pathlib import Path

import pytest

from redpencil.errors import DataError, UsageError
from redpencil.files import (
    append_jsonl,
    atomic_write,
    claim,
    read_json,
    read_jsonl,
    read_python,
    require_appendable,
    write_jsonl,
)
from redpencil.types import Value


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"

    def fail_halfway() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert list(path.parent.iterdir()) == []
    with atomic_write(path) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole"


def test_a_file_that_is_written_anew_keeps_its_mode_and_its_links(tmp_path: Path) -> None:
    script, link = tmp_path / "script.py", tmp_path / "link.py"
    script.write_text("old")
    script.chmod(0o750)
    link.symlink_to(script)
    with atomic_write(link) as file:
        file.write(b"new")
    assert (link.is_symlink(), script.read_text()) == (True, "new")
    assert script.stat().st_mode & 0o777 == 0o750


class Plan(Value, frozen=True):
    seed: int


def test_who_begins_anew_is_told_of_all_that_would_be_gone_on_with(tmp_path: Path) -> None:
    path, pieces = tmp_path / "rows.jsonl", tmp_path / "rows.partial.jsonl"
    claim(path, Plan(1), pieces)
    pieces.write_text("")
    claim(path, Plan(1), pieces)
    wanted = r"seed: 1 there, 2 now.*delete rows\.partial\.jsonl, rows\.plan\.json$"
    with pytest.raises(UsageError, match=wanted):
        claim(path, Plan(2), pieces)
    (tmp_path / "rows.plan.json").unlink()
    with pytest.raises(UsageError, match=r"rows\.partial\.jsonl is there already"):
        claim(path, Plan(2), pieces)
    pieces.unlink()
    claim(path, Plan(2), pieces)
    # What lies beside it, such as `rows.json`, would take its place.
    with pytest.raises(UsageError, match=r"ends in \.jsonl"):
        claim(tmp_path / "rows.json", Plan(2))


def test_lines_are_appended_and_a_torn_last_one_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_jsonl(path, [1, 2])
    append_jsonl(path, [3])
    with path.open("a") as file:
        file.write("4")
    assert read_jsonl(path, int, torn_tail=True) == [1, 2, 3]
    append_jsonl(path, [5])
    assert read_jsonl(path, int) == [1, 2, 3, 5]


def test_what_values_are_appended_to_is_looked_at_before_they_are_made(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.jsonl"
    require_appendable(path, int)
    append_jsonl(path, [1])
    require_appendable(path, int)
    assert read_jsonl(path, int) == [1]
    with pytest.raises(DataError, match=r"rows\.jsonl, line 1"):
        require_appendable(path, str)
    with pytest.raises(UsageError, match="cannot write"):
        require_appendable(tmp_path, int)


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("1\n2\n", encoding="utf-8-sig")
    assert read_jsonl(path, int) == [1, 2]
    path.write_text("3", encoding="utf-8-sig")
    assert read_json(path, int) == 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x = 1\ny = (", r"program\.py, line 2: '\(' was never closed$"),
        ("x = '\0'", r"program\.py: source code .* null bytes$"),
        ("x = " + "-" * 100_000 + "1", r"program\.py is not Python: \w"),
        ("x = " + "1+" * 100_000 + "1", r"program\.py is not Python: \w"),
    ],
    ids=["syntax", "null", "memory", "recursion"],
)
def test_what_is_not_python_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "program.py"
    path.write_text(text)
    with pytest.raises(DataError, match=complaint):
        read_python(path)


def test_the_line_of_a_fault_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('1\n\n"two"\n')
    with pytest.raises(DataError, match=r"rows\.jsonl, line 3"):
        read_jsonl(path, int)
    with pytest.raises(DataError, match="cannot read"):
        read_jsonl(tmp_path / "none", int)
    (tmp_path / "blocked").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        write_jsonl(tmp_path / "blocked" / "rows.jsonl", [1])
