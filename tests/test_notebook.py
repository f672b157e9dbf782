"""The notebook: LangChain's steps, executed here, and committed with what they printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
PROMISES = """
from synthgen_local.generators.spans import leaves, spans

assert len(synthetic_results) == 10
assert all(isinstance(row, MedicalBilling) for row in synthetic_results)
assert [item["fields"] for item in dataset] == inp
for item in dataset:
    assert len(item["text"]) >= 500
    values = leaves(item["fields"])
    mentions = spans(values, item["text"])  # a value may be mentioned more than once
    assert {span.path for span in mentions} == {value.path for value in values}
for actor, passage in [(parsed, _input.to_string()), (extracted[0], dataset[1]["text"])]:
    assert all(part in passage for part in [actor.Actor, *actor.Film])
"""


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_committed_with_its_outputs() -> None:
    """Every cell that ends in a value shows it, and no path of a machine is in the file."""
    cells = code_cells(nbformat.read(NOTEBOOK, as_version=4))

    assert all(cell.execution_count for cell in cells)
    assert sum(bool(cell.outputs) for cell in cells) == 10
    assert "/home" not in NOTEBOOK.read_text(encoding="utf-8")


def test_one_of_its_equality_checks_holds() -> None:
    """As it is committed, at least one actor reads back as he was written."""
    cells = code_cells(nbformat.read(NOTEBOOK, as_version=4))
    checks = [
        cell.outputs[0].data["text/plain"]
        for cell in cells
        if cell.source.startswith(("(parsed.Actor ==", "(extracted[0].Actor =="))
    ]

    assert len(checks) == 2
    assert "True" in checks


@pytest.mark.model
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the notebook client's own
def test_it_runs_and_keeps_its_promises(weights: Path) -> None:
    """All cells run, offline; every value is in its text, every string in what it is read from."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(PROMISES))

    NotebookClient(notebook, timeout=900, kernel_name="python3").execute()
