"""Every page shows what is on record: `python -m benchmarks.pages` would change nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.harness.pages import fill
from benchmarks.pages import PAGES, WRITERS, render


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_shows_what_is_on_record(page: Path) -> None:
    assert render(page) == page.read_text(encoding="utf-8"), "run python -m benchmarks.pages"


def test_every_benchmark_is_shown_somewhere() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [tag for tag in WRITERS if f"<!-- {tag}: " not in text] == []


@pytest.mark.parametrize("tag", WRITERS)
def test_a_page_cannot_ask_for_what_there_is_not(tag: str) -> None:
    with pytest.raises(ValueError):
        fill(f"<!-- {tag}: nothing of the kind -->\n<!-- end -->", WRITERS)
