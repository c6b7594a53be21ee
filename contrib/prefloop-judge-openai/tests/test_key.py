"""The key comes from the environment and goes to the server; nobody else sees it."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest
from fake_server import Request, Response, completion, failure, knows_the_better, pairs

from prefloop import StopRun, UserError, load_config
from prefloop.config import dump_config
from prefloop_judge_openai.judge import OpenAiJudge
from prefloop_judge_openai.key import Key

SECRET = "sk-proj-0123456789abcdefABCDEF"


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("OPENAI_API_KEY", f" {SECRET}\n")
    return SECRET


def hidden(text: str) -> bool:
    """Whether not even a part of the key is in `text`."""
    return SECRET[:6] not in text and SECRET[-6:] not in text


def echo(request: Request) -> Response:
    """A server that repeats what it was sent, as an error or as the reply, and cuts it anywhere."""
    prompt = int(request.quoted[0].split()[-1])
    padding = "x" * (60 + prompt % 20)
    echoed = f"{padding}{request.authorization}"
    answers = [
        completion(echoed),
        failure(400, echoed),
        failure(500, echoed),
        Response(echoed.encode()),
        Response(echoed.encode(), 503),
    ]
    return answers[prompt % len(answers)]


def test_the_server_gets_the_key(
    serve: Any, judge_at: Any, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "admin")
    monkeypatch.setenv("OTHER_KEY", "other")
    for options, sent in (
        ({}, key),
        ({"api_key_env": "OTHER_KEY"}, "other"),
        ({"api_key_env": None}, "none"),
    ):
        server = serve(knows_the_better)
        judge_at(server, **options).judge(pairs(1))
        assert {request.authorization for request in server.requests} == {f"Bearer {sent}"}
        assert SECRET not in str([request.body for request in server.requests])


def test_nothing_said_or_logged_shows_it(
    serve: Any, judge_at: Any, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = serve(echo)
    judge = judge_at(server, retries=1)
    verdicts = judge.judge(pairs(20))
    assert {v.status for v in verdicts} == {"error"}
    assert sum("[key]" in str(v.reason) for v in verdicts) >= 5
    assert len(caplog.records) > 100
    assert hidden(caplog.text)
    assert hidden(str(verdicts))
    assert hidden(repr(judge))
    assert hidden(repr(judge._server.key) + str(judge._server.key) + f"{vars(judge._server)}")


def test_no_error_shows_it(serve: Any, judge_at: Any, key: str) -> None:
    server = serve(lambda r: failure(401, f"Incorrect API key provided: {r.authorization}"))
    judge = judge_at(server)
    with pytest.raises(StopRun) as stopped:
        judge.judge(pairs(2))
    with pytest.raises(UserError) as refused:
        judge.prepare()
    for error in (stopped.value, refused.value):
        assert "Incorrect API key provided: Bearer [key]" in str(error)
        assert hidden("".join(traceback.format_exception(error)))
        assert error.__suppress_context__ or error.__context__ is None


def test_no_file_can_be_made_of_it(serve: Any, judge_at: Any, key: str) -> None:
    server = serve(knows_the_better)
    config = load_config(
        {
            "model": "embedded:policy",
            "prompts": "embedded:prompts",
            "judge": {"use": "openai", "model": "m", "base_url": server.url},
        }
    )
    assert isinstance(config.judge, OpenAiJudge)
    config.judge.judge(pairs(1))
    assert hidden(dump_config(config))
    assert "api_key_env: OPENAI_API_KEY" in dump_config(config)
    with pytest.raises(TypeError):
        pickle.dumps(config.judge)
    with pytest.raises(TypeError):
        copy.deepcopy(Key(SECRET))
    config.judge.close()


@pytest.mark.parametrize("given", [SECRET, "gsk_Abc123", "OPENAI API KEY", "", "$OPENAI_API_KEY"])
def test_the_key_itself_is_no_name_and_is_not_repeated(given: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "model: embedded:policy\nprompts: embedded:prompts\n"
        f"judge: {{use: openai, model: m, api_key_env: '{given}'}}\n"
    )
    with pytest.raises(UserError, match="must be the name of an environment variable") as error:
        load_config(file)
    assert not given or f"'{given}'" not in str(error.value)
    assert hidden(str(error.value))


@pytest.mark.parametrize("value", ["sk-one sk-two", "sk-\u00e4", "sk-\x01"])
def test_a_text_that_can_be_no_key_is_refused_unseen(value: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", value)
        with pytest.raises(UserError, match="what OPENAI_API_KEY holds is no key") as error:
            OpenAiJudge("m").judge(pairs(1))
    assert value not in str(error.value)


def test_the_usual_key_does_not_travel_unencrypted(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"would travel unencrypted to 192\.0\.2\.7") as error:
        OpenAiJudge("m", base_url="http://192.0.2.7/v1").submit(pairs(1))
    assert hidden(str(error.value))
    monkeypatch.setenv("VLLM_KEY", "own")
    for name, url, sent in (
        ("OPENAI_API_KEY", "https://192.0.2.7/v1", key),
        ("OPENAI_API_KEY", "http://localhost:1/v1", key),
        ("OPENAI_API_KEY", "http://[::1]:1/v1", key),
        ("VLLM_KEY", "http://192.0.2.7/v1", "own"),
        (None, "http://192.0.2.7/v1", "none"),
        ("NOT_SET", "http://192.0.2.7/v1", "none"),
    ):
        assert Key.from_environment(name, url).reveal() == sent


@pytest.mark.parametrize(
    "request_fields",
    [
        {"api_key": SECRET},
        {"extra_headers": {"Authorization": "Bearer abcdefghijkl"}},
        {"extra_headers": {"X-Api-Key": "anything"}},
        {"metadata": [{"note": f"use {SECRET}"}]},
        {"auth_token": "x"},
        {"extra_body": {"password": "hunter2"}},
    ],
)
def test_a_key_among_the_request_s_fields_is_refused_and_not_shown(request_fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"looks like a key or a password.*'api_key_env'") as refused:
        OpenAiJudge(model="m", request=request_fields)
    assert hidden(str(refused.value)) and "hunter2" not in str(refused.value)


def test_ordinary_fields_of_a_request_are_no_secrets() -> None:
    ordinary = {
        "max_completion_tokens": 9,
        "user": "me",
        "seed": 1,
        "stop_token": None,
        "prompt_cache_key": None,
    }
    assert OpenAiJudge(model="m", request={**ordinary, "extra_body": {"top_k": 1}}).request["seed"] == 1
