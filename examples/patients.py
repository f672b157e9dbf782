"""A schema with bounds and choices: `synthgen-local generate examples/patients.py:Patient`."""

from typing import Literal

from pydantic import BaseModel, Field


class Patient(BaseModel):
    """A patient of a hospital."""

    name: str = Field(max_length=30)
    age: int = Field(ge=0, le=99)
    city: str = Field(max_length=20)
    ward: Literal["cardiology", "surgery", "maternity", "neurology"]
    insured: bool
