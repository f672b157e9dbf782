"""Which constraint holds, and by whom.

Knows nothing of how constraints are enforced; the compiler fills it in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Enforcer: TypeAlias = Literal["grammar", "check", "bound"]


@dataclass(frozen=True)
class Constraint:
    """One keyword at one path of the schema.

    `enforced_by` is `grammar` (no row can break it), `check` (the validated row is drawn
    anew if it breaks it) or `bound` (a limit that was added so that every row ends).

    Example: `Constraint("$.age", "minimum", 0, "grammar")`
    """

    path: str
    keyword: str
    value: Any
    enforced_by: Enforcer


def join_path(path: str, name: str) -> str:
    """Return the path of a field, in the manner of JSONPath (RFC 9535).

    Example: `join_path("$.patient", "first name") == "$.patient['first name']"`
    """
    return f"{path}.{name}" if name.isidentifier() else f"{path}[{name!r}]"


@dataclass(frozen=True)
class Certificate:
    """All constraints of a schema, in the order of its fields.

    `annotations` are pairs of path and keyword that allow and forbid nothing.
    """

    constraints: Sequence[Constraint]
    annotations: Sequence[tuple[str, str]] = ()

    @property
    def guarantee(self) -> Literal["construction", "checked"]:
        """`construction` if the grammar alone makes every row valid."""
        checked = any(c.enforced_by == "check" for c in self.constraints)
        return "checked" if checked else "construction"

    @property
    def bounds(self) -> list[Constraint]:
        """The limits that were added."""
        return [c for c in self.constraints if c.enforced_by == "bound"]
