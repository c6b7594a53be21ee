"""Completions from other machines: of `prefloop worker`, `mlx_lm.server` and vLLM."""

from __future__ import annotations

from prefloop import Command, hookimpl


@hookimpl
def prefloop_samplers() -> dict[str, str]:
    servers = "prefloop_sampler_remote.servers.samplers"
    return {
        "remote": "prefloop_sampler_remote.sampler:RemoteSampler",
        "mlx-server": f"{servers}:MlxServerSampler",
        "vllm": f"{servers}:VllmSampler",
    }


@hookimpl
def prefloop_commands() -> dict[str, Command]:
    return {
        "worker": Command("prefloop_sampler_remote.command:worker", "Sample for a run on another machine.")
    }
