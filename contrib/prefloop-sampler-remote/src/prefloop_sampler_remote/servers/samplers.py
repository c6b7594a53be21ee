"""The samplers `mlx-server` and `vllm`: both completions of each prompt from the policy, drawn by servers."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define, field
from attrs.validators import and_, gt, instance_of, min_len, optional

from prefloop import Prompt, UserError
from prefloop.embedded import local_path
from prefloop.errors import said_of
from prefloop_sampler_remote.engine import Engine
from prefloop_sampler_remote.sampler import ElsewhereSampler, addresses, only_lora
from prefloop_sampler_remote.servers.asking import Asker
from prefloop_sampler_remote.servers.engine import Dialect, ServerEngine
from prefloop_sampler_remote.servers.trial import Trial

if TYPE_CHECKING:
    from prefloop import Policy


@define(eq=False, kw_only=True)
class _ServerSampler(ElsewhereSampler):
    urls: tuple[str, ...] = field(
        validator=addresses,
        metadata={"help": "Addresses of the servers, without /v1, such as http://127.0.0.1:8080."},
    )
    adapters: str = field(
        validator=and_(instance_of(str), min_len(1)),
        metadata={"help": "Folder for the policy's adapters, which the servers can read; it is made."},
    )
    adapters_there: str | None = field(
        default=None,
        validator=optional(instance_of(str)),
        metadata={"help": "The same folder as the servers see it, where that is another path."},
    )
    key_file: str | None = field(
        default=None,
        validator=optional(instance_of(str)),
        metadata={"help": "File with the key that the servers want, which is sent as a bearer token."},
    )
    concurrency: int = field(
        default=32,
        validator=gt(0),
        metadata={"help": "Completions that a server is asked for at the same time, at most."},
    )
    tolerance: float = field(
        default=0.05,
        validator=gt(0),
        metadata={
            "help": "Nats by which a server's log-probabilities may differ from the policy's, in the mean, "
            "before the run: a model of fewer bits differs by more."
        },
    )
    portion: int = field(
        default=16, validator=gt(0), metadata={"help": "Prompts that a server is given at a time."}
    )
    timeout: float = field(
        default=600.0,
        validator=gt(0),
        metadata={"help": "Seconds that a completion may take before its portion goes to another server."},
    )

    def engines(self, policy: Policy, prompts: Sequence[Prompt]) -> list[Engine]:
        """The servers. Raises `UserError` where they could not sample for this policy."""
        dialect = self._dialect(policy)
        dialect.check(policy, prompts)
        trial, run = Trial.of(policy, self.tolerance), f"prefloop-{secrets.token_hex(4)}"
        shelf, key = Path(local_path(self.adapters)).absolute(), self._key()
        there = (self.adapters_there or str(shelf)).rstrip("/")

        def engine(number: int, url: str) -> Engine:
            where, own = url.rstrip("/"), f"{run}-{number}"
            asker, places = Asker(where, key, self.timeout), (shelf / own, f"{there}/{own}")
            limits = self.concurrency, self.tolerance
            return ServerEngine(where, asker, dialect, policy.tokenizer, trial, *places, *limits)

        return [engine(number, url) for number, url in enumerate(self.urls)]

    def _dialect(self, policy: Policy) -> Dialect:
        raise NotImplementedError

    def _key(self) -> str:
        if self.key_file is None:
            return ""
        with said_of("key_file"):
            file = Path(local_path(self.key_file))
            try:
                key = file.read_text(encoding="ascii").strip()
            except (OSError, UnicodeError) as error:
                reason = getattr(error, "strerror", None) or "it is not plain text"
                raise UserError(f"'{file}': the key cannot be read: {reason}.") from error
            if not key or any(not "!" <= letter <= "~" for letter in key):
                raise UserError(f"'{file}': a key is one word of letters, digits and signs.")
            return key


@define(eq=False, kw_only=True)
class MlxServerSampler(_ServerSampler):
    """Both completions of each prompt from the policy, drawn by `mlx_lm.server`.

    For rollouts of many steps: with other adapters the server reads the whole model again, so it goes on with
    those that it has for as long as `max_staleness` allows. Its samples cannot be seeded. Raises `UserError`
    for a server that does not write what the policy writes with the same adapters.
    """

    model: str | None = field(
        default=None,
        validator=optional(instance_of(str)),
        metadata={"help": "The policy's model as the servers find it: a folder or Hub id; the run's own."},
    )

    def _dialect(self, policy: Policy) -> Dialect:
        from prefloop_sampler_remote.servers.mlx_server import MlxServer

        only_lora(policy)
        return MlxServer(self.model or str(policy.loaded.folder.resolve()), policy.tokenizer)


@define(eq=False, kw_only=True)
class VllmSampler(_ServerSampler):
    """Both completions of each prompt from the policy, drawn by vLLM.

    LoRA adapters go to it in PEFT's format, through a folder. Raises `UserError` for a server that does not
    write what the policy writes with the same adapters.
    """

    def _dialect(self, policy: Policy) -> Dialect:
        from prefloop_sampler_remote.servers.vllm import Vllm

        return Vllm(policy.tokenizer)
