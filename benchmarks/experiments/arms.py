"""The experiments: which settings are compared with which. Those on SmolLM2 are in `real`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import evolve
from benchmarks.experiments import real
from benchmarks.experiments.arm import Arm, Options

RATES = (0.0, 0.1, 0.2, 0.3, 0.4)
LOSSES = ("sigmoid", "hinge", "ipo", "dpop")
FAULTS = ("flip", "place", "length")
BIASES = (0.0, 2.0, 4.0)
ESTIMATORS = {"exact": (3e-3, 1e-2, 3e-2), "k2": (1e-2, 3e-2, 1e-1), "sampled": (1e-2, 2.5e-2, 5e-2)}
OPTIMISM = (3e-4, 1e-3, 4e-3)
PENALTIES = (1e-3, 1e-2)
"""Weights of GEB's bonus (arXiv 2510.03269) for the forward KL: what was rejected is made less likely."""
NOVELTY = (1e-2, 5e-2, 2e-1)
"""Weights of COPO's bonus (arXiv 2501.12735), whose share of what a loss pulls falls with every label."""
ENTROPIES = (1e-2, 3e-2)
BETAS = (0.1, 0.5)
"""How far PILAF (arXiv 2502.04270) goes from the policy: the loss's beta, and more."""
DECAYS = {"exact": (3e-2, 3e-3, 0.0), "sampled": (5e-2, 1e-2, 0.0), "paper": (4e-3, 1e-3, 0.0)}
"""Weights for the first epoch, the second and the rest; a run has 2.2 epochs."""
ALONE = {"use": "person"}
LLM = {"use": "llm", "model": "embedded:judge", "system": "Prefer the warmer, friendlier answer."}
LEARNED = {"use": "learned", "model": "embedded:policy"}
LABELS = (30, 60, 120)
PEOPLES_TASKS = ("warm", "talk")
SHORT = Arm("", steps=24, evaluations=1, learning_rate=2e-4)
"""Where the judge or the loss is at stake: 192 judgements."""


def _faulty(rate: float, fault: str = "flip") -> dict[str, Any]:
    return {"use": "faulty", "rate": rate, "fault": fault} if rate else {"use": "faulty"}


def freshness() -> list[Arm]:
    """Where the pairs come from: 480 judgements each."""
    online = Arm("online", steps=60, evaluations=6)
    offline = evolve(online, name="offline", sampler={"use": "dataset"})
    return [
        online,
        *(evolve(online, name=f"iterative, {n} steps", rollout=n) for n in (4, 16, 30)),
        offline,
        evolve(offline, name="offline, beta 0.5", loss={"use": "sigmoid", "beta": 0.5}),
        evolve(offline, name="offline, half the learning rate", learning_rate=5e-5),
    ]


def singles() -> list[Arm]:
    """One pair to an update, sampled in pools: 480 judgements each."""
    online = Arm("online", steps=480, batch=1, evaluations=4, learning_rate=3e-5)
    return [online, *(evolve(online, name=f"rollout {n}", rollout=n) for n in (16, 64))]


def losses() -> list[Arm]:
    """The four losses with their defaults, under flipped labels."""
    return [
        evolve(SHORT, name=f"{loss}, {rate:.0%}", loss={"use": loss}, judge=_faulty(rate))
        for rate in RATES
        for loss in LOSSES
    ]


def labels() -> list[Arm]:
    """Soft and hard labels, one order and both, from a judge that likes what it is shown first."""
    return [
        evolve(
            SHORT,
            name=f"{kind}, {('one order', 'both orders')[orders - 1]}, bias {bias:g}",
            loss={"use": "sigmoid", "soft_labels": kind == "soft"},
            judge={"use": "graded", "bias": bias, "orders": orders},
        )
        for bias in BIASES
        for orders in (1, 2)
        for kind in ("hard", "soft")
    ]


def faults() -> list[Arm]:
    """What is learnt where a share of the verdicts is flipped, or goes to a place or to length."""
    return [
        evolve(SHORT, name=f"{fault}, {rate:.0%}", judge=_faulty(rate, fault))
        for rate in RATES
        for fault in FAULTS
    ]


