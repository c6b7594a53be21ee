"""mlx_lm.server as a sampler, against the real one, which serves the embedded model in float32."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from serving import asked, change, own_answers, save_float32, server

from prefloop import Loop, Policy, Sampling, UserError, load_config, train
from prefloop.settings import AdapterConfig, TrainingConfig
from prefloop_plugins.judges.rule import RuleJudge
from prefloop_sampler_remote.engine import EngineError, Request, Snapshot
from prefloop_sampler_remote.servers.engine import ServerEngine
from prefloop_sampler_remote.servers.samplers import MlxServerSampler

pytestmark = pytest.mark.slow

GREEDY = Sampling(temperature=0.0, top_p=1.0, max_tokens=24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_float32(Policy.load("embedded:policy"), tmp_path_factory.mktemp("model") / "policy")


@pytest.fixture(scope="module")
def where(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = ["-m", "mlx_lm", "server", "--model", str(folder), "--port", "{port}"]
    with server(command, log, "/health") as address:
        yield address


@pytest.fixture
def policy(folder: Path) -> Policy:
    return Policy.load(str(folder), AdapterConfig(layers=4))


def sampler(where: str, shelf: Path, **options: Any) -> MlxServerSampler:
    return MlxServerSampler(
        **({"urls": (where,), "adapters": str(shelf), "max_completion_length": 24} | options)
    )


@pytest.fixture
def engine(where: str, policy: Policy, tmp_path: Path) -> Iterator[ServerEngine]:
    (made,) = sampler(where, tmp_path / "shelf").engines(policy, [])
    assert isinstance(made, ServerEngine)
    made.greet()
    yield made
    made.close()


def test_greedy_answers_are_the_policys_own_with_and_without_adapters(
    engine: ServerEngine, policy: Policy
) -> None:
    found = []
    for version in (0, 1):
        request = Request(asked(policy), GREEDY, 1, oldest=version)
        answers = engine.sample(request, Snapshot.of(policy, version))
        assert [answer.tokens for answer in answers] == own_answers(policy, GREEDY)
        assert {answer.version for answer in answers} == {version}
        found.append([answer.tokens for answer in answers])
        change(policy)
    assert found[0] != found[1], "the adapters change nothing: the test shows nothing"


def test_tokens_are_drawn_from_the_policys_own_distribution(engine: ServerEngine, policy: Policy) -> None:
    """A chi-square test of 600 first tokens; a right server fails it once in a million times."""
    change(policy, 0.05)
    tokens, sampling = asked(policy)[0], Sampling(temperature=1.3, top_p=1.0, max_tokens=1)
    answers = engine.sample(Request((tokens,) * 600, sampling, 1), Snapshot.of(policy, 1))
    drawn = Counter(answer.tokens[0] for answer in answers)
    logits = policy.model(mx.array([tokens]))[0, -1].astype(mx.float32)
    chances: Any = mx.softmax(logits / 1.3).tolist()
    expected = {token: 600 * chance for token, chance in enumerate(chances) if 600 * chance >= 5}
    rest = 600 - sum(expected.values())
    seen = sum(count for token, count in drawn.items() if token not in expected)
    statistic = sum((drawn[token] - e) ** 2 / e for token, e in expected.items()) + (seen - rest) ** 2 / max(
        rest, 5
    )
    assert statistic < limit(len(expected)), (statistic, len(expected))
    plain: Any = mx.softmax(logits).tolist()
    assert sum(abs(a - b) for a, b in zip(plain, chances, strict=True)) > 0.1, "the temperature does not show"


def limit(freedom: int) -> float:
    """What chi-square exceeds once in a million times, by Wilson and Hilferty's approximation."""
    return freedom * (1 - 2 / (9 * freedom) + 4.753 * math.sqrt(2 / (9 * freedom))) ** 3


def test_adapters_are_loaded_again_only_where_those_it_has_are_too_old(
    engine: ServerEngine, policy: Policy
) -> None:
    versions = []
    for version, oldest in ((0, 0), (1, 0), (2, 0), (3, 2), (4, 3)):
        snapshot = Snapshot.of(policy, version)
        (answer,) = engine.sample(Request(asked(policy)[:1], GREEDY, 1, oldest=oldest), snapshot)
        versions.append(answer.version)
        change(policy, 0.01)
    assert versions == [0, 0, 0, 3, 3]


