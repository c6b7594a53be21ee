"""What a run came to, in plain words."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prefloop.embedded import PREFIX, resolve
from prefloop.text import one_line, printable

if TYPE_CHECKING:
    from prefloop import RunView


def closing_words(run: RunView) -> str:
    """What changed, a few answers before and after, where the run is, and what to type next."""
    if run.status != "finished":
        return f"\n{_unfinished(run)}"
    summary = run.summary
    told = [*_early(run), *_win_rate(summary), *_accuracy(summary), *_examples(summary)]
    told.append(_next(run))
    return "\n" + "\n\n".join(told)


def _unfinished(run: RunView) -> str:
    return (
        f"{run.status.capitalize()} after {run.summary['steps']} of {run.manifest['plan']['steps']} steps: "
        f"{printable(run.manifest['reason']).rstrip('.')}. Everything so far is saved in {run.path}.\n"
        f"To go on:\n  prefloop train --resume {run.path}"
    )


def _early(run: RunView) -> Iterator[str]:
    """Why the run is shorter than planned, and which adapters it ended with."""
    if "reason" in run.manifest:
        reason = printable(str(run.manifest["reason"])).rstrip(".")
        yield f"The run {reason}."
    if "adapters_step" in run.summary:
        yield f"Its adapters are those of its best evaluation, after step {run.summary['adapters_step']}."


def _win_rate(summary: Mapping[str, Any]) -> Iterator[str]:
    if "after" not in summary.get("win_rate", ()):
        return
    before, after = summary["win_rate"]["before"], summary["win_rate"]["after"]
    yield (
        f"On {after['pairs']} held-out prompts the judge preferred the trained model to where it started in "
        f"{_interval(after)} of the pairs.\nBefore training it was {_interval(before)}: the model against "
        "itself, so about half. (95 % intervals)"
    )


def _accuracy(summary: Mapping[str, Any]) -> Iterator[str]:
    """Right answers beside the win rate: a judge of style does not see facts slide."""
    if "after" not in summary.get("accuracy", ()):
        return
    before, after = summary["accuracy"]["before"], summary["accuracy"]["after"]
    yield f"Answers that contain the right word: {before:.0%} before, {after:.0%} after."


def _examples(summary: Mapping[str, Any]) -> Iterator[str]:
    for example in summary.get("examples", ()):
        yield textwrap.indent(
            f"prompt  {one_line(example['prompt'])}\n"
            f"before  {one_line(example['before'])}\n"
            f"after   {one_line(example['after'])}",
            "  ",
        )


def _next(run: RunView) -> str:
    given = run.settings["model"]["path"]
    where = f"{_where(run)}\nNext:\n"
    if given.startswith(PREFIX) and run.settings["prompts"]["path"].startswith(PREFIX):
        return where + (
            "  prefloop train --set algorithm=xpo            the same with an exploration bonus\n"
            "  prefloop config init > my.yaml                a commented configuration of your own\n"
            "  prefloop plugins list                         judges, losses and more to choose from"
        )
    whole = run.settings["adapter"]["type"] == "full"
    source = (
        f"--model {run.path / 'model'}" if whole else f"--model {resolve(given)} --adapter-path {run.path}"
    )
    return where + f"  python -m mlx_lm generate {source} --prompt 'Hello'"


def _where(run: RunView) -> str:
    page = "report.html, " if (run.path / "report.html").is_file() else ""
    return f"The run is in {run.path} ({page}metrics.jsonl, judgements.jsonl, adapters.safetensors)."


def _interval(rate: Mapping[str, float]) -> str:
    return f"{rate['rate']:.0%} ({rate['low']:.0%} to {rate['high']:.0%})"
