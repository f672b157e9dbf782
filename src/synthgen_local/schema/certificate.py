"""Which constraint holds, and by whom.

Knows nothing of how constraints are enforced; the compiler fills it in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from .json_schema.keywords import PREFIX

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

    `annotations` are pairs of path and keyword that allow and forbid nothing, settings of a type
    for its output among them.
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


@dataclass
class Notes:
    """A certificate in the making: what is said twice is kept once."""

    _constraints: dict[tuple[str, str, str, str], Constraint] = field(default_factory=dict)
    _annotations: dict[tuple[str, str], None] = field(default_factory=dict)

    def add(self, path: str, keyword: str, value: Any, enforcer: Enforcer = "grammar") -> None:
        """Note a constraint; a keyword of this program is named without its prefix."""
        keyword = keyword.removeprefix(PREFIX)
        key = (path, keyword, enforcer, repr(value))
        self._constraints.setdefault(key, Constraint(path, keyword, value, enforcer))

    def given(self, keywords: Mapping[str, Any], path: str, *names: str) -> None:
        """Note those of the keywords that are there, which the grammar enforces."""
        for name in names:
            if name in keywords:
                value = keywords[name]
                self.add(path, name, as_json(value) if isinstance(value, Decimal) else value)

    def annotate(self, path: str, keyword: str) -> None:
        """Note a keyword that allows and forbids nothing."""
        self._annotations[path, keyword] = None

    def certificate(self) -> Certificate:
        """Return what has been noted, in its order."""
        return Certificate(tuple(self._constraints.values()), tuple(self._annotations))


def as_json(value: Decimal) -> int | float:
    """Return a decimal as JSON writes it.

    Example: `as_json(Decimal("2.0")) == 2`
    """
    return int(value) if value == int(value) else float(value)
