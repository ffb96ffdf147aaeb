"""Breaking correct programs: the paper's random corruptions, and bugs that people write.

A corruption looks at a page and gives the edit that breaks it, or None where it does not apply;
`editor.invert` gives the edit that mends it.
"""

from __future__ import annotations

import io
import itertools
import keyword
import random
import re
import string
import tokenize
from collections.abc import Callable, Sequence
from typing import Literal

from redpencil import editor
from redpencil.types import Edit, Page

Kinds = Literal["paper", "bugs", "slips", "all"]
Corruption = Callable[[Page, random.Random, Sequence[str]], Edit | None]
"""Takes the page, the source of chance and lines of other programs."""

_OPERATORS = {
    "==": ("!=",),
    "!=": ("==",),
    "<": ("<=", ">"),
    "<=": ("<", ">="),
    ">": (">=", "<"),
    ">=": (">", "<="),
    "+": ("-",),
    "-": ("+",),
    "*": ("+", "**"),
    "**": ("*",),
    "/": ("//", "*"),
    "//": ("/", "%"),
    "%": ("//",),
    "+=": ("-=", "="),
    "-=": ("+=",),
    "*=": ("+=",),
    "and": ("or",),
    "or": ("and",),
}
_WORD = re.compile(r"[A-Za-z_]\w+")
_INDENT = "    "
_ATTEMPTS = 20


def corrupt(
    page: Page,
    count: int,
    rng: random.Random,
    donors: Sequence[str],
    kinds: Kinds = "all",
) -> tuple[Page, tuple[Edit, ...], tuple[str, ...]]:
    """Apply `count` random corruptions, each to the page that the one before left.

    Args:
        donors: lines of other programs, for the corruptions that put a foreign line in.
        kinds: which corruptions to choose from.

    Returns:
        The broken page, the edits that mend it (each inverse to its corruption, last one first,
        as in the paper's demonstrations), and the corruptions' names in the order applied. Fewer
        than `count` where nothing more applies.
    """
    mending: list[Edit] = []
    names: list[str] = []
    for _ in range(count):
        for _ in range(_ATTEMPTS):
            name = rng.choice(names_of(kinds))
            edit = CORRUPTIONS[name](page, rng, donors)
            if edit is None or (broken := editor.apply(page, edit)) == page:
                continue
            mending.insert(0, editor.invert(page, edit))
            names.append(name)
            page = broken
            break
    return page, tuple(mending), tuple(names)


def delete_line(page: Page, rng: random.Random, donors: Sequence[str]) -> Edit | None:
    """Remove any line but the last one left."""
    return Edit("DELL", _pick_line(page, rng)) if len(page) > 1 else None


def insert_line(page: Page, rng: random.Random, donors: Sequence[str]) -> Edit | None:
    """Put a line of another program in, indented like the line it comes before."""
    if not donors or not page:
        return None
    line = _pick_line(page, rng)
    return Edit("ADDL", line, _indent(page[line - 1]) + rng.choice(donors).strip())


def replace_line(page: Page, rng: random.Random, donors: Sequence[str]) -> Edit | None:
    """Put a line of another program in place of a line, at its indentation."""
    if not donors or not page:
        return None
    line = _pick_line(page, rng)
    return Edit("REPL", line, _indent(page[line - 1]) + rng.choice(donors).strip())


def misspell(page: Page, rng: random.Random, donors: Sequence[str]) -> Edit | None:
    """Drop, double, swap or change a letter of a word, written as a replacement of that word."""
    line = _pick_line(page, rng)
    words = list(_WORD.finditer(page[line - 1])) if page else []
    if not words:
        return None
    word = rng.choice(words).group()
    at = rng.randrange(len(word))
    letter = rng.choice(string.ascii_lowercase)
    wrong = rng.choice(
        (
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
            word[:at] + letter + word[at + 1 :],
            word[:at] + word[at : at + 2][::-1] + word[at + 2 :],
        )
    )
    return Edit("REPW", line, wrong, word)


def wrong_operator(page: Page, rng: random.Random, donors: Sequence[str]) -> Edit | None:
    """Exchange an operator for one that people confuse it with."""
    return _replace_token(
        page, rng, lambda token: rng.choice(_OPERATORS.get(token.string, (token.string,)))
    )


def off_by_one(page: Page, rng: random.Random, donors: Sequence[str]) -> Edit | None:
    """Make a whole number one more or one less."""

    def shift(token: tokenize.TokenInfo) -> str:
        if token.type != tokenize.NUMBER or not token.string.isdecimal():
            return token.string
        number = int(token.string)
        return str(number + 1 if number == 0 else number + rng.choice((-1, 1)))

    return _replace_token(page, rng, shift)


def swapped_arguments(page: Page, rng: random.Random, donors: Sequence[str]) -> Edit | None:
    """Exchange two neighbouring arguments of a call or parameters of a definition."""
    sites: list[tuple[int, str]] = []
    for number, line in enumerate(page, 1):
        for spans in _argument_lists(line):
            for (a, b), (c, d) in itertools.pairwise(spans):
                swapped = line[:a] + line[c:d] + line[b:c] + line[a:b] + line[d:]
                sites.append((number, swapped))
    return Edit("REPL", *rng.choice(sites)) if sites else None


