"""Reads what a report shows from the files of a run, and changes none of them.

Files that are not there, of an old run or one that is still going, leave their part empty. What is damaged
is left out and said.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from prefloop.config.yaml_nodes import Node, read_file
from prefloop.errors import UserError
from prefloop.runs.files import parsed_line
from prefloop.runs.ledger import FILE as LEDGER
from prefloop.runs.ledger import same_judgement
from prefloop.types import Rate
from prefloop_plugins.report.records import START, Answer, Compared, Evaluated, Judged, RunFiles

MANIFEST, CONFIG, METRICS, EVALUATIONS = "run.json", "config.yaml", "metrics.jsonl", "evaluations"
_WRONG = (LookupError, TypeError, ValueError, AttributeError, OverflowError)
"""What the fields of a line that has been edited may raise."""
T = TypeVar("T")


def read_run(path: Path) -> RunFiles:
    """The run in `path`. Raises `UserError` where it holds none that can be read.

    Of an evaluation made in training, the file tells more than the line in the metrics.
    """
    from prefloop.runs.run import read_manifest

    manifest = read_manifest(path)
    problems: list[str] = []
    settings = _settings(path / CONFIG, problems)
    lines = list(_lines(path / METRICS, _metrics, problems))
    files = sorted((path / EVALUATIONS).glob("*.json"))
    made = [(file.stem, found) for file in files if (found := _evaluation(file, problems))]
    in_training = [found for name, found in made if name.isdecimal()]
    own = {e.step: e for e in (*(line for line in lines if isinstance(line, Evaluated)), *in_training)}
    return RunFiles(
        name=path.resolve().name,
        manifest=manifest,
        config=_text(path / CONFIG, problems),
        settings=settings,
        steps=tuple(line for line in lines if isinstance(line, Mapping)),
        evaluations=tuple(own[step] for step in sorted(own)),
        others=tuple(found for name, found in made if not name.isdecimal()),
        judged=_judged(path / LEDGER, problems),
        problems=tuple(problems),
    )


def _lines(path: Path, made: Callable[[dict[str, Any]], T], problems: list[str]) -> Iterator[T]:
    """What `made` makes of each line; one that is still being written is passed over, a bad one counted."""
    bad = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    try:
                        yield made(parsed_line(path, number, line.rstrip()))
                    except (UserError, *_WRONG):
                        bad += 1
    except FileNotFoundError:
        problems.append(f"There is no {path.name}.")
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {error.strerror}.")
    if bad:
        problems.append(f"{bad} damaged lines of {path.name} are left out.")


def _metrics(line: Mapping[str, Any]) -> Mapping[str, float] | Evaluated:
    if "evaluation" not in line:
        return {"step": int(line["step"]), **_numbers(line)}
    rates = line["evaluation"]
    return Evaluated(int(line["step"]), _rate(rates["win_rate"]), _numbers(rates))


def _evaluation(path: Path, problems: list[str]) -> Evaluated | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Evaluated(
            step=int(found["step"]),
            win_rate=_rate(found["win_rate"]),
            metrics=_numbers(found.get("metrics") or {}),
            judge=str(found.get("judge") or ""),
            against=str(found.get("against") or START),
            pairs=tuple(_compared(pair) for pair in found.get("pairs") or ()),
        )
    except (OSError, RecursionError, *_WRONG):
        problems.append(f"{EVALUATIONS}/{path.name} is damaged and left out.")
        return None


def _compared(pair: Mapping[str, Any]) -> Compared:
    return Compared(
        prompt=str(pair["prompt"]),
        ours=_answer(pair["ours"]),
        theirs=_answer(pair["theirs"]),
        probability=0.5 if pair.get("probability") is None else _share(pair["probability"]),
        status=str(pair.get("status", "ok")),
        prompt_id=pair.get("prompt_id") and str(pair["prompt_id"]),
        reason=pair.get("reason") and str(pair["reason"]),
    )


def _answer(side: Mapping[str, Any]) -> Answer:
    tokens = side.get("tokens")
    return Answer(str(side["text"]), None if tokens is None else int(tokens), bool(side.get("stopped", True)))


def _judged(path: Path, problems: list[str]) -> tuple[Judged, ...]:
    """The training pairs; of several lines about one pair the last, as `Ledger` has it.

    In an order that does not depend on where an interruption fell.
    """
    rows = _lines(path, lambda line: (same_judgement(line), _judgement(line)), problems)
    latest = {key: judged for key, judged in rows if judged is not None}
    return tuple(judged for _, judged in sorted(latest.items(), key=lambda item: (item[1].step, item[0])))


def _judgement(line: Mapping[str, Any]) -> Judged | None:
    if line.get("evaluation"):
        return None
    first, second, orders = line["first"], line["second"], line.get("orders")
    return Judged(
        step=int(line["step"]),
        lengths=(len(first["tokens"]), len(second["tokens"])),
        probability=_share(line["probability"]),
        status=str(line["status"]),
        orders=(_share(orders[0]), _share(orders[1])) if orders else None,
        equal=first["text"] == second["text"],
        exchangeable=first.get("source") == second.get("source") == "policy",
    )


def _settings(path: Path, problems: list[str]) -> dict[str, str]:
    try:
        root, _ = read_file(path)
    except UserError as error:
        if path.exists():
            problems.append(f"{path.name} is damaged: {error.problems[0].removeprefix(f'{path}:')}")
        return {}
    return dict(_flat(root))


def _flat(node: Node, path: str = "") -> Iterator[tuple[str, str]]:
    if node.mapping:
        for key, child in node.mapping.items():
            yield from _flat(child, f"{path}.{key}" if path else key)
    elif node.items:
        for index, item in enumerate(node.items):
            yield from _flat(item, f"{path}.{index}")
    elif node.value is not None and node.spelling is not None:
        yield path, node.spelling


def _text(path: Path, problems: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        problems.append(f"There is no {path.name}.")
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {error.strerror}.")
    return ""


def _rate(found: Mapping[str, Any]) -> Rate:
    return Rate(_share(found["rate"]), _share(found["low"]), _share(found["high"]), int(found["pairs"]))


def _numbers(found: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers in a mapping."""
    numbers = {}
    for name, value in found.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            numbers[str(name)] = float(value)
    return numbers


def _share(value: Any) -> float:
    """A number from 0 to 1. Raises `ValueError` for anything else, NaN too."""
    share = float(value)
    if not 0 <= share <= 1:
        raise ValueError(f"{share} is no probability")
    return share
