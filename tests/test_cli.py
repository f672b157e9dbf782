"""The command line as a user meets it: stdout, stderr and exit codes, each on its own."""

from __future__ import annotations

import csv
import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from synthgen_local import __version__

Run = Callable[..., Any]
FIELDS = "name, age int, city: a town in Peru"
DRY = ("-m", "random", "-q")
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


def test_schema_files_and_examples(run: Run, tmp_path: Path) -> None:
    """A class of a file, and examples of a file, go together."""
    (tmp_path / "m.py").write_text(
        "from pydantic import BaseModel\nclass M(BaseModel):\n    a: bool\n"
    )
    (tmp_path / "e.jsonl").write_text('{"a": true}\n')
    done = run("generate", "m.py:M", "--examples", "e.jsonl", *DRY)

    assert {type(row["a"]) for row in done.rows} == {bool}


BAD: dict[str, tuple[list[str], int, str]] = {
    "rows": (["-n", "-1"], 2, "--rows is -1"),
    "temperature": (["--temperature", "-0.5"], 2, "--temperature is -0.5"),
    "seed": (["--seed", "-1"], 2, "--seed is -1"),
    "batch": (["--batch", "0"], 2, "--batch is 0"),
    "threads": (["--threads", "0"], 2, "--threads is 0"),
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
    "m.py:NotAModel": "NotAModel is not a pydantic model",
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


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C ends with 130, says so in a line, and leaves no half of a file."""
    command = [sys.executable, "-m", "synthgen_local", "generate", FIELDS, "-n", "1000000", *DRY]
    process = subprocess.Popen(
        [*command, "-o", "rows.csv"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


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


def test_version_and_help(run: Run) -> None:
    """The program says its version, and help shows the exit codes."""
    assert run("--version").out == f"synthgen-local {__version__}\n"
    assert "4 fewer rows than asked" in " ".join(run("--help").out.split())
    assert run("generate", "--no-such-option").code == 2
    assert "generate" in run().out + run().err


@pytest.mark.model
def test_models(run: Run, weights: Path) -> None:
    """`list` shows the catalog, `path` the file, `pull` a model that is here already."""
    listed = json.loads(run("models", "list", "--json").out)

    assert {model["name"]: model["path"] for model in listed}["smollm2-135m-instruct"] == str(
        weights
    )
    assert "Apache-2.0" in run("models", "list").out
    assert run("models", "path", "smollm2-135m-instruct").out == f"{weights}\n"
    assert json.loads(run("models", "pull", "smollm2-135m-instruct", "--json").out)["path"] == str(
        weights
    )
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


@pytest.mark.model
def test_real_rows(run: Run) -> None:
    """The default model needs no option."""
    done = run("generate", FIELDS, "-n", "3")

    assert done.code == 0
    assert len(done.rows) == 3


class Hub(BaseHTTPRequestHandler):
    """As much of the Hugging Face hub's protocol as fetching one file takes."""

    names = ("tiny-Q4_K_M.gguf", "tiny-Q8_0.gguf", "README.md")
    commit = "c" * 40

    def do_HEAD(self) -> None:
        """Say what a file is."""
        self.answer()

    def do_GET(self) -> None:
        """Send a repository's list, or a file."""
        self.answer()

    def answer(self) -> None:
        """Serve somebody/Tiny-GGUF and nothing else."""
        if self.path.startswith("/api/models/somebody/Tiny-GGUF"):
            siblings = [{"rfilename": name} for name in self.names]
            info = {"id": "somebody/Tiny-GGUF", "sha": self.commit, "siblings": siblings}
            self.send(json.dumps(info).encode())
        elif self.path.endswith(f"/somebody/Tiny-GGUF/resolve/{self.commit}/tiny-Q4_K_M.gguf"):
            self.send(GGUF)
        else:
            self.send_error(404)

    def send(self, data: bytes) -> None:
        """One answer with the headers that the client wants."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class names it
        """Say nothing."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[dict[str, str]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    yield {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "no_proxy": "127.0.0.1"}
    server.shutdown()
    server.server_close()
    thread.join()


def test_models_of_the_hub(run: Run, hub: dict[str, str]) -> None:
    """user/repo:QUANT is fetched from the hub, kept in the hub's cache, and then found there."""
    name = "somebody/Tiny-GGUF:Q4_K_M"
    before = run("models", "path", name, **hub)
    pulled = run("models", "pull", name, **hub)
    after = run("models", "path", name, **hub)
    vague = run("models", "pull", "somebody/Tiny-GGUF", **hub)
    gone = run("models", "pull", "somebody/Gone:Q8_0", **hub)

    assert before.code == 3
    assert Path(pulled.out.strip()).read_bytes() == GGUF, pulled.err
    assert after.out == pulled.out
    assert "tiny-Q8_0.gguf" in vague.err
    assert (gone.code, gone.err.count("\n")) == (1, 2)


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
