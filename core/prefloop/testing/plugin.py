"""What holds for a plugin as a whole: it is found, it is whole, and listing it is quick."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from functools import cache

from prefloop import hooks
from prefloop.errors import UserError
from prefloop.registry import BUNDLED, KINDS, Registry, canonical
from prefloop.testing.running import note

HEAVY = ("datasets", "mlx", "mlx_lm", "torch", "transformers")
"""What takes long to import, and must not be while plugins are only listed."""

_REPORT = f"""
import sys
from importlib.metadata import EntryPoint
plugin = EntryPoint("plugin", sys.argv[1], "prefloop").load()
for hook in {tuple(kind.hook for kind in KINDS.values())!r}:
    getattr(plugin, hook, dict)()
print(*(name for name in {HEAVY!r} if name in sys.modules))
"""


class PluginSuite:
    """Tests of an installed distribution. A subclass sets `distribution`, the name that pip knows."""

    distribution: str

    def test_it_is_installed_and_imports(self) -> None:
        assert entry_points_of(self.distribution), (
            f"'{self.distribution}' offers nothing to prefloop: is it installed, and does its pyproject.toml "
            "have [project.entry-points.prefloop]?"
        )
        broken = [b.error for b in Registry().broken if b.distribution == canonical(self.distribution)]
        assert not broken, (
            f"'{self.distribution}' is set aside as broken ({'; '.join(broken)}): "
            "none of its components can be used."
        )

    def test_listing_it_imports_nothing_heavy(self) -> None:
        check_import_is_light(self.distribution)

    def test_every_component_can_be_loaded(self) -> None:
        for provider in Registry().providers:
            if provider.distribution == canonical(self.distribution):
                try:
                    provider.load()
                except UserError as error:
                    raise AssertionError(f"{error}: it is listed, but cannot be used.") from error

    def test_no_name_is_hidden(self) -> None:
        """Reported, not asserted: the qualified name always works."""
        providers = Registry().providers
        bundled = {(p.kind, p.name) for p in providers if p.distribution == BUNDLED}
        own = canonical(self.distribution)
        for provider in providers:
            if provider.distribution == own != BUNDLED and (provider.kind, provider.name) in bundled:
                note(
                    f"{provider.kind} '{provider.name}' is also the name of a bundled one, which wins: "
                    f"users have to write '{provider.qualified}'."
                )


def entry_points_of(distribution: str) -> list[importlib.metadata.EntryPoint]:
    """The entry points for prefloop of an installed distribution."""
    own = canonical(distribution)
    found = importlib.metadata.entry_points(group=hooks.PROJECT)
    return [e for e in found if e.dist and canonical(e.dist.name) == own]


def check_import_is_light(distribution: str) -> None:
    """Raises `AssertionError` where importing the plugin and asking its hooks imports a heavy library."""
    for entry_point in entry_points_of(distribution):
        heavy = heavy_imports(entry_point.value)
        assert not heavy, (
            f"importing '{entry_point.value}' imports {' and '.join(heavy)}: every `prefloop --help` and "
            "`prefloop plugins list` would take seconds for whoever has it installed; let the hook return "
            "the text 'package.module:Class' and keep heavy imports in that module."
        )


@cache
def heavy_imports(entry_point: str) -> tuple[str, ...]:
    """The heavy libraries that a fresh interpreter holds after it has listed the plugin."""
    done = subprocess.run(
        [sys.executable, "-c", _REPORT, entry_point],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (
        f"'{entry_point}' cannot be imported ({done.stderr.strip().splitlines()[-1]}): "
        "prefloop sets the plugin aside, and none of its components can be used."
    )
    return tuple(done.stdout.split())
