"""Runs into a file: killed, torn, repeated and verified, they lose nothing."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran

from synthgen_local import LocalModel, OutputError, RunError
from synthgen_local.data.provenance import file_hash, manifest_path, shard_hash
from synthgen_local.engine.backends.random_model import RandomModel
from synthgen_local.engine.parallel_plan import BatchSettings, ParallelPlan, make_shards
from synthgen_local.engine.requests import Row
from synthgen_local.engine.stop_request import StopRequest
from synthgen_local.jobs.ledger import Ledger, discard, ledger_folder
from synthgen_local.jobs.manifest import read_manifest
from synthgen_local.jobs.runner import JobResult, Retention, run_job
from synthgen_local.jobs.spec import ExtractJobSpec, GenerateJobSpec, RowSource, TextJobSpec
from synthgen_local.jobs.verify import _with_locations, replay, verify
from synthgen_local.loading.load_plan import LoadPlan
from synthgen_local.local_model import ShardSelection
from synthgen_local.rejection import Rejection

Run = Callable[..., Ran]
SETTINGS = GenerateJobSpec(source="name, age int", rows=700, max_length=6, model="random", seed=3)
SHARDS = [range(3), range(3, 5)]


def into(output: Path, model: LocalModel, settings: Any = SETTINGS, **options: Any) -> JobResult:
    return run_job(settings, work_of(settings, model), model, str(output), **options)


def work_of(settings: Any, model: LocalModel) -> RowSource:
    return settings.row_source(model, settings.read())


def ended_after(rows: int, stop: StopRequest) -> Callable[..., Generator[Row[str]]]:
    """Ask a run to end when so many rows have gone by.

    Shards in work are finished: of 700 rows in four shards two are left with up to 175.
    """

    def track(made: Generator[Row[str]], _rows: int) -> Generator[Row[str]]:
        for count, row in enumerate(made, 1):
            yield row
            if count == rows:
                stop.request()

    return track


def made(*rows: int) -> Iterator[Row[str]]:
    return (
        Row(row, f'{{"n":{row}}}', made=True, tokens=5, sampled_tokens=3, log_weight=-0.5)
        for row in rows
    )


@pytest.fixture(scope="module")
def whole(random_model: LocalModel, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a run that nobody disturbed."""
    output = tmp_path_factory.mktemp("whole") / "rows.jsonl"
    into(output, random_model)
    return output.read_bytes()


# Going on


@pytest.mark.parametrize("rows", [1, 60, 120])
def test_a_run_goes_on_where_it_was(
    random_model: LocalModel, tmp_path: Path, whole: bytes, rows: int
) -> None:
    """What was ended early ends in the bytes of an undisturbed run, with nothing left beside."""
    output, stop = tmp_path / "rows.jsonl", StopRequest()
    first = into(output, random_model, stop=stop, track=ended_after(rows, stop))

    assert first.manifest is None
    assert not output.exists()
    assert ledger_folder(output).is_dir()

    assert into(output, random_model).manifest is not None
    assert output.read_bytes() == whole
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "rows.jsonl.manifest.json"}


