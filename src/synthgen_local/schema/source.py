"""Where a schema comes from: a pydantic model, a JSON Schema, or a short list of fields.

Knows how to read a row back into what the user's schema calls a row. It does not know
grammars.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretBytes,
    SecretStr,
    TypeAdapter,
    ValidationError,
    create_model,
)
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic_core import to_jsonable_python

from ..errors import SchemaError
from .pydantic_schema import row_serializer, type_json_schema
from .references import nothing_outside, validator
from .terms import is_term, row_schema

if TYPE_CHECKING:
    from types import ModuleType

    from pydantic_core import ErrorDetails

SAYS = " says: "
"""Stands in a reason between who turned a row down and what it said, which may be about the row."""

FIELD_TYPES: dict[str, type[Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "decimal": Decimal,
    "date": date,
    "datetime": datetime,
    "time": time,
    "uuid": UUID,
}
"""The type names of a short list of fields."""

_MOST_BYTES = 1 << 23
_MOST_LEVELS = 128  # of lists and objects: what follows goes down them by recursion

_DRAFTS = {f"http://json-schema.org/draft-{number}/schema" for number in ("04", "06", "07")} | {
    f"https://json-schema.org/draft/{date}/schema" for date in ("2019-09", "2020-12")
}

_HINT = "SCHEMA is file.py:Class, package.module:Class, a .json file, or a list: 'name, age int'."


@dataclass(frozen=True)
class RowSchema:
    """A schema and the two ways between a row's JSON and its instance.

    `parse` takes JSON text and raises ValueError with a one-line reason if the row is not
    valid; `read` does the same for a mapping or an instance. `dump` makes JSON values
    (dict, list, str, int, float, bool, None) of an instance.
    """

    name: str
    json_schema: dict[str, Any]
    parse: Callable[[str], Any]
    read: Callable[[Any], Any]
    dump: Callable[[Any], Any]

    @classmethod
    def of(cls, schema: Any) -> RowSchema:
        """Accept a type, a JSON Schema as a dict, or a short list of fields.

        A type is whatever pydantic validates: a model, a dataclass, a TypedDict, a NamedTuple, or
        an annotation such as `list[int]`. Raises SchemaError for what is none of these.

        Example: `RowSchema.of("name, age int").parse('{"name": "Ada", "age": 36}').age == 36`
        """
        if isinstance(schema, RowSchema):
            return schema
        if is_term(schema):
            held = row_schema(schema)
            return _from_type(schema) if held is None else RowSchema.of(held)
        if isinstance(schema, str):
            return _from_type(_model_of_fields(schema))
        if isinstance(schema, dict):
            return _from_json_schema(schema, schema.get("title", "Row"))
        return _from_type(schema)


def load_schema(source: str) -> RowSchema:
    """Find the schema that a command line names.

    `file.py:Class`, `package.module:Class`, a JSON Schema file, or `'name, age int'`.
    Raises SchemaError if it cannot be found or read.

    Example: `load_schema("examples/medical_billing.py:MedicalBilling")`
    """
    if source.endswith(".json"):
        return _from_json_file(Path(source))
    where, colon, name = source.rpartition(":")
    if colon and re.fullmatch(r"[\w.]+", name) and " " not in where and "," not in where:
        return RowSchema.of(_class_in(where, name))
    if source.endswith(".py") or "/" in source:
        raise SchemaError(f"{source} does not name a class.", hint="Write file.py:Class.")
    return RowSchema.of(source)


def _from_type(kind: Any) -> RowSchema:
    name = _name(kind)
    try:
        adapter = TypeAdapter(kind)
        schema = type_json_schema(adapter)
        write = row_serializer(adapter).to_python
    except PydanticInvalidForJsonSchema as error:
        raise SchemaError(
            f"{name} has a field that JSON cannot say: {error.message}",
            hint="Use a type that pydantic can write as JSON Schema.",
        ) from error
    except ImportError as error:
        raise SchemaError(f"{name} needs a package: {error}.", hint="Install it.") from error
    except (PydanticUserError, TypeError) as error:
        raise SchemaError(
            f"{name} is no type that pydantic knows.", hint="Derive it from pydantic.BaseModel."
        ) from error

    def parse(text: str) -> Any:
        with _one_line():
            return adapter.validate_json(text)

    def read(value: Any) -> Any:
        with _one_line():
            return adapter.validate_python(value)

    hidden = any(_formats(schema, "password"))

    def dump(instance: Any) -> Any:
        if hidden:  # JSON mode would write asterisks
            values = write(instance, by_alias=True, round_trip=True)
            return to_jsonable_python(_reveal(values))
        return write(instance, mode="json", by_alias=True, round_trip=True)

    return RowSchema(name, schema, parse, read, dump)


def _formats(schema: Any, name: str) -> Iterator[bool]:
    """True wherever a schema has a format of this name."""
    inner = schema.values() if isinstance(schema, dict) else schema
    if isinstance(schema, dict | list):
        yield isinstance(schema, dict) and schema.get("format") == name
        for part in inner:
            yield from _formats(part, name)


def _reveal(value: Any) -> Any:
    """Values with what SecretStr and SecretBytes hold: the rows are made up."""
    match value:
        case SecretStr() | SecretBytes():
            return _reveal(value.get_secret_value())
        case bytes():
            return value.decode()
        case dict():
            return {key: _reveal(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_reveal(item) for item in value]
    return value


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn pydantic's report into `field: what is wrong`, without the value: it may be private."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        said = first["msg"]
        if first["type"] == "union_tag_invalid":  # the only message that quotes a whole value
            said = f"the tag is none of {first['ctx']['expected_tags']}"
        if name := _validator(first):
            said = f"{name}{SAYS}{said}"
        raise ValueError(f"{where}: {said}" if where else said) from None
    except SchemaError:
        raise
    except Exception as error:  # of a validator, which may raise anything
        said = type(error).__name__
        raise ValueError(f"{_raiser(error)}{SAYS}{said}") from None


def _raiser(error: Exception) -> str:
    """The name of the first function in the trace that is neither pydantic's nor ours."""
    trace = error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__"))
        if module not in (__name__, "contextlib") and module.partition(".")[0] != "pydantic":
            return trace.tb_frame.f_code.co_name
        trace = trace.tb_next
    return "pydantic"


