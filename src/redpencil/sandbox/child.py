"""Runs inside the sandboxed process, which knows neither what is expected nor who judges.

Started as a script by `process.py`, with the request and the answer on inherited descriptors. It
imports as little as it can: starting up is most of what a short program costs. Answers are lines
of JSON, one for loading the program and one for each test:

    {"load": null} or {"load": [type, message, line]}
    {"test": 0, "values": [...]} or {"test": 0, "raised": [type, message, line]}
    {"test": 0, "passed": token}    for a test judged in here
"""

from __future__ import annotations

import marshal
import os
import resource
import sys
from _json import encode_basestring_ascii as quote

TYPE_CHECKING = False  # importing it from `typing` would cost more than the rest of this file
if TYPE_CHECKING:
    from typing import Any

PROGRAM = "<program>"
DEPTH = 60
MESSAGE = 300


def main(request_fd: int, answer_fd: int) -> None:
    """Take one request, run it, answer, and leave without any of the program's exit handlers."""
    with os.fdopen(request_fd, "rb") as pipe:
        request = marshal.loads(pipe.read())
    for limit, value in request["limits"]:
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    sys.argv[:] = ["program"]
    # Bound now, before the program can put something else in their place.
    run, write, leave, everything = exec, os.write, os._exit, BaseException

    def answer(line: str) -> None:
        data = line.encode() + b"\n"
        while data:
            data = data[write(answer_fd, data) :]

    namespace = {"__name__": "program"}
    try:
        run(compile(request["program"], PROGRAM, "exec", dont_inherit=True), namespace)
        run(compile(request["setup"], "<setup>", "exec", dont_inherit=True), namespace)
    except everything as error:
        answer('{"load":' + describe(error) + "}")
        leave(0)
    answer('{"load":null}')
    for index, (prelude, expressions, token) in enumerate(request["tests"]):
        try:
            run(compile(prelude, "<test>", "exec", dont_inherit=True), namespace)
            if token is None:
                values = [
                    encode(eval(compile(source, "<test>", "eval", dont_inherit=True), namespace))
                    for source in expressions
                ]
                outcome = '"values":[' + ",".join(values) + "]"
            else:
                outcome = '"passed":' + quote(token)
        except everything as error:
            outcome = '"raised":' + describe(error)
        answer('{"test":' + str(index) + "," + outcome + "}")
    leave(0)


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


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
