"""The editing language and the page it edits: pure functions, no state (paper, section 3).

    ### ADDL <line> >>><content>        insert so that the content becomes that line
    ### REPL <line> >>><content>        replace the line
    ### REPW <line> >>><old> >>><new>   replace the first occurrence of a string within the line
    ### DELL <line>                     delete the line
    ### EXIT                            finish

Lines count from 1. Content is taken to the letter, indentation and trailing spaces included.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from redpencil.errors import ApplyError, ParseError
from redpencil.types import Command, Edit, Page

MARK = "### "
ARROW = " >>>"
SEPARATOR = "***"
COMMANDS: tuple[Command, ...] = ("ADDL", "REPL", "REPW", "DELL", "EXIT")
HALVES: tuple[Command, ...] = ("ADDL", "REPL", "DELL", "EXIT")
"""The commands where lines are written in their place."""

_MAX_LINE_DIGITS = 9
_LONGEST_WORD = 40
"""Bytes: a tokenizer may need a token for each."""
_CONTENT = r"[^\n\r]*"
_WORD = re.compile(r"\w+|[!-/:-@\[-^`{-~]+")
_LINE_END = re.compile(r"\r\n?|\n")
_NUMBER = re.compile(r"[0-9]+")


def load_page(text: str) -> Page:
    """The page of a program's text: line ends and tabs are normalised here, and nowhere else.

    CRLF and CR become LF, tabs of the indentation become four spaces each, line ends at the end
    of the text are dropped, as is a byte-order mark. A line that begins within a string has no
    indentation.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
    if not text:
        return ()
    lines = text.split("\n")
    kept = _begun_in_strings(text) if "\t" in text else ()
    return tuple(line if number in kept else _untab(line) for number, line in enumerate(lines, 1))


def page_text(page: Page) -> str:
    """The program's text: the page's lines, each ended by a line feed."""
    return "".join(f"{line}\n" for line in page)


def file_text(page: Page, former: str) -> str:
    """The text of a page for the file whose text was `former`, whose line ends it keeps.

    So it does a byte-order mark, and what stood after the last line, be it nothing.
    """
    ends = Counter(_LINE_END.findall(former)).most_common(1)
    end = ends[0][0] if ends else "\n"
    mark = "\ufeff" if former.startswith("\ufeff") else ""
    tail = former[len(former.rstrip("\r\n")) :] if former else end
    return mark + end.join(page) + tail


def render(page: Page, feedback: str) -> str:
    """The state as the model sees it: numbered lines, `***`, and what running the page said."""
    numbered = "".join(f"L {number} {line}\n" for number, line in enumerate(page, 1))
    return f"{numbered}{SEPARATOR}\n{feedback}\n"


def parse(action: str) -> Edit:
    """Parse one command; exactly the language above, with nothing before or after it.

    Raises:
        ParseError: says precisely what is wrong.
    """
    name, rest = _command(action, COMMANDS)
    if name == "EXIT":
        return Edit("EXIT")
    number, arrow, content = rest.partition(ARROW)
    line = _parse_line(name, number)
    if name == "DELL":
        if arrow:
            raise ParseError("DELL takes a line number and nothing after it")
        return Edit("DELL", line)
    if not arrow:
        raise ParseError(f"{name} takes ' >>>' and the content after the line number")
    if name == "ADDL":
        return Edit("ADDL", line, content)
    if name == "REPL":
        return Edit("REPL", line, content)
    old, arrow, new = content.partition(ARROW)
    if not arrow:
        raise ParseError("REPW takes ' >>>', the old string, ' >>>' and the new string")
    if not old:
        raise ParseError("REPW cannot replace an empty string")
    return Edit("REPW", line, new, old)


def parse_half(action: str) -> Edit:
    """Parse a command of which ADDL and REPL only name a line: their text is yet to be written.

    There is no REPW, whose text is not a line.

    Raises:
        ParseError: says precisely what is wrong.
    """
    name, rest = _command(action, HALVES)
    return Edit(name) if name == "EXIT" else Edit(name, _parse_line(name, rest))


