"""What a worker takes at most, and what in a request it refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from attrs import asdict, frozen

from prefloop.types import Sampling
from prefloop_sampler_remote.engine import Request

MB = 2**20


@frozen
class Limits:
    """Sizes of requests. The learner is told them, and says at its start where its settings exceed them."""

    rows: int = 256
    """Completions of a request."""
    prompt: int = 32_768
    """Tokens of a prompt."""
    completion: int = 8192
    """Tokens of a completion."""
    body: int = 32 * MB
    """Bytes of a request for completions."""
    adapters: int = 1024 * MB
    """Bytes of adapters."""


class RefusedError(Exception):
    """A request that is not met, with the HTTP status and one sentence about it."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@frozen
class Asked:
    """A request for completions, as it travels."""

    model: str
    """The digest of the base model."""
    policy: str
    """The digest of the adapters."""
    version: int
    request: Request

    def to_json(self) -> dict[str, Any]:
        rows = self.request
        return {
            "model": self.model,
            "policy": self.policy,
            "version": self.version,
            "seed": rows.seed,
            "first": rows.first,
            "sampling": asdict(rows.sampling),
            "prompts": rows.prompts,
        }

    @classmethod
    def read(cls, body: bytes, limits: Limits) -> Asked:
        """What `body` asks. Raises `RefusedError`."""
        try:
            found = read_json(body)
        except ValueError:
            raise RefusedError(400, "the request is no JSON") from None
        if not isinstance(found, dict):
            raise RefusedError(400, "the request is no JSON object")
        model, policy = (_text(found, key) for key in ("model", "policy"))
        version, seed, first = (_whole(found, key) for key in ("version", "seed", "first"))
        prompts, sampling = _prompts(found, limits), _sampling(found, limits)
        return cls(model, policy, version, Request(prompts, sampling, seed, first))


def read_json(text: str | bytes) -> Any:
    """What `text` says. Raises `ValueError`, where it is nested too deeply, too."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def is_number(value: object) -> bool:
    """Whether `value` is a finite number, of the size that a float has."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]


def _prompts(found: Mapping[str, Any], limits: Limits) -> tuple[tuple[int, ...], ...]:
    prompts = found.get("prompts")
    if not isinstance(prompts, list) or not prompts or not all(isinstance(p, list) and p for p in prompts):
        raise RefusedError(422, "prompts: takes a list of lists of token ids, none of them empty")
    if len(prompts) > limits.rows:
        raise RefusedError(413, f"prompts: {len(prompts)} are more than the {limits.rows} of a request")
    if (longest := max(map(len, prompts))) > limits.prompt:
        raise RefusedError(
            413, f"prompts: one has {longest:,} tokens, and this worker takes {limits.prompt:,}"
        )
    if not all(type(token) is int and token >= 0 for prompt in prompts for token in prompt):
        raise RefusedError(422, "prompts: takes token ids, whole numbers from 0")
    return tuple(map(tuple, prompts))


def _sampling(found: Mapping[str, Any], limits: Limits) -> Sampling:
    given = found.get("sampling")
    if not isinstance(given, dict) or given.keys() != asdict(Sampling()).keys():
        raise RefusedError(422, f"sampling: takes {', '.join(asdict(Sampling()))}")
    numbers = [_number(given, key) for key in ("temperature", "top_p", "min_p")]
    if not (0 < numbers[1] <= 1 and numbers[2] <= 1):
        raise RefusedError(422, "sampling: top_p is above 0, and neither it nor min_p above 1")
    top_k, length, stop = _whole(given, "top_k"), _whole(given, "max_tokens"), given["stop"]
    if not 1 <= length <= limits.completion:
        raise RefusedError(
            413, f"sampling: max_tokens is {length:,}, and this worker samples 1 to {limits.completion:,}"
        )
    if not isinstance(stop, list) or not all(type(one) in (int, str) for one in stop):
        raise RefusedError(422, "sampling: stop takes texts and token ids")
    try:
        "".join(one for one in stop if isinstance(one, str)).encode()  # half a surrogate is no text
        return Sampling(numbers[0], numbers[1], top_k, numbers[2], length, tuple(stop))
    except ValueError as error:
        raise RefusedError(422, f"sampling: stop {error}") from error


def _text(found: Mapping[str, Any], key: str) -> str:
    if not isinstance(value := found.get(key), str):
        raise RefusedError(422, f"{key}: takes a text")
    return value


def _whole(found: Mapping[str, Any], key: str) -> int:
    value = found.get(key)
    if not (type(value) is int and 0 <= value < 2**63):
        raise RefusedError(422, f"{key}: takes a whole number from 0")
    return value


def _number(found: Mapping[str, Any], key: str) -> float:
    value = found[key]
    if not (is_number(value) and value >= 0):
        raise RefusedError(422, f"sampling: {key} takes a number from 0")
    return float(value)
