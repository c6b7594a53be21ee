"""Takes the pictures of the Studio in docs/pictures: every page, light and dark, wide and narrow.

``python scripts/studio_pictures.py`` makes a few small runs for them. It needs prefloop-studio, playwright, a
Chromium and Pillow. ``--whole`` takes the pages down to their ends, to look at.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import click
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "contrib" / "prefloop-studio" / "tests"))

from browsing import PAGES, Studio, launched, show  # noqa: E402

SIZES = {1440: 1080, 390: 844}
COLOURS = 256
"""Of one picture: enough that nobody sees a difference, at a third of the size."""
TRAINED = {
    "training.iters": 80,
    "training.batch_size": 8,
    "training.evaluate_every": 10,
}
RUNS: dict[str, dict[str, Any]] = {
    "gentle": {**TRAINED, "algorithm": "xpo", "training.learning_rate": 6e-5},
    "bold": {**TRAINED, "algorithm": "xpo", "training.learning_rate": 1.2e-4},
}
ASKING = {
    "judge": "web",
    "evaluation.judge": "{use: llm, model: embedded:judge}",
    "sampler.temperature": 1.2,
}
LABELS = ("1", "2", "Shift+1", "1", "t")


def command(folder: Path, name: str, settings: dict[str, Any]) -> list[str]:
    """What trains a run called `name`."""
    given = {"output.path": folder / name, "output.report": "false", **settings}
    return [
        sys.executable,
        "-m",
        "prefloop",
        "train",
        *(f"--set={key}={value}" for key, value in given.items()),
    ]


@contextmanager
def trained(folder: Path) -> Iterator[None]:
    """The finished runs, and one that waits for labels meanwhile."""
    for name, settings in RUNS.items():
        subprocess.run(command(folder, name, settings), check=True, stdout=subprocess.DEVNULL)
    asking = subprocess.Popen(command(folder, "by-hand", ASKING), stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        asking.terminate()
        asking.wait()


def label(studio: Studio, page: Any) -> None:
    """Give a few labels, as soon as the run has something to ask."""
    page.wait_for_timeout(2000)
    studio.go(page, "#/label/by-hand")
    for number, key in enumerate(LABELS, 1):
        page.wait_for_selector('[aria-busy="false"] .choices', timeout=60_000)
        page.keyboard.press(key)
        page.get_by_text(f"{number} answered").wait_for()


def picture(page: Any, theme: str, width: int, whole: bool) -> bytes:
    """The page as it is, as a PNG."""
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": width, "height": SIZES.get(width, 1440)})
    if whole:  # charts are drawn once they are in view
        height = page.evaluate("document.documentElement.scrollHeight")
        page.set_viewport_size({"width": width, "height": height})
    page.wait_for_timeout(600)
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    small = io.BytesIO()
    image.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=3).save(small, "PNG", optimize=True)
    return small.getvalue()


@click.command(help="Take pictures of every page of the Studio.")
@click.option(
    "--to", "target", type=click.Path(path_type=Path), default=ROOT / "docs" / "pictures", help="Folder."
)
@click.option("--pages", help="Pages, with commas between them; all by default.")
@click.option("--widths", default="1440,390", show_default=True)
@click.option("--whole", is_flag=True, help="Pages down to their ends.")
def main(target: Path, pages: str | None, widths: str, whole: bool) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        trained(Path(scratch, "runs")),
        launched() as chromium,
        Studio(Path(scratch, "runs"), chromium) as studio,
    ):
        page = studio.page()
        label(studio, page)
        for name in pages.split(",") if pages else PAGES:
            page.set_viewport_size({"width": 1440, "height": 900})
            show(studio, page, name, *RUNS, "by-hand")
            for theme, width in product(("light", "dark"), map(int, widths.split(","))):
                file = target / f"studio-{name}-{theme}-{width}.png"
                file.write_bytes(picture(page, theme, width, whole))
                click.echo(f"{file.stat().st_size / 1000:6.0f} kB  {file.name}")


if __name__ == "__main__":
    main()
