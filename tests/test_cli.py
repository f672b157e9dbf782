"""The command line as a user meets it: stdout, stderr and exit codes, each on its own."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from synthgen_local import Dataset, __version__
from synthgen_local.cli import console, output
from synthgen_local.generators.text import TEMPERATURE
from synthgen_local.schema import load_schema

Run = Callable[..., Any]
FIELDS = "name, age int, city: a town in Peru"
DRY = ("-m", "random", "-q")
HOT = ("--temperature", "1", "--seed", "1")  # the random model finds a record
GGUF = b"GGUF" + bytes(100)
ODD = """
from pydantic import BaseModel, field_validator

class Never(BaseModel):
    n: int
    @field_validator("n")
    @classmethod
    def no(cls, value):
        raise ValueError("never right")
"""


def test_rows_on_stdout(run: Run) -> None:
    """Without -o rows are JSON lines on stdout; how it went stands on stderr."""
    done = run("generate", FIELDS, "-n", "5", "-m", "random", "--seed", "3")

    assert done.code == 0
    assert [set(row) for row in done.rows] == [{"name", "age", "city"}] * 5
    assert "stdout: 5 rows in" in done.err
    assert "seed 3, random" in done.err


def test_quiet_is_quiet(run: Run) -> None:
    """-q leaves stderr empty."""
    assert run("generate", FIELDS, *DRY).err == ""


def test_same_seed_same_bytes(run: Run) -> None:
    """The same command writes the same bytes, another seed others."""
    one, same, other = (run("generate", FIELDS, *DRY, "--seed", seed).out for seed in "779")

    assert one == same != other


def test_files(run: Run, tmp_path: Path) -> None:
    """The suffix of -o names the format, and the three hold the same rows."""
    for suffix in ("jsonl", "csv", "parquet"):
        assert run("generate", FIELDS, "-n", "4", *DRY, "-o", f"rows.{suffix}").code == 0

    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    with (tmp_path / "rows.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert pyarrow.parquet.read_table(tmp_path / "rows.parquet").to_pylist() == rows
    assert [row["name"] for row in cells] == [row["name"] for row in rows]


PRINTING = """
import numpy
from pydantic import BaseModel, field_validator
print("on import")

class M(BaseModel):
    a: bool

    @field_validator("a")
    @classmethod
    def say(cls, value):
        print("on a row")
        return value
"""


def test_nothing_but_rows_is_on_stdout(run: Run, tmp_path: Path) -> None:
    """What a schema's file prints goes to stderr, and the file may be called numpy.py."""
    (tmp_path / "numpy.py").write_text(PRINTING)
    done = run("generate", "numpy.py:M", "-n", "3", *DRY)

    assert done.code == 0
    assert [list(row) for row in done.rows] == [["a"]] * 3
    assert done.err.count("on import") == 1
    assert done.err.count("on a row") >= 3


def test_a_schema_file_does_not_end_the_program(run: Run, tmp_path: Path) -> None:
    """sys.exit in it is an error of one line."""
    (tmp_path / "leave.py").write_text("import sys\nsys.exit(3)\n")
    done = run("generate", "leave.py:M", *DRY)

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Error: leave.py cannot be imported: it calls sys.exit.")


WRITTEN = """
from decimal import Decimal
from typing import Annotated, Optional
from uuid import UUID, uuid4
from pydantic import AfterValidator, BaseModel, Field, PlainSerializer
from pydantic.json_schema import SkipJsonSchema

class Priced(BaseModel):
    price: Annotated[Decimal, PlainSerializer(float, return_type=float)]
    id: SkipJsonSchema[UUID] = Field(default_factory=uuid4)

class Upper(BaseModel):
    code: Annotated[str, Field(pattern="^[a-z]{3}$"), AfterValidator(str.upper)]

Maybe = Optional[int]
"""


@pytest.mark.parametrize(("name", "suffix"), [("Priced", "parquet"), ("Maybe", "csv")])
def test_every_format_holds_what_was_validated(
    suffix: str, name: str, run: Run, tmp_path: Path
) -> None:
    """Serialisers, hidden fields and rows that are null are in a file as they were validated."""
    (tmp_path / "m.py").write_text(WRITTEN)
    assert run("generate", f"m.py:{name}", "-n", "6", *DRY, "-o", f"rows.{suffix}").code == 0

    assert "6 rows are valid" in run("verify", f"rows.{suffix}", "--schema", f"m.py:{name}").out
    schema = load_schema(str(tmp_path / f"m.py:{name}"))
    rows = Dataset.load(tmp_path / f"rows.{suffix}", schema)
    assert len(rows) == 6


def test_a_row_that_could_not_be_read_again_is_no_row(run: Run, tmp_path: Path) -> None:
    """The error names the field and what is wrong; it comes after a few tries."""
    (tmp_path / "m.py").write_text(WRITTEN)
    done = run("generate", "m.py:Upper", *DRY)

    assert (done.code, done.out) == (1, "")
    assert "Upper: the serialised row is not valid: code: String should match" in done.err


