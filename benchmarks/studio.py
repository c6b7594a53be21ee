"""The Studio in a browser: ``python -m benchmarks.studio``.

How long its pages take, what they weigh, and whether anything grows while a run goes on. It needs
prefloop-studio, playwright and a Chromium. ``--write`` keeps the figures and puts them into docs/studio.md.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from attrs import define, field
from benchmarks.harness import records
from benchmarks.harness.environments import installed
from benchmarks.harness.internals import append_lines
from benchmarks.harness.pages import markdown
from benchmarks.harness.workers import ROOT

RESULTS = records.RESULTS / "studio.json"
TESTS = ROOT / "contrib" / "prefloop-studio" / "tests"
LONG = 100_000
"""Steps of the long run."""
PAIRS = 4
"""Judged pairs of each step."""
LIVE = 7_200
"""Steps that come while the page is open: an hour of two a second."""
TOGETHER = 20
"""Of these come at once, as fast as the page shows them."""
ROUNDS = 3
SETTINGS = ("training.iters=40", "training.batch_size=8", "training.evaluate_every=20", "output.report=false")


@define
class Visit:
    """A page of a browser that has nothing in its cache, and what it asks for."""

    page: Any
    session: Any
    requests: int = 0
    bytes: int = 0

    @classmethod
    def by(cls, chromium: Any, address: str) -> Visit:
        context = chromium.new_context(viewport={"width": 1440, "height": 900})
        token = address.partition("#token=")[2]
        context.add_init_script(f"localStorage.setItem('prefloop-token', '{token}')")
        page = context.new_page()
        visit = cls(page, page.context.new_cdp_session(page))
        visit.session.send("Network.enable")
        visit.session.on("Network.requestWillBeSent", lambda _: visit.count())
        visit.session.on("Network.dataReceived", lambda event: visit.count(0, event["dataLength"]))
        return visit

    def count(self, requests: int = 1, received: int = 0) -> None:
        self.requests += requests
        self.bytes += received

    def seconds_to(self, address: str, drawn: str) -> float:
        """Seconds until the element `drawn` is on the page at `address`."""
        begun = time.perf_counter()
        self.page.goto(address)
        self.page.wait_for_selector(drawn, timeout=300_000)
        return time.perf_counter() - begun

    def heap(self) -> int:
        """Bytes of the page's JavaScript objects that are in use."""
        self.session.send("HeapProfiler.collectGarbage")
        used: int = self.session.send("Runtime.getHeapUsage")["usedSize"]
        return used

    def nodes(self) -> int:
        """Nodes that the page holds, whether they are shown or not."""
        found: int = self.session.send("Memory.getDOMCounters")["nodes"]
        return found


@define
class Recording:
    """A run that goes on with the steps and pairs it has, as lines that a run could have written."""

    folder: Path
    steps: list[dict[str, Any]] = field(factory=list)
    evaluation: dict[str, Any] = field(factory=dict)
    pairs: list[dict[str, Any]] = field(factory=list)
    last: int = 0

    @classmethod
    def of(cls, folder: Path) -> Recording:
        made = cls(folder)
        for line in _lines(folder / "metrics.jsonl"):
            if "evaluation" in line:
                made.evaluation = line
            else:
                made.steps.append(line)
        made.pairs = [line for line in _lines(folder / "judgements.jsonl") if not line.get("evaluation")]
        made.last = made.steps[-1]["step"]
        return made

    def go_on(self, count: int, evaluate_every: int = 1000) -> None:
        """Append so many steps, with their pairs and an evaluation now and then."""
        metrics, pairs = [], []
        for step in range(self.last + 1, self.last + count + 1):
            metrics.append({**self.steps[step % len(self.steps)], "step": step})
            if step % evaluate_every == 0:
                metrics.append({**self.evaluation, "step": step})
            # No line is ever twice in a ledger: the time that a verdict took tells them apart.
            of_step = (self.pairs[(PAIRS * step + place) % len(self.pairs)] for place in range(PAIRS))
            pairs += [
                {**pair, "step": step, "seconds": step / 1e6 + place} for place, pair in enumerate(of_step)
            ]
        append_lines(self.folder / "judgements.jsonl", pairs)
        append_lines(self.folder / "metrics.jsonl", metrics)
        self.last += count


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        yield {name: value for name, value in json.loads(line).items() if name != "crc"}


