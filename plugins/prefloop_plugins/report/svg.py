"""Figures of matplotlib as inline SVG that belongs to the page.

Text stays text in the page's font. Colours are stand-ins that become CSS variables, so that a figure follows
the page between light and dark. The same data give the same bytes.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SERIES = 8
"""How many colours there are to tell series apart."""
INK, MUTED, GRID = "#b00d01", "#b00d02", "#b00d03"
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid"}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "prefloop",
    "text.parse_math": False,
    "font.size": 10,
    "text.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-3, 5),
    "axes.formatter.useoffset": False,
    "axes.xmargin": 0.02,
    "axes.ymargin": 0.08,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}
_NUMERIC = re.compile(r'\b(d|x|y|transform)="([^"]*)"')
_DIGITS = re.compile(r"(\.\d\d)\d+")
_FONT = re.compile(r"font-family: [^;\"]*;? ?")
_IDS = re.compile(r'\b(id="|href="#|url\(#)([\w.-]+)')


def colour(series: int) -> str:
    """The stand-in for the colour of a series, counted from 0; ``var(--s1)`` in the page."""
    return f"#b00e0{series % SERIES + 1}"


@contextmanager
def plotting() -> Iterator[None]:
    """matplotlib with this style, whatever the user's own settings are, and without its remarks."""
    import matplotlib

    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_STYLE)
            yield
    finally:
        logger.setLevel(level)


def axes(width: float = 340, height: float = 200) -> Axes:
    """A figure of one plot, its size in points, which are the units of its SVG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    plot: Axes = Figure(figsize=(width / 72, height / 72), layout="tight").subplots()
    plot.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    plot.yaxis.set_major_locator(MaxNLocator(5))
    plot.grid(axis="x", visible=False)
    return plot


def drawn(plot: Axes, name: str) -> str:
    """The figure as an ``<svg>`` element whose ids begin with `name`; the page says what it shows."""
    file = io.StringIO()
    about = {"Creator": None, "Date": None, "Format": None, "Type": None}
    plot.figure.get_figure(root=True).savefig(file, format="svg", metadata=about)
    text = file.getvalue()
    box = re.search(r'viewBox="([^"]*)"', text)
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = _FONT.sub("", body.replace("xlink:href", "href"))
    body = _NUMERIC.sub(_rounded, body)
    body = _IDS.sub(rf"\g<1>{name}-\2", _only_used_ids(body))
    for stand_in, variable in _VARIABLES.items():
        body = body.replace(stand_in, f"var(--{variable})")
    body = re.sub(r"#b00e0([1-8])", r"var(--s\1)", body)
    return f'<svg viewBox="{box[1] if box else ""}" aria-hidden="true">{_squeezed(body)}'


def _rounded(attribute: re.Match[str]) -> str:
    """Coordinates to a hundredth of a point, without line breaks."""
    numbers = _DIGITS.sub(r"\1", attribute[2]).replace("\n", "")
    return f'{attribute[1]}="{numbers}"'


def _only_used_ids(body: str) -> str:
    used = set(re.findall(r'(?:href="#|url\(#)([\w.-]+)', body))
    return re.sub(r' id="([\w.-]+)"', lambda m: m[0] if m[1] in used else "", body)


def _squeezed(body: str) -> str:
    return re.sub(r">\s+<", "><", body).strip()
