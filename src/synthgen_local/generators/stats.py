"""Statistics of a generation: rejections by check, tokens, and the errors when rows are missing.

Knows rows and rejections; knows no prompts, grammar or model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..data.provenance import RowCounts
from ..engine.requests import Row
from ..errors import SchemaError, TooFewRowsError
from ..rejection import Rejection

_HOPELESS = 500  # tries turned down before any was not, after which a run ends


_UNREADABLE = 30  # such tries for one reason, none of which could be read again


class TokenTotals:
    """Tokens of rows, as a manifest counts them."""

    def __init__(self) -> None:
        self._tokens = self._drawn = self._weighed = self._weighed_draws = 0
        self._log_weight = 0.0

    def add(self, row: Row[Any]) -> None:
        """Count a row's tokens."""
        self._tokens += row.tokens
        self._drawn += row.sampled_tokens
        if row.log_weight is not None:
            self._weighed += 1
            self._weighed_draws += row.sampled_tokens
            self._log_weight += row.log_weight

    def counts(self, tally: Tally) -> RowCounts:
        """Return the counts of a manifest."""
        return RowCounts(
            rows=tally.made,
            lost=0,
            redraws=tally.redraws,
            tokens=self._tokens,
            drawn=self._drawn,
            forced=self._tokens - self._drawn,
            kept=math.exp(self._log_weight / max(1, self._weighed_draws)),
            weighed=self._weighed,
        )


_SHORT = {"passages": "Cut what is too long, loosen that check, or raise the temperature."}
"""Hints for what is not rows."""


class Tally:
    """Rejections of a generation by the check that made them."""

    def __init__(self, asked: int, word: str = "rows") -> None:
        self._asked = asked
        self._word = word
        self.made = 0
        self._lost = 0
        self._reasons: Counter[str] = Counter()
        self._examples: dict[str, Rejection] = {}

    @property
    def rejections(self) -> int:
        """The number of rejected attempts."""
        return self._reasons.total()

    @property
    def redraws(self) -> dict[str, int]:
        """The number of rejections of each check, most frequent first."""
        return dict(self._reasons.most_common())

    def add(self, rejections: Sequence[Rejection], *, made: bool) -> None:
        """Count a row and its rejected attempts."""
        for rejection in rejections:
            self._reasons[rejection.validator] += 1
            self._examples.setdefault(rejection.validator, rejection)
        self.made += made
        self._lost += not made

    def rates(self) -> list[tuple[str, float]]:
        """Return the checks with their share of all attempts, the most frequent first."""
        tries = self.made + self.rejections
        return [(reason, count / tries) for reason, count in self._reasons.most_common()]

    def raise_if_short(self) -> None:
        """Raise TooFewRowsError if any row was rejected at all its attempts."""
        if self._lost:
            blamed, times = self._reasons.most_common(1)[0]
            raise TooFewRowsError(
                f"{self.made} of {self._asked} {self._word}: {self._lost} turned down at every "
                f"try, most often ({times} times) by: {self._examples[blamed]}",
                hint=_SHORT.get(self._word, "Loosen that check, or give examples that pass it."),
            )


def check_rejections(rows: int, reasons: Counter[str], name: str, *, unreadable: bool) -> None:
    """Raise an error when many attempts were rejected and none was accepted.

    Raises SchemaError if no row can be read again, TooFewRowsError otherwise.
    """
    reason, times = reasons.most_common(1)[0]
    if unreadable and times == reasons.total() == _UNREADABLE:
        raise SchemaError(
            f"{name}: {reason}.", hint="Let its validators keep valid what the field's type allows."
        )
    if reasons.total() < _HOPELESS:
        return
    raise TooFewRowsError(
        f"0 of {rows} rows: all of {reasons.total()} tries were turned down, most often "
        f"({times} times) by: {reason}",
        hint="Loosen that check, or give examples that pass it.",
    )
