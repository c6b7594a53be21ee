"""Registers SimPO with prefloop. The loss is named, not imported, so that listing plugins stays fast."""

from prefloop import hookimpl


@hookimpl
def prefloop_losses() -> dict[str, str]:
    return {"simpo": "prefloop_loss_simpo.loss:SimPo"}
