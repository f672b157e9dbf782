"""Formats: what they allow, other checkers take, and what people write, they allow."""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

import pytest
from jsonschema import Draft202012Validator
from llguidance import LLMatcher, LLTokenizer
from pydantic import (
    AnyUrl,
    EmailStr,
    IPvAnyAddress,
    IPvAnyInterface,
    IPvAnyNetwork,
    NameEmail,
    TypeAdapter,
    UrlConstraints,
)
from pydantic_extra_types.mac_address import MacAddress
from random_rows import decode

from synthgen_local.schema import RowSchema, compile_schema
from synthgen_local.schema.grammar.lark import write_grammar
from synthgen_local.schema.ir import RegexString
from synthgen_local.schema.regex.formats import FORMATS, Format, url_format

TOKENIZER = LLTokenizer("byte")


def of_type(kind: Any) -> Callable[[str], Any]:
    """What pydantic makes of a string."""
    return TypeAdapter(kind).validate_python


def hostname(text: str) -> None:
    """RFC 1123: labels of up to 63 characters, 253 in all, and not a hyphen at an end."""
    assert len(text) <= 253
    assert all(re.fullmatch(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)", part) for part in text.split("."))
    text.encode("idna")


def reference(text: str) -> None:
    """RFC 3986: only its characters, a percent sign only before two digits."""
    assert re.fullmatch(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*", text)
    urlsplit(text)


def template(text: str) -> None:
    """RFC 6570: a reference when its expressions are filled in."""
    reference(re.sub(r"\{\w+\}", "x", text))


def duration(text: str) -> None:
    """ISO 8601 as RFC 3339 has it: in order, with something after P and after T, weeks alone."""
    assert re.fullmatch(
        r"P(?:\d+W|(?=\d|T)(?:\d+Y)?(?:\d+M)?(?:\d+D)?(?:T(?=\d)(?:\d+H)?(?:\d+M)?(?:\d+S)?)?)",
        text,
    )
    assert isinstance(TypeAdapter(timedelta).validate_python(text), timedelta)


def path(text: str) -> None:
    """A path without empty parts and without a way up."""
    assert not {"", ".", ".."} & set(text.removeprefix("/").split("/"))


def pointer(text: str) -> None:
    """RFC 6901: a tilde only before 0 and 1."""
    assert re.fullmatch(r"(?:/(?:[^~/]|~[01])*)*", text)


def relative_pointer(text: str) -> None:
    """Some levels up, and from there a pointer or the name."""
    levels = re.match(r"0|[1-9][0-9]*", text)
    assert levels is not None
    pointer("" if text[levels.end() :] == "#" else text[levels.end() :])


CHECKS: dict[str, Callable[[str], Any]] = {
    "email": of_type(EmailStr),
    "idn-email": of_type(EmailStr),
    "name-email": of_type(NameEmail),
    "hostname": hostname,
    "idn-hostname": hostname,
    "ipv4": ipaddress.IPv4Address,
    "ip-address": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
    "ipv4interface": ipaddress.IPv4Interface,
    "ipv6interface": ipaddress.IPv6Interface,
    "ipv4network": ipaddress.IPv4Network,
    "ipv6network": ipaddress.IPv6Network,
    "ipvanyaddress": of_type(IPvAnyAddress),
    "ipvanyinterface": of_type(IPvAnyInterface),
    "ipvanynetwork": of_type(IPvAnyNetwork),
    "uri": of_type(AnyUrl),
    "iri": of_type(AnyUrl),
    "uri-reference": reference,
    "iri-reference": reference,
    "uri-template": template,
    "duration": duration,
    "json-pointer": pointer,
    "relative-json-pointer": relative_pointer,
    "regex": re.compile,
    "base64": lambda text: base64.b64decode(text, validate=True),
    "base64url": base64.urlsafe_b64decode,
    "path": path,
    "color": lambda text: int(text.removeprefix("#"), 16),
    "mac-address": of_type(MacAddress),
}  # fmt: skip

REAL: dict[str, tuple[list[str], list[str]]] = {  # what is of a format, and what is not
    "email": (
        ["john.smith@example.com", "a@b.co", "first.last+tag@sub.domain.org", "o'brien@mail.com",
         "x_y-z%1@a-b.com", "info@firma.travel", "jane@company.co.uk", "123@abc.de"],
        ["", "a", "a@b", "@b.com", "a@", "a@@b.com", "a b@c.com", "a@b.c", "a..b@c.com", ".a@b.com",
         "a@b.local", "a@b.TEST", "a@-b.com", "a@b-.com", "<a@b.com>"],
    ),
    "hostname": (
        ["example.com", "www.example.co.uk", "a-b.example.org", "localhost", "server01", "my-host"],
        ["", "-a.com", "a-.com", "a_b.com", "a..b", "a.", "a b.com"],
    ),
    "ipv4": (
        ["192.168.0.1", "0.0.0.0", "255.255.255.255", "8.8.8.8"],
        ["256.1.1.1", "1.2.3", "01.2.3.4", "1.2.3.4.5", "a.b.c.d", "1.2.3.4/8"],
    ),
    "ipv6": (
        ["2001:db8::1", "::1", "::", "1::", "fe80::1", "2001:db8:0:0:1:0:0:1",
         "2001:0db8:85a3:0000:0000:8a2e:0370:7334", "1:2:3:4:5:6::8"],
        ["", "2001:db8", "1::2::3", "12345::", "g::1", ":::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9",
         "1:2:3:4:5:6:7::8", "fe80::1%eth0"],
    ),
    "uri": (
        ["https://example.com/a?b=c#d", "http://localhost:8080/", "ftp://files.example.org/x.txt",
         "urn:isbn:0451450523", "mailto:a@b.com", "https://example.com", "tel:+1-816-555-1212",
         "https://en.wikipedia.org/wiki/Foo_(bar)", "http://192.168.0.1/x?y", "https://a.de/%20"],
        ["", "example.com", "/a/b", "http://", "http:// a", "a b", "https://exa mple.com",
         "https://example.com/%zz", "://a", "https://example.com:99999"],
    ),
    "uri-reference": (
        ["", "https://example.com/a", "/a/b", "../a", "a/b.html?x=1#y", "#top", "?q=1",
         "image.png"],
        ["a b", "%zz", "http://a b", "a<b>"],
    ),
    "uri-template": (
        ["https://example.com/a", "https://example.com/users/{id}", "/a/{b}/{c_1}"],
        ["a b", "/{", "/{}", "/{a b}"],
    ),
    "duration": (
        ["P3DT12H", "PT1H30M", "P1Y2M3D", "P4W", "PT0S", "P1Y", "PT36H", "P1DT1S"],
        ["", "P", "PT", "3D", "P1S", "P1H", "P1W2D", "PT1D", "P1DT", "P1D2Y", "PT1S1M"],
    ),
    "json-pointer": (["", "/a/b", "/a~1b/0", "/~0"], ["a", "#/a", "/a~2", "/a~"]),
    "relative-json-pointer": (["0", "1/a", "0#", "2/a/b", "10/a"], ["", "/a", "-1/a", "01/a", "#"]),
    "regex": (["^abc$", "a+", "ab{2}", "a?$"], ["(", "[a", "*", "a**", ""]),
    "ipv4interface": (["192.168.0.1/24", "10.0.0.1/8", "10.0.0.1/32"], ["10.0.0.1/33", "1.2.3.4/"]),
    "ipv6interface": (["2001:db8::1/64", "::1/128", "::1/0"], ["::1/129", "::1/", "::1"]),
    "ipv4network": (["192.168.0.0/24", "10.0.0.0/8", "10.0.0.1/32"], ["10.0.0.1/24", "10.1.0.0/8"]),
    "ipv6network": (["2001:db8::/64", "::1/128"], ["2001:db8::1/64", "::1/129"]),
    "base64": (
        ["", "aGVsbG8h", "aGVsbG8=", "aGVsbA==", "+/+/"],
        ["a", "ab=", "aGVsbG8", "a===", "a b=", "aGVsbA==aGVs"],
    ),
    "base64url": (["", "aGVsbG8h", "-_-_"], ["+/+/", "aGV"]),
    "path": (
        ["data/file.txt", "a", "dir/sub/x-1.csv", "/etc/hosts"],
        ["", " ", "a//b", "../a", "a/", "/"],
    ),
    "mac-address": (
        ["00:1b:44:11:3a:b7", "ff:ff:ff:ff:ff:ff"],
        ["00:1b:44:11:3a", "00:1b:44:11:3a:g7", "001b44113ab7"],
    ),
    "color": (["#ff0000", "#1a2b3c"], ["ff0000", "#ff00", "#gggggg"]),
}  # fmt: skip

URLS: dict[str, tuple[list[str], list[str], list[str]]] = {
    "the web's": ([], ["https://a.de/b?c#d", "http://localhost:80"], ["ftp://a.de", "a.de"]),
    "one": (["ftp"], ["ftp://a.de/b"], ["https://a.de", "ftpx://a.de"]),
    "one with a plus": (["git+ssh"], ["git+ssh://a.de/b"], ["gitssh://a.de", "gittssh://a.de"]),
    "files": (["file"], ["file:///a/b"], ["https://a.de"]),
    "files and others": (["file", "https"], ["file:///a/b", "https://a.de"], ["http://a.de"]),
}


def language(form: Format) -> Callable[[str], bool]:
    """Whether a string is of a format."""
    node = RegexString((form.regex,), form.longest, form.never, fixed=False)
    grammar = LLMatcher.grammar_from_lark(write_grammar(node))
    start = LLMatcher(TOKENIZER, grammar, log_level=0)
    assert not start.is_error(), start.get_error()

    def contains(text: str) -> bool:
        reading = start.deep_copy()
        tokens = list(json.dumps(text, ensure_ascii=False).encode())
        return bool(reading.try_consume_tokens(tokens) == len(tokens) and reading.is_accepting())

    return contains


@pytest.mark.parametrize("name", FORMATS)
def test_random_strings_pass_every_checker(name: str) -> None:
    """Strings from random logits are what jsonschema, pydantic and the standard library take."""
    form = FORMATS[name]
    grammar = compile_schema(RowSchema.of({"type": "string", "format": name, "minLength": 1}))
    checker = Draft202012Validator.FORMAT_CHECKER

    for row in decode(grammar, salt=len(name), rows=12):
        text = json.loads(row)
        checker.check(text, name)
        CHECKS[name](text)
        assert text.isascii()
        assert text.isprintable()
        assert 1 <= len(text) <= form.longest


@pytest.mark.parametrize("name", REAL)
def test_real_values_are_of_the_format(name: str) -> None:
    """What people write is of the format, and what is like it but wrong is not."""
    real, wrong = REAL[name]
    contains = language(FORMATS[name])

    assert [text for text in real if not contains(text)] == []
    assert [text for text in wrong if contains(text)] == []
    assert all(len(text) <= FORMATS[name].longest for text in real)
    for text in real:
        CHECKS[name](text)


@pytest.mark.parametrize("name", ["email", "idn-email", "name-email"])
def test_reserved_domains_are_no_email(name: str) -> None:
    """Domains that no mail is sent to are left out in any case: pydantic refuses them."""
    contains = language(FORMATS[name])
    endings = ["local", "Localhost", "TEST", "invalid", "example", "onion", "arpa"]

    assert not any(contains(f"a@b.{ending}") for ending in endings)
    assert all(contains(f"a@{ending}.com") for ending in endings)


@pytest.mark.parametrize("kind", URLS)
def test_urls_of_some_schemes(kind: str) -> None:
    """A URL has one of its schemes, spelt exactly, and pydantic takes it."""
    schemes, real, wrong = URLS[kind]
    form = url_format(schemes)
    contains = language(form)
    read = of_type(Annotated[AnyUrl, UrlConstraints(allowed_schemes=schemes or ["http", "https"])])

    assert [text for text in real if not contains(text)] == []
    assert [text for text in wrong if contains(text)] == []
    assert [str(read(text)).rstrip("/") for text in real] == [
        text.replace(":80", "") for text in real
    ]


def test_every_format_is_checked_here() -> None:
    """No format is added without something to check it by."""
    assert CHECKS.keys() == FORMATS.keys()


@pytest.mark.parametrize("kind", ["date-time", "time"])
@pytest.mark.parametrize("length", [{"minLength": 23}, {"maxLength": 20}, {"minLength": 26}])
def test_moments_keep_to_a_length(kind: str, length: dict[str, int]) -> None:
    """A fraction and a zone may stand in a moment or not; its length is as is asked for."""
    if kind == "time":
        length = {keyword: value - 11 for keyword, value in length.items()}
    grammar = compile_schema(RowSchema.of({"type": "string", "format": kind, **length}))

    for salt in range(4):
        for text in decode(grammar, salt, rows=8):
            written = len(json.loads(text))
            assert length.get("minLength", 0) <= written <= length.get("maxLength", 99)
