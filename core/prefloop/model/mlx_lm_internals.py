"""All that leans on internals of mlx-lm and of mlx's modules. A comment names each of them.

Checked with mlx-lm 0.32.2 and mlx 0.32.4. If a newer release breaks something, mend it here.
"""

from __future__ import annotations

import copy
import glob
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.generate import PromptProcessingBatch
from mlx_lm.models.cache import BatchKVCache, KVCache, RotatingKVCache, make_prompt_cache
from mlx_lm.utils import _download, _get_classes, load_model

from prefloop.errors import Notice

Caches = list[Any]
"""mlx-lm's caches, one for each layer."""

CACHE_BLOCK = int(KVCache.step)
"""Tokens by which a cache grows, unless it is told otherwise."""
_BACKBONES = ("model", "transformer", "backbone")
_CHECKPOINTED = "_prefloop_checkpointed"


def download_model(hub_id: str) -> Path:
    """The folder of a model from the Hub, downloaded unless it is in the Hub's cache."""
    return Path(_download(hub_id))  # mlx_lm.utils._download: the files of a repository that a model needs


@contextmanager
def path_without_pattern(folder: Path) -> Iterator[Path]:
    """`folder` by a name that is no pattern: mlx-lm finds weights and code in it with ``glob``.

    In a folder ``[ab]`` it would find those of a folder ``a`` beside it.
    """
    if glob.escape(str(folder)) == str(folder):
        yield folder
        return
    with TemporaryDirectory() as place:
        link = Path(place) / "model"
        link.symlink_to(folder.resolve(), target_is_directory=True)
        yield link


def read_folder(folder: Path, **options: Any) -> tuple[nn.Module, dict[str, Any]]:
    """mlx-lm's lazy ``load_model``, of this folder and no other, with its ``config.json``.

    Raises `ValueError` where two files hold one tensor: which of them mlx-lm takes is chance.
    """
    with path_without_pattern(folder) as plain:
        holders: dict[str, str] = {}
        for file in sorted(plain.glob("model*.safetensors")):
            for name in dict(tree_flatten(mx.load(str(file)))):  # lazy: only the names are read
                if other := holders.get(name):
                    raise ValueError(f"'{other}' and '{file.name}' both hold '{name}'. Move one elsewhere")
                holders[name] = file.name
        model, config = load_model(plain, lazy=True, **options)
    return model, config


def read_weights(model: nn.Module) -> None:
    """Read what is lazy. Raises `ValueError` where a tensor holds NaN or infinite numbers."""
    weights: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    mx.eval(weights)
    if wrong := not_finite(weights):
        name = wrong[0]
        kind = str(weights[name].dtype).removeprefix("mlx.core.")
        raise ValueError(f"its tensor '{name}', of type {kind}, holds NaN or infinite numbers")


def not_finite(tensors: Mapping[str, mx.array]) -> list[str]:
    """The names of those that hold NaN or infinite numbers. Reads each once and copies none that is sound."""
    floats = {name: w for name, w in tensors.items() if mx.issubdtype(w.dtype, mx.floating)}
    sums = {name: w.sum() for name, w in floats.items()}  # of large float16 numbers, infinite too
    mx.eval(sums)
    suspects = [name for name, total in sums.items() if not mx.isfinite(total).item()]
    return [name for name in suspects if not mx.isfinite(floats[name]).all().item()]


def model_classes(config: dict[str, Any]) -> tuple[Callable[[Any], nn.Module], type]:
    """The classes of a model and of its settings. Raises `ValueError` for an unknown type of model."""
    model, settings = _get_classes(config)  # mlx_lm.utils._get_classes: knows aliases of model types
    return model, settings


def copy_module(module: nn.Module) -> nn.Module:
    """A shallow copy that is frozen and unfrozen on its own."""
    twin = copy.copy(module)
    # nn.Module._no_grad: the names of frozen arrays. recurrent_gemma's model never makes one.
    twin._no_grad = set(getattr(twin, "_no_grad", ()))
    return twin


