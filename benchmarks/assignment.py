"""What a contender's process is told, and what it tells: records that travel as JSON.

Knows no contender and no work.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Self

CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Assignment:
    """One work for one contender.

    `weights` is the model's file as it is shipped, `optimised` what this project opens instead, or
    was asked to write; empty if that is the same. `prompts` are the texts that the contenders'
    models read: one for all rows, or one for each record. `context` is how many tokens the longest
    prompt and the longest answer take together. `tokens` is how long a peer's answer may be, or, of
    a text, how long it is. `server` is the path of llama-server.
    """

    contender: str
    work: str
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
        """Return what `write` wrote.

        Example: `Assignment.read(sys.stdin.read())`
        """
        return cls(**json.loads(text))

    def write(self) -> str:
        """Return it as JSON.

        Example: `Assignment.read(assignment.write()) == assignment`
        """
        return json.dumps(asdict(self))

    def prompt(self, number: int) -> str:
        """Return the prompt of a row.

        Example: `assignment.prompt(0)`
        """
        return self.prompts[number % len(self.prompts)]


@dataclass(frozen=True)
class Made:
    """A row or a text; `tokens` is 0 where they were not counted."""

    text: str
    tokens: int = 0


@dataclass(frozen=True)
class Figures:
    """What came of an assignment.

    `tokens` are those that a row takes on average beside what it shares with the others, 0 if
    the contender does not say; `peak` is the most memory that the process has held, in bytes.
    """

    label: str
    rows: int
    valid: int
    seconds: float
    tokens: float
    peak: int

    @property
    def rate(self) -> float:
        """Rows a second, valid or not."""
        return self.rows / self.seconds


@dataclass(frozen=True)
class Missing:
    """Why there are no figures: the contender is not installed, or failed."""

    reason: str
