"""A worker's model: the base as it was started with, and the adapters that it was given last.

Everything that MLX computes is computed in one thread, where the model was loaded.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
from attrs import define, evolve, field, frozen

from prefloop import Policy, Prompt, StopRun, UserError
from prefloop.config import AdapterConfig, ModelConfig
from prefloop.model.adapters import check_fit
from prefloop.model.limits import embedded_ids
from prefloop.model.loading import LoadedModel
from prefloop.model.weight_sharing import arrays
from prefloop.runs.dependencies import content_digest
from prefloop_sampler_remote.limits import Asked, RefusedError, is_number

if TYPE_CHECKING:
    from prefloop import Completion


def digest_of(loaded: LoadedModel) -> str:
    """The SHA-256 of a base model: its files, and how it was quantized when it was loaded."""
    quantized = json.dumps(loaded.config.get("quantization"), sort_keys=True)
    return hashlib.sha256(f"{content_digest(loaded.folder)} {quantized}".encode()).hexdigest()


@frozen(eq=False)
class Work:
    """Something that is computed, until nobody waits for it any more."""

    future: Future[dict[str, Any]]
    given_up: threading.Event

    def give_up(self) -> None:
        self.given_up.set()
        self.future.cancel()


class _GivenUpError(Exception):
    """Nobody waits for what is being sampled."""


@define(eq=False)
class Holder:
    """The model `source` and its adapters. `digest` is the base's, `policy` that of the adapters."""

    source: ModelConfig
    digest: str = field(init=False, default="")
    policy: str = field(init=False, default="")
    version: int | None = field(init=False, default=None)
    closed: bool = field(init=False, default=False)
    _live: Policy = field(init=False)
    _adapter: AdapterConfig = field(init=False, factory=AdapterConfig)
    _thread: ThreadPoolExecutor = field(init=False, factory=lambda: ThreadPoolExecutor(1, "mlx"))

    def open(self) -> None:
        """Load the model. Raises `UserError` where that fails."""
        self._thread.submit(self._load).result()

    def close(self) -> None:
        """End what is under way."""
        self.closed = True
        self._thread.shutdown(cancel_futures=True)

    def take(self, adapters: bytes, config: Mapping[str, Any], digest: str, version: int) -> Future[None]:
        """Sample from these adapters from now on. The future raises `RefusedError`, and nothing changes."""
        return self._thread.submit(self._take, adapters, config, digest, version)

    def sample(self, asked: Asked) -> Work:
        """What was asked for, on its way. The future raises `RefusedError`."""
        given_up = threading.Event()
        return Work(self._thread.submit(self._sample, asked, given_up), given_up)

    def check(self, asked: Asked) -> None:
        """Raises `RefusedError` for another model, or adapters that are not the ones held."""
        if asked.model != self.digest:
            raise RefusedError(
                403, f"model: this worker has only '{self.source.path}', and was asked for another"
            )
        if (asked.policy, asked.version) != (self.policy, self.version):
            held = "none" if self.version is None else f"those of version {self.version}"
            raise RefusedError(
                409,
                f"policy: of the adapters, this worker holds {held}, not those of version {asked.version}",
            )

    def _load(self) -> None:
        self._live = Policy.load(self.source, self._adapter)
        self.digest = digest_of(self._live.loaded)

    def _take(self, adapters: bytes, config: Mapping[str, Any], digest: str, version: int) -> None:
        adapter = _adapter_of(config)
        live = self._live if adapter == self._adapter else _loaded(self.source, adapter)
        tensors = _tensors(adapters)
        try:
            check_fit("the adapters", tensors, live.trainable())
        except UserError as error:
            raise RefusedError(422, f"policy: {str(error).rstrip('.')}") from error
        live.model.load_weights(list(tensors.items()), strict=False)
        mx.eval(live.model.parameters())
        self._live, self._adapter, self.policy, self.version = live, adapter, digest, version

    def _sample(self, asked: Asked, given_up: threading.Event) -> dict[str, Any]:
        self.check(asked)
        rows, known = asked.request, embedded_ids(self._live.model)
        if known is not None and (wrong := max(map(max, rows.prompts))) >= known:
            raise RefusedError(422, f"prompts: the token id {wrong} is none of this model's {known:,}")

        def told(_: int) -> None:
            if given_up.is_set() or self.closed:
                raise _GivenUpError

        prompts = [Prompt(tokens, "") for tokens in rows.prompts]
        try:
            self._live.check_reading(prompts, rows.sampling)
            with self._live.shard(rows.first, len(prompts)):
                drawn = self._live.generate(prompts, rows.sampling, seed=rows.seed, told=told)
        except UserError as error:
            raise RefusedError(422, str(error).rstrip(".")) from error
        except StopRun as stop:
            return {"stop": stop.reason}
        except _GivenUpError:
            return {"error": "the worker ends", "status": 503}
        mx.clear_cache()
        return {
            "policy": asked.policy,
            "version": asked.version,
            "completions": [completion_to_json(completion) for completion in drawn],
        }


def completion_to_json(completion: Completion) -> dict[str, Any]:
    return {"tokens": completion.tokens, "text": completion.whole, "stopped": completion.stopped}


def _loaded(source: ModelConfig, adapter: AdapterConfig) -> Policy:
    """The base, whose weights are shared, with other adapters. Raises `RefusedError`."""
    try:
        return Policy.load(source, adapter)
    except UserError as error:
        raise RefusedError(422, f"policy: {str(error).rstrip('.')}") from error


def _adapter_of(config: Mapping[str, Any]) -> AdapterConfig:
    """What mlx-lm's ``adapter_config.json`` says. Raises `RefusedError`, for full weights too."""
    if config.get("fine_tune_type") not in ("lora", "dora"):
        raise RefusedError(
            422, f"policy: takes LoRA or DoRA adapters, not '{config.get('fine_tune_type')}': no full weights"
        )
    try:
        given = dict(config["lora_parameters"])
        keys = given.pop("keys", None)
        numbers = {name: given.pop(name) for name in ("rank", "scale", "dropout")}
        layers = config["num_layers"]
        whole = type(numbers["rank"]) is type(layers) is int
        if given or not whole or not all(map(is_number, (*numbers.values(), layers))):
            raise ValueError("it says more than rank, scale, dropout and keys, or no numbers")
        if keys is not None and not all(isinstance(key, str) for key in keys):
            raise ValueError("keys are names")
        made = AdapterConfig(type=config["fine_tune_type"], layers=layers, **numbers)
        return evolve(made, keys=None if keys is None else tuple(keys))
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedError(422, f"policy: its adapter configuration will not do: {error}") from error


def _tensors(adapters: bytes) -> dict[str, mx.array]:
    """The tensors in a safetensors file. Raises `RefusedError` for anything else."""
    from safetensors import SafetensorError, deserialize

    try:
        deserialize(adapters)  # type: ignore[no-untyped-call]  # checks every offset, shape and type
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "adapters.safetensors"
            file.write_bytes(adapters)
            found = arrays(mx.load(str(file)))
            mx.eval(found)
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise RefusedError(422, f"policy: its body is no safetensors file: {error}") from error
    return found