def wrong_variable(page: Page, rng: random.Random, donors: Sequence[str]) -> Edit | None:
    """Use another name of the same program in place of a name."""
    names = sorted(
        {
            token.string
            for line in page
            for token in _tokens(line)
            if token.type == tokenize.NAME and not keyword.iskeyword(token.string)
        }
    )

    def other(token: tokenize.TokenInfo) -> str:
        if token.string not in names:
            return token.string
        return rng.choice(names)

    return _replace_token(page, rng, other)


def missing_return(page: Page, rng: random.Random, donors: Sequence[str]) -> Edit | None:
    """Compute a value and forget to return it."""
    lines = [n for n, line in enumerate(page, 1) if line.lstrip().startswith("return ")]
    if not lines:
        return None
    line = rng.choice(lines)
    text = page[line - 1]
    return Edit("REPL", line, _indent(text) + text.lstrip().removeprefix("return ").lstrip())


def wrong_indentation(page: Page, rng: random.Random, donors: Sequence[str]) -> Edit | None:
    """Indent a line one level more or less."""
    if not page:
        return None
    line = _pick_line(page, rng)
    text = page[line - 1]
    if text.startswith(_INDENT) and rng.random() < 0.5:
        return Edit("REPL", line, text.removeprefix(_INDENT))
    return Edit("REPL", line, _INDENT + text)


CORRUPTIONS: dict[str, Corruption] = {
    corruption.__name__: corruption
    for corruption in (
        delete_line,
        insert_line,
        replace_line,
        misspell,
        wrong_operator,
        off_by_one,
        swapped_arguments,
        wrong_variable,
        missing_return,
        wrong_indentation,
    )
}


_PAPER = ("delete_line", "insert_line", "replace_line", "misspell")
_SLIPS = ("insert_line", "misspell", "missing_return", "wrong_indentation")


def names_of(kinds: Kinds) -> tuple[str, ...]:
    """The corruptions of a kind.

    `paper`: the paper's. `bugs`: those that people write. `slips`: those of both that leave all of
    the program's code on the page, so that mending them asks for no new code.
    """
    match kinds:
        case "paper":
            return _PAPER
        case "slips":
            return _SLIPS
        case "bugs":
            return tuple(name for name in CORRUPTIONS if name not in _PAPER)
        case "all":
            return tuple(CORRUPTIONS)


def _pick_line(page: Page, rng: random.Random) -> int:
    return rng.randrange(len(page)) + 1 if page else 0


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _tokens(line: str) -> list[tokenize.TokenInfo]:
    """The tokens of one line, as far as it can be read on its own."""
    tokens = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(line.lstrip()).readline):
            tokens.append(token)
    except (tokenize.TokenError, SyntaxError):
        pass
    return tokens


def _replace_token(
    page: Page, rng: random.Random, change: Callable[[tokenize.TokenInfo], str]
) -> Edit | None:
    """Replace one token, chosen among those that `change` gives another string for."""
    sites: list[tuple[int, tokenize.TokenInfo, str]] = []
    for number, line in enumerate(page, 1):
        for token in _tokens(line):
            if token.string and (new := change(token)) != token.string:
                sites.append((number, token, new))
    if not sites:
        return None
    number, token, new = rng.choice(sites)
    indent = _indent(page[number - 1])
    body = page[number - 1][len(indent) :]
    return Edit("REPL", number, indent + body[: token.start[1]] + new + body[token.end[1] :])


def _argument_lists(line: str) -> list[list[tuple[int, int]]]:
    """Spans (begin, end) in `line` of the arguments of each parenthesis after a name."""
    offset = len(_indent(line))
    finished: list[list[tuple[int, int]]] = []
    stack: list[tuple[bool, list[tuple[int, int]], int]] = []
    before: tokenize.TokenInfo | None = None
    for token in _tokens(line):
        begin, end = token.start[1] + offset, token.end[1] + offset
        if token.string in ("(", "[", "{"):
            named = before is not None and before.type == tokenize.NAME
            is_call = token.string == "(" and named and not keyword.iskeyword(before.string)  # type: ignore[union-attr]
            stack.append((is_call, [], end))
        elif token.string in (")", "]", "}") and stack:
            is_call, spans, start = stack.pop()
            if is_call and line[start:begin].strip():
                finished.append([*spans, _trim(line, start, begin)])
        elif token.string == "," and stack:
            is_call, spans, start = stack.pop()
            stack.append((is_call, [*spans, _trim(line, start, begin)], end))
        before = token
    return [spans for spans in finished if len(spans) > 1]


def _trim(line: str, begin: int, end: int) -> tuple[int, int]:
    text = line[begin:end]
    return begin + len(text) - len(text.lstrip()), begin + len(text.rstrip())
