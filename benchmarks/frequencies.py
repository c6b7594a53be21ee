"""Whether each engine samples from the model's distribution: ``python -m benchmarks.frequencies``.

Each engine draws many short completions of two prompts of unequal length. Their counts are held against the
probabilities that the model gives them when it reads them whole, without caches and with its adapters apart:
a chi-square test over every completion that is expected often enough, all others being one cell. ``--write``
keeps the results and puts them into docs/performance.md.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from statistics import NormalDist
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import click
import numpy as np
from attrs import asdict, evolve, frozen
from benchmarks.experiments.ground import QUESTIONS, REQUESTS
from benchmarks.harness import records
from benchmarks.harness.environments import installed
from benchmarks.harness.internals import POOL_BYTES, Generator, Stops, adapters, generator, pool
from benchmarks.harness.pages import markdown
from benchmarks.harness.worker import device

from prefloop import Policy, Prompt, Sampling
from prefloop.config import ModelConfig

if TYPE_CHECKING:  # the BLAS is loaded before mlx
    import mlx.core as mx
    import mlx.nn as nn

RESULTS = records.RESULTS / "frequencies.json"
SEED = 0
EXPECTED = 5
"""A cell of the test is expected so often at least."""
READ = 16
"""Prefixes that the model reads at a time."""
HEADS = ("sampled by", "tokens drawn by", "model", "settings", "draws", "cells", "chi-square", "p")

PLAIN = Sampling(temperature=1.0, top_p=1.0, max_tokens=3)
FILTERED = Sampling(temperature=0.8, top_p=0.9, top_k=20, min_p=0.02, max_tokens=3)

Tokens = tuple[int, ...]


@frozen
class Engine:
    """One way in which completions come about."""

    engine: str = "sample_pool"
    drawing: str = "mlx"
    model: str = "embedded"
    folded: bool = True
    """Whether adapters are added to the weights, which is done where the model is small."""
    reference: bool = False
    sampling: Sampling = PLAIN
    pool_bytes: int = POOL_BYTES
    calls: int = 40
    rows: int = 250
    """Completions of each prompt in a call."""

    @property
    def draws(self) -> int:
        return self.calls * self.rows


ENGINES: Mapping[str, Engine] = {
    "one pool": Engine(),
    "one pool, NumPy": Engine(drawing="NumPy"),
    "one pool, filters": Engine(sampling=FILTERED),
    "one pool, filters, NumPy": Engine(drawing="NumPy", sampling=FILTERED),
    "several pools": Engine(pool_bytes=2 << 20),
    "one pool, adapters apart": Engine(folded=False),
    "one pool, reference": Engine(reference=True),
    "one pool, 4 bits": Engine(model="embedded, 4 bits", folded=False),
    "pools of equal length": Engine(engine="_by_length"),
    "one by one": Engine(engine="_one_by_one", calls=8),
    "one pool, SmolLM2": Engine(
        drawing="NumPy",
        model="SmolLM2",
        folded=False,
        sampling=evolve(PLAIN, max_tokens=2),
        calls=10,
        rows=100,
    ),
}
TITLES = {
    "sample_pool": "one pool",
    "_by_length": "pools of equal length",
    "_one_by_one": "one by one",
}
CONTROL = "control"
"""The first engine's draws against the reference's distribution: the test has to notice."""


@frozen
class Fit:
    """How well counts fit their expectations, over all cells."""

    cells: int
    freedom: int
    chi_square: float

    @property
    def p(self) -> float:
        """The probability of so large a chi-square by chance, by Wilson and Hilferty's approximation."""
        spread = 2 / (9 * self.freedom)
        return NormalDist(1 - spread, spread**0.5).cdf(2 - 2 * spread - self._root)

    @property
    def _root(self) -> float:
        return math.cbrt(self.chi_square / self.freedom)


def distribution(logits: Any, sampling: Sampling) -> Any:
    """Each token's probability, ``[V]`` float64: filters as mlx-lm documents them, then the temperature."""
    p = np.exp(logits.astype(np.float64) - logits.max())
    p /= p.sum()
    order = np.argsort(-p)
    above = np.concatenate([[0.0], np.cumsum(p[order])[:-1]])
    keep = np.zeros(len(p), dtype=bool)
    keep[order[above < sampling.top_p]] = True
    keep &= p >= sampling.min_p * p.max()
    if sampling.top_k:
        keep[order[sampling.top_k :]] = False
    weights = np.where(keep, p ** (1 / sampling.temperature), 0.0)
    return weights / weights.sum()


def likely(
    model: nn.Module, prompt: Prompt, sampling: Sampling, ends: Callable[[Sequence[int]], bool], least: float
) -> dict[Tokens, float]:
    """The completions with a probability of at least `least`, and what it is."""
    found: dict[Tokens, float] = {}
    open_: dict[Tokens, float] = {(): 1.0}
    while open_:
        longer: dict[Tokens, float] = {}
        for prefix, mass, logits in _read(model, prompt, open_):
            p = mass * distribution(logits, sampling)
            for token in np.flatnonzero(p >= least).tolist():
                row = (*prefix, token)
                done = len(row) == sampling.max_tokens or ends(row)
                (found if done else longer)[row] = float(p[token])
        open_ = longer
    return found


def _read(
    model: nn.Module, prompt: Prompt, prefixes: Mapping[Tokens, float]
) -> Iterator[tuple[Tokens, float, Any]]:
    """Each prefix with its probability and the logits of what follows; they are equally long."""
    import mlx.core as mx

    rows = list(prefixes)
    for start in range(0, len(rows), READ):
        part = rows[start : start + READ]
        logits = np.array(model(mx.array([(*prompt.tokens, *row) for row in part]))[:, -1].astype(mx.float32))
        for row, own in zip(part, logits, strict=True):
            yield row, prefixes[row], own


