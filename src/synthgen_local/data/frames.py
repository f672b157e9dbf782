"""Tables of pandas, polars and pyarrow as records, without a need for any of them.

What stands for a missing value (NaN, NaT, NA) is None in a record; numbers and arrays of numpy are
Python's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

_MISSING = {"NaTType", "NAType"}


def is_missing(value: Any) -> bool:
    """Return whether a value is a float's NaN, or NaT or NA of pandas or numpy.

    Example: `is_missing(float("nan")) and not is_missing(None)`
    """
    match value:
        case float():
            return math.isnan(value)
        case str() | int() | None | list() | dict():
            return False
    if type(value).__name__ in _MISSING:
        return True
    try:  # of a decimal, a number or a time of numpy
        return bool(value != value)  # noqa: PLR0124 only what is no number differs from itself
    except (TypeError, ValueError, ArithmeticError):
        return False


def records_of(value: Any) -> Any:
    """Return the records of a table; anything else as it is.

    A table is what has `to_dicts` (polars), `to_pylist` (pyarrow), `to_dict` and columns (pandas),
    or the stream of Arrow's C interface, and is no sequence.

    Example: `records_of(pandas.DataFrame({"age": [36]})) == [{"age": 36}]`
    """
    if isinstance(value, Sequence):
        return value
    if hasattr(value, "to_dicts"):
        return _plain(value.to_dicts())
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return _plain(value.to_dict("records"))
    if hasattr(value, "to_pylist"):
        return _plain(value.to_pylist())
    if hasattr(value, "__arrow_c_stream__") and not hasattr(value, "to_list"):
        import pyarrow as pa

        return _plain(pa.table(value).to_pylist())
    return value


def column_of(value: Any, name: str) -> Any:
    """Return one column of a table as a list; anything else, and a table without it, as it is.

    Example: `column_of(pandas.DataFrame({"text": ["a"]}), "text") == ["a"]`
    """
    records = records_of(value)
    if records is value or not all(name in record for record in records):
        return value
    return [record[name] for record in records]


def without_missing(value: Any) -> Any:
    """Return a value with None for each value of a dict that is missing, and nothing of numpy.

    Example: `without_missing({"age": float("nan")}) == {"age": None}`
    """
    return _plain(value)


def _plain(value: Any) -> Any:
    if type(value).__module__ == "numpy":
        return _of_numpy(value)
    match value:
        case dict():
            return {k: None if is_missing(v) else _plain(v) for k, v in value.items()}
        case list():
            return [_plain(item) for item in value]
    return value


def _of_numpy(value: Any) -> Any:
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind in ("m", "M"):  # of nanoseconds, `tolist` would make integers
        value = value.astype(f"{'timedelta' if kind == 'm' else 'datetime'}64[us]")
    return _plain(value.tolist()) if hasattr(value, "tolist") else value
