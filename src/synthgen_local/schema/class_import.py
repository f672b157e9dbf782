"""Import of a class from a Python file or a module by its name.

Knows Python's import system, not what a class means as a schema.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic_core import SchemaError as PydanticSchemaError

from ..errors import SchemaError
from .errors import SCHEMA_HINT
from .rejections import field_in_trace

if TYPE_CHECKING:
    from types import ModuleType


def class_in(where: str, name: str) -> Any:
    """Return a class of a .py file or of a module. Raises SchemaError if it does not exist.

    Example: `class_in("examples/medical_billing.py", "MedicalBilling")`
    """
    module = _module_of_file(Path(where)) if where.endswith(".py") else _module_named(where)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise SchemaError(f"{where} has no class {name}.", hint=_classes_of(module))
    return found


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise SchemaError(f"{path} does not exist.", hint="Check the path before the colon.")
    name = _free_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic looks names up in a model's module
    _LOADED[name] = module
    with _importable_folder(path.parent), _import_errors(str(path)):
        spec.loader.exec_module(module)
    return module


_LOADED: dict[str, ModuleType] = {}
"""Modules of schema files, which another file of the same name may replace."""


def _free_name(path: Path) -> str:
    """Return a name for a file's module: another one if a module has that name already."""
    name = path.stem
    known = sys.modules.get(name)
    ours = known is None or known is _LOADED.get(name)
    if not ours and (file := getattr(known, "__file__", None)):
        ours = Path(file).resolve() == path.resolve()
    return name if ours and not _is_installed(name) else f"schema_{name}"


def _module_named(name: str) -> ModuleType:
    with _importable_folder(Path.cwd()), _import_errors(name):
        return importlib.import_module(name)


class _FolderFinder(MetaPathFinder):
    """Finds modules in the folder of a schema file, except those named like an installed module."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder.resolve())

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of the module of that name, if the folder has one."""
        if path is not None or _is_installed(fullname):
            return None
        return PathFinder.find_spec(fullname, [self._folder], target)


def _is_installed(name: str) -> bool:
    """Return whether Python or a package has a module of this name."""
    if name in sys.stdlib_module_names:
        return True
    places = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    return PathFinder.find_spec(name, places) is not None


@contextmanager
def _importable_folder(folder: Path) -> Iterator[None]:
    """Let a schema file import modules of its folder, as `python file.py` does."""
    finder = _FolderFinder(folder)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


@contextmanager
def _import_errors(name: str) -> Iterator[None]:
    """Turn any exception of an import into one line, and its output into output on stderr."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except SyntaxError as error:
        raise SchemaError(
            f"{name}, line {error.lineno}: {error.msg}.", hint="Correct the file."
        ) from error
    except SystemExit as error:
        raise SchemaError(
            f"{name} cannot be imported: it calls sys.exit.",
            hint='Move the call below `if __name__ == "__main__":`.',
        ) from error
    except Exception as error:
        field = field_in_trace(error)
        reason = " ".join(str(error).partition("\n")[0].split())
        if isinstance(error, PydanticSchemaError):  # a line for each part that holds the wrong one
            field = ".".join(re.findall(r'Field "(\w+)":', str(error))) or field
            reason = str(error).rpartition("\n")[2].strip().removeprefix("SchemaError: ")
        where = f"field '{field}': " if field else ""
        raise SchemaError(
            f"{name} cannot be imported: {where}{type(error).__name__}: {reason}", hint=SCHEMA_HINT
        ) from error


def _classes_of(module: ModuleType) -> str:
    names = [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, BaseModel) and value is not BaseModel
    ]
    return f"It has {', '.join(names)}." if names else "It has no pydantic models."
