"""Disks that fill up while a run is saved, and files of a run that are cut, changed or removed."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen
from benchmarks.faults.checks import SETTINGS, Outcome, Twin, unreadable
from benchmarks.harness.internals import main
from click.testing import CliRunner

if TYPE_CHECKING:
    from prefloop import Step

LINES = ("metrics.jsonl", "judgements.jsonl")
DAMAGES = ("cut", "changed", "removed")


@frozen
class Said:
    """What the command line did."""

    code: int
    errors: tuple[str, ...]
    traceback: bool

    @property
    def refused(self) -> bool:
        """Whether it ended as it ends where something given is wrong: in one line that says so."""
        return self.code == 2 and not self.traceback and len(self.errors) == 1


def prefloop(*arguments: str) -> Said:
    """Run a command in this process, which spares the imports."""
    result = CliRunner().invoke(main, list(arguments))
    errors = tuple(line for line in result.stderr.splitlines() if line.startswith("error: "))
    broke = result.exception is not None and not isinstance(result.exception, SystemExit)
    return Said(result.exit_code, errors, broke)


def resumed(kind: str, run: Path, twin: Twin, *, refusal: bool, cut: bool = False) -> Outcome:
    """Resume `run`: it may end as its twin or, with `refusal`, be refused. Anything else is a loss."""
    said = prefloop("train", "--resume", str(run))
    if refusal and said.refused:
        return Outcome(kind, refused=1)
    if said.code:
        return Outcome(kind, losses=Counter(["traceback" if said.traceback else "not resumed"]))
    losses = twin.losses(run, cut=cut)
    return Outcome(kind, same_end=int(not losses), losses=losses)


def fill_disks(folder: Path, twin: Twin, sizes: Sequence[int]) -> Iterator[Outcome]:
    """Train on disks of so many KiB, which fill up; then make room and go on. Needs root."""
    for size in sizes:
        with small_disk(folder / "disk", size) as disk:
            run = disk / "run"
            config = folder / "small.yaml"
            config.write_text(json.dumps({**SETTINGS, "output": str(run)}))  # JSON is YAML
            said = prefloop("train", str(config))
            broken = len(unreadable(run))
            subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
            if not said.refused or not (run / "run.json").exists():
                went_wrong = Counter(["traceback"] if said.traceback else ())
                yield Outcome("disk full", refused=int(said.refused), losses=went_wrong)
                continue
            outcome = resumed("disk full", run, twin, refusal=False)
            outcome.losses.update(+Counter({"unreadable": broken}))
            yield Outcome("disk full", 1, outcome.same_end, outcome.losses)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def can_mount() -> bool:
    """Whether disks can be made here."""
    if os.geteuid() != 0:
        return False
    try:
        done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


@frozen
class _PowerCut:
    """Breaks a run off after a step, as nothing that prefloop knows of does."""

    step: int

    def step_finished(self, step: Step) -> None:
        if step.progress.step == self.step:
            raise KeyboardInterrupt


def damage_files(folder: Path, twin: Twin, count: int, seed: int) -> Iterator[Outcome]:
    """Damage one file of an interrupted run, and resume it; so many times, each file in its turn."""
    from prefloop import load_config, train

    dice = random.Random(seed)
    broken_off = folder / "broken-off"
    with suppress(KeyboardInterrupt):
        train(load_config({**SETTINGS, "output": str(broken_off)}), observers=[_PowerCut(7)])
    names = sorted(p.relative_to(broken_off) for p in broken_off.rglob("*") if p.is_file())
    cases = [(damage, name) for damage in DAMAGES for name in names]
    for number in range(count):
        damage, name = cases[number % len(cases)]
        run = folder / "damaged"
        shutil.copytree(broken_off, run)
        _damage(run / name, damage, dice)
        yield resumed(f"file {damage}", run, twin, refusal=True, cut=name.name in LINES)
        shutil.rmtree(run)


def _damage(path: Path, damage: str, dice: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if damage == "removed":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[: dice.randrange(len(content) or 1)])
    else:
        for place in dice.sample(range(len(content)), k=min(len(content), dice.randint(1, 3))):
            content[place] ^= 1 << dice.randrange(8)
        path.write_bytes(content)
