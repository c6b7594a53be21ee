"""Whole conversations between the SDK's client and a server process, over both transports."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest
from mcp import MCPError

from conftest import CONFIG, Agent, over_http, over_stdio, talk
from prefloop import open_run
from prefloop_mcp.reading import GOING_ON
from prefloop_studio.labels import LabelQueue

TOOLS = {
    "list_runs",
    "read_run",
    "wait_for_run",
    "read_metrics",
    "read_pairs",
    "read_log",
    "compare_runs",
}
ACTING = {
    "validate_config",
    "plan_run",
    "start_run",
    "resume_run",
    "stop_run",
    "list_queue",
    "leave_queue",
    "next_pair",
    "label_pair",
    "judge_pairs",
}


async def a_whole_run(agent: Agent, project: Path) -> None:
    """A mistake, a run that is watched to its end and read, and one that is made longer and compared."""
    assert (await agent("list_runs"))["runs"] == []
    wrong = await agent("validate_config", config=CONFIG.replace("iters", "itres"))
    assert wrong["valid"] is False
    (problem,) = wrong["problems"]
    assert problem.startswith("config.yaml:6: training.itres") and "Did you mean 'iters'?" in problem
    assert "itres" in await agent.refused("start_run", name="mine", config=CONFIG.replace("iters", "itres"))
    assert not (project / "runs" / "mine").exists()

    right = await agent("validate_config", config=CONFIG)
    assert right["valid"] and right["settings"]["loss"]["use"] == "prefloop:sigmoid"
    assert (await agent("start_run", name="mine", config=CONFIG))["run"] == "mine"
    assert (await agent("wait_for_run", run="mine", seconds=60))["status"] == "finished"

    judged = open_run(project / "runs" / "mine").judgements().records
    first = await agent("read_pairs", run="mine", limit=3)
    assert [row["key"] for row in first["pairs"]] == [row.key for row in judged[-3:]]
    rest = await agent("read_pairs", run="mine", skip=first["older"], limit=50)
    assert [row["key"] for row in rest["pairs"]] == [row.key for row in judged[:-3]]
    assert rest["older"] is None
    metrics = await agent("read_metrics", run="mine", names=["loss"])
    assert metrics["series"]["steps"] == [1, 2] and len(metrics["series"]["values"]["loss"]) == 2
    assert [row["step"] for row in metrics["evaluations"]] == [0, 2]
    read = await agent("read_run", run="mine")
    assert read["checkpoints"] == [1, 2] and read["settings"]["training"]["iters"] == 2
    assert any("saved" in line for line in (await agent("read_log", run="mine"))["lines"])

    await agent("start_run", name="other", config=CONFIG, overrides=["loss.beta=0.5"])
    assert (await agent("wait_for_run", run="other", seconds=60))["status"] == "finished"
    compared = await agent("compare_runs", runs=["mine", "other"])
    assert compared["settings"]["loss.beta"] == {"mine": 0.1, "other": 0.5}
    assert compared["settings"].keys() == {"loss.beta", "output.path"}
    await agent("resume_run", run="mine", overrides=["training.iters=3"])
    state = await agent("wait_for_run", run="mine", seconds=60)
    assert (state["status"], state["summary"]["steps"]) == ("finished", 3)

    await agent("start_run", name="none", config=CONFIG.replace("model: embedded:policy", "model: ./none"))
    failed = await agent("wait_for_run", run="none", seconds=60)
    assert failed["status"] == "failed" and "there is no such folder" in failed["reason"]
    (waits,) = (await agent("list_queue"))["waiting"]
    await agent("leave_queue", id=waits["id"])
    assert (await agent("list_queue"))["waiting"] == []
    assert "there is no run" in await agent.refused("wait_for_run", run="none")


@pytest.mark.slow
def test_a_whole_run_over_stdio(project: Path) -> None:
    talk(over_stdio(project), lambda agent: a_whole_run(agent, project))


@pytest.mark.slow
def test_a_whole_run_over_http(project: Path, served: tuple[str, str]) -> None:
    talk(over_http(*served), lambda agent: a_whole_run(agent, project))


def test_http_is_refused_without_the_token(served: tuple[str, str]) -> None:
    address, token = served
    assert address.startswith("http://127.0.0.1:")

    async def nothing(agent: Agent) -> None:
        raise AssertionError("it was let in")

    for wrong in (None, token[:-1]):
        with pytest.raises(ExceptionGroup) as refused:
            talk(over_http(address, wrong), nothing)
        assert refused.group_contains(MCPError)
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    right = {"authorization": f"Bearer {token}", "accept": "application/json, text/event-stream"}
    for headers, status in [
        ({}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": f"Basic {token}"}, 401),
        ({**right, "origin": "http://elsewhere.example"}, 403),
        ({**right, "host": "elsewhere.example"}, 421),
    ]:
        assert httpx2.post(address, json=asked, headers=headers).status_code == status

    async def lists(agent: Agent) -> None:
        assert {tool.name for tool in (await agent.client.list_tools()).tools} == TOOLS | ACTING

    talk(over_http(address, token), lists)


def test_a_reader_has_no_tool_that_acts(project: Path) -> None:
    async def lists(agent: Agent) -> None:
        assert {tool.name for tool in (await agent.client.list_tools()).tools} == TOOLS
        assert "start_run" in await agent.refused("start_run", name="x", config=CONFIG)

    talk(over_stdio(project, "--read-only"), lists)


def test_paths_out_of_the_folder_are_refused(project: Path) -> None:
    secret = project.parent / "secret.jsonl"
    secret.write_text('{"prompt": "the secret"}\n')
    (project / "link.jsonl").symlink_to(secret)
    (project / "code.py").write_text("open('ran', 'w')\n")

    async def tries(agent: Agent) -> None:
        for path in (
            str(secret),
            "../secret.jsonl",
            "~/secret.jsonl",
            "link.jsonl",
            "sub/../../secret.jsonl",
        ):
            for tool in ("validate_config", "plan_run"):
                said = await agent.refused(tool, config=CONFIG.replace("embedded:prompts", path))
                assert "prompts.path" in said and "leads out of" in said
            said = await agent.refused("validate_config", config=CONFIG, overrides=[f"prompts.path={path}"])
            assert "leads out of" in said
        code = CONFIG + f"plugins: {{files: [{project.parent}/code.py]}}\n"
        assert "plugins.files.0" in await agent.refused("start_run", name="x", config=code)
        said = await agent.refused(
            "judge_pairs",
            judge="{use: llm, model: /etc}",
            pairs=[{"prompt": "a", "first": "b", "second": "c"}],
        )
        assert "leads out of" in said
        for run in ("..", "../project", "/etc", ".studio", "nowhere"):
            assert "there is no run" in await agent.refused("read_run", run=run)
        for name in ("../x", "/tmp/x", ".x", ""):
            assert "cannot be the name of a run" in await agent.refused("start_run", name=name, config=CONFIG)

    talk(over_stdio(project), tries)
    assert not (project / "ran").exists() and not (project.parent / "x").exists()
    assert not (project / "runs" / ".studio" / "queue").exists()


def test_a_folder_that_is_allowed_may_be_named(project: Path) -> None:
    models = project.parent / "models"
    models.mkdir()
    (models / "p.jsonl").write_text('{"prompt": "a"}\n')

    async def validates(agent: Agent) -> None:
        config = CONFIG.replace("embedded:prompts", str(models / "p.jsonl"))
        assert (await agent("validate_config", config=config))["valid"]

    talk(over_stdio(project, "--allow", str(models)), validates)


@pytest.mark.slow
def test_a_plan_and_a_judge(project: Path) -> None:
    (project / "mine.py").write_text(
        "def shorter(prompt, first, second):\n    return len(first) < len(second)\n"
    )

    async def tries(agent: Agent) -> None:
        plan = await agent("plan_run", config=CONFIG)
        assert plan["ready"] and plan["plan"]["plan"]["steps"] == 2
        failed = await agent("plan_run", config=CONFIG.replace("model: embedded:policy", "model: ./none"))
        assert not failed["ready"] and "there is no such folder" in failed["problems"][0]
        pairs = [{"prompt": "Hi", "chosen": "Yes", "rejected": "Oh no, not this again"}] * 2
        judged = await agent("judge_pairs", judge="{use: function, call: 'mine:shorter'}", pairs=pairs)
        assert judged["judges"][0]["agreement"]["rate"] == 1.0
        assert {row["status"] for row in judged["verdicts"]} == {"ok"}

    talk(over_stdio(project), tries)


@pytest.mark.slow
def test_pairs_of_a_run_that_waits_are_labelled_and_it_goes_on(project: Path) -> None:
    config = CONFIG.replace("judge: {use: rule, length: shorter}", "judge: web").replace(
        "held_out: 2", "held_out: 0"
    )

    async def labels(agent: Agent) -> None:
        await agent("start_run", name="asked", config=config, overrides=["training.iters=1"])
        shown = set()
        while (await agent("wait_for_run", run="asked", seconds=0))["status"] in GOING_ON:
            if not (project / "runs" / "asked" / "labels").is_dir():
                continue
            pair = await agent("next_pair", run="asked")
            if question := pair["question"]:
                shorter = min((0, 1), key=lambda side: len(question["answers"][side]))
                await agent(
                    "label_pair",
                    run="asked",
                    id=question["id"],
                    choice="12"[shorter],
                    swapped=question["swapped"],
                    again=pair["again"],
                )
                shown.add(question["id"])
        assert shown == LabelQueue(project / "runs" / "asked").questions().keys() and shown

    talk(over_stdio(project), labels)
    run = open_run(project / "runs" / "asked")
    assert run.status == "finished"
    for judgement in run.judgements().records:
        first, second = (len(answer.text) for answer in (judgement.pair.first, judgement.pair.second))
        assert judgement.verdict.prefers_first == (first < second) or first == second
