"""A short run with every component of the plugin, in the current folder. Frozen: see ``__init__.py``."""

from __future__ import annotations

from pathlib import Path

from prefloop import Observer, Step, load_config, train

SETTINGS = {
    "model": "embedded:policy",
    "prompts": {"path": "embedded:prompts", "limit": 40},
    "algorithm": {"use": "first-version:doubled", "alpha": 0.01},
    "observers": ["diary", "ear"],
    "training": {"batch_size": 3, "iters": 2},
    "evaluation": {"held_out": 2},
    "output": "run",
}


class Witness(Observer):
    """Writes down whether the records that it sees are those of a later version."""

    def step_finished(self, step: Step) -> None:
        seen = (step, step.progress, step.pairs[0], step.pairs[0].first, step.verdicts[0])
        with Path("witness").open("a") as file:
            print(*sorted({str(getattr(record, "added", None)) for record in seen}), file=file)


def run() -> None:
    train(load_config(SETTINGS), observers=[Witness()])