def replace_backbone(model: nn.Module, stand_in: Callable[[nn.Module], Any]) -> tuple[nn.Module, Any]:
    """A shallow copy of `model` with ``stand_in(backbone)`` for its backbone; None if it has no backbone."""
    if not isinstance(model, nn.Module):
        return model, None  # a function of tokens, such as a scripted judge in a test
    shell = copy.copy(model)
    # The families' attributes: a model of several parts has its text model under language_model.
    if isinstance(inner := model.get("language_model"), nn.Module):
        twin, made = replace_backbone(inner, stand_in)
        shell["language_model"] = twin
        return shell, made
    name = next((n for n in _BACKBONES if isinstance(model.get(n), nn.Module)), None)
    if name is None or any(isinstance(value, mx.array) for value in model.values()):
        return shell, None  # arrays at the top would be left behind when the model is updated
    made = stand_in(model[name])
    setattr(shell, name, made)
    return shell, made


def checkpoint_layers(model: nn.Module) -> None:
    """Gradient checkpointing as mlx-lm's `grad_checkpoint`, for the layers of this model alone.

    A layer that is computed again drops out the same numbers: it starts from the same random state.
    """
    if is_checkpointed(model):
        return
    for cls in {type(layer) for layer in model.layers}:
        forward = _recomputed(cls.__call__)
        own_class = type(cls.__name__, (cls,), {_CHECKPOINTED: True, "__call__": forward})
        for layer in model.layers:
            if type(layer) is cls:
                layer.__class__ = own_class


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def call(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
        state: Any = mx.random.state
        high, low = state[0].tolist()  # the key that mx.random.seed(high << 32 | low) sets

        def compute(parameters: Any, *args: Any, **kwargs: Any) -> Any:
            mx.random.seed(high << 32 | low)
            layer.update(parameters)
            return forward(layer, *args, **kwargs)

        return mx.checkpoint(compute)(layer.trainable_parameters(), *args, **kwargs)

    return call


def is_checkpointed(model: nn.Module) -> bool:
    """Whether `checkpoint_layers` was called for this model."""
    return any(getattr(type(layer), _CHECKPOINTED, False) for layer in getattr(model, "layers", ()))


def limit_vocabulary(model: nn.Module, size: int) -> None:
    """Let `model` know only the first `size` tokens: its logits are cut, whoever calls it."""
    cls = type(model)

    def call(model: nn.Module, *args: Any, **kwargs: Any) -> mx.array:
        logits: mx.array = cls.__call__(model, *args, **kwargs)
        return logits[..., :size]

    model.__class__ = type(cls.__name__, (cls,), {"__call__": call})


_QWEN = ("qwen2", "qwen2_moe", "qwen3", "qwen3_moe")
_WINDOWED = ("mistral", "mixtral", "gemma2", "phi3", "phimoe", "starcoder2", "smollm3", *_QWEN)
"""Types that have a sliding window in transformers and none in mlx-lm."""


def ignored_window(config: Mapping[str, Any]) -> int | None:
    """Tokens of a sliding window that a model was trained with and mlx-lm computes without, if any."""
    config = config.get("text_config", config)
    kind, window, layers = (config.get(key) for key in ("model_type", "sliding_window", "layer_types"))
    if not isinstance(window, int) or kind not in _WINDOWED:
        return None
    if not config.get("use_sliding_window", kind not in (*_QWEN, "smollm3")):
        return None
    windowed = layers is None or "sliding_attention" in layers
    kept = kind == "mistral" and layers is not None  # mlx-lm's llama, which stands for it, reads them
    return window if windowed and not kept else None


def beyond_window(config: Mapping[str, Any], name: str, tokens: int, remedy: str) -> str:
    """What is to be said where texts of so many tokens go beyond an ignored window; empty where none do."""
    window = ignored_window(config)
    if window is None or tokens <= window:
        return ""
    return (
        f"the {name} was trained with a sliding window of {window:,} tokens, which mlx-lm leaves out for "
        f"this type of model. Texts can have {tokens:,} tokens here, and those longer than the window are "
        f"read otherwise than it was trained to. Lower {remedy}."
    )


def warn_of_window(config: Mapping[str, Any], name: str, tokens: int) -> None:
    """A `Notice` where a judge whose `max_length` lets such texts in goes beyond an ignored window."""
    if said := beyond_window(config, name, tokens, "its max_length"):
        warnings.warn(said, Notice, stacklevel=2)


def read_together(model: nn.Module, rows: Sequence[Sequence[int]], step: int) -> list[Caches]:
    """The caches of each row of tokens, which pass through the model together, `step` positions at a time.

    Raises `ValueError` where caches cannot be batched.
    """
    own = [make_prompt_cache(model) for _ in rows]
    batch = PromptProcessingBatch(model, [*range(len(rows))], own, prefill_step_size=step)
    batch.prompt([[*row] for row in rows])  # mlx-lm's BatchGenerator reads prompts with it
    found: list[Caches] = [batch.extract_cache(row) for row in range(len(rows))]
    mx.eval([cache.state for caches in found for cache in caches])
    return found


def merge_caches(caches: Sequence[Any], block: int) -> Any:
    """A layer's cache for all rows from those of each row, which do not change. It grows by `block` tokens.

    Raises `ValueError` where they cannot be merged.
    """
    merged = _merged(caches)
    for part in getattr(merged, "caches", [merged]):  # of a CacheList
        if hasattr(part, "step"):
            part.step = block
    return merged


def _merged(caches: Sequence[Any]) -> Any:
    kind = type(caches[0])
    if not hasattr(kind, "merge"):
        raise ValueError(f"a {kind.__name__} cannot be batched")
    if kind is not KVCache or len({cache.offset for cache in caches}) > 1 or caches[0].empty():
        return kind.merge(caches)  # KVCache.offset, empty, merge
    states = [keys_and_values(cache) for cache in caches]  # rows of one length need no padding and no mask
    keys, values = (mx.concatenate(list(part)) for part in zip(*states, strict=True))
    return plain_cache(keys, values, caches[0].offset)


def keep_rows(cache: Any, rows: mx.array) -> None:
    """Keep only these rows of a layer's cache."""
    if type(cache) is KVCache:  # keys, values and offset: a KVCache has no filter
        cache.state = (cache.keys[rows], cache.values[rows], cache.offset)
    else:
        cache.filter(rows)


def cache_bytes_per_token(caches: Caches) -> float:
    """Bytes per token of caches that hold one token; the first token takes a whole block."""
    return float(sum(cache.nbytes for cache in caches)) / CACHE_BLOCK  # nbytes


def plain_cache(keys: mx.array, values: mx.array, length: int) -> Any:
    """A layer's cache of rows that all have so many tokens."""
    cache = KVCache()
    cache.state = (keys, values, length)  # KVCache.state: its order
    return cache


def plain_caches(model: nn.Module) -> Caches:
    """Empty caches, or none where a layer keeps more than keys and values of all tokens."""
    caches: Caches = make_prompt_cache(model)
    return caches if all(type(cache) is KVCache for cache in caches) else []


def keys_and_values(cache: Any) -> tuple[mx.array, mx.array]:
    """What a plain cache holds, without the room that is not used yet."""
    keys, values = cache.keys_and_values()  # KVCache.keys_and_values
    return keys, values


def graph_caches(model: nn.Module, padding: list[int]) -> list[GraphCache]:
    """Empty caches for rows padded on the left. Raises `ValueError` where a layer keeps other state."""
    caches = make_prompt_cache(model)
    if not {type(cache) for cache in caches} <= {KVCache, RotatingKVCache}:
        raise ValueError("a layer keeps more than keys and values")
    return [GraphCache(padding) for _ in caches]


class GraphCache(BatchKVCache):  # type: ignore[misc]
    """A cache that stays part of the graph: it grows by concatenation and is never written into."""

    # BatchKVCache: _idx, offset, left_padding, the order of state, and the masks that it makes of them.
    keys: Any
    values: Any
    offset: mx.array

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append to the cache, and give all of it."""
        if self.keys is not None:
            keys = mx.concatenate([self.keys, keys], axis=2)
            values = mx.concatenate([self.values, values], axis=2)
        added = keys.shape[2] - self._idx
        self.keys, self.values = keys, values
        self._idx += added
        self.offset = self.offset + added
        return keys, values

    def advance(self, tokens: int) -> None:
        """Count so many tokens without keys and values: masks are made of the count alone."""
        self._idx += tokens
        self.offset = self.offset + tokens

    def repeat(self, times: int) -> GraphCache:
        """The same cache for `times` as many rows: all of them, then all of them again."""
        return self.joined([self] * times)

    @classmethod
    def joined(cls, parts: Sequence[GraphCache]) -> GraphCache:
        """A cache of the rows of all `parts`, which are equally long."""
        twin = cls([0])
        columns = zip(
            *((part.keys, part.values, part.offset, part.left_padding) for part in parts), strict=True
        )
        arrays = (None if column[0] is None else mx.concatenate(list(column)) for column in columns)
        twin.state = (*arrays, parts[0]._idx)
        return twin
