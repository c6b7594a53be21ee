"""What a run came to, in sentences and in tables of text, and how a report writes numbers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prefloop.text import duration
from prefloop.types import Evaluation, Rate
from prefloop_plugins.rates import NOTHING, interval
from prefloop_plugins.report.audited import sentences as audit_words
from prefloop_plugins.report.measures import longer_wins, phases, steps_taken
from prefloop_plugins.report.records import RunFiles

KEY_SETTINGS = (
    "model.path",
    "model.quantize",
    "adapter.type",
    "adapter.rank",
    "reference",
    "prompts.path",
    "algorithm.use",
    "sampler.use",
    "sampler.temperature",
    "sampler.max_completion_length",
    "judge.use",
    "judge.model",
    "judge.system",
    "loss.use",
    "loss.beta",
    "bonuses.0.use",
    "training.batch_size",
    "training.iters",
    "training.epochs",
    "training.learning_rate",
    "training.seed",
    "evaluation.prompts",
)
"""What most readers want to know of a configuration."""
OF_SOURCES = re.compile(r"prompts\.\d+\.(path|weight|judge\.(use|model|system))")

Row = tuple[str, ...]


def summary(run: RunFiles) -> list[str]:
    """What was done, what it came to, and what it cost."""
    return [*_what(run), *_win_rate(run), *_controlled(run), *_answers(run), *audit_words(run), *_cost(run)]


def _what(run: RunFiles) -> Iterator[str]:
    algorithm = run.settings.get("algorithm.use", "").rpartition(":")[2] or "Preference optimisation"
    model, judge = run.settings.get("model.path"), run.settings.get("judge.use", "").rpartition(":")[2]
    uses = [key for key in run.settings if OF_SOURCES.fullmatch(key) and key.endswith("judge.use")]
    own = sorted({run.settings[key].rpartition(":")[2] for key in uses})
    teacher = run.settings.get("judge.model")
    of_model, by_judge = (f" of {model}" if model else ""), (f", judged by {judge}" if judge else "")
    planned = run.count("plan", "steps")
    done = plural(steps_taken(run), "step")
    if planned is not None and planned != steps_taken(run):
        done = f"{steps_taken(run):,} of {planned:,} steps"
    by_teacher = f"{by_judge} ({teacher})" if teacher else by_judge
    by_teacher += f", some sources by {', '.join(own)}" if own else ""
    yield f"{algorithm}{of_model}{by_teacher}: {done}, {run.status}."


def win_rate_sentences(before: Rate | None, after: Rate, best_step: int | None = None) -> tuple[str, ...]:
    """What the judge preferred after training and before. `best_step` is that of the adapters, if kept."""
    if not after.pairs:
        return ("The judge gave no verdict on the held-out answers after training, so there is no win rate.",)
    when = f" (after step {best_step}, the best, which was kept)" if best_step else ""
    preferred = (
        f"On {plural(after.pairs, 'held-out prompt')} the judge preferred the trained policy{when} to where "
        f"it started in {interval(after)} of the pairs."
    )
    if before is None:
        return (preferred,)
    return preferred, (
        f"Before training it was {interval(before)}: the policy against itself, so about half."
    )


def right_answers_sentence(before: float, after: float) -> str:
    """Right answers beside the win rate: a judge of style does not see facts slide."""
    return f"Answers that contain the right one: {percent(before)} before, {percent(after)} after."


def _win_rate(run: RunFiles) -> Iterator[str]:
    if run.after is None:
        yield "There is no evaluation after training, so there is no win rate."
        return
    before = run.before.win_rate if run.before else None
    yield from win_rate_sentences(before, run.after.win_rate, run.best_loaded)


def _controlled(run: RunFiles) -> Iterator[str]:
    metrics: Mapping[str, float] = run.after.metrics if run.after else {}
    if run.after:
        rates = run.after.source_rates
        yield from (f"On prompts of {name} it is {interval(rate)}." for name, rate in rates.items())
        yield from (f"By {o.judge} it is {interval(o.win_rate)}." for o in run.after.others)
    controlled = metrics.get("length_controlled_win_rate")
    if controlled is not None:
        yield f"At equal length the win rate is {percent(controlled)}."
    if (kl := metrics.get("kl")) is not None:
        yield f"The policy lies {number(kl)} nats from its reference, per answer."


def _answers(run: RunFiles) -> Iterator[str]:
    if lengths := run.change("completion_length"):
        yield f"Held-out answers went from {change(lengths, '.1f')} tokens."
    if right := run.change("accuracy"):
        yield right_answers_sentence(*right)
    if liking := longer_wins(run.judged):
        yield f"Of two answers in training the longer one won {interval(liking)}."


def _cost(run: RunFiles) -> Iterator[str]:
    spent, seconds = phases(run.steps), run.about("summary", "seconds")
    took = f"It took {duration(float(seconds))}" if isinstance(seconds, int | float) else ""
    total = sum(spent.values())
    if total:
        name, most = max(spent.items(), key=lambda item: item[1])
        share = f"most of a step went into {name} ({percent(most / total)})"
        took = f"{took}; {share}" if took else share.capitalize()
    peak = max((s["peak_memory_gb"] for s in run.steps if "peak_memory_gb" in s), default=None)
    memory = f" At most {number(peak)} GB were held." if peak is not None else ""
    if took or memory:
        yield f"{took}.{memory}" if took else memory.strip()


def evaluation_rows(evaluations: Sequence[Evaluation], *, with_sides: bool = False) -> tuple[Row, list[Row]]:
    """A head and rows of what evaluations measured; a column that would be empty is left out."""
    columns = [column for column in _COLUMNS if any(column[1] in e.metrics for e in evaluations)]
    head = (
        "step",
        *(("judge", "against") if with_sides else ()),
        "win rate (95 %)",
        "pairs",
        *(title for title, *_ in columns),
    )
    rows = []
    for e in evaluations:
        sides = (e.judge or "-", e.against) if with_sides else ()
        values = [form.format(e.metrics[name]) if name in e.metrics else "-" for _, name, form in columns]
        rows.append((f"{e.step:,}", *sides, interval(e.win_rate), f"{e.win_rate.pairs:,}", *values))
    return head, rows


_COLUMNS = (
    ("length-controlled", "length_controlled_win_rate", "{:.0%}"),
    ("tokens", "completion_length", "{:.1f}"),
    ("right", "accuracy", "{:.0%}"),
    ("stopped", "stop_rate", "{:.0%}"),
    ("distinct-1", "distinct_1", "{:.2f}"),
    ("distinct-2", "distinct_2", "{:.2f}"),
    ("KL (nats)", "kl", "{:.2f}"),
    ("ties", "ties", "{:.0%}"),
    ("errors", "errors", "{:.0%}"),
)


def comparison(runs: Sequence[RunFiles]) -> tuple[Row, list[Row]]:
    """One row for each run."""
    rows = []
    for run in runs:
        rates = [interval(e.win_rate) if e else "-" for e in (run.before, run.after)]
        lengths, seconds = run.change("completion_length"), run.about("summary", "seconds")
        spent = duration(float(seconds)) if isinstance(seconds, int | float) else "-"
        tokens = change(lengths, ".1f") if lengths else "-"
        rows.append((run.name, run.status, f"{steps_taken(run):,}", *rates, tokens, spent))
    return ("run", "status", "steps", "win rate before", "win rate after", "tokens", "time"), rows


def differing(runs: Sequence[RunFiles]) -> list[Row]:
    """The settings in which runs differ, but for where they were written."""
    keys = dict.fromkeys(key for run in runs for key in run.settings if not key.startswith("output."))
    rows = [(key, *(run.settings.get(key, "-") for run in runs)) for key in keys]
    return [row for row in rows if len(set(row[1:])) > 1]


def key_settings(run: RunFiles) -> list[Row]:
    """What most readers want to know, each source of a mixture included."""
    of_sources = [key for key in run.settings if OF_SOURCES.fullmatch(key)]
    return [(key, run.settings[key]) for key in (*KEY_SETTINGS, *of_sources) if key in run.settings]


def time_rows(run: RunFiles) -> list[Row]:
    """Each phase: seconds in all, per step, and its share of the run; then what was not in a step."""
    spent = phases(run.steps)
    seconds = run.about("summary", "seconds")
    if isinstance(seconds, int | float) and seconds > sum(spent.values()):
        spent["evaluating, saving, loading"] = float(seconds) - sum(spent.values())
    total, steps = sum(spent.values()), len(run.steps)
    return [
        (name, duration(s), number(s / steps) if steps else NOTHING, percent(s / total))
        for name, s in spent.items()
        if total
    ]


def provenance(run: RunFiles) -> list[Row]:
    """What the run ran with."""
    versions = run.about("versions")
    found: dict[str, Any] = dict(versions) if isinstance(versions, Mapping) else {}
    found |= {"Python": run.about("python"), "platform": run.about("platform"), "seed": run.about("seed")}
    commit = run.about("git", "commit")
    dirty = " (with changes that were not committed)" if run.about("git", "dirty") else ""
    found |= {"git commit": f"{commit}{dirty}" if commit else None}
    machine = run.about("machine")
    found |= {k: v for k, v in machine.items() if k not in found} if isinstance(machine, Mapping) else {}
    found |= {"started (UTC)": run.about("started"), "ended (UTC)": run.about("ended")}
    rows = [(name, str(value)) for name, value in found.items() if value is not None]
    return [*rows, *_changes(run)]


def _changes(run: RunFiles) -> Iterator[Row]:
    """What the run depends on that was changed when it went on; of contents, the first digits of the hash."""
    for made in run.about("changes") or ():
        before, after = (str(made.get(side))[:24] for side in ("before", "after"))
        yield f"changed after step {made.get('step')}", f"{made.get('what')}, from {before} to {after}"


def commands(run: RunFiles) -> str:
    """What to type to run it again, beside the folder of the run."""
    versions = run.about("versions")
    wanted = [
        f"{name}=={version}" for name, version in (versions.items() if isinstance(versions, Mapping) else ())
    ]
    install = f"python -m pip install {shlex.join(wanted)}\n" if wanted else ""
    config = shlex.quote(f"{run.name}/config.yaml")
    again = shlex.quote(f"output.path={run.name}-again")
    return f"{install}prefloop train {config} --set {again}"


def percent(share: float) -> str:
    return f"{share:.0%}"


def number(value: float) -> str:
    """Three significant digits, without an exponent where that is readable."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:.1e}"


def change(values: tuple[float, float], form: str = ".0%") -> str:
    """``20% to 35%``."""
    return f"{values[0]:{form}} to {values[1]:{form}}"


def plural(count: int, thing: str) -> str:
    return f"{count:,} {thing}" + ("" if count == 1 else "s")
