"""Warnings of style and of over-optimisation over seeds: ``python -m benchmarks.meters``.

A policy that answers simple questions with or without Markdown, a sentence of padding, a hedge, and one of
four remarks of equal length is trained with a judge that goes by the remark (clean runs), with one that likes
Markdown and length, and with one that likes length; a second judge is asked too. Counted are the runs
in which the terminal or the report warns. ``--write`` keeps the results and puts them into the page.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
from benchmarks.harness import records
from benchmarks.harness.environments import installed
from benchmarks.harness.internals import (
    Alarms,
    drifts,
    findings,
    local_path,
    over_optimised,
    read_run,
    style,
    wilson,
)
from benchmarks.harness.pages import markdown
from benchmarks.harness.worker import device
from scripts.embedded.facts import split_questions

from prefloop import Observer, load_config, load_model, train
from prefloop.types import Evaluation, Pair, Progress, Verdict

RESULTS = records.RESULTS / "meters.json"
REMARKS = ("I like the rivers.", "I like the towers.", "I like the apples.", "I like the clouds.")
PADDING = "There is much that one could say about this."
JUDGES: Mapping[str, Mapping[str, Any]] = {
    "content": {"use": "rule", "prefer": ["rivers", "apples"]},
    "length and Markdown": {"use": "rule", "prefer": [r"\*\*"], "length": "longer"},
    "length": {"use": "rule", "length": "longer"},
}
SECOND: Mapping[str, Mapping[str, Any]] = {
    "content": {"use": "rule", "prefer": ["rivers"], "avoid": ["clouds"]},
    "length and Markdown": {"use": "rule", "prefer": ["rivers"], "avoid": ["clouds"]},
    "length": {"use": "rule", "length": "shorter"},
}
"""The second judge in such a run: one that mostly agrees about content, and one that likes short answers."""
SEEDS = {"content": 20, "length and Markdown": 5, "length": 5}
STEPS, EVERY, BATCH = 24, 8, 8
TUNING, ROWS = 300, 32
HEADS = ("judge that taught", "runs", "win rate after", "style", "over-optimisation", "win rate with length")


def answer(rng: random.Random, sentence: str) -> str:
    """A right answer in a style that is drawn part by part."""
    said = f"**{sentence}**" if rng.random() < 0.3 else sentence
    said = f"I think that {said}" if rng.random() < 0.2 else said
    return " ".join([said, *([PADDING] if rng.random() < 0.3 else []), rng.choice(REMARKS)])


def write_policy(folder: Path) -> None:
    """The embedded policy, tuned on such answers, as a model folder."""
    import mlx.core as mx
    import mlx.nn as nn
    import mlx.optimizers as optim
    from mlx.utils import tree_flatten

    mx.random.seed(0)
    rng = random.Random(0)
    loaded = load_model("embedded:policy", dtype="float32")
    model, tokenizer = loaded.model, loaded.tokenizer
    questions, _ = split_questions()

    def batch() -> tuple[mx.array, mx.array]:
        rows, learnt = [], []
        for question, fact in rng.sample(questions, ROWS):
            asked = [{"role": "user", "content": question}]
            prompt = list(tokenizer.apply_chat_template(asked, add_generation_prompt=True))
            said = tokenizer.encode(answer(rng, fact.sentence), add_special_tokens=False)
            rows.append([*prompt, *said, tokenizer.eos_token_id])
            learnt.append([0] * len(prompt) + [1] * (len(said) + 1))
        longest = max(map(len, rows))
        ids, weights = ([row + [0] * (longest - len(row)) for row in found] for found in (rows, learnt))
        return mx.array(ids), mx.array(weights)

    def loss(ids: mx.array, learnt: mx.array) -> mx.array:
        losses = nn.losses.cross_entropy(model(ids[:, :-1]), ids[:, 1:])
        return (losses * learnt[:, 1:]).sum() / learnt[:, 1:].sum()

    optimizer = optim.AdamW(2e-3)
    step = nn.value_and_grad(model, loss)
    model.train()
    for _ in range(TUNING):
        optimizer.update(model, step(*batch())[1])
        mx.eval(model.parameters(), optimizer.state)
    shutil.copytree(local_path("embedded:policy"), folder)
    mx.save_safetensors(
        str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())), metadata={"format": "mlx"}
    )


class Listening(Observer):
    """Keeps what the terminal would have said after an evaluation."""

    def __init__(self) -> None:
        self.alarms, self.said = Alarms(), []

    def pairs_judged(self, progress: Progress, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        self.said += self.alarms.judged(pairs, verdicts)

    def evaluated(self, evaluation: Evaluation) -> None:
        self.said += self.alarms.evaluated(evaluation)


def run(model: Path, judge: str, seed: int) -> dict[str, Any]:
    """One run, and which of the checks warned while it went on or in its report."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "model": {"path": str(model), "dtype": "float32"},
            "prompts": "embedded:prompts",
            "judge": JUDGES[judge],
            "evaluation": {"prompts": "embedded:held_out", "judge": ["training", SECOND[judge]]},
            "sampler": {"max_completion_length": 48, "temperature": 1.0, "top_p": 1.0},
            "training": {
                "iters": STEPS,
                "batch_size": BATCH,
                "evaluate_every": EVERY,
                "learning_rate": 1e-4,
                "seed": seed,
            },
            "output": {"path": f"{folder}/run", "report": False},
        }
        listening = Listening()
        done = train(load_config(settings), observers=[listening])
        files = read_run(done.path)
    checks = {"style": style, "over-optimisation": over_optimised, "length": findings.length}
    found = {name: check(files) for name, check in checks.items()}
    warned = {
        name: bool(f and f.level == "warning") or any(t.startswith(_TITLES[name]) for t in listening.said)
        for name, f in found.items()
    }
    last = files.evaluations[-1]
    risen = [d.measure.name for d in drifts(last, len(files.evaluations) - 1)]
    rates = [last.win_rate.rate, last.others[0].win_rate.rate]
    return {"judge": judge, "seed": seed, "rates": rates, "warned": warned, "risen": risen}


