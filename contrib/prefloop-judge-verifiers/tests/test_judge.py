"""The judge `verifiers` with the real verifiers, on environments in the form that its documentation gives."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import verifiers as vf

from prefloop import Completion, Pair, Prompt, UserError, Verdict
from prefloop_judge_verifiers.judge import VerifiersJudge
from prefloop_testing import JudgeSuite

ENVIRONMENT = '''
import asyncio

import verifiers as vf
from datasets import Dataset

ROWS = [
    {"question": f"What does {who} {i} say?", "answer": says, "info": {"level": level}}
    for i in range(8)
    for who, says, level in (("cow", "moo", 1), ("dog", "woof", 3))
]


def exact(parser, completion, answer):
    return float((parser.parse_answer(completion) or "").strip() == answer)


async def mentions(prompt, completion, answer, state, info, **kwargs):
    await asyncio.sleep(0)
    assert prompt[-1]["role"] == "user" and state["is_completed"] and state["answer"] == answer
    return info["level"] * float(answer in completion[-1]["content"])


def shortest(completions, states):
    """A reward of the whole group."""
    sizes = [len(completion[0].content) for completion in completions]
    return [float(size == min(sizes)) for size in sizes]


def words(completion):
    return len(completion[0]["content"].split())


def broken_metric(completion):
    raise RuntimeError("never mind")


def broken_reward(completion, answer):
    raise RuntimeError("it is down")


def load_environment(broken: bool = False, group: bool = False, several: bool = False):
    parser = vf.XMLParser(["think", "answer"], answer_field="answer")
    rubric = vf.Rubric(funcs=[exact, mentions], weights=[1.0, 0.25], parser=parser)
    rubric.add_reward_func(words, weight=0.0)
    rubric.add_reward_func(broken_metric, weight=0.0)
    if broken:
        rubric.add_reward_func(broken_reward)
    if group:
        rubric.add_reward_func(shortest, weight=0.5)
    if several:
        rubric = vf.RubricGroup([rubric, vf.Rubric(funcs=[words], weights=[-0.125])])
    return vf.SingleTurnEnv(dataset=Dataset.from_list(ROWS), parser=parser, rubric=rubric)
'''
RIGHT, CLOSE, WRONG = "<answer>moo</answer>", "They moo, I think, all day long.", "Quack"


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The environment, where Python finds it."""
    folder = tmp_path_factory.mktemp("environments")
    (folder / "animal_sounds.py").write_text(ENVIRONMENT)
    sys.path.append(str(folder))
    yield
    sys.path.remove(str(folder))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, where the judge is used."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def pair(first: str, second: str, **columns: Any) -> Pair:
    text = "What does a cow say?"
    fields = {"answer": "moo", "info": {"level": 1}, "example_id": 0, **columns}
    prompt = Prompt((), text, ({"role": "user", "content": text},), "p:1", fields)
    return Pair(prompt, Completion((), first), Completion((), second))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_rubric_decides() -> None:
    judge = VerifiersJudge(env="animal-sounds", temperature=0.5)
    verdicts = judge.judge(
        [pair(RIGHT, WRONG), pair(CLOSE, RIGHT), pair(WRONG, "Woof"), pair(WRONG, CLOSE, info={"level": 3})]
    )
    assert [v.probability for v in verdicts] == pytest.approx(
        [sigmoid(1.25 / 0.5), sigmoid(-1.0 / 0.5), 0.5, sigmoid(-0.75 / 0.5)]
    )
    assert verdicts[2].status == "tie"
    assert verdicts[0].reason == "exact 1 and 0; mentions 1 and 0"
    assert judge.symmetric
    judge.close()


def test_the_two_answers_are_a_group_and_rubrics_may_be_several() -> None:
    (verdict,) = VerifiersJudge(env="animal-sounds", args={"group": True}).judge([pair(CLOSE, WRONG)])
    assert verdict.probability == pytest.approx(sigmoid(0.25 - 0.5))
    (verdict,) = VerifiersJudge(env="animal-sounds", args={"several": True}).judge([pair(CLOSE, WRONG)])
    assert verdict.probability == pytest.approx(sigmoid(0.25 - 0.125 * (7 - 1)))


def test_the_rewards_are_those_that_verifiers_itself_gives() -> None:
    """`Rubric.score_rollout`, on a state made by hand."""
    import asyncio

    environment = vf.load_environment("animal-sounds")

    def reward(text: str) -> float:
        row = {
            "prompt": [{"role": "user", "content": "?"}],
            "answer": "moo",
            "info": {"level": 1},
            "example_id": 0,
        }
        state = vf.State(input=row)
        state |= {"task": row, "trajectory": [], "is_completed": True}
        state["completion"] = [{"role": "assistant", "content": text}]
        asyncio.run(environment.rubric.score_rollout(state))
        return float(state["reward"])

    for texts in ((RIGHT, CLOSE), (WRONG, CLOSE)):
        (verdict,) = VerifiersJudge(env="animal-sounds").judge([pair(*texts)])
        first, second = map(reward, texts)
        assert verdict.probability == pytest.approx(sigmoid(first - second))
        assert first != second


