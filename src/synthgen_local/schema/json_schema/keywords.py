"""The keywords that this program adds to JSON Schema.

pydantic's own JSON Schema loses the digits of decimals, the time zone of datetimes, the version
of a UUID and the like. These keywords carry them from pydantic's types to the lowering. The prefix
keeps them apart from keywords that users add for purposes of their own.

`formatMinimum` and its like are not among them: those are Ajv's, and are read in any schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PREFIX = "x-synthgen-"

CONTENT_SCHEMA = f"{PREFIX}contentSchema"
"""The schema of the JSON value that a string contains."""
DECIMAL_PLACES = f"{PREFIX}decimalPlaces"
"""The greatest number of digits after the decimal point."""
MAX_DIGITS = f"{PREFIX}maxDigits"
"""The greatest number of digits of a decimal."""
NULL_RATE = f"{PREFIX}nullRate"
"""The probability with which a nullable value is null."""
NUMBER_KEYS = f"{PREFIX}numberKeys"
"""Present if the numbers of an `enum` may be keys of an object."""
REGEX_DIALECT = f"{PREFIX}regexDialect"
"""The dialect of a `pattern`, "python" or "rust"; without it, ECMA-262's."""
RELATIVE_TO_NOW = f"{PREFIX}relativeToNow"
"""`past` or `future`, for a date on one side of the present."""
SCHEMES = f"{PREFIX}schemes"
"""The schemes that a URL may have."""
TIMEDELTA = f"{PREFIX}timedelta"
"""Present if a duration is read as a timedelta, which has no months or years."""
TIMEZONE = f"{PREFIX}timezone"
"""`naive` if a datetime or time has no time zone, `aware` if it has one."""
TOLERANCE = f"{PREFIX}tolerance"
"""Present if `multipleOf` tolerates rounding errors: 0.3 is then a multiple of 0.1."""
UUID_VERSION = f"{PREFIX}version"
"""The version of a UUID."""
VALIDATORS = f"{PREFIX}validators"
"""The names of functions that check a value after it is parsed."""

PRIVATE = frozenset({
    CONTENT_SCHEMA, DECIMAL_PLACES, MAX_DIGITS, NULL_RATE, NUMBER_KEYS, REGEX_DIALECT,
    RELATIVE_TO_NOW, SCHEMES, TIMEDELTA, TIMEZONE, TOLERANCE, UUID_VERSION, VALIDATORS,
})  # fmt: skip
"""All keywords that this program adds."""

SHORT_NULL_RATE = "nullRate"
"""The documented spelling of NULL_RATE for users' schemas."""


def null_rates_in(schema: Mapping[str, Any]) -> list[Any]:
    """Return the null rate that a schema states, in either spelling; an empty list without one.

    Example: `null_rates_in({"nullRate": 0.1}) == [0.1]`
    """
    return [schema[key] for key in (NULL_RATE, SHORT_NULL_RATE) if key in schema][:1]
