"""`prefloop prompts`: what a run would read, before it is trained on."""

from __future__ import annotations

import click

from prefloop.cli.common import configure_process, set_option
from prefloop.text import printable_json


@click.command()
@click.argument("what", metavar="DATA|CONFIG")
@click.option("--model", metavar="MODEL", help="Whose tokenizer reads DATA.  [default: embedded:policy]")
@set_option
@click.option(
    "--first", default=3, show_default=True, type=click.IntRange(min=0), help="How many prompts are shown."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def prompts(what: str, model: str | None, overrides: tuple[str, ...], first: int, as_json: bool) -> None:
    """Show the prompts of DATA, a file, folder or Hub id, or all those of a run's CONFIG, a YAML file.

    How many there are and how long, the first of them as the model reads them, and which come twice or are
    among those of evaluations too. --set changes settings, such as prompts.column=question. Nothing is
    trained and nothing is written; what is wrong is said as a run would.
    """
    configure_process()
    from prefloop_plugins.commands.prompting import read
    from prefloop_plugins.commands.prompts_table import lines

    found = read(what, model=model, overrides=overrides, first=first)
    if as_json:
        click.echo(printable_json(found.to_json()))
        return
    for line in lines(found):
        click.echo(line)