def test_shards_that_are_done_are_not_made_again(tmp_path: Path) -> None:
    """Only what is missing is decoded. One thread makes shards one after the other."""
    model = LocalModel(RandomModel(), threads=1)
    output, stop, seen = tmp_path / "rows.jsonl", StopRequest(), []
    into(output, model, stop=stop, track=ended_after(360, stop))

    def count(made: Generator[Row[str]], rows: int) -> Generator[Row[str]]:
        seen.append(rows)
        yield from made

    into(output, model, track=count)
    shard = len(model.shards(700)[0])

    assert seen == [700 - shard * -(-360 // shard)]  # the one in work is finished


def test_a_shard_is_the_same_wherever_it_is_made(random_model: LocalModel) -> None:
    """Each shard by itself, in any order, gives the rows of the whole run."""
    work = work_of(SETTINGS, random_model)
    together = {row.number: row.value for row in work.make(ShardSelection())}
    alone = {
        row.number: row.value
        for number in reversed(range(len(work.shards)))
        for row in work.make(ShardSelection([number]))
    }

    assert len(work.shards) == 4
    assert alone == together


@pytest.mark.model
def test_real_shards_are_the_same_wherever_they_are_made(model: LocalModel) -> None:
    """So it is with real weights, whose numbers depend on what is decoded together."""
    settings = GenerateJobSpec(source="name, age int, city", rows=12, batch=8, max_length=20)
    work = work_of(settings, model)
    together = {row.number: row.value for row in work.make(ShardSelection())}

    assert len(work.shards) > 1
    assert {row.number: row.value for row in work.make(ShardSelection([1]))} == {
        row: together[row] for row in work.shards[1]
    }


def test_a_kept_run_is_there_to_be_seen(random_model: LocalModel, tmp_path: Path) -> None:
    """`--keep-run` leaves the ledger, which makes the same file at once."""
    output = tmp_path / "rows.csv"
    into(output, random_model, retention=Retention(run=True))
    before = output.read_bytes()
    output.unlink()

    assert ledger_folder(output).stat().st_mode & 0o777 == 0o700
    into(output, random_model, track=lambda *_: pytest.fail("nothing is missing"))

    assert output.read_bytes() == before
    assert not ledger_folder(output).exists()


def test_other_inputs_are_refused_by_name(random_model: LocalModel, tmp_path: Path) -> None:
    """A run is not gone on with by another command; --fresh begins anew."""
    output, stop = tmp_path / "rows.jsonl", StopRequest()
    into(output, random_model, stop=stop, track=ended_after(10, stop))
    other = SETTINGS.model_copy(update={"seed": 4, "source": "name, age float"})

    with pytest.raises(RunError, match=r"other inputs: hash of the grammar, .*seed\.") as why:
        into(output, random_model, other)
    assert "--fresh" in why.value.hint
    assert into(output, random_model, other, retention=Retention(fresh=True)).manifest is not None


def test_a_halt_ends_within_its_moment(random_model: LocalModel, tmp_path: Path) -> None:
    """Rows in flight may end, no other begins, and it takes two seconds at most."""
    stop = StopRequest()
    endless = SETTINGS.model_copy(update={"rows": 10**6, "max_length": None})
    begun: list[float] = []

    def track(made: Generator[Row[str]], *_: Any) -> Generator[Row[str]]:
        for row in made:
            yield row
            if not begun:
                begun.append(time.monotonic())
                stop.request()

    report = into(tmp_path / "rows.jsonl", random_model, endless, stop=stop, track=track)

    assert time.monotonic() - begun[0] < 10  # 2 on a machine of one's own
    assert report.manifest is None
    assert 0 < report.tally.made < 2000


@pytest.mark.parametrize("command", ["text", "extract"])
def test_texts_and_records_run_too(random_model: LocalModel, tmp_path: Path, command: str) -> None:
    """`text` and `extract` go on where they were as `generate` does."""
    lines = "\n".join(f"Ada {number} of Oslo" for number in range(40))
    (tmp_path / "in.txt").write_text(lines, encoding="utf-8")
    common = {"model": "random", "batch": 8}
    settings = (
        TextJobSpec(records=str(tmp_path / "in.txt"), preferences={"max_length": 40}, **common)
        if command == "text"
        else ExtractJobSpec(source="name", passages=str(tmp_path / "in.txt"), **common)
    )
    whole, output, stop = tmp_path / "whole.jsonl", tmp_path / "rows.jsonl", StopRequest()
    into(whole, random_model, settings)

    into(output, random_model, settings, stop=stop, track=ended_after(5, stop))
    into(output, random_model, settings)

    assert output.read_bytes() == whole.read_bytes()
    assert len(output.read_text().splitlines()) == 40
    replay(output, verify(output, lambda _: None), 2, lambda _: None)


# Killed and torn


ASK = ["generate", "name, age int", "-n", "700", "--max-length", "6", "-m", "random"]
ASK += ["--seed", "3", "-q"]


def start(output: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "synthgen_local", *ASK, *options, "-o", str(output)],
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_at_any_moment(tmp_path: Path, whole: bytes) -> None:
    """After kill -9, again and again, the file is that of an undisturbed run."""
    output, chance = tmp_path / "rows.jsonl", random.Random(0)
    for _ in range(6):
        process = start(output)
        time.sleep(chance.uniform(0.3, 4))
        process.kill()
        process.communicate()
        assert not output.exists() or output.read_bytes() == whole

    process = start(output)
    _, err = process.communicate(timeout=120)

    assert (process.returncode, err) == (0, "")
    assert output.read_bytes() == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_in_good_order(tmp_path: Path, number: int) -> None:
    """Exit code 130, the state kept, nothing half-written, and the run goes on."""
    output = tmp_path / "rows.jsonl"
    process = start(output, "-n", "200000")
    while not (ledger_folder(output) / "ledger.sqlite3").exists():
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert re.match(r"Error: Interrupted: \d+ of 200000 rows are kept\.\nHint: The same", err)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl.run"]


def test_a_full_disk_is_said_and_gone_on_from(tmp_path: Path, whole: bytes) -> None:
    """Where no more can be written there is one line, no file, and later the right one."""
    output = tmp_path / "rows.jsonl"
    code = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)); sys.argv[0] = 'x';"
        "runpy.run_module('synthgen_local', run_name='__main__')"
    )
    arguments = [*ASK, "-o", str(output)]
    full = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )

    assert full.returncode == 1
    assert "cannot be written" in full.stderr
    assert len(full.stderr.splitlines()) <= 2
    assert not output.exists()

    process = start(output)
    process.communicate(timeout=120)
    assert output.read_bytes() == whole


