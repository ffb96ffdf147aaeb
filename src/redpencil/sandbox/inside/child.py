"""One program in a process that knows neither what is expected nor who judges.

Answers are lines of JSON, one for loading the program and one for each test:

    {"load": null} or {"load": [type, message, line]}
    {"test": 0, "values": [...]} with {"raised": [type, message, line]} for what had no value
    {"test": 0, "raised": [...]} or {"test": 0, "passed": token} for a test judged in here
"""

from __future__ import annotations

import gc
import marshal
import os
import resource
import sys
from _json import encode_basestring_ascii as quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import CodeType
    from typing import Any

    Test = tuple[CodeType | None, tuple[CodeType, ...], str | None]
    """Its prelude, its expressions, and a token where it is judged in here."""
    Request = tuple[str, str, list[Test], str, bool, float, int]
    """Program, setup, tests, what they may import the program as, whether any of it may draw random
    numbers, seconds, bytes of memory."""

PROGRAM = "<program>"
MODULE = "program"
DEPTH = 200
MESSAGE = 300
ITEMS = 100_000


def main(data: bytearray, descriptor: int, put_on_walls: Callable[[], None]) -> None:
    """Run a request behind the walls, answer, and leave without any of its exit handlers.

    Args:
        data: a `Request`, marshalled.
        descriptor: where the answers go.
        put_on_walls: what to call before anything of the program's runs.
    """
    leave = os._exit  # bound now, before the program can put something else in its place
    request: Request = marshal.loads(data)
    program, setup, tests, imported_as, seeded, wall, memory = request
    limit(resource.RLIMIT_CPU, int(wall) + 2)
    limit(resource.RLIMIT_AS, memory)
    put_on_walls()
    if seeded:
        import random

        random.seed(0)
    gc.enable()
    answer(program, setup, tests, imported_as, descriptor)
    leave(0)


def limit(resource_: int, value: int) -> None:
    """Limit this process to so much of a resource, or to the less that it has been given."""
    try:
        resource.setrlimit(resource_, (value, value))
    except ValueError:
        less = resource.getrlimit(resource_)[1]
        resource.setrlimit(resource_, (less, less))


def answer(program: str, setup: str, tests: list[Test], imported_as: str, descriptor: int) -> None:
    """Load the program, then compute what each test asks for, and write down what came of it."""
    run, evaluate, write, everything = exec, eval, os.write, BaseException

    def say(line: str) -> None:
        data = line.encode() + b"\n"
        while data:
            data = data[write(descriptor, data) :]

    def value_of(code: CodeType) -> str:
        try:
            return encode(evaluate(code, namespace))
        except everything as error:
            return '{"raised":' + describe(error) + "}"

    name = imported_as or MODULE
    module = sys.modules[name] = type(sys)(name)
    namespace = module.__dict__
    try:
        run(compile(program, PROGRAM, "exec", dont_inherit=True), namespace)
        if imported_as:
            module.__file__ = f"{imported_as}.py"
            namespace = {**namespace, "__name__": "tests", "__file__": "tests.py"}
        if setup:
            run(compile(setup, "<setup>", "exec", dont_inherit=True), namespace)
    except everything as error:
        say('{"load":' + describe(error) + "}")
        return
    say('{"load":null}')
    for index, (prelude, expressions, token) in enumerate(tests):
        try:
            if prelude is not None:
                run(prelude, namespace)
            if token is None:
                outcome = '"values":[' + ",".join([value_of(code) for code in expressions]) + "]"
            else:
                outcome = '"passed":' + quote(token)
        except everything as error:
            outcome = '"raised":' + describe(error)
        say('{"test":' + str(index) + "," + outcome + "}")


def describe(error: BaseException) -> str:
    """Type, message and the program's line of an exception, as JSON."""
    line = None
    if isinstance(error, SyntaxError) and error.filename == PROGRAM:
        message, line = str(error.msg), error.lineno
    else:
        try:
            message = str(error)
        except BaseException:
            message = "its message cannot be printed"
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == PROGRAM:
                line = trace.tb_lineno
            trace = trace.tb_next
    name = quote(str(type(error).__name__)[:MESSAGE])
    return f"[{name},{quote(str(message)[:MESSAGE])},{'null' if line is None else line}]"


def encode(value: Any, depth: int = 0) -> str:
    """A plain value as tagged JSON that keeps its type; what is not plain is named, not carried.

    Subclasses of plain types are reduced to them, by the base type's own methods. An iterator is
    used up: what it gives is carried, and that it was no list.
    """
    kind = type(value)
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if depth > DEPTH:
        return '{"opaque":"a value nested too deeply"}'
    if issubclass(kind, int):
        return f'{{"int":"{int.__format__(value, "x")}"}}'
    if issubclass(kind, float):
        return f'{{"float":"{float.hex(value)}"}}'
    if issubclass(kind, str):
        return quote(str.__str__(value))
    if issubclass(kind, bytes):
        return f'{{"bytes":"{bytes.hex(value)}"}}'
    if issubclass(kind, bytearray):
        return f'{{"bytearray":"{bytearray.hex(value)}"}}'
    if issubclass(kind, complex):
        parts = complex.__pos__(value)
        return f'{{"complex":["{parts.real.hex()}","{parts.imag.hex()}"]}}'
    for base in (list, tuple, set, frozenset):
        if issubclass(kind, base):
            return f'{{"{base.__name__}":{_encode_all(base.__iter__(value), depth)}}}'
    if issubclass(kind, dict):
        return f'{{"dict":{_encode_all(dict.items(value), depth)}}}'
    if kind is range:
        return f'{{"range":{_encode_all((value.start, value.stop, value.step), depth)}}}'
    if kind.__module__ in ("builtins", "collections", "itertools") and hasattr(kind, "__iter__"):
        items = [item for _, item in zip(range(ITEMS), value, strict=False)]
        if len(items) < ITEMS:
            tag = "collection" if hasattr(kind, "__len__") else "items"
            return f'{{"{tag}":[{quote(kind.__name__)},{_encode_all(items, depth)}]}}'
    return '{"opaque":' + quote(str(kind.__name__)[:MESSAGE]) + "}"


def _encode_all(values: Iterable[Any], depth: int) -> str:
    return "[" + ",".join([encode(value, depth + 1) for value in values]) + "]"
