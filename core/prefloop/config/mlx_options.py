"""Options of optimizers and schedules: the parameters of the mlx class or function that `use` names."""

from __future__ import annotations

from attrs import evolve

from prefloop.config.options import Option, parameters_of
from prefloop.config.tree import InvalidError, Node, plain_message
from prefloop.errors import did_you_mean
from prefloop.settings import OptimizerConfig, ScheduleConfig


def parameters(cls: type, node: Node) -> dict[str, Option]:
    """The options that the optimizer or schedule named in `node` takes besides the learning rate.

    Raises `InvalidError` where there is no such optimizer or schedule.
    """
    from prefloop import optim  # brings in mlx

    use = (node.mapping or {}).get("use")
    if use is None:
        return {}
    is_optimizer = cls is OptimizerConfig
    known = optim.optimizer_classes() if is_optimizer else optim.schedule_functions()
    if not isinstance(use.value, str) or use.value not in known:
        what = "optimizer" if is_optimizer else "schedule"
        raise InvalidError.at(use, f"there is no {what} '{use.value}'.{did_you_mean(str(use.value), known)}")
    options = parameters_of(known[use.value], skip=optim.LEARNING_RATE)
    return {
        name: evolve(option, default=None) if name in optim.LENGTHS else option
        for name, option in options.items()
    }


def check(named: OptimizerConfig | ScheduleConfig, node: Node) -> None:
    """Build it once, as mlx has checks of its own. Raises `InvalidError` with what mlx says."""
    from prefloop import optim

    try:
        if isinstance(named, OptimizerConfig):
            optim.make_optimizer(named, 1e-5)
        else:
            optim.make_schedule(named, 1e-5, named.warmup + 1000)
    except (ValueError, TypeError) as error:
        raise InvalidError.at(node, plain_message(error)) from error
