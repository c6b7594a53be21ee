"""Registers the sampler with prefloop. It is named, not imported, so that listing plugins stays fast."""

from prefloop import hookimpl


@hookimpl
def prefloop_samplers() -> dict[str, str]:
    return {"best-of-n": "prefloop_sampler_best_of_n.sampler:BestOfN"}
