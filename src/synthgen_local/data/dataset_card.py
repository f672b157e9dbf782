"""The card of a data set: the README.md that the Hugging Face hub and `datasets` read.

Says what it is told and no more. Knows Markdown and the card's YAML, not rows or files. The keys
are those of https://huggingface.co/docs/hub/datasets-cards; YAML takes JSON's strings as they are.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .columns import Columns, ColumnType, Decimals, Field, Listed, Struct

DATA = "data/train-*.parquet"
"""Where a data set's rows lie, as a pattern."""

_TAG = "synthgen-local"
_LICENCES = {
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0",
    "cc-by-nc-4.0", "gemma", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "openrail",
}  # fmt: skip
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")


def write_card(
    name: str,
    schema: Mapping[str, Any],
    columns: Columns,
    rows: int,
    provenance: Mapping[str, Any],
) -> str:
    """Return the card of `rows` rows; `licence` in the provenance is that of the model.

    Example: `write_card("Person", schema, columns_of(schema), 10, {"licence": "Apache-2.0"})`
    """
    parts = [
        "---\n" + "".join(f"{line}\n" for line in _front(name, rows, provenance)) + "---\n",
        f"# {_plain(name)}\n",
        f"{rows} rows that a language model wrote. Each is valid by the schema below; none says "
        "anything about the world.\n",
        "## Columns\n",
        _table(("column", "type"), ((f.name, _said(f)) for f in columns.fields)),
    ]
    if provenance:
        parts += ["## How it was made\n", _table(("what", "value"), _flat(provenance))]
    if paths := columns.json_paths():
        parts.append(f"JSON text stands in {_plain(', '.join(paths))}.\n")
    parts += ["## Schema\n", f"```json\n{json.dumps(schema, indent=1, ensure_ascii=False)}\n```\n"]
    return "\n".join(parts)


def is_card(text: str) -> bool:
    """Return whether a README.md is a card that `write_card` made.

    Example: `is_card(Path("people/README.md").read_text())`
    """
    front = text.partition("\n---\n")[0]
    return front.startswith("---\n") and f'- "{_TAG}"' in front.split("\n")


def _front(name: str, rows: int, provenance: Mapping[str, Any]) -> Iterator[str]:
    yield f"pretty_name: {json.dumps(name)}"
    licence = provenance.get("licence")
    if isinstance(licence, str) and licence:
        known = licence.lower() in _LICENCES
        yield f"license: {json.dumps(licence.lower() if known else 'other')}"
        if not known:
            yield f"license_name: {json.dumps(re.sub(r'[^a-z0-9.]+', '-', licence.lower()))}"
    yield from ("size_categories:", f'- "{_size(rows)}"')
    yield from ("tags:", '- "synthetic"', f'- "{_TAG}"')
    yield from ("configs:", '- config_name: "default"', "  data_files:")
    yield from ('  - split: "train"', f'    path: "{DATA}"')


def _size(rows: int) -> str:
    return _SIZES[min(max(0, len(str(rows)) - 3), len(_SIZES) - 1)]


def _said(field: Field) -> str:
    notes = [note for note, so in (("or null", field.column.nullable),) if so]
    notes += ["may be missing"] if field.optional else []
    return ", ".join([_type(field.column.type), *notes])


def _type(kind: ColumnType) -> str:
    match kind:
        case Decimals(digits, places):
            return f"decimal({digits}, {places})"
        case Listed(items):
            return f"list of {_type(items.type)}"
        case Struct(fields):
            return f"struct of {', '.join(f'{f.name}: {_type(f.column.type)}' for f in fields)}"
        case "json":
            return "JSON text"
        case "instant":
            return "datetime, UTC"
    return kind


def _flat(values: Mapping[str, Any], ahead: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{ahead}{key}.")
        else:
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{ahead}{key}", shown


def _table(head: tuple[str, str], rows: Iterator[tuple[str, str]]) -> str:
    lines = [f"| {' | '.join(map(_plain, row))} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---|---|", *lines[1:], ""])


def _plain(text: str) -> str:
    """Text that Markdown and HTML leave as it is, on one line."""
    one_line = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", one_line)
