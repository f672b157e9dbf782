"""The check of phrases: it finds openings and phrases, and refuses only more than the baseline."""

from __future__ import annotations

import pytest
from prose import LIST, exceed_baseline, find, lower_baseline, read_phrases

PHRASES = read_phrases(LIST.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("path", "text", "line"),
    [
        ("a.py", '"""Whether a row is valid."""', 1),
        ("a.py", 'def f():\n    """What a row costs."""', 2),
        ("a.md", "All good.\nRows that a check refuses are drawn anew.", 2),
        ("a.c", "// It hangs on the batch.", 1),
    ],
)
def test_a_phrase_of_the_list_is_found_with_its_line(path: str, text: str, line: int) -> None:
    """A docstring's opening and a phrase are found, each at its line."""
    assert [finding.line for finding in find(path, text, PHRASES)] == [line]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.py", '"""Return whether a row is valid."""'),
        ("a.py", 'NAME = "What is it?"'),
        ("a.md", "How to install\n\nWhat you can do"),
        ("a.md", "Besides, rejected rows are resampled."),
    ],
)
def test_plain_english_passes(path: str, text: str) -> None:
    """Openings are checked in docstrings only, and phrases as whole words."""
    assert not list(find(path, text, PHRASES))


def test_only_more_than_the_baseline_is_refused() -> None:
    """What stood before passes, one more does not, and the baseline never rises."""
    old = list(find("a.md", "beside", PHRASES))
    new = list(find("a.md", "beside beside", PHRASES))
    allowed = {old[0].key: 1}

    assert not exceed_baseline(old, allowed)
    assert exceed_baseline(new, allowed) == new
    assert exceed_baseline(old, {}) == old
    assert lower_baseline(new, allowed) == allowed
    assert lower_baseline([], allowed) == {}