def test_schema_files_and_examples(run: Run, tmp_path: Path) -> None:
    """A class of a file, and examples of a file, go together."""
    (tmp_path / "m.py").write_text(
        "from pydantic import BaseModel\nclass M(BaseModel):\n    a: bool\n"
    )
    (tmp_path / "e.jsonl").write_text('{"a": true}\n')
    done = run("generate", "m.py:M", "--examples", "e.jsonl", *DRY)

    assert {type(row["a"]) for row in done.rows} == {bool}


BAD: dict[str, tuple[list[str], int, str]] = {
    "rows": (["-n", "-1"], 2, "--rows must be at least 0, got -1"),
    "temperature": (["--temperature", "-0.5"], 2, "--temperature must be at least 0, got -0.5"),
    "seed": (["--seed", "-1"], 2, "--seed must be at least 0, got -1"),
    "batch": (["--batch", "0"], 2, "--batch must be at least 1, got 0"),
    "threads": (["--threads", "0"], 2, "--threads must be at least 1, got 0"),
    "unknown model": (["-m", "no-such-model"], 3, "no model 'no-such-model'"),
    "missing file": (["-m", "gone.gguf"], 3, "no model file gone.gguf"),
    "hub": (["-m", "a/b:Q4"], 3, "'a/b:Q4' is not on this machine"),
    "not gguf": (["-m", "text.gguf"], 1, "not a GGUF file"),
    "truncated": (["-m", "cut.gguf"], 1, "cut.gguf cannot be loaded"),
    "folder": (["-o", "gone/rows.csv"], 1, "gone does not exist"),
    "unwritable": (["-o", "/proc/rows.csv"], 1, "/proc"),
    "suffix": (["-o", "rows.xlsx"], 1, "no known suffix"),
    "bad line": (["--examples", "bad.jsonl"], 1, "bad.jsonl, line 2 is not JSON"),
    "no examples": (["--examples", "gone.jsonl"], 1, "gone.jsonl cannot be read"),
}
BAD_SCHEMAS = {
    "broken.py:M": "broken.py, line 1: invalid syntax",
    "m.py:NotAModel": "pydantic does not know the type NotAModel",
    "gone.py:M": "gone.py does not exist",
    "half.json": "half.json is not JSON",
    "name, age number": "unknown type 'number'",
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "text.gguf").write_text("not weights")
    (tmp_path / "cut.gguf").write_bytes(GGUF)
    (tmp_path / "bad.jsonl").write_text('{"name":"a","age":1,"city":"b"}\nnot json: secret\n')
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "m.py").write_text("class NotAModel:\n    pass\n")
    (tmp_path / "half.json").write_text('{"type":')
    return tmp_path


def one_line_error(done: Any, code: int, message: str) -> None:
    """An error is a line and a hint, nothing on stdout, no traceback."""
    error, hint, *more = done.err.splitlines()
    assert (done.code, done.out, more) == (code, "", [])
    assert error.startswith("Error: ")
    assert message in error
    assert hint.startswith("Hint: ")


@pytest.mark.parametrize("name", BAD)
def test_bad_options(name: str, run: Run, files: Path) -> None:
    """Each wrong option has its line, its hint and its exit code, and leaves nothing behind."""
    options, code, message = BAD[name]
    before = sorted(files.iterdir())
    chosen = options if "-m" in options else [*options, "-m", "random"]

    one_line_error(run("generate", FIELDS, *chosen), code, message)
    assert sorted(files.iterdir()) == before


@pytest.mark.parametrize("schema", BAD_SCHEMAS)
def test_bad_schemas(schema: str, run: Run, files: Path) -> None:
    """A schema that cannot be read is told in one line."""
    one_line_error(run("generate", schema, "-m", "random"), 1, BAD_SCHEMAS[schema])


def test_examples_are_not_quoted(run: Run, files: Path) -> None:
    """A bad example's content is nobody's business."""
    assert "secret" not in run("generate", FIELDS, "--examples", "bad.jsonl", *DRY).err


def test_verbose_shows_the_traceback(run: Run) -> None:
    """-v adds the traceback to the same error and exit code."""
    done = run("generate", FIELDS, "-m", "no-such-model", "-v")

    assert done.code == 3
    assert "Traceback" in done.err
    assert "Error: There is no model" in done.err


def test_too_few_rows(run: Run, tmp_path: Path) -> None:
    """Rows that no attempt satisfies are exit code 4 and a reason; the file holds what was made."""
    (tmp_path / "never.py").write_text(ODD)
    done = run("generate", "never.py:Never", "-n", "2", *DRY, "-o", "rows.jsonl")

    assert done.code == 4
    assert "0 of 2 rows" in done.err
    assert (tmp_path / "rows.jsonl").read_text() == ""


