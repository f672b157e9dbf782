"""Models with validators of their own, for tests."""

from __future__ import annotations

from pydantic import BaseModel, Field, field_validator


class Even(BaseModel):
    """A model whose validator half of all records fail."""

    number: int = Field(ge=0, le=99)

    @field_validator("number")
    @classmethod
    def is_even(cls, value: int) -> int:
        """Refuse odd numbers."""
        if value % 2:
            raise ValueError("must be even")
        return value


class Never(BaseModel):
    """A model that no record passes."""

    number: int = Field(ge=0, le=9)

    @field_validator("number")
    @classmethod
    def is_nothing(cls, value: int) -> int:  # noqa: ARG003 it refuses everything
        """Refuse everything."""
        raise ValueError("never right")
