"""Registers the pack with prefloop. Bonuses are named, not imported, so that listing plugins stays fast."""

from prefloop import hookimpl


@hookimpl
def prefloop_bonuses() -> dict[str, str]:
    return {
        "selm": "prefloop_bonus_pack.value:Selm",
        "vpo": "prefloop_bonus_pack.value:Vpo",
        "entropy": "prefloop_bonus_pack.entropy:Entropy",
        "copo": "prefloop_bonus_pack.novelty:Copo",
    }
