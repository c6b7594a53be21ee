"""The page: everything that is shown of the runs, put into the template, with answers before and after.

Whatever comes from a model, a prompt or a file goes through `_shown` and is escaped. Only the pictures, which
are drawn here, are markup; and should anything slip through, the page's content policy forbids scripts and
requests.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

from attrs import evolve, frozen
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from prefloop.text import duration, printable
from prefloop.types import Pair, Verdict
from prefloop_plugins.report import audited, charts, curves, words
from prefloop_plugins.report.compared import Comparison, tables
from prefloop_plugins.report.findings import findings
from prefloop_plugins.report.measures import steps_taken
from prefloop_plugins.report.records import Finding, RunFiles
from prefloop_plugins.report.svg import plotting
from prefloop_plugins.report.words import change, number, percent

LONGEST_CONFIG = 20_000
"""Characters that are shown of a configuration."""
EXTREMES, AT_RANDOM = 3, 6
"""How many are shown of the best and of the worst, and of the others."""
LONGEST = 1200
"""Characters that are shown of a text."""


@frozen
class Tile:
    """One number at the head of the page."""

    label: str
    value: str
    more: str = ""


@frozen
class Table:
    caption: str
    head: words.Row
    rows: Sequence[words.Row]


@frozen
class Example:
    prompt: str
    before: str
    after: str
    probability: float | None = None
    """That the later answer is better, as the judge has it."""
    verdict: str = ""


@frozen
class Group:
    title: str
    examples: tuple[Example, ...]


@frozen
class RunPart:
    """What the page shows of each run by itself. `series` is its colour where there are several."""

    run: RunFiles
    series: int
    summary: list[str]
    findings: list[Finding]
    examples: list[Group]
    settings: Table
    config: str
    provenance: Table
    commands: str
    evaluations: Table
    others: Table
    times: Table
    labels: Table


def page(runs: Sequence[RunFiles], compared: Comparison | None = None) -> str:
    """The HTML of a report; with `compared`, tables and sentences about more runs than those in it."""
    with plotting():
        drawn: dict[str, Any] = {
            "win_rate": _some(
                charts.win_rate_chart(runs), charts.judges_chart(runs), charts.sources_chart(runs)
            ),
            "training": [*curves.metric_charts(runs, curves.TRAINING), *curves.source_charts(runs)],
            "length": _some(charts.length_chart(runs), charts.longer_wins_chart(runs)),
            "judge": curves.metric_charts(runs, curves.JUDGE),
            "time": _some(charts.time_chart(runs)),
            "cost": curves.metric_charts(runs, curves.COST),
        }
    environment = Environment(
        loader=PackageLoader("prefloop_plugins.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = resources.files("prefloop_plugins.report") / "templates" / "style.css"
    return environment.get_template("report.html.j2").render(
        title=compared.title if compared else _title(runs),
        runs=[_part(run, place) for place, run in enumerate(runs)],
        tiles=_tiles(runs[0]) if len(runs) == 1 and not compared else [],
        notes=compared.notes if compared else (),
        comparison=[Table(*table) for table in _compared(runs, compared)],
        differing=Table(
            "Settings that differ", ("setting", *(run.name for run in runs)), words.differing(runs)
        ),
        charts=drawn,
        style=Markup(style.read_text(encoding="utf-8")),
        svg=Markup,
    )


def _compared(
    runs: Sequence[RunFiles], compared: Comparison | None
) -> Iterator[tuple[str, words.Row, Sequence[words.Row]]]:
    """The tables at the head of a page about several runs."""
    if compared:
        yield from ((title, *table) for title, table in tables(compared).items())
    elif len(runs) > 1:
        yield "The runs", *words.comparison(runs)


def comparison_page(compared: Comparison, most: int) -> str:
    """The HTML of a comparison: charts and answers of all runs, or of the first of each setting."""
    runs: Sequence[RunFiles] = compared.runs
    if len(runs) > most:
        runs = [setting.runs[0] for setting in compared.settings if setting.runs][:most]
        note = (
            f"Below are {len(runs)} of the {len(compared.runs)} runs: the first finished one of each setting."
            " Every run has a report of its own in its folder."
        )
        compared = evolve(compared, notes=(*compared.notes, note))
    return page(runs, compared)


def _shown(value: Any) -> Any:
    """Text without characters that steer what follows, such as those that turn its direction around."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _some(*drawn: charts.Chart | None) -> list[charts.Chart]:
    return [chart for chart in drawn if chart is not None]


