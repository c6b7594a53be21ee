"""The model being trained, with its adapters, its reference and its generator."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from prefloop.embedded import local_path
from prefloop.errors import UserError, said_of
from prefloop.model.answers import encode_answer
from prefloop.model.loading import LoadedModel, load_model
from prefloop.model.weight_sharing import arrays, view
from prefloop.sampling import Generator
from prefloop.scoring.scorer import Scorer
from prefloop.settings import AdapterConfig, ModelConfig
from prefloop.types import Completion, Prompt, Sampling, Source

ADAPTERS = "adapters.safetensors"
ADAPTER_CONFIG = "adapter_config.json"


class Policy:
    """A language model, the part of it that is trained, and the reference it is held against.

    `model` is an mlx-lm model with its trainable parameters unfrozen, `tokenizer` mlx-lm's wrapper,
    `reference` the frozen model it is held against (``base``: the same weights without adapters, ``start``:
    the policy as it is now, or another model), and `start` a frozen view of the policy as it is now.
    """

    def __init__(self, loaded: LoadedModel, adapter: AdapterConfig, reference: str = "base") -> None:
        self.loaded = loaded
        self.model = loaded.model
        self.tokenizer = loaded.tokenizer
        self.adapter = adapter
        self.start = view(self.model)
        self.reference = self._reference(reference)
        self._generators: dict[Source, Generator] = {
            "policy": Generator(self.model, self.tokenizer),
            "reference": Generator(self.reference, self.tokenizer),
        }

    @classmethod
    def load(
        cls,
        model: str | ModelConfig,
        adapter: AdapterConfig | None = None,
        reference: str = "base",
        *,
        seed: int = 0,
    ) -> Policy:
        """Load a model and make part of it trainable. `seed` is that of the adapters' first values.

        Raises `UserError` where the model, the adapters or the reference cannot be had.
        """
        source = ModelConfig(path=model) if isinstance(model, str) else model
        adapter = adapter or AdapterConfig()
        loaded = load_model(
            source.path,
            quantize=source.quantize,
            dtype=source.dtype,
            trust_remote_code=source.trust_remote_code,
        )
        mx.random.seed(seed)
        _make_trainable(loaded.model, adapter)
        if adapter.resume_from:
            load_adapters(loaded.model, adapter.resume_from)
        return cls(loaded, adapter, reference)

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        seed: int,
        source: Source = "policy",
        trained: Mapping[str, mx.array] | None = None,
    ) -> list[Completion]:
        """One completion per prompt from the live policy or its reference.

        `trained` is what `trainable` gave at an earlier step, to sample from the policy as it was then.
        """
        with self._holding(trained):
            return self._generators[source](prompts, sampling, seed=seed, source=source)

    @property
    def pool_bytes(self) -> int:
        """What rows that are sampled together may take."""
        return self._generators["policy"].pool_bytes

    def limit_pools(self, pool_bytes: int) -> None:
        """Let rows that are sampled together take so many bytes; more are sampled in several pools."""
        for generator in self._generators.values():
            generator.pool_bytes = pool_bytes

    @contextmanager
    def _holding(self, trained: Mapping[str, mx.array] | None) -> Iterator[None]:
        """The policy with other trained tensors; arrays are values, so its own come back unharmed."""
        if trained is None:
            yield
            return
        own = self.trainable()
        self.model.load_weights(list(trained.items()), strict=False)
        try:
            yield
        finally:
            self.model.load_weights(list(own.items()), strict=False)

    @cached_property
    def scorer(self) -> Scorer:
        """Scores completions under the live policy."""
        return Scorer(self.model)

    @cached_property
    def reference_scorer(self) -> Scorer:
        """Scores completions under the reference."""
        return Scorer(self.reference)

    def encode(self, text: str, *, system: str | None = None, thinking: bool = False) -> Prompt:
        """A prompt of one user turn, through the chat template where the tokenizer has one."""
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": text})
        if not self.tokenizer.has_chat_template:
            return Prompt(tuple(self.tokenizer.encode(text)), text)
        ids = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, enable_thinking=thinking
        )
        return Prompt(tuple(ids), text, tuple(messages))

    def completion(self, text: str, *, max_tokens: int | None = None) -> Completion:
        """An answer from elsewhere, in the tokens with which the policy would have said it and stopped."""
        return encode_answer(text, self.tokenizer, max_tokens)

    def trainable(self) -> dict[str, mx.array]:
        """The trained tensors by their path in the model."""
        return arrays(self.model.trainable_parameters())

    def save(self, folder: Path) -> None:
        """Write the trained tensors the way ``mlx_lm generate --adapter-path`` reads them."""
        mx.save_safetensors(str(folder / ADAPTERS), self.trainable())
        (folder / ADAPTER_CONFIG).write_text(json.dumps(self._adapter_config(), indent=2) + "\n")

    def save_model(self, folder: Path) -> None:
        """Write the whole model, adapters fused, the way ``mlx_lm generate --model`` reads it."""
        from mlx_lm.utils import save

        fused = view(self.model)
        layers = [(name, m.fuse()) for name, m in fused.named_modules() if hasattr(m, "fuse")]
        fused.update_modules(tree_unflatten(layers))
        config = dict(self.loaded.config)
        save(folder, str(self.loaded.folder), fused, self.tokenizer, config, donate_model=False)

    def _reference(self, reference: str) -> nn.Module:
        if reference in ("base", ""):
            return view(self.loaded.pristine.model)
        if reference == "start":
            return self.start
        with said_of("reference"):
            other = load_model(reference)
        if other.tokenizer.get_vocab() != self.tokenizer.get_vocab():
            raise UserError(
                f"reference '{reference}': its tokenizer differs from the policy's, so it cannot score "
                "the same tokens. Use a model of the same family."
            )
        other.model.freeze()
        other.model.eval()
        return other.model

    def _adapter_config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            "fine_tune_type": self.adapter.type,
            "num_layers": self.adapter.layers,
            "model": str(self.loaded.folder),
        }
        if self.adapter.type != "full":
            config["lora_parameters"] = _lora_parameters(self.adapter)
        return config


def load_adapters(model: nn.Module, source: str) -> None:
    """Start from a folder or file of adapters that mlx-lm or prefloop wrote.

    Raises `UserError` where they do not fit.
    """
    with said_of("adapter.resume_from"):
        path = local_path(source)
    file = path / ADAPTERS if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"adapter.resume_from: there is no file '{file}'.")
    try:
        saved = arrays(mx.load(str(file)))
    except Exception as error:
        raise UserError(f"adapter.resume_from: '{file}' is damaged: {error}") from error
    wanted = arrays(model.trainable_parameters())
    strangers = sorted(saved.keys() - wanted.keys())
    if strangers:
        raise UserError(
            f"adapter.resume_from: {len(strangers)} of {len(saved)} tensors in '{file}' have no place in "
            f"the model, '{strangers[0]}' for one. Check adapter.type, layers and keys."
        )
    missing = sorted(wanted.keys() - saved.keys())
    if missing:
        raise UserError(
            f"adapter.resume_from: '{file}' lacks {len(missing)} of the {len(wanted)} tensors that are "
            f"trained, '{missing[0]}' for one. Check adapter.type, layers and keys."
        )
    for name, value in saved.items():
        if value.shape != wanted[name].shape:
            raise UserError(
                f"adapter.resume_from: '{name}' in '{file}' has shape {value.shape}, the model wants "
                f"{wanted[name].shape}. Check adapter.rank."
            )
    model.load_weights(list(saved.items()), strict=False)
    mx.eval(model.parameters())


def _make_trainable(model: nn.Module, adapter: AdapterConfig) -> None:
    """Freeze the model but for its adapters or, for full fine-tuning, its last layers."""
    from mlx_lm.tuner.utils import linear_to_lora_layers

    model.freeze()
    if adapter.type == "full":
        _unfreeze(model, adapter.layers)
    else:
        try:
            linear_to_lora_layers(
                model, adapter.layers, _lora_parameters(adapter), use_dora=adapter.type == "dora"
            )
        except (ValueError, AttributeError) as error:
            raise UserError(f"adapter.type: {adapter.type} does not fit this model: {error}") from error
    if not arrays(model.trainable_parameters()):
        raise UserError("adapter: nothing is trainable with these settings. Check adapter.keys and layers.")
    mx.eval(model.parameters())


def _unfreeze(model: nn.Module, layers: int) -> None:
    if any("scales" in module for _, module in model.named_modules()):
        raise UserError(
            "adapter.type: full fine-tuning cannot train quantized weights. Use lora or dora, or "
            "a model that is not quantized."
        )
    if layers < 0:
        model.unfreeze()
    for layer in model.layers[-layers:] if layers > 0 else []:
        layer.unfreeze()


def _lora_parameters(adapter: AdapterConfig) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "rank": adapter.rank,
        "scale": adapter.scale,
        "dropout": adapter.dropout,
    }
    if adapter.keys:
        parameters["keys"] = list(adapter.keys)
    return parameters
