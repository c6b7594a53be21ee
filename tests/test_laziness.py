"""What is imported when: starting up is quick, and imports go one way."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import prefloop

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "core" / "prefloop"
PLUGINS = ROOT / "plugins" / "prefloop_plugins"
CONTRIB = sorted((ROOT / "contrib").glob("*/src/*"))
HEAVY = {"mlx", "mlx_lm", "transformers", "datasets", "huggingface_hub", "numpy", "matplotlib", "jinja2"}
PUBLIC_MODULES = {
    "prefloop.beginning",
    "prefloop.components",
    "prefloop.errors",
    "prefloop.hooks",
    "prefloop.text",
    "prefloop.model.split",
    "prefloop.types",
}
"""What plugins may import besides the names of `prefloop` itself."""
OF_MODELS = {
    "prefloop.model.limits",
    "prefloop.model.loading",
    "prefloop.model.mlx_lm_internals",
    "prefloop.prompts.chat",
    "prefloop.ranks.group",
}
"""What the bundled judges that are models share with the policy."""

QUICK = {
    "import prefloop": "import prefloop",
    "--help": "from prefloop.cli import main; main(['--help'], standalone_mode=False)",
    "train --help": "from prefloop.cli import main; main(['train', '--help'], standalone_mode=False)",
    "plugins list": "from prefloop.cli import main; main(['plugins', 'list'], standalone_mode=False)",
    "bundled plugins": "import prefloop_plugins",
    **{package.name: f"import {package.name}" for package in CONTRIB},
}


@pytest.mark.parametrize("what", QUICK)
def test_nothing_heavy_is_imported(what: str) -> None:
    report = f"import sys; print(*sorted({HEAVY} & set(sys.modules)), file=sys.stderr)"
    paths = [str(package.parent) for package in CONTRIB]
    code = f"import sys; sys.path += {paths}\n{QUICK[what]}\n{report}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "\n")


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("prefloop.settings", {"yaml", "cattrs", "pluggy", "click", *HEAVY}),
        ("prefloop.loop", {"cattrs", "pluggy", "click", "datasets"}),  # transformers brings in yaml
    ],
)
def test_a_program_loads_no_configuration_file(module: str, without: set[str]) -> None:
    left_out = without | {"prefloop.config", "prefloop.registry"}
    code = f"import sys, {module}; print(*sorted({left_out} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def imports(folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    """``(place, module, names)`` of every import in a package, those inside functions too."""
    files = sorted(folder.rglob("*.py"))
    assert files, folder
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                place = f"{file.relative_to(ROOT)}:{node.lineno}"
                if isinstance(node, ast.Import):
                    yield from ((place, alias.name, []) for alias in node.names)
                else:
                    assert node.level == 0, f"{place}: a relative import"
                    yield place, node.module or "", [alias.name for alias in node.names]


def test_core_knows_no_plugin() -> None:
    packages = {PLUGINS.name, *(package.name for package in CONTRIB)}
    found = [place for place, module, _ in imports(CORE) if module.partition(".")[0] in packages]
    assert found == []


BUNDLED = ("commands", "converting", "judging", "report", "scaffold", "scaling", "closing.py")
RELEASED_WITH_CORE = tuple(f"contrib/prefloop-{name}/" for name in ("studio", "mcp", "sampler-remote"))
ADMINISTRATION = (*(f"plugins/prefloop_plugins/{part}" for part in BUNDLED), *RELEASED_WITH_CORE)
"""What shows or administers runs, or holds a policy as they do, and is released together with core."""


@pytest.mark.parametrize("package", [PLUGINS, *CONTRIB], ids=lambda folder: folder.name)
def test_plugins_use_only_what_is_public(package: Path) -> None:
    private = [
        f"{place}: {module}.{name}"
        for place, module, names in imports(package)
        if module.partition(".")[0] == "prefloop"
        and not (package is PLUGINS and module in OF_MODELS)
        and not place.startswith(ADMINISTRATION)
        for name in names or [""]
        if module not in PUBLIC_MODULES and not (module == "prefloop" and name in prefloop.__all__)
    ]
    assert private == []


def test_every_public_name_can_be_imported() -> None:
    assert sorted(set(prefloop.__all__)) == sorted(prefloop.__all__)
    for name in prefloop.__all__:
        assert getattr(prefloop, name) is not None
    for module in PUBLIC_MODULES:
        assert importlib.util.find_spec(module)


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'prefloop' has no attribute 'Lopp'"):
        prefloop.Lopp  # noqa: B018
