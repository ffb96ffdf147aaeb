"""Splitting a test into what the program must compute and what is expected of it.

`assert sorted(f([3, 1])) == [1, 3]` becomes the expression `f([3, 1])`, evaluated in the sandbox,
and the judgement `sorted(value) == [1, 3]`, evaluated here on the plain value that came out. The
expectation never enters the untrusted process. A test that cannot be split is run whole inside.
"""

from __future__ import annotations

import ast
import builtins
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import Any

from redpencil.errors import DataError
from redpencil.sandbox.values import shorten

_SAFE_NAMES = (
    "abs all any bool bytes complex dict divmod enumerate float frozenset int isinstance len list "
    "max min range repr reversed round set sorted str sum tuple type zip"
)
SAFE = {name: getattr(builtins, name) for name in _SAFE_NAMES.split()} | {"math": math}
# What may be done out here to values that a program chose: nothing that they could make endless.
_CHEAP_CALLS = SAFE.keys() - {"bytes", "math", "range"}
_CHEAP_MATH = {"ceil", "floor", "isclose", "isfinite", "isinf", "isnan", "sqrt", "trunc"}
_CHEAP_OPERATORS = (ast.Add, ast.Sub, ast.Div, ast.FloorDiv, ast.BitAnd, ast.BitOr, ast.BitXor)
_DEFINITION = re.compile(r"^(?:def|class)\s+(\w+)", re.MULTILINE)
_KEPT = (
    ast.BinOp,
    ast.BoolOp,
    ast.Compare,
    ast.Dict,
    ast.List,
    ast.Set,
    ast.Starred,
    ast.Tuple,
    ast.UnaryOp,
)


@dataclass(frozen=True)
class SplitTest:
    """One test: what runs in the sandbox, and the judgement of what comes out."""

    source: str
    prelude: CodeType | None
    """Statements to run first, if any; the whole test where it is judged inside."""
    expressions: tuple[CodeType, ...] = ()
    sources: tuple[str, ...] = ()
    """Of the expressions, for the feedback."""
    judgement: CodeType | None = None
    """Of the names `_0`, `_1`...: the values of the expressions; None where judged inside."""
    expected: CodeType | None = None
    """The right side of a plain `call == expectation`, for the feedback."""

    @property
    def inside(self) -> bool:
        """Whether the test has to be judged within the untrusted process."""
        return self.judgement is None

    def holds(self, values: Sequence[Any]) -> bool:
        """Whether the assertion is true of the expressions' values.

        Raises:
            Exception: whatever the assertion itself raises on such values.
        """
        assert self.judgement is not None
        return bool(eval(self.judgement, _namespace(values)))

    def complaint(self, values: Sequence[Any]) -> str:
        """What a person would want to know when it does not hold."""
        if self.expected is not None:
            expected = eval(self.expected, _namespace(values))
            return f"{self.call} returned {shorten(values[0])}, expected {shorten(expected)}"
        got = "; ".join(
            f"{_clip(source)} returned {shorten(value)}"
            for source, value in zip(self.sources, values, strict=True)
        )
        return f"failed: {_clip(self.source)}" + (f" ({got})" if got else "")

    @property
    def call(self) -> str:
        """What the program was asked to compute, shortened."""
        return _clip(self.sources[0] if self.sources else self.source)


def redefined(program: str) -> frozenset[str]:
    """The builtins that a program defines anew, and that its tests may therefore mean."""
    return frozenset(SAFE.keys() & _DEFINITION.findall(program))


@lru_cache(maxsize=4096)
def split(source: str, redefined: frozenset[str] = frozenset()) -> SplitTest:
    """Split one test.

    Args:
        redefined: names that are not to be taken for builtins.

    Raises:
        DataError: the test is not Python.
    """
    try:
        body = ast.parse(source).body
        inside = SplitTest(source, compile(source, "<test>", "exec", dont_inherit=True))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"a test is not Python: {_clip(source)}: {error}") from error
    if not body or not isinstance(body[-1], ast.Assert):
        return inside
    if any(isinstance(node, ast.Assert) for statement in body[:-1] for node in ast.walk(statement)):
        return inside
    test = body[-1].test
    extractor = _Extractor(SAFE.keys() - redefined)
    if any(extractor.judges(statement) for statement in body[:-1]):
        return inside
    judged = extractor.visit(test)
    if extractor.judged_within or not extractor.expressions or _must_stay_inside(judged):
        return inside
    expected = None
    if (
        isinstance(judged, ast.Compare)
        and isinstance(judged.left, ast.Name)
        and judged.left.id == "_0"
        and isinstance(judged.ops[0], ast.Eq | ast.Is)
        and len(judged.ops) == 1
    ):
        expected = _compile(judged.comparators[0])
    return SplitTest(
        source,
        compile(ast.Module(body[:-1], []), "<test>", "exec", dont_inherit=True)
        if body[:-1]
        else None,
        tuple(
            compile(source, "<test>", "eval", dont_inherit=True) for source in extractor.expressions
        ),
        tuple(extractor.expressions),
        _compile(judged),
        expected,
    )


