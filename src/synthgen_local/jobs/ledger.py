"""The ledger of a run: its finished rows on disk, from which a killed run resumes.

`FILE.run/` holds an sqlite database in WAL mode. Rows are added in transactions, and a shard
is done when all of its rows are added. Each row has a hash, so that damage by a torn write is
detected and refused. Knows lines of text and numbers, not models or schemas.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import shutil
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..data.provenance import ShardFacts, shard_hash
from ..engine.requests import Row
from ..errors import OutputError, RunError
from ..rejection import Rejection

_TABLES = """
CREATE TABLE run (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE rows (
    row INTEGER PRIMARY KEY, line TEXT, rejections TEXT, tokens INTEGER NOT NULL,
    drawn INTEGER NOT NULL, log_weight REAL, hash BLOB NOT NULL
) STRICT;
CREATE TABLE shards (shard INTEGER PRIMARY KEY, hash TEXT NOT NULL) STRICT;
"""
_FILE, _LOCK = "ledger.sqlite3", "lock"
NOTE = "output.sha256"
"""The file that holds the hash of the output from before the output is moved into place."""
_FILES = (_FILE, f"{_FILE}-wal", f"{_FILE}-shm", NOTE, _LOCK)
_LAYOUT = 4
_DAMAGE = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


@dataclass(frozen=True)
class Counts:
    """Sums over a run; `log_weight` is over the `weighed_draws` of the `weighed` rows."""

    made: int
    lost: int
    tokens: int
    drawn: int
    weighed: int
    weighed_draws: int
    log_weight: float


def ledger_folder(output: Path) -> Path:
    """Return the folder that holds the state of a run that writes to `output`.

    Example: `ledger_folder(Path("people.jsonl")) == Path("people.jsonl.run")`
    """
    return output.with_name(f"{output.name}.run")


class Ledger:
    """The state of one run; close it after use.

    `inputs` is everything that determines the rows. RunError is raised for a ledger that was
    created with other inputs (it names those that differ), one that another process writes to,
    and one that is damaged. Inputs that `private` names are kept as salted scrypt hashes
    (RFC 7914): a short example could be found from a plain hash by trying all values.

    Example: `with Ledger(ledger_folder(output), {"seed": 0}, shards) as ledger: ledger.missing()`
    """

    def __init__(
        self,
        folder: Path,
        inputs: Mapping[str, Any],
        shards: Sequence[range],
        *,
        private: Collection[str] = (),
    ) -> None:
        self._folder = folder
        self._shards = shards
        self._open = True
        with _translate_errors(folder):
            _check_ownership(folder)
            folder.mkdir(mode=0o700, exist_ok=True)
            with ExitStack() as opened:
                self._lock = opened.enter_context(_hold_lock(folder))
                self._database = opened.enter_context(closing(_open_database(folder / _FILE)))
                self._create_or_resume(inputs, private)
                opened.pop_all()

    def missing(self) -> list[int]:
        """Return the numbers of the shards that are not done."""
        with _translate_errors(self._folder):
            done = {number for (number,) in self._database.execute("SELECT shard FROM shards")}
        return [number for number in range(len(self._shards)) if number not in done]

    def add(self, rows: Iterable[Row[str]], seconds: float = 0.0) -> None:
        """Add rows and the seconds that they took, in one transaction."""
        with _translate_errors(self._folder), self._database:
            self._put("seconds", self.seconds + seconds)
            self._database.executemany(
                "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)",
                (_record(made) for made in rows),
            )

    def finish_shard(self, number: int) -> int:
        """Mark a shard as done and return the number of its rows that were made.

        Raises RunError if a row of it is missing.
        """
        shard = self._shards[number]
        with _translate_errors(self._folder), self._database:
            lines = [line for _, line in self._read(shard.start, shard.stop)]
            if len(lines) != len(shard):
                raise self._damaged(f"{len(lines)} of {len(shard)} rows of shard {number}")
            self._database.execute(
                "INSERT OR REPLACE INTO shards VALUES (?, ?)", (number, shard_hash(lines))
            )
        return len(lines) - lines.count(None)

    @property
    def seconds(self) -> float:
        """The seconds that the run took, over all its processes."""
        with _translate_errors(self._folder):
            return float(self._get("seconds") or 0)

    def lines(self) -> Iterator[str]:
        """Yield the rows in row order, without those that were not made.

        Raises RunError if a shard changed after it was done.
        """
        with _translate_errors(self._folder):
            for number, (_, known) in enumerate(zip(self._shards, self._hashes(), strict=True)):
                lines = self._check_shard(number, known)
                yield from (line for line in lines if line is not None)

    def shards(self) -> list[ShardFacts]:
        """Return the number of rows made of each shard, and the hash of their lines."""
        with _translate_errors(self._folder):
            return [
                ShardFacts(made=self._made(shard), sha256=known)
                for shard, known in zip(self._shards, self._hashes(), strict=True)
            ]

    @property
    def kept(self) -> int:
        """The number of rows made in the shards that are done; they are not generated again."""
        missing = set(self.missing())
        return sum(self._made(s) for n, s in enumerate(self._shards) if n not in missing)

    def counts(self) -> Counts:
        """Return sums over the rows."""
        with _translate_errors(self._folder):
            return Counts(*self._database.execute(
                "SELECT count(line), count(*) - count(line), coalesce(sum(tokens), 0), "
                "coalesce(sum(drawn), 0), count(log_weight), "
                "coalesce(sum(drawn) FILTER (WHERE log_weight IS NOT NULL), 0), "
                "coalesce(sum(log_weight), 0.0) FROM rows"
            ).fetchone())  # fmt: skip

    def rejected(self) -> Iterator[tuple[bool, list[Rejection]]]:
        """Yield for each row with rejected attempts whether it was made, and the rejections."""
        with _translate_errors(self._folder):
            for made, reasons in self._database.execute(
                "SELECT line IS NOT NULL, rejections FROM rows "
                "WHERE rejections IS NOT NULL ORDER BY row"
            ):
                yield bool(made), [Rejection(*reason) for reason in json.loads(reasons)]

    @property
    def empty(self) -> bool:
        """True if no row was ever added."""
        if not self._open:
            return False
        with _translate_errors(self._folder):
            return self._database.execute("SELECT 1 FROM rows LIMIT 1").fetchone() is None

    def remove(self) -> None:
        """Delete the state, which is no longer needed."""
        self._open = False
        self._database.close()
        _delete(self._folder)
        self._lock.close()

    def close(self) -> None:
        """Close the files and leave the state on disk."""
        self._open = False
        self._database.close()
        self._lock.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _hashes(self) -> list[str]:
        found = self._database.execute("SELECT hash FROM shards ORDER BY shard")
        return [text for (text,) in found]

    def _made(self, shard: range) -> int:
        found = self._database.execute(
            "SELECT count(line) FROM rows WHERE row >= ? AND row < ?", (shard.start, shard.stop)
        )
        return int(found.fetchone()[0])

    def _create_or_resume(self, inputs: Mapping[str, Any], private: Collection[str]) -> None:
        begun = self._get("inputs")
        salt = os.urandom(16).hex() if begun is None else self._get("salt") or ""
        kept = {**inputs, **{name: _salted(inputs[name], salt) for name in private}}
        text = json.dumps(kept, sort_keys=True)
        if begun is None:
            self._check_is_empty()
            with self._database:
                self._put("salt", salt)
                self._put("inputs", text)
                self._put("hash of inputs", shard_hash([salt, text]))
            return
        if shard_hash([salt, begun]) != self._get("hash of inputs"):
            raise self._damaged("its inputs")
        before = json.loads(begun)
        now = json.loads(text)
        changed = [name for name in sorted(before | now) if before.get(name) != now.get(name)]
        if changed:
            layout = " ".join(
                f"--{name.replace('_', '-')} {before.get(name)}"
                for name in ("threads", "batch", "flash_attn")
                if name in changed
            )
            raise RunError(
                f"{self._folder} holds a run with other inputs: {', '.join(changed)}.",
                hint=f"Repeat its command{layout and f' ({layout})'} to resume, "
                "or start again with --fresh.",
            )
        state = self._database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if state != "ok":
            raise self._damaged(" ".join(state.split()))
        self._check()

    def _check_is_empty(self) -> None:
        """Raise RunError unless all tables are empty, as those of a new ledger are."""
        for table in ("run", "rows", "shards"):
            if self._database.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
                raise self._damaged(f"it has no inputs, and its table '{table}' is not empty")

    def _check(self) -> None:
        """Raise RunError if a row or a finished shard differs from what was added."""
        total = self._shards[-1].stop if self._shards else 0
        outside = self._database.execute(
            "SELECT row FROM rows WHERE row < 0 OR row >= ? LIMIT 1", (total,)
        ).fetchone()
        if outside is not None:
            raise self._damaged(f"row {outside[0]} is not of this run")
        if not math.isfinite(self.seconds):
            raise self._damaged("its time")
        done = self._database.execute("SELECT shard, hash FROM shards ORDER BY shard").fetchall()
        for number, known in done:
            if not 0 <= number < len(self._shards):
                raise self._damaged(f"shard {number} is not of this run")
            self._check_shard(number, known)
        for _ in self._read(0, total):
            pass  # each row is compared with its hash

    def _check_shard(self, number: int, known: str) -> list[str | None]:
        """Return the lines of a finished shard after comparing them with its hash."""
        shard = self._shards[number]
        lines = [line for _, line in self._read(shard.start, shard.stop)]
        if len(lines) != len(shard) or shard_hash(lines) != known:
            raise self._damaged(f"shard {number}")
        return lines

    def _read(self, start: int, stop: int) -> Iterator[tuple[int, str | None]]:
        """Yield rows with their lines after comparing each with its hash."""
        for record in self._database.execute(
            "SELECT * FROM rows WHERE row >= ? AND row < ? ORDER BY row", (start, stop)
        ):
            if _hash(record[:-1]) != record[-1]:
                raise self._damaged(f"row {record[0]}")
            yield record[0], record[1]

    def _get(self, name: str) -> str | None:
        found = self._database.execute("SELECT value FROM run WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def _put(self, name: str, value: Any) -> None:
        self._database.execute("INSERT OR REPLACE INTO run VALUES (?, ?)", (name, str(value)))

    def _damaged(self, what: str) -> RunError:
        return RunError(f"{self._folder} is damaged: {what}.", hint="Start again with --fresh.")


def discard(folder: Path) -> None:
    """Delete the state of a run, if there is any.

    Raises RunError if another process writes to it.

    Example: `discard(ledger_folder(output))`
    """
    if folder.is_dir():
        with _translate_errors(folder):
            _check_ownership(folder)
            with _hold_lock(folder):
                _delete(folder)


def _check_ownership(folder: Path) -> None:
    """Raise RunError if the folder was not created by a run; it is not written to or deleted."""
    strange = folder.is_dir() and any(folder.iterdir()) and not (folder / _LOCK).exists()
    if strange or (folder.exists() and not folder.is_dir()):
        raise RunError(f"{folder} is not the state of a run.", hint="Choose another -o.")


def _delete(folder: Path) -> None:
    """Delete the files of a ledger, the lock last, and the folder if it is empty then."""
    for scratch in folder.glob(".*.partial"):
        shutil.rmtree(scratch, ignore_errors=True) if scratch.is_dir() else scratch.unlink()
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _salted(value: Any, salt: str) -> str:
    """Return a hash for which each guess costs 16 MiB and about 50 ms."""
    said = json.dumps(value, sort_keys=True).encode()
    return hashlib.scrypt(said, salt=salt.encode(), n=2**14, r=8, p=1).hex()


def _record(row: Row[str]) -> tuple[Any, ...]:
    reasons = [(reason.validator, reason.message) for reason in row.rejections]
    rejections = json.dumps(reasons) if reasons else None
    numbers = row.tokens, row.sampled_tokens, row.log_weight
    values = (row.number, row.value, rejections, *numbers)
    return (*values, _hash(values))


def _hash(values: Sequence[Any]) -> bytes:
    return hashlib.blake2b(repr(tuple(values)).encode(), digest_size=8).digest()


def _open_database(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    layout = database.execute("PRAGMA user_version").fetchone()[0]
    if layout == 0 and not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        database.executescript(f"BEGIN;{_TABLES}PRAGMA user_version = {_LAYOUT};COMMIT;")
    elif layout != _LAYOUT:
        database.close()
        raise RunError(
            f"{path} was written by another version of synthgen-local, or is damaged.",
            hint="Resume with that version, or start again with --fresh.",
        )
    return database


def _hold_lock(folder: Path) -> IO[str]:
    """Return the file whose lock ends with this process."""
    file = os.fdopen(os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR, 0o600), "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise RunError(
            f"Another process writes to {folder}.", hint="Wait for it, or choose another -o."
        ) from None
    return file


@contextmanager
def _translate_errors(folder: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the disk into one-line errors."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _DAMAGE:
            raise RunError(
                f"{folder} is damaged: {error}.", hint="Start again with --fresh."
            ) from error
        raise OutputError(
            f"{folder} cannot be written: {error}.",
            hint="Free disk space, or wait, and repeat the command: it resumes.",
        ) from error
    except ValueError as error:
        raise RunError(
            f"{folder} is damaged: {error}.", hint="Start again with --fresh."
        ) from error
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror}.", hint="Choose another -o."
        ) from error
