"""Draws the picture of the loop, docs/pictures/loop.svg; ``scripts/docs.py`` writes it with the tables."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from attrs import frozen

WIDTH, HEIGHT = 960, 430
INK, LINE, PAPER = "#1b2733", "#5c6f82", "#ffffff"
PLUGIN, CORE, RECORD = "#ffe0b2", "#e3edf6", "#2a6f57"
TIP = 'orient="auto" markerWidth="8" markerHeight="8"'
XMLNS = "http://www.w3.org/2000/svg"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


@frozen
class Box:
    """A part of the loop: its place, its name, and what it does."""

    x: int
    y: int
    name: str
    does: str
    plugin: bool = False
    width: int = 140
    height: int = 62

    def draw(self) -> Iterator[str]:
        fill = PLUGIN if self.plugin else CORE
        yield (
            f'<rect x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}" rx="8" '
            f'fill="{fill}" stroke="{LINE}"/>'
        )
        middle = self.x + self.width // 2
        yield _text(middle, self.y + 26, self.name, size=16, weight=600)
        yield _text(middle, self.y + 46, self.does, size=12)


BOXES = (
    Box(20, 60, "prompts", "file, folder or Hub"),
    Box(220, 60, "sampler", "draws two answers", plugin=True),
    Box(430, 60, "judge", "which is better?", plugin=True),
    Box(640, 60, "labelled pairs", "ties, errors left out", width=150),
    Box(640, 190, "scoring", "of completion tokens", width=150),
    Box(640, 310, "loss \N{MINUS SIGN} bonuses", "one value per pair", plugin=True, width=150),
    Box(430, 310, "optimizer", "mean, gradient, clip"),
    Box(220, 310, "policy", "as it is now"),
    Box(430, 190, "reference", "frozen view"),
)
ARROWS = (
    ("160,91 220,91", "Prompt", (190, 82)),
    ("360,91 430,91", "Pair", (395, 82)),
    ("570,91 640,91", "Verdict", (605, 82)),
    ("715,122 715,190", "PreferenceBatch", (655, 160)),
    ("715,252 715,310", "Scores", (745, 285)),
    ("640,341 570,341", "", (0, 0)),
    ("430,341 360,341", "", (0, 0)),
    ("290,310 290,122", "", (0, 0)),
    ("570,221 640,221", "", (0, 0)),
    ("360,326 395,326 395,270 610,270 610,237 640,237", "", (0, 0)),
)
"""The path of each arrow, the record that goes along it, and where that is written."""


def picture() -> str:
    """The whole picture as SVG."""
    parts = [
        f'<svg xmlns="{XMLNS}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="{FONT}">',
        "<title>The preference loop</title>",
        "<defs>",
        f'<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" {TIP}>',
        f'<path d="M0,0 8,4 0,8z" fill="{LINE}"/>',
        "</marker>",
        "</defs>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="{PAPER}"/>',
        *(part for box in BOXES for part in box.draw()),
        *(part for arrow in ARROWS for part in _arrow(*arrow)),
        *_observers(),
        *_legend(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _arrow(path: str, record: str, at: tuple[int, int]) -> Iterator[str]:
    yield f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="1.6" marker-end="url(#tip)"/>'
    if record:
        yield _text(*at, record, size=12, fill=RECORD, weight=600)


def _observers() -> Iterator[str]:
    """They stand apart: what they are told comes from everywhere, and nothing comes back."""
    yield (
        f'<rect x="830" y="60" width="110" height="312" rx="8" fill="{PLUGIN}" stroke="{LINE}" '
        'stroke-dasharray="5 4"/>'
    )
    yield _text(885, 190, "observers", size=16, weight=600)
    for line, words in enumerate(("see every step,", "evaluation and", "checkpoint;", "change nothing")):
        yield _text(885, 214 + 17 * line, words, size=12)


def _legend() -> Iterator[str]:
    for x, fill, words in ((20, PLUGIN, "a plugin"), (115, CORE, "the loop's own")):
        yield f'<rect x="{x}" y="20" width="16" height="16" rx="3" fill="{fill}" stroke="{LINE}"/>'
        yield _text(x + 24, 33, words, size=12, anchor="start")
    yield _text(250, 33, "a record", size=12, fill=RECORD, weight=600, anchor="start")
    words = "an algorithm is a named choice of sampler, judge, loss and bonuses"
    yield _text(20, 412, words, size=12, anchor="start")


def _text(
    x: int, y: int, words: str, *, size: int, weight: int = 400, fill: str = INK, anchor: str = "middle"
) -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{fill}" '
        f'text-anchor="{anchor}">{escape(words)}</text>'
    )
