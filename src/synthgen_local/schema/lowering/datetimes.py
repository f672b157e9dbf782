"""Bounds of dates, times and datetimes, in whole days or seconds.

Knows the `format...` keywords of `pydantic_schema.py`, not nodes or grammars. A date is
its midnight and a time is that time on one day, so all three are datetimes here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from ..ir import Bounds
from ..json_schema.keywords import TIMEZONE

FORMAT_BOUNDS = (
    "formatMinimum",
    "formatExclusiveMinimum",
    "formatMaximum",
    "formatExclusiveMaximum",
)
_SOME_DAY = date(2000, 1, 1)
_LAST_SECOND = time(23, 59, 59)


def moment_range(kind: str, schema: Mapping[str, Any], bounds: Bounds) -> tuple[datetime, datetime]:
    """Return the first and the last moment of a `date`, `time` or `date-time` schema.

    Where the schema sets no bound, the years of `bounds` do. The first may be after the last.

    Example: `moment_range("date", {"formatMinimum": "2020-02-27"}, Bounds())`
    """
    step = timedelta(days=1) if kind == "date" else timedelta(seconds=1)
    lows, highs = [], []
    for keyword in FORMAT_BOUNDS:
        if keyword not in schema:
            continue
        moment = _read(kind, schema[keyword])
        whole = moment.replace(microsecond=0)
        exclusive, exact = "Exclusive" in keyword, whole == moment
        if keyword.endswith("Minimum"):
            lows.append(whole + step if exclusive or not exact else whole)
        else:
            highs.append(whole - step if exclusive and exact else whole)
    first, last = _default(kind, bounds)
    low = max(lows) if lows else min([first, *highs])
    high = min(highs) if highs else max([last, *lows])
    return low, high


def write_moment(kind: str, moment: datetime, schema: Mapping[str, Any]) -> str:
    """Return a moment as rows write it: with a Z unless the schema wants no time zone.

    Example: `write_moment("time", datetime(2000, 1, 1, 8, 30), {}) == "08:30:00Z"`
    """
    if kind == "date":
        return moment.date().isoformat()
    zone = "Z" if schema.get(TIMEZONE, "aware") == "aware" else ""
    return (moment.isoformat() if kind == "date-time" else moment.time().isoformat()) + zone


def _read(kind: str, text: str) -> datetime:
    """A bound with an offset is compared in UTC, in which rows with an offset are written."""
    if kind == "time":
        return datetime.combine(_SOME_DAY, time.fromisoformat(text).replace(tzinfo=None))
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _default(kind: str, bounds: Bounds) -> tuple[datetime, datetime]:
    if kind == "time":
        days = _SOME_DAY, _SOME_DAY
    else:
        days = date(bounds.first_year, 1, 1), date(bounds.last_year, 12, 31)
    end = time.min if kind == "date" else _LAST_SECOND
    return datetime.combine(days[0], time.min), datetime.combine(days[1], end)
