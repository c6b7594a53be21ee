"""The model that is trained, its reference, and what samples from both and scores under both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from prefloop.errors import StopRun, UserError, said_of
from prefloop.metrics import number
from prefloop.model.adapters import check_origin, fused_copy, load_adapters, make_trainable, save_adapters
from prefloop.model.limits import check_ids, embedded_ids
from prefloop.model.loading import LoadedModel, load_model
from prefloop.model.mlx_lm_internals import limit_vocabulary, path_without_pattern
from prefloop.model.split import inference_attention
from prefloop.model.weight_sharing import arrays, view
from prefloop.prompts.chat import encode_answer, encode_prompt, end_of_turn
from prefloop.sampling import Generator
from prefloop.sampling.pool import Told, ignore
from prefloop.sampling.stops import Stops
from prefloop.sampling.thoughts import with_answer_split
from prefloop.scoring.common_layers import CommonLayers
from prefloop.scoring.scorer import Scorer, lay_out
from prefloop.settings import AdapterConfig, ModelConfig
from prefloop.types import Completion, Prompt, Sampling, Source

_LOGITS_NOT_FINITE = (
    "model: its logits for a prompt of this run are NaN or infinite. Try model.dtype: float32 or a lower "
    "adapter.scale."
)
QUANTIZATION = ("quantization", "quantization_config")
"""The keys of a ``config.json`` that say how its model is quantized: mlx-lm's, and that of others."""
CHECKED_TOKENS = 8
"""Tokens on which sampling is compared with scoring before a run."""