HEARING = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
"""Undoes what a shell does to the processes it starts in the background."""


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C ends with 130, says so in a line, and leaves no half of a file."""
    command = ["-m", "synthgen_local", "generate", FIELDS, "-n", "1000000", *DRY, "-o", "rows.csv"]
    process = subprocess.Popen(
        [sys.executable, "-c", HEARING, *command], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    time.sleep(5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv.run"]


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    """`| head` gets its rows and no complaint follows."""
    command = (
        f"'{sys.executable}' -m synthgen_local generate '{FIELDS}' -n 5000 -m random -q | head -2"
    )
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )

    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == ""


@pytest.mark.parametrize("output", ["-", "/dev/stdout"])
def test_stdout_by_name(output: str, run: Run) -> None:
    """`-o -` and `-o /dev/stdout` are stdout, as if nothing had been said."""
    asked = "generate", FIELDS, "-n", "3", *DRY
    named, silent = run(*asked, "-o", output), run(*asked)

    assert named.out == silent.out
    assert (named.code, len(named.rows)) == (0, 3)


def test_a_closed_pipe_by_name_is_quiet(tmp_path: Path) -> None:
    """`-o /dev/stdout | head` ends as quietly; what stdout is redirected to is added to."""
    command = f"'{sys.executable}' -m synthgen_local generate '{FIELDS}' -m random -q"
    head = f"{command} -n 500 -o /dev/stdout | head -2"
    more = f"echo first > rows; {command} -n 2 -o /dev/stdout >> rows; cat rows"
    for asked, lines in ((head, 2), (more, 3)):
        done = subprocess.run(
            ["sh", "-c", asked], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert (len(done.stdout.splitlines()), done.stderr) == (lines, "")


def test_a_folder(run: Run, tmp_path: Path) -> None:
    """`-o people/` is a data set with a card that says which model and seed made it."""
    for rows in ("3", "4"):
        assert run("generate", FIELDS, "-n", rows, *DRY, "-o", "people/").code == 0

    card = (tmp_path / "people" / "README.md").read_text(encoding="utf-8")
    assert "| model.name | random |" in card
    assert "4 rows" in card
    assert len(pyarrow.parquet.read_table(tmp_path / "people" / "data")) == 4
    assert {path.name for path in tmp_path.iterdir()} == {"people", "people.manifest.json"}


def test_csv_safe(run: Run, tmp_path: Path) -> None:
    """--csv-safe takes formulas their power, and is refused where there are none."""
    (tmp_path / "a.json").write_text('{"properties":{"a":{"const":"=1"}},"required":["a"]}')
    command = "generate", "a.json", "-n", "1", *DRY
    for option, cell in (((), "=1"), (("--csv-safe",), "'=1")):
        assert run(*command, "-o", "a.csv", *option).code == 0
        assert (tmp_path / "a.csv").read_bytes() == f"a\r\n{cell}\r\n".encode()
    for wrong in ([], ["-o", "-"], ["-o", "a.jsonl"], ["-o", "a/"]):
        assert run(*command, *wrong, "--csv-safe").code == 2


def test_records_with_references(run: Run, tmp_path: Path) -> None:
    """Records of a nested model are structs in .parquet, wherever their schema refers to."""
    (tmp_path / "models.py").write_text(
        "from pydantic import BaseModel\n"
        "class Place(BaseModel):\n    name: str\n"
        "class Person(BaseModel):\n    home: Place\n    work: Place\n"
    )
    (tmp_path / "a.txt").write_text("Ada lives in Rome and works in Oslo.\n")
    done = run("extract", "models.py:Person", "a.txt", *DRY, "-o", "a.parquet")
    kind = pyarrow.parquet.read_schema(tmp_path / "a.parquet").field("records").type

    assert done.code == 0
    assert str(kind.value_type.field("work").type) == "struct<name: string>"


def test_version_and_help(run: Run) -> None:
    """The program says its version, and help shows the exit codes."""
    assert run("--version").out == f"synthgen-local {__version__}\n"
    assert "4 fewer rows than asked" in " ".join(run("--help").out.split())
    assert run("generate", "--no-such-option").code == 2
    assert "generate" in run().out + run().err


@pytest.mark.model
def test_models(run: Run, weights: Path, own_cache: Path) -> None:
    """`list` shows the catalog, `path` the file, `pull` a model that is here already."""
    file = str(own_cache / weights.name)
    listed = json.loads(run("models", "list", "--json").out)

    assert {model["name"]: model["path"] for model in listed}["smollm2-135m-instruct"] == file
    assert "Apache-2.0" in run("models", "list").out
    assert run("models", "path", "smollm2-135m-instruct").out == f"{file}\n"
    assert json.loads(run("models", "pull", "smollm2-135m-instruct", "--json").out)["path"] == file
    assert run("models", "path", "gone").code == 3


@pytest.mark.model
def test_doctor(run: Run, weights: Path, tmp_path: Path) -> None:
    """`doctor` says ready where the default model is, and how to fetch it where it is not."""
    ready = run("doctor", "--json")
    missing = run("doctor", SYNTHGEN_LOCAL_CACHE=str(tmp_path / "empty"))

    assert json.loads(ready.out)["ready"] is True
    assert (ready.code, missing.code) == (0, 3)
    assert "models pull smollm2-135m-instruct" in missing.out
    assert run("doctor").out.endswith("ready\n")


def test_doctor_without_a_compiler(run: Run, weights: Path) -> None:
    """Rows are made without our kernels, too, but it says how they are had."""
    with_one = json.loads(run("doctor", "--json").out)["kernels"]
    without = run("doctor", "--json", CC="no-such-compiler")
    assert Path(with_one).is_file()
    assert without.code == 0
    assert "Install a C compiler" in json.loads(without.out)["kernels"]
    assert "CC is set to nothing" in run("doctor", CC="").out


@pytest.mark.model
def test_real_rows(run: Run) -> None:
    """The default model needs no option."""
    done = run("generate", FIELDS, "-n", "3")

    assert done.code == 0
    assert len(done.rows) == 3


FILMS = [
    {"actor": "Tom Hanks", "film": "Forrest Gump"},
    {"actor": "Meryl Streep", "film": "Doubt"},
]
RECORDS = {
    "films.jsonl": "".join(f"{json.dumps(film)}\n" for film in FILMS),
    "films.json": json.dumps(FILMS),
    "films.csv": "actor,film\nTom Hanks,Forrest Gump\nMeryl Streep,Doubt\n",
}
PASSAGES = {
    "notes.txt": "Tom Hanks, 36\n\nMeryl Streep, 41\n",
    "notes.json": '["Tom Hanks, 36", {"text": "Meryl Streep, 41"}]',
    "notes.jsonl": '"Tom Hanks, 36"\n{"text": "Meryl Streep, 41", "spans": []}\n',
    "notes.csv": 'id,text\n1,"Tom Hanks, 36"\n2,"Meryl Streep, 41"\n',
}


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    for name, text in (RECORDS | PASSAGES).items():
        (tmp_path / name).write_text(text)
    return tmp_path


def holds_its_values(row: dict[str, Any]) -> bool:
    """Every value of a text's fields stands where its span says."""
    text = row["text"]
    said = [text[span["start"] : span["end"]] for span in row["spans"]]
    return said == [span["value"] for span in row["spans"]] == list(row["fields"].values())


