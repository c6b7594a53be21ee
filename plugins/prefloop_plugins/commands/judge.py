"""`prefloop judge`: how far a judge can be trusted, before it teaches anything."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from prefloop.cli.common import configure_process, set_option
from prefloop.components import BaseJudge, adapt
from prefloop.errors import said_of

if TYPE_CHECKING:
    from prefloop.components import Judge
    from prefloop.registry import Origin
    from prefloop_plugins.commands.judge_table import Column
    from prefloop_plugins.judging.pair_files import LabelledPair
    from prefloop_plugins.judging.verdicts import Judged


@click.command()
@click.argument("config")
@click.argument("pairs")
@set_option
@click.option("--against", metavar="CONFIG", help="A second judge, to compare with the first.")
@click.option("--limit", type=click.IntRange(min=1), help="Read only the first so many rows of PAIRS.")
@click.option("--split", default="train", show_default=True, help="Split of PAIRS where it has several.")
@click.option("--seed", default=0, show_default=True, help="Draws whether chosen or rejected is shown first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def judge(
    config: str,
    pairs: str,
    overrides: tuple[str, ...],
    against: str | None,
    limit: int | None,
    split: str,
    seed: int,
    as_json: bool,
) -> None:
    """Judge the pairs in PAIRS with the judge of CONFIG, without training, and report how it did.

    CONFIG is a configuration, of which only the judge matters, or a judge in one word: a name such as
    rule, or a model such as embedded:judge. PAIRS is a file or data set with the columns prompt, chosen and
    rejected, or prompt, first, second and perhaps label; or a run, whose own verdicts are then the labels.

    Exits with 0, with 130 when the judge or the keyboard stopped it, and with 2 when something is wrong.
    """
    configure_process()
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        found = _read(pairs, split, limit, seed)
        judges = [_load(config, overrides, "judge")]
        if against is not None:
            judges.append(_load(against, (), "--against"))
        judged = [_judge(judge, found) for judge, _ in judges]
    about = [_about(*row) for row in zip((config, against), judges, strict=False)]
    _report(pairs, found, about, judged, as_json)
    if any(each.stopped for each in judged):
        sys.exit(130)


def _read(path: str, split: str, limit: int | None, seed: int) -> list[LabelledPair]:
    from prefloop_plugins.judging.pair_files import read_pairs

    return read_pairs(path, split=split, limit=limit, seed=seed)


def _load(config: str, overrides: Sequence[str], key: str) -> tuple[Judge, Origin]:
    from prefloop.config import load_judge

    judge, origin = load_judge(config, overrides)
    with said_of(key):
        adapt(judge, BaseJudge).prepare()
    return judge, origin


def _judge(judge: Judge, pairs: Sequence[LabelledPair]) -> Judged:
    from prefloop.components import BaseJudge, adapt
    from prefloop_plugins.judging.verdicts import judge_pairs

    with _progress(len(pairs), silent=adapt(judge, BaseJudge).interactive) as on_progress:
        return judge_pairs(judge, [labelled.pair for labelled in pairs], on_progress)


@contextlib.contextmanager
def _progress(pairs: int, *, silent: bool) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal, if there is one and no person needs it to answer."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("judging"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, disable=silent or not console.is_terminal)
    task = bar.add_task("judging", total=pairs)
    with bar:
        yield lambda done: bar.update(task, completed=done)


def _about(config: str | None, loaded: tuple[Judge, Origin]) -> dict[str, Any]:
    """Who judged: as it was given, its qualified name and its version."""
    _, origin = loaded
    return {"config": config, "judge": origin.name, "version": origin.version or None}


def _report(
    path: str,
    pairs: Sequence[LabelledPair],
    about: Sequence[dict[str, Any]],
    judged: Sequence[Judged],
    as_json: bool,
) -> None:
    from attrs import asdict

    from prefloop_plugins.commands.judge_table import Column, show
    from prefloop_plugins.judging.report import between, report

    columns: list[Column] = [Column(a, report(pairs, j)) for a, j in zip(about, judged, strict=True)]
    both = between(judged[0].verdicts, judged[1].verdicts) if len(judged) == 2 else None
    if not as_json:
        show(path, columns, both)
        return
    judges = [{**column.about, **asdict(column.report)} for column in columns]
    result = {"file": path, "pairs": len(pairs), "judges": judges, "between": both and asdict(both)}
    click.echo(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False))