def measure(folder: Path) -> dict[str, Any]:
    """All figures, with runs in `folder`: times in seconds, sizes in bytes."""
    sys.path.insert(0, str(TESTS))
    from browsing import launched

    given = [f"--set={setting}" for setting in (*SETTINGS, f"output.path={folder / 'short'}")]
    subprocess.run([sys.executable, "-m", "prefloop", "train", *given], check=True, stdout=subprocess.DEVNULL)
    with launched() as chromium:
        starts = [first_page(chromium, folder) for _ in range(ROUNDS)]
        first = {name: statistics.median(start[name] for start in starts) for name in starts[0]}
        found = {"first_page": first, "long_run": long_run(chromium, folder), "added": added()}
    return {**found, "load": os.getloadavg()[1]}


def first_page(chromium: Any, folder: Path) -> dict[str, float]:
    """A server and a browser's cache that are new."""
    from browsing import Studio

    begun = time.perf_counter()
    with Studio(folder, chromium) as studio:
        listening = time.perf_counter() - begun
        visit = Visit.by(chromium, studio.address)
        visit.seconds_to(studio.address, ".card .spark")
        drawn = time.perf_counter() - begun
        visit.page.wait_for_load_state("networkidle")
        found = {"listening": listening, "drawn": drawn, "requests": visit.requests, "bytes": visit.bytes}
        visit.page.context.close()
    return found


