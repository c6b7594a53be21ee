"""Every page can be read, named and fitted to its screen, light and dark, wide and narrow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import PAGES, Studio, show

from prefloop.runs.files import append_lines

pytestmark = pytest.mark.slow
QUESTION = {"id": "0" * 24, "prompt": "Why?", "text": "Why?", "first": "Because.", "second": "Why not?"}
ROLES = {"button", "link", "textbox", "searchbox", "combobox", "checkbox", "radio", "slider", "spinbutton"}
EVERY_STATE = """async () => {
    const { h, notice } = await import("/pages/dom.js");
    const { badge } = await import("/pages/state.js");
    const states = ["running", "finished", "stopped", "failed", "interrupted", "damaged", "gone", "else"];
    const danger = h("button.danger", {}, "danger");
    document.querySelector(".page").append(h("div.row", {}, states.map(badge), danger));
    notice("said", { undo: () => {} });
    notice("bad", { bad: true });
}"""
CONTRAST = Path(__file__).with_name("contrast.js").read_text("utf-8")


@pytest.fixture(scope="module")
def looking(trained: Path, tmp_path_factory: pytest.TempPathFactory, chromium: Any) -> Iterator[Studio]:
    """A server on a run that has pairs to label."""
    folder = Path(shutil.copytree(trained, tmp_path_factory.mktemp("pages") / "runs"))
    (folder / "first" / "labels").mkdir()
    append_lines(folder / "first" / "labels" / "questions.jsonl", [QUESTION])
    with Studio(folder, chromium) as made:
        yield made
    assert made.errors == []


def nameless(page: Any) -> list[str]:
    """The buttons, links and fields for which Chromium has no name to give to a screen reader."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    controls = [node for node in nodes if not node["ignored"] and node["role"]["value"] in ROLES]
    assert len(controls) > 5
    return [node["role"]["value"] for node in controls if not node.get("name", {}).get("value", "").strip()]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_read_and_named_and_fits(looking: Studio, name: str) -> None:
    page = looking.page(viewport={"width": 1440, "height": 900})
    show(looking, page, name, run="first", other="first", asking="first")
    for details in page.locator("main details").all():
        details.evaluate("element => { element.open = true }")
    page.evaluate(EVERY_STATE)
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            page.wait_for_timeout(300)
            texts = page.evaluate(CONTRAST)
            assert len(texts) > 20
            faint = {f"{one['what']}: {one['text']!r}" for one in texts if one["contrast"] < one["least"]}
            assert faint == set(), f"hard to read, {theme}, {width} pixels wide"
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "it scrolls sideways"
        assert nameless(page) == [], "what has no name for a screen reader"