def exploration() -> list[Arm]:
    """Bonuses, where the best answer is rare under the reference and a common one is better than most."""
    online = Arm("online", task="trap", steps=60, evaluations=3)
    paired = evolve(online, name="reference sample, no bonus", sampler={"use": "policy-reference"})
    found = [online, paired]
    for estimator, alphas in ESTIMATORS.items():
        found += [_xpo(online, f"{estimator}, {alpha:g}", estimator, alpha) for alpha in alphas]
    found += [_xpo(paired, f"paper, {alpha:g}", "paper", alpha) for alpha in OPTIMISM]
    for name, alphas in DECAYS.items():
        found.append(_xpo(paired if name == "paper" else online, f"{name}, decayed", name, alphas))
    both_ways = evolve(online, name="online, ties half", ties="half")
    found += [both_ways, _xpo(both_ways, "sampled, 0.05, ties half", "sampled", 5e-2)]
    for weight in PENALTIES:
        penalty = {"use": "vpo", "base": "rejected", "alpha": weight, "beta": 1.0}
        found.append(evolve(online, name=f"rejected less likely, {weight:g}", bonuses=[penalty]))
    for use, alphas in (("entropy", ENTROPIES), ("copo", NOVELTY)):
        found += [_with(online, use, alpha) for alpha in alphas]
    found.append(evolve(_with(both_ways, "copo", NOVELTY[-1]), name=f"copo, {NOVELTY[-1]:g}, ties half"))
    few = {"use": "best-of-n", "n": 8, "judge": online.judge, "rejected": "worst-of-5"}
    found.append(evolve(online, name="best of 8, the worst of five", sampler=few, steps=online.steps // 10))
    found += [*(_scored(online, n) for n in (4, 8)), *(_pilaf(online, beta) for beta in BETAS)]
    return [*found, *_searching(online, (8, 16, 32))]


def chain() -> list[Arm]:
    """Samplers and the bonuses that found something, where the best answer takes two rare choices."""
    online = Arm("online", task="chain", steps=60, evaluations=3)
    bonuses = [_with(online, "entropy", ENTROPIES[-1]), _with(online, "copo", NOVELTY[-1])]
    found = [online, _xpo(online, "sampled, 0.05", "sampled", 5e-2), *bonuses, _pilaf(online, BETAS[-1])]
    return [*found, *_searching(online, (16, 64))]


def no_trap() -> list[Arm]:
    """The same samplers where nothing is hidden: 480 judgements on the task of `freshness`."""
    online = freshness()[0]
    return [online, *_choosing(online, (16,))]


def _searching(online: Arm, candidates: Sequence[int]) -> list[Arm]:
    """Samplers that look for something, each with the judgements of `online`."""
    ranked = {"use": "best-of-n", "n": 4, "judge": online.judge}  # four judgements to rank, and the pair's
    return [
        evolve(online, name="temperature 1.5", sampler={"use": "policy", "temperature": 1.5}),
        evolve(online, name="best of 4, ranked by the judge", sampler=ranked, steps=online.steps // 5),
        *_choosing(online, candidates),
    ]


def _scored(online: Arm, n: int) -> Arm:
    """The best of n against who is two deviations below the mean, in eight updates."""
    steps, asked = 8, n * (n - 1) // 2 + 1  # all meet all to be scored, and the pair is judged
    sampler = {"use": "best-of-n", "n": n, "judge": online.judge}
    sampler |= {"tournament": "round-robin", "rejected": "mean-2sd"}
    batch = online.steps * online.batch // (steps * asked)
    return evolve(
        online, name=f"best of {n}, two deviations below", sampler=sampler, steps=steps, batch=batch
    )


def _pilaf(online: Arm, beta: float) -> Arm:
    return evolve(online, name=f"pilaf, {beta:g}", sampler={"use": "pilaf", "beta": beta})


def _choosing(online: Arm, candidates: Sequence[int]) -> list[Arm]:
    """The samplers that choose the pair from so many completions, by the labels so far."""
    return [
        evolve(online, name=f"{use}, {n}", sampler={"use": use, "n": n})
        for use in ("thompson", "optimistic")
        for n in candidates
    ]


def people() -> list[Arm]:
    """A person's labels: on every pair, or on some of them beside a cheap judge, on two tasks."""
    return [evolve(arm, name=f"{task}: {arm.name}", task=task) for task in PEOPLES_TASKS for arm in _asking()]


def _asking() -> list[Arm]:
    alone = Arm("the person alone", judge=ALONE, steps=38, evaluations=10)
    found = [alone]
    for labels in LABELS:
        chosen = {"budget": labels, "budget_per_step": labels // 15}
        judges: dict[str, Options] = {
            "llm, random pairs": {"members": [LLM, ALONE], "margin": 0.0, "audit": labels / 304},
            "llm, chosen pairs": {"members": [LLM, ALONE], "margin": 0.49, **chosen},
            "learned": {"members": [LEARNED, ALONE], **chosen},
            "learned, then llm": {"members": [LEARNED, LLM, ALONE], **chosen},
        }
        for name, options in judges.items():
            judge = {"use": "cascade", "budget": labels, **options}
            found.append(evolve(alone, name=f"{name}, {labels} labels", judge=judge, evaluations=2))
    return found


def _with(plain: Arm, bonus: str, alpha: float) -> Arm:
    return evolve(plain, name=f"{bonus}, {alpha:g}", bonuses=[{"use": bonus, "alpha": alpha}])


def _xpo(plain: Arm, name: str, bonus: str, alpha: float | tuple[float, ...]) -> Arm:
    options = {"use": "optimism"} if bonus == "paper" else {"use": "kl", "estimator": bonus}
    return evolve(plain, name=name, bonuses=[{**options, "alpha": alpha}])


EXPERIMENTS = {
    f.__name__: f
    for f in (
        freshness,
        singles,
        losses,
        exploration,
        chain,
        no_trap,
        labels,
        faults,
        people,
        *real.EXPERIMENTS,
    )
}
"""By the name that the command line and the pages use."""
