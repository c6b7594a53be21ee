"""The bundled presets: what each is made of, and that all of it exists with those options."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import fields

from prefloop import component
from prefloop.registry import Registry

DPO = {"sampler": {"use": "policy"}, "judge": {"use": "llm"}, "loss": {"use": "sigmoid"}, "bonuses": []}
KL = {"use": "kl", "alpha": 1e-5, "estimator": "exact"}
OPTIMISM = {"use": "optimism", "alpha": 1e-5}

PRESETS = [
    ("online_dpo", {}, DPO),
    ("xpo", {}, DPO | {"bonuses": [KL]}),
    (
        "xpo",
        {"alpha": [1e-4, 1e-5], "estimator": "k2"},
        DPO | {"bonuses": [{"use": "kl", "alpha": [1e-4, 1e-5], "estimator": "k2"}]},
    ),
    ("xpo_paper", {}, DPO | {"sampler": {"use": "policy-reference"}, "bonuses": [OPTIMISM]}),
    (
        "xpo_paper",
        {"alpha": 0.5},
        DPO | {"sampler": {"use": "policy-reference"}, "bonuses": [{"use": "optimism", "alpha": 0.5}]},
    ),
    ("offline_dpo", {}, DPO | {"sampler": {"use": "dataset"}, "judge": {"use": "label"}}),
]


@pytest.mark.parametrize(("name", "options", "expected"), PRESETS)
def test_an_algorithm_sets_its_components(
    name: str, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert component("algorithm", name)(**options).settings() == expected


@pytest.mark.parametrize(("name", "options", "expected"), PRESETS)
def test_components_named_by_an_algorithm_exist(
    name: str, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    settings, registry = component("algorithm", name)(**options).settings(), Registry()
    assert settings.keys() == expected.keys()
    for kind in ("sampler", "judge", "loss"):
        assert registry.find(kind, settings[kind]["use"]).distribution == "prefloop"
    for bonus in settings["bonuses"]:
        given = {k: v for k, v in bonus.items() if k != "use"}
        built = registry.component("bonus", bonus["use"])(**given)
        assert {f.name for f in fields(type(built))} == given.keys()


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="'alpha' must be finite and >= 0"):
        component("algorithm", "xpo")(alpha=-1.0)
    with pytest.raises(ValueError, match="'estimator' must be in"):
        component("algorithm", "xpo")(estimator="k3")
    with pytest.raises(ValueError, match="'alpha' must hold at least one number"):
        component("algorithm", "xpo_paper")(alpha=[])
