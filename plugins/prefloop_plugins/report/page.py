"""The page: everything that is shown of the runs, put into the template.

Whatever comes from a model, a prompt or a file goes through `_shown` and is escaped. Only the pictures, which
are drawn here, are markup; and should anything slip through, the page's content policy forbids scripts and
requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

from attrs import frozen
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from prefloop.text import printable
from prefloop_plugins.report import charts, costs, examples, rates, words
from prefloop_plugins.report.findings import findings
from prefloop_plugins.report.formats import change, duration, number, percent
from prefloop_plugins.report.measures import steps_taken
from prefloop_plugins.report.records import Finding, RunFiles
from prefloop_plugins.report.svg import plotting

LONGEST_CONFIG = 20_000
"""Characters that are shown of a configuration."""


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
class RunPart:
    """What the page shows of each run by itself. `series` is its colour where there are several."""

    run: RunFiles
    series: int
    summary: list[str]
    findings: list[Finding]
    examples: list[examples.Group]
    settings: Table
    config: str
    provenance: Table
    commands: str
    evaluations: Table
    others: Table
    times: Table


def page(runs: Sequence[RunFiles]) -> str:
    """The HTML of a report."""
    with plotting():
        drawn: dict[str, Any] = {
            "win_rate": _some(rates.win_rate_chart(runs)),
            "training": charts.metric_charts(runs, charts.TRAINING),
            "length": _some(rates.length_chart(runs), rates.longer_wins_chart(runs)),
            "judge": charts.metric_charts(runs, charts.JUDGE),
            "time": _some(costs.time_chart(runs)),
            "cost": charts.metric_charts(runs, charts.COST),
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
        title=_title(runs),
        runs=[_part(run, place) for place, run in enumerate(runs)],
        tiles=_tiles(runs[0]) if len(runs) == 1 else [],
        comparison=Table("The runs", *words.comparison(runs)),
        differing=Table(
            "Settings that differ", ("setting", *(run.name for run in runs)), words.differing(runs)
        ),
        charts=drawn,
        style=Markup(style.read_text(encoding="utf-8")),
        svg=Markup,
    )


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
        examples=examples.groups(run, run.count("seed") or 0),
        settings=Table("Main settings", ("setting", "value"), words.key_settings(run)),
        config=examples.cut(run.config, LONGEST_CONFIG),
        provenance=Table("What it ran with", ("what", "value"), words.provenance(run)),
        commands=words.commands(run),
        evaluations=Table("Evaluations against the start", *words.evaluation_rows(run.evaluations)),
        others=Table("Other evaluations", *words.evaluation_rows(run.others, with_sides=True)),
        times=Table("Time by phase", ("phase", "in all", "s per step", "share"), words.time_rows(run)),
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
