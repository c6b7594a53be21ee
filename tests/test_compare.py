"""`prefloop runs compare`: several runs in tables, those of one setting taken together over their seeds."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from prefloop.cli import main
from prefloop_plugins.report.reading import read_run
from prefloop_plugins.report.seeds import Mean, difference, grouped, mean_of, t_quantile
from support.run_files import CONFIG, write_run

RATES = {
    ("0.1", 0): 0.60,
    ("0.1", 1): 0.70,
    ("0.1", 2): 0.80,
    ("0.5", 0): 0.65,
    ("0.5", 1): 0.70,
    ("0.5", 2): 0.90,
}


def config_of(beta: str, seed: int) -> str:
    return CONFIG.replace("seed: 3", f"seed: {seed}") + f'loss: {{use: "prefloop:sigmoid", beta: {beta}}}\n'


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two settings with three seeds each, and a third of which one run failed before it began."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "q"
    entries = []
    for (beta, seed), rate in RATES.items():
        name = f"a-beta{beta}-seed{seed}"
        write_run(folder / name, config=config_of(beta, seed), after=rate)
        entries.append({"name": name, "setting": f"a-beta{beta}", "source": "a.yaml", "exit": 0})
    failed = {"exit": 2, "said": "model 'x|y': there is no such folder."}
    for seed in (0, 1):
        about = failed if seed == 0 else {"exit": None}
        entries.append({"name": f"b-seed{seed}", "setting": "b", "source": "b.yaml", **about})
    (folder / "queue.json").write_text(json.dumps({"made": "2026", "runs": entries}))
    return folder


def compare(*arguments: str) -> str:
    done = CliRunner().invoke(main, ["runs", "compare", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (30, 2.042)],
)
def test_the_quantiles_of_students_t_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert t_quantile(freedom) == pytest.approx(quantile, abs=5e-4)


def test_a_mean_has_the_interval_of_students_t() -> None:
    half = 4.302653 * 0.1 / math.sqrt(3)
    found = mean_of([0.6, 0.7, 0.8])
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((0.7, 0.7 - half, 0.7 + half), abs=1e-5)
    assert mean_of([0.1, 0.9], share=True) == Mean(0.5, 0.0, 1.0, 2)
    assert mean_of([0.4]) == Mean(0.4, None, None, 1)
    assert mean_of([]) is None


def test_runs_that_differ_in_the_seed_alone_are_one_setting(queue: Path) -> None:
    runs = [read_run(queue / f"a-beta{beta}-seed{seed}") for beta, seed in RATES]
    first, second = grouped(runs)
    assert (first.name, second.name) == ("loss.beta=0.1", "loss.beta=0.5")
    assert (len(first.runs), len(second.runs)) == (3, 3)
    apart = difference(second, first)
    assert apart is not None
    assert apart.mean == pytest.approx((0.05 + 0.0 + 0.1) / 3)
    half = 4.302653 * 0.05 / math.sqrt(3)
    assert (apart.low, apart.high) == pytest.approx((0.05 - half, 0.05 + half), abs=1e-5)


def test_a_queue_is_compared_by_setting_and_by_run(queue: Path) -> None:
    said = compare("runs/q")
    rows = [re.split(r"\s{2,}", line.strip()) for line in said.splitlines()]
    assert ["a-beta0.1", "3 of 3", "50% (50% to 50%)", "70% (45% to 95%)", "-", "13.0"] in rows
    assert [
        "a-beta0.5",
        "3 of 3",
        "50% (50% to 50%)",
        "75% (42% to 100%)",
        "+5 points (-7 to +17)",
        "13.0",
    ] in rows
    assert ["b", "0 of 2", "-", "-", "-", "-"] in rows
    assert ["b-seed0", "failed", "-", "-", "-", "-", "-"] in rows
    assert ["b-seed1", "waiting", "-", "-", "-", "-", "-"] in rows
    assert "b-seed0 failed: model 'x|y': there is no such folder." in said
    assert "Wrote runs/q/comparison.md and runs/q/comparison.html." in said

    text = (queue / "comparison.md").read_text()
    assert "| a-beta0.1 | 3 of 3 | 50% (50% to 50%) | 70% (45% to 95%) | - | 13.0 |" in text
    assert "model 'x\\|y'" in text
    page = (queue / "comparison.html").read_text()
    assert "<td>70% (45% to 95%)</td>" in page
    assert all(f"a-beta{beta}-seed{seed}" in page for beta, seed in RATES)
    again = (text, page)
    compare("runs/q")
    assert ((queue / "comparison.md").read_text(), (queue / "comparison.html").read_text()) == again


def test_a_comparison_in_numbers(queue: Path) -> None:
    found = json.loads(compare("runs/q", "--json"))
    first, second, absent = found["settings"]
    half = 4.303 * 0.1 / math.sqrt(3)
    assert first["after"] == pytest.approx(
        {"mean": 0.7, "low": 0.7 - half, "high": 0.7 + half, "count": 3}, abs=1e-3
    )
    assert first["above_first"]["mean"] == 0 and second["above_first"]["mean"] == pytest.approx(0.05)
    assert (absent["name"], absent["finished"], absent["count"], absent["after"]) == ("b", 0, 2, None)
    assert [Path(file).name for file in found["files"]] == ["comparison.md", "comparison.html"]


def test_any_runs_are_compared(queue: Path) -> None:
    said = compare(*(str(queue / f"a-beta{beta}-seed0") for beta in ("0.1", "0.5")))
    rows = [re.split(r"\s{2,}", line.strip()) for line in said.splitlines()]
    assert ["loss.beta=0.1", "1 of 1", "50%", "60% (50% to 70%)", "-", "13.0"] in rows
    assert ["loss.beta=0.5", "1 of 1", "50%", "65% (55% to 75%)", "+5 points", "13.0"] in rows
    assert not (queue / "comparison.md").exists()


def test_more_runs_than_there_are_colours_show_the_first_of_each_setting(queue: Path) -> None:
    record = json.loads((queue / "queue.json").read_text())
    for seed in (3, 4, 5):
        name = f"a-beta0.5-seed{seed}"
        write_run(queue / name, config=config_of("0.5", seed), after=0.7)
        record["runs"].append({"name": name, "setting": "a-beta0.5", "source": "a.yaml", "exit": 0})
    (queue / "queue.json").write_text(json.dumps(record))
    said = compare("runs/q")
    assert "6 of 6" in said
    page = (queue / "comparison.html").read_text()
    assert "Below are 2 of the 9 runs: the first finished one of each setting." in page
    assert page.count('<h3 class="run">') == page.count("a-beta0.1-seed0</h3>") * 2
    assert "a-beta0.5-seed5" in page  # in the table


def test_somebodys_files_in_the_place_of_the_comparison_stay(queue: Path) -> None:
    for name, written in (
        ("comparison.md", "was not written by prefloop"),
        ("comparison.html", "is no report"),
    ):
        (queue / name).write_text("my notes")
        done = CliRunner().invoke(main, ["runs", "compare", "runs/q"])
        assert (done.exit_code, (queue / name).read_text()) == (2, "my notes")
        assert written in done.stderr
        (queue / name).unlink()
