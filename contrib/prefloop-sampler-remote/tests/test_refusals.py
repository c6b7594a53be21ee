"""What a worker refuses: each with a status, one sentence, and nothing changed."""

from __future__ import annotations

import asyncio
import gc
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from attrs import evolve
from starlette.testclient import TestClient

from prefloop import Policy, Sampling
from prefloop.config import AdapterConfig, ModelConfig
from prefloop_sampler_remote.app import CONFIG, VERSION, _alive, application
from prefloop_sampler_remote.engine import Request, Snapshot
from prefloop_sampler_remote.holder import Holder
from prefloop_sampler_remote.limits import MB, Asked, Limits
from prefloop_sampler_remote.sampler import RemoteSampler

TOKEN = "a-token-of-the-tests"
LIMITS = Limits(rows=4, prompt=20, completion=8, body=5000, adapters=2 * MB)


@pytest.fixture(scope="module")
def holder() -> Iterator[Holder]:
    held = Holder(ModelConfig(path="embedded:policy"))
    held.open()
    yield held
    held.close()


@pytest.fixture(scope="module")
def client(holder: Holder) -> TestClient:
    return TestClient(
        application(holder, TOKEN, LIMITS), headers={"authorization": f"Bearer {TOKEN}"}
    )  # its lifespan, which would close the holder, is not entered


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    return Snapshot.of(Policy.load("embedded:policy"), 3)


def put(client: TestClient, snapshot: Snapshot, **changed: Any) -> Any:
    sent = evolve(snapshot, **changed)
    headers = {VERSION: str(sent.version), CONFIG: json.dumps(sent.config)}
    return client.put("/v1/policy", content=sent.adapters, headers=headers)


def asked(holder: Holder, **changed: Any) -> dict[str, Any]:
    request = Request(((5, 6, 7), (8, 9)), Sampling(max_tokens=4), 1)
    return Asked(holder.digest, holder.policy, holder.version or 0, request).to_json() | changed


@pytest.mark.parametrize("given", [None, "Bearer wrong", f"Basic {TOKEN}", "Bearer "])
def test_nobody_comes_in_without_the_token(holder: Holder, given: str | None) -> None:
    stranger = TestClient(application(holder, TOKEN, LIMITS))
    headers = {"authorization": given} if given else {}
    for method, path in (("GET", "/v1/worker"), ("PUT", "/v1/policy"), ("POST", "/v1/sample"), ("GET", "/")):
        answer = stranger.request(method, path, headers=headers)
        assert answer.status_code == 401
        assert "token" in answer.json()["error"]


def test_adapters_are_taken_and_sampled_from(client: TestClient, holder: Holder, snapshot: Snapshot) -> None:
    assert put(client, snapshot).json() == {"policy": snapshot.digest, "version": 3}
    answer = client.post("/v1/sample", json=asked(holder)).json()
    assert (answer["policy"], answer["version"]) == (snapshot.digest, 3)
    assert [1 <= len(row["tokens"]) <= 4 for row in answer["completions"]] == [True, True]


def test_another_model_or_policy_is_refused(client: TestClient, holder: Holder, snapshot: Snapshot) -> None:
    put(client, snapshot)
    for changed, status, word in (
        ({"model": "0" * 64}, 403, "embedded:policy"),
        ({"policy": "0" * 64}, 409, "version 3"),
        ({"version": 4}, 409, "version 4"),
    ):
        answer = client.post("/v1/sample", json=asked(holder, **changed))
        assert (answer.status_code, word in answer.json()["error"]) == (status, True)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"prompts": [[5]] * 5}, 413),
        ({"prompts": [[5] * 21]}, 413),
        ({"prompts": [[]]}, 422),
        ({"prompts": [["5"]]}, 422),
        ({"prompts": [[True]]}, 422),
        ({"prompts": "no"}, 422),
        ({"seed": -1}, 422),
        ({"seed": 2**63}, 422),
        ({"version": "3"}, 422),
        ({"sampling": {}}, 422),
        ({"extra": "x" * 6000}, 413),
    ],
)
def test_what_does_not_fit_is_refused(
    client: TestClient, holder: Holder, changed: dict[str, Any], status: int
) -> None:
    answer = client.post("/v1/sample", json=asked(holder, **changed))
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("max_tokens", 9, 413),
        ("max_tokens", 0, 413),
        ("temperature", -1, 422),
        ("top_p", 0, 422),
        ("top_p", True, 422),
        pytest.param("temperature", 10**400, 422, id="more than a float"),
        ("stop", ["\ud800"], 422),
        ("min_p", 2, 422),
        ("top_k", 1.5, 422),
        ("stop", "x", 422),
        ("stop", [""], 422),
    ],
)
def test_sampling_has_its_ranges(
    client: TestClient, holder: Holder, name: str, value: Any, status: int
) -> None:
    sampling = asked(holder)["sampling"] | {name: value}
    answer = client.post("/v1/sample", content=json.dumps(asked(holder, sampling=sampling)))
    assert (answer.status_code, name in answer.json()["error"]) == (status, True)


def test_a_token_that_the_model_has_not_is_refused(client: TestClient, holder: Holder) -> None:
    answer = client.post("/v1/sample", json=asked(holder, prompts=[[10**6]])).json()
    assert answer["status"] == 422 and "1000000" in answer["error"]


