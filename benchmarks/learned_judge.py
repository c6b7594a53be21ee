"""What the `learned` judge knows after so many labels: ``python -m benchmarks.learned_judge``.

The embedded policy answers, a person with a known taste and slips labels pairs of answers, and the judge is
asked about other pairs, to questions that it has not met. Beside it stand the embedded language model, which
was trained on that very taste, and a reward model of the policy's size whose head is fitted to the labels.
``--write`` keeps the results and puts them into docs/experiments/learned.md. It takes
``pip install -e contrib/prefloop-judge-learned``.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import numpy as np
from benchmarks.harness import records
from benchmarks.harness.environments import installed
from benchmarks.harness.pages import markdown
from benchmarks.harness.statistics import MOST_SEEDS, interval
from benchmarks.harness.worker import device

from prefloop import Judge, Pair, Policy, Prompt, Sampling, Verdict, component
from prefloop.types import PERSON

RESULTS = records.RESULTS / "learned-judge.json"
LABELS = (10, 20, 40, 60, 100, 200, 300)
STEP, SLIPS, FRESH = 10, 0.05, 200
MEASURES = ("speaks", "agreement", "agreement_all", "ece", "log_loss")
JUDGES = {
    "learned": "`learned`",
    "hidden states alone": "`learned`, `surface: false`",
    "reward": "`reward`, its head fitted to 300 labels",
    "llm": "`llm`, embedded",
}
Found = dict[str, Any]


def worth(pair: Pair) -> float:
    """How much better the first answer is, by the kinds of warm and blunt components and the right word."""
    from benchmarks.experiments.task import warm

    return warm(pair.prompt, pair.first.text) - warm(pair.prompt, pair.second.text)


def decided(policy: Policy, rows: Sequence[Mapping[str, str]], count: int, seed: int) -> list[Pair]:
    """Pairs of the policy's answers to questions drawn from `rows`, one of which is the better one."""
    rng = random.Random(seed)
    prompts = [_prompt(policy, rng.choice(rows)) for _ in range(2 * count)]
    answers = [policy.generate(prompts, Sampling(1.0, 1.0, max_tokens=32), seed=2 * seed + i) for i in (0, 1)]
    pairs = [Pair(*row) for row in zip(prompts, *answers, strict=True)]
    found = [pair for pair in pairs if worth(pair) != 0][:count]
    assert len(found) == count, f"only {len(found)} of {2 * count} pairs have a better answer"
    return found


def said(pairs: Sequence[Pair], seed: int) -> list[Verdict]:
    """A person's labels, one in twenty of which is a slip."""
    rng = random.Random(seed)
    return [Verdict(float((worth(pair) > 0) != (rng.random() < SLIPS)), by=PERSON) for pair in pairs]


def tossed(pairs: Sequence[Pair], seed: int) -> list[Verdict]:
    """Labels by chance alone."""
    rng = random.Random(seed)
    return [Verdict(float(rng.random() < 0.5), by=PERSON) for _ in pairs]


def measured(verdicts: Sequence[Verdict], pairs: Sequence[Pair], seed: int) -> dict[str, float | None]:
    """How often it speaks and is right then; and of all pairs the probability, said or left unsaid.

    Right is what the taste says. Calibration is by what the person says, slips included, as they teach it.
    """
    from prefloop_plugins.judging.report import calibration

    own = [Verdict(verdict.probability) for verdict in verdicts]
    right = [(v.probability > 0.5) == (worth(pair) > 0) for v, pair in zip(own, pairs, strict=True)]
    spoken = [ok for ok, verdict in zip(right, verdicts, strict=True) if verdict.status == "ok"]
    first = [bool(verdict.prefers_first) for verdict in said(pairs, seed)]
    reliability = calibration(["first" if one else "second" for one in first], own)
    p = np.array([v.probability if one else 1 - v.probability for v, one in zip(own, first, strict=True)])
    return {
        "speaks": len(spoken) / len(pairs),
        "agreement": fmean(spoken) if spoken else None,
        "agreement_all": fmean(right),
        "ece": reliability and reliability.ece,
        "log_loss": float(-np.log(np.clip(p, 1e-6, 1)).mean()),
    }


def learning(
    given: Sequence[Pair], labels: Sequence[Verdict], fresh: Sequence[Pair], seed: int, *, surface: bool
) -> list[Found]:
    """What the learned judge knows after each of `LABELS`."""
    judge: Any = component("judge", "learned")(model="embedded:policy", surface=surface)
    curve = []
    for start in range(0, len(given), STEP):
        judge.learn(given[start : start + STEP], labels[start : start + STEP])
        if (known := start + STEP) in LABELS:
            foretold = judge.foretold
            seen = {
                "foretold": foretold.labels,
                "foretold_right": foretold.right,
                "says": foretold.confidence,
            }
            curve.append({"labels": known, **measured(judge.judge(fresh), fresh, seed), **seen})
    return curve


