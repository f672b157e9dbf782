"""The workloads: two kinds of rows, and texts about records.

Knows requests and validity. Imports pydantic only, because it is also imported in the environment
of the peers, without this project; knows no model and no system.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, Field, ValidationError

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from medical_billing import EXAMPLES, MedicalBilling


class Patient(BaseModel):
    """The patient of a discharge letter."""

    name: str = Field(max_length=40)
    age: int = Field(ge=0, le=110)
    sex: Literal["female", "male"]


class Medication(BaseModel):
    """A prescribed drug and its indication."""

    drug: str = Field(max_length=40)
    dose_mg: int = Field(ge=1, le=5000)
    times_a_day: int = Field(ge=1, le=6)
    reason: str = Field(max_length=80)


class DischargeLetter(BaseModel):
    """A nested record: objects, two lists, and a free text."""

    patient: Patient
    admitted: date
    discharged: date
    diagnoses: list[str] = Field(min_length=2, max_length=4)
    medications: list[Medication] = Field(min_length=2, max_length=4)
    course: str = Field(min_length=300, max_length=600)
    follow_up: str = Field(max_length=120)


@dataclass(frozen=True)
class RowWorkload:
    """Rows of a schema after three or fewer examples.

    A peer's row is cut after `longest` tokens and then invalid.
    """

    name: str
    schema: type[BaseModel]
    examples: Sequence[Mapping[str, str]]
    subject: str
    extra: str
    longest: int

    def is_valid(self, text: str, _number: int) -> bool:
        """Return whether pydantic accepts the text as a row.

        Example: `BILLING.is_valid("{}", 0)`
        """
        try:
            self.schema.model_validate_json(text)
        except ValidationError:
            return False
        return True


@dataclass(frozen=True)
class TextWorkload:
    """A text for each record."""

    name: str
    records: Sequence[Mapping[str, str]]
    longest: int  # characters

    def is_valid(self, text: str, number: int) -> bool:
        """Return whether the text contains every value of its record word for word.

        Example: `TEXTS.is_valid("Ada Byrne of Oslo is a nurse.", 0)`
        """
        return all(value in text for value in self.record(number).values())

    def record(self, number: int) -> Mapping[str, str]:
        """Return the record of text `number`, cyclically.

        Example: `TEXTS.record(0)["town"]`
        """
        return self.records[number % len(self.records)]


Workload: TypeAlias = RowWorkload | TextWorkload

_LETTERS = (
    DischargeLetter(
        patient=Patient(name="Ruth Okafor", age=71, sex="female"),
        admitted=date(2024, 3, 4),
        discharged=date(2024, 3, 12),
        diagnoses=["community-acquired pneumonia", "type 2 diabetes mellitus", "hypertension"],
        medications=[
            Medication(drug="amoxicillin", dose_mg=1000, times_a_day=3, reason="pneumonia"),
            Medication(drug="metformin", dose_mg=850, times_a_day=2, reason="diabetes"),
            Medication(drug="ramipril", dose_mg=5, times_a_day=1, reason="blood pressure"),
        ],
        course=(
            "Mrs Okafor came to us with a fever of 39.2 degrees, a cough and shortness of breath. "
            "The chest film showed an infiltrate of the right lower lobe. She was given oxygen "
            "for two days and antibiotics into the vein, later by mouth. Her fever was gone on "
            "the third day, and she walked the stairs without help before she went home."
        ),
        follow_up="Chest film in six weeks at the family doctor's.",
    ),
    DischargeLetter(
        patient=Patient(name="Tomas Lindqvist", age=34, sex="male"),
        admitted=date(2023, 11, 20),
        discharged=date(2023, 11, 24),
        diagnoses=["acute appendicitis", "seasonal asthma"],
        medications=[
            Medication(drug="ibuprofen", dose_mg=400, times_a_day=3, reason="pain of the wound"),
            Medication(drug="salbutamol", dose_mg=2, times_a_day=2, reason="asthma"),
        ],
        course=(
            "Mr Lindqvist was sent in by his doctor because of pain in the right lower abdomen "
            "that had begun the day before. Ultrasound confirmed an inflamed appendix, and it "
            "was removed by keyhole surgery on the same evening. The operation and the days "
            "after it went without trouble; he ate on the first day and the wounds are dry."
        ),
        follow_up="Stitches out in ten days, no sport for four weeks.",
    ),
)

_NAMES = ("Ada Byrne", "Omar Haddad", "Mei Lin", "Lars Holm", "Ines Costa", "Noa Levi", "Ravi Rao")
_TOWNS = ("Oslo", "Lima", "Porto", "Kyoto", "Ghent", "Quito", "Tunis", "Turin", "Bergen")
_JOBS = ("nurse", "baker", "pilot", "teacher", "welder")

BILLING = RowWorkload(
    "billing",
    MedicalBilling,
    EXAMPLES,
    subject="medical_billing",
    extra="the name must be chosen at random",
    longest=300,
)
LETTERS = RowWorkload(
    "letters",
    DischargeLetter,
    [{"example": letter.model_dump_json()} for letter in _LETTERS],
    subject="hospital discharge letters",
    extra="the patient and the illness must be new",
    longest=900,
)
TEXTS = TextWorkload(
    "texts",
    [
        {
            "name": _NAMES[index % len(_NAMES)],
            "town": _TOWNS[index % len(_TOWNS)],
            "job": _JOBS[index % len(_JOBS)],
        }
        for index in range(64)
    ],
    longest=300,
)
WORKLOADS: dict[str, Workload] = {workload.name: workload for workload in (BILLING, LETTERS, TEXTS)}
FLAT = {BILLING.name}
"""Workloads whose rows this project decodes in the compact layout by default."""