@pytest.mark.parametrize("name", RECORDS)
def test_texts_about_the_records_of_a_file(name: str, run: Run, inputs: Path) -> None:
    """`text` writes a line for each record, in order, with its fields and their spans."""
    done = run("text", name, "-m", "random", "--seed", "3")

    assert done.code == 0
    assert [list(row) for row in done.rows] == [["fields", "preferences", "text", "spans"]] * 2
    assert [row["fields"] for row in done.rows] == FILMS
    assert all(map(holds_its_values, done.rows))
    assert "stdout: 2 texts in" in done.err
    assert "seed 3, random" in done.err


def test_texts_about_lines_and_stdin(run: Run, inputs: Path) -> None:
    """A line of .txt is a list of that string; `-` is JSON lines, or one whole list or object."""
    (inputs / "colours.txt").write_text("blue\n\ndark red\n")
    fields = {
        "colours.txt": [row["fields"] for row in run("text", "colours.txt", *DRY).rows],
        "lines": [r["fields"] for r in run("text", "-", *DRY, stdin=RECORDS["films.jsonl"]).rows],
        "list": [r["fields"] for r in run("text", "-", *DRY, stdin=RECORDS["films.json"]).rows],
        "one": [r["fields"] for r in run("text", "-", *DRY, stdin='["blue", "red"]\n').rows],
    }

    assert fields == {
        "colours.txt": [["blue"], ["dark red"]],
        "lines": FILMS,
        "list": FILMS,
        "one": [["blue", "red"]],
    }


def test_text_piped_into_extract(run: Run, inputs: Path) -> None:
    """What `text` writes is what `extract -` reads."""
    texts = run("text", "films.csv", *DRY)
    found = run("extract", "actor, born date", "-", *DRY, stdin=texts.out)

    assert found.code == 0
    assert [list(row) for row in found.rows] == [["text", "records"]] * 2
    assert [row["text"] for row in found.rows] == [row["text"] for row in texts.rows]
    for row in found.rows:
        assert all(record["actor"] in row["text"] for record in row["records"])


@pytest.mark.parametrize("name", PASSAGES)
def test_records_of_the_passages_of_a_file(name: str, run: Run, inputs: Path) -> None:
    """`extract` writes a line for each passage, in order; free strings are parts of it."""
    done = run("extract", "name, age int", name, "-m", "random", *HOT)

    assert done.code == 0
    assert [row["text"] for row in done.rows] == ["Tom Hanks, 36", "Meryl Streep, 41"]
    records = [(row["text"], record) for row in done.rows for record in row["records"]]
    assert records
    assert all(record["name"] in text for text, record in records)
    assert "stdout: 2 passages in" in done.err


