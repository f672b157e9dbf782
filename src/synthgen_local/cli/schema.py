"""`synthgen-local schema`: what a schema's rows may be, and who guarantees each part."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from . import console
from .options import CommonOptions, LimitOptions, Schema, check_minimums, with_options

if TYPE_CHECKING:
    from ..schema import RowGrammar

EPILOG = "Example: synthgen-local schema 'name, age int, city: a town in Peru'"


@with_options
def schema(
    *,
    schema: Schema,
    as_json: Annotated[bool, typer.Option("--json", help="Print the certificate as JSON.")] = False,
    grammar: Annotated[bool, typer.Option("--grammar", help="Print the grammar (Lark).")] = False,
    limits: LimitOptions,
    _common: CommonOptions,
) -> None:
    """Say what is enforced by the grammar, what is checked, and what was bounded."""
    if as_json and grammar:
        raise UsageError("--json and --grammar are two outputs.", hint="Choose one.")
    check_minimums(**vars(limits))
    from ..schema import Bounds, compile_schema, load_schema

    with console.warnings_as_notes(quiet=False):
        loaded = load_schema(schema)
    compiled = compile_schema(loaded, Bounds.given(**vars(limits)))
    if grammar:
        console.data(compiled.lark.rstrip())
    elif as_json:
        console.data_json(_certificate(compiled))
    else:
        _show(compiled)


def _certificate(compiled: RowGrammar) -> dict[str, Any]:
    certificate = compiled.certificate
    listed = [asdict(constraint) for constraint in certificate.constraints]
    return {
        "schema": compiled.schema.name,
        "guarantee": certificate.guarantee,
        "constraints": [c for c in listed if c["enforced_by"] != "bound"],
        "bounds": [c for c in listed if c["enforced_by"] == "bound"],
        "annotations": [{"path": p, "keyword": k} for p, k in certificate.annotations],
        "longest_row_bytes": compiled.longest,
    }


def _show(compiled: RowGrammar) -> None:
    certificate = compiled.certificate
    console.table(
        ("path", "keyword", "value", "enforced by"),
        ((c.path, c.keyword, _value(c.value), c.enforced_by) for c in certificate.constraints),
    )
    if certificate.annotations:
        said = ", ".join(f"{path} {keyword}" for path, keyword in certificate.annotations)
        console.tell(f"without a meaning for rows: {said}")
    how = {
        "construction": "every row is valid by construction",
        "checked": "rows are checked, and drawn anew where the check fails",
    }[certificate.guarantee]
    console.tell(f"{compiled.schema.name}: {how}; a row has {compiled.longest:,} bytes at most.")


def _value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
