"""`report.html`: what is in it, that it stands alone, and that nothing a model says becomes markup."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from prefloop import StopRun, UserError, load_config, train
from prefloop.cli import main
from prefloop.runs.files import sealed_lines
from prefloop.text import duration
from prefloop_plugins.closing import closing_words
from prefloop_plugins.report import page, write_report
from prefloop_plugins.report.charts import _edges
from prefloop_plugins.report.measures import POINTS, moving_mean, thinned
from prefloop_plugins.report.page import cut, groups
from prefloop_plugins.report.reading import read_run
from prefloop_plugins.report.records import RunFiles
from prefloop_plugins.report.words import number
from support.run_files import CONFIG, evaluation, judgement, step_line, write_run
from support.small_runs import SETTINGS


class Page(HTMLParser):
    """What a browser sees: elements with their attributes, and the text."""

    VOID = {"meta", "br", "link", "img", "hr", "input"}

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def report_of(*runs: Path) -> str:
    file = runs[0].parent / "made.html"
    write_report(runs, file)
    return file.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return report_of(write_run(tmp_path_factory.mktemp("report") / "one"))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    other = CONFIG.replace("1.0e-5", "2.0e-5")
    return report_of(write_run(folder / "one"), write_run(folder / "two", config=other, status="stopped"))


def test_the_report_states_results_and_settings(html: str) -> None:
    text = Page(html).text
    for expected in (
        "online_dpo of my-model, judged by llm (my-judge): 30 steps, finished.",
        "the judge preferred the trained policy to where it started in 80% (70% to 90%) of the pairs",
        "Held-out answers went from 10.0 to 13.0 tokens.",
        "The policy lies 1.25 nats from its reference, per answer.",
        "Of two answers in training the longer one won 67% (49% to 81%).",
        "It took 75 s; most of a step went into update (40%). At most 1.5 GB were held.",
        "The win rate grew together with length",
        "abc123 (with changes that were not committed)",
        "python -m pip install prefloop==0.1.0 mlx==0.32.0",
        "prefloop train one/config.yaml --set output.path=one-again",
        "learning_rate: 1.0e-5",
    ):
        assert expected in text, expected


def test_every_chart_has_a_text_alternative(html: str) -> None:
    found = Page(html)
    told = [a["aria-label"] or "" for tag, a in found.elements if a.get("role") == "img"]
    titles = [label.partition(".")[0] for label in told]
    assert titles == [
        "Win rate against the start, over steps",
        "Loss",
        "Margin",
        "Reward accuracy",
        "Rewards",
        "Log-ratio to the reference",
        "Divergence from the reference",
        "Answer lengths",
        "Learning rate",
        "Gradient norm",
        "Answers that end by themselves",
        "Chosen minus rejected length",
        "How often the longer answer wins",
        "Position gap",
        "Pairs without a label",
        "Where the time went",
        "Peak memory",
    ]
    assert sum(tag == "svg" for tag, _ in found.elements) == len(told)
    assert "step 0: 50% (40% to 60%); step 30: 80% (70% to 90%)" in told[0]
    assert told[1] == "Loss. loss: from 0.115 at step 1 to 0.395 at step 30, between 0.11 and 0.4."
    assert "sampling 3.0 s, judging 6.0 s, scoring 9.0 s, update 12 s" in told[-2]


def test_examples_are_the_best_the_worst_and_some_at_random(html: str) -> None:
    text = Page(html).text
    best, worst, rest = (text.index(t) for t in ("Best, by the judge", "Worst, by", "At random (seed 3)"))
    shown = re.findall(r"question (\d+)", text[best:])
    assert shown[:6] == ["19", "18", "17", "0", "1", "2"]
    assert best < worst < rest
    assert len(shown) == 12 and len(set(shown)) == 12


def test_several_runs_are_compared_in_one_report(compared: str) -> None:
    text = Page(compared).text
    assert "2 runs compared" in text
    assert "training.learning_rate 1.0e-5 2.0e-5" in text
    assert "output.path 1" not in text
    assert "one finished 30 50% (40% to 60%) 80% (70% to 90%) 10.0 to 13.0 75 s" in text
    assert "Its status is stopped after 30 of 30 steps" in text
    assert "one, chosen" in text and "two, rejected" in text


@pytest.mark.parametrize("made", ["html", "compared"])
def test_the_report_fetches_and_runs_nothing(made: str, request: pytest.FixtureRequest) -> None:
    """No script, nothing that is fetched from anywhere, and a content policy that forbids both."""
    text = request.getfixturevalue(made)
    found = Page(text)
    assert found.open == []
    for tag, attributes in found.elements:
        assert tag not in {"script", "link", "img", "iframe", "object", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in {"src", "href", "xlink:href", "action", "data", "srcset"}:
                assert (value or "").startswith("#"), (tag, name, value)
            assert not re.search(r"https?:|//", value or ""), (tag, name, value)
    assert set(re.findall(r"url\((.)", text)) == {"#"}
    assert "@import" not in text and "@font-face" not in text
    policy = {
        "http-equiv": "Content-Security-Policy",
        "content": "default-src 'none'; style-src 'unsafe-inline'",
    }
    assert ("meta", policy) in found.elements


@pytest.mark.parametrize("made", ["html", "compared"])
def test_ids_are_unique_and_links_lead_to_them(made: str, request: pytest.FixtureRequest) -> None:
    text = request.getfixturevalue(made)
    elements = Page(text).elements
    ids = [a["id"] for _, a in elements if "id" in a]
    assert len(ids) == len(set(ids))
    wanted = {(a["href"] or "")[1:] for _, a in elements if "href" in a} | set(
        re.findall(r"url\(#([^)]+)", text)
    )
    assert wanted and wanted <= set(ids)


EVIL = '</style></pre><script>alert(1)</script><img src=x onerror="alert(2)">\'"{{ 7 * 7 }}$x$\u202e\x1b[2J'


def test_texts_of_a_run_are_escaped(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / 'r<b onclick="x">&$y$',
        status=EVIL,
        reason=EVIL,
        versions={EVIL: EVIL},
        platform=EVIL,
        git={"commit": EVIL},
        config=f"judge: {{use: {json.dumps(EVIL)}}}\nx: {json.dumps(EVIL)}\n",
    )
    wrong = evaluation(30, 0.8, lambda i: EVIL)
    for pair in wrong["pairs"]:
        pair |= {"prompt": EVIL, "reason": EVIL, "status": "error", "prompt_id": EVIL}
    (run / "evaluations" / "0000030.json").write_text(json.dumps(wrong))
    other = {**wrong, "judge": EVIL, "against": EVIL}
    (run / "evaluations" / "other.json").write_text(json.dumps(other))
    text = report_of(run)
    found = Page(text)
    assert found.open == []
    assert {tag for tag, _ in found.elements} & {"script", "img", "b"} == set()
    assert not [name for _, a in found.elements for name in a if name.startswith("on")]
    assert found.text.count("<script>alert(1)</script>") > 12
    assert "{{ 7 * 7 }}" in found.text
    assert not {"\u202e", "\x1b"} & set(text)
    several = Page(report_of(run, write_run(tmp_path / "two")))
    assert {tag for tag, _ in several.elements} & {"script", "img", "b"} == set()


def test_the_same_files_give_the_same_bytes(tmp_path: Path, html: str) -> None:
    run = write_run(tmp_path / "one")
    assert report_of(run) == html
    ledger = (run / "judgements.jsonl").read_bytes().splitlines(keepends=True)
    failed = judgement(1, "long answer", "short", 0.5, status="error")
    (run / "judgements.jsonl").write_bytes(sealed_lines([failed]) + b"".join(ledger[15:] + ledger[:15]))
    assert report_of(run) == html  # an interruption changes the order, and an error is asked about again


def test_reading_a_run_changes_no_file(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 31, "loss": 0.')  # a run that is still writing
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    read_run(run)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert read_run(run).problems == ()


def test_a_run_with_only_a_manifest_is_reported(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "run.json").write_text('{"summary": {}}')
    text = Page(report_of(tmp_path / "bare")).text
    for missing in ("config.yaml", "metrics.jsonl", "judgements.jsonl"):
        assert f"There is no {missing}." in text
    for part in ("There was no evaluation.", "No step was taken.", "There are no held-out answers."):
        assert part in text


@pytest.mark.parametrize("event", ["evaluating", "evaluated", "pairs_judged"])
def test_a_run_that_was_stopped_before_its_first_step_is_reported(
    event: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def stop(*_: object) -> None:
        raise StopRun("enough")

    run = train(load_config(settings(tmp_path / "run")), observers=[SimpleNamespace(**{event: stop})])
    assert (run.status, run.summary["steps"], caplog.messages) == ("stopped", 0, [])
    found = Page((run.path / "report.html").read_text("utf-8"))
    assert "0 of 1 steps, stopped." in found.text
    assert "No step was taken." in found.text
    if event != "evaluating":  # at its very first token, which takes no time that is shown
        assert re.search(r"evaluating, saving, loading [\d.]+ s - 100%", found.text)
    assert "2 runs compared" in Page(report_of(run.path, write_run(tmp_path / "whole"))).text
    assert "2 runs compared" in Page(report_of(run.path, shutil.copytree(run.path, tmp_path / "twin"))).text


def test_a_run_of_an_older_version_is_reported(tmp_path: Path) -> None:
    """Without evaluations/ its examples are those of the summary."""
    example = {"prompt": "Say moo.", "before": "No.", "after": "Moo!"}
    run = write_run(tmp_path / "old", summary={"steps": 30, "examples": [example]})
    shutil.rmtree(run / "evaluations")
    text = Page(report_of(run)).text
    assert "80% (70% to 90%)" in text
    assert "Prompt Say moo. Before No. After Moo!" in text


def test_metrics_are_shown_under_their_former_names(tmp_path: Path) -> None:
    """The first version had ``accuracy``, and ``kl_chosen`` for a log-ratio too."""
    run = write_run(tmp_path / "old")
    old = [step_line(step) for step in range(1, 31)]
    for line in old[:20]:  # then it was resumed
        line["accuracy"] = line.pop("reward_accuracy")
        del line["log_ratio_chosen"], line["log_ratio_rejected"]
    (run / "metrics.jsonl").write_bytes(sealed_lines(old))
    labels = [a["aria-label"] or "" for _, a in Page(report_of(run)).elements if a.get("role") == "img"]
    (accuracy,) = [label for label in labels if label.startswith("Reward accuracy")]
    assert "from 12% at step 1 to 40% at step 30, between 11% and 40%" in accuracy
    (ratio,) = [label for label in labels if label.startswith("Log-ratio")]
    assert "chosen: from 0.315 at step 21" in ratio
    (kl,) = [label for label in labels if label.startswith("Divergence")]
    assert "chosen: from 0.115 at step 1" in kl


DAMAGE: Mapping[str, tuple[str, str]] = {
    "metrics.jsonl": ('{"step": 1, "loss": }\n{"evaluation": {}}\n[]\n', "3 damaged lines of metrics.jsonl"),
    "judgements.jsonl": ('{"step": 1}\n', "1 damaged lines of judgements.jsonl"),
    "config.yaml": ("a: [", "config.yaml is damaged"),
    "evaluations/0000030.json": ('{"step": 1e400}', "evaluations/0000030.json is damaged and left out."),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_files_are_left_out_and_named(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path / "one")
    content, said = DAMAGE[name]
    (run / name).write_text(content)
    assert any(problem.startswith(said) for problem in read_run(run).problems)


@pytest.mark.parametrize("value", ["null", "NaN", "-Infinity", '"x"', "true", "[1]"])
def test_a_metric_that_is_no_number_is_left_out(tmp_path: Path, value: str) -> None:
    run = write_run(tmp_path / "one")
    (run / "metrics.jsonl").write_text(f'{{"step": 1, "loss": {value}, "margin": 0.5}}\n')
    assert read_run(run).steps == ({"step": 1.0, "margin": 0.5},)


def test_long_runs_and_long_texts_stay_small(tmp_path: Path, html: str) -> None:
    run = write_run(tmp_path / "long", steps=3000, config="x: 1\n" + "# long\n" * 100_000)
    huge = evaluation(3000, 0.8, lambda i: "word " * 40_000)
    (run / "evaluations" / "0003000.json").write_text(json.dumps(huge))
    text = report_of(run)
    assert len(text) < 600_000 and len(text) < 6 * len(html)
    assert "more characters]" in Page(text).text


def test_thinned_curves_are_means() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    rows = [(float(i + 1), float(v)) for i, v in enumerate(values)]
    thin = thinned(rows)
    assert len(thin) <= POINTS
    np.testing.assert_allclose([v for _, v in thin], values.reshape(-1, 5).mean(axis=1), rtol=1e-12)
    assert thinned(rows[:POINTS]) == rows[:POINTS]
    mean = moving_mean(list(values[:100]))
    np.testing.assert_allclose(mean[50], values[45:56].mean(), rtol=1e-12)
    np.testing.assert_allclose(mean[0], values[:6].mean(), rtol=1e-12)
    assert moving_mean([1.0, 2.0]) == [1.0, 2.0]


@pytest.mark.parametrize(("low", "high"), [(0, 0), (-3, 5), (1, 40), (-500, -2), (-1000, 1000)])
def test_histogram_bars_cover_all_differences_and_one_is_centred_on_zero(low: int, high: int) -> None:
    edges = np.array(_edges(low, high))
    widths = np.diff(edges)
    assert edges[0] <= low and high <= edges[-1] and len(widths) <= 33
    assert len(set(widths)) == 1 and widths[0] % 2 == 1
    assert ((edges[:-1] < 0) & (edges[1:] > 0)).sum() == 1


def test_durations_numbers_and_cut_texts_are_formatted() -> None:
    assert [duration(s) for s in (4.04, 9.96, 99, 100, 3599, 3600, 12_000)] == [
        *("4.0 s", "10 s", "99 s", "2 min", "1 h 0 min", "1 h 0 min", "3 h 20 min")
    ]
    assert [number(v) for v in (0, 0.5, 1e-5, 1234.5, -0.1234)] == ["0", "0.5", "1.0e-05", "1,234", "-0.123"]
    assert cut("abcdef", 3) == "abc … [3 more characters]"
    assert groups(RunFiles("none"), 0) == []


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["report", *map(str, arguments)])
    return result.exit_code, result.output


def test_the_command_writes_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path("one"))
    (tmp_path / "x").mkdir()
    write_run(Path("x/one"))
    assert invoke("one") == (0, f"Wrote {Path('one') / 'report.html'}.\n")
    assert invoke("one", "x/one") == (0, "Wrote report.html.\n")
    assert "x/one" in Page(Path("report.html").read_text("utf-8")).text
    assert invoke("one") == (0, f"Wrote {Path('one') / 'report.html'}.\n")  # in the place of the old one


def test_errors_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = write_run(Path("one"))
    Path("thesis.html").write_text("<h1>My life's work</h1>")
    assert invoke("none") == (2, "error: 'none' holds no run: there is no run.json in it.\n")
    assert invoke("one", "--output", "thesis.html") == (
        2,
        "error: thesis.html: exists already and is no report. Give another --output, or remove it.\n",
    )
    assert Path("thesis.html").read_text() == "<h1>My life's work</h1>"
    assert invoke("one", "--output", "none/r.html") == (
        2,
        "error: none/r.html: cannot be written: No such file or directory.\n",
    )
    with pytest.raises(UserError, match="one report can compare 8 runs, not 9: their colours would repeat"):
        write_report([run] * 9, Path("many.html"))
    assert sorted(path.name for path in Path().iterdir()) == ["one", "thesis.html"]


def settings(path: Path, **output: Any) -> dict[str, Any]:
    return {
        **SETTINGS,
        "training": {"batch_size": 2, "iters": 1},
        "output": {"path": str(path), **output},
    }


def test_a_run_ends_with_its_report(tmp_path: Path) -> None:
    run = train(load_config(settings(tmp_path / "run")))
    made = (run.path / "report.html").read_text("utf-8")
    assert "online_dpo of embedded:policy, judged by rule: 1 step, finished." in Page(made).text
    assert report_of(run.path) == made
    assert "(report.html, metrics.jsonl," in closing_words(run)


def test_a_report_that_cannot_be_made_fails_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> str:
        raise RuntimeError("no\nfonts")

    monkeypatch.setattr(page, "page", broken)
    run = train(load_config(settings(tmp_path / "run")))
    assert (run.status, caplog.messages) == ("finished", ["report.html could not be made: no fonts"])
    assert json.loads((run.path / "run.json").read_text())["status"] == "finished"
    assert f"in {run.path} (metrics.jsonl," in closing_words(run)
    assert not (run.path / "report.html").exists()


def test_a_run_without_a_report(tmp_path: Path) -> None:
    run = train(load_config(settings(tmp_path / "run", report=False)))
    assert run.status == "finished"
    assert not (run.path / "report.html").exists()
    assert "report.html" not in closing_words(run)