@pytest.mark.parametrize("offset", range(20))
def test_a_torn_ledger_never_gives_a_wrong_file(
    random_model: LocalModel, tmp_path: Path, whole: bytes, offset: int
) -> None:
    """A page that is cut off, zeroed or noise: an error that says so, or the right bytes."""
    output, stop = tmp_path / "rows.jsonl", StopRequest()
    into(output, random_model, stop=stop, track=ended_after(100, stop))
    state = ledger_folder(output) / "ledger.sqlite3"
    data = bytearray(state.read_bytes())
    page = 4096 * (len(data) // 4096 - 1 - offset % 10)
    if offset % 3 == 0:
        data[page : page + 4096] = bytes(4096)
    elif offset % 3 == 1:
        data[page : page + 4096] = random.Random(offset).randbytes(4096)
    else:
        del data[page + 1000 :]
    state.write_bytes(data)

    try:
        into(output, random_model)
    except RunError as error:
        said = f"{error} {error.hint}"
    else:
        said = ""

    if said:
        assert re.search("damaged.*--fresh", said)
        assert not output.exists()
    else:
        assert output.read_bytes() == whole


def test_a_changed_row_in_the_ledger_is_found(random_model: LocalModel, tmp_path: Path) -> None:
    """What sqlite cannot see, the hash of each row does."""
    output, stop = tmp_path / "rows.jsonl", StopRequest()
    into(output, random_model, stop=stop, track=ended_after(100, stop))
    with sqlite3.connect(ledger_folder(output) / "ledger.sqlite3") as database:
        (row,) = database.execute("SELECT min(row) FROM rows").fetchone()  # shards end in any order
        change = "UPDATE rows SET line = replace(line, 'name', 'nome') WHERE row = ?"
        assert database.execute(change, [row]).rowcount == 1
    database.close()

    with pytest.raises(RunError, match=f"row {row}\\b"):
        into(output, random_model)
    assert not output.exists()


def test_a_ledger_of_another_layout_is_refused(tmp_path: Path) -> None:
    """A run that another version began is gone on with by that version, or begun anew."""
    Ledger(tmp_path / "x.run", {}, SHARDS).close()
    with closing(sqlite3.connect(tmp_path / "x.run" / "ledger.sqlite3")) as database:
        database.execute("PRAGMA user_version = 1")
    with pytest.raises(RunError, match="another version of synthgen-local") as caught:
        Ledger(tmp_path / "x.run", {}, SHARDS)
    assert "--fresh" in caught.value.hint


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A ledger that is open is refused to others, until it is closed."""
    with Ledger(tmp_path / "x.run", {}, SHARDS):
        with pytest.raises(RunError, match="Another process"):
            Ledger(tmp_path / "x.run", {}, SHARDS)
        with pytest.raises(RunError, match="Another process"):
            discard(tmp_path / "x.run")
    Ledger(tmp_path / "x.run", {}, SHARDS).close()


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    """--fresh deletes the state of a run and nothing else."""
    (tmp_path / "x.run").mkdir()
    (tmp_path / "x.run" / "diary.txt").write_text("mine")

    with pytest.raises(RunError, match="not the state of a run"):
        discard(tmp_path / "x.run")
    assert (tmp_path / "x.run" / "diary.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM run",
        "DELETE FROM run WHERE name = 'inputs'",
        "DELETE FROM run; DELETE FROM rows",
        "DELETE FROM run; DELETE FROM shards",
        "DELETE FROM rows",
        "DROP TABLE run",
        "DROP TABLE rows",
        "UPDATE shards SET shard = shard + 100",
        "UPDATE shards SET hash = 'x'",
        "UPDATE rows SET row = row + 10000",
        "UPDATE rows SET tokens = tokens + 1",
        "UPDATE run SET value = 'nan' WHERE name = 'seconds'",
        "UPDATE run SET value = 'x' WHERE name = 'seconds'",
        "UPDATE run SET value = '{}' WHERE name = 'inputs'",
        "PRAGMA user_version = 0",
    ],
)
def test_a_ledger_with_a_part_missing_is_damaged(
    random_model: LocalModel, tmp_path: Path, damage: str
) -> None:
    """What does not fit together is refused before a row is made, never taken for a new run."""
    output, stop = tmp_path / "rows.jsonl", StopRequest()
    into(output, random_model, stop=stop, track=ended_after(100, stop))
    with closing(sqlite3.connect(ledger_folder(output) / "ledger.sqlite3")) as database:
        database.executescript(damage)

    with pytest.raises(RunError, match="damaged") as caught:
        into(output, random_model, track=lambda *_: pytest.fail("rows are made"))
    assert "--fresh" in caught.value.hint
    assert not output.exists()


def test_rows_of_other_inputs_never_enter_a_file(random_model: LocalModel, tmp_path: Path) -> None:
    """A ledger that forgot its inputs is not gone on with by another command."""
    output, stop = tmp_path / "rows.jsonl", StopRequest()
    into(output, random_model, stop=stop, track=ended_after(100, stop))
    with closing(sqlite3.connect(ledger_folder(output) / "ledger.sqlite3")) as database, database:
        database.execute("DELETE FROM run")

    with pytest.raises(RunError, match="damaged"):
        into(output, random_model, SETTINGS.model_copy(update={"seed": 9}))
    assert into(output, random_model, retention=Retention(fresh=True)).manifest is not None


# What is kept, and how a run ends


def test_what_the_bar_counted_is_kept(random_model: LocalModel, tmp_path: Path) -> None:
    """At each moment the rows that are said to be kept are in finished shards of the ledger."""
    output, stop, said = tmp_path / "rows.jsonl", StopRequest(), list[int]()

    def note(rows: int) -> None:
        with closing(sqlite3.connect(ledger_folder(output) / "ledger.sqlite3")) as database:
            (done,) = database.execute("SELECT count(*) FROM shards").fetchone()
        said.append(rows)
        assert rows <= done * len(work_of(SETTINGS, random_model).shards[0])

    report = into(output, random_model, stop=stop, track=ended_after(100, stop), kept=note)

    assert said == sorted(said)
    assert report.kept == said[-1] > 100

    into(output, random_model, kept=said.append)
    assert said[len(said) - len(work_of(SETTINGS, random_model).shards) :][0] >= 0
    assert report.kept in said
    assert said[-1] == SETTINGS.rows


def test_shards_in_work_are_finished_after_a_signal(
    random_model: LocalModel, tmp_path: Path
) -> None:
    """The first signal begins no shard, and those in work are not thrown away."""
    stop = StopRequest()
    report = into(tmp_path / "rows.jsonl", random_model, stop=stop, track=ended_after(1, stop))

    assert report.manifest is None
    assert report.kept == report.tally.made > 100


STUCK = {
    "sleep": "import time; time.sleep(1000)",
    "loop": "while True: pass",
    "pattern": "import re; re.match('(a+)+b', 'a' * 60)",
}


@pytest.mark.parametrize(
    ("stuck", "output", "number"),
    [
        ("pattern", "rows.jsonl", signal.SIGINT),
        ("pattern", "-", signal.SIGTERM),
        ("sleep", "rows.jsonl", signal.SIGHUP),
        ("loop", "-", signal.SIGTERM),
    ],
)
def test_a_second_signal_ends_whatever_runs(
    tmp_path: Path, stuck: str, output: str, number: signal.Signals
) -> None:
    """A validator that sleeps, loops or holds the interpreter's lock cannot keep it alive."""
    (tmp_path / "m.py").write_text(
        "from pathlib import Path\nfrom pydantic import BaseModel, field_validator\n"
        "class M(BaseModel):\n    n: int\n    @field_validator('n')\n    def stuck(cls, n):\n"
        f"        Path('begun').touch()\n        {STUCK[stuck]}\n"
    )
    process = subprocess.Popen(
        [
            sys.executable,
            *["-m", "synthgen_local", "generate", "m.py:M", "-m", "random", "-n", "2", "-o"],
            output,
        ],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # noqa: PLW1509 nohup ignores one
    )
    while not (tmp_path / "begun").exists():
        time.sleep(0.05)
    for _ in range(2):
        time.sleep(0.3)
        process.send_signal(number)

    # Only the system can end a process whose lock is held; a shell says 128 + number then.
    held = {-number} if stuck == "pattern" else set()
    assert process.wait(timeout=20) in {130} | held


# Whose files are replaced


READ = ["-m", "synthgen_local", "text", "-", "-m", "random", "--force", "-o", "me.jsonl"]
ROWS = ["generate", "name, age int", "-n", "3", "--max-length", "6", "-m", "random", "-q"]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("generate", "x.parquet"),
        ("generate", "link.csv"),
        ("text", "x.jsonl"),
        ("extract", "x.csv"),
    ],
)
def test_a_file_that_no_run_made_is_replaced_only_by_force(
    run: Run, tmp_path: Path, name: str, command: str
) -> None:
    """Somebody's file stays as it is, byte for byte, unless --force is given."""
    (tmp_path / "in.txt").write_text("Ada of Oslo\n")
    asked = {
        "generate": ROWS,
        "text": ["text", "in.txt", "-m", "random", "-q"],
        "extract": ["extract", "name", "in.txt", "-m", "random", "-q"],
    }[command]
    target = tmp_path / ("real.csv" if name == "link.csv" else name)
    target.write_text("mine\n")
    if name == "link.csv":
        (tmp_path / name).symlink_to("real.csv")

    refused = run(*asked, "-o", name)

    assert refused.code == 1
    assert "no run wrote it" in refused.err
    assert "--force" in refused.err
    assert target.read_text() == "mine\n"
    assert not list(tmp_path.glob("*.run"))
    if command == "generate":
        assert run(*asked, "-o", name, "--force").code == 0
        assert run(*asked, "-o", name, "--seed", "2").code == 0  # a run made it by now


