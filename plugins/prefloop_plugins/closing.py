"""What a run came to, in plain words."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from prefloop.embedded import PREFIX, resolve
from prefloop.text import in_a_line, one_line, printable
from prefloop.types import Rate
from prefloop_plugins.rates import interval
from prefloop_plugins.report.audited import sentences as audit_words
from prefloop_plugins.report.findings import CHECKS, finished, warnings
from prefloop_plugins.report.reading import read_run
from prefloop_plugins.report.words import right_answers_sentence, win_rate_sentences

if TYPE_CHECKING:
    from prefloop import RunView


def closing_words(run: RunView) -> str:
    """What changed, a few answers before and after, where the run is, and what to type next."""
    labels, warned = _of_files(run)
    if run.status != "finished":
        return "\n" + "\n\n".join([*labels, *warned, _unfinished(run)])
    summary = run.summary
    rates = [*_win_rate(summary), *_other_judges(summary)]
    results = [*_early(run), *rates, *_right_answers(summary), *labels, *_examples(summary)]
    parts = [*results, *warned, _next(run)]
    return "\n" + "\n\n".join(parts)


def _unfinished(run: RunView) -> str:
    path, resumable = str(run.path), run.manifest.get("resumable", True)
    return (
        f"{run.status.capitalize()} after {run.summary['steps']} of {run.manifest['plan']['steps']} steps: "
        f"{printable(run.manifest['reason']).rstrip('.')}. Everything so far is saved in {in_a_line(path)}."
        + (f"\nTo go on:\n  prefloop train --resume {quote(path)}" if resumable else "")
    )


def _early(run: RunView) -> Iterator[str]:
    """Why the run is shorter than planned."""
    if "reason" in run.manifest:
        reason = printable(str(run.manifest["reason"])).rstrip(".")
        yield f"The run {reason}."


def _win_rate(summary: Mapping[str, Any]) -> Iterator[str]:
    if "after" not in summary.get("win_rate", ()):
        return
    rates = {side: Rate(**rate) for side, rate in summary["win_rate"].items()}
    sentences = win_rate_sentences(rates["before"], rates["after"], summary.get("adapters_step"))
    yield "\n".join(sentences) + " (95 % intervals)"


def _other_judges(summary: Mapping[str, Any]) -> Iterator[str]:
    """What the other judges of the evaluations say of the same answers."""
    for name, sides in summary.get("other_judges", {}).items():
        if "after" in sides:
            yield f"By {name} it won {interval(Rate(**sides['after']))}."


def _right_answers(summary: Mapping[str, Any]) -> Iterator[str]:
    if "after" in summary.get("accuracy", ()):
        yield right_answers_sentence(summary["accuracy"]["before"], summary["accuracy"]["after"])


def _of_files(run: RunView) -> tuple[list[str], list[str]]:
    """What a person's budget was spent on, and what the report's validity checks warn of.

    That a run is not finished stands here anyway.
    """
    try:
        read = read_run(run.path)
        labels = "\n".join(audit_words(read))
        found = warnings(read, *(check for check in CHECKS if check is not finished))
    except Exception as error:  # a run that has ended has ended, whatever can be read of it
        return [], [f"The validity checks could not be made: {one_line(str(error)) or type(error).__name__}"]
    warned = "\n".join(["Before you rely on it:", *(f"  {text}" for text in found)]) if found else ""
    return [labels] if labels else [], [warned] if warned else []


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
    prompts = run.settings["prompts"]
    if given.startswith(PREFIX) and isinstance(prompts, dict) and prompts["path"].startswith(PREFIX):
        return where + (
            "  prefloop train --set algorithm=xpo            the same with an exploration bonus\n"
            "  prefloop config init > my.yaml                a commented configuration of your own\n"
            "  prefloop plugins list                         judges, losses and more to choose from"
        )
    return where + "\n".join(f"  python -m mlx_lm {command}" for command in _commands(run))


def _commands(run: RunView) -> Iterator[str]:
    """What makes mlx-lm answer with what was trained, on the model that it was trained on."""
    model, quantize = str(resolve(run.settings["model"]["path"])), run.settings["model"]["quantize"]
    if run.settings["adapter"]["type"] == "full":
        yield f"generate --model {quote(str(run.path / 'model'))} --prompt Hello"
        return
    if quantize != "none":
        source, model = model, f"{Path(model).name}-{quantize}"
        yield f"convert --hf-path {quote(source)} {_AS_QUANTIZED[quantize]} --mlx-path {quote(model)}"
    yield f"generate --model {quote(model)} --adapter-path {quote(str(run.path))} --prompt Hello"


_AS_QUANTIZED = {
    "4bit": "--quantize --q-bits 4",
    "6bit": "--quantize --q-bits 6",
    "8bit": "--quantize --q-bits 8",
    "mxfp4": "--quantize --q-mode mxfp4",
}
"""How `mlx_lm convert` makes what ``model.quantize`` makes."""


def _where(run: RunView) -> str:
    page = "report.html, " if (run.path / "report.html").is_file() else ""
    folder = in_a_line(str(run.path))
    return f"The run is in {folder} ({page}metrics.jsonl, judgements.jsonl, adapters.safetensors)."
