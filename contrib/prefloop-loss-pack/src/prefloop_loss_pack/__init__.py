"""Registers the pack with prefloop. Losses are named, not imported, so that listing plugins stays fast."""

from prefloop import hookimpl


@hookimpl
def prefloop_losses() -> dict[str, str]:
    return {
        "robust": "prefloop_loss_pack.noisy:Robust",
        "exo": "prefloop_loss_pack.noisy:Exo",
        "apo-zero": "prefloop_loss_pack.anchored:ApoZero",
        "apo-down": "prefloop_loss_pack.anchored:ApoDown",
        "nca": "prefloop_loss_pack.anchored:Nca",
        "sppo-hard": "prefloop_loss_pack.anchored:SppoHard",
        "length-dpo": "prefloop_loss_pack.length:LengthDpo",
    }
