r"""Text files as lines, JSON and CSV, each item with the place where it stands.

A line ends at "\n" or "\r\n" and nowhere else: other line separators of Unicode are characters of
a value. What files hold may be somebody's patients: no error quotes it; keys and columns are named
only if the schema declares them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import PromptError

STDIN = "-"

Item: TypeAlias = tuple[str, Any]
"""Where something stands, and what stands there."""
Cell: TypeAlias = str | None
"""The text of a cell; None for one that is empty and has no quotes."""

_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_SAMPLE = 100  # records that tell which separator a file has
_SPACE = re.compile(r"[ \t\r\n]*")
_QUOTED = re.compile(r'"([^"]*+(?:""[^"]*+)*+)"')
_LINE_END = re.compile(r"\r?\n|\r?\Z")
_DECLARED_SEPARATOR = re.compile(r"sep=([^\r\n])\r?\n")


def read_text(source: str, hint: str = "Check the path.") -> str:
    r"""Return the text of a UTF-8 file, or of stdin for `-`.

    A text whose lines end at "\r" alone gets "\n" for it. Raises PromptError.

    Example: `read_text("people.csv")`
    """
    try:
        data = sys.stdin.buffer.read() if source == STDIN else Path(source).read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise PromptError(f"{source} cannot be read: {error.strerror}.", hint=hint) from error
    except UnicodeDecodeError:
        raise PromptError(f"{source} is not UTF-8.", hint="Save it as UTF-8.") from None
    return text if "\n" in text else text.replace("\r", "\n")


def text_lines(text: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield the lines that are not blank, each with its place.

    Example: `list(text_lines("a", "a.txt")) == [("a.txt, line 1", "a")]`
    """
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{name}, line {number}", line.removesuffix("\r")


def json_lines(text: str, name: str, declared: Collection[str] = ()) -> Iterator[Item]:
    """Yield the JSON value of each line that is not blank. Raises PromptError as `json_value` does.

    Example: `list(json_lines("[1]", "a.jsonl")) == [("a.jsonl, line 1", [1])]`
    """
    for where, line in text_lines(text, name):
        yield where, json_value(line, where, declared)


def json_items(text: str, name: str, declared: Collection[str] = ()) -> Iterator[Item]:
    """Yield the items of a JSON list one by one; what is no list is one item.

    Example: `list(json_items("[1]", "a.json")) == [("a.json, item 1", 1)]`
    """
    if not holds_list(text):
        yield name, json_value(text, name, declared)
        return
    decoder = _decoder(declared)
    at, number = _after_space(text, text.index("[") + 1), 0
    while number or not text.startswith("]", at):
        number += 1
        where = f"{name}, item {number}"
        with _explained(name, where):
            value, at = decoder.raw_decode(text, at)
            _check_storable(value)
        yield where, value
        at = _after_space(text, at)
        if text.startswith("]", at):
            break
        with _explained(name, where):
            if not text.startswith(",", at):
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
        at = _after_space(text, at + 1)
    with _explained(name, name):
        _check_end(text, at + 1)


def holds_list(text: str) -> bool:
    """Return whether JSON text begins as a list does.

    Example: `holds_list(" [1]")`
    """
    return text.startswith("[", _after_space(text, 0))


def json_value(text: str, where: str, declared: Collection[str] = ()) -> Any:
    """Return the value of JSON text; `where` is the file or the line that it stands in.

    Raises PromptError for what is no JSON or what no JSON file can hold (NaN, half of a surrogate
    pair), and for a key that stands twice in an object, by its name if it is `declared`.

    Example: `json_value("[1]", "a.json") == [1]`
    """
    with _explained(where, where):
        value, end = _decoder(declared).raw_decode(text, _after_space(text, 0))
        _check_end(text, end)
        _check_storable(value)
    return value


def _check_end(text: str, at: int) -> None:
    end = _after_space(text, at)
    if end < len(text):
        raise json.JSONDecodeError("Extra data", text, end)


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None, "the pattern matches nothing, too"
    return match.end()


class _NotStorableError(ValueError):
    """JSON that Python reads, and that is none, or says a thing twice."""


def _decoder(declared: Collection[str]) -> json.JSONDecoder:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) < len(items):
            keys = [key for key, _ in items]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise _NotStorableError(
                f"the key '{twice}' stands twice" if twice in declared else "a key stands twice"
            )
        return found

    def constant(name: str) -> None:
        raise _NotStorableError(f"{name} is not a value")

    return json.JSONDecoder(object_pairs_hook=pairs, parse_constant=constant)