def _command(action: str, commands: Sequence[Command]) -> tuple[Command, str]:
    """The command that an action is, and what follows its name.

    Raises:
        ParseError: it is none of these, or not one line, or EXIT with something after it.
    """
    if "\n" in action:
        raise ParseError("expected one command on one line, found a line end")
    if not action.startswith(MARK):
        raise ParseError(f"a command starts with '### ', found {_quote(action)}")
    body = action[len(MARK) :]
    found, _, rest = body.partition(" ")
    name = next((command for command in commands if command == found), None)
    if name is None:
        raise ParseError(f"unknown command {_quote(found)}; the commands are {', '.join(commands)}")
    if name == "EXIT" and body != "EXIT":
        raise ParseError("EXIT takes nothing after it")
    return name, rest


def grammar(page: Page, seen: Iterable[Page] = ()) -> str:
    """The commands that a page can take, each with its line end, as a grammar in Lark's syntax.

    Line numbers go as far as the page's; REPW names a word, or a run of signs, of its line. Only
    such words are offered as can be written before any limit of tokens cuts the command.

    Args:
        seen: a command that makes one of these pages is left out, and is so with spaces after it.
    """
    commands = _naming(page, f" >>>{_CONTENT}")
    for number, line in enumerate(page, 1):
        if words := _words(line):
            commands.append(f"REPW {number} >>>{_one_of(words)} >>>{_CONTENT}")
    barred = {_format(edit) for goal in seen for edit in _leading(page, goal)}
    return _lark([f"{MARK}{command}" for command in commands], barred)


def half_grammar(page: Page, seen: Iterable[Page] = ()) -> str:
    """The same of commands of which ADDL and REPL only name a line, see `parse_half`."""
    leading = (edit for goal in seen for edit in _leading(page, goal))
    barred = {_format(edit) for edit in leading if edit.command == "DELL"}
    return _lark([f"{MARK}{command}" for command in _naming(page, "")], barred)


def line_grammar(page: Page, named: Edit, seen: Iterable[Page] = ()) -> str:
    """A line end and the line that an ADDL or REPL writes: any but one that makes a seen page."""
    leading = (edit for goal in seen for edit in _leading(page, goal))
    place = named.command, named.line
    barred = {edit.text for edit in leading if (edit.command, edit.line) == place}
    return _lark([_CONTENT], barred, lead=r"\n")


def _naming(page: Page, content: str) -> list[str]:
    """The commands that name a line, and EXIT, each as a regular expression."""
    some_line = _one_of([str(number) for number in range(1, len(page) + 1)])
    next_line = _one_of([str(number) for number in range(1, len(page) + 2)])
    commands = [f"ADDL {next_line}{content}", "EXIT"]
    return [*commands, f"REPL {some_line}{content}", f"DELL {some_line}"] if page else commands


def _lark(lines: Iterable[str], barred: Iterable[str], lead: str = "") -> str:
    """The grammar of one line, given as regular expressions, after `lead`; but for barred ones."""
    terminal = " | ".join(f"/{lead}{line}\\n/" for line in lines)
    if texts := sorted(barred):
        terminal = f"({terminal}) & ~/{lead}{_one_of(texts)} *\\n/"
    return f"start: COMMAND\nCOMMAND: {terminal}"


def _words(line: str) -> list[str]:
    return sorted({word for word in _WORD.findall(line) if len(word.encode()) <= _LONGEST_WORD})


def _one_of(texts: list[str]) -> str:
    return f"({'|'.join(re.escape(text).replace('/', chr(92) + '/') for text in texts)})"


def _leading(page: Page, goal: Page) -> Iterator[Edit]:
    """The commands of the grammar, but for EXIT, that make `goal` of `page`."""
    longest = min(len(page), len(goal))
    head = next((n for n in range(longest) if page[n] != goal[n]), longest)
    tail = next((n for n in range(longest) if page[-1 - n] != goal[-1 - n]), longest)
    match len(goal) - len(page):
        case 1:
            for number in range(len(page) - tail + 1, head + 2):
                yield Edit("ADDL", number, goal[number - 1])
        case -1:
            for number in range(len(goal) - tail + 1, head + 2):
                yield Edit("DELL", number)
        case 0:
            for number in range(max(len(page) - tail, 1), min(head + 1, len(page)) + 1):
                line, wanted = page[number - 1], goal[number - 1]
                yield Edit("REPL", number, wanted)
                for word in _words(line):
                    before, _, after = line.partition(word)
                    if wanted.startswith(before) and wanted[len(before) :].endswith(after):
                        new = wanted[len(before) : len(wanted) - len(after)]
                        yield Edit("REPW", number, new, word)