def test_a_reward_function_that_fails_is_no_zero() -> None:
    judge = VerifiersJudge(env="animal-sounds", args={"broken": True})
    assert (
        judge.judge([pair(RIGHT, WRONG)] * 2)
        == [Verdict.error("the reward function broken_reward failed: it is down")] * 2
    )


def test_prompts_without_what_the_rubric_reads_are_refused() -> None:
    judge = VerifiersJudge(env="animal-sounds")
    judge.check_prompts([pair("a", "b").prompt])
    with pytest.raises(
        UserError, match=r"reads 'answer', and the prompts have no such column; .* 'answers'\?"
    ):
        judge.check_prompts([Prompt((), "?", fields={"answers": "moo", "info": {}})])


def test_environments_that_cannot_be_used_are_refused(here: Path) -> None:
    with pytest.raises(UserError, match="env: Could not import 'no-such-env' environment"):
        VerifiersJudge(env="no-such-env").prepare()
    with pytest.raises(UserError, match=r"env: Failed to load environment 'animal-sounds'.*'colour'"):
        VerifiersJudge(env="animal-sounds", args={"colour": 1}).prepare()
    (here / "with_tools.py").write_text(
        "import verifiers as vf\nfrom datasets import Dataset\n"
        "def look(place: str) -> str:\n    '''Look.'''\n    return place\n"
        "def load_environment():\n"
        "    return vf.ToolEnv(tools=[look], dataset=Dataset.from_list([{'question': 'a', 'answer': 'b'}]))\n"
    )
    with pytest.raises(UserError, match="'with-tools' is no environment of single turns"):
        VerifiersJudge(env="with-tools").prepare()


CONFIG = """
model: embedded:policy
prompts: prompts.jsonl
judge: {use: verifiers, env: ENV, args: ARGS}
sampler: {max_completion_length: 8}
adapter: {rank: 2, layers: 1}
training: {batch_size: 4, iters: 2, learning_rate: 1e-3}
evaluation: {held_out: 4}
output: {path: out, report: false}
"""


def train(folder: Path, env: str, args: str = "{}") -> list[dict[str, Any]]:
    """A run on the environment's own prompts, written as the README says; the lines of its ledger."""
    vf.load_environment(env).get_dataset().to_json("prompts.jsonl")
    (folder / "my.yaml").write_text(CONFIG.replace("ENV", env).replace("ARGS", args))
    command = [sys.executable, "-m", "prefloop", "train", "my.yaml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return [json.loads(line) for line in (folder / "out" / "judgements.jsonl").read_text().splitlines()]


def test_a_run(here: Path) -> None:
    (here / "animal_sounds.py").write_text(ENVIRONMENT)  # which the run finds in its folder
    judged = train(here, "animal-sounds", "{several: true}")
    assert {line["step"] for line in judged if not line.get("evaluation")} == {1, 2}

    def reward(line: dict[str, Any], side: str) -> float:
        right, level = ("moo", 1) if "cow" in line["prompt"][-1]["content"] else ("woof", 3)
        text = line[side]["text"]
        return 0.25 * level * (right in text) - 0.125 * len(text.split())

    for line in judged:
        expected = sigmoid(reward(line, "first") - reward(line, "second"))
        assert line["probability"] == pytest.approx(expected)


@pytest.mark.slow
def test_a_run_on_an_environment_from_pypi(here: Path) -> None:
    """staros-stardata: poems under constraints, scored without a model."""
    stardata: Any = pytest.importorskip("stardata.envs.constraint_gym")
    judged = train(here, "stardata.envs.constraint_gym")
    assert any(line["status"] == "ok" for line in judged)
    rows = [json.loads(line) for line in (here / "prompts.jsonl").read_text().splitlines()]
    answers = {row["prompt"]: row for row in rows}
    for line in judged:
        row = answers[line["prompt"][-1]["content"]]
        first, second = (
            stardata.prosody_reward(line[side]["text"], row["answer"], info=row["info"])
            for side in ("first", "second")
        )
        assert line["probability"] == pytest.approx(sigmoid(first - second))


class TestConformance(JudgeSuite):
    component = VerifiersJudge(env="animal-sounds")
    pairs = (pair(RIGHT, WRONG), pair(CLOSE, RIGHT), pair(WRONG, CLOSE))
