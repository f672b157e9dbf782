"""Print a hash of what a few dozen commands make, to compare two commits on one machine.

    python tools/golden.py > before.txt         # on one commit
    python tools/golden.py --source OTHER/src   # on another, with the same environment

Each line is a hash and the name of an output: the rows on stdout, a file, the rows of a .parquet
file, or a manifest without times and versions. Rows depend on the machine, so hashes are compared
and not stored. A .parquet file holds the hash of the kernels' sources, so its bytes may differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet

ROOT = Path(__file__).parents[1]
MODEL = "smollm2-135m-instruct"
VOLATILE = {"seconds", "rows_per_second", "versions", "output"}
"""Keys of a manifest that differ between two runs or two commits."""

SCHEMAS = '''
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Literal, Optional
from uuid import UUID

from pydantic import BaseModel, Field


class Ward(Enum):
    SURGERY = "surgery"
    PAEDIATRICS = "paediatrics"


class Address(BaseModel):
    street: str
    postcode: Annotated[str, Field(pattern=r"^[0-9]{5}$")]


class Letter(BaseModel):
    """A letter to a patient."""

    patient: str
    address: Address
    written: date
    paragraphs: list[str] = Field(min_length=1, max_length=3)


class Admission(BaseModel):
    id: UUID
    ward: Ward
    admitted: datetime
    discharged: Optional[date]
    cost: Decimal = Field(ge=0, le=10000, decimal_places=2)
    weight: float = Field(ge=0.5, le=200, multiple_of=0.5)
    insurer: Literal["public", "private"] | None
    score: int = Field(ge=0, le=15)


class Tree(BaseModel):
    label: str
    children: list["Tree"]
'''

EXAMPLES = """\
{"name": "Amara Obi", "age": 41, "city": "Lagos"}
{"name": "Leo Strand", "age": 29, "city": "Bergen"}
{"name": "Inés Duarte", "age": 63, "city": "Porto"}
"""
PASSAGES = """\
Amara Obi is 41 and has moved to Lagos.
Leo Strand, 29, and Inés Duarte, 63, live in Bergen.
Nobody was there.
"""
JSON_SCHEMA = {
    "type": "object",
    "properties": {
        "code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
        "price": {"type": "number", "minimum": 0, "maximum": 99},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "maxItems": 3},
        "note": {"anyOf": [{"type": "string", "maxLength": 20}, {"type": "null"}]},
    },
    "required": ["code", "price"],
}


@dataclass(frozen=True)
class Command:
    """A command line, what it reads on stdin, and the files that it writes."""

    name: str
    arguments: tuple[str, ...]
    stdin: str = ""
    files: tuple[str, ...] = ()


def commands(model: str) -> Iterator[Command]:
    """Yield the commands that are run with one model."""
    billing = "medical_billing.py:MedicalBilling"
    people = ("--examples", "people.jsonl")

    def generate(name: str, schema: str, *options: str, files: tuple[str, ...] = ()) -> Command:
        return Command(
            f"{model} {name}", ("generate", schema, *options, "-m", model, "-q"), files=files
        )

    yield generate("billing", billing, "-n", "40")
    yield generate("billing, seed 7", billing, "-n", "8", "--seed", "7")
    yield generate("list of fields", "name, age int, city: a town in Peru", "-n", "16")
    yield generate("examples", "name, age int, city", *people, "-n", "24")
    yield generate(
        "examples in JSON", "name, age int, city", *people, "-n", "8", "--layout", "json"
    )
    yield generate("letters", "schemas.py:Letter", "-n", "4")
    yield generate("admissions", "schemas.py:Admission", "-n", "16")
    yield generate("never null", "schemas.py:Admission", "-n", "8", "--null-rate", "0")
    yield generate("recursion", "schemas.py:Tree", "-n", "6")
    yield generate("JSON Schema", "schema.json", "-n", "16")
    if model != "random":  # of which exact sampling would turn down nearly every row
        yield generate("exact", "name, age int", "-n", "2", "--sampling", "exact")
    yield generate("weighted", "schema.json", "-n", "6", "--sampling", "weighted")
    yield generate("cool", "name, age int", "-n", "8", "--temperature", "0.3")
    for suffix in ("jsonl", "csv", "parquet"):
        file = f"rows.{suffix}"
        yield generate(
            f"file .{suffix}",
            "schemas.py:Admission",
            "-n", "20", "-o", file,
            files=(file, f"{file}.manifest.json"),
        )  # fmt: skip
    options = ("-m", model, "-q")
    yield Command(f"{model} texts", ("text", "films.jsonl", *options))
    yield Command(
        f"{model} texts with a length",
        (
            "text",
            "films.jsonl",
            "--preferences",
            '{"style": "gossip", "min_length": 200}',
            *options,
        ),
    )
    yield Command(f"{model} free texts", ("text", "films.jsonl", "--mentions", "free", *options))
    yield Command(f"{model} one text", ("text", "-", *options), '["river", "lantern"]')
    yield Command(f"{model} extraction", ("extract", "name, age int, city", "notes.txt", *options))
    yield Command(
        f"{model} free extraction",
        ("extract", "name, age int", "notes.txt", "--no-grounded", *options),
    )


def main() -> None:
    """Run all commands on one source tree and print a hash of each output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--source", type=Path, default=ROOT / "src", help="the folder src of a commit"
    )
    parser.add_argument("--models", nargs="+", default=["random", MODEL])
    given = parser.parse_args()
    for model in given.models:
        for command in commands(model):
            with tempfile.TemporaryDirectory() as folder:
                prepare(Path(folder))
                for name, digest in run(command, Path(folder), given.source.resolve()):
                    print(digest, name, flush=True)


def prepare(folder: Path) -> None:
    """Write the inputs of all commands."""
    for name in ("medical_billing.py", "films.jsonl"):
        (folder / name).write_bytes((ROOT / "examples" / name).read_bytes())
    (folder / "schemas.py").write_text(SCHEMAS, "utf-8")
    (folder / "people.jsonl").write_text(EXAMPLES, "utf-8")
    (folder / "notes.txt").write_text(PASSAGES, "utf-8")
    (folder / "schema.json").write_text(json.dumps(JSON_SCHEMA), "utf-8")


def run(command: Command, folder: Path, source: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the hash of each output of a command."""
    result = subprocess.run(
        [sys.executable, "-m", "synthgen_local", *command.arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(source), "NO_COLOR": "1"},
        input=command.stdin.encode(),
        capture_output=True,
        check=False,
    )
    yield (
        command.name,
        _hash(result.stdout) if result.returncode == 0 else f"exit code {result.returncode}",
    )
    for name in command.files if result.returncode == 0 else ():
        data = (folder / name).read_bytes()
        if name.endswith(".manifest.json"):
            data = json.dumps(_stable(json.loads(data)), sort_keys=True).encode()
        elif name.endswith(".parquet"):
            data = str(pyarrow.parquet.read_table(folder / name).to_pylist()).encode()
        yield f"{command.name}: {name}", _hash(data)


def _stable(value: Any) -> Any:
    """Return a manifest without what differs between two runs."""
    match value:
        case dict():
            return {key: _stable(item) for key, item in value.items() if key not in VOLATILE}
        case list():
            return [_stable(item) for item in value]
    return value


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


if __name__ == "__main__":
    main()
