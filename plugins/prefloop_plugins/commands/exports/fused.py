"""A run's policy as one model folder, adapters fused: for mlx-lm and for LM Studio."""

from __future__ import annotations

import re
from pathlib import Path

from prefloop.errors import UserError
from prefloop_plugins.commands.exports.trained import Trained

LM_STUDIO = "~/.lmstudio/models"
_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def write_fused(folder: Path, trained: Trained, *, dequantize: bool = False) -> None:
    """Write the model with its tokenizer, chat template and settings, as ``mlx_lm --model`` reads it."""
    trained.policy.save_model(folder, dequantize=dequantize)
    (folder / "README.md").unlink(missing_ok=True)  # mlx-lm's, which knows neither the base nor the run


def account(trained: Trained, *, dequantized: bool) -> str:
    """What the weights of a fused model are, where that may be a surprise."""
    if not trained.is_quantized:
        return ""
    if dequantized:
        return " Nothing in it is quantized any more."
    return (
        " Its trained layers are not quantized any more: rounding them again would lose what they learnt. "
        "The other layers are as they were."
    )


def place_in_lm_studio(folder: str | None, name: str) -> Path:
    """Where LM Studio looks for the model `name`. Raises `UserError` where that cannot be."""
    if not _NAME.fullmatch(name):
        raise UserError(f"--name: must be publisher/model, as LM Studio sorts models, not '{name}'.")
    root = Path(folder or LM_STUDIO).expanduser()
    if folder is None and not root.is_dir():
        raise UserError(
            f"{LM_STUDIO}: there is no such folder, so LM Studio keeps its models elsewhere or is not here: "
            "name its folder of models with --folder."
        )
    return root / name
