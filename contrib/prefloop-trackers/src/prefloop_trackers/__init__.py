"""Registers the trackers with prefloop. They are named, not imported, so that listing plugins stays fast."""

from prefloop import hookimpl


@hookimpl
def prefloop_observers() -> dict[str, str]:
    return {
        "wandb": "prefloop_trackers.wandb_tracker:Wandb",
        "trackio": "prefloop_trackers.trackio_tracker:Trackio",
        "tensorboard": "prefloop_trackers.tensorboard_tracker:TensorBoard",
        "mlflow": "prefloop_trackers.mlflow_tracker:MLflow",
        "swanlab": "prefloop_trackers.swanlab_tracker:SwanLab",
    }
