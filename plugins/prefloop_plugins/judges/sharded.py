"""A judge's model spread over the ranks of a run, by mlx-lm's own `sharded_load`, where none could hold it.

With ``tensor`` each rank has a part of every layer, and two sums go round for each layer of a pass. With
``pipeline`` each has some of the layers, and the hidden states go from one to the next. Either way every rank
asks every question, in the same order, and all of them have the answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
from attrs import frozen

from prefloop.errors import UserError
from prefloop.model.loading import model_folder
from prefloop.model.mlx_lm_internals import path_without_pattern, read_folder, read_weights
from prefloop.ranks.group import Ranks, joined

if TYPE_CHECKING:
    from prefloop_plugins.judges.llm import Sharded

INDEX = "model.safetensors.index.json"


@frozen(eq=False)
class ShardedModel:
    """This rank's part of a model, which computes as the whole where all ranks call it."""

    model: Any
    tokenizer: Any
    config: dict[str, Any]
    folder: Path


def load_sharded(path: str, how: Sharded, *, trust_remote_code: bool = False) -> ShardedModel:
    """Load this rank's part of a model. Raises `UserError` where there are none, or it cannot be split."""
    ranks = joined()
    if ranks.size == 1:
        raise UserError(
            f"sharded: {how} spreads the judge over the ranks of a run, and this process is alone. Start "
            "several (prefloop train --ranks 2), or leave 'sharded' out."
        )
    folder = model_folder(path)
    try:
        return _load(folder, how, ranks, trust_remote_code)
    except (ValueError, AttributeError, OSError) as error:  # what mlx-lm and mlx raise of such a model
        raise UserError(f"judge model '{path}' cannot be sharded by {how}: {error}.") from error


def _load(folder: Path, how: Sharded, ranks: Ranks, trust_remote_code: bool) -> ShardedModel:
    from mlx_lm.utils import sharded_load

    _, config = read_folder(folder, trust_remote_code=trust_remote_code)  # lazy: it finds what is missing
    if how == "tensor":
        _check_heads(config, ranks.size)
    elif not (folder / INDEX).is_file():
        raise ValueError(f"its folder has no {INDEX}, which mlx_lm.convert writes")
    with path_without_pattern(folder) as plain:
        model, tokenizer = sharded_load(
            str(plain),
            pipeline_group=ranks.group if how == "pipeline" else None,
            tensor_group=ranks.group if how == "tensor" else None,
            tokenizer_config={"trust_remote_code": trust_remote_code},
            trust_remote_code=trust_remote_code,
        )
    if mx.default_device().type == mx.DeviceType.cpu:
        model.set_dtype(mx.float32)  # as models are loaded whole
    read_weights(model)
    return ShardedModel(model, tokenizer, config, folder)


def _check_heads(config: dict[str, Any], ranks: int) -> None:
    """Raises `ValueError` for heads that cannot be dealt out evenly, which mlx-lm would round down."""
    text = config.get("text_config", config)
    for name in ("num_attention_heads", "num_key_value_heads"):
        heads = text.get(name)
        if isinstance(heads, int) and heads % ranks:
            fitting = [str(n) for n in range(1, heads + 1) if heads % n == 0]
            raise ValueError(
                f"its {name} is {heads}, which {ranks} ranks cannot share evenly; {' or '.join(fitting)} can"
            )
