"""The bundled plugins through the configuration: presets, short forms, and the round trip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from prefloop.config import dump_config, load_config
from prefloop.config.options import KIND_OF, options_of
from prefloop.errors import UserError
from prefloop.registry import Registry
from prefloop_plugins.commands.init import template

if TYPE_CHECKING:
    from pathlib import Path

ALGORITHMS = [p.name for p in Registry().providers if p.kind == "algorithm" and p.distribution == "prefloop"]
START: dict[str, Any] = {"model": "m", "prompts": "p"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_round_trips_and_has_a_template(algorithm: str, tmp_path: Path) -> None:
    config = load_config({**START, "algorithm": algorithm})
    path = tmp_path / "c.yaml"
    path.write_text(dump_config(config), "utf-8")
    assert load_config(path) == config
    path.write_text(template(algorithm).replace("  path:\n", "  path: there\n"), "utf-8")
    assert load_config(path) == load_config({"model": "there", "prompts": "there", "algorithm": algorithm})


def test_algorithm_options_components_and_overrides_load_together() -> None:
    config = load_config(
        {
            **START,
            "algorithm": "xpo",
            "judge": "Qwen/Other",
            "loss": {"use": "dpop"},
            "bonuses": [{"use": "kl", "alpha": [1e-4, 1e-5]}],
        },
        ["sampler.temperature=0.2"],
    )
    options = {name: getattr(config.sampler, name) for name in options_of(type(config.sampler))}
    assert (options["temperature"], options["top_p"], options["max_completion_length"]) == (0.2, 0.95, 512)
    assert config.judge.model == "Qwen/Other"  # type: ignore[attr-defined]
    assert (config.loss.beta, config.loss.delta) == (0.1, 50.0)  # type: ignore[attr-defined]
    assert list(config.bonuses[0].alpha) == [1e-4, 1e-5]  # type: ignore[attr-defined]


def test_optimism_needs_a_sampler_that_draws_from_the_reference() -> None:
    with pytest.raises(UserError) as caught:
        load_config({**START, "bonuses": "optimism"})
    assert caught.value.problems == (
        (
            "configuration: bonuses.0: needs completions from the reference, and sampler "
            "'prefloop:policy' draws none. Use 'sampler: policy-reference'."
        ),
    )
    config = load_config({**START, "bonuses": "optimism", "sampler": "policy-reference"})
    assert len(config.bonuses) == 1


def test_every_bundled_component_has_options_with_help() -> None:
    registry = Registry()
    for provider in registry.providers:
        if provider.distribution == "prefloop":
            for option in options_of(provider.load()).values():
                assert option.help, f"{provider.kind} {provider.name}: {option.name}"
    assert set(KIND_OF.values()) == {p.kind for p in registry.providers}
