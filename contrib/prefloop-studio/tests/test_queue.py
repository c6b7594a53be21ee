"""Runs that the pages or `prefloop queue` start: processes of their own, one after the other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from conftest import wait_for
from prefloop import open_run
from prefloop.runs.holding import holder_of
from prefloop_studio.queue import Entry, Queue, work

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


def prefloop(*arguments: str, folder: Path) -> tuple[int, str, str]:
    """What a command, run in `folder`, ends with and says."""
    command = [sys.executable, "-m", "prefloop", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_a_command_lists_what_waits_and_takes_it_back(runs: Path) -> None:
    queue, folder = Queue(runs), runs.parent
    assert prefloop("queue", folder=folder) == (0, "Nothing waits.\n", "")
    queue.place.mkdir(parents=True)
    queue.write(Entry("1", "broken", state="failed", said="error: no\x1b[31m such model"))
    queue.write(Entry("2", "next"))
    listed = "failed    broken\n          error: no[31m such model\nwaiting   next\n"
    assert prefloop("queue", folder=folder) == (0, listed, "")
    status, printed, _ = prefloop("queue", "--json", folder=folder)
    assert status == 0 and [row["run"] for row in json.loads(printed)] == ["broken", "next"]
    listed = prefloop("queue", "--runs", "runs", "--remove", "broken", "--remove", "next", folder=folder)
    assert listed == (0, "Nothing waits.\n", "")
    assert prefloop("queue", "--remove", "next", folder=folder) == (
        2,
        "",
        "error: no run called 'next' waits.\n",
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("absent.yaml",), "absent.yaml: there is no such file."),
        (("good.yaml", "wrong.yaml"), "wrong.yaml:5: training.iters: must be >= 1, not 0."),
        (("good.yaml", "--set", "training.iters=0"), "--set training.iters=0: must be >= 1, not 0."),
        (("good.yaml", "--set", "output=elsewhere/first"), "there is something called 'first' in"),
        (("good.yaml", "."), "'.' holds no run: there is no run.json in it."),
        (("runs/first", "--runs", "others"), "'runs/first' is not among the runs in"),
    ],
)
def test_a_command_that_is_wrong_starts_nothing(runs: Path, arguments: tuple[str, ...], says: str) -> None:
    (runs.parent / "good.yaml").write_text(DRAFT.replace("ITERS", "1"))
    (runs.parent / "wrong.yaml").write_text(DRAFT.replace("ITERS", "0"))
    status, printed, said = prefloop("queue", *arguments, folder=runs.parent)
    assert (status, printed) == (2, "") and said.startswith(f"error: {says}") and said.count("\n") == 1
    assert not (runs / ".studio").exists() and not (runs.parent / "others").exists()


def test_a_run_that_is_gone_when_its_turn_comes_does_not_hold_up_the_queue(runs: Path) -> None:
    queue = Queue(runs)
    queue.place.mkdir(parents=True)
    queue.write(Entry("1", "deleted", resume=True))
    queue.write(Entry("2", "elsewhere", began=str(runs / "removed")))
    work(queue)
    assert [(entry.run, entry.state) for entry in queue.entries()] == [
        ("deleted", "failed"),
        ("elsewhere", "failed"),
    ]
    assert all(entry.said.startswith("It could not be started: ") for entry in queue.entries())


@pytest.mark.slow
def test_commands_start_runs_that_wait_stop_them_and_go_on(runs: Path) -> None:
    """The second one's prompts are named from the folder that its command was run in."""
    folder, elsewhere = runs.parent, runs.parent / "elsewhere"
    elsewhere.mkdir()
    (folder / "long.yaml").write_text(DRAFT.replace("ITERS", "3000") + "output: x/long\n")
    (elsewhere / "own.jsonl").write_text("".join(f'{{"prompt": "Say {i}."}}\n' for i in range(9)))
    (elsewhere / "own.yaml").write_text(
        DRAFT.replace("ITERS", "2").replace("embedded:prompts", "./own.jsonl")
    )
    assert prefloop("queue", "long.yaml", folder=folder) == (0, "waiting   long\n", "")
    status, listed, _ = prefloop("queue", "own.yaml", "--runs", "../runs", folder=elsewhere)
    assert status == 0 and listed.endswith("waiting   online_dpo-policy-1\n")
    wait_for(lambda: (runs / "long" / "metrics.jsonl").is_file())
    status, _, said = prefloop("queue", "runs/long", folder=folder)
    assert (status, said) == (2, "error: 'long' is going on already.\n")
    assert prefloop("runs", "stop", "runs/long", "--wait", folder=folder) == (
        0,
        "'runs/long' is stopped.\n",
        "",
    )
    second = runs / "online_dpo-policy-1"
    wait_for(lambda: (second / "run.json").is_file() and open_run(second).status == "finished")
    steps = open_run(runs / "long").summary["steps"]
    more = f"training.iters={steps + 2}"
    assert prefloop("queue", "runs/long", "--set", more, folder=folder)[0] == 0
    wait_for(lambda: open_run(runs / "long").status == "finished")
    assert open_run(runs / "long").summary["steps"] == steps + 2
    wait_for(lambda: Queue(runs).entries() == [])
