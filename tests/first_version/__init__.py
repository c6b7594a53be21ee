"""A plugin as its author wrote it against prefloop 0.1, a component of every kind. Frozen: never edit it.

It uses only what was documented then, and makes records the ways that plugins do: by position, by keyword, by
`attrs.evolve`. `test_api_evolution.py` runs it on prefloop as it is now and as it may become.
"""

from first_version.components import Doubled, Likely, Squared
from prefloop import hookimpl


@hookimpl
def prefloop_samplers() -> dict[str, type | str]:
    return {"redrawn": "first_version.components:Redrawn"}


@hookimpl
def prefloop_judges() -> dict[str, type | str]:
    return {"vowels": "first_version.components:Vowels"}


@hookimpl
def prefloop_losses() -> dict[str, type | str]:
    return {"squared": Squared}


@hookimpl
def prefloop_bonuses() -> dict[str, type | str]:
    return {"likely": Likely}


@hookimpl
def prefloop_algorithms() -> dict[str, type | str]:
    return {"doubled": Doubled}


@hookimpl
def prefloop_observers() -> dict[str, type | str]:
    return {"diary": "first_version.components:Diary", "ear": "first_version.components:Ear"}