class Policy:
    """A language model, the part of it that is trained, and the reference that it is compared with.

    `model` is an mlx-lm model with its trainable parameters unfrozen, and `tokenizer` is mlx-lm's wrapper.
    `reference` is a frozen model: ``base`` has the same weights without adapters, ``start`` is the policy as
    loaded, and any other name is another model. `start` is a frozen view of the policy as loaded.
    """

    def __init__(self, loaded: LoadedModel, adapter: AdapterConfig, reference: str = "base") -> None:
        self.loaded = loaded
        self.model = loaded.model
        self.tokenizer = loaded.tokenizer
        self.adapter = adapter
        self.start = view(self.model)
        self.reference = self._reference(reference)
        self._shard = (0, 1)
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
        """Load a model and make part of it trainable. `seed` decides the first values of the adapters.

        Raises `UserError` where the model, the adapters or the reference cannot be loaded.
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
        make_trainable(loaded.model, adapter)
        if adapter.resume_from:
            check_origin(adapter, loaded.folder)
            load_adapters(loaded.model, adapter.resume_from)
        return cls(loaded, adapter, reference)

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        seed: int,
        source: Source = "policy",
        told: Told = ignore,
    ) -> list[Completion]:
        """One completion per prompt from the live policy or its reference.

        What is drawn for one depends on `seed` and its place among `prompts`, not on the others. `told`
        hears at every token how many completions have just ended.
        """
        before, of = self._shard
        first = before * (len(prompts) // of)
        return self._generators[source](prompts, sampling, seed=seed, source=source, told=told, first=first)

    @contextmanager
    def shard(self, before: int, prompts: int) -> Iterator[None]:
        """Within, so many `prompts` are sampled for, which follow so many others that another process has.

        Whoever draws the completions of a prompt one after the other draws what would be drawn for all.
        """
        around, self._shard = self._shard, (before, prompts)
        try:
            yield
        finally:
            self._shard = around

    @property
    def prompts_before(self) -> int:
        """How many prompts of the step come before those that are sampled for, as other processes have them.

        A sampler with a chance of its own draws by a prompt's place in the step.
        """
        return self._shard[0]

    def read(
        self, rows: Sequence[tuple[int, ...]], prompts: Sequence[Prompt], sampling: Sampling
    ) -> list[Completion]:
        """The completions whose tokens are these rows, one for each prompt, which were sampled elsewhere."""
        return self._generators["policy"].read(rows, prompts, sampling)

    @property
    def pool_bytes(self) -> int:
        """Most bytes that rows which are sampled together take."""
        return self._generators["policy"].pool_bytes

    def limit_pools(self, pool_bytes: int) -> None:
        """Let rows that are sampled together take so many bytes. Further rows get pools of their own."""
        for generator in self._generators.values():
            generator.pool_bytes = pool_bytes

    @cached_property
    def scorer(self) -> Scorer:
        """Scores completions under the live policy."""
        return Scorer(self.model)

    @cached_property
    def reference_scorer(self) -> Scorer:
        """Scores completions under the reference."""
        return Scorer(self.reference)

    @cached_property
    def common_layers(self) -> CommonLayers:
        """What both compute alike."""
        return CommonLayers(self.scorer, self.reference_scorer)

    def check_reading(self, prompts: Sequence[Prompt], sampling: Sampling) -> None:
        """Raises `UserError` where policy or reference cannot read the prompts or their completions."""
        for generator in self._generators.values():
            generator.check(prompts, sampling)

    def check_sampling(self, prompt: Prompt) -> None:
        """Raises `UserError` where tokens are sampled from another distribution than they are scored by.

        Sampling reads earlier tokens from caches and scoring computes them all. A family whose caches are
        wrong would be trained on probabilities that its completions never had. Rounding moves less than a
        thousandth of a distribution in float32, and less than a tenth in half precision.
        """
        try:
            completion, sampled = self._generators["policy"].likeliest(prompt, CHECKED_TOKENS)
        except StopRun:
            raise UserError(_LOGITS_NOT_FINITE) from None
        with inference_attention():
            hidden = self.scorer.hidden(lay_out([prompt], [completion, completion]))
            scored = self.scorer.model.lm_head(hidden.states[:CHECKED_TOKENS])
        p, q = (mx.softmax(logits.astype(mx.float32), axis=-1) for logits in (sampled, scored))
        distance = number(mx.abs(p - q).sum(-1).mean()) / 2
        if not math.isfinite(distance):
            raise UserError(_LOGITS_NOT_FINITE)
        if distance > (0.01 if sampled.dtype == mx.float32 else 0.1):
            kind = self.loaded.config.get("model_type")
            raise UserError(
                "model: tokens are not sampled from the distribution that they are scored by: over the first "
                f"{CHECKED_TOKENS}, {distance:.1%} of it differs. For this type of model ({kind}) mlx-lm "
                "decodes wrongly from its caches, so it cannot be trained here."
            )

    def encode(self, text: str, *, system: str | None = None, thinking: bool = False) -> Prompt:
        """A prompt of one user turn, through the chat template where the tokenizer has one.

        Raises `UserError` where the template refuses it or leaves out a part of it.
        """
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": text})
        try:
            ids = encode_prompt(self.tokenizer, messages, thinking=thinking)
        except ValueError as error:
            raise UserError(f"the prompt does not go through the model's chat template: {error}") from error
        return Prompt(ids, text, tuple(messages))

    def completion(
        self,
        text: str,
        *,
        prompt: Prompt | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str | int] = (),
    ) -> Completion:
        """An answer that was not sampled, in the policy's tokens, with the stop token that ends a turn.

        After a `prompt` these are the tokens that its chat template writes there. What follows a stop token
        in the text is cut off, and so is what is longer than `max_tokens`, as sampling would have cut it.
        `stop` is that of `Sampling`. Where nothing stops the model, the answer just ends. Raises `UserError`
        for an answer that the model cannot read.
        """
        stops, prompt = Stops.of(self.tokenizer, stop), prompt or Prompt((), "")
        tokens = encode_answer(self.tokenizer, prompt, text, stops)
        check_ids(self.model, tokens, " ".join(filter(None, (prompt.id, f"the answer {text!r}"))))
        whole = stops.cut(tokens) or (*tokens, *self._end_of_turn(stops))
        stopped = max_tokens is None or len(whole) <= max_tokens
        completion = Completion(whole[:max_tokens], text, stopped, source="file")
        return with_answer_split(completion, prompt.tokens, self.tokenizer)

    def trainable(self) -> dict[str, mx.array]:
        """The trained tensors by their path in the model."""
        return arrays(self.model.trainable_parameters())

    def save(self, folder: Path) -> None:
        """Write the trained tensors the way ``mlx_lm generate --adapter-path`` reads them."""
        save_adapters(folder, self.model, self.adapter, self.loaded.folder)

    def save_model(self, folder: Path, *, dequantize: bool = False) -> None:
        """Write the whole model, adapters fused, the way ``mlx_lm generate --model`` reads it.

        The weights keep the type that they were trained in, and the configuration names that one. Layers of a
        quantized model that have no adapter stay quantized, unless `dequantize` says otherwise.
        """
        from mlx_lm.utils import dequantize_model, save

        fused = fused_copy(self.model)
        if dequantize:
            fused = dequantize_model(fused)
        config = _naming_dtype(_naming_quantized(self.loaded.config, fused), fused)
        with path_without_pattern(self.loaded.folder) as source:
            save(folder, str(source), fused, self.tokenizer, config, donate_model=False)

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
        ours, theirs = (int(m(mx.array([[0]])).shape[-1]) for m in (self.model, other.model))  # lazy
        if theirs < ours:
            raise UserError(
                f"reference '{reference}': it gives logits for {theirs} tokens and the policy for {ours}, so "
                "it cannot score all that the policy may say. Use one whose embedding is at least as wide."
            )
        reduced = view(other.model)
        if theirs > ours:  # padding: the tokenizers are the same
            limit_vocabulary(reduced, ours)
        return reduced

    def _end_of_turn(self, stops: Stops) -> tuple[int, ...]:
        """What the chat template ends an answer with, or else the tokenizer's own stop token, or any."""
        written = self.tokenizer.encode(end_of_turn(self.tokenizer), add_special_tokens=False)
        own, rows = (self.tokenizer.eos_token_id, *sorted(stops.ids)), embedded_ids(self.model)
        known = [i for i in own if i in stops.ids and (rows is None or i < rows)]
        return stops.cut(written) or tuple(known[:1])


def _naming_quantized(config: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """A ``config.json`` that names as quantized only what is so in `model`."""
    about = config.get("quantization")
    if not isinstance(about, dict):
        return dict(config)
    modules = dict(model.named_modules())
    if not any("scales" in module for module in modules.values()):
        return {key: value for key, value in config.items() if key not in QUANTIZATION}
    whole = {name: False for name, m in modules.items() if hasattr(m, "to_quantized") and "scales" not in m}
    return {**config, **{key: {**about, **whole} for key in QUANTIZATION}}


def _naming_dtype(config: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """A ``config.json`` in which the type of the weights, wherever it is named, is that of `model`."""
    dtypes = {v.dtype for v in arrays(model.parameters()).values() if mx.issubdtype(v.dtype, mx.floating)}
    name = str(max(dtypes, key=lambda dtype: dtype.size)).removeprefix("mlx.core.")
    named = {key: name if key in ("torch_dtype", "dtype") else value for key, value in config.items()}
    if isinstance(text := named.get("text_config"), dict):
        named["text_config"] = _naming_dtype(text, model)
    return named
