"""When two programs are the same, or nearly, and how far apart they are otherwise."""

from __future__ import annotations

import ast
import io
import tokenize

from redpencil import editor

_UNSEEN = (tokenize.COMMENT, tokenize.NL)
_NAMES_FOR = {tokenize.INDENT: "<in>", tokenize.DEDENT: "<out>", tokenize.NEWLINE: "<end>"}


def normalised(code: str) -> str:
    """The code's tokens: equal for programs that differ in comments, blank lines and spacing alone.

    Of what is not made of Python's tokens only blank lines and the spacing within lines are lost.
    """
    try:
        return " ".join(
            _NAMES_FOR.get(token.type, token.string)
            for token in tokenize.generate_tokens(io.StringIO(code).readline)
            if token.type not in _UNSEEN
        )
    except (tokenize.TokenError, SyntaxError):
        lines = [line for line in code.split("\n") if line.strip()]
        return "\n".join(
            line[: len(line) - len(line.lstrip())] + " ".join(line.split()) for line in lines
        )


def shape(code: str) -> str:
    """The syntax tree, the program's own names numbered: equal for copies under other names.

    Of what does not parse it is the tokens.
    """
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return normalised(code)
    numbers: dict[str, str] = {}
    for node in ast.walk(tree):
        if (name := _bound_name(node)) is not None:
            numbers.setdefault(name, f"_{len(numbers)}")
    for node in ast.walk(tree):
        for field in ("id", "name", "arg"):
            name = getattr(node, field, None)
            if name in numbers:
                setattr(node, field, numbers[name])
    return ast.dump(tree)


def edit_distance(before: str, after: str) -> int:
    """Levenshtein distance in characters between two programs, tabs and line ends normalised."""
    from rapidfuzz.distance import Levenshtein

    texts = (editor.page_text(editor.load_page(text)) for text in (before, after))
    return Levenshtein.distance(*texts)


def _bound_name(node: ast.AST) -> str | None:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()):
            return name
    return None
