"""Input and output of a system's process, as JSON.

Knows no system and no workload.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Self

CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class RunSpec:
    """One workload for one system.

    `weights` is the shipped model file; `optimised` is the file in another weight format, or empty.
    `prompts` has one prompt for all rows, or one for each record. `context` is the number of tokens
    of the longest prompt and the longest answer together. `tokens` is the limit of a peer's answer,
    for texts its length. `server` is the path of llama-server.
    """

    system: str
    workload: str
    model: str
    weights: str
    optimised: str
    prompts: list[str]
    context: int
    tokens: int
    rows: int
    seed: int
    server: str

    @classmethod
    def read(cls, text: str) -> Self:
        """Parse the JSON that `write` returned.

        Example: `RunSpec.read(sys.stdin.read())`
        """
        return cls(**json.loads(text))

    def write(self) -> str:
        """Return it as JSON.

        Example: `RunSpec.read(assignment.write()) == assignment`
        """
        return json.dumps(asdict(self))

    def prompt(self, number: int) -> str:
        """Return the prompt of a row.

        Example: `assignment.prompt(0)`
        """
        return self.prompts[number % len(self.prompts)]


@dataclass(frozen=True)
class Output:
    """A row or a text; `tokens` is 0 if they were not counted."""

    text: str
    tokens: int = 0


@dataclass(frozen=True)
class Measurement:
    """The measurement of a run.

    `tokens` is the mean number of tokens of a row without the shared prompt, 0 if the system does
    not report it; `peak` is the peak resident memory of the process in bytes.
    """

    label: str
    rows: int
    valid: int
    seconds: float
    tokens: float
    peak: int

    @property
    def rate(self) -> float:
        """Rows/s, valid or not."""
        return self.rows / self.seconds


@dataclass(frozen=True)
class Missing:
    """The reason for a missing measurement: the system is not installed, or failed."""

    reason: str
