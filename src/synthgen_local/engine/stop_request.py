"""A request to stop decoding early, with a grace period for the shards that are being decoded.

Knows a clock; knows no rows or threads.
"""

from __future__ import annotations

import time

GRACE_PERIOD = 4.0
"""Seconds that running shards have after a stop request."""


class StopRequest:
    """A request to stop: no further shard is started, running shards have a grace period.

    Example: `stop.request()` in a signal handler
    """

    def __init__(self) -> None:
        self._since: float | None = None

    def request(self) -> None:
        """Request the stop; later calls do not extend the grace period."""
        self._since = self._since or time.monotonic()

    @property
    def requested(self) -> bool:
        """True if a stop was requested."""
        return self._since is not None

    @property
    def expired(self) -> bool:
        """True if the grace period is over."""
        return self._since is not None and time.monotonic() > self._since + GRACE_PERIOD