def format_edit(edit: Edit) -> str:
    """The command's text; `parse` gives back the same edit.

    Raises:
        ParseError: the edit cannot be written in the language, such as content with a line end.
    """
    text = _format(edit)
    if parse(text) != edit:
        raise ParseError(f"{edit!r} cannot be written as a command")
    return text


def apply(page: Page, edit: Edit) -> Page:
    """The page after the edit; EXIT leaves it as it is.

    Raises:
        ApplyError: there is no such line, or no such text in it.
    """
    if edit.command == "EXIT":
        return page
    last = len(page) + (edit.command == "ADDL")
    if not 1 <= edit.line <= last:
        lines = f"has {len(page)} line{'s' * (len(page) != 1)}" if page else "is empty"
        raise ApplyError(f"no line {edit.line} for {edit.command}: the page {lines}")
    before, after = page[: edit.line - 1], page[edit.line :]
    match edit.command:
        case "ADDL":
            return (*before, edit.text, *page[edit.line - 1 :])
        case "REPL":
            return (*before, edit.text, *after)
        case "DELL":
            return before + after
        case "REPW":
            line = page[edit.line - 1]
            if edit.old not in line:
                raise ApplyError(f"text not found in line {edit.line}: {_quote(edit.old)}")
            return (*before, line.replace(edit.old, edit.text, 1), *after)


def invert(page: Page, edit: Edit) -> Edit:
    """The edit that undoes `edit` on the page that it would make of `page`.

    Raises:
        ApplyError: `page` cannot take `edit`.
    """
    after = apply(page, edit)
    match edit.command:
        case "EXIT":
            return edit
        case "ADDL":
            return Edit("DELL", edit.line)
        case "DELL":
            return Edit("ADDL", edit.line, page[edit.line - 1])
        case "REPL":
            return Edit("REPL", edit.line, page[edit.line - 1])
        case "REPW":
            back = Edit("REPW", edit.line, edit.old, edit.text)
            try:
                if parse(_format(back)) == back and apply(after, back) == page:
                    return back
            except (ParseError, ApplyError):
                pass
            return Edit("REPL", edit.line, page[edit.line - 1])


def _format(edit: Edit) -> str:
    match edit.command:
        case "EXIT":
            return f"{MARK}EXIT"
        case "DELL":
            return f"{MARK}DELL {edit.line}"
        case "REPW":
            return f"{MARK}REPW {edit.line}{ARROW}{edit.old}{ARROW}{edit.text}"
        case _:
            return f"{MARK}{edit.command} {edit.line}{ARROW}{edit.text}"


def _parse_line(command: str, number: str) -> int:
    if not _NUMBER.fullmatch(number):
        raise ParseError(f"{command} takes a line number, found {_quote(number)}")
    if len(number) > _MAX_LINE_DIGITS or number.startswith("0"):
        raise ParseError(f"not a line number: {_quote(number)}")
    return int(number)


def _begun_in_strings(text: str) -> set[int]:
    """The numbers of the lines that begin within a string, as far as the text can be read."""
    inside: set[int] = set()
    opened: list[int] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            match tokenize.tok_name[token.type]:
                case "STRING":
                    inside.update(range(token.start[0] + 1, token.end[0] + 1))
                case "FSTRING_START" | "TSTRING_START":
                    opened.append(token.start[0])
                case "FSTRING_END" | "TSTRING_END":
                    inside.update(range(opened.pop() + 1, token.end[0] + 1))
    except (tokenize.TokenError, SyntaxError):
        pass  # of a broken program what could be read
    return inside


def _untab(line: str) -> str:
    body = line.lstrip(" \t")
    return line[: len(line) - len(body)].expandtabs(4) + body


def _quote(text: str, limit: int = 40) -> str:
    return repr(text if len(text) <= limit else text[:limit] + "…")
