"""Results of a comparison: medians over rounds, as JSON records and as a Markdown table.

Speed-ups are ratios within a round, because absolute rates vary with the load of the machine.
Knows measurements, not how they are taken.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from run_spec import Measurement, Missing

SYNTHGEN = "synthgen-local"
SYNTHGEN_JSON = "synthgen-local-json"
UPPER_BOUND = "upper-bound"
LLAMA_CPP_BOUND = "upper-bound-llama.cpp"
_HEAD = (
    "| model | workload | system | valid rows | rows/s | speed-up | speed-up, both JSON "
    "| share of upper bound | peak memory |\n|---|---|---|--:|--:|--:|--:|--:|--:|"
)
Record = dict[str, Any]
"""One line of the table, as it is written to `results/*.json`."""


@dataclass(frozen=True)
class Round:
    """The measurements of one round, by system, and the upper bounds in tokens/s (0: unknown)."""

    results: Mapping[str, Measurement | Missing]
    bound: float
    llama_cpp_bound: float = 0.0

    @property
    def synthgen(self) -> Measurement | None:
        """The measurement of this project."""
        return _measurement(self.results.get(SYNTHGEN))

    @property
    def synthgen_json(self) -> Measurement | None:
        """The measurement of this project with rows decoded as JSON."""
        return _measurement(self.results.get(SYNTHGEN_JSON))

    @property
    def bound_rows(self) -> float:
        """The upper bound in rows/s, for rows of this project's mean length; 0 if unknown."""
        known = self.synthgen and self.synthgen.tokens
        return self.bound / self.synthgen.tokens if self.synthgen and known else 0.0

    def share(self, name: str, run: Measurement) -> float:
        """Return a system's share of the upper bound."""
        if name == SYNTHGEN_JSON and self.bound:
            return run.rate * run.tokens / self.bound
        return run.rate / self.bound_rows if self.bound_rows else 0.0


@dataclass(frozen=True)
class Section:
    """The rounds of one workload with one model."""

    model: str
    workload: str
    rounds: Sequence[Round]


def summarize(sections: Sequence[Section]) -> list[Record]:
    """Return one record for each system and upper bound, with [median, minimum, maximum].

    Example: `summarize([Section("random", "billing", rounds)])[0]["rate"]`
    """
    records = []
    for section in sections:
        start = {"model": section.model, "workload": section.workload}
        names = dict.fromkeys(name for round_ in section.rounds for name in round_.results)
        records += [start | _summarize_system(name, section.rounds) for name in names]
        records += [start | bound for bound in _summarize_bounds(section.rounds)]
    return records


def render_table(records: Sequence[Record]) -> str:
    """Return records as a Markdown table: medians, and in brackets the minimum and the maximum.

    Example: `print(render_table(json.loads(text)["records"]))`
    """
    return "\n".join([_HEAD, *(_render(record) for record in records)])


def render_shares(section: str, parts: Mapping[str, float]) -> str:
    """Return a line with the share of each part of the time.

    Example: `render_shares("billing", {"decode": 0.9}) == "billing: decode 90.0%"`
    """
    return f"{section}: " + ", ".join(f"{name} {share:.1%}" for name, share in parts.items())


def _summarize_system(name: str, rounds: Sequence[Round]) -> Record:
    pairs = [(round_, _measurement(round_.results.get(name))) for round_ in rounds]
    runs = [(round_, run) for round_, run in pairs if run]
    if not runs:
        results = (round_.results.get(name) for round_ in rounds)
        reason = next(result.reason for result in results if isinstance(result, Missing))
        return {"system": name, "label": name, "missing": reason}
    own = name in (SYNTHGEN, SYNTHGEN_JSON)
    ratios = [r.synthgen.rate / run.rate for r, run in runs if r.synthgen and name != SYNTHGEN]
    json_ratios = [r.synthgen_json.rate / run.rate for r, run in runs if r.synthgen_json]
    shares = [r.share(name, run) for r, run in runs if r.bound_rows]
    return {
        "system": name,
        "label": runs[-1][1].label,
        "valid": sum(run.valid for _, run in runs),
        "rows": sum(run.rows for _, run in runs),
        "rate": _spread([run.rate for _, run in runs]),
        "speedup": _spread(ratios),
        "speedup_json": _spread([] if own else json_ratios),
        "share": round(statistics.median(shares), 2) if shares else None,
        "peak_mb": round(max(run.peak for _, run in runs) / 1e6),
    }


def _summarize_bounds(rounds: Sequence[Round]) -> list[Record]:
    return [
        _summarize_bound(UPPER_BOUND, "upper bound", [round_.bound for round_ in rounds], rounds),
        _summarize_bound(
            LLAMA_CPP_BOUND,
            "upper bound, llama.cpp's kernels",
            [round_.llama_cpp_bound for round_ in rounds],
            rounds,
        ),
    ]


def _summarize_bound(
    name: str, label: str, tokens: Sequence[float], rounds: Sequence[Round]
) -> Record:
    known = [
        (bound, round_.synthgen, round_.bound)
        for bound, round_ in zip(tokens, rounds, strict=True)
        if bound and round_.bound and round_.synthgen and round_.synthgen.tokens
    ]
    if not known:
        return {"system": name, "label": label, "missing": "needs this project's rows"}
    return {
        "system": name,
        "label": f"{label}: {statistics.median(bound for bound, _, _ in known):.0f} tokens/s",
        "rate": _spread([bound / run.tokens for bound, run, _ in known]),
        "speedup": _spread([run.rate * run.tokens / bound for bound, run, _ in known]),
        "share": round(statistics.median(bound / best for bound, _, best in known), 2),
    }


def _render(record: Record) -> str:
    start = f"| {record['model']} | {record['workload']} |"
    label = record["label"]
    if "missing" in record:
        return f"{start} {label} | missing: {record['missing']} | | | | | |"
    bold = record["system"] in (SYNTHGEN, SYNTHGEN_JSON)
    cells = [
        f"**{label}**" if bold else label,
        f"{record['valid']} of {record['rows']}" if "rows" in record else "",
        _render_spread(record["rate"]),
        _render_spread(record.get("speedup"), "×"),
        _render_spread(record.get("speedup_json"), "×"),
        f"{record['share']:.0%}" if record.get("share") is not None else "",
        f"{record['peak_mb']} MB" if "peak_mb" in record else "",
    ]
    return f"{start} {' | '.join(cells)} |"


def _measurement(result: Measurement | Missing | None) -> Measurement | None:
    return result if isinstance(result, Measurement) else None


def _spread(values: Sequence[float]) -> list[float] | None:
    if not values:
        return None
    return [round(value, 2) for value in (statistics.median(values), min(values), max(values))]


def _render_spread(spread: Sequence[float] | None, unit: str = "") -> str:
    if not spread:
        return ""
    median, least, most = spread
    text = f"{median:.2f}{unit}"
    return text if least == most else f"{text} ({least:.2f} to {most:.2f})"
