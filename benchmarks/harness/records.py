"""Results as JSON, each with the device, the commit, the versions and the date that it was measured with."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from benchmarks.harness.pages import markdown
from benchmarks.harness.worker import Record
from benchmarks.harness.workers import BLAS, ROOT

RESULTS = ROOT / "benchmarks" / "results"
UNKNOWN = "unknown"
"""What is shown where a result was kept without saying so."""


def provenance(device: str, versions: Mapping[str, str], chip: str | None = None) -> Record:
    """What a result that is kept now was measured with.

    `device` is mlx's (``cpu`` or ``gpu``) and `chip` its name, as the worker reports them, and `versions`
    those of the distributions that took part. The commit ends in ``-dirty`` where code differs from it;
    changed results and pages do not count.
    """
    now = datetime.datetime.now(datetime.UTC)
    return {
        "date": now.isoformat(timespec="minutes"),
        "commit": commit(),
        "device": device,
        **({"chip": chip} if chip else {}),
        "memory": f"{_memory() / 2**30:.0f} GiB",
        "machine": f"{platform.platform()}, {_processor()}, {os.cpu_count()} processors",
        "python": platform.python_version(),
        "blas": Path(BLAS).name if BLAS else None,
        "versions": dict(versions),
    }


def commit() -> str:
    """The short name of the commit that is checked out."""
    code = ["core", "plugins", "contrib", "benchmarks", "scripts", ":!benchmarks/results", ":!*.md"]
    head = _git("rev-parse", "--short", "HEAD")
    return f"{head}-dirty" if _git("status", "--porcelain", "--", *code) else head or UNKNOWN


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def _memory() -> int:
    """Bytes of the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _processor() -> str:
    """The processor's model, which Linux tells in a file of its own."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def load(path: Path) -> Record:
    """The results in a file; none where there is no file."""
    found: Record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def save(path: Path, results: Record) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def keep(path: Path, name: str, result: Record, order: Iterable[str]) -> None:
    """Put one row's result among those of other rows and earlier runs, in `order`, unknown names last."""
    results = load(path) | {name: result}
    places = [*order, *results]
    save(path, dict(sorted(results.items(), key=lambda row: places.index(row[0]))))


class Log:
    """Finished runs as lines of a file, by their settings and seed.

    A run is written down as soon as it is done and is not made again, so an interrupted campaign goes on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.lines = {_key(line["settings"], line["seed"]): line for line in map(json.loads, lines)}

    def find(self, settings: Record, seed: int) -> Record | None:
        return self.lines.get(_key(settings, seed))

    def add(self, settings: Record, seed: int, found: Record) -> None:
        line = json.dumps({"settings": settings, "seed": seed, **found})
        self.lines[_key(settings, seed)] = json.loads(line)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def tidy(self, wanted: Iterable[tuple[Record, int]]) -> None:
        """Put the lines in the order of `wanted`, without those that are not in it."""
        keys = [_key(*one) for one in wanted]
        self.lines = {key: self.lines[key] for key in keys if key in self.lines}
        text = "".join(json.dumps(line) + "\n" for line in self.lines.values())
        self.path.write_text(text, encoding="utf-8")


def _key(settings: Record, seed: int) -> str:
    return json.dumps([settings, seed], sort_keys=True)


def origin(results: Collection[Record]) -> str:
    """A table of what results were measured with."""
    names = ("machine", "memory", "device", "chip", "blas", "python", "versions", "commit", "date")
    kept = [name for name in names if any(name in one.get("provenance", {}) for one in results)]
    lines = [(name, values(results, name)) for name in kept or names]
    return markdown(("measured with", ""), lines, numbers=False)


def shown(path: Path, name: str, table: Callable[[list[Record]], str]) -> str:
    """What a page shows of a file's ``runs``: their table, or their ``origin``."""
    results = load(path)
    return {"runs": lambda: table(results["runs"]), "origin": lambda: origin([results])}[name]()


def values(results: Iterable[Record], name: str) -> str:
    """Every value of one part of the provenance that occurs, or `UNKNOWN`."""
    given = [result.get("provenance", {}).get(name) for result in results]
    if name == "versions":
        pairs = {f"{package} {version}" for one in given for package, version in (one or {}).items()}
        return ", ".join(sorted(pairs)) or UNKNOWN
    if name == "date":
        given = [one and one[: len("2026-11-21")] for one in given]
    return ", ".join(dict.fromkeys(one or UNKNOWN for one in given))
