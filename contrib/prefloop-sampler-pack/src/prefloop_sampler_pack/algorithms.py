"""The algorithm `thompson`: Online DPO on pairs that Thompson sampling chooses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen


@frozen
class ThompsonDpo:
    """Online DPO that explores: of n completions of the policy, the two whose label promises most are judged.

    Source: Liu et al., Sample-Efficient Alignment for LLMs, arXiv 2411.01493, with the belief of `Exploring`
    in the place of their ensemble.
    """

    def settings(self) -> Mapping[str, Any]:
        """The four keys, as one writes them in YAML."""
        return {
            "sampler": {"use": "thompson"},
            "judge": {"use": "llm"},
            "loss": {"use": "sigmoid"},
            "bonuses": [],
        }
