"""What prefloop claims of a model beside what anybody can see of it: ``python -m benchmarks.independent``.

SmolLM2 is trained as a user trains it, by ``prefloop train`` on a configuration file with VADER's sentiment
as its judge, and the run's summary says how often its answers beat the start's. Then mlx-lm alone answers the
same prompts, once with the folder as it is and once with the run's adapters, and VADER alone reads them.
``--write`` keeps the result and puts it into docs/experiments/real.md.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import click
from benchmarks.harness import records, smollm2
from benchmarks.harness.environments import installed
from benchmarks.harness.pages import markdown
from benchmarks.harness.statistics import MOST_SEEDS, Interval, interval, win_rate
from benchmarks.harness.worker import device
from benchmarks.harness.workers import prefloop
from benchmarks.speed import english

RESULTS = records.RESULTS / "independent.json"
HELD_OUT = 32
REPEATS = 2
TEMPERATURE, TOKENS = 0.8, 20
JUDGE = """
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

ANALYZER = SentimentIntensityAnalyzer()


def brighter(first: str, second: str) -> bool | None:
    a, b = (ANALYZER.polarity_scores(text)["compound"] for text in (first, second))
    return None if a == b else a > b
"""
CONFIG = """
model: {model}
prompts: prompts.jsonl
evaluation: {{prompts: held_out.jsonl}}
sampler: {{temperature: {temperature}, top_p: 1.0, max_completion_length: {tokens}}}
judge: {{use: function, call: "brightness:brighter"}}
training:
  batch_size: 4
  iters: 48
  learning_rate: 2e-4
  optimizer: {{use: adamw, bias_correction: true}}
  seed: {seed}
output: run
"""
"""A user's file: what it does not name is as prefloop has it."""


def measure(seed: int) -> dict[str, Any]:
    """What one run claims, and what is seen of it."""
    held_out, asked = english.one_sentence()[:HELD_OUT], english.one_sentence()[HELD_OUT:]
    with tempfile.TemporaryDirectory() as name:
        folder, model = Path(name), smollm2.folder()
        for file, prompts in (("prompts", asked), ("held_out", held_out)):
            lines = (json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
            (folder / f"{file}.jsonl").write_text("".join(lines), encoding="utf-8")
        (folder / "brightness.py").write_text(JUDGE, encoding="utf-8")
        config = CONFIG.format(model=model, temperature=TEMPERATURE, tokens=TOKENS, seed=seed)
        (folder / "config.yaml").write_text(config, encoding="utf-8")
        prefloop(["train", "config.yaml"], folder, share_blas=False)
        summary = json.loads((folder / "run" / "run.json").read_text(encoding="utf-8"))["summary"]
        base, tuned = (answers(model, adapters, held_out, seed) for adapters in (None, folder / "run"))
    return {
        "seed": seed,
        "claimed": {when: summary["win_rate"][when] for when in ("before", "after")},
        "seen": win_rate(tuned, base),
        "brightness": {"base": fmean(map(fmean, base)), "tuned": fmean(map(fmean, tuned))},
    }


def answers(model: str, adapters: Path | None, prompts: Sequence[str], seed: int) -> list[list[float]]:
    """How bright mlx-lm's answers to each prompt are by VADER. Nothing of prefloop takes part."""
    import mlx.core as mx
    from mlx_lm import generate, load
    from mlx_lm.sample_utils import make_sampler
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    loaded, tokenizer = load(model, adapter_path=str(adapters) if adapters else None)[:2]
    mx.random.seed(1000 * seed + bool(adapters))
    sampler, analyzer = make_sampler(temp=TEMPERATURE), SentimentIntensityAnalyzer()
    found: list[list[float]] = []
    for prompt in prompts:
        ids = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True)
        texts = [generate(loaded, tokenizer, ids, max_tokens=TOKENS, sampler=sampler) for _ in range(REPEATS)]
        found.append([analyzer.polarity_scores(text)["compound"] for text in texts])
    return found


def table(runs: Sequence[dict[str, Any]]) -> str:
    """A line for each run, and the means with Student's intervals over the runs."""
    lines = []
    for found in runs:
        before, after = found["claimed"]["before"], found["claimed"]["after"]
        reach = Interval(after["rate"], after["low"], after["high"]).text()
        bright = found["brightness"]
        cells = (
            f"{before['rate']:.2f}",
            reach,
            f"{found['seen']:.2f}",
            f"{bright['base']:.2f}",
            f"{bright['tuned']:.2f}",
        )
        lines.append([str(found["seed"]), *cells])
    claimed = interval([found["claimed"]["after"]["rate"] for found in runs], share=True)
    seen = interval([found["seen"] for found in runs], share=True)
    lines.append(["**all**", "", claimed.text(), seen.text(), "", ""])
    heads = (
        "seed",
        "start, by prefloop",
        "end, by prefloop",
        "end, by mlx-lm and VADER",
        "VADER, base",
        "VADER, tuned",
    )
    return markdown(heads, lines)


def block(name: str) -> str:
    """What the page shows: `runs`, or `origin`, what they were measured with."""
    return records.shown(RESULTS, name, table)


@click.command(help="Train SmolLM2, and look at what it says with mlx-lm and VADER alone.")
@click.option("--seeds", default=3, type=click.IntRange(2, MOST_SEEDS), show_default=True)
@click.option("--write", is_flag=True, help="Keep the results and write them into the page.")
def main(seeds: int, write: bool) -> None:
    import mlx.core  # noqa: F401 (what `device` asks)
    from benchmarks import pages

    runs = [measure(seed) for seed in range(seeds)]
    if write:
        versions = installed(("prefloop", "mlx", "mlx-lm", "vaderSentiment"))
        records.save(RESULTS, {"provenance": records.provenance(device(), versions), "runs": runs})
        pages.write()
    click.echo(table(runs))


if __name__ == "__main__":
    main()
