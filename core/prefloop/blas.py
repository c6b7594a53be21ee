"""The old place of `prefloop.cpu.blas`."""

from prefloop.deprecated import moved

__getattr__ = moved(
    __name__, {"matters": "prefloop.cpu.blas:uses_linux_cpu_backend", "*": "prefloop.cpu.blas"}
)
