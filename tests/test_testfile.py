"""A person's file of tests gives the verdict that pytest, or Python, would give."""

from __future__ import annotations

import sysconfig
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from redpencil.checkers import PythonChecker
from redpencil.checkers.testfile import read_tests
from redpencil.errors import DataError, UsageError
from redpencil.repair import repair_task, require_broken
from redpencil.sandbox import Limits, Sandbox, rung_asked_for
from redpencil.types import Verdict

SHOP = "RATE = 2\n\ndef f(x):\n    return x * RATE\n"
LOUD = "def f(x):\n    print('x' * 2_000_000)\n    return 2 * x\n"
TILL = "class Till:\n    total = 0\n    def add(self, n):\n        self.total += n\n"


@pytest.fixture(scope="module")
def checker() -> Iterator[PythonChecker]:
    packages = [sysconfig.get_path("purelib")]
    with Sandbox(rung_asked_for(), workers=1, packages=packages) as sandbox:
        yield PythonChecker(Limits(wall=20.0), sandbox, trusting=True, imported_as="shop")


def verdict(checker: PythonChecker, folder: Path, program: str, tests: str) -> Verdict:
    path = folder / "test_shop.py"
    path.write_text(textwrap.dedent(tests))
    return checker.check(program, repair_task(program, *read_tests(path)))


PASSING = {
    "statements between asserts": (
        SHOP,
        """
        r = f(1)
        assert r == 2
        r = f(2)
        assert r == 4
        """,
    ),
    "an object that changes": (
        TILL,
        """
        from shop import Till
        t = Till()
        assert t.total == 0
        t.add(5)
        assert t.total == 5
        """,
    ),
    "a file that is removed at the end": (
        SHOP,
        """
        import os
        open('n', 'w').write('2')
        assert f(int(open('n').read())) == 4
        os.remove('n')
        """,
    ),
    "a loop": (
        SHOP,
        """
        for a, b in [(1, 2), (2, 4)]:
            assert f(a) == b
        """,
    ),
    "a constant of the program's name": (
        SHOP,
        """
        RATE = 99
        assert f(1) == 2
        """,
    ),
    "a function of the program's name": (
        SHOP,
        """
        from shop import f as twice

        def f(x):
            return x + x

        def test_f():
            assert twice(3) == f(3)
        """,
    ),
    "a file that is run as a script too": (
        SHOP,
        """
        def test_f():
            assert f(1) == 2

        test_f()
        """,
    ),
    "tests called by name": (
        SHOP,
        """
        def test_a():
            assert f(1) == 2

        def test_b():
            test_a()
            assert f(2) == 4

        for test in (test_a, test_b):
            test()
        """,
    ),
    "an import in a test": (
        SHOP,
        """
        def test_f():
            from shop import f
            assert f(1) == 2
        """,
    ),
    "an import that may fail": (
        SHOP,
        """
        try:
            from shop import f
        except ImportError:
            from lib.shop import f
        assert f(1) == 2
        """,
    ),
    "the tests' own place": (
        SHOP,
        """
        import os.path, sys
        sys.path.insert(0, os.path.dirname(__file__))
        assert f(1) == 2
        """,
    ),
    "what the module holds": (
        SHOP,
        """
        import shop
        assert vars(shop)['RATE'] == 2
        assert shop.f.__module__ == 'shop'
        """,
    ),
    "setup_function": (
        TILL,
        """
        from shop import Till

        def setup_function():
            global t
            t = Till()

        def test_a():
            t.add(5)
            assert t.total == 5

        def test_b():
            assert t.total == 0
        """,
    ),
    "monkeypatch and a star import": (
        SHOP,
        """
        import pytest, shop
        from shop import *

        def test_a(monkeypatch):
            monkeypatch.setattr(shop, 'RATE', 3)
            assert f(2) == 6

        def test_b():
            assert f(2) == 4
        """,
    ),
    "skip and xfail": (
        SHOP,
        """
        import pytest
        from shop import f

        @pytest.mark.skip
        def test_a(): assert 0

        @pytest.mark.xfail
        def test_b(): assert 0

        def test_c():
            assert f(1) == 2
            pytest.skip('done')
        """,
    ),
    "two megabytes printed": (
        LOUD,
        """
        import pytest
        from shop import f

        def test_f():
            assert f(1) == 2
        """,
    ),
}


@pytest.mark.parametrize(("program", "tests"), PASSING.values(), ids=PASSING.keys())
def test_what_passes_elsewhere_passes_here(
    program: str, tests: str, checker: PythonChecker, tmp_path: Path
) -> None:
    found = verdict(checker, tmp_path, program, tests)
    assert found.solved, found.detail


