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
from collections.abc import Iterator, Mapping, Sequence
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
_GLOBALS: dict[str, Any] = {"__builtins__": {}, **SAFE}
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

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether the assertion is true of the expressions' values, by their names.

        Raises:
            Exception: whatever the assertion itself raises on such values.
        """
        assert self.judgement is not None
        return bool(eval(self.judgement, dict(_GLOBALS), values))

    def complaint(self, came: Sequence[str] = ()) -> str:
        """What a person would want to know when it does not hold.

        Args:
            came: of each expression what came of it, such as `returned 3`.
        """
        if self.expected is not None and came:
            expected = eval(self.expected, dict(_GLOBALS))
            return f"{self.call} {came[0]}, expected {shorten(expected)}"
        got = "; ".join(
            f"{clip(source)} {what}" for source, what in zip(self.sources, came, strict=False)
        )
        return f"failed: {clip(self.source)}" + (f" ({got})" if got else "")

    @property
    def call(self) -> str:
        """What the program was asked to compute, shortened."""
        return clip(self.sources[0] if self.sources else self.source)


def redefined(program: str) -> frozenset[str]:
    """The safe builtins that a program defines anew."""
    return frozenset(SAFE.keys() & _DEFINITION.findall(program))


def can_be_hidden(test: str, solution: str) -> bool:
    """Whether a test can be split, so that its expectation stays out of the program's reach.

    Raises:
        DataError: the test is not Python.
    """
    return not split(test, redefined(solution)).inside


@lru_cache(maxsize=4096)
def split(source: str, redefined: frozenset[str] = frozenset()) -> SplitTest:
    """Split one test.

    Args:
        redefined: safe builtins that the program defines anew. They are taken for the program's
            only in a test that asks for nothing else of it: a program does not choose its judge.

    Raises:
        DataError: the test is not Python.
    """
    inside = whole(source)
    return (
        _split(source, frozenset()) or (_split(source, redefined) if redefined else None) or inside
    )


def whole(source: str) -> SplitTest:
    """One test that is to be judged inside.

    Raises:
        DataError: the test is not Python.
    """
    try:
        return SplitTest(source, compile(source, "<test>", "exec", dont_inherit=True))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"a test is not Python: {clip(source)}: {error}") from error


def _split(source: str, programs: frozenset[str]) -> SplitTest | None:
    """The test in its parts, None where it has to be judged inside."""
    *before, last = ast.parse(source).body or [ast.Pass()]
    if not isinstance(last, ast.Assert):
        return None
    if any(isinstance(node, ast.Assert) for statement in before for node in ast.walk(statement)):
        return None
    imports = (node for node in before if isinstance(node, ast.Import))
    modules = {alias.asname or alias.name for node in imports for alias in node.names}
    extractor = _Extractor(SAFE.keys() - programs, modules)
    if any(extractor.judges(statement) for statement in before):
        return None
    if any(map(extractor.decided_elsewhere, _truths(last.test))):
        return None
    judged = extractor.visit(last.test)
    if extractor.judged_within or not extractor.expressions or _must_stay_inside(judged):
        return None
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
        _prelude(before),
        tuple(map(_expression, extractor.expressions)),
        tuple(extractor.expressions),
        _compile(judged),
        expected,
    )


def _truths(node: ast.expr) -> Iterator[ast.expr]:
    """The parts of an assertion whose bare truth decides."""
    match node:
        case ast.BoolOp(values=values):
            for value in values:
                yield from _truths(value)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield from _truths(operand)
        case ast.Call(func=ast.Name("all" | "any" | "bool"), args=arguments):
            for argument in arguments:
                yield from _truths(argument)
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            for element in elements:
                yield from _truths(element)
        case _:
            yield node


class _Extractor(ast.NodeTransformer):
    """Replaces what needs the program by names `_0`, `_1`..., and collects it."""

    def __init__(self, safe: set[str], modules: set[str]) -> None:
        self._modules = modules
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

    def decided_elsewhere(self, node: ast.expr) -> bool:
        """Whether something other than the program's own function decides the node's bare truth.

        Such as a method of what the program returned, a module's function, or another builtin.
        """
        if not self._needs_program(node) or isinstance(node, ast.Compare):
            return False
        if isinstance(node, ast.ListComp | ast.GeneratorExp):
            return self.decided_elsewhere(node.elt)
        match node:
            case ast.Call(func=ast.Name(name)):
                return name in dir(builtins) and name not in SAFE
            case ast.Call(func=ast.Attribute(ast.Name(name))):
                return name in self._modules and name not in self._safe
            case ast.Name():
                return False
        return True

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
            if any(isinstance(side, ast.Call) for side in node.comparators) and any(
                isinstance(operator, ast.In | ast.NotIn) for operator in node.ops
            ):
                return True  # `f(1) in range(10**9)` goes through it, one by one, for a float
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
            if name in ("isinstance", "round") and any(map(_has_computed, more)):
                return False
            return name in _CHEAP_CALLS and not (name == "sum" and more)
        case ast.Attribute(ast.Name("math"), name):
            return name in _CHEAP_MATH
        case ast.Attribute(ast.Constant(), "join"):
            return True
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


def clip(text: str, limit: int = 100) -> str:
    """A piece of source on one line, its end left out where it is long."""
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 4]} ..."
