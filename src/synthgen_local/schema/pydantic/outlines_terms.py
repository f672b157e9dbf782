"""outlines' terms where a schema or a field's type may stand.

A term exists only in a program that has imported outlines, so it is looked up there and
never imported. Knows outlines' terms and JSON Schema, not grammars.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from ...errors import SchemaError
from ..json_schema.keywords import CONTENT_SCHEMA, REGEX_DIALECT
from ..regex.translation import as_python

_HINT = "Give it to outlines.Generator as an output type of its own."

_ANY_DRAFT = "http://json-schema.org/schema#"  # as genson writes; it names none


def is_term(value: Any) -> bool:
    """Return whether a value is a term of outlines': a Regex, a Choice, a CFG.

    Example: `is_term(outlines.types.email)`
    """
    dsl = sys.modules.get("outlines.types.dsl")
    return dsl is not None and isinstance(value, dsl.Term)


def row_schema(term: Any) -> dict[str, Any] | None:
    """Return the JSON Schema that a term is, None for a term that is a string.

    Raises SchemaError for a term that is neither: a CFG.

    Example: `row_schema(outlines.types.JsonSchema({"type": "integer"})) == {"type": "integer"}`
    """
    if unsaid := _inexpressible(term):
        raise SchemaError(f"outlines' {unsaid} cannot stand inside of a JSON string.", hint=_HINT)
    schema: dict[str, Any] | None = None
    if isinstance(term, sys.modules["outlines.types.dsl"].JsonSchema):
        schema = json.loads(term.schema)
        if isinstance(schema, dict) and schema.get("$schema") == _ANY_DRAFT:
            del schema["$schema"]
    return schema


def field_term(core_schema: Mapping[str, Any]) -> Any:
    """Return the term that pydantic's schema of a field was made from, None if there is none."""
    metadata = core_schema.get("metadata") or {}
    for key in ("pydantic_js_annotation_functions", "pydantic_js_functions"):
        for function in metadata.get(key) or ():
            if is_term(found := getattr(function, "__self__", None)):
                return found
    return None


def field_schema(term: Any) -> dict[str, Any]:
    """Return the JSON Schema of strings that are texts of a term.

    The pattern is anchored: a term is matched with the whole of a string, where JSON Schema
    searches. Raises SchemaError for a term that no regular expression says, such as a CFG.

    Example: `field_schema(outlines.types.Regex("a+"))["pattern"] == "^(?:(a+))$"`
    """
    held = row_schema(term)
    if held is not None and "$ref" not in json.dumps(held):
        return {"type": "string", CONTENT_SCHEMA: held}
    if isinstance(items := getattr(term, "items", None), list) and all(map(_is_text, items)):
        return {"type": "string", "enum": items}
    try:
        pattern = sys.modules["outlines.types.dsl"].to_regex(term)
    except (TypeError, ValueError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise SchemaError(
            f"outlines' {type(term).__name__} is no regular expression: {reason}", hint=_HINT
        ) from error
    dialect = as_python(pattern).dialect
    return {"type": "string", "pattern": f"^(?:{pattern})$", REGEX_DIALECT: dialect}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _inexpressible(term: Any) -> str:
    """The name of the first part of a term that no regular expression says, if there is one."""
    if term is None:
        return "`| None`"
    if isinstance(term, sys.modules["outlines.types.dsl"].CFG):
        return "CFG"
    parts = [*([term.term] if hasattr(term, "term") else []), *getattr(term, "terms", ())]
    return next((unsaid for part in parts if (unsaid := _inexpressible(part))), "")
