"""How core is built: what loads what, no modules in a circle, one place that asks what a component has."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from prefloop.components import required_and_abilities
from prefloop.registry import KINDS

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from structure import circles, graph_of, loaded_by, modules  # noqa: E402

CORE = ROOT / "core" / "prefloop"
ABILITIES = {n for kind in KINDS.values() for n in required_and_abilities(kind.base)} - {"__call__"}
HEAVY_FOR_THE_LOOP = {"cattrs", "click", "datasets", "pluggy", "rich"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Those that a type checker alone imports included."""
    assert circles(graph_of(modules())) == []


def test_a_circle_would_be_found(tmp_path: Path) -> None:
    package = tmp_path / "prefloop"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "a.py").write_text("from prefloop import b\n")
    (package / "b.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from prefloop.c import C\n"
    )
    (package / "c.py").write_text("import prefloop.a\n")
    assert circles(graph_of(modules(package))) == [["prefloop.a", "prefloop.b", "prefloop.c"]]


def test_the_loop_loads_no_configuration_files_no_plugins_and_no_command_line() -> None:
    code = f"import sys, prefloop.loop; print(*sorted({HEAVY_FOR_THE_LOOP} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
    folders = {module.split(".")[1] for module in loaded_by("prefloop.loop") if "." in module}
    assert not folders & {"cli", "config", "evaluation", "hooks", "registry", "runs"}


@pytest.mark.parametrize("folder", ["core", "plugins", "contrib"])
def test_only_one_function_asks_what_a_component_has(folder: str) -> None:
    """`getattr(x, "ability")` and `hasattr(x, "ability")` stand nowhere: `adapt` does it by its own list."""
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        if "tests" in path.relative_to(ROOT / folder).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
                name = node.args[1]
                if isinstance(name, ast.Constant) and name.value in ABILITIES | {"judge"}:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name.value}")
    assert found == []


def test_core_names_no_component_outside_its_table_of_defaults() -> None:
    from prefloop.registry import BUNDLED, DEFAULTS, Registry

    words = {f"{p.name}" for p in Registry().providers if p.distribution == BUNDLED}
    words -= {"policy", "function", "human", "label", "rule", "reward", "dataset", "progress", "report", "kl"}
    words |= {f"{BUNDLED}:{name}" for name in words}
    found = []
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and node.value in words:
                found.append((name, node.value))
    assert {name for name, _ in found} <= {"prefloop.registry"}
    assert {value for _, value in found} <= {*DEFAULTS.values()}


def test_the_walk_in_the_documentation_goes_down_the_tree_and_back_up_once() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    walk = page[page.index("<!-- walk: begin -->") : page.index("<!-- walk: end -->")]
    files = re.findall(r"^\d\. `([\w/]+\.py)`", walk, re.MULTILINE)
    assert len(files) > 10
    assert all((CORE / file).is_file() for file in files)
    places = [(not Path(file).parent.name, file) for file in files]  # folders come before files
    assert sum(later < earlier for earlier, later in pairwise(places)) <= 1
