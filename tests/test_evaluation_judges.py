"""Several judges of one evaluation: the same answers for all, the first one decides."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from prefloop import Evaluation, Observer, UserError, load_config, open_run, resume, train
from prefloop.cli import main
from prefloop.config.dump import dump_config
from prefloop.evaluation.stats import win_rate
from prefloop.runs.judges import judges_of
from prefloop.runs.preparation import prepare
from prefloop_plugins.closing import closing_words
from prefloop_plugins.report import write_report
from support.small_runs import SETTINGS, StopsAfter, lines, outcome, settings_for

LONG, SHORT = {"use": "rule", "length": "longer"}, {"use": "rule", "length": "shorter"}


def settings(path: Path, judge: Any, **changes: Any) -> dict[str, Any]:
    return settings_for(path, evaluation={"held_out": 4, "judge": judge}, **changes)


def evaluation_file(run: Path, step: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "evaluations" / f"{step:07d}.json").read_text())
    return found


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that two rules and its own judge evaluate."""
    path = tmp_path_factory.mktemp("several") / "run"
    train(load_config(settings(path, [LONG, "training", SHORT])))
    return path


def test_one_judge_may_still_be_given_without_a_list(tmp_path: Path) -> None:
    for given in (None, "training", LONG):
        config = load_config(settings(tmp_path / "run", given))
        assert [one.teaches for one in judges_of(config)] == [given != LONG]
    assert load_config(settings(tmp_path / "run", ["training"])).evaluation.judges == {
        "evaluation.judge.0": "training"
    }


def test_a_list_of_judges_survives_its_file(tmp_path: Path) -> None:
    config = load_config(settings(tmp_path / "run", ["training", LONG]))
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config
    changed = load_config(tmp_path / "again.yaml", ["evaluation.judge.1.length=shorter"])
    assert changed.evaluation.judge[1].length == "shorter"  # type: ignore[index,union-attr]


def test_the_same_answers_are_judged_by_all(several: Path) -> None:
    for made in open_run(several).evaluations():
        long, own, short = (made.verdicts, *(other.verdicts for other in made.others))
        assert [other.judge for other in made.others] == ["prefloop:rule 2", "prefloop:rule 3"]
        assert (made.judge, made.teacher) == ("prefloop:rule", "prefloop:rule 2")
        assert [v.probability for v in long] == [pytest.approx(1 - v.probability) for v in short]
        assert len(own) == len(made.pairs) == 4
        for verdicts, rate in ((long, made.win_rate), (own, made.others[0].win_rate)):
            assert win_rate(verdicts) == rate


def test_every_judge_has_lines_of_its_own_in_the_ledger(several: Path) -> None:
    judged = [j for j in open_run(several).judgements().records if j.evaluation]
    assert len({j.judge for j in judged}) == 3
    assert len({j.key for j in judged}) == len(judged)
    pairs = {(j.pair.prompt.text, j.pair.first.text, j.pair.second.text) for j in judged}
    assert len(judged) == 3 * len(pairs)


def test_the_metrics_and_the_summary_have_each_rate(several: Path) -> None:
    run = open_run(several)
    last = evaluation_file(several, 7)
    rates = {other["judge"]: other["win_rate"] for other in last["others"]}
    (line,) = [m for m in lines(several / "metrics.jsonl") if m["step"] == 7 and "evaluation" in m]
    assert {other["judge"]: other["win_rate"] for other in line["evaluation"]["others"]} == rates
    assert {name: sides["after"] for name, sides in run.summary["other_judges"].items()} == rates
    by_line = [m for m in run.metrics().records if isinstance(m, Evaluation)][-1]
    assert {other.judge: other.win_rate.rate for other in by_line.others} == {
        name: rate["rate"] for name, rate in rates.items()
    }


def test_files_of_one_judge_are_as_they_were(tmp_path: Path) -> None:
    train(load_config(settings(tmp_path / "run", LONG)))
    found = evaluation_file(tmp_path / "run", 7)
    assert not {"others", "teacher"} & found.keys()
    assert "other_judges" not in open_run(tmp_path / "run").summary
    assert open_run(tmp_path / "run").evaluations()[-1].others == ()