def test_what_a_run_made_is_replaced(run: Run, tmp_path: Path) -> None:
    """A repeated command needs no --force; a file that was edited since does."""
    for output in ("x.jsonl", "people/"):
        assert run(*ROWS, "-o", output).code == 0
        assert run(*ROWS, "-o", output, "--seed", "5").code == 0
        assert run(*ROWS, "-o", output, "--fresh").code == 0
    with (tmp_path / "x.jsonl").open("a") as file:
        file.write("edited\n")
    (tmp_path / "people" / "README.md").write_text(
        (tmp_path / "people" / "README.md").read_text() + "edited\n"
    )
    for output in ("x.jsonl", "people/"):
        assert run(*ROWS, "-o", output).code == 1
        assert run(*ROWS, "-o", output, "--force").code == 0


def test_an_empty_file_may_be_replaced_and_a_strange_manifest_not(run: Run, tmp_path: Path) -> None:
    """mktemp's file holds nothing to lose; a file where the manifest goes may."""
    (tmp_path / "x.jsonl").touch()
    assert run(*ROWS, "-o", "x.jsonl").code == 0
    (tmp_path / "y.jsonl.manifest.json").write_text("my own")

    refused = run(*ROWS, "-o", "y.jsonl")

    assert (refused.code, "is not a manifest" in refused.err) == (1, True)
    assert (tmp_path / "y.jsonl.manifest.json").read_text() == "my own"


@pytest.mark.parametrize("way", ["same", "./same", "symbolic", "hard", "stdin", "manifest"])
def test_an_input_is_never_replaced(run: Run, tmp_path: Path, way: str) -> None:
    """Not even by --force, by whatever name it is reached."""
    text = '{"name":"Ada","age":36}\n'
    mine = tmp_path / "me.jsonl"
    mine.write_text(text)
    output = "me.jsonl"
    if way == "symbolic":
        (tmp_path / (output := "link.jsonl")).symlink_to("me.jsonl")
    elif way == "hard":
        (tmp_path / (output := "hard.jsonl")).hardlink_to(mine)
    elif way == "manifest":
        mine = mine.rename(tmp_path / "out.jsonl.manifest.json")
        output = "out.jsonl"
    asked = [*ROWS, "--examples", {"./same": "./me.jsonl"}.get(way, mine.name)]
    if way == "stdin":
        with mine.open() as file:
            done = subprocess.run(
                [sys.executable, *READ],
                cwd=tmp_path, stdin=file, capture_output=True, text=True, check=False,
            )  # fmt: skip
        code, err = done.returncode, done.stderr
    else:
        ran = run(*asked, "-o", output, "--force")
        code, err = ran.code, ran.err

    assert code == 2
    assert "is an input" in err
    assert mine.read_text() == text


def test_a_file_that_appears_meanwhile_is_kept(random_model: LocalModel, tmp_path: Path) -> None:
    """What somebody put there while rows were made is not lost, nor are the rows."""
    output = tmp_path / "rows.jsonl"

    def track(made: Generator[Row[str]], _rows: int) -> Generator[Row[str]]:
        output.write_text("mine\n")
        yield from made

    with pytest.raises(OutputError, match="no run wrote it"):
        into(output, random_model, track=track)
    assert output.read_text() == "mine\n"

    output.unlink()
    into(output, random_model, track=lambda *_: pytest.fail("nothing is missing"))
    assert output.exists()


