"""Patterns as expressions of the whole string: `re.search` says what they should match."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

from synthgen_local.schema.grammar.lark import has_text, write_grammar
from synthgen_local.schema.ir import String
from synthgen_local.schema.regex.translation import Pattern, read_pattern, searched

TOKENIZER = LLTokenizer("byte")
MEMBERS = st.sampled_from([
    "a", "b-z", "[", "&", "&&", "~~", "^", r"\^", r"\-", r"\]", r"\/", "/", "A-Z",
    r"\d", r"\w", r"\s", r"\u00e9", r"\x41-\x5a", "+--", "0-9", "_", ".",
])  # fmt: skip
TEXTS = st.text("aabbAé01_-[]&^/. ~", max_size=6)
MATCHED = [  # patterns that are written exactly, texts that have a match, and texts that have none
    ("", ["", "a"], []),
    ("^$", [""], ["a"]),
    ("b", ["b", "abc"], ["a", ""]),
    ("^a", ["a", "ab"], ["ba"]),
    ("a$", ["a", "ba"], ["ab"]),
    ("^a|b$", ["ac", "cb"], ["bca", "c"]),
    ("^(a|b)$", ["a", "b"], ["ab", "c"]),
    ("(^a|b)c", ["acx", "xbc"], ["xac"]),
    ("(^|-)a(-|$)", ["a", "b-a", "a-b", "b-a-b"], ["ba", "ab"]),
    ("^((a|^b)|c$)", ["ax", "bx", "c"], ["xc", "cx", "xa"]),
    ("^(?!x)", ["", "a", "ax"], ["x", "xa"]),
    ("^(?!x$)", ["", "xa"], ["x"]),
    ("^(?!a|b).+$", ["c", "ca"], ["a", "bc", ""]),
    (r"^(?=.*[A-Z])(?=.*\d).{4,}$", ["aB1c", "1Bcd"], ["abcd", "aBcd", "ab12", "B1"]),
    ("a(?<!ba)$", ["a", "ca"], ["ba", "ab"]),
    ("(?<=ab)$", ["ab", "cab"], ["b", "aba"]),
    ("^(?:a(?:b|c))?$", ["", "ab", "ac"], ["a", "abc"]),
    ("^(?P<year>[0-9]{4})$", ["2024"], ["024"]),
    (r"^a\/b$", ["a/b"], ["ab"]),
    ("^https?://a/$", ["http://a/", "https://a/"], ["http:a"]),
    (r"^[^/\]]$", ["a", "["], ["/", "]"]),
    ("^[[a]$", ["[", "a"], ["]"]),
    ("^[a&&b]$", ["a", "b", "&"], ["c"]),
    ("^[a~~b]$", ["a", "b", "~"], ["c"]),
    ("^[a^]$", ["a", "^"], ["b"]),
    ("^[-a]$", ["-", "a"], ["b"]),
    ("^[a-]$", ["-", "a"], ["b"]),
    ("^[--/]$", ["-", ".", "/"], [",", "0"]),
    ("^[+--]$", ["+", ",", "-"], ["*", "."]),
    (r"^[a\-c]$", ["a", "-", "c"], ["b"]),
    (r"^[\w.\-]+$", ["a_1.-", "é"], ["a b"]),
    (r"^[\u00e0-\u00e9\x41]$", ["é", "A"], ["ê", "a"]),
    (r"^[^\s\S]$", [], ["a", ""]),
    (r"^\D\W\S$", ["a-b"], ["1-b", "aab", "a- "]),
    (r"^\.\*\+\?\(\)\|\{\}\#\&\~\@\:\'$", [".*+?()|{}#&~@:'"], ["a"]),
    ("^a{2}b{1,}c{0,1}d*?$", ["aab", "aabbcd"], ["ab", "aac"]),
    ("^a{b}{c,d}$", ["a{b}{c,d}"], ["a"]),
    (r"\Aa\Z", ["a"], ["aa"]),
    ("(?i)^ab[c-d]$", ["ABC", "aBc"], ["abe"]),
    ("^a(?i:b)$", ["ab", "aB"], ["AB"]),
    ("é😀$", ["é😀"], ["é"]),
]  # fmt: skip
WIDER = [  # patterns that cannot be written, and texts that have a match
    (r"\bab\b", ["ab", "-ab-"]),
    (r"^(a|b)\1$", ["aa", "bb"]),
    (r"^(a|b)\1*c\1{2}$", ["acaa", "bbbcbb"]),
    ("a(?=b)b", ["ab"]),
    ("^(?=ab)?b", ["b"]),
    ("^(?!ab)?a", ["ab", "a"]),
    ("^(?=a|^b)(?!.(?=c)).", ["ab", "bb"]),
    ("^(?=a)a|^(?=b)b", ["a", "b"]),
    ("(?:^a)?b", ["ab", "cb"]),
    ("(?:a|b$)*c", ["aac", "c"]),
    ("(?i:^a)b", ["Ab"]),
    ("(?<=a)b", ["ab"]),
    ("^(?<!a)b", ["b"]),
]
ONLY_ECMA = [  # Python does not know these
    (r"^(?<n>a|b)\k<n>$", ["aa", "bb"], False),
    (r"^(?<n>a)$", ["a"], True),
    (r"^\p{Lu}\u{e9}\cJ?$", ["Aé"], True),
    ("^[^]$", ["a"], True),
]
INVALID = [
    "(", "a)", "(?", "(?#a)", "(?P=a)", "[", "[a", "[^", "\\", "[\\", "*", "a**", "a*{2}",
    "a{2}{3}", "{2}", "|+", "(*a)", "^*", r"\b+", "a{2,1}", "[b-a]", r"[\w-.]", r"[+-\d]", r"\x4",
    r"\u00e", r"\c", r"[\p]",
]  # fmt: skip


class GaveUpError(Exception):
    """llguidance takes too long to see whether a pattern excludes itself."""


def matcher(pattern: Pattern) -> LLMatcher:
    """What reads a JSON string of this pattern."""
    lark = write_grammar(String(0, 24, must_match=pattern.within, must_not_match=pattern.never))
    found = LLMatcher(TOKENIZER, LLMatcher.grammar_from_lark(lark), log_level=0)
    if "fuel exhausted" in found.get_error():
        raise GaveUpError
    assert not found.is_error(), found.get_error()
    return found


def takes(start: LLMatcher, text: str) -> bool:
    """Whether a text is all of such a string."""
    reading = start.deep_copy()
    tokens = list(f'"{text}"'.encode())
    return bool(reading.try_consume_tokens(tokens) == len(tokens) and reading.is_accepting())


@st.composite
def classes(draw: st.DrawFn) -> str:
    """A class in square brackets; characters that mean something there stand anywhere."""
    members = draw(st.lists(MEMBERS, min_size=1, max_size=4))
    hyphen = draw(st.sampled_from(["", "", "-"]))
    inverse = draw(st.sampled_from(["", "^"]))
    return f"[{inverse}{hyphen}{''.join(members).removeprefix('^') or 'a'}]"


ATOMS = st.one_of(
    st.sampled_from(["a", "b", "A", "é", "ab", ".", "/", "-", "&", "~", "_", " "]),
    st.sampled_from([r"\/", r"\-", r"\u00e9", r"\d", r"\w", r"\s", r"\D", r"\W", r"\S", r"\x41"]),
    st.sampled_from([r"\.", r"\[", r"\^", "]", "}", "{"]),
    classes(),
)
QUANTIFIERS = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{1,2}", "{1,}", "*?", "+?", "??"])
EDGES = st.sampled_from(["", "", "^", "$", "^", "$", r"\b"])
LOOKS = ["(?=", "(?!"]
BEHIND = st.sampled_from(["", "", "(?<=a)", "(?<!b)", "(?<!ab)", "(?<=^a)", r"(?<![\d-])"])


@st.composite
def repeated(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    """Something and how often it comes."""
    return f"(?:{draw(inner)}){draw(QUANTIFIERS)}"


@st.composite
def sequences(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    """Things that follow each other, perhaps between edges and look-around."""
    first, last = draw(EDGES), draw(EDGES)
    ahead = [
        f"{draw(st.sampled_from(LOOKS))}{draw(inner)})"
        for _ in range(draw(st.sampled_from([0, 0, 1, 2])))
    ]
    middle = draw(st.lists(inner, min_size=0, max_size=3))
    return "".join([first, *ahead, *middle, draw(BEHIND), last])


def groups(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Brackets of each kind around alternatives."""
    options = st.lists(sequences(inner), min_size=1, max_size=3).map("|".join)
    opening = st.sampled_from(["(", "(?:", "(?:"])
    return st.one_of(
        repeated(inner),
        sequences(inner),
        st.tuples(opening, options, QUANTIFIERS).map(lambda t: f"{t[0]}{t[1]}){t[2]}"),
    )


