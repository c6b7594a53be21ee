"""A run's policy on the Hugging Face Hub: the folder that is uploaded, and the upload.

The token is that of the Hub's own login, which `huggingface_hub` keeps; nothing here takes or writes one.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils._validators import validate_repo_id

from prefloop.embedded import PREFIX
from prefloop.errors import UserError
from prefloop.model.adapters import ADAPTER_CONFIG
from prefloop_plugins.commands.exports.card import Card, public_name, write_card
from prefloop_plugins.commands.exports.fused import write_fused
from prefloop_plugins.commands.exports.peft import write_peft
from prefloop_plugins.commands.exports.picture import draw_curves
from prefloop_plugins.commands.exports.trained import Trained

KINDS = ("adapters", "fused", "peft")


def check_repo(repo: str) -> None:
    """Raises `UserError` for what can be no repository's name."""
    try:
        validate_repo_id(repo)
    except HFValidationError:
        raise UserError(f"'{repo}' is no name of a repository on the Hub: it must be owner/name.") from None
    if "/" not in repo:
        raise UserError(f"'{repo}' names no owner on the Hub: it must be owner/name.")


def check_login() -> str:
    """The Hub's own token. Raises `UserError` where nobody is logged in."""
    token = get_token()
    if not token:
        raise UserError("nobody is logged in to the Hub: run 'hf auth login' first, then this again.")
    return token


def base_on_hub(trained: Trained, given: str | None, what: str) -> str | None:
    """The base as others find it. Raises `UserError` where adapters would have none."""
    path = trained.config.model.path
    if given or (public_name(path) == path and "/" in path and not path.startswith(PREFIX)):
        return given or path
    if what != "fused":
        raise UserError(
            f"the run's model, '{path}', is not on the Hub, and adapters are of no use without it: name "
            "it with --base OWNER/NAME, or upload the whole model with --what fused."
        )
    return None


def write_upload(
    folder: Path, run: Path, trained: Trained, *, repo: str, what: str, base: str | None
) -> Card:
    """Write into `folder` what is uploaded, and return the card among it."""
    if what == "fused":
        write_fused(folder, trained)
    elif what == "peft":
        write_peft(folder, trained.policy, str(base))
    elif trained.config.adapter.type == "full":
        raise UserError("the run trained the full weights, so it has no adapters: upload --what fused.")
    else:
        trained.policy.save(folder)
        config = folder / ADAPTER_CONFIG
        _rewrite(config, json.loads(config.read_bytes()) | {"model": base})
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            about = json.loads((folder / name).read_bytes())
            _rewrite(folder / name, {k: v for k, v in about.items() if k.lstrip("_") != "name_or_path"})
    picture = draw_curves(run, folder)
    card = write_card(run, trained, repo=repo, what=what, base=base, picture=picture)
    (folder / "README.md").write_text(card.text, encoding="utf-8")
    return card


def upload(folder: Path, repo: str, *, public: bool) -> str:
    """Make the repository, which must not be there, upload, and return its address."""
    api = HfApi(token=check_login())
    try:
        made = api.create_repo(repo, private=not public)
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code == 409:
            raise UserError(
                f"'{repo}' is on the Hub already. Give another name, or remove it there."
            ) from error
        raise UserError(f"the Hub does not make '{repo}': {_line(error)}.") from error
    except Exception as error:  # whatever the libraries raise about a network that is not there
        raise UserError(f"the Hub cannot be reached: {_line(error)}.") from error
    try:
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload from prefloop")
    except Exception as error:
        raise UserError(
            f"the upload to '{repo}' broke off: {_line(error)}. The repository is there and may be empty: "
            "remove it on the Hub before the next try."
        ) from error
    return str(made)


def _rewrite(file: Path, about: dict[str, Any]) -> None:
    file.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error)).strip().rstrip(".") or type(error).__name__
