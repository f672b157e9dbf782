"""The JSON Schema of a pydantic type, with keywords for what the standard ones cannot express.

pydantic's own JSON Schema drops the bounds of dates, the digits of decimals, the keys of
dicts and the version of a UUID. This one keeps them, in the keywords of
`json_schema/keywords.py`, which the lowering reads.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import (
    GenerateJsonSchema,
    JsonRef,
    JsonSchemaValue,
    JsonSchemaWarningKind,
)
from pydantic_core import SchemaValidator, ValidationError, core_schema

from ..json_schema.keywords import (
    CONTENT_SCHEMA,
    DECIMAL_PLACES,
    MAX_DIGITS,
    NUMBER_KEYS,
    REGEX_DIALECT,
    RELATIVE_TO_NOW,
    SCHEMES,
    TIMEDELTA,
    TIMEZONE,
    TOLERANCE,
    UUID_VERSION,
    VALIDATORS,
)
from ..regex.base64 import of_bytes, of_text
from ..regex.formats import url_format
from .extra_types import extra_type_schema
from .outlines_terms import field_schema, field_term
from .serialization import row_key, with_hidden_fields
from .validators import NUMBER_BOUNDS, add_function, add_validators

_FORMAT_BOUNDS = {
    "ge": "formatMinimum",
    "gt": "formatExclusiveMinimum",
    "le": "formatMaximum",
    "lt": "formatExclusiveMaximum",
}
_LENGTHS = ("min_length", "max_length")
_FLAGS = {"a": re.ASCII, "i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}


def type_json_schema(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    """Return the JSON Schema of the values that a type accepts: by alias, without computed fields.

    Fields with a default are required here: a row has them all.

    Raises pydantic's PydanticInvalidForJsonSchema for a type that JSON cannot express.

    Example: `type_json_schema(TypeAdapter(int)) == {"type": "integer"}`
    """
    schema = _ExactJsonSchema(by_alias=True).generate(with_hidden_fields(adapter.core_schema))
    bounded: dict[str, Any] = _rename_bounds(schema)
    return bounded


def _rename_bounds(schema: Any) -> Any:
    """Give bounds that come after a validator the names of JSON Schema."""
    if isinstance(schema, list):
        return [_rename_bounds(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") in ("base64", "base64url") and schema.get("type") == "string":
        schema = _base64_schema(schema)
    return {
        key if isinstance(value, dict) else NUMBER_BOUNDS.get(key, key): _rename_bounds(value)
        for key, value in schema.items()
    }


def _base64_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A pattern for Base64 of the right length: lengths count bytes before they are encoded."""
    kind, validators = schema["format"], list(schema.get(VALIDATORS, ()))
    lengths = schema.get("minLength"), schema.get("maxLength")
    kept = {k: v for k, v in schema.items() if k not in ("minLength", "maxLength", VALIDATORS)}
    if "decode_str" in validators:
        validators.remove("decode_str")
        kept["pattern"] = of_text(kind)
        validators += [name for name, n in zip(_LENGTHS, lengths, strict=True) if n is not None]
    elif lengths != (None, None):
        kept["pattern"] = of_bytes(kind, lengths[0] or 0, lengths[1])
        kept["format"] = "binary"
    return add_validators(kept, *validators)


