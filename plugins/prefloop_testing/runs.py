"""What algorithms and observers must do: an algorithm makes a configuration, an observer watches a run."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from prefloop.components import Observer
from prefloop.config import load_config
from prefloop.config.components import PRESET
from prefloop.errors import UserError
from prefloop_testing.suite import ComponentSuite, listed

EVENTS = tuple(name for name in vars(Observer) if not name.startswith("_") and name != "prepare")


class AlgorithmSuite(ComponentSuite):
    """Tests of an algorithm. `judge` is what a user has to add where the preset leaves the judge open."""

    kind: ClassVar[str] = "algorithm"
    judge: object = None

    def test_sets_only_what_is_its_to_set(self) -> None:
        unknown = listed(set(self.component.settings()) - set(PRESET))
        assert not unknown, (
            f"settings() sets {unknown}, but an algorithm may set only {listed(PRESET)}: every configuration "
            "with it would be refused."
        )

    def test_makes_a_configuration(self) -> None:
        registry, algorithm = self.under_test()
        settings = {"model": "embedded:policy", "prompts": "embedded:prompts", "algorithm": algorithm}
        judge = {} if self.judge is None else {"judge": self.judge}
        try:
            config = load_config({**settings, **judge}, registry=registry)
        except UserError as error:
            raise AssertionError(f"a configuration that only names it is refused: {error}") from error
        for key in self.component.settings():
            assert getattr(config, key) is not None, (
                f"settings() sets '{key}', but the configuration has none."
            )


class ObserverSuite(ComponentSuite):
    """Tests of an observer."""

    kind: ClassVar[str] = "observer"

    def test_sees_something(self) -> None:
        own = {event for event in EVENTS if hasattr(self.component, event)}
        assert own, f"it has no method that is called: {', '.join(EVENTS)}."

    def test_a_run_goes_on_as_without_it(self) -> None:
        try:
            weights = _train(self.component)
        except Exception as error:
            raise AssertionError(
                f"it raised {type(error).__name__} ({error}) during an ordinary run, which ended the run."
            ) from error
        assert weights == _train_unobserved(), (
            "a run that it observes ends with other weights: an observer must change nothing, not even mlx's "
            "random state."
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
def _train_unobserved() -> bytes:
    return _train()
