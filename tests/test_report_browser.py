"""The page at work in headless Chromium."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from made import Act, episode, origin
from redpencil.report import Entry, build
from redpencil.results import summarise
from tags import Tags

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture
def page() -> str:
    """One of three traces, of four turns, two turns and one; the second is not solved."""
    mended = Act("### REPL 1 >>>y", "y", solved=True)
    oops, exits = Act("### OOPS", "x"), Act("### EXIT", "y", solved=True)
    traces = [
        episode("x", oops, oops, mended, exits),
        episode("x", oops, Act("### EXIT", "x"), seed=1),
        episode("x", mended, end="truncated", seed=2),
    ]
    return build("A page", [Entry("after SFT", summarise(traces, origin(), 1.0), traces)], [])


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[str, str], str]:
    """Opens a page at a link in headless Chromium; gives back the document it became."""
    if BROWSER is None:
        pytest.skip("no Chromium on this machine")

    def open_page(page: str, link: str) -> str:
        path = tmp_path / "page.html"
        path.write_text(page)
        return subprocess.run(
            [
                BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"{path.as_uri()}{link}",
            ],
            capture_output=True, text=True, timeout=60, check=True,
        ).stdout  # fmt: skip

    return open_page


def shown_turns(dom: str) -> list[str]:
    return re.findall(r'class="state on" data-turn="(\d+)"', dom)


@pytest.mark.browser
def test_a_browser_steps_to_the_turn_that_a_link_names(
    page: str, opened: Callable[[str, str], str]
) -> None:
    dom = opened(page, "#trace=0&turn=2")
    assert 'class="js"' in dom
    assert shown_turns(dom) == ["2", "0", "0"]
    assert ">3 traces</output>" in dom


@pytest.mark.browser
def test_arrow_keys_buttons_and_filters_work(page: str, opened: Callable[[str, str], str]) -> None:
    acts = """<script>
      const press = key =>
        document.body.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
      press("ArrowRight"); press("ArrowRight"); press("ArrowRight"); press("ArrowLeft");
      document.querySelector("#trace-1 [data-step='1']").click();
      document.querySelector("#trace-2 [data-go='1']").click();
      document.getElementById("by-outcome").value = "no";
      document.getElementById("by-outcome").dispatchEvent(new Event("change"));
    </script></body>"""
    unguarded = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    dom = opened(unguarded.replace("</body>", acts), "#trace=0")
    assert shown_turns(dom) == ["2", "1", "1"]
    outcomes = [attrs for _, attrs in Tags(dom).found if "data-solved" in attrs]
    assert Counter((attrs["data-solved"], "hidden" in attrs) for attrs in outcomes) == {
        ("yes", True): 2,
        ("no", False): 1,
    }
    assert ">1 trace</output>" in dom


@pytest.mark.browser
def test_no_other_script_than_the_page_s_own_runs(
    page: str, opened: Callable[[str, str], str]
) -> None:
    foreign = "<script>document.body.dataset.taken = 'yes'</script></body>"
    assert "data-taken" not in opened(page.replace("</body>", foreign), "")
