"""vLLM as a sampler, against a stand-in that follows its documentation. It was not run against a real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import asked, change, own_answers, save_float32, server

from prefloop import Policy, Sampling, UserError
from prefloop.settings import AdapterConfig
from prefloop_sampler_remote.engine import EngineError, Request, Snapshot
from prefloop_sampler_remote.servers.engine import ServerEngine
from prefloop_sampler_remote.servers.samplers import VllmSampler

pytestmark = pytest.mark.slow

STAND_IN = str(Path(__file__).parent / "vllm_stand_in.py")
GREEDY = Sampling(temperature=0.0, top_p=1.0, max_tokens=24)
KEY = "a-key-for-this-test"


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("vllm") / "log.txt"
    with server([STAND_IN, "embedded:policy", "{port}", KEY], log, "/v1/models") as address:
        yield address


@pytest.fixture
def policy() -> Policy:
    return Policy.load("embedded:policy", AdapterConfig(layers=4, rank=4))


def made(policy: Policy, where: str, folder: Path, **options: Any) -> ServerEngine:
    """The engine that the sampler makes for a server."""
    quick = {"key_file": None, "max_completion_length": 24} | options
    (engine,) = VllmSampler(urls=(where,), adapters=str(folder), **quick).engines(policy, [])
    assert isinstance(engine, ServerEngine)
    return engine


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    (tmp_path / "key").write_text(f"{KEY}\n")
    return str(tmp_path / "key")


@pytest.fixture
def engine(where: str, policy: Policy, tmp_path: Path, key_file: str) -> Iterator[ServerEngine]:
    engine = made(policy, where, tmp_path / "shelf", key_file=key_file)
    engine.greet()
    yield engine
    engine.close()


def test_greedy_answers_are_the_policys_own_with_and_without_adapters(
    engine: ServerEngine, policy: Policy
) -> None:
    found = []
    for version in (0, 1):
        snapshot = Snapshot.of(policy, version)
        answers = engine.sample(Request(asked(policy), GREEDY, 1), snapshot)
        assert [answer.tokens for answer in answers] == own_answers(policy, GREEDY)
        assert {answer.version for answer in answers} == {version}
        found.append([answer.tokens for answer in answers])
        change(policy)
    assert found[0] != found[1], "the adapters change nothing: the test shows nothing"


def test_equal_prompts_are_answered_apart_and_a_seed_gives_the_same_again(
    engine: ServerEngine, policy: Policy
) -> None:
    snapshot = Snapshot.of(policy, 0)
    request = Request(asked(policy)[:1] * 8, Sampling(temperature=1.5, top_p=1.0, max_tokens=12), 2**63 - 3)
    first, again = engine.sample(request, snapshot), engine.sample(request, snapshot)
    assert first == again
    assert len({answer.tokens for answer in first}) > 1


def test_a_stop_text_and_a_stop_token_end_a_completion_as_in_the_policys_own_sampling(
    engine: ServerEngine, policy: Policy
) -> None:
    snapshot = Snapshot.of(policy, 0)
    whole = own_answers(policy, GREEDY)
    for stop in (" is", whole[0][2]):
        sampling = Sampling(temperature=0.0, top_p=1.0, max_tokens=24, stop=(stop,))
        answers = engine.sample(Request(asked(policy), sampling, 1), snapshot)
        assert [answer.tokens for answer in answers] == own_answers(policy, sampling) != whole
        assert all(answer.stopped for answer in answers)


def test_old_adapters_leave_the_disk_and_the_server(engine: ServerEngine, policy: Policy) -> None:
    for version in range(5):
        engine.sample(Request(asked(policy)[:1], GREEDY, 1), Snapshot.of(policy, version))
        change(policy, 0.01)
    served = {row["id"] for row in engine.asker.get("/v1/models")["data"]}
    lying = {folder.name for folder in engine.shelf.iterdir()}
    assert len(lying) == 3
    assert lying <= served
    engine.close()
    assert not engine.shelf.exists()


@pytest.mark.parametrize(
    ("options", "rank", "said"),
    [
        ({"key_file": None}, 4, "wants another key"),
        ({"adapters_there": "/not/shared"}, 4, "No adapter found"),
        ({}, 32, "greater than max_lora_rank"),
    ],
)
def test_what_the_server_refuses_is_one_clear_sentence(
    where: str, tmp_path: Path, key_file: str, options: dict[str, Any], rank: int, said: str
) -> None:
    policy = Policy.load("embedded:policy", AdapterConfig(layers=1, rank=rank))
    with pytest.raises(EngineError, match=said) as refused:
        made(policy, where, tmp_path, **{"key_file": key_file, **options}).greet()
    assert "\n" not in refused.value.reason


def test_a_completion_that_is_too_long_for_the_server_is_refused(
    engine: ServerEngine, policy: Policy
) -> None:
    with pytest.raises(EngineError, match="maximum context length is 512") as refused:
        engine.sample(Request(asked(policy), Sampling(max_tokens=9999), 1), Snapshot.of(policy, 0))
    assert refused.value.mistaken


@pytest.mark.parametrize("kind", ["dora", "full"])
def test_adapters_that_vllm_has_not_are_refused(where: str, tmp_path: Path, kind: str) -> None:
    policy = Policy.load("embedded:policy", AdapterConfig(type=kind, layers=1))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=f"adapter.type: vLLM serves LoRA adapters, not {kind}"):
        made(policy, where, tmp_path)


def test_another_model_on_the_server_is_found_out(tmp_path: Path, policy: Policy) -> None:
    log = tmp_path / "log.txt"
    other = save_float32(Policy.load("embedded:policy"), tmp_path / "other", noise=0.05)
    with (
        server([STAND_IN, str(other), "{port}"], log, "/v1/models") as where,
        pytest.raises(EngineError, match="does it serve the policy's model"),
    ):
        made(policy, where, tmp_path / "shelf").greet()