def _title(runs: Sequence[RunFiles]) -> str:
    return runs[0].name if len(runs) == 1 else f"{len(runs)} runs compared"


def _part(run: RunFiles, place: int) -> RunPart:
    return RunPart(
        run=run,
        series=place + 1,
        summary=words.summary(run),
        findings=findings(run),
        examples=groups(run, run.count("seed") or 0),
        settings=Table("Main settings", ("setting", "value"), words.key_settings(run)),
        config=cut(run.config, LONGEST_CONFIG),
        provenance=Table("What it ran with", ("what", "value"), words.provenance(run)),
        commands=words.commands(run),
        evaluations=Table("Evaluations against the start", *words.evaluation_rows(run.evaluations)),
        others=Table("Other evaluations", *words.evaluation_rows(run.others, with_sides=True)),
        times=Table("Time by phase", ("phase", "in all", "s per step", "share"), words.time_rows(run)),
        labels=Table("A person's labels", *audited.table(run)),
    )


def _tiles(run: RunFiles) -> list[Tile]:
    found = []
    if run.after:
        rate = run.after.win_rate
        more = f"{percent(rate.low)} to {percent(rate.high)} on {rate.pairs:,} prompts"
        found.append(Tile("Win rate", percent(rate.rate), more))
        if (controlled := run.after.metrics.get("length_controlled_win_rate")) is not None:
            found.append(Tile("At equal length", percent(controlled), "length-controlled win rate"))
    if run.before:
        start = run.before.win_rate
        more = f"{percent(start.low)} to {percent(start.high)}; against itself"
        found.append(Tile("Before training", percent(start.rate), more))
    if lengths := run.change("completion_length"):
        found.append(Tile("Answer length", number(lengths[1]), f"tokens; {change(lengths, '.1f')}"))
    if right := run.change("accuracy"):
        found.append(Tile("Right answers", percent(right[1]), f"{change(right)}"))
    seconds = run.about("summary", "seconds")
    more = f"in {duration(float(seconds))}" if isinstance(seconds, int | float) else ""
    return [*found, Tile("Steps", f"{steps_taken(run):,}", more)]


def groups(run: RunFiles, seed: int) -> list[Group]:
    """The best held-out answers, the worst, and some at random.

    Of the evaluation after training; of a run without its pairs, those of the summary.
    """
    if run.after is None or not run.after.pairs:
        return _of_summary(run.about("summary", "examples"))
    verdicts = run.after.verdicts
    examples = [_example(pair, verdict) for pair, verdict in zip(run.after.pairs, verdicts, strict=True)]
    judged = [i for i, v in enumerate(verdicts) if v.status in ("ok", "tie")]
    ranked = sorted(judged, key=lambda i: (-verdicts[i].probability, i))
    best = [i for i in ranked if verdicts[i].probability > 0.5][:EXTREMES]
    worst = [i for i in ranked[::-1] if verdicts[i].probability < 0.5][:EXTREMES]
    others = [i for i in range(len(examples)) if i not in best and i not in worst]
    drawn = sorted(random.Random(seed).sample(others, min(AT_RANDOM, len(others))))
    chosen = {
        "Best, by the judge": best,
        "Worst, by the judge": worst,
        f"At random (seed {seed})": drawn,
    }
    return [Group(title, tuple(examples[i] for i in rows)) for title, rows in chosen.items() if rows]


def _example(pair: Pair, verdict: Verdict) -> Example:
    prompt, before, after = (cut(text) for text in (pair.prompt.text, pair.second.text, pair.first.text))
    return Example(prompt, before, after, verdict.probability, _verdict_words(verdict))


def _verdict_words(verdict: Verdict) -> str:
    outcome = {"ok": "", "tie": "a tie", "abstained": "the judge abstained", "error": "the judge failed"}
    return ": ".join(part for part in (outcome[verdict.status], cut(verdict.reason or "", 200)) if part)


def _of_summary(found: Any) -> list[Group]:
    rows: Iterable[Any] = found if isinstance(found, list) else ()
    texts = [row for row in rows if isinstance(row, Mapping)]
    sides = [[cut(str(row.get(side, ""))) for side in ("prompt", "before", "after")] for row in texts]
    examples = [Example(prompt, before, after) for prompt, before, after in sides]
    return [Group("The first held-out prompts", tuple(examples))] if examples else []


def cut(text: str, longest: int = LONGEST) -> str:
    """A text that is not too long to be shown, with a note of what is missing."""
    if len(text) <= longest:
        return text
    return f"{text[:longest].rstrip()} … [{len(text) - longest:,} more characters]"
