"""A class in a Python file or in a module, found by the text that names it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ..errors import SchemaError
from .refusals import SCHEMA_HINT

if TYPE_CHECKING:
    from types import ModuleType


def class_in(where: str, name: str) -> Any:
    """Return a class of a .py file or of a module. Raises SchemaError if it is not there.

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
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # pydantic looks names up in a model's module
    with _import_path(path.parent), _import_errors(str(path)):
        spec.loader.exec_module(module)
    return module


def _module_named(name: str) -> ModuleType:
    with _import_path(Path.cwd()), _import_errors(name):
        return importlib.import_module(name)


@contextmanager
def _import_path(folder: Path) -> Iterator[None]:
    """Let a schema file import its neighbours, as `python file.py` does."""
    sys.path.insert(0, str(folder.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(folder.resolve()))


@contextmanager
def _import_errors(name: str) -> Iterator[None]:
    try:
        yield
    except SyntaxError as error:
        raise SchemaError(
            f"{name}, line {error.lineno}: {error.msg}.", hint="Correct the file."
        ) from error
    except Exception as error:
        reason = " ".join(str(error).split())
        raise SchemaError(
            f"{name} cannot be imported: {type(error).__name__}: {reason}", hint=SCHEMA_HINT
        ) from error


def _classes_of(module: ModuleType) -> str:
    names = [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, BaseModel) and value is not BaseModel
    ]
    return f"It has {', '.join(names)}." if names else "It has no pydantic models."
