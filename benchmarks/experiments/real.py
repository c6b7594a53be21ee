"""The experiments on SmolLM2-135M-Instruct."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from benchmarks.experiments.arm import SMOLLM2, Arm, Options

ONLINE = Arm(
    "online",
    task="bright",
    steps=48,
    batch=4,
    evaluations=2,
    learning_rate=2e-4,
    optimizer={"bias_correction": True},
)
"""Towards VADER's sentiment, with 192 judgements."""
MIDDLE = 96
"""Judgements after which some experiments are read: later most arms win nearly always."""
AS_IT_IS = evolve(ONLINE, name="as above", rollout=8)
"""An arm of `towards`, with which others are compared after half of its steps."""


def pretrained() -> list[Arm]:
    """Where the pairs come from: 128 judgements each."""
    online = Arm("rollout 1", task="plain", steps=32, batch=4, evaluations=2)
    return [online, *(evolve(online, name=f"rollout {n}", rollout=n) for n in (4, 16))]


def towards() -> list[Arm]:
    """Online, with an exploration bonus, in rollouts and from a file."""
    bonus = {"use": "kl", "estimator": "exact", "alpha": 3e-3}
    return [
        ONLINE,
        evolve(ONLINE, name="XPO", bonuses=[bonus]),
        evolve(AS_IT_IS, name="iterative, 8 steps"),
        evolve(ONLINE, name="offline", sampler={"use": "dataset"}),
    ]


def goals() -> list[Arm]:
    """Other wishes, and a judge that only guesses that of `towards`; read after `MIDDLE` judgements."""
    taught = {"use": "learned", "model": SMOLLM2, "consensus": 0.51}
    return [
        evolve(AS_IT_IS, name="sentiment, by the lexicon"),
        _changed("sentiment, by a reward model", judge=taught, labels=600),
        _changed("reading ease", task="easy"),
        _changed("eight words", task="brief"),
    ]


def rates() -> list[Arm]:
    """Adam with bias correction, and without it at a rate whose steps are as long on average."""
    return [
        evolve(ONLINE, name="2e-4, with bias correction"),
        evolve(ONLINE, name="4e-5, without", learning_rate=4e-5, optimizer={}),
    ]


def rare() -> list[Arm]:
    """A rare style that the judge likes best."""
    online = evolve(ONLINE, task="shouted")
    bonus = {"use": "kl", "estimator": "sampled", "alpha": 5e-2}
    return [
        online,
        evolve(online, name="sampled, 0.05", bonuses=[bonus]),
        evolve(online, name="optimistic, 16", sampler={"use": "optimistic", "n": 16}),
    ]


def adapters() -> list[Arm]:
    """What is trained of the model; read after `MIDDLE` judgements."""
    options: dict[str, Options] = {
        "rank 2": {"rank": 2},
        "rank 32": {"rank": 32},
        "factor 5": {"scale": 5.0},
        "all 30 layers": {"layers": -1},
        "DoRA": {"type": "dora"},
    }
    full: Options = {"type": "full", "layers": -1}
    return [
        AS_IT_IS,
        *(_changed(name, adapter=adapter) for name, adapter in options.items()),
        _changed("base of 4 bits", bits=4),
        _changed("all weights, 1e-5", adapter=full, learning_rate=1e-5),
    ]


def steps() -> list[Arm]:
    """How a step is taken; read after `MIDDLE` judgements."""
    return [
        AS_IT_IS,
        _changed("1e-5, without bias correction", learning_rate=1e-5, optimizer={}),
        *(_changed(f"beta {beta:g}", loss={"use": "sigmoid", "beta": beta}) for beta in (0.03, 0.3)),
        *(_changed(f"batch {n}", batch=n, steps=MIDDLE // n, rollout=32 // n) for n in (2, 8)),
        *(_changed(f"temperature {t:g}", sampler={"use": "policy", "temperature": t}) for t in (0.5, 1.2)),
    ]


def _changed(name: str, **changes: Any) -> Arm:
    """One setting changed, for `MIDDLE` judgements, which are sampled 32 pairs at once."""
    return evolve(AS_IT_IS, name=name, **{"steps": MIDDLE // AS_IT_IS.batch, "evaluations": 1, **changes})


EXPERIMENTS = (pretrained, towards, rates, goals, rare, adapters, steps)
