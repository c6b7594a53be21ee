"""`prefloop export fuse | gguf | lmstudio | peft | hub`: the policy of a run, for other tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import click

from prefloop.cli.common import PathOnDisk, configure_process, json_option, print_json
from prefloop.text import printable

if TYPE_CHECKING:
    from prefloop_plugins.commands.exports.trained import Trained

F = TypeVar("F", bound=Callable[..., Any])
_run = click.argument("run", type=PathOnDisk())
_checkpoint = click.option("--checkpoint", metavar="STEP", help="A checkpoint's step, or best, not the end.")
_dequantize = click.option(
    "--dequantize", is_flag=True, help="Leave no layer of a quantized model quantized."
)
_base = click.option("--base", metavar="MODEL", help="The base to name, where it is not the run's own model.")


def _output(help: str) -> Callable[[F], F]:
    return click.option("--output", type=PathOnDisk(), required=True, help=help)


@click.command()
@_run
@_output("The folder to write.")
@_checkpoint
@_dequantize
@json_option
def fuse(run: Path, output: Path, checkpoint: str | None, dequantize: bool, as_json: bool) -> None:
    """Write the policy of RUN as one model folder, adapters fused into the weights.

    mlx-lm, LM Studio and whatever else reads such folders load it without RUN. Of a quantized model, the
    layers that were trained are written unquantized, since rounding them again would lose what they learnt.
    """
    trained = _load(run, checkpoint, output)
    _write_fused(output, trained, dequantize, as_json)


@click.command()
@_run
@click.option("--name", metavar="PUBLISHER/MODEL", help="Its name there.  [default: prefloop/RUN]")
@click.option("--folder", metavar="PATH", help="LM Studio's folder of models.  [default: ~/.lmstudio/models]")
@_checkpoint
@_dequantize
@json_option
def lmstudio(
    run: Path, name: str | None, folder: str | None, checkpoint: str | None, dequantize: bool, as_json: bool
) -> None:
    """Write the policy of RUN as one model folder where LM Studio looks for models."""
    configure_process()
    from prefloop_plugins.commands.exports.fused import place_in_lm_studio

    place = place_in_lm_studio(folder, name or f"prefloop/{run.resolve().name}")
    trained = _load(run, checkpoint, place, "--name")
    _write_fused(place, trained, dequantize, as_json)


def _write_fused(place: Path, trained: Trained, dequantize: bool, as_json: bool) -> None:
    from prefloop_plugins.commands.exports.fused import account, write_fused
    from prefloop_plugins.commands.exports.trained import written_folder

    with written_folder(place) as beside:
        write_fused(beside, trained, dequantize=dequantize)
    _done(place, trained, as_json, account(trained, dequantized=dequantize))


@click.command()
@_run
@_output("The file to write, such as my-model.gguf.")
@_checkpoint
@click.option(
    "--type",
    "kind",
    type=click.Choice(["auto", "f32", "f16", "bf16", "q8_0"]),
    default="auto",
    show_default=True,
    help="The type of the weights; auto is the one they were trained in.",
)
@json_option
def gguf(run: Path, output: Path, checkpoint: str | None, kind: str, as_json: bool) -> None:
    """Write the policy of RUN as a GGUF file for llama.cpp and Ollama, with its chat template.

    Needs the extra gguf: pip install 'prefloop[gguf]'.
    """
    trained = _load(run, checkpoint, output)
    from prefloop_plugins.commands.exports.gguf_file import write_gguf
    from prefloop_plugins.commands.exports.trained import written_file

    with written_file(output) as beside:
        write_gguf(beside, trained, name=run.resolve().name, kind=kind)
    _done(output, trained, as_json)


@click.command()
@_run
@_output("The folder to write.")
@_checkpoint
@_base
@json_option
def peft(run: Path, output: Path, checkpoint: str | None, base: str | None, as_json: bool) -> None:
    """Write the adapters of RUN in PEFT's format, for transformers and vLLM.

    They name the model that RUN was trained on as their base; --base names another, such as the original of a
    quantized model.
    """
    trained = _load(run, checkpoint, output)
    from prefloop_plugins.commands.exports.peft import write_peft
    from prefloop_plugins.commands.exports.trained import written_folder

    with written_folder(output) as beside:
        write_peft(beside, trained.policy, base or trained.config.model.path)
    quantized = (
        " They were trained on quantized weights; on the original's they answer a little differently."
        if trained.is_quantized
        else ""
    )
    _done(output, trained, as_json, quantized)


@click.command()
@_run
@click.argument("repo_id")
@click.option(
    "--what",
    type=click.Choice(["adapters", "fused", "peft"]),
    default="adapters",
    show_default=True,
    help="Adapters for mlx-lm, the fused model, or adapters for PEFT.",
)
@click.option("--public", is_flag=True, help="Let everybody see it; otherwise it is private.")
@click.option("--yes", is_flag=True, help="Upload; otherwise only what would be uploaded is shown.")
@_checkpoint
@_base
@json_option
def hub(
    run: Path,
    repo_id: str,
    what: str,
    public: bool,
    yes: bool,
    checkpoint: str | None,
    base: str | None,
    as_json: bool,
) -> None:
    """Upload the policy of RUN to the Hugging Face Hub as REPO_ID, with a model card.

    Without --yes nothing is uploaded: the files are listed and the card is printed. The token is that of
    'hf auth login'. No prompts, answers or verdicts are uploaded; the judge's rubric is in the card.
    """
    configure_process()
    from prefloop_plugins.commands.exports import hub as on_hub
    from prefloop_plugins.commands.exports.trained import load_trained

    on_hub.check_repo(repo_id)
    if yes:
        on_hub.check_login()
    trained = load_trained(run, checkpoint)
    base = on_hub.base_on_hub(trained, base, what)
    with TemporaryDirectory() as place:
        folder = Path(place)
        card = on_hub.write_upload(folder, run, trained, repo=repo_id, what=what, base=base)
        files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
        address = on_hub.upload(folder, repo_id, public=public) if yes else None
    if as_json:
        print_json({"repo": repo_id, "address": address, "public": public, "files": files, "card": card.text})
    elif address:
        click.echo(f"Uploaded the policy after {trained.snapshot.label} to {address}.")
    else:
        _show(files, card.text, repo_id, "public" if public else "private")


def _show(files: Mapping[str, int], card: str, repo: str, kept: str) -> None:
    click.echo(f"Would be uploaded to {repo}, which would be {kept}:")
    for name, size in files.items():
        click.echo(f"  {size:>14,}  {name}")
    click.echo(f"\nREADME.md:\n\n{printable(card)}\nNothing was uploaded: give --yes for that.")


def _load(run: Path, checkpoint: str | None, place: Path, option: str = "--output") -> Trained:
    """The policy to export, once it is known that nothing lies in the place it goes to."""
    configure_process()
    from prefloop_plugins.commands.exports.trained import load_trained, refuse_taken

    refuse_taken(place, option)
    return load_trained(run, checkpoint)


def _done(place: Path, trained: Trained, as_json: bool, more: str = "") -> None:
    if as_json:
        print_json({"file": str(place), "policy": trained.snapshot.label, "notes": more.strip()})
    else:
        click.echo(f"Wrote {printable(str(place))}: the policy after {trained.snapshot.label}.{more}")


COMMANDS = (fuse, gguf, hub, lmstudio, peft)