def _check_storable(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise _NotStorableError("half of a surrogate pair") from None
    except ValueError:
        raise _NotStorableError("a number is too large") from None


@contextmanager
def _explained(name: str, where: str) -> Iterator[None]:
    """Turn what json says into a PromptError with the line of a file, or of what `where` names."""
    try:
        yield
    except json.JSONDecodeError as error:
        line = name if ", line " in name else f"{name}, line {error.lineno}"
        raise PromptError(f"{line} is not JSON: {error.msg}.", hint="Correct it.") from None
    except _NotStorableError as error:
        raise PromptError(f"{where} is not JSON: {error}.", hint="Correct it.") from None
    except (ValueError, RecursionError) as error:
        reason = type(error).__name__
        raise PromptError(f"{where} is not JSON: {reason}.", hint="Correct it.") from None


# CSV


def csv_rows(
    text: str, name: str, declared: Collection[str] = ()
) -> tuple[list[str], Iterator[tuple[str, list[Cell]]]]:
    """Return the names of the columns, and the cells of each record with its place.

    Cells are separated by commas, or by what a first line such as `sep=;` says. Raises PromptError
    for two columns of one name, for a record that has not as many cells as there are columns, and
    for a file with another separator, which the error names.

    Example: `csv_rows(text, "people.csv")[0]`
    """
    return _Csv(text, name, declared).read()


def csv_records(text: str, name: str, declared: Collection[str] = ()) -> Iterator[Item]:
    """Yield each record of CSV as a dict; an empty column without a name is left out.

    Example: `next(csv_records(text, "people.csv"))[1]["age"]`
    """
    columns, rows = csv_rows(text, name, declared)
    for where, cells in rows:
        pairs = [(column, cell) for column, cell in zip(columns, cells, strict=True)]
        if sum(not column and bool(cell) for column, cell in pairs) > 1:
            raise PromptError(
                f"{where} has cells in columns without a name.", hint="Name the columns."
            )
        unnamed = {column: cell for column, cell in pairs if not column and cell}
        yield where, {column: cell for column, cell in pairs if column} | unnamed


class _Csv:
    """One text as CSV."""

    def __init__(self, text: str, name: str, declared: Collection[str]) -> None:
        said = _DECLARED_SEPARATOR.match(text)
        self._text = text[said.end() :] if said else text
        self._before = 1 if said else 0
        self._name = name
        self._declared = declared
        self._separator = said[1] if said else ","

    def read(self) -> tuple[list[str], Iterator[tuple[str, list[Cell]]]]:
        records = self._records(self._separator)
        _, first = next(records, (1, []))
        columns = [cell or "" for cell in first]
        if len(columns) == 1 and columns[0] not in self._declared:
            self._refuse_another_separator()
        self._refuse_twins(columns)
        return columns, self._rows(columns, records)

    def _rows(
        self, columns: Sequence[str], records: Iterable[tuple[int, list[Cell]]]
    ) -> Iterator[tuple[str, list[Cell]]]:
        for line, cells in records:
            where = f"{self._name}, line {line + self._before}"
            if len(cells) != len(columns):
                self._refuse_another_separator()
                raise PromptError(f"{where} has not {len(columns)} cells.", hint="Correct it.")
            yield where, cells

    def _records(self, separator: str) -> Iterator[tuple[int, list[Cell]]]:
        """Each record with the number of its first line; empty lines are passed over."""
        text, at, line = self._text, 0, 1
        part = rf"[^\r\n{re.escape(separator)}]*+"
        plain = re.compile(rf"{part}(?:\r(?!\n|\Z){part})*+")
        while at < len(text):
            begin, cells, more = at, list[Cell](), True
            while more:
                cell, at = self._cell(plain, at, line)
                cells.append(cell)
                more = text.startswith(separator, at)
                at += more
            end = _LINE_END.match(text, at)
            if end is None:
                raise self._broken(line, "text follows a closing quote")
            at = end.end()
            if cells != [None]:
                yield line, cells
            line += text.count("\n", begin, at)

    def _cell(self, plain: re.Pattern[str], at: int, line: int) -> tuple[Cell, int]:
        """The cell that begins at a place, and where it ends."""
        quoted = self._text.startswith('"', at)
        match = (_QUOTED if quoted else plain).match(self._text, at)
        if match is None:
            raise self._broken(line, "a quote is not closed")
        cell = match[1].replace('""', '"') if quoted else match[0] or None
        return cell, match.end()

    def _broken(self, line: int, reason: str) -> PromptError:
        where = f"{self._name}, line {line + self._before}"
        return PromptError(f"{where} is not CSV: {reason}.", hint="Correct it.")

    def _refuse_twins(self, columns: Sequence[str]) -> None:
        for column in filter(None, columns):
            numbers = [n for n, other in enumerate(columns, 1) if other == column]
            if len(numbers) > 1:
                which = f"named '{column}'" if column in self._declared else "of one name"
                raise PromptError(
                    f"{self._name} has two columns {which}: {numbers[0]} and {numbers[1]}.",
                    hint="Rename or remove one of them.",
                )

    def _refuse_another_separator(self) -> None:
        found = next(filter(self._fits, _SEPARATORS), None) if self._separator == "," else None
        if found is not None:
            shown = "" if found == "\t" else f" ({found})"
            raise PromptError(
                f"{self._name} is separated by {_SEPARATORS[found]}{shown}, not by commas.",
                hint="Save it with commas, or write `sep=` and the separator as its first line.",
            )

    def _fits(self, separator: str) -> bool:
        """Whether the first records have equally many cells, two or more, by a separator."""
        try:
            found = {len(cells) for _, cells in islice(self._records(separator), _SAMPLE)}
        except PromptError:
            return False
        return len(found) == 1 and found != {1}
