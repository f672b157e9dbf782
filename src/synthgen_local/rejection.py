"""The reason why a row is rejected, as schema checks, the engine and ledgers pass it on.

Knows names and messages; knows no rows, schemas or models.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rejection:
    """The reason why a row was rejected: a validator's name and its message.

    The message may be about the row, the name is not: rejections are counted by `validator`. A
    reason that no validator gave, such as pydantic's own, is all in `validator`.

    Example: `str(Rejection("is_even", "must be even")) == "is_even says: must be even"`
    """

    validator: str
    message: str = ""

    @classmethod
    def from_error(cls, error: ValueError) -> Rejection:
        """Return the rejection that an error carries, or one with its text.

        Example: `Rejection.from_error(ValueError("too short")) == Rejection("too short")`
        """
        return error.rejection if isinstance(error, RejectedRowError) else cls(str(error))

    def __str__(self) -> str:
        return f"{self.validator} says: {self.message}" if self.message else self.validator


class RejectedRowError(ValueError):
    """A validator rejects a row; `rejection` says which and why.

    Example: `RejectedRowError(Rejection("is_even", "odd")).rejection.validator == "is_even"`
    """

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(str(rejection))
        self.rejection = rejection