def test_passages_on_stdin(run: Run) -> None:
    """Lines on stdin are plain passages unless each of them is a passage in JSON."""
    plain = run("extract", FIELDS, "-", *DRY, stdin='Ada, 36\n"Bob", 41\n')
    quoted = run("extract", FIELDS, "-", *DRY, stdin='"Ada, 36"\n{"text": "Bob, 41"}\n')

    assert [row["text"] for row in plain.rows] == ["Ada, 36", '"Bob", 41']
    assert [row["text"] for row in quoted.rows] == ["Ada, 36", "Bob, 41"]


def test_ungrounded_records(run: Run) -> None:
    """--no-grounded lets the model write strings that are not in the passage."""
    arguments = ("extract", "name", "-", *DRY, "--temperature", "1")
    passages = "Ada.\n" * 8
    grounded = run(*arguments, stdin=passages)
    free = run(*arguments, "--no-grounded", stdin=passages)

    assert all(record["name"] in "Ada." for row in grounded.rows for record in row["records"])
    assert any(record["name"] not in "Ada." for row in free.rows for record in row["records"])


def test_preferences(run: Run, inputs: Path) -> None:
    """Preferences are JSON or a file of it: lengths hold, and they stand beside each text."""
    preferences = {"style": "gossip", "min_length": 200, "max_length": 220}
    (inputs / "preferences.json").write_text(json.dumps(preferences, indent=2))
    spelt = run("text", "films.csv", *DRY, "--preferences", json.dumps(preferences))
    named = run("text", "films.csv", *DRY, "--preferences", "preferences.json")

    assert spelt.out == named.out
    assert [row["preferences"] for row in spelt.rows] == [preferences] * 2
    assert all(200 <= len(row["text"]) <= 220 for row in spelt.rows)


def test_a_length_that_cannot_be_read_is_a_note(run: Run, inputs: Path) -> None:
    """A preference that looks like a length and is none is named on stderr, unless it is quiet."""
    arguments = ("text", "films.csv", "-m", "random", "--preferences", '{"length": "medium"}')

    assert "Note: 'length' is not a length that can be enforced" in run(*arguments).err
    assert run(*arguments, "-q").err == ""


def test_free_mentions(run: Run, inputs: Path) -> None:
    """--mentions free leaves the values to the model, which may leave them out."""
    done = run("text", "films.csv", *DRY, "--mentions", "free")

    assert done.code == 0
    assert [row["spans"] for row in done.rows] == [[], []]


