"""Several runs compared: a table by setting, over seeds, and one by run; printed and as files of a queue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from prefloop.errors import UserError
from prefloop.runs.files import rewrite
from prefloop.runs.queue import Queue
from prefloop.runs.view import MANIFEST
from prefloop.text import one_line, printable
from prefloop_plugins.rates import NOTHING, interval
from prefloop_plugins.report.reading import read_run
from prefloop_plugins.report.records import RunFiles
from prefloop_plugins.report.seeds import Mean, Setting, difference, grouped, mean_of, win_rates
from prefloop_plugins.report.words import Row, comparison

MARKDOWN, PAGE = "comparison.md", "comparison.html"
MARK = "<!-- written by prefloop runs compare -->"
BY_SETTING, BY_RUN = "By setting", "By run"


@frozen
class Comparison:
    """What is said of several runs: tables with a head, and sentences about them."""

    title: str
    settings: tuple[Setting, ...]
    runs: tuple[RunFiles, ...]
    """Those that have a folder."""
    by_setting: tuple[Row, Sequence[Row]]
    by_run: tuple[Row, Sequence[Row]]
    notes: tuple[str, ...]


def compare_runs(runs: Sequence[RunFiles]) -> Comparison:
    """Runs from anywhere, grouped by the settings that they have in common."""
    head, rows = comparison(runs)
    return _compared(f"{len(runs)} runs compared", grouped(runs), runs, (head, rows))


def compare_queue(queue: Queue) -> Comparison:
    """The runs of a queue, in their order, those included that have not begun."""
    found = [(e, queue.folder_of(e)) for e in queue.entries]
    runs = {e.name: read_run(folder) for e, folder in found if (folder / MANIFEST).exists()}
    names = dict.fromkeys(entry.setting for entry in queue.entries)
    members = {name: [e.name for e in queue.entries if e.setting == name] for name in names}
    settings = [
        Setting(name, tuple(runs[m] for m in of if m in runs and runs[m].status == "finished"), len(of))
        for name, of in members.items()
    ]
    head, rows = comparison(list(runs.values()))
    by_name = dict(zip(runs, rows, strict=True))
    states = queue.states()
    empty = (NOTHING,) * (len(head) - 2)
    filled = [by_name.get(e.name, (e.name, states[e.name], *empty)) for e in queue.entries]
    reasons = [
        f"{e.name} failed: {one_line(queue.reason(e), 300) or 'nothing is known of why.'}"
        for e in queue.entries
        if states[e.name] == "failed"
    ]
    title = f"{queue.path.resolve().name}: {len(queue.entries)} runs compared"
    return _compared(title, settings, list(runs.values()), (head, filled), reasons)


def _compared(
    title: str,
    settings: Sequence[Setting],
    runs: Sequence[RunFiles],
    by_run: tuple[Row, Sequence[Row]],
    reasons: Sequence[str] = (),
) -> Comparison:
    notes = (*_notes(settings), *reasons)
    return Comparison(title, tuple(settings), tuple(runs), _by_setting(settings), by_run, notes)


def _by_setting(settings: Sequence[Setting]) -> tuple[Row, list[Row]]:
    """One row for each setting; the differences are from the first of them."""
    head = ("setting", "finished", "win rate before", "win rate after", "above the first", "tokens", "right")
    rows = []
    for setting in settings:
        above = difference(setting, settings[0]) if setting is not settings[0] else None
        rows.append(
            (
                setting.name,
                f"{len(setting.runs)} of {setting.count}",
                _percent(mean_of([r.before.win_rate.rate for r in setting.runs if r.before], share=True)),
                _after(setting),
                _points(above),
                _mean(_last(setting, "completion_length"), ".1f"),
                _mean(_last(setting, "accuracy"), ".0%"),
            )
        )
    used = [i for i in range(len(head)) if i < 4 or any(row[i] != NOTHING for row in rows)]
    return tuple(head[i] for i in used), [tuple(row[i] for i in used) for row in rows]


def _after(setting: Setting) -> str:
    """The mean over seeds; of one run its own rate, whose interval is over the prompts."""
    rates = list(win_rates(setting).values())
    if len(rates) == 1:
        return next(interval(r.after.win_rate) for r in setting.runs if r.after and r.after.win_rate.pairs)
    return _percent(mean_of(rates, share=True))


def _last(setting: Setting, metric: str) -> list[float]:
    return [run.after.metrics[metric] for run in setting.runs if run.after and metric in run.after.metrics]


def _percent(mean: Mean | None) -> str:
    return _mean_words(mean, "{:.0%}", "{:.0%}")


def _points(mean: Mean | None) -> str:
    """A difference of two shares, in percentage points."""
    if mean is None:
        return NOTHING
    low, high = (side if side is None else 100 * side for side in (mean.low, mean.high))
    return _mean_words(Mean(100 * mean.mean, low, high, mean.count), "{:+.0f} points", "{:+.0f}")


def _mean_words(mean: Mean | None, form: str, short: str) -> str:
    if mean is None:
        return NOTHING
    if mean.low is None or mean.high is None:
        return form.format(mean.mean)
    return f"{form.format(mean.mean)} ({short.format(mean.low)} to {short.format(mean.high)})"


def _mean(values: Sequence[float], form: str) -> str:
    found = mean_of(values)
    return NOTHING if found is None else f"{found.mean:{form}}"


def _notes(settings: Sequence[Setting]) -> Iterator[str]:
    """How the intervals are meant, and what a table of several settings tempts one to."""
    seeds = [len(win_rates(setting)) for setting in settings]
    if any(count > 1 for count in seeds):
        yield (
            "An interval over seeds is the 95 % interval of Student's t: it says how far runs of one setting "
            "lie apart on their held-out prompts. With two or three seeds it is wide."
        )
    if any(count == 1 for count in seeds):
        yield "Of a setting with one run, the interval is Wilson's, over that run's prompts."
    if sum(count > 0 for count in seeds) > 1:
        yield (
            "The best of several settings looks better than it is, as it was chosen by these numbers: try it "
            "again with other seeds before you report it."
        )


# As text


def as_data(compared: Comparison) -> dict[str, Any]:
    """The comparison in numbers; a mean without values is None."""

    def numbers(setting: Setting) -> dict[str, Any]:
        before = [run.before.win_rate.rate for run in setting.runs if run.before]
        means = {
            "before": mean_of(before, share=True),
            "after": mean_of(list(win_rates(setting).values()), share=True),
            "above_first": difference(setting, compared.settings[0]),
        }
        told = {name: mean and asdict(mean) for name, mean in means.items()}
        return {"name": setting.name, "finished": len(setting.runs), "count": setting.count, **told}

    return {
        "title": compared.title,
        "settings": [numbers(setting) for setting in compared.settings],
        "runs": [{"name": run.name, "status": run.status} for run in compared.runs],
        "notes": list(compared.notes),
    }


def write_comparison(queue: Queue, compared: Comparison) -> list[Path]:
    """Write both files of a queue. Raises `UserError` where others are in their place."""
    from prefloop_plugins.report import MOST, write_page
    from prefloop_plugins.report.page import comparison_page

    file = queue.path / MARKDOWN
    try:
        if file.exists() and not file.read_text(encoding="utf-8", errors="replace").startswith(MARK):
            raise UserError(f"{file}: exists already and was not written by prefloop: move it away.")
        rewrite(file, markdown(compared).encode())
    except OSError as error:
        raise UserError(f"{file}: cannot be written: {error.strerror}.") from error
    write_page(comparison_page(compared, MOST), queue.path / PAGE)
    return [file, queue.path / PAGE]


def markdown(compared: Comparison) -> str:
    """Both tables and the sentences, for a notebook or an issue."""
    parts = [MARK, f"# {_cell(compared.title)}"]
    for title, (head, rows) in tables(compared).items():
        lines = [head, ("---",) * len(head), *rows]
        parts += [f"## {title}", "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)]
    parts += [f"- {_cell(note)}" for note in compared.notes]
    return "\n\n".join(parts) + "\n"


def tables(compared: Comparison) -> Mapping[str, tuple[Row, Sequence[Row]]]:
    """Both tables by their titles."""
    return {BY_SETTING: compared.by_setting, BY_RUN: compared.by_run}


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|").replace("\n", " ")