class _Extractor(ast.NodeTransformer):
    """Replaces what needs the program by names `_0`, `_1`..., and collects it."""

    def __init__(self, safe: set[str]) -> None:
        self.expressions: list[str] = []
        self.judged_within = False
        """Whether an expression holds a judgement, which a program's own objects could answer."""
        self._safe = safe

    def visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, ast.expr) or not self._needs_program(node):
            return node
        if isinstance(node, _KEPT):
            return self.generic_visit(node)
        if isinstance(node, ast.Call) and not self._needs_program(node.func):
            node.args = [self._visited(argument) for argument in node.args]
            for keyword in node.keywords:
                keyword.value = self._visited(keyword.value)
            return node
        self.judged_within |= self.judges(node)
        if isinstance(node, ast.GeneratorExp):
            node = ast.copy_location(ast.ListComp(node.elt, node.generators), node)
        self.expressions.append(ast.unparse(node))
        return ast.copy_location(ast.Name(f"_{len(self.expressions) - 1}", ast.Load()), node)

    def judges(self, node: ast.AST) -> bool:
        """Whether the node compares, combines or weighs what the program returns.

        The arguments that the program is called with do not count.
        """
        if not self._needs_program(node):
            return False
        if isinstance(node, ast.Call) and self._needs_program(node.func):
            return self.judges(node.func)
        if isinstance(node, ast.Compare | ast.BoolOp | ast.BinOp | ast.UnaryOp | ast.Call):
            return True
        return any(self.judges(child) for child in ast.iter_child_nodes(node))

    def _visited(self, node: ast.expr) -> ast.expr:
        visited = self.visit(node)
        assert isinstance(visited, ast.expr)
        return visited

    def _needs_program(self, node: ast.AST) -> bool:
        """Whether the node names anything but the safe builtins and its own bound variables."""
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            return True
        bound = {
            name.id
            for name in ast.walk(node)
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
        }
        if isinstance(node, ast.Lambda):
            bound |= {argument.arg for argument in ast.walk(node) if isinstance(argument, ast.arg)}
        return any(
            isinstance(name, ast.Name) and name.id not in self._safe and name.id not in bound
            for name in ast.walk(node)
        )


def _must_stay_inside(judged: ast.AST) -> bool:
    """Whether some part of the judgement is not to be left to this process.

    Two computed values may be the program's own objects, whose equality only the program can tell;
    and `2 ** f(1)` or `list(range(f(1)))` could be made to take for ever.
    """
    for node in ast.walk(judged):
        if isinstance(node, ast.Compare):
            if sum(map(_has_computed, (node.left, *node.comparators))) > 1:
                return True
        elif isinstance(node, ast.BinOp):
            if _has_computed(node) and not isinstance(node.op, _CHEAP_OPERATORS):
                return True
        elif isinstance(node, ast.Call) and _has_computed(node) and not _is_cheap(node):
            return True
    return False


def _is_cheap(call: ast.Call) -> bool:
    match call.func:
        case ast.Name(name):
            more = [*call.args[1:], *(keyword.value for keyword in call.keywords)]
            dear = name in ("round", "sum") and any(map(_has_computed, more))
            return name in _CHEAP_CALLS and not dear and not (name == "sum" and len(call.args) > 1)
        case ast.Attribute(ast.Name("math"), name):
            return name in _CHEAP_MATH
    return False


def _has_computed(node: ast.AST) -> bool:
    return any(isinstance(name, ast.Name) and name.id[0] == "_" for name in ast.walk(node))


def _prelude(statements: list[ast.stmt]) -> CodeType | None:
    if not statements:
        return None
    return compile(ast.Module(statements, []), "<test>", "exec", dont_inherit=True)


def _expression(source: str) -> CodeType:
    return compile(source, "<test>", "eval", dont_inherit=True)


def _compile(node: ast.AST) -> CodeType:
    assert isinstance(node, ast.expr)
    return compile(
        ast.fix_missing_locations(ast.Expression(node)), "<judgement>", "eval", dont_inherit=True
    )


def _namespace(values: Sequence[Any]) -> dict[str, Any]:
    computed = {f"_{index}": value for index, value in enumerate(values)}
    return {"__builtins__": {}, **SAFE, **computed}


def _clip(text: str, limit: int = 100) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 4]} ..."
