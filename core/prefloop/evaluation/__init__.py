"""How good the policy has become: it is compared with another model, prompt by prompt, by a judge."""

from __future__ import annotations

from prefloop.evaluation.evaluator import Evaluator, Opponent, sampling_of
from prefloop.evaluation.stats import length_controlled, wilson, win_rate

__all__ = ["Evaluator", "Opponent", "length_controlled", "sampling_of", "wilson", "win_rate"]
