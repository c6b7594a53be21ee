"""Functions of one's own that a configuration names as ``module:function``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefloop import UserError
from prefloop.beginning import folders
from prefloop.errors import did_you_mean

if TYPE_CHECKING:
    from types import ModuleType


def find(option: str, name: str) -> Any:
    """What `name` stands for; files in the current folder can be named.

    Raises `UserError`, which begins with `option`, where there is no such module, or nothing of that name.
    """
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        raise UserError(f"{option}: '{name}' is not of the form module:function.")
    found: Any = _module(option, module_name)
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise UserError(_no_such_function(option, module_name, path)) from None
    return found


def file_of(function: Any) -> str | None:
    """The file that a function is written in, where it is one."""
    module = sys.modules.get(getattr(function, "__module__", None) or type(function).__module__)
    return getattr(module, "__file__", None)


def _module(option: str, name: str) -> ModuleType:
    """Import a module, one that lies in the current folder too (installed ones come first)."""
    for folder in folders():
        if str(folder) not in sys.path and not ("" in sys.path and folder == Path.cwd()):
            sys.path.append(str(folder))
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise UserError(f"{option}: module '{name}' cannot be imported: {error}.") from error
        beside = {path.stem for folder in folders() for path in folder.glob("*.py")}
        hint = did_you_mean(name, beside)
        raise UserError(
            f"{option}: there is no module '{name}', neither installed nor in "
            f"{' or in '.join(map(str, folders()))}." + (hint if "Did you mean" in hint else "")
        ) from error
    except (Exception, SystemExit) as error:
        raise UserError(
            f"{option}: module '{name}' cannot be imported: {type(error).__name__}: {error}."
        ) from error


def _no_such_function(option: str, module_name: str, path: str) -> str:
    module = sys.modules[module_name]
    names = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
    where = getattr(module, "__file__", None)
    return f"{option}: module '{module_name}' ({where}) has no function '{path}'.{did_you_mean(path, names)}"
