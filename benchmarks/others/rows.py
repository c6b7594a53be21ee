"""What is trained: the rows of the table, each with one seed after another."""

from __future__ import annotations

from attrs import frozen
from benchmarks.others.task import Job

RATE = 2e-4
"""The quick start's learning rate."""
SWEEP = (1e-4, 2e-4, 2.8e-4, 4e-4, 8e-4, 1.2e-3, 1.6e-3, 3.2e-3)
SWEEP_SEEDS = (100, 101)
"""Apart from the seeds that are reported, so that choosing a rate by them favours nobody."""
FACTS_KEPT = 0.9
"""A learning rate that leaves fewer facts right is nobody's best, whatever the judge likes."""
ALPHAS = (1e-5, 1e-2)
"""The default of prefloop and mlx-lm-lora, and one that is large enough to show."""
XPO: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("prefloop, exact", "prefloop", ()),
    ("prefloop, sampled", "prefloop", ("sampled",)),
    ("prefloop, sampled, prompt", "prefloop", ("sampled", "prompt")),
    ("mlx-lm-lora", "mlx-lm-lora", ()),
)
TOOLS = ("prefloop", "mlx-lm-lora", "trl")
SINGLE = ("ties", "no-stop", "no-clip", "torch-adam")
LIKE_MLX_LM_LORA = ("ties", "no-stop", "no-clip")
LIKE_TRL = ("ties", "torch-adam")


@frozen
class Row:
    """A row of one of the page's tables."""

    table: str
    name: str
    tool: str
    learning_rate: float = RATE
    algorithm: str = "online_dpo"
    alpha: float = 0.0
    changes: tuple[str, ...] = ()

    def job(self, seed: int) -> Job:
        return Job(self.tool, seed, self.learning_rate, self.algorithm, self.alpha, self.changes)


def same_rate() -> list[Row]:
    """Online DPO with all three, at the quick start's learning rate."""
    return [Row("same rate", tool, tool) for tool in TOOLS]


def sweep() -> list[Row]:
    """Online DPO at several learning rates, to choose each tool's best."""
    return [Row("sweep", tool, tool, rate) for tool in TOOLS for rate in SWEEP]


def best_rate(rates: dict[str, float]) -> list[Row]:
    """Online DPO with all three, each at its own best learning rate."""
    return [Row("best rate", tool, tool, rate) for tool, rate in rates.items()]


def differences() -> list[Row]:
    """prefloop with one thing, then everything named, done in another tool's way."""
    singles = [Row("differences", change, "prefloop", changes=(change,)) for change in SINGLE]
    return [
        *singles,
        Row("differences", "like mlx-lm-lora", "prefloop", changes=LIKE_MLX_LM_LORA),
        Row("differences", "like trl", "prefloop", changes=LIKE_TRL),
    ]


def xpo() -> list[Row]:
    """XPO as mlx-lm-lora means it, with both estimators of prefloop's."""
    return [
        Row("xpo", name, tool, algorithm="xpo", alpha=alpha, changes=changes)
        for alpha in ALPHAS
        for name, tool, changes in XPO
        if not (alpha < 1e-3 and changes)  # so small a bonus tells no estimators apart
    ]