_TITLES = {
    "style": "The win rate came with style",
    "over-optimisation": "The judge that taught is over-optimised",
    "length": "The win rate grew",
}


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """For each judge, the mean of the win rates after training, and in how many runs each check warned."""

    def lines() -> Iterator[list[str]]:
        for judge in dict.fromkeys(found["judge"] for found in runs):
            of = [found for found in runs if found["judge"] == judge]
            rates = [sum(found["rates"][i] for found in of) / len(of) for i in (0, 1)]
            counts = [sum(found["warned"][name] for found in of) for name in _TITLES]
            shares = [wilson(count, len(of)) for count in counts]
            yield [
                judge,
                str(len(of)),
                f"{rates[0]:.2f}, by the second {rates[1]:.2f}",
                *(f"{c} ({s.low:.0%} to {s.high:.0%})" for c, s in zip(counts, shares, strict=True)),
            ]

    return markdown(HEADS, lines())


def block(name: str) -> str:
    """What the page shows: `runs`, or `origin`, what they were measured with."""
    return records.shown(RESULTS, name, table)


@click.command(help="Train with each judge over seeds, and count the warnings.")
@click.option("--seeds", type=click.IntRange(min=1), help="Runs with each judge; by default 20 clean ones.")
@click.option("--jobs", default=2, show_default=True, help="Runs side by side, one thread each.")
@click.option("--write", is_flag=True, help="Keep the results and write them into the page.")
def main(seeds: int | None, jobs: int, write: bool) -> None:
    from benchmarks import pages

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for the processes that train, side by side
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "policy"
        write_policy(model)
        runs = []
        wanted = [(model, judge, seed) for judge, count in SEEDS.items() for seed in range(seeds or count)]
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            for found in pool.map(run, *zip(*wanted, strict=True)):
                runs.append(found)
                click.echo(str(found))
    click.echo(table(runs))
    if write:
        versions = installed(("prefloop", "mlx", "mlx-lm"))
        records.save(RESULTS, {"provenance": records.provenance(device(), versions), "runs": runs})
        pages.write()


if __name__ == "__main__":
    main()