def compare(counts: Mapping[Tokens, int], expected: Mapping[Tokens, float]) -> tuple[int, float]:
    """Cells and chi-square of the counts of one prompt's completions; the rarest join what is not named."""
    draws = sum(counts.values())
    named = sorted(expected, key=lambda row: -expected[row])
    left = 1 - sum(expected.values())
    while draws * min(left, expected[named[-1]]) < EXPECTED:
        left += expected[named.pop()]
    cells = [(counts.get(row, 0), draws * expected[row]) for row in named]
    cells.append((draws - sum(count for count, _ in cells), draws * left))
    return len(cells), sum((count - wanted) ** 2 / wanted for count, wanted in cells)


def measure(engine: Engine, *, against_reference: bool = False) -> Fit:
    """The fit of an engine's draws, for two prompts together."""
    policy, prompts = moved_policy(engine.model)
    ends = Stops.of(policy.tokenizer).ends
    drawn = _draw(engine, policy.reference if engine.reference else policy.model, policy.tokenizer, prompts)
    read = policy.reference if engine.reference or against_reference else policy.model
    found = []
    for prompt in prompts:
        expected = likely(read, prompt, engine.sampling, ends, EXPECTED / engine.draws)
        found.append(compare(Counter(drawn[prompt.text]), expected))
    cells = sum(cells for cells, _ in found)
    return Fit(cells, cells - len(prompts), sum(chi_square for _, chi_square in found))


def _draw(
    engine: Engine, model: nn.Module, tokenizer: Any, prompts: Sequence[Prompt]
) -> dict[str, list[Tokens]]:
    """The completions of each prompt, call by call with seeds of their own, as a run's steps are sampled."""
    sampler = Generator(model, tokenizer, pool_bytes=engine.pool_bytes)
    sampler._engines = [getattr(generator, engine.engine)]
    drawn: dict[str, list[Tokens]] = {prompt.text: [] for prompt in prompts}
    asked = [prompt for prompt in prompts for _ in range(engine.rows)]
    with decided_by(engine):
        for call in range(engine.calls):
            completions = sampler(asked, engine.sampling, seed=SEED * 1_000_003 + 2 * call)
            for prompt, completion in zip(asked, completions, strict=True):
                drawn[prompt.text].append(completion.tokens)
    return drawn


@contextmanager
def decided_by(engine: Engine) -> Iterator[None]:
    """What prefloop decides by size, decided by the engine."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(pool, "on_cpu", lambda: engine.drawing == "NumPy"))
        if not engine.folded:
            stack.enter_context(patch.object(adapters, "FUSE_LIMIT", 0))
        yield


def moved_policy(model: str) -> tuple[Policy, list[Prompt]]:
    """A policy that has left its start, and its shortest and longest prompt."""
    import mlx.core as mx
    from mlx.utils import tree_map_with_path

    ground = REQUESTS if model == "SmolLM2" else QUESTIONS
    config = ModelConfig(path=ground.path(), quantize="4bit" if model.endswith("4 bits") else "none")
    policy = Policy.load(config, seed=SEED)
    random = np.random.default_rng(SEED)

    def moved(path: str, weight: mx.array) -> mx.array:
        """The second factor of every adapter is zero at the start."""
        return mx.array(random.normal(0, 0.02, weight.shape), weight.dtype) if "lora_b" in path else weight

    policy.model.update(tree_map_with_path(moved, policy.model.trainable_parameters()))
    prompts = sorted(ground.held_out(policy), key=lambda prompt: len(prompt.tokens))
    return policy, [prompts[0], prompts[-1]]


def row(name: str, found: Mapping[str, Any]) -> list[str]:
    engine, fit = ENGINES.get(name, ENGINES["one pool"]), Fit(**found)
    weights = "reference" if engine.reference else "adapters " + ("folded" if engine.folded else "apart")
    pools = "several pools" if engine.pool_bytes < POOL_BYTES else TITLES[engine.engine]
    return [
        pools + (", held against the reference" if name == CONTROL else ""),
        engine.drawing,
        f"{engine.model}, {weights}",
        "filters" if engine.sampling == FILTERED else "plain",
        f"{2 * engine.draws:,}",
        str(fit.cells),
        f"{fit.chi_square:,.0f}",
        f"{fit.p:.2f}" if fit.p >= 0.01 else "under 0.01",
    ]


def block(name: str) -> str:
    """What the page shows: ``table``, or ``origin``, what all were measured with."""
    results = records.load(RESULTS)
    shows = {
        "origin": lambda: records.origin(list(results.values())),
        "table": lambda: markdown(HEADS, (row(n, one["found"]) for n, one in results.items()), numbers=False),
    }
    return shows[name]()


@click.command(help="Hold what ENGINES sample against the model's probabilities.")
@click.argument("names", metavar="[ENGINES]...", nargs=-1, type=click.Choice([*ENGINES, CONTROL]))
@click.option("--write", is_flag=True, help="Keep the results and write them into the page.")
def main(names: Sequence[str], write: bool) -> None:
    from benchmarks import pages

    from prefloop.cli.common import configure_process

    configure_process()
    for name in names or [*ENGINES, CONTROL]:
        engine = ENGINES.get(name, ENGINES["one pool"])
        found = asdict(measure(engine, against_reference=name == CONTROL))
        click.echo(f"{name}: {', '.join(row(name, found)[4:])}")
        if write:
            versions = installed(("prefloop", "mlx", "mlx-lm", "numpy"))
            result = {"provenance": records.provenance(device(), versions), "found": found}
            records.keep(RESULTS, name, result, [*ENGINES, CONTROL])
            pages.write()


if __name__ == "__main__":
    main()
