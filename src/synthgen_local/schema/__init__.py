"""From a schema to a grammar, and who guarantees each constraint.

Knows no models, prompts or rows: `load_schema` reads, `compile_schema` makes the grammar.
"""

from .certificate import Certificate, Constraint
from .compiler import RowGrammar, compile_schema, compile_within
from .ir import Bounds
from .rejections import UnreadableRowError
from .row_schema import RowSchema, load_schema

__all__ = [
    "Bounds",
    "Certificate",
    "Constraint",
    "RowGrammar",
    "RowSchema",
    "UnreadableRowError",
    "compile_schema",
    "compile_within",
    "load_schema",
]