class _ExactJsonSchema(GenerateJsonSchema):
    ignored_warning_kinds: set[JsonSchemaWarningKind] = {  # noqa: RUF012 pydantic's own form
        "skipped-choice",
        "non-serializable-default",
    }

    def generate_inner(self, schema: Any) -> JsonSchemaValue:
        if known := extra_type_schema(schema):
            return {**known, **schema.get("metadata", {}).get("pydantic_js_updates", {})}
        term = field_term(schema)
        if term is None:
            return super().generate_inner(schema)
        return {**field_schema(term), **schema["metadata"].get("pydantic_js_updates", {})}

    def _get_alias_name(self, field: Any, name: str) -> str:
        by_alias = self._config.validate_by_alias is not False
        return row_key(field, name, by_alias=by_alias) if "schema" in field else name

    def field_is_required(self, field: Any, total: bool) -> bool:
        return field["type"] != "typed-dict-field" or bool(field.get("required", total))

    def function_after_schema(
        self, schema: core_schema.AfterValidatorFunctionSchema
    ) -> JsonSchemaValue:
        return add_function(super().function_after_schema(schema), schema)

    def function_before_schema(
        self, schema: core_schema.BeforeValidatorFunctionSchema
    ) -> JsonSchemaValue:
        return add_function(super().function_before_schema(schema), schema)

    def function_wrap_schema(
        self, schema: core_schema.WrapValidatorFunctionSchema
    ) -> JsonSchemaValue:
        return add_function(super().function_wrap_schema(schema), schema)

    def function_plain_schema(
        self, schema: core_schema.PlainValidatorFunctionSchema
    ) -> JsonSchemaValue:
        return add_function(super().function_plain_schema(schema), schema)

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        base = super().model_schema(schema)
        function = getattr(schema["cls"], schema.get("post_init") or "", None)
        own = getattr(function, "__name__", "init_private_attributes") != "init_private_attributes"
        names = ["__init__"] if schema.get("custom_init") else []
        return add_validators(base, *names, *(["model_post_init"] if own else []))

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        base = super().dataclass_schema(schema)
        return add_validators(base, "__post_init__") if schema.get("post_init") else base

    def chain_schema(self, schema: core_schema.ChainSchema) -> JsonSchemaValue:
        """The first step as a type; steps that pydantic appends for a late `pattern` as checks.

        An e-mail address stays text, so that its pattern guides the grammar too.
        """
        later = [step["schema"] for step in schema["steps"][1:] if step["type"] == "function-wrap"]
        names = [key for step in later for key in ("pattern", "ascii_only") if key in step]
        base = super().chain_schema(schema)
        given = [step for step in later if "pattern" in step]
        if base.get("format") == "email" and "pattern" not in base and len(given) == 1:
            engine = given[0].get("regex_engine") or self._config.regex_engine
            base |= _in_dialect(given[0]["pattern"], engine)
        return add_validators(base, *names)

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        """Constraints on text that is changed before they apply can only be checked."""
        base = super().str_schema(schema)
        pattern = schema.get("pattern")
        names = [key for key in ("strip_whitespace", "to_lower", "to_upper") if schema.get(key)]
        if pattern is not None:
            engine = schema.get("regex_engine") or self._config.regex_engine
            base |= _in_dialect(pattern, engine)
            return add_validators(
                base, *names, *(["ascii_only"] if schema.get("ascii_only") else [])
            )
        if schema.get("ascii_only"):
            return {**base, "pattern": "^([!-~]([ -~]*[!-~])?)?$"}
        if schema.get("strip_whitespace"):
            base["pattern"] = r"^(\S(.*\S)?)?$"
        return base

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        """A function that distinguishes the options may read any field, so it is a check."""
        base = super().tagged_union_schema(schema)
        if not callable(schema["discriminator"]):
            return base
        options = base.pop("oneOf", None)
        name = getattr(schema["discriminator"], "__name__", "discriminator")
        return add_validators({**base, **({"anyOf": options} if options else {})}, name)

    def bytes_schema(self, schema: core_schema.BytesSchema) -> JsonSchemaValue:
        base = super().bytes_schema(schema)
        base.pop("format", None)
        coding = self._config.val_json_bytes
        lengths = base.get("minLength", 0), base.get("maxLength", "")
        if coding != "utf8":
            units = {"base64": "(?:[A-Za-z0-9_-]{4})", "hex": "(?:[0-9a-f]{2})"}[coding]
            size = 3 if coding == "base64" else 1
            least, most = -(-lengths[0] // size), (lengths[1] or 60) // size
            return {"type": "string", "pattern": f"^{units}{{{least},{most}}}$"}
        return {**base, "pattern": "^[ -~]*$"}  # a byte for each character

    def json_schema(self, schema: core_schema.JsonSchema) -> JsonSchemaValue:
        inner = schema.get("schema")
        return {"type": "string", CONTENT_SCHEMA: self.generate_inner(inner) if inner else {}}

    def timedelta_schema(self, schema: core_schema.TimedeltaSchema) -> JsonSchemaValue:
        seconds = {
            name: str(schema[key].total_seconds())  # type: ignore[literal-required]
            for key, name in _FORMAT_BOUNDS.items()
            if key in schema
        }
        if "multiple_of" in schema:
            raise PydanticInvalidForJsonSchema("a timedelta with multiple_of")
        return {"type": "string", "format": "duration", TIMEDELTA: True, **seconds}

    def url_schema(self, schema: core_schema.UrlSchema) -> JsonSchemaValue:
        base = {**super().url_schema(schema), **_url_schemes(schema)}
        if schema.get("max_length", math.inf) > url_format(()).longest:
            return base  # as of HttpUrl itself
        return add_validators(
            {**base, "maxLength": schema["max_length"] - 1}, "max_length"
        )  # a "/" more

    def multi_host_url_schema(self, schema: core_schema.MultiHostUrlSchema) -> JsonSchemaValue:
        return {**super().multi_host_url_schema(schema), "format": "uri", **_url_schemes(schema)}

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        base = super().float_schema(schema)
        base |= {TOLERANCE: True} if "multipleOf" in base else {}
        beyond = {"ge": math.inf, "gt": math.inf, "le": -math.inf, "lt": -math.inf}
        lost = [key for key, bound in beyond.items() if schema.get(key) == bound]
        return {**base, **{NUMBER_BOUNDS[key]: beyond[key] for key in lost}}

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        return {
            "type": "string",
            "format": "decimal",
            **_format_bounds(schema),
            **_rename(schema, max_digits=MAX_DIGITS, decimal_places=DECIMAL_PLACES),
            **_rename(schema, multiple_of="multipleOf"),
        }

    def date_schema(self, schema: core_schema.DateSchema) -> JsonSchemaValue:
        return {**super().date_schema(schema), **_format_bounds(schema), **_relative_bounds(schema)}

    def time_schema(self, schema: core_schema.TimeSchema) -> JsonSchemaValue:
        return {
            **super().time_schema(schema),
            **_format_bounds(schema),
            TIMEZONE: _timezone(schema),
        }

    def datetime_schema(self, schema: core_schema.DatetimeSchema) -> JsonSchemaValue:
        base = super().datetime_schema(schema)
        return {
            **base,
            **_format_bounds(schema),
            **_relative_bounds(schema),
            TIMEZONE: _timezone(schema),
        }

    def uuid_schema(self, schema: core_schema.UuidSchema) -> JsonSchemaValue:
        return {"type": "string", "format": "uuid", **_rename(schema, version=UUID_VERSION)}

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        return self._dict_schema(schema, super().dict_schema(schema))

    def ordered_dict_schema(self, schema: Any) -> JsonSchemaValue:
        return self._dict_schema(schema, super().ordered_dict_schema(schema))

    def counter_schema(self, schema: Any) -> JsonSchemaValue:
        return self._dict_schema(schema, super().counter_schema(schema))

    def _dict_schema(self, schema: Any, base: JsonSchemaValue) -> JsonSchemaValue:
        base.pop("patternProperties", None)
        keys = self.generate_inner(schema.get("keys_schema", {"type": "str"}))
        base["propertyNames"] = self._key_schema(keys)
        values = schema.get("values_schema")
        base["additionalProperties"] = self.generate_inner(values) if values else True
        return base

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        base = _drop_unreadable_values(super().enum_schema(schema), schema)
        return {**base, NUMBER_KEYS: True} if schema.get("sub_type") in ("int", "float") else base

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        return _drop_unreadable_values(super().literal_schema(schema), schema)

    def complex_schema(self, schema: core_schema.ComplexSchema) -> JsonSchemaValue:
        number = "(?:0|[1-9][0-9]{0,5})(?:[.][0-9]{1,3})?"
        return {**super().complex_schema(schema), "pattern": f"^-?{number}[+-]{number}j$"}

    def is_subclass_schema(self, schema: core_schema.IsSubclassSchema) -> JsonSchemaValue:
        return self.handle_invalid_for_json_schema(schema, f"a subclass of {schema['cls']}")

    def _key_schema(self, schema: JsonSchemaValue) -> JsonSchemaValue:
        """The strings that represent the keys of a dict in JSON."""
        if "$ref" in schema:
            return self._key_schema(
                self.get_schema_from_definitions(JsonRef(schema["$ref"])) or schema
            )
        for combining in ("anyOf", "oneOf"):
            if combining in schema:
                options = [option for option in schema[combining] if option != {"type": "null"}]
                return {**schema, combining: [self._key_schema(option) for option in options]}
        values = [schema["const"]] if "const" in schema else schema.get("enum", [])
        kinds = (str, bool, int, float) if NUMBER_KEYS in schema else (str, bool)
        texts = [_key_text(value) for value in values if isinstance(value, kinds)]
        if texts:
            return {"type": "string", "enum": texts}
        if not schema or schema.get("type") == "string":
            return schema
        return {"type": "string", CONTENT_SCHEMA: schema}


def _in_dialect(pattern: str | re.Pattern[str], engine: str) -> dict[str, str]:
    """A pattern and the dialect of its engine; flags of a compiled one are put before it."""
    if not isinstance(pattern, re.Pattern):
        dialect = "python" if engine == "python-re" else "rust"
        return {"pattern": pattern, REGEX_DIALECT: dialect}
    given = pattern.flags & ~re.compile(pattern.pattern).flags  # the others are in its text
    flags = "".join(letter for letter, flag in _FLAGS.items() if given & flag)
    return {
        "pattern": f"(?{flags}){pattern.pattern}" if flags else pattern.pattern,
        REGEX_DIALECT: "python",
    }


def _drop_unreadable_values(base: JsonSchemaValue, schema: Any) -> JsonSchemaValue:
    """Constants without those that cannot be read from JSON, such as bytes and enum members."""
    values = [base["const"]] if "const" in base else base.get("enum", [])
    check = SchemaValidator(schema)
    kept = []
    for value in values:
        with suppress(ValidationError):
            check.validate_json(json.dumps(value))
            kept.append(value)
    if len(kept) == len(values):
        return base
    return {**{key: value for key, value in base.items() if key != "const"}, "enum": kept}


def _key_text(value: str | bool | float) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _format_bounds(schema: Any) -> dict[str, str]:
    return {
        name: _write_bound(schema[key]) for key, name in _FORMAT_BOUNDS.items() if key in schema
    }


def _url_schemes(schema: Any) -> dict[str, Any]:
    return {SCHEMES: list(schema.get("allowed_schemes") or ())}


def _rename(schema: Any, **names: str) -> dict[str, Any]:
    values = {name: schema[key] for key, name in names.items() if schema.get(key) is not None}
    return {k: str(v) if isinstance(v, Decimal) else v for k, v in values.items()}


def _relative_bounds(schema: Any) -> dict[str, Any]:
    """Bounds of PastDate and its like: whole years that are over, or have not begun."""
    this_year = datetime.now(tz=UTC).year
    match schema.get("now_op"):
        case "past":
            return {"formatMaximum": f"{this_year - 1}-12-31", RELATIVE_TO_NOW: "past"}
        case "future":
            return {"formatMinimum": f"{this_year + 2}-01-01", RELATIVE_TO_NOW: "future"}
    return {}


def _timezone(schema: Any) -> str:
    constraint = schema.get("tz_constraint", "naive")
    return constraint if isinstance(constraint, str) else "aware"


def _write_bound(bound: date | datetime | time | Decimal | float) -> str:
    if isinstance(bound, float):
        return str(Decimal(bound))  # a decimal is compared with exactly that
    return str(bound) if isinstance(bound, Decimal | int) else bound.isoformat()
