"""What the pages see of runs: cards, curves with few points, pairs, and only what is new."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from prefloop.runs.files import append_lines
from prefloop_studio import checks
from prefloop_studio.series import Columns, points, table


def columns_of(values: list[float]) -> Columns:
    return Columns(steps=np.arange(1, len(values) + 1), values={"loss": np.array(values, np.float64)})


def test_the_card_of_a_run_has_its_last_numbers(client: TestClient) -> None:
    (card,) = client.get("/api/runs").json()
    assert card["run"] == "first"
    assert (card["status"], card["step"], card["planned"], card["alive"]) == ("finished", 3, 3, False)
    assert card["judge"] == "prefloop:rule" and card["model"] == "embedded:policy"
    assert len(card["spark"]["loss"]) == 3


def test_a_run_has_its_plan_and_configuration(client: TestClient) -> None:
    run = client.get("/api/runs/first").json()
    assert run["settings"]["training"]["iters"] == 3
    assert dict(run["plan"])["steps"].startswith("3 of 4 prompts")
    assert run["checkpoints"] == [1, 2, 3] and run["problems"] == []


def test_the_newest_runs_come_first_and_a_damaged_one_says_so(client: TestClient, runs: Path) -> None:
    shutil.copytree(runs / "first", runs / "later")
    (runs / "later" / "run.json").write_text("{")
    later, first = client.get("/api/runs").json()
    assert later["status"] == "damaged" and "run.json" in later["reason"]
    assert first["run"] == "first"


def test_few_points_keep_every_spike() -> None:
    values = [math.sin(i / 900) for i in range(100_000)]
    values[54_321], values[12_345] = 50.0, -50.0
    found = points(columns_of(values), ["loss"], 2000)
    assert len(found["steps"]) == len(found["values"]["loss"]) == 2000
    assert max(found["values"]["loss"]) == 50.0 and min(found["values"]["loss"]) == -50.0
    assert found["steps"] == sorted(found["steps"]) and found["steps"][-1] == 100_000
    spike = found["steps"][found["values"]["loss"].index(50.0)]
    assert abs(spike - 54_322) <= 100  # it stays within its stretch of 100 steps


def test_a_short_series_is_sent_whole_and_undefined_values_are_gaps() -> None:
    found = points(columns_of([1.0, math.nan, 3.0]), ["loss", "unknown"])
    assert found["steps"] == [1, 2, 3] and list(found["values"]) == ["loss"]
    assert found["values"]["loss"][0] == 1.0 and math.isnan(found["values"]["loss"][1])
    assert table(columns_of([3.0, 1.0, math.nan]))["loss"] == {
        "latest": 1.0,
        "least": 1.0,
        "greatest": 3.0,
        "step": 2,
    }


def test_the_series_of_a_run_are_what_its_file_says(client: TestClient, runs: Path) -> None:
    lines = [json.loads(line) for line in (runs / "first" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    found = client.get("/api/runs/first/series").json()
    assert found["values"]["loss"] == losses
    assert [e["step"] for e in found["evaluations"]] == [0, 3]
    append_lines(
        runs / "first" / "metrics.jsonl", [{"step": 4, "loss": 9.0}, {"step": 5, "loss": None, "new": 1.0}]
    )
    more = client.get("/api/runs/first/series", params={"names": "loss,new"}).json()
    assert more["steps"] == [1, 2, 3, 4, 5]
    assert more["values"] == {"loss": [*losses, 9.0, None], "new": [None] * 4 + [1.0]}
    assert more["cursor"] > found["cursor"]


def test_a_run_that_went_back_to_a_checkpoint_is_read_anew(client: TestClient, runs: Path) -> None:
    file = runs / "first" / "metrics.jsonl"
    assert len(client.get("/api/runs/first/series").json()["steps"]) == 3
    file.write_text("")
    append_lines(file, [{"step": 1, "loss": 7.0}])
    found = client.get("/api/runs/first/series", params={"names": "loss"}).json()
    assert (found["steps"], found["values"]) == ([1], {"loss": [7.0]})


def test_pairs_come_with_their_verdicts_and_after_a_cursor(client: TestClient, runs: Path) -> None:
    found = client.get("/api/runs/first/judgements", params={"last": 100}).json()
    lines = (runs / "first" / "judgements.jsonl").read_text().splitlines()
    assert len(found["judgements"]) == len(lines)
    row = found["judgements"][0]
    assert row["status"] in ("ok", "tie") and row["first"]["text"] and row["judge"] == "prefloop:rule"
    again = client.get("/api/runs/first/judgements", params={"cursor": found["cursor"]}).json()
    assert again["judgements"] == []


def test_the_checks_of_the_report_are_there(client: TestClient) -> None:
    found = client.get("/api/runs/first/checks").json()
    assert {check["level"] for check in found} <= {"warning", "note", "fine", "unknown"}
    assert any(check["title"] == "The run finished" for check in found)


def test_a_large_run_is_checked_by_a_process_of_its_own(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = client.get("/api/runs/first/checks").json()
    monkeypatch.setattr(checks, "LARGE", 0)
    monkeypatch.setattr(checks, "_checks", None)
    assert client.get("/api/runs/first/checks").json() == found


def test_evaluations_have_the_answers_of_both_sides(client: TestClient) -> None:
    found = client.get("/api/runs/first/evaluations").json()
    assert [e["step"] for e in found["training"]] == [0, 3]
    pair = found["training"][1]["pairs"][0]
    assert pair["prompt"] and pair["ours"] and pair["theirs"]


def test_a_report_opens_only_at_the_address_that_was_given(client: TestClient) -> None:
    address = client.post("/api/runs/first/report").json()["url"]
    page = client.get(address)
    assert page.status_code == 200 and "sandbox" in page.headers["content-security-policy"]
    assert "The run finished" in page.text
    assert client.get(address.replace("key=", "key=0")).status_code == 401


def test_runs_are_renamed_deleted_and_brought_back(client: TestClient, runs: Path) -> None:
    assert client.post("/api/runs/first/rename", json={"name": "a b"}).json() == {"run": "a b"}
    for name in ("../x", ".hidden", "", "a/b", "a b", "x" * 200, "con\nx"):
        answer = client.post("/api/runs/a b/rename", json={"name": name})
        assert answer.status_code == 400 and len(answer.json()["problems"]) == 1, name
    kept = client.delete("/api/runs/a b").json()["id"]
    assert client.get("/api/runs").json() == [] and not (runs / "a b").exists()
    assert [row["run"] for row in client.get("/api/trash").json()] == ["a b"]
    assert client.post(f"/api/trash/{kept}").json() == {"run": "a b"}
    assert (runs / "a b" / "run.json").is_file()
    client.delete("/api/runs/a b")
    assert client.delete("/api/trash").json() == {"removed": 1}
    assert client.get("/api/trash").json() == []


def test_an_evaluation_has_the_rate_by_each_judge(client: TestClient, runs: Path) -> None:
    rate = {"rate": 0.75, "low": 0.3, "high": 0.95, "pairs": 4}
    other = {"judge": "prefloop:rule 2", "win_rate": {**rate, "rate": 0.25}}
    line = {"win_rate": rate, "judge": "prefloop:rule", "teacher": "prefloop:rule", "others": [other]}
    append_lines(runs / "first" / "metrics.jsonl", [{"step": 9, "evaluation": line}])
    found = client.get("/api/runs/first/series").json()["evaluations"][-1]
    assert found["others"] == [other]
    assert (found["judge"], found["teacher"], found["win_rate"]) == ("prefloop:rule", "prefloop:rule", rate)