def test_killed_between_file_and_manifest(
    random_model: LocalModel, tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose manifest was not written any more is known as the run's own."""
    output = tmp_path / "rows.jsonl"
    with monkeypatch.context() as patched:
        patched.setattr("synthgen_local.jobs.manifest.Manifest.write", _killed)
        with pytest.raises(KeyboardInterrupt):
            into(output, random_model)
    assert output.read_bytes() == whole

    into(output, random_model)
    assert output.read_bytes() == whole
    assert manifest_path(output).exists()


def _killed(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


# The ledger


def test_the_ledger_counts_and_orders(tmp_path: Path) -> None:
    """Rows come out in their order, whatever they came in by; a lost row has no line."""
    with Ledger(tmp_path / "x.run", {"seed": 0}, SHARDS) as ledger:
        ledger.add(made(4, 1, 0))
        ledger.add(
            [Row[str](2, None, False, (Rejection("a: bad"), Rejection("b")), 7, 7, -1.0), *made(3)]
        )
        for number in (1, 0):
            ledger.finish_shard(number)

        assert list(ledger.lines()) == ['{"n":0}', '{"n":1}', '{"n":3}', '{"n":4}']
        assert ledger.missing() == []
        assert (ledger.counts().made, ledger.counts().lost, ledger.counts().tokens) == (4, 1, 27)
        assert [reasons for made, reasons in ledger.rejected() if not made] == [
            [Rejection("a: bad"), Rejection("b")]
        ]
        assert ledger.shards()[0].made == 2
        assert ledger.shards()[1].sha256 == shard_hash(['{"n":3}', '{"n":4}'])


def test_a_shard_is_done_when_all_its_rows_are_in(tmp_path: Path) -> None:
    """Nobody can say that a shard is done whose rows are missing."""
    with Ledger(tmp_path / "x.run", {}, SHARDS) as ledger:
        ledger.add(made(0, 2))
        with pytest.raises(RunError, match="2 of 3 rows"):
            ledger.finish_shard(0)
        assert ledger.missing() == [0, 1]


@pytest.mark.parametrize(("rows", "contexts"), [(1, 1), (10, 2), (511, 2), (513, 2), (10**6, 4)])
@pytest.mark.parametrize(("slots", "usual"), [(1, 48), (32, 192), (100, 600)])
def test_shards_are_even(rows: int, contexts: int, slots: int, usual: int) -> None:
    """All rows are in one shard, no shard is long, and every context has as many."""
    shards = make_shards(range(rows), ParallelPlan(contexts, slots, 1))

    assert [row for shard in shards[:3] for row in shard] == list(range(sum(map(len, shards[:3]))))
    assert sum(map(len, shards)) == rows
    assert max(map(len, shards)) <= 1.5 * usual
    assert len({len(shard) for shard in shards[:-1]}) <= 1
    assert len(shards) <= contexts * max(1, -(-rows // (usual * contexts)))


# Manifest and verification


def test_the_manifest_says_how_rows_came_about(random_model: LocalModel, tmp_path: Path) -> None:
    """Settings, hashes, versions, counts and the certificate; no row and no example."""
    examples = tmp_path / "examples.jsonl"
    examples.write_text('{"name":"Zebedee Quux","age":5}\n')
    output = tmp_path / "rows.jsonl"
    settings = SETTINGS.model_copy(update={"examples": str(examples), "rows": 20})
    into(output, random_model, settings)
    text = manifest_path(output).read_text()
    manifest = read_manifest(output)

    layout = {
        "threads": random_model.threads,
        "batch": random_model.batch_size(20),
        "flash_attn": "on",
    }
    assert manifest.settings == settings.model_copy(update=layout)
    assert (manifest.counts.rows, manifest.counts.lost) == (20, 0)
    assert manifest.counts.tokens == manifest.counts.drawn + manifest.counts.forced
    assert 0 < manifest.counts.kept < 1
    assert manifest.counts.weighed == 17  # of a sample: the first 16, and then each sixteenth
    assert manifest.guarantee == "construction"
    assert {"path": "$.age", "keyword": "type", "value": "integer", "enforced_by": "grammar"} in (
        manifest.certificate
    )
    assert manifest.versions["llama-cpp-python"]
    assert "Quux" not in text

    into(output, random_model, settings, retention=Retention(examples=True))
    assert "Quux" in manifest_path(output).read_text()
    assert manifest_path(output).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet", "/"])
def test_rows_are_verified_in_every_format(
    random_model: LocalModel, tmp_path: Path, suffix: str
) -> None:
    """What was written is found right, and made again it is the same."""
    output, said = f"{tmp_path}/rows{suffix}", list[str]()
    settings = SETTINGS.model_copy(update={"rows": 30})
    run_job(settings, work_of(settings, random_model), random_model, output)

    replay(Path(output), verify(Path(output), said.append), 5, said.append)

    assert any("30 rows are valid" in line for line in said)
    assert any("are reproduced" in line for line in said)


def test_the_same_run_writes_the_same_parquet(random_model: LocalModel, tmp_path: Path) -> None:
    """Nothing of time or place is in the file."""
    settings = SETTINGS.model_copy(update={"rows": 30})
    for name in ("a.parquet", "b.parquet"):
        into(tmp_path / name, random_model, settings)

    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_changed_byte_is_found(random_model: LocalModel, tmp_path: Path, place: float) -> None:
    """One byte of the data is enough."""
    output = tmp_path / "rows.jsonl"
    into(output, random_model)
    data = bytearray(output.read_bytes())
    data[int(place * len(data))] ^= 1
    output.write_bytes(data)

    with pytest.raises(RunError, match="other bytes"):
        verify(output, lambda _: None)


def test_changed_rows_with_a_changed_hash_are_found_by_replay(
    random_model: LocalModel, tmp_path: Path
) -> None:
    """Who edits the manifest along with the rows is found when they are made again."""
    output = tmp_path / "rows.jsonl"
    into(output, random_model, SETTINGS.model_copy(update={"rows": 20}))
    path = manifest_path(output)
    manifest = json.loads(path.read_text())
    lines = output.read_text().splitlines()
    lines[3] = '{"name":"x","age":42}'
    output.write_text("\n".join(lines) + "\n")
    rows = manifest["layout"]["rows_a_shard"]
    manifest["shards"][0]["sha256"] = shard_hash(lines[:rows])
    manifest["output"]["sha256"] = file_hash(output)
    path.write_text(json.dumps(manifest))

    with pytest.raises(RunError, match="differ when decoded again"):
        replay(output, verify(output, lambda _: None), 1, lambda _: None)


def test_replay_allows_what_columns_write_otherwise(
    random_model: LocalModel, tmp_path: Path
) -> None:
    """A column keeps no zeros at the end of a decimal; the row is the same."""
    output, said = tmp_path / "rows.parquet", list[str]()
    into(
        output, random_model, SETTINGS.model_copy(update={"rows": 20, "source": "a int, b decimal"})
    )

    replay(output, verify(output, lambda _: None), 1, said.append)

    assert said[-1].endswith("are reproduced")


def test_rows_of_parquet_are_compared_too(random_model: LocalModel, tmp_path: Path) -> None:
    """A replay looks at the file's rows, whatever its format, not at the manifest alone."""
    output, other = tmp_path / "rows.parquet", tmp_path / "other.parquet"
    settings = SETTINGS.model_copy(update={"rows": 20})
    into(output, random_model, settings)
    into(other, random_model, settings.model_copy(update={"seed": 9}))
    other.replace(output)
    path = manifest_path(output)
    manifest = json.loads(path.read_text())
    manifest["output"]["sha256"] = file_hash(output)
    path.write_text(json.dumps(manifest))

    with pytest.raises(RunError, match="differ when decoded again"):
        replay(output, verify(output, lambda _: None), 1, lambda _: None)


def test_a_manifest_without_its_shards_is_no_proof(
    random_model: LocalModel, tmp_path: Path
) -> None:
    """Nothing to compare is not the same as nothing that differs."""
    output = tmp_path / "rows.parquet"
    into(output, random_model, SETTINGS.model_copy(update={"rows": 20}))
    manifest = read_manifest(output)

    with pytest.raises(RunError, match="other inputs: layout"):
        replay(output, manifest.model_copy(update={"shards": []}), 5, lambda _: None)


def test_weighted_rows_are_verified(random_model: LocalModel, tmp_path: Path) -> None:
    """The weight beside each row belongs to it."""
    output = tmp_path / "rows.jsonl"
    settings = SETTINGS.model_copy(update={"rows": 10, "sampling": "weighted"})
    into(output, random_model, settings)

    assert all("log_weight" in json.loads(line) for line in output.read_text().splitlines())
    replay(output, verify(output, lambda _: None, source=settings.source), 1, lambda _: None)


def test_no_code_runs_unless_asked(random_model: LocalModel, tmp_path: Path) -> None:
    """A manifest that names Python is read, not obeyed; a class that is named is."""
    code = "from pydantic import BaseModel\nclass X(BaseModel):\n    n: int\n"
    (tmp_path / "x.py").write_text(code)
    source = f"{tmp_path}/x.py:X"
    output = tmp_path / "rows.jsonl"
    into(output, random_model, SETTINGS.model_copy(update={"source": source, "rows": 5}))
    (tmp_path / "x.py").write_text(f"import os; os.mkdir({str(tmp_path / 'ran')!r})\n{code}")

    verify(output, lambda _: None)
    assert not (tmp_path / "ran").exists()
    verify(output, lambda _: None, source=source)
    assert (tmp_path / "ran").exists()


def test_code_of_validators_is_an_input(random_model: LocalModel, tmp_path: Path) -> None:
    """What a validator does decides rows, so its file may not change within a run."""
    code = "from pydantic import BaseModel\nclass Y(BaseModel):\n    n: int\n"
    (tmp_path / "y.py").write_text(code)
    settings = SETTINGS.model_copy(update={"source": f"{tmp_path}/y.py:Y"})
    output, stop = tmp_path / "rows.jsonl", StopRequest()
    into(output, random_model, settings, stop=stop, track=ended_after(100, stop))
    (tmp_path / "y.py").write_text(f"{code}    # changed\n")

    with pytest.raises(RunError, match="code of the schema"):
        into(output, random_model, settings)


def test_a_row_that_is_gone_is_missed(random_model: LocalModel, tmp_path: Path) -> None:
    """A shard that was done has to be whole when the file is written."""
    output, stop = tmp_path / "rows.jsonl", StopRequest()
    into(output, random_model, stop=stop, track=ended_after(100, stop))
    done = json.loads("[" + _done(output) + "]")
    with closing(sqlite3.connect(ledger_folder(output) / "ledger.sqlite3")) as database, database:
        shard = work_of(SETTINGS, random_model).shards[done[0]]
        database.execute("DELETE FROM rows WHERE row = ?", (shard[3],))

    with pytest.raises(RunError, match="damaged: shard"):
        into(output, random_model)
    assert not output.exists()


def _done(output: Path) -> str:
    with closing(sqlite3.connect(ledger_folder(output) / "ledger.sqlite3")) as database:
        return str(database.execute("SELECT shard FROM shards").fetchone()[0])


def test_a_halt_before_the_first_row(random_model: LocalModel, tmp_path: Path) -> None:
    """A signal that comes early ends the run in good order, and leaves nothing."""
    stop = StopRequest()
    stop.request()

    assert into(tmp_path / "rows.jsonl", random_model, stop=stop).manifest is None
    assert list(tmp_path.iterdir()) == []


def test_somebodys_folder_is_not_taken(random_model: LocalModel, tmp_path: Path) -> None:
    """A folder with the name of a run's state is refused before anything is put there."""
    output = tmp_path / "x.jsonl"
    ledger_folder(output).mkdir()
    (ledger_folder(output) / "diary.txt").write_text("mine")

    with pytest.raises(RunError, match="not the state of a run"):
        into(output, random_model)
    assert [path.name for path in ledger_folder(output).iterdir()] == ["diary.txt"]


def test_a_busy_ledger_is_not_called_damaged(tmp_path: Path) -> None:
    """What only has to be waited for is not to be thrown away."""
    with Ledger(tmp_path / "x.run", {}, SHARDS) as ledger:
        path = tmp_path / "x.run" / "ledger.sqlite3"
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(OutputError, match="locked"):
                ledger.add(made(0))


def test_a_link_stays_a_link(run: Run, tmp_path: Path) -> None:
    """-o with a link writes the file that it names."""
    (tmp_path / "there").mkdir()
    (tmp_path / "rows.jsonl").symlink_to("there/real.jsonl")
    assert run("generate", "n int", "-n", "2", "-m", "random", "-o", "rows.jsonl", "-q").code == 0

    assert (tmp_path / "rows.jsonl").is_symlink()
    assert (tmp_path / "there" / "real.jsonl").is_file()


@pytest.mark.parametrize("name", ["./", "a" * 240 + ".jsonl"])
def test_a_name_that_cannot_be_is_said_at_once(run: Run, name: str) -> None:
    """Before any row is made."""
    done = run("generate", "n int", "-n", "2", "-m", "random", "-o", name)

    assert done.code == 1
    assert "has no name, or too long a one" in done.err


def test_rows_that_the_schema_refuses_are_found(random_model: LocalModel, tmp_path: Path) -> None:
    """A file with the right hash and a wrong row is not valid."""
    output = tmp_path / "rows.jsonl"
    into(output, random_model, SETTINGS.model_copy(update={"rows": 3}))
    lines = output.read_text().splitlines()
    output.write_text("\n".join([lines[0], '{"name":"x","age":"y"}', lines[2]]) + "\n")
    path = manifest_path(output)
    manifest = json.loads(path.read_text())
    manifest["output"]["sha256"] = file_hash(output)
    path.write_text(json.dumps(manifest))

    with pytest.raises(RunError, match="row 2 is not valid"):
        verify(output, lambda _: None)


def test_a_calibration_of_another_machine_changes_no_run(tmp_path: Path) -> None:
    """The manifest has the batch as a number, and its attention; others are refused."""
    weights = tmp_path / "model.gguf"
    weights.write_bytes(b"GGUF")
    output = tmp_path / "rows.jsonl"
    here, there = (
        LocalModel(
            RandomModel(), load_plan=LoadPlan(weights, batch=batch), threads=2, flash_attn=flash
        )
        for batch, flash in ((BatchSettings(16), False), (BatchSettings(64), True))
    )
    into(output, here, SETTINGS, retention=Retention(run=True))
    settings = read_manifest(output).settings

    assert (settings.batch, settings.threads, settings.flash_attn) == (32, 2, "off")
    assert there.shards(40, settings.batch) == here.shards(40)
    with pytest.raises(RunError, match="other inputs: batch, flash_attn") as caught:
        into(output, there, SETTINGS)
    assert "--batch 32 --flash-attn off" in caught.value.hint


@pytest.mark.model
def test_changed_weights_are_found(tmp_path: Path, weights: Path, run: Run) -> None:
    """One byte of the weights is enough as well."""
    copy = tmp_path / "model.gguf"
    copy.write_bytes(weights.read_bytes())
    ask = ("generate", "name", "-n", "2", "--max-length", "9", "-o", "rows.jsonl", "-q")
    assert run(*ask, "-m", str(copy), "--weights", "as-shipped").code == 0
    assert run("verify", "rows.jsonl", "--replay", "1").code == 0
    with copy.open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))

    changed = run("verify", "rows.jsonl", "--replay", "1")

    assert changed.code == 1
    assert "is not the weights file" in changed.err


def test_no_manifest_no_verification(tmp_path: Path, run: Run) -> None:
    """Without its manifest, or with a broken one, a file cannot be verified: one line says so."""
    (tmp_path / "rows.jsonl").write_text("{}\n")
    alone = run("verify", "rows.jsonl")
    (tmp_path / "rows.jsonl.manifest.json").write_text('{"format": 1}')
    broken = run("verify", "rows.jsonl")

    assert (alone.code, broken.code) == (1, 1)
    assert "cannot be read" in alone.err
    assert "is not a manifest" in broken.err


@pytest.mark.parametrize("value", [-5, 10**30])
@pytest.mark.parametrize(
    "path",
    [
        ("shards", 0, "made"),
        ("layout", "shards"),
        ("layout", "threads"),
        ("counts", "rows"),
        ("settings", "rows"),
        ("settings", "threads"),
        ("settings", "batch"),
    ],
)
def test_numbers_of_a_strangers_manifest_are_doubted(
    random_model: LocalModel, tmp_path: Path, path: tuple[Any, ...], value: int
) -> None:
    """What cannot be is one line, before anything is counted by it."""
    output = tmp_path / "rows.jsonl"
    into(output, random_model, SETTINGS.model_copy(update={"rows": 5}))
    manifest = json.loads(manifest_path(output).read_text())
    place = manifest
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    manifest_path(output).write_text(json.dumps(manifest))

    with pytest.raises(RunError):
        replay(output, verify(output, lambda _: None), 1, lambda _: None)


def test_a_ledger_holds_no_hash_of_a_guess(random_model: LocalModel, tmp_path: Path) -> None:
    """A hash of examples or of the prompt in it is salted; other examples are still refused."""
    examples = tmp_path / "me.jsonl"
    examples.write_text('{"name":"x","age":12345}\n')
    settings = SETTINGS.model_copy(update={"examples": str(examples)})
    output, stop = tmp_path / "rows.jsonl", StopRequest()
    work = work_of(settings, random_model)
    into(output, random_model, settings, stop=stop, track=ended_after(10, stop))

    with closing(sqlite3.connect(ledger_folder(output) / "ledger.sqlite3")) as database:
        kept = str(database.execute("SELECT * FROM run").fetchall())
    assert work.hashes["grammar"] in kept
    assert work.private == {"examples", "prompt"}
    assert not any(work.hashes[name] in kept for name in work.private)

    examples.write_text('{"name":"x","age":12346}\n')
    with pytest.raises(RunError, match=r"other inputs: .*hash of the examples"):
        into(output, random_model, settings)
    examples.write_text('{"name":"x","age":12345}\n')
    assert into(output, random_model, settings).manifest is not None


def test_a_manifest_tells_nothing_of_examples_by_a_hash(
    random_model: LocalModel, tmp_path: Path
) -> None:
    """No hash can be made of a guess and looked for; a replay still needs the right examples."""
    output, made = tmp_path / "rows.jsonl", dict[str, dict[str, Any]]()
    settings = SETTINGS.model_copy(update={"rows": 20})
    for name in ("12345", "12346"):
        examples = tmp_path / f"{name}.jsonl"
        examples.write_text(f'{{"name":"x","age":{name}}}\n')
        into(output, random_model, settings.model_copy(update={"examples": str(examples)}))
        made[name] = json.loads(manifest_path(output).read_text())

    assert made["12345"]["hashes"] == made["12346"]["hashes"]
    manifest = verify(output, lambda _: None)
    replay(output, manifest, 1, lambda _: None)
    with pytest.raises(RunError, match="differ when decoded again") as caught:
        replay(output, manifest, 1, lambda _: None, inputs=str(tmp_path / "12345.jsonl"))
    assert "examples" in caught.value.hint


def test_a_name_that_is_no_unicode_has_its_manifest(run: Run, tmp_path: Path) -> None:
    """Bytes of a name that are no UTF-8 are shown by their numbers, and the file is verified."""
    name = os.fsdecode(b"x\xff.jsonl")
    done = run(*ROWS[:-1], "-o", name)

    assert (done.code, "Traceback" in done.err) == (0, False)
    assert read_manifest(tmp_path / name).output.name == "x\\xff.jsonl"
    assert run("verify", name).code == 0


def test_more_rows_than_can_be(run: Run) -> None:
    """A number of rows beyond all use is a wrong option; a large one is cut without memory."""
    for rows in (10**12, 10**30):
        done = run("generate", "n int", "-n", str(rows), "-m", "random")
        assert (done.code, len(done.err.splitlines())) == (2, 2)
    assert len(make_shards(range(10**9), ParallelPlan(2, 32, 1))) > 10**6


def test_what_streams_keeps_no_run(run: Run, tmp_path: Path) -> None:
    """Rows on stdout leave nothing behind, and options of runs are refused there."""
    assert run("generate", "n int", "-n", "2", "-m", "random", "-o", "-", "-q").code == 0
    assert run("generate", "n int", "-m", "random", "--fresh").code == 2
    assert list(tmp_path.iterdir()) == []


def test_safe_csv_is_verified(random_model: LocalModel, tmp_path: Path) -> None:
    """The apostrophes of --csv-safe are not the rows'."""
    (tmp_path / "a.json").write_text('{"properties":{"a":{"enum":["=1","x"]}},"required":["a"]}')
    settings = SETTINGS.model_copy(update={"source": str(tmp_path / "a.json"), "rows": 20})
    into(tmp_path / "rows.csv", random_model, settings, csv_safe=True)

    assert "'=1" in (tmp_path / "rows.csv").read_text()
    verify(tmp_path / "rows.csv", lambda _: None)


def test_verify_accuses_nobody_where_the_hash_agrees(
    random_model: LocalModel, tmp_path: Path
) -> None:
    """A row that the check turns down in a file with the manifest's hash is nobody's doing."""
    output = tmp_path / "rows.jsonl"
    into(output, random_model, SETTINGS)
    manifest = json.loads(manifest_path(output).read_text())
    manifest["json_schema"] = {"not": {}}
    manifest_path(output).write_text(json.dumps(manifest))

    with pytest.raises(RunError, match="row 1 is not valid") as caught:
        verify(output, lambda _: None)
    assert "who changed" not in str(caught.value.hint)


def test_the_default_model_is_named(random_model: LocalModel, tmp_path: Path) -> None:
    """Where no model was asked for, manifest and card name the one that was taken."""
    settings = SETTINGS.model_copy(update={"model": "", "rows": 3})
    run_job(settings, work_of(settings, random_model), random_model, f"{tmp_path}/rows/")

    assert read_manifest(tmp_path / "rows").settings.model == "random"
    card = (tmp_path / "rows" / "README.md").read_text()
    assert re.search(r"settings.model\W+random\W", card)


def test_weights_held_in_memory_are_replayed_so(tmp_path: Path, random_model: LocalModel) -> None:
    """The file as shipped may be opened in another format; only as shipped is it asked for so."""
    output = tmp_path / "rows.jsonl"
    into(output, random_model, retention=Retention())
    manifest = read_manifest(output)
    for opened, weights in (
        ("int8", "fast"),
        ("as-shipped", "as-shipped"),
        (None, "as-shipped"),
    ):
        facts = manifest.model.model_copy(
            update={"sha256": "a", "opened_sha256": "a", "opened_as": opened}
        )
        known = manifest.model_copy(update={"model": facts})
        assert _with_locations(known, "", "", "").weights == weights
