"""Write the table of docs/guarantees.md from the types of tests/test_types.py."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "guarantees.md"
START, END = "<!-- types -->\n", "<!-- end of types -->\n"


def table() -> str:
    """A line for each kind of type: what enforces it, and the limits that are added."""
    sys.path.insert(0, str(ROOT / "tests"))
    from pydantic import create_model
    from test_types import TYPES

    from synthgen_local.schema import RowSchema, compile_schema

    lines = ["| type | enforced by | limits that are added |\n", "|---|---|---|\n"]
    for name, kinds in TYPES.items():
        enforcers: set[str] = set()
        bounds: set[str] = set()
        for kind in kinds:
            model = create_model("Model", field=(kind, ...))
            certificate = compile_schema(RowSchema.of(model)).certificate
            enforcers |= {c.keyword for c in certificate.constraints if c.enforced_by == "check"}
            bounds |= {c.keyword for c in certificate.bounds if c.path != "$"}
        check = f"grammar; check: {', '.join(sorted(enforcers))}" if enforcers else "grammar"
        lines.append(f"| {name} | {check} | {', '.join(sorted(bounds))} |\n")
    return "".join(lines)


def main() -> None:
    """Replace the table."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.partition(START)[0], text.partition(END)[2]
    PAGE.write_text(f"{before}{START}{table()}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
