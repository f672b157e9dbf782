"""One table of many rounds: rates, ratios within a round, shares of the ceiling, memory.

Knows figures, not how they came about.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assignment import Figures, Missing

US = "synthgen-local"
US_JSON = "synthgen-local-json"
_HEAD = (
    "| model | work | contender | valid rows | rows/s | ours / theirs | ours in JSON / theirs "
    "| share of the ceiling | peak memory |\n|---|---|---|--:|--:|--:|--:|--:|--:|"
)


@dataclass(frozen=True)
class Round:
    """What each contender did in one round, and how many tokens a second the weights can take.

    `plain` is how many they can take with llama.cpp's own kernels; 0 is unknown.
    """

    results: Mapping[str, Figures | Missing]
    prefill: float
    plain: float = 0.0

    @property
    def ours(self) -> Figures | None:
        """This project's figures."""
        return _figures(self.results.get(US))

    @property
    def in_json(self) -> Figures | None:
        """This project's figures for rows that are decoded as JSON, where others are lines."""
        return _figures(self.results.get(US_JSON))

    @property
    def ceiling(self) -> float:
        """Rows a second at the prefill rate, for rows of as many tokens as ours; 0 if unknown."""
        return self.prefill / self.ours.tokens if self.ours and self.ours.tokens else 0.0

    def share(self, name: str, run: Figures) -> float:
        """A contender's share of the ceiling: of its own rows' if it is ours, else of our rows'."""
        if name == US_JSON and self.prefill:
            return run.rate * run.tokens / self.prefill
        return run.rate / self.ceiling if self.ceiling else 0.0


@dataclass(frozen=True)
class Section:
    """The rounds of one work with one model."""

    model: str
    work: str
    rounds: Sequence[Round]


def table(sections: Sequence[Section]) -> str:
    """Return the table as Markdown: medians, and in brackets the least and the most.

    Example: `print(table([Section("random", "billing", rounds)]))`
    """
    lines = [_HEAD]
    for section in sections:
        start = f"| {section.model} | {section.work} |"
        names = dict.fromkeys(name for round_ in section.rounds for name in round_.results)
        lines += [f"{start} {_line(name, section.rounds)} |" for name in names]
        lines.append(f"{start} {_ceiling(section.rounds)} |")
        lines.append(f"{start} {_plain_ceiling(section.rounds)} |")
    return "\n".join(lines)


def _line(name: str, rounds: Sequence[Round]) -> str:
    pairs = [(round_, _figures(round_.results.get(name))) for round_ in rounds]
    runs = [(round_, run) for round_, run in pairs if run]
    if not runs:
        results = (round_.results.get(name) for round_ in rounds)
        reason = next(result.reason for result in results if isinstance(result, Missing))
        return f"{name} | missing: {reason} | | | | |"
    label = runs[-1][1].label
    made, valid = sum(run.rows for _, run in runs), sum(run.valid for _, run in runs)
    cells = [
        f"**{label}**" if name in (US, US_JSON) else label,
        f"{valid} of {made}",
        _spread([run.rate for _, run in runs]),
        "" if name == US else _spread([r.ours.rate / run.rate for r, run in runs if r.ours], "×"),
        ""
        if name in (US, US_JSON)
        else _spread([r.in_json.rate / run.rate for r, run in runs if r.in_json], "×"),
        _share([r.share(name, run) for r, run in runs if r.ceiling]),
        f"{max(run.peak for _, run in runs) / 1e6:.0f} MB",
    ]
    return " | ".join(cells)


def _ceiling(rounds: Sequence[Round]) -> str:
    known = [round_ for round_ in rounds if round_.ceiling]
    if not known:
        return "ceiling | missing: it needs our rows | | | | |"
    rates = statistics.median(round_.prefill for round_ in known)
    tokens = statistics.median(round_.ours.tokens for round_ in known if round_.ours)
    label = f"ceiling: {rates:.0f} tokens/s, {tokens:.0f} a row of ours"
    ratios = [round_.ours.rate / round_.ceiling for round_ in known if round_.ours]
    spread = _spread([round_.ceiling for round_ in known])
    return f"{label} | | {spread} | {_spread(ratios, '×')} | | 100 % |"


def _plain_ceiling(rounds: Sequence[Round]) -> str:
    known = [(r.plain, r.ours, r.prefill) for r in rounds if r.plain and r.ours and r.prefill]
    if not known:
        return "ceiling of llama.cpp's kernels | missing | | | | |"
    label = (
        f"ceiling of llama.cpp's kernels: {statistics.median(p for p, _, _ in known):.0f} tokens/s"
    )
    spread = _spread([plain / ours.tokens for plain, ours, _ in known])
    ratios = _spread([ours.rate * ours.tokens / plain for plain, ours, _ in known], "×")
    share = _share([plain / prefill for plain, _, prefill in known])
    return f"{label} | | {spread} | {ratios} | | {share} | "


def shares(section: str, parts: Mapping[str, float]) -> str:
    """Return a line that says where our time went.

    Example: `shares("billing", {"decode": 0.9})`
    """
    return f"{section}: " + ", ".join(f"{name} {share:.1%}" for name, share in parts.items())


def _figures(result: Figures | Missing | None) -> Figures | None:
    return result if isinstance(result, Figures) else None


def _spread(values: Sequence[float], unit: str = "") -> str:
    if not values:
        return ""
    middle = statistics.median(values)
    return f"{middle:.2f}{unit} ({min(values):.2f} to {max(values):.2f})"


def _share(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0%}" if values else ""