def test_a_server_that_leaves_adapters_away_or_has_another_model_is_found_out(
    where: str, policy: Policy, tmp_path: Path
) -> None:
    other = str(save_float32(Policy.load(policy.loaded.folder.as_posix()), tmp_path / "other", noise=0.05))
    for options, said in (
        ({"model": "default_model"}, "leaves away the adapters"),
        ({"model": other}, "does it serve the policy's model"),
        ({"model": str(tmp_path / "none")}, "HTTP 404"),
        ({"adapters_there": "/not/shared"}, "adapter path does not exist: /not/shared"),
    ):
        (engine,) = sampler(where, tmp_path / "shelf", **options).engines(policy, [])
        with pytest.raises(EngineError, match=said) as refused:
            engine.greet()
        assert refused.value.mistaken


def test_a_server_that_is_not_there_is_replaced_by_the_learner(policy: Policy, tmp_path: Path) -> None:
    elsewhere = sampler("http://127.0.0.1:1", tmp_path / "shelf", max_staleness=0, pause=0.1)
    steps = list(loop(policy, elsewhere, iters=2))
    elsewhere.close()
    assert [step.metrics["remote_here"] for step in steps] == [8.0, 8.0]
    assert [step.metrics["remote_workers"] for step in steps] == [0.0, 0.0]


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def loop(policy: Policy, drawn_by: Any, *, iters: int) -> Loop:
    prompts = [policy.encode(f"What does a {animal} say?") for animal in ("cow", "dog", "cat", "duck")]
    training = TrainingConfig(batch_size=4, iters=iters, learning_rate=3e-3)
    return Loop(policy, prompts, judge=RuleJudge(length="shorter"), sampler=drawn_by, training=training)


def test_a_whole_run_samples_on_the_server(where: str, folder: Path, tmp_path: Path) -> None:
    """Rollouts of four steps: adapters are loaded for each, and the ledger has what the server sampled."""
    config = {
        "model": str(folder),
        "judge": {"use": "rule", "length": "shorter"},
        "prompts": "embedded:prompts",
        "sampler": {
            "use": "mlx-server",
            "urls": [where],
            "adapters": str(tmp_path / "shelf"),
            "max_staleness": 3,
            "max_completion_length": 24,
        },
        "training": {"rollout": 4, "batch_size": 4, "iters": 8, "learning_rate": 1e-3},
        "output": {"path": str(tmp_path / "run"), "report": False},
    }
    run = train(load_config(config))
    assert run.status == "finished"
    steps = [line for line in _lines(run.path / "metrics.jsonl") if "age" in line]
    assert [line["age"] for line in steps] == [0.0, 1.0, 2.0, 3.0] * 2
    assert all(line["remote_here"] == line["remote_refused"] == line["remote_dropped"] == 0 for line in steps)
    judged = [line for line in _lines(run.path / "judgements.jsonl") if not line.get("evaluation")]
    assert len(judged) == 32
    assert {line[side]["version"] for line in judged for side in ("first", "second")} == {0, 4}
    tokenizer = Policy.load(str(folder)).tokenizer
    for line in judged:
        for side in ("first", "second"):
            tokens = line[side]["tokens"]
            assert tokens[-1] in tokenizer.eos_token_ids or len(tokens) == 24
            assert tokenizer.decode(tokens, skip_special_tokens=True) == line[side]["text"]
    assert not list((tmp_path / "shelf").iterdir()), "adapters are left behind"


def test_prompts_that_are_not_what_their_text_becomes_are_refused_before_the_run(
    where: str, policy: Policy, tmp_path: Path
) -> None:
    from attrs import evolve

    split = (*policy.tokenizer.encode("a"), *policy.tokenizer.encode("nd"))
    odd = evolve(policy.encode("and"), tokens=split, id="prompts.jsonl:7")
    with pytest.raises(UserError, match=r"sampler: prompts: prompts.jsonl:7: takes prompts as text"):
        sampler(where, tmp_path / "shelf").check_policy(policy, [odd])
