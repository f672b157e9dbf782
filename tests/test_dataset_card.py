"""The card of a data set, as the hub's own reader understands it."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import DatasetCard

from synthgen_local.data.columns import columns_of
from synthgen_local.data.dataset_card import is_card, write_card
from synthgen_local.schema import RowSchema

SCHEMA = RowSchema.of("name: of a *person* | `x`, age int, price decimal").json_schema


def card(rows: int = 3, name: str = "Person", **provenance: object) -> DatasetCard:
    """A card as huggingface_hub reads it."""
    return DatasetCard(write_card(name, SCHEMA, columns_of(SCHEMA), rows, provenance))


def test_front_matter() -> None:
    """Licence of the model, size, tags and where the rows lie."""
    data = card(licence="Apache-2.0").data.to_dict()

    assert data == {
        "pretty_name": "Person",
        "license": "apache-2.0",
        "size_categories": ["n<1K"],
        "tags": ["synthetic", "synthgen-local"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "data/train-*.parquet"}],
            }
        ],
    }


def test_licences() -> None:
    """One that the hub has no name for keeps its own; one that is not known is not named."""
    other = card(licence="Gemma Terms of Use").data

    assert (other.license, other.license_name) == ("other", "gemma-terms-of-use")
    assert card().data.license is None


@pytest.mark.parametrize(
    ("rows", "size"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10_000, "10K<n<100K"), (10**6, "1M<n<10M")],
)
def test_sizes(rows: int, size: str) -> None:
    """The hub's words for how many rows there are."""
    assert card(rows).data.size_categories == [size]


def test_text() -> None:
    """Counts, columns, schema and provenance: all that is known, nothing else."""
    text = card(model={"name": "m|odel", "sha256": "ab\ncd"}, seed=0).content

    assert "3 rows" in text
    assert "| price | decimal(38, 18) |" in text
    assert "| model.name | m\\|odel |" in text
    assert "| model.sha256 | ab cd |" in text
    assert "| seed | 0 |" in text
    assert '"description": "of a *person* | `x`"' in text
    assert "How it was made" not in card().content


def test_names_are_only_names() -> None:
    """A name with marks of YAML, Markdown or HTML breaks out of none of them."""
    text = card(name='a": "b\n---\n# <script>').content

    assert DatasetCard(text).data.pretty_name == 'a": "b\n---\n# <script>'
    assert "<script>" not in text.partition("\n---\n")[2].partition("```json")[0]


def test_our_cards_are_known() -> None:
    """A card of ours is told from every other README."""
    readme = Path(__file__).parents[1] / "README.md"
    ours = write_card("a", SCHEMA, columns_of(SCHEMA), 1, {})

    assert is_card(ours)
    assert not is_card(readme.read_text(encoding="utf-8"))
    assert not is_card(ours.replace('- "synthgen-local"', '- "other"'))
    assert not is_card(f"# About\n{ours}")
