"""JSON Schema of types whose own JSON Schema is less exact than their values.

Most are of pydantic-extra-types. A program that uses it has imported it, so it is looked up in
`sys.modules` and never imported. Knows those types, not grammars.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any
from zoneinfo import available_timezones

from pydantic import ByteSize

_BYTE_SIZE = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": "^[0-9]{1,6}(?:[.][0-9]{1,2})?(?:B|[KMGT]i?B)$"},
    ]
}
_FORMATS = {
    "iban.IBAN": "iban",
    "isbn.ISBN": "isbn13",
    "mac_address.MacAddress": "mac-address",
    "payment.PaymentCardNumber": "payment-card",
    "routing_number.ABARoutingNumber": "aba-routing-number",
}
_EXTERNAL_TYPES = {
    "import_string": "import-string",
    "validate_socket": "socket-path",
    "validate_new": "new-path",
}
_INDEXED_TYPES = {
    "country.CountryAlpha2": "_index_by_alpha2",
    "country.CountryAlpha3": "_index_by_alpha3",
    "country.CountryNumericCode": "_index_by_numeric_code",
    "country.CountryShortName": "_index_by_short_name",
    "language_code.LanguageAlpha2": "_index_by_alpha2",
    "language_code.LanguageName": "_index_by_name",
}
_ENUMERATED_TYPES = {
    "currency_code.Currency",
    "currency_code.ISO4217",
    "language_code.ISO639_3",
    "language_code.ISO639_5",
    "script_code.ISO_15924",
    "timezone_name.TimeZoneName",
}


def extra_type_schema(core_schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the JSON Schema of a type of this module from its core schema, else None.

    Example: `extra_type_schema(TypeAdapter(PaymentCardNumber).core_schema)`
    """
    validator = (core_schema.get("function") or {}).get("function")
    name = getattr(validator, "__name__", "")
    if name == "validate_str_is_valid_iana_tz":
        return {"type": "string", "enum": sorted(available_timezones())}
    if name in _EXTERNAL_TYPES:
        return {"type": "string", "format": _EXTERNAL_TYPES[name]}
    kind = getattr(validator, "__self__", None)
    for base in kind.__mro__ if isinstance(kind, type) else ():
        if base is ByteSize:
            return _BYTE_SIZE
        package, _, module = base.__module__.rpartition(".")
        if package != "pydantic_extra_types":
            continue
        name = f"{module}.{base.__name__}"
        if name in _FORMATS:
            return {"type": "string", "format": _FORMATS[name]}
        if name in _INDEXED_TYPES:
            values = getattr(sys.modules[base.__module__], _INDEXED_TYPES[name])()
            return {"type": "string", "enum": sorted(values)}
        if name in _ENUMERATED_TYPES:
            return _enumeration(core_schema)
    return None


def _enumeration(core_schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the enumeration of a type's own JSON Schema."""
    write = core_schema["metadata"]["pydantic_js_functions"][0]
    values = write(core_schema, lambda _: {})["enum"]
    return {"type": "string", "enum": values}
