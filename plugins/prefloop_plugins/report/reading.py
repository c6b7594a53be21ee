"""Picks what a report shows of a run from what `open_run` reads."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve

from prefloop import Evaluation, StepMetrics, open_run
from prefloop.config import yaml_nodes
from prefloop.runs.records import latest
from prefloop.runs.view import Damage, flat
from prefloop_plugins.report.records import RunFiles


def read_run(path: Path) -> RunFiles:
    """The run in `path`. Raises `UserError` where it holds none that can be read.

    The judgements are in an order that does not depend on where an interruption fell.
    """
    run = open_run(path)
    judged = latest((j.key, j) for j in run.judgements().records if not j.evaluation)
    steps = (made for made in run.metrics().records if isinstance(made, StepMetrics))
    return RunFiles(
        name=run.name,
        manifest={**run.manifest, "status": run.status},
        config=run.config_text,
        settings=_spelled(run.settings),
        steps=tuple({"step": float(made.step), **_finite(made.metrics)} for made in steps),
        evaluations=tuple(map(_without_undefined, run.evaluations())),
        others=tuple(map(_without_undefined, run.other_evaluations().values())),
        judged=tuple(sorted(judged, key=lambda judgement: (judgement.step, judgement.key))),
        problems=_sentences(run.problems),
    )


def _without_undefined(evaluation: Evaluation) -> Evaluation:
    return evolve(evaluation, metrics=_finite(evaluation.metrics))


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _spelled(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings by key path as YAML has them, without those that are nothing."""
    values = {key: value for key, value in flat(settings).items() if value not in (None, [], {})}
    return {key: value if isinstance(value, str) else _scalar(value) for key, value in values.items()}


def _scalar(value: object) -> str:
    return re.sub(r"(?<=e[-+])0", "", yaml_nodes.dump(value).split("\n")[0])


def _sentences(problems: Sequence[Damage]) -> tuple[str, ...]:
    """What is missing or damaged, with damaged lines counted."""
    lines = Counter(damage.file for damage in problems if damage.line is not None)
    counted = (f"{count} damaged lines of {file} are left out." for file, count in lines.items())
    return (*(damage.text for damage in problems if damage.line is None), *counted)
