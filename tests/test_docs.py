"""The numbers of the results page are those of the files that they link to."""

from __future__ import annotations

import re
from pathlib import Path

from redpencil.files import read_json
from redpencil.results import Results

ROOT = Path(__file__).parents[1]
ROW = re.compile(
    r"\| .* \| \[\**(?P<share>[\d.]+%)\**\]\((?P<file>\.\./results/[^)]+)\) "
    r"\| (?P<interval>[\d.]+ - [\d.]+) \| (?P<programs>\d+) \|"
)


def test_each_row_of_the_results_says_what_its_file_says() -> None:
    text = (ROOT / "docs" / "results.md").read_text()
    heading, _, rest = text.partition("| solved | 95% interval | programs |\n|---|---|---|---|\n")
    assert heading
    rows = rest.partition("\n\n")[0].splitlines()
    assert len(rows) > 30
    for row in rows:
        found = ROW.fullmatch(row)
        assert found, f"no link to a file of results: {row}"
        results = read_json(ROOT / "docs" / found["file"], Results)
        interval = "{:.1f} - {:.1f}".format(*(100 * end for end in results.ci95))
        measured = f"{results.pass_at_1:.1%}", interval, str(results.n)
        assert (found["share"], found["interval"], found["programs"]) == measured, row
