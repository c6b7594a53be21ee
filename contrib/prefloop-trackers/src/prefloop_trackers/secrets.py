"""Keeps keys, tokens and passwords out of what trackers are given and out of a run's files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from attrs import Attribute

HIDDEN = "[secret]"
_NAME = re.compile(
    r"(\w*[._-])?(authorization|bearer|cookie|credentials?|passwd|password|secret|"
    r"((api|access|auth|private|refresh|session|secret)[._-]?)?(key|token))",
    re.IGNORECASE,
)
_VALUE = re.compile(
    r"\b(?:(?:sk|pk|rk|hf|gsk|xai|ghp|gho|glpat|nvapi|dapi|local|wandb_v\d)[-_][\w-]{16,}|"
    r"AIza[\w-]{30,}|eyJ[\w-]+\.[\w-]+\.[\w-]+)|(?<=://)[^/\s@]+@|(?i:bearer|basic)\s+\S{8,}"
)
_IN_ENVIRONMENT = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD|PASSWD)$")


def hide(text: str) -> str:
    """`text` without what looks like a secret, and without the values of variables named like one."""
    for name, value in os.environ.items():
        if len(value) >= 8 and _IN_ENVIRONMENT.search(name.upper()):
            text = text.replace(value, HIDDEN)
    return _VALUE.sub(HIDDEN, text)


def flat(settings: Any, path: str = "") -> dict[str, Any]:
    """Nested settings by key path, such as ``bonuses.0.alpha``."""
    if not isinstance(settings, Mapping | list) or (path and not settings):
        return {path: settings}
    items = settings.items() if isinstance(settings, Mapping) else enumerate(settings)
    found: dict[str, Any] = {}
    for key, value in items:
        found |= flat(value, f"{path}.{key}" if path else str(key))
    return found


def without_secrets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Flat settings, with what is named or looks like a secret hidden."""
    return {key: _shown(key, value) for key, value in settings.items()}


def _shown(key: str, value: Any) -> Any:
    last = next(part for part in reversed(key.split(".")) if not part.isdecimal())
    if value and isinstance(value, str) and _NAME.fullmatch(last):
        return HIDDEN
    return hide(value) if isinstance(value, str) else value


def no_secret(_: Any, attribute: Attribute[Any], value: Any) -> None:
    """Validator of a tracker's options, which the run writes to its configuration."""
    for text in value if isinstance(value, tuple) else (value,):
        if isinstance(text, str) and hide(text) != text:
            raise ValueError(
                f"'{attribute.name}' holds what looks like a token or a password, and it would be written to"
                " files: log in with the tracker's own command, or set its environment variable"
            )
