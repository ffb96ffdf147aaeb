"""The editing language: exactly the paper's commands, and nothing surprising from any text."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redpencil import editor
from redpencil.errors import ApplyError, ParseError
from redpencil.types import Edit

LINE = st.text(st.characters(blacklist_characters="\n\r"), max_size=30)
PAGE = st.lists(LINE, max_size=8).map(tuple)
NUMBER = st.integers(1, 12)
OLD = LINE.filter(lambda text: text and editor.ARROW not in f"{text}{editor.ARROW[:-1]}")
EDIT = st.one_of(
    st.just(Edit("EXIT")),
    st.builds(Edit, st.just("DELL"), NUMBER),
    st.builds(Edit, st.sampled_from(["ADDL", "REPL"]), NUMBER, LINE),
    st.builds(Edit, st.just("REPW"), NUMBER, LINE, OLD),
)
PROGRAM = ("def f(x):", "    return x + x")


@pytest.mark.parametrize(
    ("action", "edit"),
    [
        ("### ADDL 3 >>>    return x", Edit("ADDL", 3, "    return x")),
        ("### REPL 12 >>>", Edit("REPL", 12, "")),
        ("### REPL 1 >>>a >>>b", Edit("REPL", 1, "a >>>b")),
        ("### REPW 2 >>>x >>>y", Edit("REPW", 2, "y", "x")),
        ("### REPW 2 >>>x >>> ", Edit("REPW", 2, " ", "x")),
        ("### DELL 7", Edit("DELL", 7)),
        ("### EXIT", Edit("EXIT")),
    ],
)
def test_the_five_commands(action: str, edit: Edit) -> None:
    assert editor.parse(action) == edit
    assert editor.format_edit(edit) == action


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("", "starts with '### '"),
        ("REPL 3 >>>x", "starts with '### '"),
        ("### REPLACE 3 >>>x", "unknown command 'REPLACE'"),
        ("### repl 3 >>>x", "unknown command 'repl'"),
        ("### REPL >>>x", "REPL takes a line number"),
        ("### REPL three >>>x", "REPL takes a line number, found 'three'"),
        ("### REPL -1 >>>x", "REPL takes a line number, found '-1'"),
        ("### REPL 0 >>>x", "not a line number: '0'"),
        ("### REPL 99999999999999999999 >>>x", "not a line number"),
        ("### REPL ٣ >>>x", "REPL takes a line number"),
        ("### REPL 3", "REPL takes ' >>>' and the content"),
        ("### REPL 3 >> x", "REPL takes a line number"),
        ("### REPW 3 >>>x", "REPW takes ' >>>', the old string"),
        ("### REPW 3 >>> >>>x", None),
        ("### REPW 3 >>> >>>", None),
        ("### DELL 3 >>>x", "DELL takes a line number and nothing after"),
        ("### DELL 3 ", "DELL takes a line number"),
        ("### EXIT now", "EXIT takes nothing"),
        ("### EXIT\n### EXIT", "one command on one line"),
    ],
)
def test_malformed_commands_say_precisely_why(action: str, reason: str | None) -> None:
    if reason is None:
        reason = "REPW cannot replace an empty string"
    with pytest.raises(ParseError) as caught:
        editor.parse(action)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "page"),
    [
        (Edit("ADDL", 3, "    pass"), ("def f(x):", "    return x + x", "    pass")),
        (Edit("ADDL", 1, "import os"), ("import os", *PROGRAM)),
        (Edit("REPL", 2, "    return 2 * x"), ("def f(x):", "    return 2 * x")),
        (Edit("REPW", 2, "y", "x"), ("def f(x):", "    return y + x")),
        (Edit("DELL", 1), ("    return x + x",)),
        (Edit("EXIT"), PROGRAM),
    ],
)
def test_applying(edit: Edit, page: editor.Page) -> None:
    assert editor.apply(PROGRAM, edit) == page


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (Edit("REPL", 3, ""), "no line 3 for REPL: the page has 2 lines"),
        (Edit("ADDL", 4, ""), "no line 4 for ADDL"),
        (Edit("DELL", 999_999_999), "no line 999999999"),
        (Edit("REPW", 1, "b", "zebra"), "text not found in line 1: 'zebra'"),
    ],
)
def test_commands_that_the_page_cannot_take(edit: Edit, reason: str) -> None:
    with pytest.raises(ApplyError) as caught:
        editor.apply(PROGRAM, edit)
    assert reason in str(caught.value)


def test_an_empty_page_takes_a_first_line() -> None:
    assert editor.apply((), Edit("ADDL", 1, "x")) == ("x",)
    with pytest.raises(ApplyError, match="the page is empty"):
        editor.apply((), Edit("DELL", 1))


def test_rendering_as_in_the_paper() -> None:
    assert editor.render(PROGRAM, "f(1) returned 3") == (
        "L 1 def f(x):\nL 2     return x + x\n***\nf(1) returned 3\n"
    )


@given(EDIT)
def test_parse_undoes_format(edit: Edit) -> None:
    assert editor.parse(editor.format_edit(edit)) == edit


@given(PAGE, EDIT)
def test_invert_undoes_apply(page: editor.Page, edit: Edit) -> None:
    try:
        after = editor.apply(page, edit)
    except ApplyError:
        return
    inverse = editor.invert(page, edit)
    assert editor.apply(after, inverse) == page


@given(PAGE, st.one_of(st.text(), st.text().map(lambda text: f"### REPW 1 >>>{text}")))
@settings(max_examples=300)
def test_no_text_raises_anything_but_our_own_errors(page: editor.Page, action: str) -> None:
    with contextlib.suppress(ParseError, ApplyError):
        editor.apply(page, editor.parse(action))


@pytest.mark.parametrize(
    "action",
    [
        "### REPL 1 >>>" + "x" * 1_000_000,
        "\0",
        "### REPL 1 >>>\0",
        "### REPL 1 >>>\ud800",
        "### DELL " + "9" * 5000,
        "### DELL -" + "9" * 5000,
        "### REPW 1 >>>" + " >>>" * 1000,
        "\u202e### EXIT",
    ],
)
def test_odd_texts_are_taken_or_refused_cleanly(action: str) -> None:
    with contextlib.suppress(ParseError, ApplyError):
        editor.apply(PROGRAM, editor.parse(action))


def test_errors_stay_short_whatever_the_text() -> None:
    with pytest.raises(ParseError) as caught:
        editor.parse("### " + "x" * 1_000_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("a\r\n\tb\r\n", ("a", "    b")),
        ("a\rb", ("a", "b")),
        ("\ufeffa\n\n\n", ("a",)),
        ("x = '\t'\n", ("x = '\t'",)),
        ('\tx = """\n\ty\n\t"""\n\tz', ('    x = """', "\ty", '\t"""', "    z")),
        ('if x:\n\tf"""\n\t{\n\tx}\n"""', ("if x:", '    f"""', "\t{", "\tx}", '"""')),
        ('"""\n\ta\n"""\nx = (\n\ty', ('"""', "\ta", '"""', "x = (", "    y")),
        ("  \tx", ("    x",)),
        ("", ()),
        ("a\u2028b\n\x0cc", ("a\u2028b", "\x0cc")),
    ],
)
def test_loading_normalises_line_ends_and_tabs_of_the_indentation(
    text: str, page: editor.Page
) -> None:
    assert editor.load_page(text) == page
    assert editor.load_page(editor.page_text(page)) == page


def test_a_word_is_offered_only_where_its_bytes_fit_into_a_command() -> None:
    assert "REPW" in editor.grammar(("ü" * 20,))
    assert "REPW" not in editor.grammar(("ü" * 21,))