def test_a_killed_run_goes_on_to_the_same_files(several: Path, tmp_path: Path) -> None:
    config = load_config(settings(tmp_path / "run", [LONG, "training", SHORT]))
    with pytest.raises(RuntimeError):
        train(config, observers=[StopsAfter(5, RuntimeError("killed"))])
    resume(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(several)
    summaries = [open_run(path).summary for path in (tmp_path / "run", several)]
    assert summaries[0]["other_judges"] == summaries[1]["other_judges"]


class Heard(Observer):
    def __init__(self) -> None:
        self.made: list[Evaluation] = []

    def evaluated(self, evaluation: Evaluation) -> None:
        self.made.append(evaluation)


def test_the_first_judge_decides_what_is_best(tmp_path: Path) -> None:
    training = {**SETTINGS["training"], "evaluate_every": 1, "load_best": True, "iters": 4}
    bests = []
    for name, judges in (("a", [LONG, SHORT]), ("b", [SHORT, LONG])):
        heard = Heard()
        train(load_config(settings(tmp_path / name, judges, training=training)), observers=[heard])
        rates = {made.step: made.win_rate.rate for made in heard.made if made.step}
        best = open_run(tmp_path / name).summary["best"]
        assert best["win_rate"]["rate"] == max(rates.values())
        bests.append((rates, [made.others[0].win_rate.rate for made in heard.made if made.step]))
    assert list(bests[0][0].values()) == bests[1][1]  # the same numbers, in the other part


def test_eval_asks_the_same_judges_as_the_run(several: Path, tmp_path: Path) -> None:
    path = shutil.copytree(several, tmp_path / "run")
    done = CliRunner().invoke(main, ["eval", str(path)])
    assert done.exit_code == 0, done.stderr
    assert "by prefloop:rule 2" in done.stdout
    again = json.loads((path / "evaluations" / "final-against-start.json").read_text())
    assert again["others"] == evaluation_file(path, 7)["others"]
    alone = CliRunner().invoke(main, ["eval", str(path), "--judge", "rule", "--set", "judge.length=longer"])
    assert alone.exit_code == 0, alone.stderr
    assert "by prefloop:rule" not in alone.stdout


def test_the_report_and_the_last_words_have_every_rate(several: Path, tmp_path: Path) -> None:
    write_report([several], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Win rate by each judge, over steps" in page
    assert "prefloop:rule 2 (taught)" in page
    words = closing_words(open_run(several))
    for other in evaluation_file(several, 7)["others"]:
        assert f"By {other['judge']} it won {other['win_rate']['rate']:.0%}" in words


def test_the_plan_counts_the_memory_of_every_judge(tmp_path: Path) -> None:
    held = [
        prepare(load_config(settings(tmp_path / "run", judges))).with_components().plan.memory.judge
        for judges in (["training"], ["training", {"use": "llm", "model": "embedded:judge"}])
    ]
    assert held[0] < held[1]


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        ([], "evaluation.judge: must name a judge; null is the one of the run."),
        (["trainin"], "evaluation.judge.0"),
        ("trainin", "no judge 'trainin'"),
        (3, "evaluation.judge: must be a judge: a name, or a mapping with 'use', not the number 3."),
    ],
)
def test_a_wrong_list_is_one_sentence(tmp_path: Path, judge: Any, words: str) -> None:
    with pytest.raises(UserError) as wrong:
        load_config(settings(tmp_path / "run", judge))
    assert words in str(wrong.value)


def test_one_judge_twice_and_one_that_cannot_evaluate_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"evaluation\.judge\.1: it is the same judge as evaluation\.judge\.0"
    ):
        prepare(load_config(settings(tmp_path / "run", ["training", dict(SETTINGS["judge"])])))
    by_file = {**settings(tmp_path / "run", ["training", LONG]), "judge": {"use": "label"}}
    with pytest.raises(UserError, match=r"evaluation\.judge\.0: the judge of the run knows only the answers"):
        judges_of(load_config(by_file))
