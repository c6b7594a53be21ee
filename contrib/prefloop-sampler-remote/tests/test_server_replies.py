"""What servers answer, right and wrong, without a server: ids are taken as sampled or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from prefloop import Policy, Sampling, UserError
from prefloop.model.loading import load_tokenizer
from prefloop.sampling.stops import Stops
from prefloop.settings import ModelConfig
from prefloop_sampler_remote.engine import Answer, EngineError
from prefloop_sampler_remote.servers import asking
from prefloop_sampler_remote.servers.asking import Asker
from prefloop_sampler_remote.servers.engine import Said, as_answer
from prefloop_sampler_remote.servers.mlx_server import MlxServer
from prefloop_sampler_remote.servers.samplers import VllmSampler
from prefloop_sampler_remote.servers.vllm import Vllm

PROMPT = (1, 339, 201, 42)
CONTENT = [{"id": 35, "logprob": -0.1}, {"id": 2, "logprob": -0.2}]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer("embedded:policy")


def answering(handler: Callable[[httpx.Request], httpx.Response]) -> Asker:
    """One that asks `handler` instead of a server."""
    asker = Asker("http://server", "a-key")
    asker._client = httpx.Client(base_url="http://server", transport=httpx.MockTransport(handler))
    return asker


def of_mlx(choice: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    whole = {"finish_reason": "stop", "text": "A", "logprobs": {"content": CONTENT}}
    return {"choices": [whole | (choice or {})], "usage": {"prompt_tokens": 4}} | more


def of_vllm(choice: dict[str, Any]) -> dict[str, Any]:
    logprobs = {"token_logprobs": [-0.1, -0.2]}
    whole = {"finish_reason": "stop", "token_ids": [35, 2], "prompt_token_ids": list(PROMPT)}
    return {"choices": [whole | {"logprobs": logprobs} | choice]}


def test_an_answer_that_is_nested_too_deeply_is_no_json() -> None:
    asker = answering(lambda _: httpx.Response(200, content=b"[" * 200_000))
    assert isinstance(asker.post("/v1/completions", {}), str)


def test_ids_are_read_as_they_were_sampled() -> None:
    said = Said((35, 2), (-0.1, -0.2), True)
    assert MlxServer("m", None).read(of_mlx(), PROMPT) == said
    assert Vllm(None).read(of_vllm({}), PROMPT) == said
    assert not Vllm(None).read(of_vllm({"finish_reason": "length"}), PROMPT).stopped


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (of_mlx({"logprobs": None}), "no token ids in 'logprobs'"),
        (of_mlx({"logprobs": {"content": [{"token": "A", "logprob": -1.0}]}}), "no token ids"),
        (of_mlx({"logprobs": {"content": [{"id": "35", "logprob": -1.0}]}}), "no token ids"),
        (of_mlx({"logprobs": {"content": [{"id": 35}]}}), "no token ids"),
        (of_mlx({"logprobs": "none"}), "no token ids"),
        (of_mlx({"logprobs": {"content": [{"id": 35, "logprob": 10**400}]}}), "no token ids"),
        (of_mlx({"logprobs": {"content": [{"id": 35, "logprob": float("nan")}]}}), "no token ids"),
        (of_mlx(usage={"prompt_tokens": 5}), "did not read the 4 tokens of a prompt"),
        (of_mlx(usage=None), "did not read the 4 tokens of a prompt"),
        (of_mlx(choices=[]), "without a completion in 'choices'"),
        ({"choices": "none"}, "without a completion in 'choices'"),
    ],
)
def test_a_reply_of_mlx_server_without_ids_is_refused(reply: dict[str, Any], reason: str) -> None:
    with pytest.raises(EngineError, match=reason) as refused:
        MlxServer("m", None).read(reply, PROMPT)
    assert refused.value.mistaken


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ({"token_ids": None}, "returns no token ids"),
        ({"token_ids": [35, True]}, "returns no token ids"),
        ({"prompt_token_ids": None}, "returns no token ids"),
        ({"prompt_token_ids": [1, 339, 201]}, "did not read a prompt as it was sent"),
        ({"logprobs": None}, "no log-probability for each token"),
        ({"logprobs": [-0.1, -0.2]}, "no log-probability for each token"),
        ({"logprobs": {"token_logprobs": [-0.1, 10**400]}}, "no log-probability for each token"),
        ({"logprobs": {"token_logprobs": [-0.1]}}, "no log-probability for each token"),
    ],
)
def test_a_reply_of_vllm_without_ids_is_refused(choice: dict[str, Any], reason: str) -> None:
    with pytest.raises(EngineError, match=reason):
        Vllm(None).read(of_vllm(choice), PROMPT)


def test_a_completion_ends_where_the_policys_own_would(tokenizer: Any) -> None:
    stops = Stops.of(tokenizer)
    said = Said((35, 2), (), True), Said((35, 35, 35), (), False), Said((35, 2, 7), (), False)
    assert [as_answer(one, 3, stops, 5) for one in said] == [
        Answer((35, 2), True, 5),
        Answer((35, 35, 35), False, 5),
        Answer((35, 2), True, 5),  # what follows the end is no part of it
    ]


@pytest.mark.parametrize("stopped", [True, False])
def test_a_completion_that_ends_where_the_policys_would_not_is_refused(tokenizer: Any, stopped: bool) -> None:
    with pytest.raises(EngineError, match="ended a completion after 2 of 3 tokens"):
        as_answer(Said((35, 36), (), stopped), 3, Stops.of(tokenizer), 5)


@pytest.mark.parametrize(
    ("status", "body", "said", "mistaken"),
    [
        (
            401,
            '{"error": "Unauthorized"}',
            "wants another key (sampler.key_file) (HTTP 401: Unauthorized)",
            True,
        ),
        (
            404,
            '{"error": {"message": "No model `x`."}}',
            "does not find that (HTTP 404: No model `x`)",
            True,
        ),
        (
            400,
            '{"object": "error", "message": "too long"}',
            "refuses the request (HTTP 400: too long)",
            True,
        ),
        (422, '{"detail": [{"msg": "no"}]}', 'refuses the request (HTTP 422: [{"msg": "no"}])', True),
        (500, "<html>\nbroken</html>", "has failed (HTTP 500: <html>\\nbroken</html>)", False),
        (503, "", "has failed (HTTP 503)", False),
        (429, "", "refuses the request (HTTP 429)", False),
    ],
)
def test_every_complaint_is_one_sentence(status: int, body: str, said: str, mistaken: bool) -> None:
    asker = answering(lambda _: httpx.Response(status, text=body))
    with pytest.raises(EngineError) as refused:
        asker.post("/v1/completions", {})
    assert (refused.value.reason, refused.value.mistaken) == (said, mistaken)


def test_silence_and_floods_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("", request=request)

    with pytest.raises(EngineError, match="did not answer within 600 seconds"):
        answering(silent).get("/health")
    monkeypatch.setattr(asking, "MOST_BYTES", 1 << 20)
    flood = answering(lambda _: httpx.Response(200, content=b" " * (2 << 20)))
    with pytest.raises(EngineError, match="more than 1 MiB"):
        flood.get("/health")
    with pytest.raises(EngineError, match=r"cannot be reached: .*refused"):
        Asker("http://127.0.0.1:1").get("/health")


def test_a_connection_that_breaks_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PAUSES", (0.0, 0.0))
    asked: list[httpx.Request] = []

    def breaking(times: int) -> Asker:
        def handler(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            if len(asked) <= times:
                raise httpx.ReadError("reset by peer", request=request)
            return httpx.Response(200, json={"answers": len(asked)})

        asked.clear()
        return answering(handler)

    assert breaking(2).get("/health") == {"answers": 3}
    with pytest.raises(EngineError, match="cannot be reached: reset by peer"):
        breaking(3).get("/health")


def test_the_key_is_sent_and_never_shown() -> None:
    asker = Asker("http://server", "a-secret")
    assert asker._client.headers["authorization"] == "Bearer a-secret"
    assert "a-secret" not in repr(asker)


def test_a_prompt_goes_to_mlx_server_only_as_a_text_that_becomes_it_again(tokenizer: Any) -> None:
    dialect = MlxServer("m", tokenizer)
    usual = tuple(
        tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], add_generation_prompt=True)
    )
    body = dialect.request("n", "/there", usual, Sampling(stop=("x", 5)), 9)
    assert tuple(tokenizer.encode(body["prompt"])) == usual
    assert (body["model"], body["adapters"], body["stop"]) == ("m", "/there", ["x"])
    split = (*tokenizer.encode("a"), *tokenizer.encode("nd"))  # no tokenizer writes it like this
    assert tokenizer.encode(tokenizer.decode(split)) != list(split), "the test shows nothing"
    with pytest.raises(EngineError, match="does not become its 2 tokens again"):
        dialect.request("n", "/there", split, Sampling(), 9)


def test_a_model_that_is_quantized_here_cannot_be_one_on_the_server() -> None:
    policy = Policy.load(ModelConfig("embedded:policy", quantize="4bit"))
    with pytest.raises(UserError, match=r"model.quantize: .*as it is stored"):
        MlxServer("m", policy.tokenizer).check(policy, [])


def test_what_mlx_server_reads_is_what_prefloop_saves(tmp_path: Path) -> None:
    from prefloop_sampler_remote.engine import Snapshot

    policy = Policy.load("embedded:policy")
    saved, written = tmp_path / "saved", tmp_path / "written"
    for folder in (saved, written):
        folder.mkdir()
    policy.save(saved)
    MlxServer("m", None).write(written, Snapshot.of(policy, 0))
    for file in saved.iterdir():
        other = (written / file.name).read_bytes()
        read = json.loads if file.suffix == ".json" else bytes
        assert read(other) == read(file.read_bytes())


def test_a_run_that_does_not_begin_leaves_no_adapters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise EngineError("wants another key", mistaken=True)

    monkeypatch.setattr(Asker, "post", refuse)
    sampler = VllmSampler(urls=("http://127.0.0.1:1",), adapters=str(tmp_path))
    with pytest.raises(UserError, match="another key"):
        sampler.check_policy(Policy.load("embedded:policy"), [])
    assert not list(tmp_path.iterdir())
