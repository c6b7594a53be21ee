"""A real browser, a server to look at, and its pages with something on each of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


def browser_program() -> str | None:
    """Where a browser is: PREFLOOP_BROWSER, Chromium or Chrome on the path, or a Mac's applications."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = [os.environ.get("PREFLOOP_BROWSER"), *map(shutil.which, names), *filter(os.path.exists, PLACES)]
    return next(filter(None, found), None)


@contextmanager
def launched() -> Iterator[Any]:
    """A Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = started.chromium.launch(executable_path=browser_program(), args=arguments)
        yield browser
        browser.close()


class Studio:
    """A server on a folder of runs, and pages that look at it."""

    def __init__(self, folder: Path, chromium: Any) -> None:
        self.folder, self.chromium = folder, chromium
        self.pages: list[Any] = []
        self.errors: list[str] = []
        self.hosts: set[str] = set()
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "prefloop", "studio", str(self.folder), "--no-browser", "--port=0"]
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=self.folder.parent)
        assert self.server.stdout
        self.address = self.server.stdout.readline().split()[1]

    def kill(self) -> None:
        self.server.kill()
        self.server.wait()

    def page(self, where: str = "#/runs", **context: Any) -> Any:
        """A new page of a browser that has seen nothing yet."""
        page = self.chromium.new_context(**context).new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.hosts.add(re.sub(r"^(\w+:)?//|/.*", "", request.url)))
        page.goto(self.address)
        page.wait_for_selector("nav a")
        self.pages.append(page)
        self.go(page, where)
        return page

    def go(self, page: Any, where: str) -> None:
        page.goto(f"{self.address.partition('#')[0]}{where}")

    def __enter__(self) -> Studio:
        return self

    def __exit__(self, *_: object) -> None:
        for page in self.pages:
            page.context.close()
        self.kill()


def _talk(page: Any) -> None:
    page.get_by_label("Second answer").select_option("two")
    page.fill(".say textarea", "What does a cow say?")
    page.keyboard.press("Enter")
    page.wait_for_selector(".keys", timeout=90_000)


def _judge(page: Any) -> None:
    page.get_by_label("Second judge, or nothing", exact=True).fill("use: rule\nlength: longer\n")
    page.get_by_role("button", name="Judge", exact=True).click()
    page.wait_for_selector(".judged", timeout=60_000)


def _appears(selector: str) -> Callable[[Any], None]:
    return lambda page: page.wait_for_selector(selector)


PAGES: Mapping[str, tuple[str, Callable[[Any], None]]] = {
    "train": ("train", _appears('[data-path="algorithm"]')),
    "runs": ("runs", _appears(".card")),
    "run": ("run/{run}", _appears(".judged")),
    "compare": ("compare/{run}/{other}", _appears(".several")),
    "label": ("label/{asking}", _appears(".choices")),
    "arena": ("arena/{run}", _talk),
    "judge": ("judge", _judge),
}
"""Every page by its name: its address, and what is done or waited for until there is something on it."""


def show(studio: Studio, page: Any, name: str, run: str, other: str, asking: str) -> None:
    """Go to a page and fill it; `run` and `other` are finished runs, `asking` one with pairs to label."""
    where, filled = PAGES[name]
    studio.go(page, "#/" + where.format(run=run, other=other, asking=asking))
    page.wait_for_selector("main h1")
    filled(page)
