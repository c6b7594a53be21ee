"""Several sources of prompts in one run, each with its weight and its judge."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from attrs import define, evolve, field
from click.testing import CliRunner, Result

from prefloop import (
    BaseJudge,
    Completion,
    Loop,
    Pair,
    Policy,
    Progress,
    Prompt,
    StopRun,
    UserError,
    Verdict,
    load_config,
    open_run,
    resume,
    train,
)
from prefloop.cli import main
from prefloop.components import PendingVerdicts
from prefloop.config import TrainingConfig, dump_config, load_judge
from prefloop.routing import RoutingJudge
from prefloop.runs.guards import Guard
from prefloop.runs.preparation import prepare
from support.small_runs import SETTINGS, lines, outcome
from support.tiny_models import ModelFolder

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED = ROOT / "core" / "prefloop" / "embedded" / "prompts.jsonl"
RULE = {"use": "rule", "prefer": ["Sure", "hope"], "length": "shorter"}


def write_sources(folder: Path) -> None:
    """Two files of prompts: short questions, and others."""
    rows = EMBEDDED.read_text("utf-8").splitlines(keepends=True)
    (folder / "checked.jsonl").write_text("".join(rows[:40]), "utf-8")
    (folder / "chat.jsonl").write_text("".join(rows[40:120]), "utf-8")


def mixture(folder: Path, **changes: Any) -> dict[str, Any]:
    """A run of a source that a rule judges, and of one that a model judges."""
    return {
        **SETTINGS,
        "judge": {"model": "embedded:judge", "system": "Prefer the friendlier answer."},
        "prompts": [
            {"path": "checked.jsonl", "weight": 1, "judge": RULE},
            {"path": "chat.jsonl", "weight": 2},
        ],
        "evaluation": {"held_out": 6, "answer_column": "answer"},
        "output": {"path": str(folder / "run"), "report": False},
        **changes,
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run and of its configuration, ``c.yaml``."""
    folder = tmp_path_factory.mktemp("whole")
    write_sources(folder)
    settings = mixture(folder)
    (folder / "c.yaml").write_text(json.dumps(settings))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert train(load_config(settings)).status == "finished"
    return folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


# A run


def test_each_pair_is_judged_by_the_judge_of_its_source(whole: Path) -> None:
    judged = lines(whole / "run" / "judgements.jsonl")
    assert {(j["source"], j["judge"]) for j in judged} == {
        ("checked", "prefloop:rule"),
        ("chat", "prefloop:llm"),
    }
    assert {j["prompt_id"].partition(":")[0] for j in judged if j["source"] == "checked"} == {"checked.jsonl"}


def test_every_step_draws_the_sources_by_weight(whole: Path) -> None:
    judged = [j for j in lines(whole / "run" / "judgements.jsonl") if "evaluation" not in j]
    for step in range(1, 8):
        assert Counter(j["source"] for j in judged if j["step"] == step) == {"checked": 1, "chat": 2}


def test_there_is_a_curve_of_each_source(whole: Path) -> None:
    records = lines(whole / "run" / "metrics.jsonl")
    steps = [record for record in records if "evaluation" not in record]
    evaluations = open_run(whole / "run").evaluations()
    for source, pairs in (("checked", 1.0), ("chat", 2.0)):
        assert [step[f"source/{source}/pairs"] for step in steps] == [pairs] * 7
        assert all(0 <= step[f"source/{source}/label_rate"] <= 1 for step in steps)
        for evaluation in evaluations:
            rows = zip(evaluation.pairs, evaluation.verdicts, strict=True)
            own = [v for p, v in rows if p.prompt.source == source]
            wins = [0.5 if v.prefers_first is None else float(v.prefers_first) for v in own]
            assert evaluation.source_rates[source].rate == pytest.approx(sum(wins) / len(wins))
    assert Counter(p.prompt.source for p in evaluations[0].pairs) == {"checked": 2, "chat": 4}
    assert evaluations[0].judge == "prefloop:llm + prefloop:rule"


def test_metrics_of_the_sources_add_up_to_those_of_the_step(whole: Path) -> None:
    steps = [record for record in lines(whole / "run" / "metrics.jsonl") if "evaluation" not in record]
    assert any("source/checked/margin" in step and "source/chat/margin" in step for step in steps)
    for step in steps:
        sums = dict.fromkeys(("margin", "reward_accuracy", "loss"), 0.0)
        labelled = 0.0
        for source in ("checked", "chat"):
            own = round(step[f"source/{source}/label_rate"] * step[f"source/{source}/pairs"])
            labelled += own
            for name in sums if own else ():
                sums[name] += own * step[f"source/{source}/{name}"]
        assert labelled == step["labelled"]
        for name, value in sums.items() if labelled else ():
            assert value / labelled == pytest.approx(step[name], abs=1e-4)


