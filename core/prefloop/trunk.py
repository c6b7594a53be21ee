"""The old place of `prefloop.model.split`."""

from __future__ import annotations

import warnings

import mlx.nn as nn

from prefloop.deprecated import moved
from prefloop.model.split import SplitModel

__getattr__ = moved(
    __name__, {"without_gradient": "prefloop.model.split:inference_attention", "*": "prefloop.model.split"}
)


class Trunk(SplitModel):
    """`SplitModel` with the names that it had."""

    hidden = SplitModel.backbone
    head = SplitModel.lm_head

    def __init__(self, model: nn.Module) -> None:
        warnings.warn(
            "prefloop.trunk.Trunk is now prefloop.model.split.SplitModel, and its `model`, `hidden`, `head`, "
            "`divided` are `whole`, `backbone`, `lm_head`, `is_split`; the old name goes in a later version.",
            DeprecationWarning,
            stacklevel=2,
        )
        super().__init__(model)
        self.model, self.divided = self.whole, self.is_split
