"""Writes what docs/ says of the source from the source: tables of options, code, and the picture of the loop.

``python scripts/docs.py`` rewrites them, ``--check`` only says which files are out of date. A page asks for
something with a pair of comments; what stands between them is replaced:

    <!-- options: training -->          the options of a section, or of `top`, the top level
    <!-- options: prompts list -->      those that an entry of a list has besides
    <!-- options: judge llm -->         those of a bundled component
    <!-- code: prefloop.types:Pair -->  the source of a class, function or method
    <!-- new: judge brevity FILE -->    a file of what `prefloop plugins new` writes
    <!-- dialect: trl -->               what becomes of the keys of another tool's configuration
    <!-- end -->
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter
from pathlib import Path

from attrs import NOTHING, has
from docs_dialects import dialect
from docs_picture import picture

from prefloop.config import Config, OptimizerConfig, ScheduleConfig
from prefloop.config.components import PRESET
from prefloop.config.dump import to_plain
from prefloop.config.options import Option, describe, element_of, kind_of, options_of, section_of
from prefloop.registry import BUNDLED, DEFAULTS, Registry
from prefloop_plugins.scaffold import write

DOCS = Path(__file__).resolve().parent.parent / "docs"
PICTURE = DOCS / "pictures" / "loop.svg"
_ASKED = re.compile(
    r"(?P<open><!-- (?P<what>options|code|new|dialect): (?P<name>[\w .:/-]+?) -->\n)"
    r".*?(?P<close><!-- end -->)",
    re.DOTALL,
)


def render(page: str) -> str:
    """The page with everything that it asks for written anew."""
    writers: dict[str, Callable[[str], str]] = {
        "options": partial(table, registry=Registry()),
        "code": code,
        "new": new,
        "dialect": dialect,
    }
    return _ASKED.sub(lambda m: m["open"] + writers[m["what"]](m["name"]) + m["close"], page)


def code(name: str) -> str:
    """The source of ``module:Class.method``, fenced as `py`: the tests run only blocks of `python`."""
    module, _, path = name.partition(":")
    try:
        found = attrgetter(path)(importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise SystemExit(
            f"a page shows the code of '{name}', which is not there any more: {error}"
        ) from error
    return _fenced("py", textwrap.dedent(inspect.getsource(found)))


def new(name: str) -> str:
    """One file of the package that `prefloop plugins new KIND NAME` writes; `name` is KIND NAME FILE."""
    kind, component, file = name.split()
    with tempfile.TemporaryDirectory() as folder:
        text = (write(kind, component, Path(folder)).folder / file).read_text(encoding="utf-8")
    language = {".py": "py", ".toml": "toml"}[Path(file).suffix]
    return _fenced(language, f"# {file}\n{text}")


def _fenced(language: str, text: str) -> str:
    return f"\n```{language}\n{text.rstrip()}\n```\n\n"


def sections() -> dict[str, type]:
    """The sections of the configuration that have options of their own, by key."""
    found: dict[str, type] = {}
    for name, option in options_of(Config).items():
        section = section_of(option.type)
        if section is not None and kind_of(option.type) is None:
            found[name] = section
            if (listed := section_of(element_of(option.type))) is not None:
                found[f"{name} list"] = listed
            found |= {f"{name} {k}": s for k, o in options_of(section).items() if (s := _named(o))}
    return found


def table(name: str, registry: Registry) -> str:
    """The options of what a page asks for, as a Markdown table."""
    if name == "top":
        cls: type = Config
    elif name in sections():
        cls = sections()[name]
    else:
        cls = registry.component(*name.split(" ", 1))
    known = options_of(sections()[name.removesuffix(" list")]) if name.endswith(" list") else {}
    rows = [row for row in _rows(cls) if row.split("`")[1] not in known]
    if not rows:
        return "\nNo options.\n\n"
    return "\n".join(["", "| option | value | default | |", "|---|---|---|---|", *rows, "", ""])


def _named(option: Option) -> type | None:
    """The class of an optimizer or a schedule, which are sections within a section."""
    section = section_of(option.type)
    return section if section is not None and has(section) and kind_of(option.type) is None else None


def _rows(cls: type) -> Iterator[str]:
    options = options_of(cls)
    if cls in (OptimizerConfig, ScheduleConfig):
        del options["options"]  # the file has them beside `use`
    for option in options.values():
        cells = (f"`{option.name}`", _words(option), _default(option, cls), option.help)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _words(option: Option) -> str:
    return describe(option.type).replace(" (a name, or a mapping with 'use')", "")


def _default(option: Option, cls: type) -> str:
    """The default as YAML would have it; that of a section is its own table."""
    if cls is Config and option.name == "algorithm":
        return f"`{DEFAULTS['algorithm']}`"
    if cls is Config and option.name in PRESET:
        return "the algorithm's"
    if option.required:
        return "required"
    value = option.default_value
    if value is NOTHING:
        return "depends on others"
    if has(type(value)):
        return f"`{value.use}`" if isinstance(value, OptimizerConfig) else "see below"
    text = json.dumps(to_plain(value, {}, option.type), ensure_ascii=False)
    return f"`{text.strip(chr(34))}`"


def documented(pages: dict[Path, str]) -> set[str]:
    """Every name that some page has a table for."""
    found = (match for page in pages.values() for match in _ASKED.finditer(page))
    return {match["name"] for match in found if match["what"] == "options"}


def expected(registry: Registry) -> set[str]:
    """Every name that must have one: the top level, each section, each bundled component."""
    bundled = {f"{p.kind} {p.name}" for p in registry.providers if p.distribution == BUNDLED}
    return {"top", *sections(), *bundled}


def main(arguments: list[str]) -> int:
    """Write the pages, or with ``--check`` say what is wrong with them; 1 where something is."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
    missing = sorted(expected(Registry()) - documented(pages))
    problems = [f"no page has a table for '{name}'" for name in missing]
    written = {path: render(page) for path, page in pages.items()} | {PICTURE: picture()}
    for path, text in written.items():
        stale = not path.exists() or path.read_text(encoding="utf-8") != text
        if stale and "--check" in arguments:
            problems.append(f"docs/{path.relative_to(DOCS)} is out of date: run python scripts/docs.py")
        elif stale:
            path.write_text(text, encoding="utf-8")
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