@pytest.mark.parametrize("rollout", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_to_the_same_adapters(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, rollout: int
) -> None:
    """SIGKILL before a step's update; with a rollout, some pairs of later steps are judged by then."""
    write_sources(tmp_path)
    settings = mixture(tmp_path)
    settings["training"] = {**settings["training"], "rollout": rollout}
    (tmp_path / "c.yaml").write_text(json.dumps(settings))
    code = (
        "import os, signal\nfrom prefloop.cli.common import configure_process\nconfigure_process()\n"
        "from prefloop import load_config, train\n"
        "class Kill:\n"
        "    def pairs_judged(self, progress, pairs, verdicts):\n"
        "        if progress.step == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "train(load_config('c.yaml'), observers=[Kill()])\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    monkeypatch.chdir(tmp_path)
    assert resume("run").status == "finished"
    twin = whole / "run"
    if rollout > 1:
        twin = train(load_config({**settings, "output": {"path": "twin", "report": False}})).path
    assert outcome(tmp_path / "run") == outcome(twin)


def test_a_changed_source_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_sources(tmp_path)
    run = train(load_config(mixture(tmp_path)), observers=[Stops()])
    rows = (tmp_path / "chat.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "chat.jsonl").write_text("".join([*rows[1:], rows[0]]))
    with pytest.raises(UserError, match=r"what it depends on has changed: .*prompts"):
        resume(run.path)


class Stops:
    def step_finished(self, step: Any) -> None:
        if step.progress.step == 2:
            raise StopRun("enough")


def test_the_dry_run_tries_each_judge_and_shows_the_sources(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(whole)
    done = run("train", "c.yaml", "--dry-run", "--set", "output=other")
    assert done.exit_code == 0, done.output
    assert "source   checked: 38 to train on, 2 held out; an epoch draws 38, each 1 times" in done.output
    assert "source   chat: 76 to train on, 4 held out; an epoch draws 76, each 1 times" in done.output
    assert "\nprompts.0.judge " in done.output
    assert "\njudge " in done.output


def test_eval_asks_each_source_its_judge_and_refuses_prompts_of_none(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(whole)
    done = run("eval", "run", "--output", "own.json")
    assert done.exit_code == 0, done.output
    assert "6 held out from checked.jsonl," in done.output
    found = json.loads((whole / "own.json").read_text("utf-8"))
    assert found["judge"] == "prefloop:llm + prefloop:rule"
    assert found["metrics"]["source/checked/pairs"] == 2
    refused = run("eval", "run", "--prompts", "chat.jsonl")
    assert refused.exit_code == 2
    assert refused.stderr == (
        "error: --prompts: they belong to none of the sources of 'run', which have judges of their own: name "
        "one with --judge.\n"
    )
    judge = ("--judge", "rule", "--set", "judge.length=shorter")
    done = run("eval", "run", "--prompts", "checked.jsonl", *judge, "--output", "other.json")
    assert done.exit_code == 0, done.output


@pytest.mark.slow
def test_the_report_and_the_export_tell_the_sources_apart(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(whole)
    assert run("report", "run", "--output", "page.html").exit_code == 0
    page = (whole / "page.html").read_text("utf-8")
    for words in (
        "Win rate on each source",
        "Labels of each source",
        "sources by rule",
        "On prompts of chat",
    ):
        assert words in page
    rows = [json.loads(line) for line in run("export", "pairs", "run", "--details").stdout.splitlines()]
    assert {(row["source"], row["judge"]) for row in rows} == {
        ("checked", "prefloop:rule"),
        ("chat", "prefloop:llm"),
    }


# The configuration


def test_a_source_may_be_short_and_is_dumped_in_full(tmp_path: Path) -> None:
    config = load_config({**mixture(tmp_path), "prompts": ["a.jsonl", {"path": "b.jsonl", "weight": 2}]})
    assert list(config.sources) == ["prompts.0", "prompts.1"]
    assert config.judge_keys == {"a": "judge", "b": "judge"}
    (tmp_path / "dumped.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "dumped.yaml") == config


def test_overrides_reach_a_source(tmp_path: Path) -> None:
    config = load_config(
        mixture(tmp_path), ["prompts.0.weight=2", "prompts.1.judge=rule", "prompts.1.judge.length=longer"]
    )
    first, second = config.sources.values()
    assert (first.weight, type(second.judge).__name__) == (2.0, "RuleJudge")


def test_without_a_judge_of_the_run_that_of_the_first_source_stands_for_it(tmp_path: Path) -> None:
    settings = mixture(tmp_path)
    del settings["judge"]
    for source in settings["prompts"]:
        source["judge"] = RULE
    settings["prompts"][1]["judge"] = {"use": "rule", "length": "longer"}
    config = load_config(settings)
    assert config.judge == config.sources["prompts.0"].judge
    assert list(config.judges) == ["prompts.0.judge", "prompts.1.judge"]
    (tmp_path / "dumped.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "dumped.yaml") == config


def test_the_judge_of_one_source_can_be_tried(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(json.dumps(mixture(tmp_path)))
    judge, origin = load_judge(str(tmp_path / "c.yaml"), source="checked")
    assert (origin.name, judge.length) == ("prefloop:rule", "shorter")  # type: ignore[attr-defined]
    assert load_judge(str(tmp_path / "c.yaml"), source="chat")[1].name == "prefloop:llm"
    with pytest.raises(UserError, match=r"there is no source 'chta'\. Did you mean 'chat'\?"):
        load_judge(str(tmp_path / "c.yaml"), source="chta")


@pytest.mark.parametrize(
    ("prompts", "evaluation", "says"),
    [
        ([], {}, "configuration: prompts: must name a source of prompts: a Hub id, a folder or a file."),
        (
            ["a.jsonl", {"path": "b.jsonl", "weight": 0}],
            {},
            "configuration: prompts.1.weight: must be > 0, not 0.0.",
        ),
        (
            ["a.jsonl", {"path": "b.jsonl", "judge": "rulee"}],
            {},
            "configuration: prompts.1.judge: there is no judge 'rulee'. Did you mean 'rule'?",
        ),
        (
            ["a.jsonl", {"path": "b.jsonl", "wieght": 2}],
            {},
            "configuration: prompts.1.wieght: there is no such option. Did you mean 'weight'?",
        ),
        (
            ["x/train.jsonl", "y/train.jsonl"],
            {},
            "configuration: prompts.1.source: 'train' is the name of prompts.0 too: give another here.",
        ),
        (
            ["a.jsonl", {"path": "b.jsonl", "source": "a/b"}],
            {},
            "configuration: prompts.1.source: takes letters, digits, '-', '_' and '.', not 'a/b'.",
        ),
        (
            ["a.jsonl", "b.jsonl"],
            {"prompts": "test.jsonl"},
            "configuration: evaluation.prompts: belong to no source: set prompts.0.evaluation and the like.",
        ),
    ],
)
def test_what_is_wrong_with_a_source_is_said_at_its_key(
    tmp_path: Path, prompts: Any, evaluation: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError) as caught:
        load_config({**mixture(tmp_path), "prompts": prompts, "evaluation": evaluation})
    assert list(caught.value.problems) == [says]


def test_a_bad_row_is_said_with_the_key_of_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_sources(tmp_path)
    (tmp_path / "chat.jsonl").write_text('{"prompt": "Hello"}\n{"prompt": 3}\n')
    with pytest.raises(UserError) as caught:
        prepare(load_config(mixture(tmp_path)))
    assert list(caught.value.problems) == [
        "prompts.1: chat.jsonl:2 has a number as its 'prompt', not text or a list of messages"
    ]


def test_evaluations_take_the_prompts_that_a_source_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_sources(tmp_path)
    rows = EMBEDDED.read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "test.jsonl").write_text("".join(rows[150:160]), "utf-8")
    settings = mixture(tmp_path)
    settings["prompts"][0]["evaluation"] = "test.jsonl"
    prepared = prepare(load_config(settings))
    assert prepared.evaluator is not None
    held_out = prepared.evaluator.prompts
    assert Counter(p.source for p in held_out) == {"checked": 10, "chat": 6}
    assert {p.id for p in held_out if p.source == "checked"} == {
        f"checked/test.jsonl:{n}" for n in range(1, 11)
    }
    assert Counter(p.source for p in prepared.loop.prompts) == {"checked": 40, "chat": 74}


def test_one_set_of_prompts_has_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_sources(tmp_path)
    config = load_config({**mixture(tmp_path), "prompts": "chat.jsonl"})
    prepared = prepare(config)
    assert {p.source for p in prepared.loop.prompts} == {""}
    assert prepared.plan.sources == ()
    assert prepared.loop.judge is config.judge


def test_each_judge_is_watched_by_itself(tmp_path: Path) -> None:
    """Fifteen errors of one source's judge among many good verdicts of the other's are not one too many."""
    guard = Guard(load_config(mixture(tmp_path)))
    progress = Progress(1, 9, 0.0, 1.0)
    orders = (0.9, 0.8)
    for n in range(15):
        pairs = [pair("checked", n), *(pair("chat", i) for i in range(5))]
        guard.pairs_judged(progress, pairs, [Verdict.error("no"), *[Verdict(0.85, orders=orders)] * 5])
    again = Guard(load_config(mixture(tmp_path)))
    again.restore(json.loads(json.dumps(guard.state())))
    with pytest.raises(StopRun, match=r"^prompts\.0\.judge: 16 of its last 16 verdicts are errors"):
        again.pairs_judged(progress, [pair("checked", 15)], [Verdict.error("no")])


# The judge


@define(eq=False, slots=False)
class Recorded(BaseJudge):
    """Says one probability of every pair, and remembers what it heard."""

    probability: float
    elsewhere: bool = False
    person: bool = False
    heard: list[tuple[str, int]] = field(factory=list)
    known: float = 0.0

    def __attrs_post_init__(self) -> None:
        if self.elsewhere:
            self.submit = self._submit

    @property
    def interactive(self) -> bool:
        return self.person

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        self.heard.append(("judge", len(pairs)))
        return [Verdict(self.probability) for _ in pairs]

    def _submit(self, pairs: Sequence[Pair]) -> PendingVerdicts:
        self.heard.append(("submit", len(pairs)))
        return PendingVerdicts(lambda: [Verdict(self.probability) for _ in pairs])

    def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        self.heard.append(("learn", len(pairs)))
        self.known += len(pairs)

    def state(self) -> dict[str, mx.array]:
        return {"known": mx.array(self.known)}

    def restore(self, state: Any) -> None:
        self.known = float(state["known"].item())


def pair(source: str, n: int) -> Pair:
    return Pair(Prompt((n,), str(n), source=source), Completion((1,), "a"), Completion((2,), "b"))


PAIRS = [pair(source, n) for n, source in enumerate("abbaab")]


def routing(first: Recorded, second: Recorded) -> RoutingJudge:
    return RoutingJudge({"judge": first, "prompts.1.judge": second}, {"a": "judge", "b": "prompts.1.judge"})


def test_verdicts_come_back_in_the_order_of_their_pairs() -> None:
    judge = routing(Recorded(0.9), Recorded(0.2))
    assert [v.probability for v in judge.judge(PAIRS)] == [0.9, 0.2, 0.2, 0.9, 0.9, 0.2]


def test_a_judge_elsewhere_is_asked_before_one_here_works() -> None:
    here, elsewhere = Recorded(0.9), Recorded(0.2, elsewhere=True)
    judge = routing(here, elsewhere)
    assert judge.submit is not None
    pending = judge.submit(PAIRS)
    assert (here.heard, elsewhere.heard) == ([], [("submit", 3)])
    assert [v.probability for v in pending.result()] == [0.9, 0.2, 0.2, 0.9, 0.9, 0.2]


def test_a_person_comes_last_and_stops_without_costing_the_others_theirs() -> None:
    order: list[str] = []

    class Person(Recorded):
        def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
            order.append("person")
            raise StopRun("enough", [Verdict(0.9)])

    class Machine(Recorded):
        def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
            order.append("machine")
            return super().judge(pairs)

    judge = routing(Person(0.9, person=True), Machine(0.2))
    assert judge.interactive
    with pytest.raises(StopRun, match="enough") as caught:
        judge.judge(PAIRS)
    assert order == ["machine", "person"]
    assert caught.value.verdicts == ()  # they are not on the first pairs of all


def test_each_judge_learns_from_its_own_pairs_and_keeps_its_own_state() -> None:
    first, second = Recorded(0.9), Recorded(0.2)
    judge = routing(first, second)
    judge.learn(PAIRS[:1], judge.judge(PAIRS[:1]))
    assert (first.heard, second.heard) == ([("judge", 1), ("learn", 1)], [("learn", 0)])
    again = routing(Recorded(0.9), Recorded(0.2))
    again.restore(judge.state())
    assert [one.known for one in again.judges.values()] == [1.0, 0.0]  # type: ignore[attr-defined]


def test_a_loop_of_a_program_mixes_by_weights(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("llama")))
    prompts = [evolve(policy.encode(f"Number {i}"), source="ab"[i % 2]) for i in range(8)]
    judge = routing(Recorded(0.9), Recorded(0.2))
    training = TrainingConfig(batch_size=4, iters=1)
    loop = Loop(policy, prompts, judge=judge, weights={"a": 1.0, "b": 3.0}, training=training)
    step = loop.step()
    assert Counter(p.prompt.source for p in step.pairs) == {"a": 1, "b": 3}
    assert step.metrics["source/b/pairs"] == 3.0
    with pytest.raises(UserError, match="weights: there is none for the source 'b' of some prompts"):
        Loop(policy, prompts, judge=judge, weights={"a": 1.0}, training=training)
