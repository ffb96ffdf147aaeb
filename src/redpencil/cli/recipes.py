"""Commands about recipes: which there are, and what one costs."""

from __future__ import annotations


def recipes() -> None:
    """List the recipes that come with redpencil."""
    from redpencil.recipes import names, read
    from redpencil.recipes.files import FOLDER
    from redpencil.terminal import console

    width = max(map(len, names()))
    for name in names():
        console.print(f"{name:<{width}}  [dim]{read(name).about}[/]", soft_wrap=True)
    console.print(f"They lie in {FOLDER}; copy one to change it.", soft_wrap=True)
