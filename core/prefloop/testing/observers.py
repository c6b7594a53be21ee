"""What every observer must do: see a whole run of two steps, and change nothing."""

from __future__ import annotations

import difflib
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from prefloop.components import Observer
from prefloop.config import load_config
from prefloop.testing.suite import ComponentSuite

EVENTS = tuple(name for name in vars(Observer) if not name.startswith("_"))


class ObserverSuite(ComponentSuite):
    """Tests of an observer."""

    kind: ClassVar[str] = "observer"

    def test_sees_something(self) -> None:
        methods = [name for name in dir(self.component) if not name.startswith("_")]
        for name in set(methods) - set(EVENTS):
            near = difflib.get_close_matches(name, EVENTS, n=1, cutoff=0.85)
            assert not near or not callable(getattr(self.component, name)), (
                f"it has a method '{name}', which nothing calls: did you mean '{near[0]}'?"
            )
        assert set(methods) & set(EVENTS), (
            f"it has none of the methods {', '.join(EVENTS)}: it would be loaded and never told anything."
        )

    def test_a_run_goes_on_as_without_it(self) -> None:
        try:
            weights = _train(self.component)
        except Exception as error:
            raise AssertionError(
                f"it raised {type(error).__name__} ({error}) during an ordinary run: the run ends there."
            ) from error
        assert weights == _undisturbed(), (
            "a run that it observes ends with other weights than one that it does not: an observer must "
            "change nothing, not even mlx's random state."
        )


def _train(*observers: Any) -> bytes:
    """The adapters after two small steps with an evaluation and a checkpoint, as bytes."""
    from prefloop.runs.training import train

    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "model": "embedded:policy",
            "prompts": {"path": "embedded:prompts", "limit": 8},
            "judge": {"use": "rule", "length": "shorter"},
            "sampler": {"max_completion_length": 8},
            "adapter": {"rank": 2},
            "training": {"batch_size": 2, "iters": 2, "save_every": 1},
            "evaluation": {"held_out": 2},
            "output": {"path": str(Path(folder) / "run"), "report": False},
        }
        run = train(load_config(settings), observers=observers)
        return (run.path / "adapters.safetensors").read_bytes()


@cache
def _undisturbed() -> bytes:
    return _train()