FAILING = {
    "a base of the file's": (
        1,
        2,
        """
        import unittest
        from shop import f

        class Base(unittest.TestCase):
            def check(self): self.assertEqual(f(1), 2)

        class ShopTest(Base):
            def test_a(self): self.check()
            def test_b(self): self.assertEqual(f(1), 9)
        """,
    ),
    "a case that is gone on with": (
        2,
        3,
        """
        import unittest
        from shop import f

        class Base(unittest.TestCase):
            def check(self): self.assertEqual(f(1), 2)

        class ShopCase(Base):
            def test_a(self): self.check()

        class More(ShopCase):
            def test_b(self): assert 0
        """,
    ),
    "a class in a class": (
        1,
        2,
        """
        from shop import f

        class TestOuter:
            def test_a(self): assert f(1) == 2
            class TestInner:
                def test_b(self): assert 0
        """,
    ),
    "a mixin": (
        0,
        1,
        """
        from shop import f

        class Mixin:
            def test_a(self): assert f(1) == 9

        class TestShop(Mixin): pass
        """,
    ),
    "a test within an if": (
        0,
        1,
        """
        from shop import f
        if f:
            def test_a(): assert f(1) == 9
        """,
    ),
    "a session that is left": (
        0,
        3,
        """
        import pytest

        def test_a(): pass

        def test_b(): pytest.exit('bye')

        def test_c(): pass
        """,
    ),
    "a session that is interrupted": (
        0,
        1,
        """
        import pytest

        def test_a(): raise KeyboardInterrupt
        """,
    ),
    "the second of two loops": (
        1,
        2,
        """
        for n in range(3):
            assert f(n) == 2 * n

        for n in range(3):
            assert f(n) == 0
        """,
    ),
    "a helper of the tests": (
        0,
        1,
        """
        from shop import f

        def g(x):
            return x

        def test_a():
            assert f(3) == g(3)
        """,
    ),
}


@pytest.mark.parametrize(("passed", "total", "tests"), FAILING.values(), ids=FAILING.keys())
def test_what_fails_elsewhere_fails_here(
    passed: int, total: int, tests: str, checker: PythonChecker, tmp_path: Path
) -> None:
    found = verdict(checker, tmp_path, SHOP, tests)
    assert not found.solved
    assert (found.passed, found.total) == (passed, total), found.detail


def test_asserts_are_judged_from_outside_wherever_they_stand(
    checker: PythonChecker, tmp_path: Path
) -> None:
    tests = """
        import shop
        from shop import f

        TWO = 2

        def test_small():
            '''Doubles.'''
            assert f(TWO) == 4
            assert shop.f(0) == 0

        def test_loop():
            for n in range(3):
                assert f(n) == 2 * n
        """
    found = verdict(checker, tmp_path, SHOP, tests)
    assert (found.passed, found.total, found.inside) == (3, 3, 1)


def test_a_test_that_the_program_skips_is_not_passed(
    checker: PythonChecker, tmp_path: Path
) -> None:
    program = "import pytest\n\ndef f(x):\n    pytest.skip('not today')\n"
    tests = "import pytest\nfrom shop import f\n\ndef test_f(): assert f(1) == 2\n"
    assert "the program skips it" in verdict(checker, tmp_path, program, tests).detail


def test_what_goes_wrong_beside_the_tests_is_told(checker: PythonChecker, tmp_path: Path) -> None:
    skipped = "import pytest\npytest.importorskip('nowhere')\n\ndef test_f(): pass\n"
    assert "could not import 'nowhere'" in verdict(checker, tmp_path, SHOP, skipped).detail
    hidden = "import pytest\n\ndef test_f(): pass\n\nglobals()['test_' + 'g'] = lambda: 1 / 0\n"
    assert "test_g: ZeroDivisionError" in verdict(checker, tmp_path, SHOP, hidden).detail


def test_a_module_that_is_missing_is_told_before_any_test(
    checker: PythonChecker, tmp_path: Path
) -> None:
    tests = "import pytest, nowhere\n\ndef test_f(): pass\n"
    assert verdict(checker, tmp_path, SHOP, tests).detail.startswith("ModuleNotFoundError")
    path = tmp_path / "test_shop.py"
    with pytest.raises(UsageError, match="cannot run: ModuleNotFoundError"):
        require_broken(repair_task(SHOP, *read_tests(path)), checker)


def test_names_of_the_tests_are_none_of_the_program_s(
    checker: PythonChecker, tmp_path: Path
) -> None:
    program = "def helper(x):\n    return x - 1\n\ndef f(x):\n    return math.floor(helper(x))\n"
    tests = "import math\n\ndef helper(x): return 2 * x\n\nassert f(3) == 6\n"
    assert "NameError: name 'math'" in verdict(checker, tmp_path, program, tests).detail


def test_a_file_without_tests_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "test_shop.py"
    path.write_text("import pytest\n\nclass TestNothing:\n    value = 1\n")
    with pytest.raises(DataError, match=r"no tests in .*test_shop\.py: write asserts"):
        read_tests(path)