def reward_judge(folder: Path, given: Sequence[Pair], labels: Sequence[Verdict]) -> Judge:
    """A reward model of the embedded policy's backbone, whose head is fitted to `labels`.

    The head is a logistic regression on differences of the states that it reads, scaled to a mean square of
    1; its penalty is the one of ten folds by question.
    """
    import mlx.core as mx

    from prefloop.embedded import local_path
    from prefloop_plugins.judges.reward_model import load_scorer

    shutil.copytree(local_path("embedded:policy"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"architectures": ["Qwen3ForSequenceClassification"]})
    )
    weights = mx.load(str(folder / "model.safetensors"))

    def write(head: Any) -> None:
        named = {name: array for name, array in weights.items() if name.startswith("model.")}
        mx.save_safetensors(
            str(folder / "model.safetensors"),
            named | {"score.weight": mx.array(head[None])},
            {"format": "mlx"},
        )

    size = config["hidden_size"]
    write(np.zeros(size, np.float32))
    scorer = load_scorer(str(folder), quantize="none", batch_size=1, max_length=512)

    def state(prompt: Prompt, text: str) -> Any:
        row = scorer.encode([*({**m} for m in prompt.messages), {"role": "assistant", "content": text}])
        return np.array(scorer.model.model(mx.array([row]))[0, -1].astype(mx.float32))

    x = np.array([state(p.prompt, p.first.text) - state(p.prompt, p.second.text) for p in given], np.float64)
    scale = np.sqrt((x**2).mean(axis=0))
    y = np.array([v.probability for v in labels])
    write((_fitted(x / scale, y, [p.prompt.text for p in given]) / scale).astype(np.float32))
    judge: Judge = component("judge", "reward")(model=str(folder))
    return judge


def _fitted(x: Any, y: Any, questions: Sequence[str]) -> Any:
    """Coefficients of a logistic regression with the penalty under which folds kept out are likeliest."""
    from prefloop_judge_learned.heads import newton

    fold = np.array([hash_of(question) % 10 for question in questions])

    def head(kept: Any, penalty: float) -> Any:
        return newton(x, y, kept[None].astype(float), penalty, np.zeros((1, x.shape[1])))[0]

    def loss(penalty: float) -> float:
        logits = np.concatenate(
            [(2 * y[fold == f] - 1) * (x[fold == f] @ head(fold != f, penalty)) for f in range(10)]
        )
        return float(np.logaddexp(0, -logits).mean())

    best = min((10.0**k for k in range(-1, 4)), key=loss)
    return head(np.ones(len(y)), best)


def hash_of(text: str) -> int:
    """The same in every process."""
    import zlib

    return zlib.crc32(text.encode())


def curves(seeds: int) -> list[Found]:
    """For each seed, what every judge says of the same fresh pairs."""
    policy = Policy.load("embedded:policy")
    asked, held_out = (_rows(name) for name in ("prompts", "held_out"))
    found = []
    for seed in range(seeds):
        given = decided(policy, asked, max(LABELS), seed)
        labels, fresh = said(given, seed), decided(policy, held_out, FRESH, 1000 + seed)
        judges = {"reward": lambda at, g=given, w=labels: reward_judge(at, g, w), "llm": lambda _: _llm()}
        one: Found = {"seed": seed}
        for name, surface in (("learned", True), ("hidden states alone", False)):
            one[name] = learning(given, labels, fresh, 1000 + seed, surface=surface)
        for name, make in judges.items():
            with tempfile.TemporaryDirectory() as folder:
                one[name] = [measured(make(Path(folder, "model")).judge(fresh), fresh, 1000 + seed)]
        found.append(one)
        click.echo(f"seed {seed}: " + json.dumps({name: one[name][-1] for name in JUDGES}))
    return found


def chance(streams: int) -> Found:
    """In how many streams of 300 labels by chance the judge ever speaks, looked at after each ten."""
    policy, spoke = Policy.load("embedded:policy"), 0
    given = decided(policy, _rows("prompts"), max(LABELS), 0)
    reader = None
    for stream in range(streams):
        judge: Any = component("judge", "learned")(model="embedded:policy")
        judge._reader = reader  # answers are read once, and not in every stream
        labels, trusted = tossed(given, stream), False
        for start in range(0, len(given), STEP):
            judge.learn(given[start : start + STEP], labels[start : start + STEP])
            trusted |= judge.foretold.interval()[0] > 0.5
        reader, spoke = judge._reader, spoke + trusted
    return {"streams": streams, "spoke": spoke}


