"""One program in a process that knows neither what is expected nor who judges.

Answers are lines of JSON, one for loading the program and one for each test:

    {"load": null} or {"load": [type, message, line]}
    {"test": 0, "values": [...]} or {"test": 0, "raised": [type, message, line]}
    {"test": 0, "passed": token}    for a test judged in here
"""

from __future__ import annotations

import gc
import marshal
import os
import resource
import signal
from _json import encode_basestring_ascii as quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any

PROGRAM = "<program>"
DEPTH = 60
MESSAGE = 300


def main(request: bytes, descriptor: int, put_on_walls: Callable[[], None]) -> None:
    """Run a request behind the walls, answer, and leave without any of its exit handlers.

    Args:
        request: marshalled (program, setup, tests, resource limits), as `answer` takes them.
        descriptor: where the answers go.
        put_on_walls: what to call before anything of the program's runs.
    """
    leave = os._exit  # bound now, before the program can put something else in its place
    program, setup, tests, limits = marshal.loads(request)
    for limit, value in limits:
        try:
            resource.setrlimit(limit, (value, value))
        except ValueError:  # this whole process has been given less, which will do
            less = resource.getrlimit(limit)[1]
            resource.setrlimit(limit, (less, less))
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    put_on_walls()
    if "random" in program:
        import random

        random.seed(0)
    gc.enable()
    answer(program, setup, tests, descriptor)
    leave(0)


def answer(
    program: str,
    setup: str,
    tests: list[tuple[CodeType | None, tuple[CodeType, ...], str | None]],
    descriptor: int,
) -> None:
    """Load the program, then compute what each test asks for, and write down what came of it.

    Args:
        tests: of each its prelude, its expressions, and the token where it is judged in here.
        descriptor: where the answers go.
    """
    run, evaluate, write, everything = exec, eval, os.write, BaseException

    def say(line: str) -> None:
        data = line.encode() + b"\n"
        while data:
            data = data[write(descriptor, data) :]

    namespace: dict[str, Any] = {"__name__": "program"}
    try:
        run(compile(program, PROGRAM, "exec", dont_inherit=True), namespace)
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
                values = [encode(evaluate(code, namespace)) for code in expressions]
                outcome = '"values":[' + ",".join(values) + "]"
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

    Subclasses of plain types are reduced to them, by the base type's own methods.
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
    if issubclass(kind, (bytes, bytearray)):
        return f'{{"bytes":"{bytes(value).hex()}"}}'
    if issubclass(kind, complex):
        parts = complex.__add__(value, 0j)
        return f'{{"complex":["{parts.real.hex()}","{parts.imag.hex()}"]}}'
    for base in (list, tuple, set, frozenset):
        if issubclass(kind, base):
            items = [encode(item, depth + 1) for item in base.__iter__(value)]
            return f'{{"{base.__name__}":[' + ",".join(items) + "]}"
    if issubclass(kind, dict):
        pairs = [
            "[" + encode(key, depth + 1) + "," + encode(item, depth + 1) + "]"
            for key, item in dict.items(value)
        ]
        return '{"dict":[' + ",".join(pairs) + "]}"
    return '{"opaque":' + quote(str(kind.__name__)[:MESSAGE]) + "}"
