"""How the compiler says no: in one line that names the path and the keyword.

Knows nothing of what is refused.
"""

from __future__ import annotations

from ..errors import SchemaError

SCHEMA_HINT = (
    "SCHEMA is file.py:Class, package.module:Class, a .json file, or a list: 'name, age int'."
)


class NoValueError(SchemaError):
    """A schema allows no value; that matters only where one is needed."""


def refused(keyword: str, path: str, detail: str = "") -> SchemaError:
    """Return the error for a keyword that cannot be honoured.

    Example: `raise refused("multipleOf", "$.price", "of 0.00001")`
    """
    what = f"keyword '{keyword}' {detail}".rstrip()
    return SchemaError(
        f"{path}: {what} cannot be honoured.", hint="Remove it, or say it in another way."
    )


def unsatisfiable(keyword: str, path: str, why: str) -> NoValueError:
    """Return the error for a keyword that leaves no value.

    Example: `raise unsatisfiable("minimum", "$.age", "5 is above the maximum 3")`
    """
    return NoValueError(f"{path}: '{keyword}' leaves no value: {why}.", hint="Loosen the bounds.")
