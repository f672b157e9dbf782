"""The position in a JSON text that is being written: open containers, keys, strings.

Reads bytes one by one, as they are sampled, so a text may stop anywhere, also within a character.
Knows JSON (RFC 8259), and expects the grammar to keep it well formed; knows no tokens.
"""

from __future__ import annotations

import json
from copy import copy
from dataclasses import dataclass, field, replace


@dataclass
class Container:
    """An array or object that is not closed yet.

    `key` is that of the current member of an object, `index` that of the current item of an array.
    `strings` are the complete strings directly in it, as they are escaped; keys are among them.
    """

    is_array: bool
    index: int = -1
    key: str | None = None
    strings: list[str] = field(default_factory=list)


class JsonCursor:
    """A cursor at the end of a JSON text; `containers` are open, the innermost is the last.

    `string` holds the bytes of the string that the cursor is in, None outside of strings.
    `at_value` is true where a value may begin and nothing of it is written.

    Example:
        >>> cursor = JsonCursor()
        >>> cursor.read(b'{"a":[1,')
        >>> cursor.path(), cursor.at_value
        (['a', 1], True)
    """

    def __init__(self) -> None:
        self.containers: list[Container] = []
        self.string: bytes | None = None
        self.at_value = True
        self._escaped = False
        self._expects_key = False

    def copy(self) -> JsonCursor:
        """Return a cursor that reads on independently."""
        other = copy(self)
        other.containers = [replace(one, strings=list(one.strings)) for one in self.containers]
        return other

    def path(self) -> list[str | int]:
        """Return the keys and indices of the open containers, from the root."""
        steps = [one.index if one.is_array else one.key for one in self.containers]
        return [step for step in steps if step is not None]

    @property
    def escaped(self) -> bool:
        """True if the next byte of the string belongs to an escape sequence."""
        return self._escaped

    @property
    def in_array(self) -> bool:
        """True if the innermost container is an array."""
        return bool(self.containers) and self.containers[-1].is_array

    def read(self, text: bytes) -> None:
        """Advance over bytes that were written."""
        for byte in text:
            if self.string is None:
                self._read_outside(chr(byte))
            else:
                self._read_in_string(bytes([byte]))

    def _read_outside(self, character: str) -> None:
        self.at_value = False
        match character:
            case '"':
                self.string = b""
            case "{":
                self.containers.append(Container(is_array=False))
                self._expects_key = True
            case "[":
                self.containers.append(Container(is_array=True))
                self._next_item()
            case "," if self.in_array:
                self._next_item()
            case ",":
                self._expects_key = True
            case ":":
                self.at_value = True
            case "]" | "}":
                self.containers.pop()
                self._expects_key = False

    def _next_item(self) -> None:
        self.containers[-1].index += 1
        self.at_value = True

    def _read_in_string(self, byte: bytes) -> None:
        assert self.string is not None
        if byte != b'"' or self._escaped:
            self._escaped = byte == b"\\" and not self._escaped
            self.string += byte
            return
        if self.containers:
            container = self.containers[-1]
            container.strings.append(self.string.decode())
            if self._expects_key:
                container.key = json.loads(b'"' + self.string + b'"')
                self._expects_key = False
        self.string = None
