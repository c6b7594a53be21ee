"""`prefloop worker`: samples for a run that trains in another process, mostly on another machine."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import get_args

import click

from prefloop.cli.common import PathOnDisk, configure_process
from prefloop.settings import Dtype, Quantize

PORT = 8139


@click.command()
@click.option(
    "--model", required=True, help="Hub id or folder of the base model: the one that the run trains."
)
@click.option(
    "--quantize",
    type=click.Choice(get_args(Quantize)),
    default="none",
    help="Quantize the weights when the model is loaded, as the run does.",
)
@click.option(
    "--dtype", type=click.Choice(get_args(Dtype)), default="auto", help="Number type of the weights."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="Port to listen on; 0 is a free one.",
)
@click.option(
    "--token-file",
    type=PathOnDisk(),
    help="File with the token that the run has too; made if it is not there. Without, a token is printed.",
)
def worker(
    model: str, quantize: Quantize, dtype: Dtype, host: str, port: int, token_file: Path | None
) -> None:
    """Sample for a run on another machine, until the process is ended.

    The run has `sampler: {use: remote, workers: [URL], token_file: FILE}`; it sends the adapters whenever
    they have changed.
    """
    from prefloop_sampler_remote.listening import listen, serve
    from prefloop_sampler_remote.token import made_token, token_in

    token = token_in(token_file) if token_file else made_token()
    with listen(host, port) as listening:
        configure_process()
        from prefloop.config import ModelConfig
        from prefloop_sampler_remote.app import application
        from prefloop_sampler_remote.holder import Holder
        from prefloop_sampler_remote.limits import Limits

        holder = Holder(ModelConfig(path=model, quantize=quantize, dtype=dtype))
        holder.open()
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"model    {model}, {holder.digest[:12]}")
        click.echo(f"token    in {token_file}" if token_file else f"token    {token}")
        click.echo(f"worker   http://{shown}:{listening.getsockname()[1]}")
        if not _is_loopback(host):
            click.echo(
                "warning: others in your network can reach this address, and nothing is encrypted. "
                "Whoever learns the token can sample from the model and change its adapters.",
                err=True,
            )
        serve(application(holder, token, Limits()), listening)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
