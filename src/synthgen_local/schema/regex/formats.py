r"""The formats of JSON Schema as regular expressions.

Each is a part of what its specification allows that every checker takes: no comments in
e-mail addresses, no zone in an IPv6 address. Knows regex syntax only; dates and times are in
`moments.py`, as they have bounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_LABEL = r"[A-Za-z0-9]{1,16}(?:-[A-Za-z0-9]{1,14}){0,2}"
_HOST = rf"(?:{_LABEL}\.){{1,4}}[A-Za-z]{{2,12}}"
_HOSTNAME = rf"(?:{_LABEL}|{_HOST})"
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rf"{_BYTE}(?:\.{_BYTE}){{3}}"
_HEX = "[0-9a-fA-F]{1,4}"
_IPV6 = "(?:" + "|".join([
    f"(?:{_HEX}:){{7}}{_HEX}",
    *(f"(?:{_HEX}:){{{n}}}(?::{_HEX}){{1,{7 - n}}}" for n in range(1, 7)),
    f":(?::{_HEX}){{1,7}}", f"(?:{_HEX}:){{1,7}}:", "::",
]) + ")"  # fmt: skip
_URI_CHARACTER = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@\-]|%[0-9A-Fa-f]{2})"
_PATH = rf"(?:/{_URI_CHARACTER}{{0,40}}){{0,6}}"
_QUERY = rf"(?:\?(?:{_URI_CHARACTER}|[/?]){{0,60}})?"
_FRAGMENT = rf"(?:#(?:{_URI_CHARACTER}|[/?]){{0,40}})?"
_PORT = r"(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}))?"
_PLACE = rf"(?:{_HOST}|localhost|{_IPV4}){_PORT}{_PATH}{_QUERY}{_FRAGMENT}"
_URI = rf"(?:[a-z][a-z0-9+.\-]{{1,11}}://{_PLACE}|(?:urn:[a-z0-9]{{2,12}}|mailto|tel|data|about):{_URI_CHARACTER}{{1,60}})"
_REFERENCE = (
    rf"(?:{_URI}|{_PATH}{_QUERY}{_FRAGMENT}|[A-Za-z0-9._~\-]{{1,40}}{_PATH}{_QUERY}{_FRAGMENT})"
)
_TEMPLATE = rf"(?:{_URI}|{_PATH})(?:/\{{[A-Za-z_][A-Za-z0-9_]{{0,19}}\}}){{0,3}}"
_ATOM = r"[A-Za-z0-9_+%'\-]{1,20}"
_EMAIL = rf"{_ATOM}(?:\.{_ATOM}){{0,2}}@{_HOST}"
_SPECIAL = r"(?i:.*\.(?:arpa|example|invalid|local|localhost|onion|test))"
RESERVED = r"(?i:.*\.(?:arpa|invalid|local|localhost|onion|test))"
"""Domains that email-validator refuses; RFC 2606 keeps `.example` for examples."""
_NUMBER = "(?:0|[1-9][0-9]{0,3})"
_CLOCK = rf"T(?:{_NUMBER}H(?:{_NUMBER}M)?(?:{_NUMBER}S)?|{_NUMBER}M(?:{_NUMBER}S)?|{_NUMBER}S)"
_DAYS = rf"(?:{_NUMBER}Y(?:{_NUMBER}M)?(?:{_NUMBER}D)?|{_NUMBER}M(?:{_NUMBER}D)?|{_NUMBER}D)"
_DURATION = rf"P(?:{_DAYS}(?:{_CLOCK})?|{_CLOCK}|{_NUMBER}W)"
_NETWORK4 = rf"(?:{_BYTE}\.0\.0\.0/8|{_BYTE}\.{_BYTE}\.0\.0/16|(?:{_BYTE}\.){{3}}0/24|{_IPV4}/32)"
_NETWORK6 = rf"(?:{_HEX}(?::{_HEX}){{0,3}}::/64|{_IPV6}/128)"
_FOUR, _LAST = "(?:[A-Za-z0-9+/]{4})", "(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)"
_POINTER = r"(?:/(?:[A-Za-z0-9_.\-]|~[01]){1,30}){0,5}"


@dataclass(frozen=True)
class Format:
    """Strings that match `regex` and not `never`, of at most `longest` characters."""

    regex: str
    longest: int
    never: Sequence[str] = ()


FORMATS: Mapping[str, Format] = {
    "email": Format(_EMAIL, 120, (_SPECIAL,)),
    "idn-email": Format(_EMAIL, 120, (_SPECIAL,)),
    "hostname": Format(_HOSTNAME, 120),
    "idn-hostname": Format(_HOSTNAME, 120),
    "ipv4": Format(_IPV4, 15),
    "ip-address": Format(_IPV4, 15),
    "ipv6": Format(_IPV6, 39),
    "uri": Format(_URI, 200),
    "iri": Format(_URI, 200),
    "uri-reference": Format(_REFERENCE, 200),
    "iri-reference": Format(_REFERENCE, 200),
    "uri-template": Format(_TEMPLATE, 200),
    "duration": Format(_DURATION, 40),
    "json-pointer": Format(_POINTER, 100),
    "relative-json-pointer": Format(rf"(?:0|[1-9][0-9]?)(?:#|{_POINTER})", 100),
    "regex": Format(r"\^?[A-Za-z0-9_]{1,30}(?:[+*?]|\{[1-9]\})?\$?", 40),
    "ipv4interface": Format(rf"{_IPV4}/(?:3[0-2]|[12]?[0-9])", 18),
    "ipv6interface": Format(rf"{_IPV6}/(?:12[0-8]|1[01][0-9]|[1-9]?[0-9])", 43),
    "ipv4network": Format(_NETWORK4, 18),
    "ipv6network": Format(_NETWORK6, 43),
    "ipvanyaddress": Format(rf"(?:{_IPV4}|{_IPV6})", 39),
    "ipvanyinterface": Format(rf"(?:{_IPV4}|{_IPV6})", 43),
    "ipvanynetwork": Format(rf"(?:{_NETWORK4}|{_NETWORK6})", 43),
    "name-email": Format(_EMAIL, 120, (_SPECIAL,)),
    "base64": Format(f"{_FOUR}{{0,15}}(?:{_FOUR}|{_LAST})?", 64),
    "base64url": Format("(?:[A-Za-z0-9_-]{4}){0,16}", 64),
    "path": Format(
        r"/?[A-Za-z0-9_][A-Za-z0-9_.\-]{0,31}(?:/[A-Za-z0-9_][A-Za-z0-9_.\-]{0,31}){0,4}", 165
    ),
    "mac-address": Format("[0-9a-f]{2}(?::[0-9a-f]{2}){5}", 17),
    "color": Format(r"#[0-9a-f]{6}", 7),
}
"""Formats by name; a name that is not here allows any string."""


def url_format(schemes: Sequence[str]) -> Format:
    """Return the format of URLs of these schemes, of the web's if there are none.

    Example: `url_format(["https"]).regex.startswith("(?:https)://")`
    """
    placed = [
        scheme.replace("+", r"\+") for scheme in schemes or ("https", "http") if scheme != "file"
    ]
    options = [rf"(?:{'|'.join(placed)})://{_PLACE}"] if placed else []
    options += [rf"file://{_PATH}"] if "file" in schemes else []
    return Format(f"(?:{'|'.join(options)})", 200) if len(options) > 1 else Format(options[0], 200)
