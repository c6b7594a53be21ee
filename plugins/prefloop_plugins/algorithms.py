"""Presets: a sampler, a judge, a loss and bonuses that make up an algorithm under a known name.

A preset holds only what makes the algorithm what it is; every other option keeps the default of the
component that has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen
from attrs.validators import in_

from prefloop_plugins.bonuses import (
    ALPHA_HELP,
    ESTIMATOR_HELP,
    ESTIMATORS,
    Alpha,
    Estimator,
    as_alpha,
    check_alpha,
)

Settings = Mapping[str, Any]


@frozen
class OnlineDpo:
    """Online DPO: both completions from the live policy, judged by a language model.

    Source: Guo et al., Direct Language Model Alignment from Online AI Feedback, arXiv 2402.04792.
    """

    def settings(self) -> Settings:
        """The four keys, as one writes them in YAML."""
        return _settings()


@frozen
class Xpo:
    """Online DPO with a bonus for moving away from the reference (`Kl`).

    mlx-lm-lora's XPO has the estimator ``sampled``; `XpoPaper` is the paper's. In the experiment of
    `docs/experiments/exploration.md`, ``exact`` and ``k2`` found the rare answer at none of the
    weights tried. Only ``sampled`` did, with some seeds, and not with ``judging.ties: half``.
    """

    alpha: Alpha = field(
        default=1e-5, converter=as_alpha, validator=check_alpha, metadata={"help": ALPHA_HELP}
    )
    estimator: Estimator = field(
        default="exact", validator=in_(tuple(ESTIMATORS)), metadata={"help": ESTIMATOR_HELP}
    )

    def settings(self) -> Settings:
        """The four keys, as one writes them in YAML."""
        return _settings({"use": "kl", "alpha": _plain(self.alpha), "estimator": self.estimator})


@frozen
class XpoPaper:
    """XPO as published: one completion from the policy, one from the reference, and optimism.

    Source: Xie et al., Exploratory Preference Optimization, arXiv 2405.21046, algorithm 1.
    """

    alpha: Alpha = field(
        default=1e-5, converter=as_alpha, validator=check_alpha, metadata={"help": ALPHA_HELP}
    )

    def settings(self) -> Settings:
        """The four keys, as one writes them in YAML."""
        return _settings({"use": "optimism", "alpha": _plain(self.alpha)}, sampler="policy-reference")


@frozen
class OfflineDpo:
    """DPO on a preference data set, which `prompts` names: its completions and its labels.

    Source: Rafailov et al., Direct Preference Optimization, arXiv 2305.18290.
    """

    def settings(self) -> Settings:
        """The four keys, as one writes them in YAML."""
        return _settings(sampler="dataset", judge="label")


def _settings(*bonuses: Settings, sampler: str = "policy", judge: str = "llm") -> Settings:
    return {
        "sampler": {"use": sampler},
        "judge": {"use": judge},
        "loss": {"use": "sigmoid"},
        "bonuses": list(bonuses),
    }


def _plain(alpha: Alpha) -> float | list[float]:
    """YAML knows lists, not tuples."""
    return list(alpha) if isinstance(alpha, tuple) else alpha