PATTERNS = st.recursive(ATOMS, groups, max_leaves=6).flatmap(
    lambda body: st.sampled_from(
        [
            body,
            f"^{body}$",
            f"^(?:{body})$",
            f"^{body}",
            f"{body}|^b",
            f"^(?!{body})",
            f"^(?=.*{body})",
            f"(?i){body}",
        ]
    )
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(PATTERNS, st.lists(TEXTS, min_size=4, max_size=12))
@pytest.mark.filterwarnings("ignore:Possible")
def test_a_pattern_matches_where_it_is_found(pattern: str, texts: list[str]) -> None:
    """An exact pattern matches a whole string if and only if it is found in it; others too many."""
    try:
        search = re.compile(pattern).search
    except re.error:
        return  # such as a look-behind of several lengths
    read = read_pattern(pattern, "python")
    try:
        start = matcher(read)
    except GaveUpError:
        return

    for text in texts:
        taken, found = takes(start, text), search(text) is not None
        assert taken == found if read.exact else taken >= found, text


@pytest.mark.parametrize(("pattern", "found", "missed"), MATCHED)
@pytest.mark.filterwarnings("ignore:Possible")
def test_patterns_that_are_written_exactly(
    pattern: str, found: list[str], missed: list[str]
) -> None:
    """Anchors and look-around at the edges, classes and escapes lose nothing."""
    read = read_pattern(pattern, "python")
    start = matcher(read)

    assert read.exact
    assert [text for text in found if not takes(start, text)] == []
    assert [text for text in missed if takes(start, text)] == []
    assert all(re.search(pattern, text) for text in found)
    assert not any(re.search(pattern, text) for text in missed)


@pytest.mark.parametrize(("pattern", "found"), WIDER)
def test_patterns_that_are_written_wider(pattern: str, found: list[str]) -> None:
    """What stands where it cannot be written is dropped, and the result says so."""
    read = read_pattern(pattern, "python")
    start = matcher(read)

    assert not read.exact
    assert all(re.search(pattern, text) for text in found)
    assert [text for text in found if not takes(start, text)] == []


@pytest.mark.parametrize(("pattern", "found", "exact"), ONLY_ECMA)
def test_syntax_that_python_lacks(pattern: str, found: list[str], exact: bool) -> None:
    """Names of groups, properties and code points are read as ECMA-262 has them."""
    read = read_pattern(pattern)
    start = matcher(read)

    assert read.exact == exact
    assert [text for text in found if not takes(start, text)] == []


@pytest.mark.parametrize("pattern", INVALID)
def test_what_is_no_pattern_raises(pattern: str) -> None:
    """What is no regular expression raises ValueError, and nothing else."""
    with pytest.raises(ValueError, match=r"\w"):
        read_pattern(pattern)


@given(st.text("ab(|)[]^$*+?{1,2}\\-.!=<:u", max_size=10))
def test_reading_raises_nothing_but_value_error(pattern: str) -> None:
    """A pattern of any characters is read or raises ValueError."""
    try:
        read_pattern(pattern)
    except ValueError:
        return


@pytest.mark.parametrize(
    "pattern", ["^$", "^(?!$)", "[]", "^(?![])", "/", "^(?!/)", '"', "\\\\", "a\nb", "[\n/]"]
)
def test_every_pattern_can_be_written(pattern: str) -> None:
    """Nothing in a pattern ends the terminal that it becomes, though it may have no text."""
    matcher(read_pattern(pattern))


def test_several_patterns_are_to_be_found_at_once() -> None:
    """Patterns are joined by what each asks and forbids; one that is wider makes all wider."""
    both = searched(["^a", "^(?!ab)", "c$"])
    start = matcher(both)

    assert both.exact
    assert takes(start, "acc")
    assert not any(takes(start, text) for text in ("abc", "ac-", "bc"))
    assert not searched(["^a", r"\bb"]).exact
    assert searched([]) == Pattern(())


def test_patterns_without_a_common_string() -> None:
    """Patterns that exclude each other leave a grammar without a text."""
    excluded = searched(["^a+$", "b"])

    assert not has_text(
        write_grammar(String(0, 24, must_match=excluded.within, must_not_match=excluded.never))
    )