def long_run(chromium: Any, folder: Path) -> dict[str, Any]:
    """A run of many steps on its page, which goes on there."""
    import psutil
    from browsing import Studio

    run = Recording.of(Path(shutil.copytree(folder / "short", folder / "long")))
    run.go_on(LONG - run.last)
    found: dict[str, Any] = {"steps": LONG, "live_steps": LIVE}
    with Studio(folder, chromium) as studio:
        server = psutil.Process(studio.server.pid)
        found["server_idle"] = server.memory_info().rss
        home = studio.address.partition("#")[0]
        visit = Visit.by(chromium, studio.address)
        page, drawn = f"{home}#/run/long", ".chart canvas >> nth=2"
        found["first"] = visit.seconds_to(page, drawn)
        begun = time.perf_counter()
        visit.page.wait_for_selector(".judged", timeout=300_000)
        found["pairs"] = found["first"] + time.perf_counter() - begun
        visit.page.wait_for_selector(".checks li:not(.unknown)", timeout=300_000)
        found["checks"] = found["first"] + time.perf_counter() - begun
        found["bytes"] = visit.bytes
        visit.seconds_to(f"{home}#/judge", "textarea >> nth=1")
        found["again"] = visit.seconds_to(page, drawn)
        visit.page.wait_for_selector(".checks li:not(.unknown)", timeout=300_000)

        def held() -> dict[str, int]:
            return {"server": server.memory_info().rss, "heap": visit.heap(), "nodes": visit.nodes()}

        found["before"], begun = held(), time.perf_counter()
        for _ in range(LIVE // TOGETHER):
            run.go_on(TOGETHER)
            shown = (
                "last => Number(document.querySelector('.tile .value').textContent.replace(',', '')) >= last"
            )
            visit.page.wait_for_function(shown, arg=run.last, timeout=120_000)
        found |= {"after": held(), "live_seconds": time.perf_counter() - begun}
    return found


def added() -> dict[str, int]:
    """The distributions that the Studio needs and prefloop does not, with the bytes that they take."""
    return {name: _size(name) for name in sorted(_needed("prefloop-studio") - _needed("prefloop"))}


def _needed(name: str) -> set[str]:
    """A distribution and all that it needs here, by their names."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found, open_ones = set(), [name]
    while open_ones:
        one = canonicalize_name(open_ones.pop())
        if one in found:
            continue
        found.add(one)
        for line in importlib.metadata.requires(one) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                open_ones.append(requirement.name)
    return found


def _size(name: str) -> int:
    """Bytes of a distribution's files; of one that is installed from a checkout, those in it."""
    source = ROOT / "contrib" / name / "src"
    files = source.rglob("*.*") if source.is_dir() else map(Path, map(str, _located(name)))
    return sum(file.stat().st_size for file in files if file.is_file() and file.suffix != ".pyc")


def _located(name: str) -> list[Any]:
    return [file.locate() for file in importlib.metadata.files(name) or ()]


def table(found: dict[str, Any]) -> str:
    """The figures, a line for each."""
    first, long = found["first_page"], found["long_run"]
    before, after = long["before"], long["after"]
    lines = [
        ("seconds until it listens", f"{first['listening']:.1f}"),
        ("seconds until the first page is drawn", f"{first['drawn']:.1f}"),
        ("requests of the first page", f"{first['requests']:.0f}"),
        ("kB of the first page", f"{first['bytes'] / 1e3:.0f}"),
        (f"seconds to draw {long['steps']:,} steps", f"{long['first']:.1f}"),
        ("seconds to draw them again", f"{long['again']:.2f}"),
        ("seconds until its newest pairs are there", f"{long['pairs']:.1f}"),
        ("seconds until its checks are there", f"{long['checks']:.1f}"),
        ("kB of that page", f"{long['bytes'] / 1e3:.0f}"),
        ("MB of the server, idle", f"{long['server_idle'] / 1e6:.0f}"),
        (f"MB of the server, before {long['live_steps']:,} more steps", f"{before['server'] / 1e6:.0f}"),
        ("MB of the server, after them", f"{after['server'] / 1e6:.0f}"),
        ("MB of the page's heap, before them", f"{before['heap'] / 1e6:.1f}"),
        ("MB of the page's heap, after them", f"{after['heap'] / 1e6:.1f}"),
        ("nodes of the page, before and after", f"{before['nodes']:,} and {after['nodes']:,}"),
        ("packages that it adds", f"{len(found['added'])}"),
        ("MB of these", f"{sum(found['added'].values()) / 1e6:.1f}"),
    ]
    return markdown(("figure", "measured"), lines)


def paragraph(found: dict[str, Any]) -> str:
    """The figures in words, for the Studio's page."""
    first, long, added = found["first_page"], found["long_run"], found["added"]
    before, after = long["before"], long["after"]
    at = found["provenance"]
    return (
        f"The first page is drawn {first['drawn']:.1f} s after `prefloop studio` was called; it takes "
        f"{first['requests']:.0f} requests and {_kb(first['bytes'])}. A run of {long['steps']:,} steps is "
        f"drawn in {long['first']:.1f} s, and in {long['again']:.1f} s when it is looked at again, for "
        f"{_mb(long['bytes'])}; the checks, which read all its {long['steps'] * PAIRS:,} judged pairs, are "
        f"there after {long['checks']:.0f} s. While {long['live_steps']:,} more steps came in, as many as an "
        f"hour has at two a second, the page's JavaScript heap went from {_mb(before['heap'])} to "
        f"{_mb(after['heap'])}, and the server's memory from {_mb(before['server'])} to "
        f"{_mb(after['server'])}. The Studio and what it needs besides prefloop are {len(added)} packages of "
        f"{_mb(sum(added.values()))}. Measured on {at['machine']}, {at['date'][:10]}, at a "
        f"load of {found['load']:.1f}."
    )


def _kb(size: float) -> str:
    return f"{size / 1e3:.0f} kB"


def _mb(size: float) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def block(name: str) -> str:
    """What the Studio's page shows: its `figures` in words."""
    results = records.load(RESULTS)
    return {"figures": lambda: paragraph(results) if results else ""}[name]()


@click.command(help="Measure the Studio's pages in a browser.")
@click.option("--write", is_flag=True, help="Keep the figures and write them into the page.")
def main(write: bool) -> None:
    from benchmarks import pages

    with tempfile.TemporaryDirectory() as scratch:
        found = measure(Path(scratch, "runs"))
    click.echo(table(found))
    for name, size in found["added"].items():
        click.echo(f"{size / 1e3:8.0f} kB  {name}")
    if write:
        versions = installed(
            ("prefloop", "prefloop-studio", "starlette", "uvicorn", "uplot-python", "playwright")
        )
        records.save(RESULTS, {"provenance": records.provenance("cpu", versions), **found})
        pages.write()


if __name__ == "__main__":
    main()