def cost(rounds: int) -> Found:
    """Seconds for a pair, each round on pairs that no judge has met, and for a fit to 300 labels."""
    policy = Policy.load("embedded:policy")
    given = decided(policy, _rows("prompts"), max(LABELS), 0)
    labels = said(given, 0)
    learned: Any = component("judge", "learned")(model="embedded:policy")
    learned.learn(given[:-STEP], labels[:-STEP])
    with tempfile.TemporaryDirectory() as folder:
        judges = {
            "learned": learned,
            "reward": reward_judge(Path(folder, "model"), given, labels),
            "llm": _llm(),
        }
        for judge in judges.values():
            judge.judge(decided(policy, _rows("held_out"), 16, 1))
        times: dict[str, list[float]] = {name: [] for name in judges}
        for at in range(rounds):
            fresh = decided(policy, _rows("held_out"), 64, 2000 + at)
            for name, judge in judges.items():
                times[name].append(_seconds(lambda j=judge, f=fresh: j.judge(f)) / len(fresh))
    learned.judge(given)  # so that only the fit is timed
    fit = _seconds(lambda: learned.learn(given[-STEP:], labels[-STEP:]))
    return {"pair": {name: sorted(each)[len(each) // 2] for name, each in times.items()}, "fit": fit}


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _llm() -> Judge:
    judge: Judge = component("judge", "llm")(
        model="embedded:judge", system="Prefer the warmer, friendlier answer."
    )
    return judge


def _rows(name: str) -> list[dict[str, str]]:
    from prefloop.embedded import local_path

    return [
        json.loads(line) for line in local_path(f"embedded:{name}").read_text(encoding="utf-8").splitlines()
    ]


def _prompt(policy: Policy, row: Mapping[str, str]) -> Prompt:
    from attrs import evolve

    return evolve(policy.encode(row["prompt"]), fields={"answer": row["answer"]})


def table(runs: Sequence[Found]) -> str:
    """A line for each judge and number of labels: means over seeds with Student's interval."""
    heads = ("judge", "labels", "speaks on", "right where it speaks", "right on all", "ECE", "log loss")
    lines = []
    for name, title in JUDGES.items():
        for at in range(len(runs[0][name])):
            points = [run[name][at] for run in runs]
            cells = [_over([point[measure] for point in points], measure) for measure in MEASURES]
            lines.append([title, str(points[0].get("labels", "")), *cells])
    return markdown(heads, lines)


def _over(values: Sequence[float | None], measure: str) -> str:
    """The mean with its interval, where every seed has one."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return f"nothing in {len(values) - len(known)} of {len(values)}"
    return interval(known, share=measure != "log_loss").text()


def _chance(found: Found) -> str:
    return f"{found['spoke']} of {found['streams']}"


def _cost(found: Found) -> str:
    lines = [[JUDGES[name], f"{1000 * seconds:.1f} ms"] for name, seconds in found["pair"].items()]
    return markdown(
        ("judge", "a pair"), [*lines, ["a fit of `learned` to 300 labels", f"{1000 * found['fit']:.0f} ms"]]
    )


PARTS: Mapping[str, tuple[Callable[[int], Any], Callable[[Any], str], int]] = {
    "curves": (curves, table, 5),
    "chance": (chance, _chance, 100),
    "cost": (cost, _cost, 7),
}
"""By name: what measures, what shows, and how many seeds, streams or rounds."""


def block(name: str) -> str:
    """What the page shows: a part, or `origin`, what all were measured with."""
    results = records.load(RESULTS)
    if name == "origin":
        return records.origin(list(results.values()))
    _, show, _ = PARTS[name]
    return show(results[name]["found"]) if name in results else ""


@click.command(help="Measure the learned judge: PARTS of it, or all.")
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--count", type=click.IntRange(2, 1000), help="Seeds (10 at most), streams or rounds.")
@click.option("--write", is_flag=True, help="Keep the results and write them into the page.")
def main(parts: tuple[str, ...], count: int | None, write: bool) -> None:
    from benchmarks import pages

    from prefloop.cli.common import configure_process

    configure_process()
    for part in parts or PARTS:
        measure, show, usual = PARTS[part]
        most = MOST_SEEDS if part == "curves" else 1000
        found = measure(min(count or usual, most))
        click.echo(show(found))
        if write:
            versions = installed(("prefloop", "prefloop-judge-learned", "mlx", "mlx-lm", "numpy"))
            result = {"provenance": records.provenance(device(), versions), "found": found}
            records.keep(RESULTS, part, result, PARTS)
            pages.write()


if __name__ == "__main__":
    main()
