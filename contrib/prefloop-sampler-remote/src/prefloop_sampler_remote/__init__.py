"""Completions from other machines: workers of prefloop's own, `prefloop worker`, and the sampler `remote`."""

from __future__ import annotations

from prefloop import Command, hookimpl


@hookimpl
def prefloop_samplers() -> dict[str, str]:
    return {"remote": "prefloop_sampler_remote.sampler:RemoteSampler"}


@hookimpl
def prefloop_commands() -> dict[str, Command]:
    return {
        "worker": Command("prefloop_sampler_remote.command:worker", "Sample for a run on another machine.")
    }
