"""Records as ranks say them to each other: plain values, of which JSON loses nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import asdict

from prefloop.errors import StopRun
from prefloop.types import Completion, Verdict


def completion_to_wire(completion: Completion) -> dict[str, Any]:
    """All of a completion."""
    return asdict(completion)


def completion_from_wire(said: Mapping[str, Any]) -> Completion:
    """The completion that was said."""
    return Completion(**{**said, "tokens": tuple(said["tokens"])})


def stop_to_wire(stop: StopRun) -> dict[str, Any]:
    """Why a run ends, as the arguments of `StopRun`."""
    return {"reason": stop.reason, "failed": stop.failed, "resumable": stop.resumable}


def verdict_to_wire(verdict: Verdict) -> dict[str, Any]:
    """All of a verdict, with what was said before it."""
    return asdict(verdict)


def verdict_from_wire(said: Mapping[str, Any]) -> Verdict:
    """The verdict that was said."""
    orders, earlier = said["orders"], said["earlier"]
    return Verdict(
        **{**said, "orders": orders and tuple(orders), "earlier": earlier and verdict_from_wire(earlier)}
    )