def test_a_body_without_a_length_is_counted(client: TestClient) -> None:
    parts = (b" " * 1000 for _ in range(10))
    assert client.post("/v1/sample", content=parts).status_code == 413
    assert client.post("/v1/sample", content=b"{").status_code == 400
    assert client.post("/v1/sample", content=b"[]").status_code == 400
    assert client.put("/v1/policy", content=b"").status_code == 400
    deep = "[" * 30_000
    assert client.post("/v1/sample", content=deep[:4000]).status_code == 400
    assert client.put("/v1/policy", headers={VERSION: "1", CONFIG: deep}).status_code == 400


def broken_files(whole: bytes) -> dict[str, bytes]:
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 8]}}).encode()
    return {
        "empty": b"",
        "noise": bytes(range(256)),
        "cut": whole[:-7],
        "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07builtins.",
        "a header without end": struct.pack("<Q", 2**60) + b"{}",
        "a shape beyond its bytes": struct.pack("<Q", len(header)) + header + b"\0" * 8,
    }


def test_what_is_no_safetensors_file_changes_nothing(
    client: TestClient, holder: Holder, snapshot: Snapshot
) -> None:
    put(client, snapshot)
    for name, body in broken_files(snapshot.adapters).items():
        answer = put(client, snapshot, adapters=body, version=4)
        assert (name, answer.status_code) == (name, 422)
        assert "safetensors" in answer.json()["error"]
    assert put(client, snapshot, adapters=bytes(3 * MB)).status_code == 413
    assert (holder.policy, holder.version) == (snapshot.digest, 3)


def test_adapters_that_do_not_fit_change_nothing(
    client: TestClient, holder: Holder, snapshot: Snapshot, tmp_path: Path
) -> None:
    put(client, snapshot)
    file = tmp_path / "changed.safetensors"
    (tmp_path / "whole.safetensors").write_bytes(snapshot.adapters)
    tensors: Any = mx.load(str(tmp_path / "whole.safetensors"))
    first = min(tensors)
    for changed, word in (
        ({first: tensors[first][:-1]}, "shape"),
        ({"model.embed_tokens.weight": tensors[first]}, "no place"),
        ({first: mx.full(tensors[first].shape, float("nan"))}, "NaN"),
    ):
        mx.save_safetensors(str(file), {**tensors, **changed})
        answer = put(client, snapshot, adapters=file.read_bytes())
        assert (answer.status_code, word in answer.json()["error"]) == (422, True)
    whole = Snapshot.of(Policy.load("embedded:policy", AdapterConfig(type="full", layers=1)), 1)
    assert "full" in put(client, snapshot, config=whole.config).json()["error"]
    lora = snapshot.config["lora_parameters"]
    for wrong in (
        {"rank": 10**9},
        {"rank": "8"},
        {"rank": 8.5},
        {"scale": -1.0},
        {"scale": 1e400},
        {"keys": ["no.such"]},
        {"more": 1},
    ):
        answer = put(client, snapshot, config={**snapshot.config, "lora_parameters": {**lora, **wrong}})
        assert (wrong, answer.status_code) == (wrong, 422)
    for layers in (1.5, 1e400, 10**400):
        assert put(client, snapshot, config={**snapshot.config, "num_layers": layers}).status_code == 422
    assert (holder.policy, holder.version) == (snapshot.digest, 3)
    assert client.post("/v1/sample", json=asked(holder)).status_code == 200


def test_what_nobody_waits_for_is_given_up_without_a_word(
    client: TestClient,
    holder: Holder,
    snapshot: Snapshot,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def endless(*_: Any, told: Any, **__: Any) -> None:
        while True:
            told(0)
            time.sleep(0.01)

    put(client, snapshot)
    monkeypatch.setattr(Policy, "generate", endless)
    monkeypatch.setattr("prefloop_sampler_remote.app.BEAT", 0.05)
    request = Request(((5, 6, 7),), Sampling(), 1)

    async def leave() -> None:
        work = holder.sample(Asked(holder.digest, holder.policy, 3, request))
        answer = _alive(work)
        assert await anext(answer) == "\n"
        await answer.aclose()  # as where the learner hangs up
        while not work.future.done():
            await asyncio.sleep(0.01)

    asyncio.run(leave())
    gc.collect()
    assert not caplog.records


def test_a_fault_of_the_worker_is_said(
    client: TestClient, holder: Holder, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("[metal::malloc] out of memory")

    put(client, snapshot)
    monkeypatch.setattr(Policy, "generate", fail)
    answer = client.post("/v1/sample", json=asked(holder)).json()
    assert answer["status"] == 500 and "out of memory" in answer["error"]
    monkeypatch.setattr("prefloop_sampler_remote.holder.check_fit", fail)
    answer = put(client, snapshot)
    assert answer.status_code == 500 and "out of memory" in answer.json()["error"]


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.2:8139",
        "http://10.0.0.2:8139/v1",
        "http://10.0.0.2:81390",
        "http://10.0.0.2:port",
        "http://user:secret@10.0.0.2:8139",
        "http://10.0.0.2:8139?x=1",
        "http://10.0.0.2:8139#x",
        "http://[::1",
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="takes addresses such as"):
        RemoteSampler(workers=(address,), token_file="token")


def test_an_address_that_stands_there_twice_is_refused() -> None:
    for twice in (("http://a:1", "http://a:1/"), ("http://a:1", "http://A:1")):
        with pytest.raises(ValueError, match="each once"):
            RemoteSampler(workers=twice, token_file="token")
