"""Measure how many texts about 20 actors are extracted back to their fields.

Each text is extracted by the schema of its fields, lists in any order, and regenerated if the
result differs, up to a number of rounds. Mentions are "exact" (by construction) or "free" (only
requested in the prompt). One round means no regeneration.

    python benchmarks/text_agreement.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, Field

from synthgen_local import DatasetGenerator, LocalModel, agreement
from synthgen_local.generators.text import Mentions

MODEL = "smollm2-135m-instruct"
FILMS = Path(__file__).parent.parent / "tests" / "data" / "films.jsonl"
PREFERENCES = {"style": "informal", "minimal length": 300}


class Actor(BaseModel):
    """An actor and their films."""

    Actor: str = Field(description="name of an actor")
    Film: list[str] = Field(description="list of names of films they starred in")


def main() -> None:
    """Print a line for each kind of mentions and number of rounds."""
    records = [json.loads(line) for line in FILMS.read_text(encoding="utf-8").splitlines()]
    with LocalModel.load(MODEL) as model:
        for mentions in get_args(Mentions):
            for rounds in (1, 5):
                generator = DatasetGenerator(
                    model, PREFERENCES, verify=Actor, rounds=rounds, mentions=mentions
                )
                dataset = generator(records)
                held = sum(
                    all(value in item["text"] for value in (r["Actor"], *r["Film"]))
                    for r, item in zip(records, dataset, strict=True)
                )
                print(
                    f"{mentions}, {rounds} rounds at most: {agreement(dataset):.0%} read back as "
                    f"their fields, {held} of {len(records)} hold every value",
                    flush=True,
                )


if __name__ == "__main__":
    main()
