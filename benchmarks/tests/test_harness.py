"""What all benchmarks share: environments, workers, results on record, statistics, pages."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.harness import environments, internals, records
from benchmarks.harness.pages import fill, markdown
from benchmarks.harness.statistics import MOST_SEEDS, geometric_mean, interval, paired
from benchmarks.harness.workers import PACKAGES, ROOT, BenchmarkError, check_out, run_worker

ECHO = """
import os
from benchmarks.harness import worker

def run(job):
    if "fault" in job:
        raise ValueError(job["fault"])
    return {"given": job["given"], "folder": os.getcwd(), "path": os.environ.get("PYTHONPATH")}

if __name__ == "__main__":
    worker.serve(run, ("attrs",))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that a worker can run in, with one of its own and this harness."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "harness").symlink_to(ROOT / "benchmarks" / "harness")
    (tmp_path / "benchmarks" / "echo.py").write_text(ECHO)
    return tmp_path


def test_a_worker_runs_in_the_checkout_and_its_result_comes_back(checkout: Path) -> None:
    found = run_worker("benchmarks.echo", {"given": [1, "ä"]}, checkout=checkout)
    assert found["given"] == [1, "ä"] and Path(found["folder"]) == checkout
    assert found["path"].split(":") == [str(checkout / name) for name in PACKAGES]
    assert found["device"] == "cpu" and list(found["versions"]) == ["attrs"]
    with_python = run_worker("benchmarks.echo", {"given": 1}, python=sys.executable, checkout=checkout)
    assert with_python["path"] is None, "another environment must not find this prefloop"


def test_a_worker_that_fails_says_why(checkout: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"exit code 1:(\n.*)*no such luck") as caught:
        run_worker("benchmarks.echo", {"fault": "no such luck"}, checkout=checkout)
    assert caught.value.exit_code == 2


def test_an_earlier_commit_is_taken_with_its_own_worker(tmp_path: Path) -> None:
    place = check_out("HEAD", tmp_path / "earlier")
    assert all((place / name).is_dir() for name in (*PACKAGES, "benchmarks", "scripts"))
    with pytest.raises(BenchmarkError, match="no-such-commit"):
        check_out("no-such-commit", tmp_path / "none")


def test_pins_follow_this_environment_where_they_are_asked_to() -> None:
    here = environments.installed(("numpy", "mlx", "no-such-distribution"))
    assert set(here) == {"numpy", "mlx"}
    lines = environments.requirements("mlx-lm-lora", here).splitlines()
    assert {f"numpy=={here['numpy']}", f"mlx=={here['mlx']}", "mlx-lm-lora==5.10.2"} <= set(lines)
    assert len(lines) == len(environments.requirements("mlx-lm-lora").splitlines())
    for tool in ("mlx-lm-lora", "trl"):
        assert all("==" in line for line in environments.requirements(tool).splitlines())


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nothing.txt").write_text("")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    python = environments.interpreter("nothing", tmp_path)
    marked = Path(python).parent / "marked"
    marked.touch()
    assert environments.interpreter("nothing", tmp_path) == python and marked.exists()


@pytest.mark.parametrize("name", internals.HOME)
def test_internals_are_where_they_are_looked_for(name: str) -> None:
    assert getattr(internals, name) is not None


def test_results_are_kept_beside_others_and_in_order(tmp_path: Path) -> None:
    file = tmp_path / "results" / "rows.json"
    for name in ("c", "b", "unordered", "a"):
        records.keep(file, name, {"was": name}, order="abc")
    assert list(records.load(file)) == ["a", "b", "c", "unordered"]
    assert records.load(tmp_path / "none.json") == {}


def test_a_log_holds_each_run_once_and_goes_on(tmp_path: Path) -> None:
    settings: list[dict[str, Any]] = [{"rate": 1.0, "changes": ("x",)}, {"rate": 2.0, "changes": ()}]
    log = records.Log(tmp_path / "log.jsonl")
    for seed in (0, 1):
        log.add(settings[0], seed, {"found": seed})
    log.add(settings[1], 0, {"found": "other"})
    again = records.Log(log.path)
    line = again.find(settings[0], 1)
    assert line is not None and line["found"] == 1 and again.find(settings[1], 1) is None
    again.tidy([(settings[1], 0), (settings[0], 1)])
    assert [json.loads(line)["found"] for line in log.path.read_text().splitlines()] == ["other", 1]


def test_results_say_what_they_were_measured_with() -> None:
    found = records.provenance("cpu", {"mlx": "1.0"})
    assert found["commit"].removesuffix("-dirty") == records._git("rev-parse", "--short", "HEAD")
    assert str(found["machine"]).endswith("processors")
    shown = records.origin([{"provenance": found}, {"provenance": {**found, "commit": "abc"}}, {}])
    assert f"| commit | {found['commit']}, abc, unknown |" in shown
    assert "| versions | mlx 1.0 |" in shown and "| device | cpu, unknown |" in shown


def test_pages_are_filled_and_other_marks_left_alone() -> None:
    page = (
        "<!-- a: one -->\nold\n<!-- end --> is <!-- b: x / y -->old<!-- end -->. "
        "<!-- c: z -->kept<!-- end -->"
    )
    table = markdown(("h", "n"), [("x", "1")])
    writers = {"a": lambda name: table, "b": lambda name: f"[{name}]"}
    assert fill(page, writers) == (
        f"<!-- a: one -->\n\n{table}\n\n<!-- end --> is <!-- b: x / y -->[x / y]<!-- end -->. "
        "<!-- c: z -->kept<!-- end -->"
    )
    assert table == "| h | n |\n| --- | ---: |\n| x | 1 |"
    assert (
        fill("<!-- a: one --><!-- end -->", {"a": lambda _: ""})
        == "<!-- a: one -->Not measured yet.<!-- end -->"
    )


def test_a_ratio_is_taken_within_each_round() -> None:
    theirs, mine = np.array([4.0, 9.0, 5.0]), np.array([2.0, 3.0, 2.0])
    ratio = paired(theirs.tolist(), mine.tolist())
    assert (ratio.median, ratio.low, ratio.high) == (2.5, 2.0, 3.0)
    with pytest.raises(ValueError):
        paired([1.0, 2.0], [1.0])
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)


def test_the_interval_covers_as_often_as_it_says() -> None:
    """95 % of Student's intervals of normal samples hold the mean, for every number of seeds."""
    draws = np.random.default_rng(0)
    for count in range(2, MOST_SEEDS + 1):
        found = [interval(draws.normal(3.0, 2.0, count).tolist()) for _ in range(600)]
        assert np.mean([f.low <= 3.0 <= f.high for f in found]) == pytest.approx(0.95, abs=0.03)
    assert interval([0.5, 0.7]).mean == pytest.approx(0.6)
