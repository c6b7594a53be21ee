"""Algorithms set four keys; the user's own keys go on top."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from prefloop.config import dump_config, load_config
from support.fake_plugins import Draws, DrawsFromReference, Kl, Llm, Plain, Sigmoid

if TYPE_CHECKING:
    from prefloop.registry import Registry


def load(registry: Registry, **settings: Any) -> Any:
    return load_config({"model": "m", "prompts": "p", **settings}, registry=registry)


def test_a_preset_sets_its_components(registry: Registry) -> None:
    config = load(registry, algorithm={"use": "xpo", "alpha": 2})
    assert config.sampler == Draws(temperature=1.0)
    assert config.judge == Llm(orders="first")
    assert config.loss == Sigmoid(0.5)
    assert config.bonuses == (Kl(2.0),)


@pytest.mark.parametrize(
    ("given", "key", "expected"),
    [
        ({"loss": {"penalty": "outside"}}, "loss", Sigmoid(0.5, "outside")),
        ({"loss": {"use": "sigmoid", "penalty": "outside"}}, "loss", Sigmoid(0.5, "outside")),
        ({"loss": {"use": "prefloop:sigmoid", "beta": 2}}, "loss", Sigmoid(2.0)),
        ({"loss": "sigmoid"}, "loss", Sigmoid(0.5)),
        ({"judge": "human"}, "judge", Plain()),
        ({"judge": "Qwen/Other"}, "judge", Llm("Qwen/Other", orders="first")),
        ({"sampler": "policy-reference"}, "sampler", DrawsFromReference()),
        ({"bonuses": []}, "bonuses", ()),
        ({"bonuses": "kl"}, "bonuses", (Kl(1e-5),)),
    ],
)
def test_given_settings_go_on_top_of_a_preset(
    registry: Registry, given: dict[str, Any], key: str, expected: object
) -> None:
    assert getattr(load(registry, algorithm={"use": "xpo", "alpha": 2}, **given), key) == expected


def test_a_problem_in_a_preset_names_the_preset(registry: Registry) -> None:
    from prefloop.errors import UserError

    with pytest.raises(UserError) as caught:
        load(registry, algorithm={"use": "xpo", "alpha": 1}, loss={"beta": 0})
    assert caught.value.problems == ("configuration: loss.beta: must be > 0, not 0.0.",)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"algorithm": {"use": "xpo", "alpha": 3}},
        {"algorithm": "xpo", "bonuses": []},
        {"algorithm": "xpo", "judge": "human", "sampler": "policy-reference", "bonuses": ["kl", "optimism"]},
        {"judge": {"use": "committee", "members": ["human", "a/b"], "weights": {"x": 1}, "chair": "llm"}},
        {"judge": "acme:near-length", "observers": ["tracker"], "plugins": {"disable": []}},
        {"evaluation": {"judge": "human", "temperature": 0.0}, "reference": "start"},
        {"training": {"optimizer": {"use": "adam", "betas": [0.8, 0.9]}, "epochs": 1e-5}},
        {"training": {"schedule": {"use": "cosine_decay", "warmup": 3, "end": 1e-7}}},
        {"prompts": {"path": "p", "system": "no", "name": "1e-5"}, "adapter": {"keys": ["q", "v"]}},
        {"judge": {"system": "First line.\n\n  - {braces}: yes\nLast: é “quoted” \u2028 #x \n"}},
    ],
)
def test_a_dumped_configuration_loads_to_the_same(
    installed: None, tmp_path: Any, settings: dict[str, Any]
) -> None:
    config = load_config({"model": "m", "prompts": "p", **settings})
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config), "utf-8")
    again = load_config(path)
    assert again == config
    assert dump_config(again) == dump_config(config)


def test_names_are_written_qualified(registry: Registry) -> None:
    text = dump_config(load(registry, algorithm="xpo", observers="tracker"))
    assert "judge:\n  use: prefloop:llm\n" in text
    assert "observers:\n  - use: acme:tracker\n    project: prefloop\n" in text
    assert "algorithm:\n  use: prefloop:xpo\n" in text
    assert "registry" not in text


def test_a_component_that_no_plugin_offers_is_written_as_its_class(registry: Registry) -> None:
    import attrs

    class Mine:
        def judge(self, pairs: Any) -> list[Any]:
            return []

    text = dump_config(attrs.evolve(load(registry), judge=Mine()))
    name = "test_a_component_that_no_plugin_offers_is_written_as_its_class.<locals>.Mine"
    assert f"judge:\n  use: test_presets:{name}\n" in text


def test_a_component_made_elsewhere_keeps_its_name(registry: Registry) -> None:
    import attrs

    text = dump_config(attrs.evolve(load(registry), loss=Sigmoid(0.7), bonuses=(Kl(),)))
    assert "loss:\n  use: prefloop:sigmoid\n  beta: 0.7\n" in text
    assert "bonuses:\n  - use: prefloop:kl\n" in text
