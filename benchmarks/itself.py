"""Whether SmolLM2 can judge its own answers: ``python -m benchmarks.itself``.

Pairs of its answers are labelled by VADER, and `prefloop judge` asks SmolLM2 which of the two sounds more
positive, with the options that are there against a judge's faults. ``--write`` keeps the result and puts it
into docs/experiments/real.md.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from benchmarks.harness import records, smollm2
from benchmarks.harness.environments import installed
from benchmarks.harness.pages import markdown
from benchmarks.harness.statistics import Interval
from benchmarks.harness.worker import device
from benchmarks.harness.workers import prefloop

RESULTS = records.RESULTS / "itself.json"
RUBRIC = "Prefer the answer that sounds happier and more positive."
DRAWS = 4
"""Answers to each prompt, which make half as many pairs."""
HEARD: dict[str, Any] = {"min_label_mass": 0.0}
"""Any opinion counts, also where the model would sooner write something else than a label."""
ASKED: dict[str, dict[str, Any]] = {
    "both orders": {},
    "one order": {"orders": "fixed"},
    "both orders, `min_label_mass: 0`": HEARD,
    "one order, `min_label_mass: 0`": {"orders": "fixed", **HEARD},
    "both orders, `min_label_mass: 0`, `tie_margin: 0.05`": {"tie_margin": 0.05, **HEARD},
}
FITTED = "both orders, `min_label_mass: 0`"
"""The options whose numbers are fitted to the labels: those with which there are any verdicts at all."""


def pairs() -> Iterator[dict[str, str]]:
    """Two answers of SmolLM2 to a prompt, and which of them is brighter."""
    from benchmarks.experiments.ground import SENTENCES
    from benchmarks.experiments.wishes import bright

    policy = SENTENCES.load()
    prompts = SENTENCES.prompts(policy)
    drawn = SENTENCES.draw(policy, prompts, DRAWS, seed=0)
    for firsts, seconds in zip(drawn[::2], drawn[1::2], strict=True):
        for prompt, first, second in zip(prompts, firsts, seconds, strict=True):
            a, b = bright(prompt, first.text), bright(prompt, second.text)
            if a != b:
                label = "first" if a > b else "second"
                yield {"prompt": prompt.text, "first": first.text, "second": second.text, "label": label}


def ask(folder: Path, options: dict[str, Any], *, fit: bool) -> dict[str, Any]:
    """What `prefloop judge` reports, as a user calls it."""
    judge = {"use": "llm", "model": smollm2.folder(), "system": RUBRIC, **options}
    (folder / "judge.yaml").write_text(json.dumps({"judge": judge}), encoding="utf-8")
    arguments = ["judge", "judge.yaml", "pairs.jsonl", "--json", *(["--fit"] if fit else [])]
    (found,) = json.loads(prefloop(arguments, folder, share_blas=False))["judges"]
    return {name: value for name, value in found.items() if name not in ("config", "calibration", "seconds")}


def table(found: dict[str, Any]) -> str:
    lines = []
    for name, said in found["asked"].items():
        place = said["position"] or {}  # null where there is no verdict
        shares = _share(said["agreement_decided"]), _share(place.get("consistency"))
        numbers = place.get("first_place"), place.get("gap"), said["ties"], said["errors"]
        lines.append([name, *shares, *map(_number, numbers)])
    heads = ("asked", "agrees with VADER", "same in both orders", "for the first", "gap", "ties", "errors")
    return markdown(heads, lines, numbers=False)


def fitted(found: dict[str, Any]) -> str:
    """What `--fit` found."""
    fit = found["asked"][FITTED].get("fit") or {}
    lines = [
        [name.replace("_", " "), f"{fit[name]['before']:.2f}", f"{fit[name]['after']:.2f}"]
        for name in ("agreement", "log_loss", "ece")
        if name in fit
    ]
    terms = [[f"`{name}`", "", f"{value:.2f}"] for name, value in fit.get("terms", {}).items()]
    return markdown(("on labels kept out", "as it is", "as fitted"), [*lines, *terms], numbers=False)


def _share(rate: dict[str, float] | None) -> str:
    if not rate or not rate["pairs"]:
        return "no verdict"
    return f"{Interval(rate['rate'], rate['low'], rate['high']).text()} of {rate['pairs']}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def block(name: str) -> str:
    """What the page shows: `asked`, `fit`, or `origin`, what they were measured with."""
    found = records.load(RESULTS)
    parts = {"asked": table, "fit": fitted, "origin": lambda found: records.origin([found])}
    return parts[name](found) if found else ""


@click.command(help="Ask SmolLM2 which of two of its answers sounds more positive.")
@click.option("--write", is_flag=True, help="Keep the results and write them into the page.")
def main(write: bool) -> None:
    from benchmarks import pages

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [json.dumps(pair) + "\n" for pair in pairs()]
        (folder / "pairs.jsonl").write_text("".join(lines), encoding="utf-8")
        asked = {name: ask(folder, options, fit=name == FITTED) for name, options in ASKED.items()}
    versions = installed(("prefloop", "mlx", "mlx-lm", "vaderSentiment"))
    found = {"provenance": records.provenance(device(), versions), "pairs": len(lines), "asked": asked}
    if write:
        records.save(RESULTS, found)
        pages.write()
    click.echo(f"{table(found)}\n\n{fitted(found)}")


if __name__ == "__main__":
    main()
