"""Every error that synthgen-local raises on purpose.

SynthgenError                   exit code 1
├── UsageError                  2   an option has a value that makes no sense
├── SchemaError                 1   the schema cannot be read or cannot be honoured
├── PromptError                 1   a template or an example cannot be used
├── ModelError                  1   a model file or a catalog entry is not what it should be
│   └── ModelNotFoundError      3   the model is not on this machine
├── DecodingError               1   the engine could not go on
├── NetworkError                1   the network cannot be closed as surely as was asked
├── OutputError                 1   rows cannot be written where they should go
├── RunError                    1   a run cannot be gone on with, or is not what its manifest says
│   └── InterruptedRunError   130   a signal ended a run; what it has made is kept
└── TooFewRowsError             4   fewer rows than asked for

Each error is one line that names its subject, and `hint` is one line that says
what to do. Nothing here knows how errors are shown.
"""

from __future__ import annotations

from typing import Any, ClassVar


class SynthgenError(Exception):
    """The root of the tree: a message, a hint and an exit code.

    Example: `raise SchemaError("Field 'age' has no type.", hint="Add one.")`
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(SynthgenError):
    """An argument or an option has a value that makes no sense."""

    exit_code = 2


class SchemaError(SynthgenError):
    """The schema cannot be read, has no valid row, or asks for what no grammar here can say."""


class PromptError(SynthgenError):
    """A prompt template, a variable of it, or an example record cannot be used."""


class ModelError(SynthgenError):
    """A model file is damaged, is not what the catalog says, or cannot be fetched."""


class ModelNotFoundError(ModelError):
    """The model is not on this machine, and nothing that has it can be reached now."""

    exit_code = 3


class DecodingError(SynthgenError):
    """The engine could not go on: no room in the context, or llama.cpp failed."""


class NetworkError(SynthgenError):
    """The network cannot be closed as surely as was asked for."""


class OutputError(SynthgenError):
    """Rows cannot be written where they should go."""


class RunError(SynthgenError):
    """A run cannot be gone on with, or its rows are not what its manifest says."""


class InterruptedRunError(RunError):
    """A signal ended a run; what it has made is kept."""

    exit_code = 130


class TooFewRowsError(SynthgenError):
    """Fewer rows than asked for; `rows` holds those that were made, in row order."""

    exit_code = 4

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.rows: list[Any] = []
