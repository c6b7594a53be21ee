"""Runs that are started from the pages: processes of their own, one after the other."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from conftest import wait_for
from prefloop_studio.processes import holder_of

DRAFT = """\
model: embedded:policy
prompts: {path: embedded:prompts, limit: 40}
judge: {use: rule, length: shorter}
sampler: {max_completion_length: 8}
training: {batch_size: 4, iters: ITERS, save_every: 1}
evaluation: {held_out: 0}
"""


def card(client: TestClient, name: str) -> dict[str, object]:
    return next((run for run in client.get("/api/runs").json() if run["run"] == name), {})


def test_a_configuration_that_is_wrong_starts_nothing(client: TestClient, runs: Path) -> None:
    answer = client.post("/api/runs", json={"config": DRAFT.replace("ITERS", "0")})
    assert answer.status_code == 400 and "training.iters" in answer.json()["problems"][0]
    taken = client.post("/api/runs", json={"config": DRAFT.replace("ITERS", "1"), "name": "first"})
    assert taken.status_code == 400 and "already" in taken.json()["error"]
    assert client.get("/api/queue").json() == [] and not (runs / ".studio" / "queue").exists()


@pytest.mark.slow
def test_a_run_starts_goes_on_stops_and_is_resumed(client: TestClient, runs: Path) -> None:
    entry = client.post("/api/runs", json={"config": DRAFT.replace("ITERS", "3000"), "name": "mine"}).json()
    second = client.post("/api/runs", json={"config": DRAFT.replace("ITERS", "2")}).json()
    assert second["run"] == "online_dpo-policy-1"
    assert (entry["run"], entry["state"]) == ("mine", "waiting")
    wait_for(lambda: card(client, "mine").get("step"))
    (waiting,) = wait_for(lambda: [e for e in [client.get("/api/queue").json()] if len(e) == 1])
    assert [(e["run"], e["state"]) for e in waiting] == [("online_dpo-policy-1", "waiting")]
    run = card(client, "mine")
    assert run["alive"] and run["status"] == "running"
    assert client.delete("/api/runs/mine").status_code == 400  # it is going on
    assert "step" in "\n".join(client.get("/api/runs/mine/log").json()["lines"])
    client.post("/api/runs/mine/stop")
    wait_for(lambda: card(client, "mine")["status"] == "stopped")
    stopped_at = card(client, "mine")["step"]
    wait_for(lambda: card(client, "online_dpo-policy-1").get("status") == "finished")
    wait_for(lambda: client.get("/api/queue").json() == [])
    assert client.post("/api/runs/mine/stop").status_code == 400
    client.post("/api/runs/mine/resume", json={})
    wait_for(lambda: card(client, "mine")["step"] > stopped_at)
    process = holder_of(runs / "mine")
    assert process
    os.kill(process, signal.SIGKILL)
    wait_for(lambda: card(client, "mine")["status"] == "interrupted")
    assert client.delete("/api/runs/mine").status_code == 200


@pytest.mark.slow
def test_what_never_became_a_run_says_why(client: TestClient) -> None:
    draft = DRAFT.replace("ITERS", "2").replace("embedded:policy", "no/such-model-anywhere")
    client.post("/api/runs", json={"config": draft, "name": "broken"})
    wait_for(lambda: [e for e in client.get("/api/queue").json() if e["state"] == "failed"])
    (entry,) = client.get("/api/queue").json()
    assert "model 'no/such-model-anywhere'" in entry["said"]
    client.delete(f"/api/queue/{entry['id']}")
    assert client.get("/api/queue").json() == []