def test_files_of_texts_and_records(run: Run, inputs: Path) -> None:
    """The suffix of -o names the format; nested values are JSON text in .csv.

    In .parquet they are structs, but for fields, which may be anything.
    """
    for suffix in ("jsonl", "csv", "parquet"):
        assert run("text", "films.csv", *DRY, "-o", f"texts.{suffix}").out == ""
        assert run("extract", "actor", "texts.jsonl", *DRY, "-o", f"found.{suffix}").code == 0

    for name, nested in (("texts", ["fields", "spans"]), ("found", ["records"])):
        lines = (inputs / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        rows = [json.loads(line) for line in lines]
        with (inputs / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            cells = list(csv.DictReader(file))
        table = pyarrow.parquet.read_table(inputs / f"{name}.parquet").to_pylist()
        for row in table:
            row.update({key: json.loads(row[key]) for key in ("fields",) if key in row})
        assert table == rows
        assert [cell["text"] for cell in cells] == [row["text"] for row in rows]
        for key in nested:
            assert [json.loads(cell[key]) for cell in cells] == [row[key] for row in rows]


def test_nothing_in_nothing_out(run: Run, tmp_path: Path) -> None:
    """Empty input is no error: no lines, or a file with nothing but its columns."""
    for command in (("text",), ("extract", FIELDS)):
        for stdin in ("", "\n \n"):
            done = run(*command, "-", *DRY, stdin=stdin)
            assert (done.code, done.out, done.err) == (0, "", "")
    assert run("text", "-", *DRY, "-o", "texts.csv", stdin="[]").code == 0
    assert (tmp_path / "texts.csv").read_bytes() == b"fields,preferences,text,spans\r\n"


TEXT_ERRORS: dict[str, tuple[list[str], int, str]] = {
    "missing file": (["gone.csv"], 1, "gone.csv cannot be read"),
    "unknown kind": (["films.xlsx"], 1, "films.xlsx has no known suffix"),
    "bad line": (["half.jsonl"], 1, "half.jsonl, line 2 is not JSON"),
    "bad json": (["half.json"], 1, "half.json, line 3 is not JSON"),
    "no fields": (["none.jsonl"], 1, "The fields hold no value"),
    "no fields later": (["later.jsonl"], 1, "Input 2: The fields hold no value"),
    "too long": (
        ["films.csv", "--preferences", '{"max_length": 8}'],
        1,
        "The value at $.actor has 9 characters",
    ),
    "control characters": (["tab.jsonl"], 1, "$.a cannot stand in a line of text: it has U+0009"),
    "bad preferences": (
        ["films.csv", "--preferences", '{"style":'],
        1,
        "preferences, line 1 is not JSON",
    ),
    "no preferences": (["films.csv", "--preferences", "gossip"], 1, "gossip cannot be read"),
    "listed preferences": (["films.csv", "--preferences", "films.json"], 1, "a JSON object"),
    "contradiction": (
        ["films.csv", "--preferences", '{"min_length": 60, "max_length": 50}'],
        2,
        "A text cannot have 60 to 50 characters",
    ),
    "temperature": (
        ["films.csv", "--temperature", "-1"],
        2,
        "--temperature must be at least 0, got -1",
    ),
    "batch": (["films.csv", "--batch", "0"], 2, "--batch must be at least 1, got 0"),
    "seed": (["films.csv", "--seed", "-1"], 2, "--seed must be at least 0, got -1"),
    "destination": (["gone.csv", "-o", "gone/texts.csv"], 1, "The folder gone does not exist"),
}
EXTRACT_ERRORS: dict[str, tuple[list[str], int, str]] = {
    "missing file": ([FIELDS, "gone.txt"], 1, "gone.txt cannot be read"),
    "no text": ([FIELDS, "films.csv"], 1, 'films.csv, line 2 has no "text"'),
    "bad line": ([FIELDS, "half.jsonl"], 1, "half.jsonl, line 2 is not JSON"),
    "bad schema": (["name, age number", "notes.txt"], 1, "unknown type 'number'"),
    "threads": ([FIELDS, "notes.txt", "--threads", "0"], 2, "--threads must be at least 1, got 0"),
    "destination": ([FIELDS, "gone.txt", "-o", "found.xlsx"], 1, "no known suffix"),
}


@pytest.fixture
def wrong(inputs: Path) -> Path:
    (inputs / "half.jsonl").write_text('{"text": "a"}\n{"text": secret}\n')
    (inputs / "half.json").write_text('[\n  {"a": "b"},\n  {"a": secret}\n]\n')
    (inputs / "none.jsonl").write_text('{"a": [null, ""]}\n')
    (inputs / "later.jsonl").write_text('{"a": "b"}\n{}\n')
    (inputs / "tab.jsonl").write_text('{"a": "secret\\t"}\n')
    return inputs


@pytest.mark.parametrize("name", TEXT_ERRORS)
def test_bad_texts(name: str, run: Run, wrong: Path) -> None:
    """What no text can be written about is told in a line, not quoted, with its exit code."""
    arguments, code, message = TEXT_ERRORS[name]
    before = sorted(wrong.iterdir())
    done = run("text", *arguments, "-m", "random")

    one_line_error(done, code, message)
    assert "secret" not in done.err
    assert sorted(wrong.iterdir()) == before


@pytest.mark.parametrize("name", EXTRACT_ERRORS)
def test_bad_passages(name: str, run: Run, wrong: Path) -> None:
    """What no record can be read out of is told in a line, not quoted, with its exit code."""
    arguments, code, message = EXTRACT_ERRORS[name]
    before = sorted(wrong.iterdir())
    done = run("extract", *arguments, "-m", "random")

    one_line_error(done, code, message)
    assert "secret" not in done.err
    assert sorted(wrong.iterdir()) == before


def test_too_few_passages(run: Run, tmp_path: Path) -> None:
    """Records that no attempt satisfies are exit code 4; all other passages are kept."""
    (tmp_path / "never.py").write_text(ODD)
    passages = "no number\nn is 1\n"
    stdout = run("extract", "never.py:Never", "-", *DRY, stdin=passages)
    named = run("extract", "never.py:Never", "-", *DRY, "-o", "found.jsonl", stdin=passages)

    assert (stdout.code, named.code) == (4, 4)
    assert "1 of 2 passages: 1 turned down at every try" in named.err
    assert (tmp_path / "found.jsonl").read_text() == stdout.out


def test_keys_of_a_passage_are_kept(run: Run, tmp_path: Path) -> None:
    """What stands beside a passage stands beside its records, in every format."""
    lines = '{"id": 7, "text": "Ada", "ward": "A"}\n{"ward": null, "text": "Bob", "id": 8}\n'
    stdout = run("extract", "name", "-", *DRY, stdin=lines)
    run("extract", "name", "-", *DRY, "-o", "found.parquet", stdin=lines)
    table = pyarrow.parquet.read_table(tmp_path / "found.parquet")

    assert [list(row) for row in stdout.rows] == [["id", "ward", "text", "records"]] * 2
    assert [(row["id"], row["ward"]) for row in stdout.rows] == [(7, "A"), (8, None)]
    assert table.column("id").to_pylist() == [7, 8]
    assert table.column("ward").to_pylist() == ["A", None]


def test_a_passage_that_is_too_long_is_left_out(run: Run) -> None:
    """It is named, the others are read, and the exit code says that there are fewer."""
    done = run("extract", "name", "-", "-m", "random", stdin=f"Ada\n{'a ' * 600_000}\nBob\n")

    assert done.code == 4
    assert [row["text"] for row in done.rows] == ["Ada", "Bob"]
    assert "Passage 2 is read in" in done.err
    assert "Cut what is too long" in done.err


def test_limits_of_an_extraction(run: Run, tmp_path: Path) -> None:
    """--least, --most and --max-items say how much there may be."""
    lists = {"t": {"type": "array", "items": {"type": "integer"}, "minItems": 1}}
    schema = {"type": "object", "properties": lists, "required": ["t"]}
    (tmp_path / "t.json").write_text(json.dumps(schema))
    some = ("--least", "9", "--most", "9", "--max-items", "1")
    done = run("extract", "t.json", "-", *DRY, *some, stdin="a\n")

    assert [len(row["records"]) for row in done.rows] == [9]
    assert {len(record["t"]) for record in done.rows[0]["records"]} == {1}
    assert run("extract", "t.json", "-", *DRY, "--most", "0", stdin="a\n").code == 2


def test_default_temperature_of_texts(run: Run) -> None:
    """The help's default is the library's, which is too slow to import for it."""
    assert f"[default: {TEMPERATURE}]" in " ".join(run("text", "--help").out.split())


@pytest.mark.model
def test_real_texts_and_their_records(run: Run, inputs: Path) -> None:
    """The default model needs no option, and its texts can be read back."""
    texts = run("text", "films.csv", "--preferences", '{"max_length": 120}')
    found = run("extract", "actor, film", "-", stdin=texts.out)

    assert (texts.code, found.code) == (0, 0)
    assert all(map(holds_its_values, texts.rows))
    for row in found.rows:
        assert all(value in row["text"] for record in row["records"] for value in record.values())


@pytest.mark.model
def test_a_passage_too_long(run: Run) -> None:
    """A passage that the model's context cannot hold is named, and the others are read."""
    done = run("extract", FIELDS, "-", stdin=f"Ada, 36\n{'word ' * 20_000}\n")

    assert done.code == 4
    assert [row["text"] for row in done.rows] == ["Ada, 36"]
    assert "Passage 2 is read in" in done.err


def test_start_is_quick_to_import() -> None:
    """Neither importing the package nor the command line's help loads llama.cpp or pyarrow."""
    heavy = "{'llama_cpp', 'pyarrow', 'outlines', 'llguidance', 'huggingface_hub', 'numpy'}"
    for module in ("synthgen_local", "synthgen_local.cli"):
        code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
        loaded = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert loaded.stdout == "[]\n"


def test_no_cache_of_outlines_appears(run: Run, tmp_path: Path) -> None:
    """No package opens a cache of its own in the user's home."""
    home = tmp_path / "home"
    home.mkdir()
    run("generate", FIELDS, *DRY, HOME=str(home), XDG_CACHE_HOME=str(home / "cache"))

    assert not list(home.rglob("*outlines*"))
    assert [path.name for path in home.iterdir()] in ([], ["cache"])


def test_schema_shows_the_certificate(run: Run) -> None:
    """`schema` prints a table, JSON for programs, or the grammar."""
    table = run("schema", "name, age int")
    data = json.loads(run("schema", "name, age int", "--json", "--max-length", "50").out)
    grammar = run("schema", "name, age int", "--grammar")

    assert "$.name" in table.out
    assert "every row is valid by construction" in table.out
    assert data["guarantee"] == "construction"
    assert {"path": "$.age", "keyword": "type", "value": "integer", "enforced_by": "grammar"} in (
        data["constraints"]
    )
    assert {"path": "$.name", "keyword": "maxLength", "value": 50, "enforced_by": "bound"} in (
        data["bounds"]
    )
    assert grammar.out.startswith("start: ")


@pytest.mark.parametrize(
    ("options", "code"), [(("--json", "--grammar"), 2), (("--max-length", "0"), 2)]
)
def test_schema_refuses_nonsense(run: Run, options: tuple[str, ...], code: int) -> None:
    """Options that contradict each other are a usage error."""
    assert run("schema", FIELDS, *options).code == code


def test_an_unsatisfiable_schema_is_refused(run: Run, tmp_path: Path) -> None:
    """It ends with 1 and names keyword and path, before anything is loaded."""
    schema = {"properties": {"n": {"minimum": 5, "maximum": 4}}, "required": ["n"]}
    (tmp_path / "s.json").write_text(json.dumps(schema))

    for command in (("schema", "s.json"), ("generate", "s.json", "-m", "random")):
        done = run(*command)
        assert done.code == 1
        assert "$.n: 'minimum' leaves no value" in done.err


def test_validators_are_named_with_their_rates(run: Run, tmp_path: Path) -> None:
    """At the end of a run each validator's share of the tries is told; luck alone ends with 4."""
    (tmp_path / "v.py").write_text(
        "from pydantic import BaseModel, field_validator\n"
        "class Even(BaseModel):\n"
        "    n: int\n"
        "    @field_validator('n')\n"
        "    @classmethod\n"
        "    def is_even(cls, n):\n"
        "        assert n % 2 == 0\n"
        "        return n\n"
        "class Never(BaseModel):\n"
        "    n: int\n"
        "    @field_validator('n')\n"
        "    @classmethod\n"
        "    def never(cls, n):\n"
        "        raise ValueError('no')\n"
    )

    even = run("generate", "v.py:Even", "-n", "40", "-m", "random")
    never = run("generate", "v.py:Never", "-n", "900", "-m", "random")

    assert even.code == 0
    assert re.search(r"Rejected [1-9].*% of the attempts: n: is_even", even.err)
    assert never.code == 4
    assert "all of 500 tries were turned down" in never.err
    assert "never says" in never.err


def test_errors_show_no_terminal_codes(run: Run, tmp_path: Path) -> None:
    """What a file of somebody else's makes an error say is not obeyed by the terminal."""
    (tmp_path / "s.json").write_text(json.dumps({"$ref": "#/\x1b]0;evil\x07"}))
    done = run("schema", "s.json")

    assert done.code == 1
    assert "evil" in done.err
    assert done.err.replace("\n", "").isprintable()


def test_examples_are_written_nowhere(run: Run, tmp_path: Path) -> None:
    """Of the examples nothing is left behind, neither beside the output nor in another folder."""
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    (tmp_path / "e.jsonl").write_text('{"name":"Zyxw Vutsr","age":1,"city":"Qponm"}\n')
    places = {"HOME": str(home), "XDG_CACHE_HOME": str(home), "TMPDIR": str(temporary)}
    done = run("generate", FIELDS, "--examples", "e.jsonl", *DRY, "-o", "rows.jsonl", **places)

    assert done.code == 0, done.err
    files = {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert files == {"e.jsonl", "rows.jsonl", "rows.jsonl.manifest.json"}
    written = (tmp_path / "rows.jsonl").read_text()
    written += (tmp_path / "rows.jsonl.manifest.json").read_text()
    assert "Zyxw" not in written + done.err


def test_what_takes_long_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    """The first use of a model is not silent: a line comes at once, and nothing with --quiet."""
    for quiet in (True, False):
        with console.waiting("Loading it", quiet=quiet):
            time.sleep(0 if quiet else 0.6)

    assert capfd.readouterr().err == "Loading it ...\n"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_program_leaves_no_core_file() -> None:
    """Neither it nor what it starts: memory holds the examples."""
    code = (
        "import sys, resource; from synthgen_local import cli; sys.argv = ['x', '--version']\n"
        "try: cli.main()\n"
        "finally: print(resource.getrlimit(resource.RLIMIT_CORE), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "(0, 0)" in done.stderr


@pytest.mark.parametrize("redirect", ["> /dev/full", ">&-"])
def test_stdout_that_takes_nothing(redirect: str) -> None:
    """A full or closed stdout is one line and a hint."""
    command = f"'{sys.executable}' -m synthgen_local generate '{FIELDS}' -n 3 -m random -q"
    done = subprocess.run(
        ["sh", "-c", f"{command} {redirect}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "stdout cannot be written" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_stdout_is_utf8_in_any_locale(run: Run, tmp_path: Path) -> None:
    """Rows are UTF-8 where the locale is ASCII, too."""
    (tmp_path / "s.json").write_text('{"const": "\u00fc"}')
    done = run("generate", "s.json", "-n", "1", *DRY, PYTHONIOENCODING="ascii")

    assert (done.code, done.err) == (0, "")


def test_a_first_use_begins_with_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything slow is imported; later uses, dry runs and what is not here begin silent."""
    monkeypatch.setenv("SYNTHGEN_LOCAL_CACHE", str(tmp_path))
    with (tmp_path / "large.gguf").open("wb") as file:
        file.write(GGUF)
        file.truncate(20_000_000)
    large = str(tmp_path / "large.gguf")

    assert output.starting(large).startswith("Starting")
    assert not output.starting("random")
    assert not output.starting("gone.gguf")
    (tmp_path / "tried").mkdir()
    (tmp_path / "tried" / "a.json").write_text("{}")
    assert not output.starting(large)


@pytest.mark.model
def test_each_step_of_loading_is_named(weights: Path, tmp_path: Path) -> None:
    """Kernels, the trial, the measurement and the prompt: whoever waits knows for what."""
    code = (
        "import sys; from synthgen_local import LocalModel, TabularGenerator\n"
        "from synthgen_local.loading import load_plan as plan\n"
        "plan.tune = lambda *a, note, **k: note('Measuring') or plan.read_record(a[0])\n"
        "with LocalModel.load(sys.argv[1], note=print) as model:\n"
        "    TabularGenerator('name', model, batch=1).generate()"
    )
    cache = {"SYNTHGEN_LOCAL_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(weights)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **cache},
    )
    steps = [line.split()[0] for line in done.stdout.splitlines()]
    assert steps == ["Compiling", "Probing", "Measuring", "Loading", "Evaluating"]
