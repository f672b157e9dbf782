"""Schemas of structured answers, in all forms that LangChain's users give them.

Knows schemas and what an answer is read as, not models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic.v1 import BaseModel as OldModel
from typing_extensions import is_typeddict

from ..errors import UsageError
from ..schema import RowSchema

METHODS = ("function_calling", "json_mode", "json_schema")
"""Ways to a structured answer that LangChain knows; here they are one."""


class Structure:
    """What an answer is to be: `rows` is its schema, `parse` reads one.

    Example: `Structure(int).parse("7") == 7`
    """

    def __init__(self, schema: Any) -> None:
        self.rows = _row_schema(schema)
        self._given = schema
        old = isinstance(schema, type) and issubclass(schema, OldModel)
        self._make: Callable[[Any], Any] | None = schema.parse_obj if old else None

    @classmethod
    def of_format(cls, given: Any) -> Structure | None:
        """Read `response_format`: OpenAI's dicts, or a schema. None asks for free text.

        Example: `Structure.of_format({"type": "json_object"})`
        """
        if given is None or isinstance(given, Structure):
            return given
        if isinstance(given, Mapping) and given.get("type") == "text":
            return None
        if isinstance(given, Mapping) and given.get("type") == "json_object":
            return cls(given.get("schema", {"type": "object"}))  # llama.cpp's form has a schema
        if isinstance(given, Mapping) and given.get("type") == "json_schema":
            return cls(given.get("json_schema", {}))
        return cls(given)

    @property
    def traced(self) -> dict[str, Any]:
        """The schema as LangChain's tracers want it."""
        try:
            return convert_to_json_schema(self._given)
        except (ValueError, TypeError, AttributeError, KeyError):  # of no form that it knows
            return self.rows.json_schema

    def parse(self, text: str) -> Any:
        """Return the instance that an answer is; ValueError with the reason if it is none."""
        value = self.rows.parse(text)
        return value if self._make is None else self._make(value)

    def __repr__(self) -> str:
        """Equal for equal schemas: LangChain's cache tells calls apart by it."""
        return f"Structure({self.rows.name}, {self.rows.json_schema})"


def check_method(method: Any) -> None:
    """Raise UsageError for what is no way to a structured answer.

    Example: `check_method("json_mode")`
    """
    if method is not None and method not in METHODS:
        raise UsageError(f"method cannot be {method!r}.", hint=f"It is {', '.join(METHODS)}.")


def _row_schema(schema: Any) -> RowSchema:
    if isinstance(schema, Mapping):
        return RowSchema.of(_json_schema(schema))
    theirs = (
        is_typeddict(schema)  # it may be annotated as LangChain reads it
        or isinstance(schema, BaseTool)
        or _is_function(schema)
        or (isinstance(schema, type) and issubclass(schema, OldModel))
    )
    return RowSchema.of(convert_to_json_schema(schema) if theirs else schema)


def _json_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON Schema, which may be wrapped as a tool, a function or OpenAI's json_schema."""
    if isinstance(inner := schema.get("function"), Mapping):
        return _json_schema(inner)
    if schema.get("type") == "json_schema" and isinstance(
        inner := schema.get("json_schema"), Mapping
    ):
        return _json_schema(inner)
    if isinstance(name := schema.get("name"), str):
        for key in ("parameters", "input_schema", "schema"):
            if isinstance(inner := schema.get(key), Mapping):
                about = {k: schema[k] for k in ("description",) if k in schema}
                return {"title": name, **about, **inner}
    return dict(schema)


def _is_function(schema: Any) -> bool:
    """Whether it is called: pydantic would call it to validate."""
    return callable(schema) and not isinstance(schema, type) and hasattr(schema, "__code__")
