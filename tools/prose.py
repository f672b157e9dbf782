"""Refuse phrases that are not plain technical English, in source, documents and help texts.

The list is `tools/prose.txt`. `tools/prose_baseline.json` has the number of findings of each phrase
that are tolerated; more than that fail, and `--shrink` lowers the numbers to the current ones.

    python tools/prose.py [--shrink]
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_suffix(".txt")
BASELINE = Path(__file__).with_name("prose_baseline.json")
_CHECKED = (
    "src/**/*.py", "src/**/*.[ch]", "tools/*.py", "benchmarks/*.py", "benchmarks/*.md",
    "examples/*.py", "docs/**/*.md", "models/*.md", "*.md",
)  # fmt: skip


@dataclass(frozen=True)
class Phrase:
    """A refused expression and its replacement; `opening` restricts it to docstring openings."""

    expression: re.Pattern[str]
    advice: str
    opening: bool


@dataclass(frozen=True)
class Finding:
    """A refused phrase at a line of a file."""

    path: str
    line: int
    text: str
    phrase: Phrase

    @property
    def key(self) -> str:
        """The name under which the baseline counts the finding."""
        return self.phrase.expression.pattern


def read_phrases(text: str) -> list[Phrase]:
    """Parse the list of phrases.

    Example: `read_phrases("hangs? on -> depends on")[0].advice == "depends on"`
    """
    phrases = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            source, _, advice = line.partition(" -> ")
            opening = source.startswith("^")
            expression = source.removeprefix("^") if opening else rf"\b{source}\b"
            phrases.append(Phrase(re.compile(expression, re.IGNORECASE), advice, opening))
    return phrases


def find(path: str, text: str, phrases: Iterable[Phrase]) -> Iterator[Finding]:
    """Yield each refused phrase of a file.

    Phrases are matched line by line; a docstring's opening is matched in Python files only.
    """
    openings = list(_docstring_openings(text)) if path.endswith(".py") else []
    for phrase in phrases:
        if phrase.opening:
            yield from (
                Finding(path, line, opening, phrase)
                for line, opening in openings
                if phrase.expression.match(opening)
            )
        else:
            for number, line in enumerate(text.splitlines(), 1):
                for match in phrase.expression.finditer(line):
                    yield Finding(path, number, match[0], phrase)


def _docstring_openings(text: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield node.body[0].lineno, docstring.splitlines()[0]


def exceed_baseline(findings: Iterable[Finding], allowed: Mapping[str, int]) -> list[Finding]:
    """Return all findings of each key that is found more often than the baseline allows."""
    findings = list(findings)
    counts = Counter(finding.key for finding in findings)
    return [finding for finding in findings if counts[finding.key] > allowed.get(finding.key, 0)]


def lower_baseline(findings: Iterable[Finding], allowed: Mapping[str, int]) -> dict[str, int]:
    """Return the baseline lowered to the counts found; it never rises."""
    counts = Counter(finding.key for finding in findings)
    lowered = {key: min(allowed[key], counts[key]) for key in sorted(allowed)}
    return {key: count for key, count in lowered.items() if count}


def main() -> int:
    """Print new findings as file:line and return 1 if there are any."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--shrink", action="store_true", help="lower the baseline to today's counts"
    )
    options = parser.parse_args()
    phrases = read_phrases(LIST.read_text(encoding="utf-8"))
    allowed = json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.exists() else {}
    paths = sorted({path for pattern in _CHECKED for path in ROOT.glob(pattern)} - {Path(__file__)})
    findings = [
        finding
        for path in paths
        for finding in find(
            path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"), phrases
        )
    ]
    refused = exceed_baseline(findings, allowed)
    for finding in refused:
        advice = finding.phrase.advice
        print(f'{finding.path}:{finding.line}: "{finding.text}": write {advice}')
    if options.shrink:
        text = json.dumps(lower_baseline(findings, allowed), indent=1)
        BASELINE.write_text(text + "\n", encoding="utf-8")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
