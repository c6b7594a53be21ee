"""What a run says on the terminal: its lines, its warnings, its last words, and how long it will take."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve
from rich.console import Console

from prefloop import Completion, Evaluation, Pair, Progress, Prompt, Step, Verdict
from prefloop.cli.runs import _rate
from prefloop.embedded import resolve
from prefloop.evaluation.stats import wilson
from prefloop.runs.preparation import _time_words
from prefloop_plugins.alarms import Alarms
from prefloop_plugins.closing import _next
from prefloop_plugins.progress import ProgressObserver
from prefloop_plugins.report.words import win_rate_sentences

PAIR = Pair(Prompt((), "p"), Completion((), "a"), Completion((), "b"))


def ended(path: Path, /, **model: Any) -> Any:
    """What the closing words read of a run that finished."""
    model = {"path": "m/q", "quantize": "none", **model}
    settings = {"model": model, "adapter": {"type": "lora"}, "prompts": {"path": "p"}}
    return SimpleNamespace(path=path, status="finished", manifest={}, summary={}, settings=settings)


def test_what_to_type_next_names_the_model_that_was_trained(tmp_path: Path) -> None:
    run = tmp_path / "it's here"
    adapters = f"--adapter-path '{tmp_path}/it'\"'\"'s here'"
    assert f"generate --model m/q {adapters} --prompt Hello" in _next(ended(run))
    quantized = _next(ended(run, quantize="mxfp4"))
    assert "convert --hf-path m/q --quantize --q-mode mxfp4 --mlx-path q-mxfp4\n" in quantized
    assert f"generate --model q-mxfp4 {adapters}" in quantized
    whole = ended(run)
    whole.settings["adapter"]["type"] = "full"
    assert f"generate --model '{tmp_path}/it'\"'\"'s here/model' --prompt Hello" in _next(whole)
    assert f"--model {resolve('embedded:policy')} " in _next(ended(run, path="embedded:policy"))


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({}, ""),
        ({"before": {"rate": 0.5, "pairs": 8}}, ""),
        ({"before": {"rate": 0.5, "pairs": 8}, "after": {"rate": 0.5, "pairs": 0}}, ""),
        ({"before": {"rate": 0.5, "pairs": 8}, "after": {"rate": 0.75, "pairs": 8}}, "win rate 50% to 75%"),
    ],
)
def test_the_list_shows_the_win_rate_of_what_was_trained(rates: dict[str, Any], said: str) -> None:
    assert _rate({"steps": 0, "win_rate": rates}) == said


def test_a_judge_that_gave_no_verdict_gives_no_win_rate() -> None:
    (sentence,) = win_rate_sentences(wilson(4, 8), wilson(0, 0))
    assert "gave no verdict" in sentence and "%" not in sentence


FINE = {
    "pairs": 8.0,
    "labelled": 6.0,
    "errors": 0.0,
    "ties": 0.1,
    "seconds": 1.0,
    "distinct_2": 0.8,
    "completion_length": 20.0,
    "stop_rate": 0.9,
    "kl": 1.0,
    "position_gap": 0.05,
}


def heard(*steps: dict[str, float]) -> list[tuple[int, str]]:
    """What is said of steps, with the number of each, after two that are fine."""
    alarms = Alarms()
    rows = [FINE, FINE, *steps]
    return [(number, text) for number, row in enumerate(rows, 1) for text in alarms.stepped(row)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"distinct_2": 0.41}, None),
        ({"distinct_2": 0.39}, "distinct-2 fell from 0.80 in the first steps to 0.39"),
        ({"completion_length": 39.0}, None),
        ({"completion_length": 41.0}, "answers grew from 20 to 41 tokens"),
        ({"completion_length": 11.0}, None),
        ({"completion_length": 9.0}, "answers shrank from 20 to 9 tokens"),
        ({"kl": 9.0}, None),
        ({"kl": 11.0}, "the policy lies 11 nats from its reference"),
        ({"kl": 11.0, "completion_length": 39.0}, None),  # less than 0.3 a token
        ({"position_gap": 0.19}, None),
        ({"position_gap": 0.21}, "the two orders lie 0.21 apart"),
        ({"errors": 0.4}, None),
        ({"errors": 0.6}, "the judge failed on 60% of the latest 16 pairs"),
        ({"distinct_2": float("nan"), "kl": float("nan"), "position_gap": float("nan")}, None),
    ],
)
def test_what_falls_off_is_said_once(change: dict[str, float], said: str | None) -> None:
    told = heard(*[{**FINE, **change}] * 50)
    assert len(told) == (said is not None), told
    if said:
        assert said in told[0][1] and told[0][0] == 4  # as soon as there are 16 pairs of it


def test_a_share_has_to_fall_by_more_than_chance() -> None:
    """Of 32 answers against 32: four standard errors of the difference, with the pooled share."""
    error = (2 * 0.675 * 0.325 / 32) ** 0.5
    assert 0.45 / error < 4 < 0.6 / (2 * 0.6 * 0.4 / 32) ** 0.5 * 1.0
    assert not heard(*[{**FINE, "stop_rate": 0.45}] * 9)
    ((step, text),) = heard(*[{**FINE, "stop_rate": 0.3}] * 9)
    assert step == 4 and "70% of the answers are cut at the length limit, 10% in the first steps" in text


def test_it_is_said_again_where_it_becomes_much_worse() -> None:
    told = heard(*({**FINE, "distinct_2": 0.8 / 2**halving} for halving in range(9) for _ in range(2)))
    assert [text.split(" to ")[1][:5].strip() for _, text in told] == ["0.4.", "0.1.", "0.025", "0.006"]


@pytest.mark.parametrize(("pairs", "first"), [(8.0, 5), (2.0, 8), (1.0, 16)])
def test_steps_without_a_label_are_said(pairs: float, first: int) -> None:
    """From 5 steps in a row on that have 16 pairs."""
    idle = {**FINE, "labelled": 0.0, "pairs": pairs}
    assert heard(*[idle] * (first - 1)) == []
    ((_, text),) = heard(*[idle] * first)
    assert f"the last {first} steps had no label" in text
    assert heard(*[idle] * (first - 1), FINE, *[idle] * (first - 1)) == []


def test_the_first_error_of_a_judge_is_said_as_it_happens() -> None:
    alarms = Alarms()
    errors = [Verdict(0.9), Verdict.error("no\nserver \x1b[31m")] * 2
    assert list(alarms.judged([PAIR], [Verdict(0.9)])) == []
    assert list(alarms.judged([PAIR] * 4, errors)) == ["the judge failed on 2 of 4 pairs: no server [31m"]
    assert list(alarms.judged([PAIR] * 4, errors)) == []


def evaluation(step: int, distinct_2: float, *, pairs: int = 40) -> Evaluation:
    found = {"distinct_2": distinct_2, "completion_length": 9.0, "stop_rate": 1.0, "kl": 2.5}
    return Evaluation(step, wilson(pairs / 2, pairs), found)


def test_an_evaluation_is_compared_with_the_first_one() -> None:
    alarms = Alarms()
    rows = ((0, 0.8), (5, 0.41), (10, 0.3), (15, 0.3))
    told = [list(alarms.evaluated(evaluation(*row))) for row in rows]
    assert [len(texts) for texts in told] == [0, 0, 1, 0]
    assert told[2][0].startswith(
        "The policy may have collapsed: Of held-out answers distinct-2 went from 0.80"
    )


def observing(file: io.StringIO, now: list[float], *, terminal: bool = False) -> ProgressObserver:
    """An observer of a run that starts, and that prints to `file`."""
    observer = ProgressObserver()
    observer.console = Console(file=file, force_terminal=terminal, soft_wrap=True, get_time=lambda: now[0])
    observer.run_started(started())
    return observer


def test_a_judge_that_goes_by_place_is_said_at_the_first_evaluation() -> None:
    """In training it may be asked in one order only, which shows nothing."""
    alarms = Alarms()
    first = evaluation(0, 0.8)
    (text,) = alarms.evaluated(evolve(first, metrics={**first.metrics, "position_gap": 0.9}))
    assert text.startswith("the judge goes by place: its probabilities in the two orders lie 0.90 apart")


def shown(*events: Any) -> str:
    """What an observer prints of these calls."""
    file = io.StringIO()
    observer = observing(file, [0.0])
    for name, *arguments in events:
        getattr(observer, name)(*arguments)
    return file.getvalue()


def started() -> Any:
    nothing = SimpleNamespace(records=())
    return SimpleNamespace(
        settings={"training": {"report_every": 2}},
        plan_lines=[("steps", "9")],
        path="out",
        manifest={"plan": {"steps": 9}},
        asks_a_person=False,
        metrics=lambda: nothing,
        evaluations=list,
    )


def step(number: int, **metrics: float) -> Step:
    return Step(Progress(number, 9, 0.0, 1.0, 0), {**FINE, "seconds": 40.0, "loss": 0.5, **metrics}, (), ())


def test_lines_show_learning_answers_judge_and_the_time_left() -> None:
    events = [("step_finished", step(1, distinct_2=0.6)), ("step_finished", step(2))]
    events += [("evaluated", evaluation(2, 0.71)), ("evaluated", evaluation(3, 0.7, pairs=0))]
    printed = shown(*events)
    assert printed.splitlines()[2:] == [
        "step 2/9  loss 0.5000  s 40.00  5 min left",
        "          length 20.0  stopped 90%  distinct-2 0.70  KL 1.00  ties 10%  errors 0%  gap 0.05",
        "eval 2: win rate against the start 50% (35% to 65%) on 40 held-out prompts",
        "        length 9.0  stopped 100%  distinct-2 0.71  KL 2.50",
        "eval 3: no win rate: the judge gave no verdict on 0 held-out prompts",
        "        length 9.0  stopped 100%  distinct-2 0.70  KL 2.50",
    ]


def test_slow_steps_have_a_time_left_and_an_evaluation_moves() -> None:
    """Steps of 40 s are further apart than the 30 s over which rich takes the speed by default."""
    now = [0.0]
    observer = observing(io.StringIO(), now, terminal=True)
    assert observer._bar
    observer._bar.stop()
    for number in range(1, 4):
        now[0] += 40
        observer.step_finished(step(number))
    assert observer._bar.tasks[0].time_remaining == 6 * 40
    observer.evaluating("sampled", 3, 8)
    assert [(t.description, t.completed, t.total) for t in observer._bar.tasks][1] == (
        "evaluation, sampled",
        3,
        8,
    )
    observer.evaluated(evaluation(3, 0.7))
    assert len(observer._bar.tasks) == 1


def test_without_a_terminal_a_long_evaluation_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now, file = [0.0], io.StringIO()
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    observer = observing(file, now)
    for seconds, done in ((59, 1), (2, 2), (30, 3), (31, 4)):
        now[0] += seconds
        observer.evaluating("judged", done, 9)
    assert file.getvalue().splitlines()[2:] == ["evaluating: judged 2 of 9", "evaluating: judged 4 of 9"]


@pytest.mark.parametrize(
    ("evaluated", "person", "said"),
    [
        (True, False, "about 2 h 29 min on this machine: 100 steps of 80 s, 4 evaluations of 4 min"),
        (False, False, "about 2 h 13 min on this machine: 100 steps of 80 s"),
        (
            False,
            True,
            (
                "about 2 h 13 min on this machine: 100 steps of 80 s, without the time of the person who "
                "judges"
            ),
        ),
    ],
)
def test_a_dry_run_says_the_hours(evaluated: bool, person: bool, said: str) -> None:
    """4 pairs took 40 s, so 8 take 80; 30 held-out prompts 4 min: at first, after 40 and 80, at the end."""
    loop = SimpleNamespace(steps=100, batch_size=8, judge=SimpleNamespace(interactive=person))
    evaluator = SimpleNamespace(prompts=range(30), others={}) if evaluated else None
    config = SimpleNamespace(training=SimpleNamespace(evaluate_every=40))
    prepared: Any = SimpleNamespace(loop=loop, evaluator=evaluator, config=config)
    assert _time_words(prepared, 4, {"sampling": 20.0, "judging": 8.0, "scoring": 12.0}) == said