def _validator(error: ErrorDetails) -> str:
    """The name of the function of the user's that raised, if one did."""
    raised = error.get("ctx", {}).get("error")
    trace = raised.__traceback__ if isinstance(raised, Exception) else None
    return trace.tb_frame.f_code.co_name if trace is not None else ""


def _from_json_schema(schema: dict[str, Any], name: str) -> RowSchema:
    import jsonschema_rs
    from jsonschema.exceptions import SchemaError as InvalidSchema
    from jsonschema.validators import validator_for

    _refuse_strangers(schema)
    if not jsonschema_rs.meta.is_valid(schema):  # a thousand times as fast as check_schema
        try:
            validator_for(schema).check_schema(schema)
        except InvalidSchema as error:
            where = "/".join(str(part) for part in error.absolute_path) or "the root"
            raise SchemaError(
                f"Not a JSON Schema: {error.message} at {where}.", hint=_HINT
            ) from error
    checker = validator(schema, format_checker=validator_for(schema).FORMAT_CHECKER)

    def read(value: Any) -> Any:
        with nothing_outside():
            for error in checker.iter_errors(value):
                where = error.json_path.removeprefix("$").lstrip(".")
                raise ValueError(f"{where or 'row'}: {error.validator} is not satisfied")
        return value

    def parse(text: str) -> Any:
        return read(json.loads(text))

    return RowSchema(name, schema, parse, read, dump=lambda value: value)


def _refuse_strangers(schema: dict[str, Any]) -> None:
    """Refuse a dialect that is not known, because it would be fetched, and what is too deep."""
    dialect = schema.get("$schema", "")
    if not isinstance(dialect, str) or (dialect and dialect.removesuffix("#") not in _DRAFTS):
        raise SchemaError(
            "$: keyword '$schema' names no known draft.",
            hint="Name one from 4 to 2020-12.",
        )
    level: list[Any] = [schema]
    for _ in range(_MOST_LEVELS):
        level = [item for outer in level for item in _inside(outer)]
        if not level:
            return
    raise SchemaError(
        f"The schema has more than {_MOST_LEVELS} levels.",
        hint="Use $defs, or simplify it.",
    )


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _from_json_file(path: Path) -> RowSchema:
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise SchemaError(
                f"{path} has more than {_MOST_BYTES >> 20} MB.", hint="A schema is smaller."
            )
        schema = json.loads(text)
    except OSError as error:
        raise SchemaError(f"{path} cannot be read: {error.strerror}.", hint=_HINT) from error
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"{path} is not JSON: {error}.", hint="Check the file.") from error
    if not isinstance(schema, dict):
        raise SchemaError(f"{path} is not a JSON Schema: it is not an object.", hint=_HINT)
    return _from_json_schema(schema, schema.get("title", path.stem))


def _class_in(where: str, name: str) -> Any:
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
            f"{name} cannot be imported: {type(error).__name__}: {reason}", hint=_HINT
        ) from error


def _classes_of(module: ModuleType) -> str:
    names = [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, BaseModel) and value is not BaseModel
    ]
    return f"It has {', '.join(names)}." if names else "It has no pydantic models."


def _model_of_fields(text: str) -> type[BaseModel]:
    """Read `name, age int, city: a town in Peru`: name, type (str if left out), description.

    Fields are separated by commas, or by lines where a description holds commas.
    """
    separator = "\n" if "\n" in text.strip() else ","
    fields: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(separator))):
        head, _, description = part.partition(":")
        match head.split():
            case [name]:
                kind = "str"
            case [name, kind]:
                pass
            case _:
                raise SchemaError(f"'{part}' is not a field.", hint=_HINT)
        if not name.isidentifier() or name.startswith("_"):
            raise SchemaError(f"'{name}' is not a field name.", hint=_HINT)
        if kind not in FIELD_TYPES:
            raise SchemaError(
                f"Field '{name}' has an unknown type '{kind}'.",
                hint=f"Types: {', '.join(FIELD_TYPES)}.",
            )
        if name in fields:
            raise SchemaError(
                f"Field '{name}' is there twice.", hint="Give each field its own name."
            )
        fields[name] = (FIELD_TYPES[kind], Field(description=description.strip() or None))
    if not fields:
        raise SchemaError("The schema has no fields.", hint=_HINT)
    return create_model("Row", __config__=ConfigDict(protected_namespaces=()), **fields)


def _name(value: Any) -> str:
    return getattr(value, "__name__", type(value).__name__)
