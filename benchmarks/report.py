"""Write the tables and the chart of the documents from `results/*.json`.

    python benchmarks/report.py

Replaces each block between `<!-- results: NAME -->` and `<!-- end -->` of `benchmarks/README.md`
by the table of `results/NAME.json`, and writes `docs/images/throughput.svg`. Knows results only.
"""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path
from typing import Any

from results_table import render_shares, render_table

HERE = Path(__file__).parent
RESULTS = HERE / "results"
README = HERE / "README.md"
CHART = HERE.parent / "docs" / "images" / "throughput.svg"
_BLOCK = re.compile(r"(<!-- results: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_BARS = (  # results file, system, label
    ("zen5-bf16", "synthgen-local", "synthgen-local, compact layout (bf16)"),
    ("zen5-bf16", "synthgen-local-json", "synthgen-local, JSON (bf16)"),
    ("zen5-bf16", "llama-server-optimised", "llama-server, 16 slots (bf16)"),
    ("zen5", "llama-server", "llama-server, 16 slots (Q4_1)"),
    ("zen5", "llama-cpp-python", "llama-cpp-python (Q4_1)"),
    ("zen5", "langchain", "LangChain on llama.cpp (Q4_1)"),
    ("zen5", "outlines", "outlines on llama.cpp (Q4_1)"),
    ("zen5", "guidance", "guidance on llama.cpp (Q4_1)"),
)
_LEFT, _WIDTH, _STEP, _BAR = 270, 760, 26, 16


def read_results(name: str) -> dict[str, Any]:
    """Return the content of `results/NAME.json`.

    Example: `read_results("zen5")["machine"]`
    """
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return result


def render_section(result: dict[str, Any]) -> str:
    """Return the table, the shares of time and the origin of one results file.

    Example: `print(render_section(read_results("zen5")))`
    """
    lines = [render_table(result["records"]), ""]
    if result.get("time"):
        lines += ["Shares of synthgen-local's time:", ""]
        lines += [
            "- " + render_shares(f"{part['model']}, {part['workload']}", part["shares"])
            for part in result["time"]
        ]
        lines.append("")
    return "\n".join([*lines, f"{result['machine']}. {result['note']}", ""])


def render_readme(text: str) -> str:
    """Return the README with each block of results replaced.

    Example: `render_readme(README.read_text())`
    """
    return _BLOCK.sub(
        lambda match: f"{match[1]}{render_section(read_results(match[2]))}{match[3]}", text
    )


def render_chart() -> str:
    """Return the bar chart of rows/s as SVG.

    Example: `render_chart().startswith("<svg")`
    """
    rates = [(label, _rate(name, system)) for name, system, label in _BARS]
    scale = (_WIDTH - _LEFT - 60) / max(rate for _, rate in rates)
    height = 40 + _STEP * len(rates)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        '<text x="10" y="20" font-weight="bold">Rows/s: billing workload, SmolLM2-135M, '
        "2 cores of an AMD EPYC (Zen 5)</text>",
    ]
    for index, (label, rate) in enumerate(rates):
        y = 34 + _STEP * index
        colour = "#2563eb" if label.startswith("synthgen") else "#9ca3af"
        width = max(1.0, rate * scale)
        parts += [
            f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>',
            f'<text x="{_LEFT + width + 6:.1f}" y="{y + 13}">{rate:.2f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def _rate(name: str, system: str) -> float:
    for record in read_results(name)["records"]:
        key = record["model"], record["workload"], record["system"]
        if key == ("smollm2-135m-instruct", "billing", system):
            return float(record["rate"][0])
    raise LookupError(f"{name}.json has no record of {system}")


def main() -> None:
    """Write the README's tables and the chart."""
    README.write_text(render_readme(README.read_text(encoding="utf-8")), encoding="utf-8")
    CHART.parent.mkdir(exist_ok=True)
    CHART.write_text(render_chart(), encoding="utf-8")


if __name__ == "__main__":
    main()
