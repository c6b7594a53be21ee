"""`prefloop judge`: how far a judge can be trusted, before it teaches anything."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prefloop.cli.common import (
    PathOnDisk,
    configure_process,
    json_option,
    print_json,
    set_option,
    words_aside,
)
from prefloop.components import BaseJudge, adapt
from prefloop.errors import UserError, said_of
from prefloop.text import printable

if TYPE_CHECKING:
    from prefloop.components import Judge
    from prefloop.registry import Origin
    from prefloop_plugins.commands.judge_table import Column
    from prefloop_plugins.judging.fit import Fit
    from prefloop_plugins.judging.pair_files import LabelledPair
    from prefloop_plugins.judging.probes import Probed
    from prefloop_plugins.judging.verdicts import Judged


@click.command()
@click.argument("config")
@click.argument("pairs")
@set_option
@click.option("--against", metavar="CONFIG", help="A second judge, to compare with the first.")
@click.option("--source", metavar="NAME", help="The judge of one source of prompts in CONFIG.")
@click.option("--limit", type=click.IntRange(min=1), help="Read only the first so many rows of PAIRS.")
@click.option("--split", default="train", show_default=True, help="Split of PAIRS where it has several.")
@click.option("--seed", default=0, show_default=True, help="Draws whether chosen or rejected is shown first.")
@click.option(
    "--ledger",
    metavar="FILE",
    type=PathOnDisk(),
    help="Keep verdicts in FILE, and ask nothing that it answers. A person's are kept in any case.",
)
@click.option(
    "--probes",
    is_flag=True,
    help="See what style turns its verdicts: 11 times as many pairs.",
)
@click.option("--fit", is_flag=True, help="Fit temperature, position and length of the judge to the labels.")
@json_option
def judge(
    config: str,
    pairs: str,
    overrides: tuple[str, ...],
    against: str | None,
    source: str | None,
    limit: int | None,
    split: str,
    seed: int,
    ledger: Path | None,
    probes: bool,
    fit: bool,
    as_json: bool,
) -> None:
    """Judge the pairs in PAIRS with the judge of CONFIG, without training, and report how it did.

    CONFIG is a configuration, of which only the judge matters, or a judge in one word: a name such as
    rule, or a model such as embedded:judge. PAIRS is a file or data set with the columns prompt, chosen and
    rejected, or prompt, first, second and perhaps label; or a run, whose own verdicts are then the labels.

    Where a person judges, each answer is kept at once, and the same command goes on where one stopped.

    Exits with 0, with 130 when the judge or the keyboard stopped it, with 1 when the judge failed, and with 2
    when something is wrong.
    """
    configure_process()
    with words_aside(as_json):
        found = _read(pairs, split, limit, seed)
        judges = [_load(config, overrides, "judge", source)]
        if against is not None:
            judges.append(_load(against, (), "--against"))
        _check(judges, found, probes=probes, fit=fit)
        asked = _kept(judges, ledger, pairs)
        judged = [_judge(judge, found) for judge in asked]
        probed = [_probe(*row, found) if probes else None for row in zip(asked, judged, strict=True)]
        fitted = _fit(judges[0][0], found, judged[0]) if fit else None
    about = [_about(*row) for row in zip((config, against), judges, strict=False)]
    _report(pairs, found, about, judged, as_json, [one and one[0] for one in probed], fitted)
    judged += [one[1] for one in probed if one]
    stopped = any(each.stopped for each in judged)
    _tell_ledger(asked, stopped)
    if stopped:
        sys.exit(1 if any(each.failed for each in judged) else 130)


def _read(path: str, split: str, limit: int | None, seed: int) -> list[LabelledPair]:
    from prefloop_plugins.judging.pair_files import read_pairs

    return read_pairs(path, split=split, limit=limit, seed=seed)


def _load(config: str, overrides: Sequence[str], key: str, source: str | None = None) -> tuple[Judge, Origin]:
    from prefloop.config import load_judge

    judge, origin = load_judge(config, overrides, source=source)
    with said_of(key):
        adapt(judge, BaseJudge).prepare()
    return judge, origin


def _kept(judges: Sequence[tuple[Judge, Origin]], path: Path | None, pairs: str) -> list[Judge]:
    """The judges, those whose verdicts are kept with their ledger: all where one was given, else people."""
    from prefloop_plugins.judging.kept import KeptJudge, ledger_beside, open_ledger

    keeps = [path is not None or adapt(judge, BaseJudge).interactive for judge, _ in judges]
    if not any(keeps):
        return [judge for judge, _ in judges]
    path = path or ledger_beside(pairs)
    if path is None:
        raise UserError(
            f"{pairs} is no file that answers can be kept beside: name one for them with --ledger FILE."
        )
    ledger = open_ledger(path, pairs)
    kept = [
        KeptJudge(*judge, ledger) if keep else judge[0] for judge, keep in zip(judges, keeps, strict=True)
    ]
    names = [judge.identity for judge in kept if isinstance(judge, KeptJudge)]
    if len(set(names)) < len(names):
        raise UserError(
            "--against: both judges are the same, and in one ledger they would have the same verdicts."
        )
    return kept


def _judge(judge: Judge, pairs: Sequence[LabelledPair]) -> Judged:
    from attrs import evolve

    from prefloop_plugins.judging.kept import KeptJudge
    from prefloop_plugins.judging.verdicts import judge_pairs

    asked = [labelled.pair for labelled in pairs]
    known = [isinstance(judge, KeptJudge) and judge.knows(pair) for pair in asked]
    with _progress(len(pairs), silent=adapt(judge, BaseJudge).interactive) as on_progress:
        judged = judge_pairs(judge, asked, on_progress)
    return evolve(judged, known=sum(known[: len(judged.verdicts)]))


def _check(
    judges: Sequence[tuple[Judge, Origin]], pairs: Sequence[LabelledPair], *, probes: bool, fit: bool
) -> None:
    """Raises `UserError` before anything is asked that would be asked in vain."""
    from prefloop.runs.judges import check_prompts

    for key, (judge, _) in zip(("judge", "--against"), judges, strict=False):
        check_prompts(judge, [labelled.pair.prompt for labelled in pairs], key)
    if probes:
        from prefloop_plugins.judging.probes import check_probes

        for judge, _ in judges:
            check_probes(judge)
    if fit:
        from prefloop_plugins.judging.fit import check_fit

        check_fit(judges[0][0], pairs)


def _probe(judge: Judge, judged: Judged, pairs: Sequence[LabelledPair]) -> tuple[Probed, Judged] | None:
    """What the probes found; None where the judge has stopped already."""
    from prefloop_plugins.judging.probes import QUESTIONS, probe

    if judged.stopped is not None:
        return None
    with _progress(QUESTIONS * len(pairs), silent=False) as on_progress:
        return probe(judge, pairs, judged, on_progress)


def _fit(judge: Judge, pairs: Sequence[LabelledPair], judged: Judged) -> Fit:
    from prefloop_plugins.judging.fit import fit

    return fit(judge, pairs, judged)


def _tell_ledger(judges: Sequence[Judge], stopped: bool) -> None:
    """Say where verdicts were kept, if they were."""
    from prefloop_plugins.judging.kept import KeptJudge

    more = "; the same command goes on from here" if stopped else ""
    for path in {judge.ledger.path for judge in judges if isinstance(judge, KeptJudge)}:
        click.echo(f"\nThe verdicts are kept in {printable(str(path))}{more}.", err=True)


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
    probed: Sequence[Probed | None],
    fitted: Fit | None,
) -> None:
    from attrs import asdict

    from prefloop_plugins.commands.judge_extras import show_fit, show_probes
    from prefloop_plugins.commands.judge_table import Column, show
    from prefloop_plugins.judging.report import between, report

    columns: list[Column] = [Column(a, report(pairs, j)) for a, j in zip(about, judged, strict=True)]
    both = between(judged[0].verdicts, judged[1].verdicts) if len(judged) == 2 else None
    if not as_json:
        show(path, columns, both)
        for column, found in zip(columns, probed, strict=True):
            if found:
                show_probes(column, found)
        if fitted:
            show_fit(columns[0], fitted)
        return
    judges = [{**column.about, **asdict(column.report)} for column in columns]
    for about_it, found in zip(judges, probed, strict=True):
        about_it |= {"probes": asdict(found)} if found else {}
    judges[0] |= {"fit": asdict(fitted)} if fitted else {}
    result = {"file": path, "pairs": len(pairs), "judges": judges, "between": both and asdict(both)}
    print_json(result)
