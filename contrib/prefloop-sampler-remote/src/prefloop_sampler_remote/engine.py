"""What samples elsewhere, as the learner sees it: it is given adapters, then rows of prompts, and answers.

One thread of the learner drives each engine, one request at a time. Nothing here touches MLX, whose work
stays in the learner's main thread.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from attrs import field, frozen

from prefloop.model.adapters import ADAPTER_CONFIG, ADAPTERS
from prefloop.types import Sampling

if TYPE_CHECKING:
    from prefloop import Policy

Tokens = tuple[int, ...]


@frozen(eq=False)
class Snapshot:
    """The adapters of one version of the policy, as `Policy.save` writes them."""

    version: int
    """How many steps the policy had taken."""
    adapters: bytes = field(repr=False)
    """A safetensors file."""
    config: Mapping[str, Any]
    """What lies beside it, in mlx-lm's ``adapter_config.json``."""
    digest: str
    """SHA-256 of `adapters`."""

    @classmethod
    def of(cls, policy: Policy, version: int) -> Snapshot:
        """The policy as it is now."""
        with tempfile.TemporaryDirectory() as folder:
            policy.save(Path(folder))
            adapters = (Path(folder) / ADAPTERS).read_bytes()
            config = json.loads((Path(folder) / ADAPTER_CONFIG).read_bytes())
        return cls(version, adapters, config, hashlib.sha256(adapters).hexdigest())


@frozen
class Request:
    """Rows to sample: one completion for each prompt, which may stand there several times."""

    prompts: tuple[Tokens, ...]
    sampling: Sampling
    seed: int
    first: int = 0
    """The number of the first row among those of its step. What a worker draws for a row depends on `seed`
    and the number of the row alone, so that it is the same however the rows are divided."""
    oldest: int = 0
    """The first version that they may be sampled from."""


@frozen
class Answer:
    """One completion."""

    tokens: Tokens
    """With the stop token, where sampling stopped."""
    stopped: bool
    version: int
    """That of the snapshot it was sampled from, which may be an earlier one."""
    text: str | None = None
    """What the engine says the tokens read; None where it does not say. It is compared, never trusted."""


class EngineError(Exception):
    """An engine did not answer, or not as it should. Its rows go to others, and it is tried again later.

    `mistaken` says that waiting does not help: the token, the model or the address is wrong.
    """

    def __init__(self, reason: str, *, mistaken: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.mistaken = mistaken


class Engine(Protocol):
    """Something that samples elsewhere. Every method but `close` may raise `EngineError`."""

    where: str
    """Its address, for people."""

    def greet(self) -> None:
        """Find out, soon, that it is there and can sample for the run's policy.

        Called at the start, and after each failure until it succeeds.
        """

    def load(self, snapshot: Snapshot) -> None:
        """Sample from these adapters from now on: called before `sample` where they may be others."""

    def sample(self, request: Request, snapshot: Snapshot) -> list[Answer]:
        """One answer for each of the prompts, in their order, from `snapshot`, which was loaded last."""

    def close(self) -> None:
        """Give back what is held."""
