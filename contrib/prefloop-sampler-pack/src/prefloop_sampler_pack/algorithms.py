"""The algorithm `optimistic`: Online DPO that looks for what is better than the common good answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen


@frozen
class OptimisticDpo:
    """Online DPO in which, of n completions of the policy, the two whose label promises most are judged.

    It found the rare good answer in `docs/experiments/exploration.md` with all seeds, which no bonus did, and
    a rare style of a real model in `docs/experiments/real.md`.
    After Liu et al., Sample-Efficient Alignment for LLMs, arXiv 2411.01493, with upper confidence bounds in
    the place of Thompson sampling.
    """

    def settings(self) -> Mapping[str, Any]:
        """The four keys, as one writes them in YAML."""
        return {
            "sampler": {"use": "optimistic"},
            "judge": {"use": "llm"},
            "loss": {"use": "sigmoid"},
            "bonuses": [],
        }
