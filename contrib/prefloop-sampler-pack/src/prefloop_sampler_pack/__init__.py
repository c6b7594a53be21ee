"""Registers the pack with prefloop. Nothing of it is imported, so that listing plugins stays fast."""

from prefloop import hookimpl


@hookimpl
def prefloop_samplers() -> dict[str, str]:
    return {
        "thompson": "prefloop_sampler_pack.samplers:Thompson",
        "optimistic": "prefloop_sampler_pack.samplers:Optimistic",
        "pilaf": "prefloop_sampler_pack.pilaf:Pilaf",
    }


@hookimpl
def prefloop_algorithms() -> dict[str, str]:
    return {"optimistic": "prefloop_sampler_pack.algorithms:OptimisticDpo"}
