"""A plugin in one Python file that a configuration names: run once as a module, known by its content."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
import traceback
from importlib.abc import ExecutionLoader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from attrs import frozen

from prefloop.embedded import local_path
from prefloop.errors import UserError, guess_neighbour
from prefloop.text import in_a_line

_STEM = re.compile(r"\w[\w.-]*")


@frozen
class PluginFile:
    """A Python file as it is given, and the content that was read of it."""

    given: str
    path: Path
    source: bytes

    @property
    def distribution(self) -> str:
        """What its components are qualified with, in place of a distribution's name: the file's."""
        return self.path.stem

    @property
    def version(self) -> str:
        """Another one for another content."""
        return f"sha256-{hashlib.sha256(self.source).hexdigest()[:12]}"

    def load(self) -> ModuleType:
        """The module that the file makes; it is run again only where it has changed. Raises anything."""
        place = hashlib.sha256(bytes(self.path)).hexdigest()[:8]
        name = f"{self.path.stem}_{place}_{self.version}"  # nothing that an import statement could name
        if name in sys.modules:
            return sys.modules[name]
        loader = _Loader(self)
        module = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=str(self.path)))
        module.__file__ = str(self.path)
        sys.modules[name] = module  # where attrs and typing look the names in annotations up
        try:
            loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    def told(self, error: BaseException) -> str:
        """What went wrong with it, in a line that begins with the file and the line in it."""
        if isinstance(error, SyntaxError) and error.filename == str(self.path):
            return f"{self.given}:{error.lineno}: {type(error).__name__}: {error.msg}."
        frames = traceback.extract_tb(error.__traceback__)
        line = next((f":{f.lineno}" for f in reversed(frames) if f.filename == str(self.path)), "")
        return in_a_line(f"{self.given}{line}: {type(error).__name__}: {error}")


@frozen
class _Loader(ExecutionLoader):
    """Runs what was read, and nothing that Python keeps compiled: the content is what the version says."""

    file: PluginFile

    def get_filename(self, fullname: str) -> str:
        return str(self.file.path)

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self.file.source)


def read_plugin_file(given: str) -> PluginFile:
    """Find the file, as any path of a configuration is found. Raises `UserError` where it will not do."""
    path = local_path(given).absolute()
    if path.suffix != ".py" or not _STEM.fullmatch(path.stem):
        raise UserError(
            f"'{given}' must be a Python file, such as my_judge.py: its name, of letters, digits, _ and -, "
            "stands before the names of its components."
        )
    try:
        return PluginFile(given, path, path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"there is no file '{given}' in '{path.parent}'.{guess_neighbour(path)}") from None
    except OSError as error:
        raise UserError(f"'{given}' cannot be read: {error.strerror}.") from error
