"""What the judge's options must be, beyond their types: converters and validators of its attrs class."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from attrs import Attribute

from prefloop_judge_openai.key import USUAL_NAME

SERVER_HERE = "http://127.0.0.1:8080/v1"
"""Where mlx_lm.server listens unless told otherwise."""


def as_labels(value: tuple[str, str] | list[str]) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, list) else value


def two_labels(_: Any, __: Attribute[Any], value: tuple[str, str]) -> None:
    texts = isinstance(value, tuple) and all(isinstance(label, str) and label.strip() for label in value)
    if not texts or len(value) != 2 or any(label != label.strip() for label in value):
        raise ValueError(f"'labels' must be two texts, such as [A, B]: {value!r}")
    if value[0].startswith(value[1]) or value[1].startswith(value[0]):
        raise ValueError(f"neither of the 'labels' may begin with the other: {value!r}")


def variable_name(_: Any, __: Attribute[Any], value: str | None) -> None:
    if value is not None and not re.fullmatch(
        r"[A-Z_][A-Z0-9_]*", value
    ):  # the value may be a key: not shown
        raise ValueError(
            "'api_key_env' must be the name of an environment variable in capitals, such as "
            f"{USUAL_NAME}, not the key itself"
        )


def address(_: Any, __: Attribute[Any], value: str) -> None:
    parts = urlsplit(value)
    _ = parts.port  # raises ValueError where it is no number
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("'base_url' must hold no user name, password or query: it is written to files")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"'base_url' must be an address such as {SERVER_HERE}: {value!r}")


def further_fields(_: Any, __: Attribute[Any], value: Mapping[str, Any]) -> None:
    own = {"model", "messages", "logprobs", "top_logprobs", "stream", "n"} & set(value)
    if own:
        raise ValueError(f"'request' must not set {', '.join(sorted(own))}: the judge does")
    if secret := next(_secrets(value, "request"), None):  # its value is not shown
        raise ValueError(
            f"'{secret}' looks like a key or a password, and 'request' is written to files. Put it into an "
            f"environment variable and name that in 'api_key_env', such as {USUAL_NAME}"
        )


_SECRET_NAME = re.compile(
    r"(?:proxy|x)?authorization|bearer|(?:\w*(?:api|access|secret|private))?key|\w*(?:password|passwd|secret)|"
    r"(?:access|auth|api|bearer|refresh|id|session)?token|credentials?|cookie"
)
_SECRET_VALUE = re.compile(
    r"(?:bearer|basic)\s+\S{8,}|(?:sk|pk|rk|hf|gsk|xai|ghp|gho|glpat|nvapi)[-_][\w-]{16,}|AIza[\w-]{30,}",
    re.I,
)


def _secrets(value: Any, path: str) -> Iterator[str]:
    """The paths of what is called, or looks, like a secret."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            below = f"{path}.{key}"
            plain = re.sub(r"[-_ ]", "", str(key)).lower()
            if _SECRET_NAME.fullmatch(plain) and isinstance(inner, str) and inner:
                yield below
            yield from _secrets(inner, below)
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from _secrets(inner, f"{path}.{place}")
    elif isinstance(value, str) and _SECRET_VALUE.search(value):
        yield path
