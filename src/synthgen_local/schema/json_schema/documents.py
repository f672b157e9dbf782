"""JSON Schema documents: reading them from files, and the check of a row against one.

Knows the limits and drafts that are accepted, not what keywords mean for a grammar.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ...errors import SchemaError
from ..certificate import join_path
from ..errors import SCHEMA_HINT
from ..rejections import declared_names, shown_path
from .bundling import bundled
from .detection import refuse_list, refuse_other_json
from .dialects import usual
from .references import nothing_outside
from .validation import judge

_MOST_BYTES = 1 << 23
_SURROGATES = re.compile("[\ud800-\udfff]")
_MOST_LEVELS = 128  # of lists and objects: what follows goes down them by recursion

_DRAFTS = {f"http://json-schema.org/draft-{number}/schema" for number in ("04", "06", "07")} | {
    f"https://json-schema.org/draft/{date}/schema" for date in ("2019-09", "2020-12")
}


def readable(document: dict[str, Any], name: str) -> tuple[dict[str, Any], list[str]]:
    """Return a document in the forms that its draft has, and a note for each other one.

    Raises SchemaError for JSON that is not a JSON Schema, with a suggestion.

    Example: `readable({"type": "string", "nullable": True}, "Row")`
    """
    _refuse_depth(document)
    refuse_surrogates(document)
    refuse_other_json(document, name)
    return usual(document)


def check_of(schema: dict[str, Any]) -> Callable[[Any], Any]:
    """Return a function that returns a valid row and raises ValueError for another.

    Raises SchemaError for JSON that is not a JSON Schema.

    Example: `check_of({"type": "integer"})(1) == 1`
    """
    import jsonschema_rs
    from jsonschema import FormatChecker
    from jsonschema.exceptions import SchemaError as InvalidSchema
    from jsonschema.validators import validator_for

    _refuse_dialect(schema)
    _refuse_depth(schema)
    refuse_surrogates(schema)
    plain = _without_own(schema)
    if not jsonschema_rs.meta.is_valid(plain):  # a thousand times as fast as check_schema
        try:  # patterns are read elsewhere, in their dialects
            validator_for(schema).check_schema(plain, format_checker=FormatChecker(formats=()))
        except InvalidSchema as error:
            where = "/".join(str(part) for part in error.absolute_path) or "the root"
            raise SchemaError(
                f"Not a JSON Schema: {error.message} at {where}.", hint=SCHEMA_HINT
            ) from error
    checker = judge(schema, format_checker=validator_for(schema).FORMAT_CHECKER)

    declared = declared_names(schema)

    def read(value: Any) -> Any:
        with nothing_outside():
            for error in checker.iter_errors(value):
                where = error.json_path.removeprefix("$").lstrip(".")
                names = [part for part in error.absolute_path if isinstance(part, str)]
                if not declared.issuperset(names):
                    where = shown_path(error.absolute_path, declared)
                raise ValueError(f"{where or 'row'}: {error.validator} is not satisfied")
        return value

    return read


def _refuse_dialect(schema: dict[str, Any]) -> None:
    """Raise SchemaError for an unknown dialect, because it would be fetched."""
    dialect = schema.get("$schema", "")
    if not isinstance(dialect, str) or (dialect and dialect.removesuffix("#") not in _DRAFTS):
        raise SchemaError(
            "$: keyword '$schema' names an unknown draft.",
            hint="Use a draft from 4 to 2020-12.",
        )


def _refuse_depth(schema: dict[str, Any]) -> None:
    level: list[Any] = [schema]
    for _ in range(_MOST_LEVELS):
        level = [item for outer in level for item in _inside(outer)]
        if not level:
            return
    raise SchemaError(
        f"The schema has more than {_MOST_LEVELS} levels.",
        hint="Use $defs, or simplify it.",
    )


def refuse_surrogates(schema: Any, path: str = "$") -> None:
    """Raise SchemaError, naming a path, for text with half of a surrogate pair.

    Example: `refuse_surrogates({"enum": ["a"]})`
    """
    inner: Iterable[tuple[Any, str]] = ()
    match schema:
        case str():
            if not schema.isascii() and _SURROGATES.search(schema):
                raise SchemaError(
                    f"{path}: a text contains half of a surrogate pair, which UTF-8 cannot encode.",
                    hint="Write the character itself, or both halves.",
                )
        case dict():
            for name in schema:
                refuse_surrogates(name, path)
            inner = ((item, join_path(path, str(name))) for name, item in schema.items())
        case list() | tuple():
            inner = ((item, f"{path}[{index}]") for index, item in enumerate(schema))
    for item, place in inner:
        refuse_surrogates(item, place)


def _without_own(schema: Any) -> Any:
    """Remove values that the meta-schema refuses: `multipleOf` of decimals is text."""
    if isinstance(schema, list):
        return [_without_own(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    own = ("multipleOf",) if schema.get("format") == "decimal" else ()
    return {key: _without_own(value) for key, value in schema.items() if key not in own}


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def read_document(path: Path) -> dict[str, Any]:
    """Return the JSON Schema of a file, with what it refers to in files of the same folder.

    Raises SchemaError if the file is not a JSON Schema.

    Example: `read_document(Path("schema.json"))`
    """
    document = _read(path)
    refuse_other_json(document, str(path))
    return bundled(document, path, _read)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise SchemaError(
                f"{path} is larger than {_MOST_BYTES >> 20} MB.", hint="Pass a smaller schema."
            )
        schema = json.loads(text)
    except OSError as error:
        raise SchemaError(f"{path} cannot be read: {error.strerror}.", hint=SCHEMA_HINT) from error
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"{path} is not JSON: {error}.", hint="Check the file.") from error
    refuse_list(schema, str(path))
    document: dict[str, Any] = schema
    _refuse_depth(document)
    return document
