"""Commands that show what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER...",
            help="Evaluations of the same programs, or their results.json, the baseline first.",
        ),
    ],
    json: Annotated[Path | None, typer.Option(help="Write the comparison to this file.")] = None,
) -> None:
    """Compare evaluations program by program: differences, intervals, p-values."""
    from redpencil import tables, terminal
    from redpencil.compare import compare as run
    from redpencil.compare import read
    from redpencil.files import write_json

    comparison = run(read(folders))
    if json is not None:
        write_json(json, comparison)
    terminal.show_table(tables.results(comparison.measured))
    terminal.show_table(tables.pairs(comparison.pairs))


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER...", help="Evaluations, trainings, folders of these, files of traces."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The page; default FOLDER/report.html, for several report.html."),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the tables to this file as well, as Markdown.")
    ] = None,
    plots: Annotated[
        bool, typer.Option(help="Draw the Markdown's plots, into a folder beside it.")
    ] = True,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "redpencil",
) -> None:
    """Turn results into one HTML page, with learning curves and the traces to step through."""
    from redpencil.report import from_folders, write, write_markdown
    from redpencil.terminal import console

    entries, curves = from_folders(folders)
    path = out or _page_of(folders)
    write(path, title, entries, curves)
    console.print(str(path), soft_wrap=True)
    if markdown is not None:
        write_markdown(markdown, title, entries, curves if plots else None)
        console.print(str(markdown), soft_wrap=True)


def _page_of(folders: list[Path]) -> Path:
    if len(folders) > 1:
        return Path("report.html")
    (folder,) = folders
    return folder / "report.html" if folder.is_dir() else folder.with_suffix(".html")
