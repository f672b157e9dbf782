"""Bundling of JSON Schema files: files of the same folder that a `$ref` names become `$defs`.

Fetches nothing, and opens no file outside the folder, whatever its name or link.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from ...errors import SchemaError
from .dialects import schemas_in

_MOST_FILES = 200

Read = Callable[[Path], dict[str, Any]]


def bundled(document: dict[str, Any], path: Path, read: Read) -> dict[str, Any]:
    """Return a document with the files that it refers to in its `$defs`.

    Other references are not changed. Raises SchemaError for a file outside of the
    folder of `path`, and for one that `read` refuses.

    Example: `bundled({"$ref": "address.json"}, Path("person.json"), read_document)`
    """
    if not any(_is_outer(schema.get("$ref")) for schema in schemas_in(document)):
        return document
    return _Bundle(path, read).of(document)


def _is_outer(reference: Any) -> bool:
    return isinstance(reference, str) and not reference.startswith("#")


class _Bundle:
    """Files of one folder, each under a name of its own."""

    def __init__(self, path: Path, read: Read) -> None:
        self._path = path.resolve()
        self._folder = self._path.parent
        self._read = read
        self._names: dict[Path, str] = {}
        self._waiting: deque[Path] = deque()
        self._base = ""

    def of(self, root: dict[str, Any]) -> dict[str, Any]:
        """The document with all files that it needs."""
        base = root.get("$id", root.get("id", ""))
        self._base = base if isinstance(base, str) else ""
        taken = set(root.get("$defs", {}))
        self._own = {name for schema in schemas_in(root) for name in _ids(schema, self._base)}
        joined = self._redirect(root, self._path, "")
        definitions = dict(joined.get("$defs", {}))
        while self._waiting:
            file = self._waiting.popleft()
            document = self._read(file)
            name = self._names[file]
            if name in taken:
                raise SchemaError(
                    f"$: the key '{name}' of '$defs' is also the name of a file.",
                    hint="Rename one of them.",
                )
            inner = {k: v for k, v in document.items() if k not in ("$schema", "$id", "id")}
            definitions[name] = self._redirect(inner, file, f"#/$defs/{_escaped(name)}")
        return {**joined, "$defs": definitions} if definitions else joined

    def _redirect(self, value: Any, file: Path, place: str) -> Any:
        """Return a schema of a file with references to the new places of their targets."""
        if isinstance(value, list):
            return [self._redirect(item, file, place) for item in value]
        if not isinstance(value, dict):
            return value
        led = {key: self._redirect(item, file, place) for key, item in value.items()}
        if isinstance(reference := value.get("$ref"), str):
            led["$ref"] = self._target(reference, file, place)
        return led

    def _target(self, reference: str, file: Path, place: str) -> str:
        where, _, fragment = reference.partition("#")
        pointed = not fragment or fragment.startswith("/")
        if not where:
            return f"{place or '#'}{fragment}" if pointed else reference
        named = where in self._own or urljoin(self._base, where) in self._own
        found = None if named else self._file(where, file)
        if found is None:
            return reference
        if found == self._path:
            return f"#{fragment}"
        if found not in self._names:
            if len(self._names) >= _MOST_FILES:
                raise SchemaError(
                    f"The schema refers to more than {_MOST_FILES} files.", hint="Simplify it."
                )
            self._names[found] = found.relative_to(self._folder).as_posix()
            self._waiting.append(found)
        return f"#/$defs/{_escaped(self._names[found])}{fragment}" if pointed else f"#{fragment}"

    def _file(self, where: str, file: Path) -> Path | None:
        """The file that a reference names, None if it names none."""
        folder = self._base.rpartition("/")[0]
        if urlsplit(where).scheme:  # a file beside this one by its published address
            if not folder or not where.startswith(f"{folder}/"):
                return None
            where, file = where.removeprefix(f"{folder}/"), self._path
        try:
            found = (file.parent / unquote(where)).resolve()
            is_file = found.is_file()
        except (OSError, ValueError, RuntimeError):
            return None
        if where.startswith("/") or not found.is_relative_to(self._folder):
            raise SchemaError(
                f"$: keyword '$ref': the target '{where}' is outside the folder.",
                hint="Move the file into the folder of the schema.",
            )
        return found if is_file else None


def _ids(schema: dict[str, Any], base: str) -> list[str]:
    names = [schema.get("$id"), schema.get("id")]
    return [urljoin(base, name).rstrip("#") for name in names if isinstance(name, str)]


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1").replace("%", "%25")
