"""The files of a run, made by hand: as a run of thirty steps would have written them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefloop.runs.files import sealed_lines

PHASES = ("sampling", "judging", "scoring", "update")
CONFIG = """\
model: {path: my-model}
algorithm: {use: "prefloop:online_dpo"}
judge: {use: "prefloop:llm", model: my-judge}
training: {learning_rate: 1.0e-5, seed: 3}
output: {path: runs/one}
"""


def step_line(step: int) -> dict[str, float]:
    names = ["loss", "margin", "reward_accuracy", "learning_rate", "grad_norm", "position_gap"]
    sides = ("{}_reward", "{}_length", "log_ratio_{}", "kl_{}")
    names += [name.format(side) for name in sides for side in ("chosen", "rejected")]
    metrics = dict.fromkeys(names, 0.1 + step / 100)
    seconds = {f"seconds_{phase}": 0.1 * (i + 1) for i, phase in enumerate(PHASES)}
    shares = {"ties": 0.25, "abstentions": 0.0, "errors": 0.0, "stop_rate": 1.0, "skipped": 0.0}
    return {"step": step, "pairs": 4.0, **metrics, **shares, **seconds, "peak_memory_gb": 1.5}


def judgement(step: int, first: str, second: str, probability: float, **more: Any) -> dict[str, Any]:
    sides = {
        side: {"text": text, "tokens": list(range(len(text))), "stopped": True, "source": "policy"}
        for side, text in (("first", first), ("second", second))
    }
    judge = {"judge": "prefloop:llm", "judge_version": "1", "judge_options": "x"}
    asked = {"prompt_id": f"p:{step}", "prompt": f"prompt {step}", **sides}
    verdict = {"probability": probability, "status": "ok", "orders": [probability, probability]}
    return {"step": step, **judge, **asked, **verdict, "reason": None, **more}


def evaluation(step: int, rate: float, text: Callable[[int], str] = "answer {}".format) -> dict[str, Any]:
    pairs = [
        {
            "prompt": f"question {i}",
            "prompt_id": f"held_out.jsonl:{i}",
            "ours": {"text": text(i), "tokens": 12, "stopped": True},
            "theirs": {"text": f"old {i}", "tokens": 9, "stopped": True},
            "probability": i / 19,
            "status": "ok",
            "orders": None,
            "reason": None,
        }
        for i in range(20)
    ]
    metrics = {"completion_length": 10.0 + step / 10, "length_controlled_win_rate": None, "kl": 1.25}
    win_rate = {"rate": rate, "low": rate - 0.1, "high": rate + 0.1, "pairs": 20}
    about = {"step": step, "judge": "prefloop:llm", "against": "start", "win_rate": win_rate}
    return {**about, "metrics": metrics, "pairs": pairs}


def lines_of(evaluations: list[dict[str, Any]], steps: int) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for e in evaluations:
        rates = {"win_rate": e["win_rate"], **e["metrics"]}
        lines.append({"step": e["step"], "evaluation": rates})
    return [lines[0], *(step_line(i) for i in range(1, steps + 1)), *lines[1:]]


def write_run(
    folder: Path, *, steps: int = 30, config: str = CONFIG, after: float = 0.8, **changes: Any
) -> Path:
    """The files of a run, made by hand."""
    (folder / "evaluations").mkdir(parents=True)
    made = [evaluation(0, 0.5), evaluation(steps, after)]
    manifest = {
        "versions": {"prefloop": "0.1.0", "mlx": "0.32.0"},
        "python": "3.12.1",
        "platform": "TestOS",
        "git": {"commit": "abc123", "dirty": True},
        "seed": 3,
        "plan": {"steps": steps},
        "status": "finished",
        "summary": {"steps": steps, "seconds": 75.0},
        **changes,
    }
    ledger = [judgement(i, "long answer", "short", 0.9 if i % 3 else 0.2) for i in range(1, steps + 1)]
    (folder / "run.json").write_text(json.dumps(manifest))
    (folder / "config.yaml").write_text(config)
    (folder / "metrics.jsonl").write_bytes(sealed_lines(lines_of(made, steps)))
    (folder / "judgements.jsonl").write_bytes(sealed_lines(ledger))
    for e in made:
        (folder / "evaluations" / f"{e['step']:07d}.json").write_text(json.dumps(e))
    return folder
