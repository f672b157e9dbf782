"""Base64 (RFC 4648) as patterns: of a number of bytes, or of text.

Knows the alphabet, not schemas.
"""

from __future__ import annotations

import re
import string

_USUAL = 48  # bytes, where no most is given
_LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits
_LAST_TWO = {"base64": "+/", "base64url": "-_"}


def of_bytes(kind: str, least: int, most: int | None) -> str:
    """Return the pattern of encodings of `least` to `most` bytes; `kind` is the format's name.

    Example: `re.search(of_bytes("base64", 2, 2), "aGk=")`
    """
    any_of = _among(kind, 0)
    most = max(least, _USUAL) if most is None else most
    tails = ("", f"{any_of}{{2}}==", f"{any_of}{{3}}=")
    options = [
        f"(?:{any_of}{{4}}){{{max(0, -(-(least - rest) // 3))},{(most - rest) // 3}}}{tail}"
        for rest, tail in enumerate(tails)
        if most >= rest and max(0, -(-(least - rest) // 3)) <= (most - rest) // 3
    ]
    return f"^(?:{'|'.join(options)})$"


def of_text(kind: str) -> str:
    """Return the pattern of encodings of ASCII: the eighth bit of each byte is 0.

    Example: `re.search(of_text("base64"), "aGk=")`
    """
    first, second, third, fourth = (_among(kind, bit) for bit in (32, 8, 2, 0))
    tail = f"(?:{first}{second}==|{first}{second}{third}=)?"
    return f"^(?:{first}{second}{third}{fourth}){{0,15}}{tail}$"


def _among(kind: str, bit: int) -> str:
    """The characters whose value lacks a bit."""
    alphabet = _LETTERS + _LAST_TWO[kind]
    kept = (character for value, character in enumerate(alphabet) if not value & bit)
    return f"[{''.join(map(re.escape, kept))}]"
